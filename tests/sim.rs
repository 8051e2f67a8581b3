//! Simulated nodes seen from a socket, and the `sim` command.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gpurouter::sim::{Clock, Fault, Fleet, Gpu, NodeSpec, Outcome, Speed};
use serde_json::{Value, json};

const CHAT: &str = "qwen2.5-coder:1.5b";
const OTHER: &str = "qwen2.5-coder:7b";
const EMBED: &str = "mxbai-embed-large";
/// Longer than any step takes on the slowest machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn spec(gpu: &str) -> NodeSpec {
    NodeSpec::new("sim-1", Gpu::find(gpu).unwrap())
}

fn fleet(spec: NodeSpec, clock: Clock) -> Fleet {
    Fleet::start(vec![spec], clock, 7).unwrap()
}

fn quick() -> Fleet {
    fleet(spec("rtx3060"), Clock::virtual_time())
}

/// A node that takes hours for every token.
fn slow() -> Fleet {
    let mut spec = spec("rtx3060");
    spec.hardware.load_time = Some(Duration::ZERO);
    spec.hardware.speed = Some(Speed {
        prefill: 1e-4,
        decode: 1e-4,
    });
    fleet(spec, Clock::real())
}

fn faulty(fault: &str) -> Fleet {
    let mut spec = spec("rtx3060");
    spec.faults = vec![fault.parse::<Fault>().unwrap()];
    spec.answer_tokens = Some(30);
    fleet(spec, Clock::virtual_time())
}

fn address(fleet: &Fleet) -> SocketAddr {
    fleet.node(0).address()
}

