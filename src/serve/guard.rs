//! Who may talk to the router: the Host and Origin rule.
//!
//! A page in a browser must not reach the models behind. Ollama checks this itself; a proxy that rewrites Host would take the check
//! away, so the same check is made here, before anything else.

use std::net::IpAddr;

/// Origins that Ollama allows by default besides local ones: schemes of desktop programs and editor extensions.
const ORIGIN_SCHEMES: [&str; 4] = ["app", "file", "tauri", "vscode-webview"];

/// The names a request may use for this machine.
#[derive(Debug, Clone)]
pub(super) struct HostRule {
    own_name: Option<String>,
    listed: Vec<String>,
}

impl HostRule {
    /// `listed` are the configured names; `own_name` is the machine's.
    pub(super) fn new(listed: &[String], own_name: Option<String>) -> Self {
        Self {
            own_name: own_name.map(|name| name.to_lowercase()),
            listed: listed.iter().map(|host| host.to_lowercase()).collect(),
        }
    }

    /// Whether a `Host` value names this machine: loopback, a private address, the machine's own name, or a listed one.
    pub(super) fn allows_host(&self, value: &str) -> bool {
        let host = without_port(value).to_lowercase();
        let host = host.trim_end_matches('.');
        if let Ok(address) = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
        {
            return is_local(address) || self.listed.iter().any(|listed| listed == host);
        }
        let local_suffix = [".localhost", ".local", ".internal"]
            .iter()
            .any(|suffix| host.ends_with(suffix));
        host.is_empty()
            || host == "localhost"
            || local_suffix
            || self.own_name.as_deref() == Some(host)
            || self.listed.iter().any(|listed| listed == host)
    }

    /// Whether an `Origin` value is local or one of Ollama's defaults.
    pub(super) fn allows_origin(&self, value: &str) -> bool {
        let Some((scheme, rest)) = value.split_once("://") else {
            return false;
        };
        if ORIGIN_SCHEMES.contains(&scheme) {
            return true;
        }
        let authority = rest.split('/').next().unwrap_or(rest);
        matches!(scheme, "http" | "https") && !authority.is_empty() && self.allows_host(authority)
    }
}

fn without_port(value: &str) -> &str {
    let value = value.trim();
    if let Some(end) = value.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return value.get(..end + 2).unwrap_or(value);
    }
    match value.split_once(':') {
        // A second colon: a bare IPv6 address, which has no port.
        Some((_, rest)) if rest.contains(':') => value,
        Some((host, _)) => host,
        None => value,
    }
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6
                    .to_ipv4_mapped()
                    .is_some_and(|v4| is_local(IpAddr::V4(v4)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> HostRule {
        HostRule::new(&["gpu.example".to_owned()], Some("Tower".to_owned()))
    }

    #[test]
    fn local_names_and_addresses_are_this_machine() {
        for host in [
            "localhost",
            "localhost:8512",
            "127.0.0.1:8512",
            "[::1]:8512",
            "::1",
            "192.168.1.5:80",
            "10.0.0.1",
            "tower:8512",
            "nas.local",
            "x.internal:1",
            "GPU.example",
            "foo.localhost",
            "localhost.",
        ] {
            assert!(rule().allows_host(host), "{host}");
        }
    }

    #[test]
    fn a_name_that_a_stranger_can_register_is_not() {
        for host in [
            "example.com",
            "evil.example:8512",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "8.8.8.8",
            "x",
            "gpu.example.evil.com",
            "local",
            "[2001:db8::1]:80",
        ] {
            assert!(!rule().allows_host(host), "{host}");
        }
    }

    #[test]
    fn origins_are_local_or_desktop_programs() {
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "app://obsidian.md",
            "vscode-webview://abc",
            "tauri://localhost",
            "file://",
        ] {
            assert!(rule().allows_origin(origin), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://localhost.evil.com",
            "chrome://x",
            "https://",
        ] {
            assert!(!rule().allows_origin(origin), "{origin}");
        }
    }
}
