//! Looks at scripted servers that replay recorded answers of real ones (`tests/data/backend/`), and at servers that misbehave.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gpurouter::backend::{Monitor, Outcome, Prober, Rediscovery, discover_at};
use gpurouter::cluster::{Capability, ModelName, Native, Node, NodeKind, NodeState, Role};
use gpurouter::config::NodeConfig;

/// What a scripted server does with a request.
#[derive(Clone)]
enum Act {
    Send(Vec<u8>),
    /// Reads the request and says nothing.
    Hang,
    /// A head, then a byte now and then.
    Drip,
    /// A JSON string without end.
    Endless,
}

type Script = HashMap<String, Act>;

/// A server on a free loopback port that answers by `METHOD /path` and remembers what it was asked.
struct Server {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<(String, usize)>>>,
}

fn recorded(name: &str) -> Act {
    let path = format!(
        "{}/tests/data/backend/{name}.http",
        env!("CARGO_MANIFEST_DIR")
    );
    Act::Send(std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
}

fn answer(status: u16, body: &str) -> Act {
    let length = body.len();
    Act::Send(
        format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes(),
    )
}

fn script(routes: &[(&str, Act)]) -> Script {
    routes
        .iter()
        .map(|(route, act)| ((*route).to_owned(), act.clone()))
        .collect()
}

impl Server {
    fn new(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = Self {
            address: listener.local_addr().expect("bound"),
            script: Arc::new(Mutex::new(script)),
            asked: Arc::default(),
        };
        let (script, asked) = (Arc::clone(&server.script), Arc::clone(&server.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                thread::spawn(move || serve(stream, &script, &asked));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn config(&self) -> NodeConfig {
        config("n", &self.url())
    }

    fn set(&self, route: &str, act: Act) {
        self.script.lock().unwrap().insert(route.to_owned(), act);
    }

    fn become_script(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    fn asked(&self, route: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(line, _)| line == route).count()
    }
}

fn serve(mut stream: TcpStream, script: &Mutex<Script>, asked: &Mutex<Vec<(String, usize)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let route = format!("{} {}", words.next().unwrap(), words.next().unwrap());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    asked.lock().unwrap().push((route.clone(), length));
    let act = {
        let script = script.lock().unwrap();
        let missing = script.get("*").cloned();
        script.get(&route).cloned().or(missing)
    };
    let ok = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\"";
    match act {
        None => drop(stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )),
        Some(Act::Send(bytes)) => drop(stream.write_all(&bytes)),
        Some(Act::Hang) => drop(reader.read(&mut [0])),
        Some(Act::Drip) => {
            let mut sent = stream.write_all(ok);
            while sent.is_ok() {
                thread::sleep(Duration::from_millis(50));
                sent = stream.write_all(b"x");
            }
        }
        Some(Act::Endless) => {
            let mut sent = stream.write_all(ok);
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 8192]);
            }
        }
    }
}

fn config(name: &str, url: &str) -> NodeConfig {
    NodeConfig {
        name: name.to_owned(),
        url: url.to_owned(),
        kind: None,
        role: Role::Any,
        gpu: None,
        vram_bytes: None,
    }
}

/// An address at which nobody listens.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

fn first_look(server: &Server) -> Node {
    let config = server.config();
    Prober::new().probe(&config, &Node::unseen(&config.name, &config.url))
}

fn look_again(server: &Server, before: &Node) -> Node {
    Prober::with_limit(Duration::from_secs(1)).probe(&server.config(), before)
}

fn cause(node: &Node) -> &str {
    node.cause.as_deref().unwrap_or_default()
}

