//! `gpurouter optimize`: the plan for the priority models, and what carries it out.

mod progress;

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Exit;
use super::model::learned;
use super::running::Running;
use crate::backend::{LONGEST_LOAD, Prober};
use crate::cli::Global;
use crate::cluster::{ClusterSnapshot, Goal, ModelName, Node, Site, Usage};
use crate::config::{self, Config, Environment, LogLevel, NodeConfig, Overrides};
use crate::gpu::{self, Inventory};
use crate::keeper::{self, Document, Keeper, Limits, Planned, View, Wish};
use crate::render::{self, Told};
use crate::serve::{Kept, Log, LogFormat};
use crate::vram::Learned;
use progress::Progress;

/// Flags of `optimize`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter optimize
  gpurouter optimize --apply
  gpurouter optimize --watch --apply --interval 60s

Keeps the `priority_models` of the configuration on GPUs: loads them where they
fit, takes idle models out where they are in the way, and pins them. Nothing is
ever pulled, deleted or made. --warm acts by itself and takes the CPU where no
GPU has room. Asks the running router when it answers, else the
nodes themselves; JSON says which (`source`).
Exit codes: 0 nothing to do or done, 1 changes are due or failed (with --strict
also when a model fits nowhere), 2 usage, 3 no node answers.")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "five independent switches, as the command line has them"
)]
pub struct Args {
    /// Make the changes
    #[arg(long)]
    apply: bool,
    /// Repeat every `check_interval` until stopped
    #[arg(long)]
    watch: bool,
    /// Time between two cycles, such as 60 or 5m
    #[arg(long, value_name = "S", requires = "watch", value_parser = interval)]
    interval: Option<Duration>,
    /// Report nodes, models and what would fit, and exit 0
    #[arg(long, alias = "status", conflicts_with_all = ["apply", "watch"])]
    report_only: bool,
    /// Exit 1 when a model fits nowhere
    #[arg(long)]
    strict: bool,
    /// Load the priority models and the routed ones now
    #[arg(long)]
    warm: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = match seconds {
        Some(time) => time,
        None => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if time.is_zero() || time > Duration::from_secs(7 * 24 * 60 * 60) {
        return Err("must be more than 0 and at most 7 days".to_owned());
    }
    Ok(time)
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let mut session = Session::new(global, args)?;
    if !args.watch {
        let (document, exit) = session.once()?;
        session.print(&document)?;
        return unreachable_told(&document, exit);
    }
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot watch for signals")?;
    let (tell, told) = mpsc::channel();
    let stopped = tell.clone();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                // The other end waits until somebody tells something.
                let _ = stopped.send(Ok(Exit::Yes));
            }
        })?;
    thread::Builder::new()
        .name("optimize".to_owned())
        .spawn(move || {
            let _ = tell.send(session.repeat());
        })?;
    // A load that is under way ends with the process; its node goes on or gives up as it does for any client that leaves.
    told.recv().unwrap_or(Ok(Exit::Yes))
}

/// The error of a cluster of which no node answers, after its document was printed.
fn unreachable_told(document: &Value, exit: Exit) -> anyhow::Result<Exit> {
    if exit != Exit::Unreachable {
        return Ok(exit);
    }
    let none = document["nodes"].as_array().is_none_or(Vec::is_empty);
    let text = if none {
        "no node is configured and none was found on this machine"
    } else {
        "no node answers"
    };
    Err(Told::unreachable(text).hint(super::SEE_NODES).into())
}

/// What lasts from cycle to cycle.
struct Session {
    global: Global,
    args: Args,
    config: Config,
    gpus: gpu::Settings,
    learned: Learned,
    wish: Wish,
    log: Log,
    prober: Arc<Prober>,
    keeper: Keeper,
    /// The nodes as they were last seen, so that they are not asked again what they are.
    nodes: Vec<(NodeConfig, Node)>,
    cycle: u64,
    /// Whether every wanted model was where it should be: then the next look is at what is in memory only.
    settled: bool,
}

impl Session {
    fn new(global: &Global, args: &Args) -> anyhow::Result<Self> {
        let environment = Environment::of_process();
        let loaded = config::load(global, &environment, &Overrides::default())?;
        let config = loaded.config;
        let level = match (global.quiet, global.verbose) {
            (true, _) => LogLevel::Error,
            (false, 0) => config.log_level,
            (false, _) => LogLevel::Debug,
        };
        let log = Log {
            level: Some(level),
            format: LogFormat::Text,
        };
        let prober = Arc::new(Prober::new());
        Ok(Self {
            gpus: super::gpus(global, &environment, &config)?,
            learned: learned::load(&config)?,
            wish: if args.warm {
                Wish::warm(&config)
            } else {
                Wish::priority(&config)
            },
            global: global.clone(),
            args: args.clone(),
            keeper: Keeper::new(Arc::clone(&prober)),
            nodes: Vec::new(),
            cycle: 0,
            settled: false,
            config,
            log,
            prober,
        })
    }

