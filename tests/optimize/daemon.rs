//! `optimize --watch`.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::common::{LIMIT, eventually};
use super::{User, calls, finish, holds, nodes_of, spec, start};

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, signal).expect("a child of ours");
}

/// Lets it run until the nodes were looked at so often, then ends it; returns what it left behind.
fn cycles(
    user: &User,
    fleet: &gpurouter::sim::Fleet,
    count: usize,
    arguments: &[&str],
) -> super::Done {
    let child = user.start(arguments);
    let looks = || {
        let journal = fleet.node(0).journal();
        journal
            .iter()
            .filter(|record| record.path == "/api/ps")
            .count()
    };
    assert!(eventually(LIMIT, || looks() >= count), "{} looks", looks());
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::TERM);
    finish(child, LIMIT)
}

/// E17 and E18: a cycle per interval, each told by its number; SIGTERM and Ctrl-C end it with exit 0.
#[test]
fn cycles_are_counted_and_a_signal_ends_them_at_once() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let user = User::new(&fleet, "");
    for end in [Signal::TERM, Signal::INT] {
        let before = fleet.node(0).journal().len();
        let child = user.start(&["--watch", "--interval", "1s"]);
        let looks = || {
            let journal = fleet.node(0).journal();
            journal[before..]
                .iter()
                .filter(|record| record.path == "/api/ps")
                .count()
        };
        assert!(eventually(LIMIT, || looks() >= 3));
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        signal(&child, end);
        let done = finish(child, LIMIT);
        eprintln!("ended {:?} after the signal", began.elapsed());
        assert_eq!(done.code, 0, "{done:?}");
        for number in 1..=3 {
            let line = format!("info Running optimization cycle #{number}");
            assert!(done.err.contains(&line), "{done:?}");
        }
        assert_eq!(
            done.out.matches("1 change due").count(),
            1,
            "told once: {done:?}"
        );
    }
    assert_eq!(
        calls(fleet.node(0)),
        [""; 0],
        "without --apply nothing changes"
    );
}

/// E17: also in the middle of a load.
#[test]
fn a_signal_does_not_wait_for_a_load() {
    let mut slow = spec("gpu0", 4, &["mxbai-embed-large"]);
    slow.hardware.load_time = Some(Duration::from_secs(600));
    let fleet = start(vec![slow]);
    let user = User::new(&fleet, "");
    let child = user.start(&["--watch", "--apply"]);
    assert!(eventually(LIMIT, || !calls(fleet.node(0)).is_empty()));
    signal(&child, Signal::TERM);
    assert_eq!(finish(child, LIMIT).code, 0);
}

/// E27 from outside: a node that comes back has its models back with the next cycle.
#[test]
fn models_return_after_a_restart() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let user = User::new(&fleet, "");
    let child = user.start(&["--watch", "--apply", "--interval", "200ms"]);
    let back = ["mxbai-embed-large:latest 100% pinned"];
    assert!(eventually(LIMIT, || holds(&fleet.urls()[0]) == back));
    // It is listed while it is still being loaded.
    std::thread::sleep(Duration::from_millis(500));
    fleet.kill(0);
    std::thread::sleep(Duration::from_millis(500));
    fleet.revive(0).unwrap();
    assert!(eventually(LIMIT, || holds(&fleet.urls()[0]) == back));
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::TERM);
    let done = finish(child, LIMIT);
    assert_eq!(done.code, 0);
    assert!(done.err.contains("warning no node answers"), "{done:?}");
    assert_eq!(
        done.err.matches("is now on GPU at gpu0").count(),
        2,
        "{done:?}"
    );
}

