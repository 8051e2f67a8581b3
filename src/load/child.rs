//! This program's own router as a child process, so that its processor time and memory are its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{AUTO, MODEL};

/// How long the router may take until it says where it listens.
const START: Duration = Duration::from_secs(15);
/// How long it may take to end when it was asked to.
const STOP: Duration = Duration::from_secs(3);
/// How much of what it says on stderr is kept.
const LONGEST_LOG: u64 = 64 * 1024;

/// A running `gpurouter serve`; ended on drop.
#[derive(Debug)]
pub struct Router {
    child: Child,
    addr: SocketAddr,
}

impl Router {
    /// Starts `program serve` with the mock as its only node, on a free loopback port.
    ///
    /// Its configuration comes through its standard input: no file is left behind. It is a process group of its own, so that Ctrl-C at the
    /// terminal reaches this program first.
    ///
    /// # Errors
    /// It cannot be started, or did not say in time where it listens; then what it said instead.
    pub fn start(program: &Path, upstream: SocketAddr) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--config", "/dev/stdin"])
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut router = Self {
            child,
            addr: upstream,
        };
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        stdin.write_all(configuration(upstream).as_bytes())?;
        drop(stdin);
        let log = read_log(stderr)?;
        let address = read_address(stdout)?;
        if let Ok(addr) = address.recv_timeout(START) {
            router.addr = addr;
            return Ok(router);
        }
        drop(router);
        let said = log.recv_timeout(STOP).unwrap_or_default();
        let said = said.trim();
        Err(io::Error::other(format!("it did not start: {said}")))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let asked = pid.is_some_and(|pid| {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok()
        });
        let deadline = Instant::now() + STOP;
        while asked && Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // It may have ended meanwhile; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing is written per request, as with the other proxies, and no limit of admission is met.
fn configuration(upstream: SocketAddr) -> String {
    let classes = ["simple", "moderate", "complex"]
        .map(|class| format!("{class} = {{ model = \"{MODEL}\" }}\n"));
    format!(
        "log_level = \"error\"\n\
         [[node]]\nname = \"mock\"\nurl = \"http://{upstream}\"\nkind = \"ollama\"\n\
         [admission]\nmax_connections = 16384\nqueue = 16384\nslots = 16384\n\
         [routing]\nvirtual_models = [\"{AUTO}\"]\n{}",
        classes.concat()
    )
}

/// Reads its log to the end, so that it never waits for a reader, and tells its beginning when it has ended.
fn read_log(stderr: ChildStderr) -> io::Result<Receiver<String>> {
    let (sender, log) = mpsc::channel();
    thread::Builder::new()
        .name("router-log".to_owned())
        .spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut said = Vec::new();
            // What cannot be read any more is the end of it.
            let _ = stderr.by_ref().take(LONGEST_LOG).read_to_end(&mut said);
            let _ = io::copy(&mut stderr, &mut io::sink());
            let _ = sender.send(String::from_utf8_lossy(&said).into_owned());
        })?;
    Ok(log)
}

/// The address from the line that says where it listens.
fn read_address(stdout: ChildStdout) -> io::Result<Receiver<SocketAddr>> {
    let (sender, address) = mpsc::channel();
    thread::Builder::new()
        .name("router-out".to_owned())
        .spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let rest = line.strip_prefix("listening on http://");
                if let Some(addr) = rest.and_then(|rest| rest.trim_end_matches('/').parse().ok()) {
                    // Whoever gave up waiting has ended the router.
                    let _ = sender.send(addr);
                }
            }
        })?;
    Ok(address)
}
