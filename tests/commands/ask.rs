//! `ask` and `demo`: requests sent from the command line.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{RefusedPort, Router, Stub, reply};
use super::{User, node, reader, wait};

#[test]
fn ask_prints_the_answer_as_it_streams() {
    let stub = Stub::ollama(&["m"], |_, peer| {
        peer.send_slowly(
            &reply::ollama_chat("m", &["one ", "two ", "three"]),
            Duration::from_millis(200),
        );
    });
    let user = User::alone(&format!(
        "[[node]]\nname = \"a\"\nurl = \"{}\"\n",
        stub.url()
    ));
    let mut child = user.start(&["ask", "--model", "m", "say", "something"]);
    let mut out = child.stdout.take().unwrap();
    let errors = reader(child.stderr.take().unwrap());
    let mut first = [0; 4];
    out.read_exact(&mut first).unwrap();
    let early = Instant::now();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(early.elapsed() > Duration::from_millis(200), "all at once");
    assert_eq!(wait(&mut child).code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&first).into_owned() + &rest,
        "one two three\n"
    );
    assert_eq!(String::from_utf8_lossy(&errors.join().unwrap()), "");
    assert_eq!(
        stub.requests()[0].json()["messages"],
        json!([{"role": "user", "content": "say something"}])
    );
}

#[test]
fn ask_ends_with_the_record_when_it_is_wanted() {
    let stub = node();
    let router = Router::over(&[format!("a={}", stub.url())]);
    // Through the running router, and without one.
    for (user, through) in [
        (User::of(&router), true),
        (
            User::alone(&format!(
                "[[node]]\nname = \"a\"\nurl = \"{}\"\n",
                stub.url()
            )),
            false,
        ),
    ] {
        let done = user.run_with(
            &["ask", "--json", "--model", "m", "--task", "docstring", "-"],
            "a prompt\nof two lines\n",
        );
        assert_eq!(done.code, 0, "{done:?}");
        let (answer, record) = done.out.trim_end().rsplit_once('\n').unwrap();
        let record: Value = serde_json::from_str(record).unwrap();
        assert_eq!(answer, "one two three");
        assert_eq!(
            (&record["task"], &record["node"], &record["outcome"]),
            (&json!("docstring"), &json!("a"), &json!("ok"))
        );
        let known = router.api("/gpurouter/api/decisions")["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|known| known["id"] == record["id"]);
        assert_eq!(known, through);
    }
    assert_eq!(
        stub.requests()[0].json()["messages"][0]["content"],
        "a prompt\nof two lines\n"
    );
}

#[test]
fn ask_says_what_went_wrong_and_how_to_go_on() {
    let user = User::alone("");
    let dead = RefusedPort::new();
    let nobody = user.run(&["ask", "--node", &dead.url(), "hi"]);
    nobody.refused(3, "", "gpurouter status");
    assert_eq!(
        nobody.err.lines().count(),
        2,
        "an error and a hint: {nobody:?}"
    );
    let stub = node();
    user.run(&["ask", "--node", &stub.url(), "--model", "mm", "hi"])
        .refused(1, "did you mean", "");
    let cut = Stub::ollama(&["m"], |_, peer| {
        peer.send(&reply::ollama_chat("m", &["one ", "two"])[..2].concat());
        std::thread::sleep(Duration::from_millis(50));
        peer.close();
    });
    let broken = user.run(&["ask", "--node", &cut.url(), "--model", "m", "hi"]);
    assert_eq!((broken.code, broken.out.as_str()), (1, "one \n"));
    assert!(broken.err.contains("error: "), "{broken:?}");
    user.run(&["ask"]).refused(2, "PROMPT", "");
}

#[test]
fn demo_shows_three_decisions_with_nothing_installed() {
    let user = User::alone("");
    let done = user.run(&["demo", "--once"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    assert!(done.out.contains("simulated"), "{}", done.out);
    let decisions: Vec<&str> = done
        .out
        .lines()
        .filter(|line| line.contains(" -> "))
        .collect();
    assert_eq!(decisions.len(), 3, "{}", done.out);
    assert!(
        decisions[0].contains("SIMPLE -> qwen2.5-coder:1.5b on gpu1 (simple_task_to_gpu1)"),
        "{decisions:?}"
    );
    assert!(
        decisions[1].contains("MODERATE -> qwen2.5-coder:7b on gpu0 (moderate_task_to_gpu0)"),
        "{decisions:?}"
    );
    assert!(
        decisions[2].contains("COMPLEX -> qwen2.5-coder:7b on gpu0 (complex_task_to_gpu0)"),
        "{decisions:?}"
    );
    let records = user.run(&["demo", "--once", "--json"]);
    let records: Vec<Value> = records
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record["outcome"] == "ok"
        && record["schema"] == 1
        && record["gpu_used"] != false));
}

#[test]
fn demo_goes_on_serving_until_it_is_stopped() {
    let user = User::alone("");
    let mut child = user.start(&["demo"]);
    let mut notes = BufReader::new(child.stderr.take().unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let address = lines
        .find_map(|line| {
            let url = line.strip_prefix("The router in front of them: http://")?;
            url.parse().ok()
        })
        .expect("the router's address");
    let up = super::common::client::get(address, "/health").json();
    assert_eq!(up["nodes"]["up"], 2);
    let answers = std::thread::spawn(move || lines.filter(|line| line.contains(" -> ")).count());
    let mut note = String::new();
    notes.read_line(&mut note).unwrap();
    assert!(
        note.contains("serving on") && note.contains("simulated"),
        "{note}"
    );
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
    assert_eq!(answers.join().unwrap(), 3);
}
