//! Real Ollama and llama-server processes, with the tiny model of `tests/tools/make_tiny_gguf.py`.
//!
//! `GPUROUTER_TEST_OLLAMA` and `GPUROUTER_TEST_LLAMA_SERVER` name the programs
//! (`tests/tools/real-servers.sh get DIR` brings them); without both, tests that need them are skipped by name.
//! `GPUROUTER_TEST_OLLAMA_GPU` names an Ollama that puts its models on a GPU.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use super::{LIMIT, Scratch, eventually};

const OLLAMA: &str = "GPUROUTER_TEST_OLLAMA";
const LLAMA_SERVER: &str = "GPUROUTER_TEST_LLAMA_SERVER";
const OLLAMA_GPU: &str = "GPUROUTER_TEST_OLLAMA_GPU";
/// A llama-server with the software GPU of `get-llama-server.sh` beside it.
const LLAMA_GPU: &str = "GPUROUTER_TEST_LLAMA_GPU";

/// The model that only the llama-server has.
pub const SOLO: &str = "solo";

/// A running real server; ended on drop, with the runners it started.
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
    home: Scratch,
    program: PathBuf,
}

/// Two Ollamas with `tiny` and `tiny-embed`, and a llama-server with [`SOLO`].
pub struct Fleet {
    /// The Ollamas.
    pub ollama: [Server; 2],
    /// The llama-server.
    pub llama: Server,
}

impl Fleet {
    /// A fleet that tests running at the same time share, or `None`, told on stderr, where the programs are not named.
    pub fn shared(test: &str) -> Option<Arc<Self>> {
        static RUNNING: Mutex<Weak<Fleet>> = Mutex::new(Weak::new());
        let programs = programs(test)?;
        // A test that fails while starting it must not fail the others for that reason.
        let mut running = RUNNING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(fleet) = running.upgrade() {
            return Some(fleet);
        }
        let fleet = Arc::new(Self::start(&programs));
        *running = Arc::downgrade(&fleet);
        Some(fleet)
    }

    /// A fleet of the test's own, to be killed.
    pub fn own(test: &str) -> Option<Self> {
        programs(test).map(|programs| Self::start(&programs))
    }

    fn start(programs: &Programs) -> Self {
        Self {
            ollama: [ollama(&programs.ollama, ""), ollama(&programs.ollama, "")],
            llama: llama_server(programs, SOLO),
        }
    }

    /// The URLs of all three.
    pub fn urls(&self) -> Vec<String> {
        let [one, two] = &self.ollama;
        [one, two, &self.llama].map(Server::url).to_vec()
    }
}

/// An Ollama whose models are on a GPU and one whose models are not, or `None`, told on stderr, where the programs are not
/// named.
pub fn gpu_and_cpu(test: &str) -> Option<[Server; 2]> {
    let programs = named(test, [OLLAMA_GPU, OLLAMA])?;
    Some(programs.map(|program| ollama(&program, "")))
}

/// One Ollama with `tiny` ([`tiny_gguf`], `num_ctx` 4096).
pub struct TinyOllama(Server);

impl TinyOllama {
    /// Starts it; `None`, told on stderr, where the program is not named.
    pub fn start(test: &str) -> Option<Self> {
        let [program] = named(test, [OLLAMA])?;
        Some(Self(ollama(&program, "PARAMETER num_ctx 4096\n")))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The directory of its models.
    pub fn models(&self) -> PathBuf {
        self.0.home.path().join("models")
    }
}

/// An Ollama whose models were trained for these contexts, or `None`, told on stderr, where the program is not named.
pub fn ollama_trained_for(test: &str, models: &[(&str, u32)]) -> Option<Server> {
    let [program] = named(test, [OLLAMA])?;
    let server = bare_ollama(&program);
    for (name, context) in models {
        let file = made(
            &format!("tiny-{context}.gguf"),
            &["--ctx", &context.to_string()],
        );
        server.create(&program, name, &file, "");
    }
    Some(server)
}

/// An Ollama with one model in memory at a time, with `tiny` and `other`, which chat, and `tiny-embed`; `gpu`: one that puts its models on a GPU.
/// `None`, told on stderr, where the program is not named.
pub fn narrow_ollama(test: &str, gpu: bool) -> Option<Server> {
    let [program] = named(test, [if gpu { OLLAMA_GPU } else { OLLAMA }])?;
    let server = ollama_in(&program, &[("OLLAMA_MAX_LOADED_MODELS", "1")]);
    let files = [
        ("tiny", made("tiny-8192.gguf", &["--ctx", "8192"])),
        // Another content, which a name alone does not make.
        ("other", made("tiny-16384.gguf", &["--ctx", "16384"])),
        ("tiny-embed", models_files().1.clone()),
    ];
    for (name, file) in files {
        server.create(&program, name, &file, "");
    }
    Some(server)
}

/// A llama-server in router mode with these chat models, so many of them loaded at once; `None`, told on stderr, where the program is not named.
pub fn llama_on_demand(test: &str, models: &[&str], most: u32) -> Option<Server> {
    let [program] = named(test, [LLAMA_SERVER])?;
    let home = Scratch::new();
    let directory = home.path().join("models");
    fs::create_dir(&directory).expect("a writable scratch directory");
    for name in models {
        let file = directory.join(format!("{name}.gguf"));
        fs::copy(tiny_gguf(), file).expect("room for a tiny model");
    }
    let mut command = Command::new(&program);
    command.arg("--models-dir").arg(&directory);
    command.args(["--models-max", &most.to_string(), "--host", "127.0.0.1"]);
    command.args(["--port", "0", "-n", "64", "-t", "1", "-c", "2048"]);
    Some(Server::start(&program, home, &mut command))
}

/// The file that `tiny` was made of.
pub fn tiny_gguf() -> &'static Path {
    &models_files().0
}

