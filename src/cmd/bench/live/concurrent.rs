//! `bench live --concurrent`: two requests to two nodes at once, against the same two one after the other.

use std::io;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use serde_json::json;

use super::super::machine;
use super::sides::{no_node, router, usual_model};
use super::{Args, Exit, Trace, say};
use crate::cli::Global;
use crate::cluster::{Model, Node, NodeKind};
use crate::config::Config;
use crate::http::client::{Client, Origin};
use crate::live::{Form, Prompt, Sender, Sent, Target};
use crate::measure::{
    self, Figure, Outcome, RESAMPLES, Random, Unit, bootstrap_mean, mean, quantile,
};
use crate::render::{self, Told};

/// One repeat: seconds of both ways.
struct Repeat {
    apart_ms: f64,
    together_ms: f64,
}

/// Runs it.
pub(super) fn run(
    global: &Global,
    args: &Args,
    config: Config,
    client: &Client,
    trace: &Trace,
    stop: &AtomicBool,
) -> anyhow::Result<Exit> {
    let snapshot = crate::backend::gather(&crate::cmd::nodes(&config));
    let nodes: Vec<&Node> = snapshot.usable().map(AsRef::as_ref).collect();
    let [one, two] = nodes.get(..2).ok_or_else(|| match nodes.len() {
        0 => no_node(&snapshot),
        _ => Told::unreachable("--concurrent needs two nodes that answer")
            .hint("name them with --node URL --node URL"),
    })?
    else {
        return Err(no_node(&snapshot).into());
    };
    let models = [model(&config, one, two)?, model(&config, two, one)?];
    let direct = [
        target(&one.url, one, &models[0])?,
        target(&two.url, two, &models[1])?,
    ];
    let (url, own, which) = router(global, args, config)?;
    let routed = [
        target(&url, one, &models[0])?,
        target(&url, one, &models[1])?,
    ];
    let sender = Sender {
        client,
        timeout: args.timeout,
        seed: args.seed,
        stop,
    };
    let prompts = [0, 1].map(|index| trace.prompts.get(index).or(trace.prompts.first()));
    let [Some(first), Some(second)] = prompts else {
        return Err(crate::cmd::usage("there is no prompt"));
    };
    let work = Work {
        sender: &sender,
        prompts: [first, second],
    };
    say(
        global,
        &format!(
            "{} runs of two requests, directly and through gpurouter {which}, after one that is not counted",
            args.repeats()
        ),
    );
    let (mut by_node, mut by_router, mut met) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..=args.repeats() {
        let direct = work.repeat(&direct, run, "direct")?;
        let routed = work.repeat(&routed, run, "routed")?;
        if run > 0 {
            by_node.push(direct.0);
            by_router.push(routed.0);
            met.push(routed.1);
        }
    }
    drop(own);
    let apart = met
        .iter()
        .filter(|nodes| nodes[0].is_some() && nodes[0] != nodes[1])
        .count();
    let figures = [by_node, by_router].map(|repeats| Ways::of(&repeats, args.seed));
    if global.json {
        render::json(&json!({
            "schema": measure::SCHEMA, "version": env!("CARGO_PKG_VERSION"), "kind": "concurrent",
            "machine": machine::with_gpus(global),
            "settings": {
                "nodes": [one.url, two.url], "models": models, "routed": which, "repeats": args.repeats(),
                "prompts": [first.name, second.name],
            },
            "figures": { "direct": figures[0].json(), "routed": figures[1].json(), "on_two_nodes": apart },
        }))?;
        return Ok(Exit::Yes);
    }
    let [one, two] = [(one, &models[0]), (two, &models[1])]
        .map(|(node, model)| format!("{model} on {}", node.name));
    render::line(&format!(
        "two requests, {one} and {two}, {} runs",
        args.repeats()
    ))?;
    render::line(&format!(
        "{:<20}{:>14}{:>14}{:>22}  TAG",
        "MEDIANS", "ONE BY ONE", "AT ONCE", "RATIO"
    ))?;
    for (label, ways) in ["directly", "through gpurouter"].iter().zip(&figures) {
        render::line(&ways.line(label))?;
    }
    render::line(&format!(
        "the router sent the two to different nodes in {apart} of {} runs; 2.00x is what\ntwo equal nodes can do, 1.00x is what one does",
        args.repeats()
    ))?;
    Ok(Exit::Yes)
}

/// A model of the node's: one that the other does not have can go nowhere else.
fn model(config: &Config, node: &Node, other: &Node) -> anyhow::Result<String> {
    let only = |model: &&Model| !model.embeds_only() && other.model(&model.name).is_none();
    let own = node.models.iter().find(only);
    let model = own
        .or_else(|| usual_model(config, node))
        .map(|model| model.id.clone());
    Ok(model.ok_or_else(|| Told::usage(format!("{} lists no model for text", node.name)))?)
}

