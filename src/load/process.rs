//! What the kernel accounts to a program's processes, from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The processes that make up a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    /// Without their children, which are looked up at every reading.
    roots: Vec<u32>,
}

/// What a program holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Resident set sizes added up, bytes.
    pub(super) rss: u64,
    /// Proportional set sizes added up, bytes; `None` where the kernel does not tell.
    pub(super) pss: Option<u64>,
    /// Threads.
    pub(super) threads: u32,
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    /// Processor time of the process, its ended threads, and the ended children it waited for; clock ticks.
    ticks: u64,
    threads: u32,
    /// Pages.
    resident: u64,
}

impl Processes {
    /// A process and its children; `None` if there is no such process.
    pub fn of_pid(pid: u32) -> Option<Self> {
        stat(pid).map(|_| Self { roots: vec![pid] })
    }

    /// Those that hold the socket which listens at an address of this machine, and their children; `None` where it is another machine's,
    /// or where this user may not look.
    ///
    /// A forwarder that is not the server itself (Docker's) is not taken for it.
    pub fn listening(addr: SocketAddr) -> Option<Self> {
        let sockets = listening_sockets(addr);
        let mut owners: BTreeSet<u32> = pids().filter(|pid| holds(*pid, &sockets)).collect();
        // Workers that inherited the socket come with their parent.
        let children: Vec<u32> = owners
            .iter()
            .copied()
            .filter(|pid| stat(*pid).is_some_and(|stat| owners.contains(&stat.parent)))
            .collect();
        for child in children {
            owners.remove(&child);
        }
        let forwarder = owners
            .iter()
            .any(|pid| stat(*pid).is_some_and(|stat| stat.name == "docker-proxy"));
        (!owners.is_empty() && !forwarder).then(|| Self {
            roots: owners.into_iter().collect(),
        })
    }

    /// The processes without their children.
    pub fn roots(&self) -> &[u32] {
        &self.roots
    }

    /// The name of the first process as the kernel knows it.
    pub fn name(&self) -> Option<String> {
        self.roots
            .first()
            .and_then(|pid| stat(*pid))
            .map(|stat| stat.name)
    }

    /// All processes with their children's children.
    pub(super) fn all(&self) -> Vec<u32> {
        let mut all = self.roots.clone();
        let mut at = 0;
        while let Some(&pid) = all.get(at) {
            for child in children(pid) {
                if !all.contains(&child) {
                    all.push(child);
                }
            }
            at += 1;
        }
        all
    }

    /// Open descriptors added up; `None` where this user may not look.
    pub(super) fn descriptors(&self) -> Option<u64> {
        let each = self.all().into_iter().map(descriptors);
        let sum = each.sum::<Option<u64>>();
        sum.filter(|count| *count > 0)
    }

    /// Memory and threads.
    pub(super) fn held(&self) -> Option<Held> {
        let mut sum = Held {
            pss: Some(0),
            ..Held::default()
        };
        let mut found = false;
        for pid in self.all() {
            let Some(stat) = stat(pid) else {
                continue;
            };
            found = true;
            let rollup =
                fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let page = rustix::param::page_size() as u64;
            sum.rss += kib(&rollup, "Rss:").map_or(stat.resident * page, |kib| kib * 1024);
            sum.pss = sum
                .pss
                .zip(kib(&rollup, "Pss:"))
                .map(|(sum, kib)| sum + kib * 1024);
            sum.threads += stat.threads;
        }
        found.then_some(sum)
    }
}

/// Processor time used so far, by two accounts of the kernel, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Of the processes with their ended threads and children, in ticks of usually 10 ms.
    whole: u64,
    /// Of the threads that are alive, exactly; `None` where the kernel does not tell.
    alive: Option<u64>,
}

impl Usage {
    /// Of these processes; `None` when one of them has ended.
    pub(super) fn of(pids: &[u32]) -> Option<Self> {
        let mut usage = Self {
            whole: 0,
            alive: Some(0),
        };
        for pid in pids {
            usage.whole += stat(*pid)?.ticks * tick();
            usage.alive = usage.alive.zip(alive(*pid)).map(|(sum, one)| sum + one);
        }
        (!pids.is_empty()).then_some(usage)
    }

    /// What was used since `before`: by the exact account, unless it misses more than the ticks of the other one explain, because threads
    /// ended meanwhile.
    pub(super) fn since(self, before: Self) -> u64 {
        let whole = self.whole.saturating_sub(before.whole);
        let alive = self.alive.zip(before.alive);
        let alive = alive.and_then(|(after, before)| after.checked_sub(before));
        alive
            .filter(|alive| alive.abs_diff(whole) <= 2 * tick())
            .unwrap_or(whole)
    }
}

/// A tick of the kernel's clock, nanoseconds.
fn tick() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// Processor time of a process's living threads, nanoseconds.
fn alive(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // A thread that ended meanwhile has none.
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).unwrap_or_default();
        let time = text.split_whitespace().next();
        sum += time.and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
    }
    Some(sum)
}

