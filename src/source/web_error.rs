//! Why a registry or another server gave no usable answer.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

/// Why a server gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebError {
    /// Address without its query, which may hold a signature.
    pub url: String,
    /// What went wrong.
    pub trouble: Trouble,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The client itself could not be set up.
    Client(String),
    /// No connection; the text says why.
    Connect(String),
    /// Not one byte for that long.
    Stalled(Duration),
    /// Bytes came, but it was not over in that time.
    Slow(Duration),
    /// The connection failed in the middle.
    Broken(String),
    /// 401 or 403.
    Denied {
        /// Which.
        status: u16,
        /// Whether a token had been sent.
        token: bool,
    },
    /// 404.
    NotFound,
    /// 429 or 503, and the wait it asks for where it does.
    Busy {
        /// Which.
        status: u16,
        /// The wait.
        after: Option<Duration>,
    },
    /// Any other status.
    Status(u16),
    /// More redirects than are followed.
    Redirects(u32),
    /// A redirect that does not say where to.
    NoTarget,
    /// A redirect to what is not followed: no address, or from https to something weaker.
    BadTarget(String),
    /// The answer is larger than what was asked for can be; the limit in bytes.
    TooLarge(u64),
    /// The server has no such range: the file ends before it.
    BeyondEnd {
        /// Bytes of the file, where it says them.
        size: Option<u64>,
    },
    /// It sent other bytes than it was asked for.
    WrongRange {
        /// First byte that was asked for.
        asked: u64,
        /// What it said it was sending.
        sent: String,
    },
    /// The connection ended again and again before the file did.
    Cut {
        /// Bytes that came.
        at: u64,
        /// Bytes of the file.
        size: Option<u64>,
    },
    /// The file became another one while it was read.
    Changed,
    /// It is not what was asked for; the text says what was.
    NotA(&'static str),
}

impl WebError {
    pub(super) fn new(url: &Url, trouble: Trouble) -> Self {
        Self {
            url: shown(url),
            trouble,
        }
    }

    /// Whether the server said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.trouble == Trouble::NotFound
    }
}

/// A URL as it may be shown: without its query, which may hold a signature, and without credentials.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs that cannot have a host, which are never fetched.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

impl fmt::Display for WebError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.trouble)
    }
}

impl std::error::Error for WebError {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(text) => write!(f, "the HTTP client could not start: {text}"),
            Self::Connect(text) => write!(f, "could not connect: {text}"),
            Self::Stalled(limit) => write!(f, "no byte within {:.1} s", limit.as_secs_f32()),
            Self::Slow(limit) => write!(f, "not complete within {:.1} s", limit.as_secs_f32()),
            Self::Broken(text) => write!(f, "the connection failed: {text}"),
            Self::Denied {
                status,
                token: false,
            } => write!(f, "access denied ({status})"),
            Self::Denied {
                status,
                token: true,
            } => write!(f, "access denied ({status}) in spite of the token"),
            Self::NotFound => f.write_str("not found (404)"),
            Self::Busy { status, after } => {
                let what = if *status == 429 {
                    "too many requests"
                } else {
                    "the server is busy"
                };
                write!(f, "{what} ({status})")?;
                after.map_or(Ok(()), |after| {
                    write!(f, "; it asks to wait {} s", after.as_secs())
                })
            }
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::Redirects(most) => write!(f, "more than {most} redirects"),
            Self::NoTarget => f.write_str("a redirect without a target"),
            Self::BadTarget(target) => {
                write!(
                    f,
                    "a redirect to `{}`, which is not followed",
                    target.escape_debug()
                )
            }
            Self::TooLarge(limit) => write!(f, "the answer exceeds {} MiB", limit >> 20),
            Self::BeyondEnd { size: Some(0) } => f.write_str("the file is empty"),
            Self::BeyondEnd { size: Some(size) } => write!(f, "the file ends at byte {size}"),
            Self::BeyondEnd { size: None } => {
                f.write_str("the file ends before the bytes that were asked for (416)")
            }
            Self::WrongRange { asked, sent } => write!(
                f,
                "asked for the bytes from {asked}, the server sent `{}`",
                sent.escape_debug()
            ),
            Self::Cut { at, size } => {
                write!(f, "the connection was cut at byte {at}")?;
                size.map_or(Ok(()), |size| write!(f, " of {size}"))
            }
            Self::Changed => f.write_str("the file changed while it was read"),
            Self::NotA(what) => write!(f, "the answer is no {what}"),
        }
    }
}

impl Trouble {
    /// What to do about it, where that does not depend on which server it is.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Client(_) => "check the proxy variables and try again",
            Self::Connect(_)
            | Self::Stalled(_)
            | Self::Slow(_)
            | Self::Broken(_)
            | Self::Cut { .. } => {
                "check the network and the proxy variables, or use --offline with what is on this machine"
            }
            Self::Denied { .. } => "the file must be readable for everybody, or name a local file",
            Self::NotFound => "check the spelling",
            Self::Busy { .. } => "wait a moment and try again",
            Self::Changed => "try again",
            Self::BeyondEnd { .. } => "the upload is incomplete or empty; name another file",
            Self::Status(_)
            | Self::Redirects(_)
            | Self::NoTarget
            | Self::BadTarget(_)
            | Self::TooLarge(_)
            | Self::WrongRange { .. }
            | Self::NotA(_) => {
                "check that the address is that of a model; a proxy may be answering in its place"
            }
        }
    }
}