/// Sends a request as a client that keeps its connection for the next one.
fn send(to: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

struct Reply {
    status: u16,
    head: String,
    raw: Vec<u8>,
    /// The body without its framing.
    body: Vec<u8>,
    pieces: usize,
    complete: bool,
}

impl Reply {
    fn parse(raw: Vec<u8>) -> Self {
        let end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        let lower = head.to_ascii_lowercase();
        let mut rest = &raw[end..];
        let (mut body, mut pieces, mut complete) = (Vec::new(), 0, false);
        if lower.contains("transfer-encoding: chunked") {
            while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
                let size = std::str::from_utf8(&rest[..line]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                if size == 0 {
                    complete = &rest[line..] == b"\r\n\r\n";
                    break;
                }
                body.extend(&rest[line + 2..line + 2 + size]);
                rest = &rest[line + 2 + size + 2..];
                pieces += 1;
            }
        } else {
            let length: usize = lower
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap()
                .parse()
                .unwrap();
            body.extend(rest);
            complete = body.len() == length;
        }
        Self {
            status,
            head,
            raw,
            body,
            pieces,
            complete,
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    let reply = Reply::parse(read_all(&mut send(to, method, path, body)));
    assert!(
        reply.head.contains("\r\nConnection: close\r\n"),
        "{}",
        reply.head
    );
    reply
}

fn post(fleet: &Fleet, path: &str, body: &Value) -> Reply {
    ask(address(fleet), "POST", path, &body.to_string())
}

fn chat(prompt: &str) -> Value {
    json!({ "model": CHAT, "messages": [{ "role": "user", "content": prompt }] })
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn last_outcome(fleet: &Fleet) -> Option<Outcome> {
    fleet.node(0).journal().last().and_then(|r| r.outcome)
}

#[test]
fn a_chat_streams_by_default_and_its_last_line_counts() {
    let fleet = quick();
    let mut body = chat("hello");
    body["options"] = json!({ "num_predict": 6 });
    let reply = post(&fleet, "/api/chat", &body);
    assert_eq!(reply.status, 200);
    assert!(
        reply
            .head
            .contains("Content-Type: application/x-ndjson\r\n")
    );
    assert!(reply.complete);
    let lines = reply.lines();
    assert_eq!(lines.len(), 7);
    assert_eq!(reply.pieces, 7);
    let text: String = lines
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap())
        .collect();
    assert!(text.starts_with("[simulated by sim-1]"), "{text}");
    let (last, tokens) = lines.split_last().unwrap();
    assert!(tokens.iter().all(|line| line["done"] == json!(false)));
    assert_eq!(last["done_reason"], "length");
    assert_eq!(last["eval_count"], 6);
    // Six tokens at 0.7 x 360 GB/s / 986 MB.
    let per_token = last["eval_duration"].as_f64().unwrap() / 6.0;
    assert!((3.9e6..3.93e6).contains(&per_token), "{per_token}");
    let sum: u64 = ["load_duration", "prompt_eval_duration", "eval_duration"]
        .iter()
        .map(|part| last[*part].as_u64().unwrap())
        .sum();
    assert_eq!(last["total_duration"].as_u64(), Some(sum));
    let journal = fleet.node(0).journal();
    assert_eq!(journal.len(), 1);
    assert_eq!(journal[0].path, "/api/chat");
    assert_eq!(journal[0].model.as_deref(), Some(CHAT));
    assert_eq!(journal[0].headers[0].0, "Host");
    assert_eq!(journal[0].outcome, Some(Outcome::Done));
    assert_eq!(journal[0].response_bytes, reply.raw.len() as u64);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let fleet = Fleet::start(vec![spec("rtx3060")], Clock::virtual_time(), seed).unwrap();
        post(&fleet, "/api/chat", &chat("hello")).raw
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_cut_stream_has_no_end_although_the_client_stays() {
    let fleet = faulty("cut=5");
    let reply = post(&fleet, "/api/chat", &chat("hello"));
    assert_eq!((reply.status, reply.pieces), (200, 5));
    assert!(!reply.complete);
    assert_eq!(last_outcome(&fleet), Some(Outcome::Faulted));
    let mut whole = chat("hello");
    whole["stream"] = json!(false);
    assert!(!post(&fleet, "/api/chat", &whole).complete);
}

#[test]
fn a_cut_after_nothing_closes_without_an_answer() {
    let fleet = faulty("cut=0");
    let body = chat("hello").to_string();
    let mut stream = send(address(&fleet), "POST", "/api/chat", &body);
    assert!(read_all(&mut stream).is_empty());
    assert_eq!(ask(address(&fleet), "GET", "/api/tags", "").status, 200);
}

#[test]
fn a_hanging_node_is_silent_until_the_client_leaves() {
    for (fault, pieces) in [("hang", 0), ("hang=2", 2)] {
        let fleet = faulty(fault);
        let body = chat("hello").to_string();
        let mut stream = send(address(&fleet), "POST", "/api/chat", &body);
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut received = Vec::new();
        let error = stream.read_to_end(&mut received).unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
        if pieces == 0 {
            assert!(received.is_empty());
        } else {
            assert_eq!(Reply::parse(received).pieces, pieces);
        }
        assert_eq!(fleet.node(0).active(), 1);
        drop(stream);
        eventually("the hang ends", || fleet.node(0).active() == 0);
    }
}

#[test]
fn garbage_is_framed_but_no_document() {
    let fleet = faulty("garbage");
    let reply = post(&fleet, "/api/chat", &chat("hello"));
    assert_eq!(reply.status, 200);
    assert!(reply.complete && !reply.body.is_empty());
    assert!(serde_json::from_slice::<Value>(&reply.body[..40]).is_err());
    assert!(String::from_utf8(reply.body).is_err());
}

#[test]
fn a_status_fault_is_an_error_in_the_dialect_of_the_path() {
    let fleet = faulty("status=503");
    let native = post(&fleet, "/api/chat", &chat("hello"));
    assert_eq!(native.status, 503);
    assert!(native.json()["error"].is_string());
    let openai = post(&fleet, "/v1/chat/completions", &chat("hello"));
    assert_eq!(openai.status, 503);
    assert_eq!(openai.json()["error"]["type"], "api_error");
    assert_eq!(ask(address(&fleet), "GET", "/api/ps", "").status, 200);
}

#[test]
fn a_delay_moves_the_clock() {
    let fleet = faulty("delay=90s");
    let reply = post(&fleet, "/api/chat", &chat("hello"));
    let total = reply.lines().last().unwrap()["total_duration"].as_u64();
    assert!(total.unwrap() > 90_000_000_000);
    assert!(fleet.clock().now() > Duration::from_secs(90));
}

#[test]
fn faults_with_a_probability_follow_the_seed() {
    let statuses = || -> Vec<u16> {
        let fleet = faulty("status=500@0.5");
        (0..12)
            .map(|i| post(&fleet, "/api/chat", &chat(&i.to_string())).status)
            .collect()
    };
    let first = statuses();
    assert_eq!(first, statuses());
    assert!(first.contains(&200) && first.contains(&500), "{first:?}");
}

#[test]
fn errors_are_those_of_the_recorded_ollama() {
    let fleet = quick();
    let to = address(&fleet);
    for (method, path, body, status, answer) in [
        ("GET", "/", "", 200, "Ollama is running"),
        ("GET", "/nope", "", 404, "404 page not found"),
        ("GET", "/api/chat", "", 405, "405 method not allowed"),
        (
            "POST",
            "/api/chat",
            "",
            400,
            r#"{"error":"missing request body"}"#,
        ),
        (
            "POST",
            "/api/chat",
            r#"{"model": "tiny", "messages": ["#,
            400,
            r#"{"error":"unexpected EOF"}"#,
        ),
        (
            "POST",
            "/api/chat",
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
            400,
            r#"{"error":"model is required"}"#,
        ),
        (
            "POST",
            "/api/chat",
            r#"{"model":"nope","messages":[]}"#,
            404,
            r#"{"error":"model 'nope' not found"}"#,
        ),
        (
            "POST",
            "/api/show",
            r#"{"model":"nope"}"#,
            404,
            r#"{"error":"model 'nope:latest' not found"}"#,
        ),
        (
            "DELETE",
            "/api/delete",
            r#"{"model":"nope"}"#,
            404,
            r#"{"error":"model 'nope' not found"}"#,
        ),
        (
            "POST",
            "/api/embed",
            r#"{"model":"qwen2.5-coder:7b","input":"x"}"#,
            501,
            r#"{"error":"This server does not support embeddings. Start it with `--embeddings`"}"#,
        ),
        (
            "POST",
            "/v1/chat/completions",
            r#"{"model":"nope","messages":[{"role":"user","content":"x"}]}"#,
            404,
            r#"{"error":{"message":"model 'nope' not found","type":"not_found_error","param":null,"code":null}}"#,
        ),
        (
            "POST",
            "/api/chat",
            r#"{"model":"qwen2.5-coder:7b","messages":[{"role":"user","content":"x"}],"think":true}"#,
            400,
            r#"{"error":"\"qwen2.5-coder:7b\" does not support thinking"}"#,
        ),
        (
            "POST",
            "/api/generate",
            r#"{"model":"mxbai-embed-large","prompt":"x"}"#,
            400,
            r#"{"error":"\"mxbai-embed-large\" does not support generate"}"#,
        ),
    ] {
        let reply = ask(to, method, path, body);
        let got = String::from_utf8_lossy(&reply.body);
        assert_eq!((reply.status, got.as_ref()), (status, answer), "{path}");
        assert!(reply.complete);
    }
    let tools = json!({ "model": "plain", "messages": [], "tools": [{}] });
    let mut spec = spec("rtx3060");
    spec.models = vec![gpurouter::sim::Model::named("plain", Some(1 << 30))];
    let plain = self::fleet(spec, Clock::virtual_time());
    assert_eq!(
        post(&plain, "/api/chat", &tools).json()["error"],
        "registry.ollama.ai/library/plain:latest does not support tools"
    );
}

#[test]
fn loading_and_unloading_show_in_ps() {
    let fleet = quick();
    let to = address(&fleet);
    let ps = || ask(to, "GET", "/api/ps", "").json()["models"].clone();
    assert_eq!(ps(), json!([]));
    let load = post(
        &fleet,
        "/api/chat",
        &json!({ "model": CHAT, "messages": [] }),
    );
    assert_eq!(load.json()["done_reason"], "load");
    assert!(fleet.clock().now() > Duration::from_millis(500));
    assert_eq!(ps()[0]["name"], CHAT);
    assert_eq!(ps()[0]["size"], ps()[0]["size_vram"]);
    assert_eq!(ps()[0]["context_length"], 4096);
    let mut other = chat("hello");
    other["options"] = json!({ "num_ctx": 8192 });
    let reloaded = post(&fleet, "/api/chat", &other);
    let loaded = reloaded.lines().last().unwrap()["load_duration"].as_u64();
    assert!(loaded.unwrap() > 500_000_000);
    assert_eq!(ps()[0]["context_length"], 8192);
    fleet.clock().advance(Duration::from_secs(299));
    assert_eq!(ps().as_array().unwrap().len(), 1);
    fleet.clock().advance(Duration::from_secs(2));
    assert_eq!(ps(), json!([]));
    post(&fleet, "/api/generate", &json!({ "model": CHAT }));
    let unload = json!({ "model": CHAT, "keep_alive": 0 });
    assert_eq!(
        post(&fleet, "/api/generate", &unload).json()["done_reason"],
        "unload"
    );
    assert_eq!(ps(), json!([]));
}

#[test]
fn a_model_may_stay_longer_than_dates_can_say() {
    let fleet = quick();
    let load = |keep_alive: Value| {
        let body = json!({ "model": CHAT, "keep_alive": keep_alive });
        assert_eq!(post(&fleet, "/api/generate", &body).status, 200);
        ask(address(&fleet), "GET", "/api/ps", "").json()["models"][0]["expires_at"].clone()
    };
    assert!(
        load(json!(1e15))
            .as_str()
            .unwrap()
            .starts_with("9999-12-31T")
    );
    assert!(load(json!(-1)).as_str().unwrap().starts_with("2317-"));
}

#[test]
fn a_model_that_does_not_fit_is_partly_on_the_cpu() {
    let fleet = fleet(spec("gtx1050ti"), Clock::virtual_time());
    let load = json!({ "model": OTHER, "messages": [] });
    post(&fleet, "/api/chat", &load);
    let ps = ask(address(&fleet), "GET", "/api/ps", "").json();
    let (size, vram) = (&ps["models"][0]["size"], &ps["models"][0]["size_vram"]);
    assert_eq!(vram.as_u64(), Some(4 << 30));
    assert!(size.as_u64() > vram.as_u64());
}

#[test]
fn long_prompts_are_cut_silently_or_refused_on_demand() {
    let fleet = quick();
    let prompt = "word ".repeat(9000);
    let mut body = chat(&prompt);
    body["options"] = json!({ "num_ctx": 2048, "num_predict": 1 });
    let reply = post(&fleet, "/api/chat", &body);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.lines().last().unwrap()["prompt_eval_count"], 1026);
    let refused = post(
        &fleet,
        "/api/generate",
        &json!({ "model": CHAT, "prompt": prompt, "truncate": false, "stream": false }),
    );
    assert_eq!(refused.status, 400);
    let inner = refused.json()["error"].as_str().unwrap().to_owned();
    let inner: Value = serde_json::from_str(&inner).unwrap();
    assert_eq!(inner["error"]["type"], "exceed_context_size_error");
}

#[test]
fn other_dialects_end_as_ollama_ends_them() {
    let fleet = quick();
    let mut body = chat("hello");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(4);
    body["stream_options"] = json!({ "include_usage": true });
    let openai = post(&fleet, "/v1/chat/completions", &body);
    let text = String::from_utf8(openai.body.clone()).unwrap();
    assert!(openai.complete && text.ends_with("}}\n\ndata: [DONE]\n\n"));
    assert!(text.contains(r#""finish_reason":"length""#));
    assert!(text.contains(r#""choices":[],"usage":{"#));
    let anthropic = post(&fleet, "/v1/messages", &body);
    let text = String::from_utf8(anthropic.body.clone()).unwrap();
    assert!(text.starts_with("event: message_start\ndata: {"));
    assert!(text.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    assert!(text.contains(r#""stop_reason":"max_tokens""#));
    body["stream"] = json!(false);
    let whole = post(&fleet, "/v1/chat/completions", &body).json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["usage"]["completion_tokens"], 4);
    let whole = post(&fleet, "/v1/messages", &body).json();
    assert_eq!(whole["content"][0]["type"], "text");
    let completion = json!({ "model": CHAT, "prompt": "x", "max_tokens": 3 });
    let whole = post(&fleet, "/v1/completions", &completion).json();
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    let vectors = json!({ "model": EMBED, "input": ["a", "b"] });
    let list = post(&fleet, "/v1/embeddings", &vectors).json();
    assert_eq!(list["data"][1]["embedding"].as_array().unwrap().len(), 1024);
    let native = post(&fleet, "/api/embed", &vectors).json();
    assert_eq!(native["embeddings"][1], list["data"][1]["embedding"]);
}

#[test]
fn models_come_and_go() {
    let fleet = quick();
    let to = address(&fleet);
    let names = || -> Vec<String> {
        ask(to, "GET", "/api/tags", "").json()["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let copy = json!({ "source": CHAT, "destination": "mine" });
    assert_eq!(post(&fleet, "/api/copy", &copy).status, 200);
    assert!(names().contains(&"mine:latest".to_owned()));
    let gone = ask(to, "DELETE", "/api/delete", r#"{"model":"mine"}"#);
    assert_eq!((gone.status, gone.body.len()), (200, 0));
    assert!(!names().contains(&"mine:latest".to_owned()));
    let pulled = post(&fleet, "/api/pull", &json!({ "model": "llama3.2:1b" }));
    let lines = pulled.lines();
    assert_eq!(lines[0]["status"], "pulling manifest");
    assert!(lines.iter().any(|line| line["completed"].is_u64()));
    assert_eq!(lines.last().unwrap()["status"], "success");
    assert!(names().contains(&"llama3.2:1b".to_owned()));
    let unknown = post(&fleet, "/api/pull", &json!({ "model": "no-such" }));
    assert_eq!(unknown.status, 200);
    assert!(unknown.lines().last().unwrap()["error"].is_string());
    let blob = "/api/blobs/sha256:00";
    assert_eq!(ask(to, "POST", blob, "GGUF").status, 201);
    let create = json!({ "model": "made", "files": { "a.gguf": "sha256:00" } });
    let made = post(&fleet, "/api/create", &create);
    assert_eq!(made.lines().last().unwrap()["status"], "success");
    let shown = post(&fleet, "/api/show", &json!({ "name": "made" })).json();
    assert_eq!(shown["capabilities"], json!(["completion"]));
    assert!(shown["model_info"]["llama.context_length"].is_u64());
}

#[test]
fn a_client_that_leaves_during_prefill_is_noticed() {
    let fleet = slow();
    let body = chat("hello").to_string();
    let stream = send(address(&fleet), "POST", "/api/chat", &body);
    eventually("the request came", || fleet.node(0).active() == 1);
    drop(stream);
    eventually("it was given up", || {
        last_outcome(&fleet) == Some(Outcome::Aborted)
    });
    eventually("nothing is left", || {
        fleet.node(0).active() == 0 && fleet.node(0).connections() == 0
    });
}

#[test]
fn beyond_the_queue_it_is_busy() {
    let mut spec = slow().node(0).spec().clone();
    spec.hardware.max_queue = 1;
    let fleet = fleet(spec, Clock::real());
    let body = chat("hello").to_string();
    let _working = send(address(&fleet), "POST", "/api/chat", &body);
    eventually("the first one works", || {
        !ask(address(&fleet), "GET", "/api/ps", "").json()["models"]
            .as_array()
            .unwrap()
            .is_empty()
    });
    let waiting = send(address(&fleet), "POST", "/api/chat", &body);
    eventually("the second one waits", || fleet.node(0).queued() == 1);
    let refused = post(&fleet, "/api/chat", &chat("hello"));
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.json()["error"],
        "server busy, please try again.  maximum pending requests exceeded"
    );
    drop(waiting);
    eventually("its place is free", || fleet.node(0).queued() == 0);
}

#[test]
fn a_killed_node_breaks_its_streams_and_can_come_back() {
    let fleet = slow();
    let to = address(&fleet);
    let load = json!({ "model": CHAT, "messages": [] });
    post(&fleet, "/api/chat", &load);
    let mut stream = send(to, "POST", "/api/chat", &chat("hello").to_string());
    eventually("the request came", || fleet.node(0).active() == 1);
    fleet.kill(0);
    let mut received = Vec::new();
    // Closed or reset, as the kernel does for a process that died.
    let _ended = stream.read_to_end(&mut received);
    assert!(received.is_empty());
    assert!(TcpStream::connect(to).is_err());
    eventually("nobody works", || fleet.node(0).active() == 0);
    fleet.revive(0).unwrap();
    assert_eq!(address(&fleet), to);
    assert_eq!(
        ask(to, "GET", "/api/ps", "").json(),
        json!({ "models": [] })
    );
}

#[test]
fn a_dropped_fleet_is_gone() {
    let fleet = slow();
    let to = address(&fleet);
    let mut stream = send(to, "POST", "/api/chat", &chat("hello").to_string());
    eventually("the request came", || fleet.node(0).active() == 1);
    drop(fleet);
    let _ended = stream.read_to_end(&mut Vec::new());
    assert!(TcpStream::connect(to).is_err());
}

#[test]
fn hostile_heads_do_not_stop_the_node() {
    let fleet = quick();
    let to = address(&fleet);
    for request in [
        "POST /nope HTTP/1.1\r\nContent-Length: 200000000000\r\n\r\n",
        "POST /api/chat HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
        "POST /api/chat HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let _closed = stream.read_to_end(&mut Vec::new());
    }
    // One that stops in the middle of its body.
    let mut stream = TcpStream::connect(to).unwrap();
    stream
        .write_all(b"POST /api/chat HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{")
        .unwrap();
    drop(stream);
    assert_eq!(ask(to, "GET", "/api/version", "").status, 200);
    eventually("all are closed", || fleet.node(0).connections() == 0);
}

#[test]
fn a_burst_is_answered_to_the_last() {
    let fleet = quick();
    let to = address(&fleet);
    let body = chat("hello").to_string();
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let body = body.clone();
            thread::spawn(move || ask(to, "POST", "/api/chat", &body).complete)
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap()));
    assert_eq!(fleet.node(0).journal().len(), 64);
}

struct Running {
    child: Child,
    first: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gpurouter"))
            .arg("sim")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut first)
            .unwrap();
        Self { child, first }
    }

    fn end(mut self, signal: rustix::process::Signal) -> Output {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        Output {
            status: self.child.wait().unwrap(),
            stdout: self.first.clone().into_bytes(),
            stderr: stderr.into_bytes(),
        }
    }
}

fn refused(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_gpurouter"))
        .arg("sim")
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_command_prints_its_nodes_answers_and_ends_on_a_signal() {
    let running = Running::start(&["--listen", "127.0.0.1:0", "--gpu", "rtx3060"]);
    let mut words = running.first.split_whitespace();
    assert_eq!(words.next(), Some("sim-1"));
    let url = words.next().unwrap();
    let to: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    assert!(running.first.contains("RTX 3060 12 GiB  models: qwen2.5"));
    assert_eq!(
        ask(to, "GET", "/api/version", "").json()["version"],
        "0.32.15"
    );
    let output = running.end(rustix::process::Signal::TERM);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("simulated"));
}

#[test]
fn the_command_prints_one_json_document() {
    let running = Running::start(&[
        "--json",
        "--gpu=rtx4090",
        "--gpu=cpu",
        "--model=mine=1.5GiB",
        "--clock=virtual",
        "--speed=1000,50",
        "--fault=delay=2s@0.5",
    ]);
    let document: Value = serde_json::from_str(&running.first).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["nodes"][0]["gpu"], "RTX 4090");
    assert_eq!(document["nodes"][0]["vram_bytes"], 24_u64 << 30);
    assert_eq!(document["nodes"][0]["models"], json!(["mine:latest"]));
    assert_eq!(document["nodes"][1]["vram_bytes"], 0);
    let output = running.end(rustix::process::Signal::INT);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_command_refuses_what_it_cannot_do() {
    assert!(refused(&["--listen", "0.0.0.0:0"]).contains("not a loopback address"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let told = refused(&["--listen", &address]);
    assert!(told.contains(&address) && told.contains("hint:"), "{told}");
    assert!(refused(&["--gpu", "voodoo2"]).contains("voodoo2"));
    assert!(refused(&["--fault", "flood"]).contains("unknown fault"));
}
