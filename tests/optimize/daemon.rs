//! `optimize --watch`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    assert!(
        eventually(LIMIT, || looks(fleet) >= count),
        "{} looks",
        looks(fleet)
    );
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::TERM);
    finish(child, LIMIT)
}

/// How often the first node was asked what it has in memory: once in every look.
fn looks(fleet: &gpurouter::sim::Fleet) -> usize {
    let journal = fleet.node(0).journal();
    journal
        .iter()
        .filter(|record| record.path == "/api/ps")
        .count()
}

/// E17: a cycle per interval; SIGTERM and Ctrl-C end it with exit 0.
#[test]
fn e17_cycles_are_repeated_and_a_signal_ends_them_at_once() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let user = User::new(&fleet, "");
    for end in [Signal::TERM, Signal::INT] {
        let before = looks(&fleet);
        let began = Instant::now();
        let child = user.start(&["--watch", "--interval", "1s"]);
        assert!(eventually(LIMIT, || looks(&fleet) >= before + 3));
        // Two intervals lie between three cycles; how much more it took is a matter of the machine.
        assert!(began.elapsed() >= Duration::from_secs(2));
        eprintln!("three cycles in {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        signal(&child, end);
        let done = finish(child, LIMIT);
        eprintln!("ended {:?} after the signal", began.elapsed());
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.err.contains("optimization cycle #3"), "{done:?}");
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

/// E17: 300 s unless it is set, in the file or by the flag.
#[test]
fn e17_the_interval_is_300_seconds_unless_it_is_set() {
    let user = User::new(&start(vec![]), "");
    let printed = |file: &str| {
        let output = super::common::command(&user.scratch)
            .args(["serve", "--print-config", "--json", "--config", file])
            .output()
            .unwrap();
        let printed = super::common::json(&output.stdout);
        let values = printed["values"].as_array().unwrap().clone();
        let found = values.iter().find(|value| value["key"] == "check_interval");
        found.expect("the key")["value"].clone()
    };
    assert_eq!(printed("gpurouter.toml"), "300s");
    user.configure("quick.toml", "", "check_interval = 60");
    assert_eq!(printed("quick.toml"), "60s");
}

/// E18
#[test]
fn e18_every_cycle_is_told_by_its_number() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let user = User::new(&fleet, "");
    let done = cycles(&user, &fleet, 4, &["--watch", "--interval", "100ms"]);
    let told: Vec<&str> = done
        .err
        .lines()
        .filter_map(|line| line.split_once(" info ").map(|(_, text)| text))
        .collect();
    for (number, line) in (1..).zip(&told) {
        assert_eq!(*line, format!("Running optimization cycle #{number}"));
    }
    assert!(told.contains(&"Running optimization cycle #3"), "{done:?}");
}

