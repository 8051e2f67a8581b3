//! What is measured: the direct way, the router, and the other proxies after a look at each.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Args;
use crate::cmd::bench::machine;
use crate::cmd::usage;
use crate::load::{Ask, Lane, Place, Plan, Processes, Router, Script, Single, Upstream};
use crate::measure::proxy::{DIRECT, Form, MACHINE, ROUTER, Settings, Target};
use crate::render::Told;

/// How long a proxy may take until a request through it is answered by the mock.
const READY: Duration = Duration::from_secs(15);

/// The direct way, the router, and the other proxies after a look at each.
pub(super) fn lanes(
    args: &Args,
    upstream: &Upstream,
    router: &Router,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Lane>> {
    let mut lanes = vec![
        Lane {
            name: DIRECT.to_owned(),
            place: Place::at(upstream.addr()),
            processes: None,
        },
        Lane {
            name: ROUTER.to_owned(),
            place: Place::at(router.addr()),
            processes: Processes::of_pid(router.pid()),
        },
    ];
    for (name, url) in &args.against {
        if lanes.iter().any(|lane| lane.name == *name) || name == MACHINE {
            return Err(usage(format!("--against {name}={url}: the name is taken")));
        }
        let place =
            Place::of_url(url).map_err(|error| usage(format!("--against {name}: {error}")))?;
        wait_ready(&place, upstream, stop)
            .map_err(|error| does_not_answer(name, &place, upstream, &error))?;
        let pid = args
            .pids
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, pid)| *pid);
        let processes =
            match pid {
                Some(pid) => Some(Processes::of_pid(pid).ok_or_else(|| {
                    usage(format!("--pid {name}={pid}: there is no such process"))
                })?),
                None => Processes::listening(place.addr),
            };
        lanes.push(Lane {
            name: name.clone(),
            place,
            processes,
        });
    }
    if let Some((name, _)) = args
        .pids
        .iter()
        .find(|(name, _)| !args.against.iter().any(|(known, _)| known == name))
    {
        return Err(usage(format!("--pid {name}: no --against has that name")));
    }
    Ok(lanes)
}

fn does_not_answer(name: &str, place: &Place, upstream: &Upstream, error: &io::Error) -> Told {
    let mock = upstream.addr();
    Told::unreachable(format!("{name} at {place}: {error}")).hint(format!(
        "it must run in front of the mock at http://{mock}: fix that port with --upstream-port N, configure and start the proxy, then run this again; --print-nginx and --print-haproxy show how"
    ))
}

/// Whether a stream through it comes from this mock.
fn look(place: &Place, upstream: &Upstream) -> io::Result<()> {
    upstream.play(Script {
        pieces: 2,
        gap: Duration::from_millis(1),
        cut: false,
        watched: false,
    });
    let clock = upstream.clock();
    let (start, mut sent) = (clock.now(), Vec::new());
    Single::open(place)?.stream(&Ask::streamed(Form::Lines).to(place), |stamp| {
        sent.push(stamp);
    })?;
    let now = start..=clock.now();
    if sent.len() != 2 || !sent.iter().all(|stamp| now.contains(stamp)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it answers, but not from the mock",
        ));
    }
    Ok(())
}

/// Looks until it answers; who listens but cannot reach the mock yet may need a moment to notice that it is there.
pub(super) fn wait_ready(place: &Place, upstream: &Upstream, stop: &AtomicBool) -> io::Result<()> {
    let deadline = Instant::now() + READY;
    loop {
        let Err(error) = look(place, upstream) else {
            return Ok(());
        };
        let lost = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::InvalidData
        );
        if lost || Instant::now() > deadline || stop.load(Ordering::Relaxed) {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn settings(plan: &Plan, lanes: &[Lane]) -> Settings {
    let target = |lane: &Lane| Target {
        name: lane.name.clone(),
        url: lane.place.to_string(),
        program: lane.processes.as_ref().and_then(Processes::name),
        pids: lane
            .processes
            .as_ref()
            .map(|processes| processes.roots().to_vec())
            .unwrap_or_default(),
    };
    Settings {
        rounds: plan.rounds,
        window: plan.window,
        quick: plan.quick,
        idle_streams: plan.idle,
        threads: plan.threads,
        patience_ms: u64::try_from(plan.patience.as_millis()).unwrap_or(u64::MAX),
        cores: machine::this().cores,
        targets: lanes.iter().map(target).collect(),
    }
}
