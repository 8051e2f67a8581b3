//! The HTTP client for registries: redirects followed by hand, every wait and every size bounded, the token for its own host only.

use std::io::Read;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{NoProxy, Proxy, Url};

use super::web_error::{Trouble, WebError, shown};
use crate::backend;

/// Redirects that are followed for one request; a blob takes one or two.
const MOST_HOPS: u32 = 5;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To connect.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// For one thing (a list, a manifest, a header), redirects, waits and all.
    pub total: Duration,
    /// For everything that one search asks the network.
    pub search: Duration,
    /// Longest `Retry-After` that is waited for.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(15),
            total: Duration::from_secs(120),
            search: Duration::from_secs(600),
            patience: Duration::from_secs(10),
        }
    }
}

/// The proxies that the user's environment names for the outside world.
// No `Debug`: their addresses may hold passwords.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For `http://` (`http_proxy`).
    pub http: Option<String>,
    /// For `https://` (`https_proxy`).
    pub https: Option<String>,
    /// For both where they have none of their own (`all_proxy`).
    pub all: Option<String>,
    /// Hosts that are reached directly (`no_proxy`).
    pub none: Option<String>,
}

/// A secret for one server.
#[derive(Clone)]
pub(super) struct Token {
    /// A URL of that server.
    pub origin: Url,
    /// What comes after `Bearer`.
    pub secret: String,
}

/// The client.
pub(super) struct Web {
    limits: Limits,
    proxies: Proxies,
    token: Option<Token>,
    until: Instant,
    /// For this machine's own addresses, which no proxy could reach.
    direct: OnceLock<Result<Client, String>>,
    outside: OnceLock<Result<Client, String>>,
}

/// An answer whose head is there and whose body is not read yet.
pub(super) struct Answer {
    /// Where it came from in the end.
    pub url: Url,
    /// The response; a success.
    pub response: Response,
    /// When reading it must be over.
    pub until: Instant,
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        text(self.response.headers(), name)
    }
}

/// A whole answer.
pub(super) struct Document {
    /// Where the next page of a list is.
    pub next: Option<Url>,
    /// The body.
    pub body: Vec<u8>,
}

impl Web {
    pub(super) fn new(limits: Limits, proxies: Proxies, token: Option<Token>) -> Self {
        Self {
            limits,
            proxies,
            token,
            until: Instant::now() + limits.search,
            direct: OnceLock::new(),
            outside: OnceLock::new(),
        }
    }

    /// When something that is begun now must be over.
    pub(super) fn deadline(&self) -> Instant {
        (Instant::now() + self.limits.total).min(self.until)
    }

