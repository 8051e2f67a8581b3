//! `status`, `route` and `why`: questions about the nodes, a decision to come and one that was taken.

use serde_json::json;

use super::common::{RefusedPort, Router, Stub, client, reply};
use super::{User, fits, node};

fn chat(model: &str) -> serde_json::Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": false})
}

#[test]
fn status_asks_the_router_or_the_nodes_and_says_which() {
    let (stub, dead) = (node(), RefusedPort::new());
    let nodes = format!(
        "[[node]]\nname = \"live\"\nurl = \"{}\"\n[[node]]\nname = \"dead\"\nurl = \"{}\"\n",
        stub.url(),
        dead.url()
    );
    let router = Router::start(&[], &nodes);
    router.wait_ready(1);
    assert_eq!(
        client::post(router.addr, "/api/chat", &chat("m")).status,
        200
    );
    let asked = User::of(&router).run(&["status", "--json"]);
    assert_eq!(
        (asked.code, asked.json()["source"].as_str()),
        (0, Some("router")),
        "{asked:?}"
    );
    assert_eq!(
        (
            &asked.json()["nodes"][0]["active"],
            &asked.json()["nodes"][1]["state"]
        ),
        (&json!(0), &json!("down"))
    );
    let probed = User::alone(&nodes).run(&["status", "--json"]);
    assert_eq!(
        (probed.code, probed.json()["source"].as_str()),
        (0, Some("probe"))
    );
    // Only a router knows what it has in flight.
    assert_eq!(probed.json()["nodes"][0]["active"], json!(null));
    for user in [User::of(&router), User::alone(&nodes)] {
        let text = user.run(&["status"]);
        fits(&text.out);
        for part in [
            "NODE",
            "live",
            "ollama",
            "up",
            "dead",
            "down",
            "warning: ",
            "cure: ",
        ] {
            assert!(text.out.contains(part), "{part}: {}", text.out);
        }
    }
    assert_eq!(
        User::alone("").run(&["status", "--node", &dead.url()]).code,
        3
    );
}

#[test]
fn no_color_and_a_pipe_are_plain_alike() {
    let stub = node();
    let user = User::alone(&format!(
        "[[node]]\nname = \"live\"\nurl = \"{}\"\n",
        stub.url()
    ));
    for arguments in [
        &["status"][..],
        &["route", "hi", "--explain"],
        &["--help"],
        &["stattus"],
    ] {
        let plain = user.run(arguments);
        let output = super::command(&user.scratch)
            .args(arguments)
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        assert_eq!(plain.out, String::from_utf8_lossy(&output.stdout));
        assert!(
            !plain.out.contains('\x1b') && !plain.err.contains('\x1b'),
            "{plain:?}"
        );
    }
}

#[test]
fn route_decides_without_sending() {
    let [first, second] = [node(), Stub::ollama(&["other"], reply::healthy)];
    let user = User::alone(&format!(
        "[[node]]\nname = \"a\"\nurl = \"{}\"\n[[node]]\nname = \"b\"\nurl = \"{}\"\n",
        first.url(),
        second.url()
    ));
    let text = user.run(&["route", "--model", "other"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(
        text.out.contains("node    b\n")
            && text.out.contains("model   other\n")
            && text.out.contains("reason  only_candidate\n"),
        "{}",
        text.out
    );
    let explained = user.run(&[
        "route",
        "--model",
        "other",
        "--explain",
        "a prompt",
        "of two words",
    ]);
    assert!(
        explained.out.contains("model_missing") && explained.out.contains("only_candidate"),
        "{}",
        explained.out
    );
    fits(&explained.out);
    let document = user.run(&["route", "--json", "--model", "m", "hi"]).json();
    assert_eq!(
        (
            &document["source"],
            &document["decision"]["node"],
            &document["decision"]["tier"]
        ),
        (&json!("probe"), &json!("a"), &json!("explicit"))
    );
    let body = user.run_with(
        &["route", "--json", "--messages", "-"],
        &chat("other").to_string(),
    );
    assert_eq!(body.json()["decision"]["node"], "b");
    assert!(first.requests().is_empty() && second.requests().is_empty());
}

#[test]
fn route_says_no_wrong_and_unreachable_apart() {
    let stub = node();
    let user = User::alone(&format!(
        "[[node]]\nname = \"a\"\nurl = \"{}\"\n",
        stub.url()
    ));
    user.run(&["route", "--model", "mm", "hi"])
        .refused(1, "`mm`", "did you mean `m`");
    user.run_with(&["route", "--messages", "-"], "{\"model\":")
        .refused(2, "", "");
    user.run(&["route", "--messages", "/nonexistent.json"])
        .refused(2, "/nonexistent.json", "");
    let dead = RefusedPort::new();
    user.run(&["route", "--node", &dead.url(), "--model", "m", "hi"])
        .refused(3, "", "gpurouter status");
}

#[test]
fn route_says_the_same_through_a_router() {
    let stub = node();
    let router = Router::over(&[format!("a={}", stub.url())]);
    let user = User::of(&router);
    assert_eq!(
        user.run(&["route", "--json", "--model", "m", "hi"]).json()["source"],
        "router"
    );
    user.run(&["route", "--model", "mm", "hi"])
        .refused(1, "mm", "");
    user.run_with(&["route", "--messages", "-"], "{\"model\":")
        .refused(2, "", "");
}

#[test]
fn why_tells_the_recorded_decision() {
    let stub = node();
    let router = Router::over(&[format!("a={}", stub.url())]);
    let user = User::of(&router);
    let answer = client::post(router.addr, "/api/chat", &chat("m"));
    let id = answer.header("x-gpurouter-id").unwrap().to_owned();
    router.wait_record(|record| record["id"] == id.as_str());
    let document = user.run(&["why", &id, "--json"]).json();
    assert_eq!(
        (&document["id"], &document["node"], &document["outcome"]),
        (&json!(id), &json!("a"), &json!("ok"))
    );
    let text = user.run(&["why", &id]);
    fits(&text.out);
    for part in [
        id.as_str(),
        "went to  m on a",
        "outcome  200 ok",
        "only_candidate",
        "sent to a",
        "done: ok",
    ] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
    user.run(&["why", "0000000000000"])
        .refused(1, "0000000000000", "");
    user.run(&["why", "../status"])
        .refused(2, "../status", "ids look like");
    User::alone("")
        .run(&["why", &id])
        .refused(3, "no router answers", "gpurouter serve");
}
