//! `gpurouter bench` alone: what it would measure here, how long that takes, and how to stop it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use super::Exit;
use super::live::{self, sides};
use crate::cli::Global;
use crate::cluster::{ClusterSnapshot, Node};
use crate::cmd::running::Running;
use crate::config::{self, Config, Environment, Overrides};
use crate::live::{Prompt, Size, built_in};
use crate::measure::{Class, SCHEMA};
use crate::render;

/// `bench --json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    nodes: Vec<Found<'a>>,
    today: Option<Today<'a>>,
    /// Where the running router is; `None`: one is started for a run.
    router: Option<&'a str>,
    plans: Vec<Plan>,
    stop: &'static str,
}

#[derive(Serialize)]
struct Found<'a> {
    name: &'a str,
    url: &'a str,
    kind: Option<&'a str>,
    state: &'a str,
    models: usize,
    loaded: usize,
}

#[derive(Serialize)]
struct Today<'a> {
    node: &'a str,
    model: Option<&'a str>,
}

/// A benchmark that could be run.
#[derive(Serialize)]
struct Plan {
    command: &'static str,
    what: &'static str,
    /// Requests to nodes, warming up included.
    requests: u64,
    /// How long it takes at the speeds that the running router has learned.
    seconds: Option<f64>,
}

/// Most nodes that are listed: with them it is one screen of 24 lines.
const MOST_NODES: usize = 6;

const STOP: &str = "Ctrl-C ends a run and reports the complete pairs; a second one, at once";

/// Runs the command.
pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let config = config::load(global, &Environment::of_process(), &Overrides::default())?.config;
    let nodes = crate::cmd::nodes(&config);
    let snapshot = crate::backend::gather(&nodes);
    let Some(first) = snapshot.usable().next() else {
        return Err(sides::no_node(&snapshot).into());
    };
    let running = Running::find(global, &config);
    let status = running
        .as_ref()
        .and_then(|running| running.get("/gpurouter/api/status").ok());
    let status: Value = status
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let speed = Speed::of(&status, &config, first);
    let document = Document {
        schema: SCHEMA,
        nodes: found(&snapshot),
        today: Some(Today {
            node: &first.name,
            model: sides::usual_model(&config, first).map(|model| model.id.as_str()),
        }),
        router: running.as_ref().map(Running::base),
        plans: plans(speed),
        stop: STOP,
    };
    if global.json {
        render::json(&document)?;
    } else {
        tell(&mut io::stdout().lock(), &document)?;
    }
    Ok(Exit::Yes)
}

fn found(snapshot: &ClusterSnapshot) -> Vec<Found<'_>> {
    let of = |node: &'_ std::sync::Arc<Node>| -> (usize, usize) {
        (node.models.len(), node.loaded.len())
    };
    snapshot
        .nodes
        .iter()
        .map(|node| {
            let (models, loaded) = of(node);
            Found {
                name: &node.name,
                url: &node.url,
                kind: node.kind.map(crate::cluster::NodeKind::as_str),
                state: node.state.as_str(),
                models,
                loaded,
            }
        })
        .collect()
}

/// What the running router has learned of today's model on today's node.
#[derive(Clone, Copy)]
struct Speed {
    prefill: f64,
    decode: f64,
}

/// What a time is told for while nothing was measured: not this machine's speed, and said so.
const EXAMPLE: Speed = Speed {
    prefill: 1000.0,
    decode: 50.0,
};

impl Speed {
    fn of(status: &Value, config: &Config, node: &Node) -> Option<Self> {
        let model = sides::usual_model(config, node)?;
        let nodes = status["nodes"].as_array()?;
        let told = nodes
            .iter()
            .find(|told| told["name"] == node.name.as_str())?;
        let speed = told["speeds"].as_array()?.iter().find(|speed| {
            speed["model"]
                .as_str()
                .is_some_and(|name| crate::cluster::ModelName::new(name) == model.name)
        })?;
        Some(Self {
            prefill: speed["prefill_tps"].as_f64().filter(|tps| *tps > 0.0)?,
            decode: speed["decode_tps"].as_f64().filter(|tps| *tps > 0.0)?,
        })
    }

    /// Seconds of a prompt whose answer is as long as it may be.
    fn seconds(self, prompt: &Prompt) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^52")]
        let read = prompt.tokens_in as f64 / self.prefill;
        read + f64::from(prompt.max_tokens) / self.decode
    }
}

