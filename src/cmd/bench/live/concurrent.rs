//! `bench live --concurrent`: two requests to two nodes at once, against the same two one after the other.

use std::io;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use anyhow::Context;

use super::super::Run;
use super::sides::{no_node, router, usual_model};
use super::{Args, Exit, Trace, say};
use crate::cli::Global;
use crate::cluster::{Model, Node, NodeKind};
use crate::config::Config;
use crate::http::client::{Client, Origin};
use crate::live::{Form, Prompt, Sender, Sent, Target};
use crate::measure::{Bench, ConcurrentObservation, ConcurrentSettings, Outcome, RESAMPLES, Way};
use crate::render::Told;

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
    let settings = ConcurrentSettings {
        names: [one.name.clone(), two.name.clone()],
        nodes: [one.url.clone(), two.url.clone()],
        models,
        routed: which,
        repeats: args.repeats(),
        prompts: [first.name.clone(), second.name.clone()],
        seed: args.seed,
        resamples: RESAMPLES,
    };
    let mut kept = Run::start(global, Bench::Concurrent(settings), args.receipt.as_deref())?;
    for run in 0..=args.repeats() {
        let both = [
            work.repeat(&direct, run, Way::Direct)?,
            work.repeat(&routed, run, Way::Routed)?,
        ];
        if run > 0 {
            both.iter()
                .try_for_each(|repeat| kept.observe(repeat))
                .context("cannot write the receipt")?;
        }
    }
    drop(own);
    kept.finish(global)?;
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
    /// One after the other, then at once; with the nodes that answered at once.
    fn repeat(
        &self,
        targets: &[Target; 2],
        run: u32,
        way: Way,
    ) -> anyhow::Result<ConcurrentObservation> {
        let which = match way {
            Way::Direct => "direct",
            Way::Routed => "routed",
        };
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
        Ok(ConcurrentObservation {
            way,
            apart_ms,
            together_ms,
            nodes: both.map(|sent| sent.node),
        })
    }
}
