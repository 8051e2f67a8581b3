//! Where requests go: scheme, host, port and path prefix.

use std::{fmt, sync::Arc};

/// An upstream server, parsed from `http://host:port/prefix` or `https://…`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    parts: Arc<Parts>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    tls: bool,
    host: String,
    port: u16,
    prefix: String,
    /// `Host` field, and with the scheme the key of the connection pool.
    authority: String,
    key: String,
}

/// Why a text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// The host is missing or has characters that no host has.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// User and password in an address end up in logs; keys belong into a header.
    Credentials,
    /// The path has a query, a fragment, or characters that a request line cannot carry.
    Path,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "must begin with http:// or https://",
            Self::Host => "has no valid host",
            Self::Port => "has a port that is not a number from 1 to 65535",
            Self::Credentials => "must not contain user and password",
            Self::Path => "has a path with a query, a fragment or a character that must be encoded",
        })
    }
}

impl std::error::Error for UrlError {}

impl Origin {
    /// Parses an address. A trailing `/` of the prefix is dropped.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = if scheme.eq_ignore_ascii_case("https") {
            true
        } else if scheme.eq_ignore_ascii_case("http") {
            false
        } else {
            return Err(UrlError::Scheme);
        };
        let (authority, prefix) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix
            .bytes()
            .any(|byte| !byte.is_ascii_graphic() || b"?#".contains(&byte))
        {
            return Err(UrlError::Path);
        }
        let (host, port) = split_port(authority)?;
        let default = if tls { 443 } else { 80 };
        let port = port.unwrap_or(default);
        let host = host.to_ascii_lowercase();
        let bracketed = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let authority = if port == default {
            bracketed
        } else {
            format!("{bracketed}:{port}")
        };
        let key = format!("{}://{authority}", if tls { "https" } else { "http" });
        Ok(Self {
            parts: Arc::new(Parts {
                tls,
                host,
                port,
                prefix: prefix.to_owned(),
                authority,
                key,
            }),
        })
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.parts.tls
    }

    /// Name or address without brackets, in lower case.
    pub fn host(&self) -> &str {
        &self.parts.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.parts.port
    }

    /// What precedes every target: empty, or a path that begins with `/` and does not end with it.
    pub fn prefix(&self) -> &str {
        &self.parts.prefix
    }

    /// Value of `Host`: the port only where it is not the scheme's.
    pub fn host_header(&self) -> &str {
        &self.parts.authority
    }

    /// Scheme and authority: connections to equal keys are interchangeable.
    pub(super) fn key(&self) -> &str {
        &self.parts.key
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.key)?;
        f.write_str(&self.parts.prefix)
    }
}

impl std::str::FromStr for Origin {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        Self::parse(url)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(UrlError::Host);
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(UrlError::Port),
        }
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(valid) {
            return Err(UrlError::Host);
        }
        (host, port)
    };
    let Some(port) = port else {
        return Ok((host, None));
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port > 0 => Ok((host, Some(port))),
        _ => Err(UrlError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_an_address_into_its_parts() {
        let origin = Origin::parse("http://Gpu-1.lan:11434/ollama/").unwrap();
        assert_eq!(origin.host(), "gpu-1.lan");
        assert_eq!(origin.host_header(), "gpu-1.lan:11434");
        assert_eq!(origin.prefix(), "/ollama");
        assert_eq!(origin.to_string(), "http://gpu-1.lan:11434/ollama");
        let origin = Origin::parse("HTTPS://api.example.com").unwrap();
        assert!(origin.is_tls());
        assert_eq!(
            (origin.port(), origin.host_header()),
            (443, "api.example.com")
        );
        let origin = Origin::parse("http://[::1]:8080/").unwrap();
        assert_eq!((origin.host(), origin.host_header()), ("::1", "[::1]:8080"));
    }

    #[test]
    fn refuses_what_would_go_somewhere_else() {
        for (url, error) in [
            ("gpu-1:11434", UrlError::Scheme),
            ("ftp://gpu-1", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http:///path", UrlError::Host),
            ("http://a b", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://a:0", UrlError::Port),
            ("http://a:+80", UrlError::Port),
            ("http://a:65536", UrlError::Port),
            ("http://a:", UrlError::Port),
            ("http://user:pass@a", UrlError::Credentials),
            ("http://a/b?c", UrlError::Path),
            ("http://a/b\r\nX: y", UrlError::Path),
        ] {
            assert_eq!(Origin::parse(url), Err(error), "{url}");
        }
    }
}
