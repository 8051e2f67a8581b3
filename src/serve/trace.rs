//! `serve --record`: what came in and when, as a trace that benchmarks replay.
//!
//! Lines go through a bounded queue to a thread that writes them: a request never waits for the disk. What does not fit into the queue is
//! dropped, counted and told. Without `--record-prompts` a line holds no word of what was said; the hashes of its beginning have a key that is
//! made at the start and kept nowhere, so that nobody can try texts against them.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde::Serialize;

use super::log::Log;
use super::record::RequestRecord;
use crate::config::LogLevel;
use crate::dialect::{Endpoint, Parsed};
use crate::routing::TurnRole;
use crate::routing::queue::Lane;

/// Lines that wait for the disk at most.
const QUEUE: usize = 4096;
/// Bytes of text that count as 256 tokens.
const BLOCK_BYTES: usize = 1024;
/// Most blocks of a line; readers take no more.
const MOST_BLOCKS: usize = 16_384;
/// Longest line that readers take. One with a longer text goes without it.
const LONGEST_LINE: usize = 1 << 20;

/// One line, as cli.md fixes it; `prompt` only with `--record-prompts`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    at_ms: u64,
    session: &'a str,
    lane: Lane,
    model: &'a str,
    ctx: Option<u64>,
    tokens_in: u64,
    tokens_out: u64,
    prefix: &'a [u64],
    images: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a [Said]>,
}

/// A message of a recorded prompt.
#[derive(Debug, Serialize)]
struct Said {
    role: &'static str,
    content: String,
}

/// What is known of a request before it is answered.
#[derive(Debug)]
pub(super) struct TraceDraft {
    /// Whose it is; empty while nobody recognises clients.
    pub(super) session: String,
    /// What kind of work it is.
    pub(super) lane: Lane,
    ctx: Option<u64>,
    prefix: Vec<u64>,
    images: bool,
    stream: bool,
    prompt: Option<Vec<Said>>,
}

/// Writes a trace.
pub struct TraceWriter {
    start: Instant,
    path: PathBuf,
    prompts: bool,
    hashes: RandomState,
    sender: Mutex<Option<SyncSender<String>>>,
    writer: Mutex<Option<JoinHandle<Written>>>,
    dropped: AtomicU64,
}

/// What the writing thread did.
struct Written {
    lines: u64,
    error: Option<io::Error>,
}

