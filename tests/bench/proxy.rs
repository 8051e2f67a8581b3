//! `cargo bench --bench proxy`: what `gpurouter serve` adds to a request, beside nginx `proxy_pass` on the same
//! machine in the same run.
//!
//! One process holds the mock node ([`upstream`]) and the load generator ([`load`]), so both ends share a clock; nginx
//! and gpurouter are its children. Every round measures every target, in an order that rotates, and only figures of
//! the same round are compared: a noisy machine moves all of them. The result is a Markdown table of absolute figures
//! and ratios, reported and never a gate.
//!
//! `-- --rounds N` (default 5), `--quick` (short windows), `--targets nginx` (leave gpurouter out);
//! `GPUROUTER_BENCH_BIN` names another binary.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its result"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nanoseconds and counts far below 2^53 become figures for people"
)]
#![allow(unreachable_pub, reason = "modules of a program, not of a library")]

mod load;
mod process;
mod report;
mod stats;
mod upstream;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use load::{Many, Single};
use process::{Memory, Proxy};
use upstream::Upstream;
use wire::{Clock, Form};

/// What stands between the generator and the mock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Nothing.
    Direct,
    /// nginx, request bodies in memory.
    Nginx,
    /// nginx, request bodies through a file beyond 16 KiB (its default).
    NginxFile,
    /// gpurouter.
    Router,
}

/// What is measured in every round; the unit is the report's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// p50 of a 1 KB request, ns.
    Small,
    /// p50 of a 1 KB request for the virtual model, ns.
    SmallAuto,
    /// p50 of a 200 KB request, ns.
    Large,
    /// p50 until the first token of a stream, ns.
    FirstToken,
    /// p50 delay of a token at one stream of JSON lines, ns.
    Token,
    /// p50 delay of a token at one stream of server-sent events, ns.
    TokenSse,
    /// p50 delay of a token at many streams, ns.
    TokenMany,
    /// p99 delay of a token at many streams, ns.
    TokenManyTail,
    /// CPU of a token at many streams, ns.
    TokenCpu,
    /// Requests per second over this many connections.
    Rate(usize),
    /// CPU of a request over this many connections, ns.
    RequestCpu(usize),
}

/// Values by metric and target, one a round.
pub type Results = HashMap<(Metric, Target), Vec<f64>>;

/// When memory is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Just started.
    Idle,
    /// With open streams that have begun and then say nothing.
    Streams {
        /// Streams asked for.
        count: usize,
        /// Streams whose first token came.
        began: usize,
    },
    /// Idle again after everything.
    After,
}

/// Memory by target and moment.
pub type Memories = Vec<(Target, Moment, Memory)>;

/// How many silent streams memory is told for.
pub const STREAMS_HELD: [usize; 2] = [500, 1000];

/// Many streams: like http.md's, between one and a thousand.
const STREAMS: usize = 256;

struct Options {
    rounds: usize,
    quick: bool,
    router: bool,
}

struct Bench {
    options: Options,
    clock: Clock,
    upstream: Upstream,
    nginx: Proxy,
    router: Option<Proxy>,
    addresses: HashMap<Target, SocketAddr>,
    results: Results,
    errors: u64,
}

fn main() -> io::Result<()> {
    let options = options()?;
    raise_descriptor_limit();
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let outcome = Bench::start(options, &dir).and_then(Bench::run);
    std::fs::remove_dir_all(&dir)?;
    outcome
}

fn options() -> io::Result<Options> {
    let mut options = Options {
        rounds: 5,
        quick: false,
        router: true,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.len()) {
            // cargo passes this one itself.
            ("--bench", _) => {}
            ("--quick", _) => options.quick = true,
            ("--rounds", 1..) => {
                let value = args.next().unwrap_or_default();
                options.rounds = value.parse().map_err(io::Error::other)?;
            }
            ("--targets", 1..) => options.router = args.next().as_deref() != Some("nginx"),
            _ => return Err(io::Error::other(format!("unknown argument: {arg}"))),
        }
    }
    Ok(options)
}

/// A thousand streams need two descriptors each here and in every proxy, which inherits the limit.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("note: the descriptor limit stays as it is: {error}");
    }
}

