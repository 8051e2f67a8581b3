//! A walk over JSON text that has already been checked, without copying or unescaping anything.
//!
//! serde would unescape every string or parse the same bytes once per level; requests are mostly long strings, which this walk steps
//! over at the speed of a byte search. Text that is not JSON makes the walk end early, never panic.

use std::borrow::Cow;

use memchr::memchr;

/// What the next value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    /// A number, `true`, `false` or `null`.
    Scalar,
    /// No value follows.
    Nothing,
}

/// A position in JSON text.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes from the start of the text.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn give_up(&mut self) {
        self.at = self.text.len();
    }

    /// What the next value is; moves to its first byte.
    pub(super) fn kind(&mut self) -> Kind {
        match self.skip_space() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => Kind::Scalar,
            _ => Kind::Nothing,
        }
    }

    /// Steps into the object or array that [`Self::kind`] announced.
    pub(super) fn enter(&mut self) {
        self.at += 1;
    }

    /// The next key of the object that was entered, as it is written; `None` after the last one, with the object left behind.
    pub(super) fn key(&mut self) -> Option<&'a str> {
        let mut next = self.skip_space();
        if next == Some(b',') {
            self.at += 1;
            next = self.skip_space();
        }
        if next != Some(b'"') {
            if next == Some(b'}') {
                self.at += 1;
            } else {
                self.give_up();
            }
            return None;
        }
        let key = self.string();
        if self.skip_space() == Some(b':') {
            self.at += 1;
            Some(key)
        } else {
            self.give_up();
            None
        }
    }

    /// Whether the array that was entered has another item, which is then the next value; the array is left behind after the last.
    pub(super) fn item(&mut self) -> bool {
        let mut next = self.skip_space();
        if next == Some(b',') {
            self.at += 1;
            next = self.skip_space();
        }
        match next {
            Some(b']') => {
                self.at += 1;
                false
            }
            Some(b',' | b'}' | b':') | None => {
                self.give_up();
                false
            }
            Some(_) => true,
        }
    }

    /// The text between the quotes of the string that [`Self::kind`] announced, still escaped.
    pub(super) fn string(&mut self) -> &'a str {
        let start = self.at + 1;
        self.skip_string();
        self.text
            .get(start..self.at.saturating_sub(1))
            .unwrap_or_default()
    }

    fn skip_string(&mut self) {
        match string_end(self.text.as_bytes(), self.at + 1) {
            Some(end) => self.at = end + 1,
            None => self.give_up(),
        }
    }

    /// The next value as it is written; empty where none follows.
    pub(super) fn skip(&mut self) -> &'a str {
        let kind = self.kind();
        let start = self.at;
        match kind {
            Kind::String => self.skip_string(),
            Kind::Object | Kind::Array => self.skip_nested(),
            Kind::Scalar => {
                while let Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E') = self.byte()
                {
                    self.at += 1;
                }
            }
            Kind::Nothing => self.give_up(),
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    // A counter and no recursion: the nesting is the client's choice.
    fn skip_nested(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.byte() {
            match byte {
                b'"' => {
                    self.skip_string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

/// Where the quote stands that ends the string whose inside starts at `start`. Looks for quotes only and counts the backslashes before
/// each: source code has an escape in every line, and few of them are quotes.
pub(super) fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut from = start;
    loop {
        let quote = from + memchr(b'"', bytes.get(from..)?)?;
        let before = bytes.get(from..quote)?;
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
        if backslashes.count() % 2 == 0 {
            return Some(quote);
        }
        from = quote + 1;
    }
}

/// The text that a JSON string's inside stands for. Escapes that are not whole or not valid become U+FFFD: it is read, never sent on.
pub(super) fn unescaped(inside: &str) -> Cow<'_, str> {
    let Some(first) = memchr(b'\\', inside.as_bytes()) else {
        return Cow::Borrowed(inside);
    };
    let mut text = String::with_capacity(inside.len());
    text.push_str(inside.get(..first).unwrap_or_default());
    let mut rest = inside.get(first..).unwrap_or_default();
    while let Some(escape) = rest.strip_prefix('\\') {
        let (character, length) = unescape_one(escape);
        text.push(character);
        rest = escape.get(length..).unwrap_or_default();
        let plain = memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        text.push_str(rest.get(..plain).unwrap_or_default());
        rest = rest.get(plain..).unwrap_or_default();
    }
    Cow::Owned(text)
}

/// The character of an escape (without its backslash) and how many bytes it takes.
fn unescape_one(escape: &str) -> (char, usize) {
    let unit = |at: usize| {
        escape
            .get(at..at + 4)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    let Some(letter) = escape.chars().next() else {
        return (char::REPLACEMENT_CHARACTER, 0);
    };
    let character = match letter {
        '"' | '\\' | '/' => letter,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let pair = match (unit(1), escape.get(5..7), unit(7)) {
                (Some(high @ 0xD800..=0xDBFF), Some("\\u"), Some(low @ 0xDC00..=0xDFFF)) => {
                    char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                }
                _ => None,
            };
            return match (pair, unit(1)) {
                (Some(character), _) => (character, 11),
                (None, Some(unit)) => (
                    char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                    5,
                ),
                (None, None) => (char::REPLACEMENT_CHARACTER, 1),
            };
        }
        _ => char::REPLACEMENT_CHARACTER,
    };
    (character, letter.len_utf8())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn walks_objects_and_arrays_in_one_pass() {
        let mut cursor = Cursor::new(r#" { "a" : [1, "x\"]", {}] , "b":{"c":[[]]}, "d":null}"#);
        assert_eq!(cursor.kind(), Kind::Object);
        cursor.enter();
        assert_eq!(cursor.key(), Some("a"));
        assert_eq!(cursor.kind(), Kind::Array);
        cursor.enter();
        assert!(cursor.item());
        assert_eq!(cursor.skip(), "1");
        assert!(cursor.item());
        assert_eq!(cursor.kind(), Kind::String);
        assert_eq!(cursor.string(), r#"x\"]"#);
        assert!(cursor.item());
        assert_eq!(cursor.skip(), "{}");
        assert!(!cursor.item());
        assert_eq!(cursor.key(), Some("b"));
        assert_eq!(cursor.skip(), r#"{"c":[[]]}"#);
        assert_eq!(cursor.key(), Some("d"));
        assert_eq!(cursor.skip(), "null");
        assert_eq!(cursor.key(), None);
    }

    fn walk_all(cursor: &mut Cursor<'_>, depth: usize) {
        match cursor.kind() {
            Kind::Object if depth < 8 => {
                cursor.enter();
                while cursor.key().is_some() {
                    walk_all(cursor, depth + 1);
                }
            }
            Kind::Array if depth < 8 => {
                cursor.enter();
                while cursor.item() {
                    walk_all(cursor, depth + 1);
                }
            }
            Kind::String => drop(unescaped(cursor.string())),
            _ => drop(cursor.skip().to_owned()),
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_the_walk_without_a_panic(text in r#"[\[\]{}:,"\\ua1é \n-]{0,60}"#) {
            walk_all(&mut Cursor::new(&text), 0);
        }

        #[test]
        fn unescapes_as_serde_does(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let inside = &json[1..json.len() - 1];
            prop_assert_eq!(unescaped(inside), text.as_str());
            let ascii = text.chars().map(|c| {
                let mut units = [0_u16; 2];
                c.encode_utf16(&mut units).iter().fold(String::new(), |all, unit| format!("{all}\\u{unit:04x}"))
            }).collect::<String>();
            prop_assert_eq!(Value::String(unescaped(&ascii).into_owned()), serde_json::from_str::<Value>(&format!("\"{ascii}\"")).unwrap());
        }
    }
}
