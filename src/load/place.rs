//! Where a target is.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// An address that requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where to connect.
    pub addr: SocketAddr,
    /// What the `Host` header says.
    host: String,
    /// What stands before the path of every request; empty or `/…` without a slash at its end.
    prefix: String,
}

impl Place {
    /// At an address.
    pub fn at(addr: SocketAddr) -> Self {
        Self {
            addr,
            host: addr.to_string(),
            prefix: String::new(),
        }
    }

    /// Of `http://HOST[:PORT][/PREFIX]`.
    ///
    /// # Errors
    /// Another scheme, or a host without an address.
    pub fn of_url(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| format!("`{url}`: only http://HOST:PORT can be measured"))?;
        let (host, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let wrong = |text: &str| format!("`{url}`: {text}");
        if host.is_empty()
            || host.contains(['@', '?', '#', ' '])
            || prefix.contains(['?', '#', ' '])
        {
            return Err(wrong("expected http://HOST:PORT"));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let full = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let mut found = full
            .to_socket_addrs()
            .map_err(|error| wrong(&error.to_string()))?;
        Ok(Self {
            addr: found
                .next()
                .ok_or_else(|| wrong("the host has no address"))?,
            host: host.to_owned(),
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }

    /// What the `Host` header says.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// What stands before the path of every request.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_an_address_and_a_prefix() {
        let place = Place::of_url("http://127.0.0.1:81/ollama/").unwrap();
        assert_eq!(place.addr, "127.0.0.1:81".parse().unwrap());
        assert_eq!((place.host(), place.prefix()), ("127.0.0.1:81", "/ollama"));
        assert_eq!(place.to_string(), "http://127.0.0.1:81/ollama");
        assert_eq!(Place::of_url("http://127.0.0.1").unwrap().addr.port(), 80);
        let six = Place::of_url("http://[::1]:82").unwrap();
        assert_eq!(six.addr, "[::1]:82".parse().unwrap());
        for wrong in [
            "https://127.0.0.1",
            "127.0.0.1:80",
            "http://",
            "http:///a",
            "http://u@127.0.0.1",
            "http://127.0.0.1:1/a?b",
            "http://127.0.0.1:99999",
        ] {
            assert!(Place::of_url(wrong).is_err(), "{wrong}");
        }
    }
}