/// What a llama-server said while it loaded a model.
pub struct LlamaLog(String);

impl LlamaLog {
    /// Loads the model, on the software GPU or on the CPU, and stops; `None`, told on stderr, where the program is not named.
    pub fn of(test: &str, gpu: bool, model: &Path, args: &[&str]) -> Option<Self> {
        let [program] = named(test, [if gpu { LLAMA_GPU } else { LLAMA_SERVER }])?;
        let home = Scratch::new();
        let mut command = Command::new(&program);
        command.arg("-m").arg(model).args(args);
        command.args(["--host", "127.0.0.1", "--port", "0", "-v", "--no-warmup"]);
        if gpu {
            let driver = program.with_file_name("../lvp.json");
            command.env("VK_DRIVER_FILES", driver);
            command.env("GGML_VK_VISIBLE_DEVICES", "0");
        }
        let server = Server::spawn(&program, home, &mut command);
        let log = server.home.path().join("log");
        let mut written = String::new();
        // The thread pool is set up when every buffer is there; a slow GPU compiles for a minute before it listens.
        let loaded = eventually(4 * LIMIT, || {
            written = fs::read_to_string(&log).unwrap_or_default();
            written.contains("threadpool init") || written.contains("failed to load")
        });
        let told = written
            .lines()
            .rev()
            .take(20)
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            loaded && written.contains("threadpool init"),
            "the model is not loaded: {told}"
        );
        Some(Self(written))
    }

    /// The log.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The directory of a llama-fit-params; `None`, told on stderr, where no llama-server is named beside which it would be.
pub fn fit_params_directory(test: &str) -> Option<PathBuf> {
    let [server] = named(test, [LLAMA_SERVER])?;
    server.parent().map(Path::to_owned)
}

impl Server {
    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How often it has started a runner: an Ollama's loads.
    pub fn loads(&self) -> usize {
        let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        log.matches("msg=\"starting llama-server\"").count()
    }

    /// Makes a model of a file, with these lines in its Modelfile too.
    fn create(&self, program: &Path, name: &str, file: &Path, parameters: &str) {
        // One thread: workers that spin for each other make a token a thousand times slower on a busy machine.
        let text = format!(
            "FROM {}\nPARAMETER num_thread 1\nPARAMETER num_predict 256\n{parameters}",
            file.display()
        );
        let modelfile = self.home.write("Modelfile", &text);
        let output = Command::new(program)
            .args(["create", name, "-f"])
            .arg(modelfile)
            .env("HOME", self.home.path())
            .env("OLLAMA_HOST", self.addr.to_string())
            .output()
            .expect("the program that just served");
        assert!(output.status.success(), "ollama create: {output:?}");
    }

    /// Kills it and its runners at once (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        let runners = children(self.child.id());
        drop(self.child.kill());
        drop(self.child.wait());
        for runner in runners {
            signal(runner, rustix::process::Signal::KILL);
        }
    }

    /// Starts a killed Ollama again at its old address, with its models on disk and nothing in memory.
    pub fn restart_ollama(&mut self) {
        let log = fs::OpenOptions::new()
            .append(true)
            .open(self.home.path().join("log"))
            .expect("its log");
        self.child = Command::new(&self.program)
            .arg("serve")
            .env("OLLAMA_HOST", self.addr.to_string())
            .env("OLLAMA_MODELS", self.home.path().join("models"))
            .env("OLLAMA_NO_CLOUD", "1")
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("the program that ran before");
        let answers = eventually(LIMIT, || std::net::TcpStream::connect(self.addr).is_ok());
        assert!(answers, "{} does not listen again", self.program.display());
    }

    fn start(program: &Path, home: Scratch, command: &mut Command) -> Self {
        let mut server = Self::spawn(program, home, command);
        let log = server.home.path().join("log");
        let listens = eventually(LIMIT, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            announced(&text).map(|addr| server.addr = addr).is_some()
        });
        let text = fs::read_to_string(&log).unwrap_or_default();
        assert!(listens, "{} does not listen: {text}", program.display());
        server
    }

    /// Starts it without waiting for anything; its output is in `log`.
    fn spawn(program: &Path, home: Scratch, command: &mut Command) -> Self {
        let file = fs::File::create(home.path().join("log")).expect("a writable scratch directory");
        let child = command
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
            home,
            program: program.to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(self.child.id(), rustix::process::Signal::TERM);
        if !eventually(Duration::from_secs(5), || {
            matches!(self.child.try_wait(), Ok(Some(_)))
        }) {
            self.kill();
        }
    }
}

