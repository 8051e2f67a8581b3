//! The client for upstreams: pooled connections, deadlines for each phase, and cancellation at any moment.
//!
//! Every wait polls the upstream and the waiting client together, so a client that leaves during connect, prefill or silence closes the
//! upstream connection at once, which is what stops a model server from generating.

mod connect;
mod error;
mod exchange;
mod head;
mod incoming;
mod link;
mod origin;
mod pool;

use std::{
    io::Read,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

pub use error::{ReadError, SendError};
pub use exchange::Tick;
pub use incoming::Incoming;
pub use origin::{Origin, UrlError};
use rustls::{ClientConfig, RootCertStore};

use self::{connect::Attempt, exchange::Exchange, link::Link, pool::Pool};
use super::{Watch, poll::after};

/// Limits of the phases of one request. `None`: no limit of its own.
#[derive(Debug, Clone)]
pub struct Deadlines {
    /// For each address, the look-up of the name, and a TLS handshake.
    pub connect: Duration,
    /// From the end of the request to the end of the answer's head: queueing, loading a model, prefill.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer, and for the upstream to take the next piece of the request.
    pub between: Option<Duration>,
    /// For everything together.
    pub total: Option<Duration>,
}

/// A request to an upstream.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, appended to the prefix of the origin.
    pub target: &'a str,
    /// Fields to send. `Host`, framing and hop-by-hop fields are written by this layer and left out here.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub body: OutgoingBody<'a>,
}

/// The body of a request to an upstream.
pub enum OutgoingBody<'a> {
    /// None.
    Empty,
    /// Bytes that can be sent again if a kept connection turns out to be closed.
    Bytes(&'a [u8]),
    /// A stream, sent on a fresh connection: with its length, or chunked.
    Stream {
        /// Where the body comes from.
        reader: &'a mut dyn Read,
        /// Its length in bytes. A reader that ends earlier is an error.
        length: Option<u64>,
    },
}

impl std::fmt::Debug for OutgoingBody<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length:?})"),
        }
    }
}

/// A client whose idle connections are shared by all threads that use it. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({} idle)", self.idle())
    }
}

struct Shared {
    pool: Pool,
    tls: Arc<ClientConfig>,
    lookups: Arc<AtomicUsize>,
}

impl Client {
    /// A client that trusts the certificate authorities of the web.
    ///
    /// Fails only if the TLS provider supports no protocol version, which no build does.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Self::with_roots(roots)
    }

    /// A client that trusts `roots` only.
    pub fn with_roots(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            shared: Arc::new(Shared {
                pool: Pool::default(),
                tls: Arc::new(config),
                lookups: Arc::default(),
            }),
        })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A kept connection is used if one lives. If it fails before the first byte of an answer, the request is sent once more on a fresh one;
    /// nothing else is ever repeated. When `watch` sees its client leave, the upstream connection is closed at once.
    pub fn send(
        &self,
        origin: &Origin,
        outgoing: Outgoing<'_>,
        deadlines: &Deadlines,
        watch: Option<Watch<'_>>,
    ) -> Result<Incoming, SendError> {
        self.send_ticking(origin, outgoing, deadlines, watch, None)
    }

    /// The same, and something is done again and again until the head of the answer is there.
    pub fn send_ticking(
        &self,
        origin: &Origin,
        outgoing: Outgoing<'_>,
        deadlines: &Deadlines,
        watch: Option<Watch<'_>>,
        tick: Option<Tick<'_>>,
    ) -> Result<Incoming, SendError> {
        let mut exchange = Exchange {
            origin,
            method: outgoing.method,
            target: outgoing.target,
            headers: outgoing.headers,
            body: outgoing.body,
            deadlines,
            total: deadlines.total.map(after),
            watch,
            tick,
        };
        if exchange.repeatable()
            && let Some(mut link) = self.shared.pool.take(origin.key())
        {
            match exchange.run(&mut link) {
                Ok(framing) => {
                    return Ok(Incoming::new(&self.shared, &exchange, link, framing));
                }
                Err(error) if error.stale() => {}
                Err(error) => return Err(error),
            }
        }
        let attempt = Attempt {
            limit: deadlines.connect,
            total: exchange.total,
            watch,
        };
        let stream = connect::open(origin, &self.shared.lookups, attempt)?;
        let mut link = Link::new(stream, origin, &self.shared.tls, attempt)?;
        let framing = exchange.run(&mut link)?;
        Ok(Incoming::new(&self.shared, &exchange, link, framing))
    }

    /// Closes idle connections that are too old or that their upstream closed. Also happens by itself while requests are made.
    pub fn sweep(&self) {
        self.shared.pool.sweep();
    }

    /// Number of idle connections.
    pub fn idle(&self) -> usize {
        self.shared.pool.len()
    }
}