/// Processor time of all processes but these so far, nanoseconds.
///
/// A process that ends leaves its time to the parent that waits for it, so that nothing is lost between two readings.
pub(super) fn others(ours: &[u32]) -> u64 {
    let others = pids().filter(|pid| !ours.contains(pid));
    others
        .filter_map(stat)
        .map(|stat| stat.ticks * tick())
        .sum()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `proc_pid_stat(5)`. The name may hold blanks and parentheses, so the fields are counted from its last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let (front, back) = text.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    // Field 3 of the manual page is the first one here.
    let fields: Vec<&str> = back.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        name,
        parent: u32::try_from(number(4)?).ok()?,
        ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        threads: u32::try_from(number(20)?).ok()?,
        resident: number(24)?,
    })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

fn descriptors(pid: u32) -> Option<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(files.count() as u64)
}

/// Whether a process has one of these sockets open.
fn holds(pid: u32, sockets: &[String]) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    links.any(|link| {
        sockets
            .iter()
            .any(|socket| link.as_os_str() == socket.as_str())
    })
}

/// The sockets that listen at an address, as the descriptors in `/proc/PID/fd` name them.
fn listening_sockets(addr: SocketAddr) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| listener(line, addr));
    inodes.map(|inode| format!("socket:[{inode}]")).collect()
}

/// The inode of a line of `/proc/net/tcp` or `tcp6` that listens at an address, or at every address with its port.
fn listener(line: &str, addr: SocketAddr) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let listens = *state == "0A" && u16::from_str_radix(port, 16).ok()? == addr.port();
    let ip = ip_of(ip)?;
    (listens && (ip.is_unspecified() || ip == addr.ip().to_canonical())).then_some(inode)
}

/// An address as `/proc/net` writes it: words of 32 bits in the machine's byte order.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let words = (0..hex.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok());
    let bytes: Vec<u8> = words
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(IpAddr::from(four));
    }
    let six = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
    Some(IpAddr::from(six).to_canonical())
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    #[test]
    fn a_name_may_hold_anything() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 0 0 0 0 0 11 22 4 5 20 0 9 0 100 5000 77 1 1";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                name: "a) b (c".to_owned(),
                parent: 3,
                ticks: 42,
                threads: 9,
                resident: 77
            }
        );
        assert_eq!(parse_stat("7 (x) S 3"), None);
    }

    #[test]
    fn addresses_of_the_kernels_tables() {
        let line = |local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0"
            )
        };
        let addr = "127.0.0.1:8080".parse().unwrap();
        let six = "0000000000000000FFFF00000100007F:1F90";
        if cfg!(target_endian = "little") {
            for local in [
                "0100007F:1F90",
                "00000000:1F90",
                "00000000000000000000000000000000:1F90",
                six,
            ] {
                assert_eq!(listener(&line(local, "0A"), addr), Some("12345"), "{local}");
            }
            assert_eq!(listener(&line("0200007F:1F90", "0A"), addr), None);
            assert_eq!(listener(&line("0100007F:1F91", "0A"), addr), None);
            assert_eq!(listener(&line("0100007F:1F90", "01"), addr), None);
        }
        assert_eq!(listener("  sl  local_address rem_address   st", addr), None);
    }

    #[test]
    fn the_exact_account_counts_unless_threads_ended() {
        let usage = |whole, alive| Usage {
            whole: whole * tick(),
            alive,
        };
        let before = usage(100, Some(5_000_000));
        // Within two ticks the coarse account is only coarse.
        assert_eq!(usage(101, Some(5_000_000 + 123)).since(before), 123);
        // 50 ticks more than the living threads used: others have ended.
        assert_eq!(usage(150, Some(5_000_000)).since(before), 50 * tick());
        assert_eq!(usage(150, Some(4_000_000)).since(before), 50 * tick());
        assert_eq!(usage(103, None).since(before), 3 * tick());
    }

    #[test]
    fn this_process_is_found_by_its_socket_and_its_work_is_accounted() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Processes::listening(socket.local_addr().unwrap()).unwrap();
        assert_eq!(found.roots(), [std::process::id()]);
        assert!(found.name().is_some());
        assert!(found.descriptors().unwrap() >= 4, "0 to 2 and the socket");
        let held = found.held().unwrap();
        assert!(held.rss > 1_000_000 && held.threads >= 1, "{held:?}");
        let pids = found.all();
        let before = Usage::of(&pids).unwrap();
        let start = Instant::now();
        // Other tests of this process only add to it.
        while Usage::of(&pids).unwrap().since(before) < 50_000_000 {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "no work is accounted"
            );
        }
        drop(socket);
        assert_eq!(Usage::of(&[]), None);
        assert!(Processes::of_pid(u32::MAX).is_none());
    }
}