struct Programs {
    ollama: PathBuf,
    llama_server: PathBuf,
}

fn programs(test: &str) -> Option<Programs> {
    let [ollama, llama_server] = named(test, [OLLAMA, LLAMA_SERVER])?;
    Some(Programs {
        ollama,
        llama_server,
    })
}

/// The load generator wrk; `None` where nobody named one.
pub fn wrk(test: &str) -> Option<PathBuf> {
    named(test, ["GPUROUTER_TEST_WRK"]).map(|[wrk]| wrk)
}

/// The programs that these variables name.
fn named<const N: usize>(test: &str, variables: [&str; N]) -> Option<[PathBuf; N]> {
    let value = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
    let programs = variables.map(value);
    if programs.iter().all(Option::is_some) {
        return Some(programs.map(|program| program.unwrap_or_default().into()));
    }
    let variables = variables.join(" and ");
    // Past libtest's capture, which would hide it in a passing test; in one write, so that no other test's line parts it.
    let line =
        format!("skipped: {test}: set {variables} (bash tests/tools/real-servers.sh get .real)\n");
    io::stderr().write_all(line.as_bytes()).expect("stderr");
    None
}

fn bare_ollama(program: &Path) -> Server {
    ollama_in(program, &[])
}

/// An Ollama without models, in an environment with these variables too.
fn ollama_in(program: &Path, environment: &[(&str, &str)]) -> Server {
    let home = Scratch::new();
    let models = home.path().join("models");
    let mut command = Command::new(program);
    command
        .arg("serve")
        .env("OLLAMA_HOST", "127.0.0.1:0")
        .env("OLLAMA_MODELS", &models)
        .env("OLLAMA_NO_CLOUD", "1")
        .envs(environment.iter().copied());
    Server::start(program, home, &mut command)
}

/// An Ollama with `tiny` and `tiny-embed`, which have these lines in their Modelfiles too.
fn ollama(program: &Path, parameters: &str) -> Server {
    let server = bare_ollama(program);
    let files = models_files();
    for (name, file) in [("tiny", &files.0), ("tiny-embed", &files.1)] {
        server.create(program, name, file, parameters);
    }
    server
}

fn llama_server(programs: &Programs, alias: &str) -> Server {
    let mut command = Command::new(&programs.llama_server);
    command
        .arg("-m")
        .arg(&models_files().0)
        .args(["--host", "127.0.0.1", "--port", "0", "--alias", alias])
        .args(["-n", "256", "-t", "1"]);
    Server::start(&programs.llama_server, Scratch::new(), &mut command)
}

/// The chat and the embedding model, made once a test run.
fn models_files() -> &'static (PathBuf, PathBuf) {
    static FILES: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    FILES.get_or_init(|| {
        (
            made("tiny.gguf", &[]),
            made("tiny-embed.gguf", &["--pooling", "mean"]),
        )
    })
}

/// A model's file, made with these arguments.
fn made(name: &str, args: &[&str]) -> PathBuf {
    static MAKING: AtomicUsize = AtomicUsize::new(0);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let number = MAKING.fetch_add(1, Ordering::Relaxed);
    let made = dir.join(format!("{name}.{}.{number}", std::process::id()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/make_tiny_gguf.py");
    let status = Command::new("python3")
        .arg(script)
        .arg(&made)
        .args(args)
        .status()
        .expect("python3, to write the tiny model");
    assert!(status.success(), "make_tiny_gguf.py: {status}");
    let path = dir.join(name);
    fs::rename(made, &path).expect("a writable target directory");
    path
}

/// The address in `listening on [http://]127.0.0.1:PORT`.
fn announced(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("istening on ")?;
    let rest = rest.strip_prefix("http://").unwrap_or(rest);
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    rest[..end].parse().ok()
}

/// The processes that any thread of `pid` started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks
        .into_iter()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already.
        rustix::process::kill_process(pid, signal).ok();
    }
}
