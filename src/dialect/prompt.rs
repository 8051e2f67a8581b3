//! The texts of a request's prompt, found in place, in every dialect at once.
//!
//! The dialects' message forms do not contradict each other, so one walk reads them all: `content` is a text or a list of parts, parts
//! have a `type`, results of tools are either messages of their own (Ollama, OpenAI, Responses) or parts of a user's message (Anthropic).

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

use super::cursor::{Cursor, Kind, unescaped};
use crate::routing::{Family, Turn, TurnRole, estimate_tokens};

/// Bytes of text up to which every byte is counted; beyond it, as many are sampled.
const COUNTED_BYTES: usize = 4096;
/// Windows of a sample: many short ones, because a prompt mixes prose, code and tables in stretches of some KiB.
const WINDOWS: usize = 32;
/// Tokens that a chat template puts around a message: role, delimiters, line end.
const TOKENS_PER_MESSAGE: u64 = 4;
/// Texts kept; of more, the oldest are only counted by their bytes. More than any agent's history has.
const TEXTS_KEPT: usize = 8192;
/// Turns given to routing; of more, the oldest are left out, since the ask is at the end.
const TURNS_KEPT: usize = 512;
/// Bytes kept of a turn's text: as many from its head as from its tail.
const TURN_BYTES: usize = 8192;
/// Bytes of a prompt by which it is known again: what two prompts share beyond the template, when a cache is worth anything.
const BEGINNING_BYTES: usize = 512;
/// How deep parts within parts are read; real ones stop at two (an image in a tool's result).
const PART_DEPTH: usize = 4;

/// One text of a prompt.
#[derive(Debug, Clone)]
struct Text<'a> {
    /// As it is written: the inside of a JSON string, or JSON.
    written: &'a str,
    /// `None` until the message that holds it has told its role.
    role: Option<TurnRole>,
    message: u64,
    /// Whether it is said in the conversation; arguments and thoughts are counted, not said.
    said: bool,
}

/// The texts of a prompt, borrowed from the request's body.
#[derive(Debug, Clone, Default)]
pub(super) struct Prompt<'a> {
    texts: VecDeque<Text<'a>>,
    text_bytes: usize,
    messages: u64,
    token_ids: u64,
    images: bool,
}

impl<'a> Prompt<'a> {
    /// Whether it holds an image.
    pub(super) fn images(&self) -> bool {
        self.images
    }

    pub(super) fn note_images(&mut self) {
        self.images = true;
    }

    /// Adds JSON that becomes part of the prompt as a whole, such as definitions of tools.
    pub(super) fn add_json(&mut self, written: &'a str) {
        self.push(written, None, false);
    }

    /// Adds a field that holds a text, token ids, messages or parts, or a list of them. `role` is whose words they are unless a
    /// message tells.
    pub(super) fn add_field(&mut self, written: &'a str, role: TurnRole) {
        let cursor = &mut Cursor::new(written);
        match cursor.kind() {
            Kind::Array => {
                cursor.enter();
                while cursor.item() {
                    self.add_item(cursor, role);
                }
            }
            _ => self.add_item(cursor, role),
        }
    }

    fn add_item(&mut self, cursor: &mut Cursor<'a>, role: TurnRole) {
        match cursor.kind() {
            Kind::String => {
                self.messages += 1;
                self.push(cursor.string(), Some(role), true);
            }
            Kind::Object => {
                self.messages += 1;
                self.object(cursor, Some(role), 0);
            }
            Kind::Array => {
                let ids = cursor.skip();
                self.token_ids += memchr::memchr_iter(b',', ids.as_bytes()).count() as u64 + 1;
            }
            Kind::Scalar => {
                self.token_ids += 1;
                cursor.skip();
            }
            Kind::Nothing => drop(cursor.skip()),
        }
    }

    /// Reads a message or a part. `role` is given for what has none of its own; a part of a message takes the message's.
    fn object(&mut self, cursor: &mut Cursor<'a>, role: Option<TurnRole>, depth: usize) {
        let message = self.messages;
        let mut told = None;
        cursor.enter();
        while let Some(key) = cursor.key() {
            let is_text = cursor.kind() == Kind::String;
            match key {
                "role" if is_text => told = Some(role_of(cursor.string())),
                "type" if is_text => match cursor.string() {
                    "image" | "image_url" | "input_image" => self.images = true,
                    "function_call_output" => told = Some(TurnRole::Tool),
                    "function_call" | "reasoning" => told = Some(TurnRole::Assistant),
                    _ => {}
                },
                "content" if depth == 0 => self.content(cursor, None, depth),
                // Content within a part is what a tool gave back, whoever the message is from.
                "content" | "output" => self.content(cursor, Some(TurnRole::Tool), depth),
                "text" if is_text => self.push(cursor.string(), None, true),
                "thinking" | "reasoning" | "reasoning_content" | "arguments" if is_text => {
                    self.push(cursor.string(), None, false);
                }
                "tool_calls" | "function_call" | "input" => {
                    let written = cursor.skip();
                    if written != "null" {
                        self.push(written, None, false);
                    }
                }
                "images" => self.images |= holds_items(cursor.skip()),
                _ => drop(cursor.skip()),
            }
        }
        if depth == 0 {
            let role = told.or(role);
            for text in self.texts.iter_mut().rev() {
                if text.message != message {
                    break;
                }
                text.role = text.role.or(role);
            }
        }
    }

