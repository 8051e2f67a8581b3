//! Addresses in the configuration: node URLs, the listen address, host names, `OLLAMA_HOST`.

use std::net::{IpAddr, SocketAddr};

use reqwest::Url;

/// A node's base URL in its canonical form, without a trailing slash; `http://` is added when there is no scheme.
pub(super) fn node_url(text: &str) -> Option<String> {
    canonical(&parse(text)?)
}

fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&with_scheme).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.port() != Some(0)
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then_some(url)
}

fn canonical(url: &Url) -> Option<String> {
    let text = url.as_str().trim_end_matches('/');
    // Only a path of nothing but slashes could shorten the text into another URL.
    Url::parse(text).is_ok().then(|| text.to_owned())
}

/// `host:port` of a canonical URL, the scheme's own port included.
pub(super) fn host_and_port(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!(
        "{}:{}",
        url.host_str()?,
        url.port_or_known_default()?
    ))
}

/// The server that a canonical URL means, the same for every spelling of this machine's own name.
pub(super) fn server(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = match url.host_str()? {
        "localhost" | "[::1]" => "127.0.0.1",
        host => host,
    };
    let port = url.port_or_known_default()?;
    Some(format!("{host}:{port}{}", url.path().trim_end_matches('/')))
}

/// The listen address, when it is a loopback one; otherwise what it must be.
pub(super) fn listen(text: &str) -> Result<String, String> {
    let parsed = text.strip_prefix("localhost:").map_or_else(
        || text.parse::<SocketAddr>().ok(),
        |port| {
            let port = port.parse::<u16>().ok()?;
            Some(SocketAddr::from(([127, 0, 0, 1], port)))
        },
    );
    let Some(address) = parsed else {
        return Err(format!(
            "must be {}, not `{}`",
            super::Kind::Listen.allowed(),
            text.escape_debug()
        ));
    };
    if address.ip().to_canonical().is_loopback() {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "must be a loopback address, not `{text}`: whoever reaches it could use the models, and keys come later"
        ))
    }
}

/// Whether a text is a host name or an IP address as it may stand in a `Host` header, without the port.
pub(super) fn is_host_name(text: &str) -> bool {
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}

/// The base URL that `OLLAMA_HOST` stands for, by Ollama's own rules: host, `host:port` or URL, an optional path, port 11434 unless a scheme says another.
/// An address that means "every interface" to a server is this machine for a client.
pub(super) fn ollama_host(text: &str) -> Option<String> {
    let (scheme, rest, port) = match text.split_once("://") {
        None => ("http", text, 11434),
        Some(("http", rest)) => ("http", rest, 80),
        Some(("https", rest)) => ("https", rest, 443),
        Some(_) => return None,
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => (format!("[{address}]"), port),
        _ => match authority.rsplit_once(':') {
            Some((host, written)) if !written.ends_with(']') => {
                (host.to_owned(), written.parse::<u16>().ok()?)
            }
            _ => (authority.to_owned(), port),
        },
    };
    let host = match host.as_str() {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    node_url(&format!("{scheme}://{host}:{port}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_scheme_is_http() {
        assert_eq!(node_url("gpu:11434").as_deref(), Some("http://gpu:11434"));
        assert_eq!(
            node_url("https://Host/prefix//").as_deref(),
            Some("https://host/prefix")
        );
        assert_eq!(node_url("[::1]:1").as_deref(), Some("http://[::1]:1"));
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        for text in [
            "",
            "ftp://host",
            "http://",
            "http://user:pw@host",
            "http://host?x=1",
            "http://host/#a",
            "http://host:99999",
            "http://host:0",
            "a b",
            "unix:///run/x",
        ] {
            assert_eq!(node_url(text), None, "{text}");
        }
    }

    #[test]
    fn names_of_this_machine_are_one_server() {
        assert_eq!(
            server("http://localhost:11434"),
            server("http://127.0.0.1:11434")
        );
        assert_ne!(
            server("http://127.0.0.1:11434"),
            server("http://127.0.0.1:11435")
        );
        assert_ne!(
            server("http://127.0.0.1:1/a"),
            server("http://127.0.0.1:1/b")
        );
    }

    #[test]
    fn only_loopback_is_listened_on() {
        for text in ["127.0.0.1:8512", "127.9.9.9:0", "[::1]:1", "localhost:0"] {
            assert_eq!(listen(text).as_deref(), Ok(text));
        }
        for text in ["0.0.0.0:8512", "[::]:8512", "192.168.1.2:80"] {
            assert!(listen(text).unwrap_err().contains("keys come later"));
        }
        for text in ["", "8512", "127.0.0.1", "127.0.0.1:70000", "myhost:80"] {
            assert!(listen(text).unwrap_err().contains("such as"), "{text}");
        }
    }

    #[test]
    fn ollama_host_follows_ollamas_rules() {
        for (text, url) in [
            ("127.0.0.1", "http://127.0.0.1:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:5000", "http://127.0.0.1:5000"),
            (":5000", "http://127.0.0.1:5000"),
            ("gpu", "http://gpu:11434"),
            ("http://gpu", "http://gpu"),
            ("https://gpu/ollama/", "https://gpu/ollama"),
            ("gpu:1/ollama", "http://gpu:1/ollama"),
            ("::1", "http://[::1]:11434"),
            ("[::]:5000", "http://[::1]:5000"),
            ("[fe80::1]", "http://[fe80::1]:11434"),
        ] {
            assert_eq!(ollama_host(text).as_deref(), Some(url), "{text}");
        }
        assert_eq!(ollama_host("ftp://gpu"), None);
        assert_eq!(ollama_host("gpu:port"), None);
    }

    proptest::proptest! {
        #[test]
        fn a_canonical_url_stays_as_it_is(text in "(https?://)?[a-zA-Z0-9.:/\\[\\]-]{0,30}") {
            if let Some(url) = node_url(&text) {
                proptest::prop_assert_eq!(node_url(&url), Some(url.clone()));
            }
            let _ = ollama_host(&text);
            let _ = listen(&text);
        }
    }
}
