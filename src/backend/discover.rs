//! Local servers, found by asking the ports they use by default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Role;
use crate::config::NodeConfig;

use super::client::{Ask, Client};
use super::probe::{Identity, identify};

/// Time for a candidate to accept a connection; a local one takes microseconds.
const CONNECT_LIMIT: Duration = Duration::from_millis(300);

/// Time for a candidate to say what it is.
const IDENTIFY_LIMIT: Duration = Duration::from_secs(2);

/// Time for everything, a name server that hangs included.
const DISCOVER_LIMIT: Duration = Duration::from_millis(2500);

/// Ollama's default port, and the one of a second instance beside it.
const OLLAMA_PORTS: [u16; 2] = [11434, 11435];

/// Default ports of llama-server, LM Studio and vLLM.
const OTHER_PORTS: [u16; 3] = [8080, 1234, 8000];

/// Servers that answer on this machine, named by what they are: `ollama`, `ollama-2`, `llama-server`, `lmstudio`, `vllm`, `openai`.
/// `own` is gpurouter's own address; it and other gpurouters are left out. Returns within three seconds.
pub fn discover(ollama_host: Option<&str>, own: SocketAddr) -> Vec<NodeConfig> {
    discover_at(&candidates(ollama_host), own)
}

/// Base URLs that [`discover`] asks, in the order in which their servers are listed. An `$OLLAMA_HOST` on this machine comes before
/// the default ports; one elsewhere stands instead of Ollama's.
pub fn candidates(ollama_host: Option<&str>) -> Vec<String> {
    let local = |port: &u16| format!("http://127.0.0.1:{port}");
    let named = ollama_host.and_then(ollama_url);
    let elsewhere = named.as_ref().is_some_and(|(_, local)| !local);
    let mut urls: Vec<String> = named.into_iter().map(|(url, _)| url).collect();
    if !elsewhere {
        urls.extend(OLLAMA_PORTS.iter().map(local));
    }
    urls.extend(OTHER_PORTS.iter().map(local));
    urls
}

/// `$OLLAMA_HOST` as Ollama reads it (`HOST`, `HOST:PORT`, `:PORT`, or a URL whose scheme sets the default port), and whether it
/// names this machine. An unspecified address is where a server listens; a client reaches it on loopback.
fn ollama_url(written: &str) -> Option<(String, bool)> {
    let written = written.trim().trim_matches(['"', '\'']);
    if written.is_empty() {
        return None;
    }
    let (scheme, rest, default_port) = match written.split_once("://") {
        Some(("https", rest)) => ("https", rest, 443),
        Some((_, rest)) => ("http", rest, 80),
        None => ("http", written, OLLAMA_PORTS[0]),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of a bare IPv6 address separate no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let port = port.parse().unwrap_or(default_port);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let (host, local) = match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() && ip.is_ipv4() => (Ipv4Addr::LOCALHOST.to_string(), true),
        Ok(ip) if ip.is_unspecified() => (format!("[{}]", Ipv6Addr::LOCALHOST), true),
        Ok(ip @ IpAddr::V6(_)) => (format!("[{ip}]"), ours(ip)),
        Ok(ip) => (ip.to_string(), ours(ip)),
        Err(_) if bare.is_empty() => (Ipv4Addr::LOCALHOST.to_string(), true),
        Err(_) => (bare.to_owned(), bare.eq_ignore_ascii_case("localhost")),
    };
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    Some((format!("{scheme}://{host}:{port}{slash}{path}"), local))
}

/// Whether the address is one of this machine's: a socket can be bound to no other.
fn ours(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// [`discover`] over the given base URLs. Several names of one address count once, under the first.
pub fn discover_at(urls: &[String], own: SocketAddr) -> Vec<NodeConfig> {
    let until = Instant::now() + DISCOVER_LIMIT;
    let (tell, told) = mpsc::channel();
    for (index, url) in urls.iter().enumerate() {
        let tell = tell.clone();
        let url = url.clone();
        // Not scoped: a name server that hangs must not hold the caller. A thread that cannot be had is a server not found.
        let asking = thread::Builder::new()
            .name("discover".to_owned())
            .spawn(move || {
                if let Some((address, identity)) = answer(&url, own) {
                    // Nobody listens any more when the time is up.
                    let _ = tell.send((index, url, address, identity));
                }
            });
        if asking.is_err() {
            break;
        }
    }
    drop(tell);
    let mut found = Vec::new();
    while let Ok(one) = told.recv_timeout(until.saturating_duration_since(Instant::now())) {
        found.push(one);
    }
    found.sort_by_key(|(index, ..)| *index);
    let mut addresses = Vec::new();
    let mut nodes: Vec<NodeConfig> = Vec::new();
    for (_, url, address, identity) in found {
        if addresses.contains(&address) {
            continue;
        }
        addresses.push(address);
        let name = free_name(word(identity), |name| {
            nodes.iter().any(|node| node.name == name)
        });
        nodes.push(NodeConfig {
            name,
            url,
            kind: None,
            role: Role::Any,
            gpu: None,
            vram_bytes: None,
        });
    }
    nodes
}

/// The name, or the name with the first number from 2 that is not taken.
pub(super) fn free_name(word: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(word) {
        return word.to_owned();
    }
    let mut number = 2_u64;
    loop {
        let name = format!("{word}-{number}");
        if !taken(&name) {
            return name;
        }
        number += 1;
    }
}

fn word(identity: Identity) -> &'static str {
    match identity {
        Identity::Ollama => "ollama",
        Identity::LlamaServer => "llama-server",
        Identity::Vllm => "vllm",
        Identity::LmStudio => "lmstudio",
        Identity::Gpurouter | Identity::OpenAi => "openai",
    }
}

