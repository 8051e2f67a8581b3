//! The proxies as child processes, and what `/proc` says of them.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::wire;

/// How long a proxy may take until it listens.
const START: Duration = Duration::from_secs(10);

/// A running proxy; ended on drop, children included.
pub struct Proxy {
    child: Child,
    /// `--version` or the like.
    pub version: String,
}

/// Memory and threads of a proxy and its children.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident set sizes added up, bytes: pages that processes share count in each.
    pub rss: u64,
    /// Proportional set sizes added up, bytes: shared pages count once.
    pub pss: u64,
    /// Threads.
    pub threads: usize,
}

impl Proxy {
    /// nginx with the committed configuration; the addresses that hold a request body in memory and in a file.
    pub fn nginx(dir: &Path, upstream: SocketAddr) -> io::Result<(Self, SocketAddr, SocketAddr)> {
        let (memory, file) = free_ports()?;
        let config = include_str!("nginx.conf.in")
            .replace("{dir}", &dir.display().to_string())
            .replace("{upstream}", &upstream.to_string())
            .replace("{memory}", &memory.to_string())
            .replace("{file}", &file.to_string());
        let path = dir.join("nginx.conf");
        fs::write(&path, config)?;
        let child = Command::new("nginx")
            .args(["-p".as_ref(), dir, "-c".as_ref(), path.as_path()])
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                io::Error::other(format!("nginx (apt-get install nginx-light): {error}"))
            })?;
        let version = version(Command::new("nginx").arg("-v"))?;
        let mut proxy = Self { child, version };
        proxy.wait_listening(memory)?;
        proxy.wait_listening(file)?;
        Ok((proxy, memory, file))
    }

    /// `gpurouter serve` in front of the mock as its only node.
    pub fn gpurouter(
        binary: &Path,
        dir: &Path,
        upstream: SocketAddr,
    ) -> io::Result<(Self, SocketAddr)> {
        let mut config = String::from("log_level = \"error\"\n");
        write!(
            config,
            "[[node]]\nname = \"bench\"\nurl = \"http://{upstream}\"\nkind = \"ollama\"\n\
             [admission]\nmax_connections = 4096\nqueue = 4096\nslots = 4096\n\
             [routing]\nvirtual_models = [\"auto\"]\n"
        )
        .map_err(io::Error::other)?;
        for class in ["simple", "moderate", "complex"] {
            writeln!(config, "{class} = {{ model = \"{}\" }}", wire::MODEL)
                .map_err(io::Error::other)?;
        }
        let path = dir.join("gpurouter.toml");
        fs::write(&path, config)?;
        let stderr = fs::File::create(dir.join("gpurouter.log"))?;
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&path)
            .current_dir(dir)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let version = version(Command::new(binary).arg("--version"))?;
        let proxy = Self { child, version };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("listening on http://") {
                    drop(sender.send(rest.trim_end_matches('/').to_owned()));
                }
            }
        });
        let addr = receiver
            .recv_timeout(START)
            .ok()
            .and_then(|address| address.parse().ok());
        addr.map(|addr| (proxy, addr)).ok_or_else(|| {
            let log = fs::read_to_string(dir.join("gpurouter.log")).unwrap_or_default();
            io::Error::other(format!("gpurouter serve did not start: {log}"))
        })
    }

    fn wait_listening(&mut self, addr: SocketAddr) -> io::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        std::iter::once(own).chain(children).collect()
    }

    fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        self.pids()
            .into_iter()
            .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
            .flatten()
            .filter_map(|task| Some(task.ok()?.path()))
    }

    /// CPU time of all live threads, nanoseconds. A thread that ends takes its share with it, so this is read while
    /// the connections are open.
    pub fn cpu(&self) -> u64 {
        self.tasks()
            .filter_map(|task| fs::read_to_string(task.join("schedstat")).ok())
            .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    }

    /// What it holds now.
    pub fn memory(&self) -> Memory {
        let mut memory = Memory {
            threads: self.tasks().count(),
            ..Memory::default()
        };
        for pid in self.pids() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
            let rollup = rollup.unwrap_or_default();
            memory.rss += kib(&rollup, "Rss:") * 1024;
            memory.pss += kib(&rollup, "Pss:") * 1024;
        }
        memory
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's master must be asked, or its workers outlive it; whoever does not listen is killed.
        if let Some(pid) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            && rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok()
        {
            let deadline = Instant::now() + Duration::from_secs(3);
            while Instant::now() < deadline {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Two ports that were free a moment ago: nginx cannot be asked for any.
fn free_ports() -> io::Result<(SocketAddr, SocketAddr)> {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let two = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((one.local_addr()?, two.local_addr()?))
}

fn version(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Ok(text.trim_start_matches("nginx version: ").to_owned())
}

fn kib(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Processor, cores, memory, kernel.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let models: Vec<&str> = cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("model name"))
        .collect();
    let model = models.first().map_or("unknown processor", |line| {
        line.trim_start_matches(['\t', ' ', ':'])
    });
    format!(
        "{} x {model}, {:.0} GiB, Linux {}",
        models.len(),
        kib(&read("/proc/meminfo"), "MemTotal:") as f64 / 1_048_576.0,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// The load averages of the last 1, 5 and 15 minutes.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