    /// Whether changes are made.
    fn acts(&self) -> bool {
        (self.args.apply || self.args.warm) && !self.args.report_only
    }

    /// Cycle after cycle, until an error that no further cycle mends.
    fn repeat(&mut self) -> anyhow::Result<Exit> {
        let pause = self
            .args
            .interval
            .unwrap_or(self.config.residency.check_interval);
        let mut told = Value::Null;
        loop {
            self.cycle += 1;
            let text = format!("Running optimization cycle #{}", self.cycle);
            self.log.event(LogLevel::Info, &text);
            let began = Instant::now();
            match self.once() {
                Ok((document, exit)) => {
                    if exit == Exit::Unreachable {
                        self.log.event(LogLevel::Warning, "no node answers");
                    }
                    // What has not changed is not told again.
                    let news = Value::from(vec![
                        document["changes"].clone(),
                        document["impossible"].clone(),
                        document["failed"].clone(),
                    ]);
                    self.warn(&document, told != news);
                    if self.global.json || told != news {
                        self.print(&document)?;
                    }
                    told = news;
                    self.settled = exit != Exit::Unreachable
                        && ["changes", "impossible", "failed"]
                            .iter()
                            .all(|list| document[list].as_array().is_none_or(Vec::is_empty));
                    self.log.event(LogLevel::Debug, &counted(&document, began));
                }
                Err(error) => {
                    self.settled = false;
                    self.log.event(LogLevel::Error, &format!("{error:#}"));
                }
            }
            thread::sleep(pause);
        }
    }

    /// Names what is not placed: what fits nowhere once in every cycle, the rest when it is new.
    fn warn(&self, document: &Value, news: bool) {
        for one in document["impossible"].as_array().into_iter().flatten() {
            let name = one["model"].as_str().unwrap_or_default();
            let reason = one["reason"].as_str().unwrap_or_default();
            let text = format!("{name} is not placed: {reason}");
            let usable = one["largest_usable_bytes"].as_u64();
            let nowhere = usable.is_some() && one["need_bytes"].as_u64() > usable;
            let level = if news || nowhere {
                LogLevel::Warning
            } else {
                LogLevel::Debug
            };
            self.log.event(level, &text);
        }
    }

    fn print(&self, document: &Value) -> anyhow::Result<()> {
        if self.global.json {
            return render::json(document);
        }
        let mut out = io::stdout().lock();
        render::optimize(&mut out, document, self.args.report_only)?;
        Ok(io::Write::flush(&mut out)?)
    }

    /// One plan, carried out if that is asked for, with the exit code that follows.
    fn once(&mut self) -> anyhow::Result<(Value, Exit)> {
        let document = match Running::find(&self.global, &self.config) {
            Some(router) => self.through(&router)?,
            None => serde_json::to_value(self.alone())?,
        };
        let exit = self.exit(&document);
        Ok((document, exit))
    }

    fn exit(&self, document: &Value) -> Exit {
        let none = |list: &str| document[list].as_array().is_none_or(Vec::is_empty);
        let up = |node: &Value| matches!(node["state"].as_str(), Some("up" | "busy"));
        let nodes = document["nodes"].as_array();
        if !nodes.is_some_and(|nodes| nodes.iter().any(up)) {
            return Exit::Unreachable;
        }
        if self.args.strict && !none("impossible") {
            return Exit::No;
        }
        let due = document["applied"] != true && !none("changes");
        if (due && !self.args.report_only) || !none("failed") {
            Exit::No
        } else {
            Exit::Yes
        }
    }

    /// Through the running router, which knows what is at work.
    fn through(&self, router: &Running) -> anyhow::Result<Value> {
        let names: Vec<String> = self
            .wish
            .models
            .iter()
            .map(|(name, _)| name.bytes().map(percent).collect())
            .collect();
        let goal = match self.wish.goal {
            Goal::Gpu => "gpu",
            Goal::Memory => "memory",
        };
        let path = format!(
            "/gpurouter/api/optimize?goal={goal}&models={}",
            names.join(",")
        );
        let plan: Value = serde_json::from_str(&router.get(&path)?)?;
        if !self.acts() {
            return Ok(plan);
        }
        let progress = Progress::new(&self.global, self.log, self.args.watch);
        let _busy = progress.waiting(&plan);
        let text = router.post_and_wait(&path)?;
        let document: Value = serde_json::from_str(&text)?;
        progress.tell_document(&document);
        Ok(document)
    }