/// The address behind the URL and what answers there; `None` where nothing does, or a gpurouter.
fn answer(url: &str, own: SocketAddr) -> Option<(SocketAddr, Identity)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let with_port;
    let authority = if authority.rsplit(':').next()?.parse::<u16>().is_ok() {
        authority
    } else {
        with_port = format!("{authority}:{}", if scheme == "https" { 443 } else { 80 });
        &with_port
    };
    let address = authority
        .to_socket_addrs()
        .ok()?
        .find(|address| TcpStream::connect_timeout(address, CONNECT_LIMIT).is_ok())?;
    if is_own(address, own) {
        return None;
    }
    // Made only now: where nothing listens, no client is needed.
    let client = Client::default();
    let ask = client.ask(url, IDENTIFY_LIMIT);
    match identify(&ask).ok()? {
        Identity::Gpurouter => None,
        _ if is_gpurouter(&ask) => None,
        identity => Some((address, identity)),
    }
}

fn is_own(address: SocketAddr, own: SocketAddr) -> bool {
    address.port() == own.port()
        && (address.ip() == own.ip() || own.ip().is_unspecified() && ours(address.ip()))
}

/// gpurouter's `/health` has a member that no other server's has.
fn is_gpurouter(ask: &Ask) -> bool {
    #[derive(serde::Deserialize)]
    struct Health {
        #[serde(rename = "gpu_pool_status")]
        _pool: serde::de::IgnoredAny,
    }
    ask.get("/health")
        .is_ok_and(|reply| reply.gpurouter || reply.json::<Health>().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ollama_host_as_ollama_does() {
        for (written, url, local) in [
            ("10.1.2.3", "http://10.1.2.3:11434", false),
            ("10.1.2.3:80", "http://10.1.2.3:80", false),
            ("0.0.0.0", "http://127.0.0.1:11434", true),
            ("0.0.0.0:11500", "http://127.0.0.1:11500", true),
            (":11500", "http://127.0.0.1:11500", true),
            ("http://gpu.lan", "http://gpu.lan:80", false),
            (
                "https://gpu.lan/ollama/",
                "https://gpu.lan:443/ollama",
                false,
            ),
            ("http://localhost:1", "http://localhost:1", true),
            ("\"127.0.0.1:7\"", "http://127.0.0.1:7", true),
            ("[::]:9", "http://[::1]:9", true),
            ("::1", "http://[::1]:11434", true),
            ("[2001:db8::1]", "http://[2001:db8::1]:11434", false),
            ("127.0.0.1:x", "http://127.0.0.1:11434", true),
        ] {
            assert_eq!(
                ollama_url(written),
                Some((url.to_owned(), local)),
                "{written}"
            );
        }
        assert_eq!(ollama_url("  "), None);
    }

    #[test]
    fn an_ollama_elsewhere_stands_instead_of_the_local_ones() {
        assert_eq!(
            candidates(Some("gpu.lan")),
            [
                "http://gpu.lan:11434",
                "http://127.0.0.1:8080",
                "http://127.0.0.1:1234",
                "http://127.0.0.1:8000"
            ]
        );
        assert_eq!(candidates(Some("0.0.0.0:7")).len(), 6);
        assert_eq!(candidates(None).len(), 5);
    }

    #[test]
    fn names_are_numbered_from_two() {
        assert_eq!(free_name("a", |_| false), "a");
        assert_eq!(free_name("a", |name| name == "a"), "a-2");
        assert_eq!(free_name("a", |name| ["a", "a-2"].contains(&name)), "a-3");
    }

    #[test]
    fn an_unspecified_own_address_is_every_address_of_this_machine() {
        let own = |text: &str| text.parse().expect("an address");
        assert!(is_own(own("127.0.0.1:1"), own("0.0.0.0:1")));
        assert!(is_own(own("127.0.0.1:1"), own("127.0.0.1:1")));
        assert!(!is_own(own("127.0.0.1:2"), own("0.0.0.0:1")));
        assert!(!is_own(own("127.0.0.1:1"), own("10.0.0.1:1")));
    }

    proptest::proptest! {
        #[test]
        fn any_ollama_host_is_a_url_or_nothing(written in "[ \"a-z0-9:/.\\[\\]@-]{0,30}") {
            if let Some((url, _)) = ollama_url(&written) {
                proptest::prop_assert!(url.starts_with("http") && !url.ends_with('/'), "{}", url);
            }
        }
    }
}