    fn content(&mut self, cursor: &mut Cursor<'a>, role: Option<TurnRole>, depth: usize) {
        if depth >= PART_DEPTH {
            cursor.skip();
            return;
        }
        match cursor.kind() {
            Kind::String => self.push(cursor.string(), role, true),
            Kind::Array => {
                cursor.enter();
                while cursor.item() {
                    self.part(cursor, role, depth);
                }
            }
            _ => self.part(cursor, role, depth),
        }
    }

    fn part(&mut self, cursor: &mut Cursor<'a>, role: Option<TurnRole>, depth: usize) {
        match cursor.kind() {
            Kind::String => self.push(cursor.string(), role, true),
            Kind::Object => {
                let before = self.texts.len();
                self.object(cursor, role, depth + 1);
                if role.is_some() {
                    // Where the oldest texts were dropped meanwhile, `before` is too late: the message's role then stands.
                    for text in self.texts.iter_mut().skip(before) {
                        text.role = text.role.or(role);
                    }
                }
            }
            _ => drop(cursor.skip()),
        }
    }

    fn push(&mut self, written: &'a str, role: Option<TurnRole>, said: bool) {
        if written.is_empty() {
            return;
        }
        self.text_bytes = self.text_bytes.saturating_add(written.len());
        if self.texts.len() >= TEXTS_KEPT {
            self.texts.pop_front();
        }
        self.texts.push_back(Text {
            written,
            role,
            message: self.messages,
            said,
        });
    }