    /// By asking the nodes.
    fn alone(&mut self) -> Document {
        let (snapshot, inventory) = self.look();
        self.keeper.begin(&snapshot);
        let planned = self.planned(&snapshot, &inventory);
        if !self.acts() {
            return Document::planned("probe", planned);
        }
        if planned.plan.settled() {
            return Document::settled("probe", planned);
        }
        let stop = AtomicBool::new(false);
        let limits = Limits {
            load: self.config.timeouts.load.unwrap_or(LONGEST_LOAD),
            stop: &stop,
            permits: &keeper::Alone,
        };
        let progress = Progress::new(&self.global, self.log, self.args.watch);
        let tell = |event: keeper::Event<'_>| progress.tell(event);
        let done = self.keeper.apply(&planned.plan, &snapshot, limits, &tell);
        let after = keeper::after(&snapshot, &planned.plan.changes, &done);
        let now = self.planned(&after, &inventory);
        Document::applied("probe", planned, &done, now)
    }

    fn planned(&self, snapshot: &ClusterSnapshot, inventory: &Inventory) -> Planned {
        // Which model a node is working on is not known: all that it has loaded may be in use.
        let usage = |node: &str, _: &ModelName| Usage {
            active: snapshot
                .node(node)
                .is_some_and(|node| node.running > Some(0)),
            ..Usage::default()
        };
        let reported = self.prober.reported(snapshot);
        let seen = Kept::seen(self.config.state.as_deref(), snapshot);
        let view = View {
            snapshot,
            local: inventory.known().then_some(inventory.gpus.as_slice()),
            learned: &self.learned,
            ram_free: None,
            reported: &reported,
            seen: &seen,
            promised: &|sites: Vec<Site>| sites,
            usage: &usage,
        };
        self.keeper.plan(&self.config, &self.wish, view)
    }

    /// The nodes and this machine's GPUs, asked at the same time. A node that hangs costs its own limit and nobody else anything.
    fn look(&mut self) -> (ClusterSnapshot, Inventory) {
        if self.nodes.is_empty() {
            let unseen = |config: NodeConfig| {
                let node = Node::unseen(&config.name, &config.url);
                (config, node)
            };
            self.nodes = super::nodes(&self.config).into_iter().map(unseen).collect();
        }
        let (prober, settled) = (&self.prober, self.settled);
        let look = |config: &NodeConfig, before: &Node| {
            if settled {
                prober.glance(config, before)
            } else {
                prober.probe(config, before)
            }
        };
        let (seen, inventory) = thread::scope(|scope| {
            let looks: Vec<_> = self
                .nodes
                .iter()
                .map(|(config, before)| scope.spawn(move || look(config, before)))
                .collect();
            let inventory = gpu::look(&self.gpus);
            // A panic was told when it happened; the node is as it was before.
            let seen: Vec<Option<Node>> = looks.into_iter().map(|look| look.join().ok()).collect();
            (seen, inventory)
        });
        for ((_, node), seen) in self.nodes.iter_mut().zip(seen) {
            if let Some(seen) = seen {
                *node = seen;
            }
        }
        let nodes = self.nodes.iter().map(|(_, node)| Arc::new(node.clone()));
        let snapshot = ClusterSnapshot {
            nodes: nodes.collect(),
        };
        (snapshot, inventory)
    }
}

/// A cycle in numbers, for whoever wants to know more than that it ran.
fn counted(document: &Value, began: Instant) -> String {
    let of = |list: &str| document[list].as_array().map_or(0, Vec::len);
    let up = |node: &&Value| matches!(node["state"].as_str(), Some("up" | "busy"));
    let nodes = document["nodes"].as_array();
    format!(
        "{} of {} nodes up, {} resident, {} changes, {} not placed, {} failed, {} ms",
        nodes.map_or(0, |nodes| nodes.iter().filter(up).count()),
        of("nodes"),
        of("resident"),
        of("changes"),
        of("impossible"),
        of("failed"),
        began.elapsed().as_millis()
    )
}

/// A byte of a query value.
fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}