    /// A whole answer of at most `largest` bytes.
    pub(super) fn document(
        &self,
        url: &Url,
        accept: &str,
        largest: u64,
    ) -> Result<Document, WebError> {
        let mut answer = self.get(url, accept, None, self.deadline())?;
        let next = next_page(&answer);
        let mut body = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let count = self.read(&mut answer, &mut chunk)?;
            if count == 0 {
                return Ok(Document { next, body });
            }
            body.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if body.len() as u64 > largest {
                return Err(WebError::new(&answer.url, Trouble::TooLarge(largest)));
            }
        }
    }

    /// Sends a GET, for the bytes from `range` where one is given (first and last). Follows redirects; waits once where the server asks for
    /// it and not for long.
    pub(super) fn get(
        &self,
        url: &Url,
        accept: &str,
        range: Option<(u64, u64)>,
        until: Instant,
    ) -> Result<Answer, WebError> {
        let mut at = url.clone();
        let mut hops = 0;
        let mut waited = false;
        loop {
            let response = self.send(&at, accept, range, until)?;
            let status = response.status().as_u16();
            let failed = |trouble| Err(WebError::new(&at, trouble));
            match status {
                200..=299 => {
                    return Ok(Answer {
                        url: at,
                        response,
                        until,
                    });
                }
                301 | 302 | 303 | 307 | 308 => {
                    hops += 1;
                    if hops > MOST_HOPS {
                        return failed(Trouble::Redirects(MOST_HOPS));
                    }
                    let target = target(&at, text(response.headers(), &LOCATION));
                    at = target.map_err(|trouble| WebError::new(&at, trouble))?;
                }
                429 | 503 => {
                    let after = retry_after(response.headers());
                    match after.filter(|after| !waited && *after <= self.limits.patience) {
                        Some(after) => {
                            waited = true;
                            thread::sleep(after);
                        }
                        None => return failed(Trouble::Busy { status, after }),
                    }
                }
                401 | 403 => {
                    let token = self.secret_for(url).is_some();
                    return failed(Trouble::Denied { status, token });
                }
                404 => return failed(Trouble::NotFound),
                416 => {
                    let size = text(response.headers(), &reqwest::header::CONTENT_RANGE)
                        .and_then(|range| range.strip_prefix("bytes */")?.parse().ok());
                    return failed(Trouble::BeyondEnd { size });
                }
                _ => return failed(Trouble::Status(status)),
            }
        }
    }

    /// Reads on; 0 at the end.
    pub(super) fn read(&self, answer: &mut Answer, buffer: &mut [u8]) -> Result<usize, WebError> {
        if Instant::now() >= answer.until {
            return Err(WebError::new(&answer.url, Trouble::Slow(self.limits.total)));
        }
        answer.response.read(buffer).map_err(|error| {
            let timeout = (error.get_ref())
                .and_then(|inner| inner.downcast_ref::<reqwest::Error>())
                .is_some_and(reqwest::Error::is_timeout);
            let trouble = if timeout {
                Trouble::Stalled(self.limits.idle)
            } else {
                Trouble::Broken(backend::cause(&error))
            };
            WebError::new(&answer.url, trouble)
        })
    }

    fn send(
        &self,
        url: &Url,
        accept: &str,
        range: Option<(u64, u64)>,
        until: Instant,
    ) -> Result<Response, WebError> {
        let failed = |trouble| WebError::new(url, trouble);
        if Instant::now() >= until {
            return Err(failed(Trouble::Slow(self.limits.total)));
        }
        let client = self
            .client(url)
            .map_err(|text| failed(Trouble::Client(text)))?;
        // A compressed body would have other bytes at other places.
        let mut request = client
            .get(url.clone())
            .header(ACCEPT, accept)
            .header(ACCEPT_ENCODING, "identity");
        if let Some((first, last)) = range {
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(secret) = self.secret_for(url) {
            request = request.header(AUTHORIZATION, format!("Bearer {secret}"));
        }
        request.send().map_err(|error| {
            failed(if error.is_connect() {
                Trouble::Connect(if error.is_timeout() {
                    format!(
                        "no answer within {:.1} s",
                        self.limits.connect.as_secs_f32()
                    )
                } else {
                    backend::cause(&error)
                })
            } else if error.is_timeout() {
                Trouble::Stalled(self.limits.idle)
            } else {
                Trouble::Broken(backend::cause(&error))
            })
        })
    }

    /// The token, for URLs of its own server: the same scheme, host and port. After a redirect to a storage service it stays at home.
    fn secret_for(&self, url: &Url) -> Option<&str> {
        let token = self.token.as_ref()?;
        (token.origin.origin() == url.origin()).then_some(&*token.secret)
    }

    fn client(&self, url: &Url) -> Result<&Client, String> {
        let (cell, proxies) = if is_loopback(url) {
            (&self.direct, None)
        } else {
            (&self.outside, Some(&self.proxies))
        };
        cell.get_or_init(|| self.build(proxies))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn build(&self, proxies: Option<&Proxies>) -> Result<Client, String> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(backend::tls(true)?)
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(self.limits.connect)
            // Of a blocking client: for the head, and anew for each piece of the body.
            .timeout(self.limits.idle)
            .user_agent(concat!("gpurouter/", env!("CARGO_PKG_VERSION")));
        for proxy in proxies.map(Proxies::all).transpose()?.unwrap_or_default() {
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(|error| backend::cause(&error))
    }
}

impl Proxies {
    fn all(&self) -> Result<Vec<Proxy>, String> {
        let none = self.none.as_deref().and_then(NoProxy::from_string);
        let mut proxies = Vec::new();
        // The first that takes a URL is used.
        if let Some(url) = &self.http {
            proxies.push(Proxy::http(url).map_err(|error| wrong_proxy("http_proxy", &error))?);
        }
        if let Some(url) = &self.https {
            proxies.push(Proxy::https(url).map_err(|error| wrong_proxy("https_proxy", &error))?);
        }
        if let Some(url) = &self.all {
            proxies.push(Proxy::all(url).map_err(|error| wrong_proxy("all_proxy", &error))?);
        }
        Ok(proxies
            .into_iter()
            .map(|proxy| proxy.no_proxy(none.clone()))
            .collect())
    }
}

/// Without the value: it may hold a password.
fn wrong_proxy(variable: &str, error: &reqwest::Error) -> String {
    format!(
        "the proxy in {variable} is of no use: {}",
        backend::cause(error)
    )
}

/// Whether the URL is one of this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Where a redirect leads: never from https to something weaker.
fn target(at: &Url, location: Option<&str>) -> Result<Url, Trouble> {
    let location = location.ok_or(Trouble::NoTarget)?;
    let target = at
        .join(location)
        .map_err(|_| Trouble::BadTarget(location.chars().take(200).collect()))?;
    let secure = at.scheme() != "https" || target.scheme() == "https";
    if !matches!(target.scheme(), "http" | "https") || !secure {
        return Err(Trouble::BadTarget(shown(&target)));
    }
    Ok(target)
}

/// The wait that a server asks for, where it says it in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = text(headers, &RETRY_AFTER)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The address in `Link: <…>; rel="next"`, on the server that was asked: a mirror may repeat what the original says of itself.
fn next_page(answer: &Answer) -> Option<Url> {
    let links = answer.header(&reqwest::header::LINK)?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let (_, after) = next.split_once('<')?;
    let (address, _) = after.split_once('>')?;
    let next = answer.url.join(address).ok()?;
    let mut here = answer.url.clone();
    here.set_path(next.path());
    here.set_query(next.query());
    Some(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_addresses_are_loopback() {
        let loopback = |text: &str| is_loopback(&Url::parse(text).expect("a URL"));
        for url in [
            "http://127.0.0.1:1/",
            "http://127.9.9.9/",
            "http://localhost/",
            "http://[::1]:1/",
        ] {
            assert!(loopback(url), "{url}");
        }
        for url in [
            "http://127.0.0.1.example/",
            "http://192.168.0.1/",
            "https://huggingface.co/",
            "http://[::2]/",
        ] {
            assert!(!loopback(url), "{url}");
        }
    }

    #[test]
    fn the_token_stays_with_its_server() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let web = Web::new(
            Limits::default(),
            Proxies::default(),
            Some(Token {
                origin: url("https://huggingface.co"),
                secret: "s".to_owned(),
            }),
        );
        assert_eq!(
            web.secret_for(&url("https://huggingface.co/a/b?c")),
            Some("s")
        );
        for other in [
            "http://huggingface.co/",
            "https://huggingface.co:444/",
            "https://cdn.huggingface.co/",
            "https://huggingface.co.evil/",
        ] {
            assert_eq!(web.secret_for(&url(other)), None, "{other}");
        }
    }

    #[test]
    fn a_redirect_never_leads_to_something_weaker() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let leads = |from: &str, location| target(&url(from), location);
        let ok = |from, to: &'static str| leads(from, Some(to)).map(|url| url.to_string());
        assert_eq!(
            ok("https://a/b/c", "../d?e"),
            Ok("https://a/d?e".to_owned())
        );
        assert_eq!(ok("http://a/", "https://b/"), Ok("https://b/".to_owned()));
        assert_eq!(ok("http://a/", "//b/c"), Ok("http://b/c".to_owned()));
        for (from, to) in [
            ("https://a/", "http://a/"),
            ("https://a/", "file:///etc/passwd"),
            ("http://a/", "ftp://b/"),
            ("http://a/", "http://"),
        ] {
            assert!(
                matches!(leads(from, Some(to)), Err(Trouble::BadTarget(_))),
                "{to}"
            );
        }
        assert_eq!(leads("http://a/", None), Err(Trouble::NoTarget));
    }

    #[test]
    fn a_proxy_that_is_none_is_told_without_its_value() {
        let proxies = Proxies {
            https: Some("http://me:secret@:x".to_owned()),
            ..Proxies::default()
        };
        let told = proxies.all().unwrap_err();
        assert!(
            told.contains("https_proxy") && !told.contains("secret"),
            "{told}"
        );
    }
}
