//! Many clients, most of which leave at random moments, in front of nodes that delay, refuse, hang, cut and talk nonsense: afterwards nothing
//! is in flight, nothing is left of it, and no answer was passed off as complete.

#![allow(
    clippy::print_stderr,
    reason = "measured values go to the test runner's stderr"
)]

mod common;

use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::client::{self, Connection, End, Response};

use common::{LIMIT, Peer, Request, Router, Sim, Stub, eventually, reply};

/// Clients at the same time.
const CLIENTS: u64 = 100;
/// How long they go on.
const CHAOS: Duration = Duration::from_secs(5);
/// Of a hundred requests, so many are given up by their client.
const ABORTS: u64 = 70;
/// Every random choice follows from it.
const SEED: u64 = 0x5eed;
/// The time limits of the router, shorter than any client's patience.
const TIMEOUTS: &str = "[timeouts]\nconnect = \"1s\"\nload = \"2s\"\nidle = \"2s\"\n";
/// What the issue grants: then nothing may be in flight any more.
const SETTLED: Duration = Duration::from_millis(500);

/// `xorshift64*`, so that a seed gives the same choices everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.roll(1);
        dice
    }

    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// A node that does something else with each request, by turns.
fn unruly(request: &Request, peer: &mut Peer) {
    if request.body.is_empty() {
        return reply::healthy(request, peer);
    }
    let streams = request.json()["stream"] == true;
    let tokens: Vec<&str> = vec!["word "; 20];
    let pieces = match request.path() {
        _ if !streams => vec![document(request.path())],
        "/api/chat" => reply::ollama_chat("m:latest", &tokens),
        _ => reply::openai_chat("m:latest", &tokens),
    };
    let number = request.head.len() as u64
        + request.connection * 7919
        + u64::from(request.at.elapsed().subsec_nanos());
    let mut dice = Dice::new(number);
    let pause = Duration::from_millis(dice.roll(10));
    let some = usize::try_from(dice.roll(pieces.len() as u64)).unwrap();
    match dice.roll(12) {
        0 => drop(peer.send(&reply::json(503, &json!({"error": "busy"})))),
        1 => drop(peer.send(&reply::json(500, &json!({"error": "broken"})))),
        2 => drop(peer.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        )),
        3 => peer.close(),
        4 => peer.reset(),
        5 => drop(peer.wait_gone(LIMIT)),
        6 => {
            peer.send_slowly(&pieces[..some], pause);
            peer.wait_gone(LIMIT);
        }
        7 => {
            peer.send_slowly(&pieces[..some], pause);
            peer.close();
        }
        8 => {
            peer.send_slowly(&pieces[..some], pause);
            peer.reset();
        }
        9 => {
            let bytes = pieces.concat();
            peer.send(&bytes[..bytes.len() / 2]);
            peer.close();
        }
        _ => drop(peer.send_slowly(&pieces, pause)),
    }
}

/// A whole answer of either form.
fn document(path: &str) -> Vec<u8> {
    let message = json!({"role": "assistant", "content": "word word"});
    if path == "/api/chat" {
        return reply::json(
            200,
            &json!({"model": "m:latest", "message": message, "done": true, "done_reason": "stop"}),
        );
    }
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    reply::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m:latest", "choices": [choice]}),
    )
}

/// Whether an answer that says it is complete is: a document, an error, or a stream with its last event or an error as its last.
fn honest(path: &str, stream: bool, answer: &Response) -> bool {
    if answer.end != End::Complete {
        return false;
    }
    let last = if !stream || answer.status >= 400 {
        answer.text()
    } else if path == "/api/chat" {
        answer
            .text()
            .trim_end()
            .rsplit('\n')
            .next()
            .unwrap_or("")
            .to_owned()
    } else {
        let events = answer.events();
        let named = |name: &str| {
            events
                .iter()
                .any(|(event, _)| event.as_deref() == Some(name))
        };
        return if path == "/v1/messages" {
            named("message_stop") || named("error")
        } else {
            events.last().is_some_and(|(_, data)| data == "[DONE]")
                && events.iter().any(|(_, data)| {
                    data.contains("\"finish_reason\":\"") || data.contains("\"error\"")
                })
        };
    };
    let Ok(last) = serde_json::from_str::<Value>(&last) else {
        return false;
    };
    last.get("error").is_some()
        || (answer.status == 200 && (path != "/api/chat" || last["done"] == true))
}

/// What the clients saw.
#[derive(Debug, Default)]
struct Tally {
    left: usize,
    whole: usize,
    errors: usize,
    dishonest: Vec<String>,
}