    /// What the system says before anybody else does, text by text as it is written; nothing when the oldest texts are gone.
    pub(super) fn opening(&self) -> Vec<&'a str> {
        let kept: usize = self.texts.iter().map(|text| text.written.len()).sum();
        if kept < self.text_bytes {
            return Vec::new();
        }
        let by_system = |text: &&Text<'a>| text.said && text.role == Some(TurnRole::System);
        let opening = self.texts.iter().take_while(by_system);
        opening.map(|text| text.written).collect()
    }

    /// Hashes of everything up to the end of each block of so many bytes, see [`super::Parsed::prefix`].
    pub(super) fn prefix(
        &self,
        block_bytes: usize,
        most: usize,
        mut hasher: impl Hasher,
    ) -> Vec<u64> {
        let kept: usize = self.texts.iter().map(|text| text.written.len()).sum();
        let mut prefix = Vec::new();
        if kept < self.text_bytes || block_bytes == 0 {
            // The oldest texts are gone: what is left is no beginning.
            return prefix;
        }
        let mut room = block_bytes;
        for text in &self.texts {
            let mut rest = text.written.as_bytes();
            // Whose words they are is part of what a model reads.
            hasher.write_u8(text.role.unwrap_or(TurnRole::User) as u8);
            while !rest.is_empty() && prefix.len() < most {
                let (now, later) = rest.split_at(room.min(rest.len()));
                hasher.write(now);
                room -= now.len();
                rest = later;
                if room == 0 {
                    prefix.push(hasher.finish());
                    room = block_bytes;
                }
            }
        }
        prefix
    }

    /// What was said, message by message, uncut.
    pub(super) fn conversation(&self) -> Vec<(TurnRole, String)> {
        let mut said: Vec<(TurnRole, String)> = Vec::new();
        let mut current = None;
        for text in self.texts.iter().filter(|text| text.said) {
            let role = text.role.unwrap_or(TurnRole::User);
            let words = unescaped(text.written);
            match said.last_mut() {
                Some((_, last)) if current == Some((text.message, role)) => {
                    last.push('\n');
                    last.push_str(&words);
                }
                _ => said.push((role, words.into_owned())),
            }
            current = Some((text.message, role));
        }
        said
    }

    /// Characters of all texts, and of those that are said in the conversation: templates leave the others out when they do not know them.
    pub(super) fn characters(&self) -> (u64, u64) {
        let (mut all, mut said) = (0, 0);
        for text in &self.texts {
            let characters = text.written.chars().count() as u64;
            all += characters;
            said += if text.said { characters } else { 0 };
        }
        (all, said)
    }

    /// A hash of the first texts as they are written, by which a prompt that begins like an earlier one is known.
    pub(super) fn beginning(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut left = BEGINNING_BYTES;
        for text in &self.texts {
            let bytes = text.written.as_bytes();
            let taken = bytes.get(..left.min(bytes.len())).unwrap_or(bytes);
            hasher.write(taken);
            left -= taken.len();
            if left == 0 {
                break;
            }
        }
        hasher.finish()
    }

    /// Estimated tokens: exact up to [`COUNTED_BYTES`] of text, extrapolated from evenly spaced windows beyond.
    pub(super) fn tokens(&self, family: Family) -> u64 {
        let texts = if self.text_bytes <= COUNTED_BYTES {
            self.texts
                .iter()
                .map(|text| estimate_tokens(&unescaped(text.written), family))
                .sum()
        } else {
            let (sample, sampled_bytes) = self.sample();
            let tokens = u128::from(estimate_tokens(&sample, family)) * self.text_bytes as u128
                / (sampled_bytes.max(1) as u128);
            u64::try_from(tokens).unwrap_or(u64::MAX)
        };
        texts + self.token_ids + self.messages * TOKENS_PER_MESSAGE
    }

    /// Windows of the texts, unescaped and joined (so that the estimate rounds once), and how many written bytes they are.
    fn sample(&self) -> (String, usize) {
        let kept: usize = self.texts.iter().map(|text| text.written.len()).sum();
        let mut sample = String::with_capacity(COUNTED_BYTES);
        let mut sampled_bytes = 0;
        let mut texts = self.texts.iter();
        let mut text = texts.next();
        let mut text_start = 0;
        for window in 0..WINDOWS {
            // The middle of each stretch, so that neither the first nor the last words of a prompt weigh more than others.
            let position = (2 * window + 1) * (kept / WINDOWS) / 2;
            while let Some(current) = text {
                if position < text_start + current.written.len() {
                    let window = window_of(current.written, position - text_start);
                    sampled_bytes += window.len();
                    sample.push_str(&unescaped(window));
                    break;
                }
                text_start += current.written.len();
                text = texts.next();
            }
        }
        (sample, sampled_bytes)
    }

    /// The turns, oldest first, texts unescaped and capped.
    pub(super) fn turns(&self) -> Vec<Turn> {
        let mut turns: VecDeque<Turn> = VecDeque::new();
        let mut current = None;
        for text in self.texts.iter().filter(|text| text.said) {
            let role = text.role.unwrap_or(TurnRole::User);
            let turn = (text.message, role);
            let words = capped(text.written);
            match turns.back_mut() {
                Some(last) if current == Some(turn) => {
                    if last.text.len() < TURN_BYTES {
                        last.text.push('\n');
                        last.text.push_str(&words);
                    }
                }
                _ => {
                    if turns.len() >= TURNS_KEPT {
                        turns.pop_front();
                    }
                    turns.push_back(Turn { role, text: words });
                }
            }
            current = Some(turn);
        }
        turns.into()
    }
}

/// Whether an array holds anything.
pub(super) fn holds_items(written: &str) -> bool {
    let mut cursor = Cursor::new(written);
    cursor.kind() == Kind::Array && {
        cursor.enter();
        cursor.item()
    }
}

fn role_of(word: &str) -> TurnRole {
    match word {
        "system" | "developer" => TurnRole::System,
        "assistant" | "model" => TurnRole::Assistant,
        "tool" | "function" => TurnRole::Tool,
        _ => TurnRole::User,
    }
}

/// A window that starts at or after `from`, cut between characters and not within an escape's backslash pair.
fn window_of(written: &str, from: usize) -> &str {
    let mut start = boundary_after(written, from);
    let head = written.as_bytes().get(..start).unwrap_or_default();
    // A run longer than this is no text; its parity does not matter.
    let backslashes = (head.iter().rev().take(64))
        .take_while(|byte| **byte == b'\\')
        .count();
    if backslashes % 2 == 1 {
        start = boundary_after(written, start + 1);
    }
    let end = boundary_after(written, start + COUNTED_BYTES / WINDOWS);
    written.get(start..end).unwrap_or_default()
}

fn boundary_after(text: &str, from: usize) -> usize {
    (from..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len())
}

/// A text unescaped; of a long one only the head and the tail, because the ask stands at one of them.
fn capped(written: &str) -> String {
    if written.len() <= TURN_BYTES {
        return unescaped(written).into_owned();
    }
    let head = written
        .get(..boundary_after(written, TURN_BYTES / 2))
        .unwrap_or_default();
    let tail = written
        .get(boundary_after(written, written.len() - TURN_BYTES / 2)..)
        .unwrap_or_default();
    format!("{}\n…\n{}", unescaped(head), unescaped(tail))
}