impl Bench {
    fn start(options: Options, dir: &Path) -> io::Result<Self> {
        let clock = Clock::start();
        let upstream = Upstream::start(clock)?;
        let (nginx, memory, file) = Proxy::nginx(dir, upstream.addr)?;
        let mut addresses = HashMap::from([
            (Target::Direct, upstream.addr),
            (Target::Nginx, memory),
            (Target::NginxFile, file),
        ]);
        let mut router = None;
        if options.router {
            let binary = std::env::var_os("GPUROUTER_BENCH_BIN").map_or_else(
                || PathBuf::from(env!("CARGO_BIN_EXE_gpurouter")),
                PathBuf::from,
            );
            let (proxy, addr) = Proxy::gpurouter(&binary, dir, upstream.addr)?;
            wait_answering(addr)?;
            addresses.insert(Target::Router, addr);
            router = Some(proxy);
        }
        Ok(Self {
            options,
            clock,
            upstream,
            nginx,
            router,
            addresses,
            results: HashMap::new(),
            errors: 0,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let begun = (Instant::now(), process::load_average());
        // Before the load, whose allocations nobody gives back in full; what stays is told at the end.
        let mut memories = self.memory_now(Moment::Idle);
        for count in STREAMS_HELD {
            self.idle_streams(count, &mut memories)?;
        }
        for round in 0..self.options.rounds {
            eprintln!(
                "round {} of {}, load average {}",
                round + 1,
                self.options.rounds,
                process::load_average()
            );
            self.latencies(round)?;
            self.first_tokens(round)?;
            self.streams(round)?;
            self.rates(round)?;
        }
        memories.extend(self.memory_now(Moment::After));
        let versions = [Some(&self.nginx), self.router.as_ref()]
            .into_iter()
            .flatten()
            .map(|proxy| proxy.version.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        report::print(&report::Run {
            results: &self.results,
            memories: &memories,
            versions: &versions,
            rounds: self.options.rounds,
            quick: self.options.quick,
            seconds: begun.0.elapsed().as_secs(),
            load_before: &begun.1,
            errors: self.errors,
        });
        Ok(())
    }

    /// The targets among `wanted` that run, in an order that rotates with the round.
    fn order(&self, wanted: &[Target], round: usize) -> Vec<(Target, SocketAddr)> {
        let mut targets: Vec<_> = wanted
            .iter()
            .filter_map(|&target| Some((target, *self.addresses.get(&target)?)))
            .collect();
        let shift = round % targets.len();
        targets.rotate_left(shift);
        targets
    }

    fn record(&mut self, metric: Metric, target: Target, value: f64) {
        self.results
            .entry((metric, target))
            .or_default()
            .push(value);
    }

    fn proxy(&self, target: Target) -> Option<&Proxy> {
        match target {
            Target::Direct => None,
            Target::Nginx | Target::NginxFile => Some(&self.nginx),
            Target::Router => self.router.as_ref(),
        }
    }

    /// 1 KB and 200 KB requests over one connection to each target, in short turns.
    fn latencies(&mut self, round: usize) -> io::Result<()> {
        use Target::{Direct, Nginx, NginxFile, Router};
        let scale = if self.options.quick { 1 } else { 4 };
        let cases: [(Metric, &str, usize, usize, &[Target]); 3] = [
            (
                Metric::Small,
                wire::MODEL,
                1024,
                50 * scale,
                &[Direct, Nginx, Router],
            ),
            (
                Metric::SmallAuto,
                "auto",
                1024,
                50 * scale,
                &[Direct, Nginx, Router],
            ),
            (
                Metric::Large,
                wire::MODEL,
                200 * 1024,
                10 * scale,
                &[Direct, Nginx, NginxFile, Router],
            ),
        ];
        for (metric, model, size, turn, wanted) in cases {
            let mut lanes = Vec::new();
            for (target, addr) in self.order(wanted, round) {
                let request = wire::request(addr, Form::Ollama, model, false, size);
                let mut single = Single::open(addr)?;
                for _ in 0..turn {
                    single.exchange(&request)?;
                }
                lanes.push((target, request, single, Vec::new()));
            }
            for _ in 0..10 {
                for (_, request, single, times) in &mut lanes {
                    for _ in 0..turn {
                        times.push(single.exchange(request)?);
                    }
                }
            }
            for (target, _, _, mut times) in lanes {
                self.record(metric, target, stats::quantile(&mut times, 0.5));
            }
        }
        Ok(())
    }

    /// Short streams one after another over one connection: the time until the first token.
    fn first_tokens(&mut self, round: usize) -> io::Result<()> {
        self.upstream.pace(2, 500_000);
        let count = if self.options.quick { 20 } else { 60 };
        let mut lanes = Vec::new();
        for (target, addr) in self.order(&[Target::Direct, Target::Nginx, Target::Router], round) {
            let request = wire::request(addr, Form::Ollama, wire::MODEL, true, 1024);
            let mut single = Single::open(addr)?;
            single.exchange(&request)?;
            lanes.push((target, request, single, Vec::new()));
        }
        for _ in 0..5 {
            for (_, request, single, times) in &mut lanes {
                for _ in 0..count {
                    times.push(single.stream(request, |_| {})?.1);
                }
            }
        }
        for (target, _, _, mut times) in lanes {
            self.record(Metric::FirstToken, target, stats::quantile(&mut times, 0.5));
        }
        Ok(())
    }

    fn streams(&mut self, round: usize) -> io::Result<()> {
        let window = Duration::from_millis(if self.options.quick { 1000 } else { 3000 });
        let warm = Duration::from_millis(200);
        let all = [Target::Direct, Target::Nginx, Target::Router];
        for (metric, form) in [
            (Metric::Token, Form::Ollama),
            (Metric::TokenSse, Form::OpenAi),
        ] {
            self.upstream.pace(60_000, 1_000_000);
            for (target, addr) in self.order(&all, round) {
                let request = wire::request(addr, form, wire::MODEL, true, 1024);
                let mut many = Many::open(addr, 1, &request, self.clock)?;
                let mut load = many.streams(Duration::ZERO, (warm, window), &|| 0)?;
                self.errors += load.errors;
                self.record(metric, target, stats::quantile(&mut load.delays, 0.5));
            }
        }
        self.upstream.pace(60_000, 20_000_000);
        for (target, addr) in self.order(&all, round) {
            let request = wire::request(addr, Form::Ollama, wire::MODEL, true, 1024);
            let mut many = Many::open(addr, STREAMS, &request, self.clock)?;
            let cpu = || self.proxy(target).map_or(0, Proxy::cpu);
            let spread = Duration::from_millis(500);
            let mut load = many.streams(spread, (warm, window), &cpu)?;
            self.errors += load.errors;
            self.record(
                Metric::TokenMany,
                target,
                stats::quantile(&mut load.delays, 0.5),
            );
            self.record(
                Metric::TokenManyTail,
                target,
                stats::quantile(&mut load.delays, 0.99),
            );
            self.record(
                Metric::TokenCpu,
                target,
                load.cpu as f64 / load.count as f64,
            );
        }
        Ok(())
    }

    fn rates(&mut self, round: usize) -> io::Result<()> {
        let window = Duration::from_millis(if self.options.quick { 500 } else { 2000 });
        let warm = Duration::from_millis(200);
        for connections in [1, 16, 256] {
            for (target, addr) in
                self.order(&[Target::Direct, Target::Nginx, Target::Router], round)
            {
                let request = wire::request(addr, Form::Ollama, wire::MODEL, false, 1024);
                let mut many = Many::open(addr, connections, &request, self.clock)?;
                let cpu = || self.proxy(target).map_or(0, Proxy::cpu);
                let load = many.requests((warm, window), &cpu)?;
                self.errors += load.errors;
                self.record(
                    Metric::Rate(connections),
                    target,
                    load.count as f64 / load.seconds,
                );
                self.record(
                    Metric::RequestCpu(connections),
                    target,
                    load.cpu as f64 / load.count as f64,
                );
            }
        }
        Ok(())
    }

    fn memory_now(&self, moment: Moment) -> Memories {
        [Target::Nginx, Target::Router]
            .into_iter()
            .filter_map(|target| Some((target, moment, self.proxy(target)?.memory())))
            .collect()
    }

    /// Streams that have begun and then say nothing.
    fn idle_streams(&mut self, count: usize, memories: &mut Memories) -> io::Result<()> {
        self.upstream.pace(2, 600_000_000_000);
        for target in [Target::Nginx, Target::Router] {
            let (Some(proxy), Some(&addr)) = (self.proxy(target), self.addresses.get(&target))
            else {
                continue;
            };
            let request = wire::request(addr, Form::Ollama, wire::MODEL, true, 1024);
            let mut many = Many::open(addr, count, &request, self.clock)?;
            let began = many.hold(Duration::from_secs(20))?;
            std::thread::sleep(Duration::from_millis(500));
            memories.push((target, Moment::Streams { count, began }, proxy.memory()));
            drop(many);
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }
}

/// Waits until a request through the router is answered: its monitor has to find the node first.
fn wait_answering(addr: SocketAddr) -> io::Result<()> {
    let request = wire::request(addr, Form::Ollama, wire::MODEL, false, 1024);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Single::open(addr).and_then(|mut single| single.exchange(&request)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