fn target(url: &str, node: &Node, model: &str) -> anyhow::Result<Target> {
    let origin =
        Origin::parse(url).map_err(|error| crate::cmd::usage(format!("`{url}`: {error}")))?;
    let form = if node.kind == Some(NodeKind::Ollama) {
        Form::Ollama
    } else {
        Form::OpenAi
    };
    Ok(Target {
        origin,
        form,
        model: model.to_owned(),
        replaces: true,
        num_gpu: None,
    })
}

/// What is sent.
struct Work<'a> {
    sender: &'a Sender<'a>,
    prompts: [&'a Prompt; 2],
}

impl Work<'_> {
    /// Both ways once: one after the other, then at once; with the nodes that answered at once.
    fn repeat(
        &self,
        targets: &[Target; 2],
        run: u32,
        which: &str,
    ) -> anyhow::Result<(Repeat, [Option<String>; 2])> {
        let send = |index: usize, way: &str| -> anyhow::Result<Sent> {
            let (Some(target), Some(prompt)) = (targets.get(index), self.prompts.get(index)) else {
                return Err(io::Error::other("no such request").into());
            };
            let sent = self
                .sender
                .send(target, prompt, &format!("{which}-{way}-{run}"));
            let sent = sent.ok_or_else(|| Told {
                message: "stopped".to_owned(),
                hint: None,
                exit: Exit::No,
            })?;
            if sent.outcome != Outcome::Ok {
                let error = sent.error.unwrap_or_default();
                return Err(Told {
                    message: format!("a request failed ({which}): {error}"),
                    hint: None,
                    exit: Exit::No,
                }
                .into());
            }
            Ok(sent)
        };
        let start = Instant::now();
        send(0, "apart")?;
        send(1, "apart")?;
        let apart_ms = start.elapsed().as_secs_f64() * 1000.0;
        let start = Instant::now();
        let both = thread::scope(|scope| {
            let other = scope.spawn(|| send(1, "together"));
            let one = send(0, "together");
            // A panic was told when it happened.
            let two = other
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread broke").into()));
            Ok::<_, anyhow::Error>([one?, two?])
        })?;
        let together_ms = start.elapsed().as_secs_f64() * 1000.0;
        Ok((
            Repeat {
                apart_ms,
                together_ms,
            },
            both.map(|sent| sent.node),
        ))
    }
}

/// The figures of one way to the nodes.
struct Ways {
    apart: Figure,
    together: Figure,
    ratio: Figure,
    low: Figure,
    high: Figure,
}

impl Ways {
    fn of(repeats: &[Repeat], seed: u64) -> Self {
        let middle = |of: fn(&Repeat) -> f64| {
            let times: Vec<f64> = repeats.iter().map(of).collect();
            quantile(&times, 0.5).map_or(Figure::unknown(Unit::Milliseconds), |ms| {
                Figure::measured(ms, Unit::Milliseconds)
            })
        };
        let logs: Vec<f64> = repeats
            .iter()
            .map(|one| (one.apart_ms / one.together_ms).ln())
            .collect();
        let interval = bootstrap_mean(&logs, RESAMPLES, &mut Random::new(seed));
        let ratio = |log: Option<f64>| {
            log.map_or(Figure::unknown(Unit::Ratio), |log| {
                Figure::derived(log.exp(), Unit::Ratio)
            })
        };
        Self {
            apart: middle(|one| one.apart_ms),
            together: middle(|one| one.together_ms),
            ratio: ratio(mean(&logs)),
            low: ratio(interval.map(|interval| interval.low)),
            high: ratio(interval.map(|interval| interval.high)),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "apart_p50": self.apart, "together_p50": self.together, "ratio": self.ratio, "low": self.low, "high": self.high })
    }

    fn line(&self, label: &str) -> String {
        let ms = |figure: Figure| {
            figure
                .value()
                .map_or_else(|| "n/a".to_owned(), |ms| format!("{ms:.0} ms"))
        };
        let ratio = self
            .ratio
            .value()
            .map_or_else(|| "n/a".to_owned(), |ratio| format!("{ratio:.2}x"));
        let interval = self.low.value().zip(self.high.value());
        let interval =
            interval.map_or_else(String::new, |(low, high)| format!(" [{low:.2}, {high:.2}]"));
        format!(
            "{label:<20}{:>14}{:>14}{:>22}  derived",
            ms(self.apart),
            ms(self.together),
            format!("{ratio}{interval}")
        )
    }
}