/// E19: whoever only watches changes nothing, whatever the plan is.
#[test]
fn e19_watching_without_apply_changes_nothing() {
    let fleet = start(vec![
        spec("gpu0", 4, &["mxbai-embed-large", "nomic-embed-text"]),
        spec("gpu1", 8, &["llama3.1"]),
    ]);
    let user = User::new(
        &fleet,
        "priority_models = [\"mxbai-embed-large\", \"llama3.1\"]",
    );
    let done = cycles(&user, &fleet, 4, &["--watch", "--interval", "50ms"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("2 changes due"), "{done:?}");
    for node in fleet.nodes() {
        assert_eq!(calls(node), [""; 0]);
        let posts = node.journal();
        let posts = posts.iter().filter(|record| record.method != "GET");
        for record in posts {
            // What a node is asked to describe, and whether it has these forms: bodies without a prompt.
            let asks = record.path == "/api/show" || record.path.starts_with("/v1/");
            assert!(asks, "{} {}", record.method, record.path);
        }
    }
}

/// E17: also in the middle of a load.
#[test]
fn e17_a_signal_does_not_wait_for_a_load() {
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
fn e27_models_return_after_a_restart() {
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
fn e38_what_fits_nowhere_is_warned_of_in_every_cycle() {
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

/// E23: DEBUG says more than INFO, INFO more than WARNING, ERROR nothing of what is well; in capitals as in the sources' file, too.
#[test]
fn e23_the_log_level_is_honoured() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let lines = |level: &str, flags: &[&str]| {
        let user = User::new(&fleet, &format!("log_level = \"{level}\""));
        let mut arguments = vec!["--watch", "--interval", "100ms"];
        arguments.extend(flags);
        let done = cycles(&user, &fleet, looks(&fleet) + 3, &arguments);
        assert_eq!(done.code, 0, "{done:?}");
        done.err
    };
    let of = |text: &str, level: &str| {
        let word = format!(" {level} ");
        text.lines().filter(|line| line.contains(&word)).count()
    };
    for (debug, info) in [("debug", "info"), ("DEBUG", "INFO")] {
        let debug = lines(debug, &[]);
        assert!(
            of(&debug, "debug") >= 3 && of(&debug, "info") >= 3,
            "{debug}"
        );
        assert!(
            debug.contains("debug 1 of 1 nodes up, 0 resident, 1 changes"),
            "{debug}"
        );
        let info = lines(info, &[]);
        assert!(of(&info, "debug") == 0 && of(&info, "info") >= 3, "{info}");
    }
    let warning = lines("WARNING", &[]);
    assert!(
        of(&warning, "info") == 0
            && warning.contains(" warning nomic-embed-text:latest is not placed"),
        "{warning}"
    );
    assert_eq!(lines("ERROR", &[]), "");
    assert_eq!(lines("info", &["--quiet"]), "");
    assert!(of(&lines("info", &["--verbose"]), "debug") >= 3);
}

/// Passes connections on to a node and counts every byte of both directions.
struct Relay {
    address: std::net::SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Relay {
    fn before(node: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Ok(other) = TcpStream::connect(node) else {
                    continue;
                };
                for (from, to) in [(&stream, &other), (&other, &stream)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let count = Arc::clone(&count);
                    std::thread::spawn(move || pass(from, to, &count));
                }
            }
        });
        Self { address, bytes }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

/// A number of `/proc/PID/status`, in KiB.
fn kib(child: &Child, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("no {field} in {status}"))
}

/// Milliseconds of processor time so far.
fn cpu_ms(child: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks = fields.skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
    ticks.sum::<u64>() * 1000 / rustix::param::clock_ticks_per_second()
}

/// The release build that `GPUROUTER_TEST_RELEASE` names, to be measured in place of the debug build; `None` without it.
fn release() -> Option<std::ffi::OsString> {
    std::env::var_os("GPUROUTER_TEST_RELEASE").filter(|path| !path.is_empty())
}

/// `optimize` of that build.
fn start_of(program: &std::ffi::OsStr, user: &User, arguments: &[&str]) -> Child {
    let usual = super::common::command(&user.scratch);
    let mut command = Command::new(fs::canonicalize(program).expect("a program"));
    command.env_clear().current_dir(user.scratch.path());
    for (name, value) in usual.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
        .arg("optimize")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a release build")
}

/// E30: what a cycle costs: bytes on the wire, memory, processor time (told, not asserted).
#[test]
fn e30_a_hundred_cycles_are_cheap() {
    const CYCLES: usize = 100;
    // A dozen models on the disk of each, two in the memory of each.
    let stored: Vec<String> = (1..=10).map(|number| format!("stored:{number}b")).collect();
    let with = |two: [&'static str; 2]| -> Vec<&str> {
        two.into_iter()
            .chain(stored.iter().map(String::as_str))
            .collect()
    };
    let fleet = start(vec![
        spec("gpu0", 8, &with(["mxbai-embed-large", "llama3.2:1b"])),
        spec("gpu1", 8, &with(["nomic-embed-text", "llama3.2:3b"])),
    ]);
    let wanted = "priority_models = [\"mxbai-embed-large\", \"llama3.2:1b\", \"nomic-embed-text\", \"llama3.2:3b\"]";
    let user = User::new(&fleet, wanted);
    assert_eq!(user.optimize(&["--apply"]).code, 0);
    let relays: Vec<Relay> = fleet
        .nodes()
        .iter()
        .map(|node| Relay::before(node.address()))
        .collect();
    let mut nodes = nodes_of(&fleet);
    for (node, relay) in fleet.nodes().iter().zip(&relays) {
        nodes = nodes.replace(&node.address().to_string(), &relay.address.to_string());
    }
    user.configure("gpurouter.toml", &nodes, wanted);
    let loads: Vec<_> = fleet.nodes().iter().map(|node| calls(node)).collect();
    let before = looks(&fleet);
    let (release, arguments) = (release(), ["--watch", "--apply", "--interval", "50ms"]);
    let child = match &release {
        Some(program) => start_of(program, &user, &arguments),
        None => user.start(&arguments),
    };
    // The first look is more than the others: what is a server, what does it have, what may be asked.
    assert!(eventually(LIMIT, || looks(&fleet) >= before + 3));
    let bytes = || -> Vec<u64> {
        let counts = relays
            .iter()
            .map(|relay| relay.bytes.load(Ordering::SeqCst));
        counts.collect()
    };
    let (from, began, cpu) = (bytes(), Instant::now(), cpu_ms(&child));
    let first = looks(&fleet);
    assert!(eventually(4 * LIMIT, || looks(&fleet) >= first + CYCLES));
    let (to, took, cpu) = (bytes(), began.elapsed(), cpu_ms(&child) - cpu);
    let count = (looks(&fleet) - first) as u64;
    for ((from, to), node) in from.iter().zip(&to).zip(fleet.nodes()) {
        let each = (to - from) / count;
        eprintln!("{}: {each} bytes per check", node.name());
        assert!(each > 0 && each < 2048, "{}: {each} bytes", node.name());
    }
    // The code of a debug build alone is more than a whole release; what it holds of its own is the same in both.
    let (own, all) = (kib(&child, "RssAnon:"), kib(&child, "VmHWM:"));
    eprintln!(
        "{count} cycles in {took:?}: {all} KiB at most, {own} of them its own, {cpu} ms of processor time"
    );
    assert!(own < 20 * 1024, "{own} KiB");
    if release.is_some() {
        assert!(all < 20 * 1024, "{all} KiB");
    }
    signal(&child, Signal::TERM);
    assert_eq!(finish(child, LIMIT).code, 0);
    let after: Vec<_> = fleet.nodes().iter().map(|node| calls(node)).collect();
    assert_eq!(after, loads, "nothing was loaded again");
}

/// What is looked at sparingly is not overlooked: a model that goes is seen in the next cycle, and brought back.
#[test]
fn a_settled_daemon_sees_what_changes() {
    let fleet = start(vec![spec("gpu0", 4, &["mxbai-embed-large"])]);
    let user = User::new(&fleet, "priority_models = [\"mxbai-embed-large\"]");
    let child = user.start(&["--watch", "--apply", "--interval", "50ms"]);
    let lists = || {
        let journal = fleet.node(0).journal();
        journal
            .iter()
            .filter(|record| record.path == "/api/tags")
            .count()
    };
    assert!(eventually(LIMIT, || !holds(&fleet.urls()[0]).is_empty()));
    std::thread::sleep(Duration::from_millis(500));
    let (before, looked) = (lists(), looks(&fleet));
    assert!(eventually(LIMIT, || looks(&fleet) >= looked + 5));
    assert_eq!(lists(), before, "a settled daemon does not ask for lists");
    let gone = serde_json::json!({"model": "mxbai-embed-large", "keep_alive": 0});
    super::post(&format!("{}/api/generate", fleet.urls()[0]), &gone);
    let back = ["mxbai-embed-large:latest 100% pinned"];
    assert!(eventually(LIMIT, || holds(&fleet.urls()[0]) == back));
    signal(&child, Signal::TERM);
    let done = finish(child, LIMIT);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        done.err
            .matches("info loading mxbai-embed-large:latest at gpu0")
            .count(),
        2,
        "{done:?}"
    );
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
