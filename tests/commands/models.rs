//! `models`: the table of known models and what the nodes offer.

use serde_json::json;

use super::common::{RefusedPort, Sim};
use super::{User, fits};

/// The table of the source documents: the twelve rows, in their order.
const GOLDEN: &str = include_str!("../golden/models.txt");

#[test]
fn e05_the_known_table_is_the_sources_twelve_rows() {
    let done = User::alone("").run(&["models", "--known"]);
    assert_eq!((done.code, done.out.as_str()), (0, GOLDEN), "{done:?}");
    assert_eq!(GOLDEN.lines().count(), 13);
}

#[test]
fn e25_a_size_of_the_users_own_is_listed_in_its_place() {
    let user = User::alone("[models]\n\"my-custom-model\" = 2500\n\"all-minilm\" = 46\n");
    let done = user.run(&["models", "--known", "--json"]);
    let known = done.json()["known"].clone();
    let row = |at: usize| (&known[at]["name"], &known[at]["mb"], &known[at]["bytes"]);
    assert_eq!(
        row(0),
        (&json!("all-minilm"), &json!(46), &json!(46_u64 << 20))
    );
    assert_eq!(
        row(8),
        (
            &json!("my-custom-model"),
            &json!(2500),
            &json!(2500_u64 << 20)
        )
    );
    assert_eq!(known.as_array().map(Vec::len), Some(13));
}

#[test]
fn nodes_tell_what_they_offer_and_a_dead_one_is_no_error() {
    let (sim, dead) = (
        Sim::start(&["--gpu", "rtx3060", "--clock", "virtual"]),
        RefusedPort::new(),
    );
    let user = User::alone(&format!(
        "[[node]]\nname = \"live\"\nurl = \"{}\"\n[[node]]\nname = \"dead\"\nurl = \"{}\"\n",
        sim.urls[0],
        dead.url()
    ));
    let text = user.run(&["models"]);
    fits(&text.out);
    assert!(text.out.starts_with(GOLDEN.trim_end()), "{text:?}");
    assert!(text.out.contains("live"), "{text:?}");
    let done = user.run(&["models", "--json"]);
    super::schemas::holds("models", &done.json());
    let nodes = &done.json()["nodes"];
    assert!(nodes[0]["models"][0]["size_bytes"].is_u64(), "{nodes}");
    assert_eq!(nodes[1]["models"], json!([]));
}