/// E38: once per cycle, with the numbers.
#[test]
fn what_fits_nowhere_is_warned_of_in_every_cycle() {
    let fleet = start(vec![spec("gpu0", 4, &["llama3.1"])]);
    let user = User::new(
        &fleet,
        "vram_safety_margin = 0.8\npriority_models = [\"llama3.1\"]",
    );
    let done = cycles(
        &user,
        &fleet,
        3,
        &["--watch", "--apply", "--interval", "0.3"],
    );
    let text = "warning llama3.1:latest is not placed: gpu0: Model too large (4700MB > 3276MB usable VRAM)";
    let warned = done.err.matches(text).count();
    let begun = done.err.matches("Running optimization cycle").count();
    // The signal may have come in the middle of the last one.
    assert!(warned == begun || warned + 1 == begun, "{done:?}");
    assert!(warned >= 3);
}

/// E23: DEBUG and INFO say more than WARNING, ERROR nothing of what is well.
#[test]
fn the_log_level_is_honoured() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let lines = |level: &str, flags: &[&str]| {
        let user = User::new(&fleet, &format!("log_level = \"{level}\""));
        let mut arguments = vec!["--watch", "--interval", "100ms"];
        arguments.extend(flags);
        let looks = fleet
            .node(0)
            .journal()
            .iter()
            .filter(|record| record.path == "/api/ps")
            .count();
        let done = cycles(&user, &fleet, looks + 3, &arguments);
        assert_eq!(done.code, 0);
        done.err
    };
    assert!(lines("info", &[]).contains("Running optimization cycle #3"));
    assert_eq!(lines("error", &[]), "");
    assert_eq!(lines("info", &["--quiet"]), "");
    assert!(lines("debug", &[]).contains("Running optimization cycle #3"));
}

/// E30: what a cycle costs: bytes on the wire, memory, processor time. Measured and printed; the bounds are generous.
#[test]
fn a_watching_daemon_is_cheap() {
    let fleet = start(vec![
        spec("gpu0", 4, &["mxbai-embed-large", "llama3.2:1b"]),
        spec("gpu1", 8, &["nomic-embed-text", "llama3.1"]),
    ]);
    let user = User::new(&fleet, "");
    assert_eq!(user.optimize(&["--apply"]).code, 0);
    let child = user.start(&["--watch", "--apply", "--interval", "20ms"]);
    let looks = || {
        fleet
            .node(0)
            .journal()
            .iter()
            .filter(|record| record.path == "/api/ps")
            .count()
    };
    assert!(eventually(LIMIT, || looks() > 10));
    let marks: Vec<usize> = fleet
        .nodes()
        .iter()
        .map(|node| node.journal().len())
        .collect();
    let before = looks();
    assert!(eventually(LIMIT, || looks() >= before + 100));
    let count = (looks() - before) as u64;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    for (node, mark) in fleet.nodes().iter().zip(marks) {
        let bytes: u64 = node.journal()[mark..]
            .iter()
            .map(|record| record.request_bytes + record.response_bytes)
            .sum();
        eprintln!("{}: {} bytes per check", node.name(), bytes / count);
        assert!(bytes / count < 4096);
    }
    eprintln!(
        "{count} cycles: {} KiB at most, {} ms of processor time each",
        kib,
        ticks * 10 / (count + 10)
    );
    assert!(kib < 64 * 1024, "{kib} KiB");
    signal(&child, Signal::TERM);
    assert_eq!(finish(child, LIMIT).code, 0);
    let loads: usize = fleet.nodes().iter().map(|node| calls(node).len()).sum();
    assert_eq!(loads, 2, "the two of the first plan");
}

/// A file that names no node is not a reason to end.
#[test]
fn a_daemon_goes_on_without_nodes() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let user = User::new(&fleet, "");
    user.configure("gpurouter.toml", &nodes_of(&fleet), "");
    fleet.kill(0);
    let child = user.start(&["--watch", "--apply", "--interval", "100ms"]);
    std::thread::sleep(Duration::from_millis(700));
    fleet.revive(0).unwrap();
    assert!(eventually(LIMIT, || !holds(&fleet.urls()[0]).is_empty()));
    signal(&child, Signal::TERM);
    assert_eq!(finish(child, LIMIT).code, 0);
}
