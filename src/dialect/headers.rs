//! Which headers belong to a connection and which to a message, and the answers to a browser's preflight.

/// Headers of one connection (RFC 9110, 7.6.1, and the older proxies' ones), never forwarded.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header belongs to the connection only: by its name, or because the message's `Connection` header names it.
pub fn is_hop_by_hop(name: &str, connection: Option<&str>) -> bool {
    HOP_BY_HOP
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
        || connection.is_some_and(|names| {
            names
                .split(',')
                .any(|named| named.trim().eq_ignore_ascii_case(name))
        })
}

/// Whether a client's header goes to the node. Besides hop-by-hop ones these do not: `Host` (rewritten, or Ollama answers 403),
/// `Content-Length` and `Expect` (the framing is ours), `Accept-Encoding` (a node must not compress a stream), and `Origin` with its
/// preflight headers (checked here; Ollama would refuse the page's origin again). Keys are the server's business.
pub fn keep_request_header(name: &str, connection: Option<&str>) -> bool {
    const OURS: [&str; 7] = [
        "host",
        "content-length",
        "expect",
        "accept-encoding",
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
    ];
    !is_hop_by_hop(name, connection) && !OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Whether a node's header goes to the client. Besides hop-by-hop ones these do not: `Content-Length` (the framing is ours), `Date` and
/// `Server` (there must be one of each), and the node's opinion on origins.
pub fn keep_response_header(name: &str, connection: Option<&str>) -> bool {
    const OURS: [&str; 3] = ["content-length", "date", "server"];
    let cors = name
        .get(.."access-control-".len())
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("access-control-"));
    !cors
        && !is_hop_by_hop(name, connection)
        && !OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Headers that a page's SDK may send when it does not say which (Ollama's own list, shortened to those that clients use).
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, OpenAI-Beta, \
    x-stainless-arch, x-stainless-async, x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, \
    x-stainless-os, x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count, x-stainless-runtime, \
    x-stainless-runtime-version, x-stainless-timeout, x-api-key, anthropic-version, anthropic-beta";

/// Bytes of a requested header list that are echoed; longer is no browser's.
const ECHOED_BYTES: usize = 4096;

/// The headers of the 204 that answers a preflight (`OPTIONS`) of an allowed origin, beside those of [`cors_answer`]. The headers that the page asks for are granted: who
/// may call is decided by the origin.
pub fn cors_preflight(requested_headers: Option<&str>) -> Vec<(&'static str, String)> {
    let is_list = |list: &&str| {
        !list.is_empty()
            && list.len() <= ECHOED_BYTES
            && list
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_, ".contains(&byte))
    };
    let headers = requested_headers.filter(is_list).unwrap_or(ALLOWED_HEADERS);
    vec![
        (
            "Access-Control-Allow-Methods",
            "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS".to_owned(),
        ),
        ("Access-Control-Allow-Headers", headers.to_owned()),
        // Twelve hours, as Ollama says.
        ("Access-Control-Max-Age", "43200".to_owned()),
    ]
}

/// The headers that an answer to a page of an allowed origin carries; `exposed` are the names of headers that the page may read.
pub fn cors_answer(origin: &str, exposed: &str) -> Vec<(&'static str, String)> {
    vec![
        ("Access-Control-Allow-Origin", origin.to_owned()),
        ("Access-Control-Expose-Headers", exposed.to_owned()),
        ("Vary", "Origin".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_headers_stay_on_their_side() {
        assert!(is_hop_by_hop("Transfer-Encoding", None));
        assert!(is_hop_by_hop("X-Session", Some("close, x-session")));
        assert!(!is_hop_by_hop("X-Session", Some("close")));
        assert!(!keep_request_header("HOST", None) && !keep_request_header("Origin", None));
        assert!(keep_request_header("Authorization", None));
        assert!(
            !keep_response_header("Date", None)
                && !keep_response_header("Access-Control-Allow-Origin", None)
        );
        assert!(
            keep_response_header("Content-Type", None)
                && keep_response_header("X-Request-Id", None)
        );
    }

    #[test]
    fn a_preflight_grants_what_was_asked_but_echoes_no_nonsense() {
        let headers = |asked| {
            cors_preflight(asked)
                .into_iter()
                .find(|(name, _)| *name == "Access-Control-Allow-Headers")
                .unwrap()
                .1
        };
        assert_eq!(
            headers(Some("x-stainless-os, x-mine")),
            "x-stainless-os, x-mine"
        );
        assert!(headers(Some("a\r\nSet-Cookie: b")).starts_with("Authorization"));
        assert!(headers(None).contains("x-stainless-lang"));
    }
}
