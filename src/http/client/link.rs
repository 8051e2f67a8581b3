//! One connection to an upstream, plain or TLS, behind the same non-blocking calls.

use std::{
    io::{self, BufRead, IoSlice, Write},
    net::TcpStream,
    os::fd::AsFd,
    sync::Arc,
    time::Instant,
};

use rustix::event::PollFlags;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use super::{Origin, SendError, connect::Attempt, head::ResponseHead};
use crate::http::{
    buffer::Buffer,
    poll::{Ready, Watch, wait},
    socket,
};

/// A connected upstream with the memory that its exchanges use again.
pub(super) struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    pub(super) input: Buffer,
    pub(super) out: Vec<u8>,
    pub(super) head: ResponseHead,
    /// It has carried an exchange before.
    pub(super) reused: bool,
    /// TLS ended without its closing message: what came may have been cut by anyone on the way.
    pub(super) torn: bool,
    /// It must not carry another exchange.
    pub(super) unusable: bool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("stream", &self.stream)
            .field("tls", &self.tls.is_some())
            .field("reused", &self.reused)
            .finish_non_exhaustive()
    }
}

/// What a wait for bytes ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    Bytes,
    End,
    Gone,
    Late,
}

impl Link {
    /// Takes over a connected socket, which must be non-blocking; for TLS the handshake is done first.
    pub(super) fn new(
        stream: TcpStream,
        origin: &Origin,
        config: &Arc<ClientConfig>,
        attempt: Attempt<'_>,
    ) -> Result<Self, SendError> {
        let mut link = Self {
            stream,
            tls: None,
            input: Buffer::default(),
            out: Vec::new(),
            head: ResponseHead::default(),
            reused: false,
            torn: false,
            unusable: false,
        };
        if origin.is_tls() {
            let failed = |error: &dyn std::error::Error| SendError::Tls(error.to_string());
            let name =
                ServerName::try_from(origin.host().to_owned()).map_err(|error| failed(&error))?;
            let session =
                ClientConnection::new(Arc::clone(config), name).map_err(|error| failed(&error))?;
            link.tls = Some(Box::new(session));
            link.handshake(attempt)?;
        }
        Ok(link)
    }

    fn handshake(&mut self, attempt: Attempt<'_>) -> Result<(), SendError> {
        let deadline = Some(attempt.deadline());
        let failed = |error: io::Error| SendError::Tls(error.to_string());
        while let Some(tls) = &mut self.tls {
            flush(tls, &self.stream).map_err(failed)?;
            if !tls.is_handshaking() {
                break;
            }
            match pull(tls, &self.stream) {
                Ok(true) => continue,
                Ok(false) => {
                    return Err(SendError::Tls("closed during the handshake".into()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)),
            }
            let interest = self.interest();
            match wait(self.stream.as_fd(), interest, attempt.watch, deadline) {
                Ok(Ready::Socket) => {}
                Ok(Ready::Gone) => return Err(SendError::ClientGone),
                Ok(Ready::Late) => return Err(attempt.late()),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn interest(&self) -> PollFlags {
        if self.unflushed() {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        }
    }

    /// Whether encrypted bytes still wait for the socket.
    pub(super) fn unflushed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends what fits now. `WouldBlock` also while earlier encrypted bytes wait. With no parts only those are sent.
    pub(super) fn send_now(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return socket::send_now(self.stream.as_fd(), parts);
        };
        flush(tls, &self.stream)?;
        if tls.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if parts.is_empty() {
            return Ok(0);
        }
        let taken = tls.writer().write_vectored(parts)?;
        flush(tls, &self.stream)?;
        Ok(taken)
    }

    /// Waits until something can be sent or received.
    pub(super) fn wait_both(
        &self,
        watch: Option<Watch<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Ready> {
        let both = PollFlags::IN | PollFlags::OUT;
        wait(self.stream.as_fd(), both, watch, deadline)
    }

    /// Receives what is there into the buffer; 0 is the end of the stream.
    pub(super) fn receive_now(&mut self) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.input.receive(self.stream.as_fd());
        };
        loop {
            match tls.reader().fill_buf() {
                Ok(plain) => {
                    let count = plain.len();
                    self.input.append(plain);
                    tls.reader().consume(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.torn = true;
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
            // The end of the socket is reported by the reader in the next round.
            pull(tls, &self.stream)?;
            flush(tls, &self.stream)?;
        }
    }

    /// Receives at least one byte, before the deadline and as long as the watched client stays.
    pub(super) fn receive(
        &mut self,
        watch: Option<Watch<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Received> {
        // Decrypted bytes are invisible to poll, and after a full read more is usually waiting.
        let mut try_first = self.input.was_filled()
            || self
                .tls
                .as_mut()
                .is_some_and(|tls| tls.reader().fill_buf().is_ok());
        loop {
            if !try_first {
                match wait(self.stream.as_fd(), self.interest(), watch, deadline)? {
                    Ready::Socket => {}
                    Ready::Gone => return Ok(Received::Gone),
                    Ready::Late => return Ok(Received::Late),
                }
            }
            try_first = false;
            match self.receive_now() {
                Ok(0) => return Ok(Received::End),
                Ok(_) => return Ok(Received::Bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether an idle connection can carry a request: still open, and nothing came that nobody asked for.
    pub(super) fn alive(&mut self) -> bool {
        let now = Some(Instant::now());
        match wait(self.stream.as_fd(), PollFlags::IN, None, now) {
            Ok(Ready::Late) => true,
            // A session ticket is not an answer.
            Ok(_) if self.tls.is_some() => {
                matches!(self.receive_now(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            _ => false,
        }
    }

    /// Gives memory back before the connection goes idle.
    pub(super) fn shrink(&mut self) {
        self.input.shrink();
        self.head.headers.shrink();
        if self.out.capacity() > 4096 {
            self.out = Vec::new();
        }
    }
}

/// Sends encrypted bytes until none is left or the socket is full.
fn flush(tls: &mut ClientConnection, mut stream: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives and decrypts once; false at the end of the stream.
fn pull(tls: &mut ClientConnection, mut stream: &TcpStream) -> io::Result<bool> {
    let count = loop {
        match tls.read_tls(&mut stream) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    if let Err(error) = tls.process_new_packets() {
        // The alert tells the peer why; that it arrives is not needed.
        let _ = flush(tls, stream);
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(count > 0)
}