fn plans(speed: Option<Speed>) -> Vec<Plan> {
    let prompts = built_in(&Class::ALL, &[Size::Short, Size::Medium], 1);
    let quick = prompts.get(..live::QUICK).unwrap_or(&prompts);
    let plan = |command, what, prompts: &[Prompt], runs: u32| {
        let warm_up = Class::ALL.len() as u64;
        let once: Option<f64> =
            speed.map(|speed| prompts.iter().map(|prompt| speed.seconds(prompt)).sum());
        Plan {
            command,
            what,
            requests: u64::from(runs) * 2 * (prompts.len() as u64 + warm_up),
            seconds: once.map(|seconds| seconds * 2.0 * f64::from(runs)),
        }
    };
    vec![
        plan(
            "bench live --quick",
            "one short look, rough figures",
            quick,
            1,
        ),
        plan(
            "bench live",
            "5 runs of 48 prompts under each policy",
            &prompts,
            5,
        ),
    ]
}

fn tell(out: &mut dyn Write, document: &Document<'_>) -> io::Result<()> {
    writeln!(
        out,
        "{:<16}{:<24}{:<13}{:<14}MODELS",
        "NODE", "ADDRESS", "KIND", "STATE"
    )?;
    for node in document.nodes.iter().take(MOST_NODES) {
        let address = node.url.strip_prefix("http://").unwrap_or(node.url);
        writeln!(
            out,
            "{:<16}{:<24}{:<13}{:<14}{}, {} loaded",
            short(node.name, 15),
            short(address, 23),
            node.kind.unwrap_or("unknown"),
            node.state,
            node.models.min(999),
            node.loaded.min(99)
        )?;
    }
    match document.nodes.len().saturating_sub(MOST_NODES) {
        0 => {}
        more => writeln!(out, "and {more} more; gpurouter status shows them all")?,
    }
    writeln!(out)?;
    let today = document.today.as_ref().map_or_else(String::new, |today| {
        format!(
            "node {} directly, {}",
            short(today.node, 15),
            short(today.model.unwrap_or("no model for text"), 36)
        )
    });
    let routed = document.router.map_or_else(
        || "gpurouter, started for the run".to_owned(),
        |url| format!("gpurouter, running at {}", short(url, 40)),
    );
    writeln!(
        out,
        "It would compare: {today}\n         against: {routed}\n"
    )?;
    writeln!(
        out,
        "{:<22}{:<37}{:>8}  TIME",
        "COMMAND", "WHAT", "REQUESTS"
    )?;
    for plan in &document.plans {
        let time = plan.seconds.map_or_else(|| "unknown".to_owned(), time);
        writeln!(
            out,
            "{:<22}{:<37}{:>8}  {time}",
            plan.command, plan.what, plan.requests
        )?;
    }
    writeln!(
        out,
        "{:<22}{:<37}{:>8}  about 1 min",
        "bench proxy", "what the router itself costs", "no node"
    )?;
    writeln!(
        out,
        "{:<22}{:<37}{:>8}  1 min",
        "bench soak", "whether the router stays as it is", "no node"
    )?;
    writeln!(
        out,
        "{:<22}{:<37}{:>8}  seconds",
        "bench replay", "what another GPU would change", "no node"
    )?;
    writeln!(
        out,
        "{:<22}{:<37}{:>8}  none",
        "bench roi, bench cost", "what that is worth, from your numbers", "none"
    )?;
    writeln!(out)?;
    if document.plans.iter().any(|plan| plan.seconds.is_none()) {
        writeln!(
            out,
            "Times are unknown until a running router has answered some requests. A model\nthat reads {:.0} and writes {:.0} tokens/s would take at most {}.",
            EXAMPLE.prefill,
            EXAMPLE.decode,
            plans(Some(EXAMPLE))
                .iter()
                .filter_map(|plan| plan.seconds.map(time))
                .collect::<Vec<_>>()
                .join(" and ")
        )?;
    } else {
        writeln!(
            out,
            "Times are at most these, at the speeds that the running router has learned."
        )?;
    }
    writeln!(out, "{STOP}.")
}

/// A text, cut where it is longer than its column.
fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('~');
    cut
}

/// A duration, rounded for a plan.
fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5_400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_speeds_give_a_time_and_unknown_ones_none() {
        assert!(plans(None).iter().all(|plan| plan.seconds.is_none()));
        let known = plans(Some(EXAMPLE));
        let seconds: Vec<f64> = known.iter().filter_map(|plan| plan.seconds).collect();
        assert_eq!(seconds.len(), 2);
        assert!(
            seconds[0] > 1.0 && seconds[1] > 10.0 * seconds[0],
            "{seconds:?}"
        );
        assert_eq!(time(61.0), "61 s");
        assert_eq!(time(600.0), "10 min");
        assert_eq!(time(7_200.0), "2.0 h");
    }
}