fn ollama() -> Script {
    let bad = answer(400, r#"{"error":{"message":"EOF"}}"#);
    script(&[
        ("GET /api/version", recorded("ollama-version")),
        ("GET /api/tags", recorded("ollama-tags")),
        ("GET /api/ps", recorded("ollama-ps_partial")),
        ("POST /api/show", recorded("ollama-show")),
        ("POST /v1/responses", bad.clone()),
        ("POST /v1/messages", bad),
        ("*", recorded("ollama-err_404")),
    ])
}

fn llama() -> Script {
    script(&[
        ("GET /health", recorded("llama-health")),
        ("GET /v1/models", recorded("llama-v1_models")),
        ("GET /props", recorded("llama-props")),
        ("GET /slots", recorded("llama-slots")),
        ("GET /metrics", recorded("llama-metrics")),
        ("POST /v1/embeddings", recorded("llama-embedding-501")),
        ("POST /v1/responses", recorded("llama-parse-400")),
        ("POST /v1/messages", recorded("llama-parse-400")),
        (
            "POST /v1/messages/count_tokens",
            recorded("llama-parse-400"),
        ),
        ("*", recorded("llama-err_404")),
    ])
}

fn vllm() -> Script {
    let list = r#"{"object":"list","data":[{"id":"Qwen/Qwen3-8B","object":"model","owned_by":"vllm","max_model_len":16384}]}"#;
    let metrics = "vllm:num_requests_running{engine=\"0\"} 3.0\nvllm:num_requests_waiting{engine=\"0\"} 2.0\n";
    script(&[
        ("GET /v1/models", answer(200, list)),
        ("GET /version", answer(200, r#"{"version":"0.11.0"}"#)),
        ("GET /metrics", answer(200, metrics)),
        ("POST /v1/responses", answer(422, "{}")),
        ("*", answer(404, r#"{"detail":"Not Found"}"#)),
    ])
}

fn lm_studio() -> Script {
    let list = r#"{"data":[{"id":"gemma","object":"model","owned_by":"organization_owner"},{"id":"nomic","object":"model","owned_by":"organization_owner"}]}"#;
    let own = r#"{"data":[{"id":"gemma","type":"vlm","state":"loaded","max_context_length":131072,"loaded_context_length":4096,"capabilities":["tool_use"]},{"id":"nomic","type":"embeddings","state":"not-loaded","max_context_length":2048}]}"#;
    script(&[
        ("GET /v1/models", answer(200, list)),
        ("GET /api/v0/models", answer(200, own)),
        (
            "*",
            answer(200, r#"{"error":"Unexpected endpoint or method."}"#),
        ),
    ])
}

#[test]
fn an_ollama_is_recognised_and_read() {
    let node = first_look(&Server::new(ollama()));
    assert_eq!(node.kind, Some(NodeKind::Ollama));
    assert_eq!(node.state, NodeState::Up, "{:?}", node.cause);
    assert_eq!(node.version.as_deref(), Some("0.32.15"));
    let native = Native {
        ollama: true,
        responses: true,
        messages: true,
        count_tokens: false,
    };
    assert_eq!(node.native, native);
    let model = node.model(&ModelName::new("TINY")).expect("listed");
    assert_eq!(model.id, "tiny:latest");
    assert_eq!(model.size_bytes, Some(1_940_006));
    assert_eq!(model.context, Some(8192));
    assert_eq!(model.capabilities, [Capability::Completion]);
    assert!(model.digest.as_deref().unwrap().starts_with("a3373af3"));
    let listing = model.listing.as_deref().unwrap();
    assert!(listing.starts_with(r#"{"name":"tiny:latest","model""#) && listing.ends_with('}'));
    let loaded = node.loaded(&ModelName::new("mid-llama")).expect("loaded");
    assert_eq!(loaded.size_bytes, Some(92_652_173));
    assert_eq!(loaded.vram_bytes, Some(43_694_161));
    assert_eq!(loaded.gpu_percent(), Some(47));
    assert_eq!(loaded.context, Some(2048));
    assert!(loaded.expires_at.is_some());
}

#[test]
fn sizes_of_zero_are_unknown_and_no_vram_of_a_known_size_is_an_answer() {
    let server = Server::new(ollama());
    server.set("GET /api/ps", recorded("ollama-ps_loaded"));
    let node = first_look(&server);
    assert_eq!(node.loaded[0].size_bytes, None);
    assert_eq!(node.loaded[0].vram_bytes, None);
    server.set(
        "GET /api/ps",
        answer(200, r#"{"models":[{"name":"a","size":9,"size_vram":0}]}"#),
    );
    let node = look_again(&server, &node);
    assert_eq!(node.loaded[0].gpu_percent(), Some(0));
}

#[test]
fn an_older_ollama_has_no_capabilities_and_its_context_is_asked_once() {
    let server = Server::new(ollama());
    server.set(
        "GET /api/tags",
        answer(
            200,
            r#"{"models":[{"name":"tiny:latest","digest":"d1","size":1}]}"#,
        ),
    );
    let prober = Prober::new();
    let config = server.config();
    let node = prober.probe(&config, &Node::unseen("n", server.url()));
    let model = &node.models[0];
    assert!(model.capabilities.is_empty());
    assert_eq!(model.context, None);
    assert_eq!(prober.trained_context(&node, model), Ok(Some(8192)));
    assert_eq!(prober.trained_context(&node, model), Ok(Some(8192)));
    assert_eq!(server.asked("POST /api/show"), 1);
    let shown = prober.show(&node, model).expect("shown");
    assert!(shown.body.starts_with(r#"{"modelfile""#));
    let node = prober.probe(&config, &node);
    assert_eq!(node.models[0].context, Some(8192), "known from then on");
    server.set("POST /api/show", answer(404, "{}"));
    assert!(prober.show(&node, model).is_err());
}

#[test]
fn a_failing_list_keeps_the_catalogue_while_the_version_answers() {
    let server = Server::new(ollama());
    let node = first_look(&server);
    for act in [answer(500, "{}"), Act::Hang, answer(200, "<html>")] {
        server.set("GET /api/tags", act);
        let again = look_again(&server, &node);
        assert_eq!(again.state, NodeState::Up);
        assert_eq!(again.models, node.models);
        assert!(cause(&again).contains("/api/tags") || cause(&again).contains("1.0 s"));
    }
    server.set("GET /api/ps", answer(500, "{}"));
    assert_eq!(look_again(&server, &node).loaded, node.loaded);
}

#[test]
fn a_llama_server_is_recognised_and_read() {
    let server = Server::new(llama());
    let node = first_look(&server);
    assert_eq!(node.kind, Some(NodeKind::LlamaServer));
    assert_eq!(node.state, NodeState::Up, "{:?}", node.cause);
    assert_eq!(node.version.as_deref(), Some("b11669-Debian"));
    assert_eq!(
        (node.slots, node.running, node.waiting),
        (Some(2), Some(0), Some(0))
    );
    let native = Native {
        ollama: false,
        responses: true,
        messages: true,
        count_tokens: true,
    };
    assert_eq!(node.native, native);
    let model = node.model(&ModelName::new("tiny")).expect("listed");
    assert_eq!(model.context, Some(2048));
    assert_eq!(
        model.capabilities,
        [Capability::Completion, Capability::Tools]
    );
    let loaded = node.loaded(&ModelName::new("tiny")).expect("loaded");
    assert_eq!((loaded.vram_bytes, loaded.gpu_percent()), (None, None));
    server.set(
        "GET /props?model=tiny&autoload=false",
        recorded("llama-props"),
    );
    let props = Prober::new().llama_props(&node, model).expect("props");
    assert_eq!((props.context, props.slots), (Some(2048), Some(2)));
    assert!(props.chat_template.unwrap().contains("im_start"));
}

#[test]
fn all_slots_taken_is_busy() {
    let server = Server::new(llama());
    server.set("GET /slots", recorded("llama-busy-slots"));
    server.set("GET /metrics", recorded("llama-busy-metrics"));
    let node = first_look(&server);
    assert_eq!(node.state, NodeState::Busy);
    assert_eq!((node.slots, node.running), (Some(1), Some(1)));
    assert_eq!(cause(&node), "all 1 slots are taken");
}

#[test]
fn a_server_without_slots_route_is_read_from_its_metrics() {
    let server = Server::new(llama());
    server.set("GET /slots", answer(501, "{}"));
    server.set("GET /metrics", recorded("llama-busy-metrics"));
    let node = first_look(&server);
    assert_eq!((node.slots, node.running), (Some(2), Some(1)));
    assert_eq!(node.state, NodeState::Up);
}

#[test]
fn a_loading_server_comes_up() {
    let server = Server::new(script(&[("*", recorded("llama-loading"))]));
    let node = first_look(&server);
    assert_eq!(node.state, NodeState::Loading);
    assert_eq!(node.kind, Some(NodeKind::LlamaServer));
    assert!(node.loaded.is_empty());
    server.become_script(llama());
    let node = look_again(&server, &node);
    assert_eq!(node.state, NodeState::Up);
    assert_eq!(node.cause, None);
    assert!(node.native.count_tokens, "asked when it came up");
    server.become_script(script(&[("*", recorded("llama-loading"))]));
    let node = look_again(&server, &node);
    assert_eq!(node.state, NodeState::Loading);
    assert_eq!((node.models.len(), node.loaded.len()), (1, 0));
}

#[test]
fn a_server_that_wants_a_key_is_misconfigured() {
    let server = Server::new(script(&[
        ("GET /health", recorded("llama-key-health")),
        ("*", recorded("llama-key-v1_models")),
    ]));
    let node = first_look(&server);
    assert_eq!(node.state, NodeState::Misconfigured);
    assert_eq!(
        cause(&node),
        "GET /v1/models answered 401: the node needs an API key"
    );
    let server = Server::new(script(&[("*", answer(401, "{}"))]));
    let node = first_look(&server);
    assert_eq!(node.state, NodeState::Misconfigured);
    assert!(cause(&node).contains("API key"));
}

#[test]
fn router_mode_has_loaded_what_it_says() {
    let mut script = llama();
    for (route, name) in [
        ("GET /v1/models", "llama-router-v1_models"),
        ("GET /props", "llama-router-props"),
        ("GET /slots", "llama-router-slots"),
        // It cannot know without a model's name, so the route must not be asked.
        ("POST /v1/embeddings", "llama-parse-400"),
    ] {
        script.insert(route.to_owned(), recorded(name));
    }
    let node = first_look(&Server::new(script));
    assert_eq!(node.state, NodeState::Up);
    let contexts: Vec<_> = node
        .models
        .iter()
        .map(|m| (m.id.as_str(), m.context))
        .collect();
    assert_eq!(contexts, [("large", Some(8192)), ("small", Some(2048))]);
    let loaded: Vec<_> = node.loaded.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(loaded, ["small:latest"]);
    assert_eq!((node.slots, node.running), (None, None));
    assert!(node.models.iter().all(|model| !model.embeds_only()));
}

#[test]
fn an_embeddings_server_embeds_only() {
    let server = Server::new(llama());
    server.set("GET /v1/models", recorded("llama-embed-v1_models"));
    server.set("GET /props", recorded("llama-embed-props"));
    server.set("POST /v1/embeddings", recorded("llama-parse-400"));
    let node = first_look(&server);
    assert!(node.models[0].embeds_only());
    let node = look_again(&server, &node);
    assert!(node.models[0].embeds_only());
    assert_eq!(server.asked("POST /v1/embeddings"), 1);
}

#[test]
fn a_sleeping_server_is_not_woken() {
    let props = std::fs::read_to_string(format!(
        "{}/tests/data/backend/llama-props.http",
        env!("CARGO_MANIFEST_DIR")
    ))
    .expect("recorded")
    .replace("\"is_sleeping\":false", "\"is_sleeping\":true ");
    let server = Server::new(llama());
    server.set("GET /props", Act::Send(props.into_bytes()));
    let node = first_look(&server);
    assert_eq!(node.state, NodeState::Up);
    assert!(node.loaded.is_empty());
    assert_eq!(server.asked("GET /slots") + server.asked("GET /metrics"), 0);
}

#[test]
fn vllm_tells_its_load() {
    let node = first_look(&Server::new(vllm()));
    assert_eq!(node.kind, Some(NodeKind::OpenAi));
    assert_eq!(node.version.as_deref(), Some("0.11.0"));
    assert_eq!((node.running, node.waiting), (Some(3), Some(2)));
    assert_eq!(node.state, NodeState::Busy);
    assert_eq!(node.models[0].context, Some(16384));
    assert_eq!(node.loaded.len(), 1);
    assert!(node.native.responses && !node.native.messages && !node.native.ollama);
    let server = Server::new(vllm());
    let node = first_look(&server);
    server.set("GET /metrics", answer(404, ""));
    let node = look_again(&server, &node);
    assert_eq!((node.state, node.running), (NodeState::Up, None));
    server.set("GET /version", answer(200, r#"{"version":"0.12.0"}"#));
    let down = Node {
        state: NodeState::Down,
        ..node
    };
    assert_eq!(
        look_again(&server, &down).version.as_deref(),
        Some("0.12.0")
    );
}

#[test]
fn lm_studio_tells_what_is_loaded() {
    let node = first_look(&Server::new(lm_studio()));
    assert_eq!(node.kind, Some(NodeKind::OpenAi));
    let gemma = node.model(&ModelName::new("gemma")).expect("listed");
    assert_eq!(
        gemma.capabilities,
        [
            Capability::Completion,
            Capability::Vision,
            Capability::Tools
        ]
    );
    assert_eq!(gemma.context, Some(4096));
    assert!(node.model(&ModelName::new("nomic")).unwrap().embeds_only());
    assert_eq!(node.loaded.len(), 1);
    assert_eq!(
        node.native,
        Native::default(),
        "200 to everything proves nothing"
    );
}

#[test]
fn a_plain_openai_server_is_read() {
    let server = Server::new(script(&[
        ("GET /v1/models", recorded("python-v1_models")),
        ("POST /v1/messages", recorded("python-err_405")),
        ("*", recorded("python-err_404")),
    ]));
    let node = first_look(&server);
    assert_eq!(
        (node.kind, node.state),
        (Some(NodeKind::OpenAi), NodeState::Up)
    );
    assert_eq!(node.models[0].id, "/srv/models/tiny-llama.gguf");
    assert_eq!(node.native, Native::default());
    server.set("GET /v1/models", answer(429, "{}"));
    let busy = look_again(&server, &node);
    assert_eq!(busy.state, NodeState::Busy);
    assert_eq!(busy.models, node.models);
    let asked = server.asked("POST /v1/messages");
    server.set("GET /v1/models", recorded("python-v1_models"));
    look_again(&server, &busy);
    assert_eq!(server.asked("POST /v1/messages"), asked, "asked once");
}

#[test]
fn a_server_of_no_known_api_is_misconfigured_and_the_cause_says_what_was_asked() {
    let node = first_look(&Server::new(Script::new()));
    assert_eq!((node.kind, node.state), (None, NodeState::Misconfigured));
    for path in ["/api/version", "/props", "/v1/models"] {
        assert!(
            cause(&node).contains(&format!("GET {path} answered 404")),
            "{}",
            cause(&node)
        );
    }
    let server = Server::new(llama());
    let config = NodeConfig {
        kind: Some(NodeKind::Ollama),
        ..server.config()
    };
    let node = Prober::new().probe(&config, &Node::unseen("n", server.url()));
    assert_eq!(node.state, NodeState::Misconfigured);
    assert_eq!(
        cause(&node),
        "GET /api/version answered 404; no ollama does that"
    );
}

#[test]
fn a_node_that_fails_is_down_and_keeps_its_models() {
    let server = Server::new(ollama());
    let node = first_look(&server);
    for (act, told) in [
        (answer(500, "{}"), "answered 500"),
        (Act::Hang, "within 1.0 s"),
        (Act::Drip, "within 1.0 s"),
        (Act::Endless, "8 MiB"),
        (
            Act::Send(b"SSH-2.0-x\r\n\r\n".to_vec()),
            "connection failed",
        ),
        (Act::Send(Vec::new()), "connection failed"),
    ] {
        server.become_script(script(&[("*", act)]));
        let began = Instant::now();
        let again = look_again(&server, &node);
        assert!(began.elapsed() < Duration::from_secs(4));
        assert_eq!(again.state, NodeState::Down, "{told}");
        assert!(cause(&again).contains(told), "{told}: {}", cause(&again));
        assert_eq!(again.models, node.models);
        assert!(again.loaded.is_empty());
    }
    let config = config("n", &dead_url());
    let node = Prober::new().probe(&config, &Node::unseen("n", &config.url));
    assert_eq!(node.state, NodeState::Down);
    assert!(cause(&node).starts_with("could not connect: Connection refused"));
}

#[test]
fn a_redirect_is_not_followed() {
    let target = Server::new(ollama());
    let moved = format!(
        "HTTP/1.1 301 X\r\nLocation: {}/api/version\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        target.url()
    );
    let node = first_look(&Server::new(script(&[(
        "*",
        Act::Send(moved.into_bytes()),
    )])));
    assert_eq!(node.state, NodeState::Misconfigured);
    assert_eq!(target.asked("GET /api/version"), 0);
}

#[test]
fn another_server_on_the_same_port_is_noticed() {
    let server = Server::new(ollama());
    let node = first_look(&server);
    server.become_script(llama());
    let node = look_again(&server, &node);
    assert_eq!(node.kind, Some(NodeKind::LlamaServer));
    assert_eq!(node.models.len(), 1);
    assert!(!node.native.ollama && node.native.count_tokens);
    // A list under /v1/models is everybody's: what came back after a pause is asked anew.
    server.become_script(vllm());
    let node = look_again(&server, &node);
    assert_eq!(node.kind, Some(NodeKind::OpenAi));
    server.become_script(script(&[("*", answer(500, ""))]));
    let node = look_again(&server, &node);
    assert_eq!(node.state, NodeState::Down);
    server.become_script(ollama());
    assert_eq!(look_again(&server, &node).kind, Some(NodeKind::Ollama));
}

#[test]
fn no_look_carries_a_prompt() {
    for script in [ollama(), llama(), vllm(), lm_studio()] {
        let server = Server::new(script);
        look_again(&server, &first_look(&server));
        let asked = server.asked.lock().unwrap();
        for (route, length) in asked.iter() {
            assert!(route.starts_with("GET ") || *length == 0, "{route}");
        }
    }
}

#[test]
fn a_black_hole_does_not_delay_the_others() {
    let hole = Server::new(script(&[("*", Act::Hang)]));
    let good = Server::new(ollama());
    let nodes = [
        config("hole", &hole.url()),
        config("good", &good.url()),
        config("dead", &dead_url()),
    ];
    let began = Instant::now();
    let snapshot = Prober::with_limit(Duration::from_secs(1)).gather(&nodes);
    assert!(began.elapsed() < Duration::from_secs(3));
    let states: Vec<_> = snapshot
        .nodes
        .iter()
        .map(|n| (n.name.as_str(), n.state))
        .collect();
    assert_eq!(
        states,
        [
            ("hole", NodeState::Down),
            ("good", NodeState::Up),
            ("dead", NodeState::Down)
        ]
    );
}

#[test]
fn discovery_finds_what_answers_and_names_it_by_what_it_is() {
    let servers = [
        Server::new(ollama()),
        Server::new(ollama()),
        Server::new(llama()),
        Server::new(lm_studio()),
        Server::new(vllm()),
    ];
    let other = Server::new(script(&[("*", answer(200, "<html>"))]));
    let own = Server::new(ollama());
    let router = Server::new(ollama());
    router.set(
        "GET /health",
        answer(200, r#"{"status":"ok","gpu_pool_status":{}}"#),
    );
    let header = b"HTTP/1.1 200 OK\r\nX-Gpurouter-Id: 1\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{\"version\":\"1.0\"}";
    let second_router = Server::new(ollama());
    second_router.set("GET /api/version", Act::Send(header.to_vec()));
    let hole = Server::new(script(&[("*", Act::Hang)]));
    let mut urls: Vec<String> = servers.iter().map(Server::url).collect();
    urls.insert(1, format!("http://localhost:{}", servers[0].address.port()));
    urls.extend([&other, &own, &router, &second_router, &hole].map(Server::url));
    urls.push(dead_url());
    let began = Instant::now();
    let found = discover_at(&urls, own.address);
    assert!(began.elapsed() < Duration::from_secs(4));
    let found: Vec<_> = found
        .iter()
        .map(|n| (n.name.as_str(), n.url.as_str()))
        .collect();
    let names = ["ollama", "ollama-2", "llama-server", "lmstudio", "vllm"];
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let expected: Vec<_> = names
        .into_iter()
        .zip(urls.iter().map(String::as_str))
        .collect();
    assert_eq!(found, expected);
}

fn monitor(
    nodes: &[NodeConfig],
    interval: Duration,
    rediscovery: Option<Rediscovery>,
) -> (Monitor, Receiver<Node>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let prober = Arc::new(Prober::new());
    let on_change = Arc::new(move |node, _| drop(tell.lock().unwrap().send(node)));
    let monitor = Monitor::start(prober, nodes, interval, rediscovery, on_change);
    (monitor.expect("started"), told)
}

/// The next look at that node, others left out.
fn next(told: &Receiver<Node>, name: &str) -> Node {
    loop {
        let node = told
            .recv_timeout(Duration::from_secs(10))
            .expect("a change");
        if node.name == name {
            return node;
        }
    }
}

const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn the_monitor_tells_what_changes_and_only_that() {
    let server = Server::new(ollama());
    let hole = Server::new(script(&[("*", Act::Hang)]));
    let nodes = [config("hole", &hole.url()), config("n", &server.url())];
    let (monitor, told) = monitor(&nodes, Duration::from_millis(20), None);
    let first = told
        .recv_timeout(Duration::from_secs(4))
        .expect("not held up by the hole");
    assert_eq!((first.name.as_str(), first.state), ("n", NodeState::Up));
    let seen = server.asked("GET /api/ps");
    while server.asked("GET /api/ps") < seen + 3 {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(told.try_recv().is_err(), "nothing changed");
    server.set("GET /api/ps", recorded("ollama-ps_after_unload"));
    assert!(next(&told, "n").loaded.is_empty());
    let began = Instant::now();
    monitor.stop();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "the hole is not waited for"
    );
    assert!(!told.try_iter().any(|node| node.name == "n"));
}

#[test]
fn a_poke_is_a_look_at_once() {
    let server = Server::new(ollama());
    let (monitor, told) = monitor(&[server.config()], NEVER, None);
    next(&told, "n");
    server.set("GET /api/ps", recorded("ollama-ps_after_unload"));
    monitor.poke("n");
    monitor.poke("nobody");
    assert!(next(&told, "n").loaded.is_empty());
}

#[test]
fn a_report_counts_at_once_and_a_look_follows() {
    let server = Server::new(ollama());
    let (monitor, told) = monitor(&[server.config()], NEVER, None);
    next(&told, "n");
    monitor.report("n", Outcome::Busy("answered 503".to_owned()));
    let busy = told.try_recv().expect("told in the caller's thread");
    assert_eq!((busy.state, busy.loaded.len()), (NodeState::Busy, 2));
    monitor.report("n", Outcome::Unreachable("connection refused".to_owned()));
    let down = told.try_recv().expect("told in the caller's thread");
    assert_eq!(
        (down.state, cause(&down)),
        (NodeState::Down, "connection refused")
    );
    assert_eq!(down.models.len(), 1);
    assert_eq!(next(&told, "n").state, NodeState::Up);
}

#[test]
fn a_look_that_began_before_a_report_does_not_undo_it() {
    let server = Server::new(ollama());
    let (monitor, told) = monitor(&[server.config()], NEVER, None);
    next(&told, "n");
    server.set("GET /api/ps", Act::Hang);
    let seen = server.asked("GET /api/ps");
    monitor.poke("n");
    while server.asked("GET /api/ps") == seen {
        thread::sleep(Duration::from_millis(5));
    }
    server.become_script(script(&[("*", answer(500, ""))]));
    monitor.report("n", Outcome::Unreachable("connection refused".to_owned()));
    assert_eq!(cause(&next(&told, "n")), "connection refused");
    // The look that hangs would have said up; the one after it says what is true now.
    assert!(cause(&next(&told, "n")).contains("answered 500"));
}

#[test]
fn a_server_that_appears_joins() {
    let first = Server::new(ollama());
    let rediscovery = Rediscovery {
        candidates: vec![first.url(), dead_url()],
        own: "127.0.0.1:1".parse().expect("an address"),
    };
    let (_monitor, told) = monitor(&[], NEVER, Some(rediscovery));
    assert_eq!(next(&told, "ollama").state, NodeState::Up);
}

#[test]
fn a_list_that_only_tells_another_time_is_no_change() {
    let server = Server::new(llama());
    let before = first_look(&server);
    let later = std::fs::read_to_string(format!(
        "{}/tests/data/backend/llama-v1_models.http",
        env!("CARGO_MANIFEST_DIR")
    ))
    .expect("recorded")
    .replace("\"created\":1795209373", "\"created\":1795209375");
    server.set("GET /v1/models", Act::Send(later.clone().into_bytes()));
    assert_eq!(look_again(&server, &before), before);
    let other = later.replace("\"n_params\":958848", "\"n_params\":958849");
    server.set("GET /v1/models", Act::Send(other.into_bytes()));
    assert_ne!(look_again(&server, &before), before);
}

/// The body of a recorded answer.
fn recorded_body(name: &str) -> Vec<u8> {
    let Act::Send(bytes) = recorded(name) else {
        unreachable!("recorded answers are sent");
    };
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    bytes[head.expect("a head") + 4..].to_vec()
}

const RECORDED: [(&str, &str); 8] = [
    ("GET /api/version", "ollama-version"),
    ("GET /api/tags", "ollama-tags"),
    ("GET /api/ps", "ollama-ps_partial"),
    ("GET /health", "llama-health"),
    ("GET /v1/models", "llama-v1_models"),
    ("GET /props", "llama-props"),
    ("GET /slots", "llama-slots"),
    ("GET /metrics", "llama-metrics"),
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(96))]

    #[test]
    fn any_answer_leaves_a_node_in_order(
        which in 0..RECORDED.len(),
        place in 0.0..1.0_f64,
        inserted in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6),
        removed in 0..40_usize,
    ) {
        let (route, name) = RECORDED[which];
        let mut body = recorded_body(name);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
        let from = (place * body.len() as f64) as usize;
        let to = (from + removed).min(body.len());
        body.splice(from..to, inserted);
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        let server = Server::new(if which < 3 { ollama() } else { llama() });
        let before = first_look(&server);
        server.set(route, Act::Send(bytes));
        let node = look_again(&server, &before);
        proptest::prop_assert!(node.kind.is_some() || !node.state.usable());
        proptest::prop_assert!(node.state == NodeState::Up || node.cause.is_some());
        proptest::prop_assert!(node.loaded.len() <= 2 && node.models.len() <= 2);
    }
}

/// A TLS server with a certificate that nobody vouches for.
fn self_signed() -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
        .expect("a certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
            while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        }
    });
    address
}

#[test]
fn an_https_node_must_show_a_certificate_that_somebody_vouches_for() {
    let config = config("n", &format!("https://localhost:{}", self_signed().port()));
    let node = Prober::new().probe(&config, &Node::unseen("n", &config.url));
    assert_eq!(node.state, NodeState::Down);
    assert!(cause(&node).contains("UnknownIssuer"), "{}", cause(&node));
}

#[test]
fn a_cause_tells_no_password() {
    let dead = dead_url().replace("http://", "http://me:secret@");
    let config = config("n", &dead);
    let node = Prober::new().probe(&config, &Node::unseen("n", &dead));
    assert!(!cause(&node).contains("secret"), "{}", cause(&node));
}