impl fmt::Debug for TraceWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceWriter")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl TraceWriter {
    /// Begins a trace in a new file that only its owner can read.
    ///
    /// # Errors
    /// The file is there already or cannot be made, or no thread can be started.
    pub fn create(path: &Path, prompts: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let file = options.open(path)?;
        let (sender, lines) = mpsc::sync_channel(QUEUE);
        let writer = thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || write(file, &lines))?;
        Ok(Self {
            start: Instant::now(),
            path: path.to_owned(),
            prompts,
            hashes: RandomState::new(),
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            dropped: AtomicU64::new(0),
        })
    }

    /// What a parsed request says; `None` for one that asks for no work.
    pub(super) fn begin(&self, parsed: &Parsed<'_>) -> Option<Box<TraceDraft>> {
        let lane = match parsed.endpoint() {
            Endpoint::Embed | Endpoint::LegacyEmbeddings | Endpoint::Embeddings => Lane::Embedding,
            _ => Lane::default(),
        };
        if parsed.model().is_none() || (lane != Lane::Embedding && parsed.load_only()) {
            return None;
        }
        let said = |(role, content): (TurnRole, String)| Said {
            role: role_name(role),
            content,
        };
        Some(Box::new(TraceDraft {
            session: String::new(),
            lane,
            ctx: parsed.num_ctx().filter(|ctx| *ctx > 0),
            prefix: parsed.prefix(BLOCK_BYTES, MOST_BLOCKS, self.hashes.build_hasher()),
            images: parsed.images(),
            stream: parsed.stream(),
            prompt: self
                .prompts
                .then(|| parsed.conversation().into_iter().map(said).collect()),
        }))
    }

    /// Writes down a request that has ended.
    pub(super) fn end(&self, draft: &TraceDraft, record: &RequestRecord, started: Instant) {
        let Some(model) = record.requested_model.as_deref() else {
            return;
        };
        // A request that cannot be answered anywhere is no load; one that found no room is.
        if (400..429).contains(&record.status) {
            return;
        }
        let tokens_in = record
            .tokens
            .prompt
            .or(record.tokens.prompt_estimated)
            .unwrap_or(0);
        // A block stands for 256 tokens: text with few bytes to a token has more blocks than tokens for them.
        let blocks = usize::try_from(tokens_in / 256)
            .unwrap_or(usize::MAX)
            .min(draft.prefix.len());
        let at = started.saturating_duration_since(self.start);
        let line = Line {
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            session: &draft.session,
            lane: draft.lane,
            model,
            ctx: draft.ctx,
            tokens_in,
            tokens_out: record.tokens.completion.unwrap_or(0),
            prefix: draft.prefix.get(..blocks).unwrap_or_default(),
            images: u32::from(draft.images),
            stream: draft.stream,
            prompt: draft.prompt.as_deref(),
        };
        // Numbers and texts always have a JSON form.
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        if text.len() >= LONGEST_LINE {
            text = serde_json::to_string(&Line {
                prompt: None,
                ..line
            })
            .unwrap_or_default();
        }
        text.push('\n');
        self.push(text);
    }

    /// Gives a line to the writing thread, or drops it: never waits.
    fn push(&self, line: String) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender.as_ref().map(|sender| sender.try_send(line));
        if !matches!(sent, Some(Ok(()))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were dropped because the disk was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is left, and says how it went.
    pub(super) fn finish(&self, log: Log) {
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // A panic was told when it happened.
        let Some(Ok(written)) = writer.map(JoinHandle::join) else {
            return;
        };
        let file = self.path.display();
        match (&written.error, self.dropped()) {
            (Some(error), _) => log.event(
                LogLevel::Warning,
                &format!("the trace `{file}` ends after {} requests: {error}", written.lines),
            ),
            (None, 0) => log.event(LogLevel::Info, &format!("recorded {} requests in `{file}`", written.lines)),
            (None, dropped) => log.event(
                LogLevel::Warning,
                &format!("recorded {} requests in `{file}`; {dropped} were dropped because the disk was too slow", written.lines),
            ),
        }
    }
}

fn role_name(role: TurnRole) -> &'static str {
    match role {
        TurnRole::System => "system",
        TurnRole::User => "user",
        TurnRole::Assistant => "assistant",
        TurnRole::Tool => "tool",
    }
}

/// Writes lines until there will be no more; what waits is written together, and flushed when nothing waits. After an error it reads on and
/// writes nothing, so that a line is never half there and nobody is held up.
fn write(file: File, lines: &Receiver<String>) -> Written {
    let mut out = BufWriter::new(file);
    let mut written = Written {
        lines: 0,
        error: None,
    };
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Empty) => {
                if written.error.is_none() {
                    written.error = out.flush().err();
                }
                match lines.recv() {
                    Ok(line) => line,
                    Err(_) => return written,
                }
            }
            Err(TryRecvError::Disconnected) => {
                if written.error.is_none() {
                    written.error = out.flush().err();
                }
                return written;
            }
        };
        if written.error.is_none() {
            match out.write_all(line.as_bytes()) {
                Ok(()) => written.lines += 1,
                Err(error) => written.error = Some(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer whose thread does not read.
    fn stuck(queue: usize) -> (TraceWriter, Receiver<String>) {
        let (sender, lines) = mpsc::sync_channel(queue);
        let writer = TraceWriter {
            start: Instant::now(),
            path: PathBuf::from("trace"),
            prompts: false,
            hashes: RandomState::new(),
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(None),
            dropped: AtomicU64::new(0),
        };
        (writer, lines)
    }

    #[test]
    fn a_disk_that_is_too_slow_costs_lines_and_never_time() {
        let (writer, lines) = stuck(3);
        for number in 0..10 {
            writer.push(format!("{number}\n"));
        }
        assert_eq!(writer.dropped(), 7);
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["0\n", "1\n", "2\n"]);
        drop(lines);
        writer.push("late\n".to_owned());
        assert_eq!(writer.dropped(), 8);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_told_and_nobody_is_held_up() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (sender, lines) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || write(full, &lines));
        for _ in 0..1000 {
            sender.send("line\n".to_owned()).unwrap();
        }
        drop(sender);
        let written = thread.join().unwrap();
        assert!(written.error.is_some());
    }
}