fn one_client(addr: std::net::SocketAddr, number: u64, until: Instant, tally: &Mutex<Tally>) {
    let mut dice = Dice::new(SEED ^ (number << 32));
    while Instant::now() < until {
        let path = ["/api/chat", "/v1/chat/completions", "/v1/messages"]
            [usize::try_from(dice.roll(3)).unwrap()];
        let stream = dice.roll(4) > 0;
        let body = json!({"model": "m", "max_tokens": 20, "stream": stream, "options": {"num_predict": 20},
            "messages": [{"role": "user", "content": format!("hello {number}")}]});
        let request = client::post_bytes(addr, path, &body.to_string());
        let Ok(mut connection) = Connection::open(addr) else {
            tally
                .lock()
                .unwrap()
                .dishonest
                .push("not accepted".to_owned());
            return;
        };
        if dice.roll(100) < ABORTS {
            let sent = if dice.roll(10) == 0 {
                usize::try_from(dice.roll(request.len() as u64)).unwrap()
            } else {
                request.len()
            };
            connection.write(&request[..sent]);
            if dice.roll(2) == 0 {
                let wait = Duration::from_millis(1 + dice.roll(200));
                connection.stream.set_read_timeout(Some(wait)).unwrap();
                let mut some = vec![0; 1 + usize::try_from(dice.roll(2000)).unwrap()];
                drop(connection.stream.read(&mut some));
            } else {
                std::thread::sleep(Duration::from_millis(dice.roll(150)));
            }
            if dice.roll(2) == 0 {
                connection.reset();
            }
            tally.lock().unwrap().left += 1;
        } else {
            let answer = connection.exchange(&request);
            let mut tally = tally.lock().unwrap();
            if !honest(path, stream, &answer) {
                tally.dishonest.push(format!(
                    "{path} stream {stream}: {} {:?} {}",
                    answer.status_line,
                    answer.end,
                    answer.text()
                ));
            } else if answer.status == 200 && !answer.text().contains("\"error\"") {
                tally.whole += 1;
            } else {
                tally.errors += 1;
            }
        }
    }
}

/// The series of a gauge, added up.
fn gauge(router: &Router, name: &str) -> f64 {
    let text = client::get(router.addr, "/metrics").text();
    let series = text.lines().filter(|line| line.starts_with(name));
    series
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// A simulated node with such faults.
fn simulated(seed: &str, faults: &[&str]) -> Sim {
    let mut args = vec![
        "--gpu",
        "RTX 4090",
        "--model",
        "m:latest=1000000",
        "--clock",
        "real",
    ];
    args.extend(["--speed", "20000,400", "--seed", seed]);
    for fault in faults {
        args.extend(["--fault", fault]);
    }
    Sim::start(&args)
}

#[test]
fn after_the_chaos_nothing_is_left_of_it() {
    let stub = Stub::ollama(&["m:latest"], unruly);
    let rough = simulated(
        "1",
        &[
            "cut=3@0.2",
            "status=503@0.1",
            "status=500@0.1",
            "garbage@0.1",
        ],
    );
    let slow = simulated("2", &["delay=100ms@0.3", "cut=2@0.1", "hang=4@0.01"]);
    let nodes = [stub.url(), rough.urls[0].clone(), slow.urls[0].clone()];
    let mut args = vec!["--log-format", "json"];
    for node in &nodes {
        args.extend(["--node", node]);
    }
    let mut router = Router::start(&args, TIMEOUTS);
    router.wait_ready(3);
    assert!(eventually(LIMIT, || gauge(
        &router,
        "gpurouter_connections "
    ) <= 1.0));
    let before = router.resources();

    let tally = Mutex::new(Tally::default());
    let until = Instant::now() + CHAOS;
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tally, addr) = (&tally, router.addr);
            scope.spawn(move || one_client(addr, number, until, tally));
        }
    });
    let over = Instant::now();
    let in_flight = || gauge(&router, "gpurouter_in_flight{") + gauge(&router, "gpurouter_queued{");
    let settled = eventually(SETTLED, || in_flight() == 0.0);
    let took = over.elapsed();
    assert!(
        settled,
        "{} requests are in flight {took:?} after the last client",
        in_flight()
    );

    let tally = tally.into_inner().unwrap();
    eprintln!(
        "{} left, {} whole answers, {} errors; nothing in flight after {took:?}",
        tally.left, tally.whole, tally.errors
    );
    assert!(
        tally.dishonest.is_empty(),
        "{} of the answers: {:#?}",
        tally.dishonest.len(),
        &tally.dishonest[..tally.dishonest.len().min(5)]
    );
    assert!(
        tally.left > 100 && tally.whole > 20 && tally.errors > 20,
        "{tally:?}"
    );
    assert!(router.alive());

    // Idle connections to the nodes are kept: as many as clients were served at the same time, at most.
    let most = before.descriptors + usize::try_from(CLIENTS).unwrap();
    let released = || {
        let now = router.resources();
        now.threads <= before.threads && now.descriptors <= most
    };
    assert!(
        eventually(Duration::from_secs(5), released),
        "before {before:?}, after {:?}",
        router.resources()
    );
    eprintln!("before {before:?}, after {:?}", router.resources());
    let records = router.records();
    assert!(
        records
            .iter()
            .any(|record| record["outcome"] == "client_gone")
    );
    assert!(records.iter().any(|record| record["outcome"] == "cut"));
    assert!(
        !router.stderr().iter().any(|line| line.contains("panicked")),
        "a handler panicked"
    );
}
