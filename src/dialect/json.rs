//! Checks that a body is one JSON object, in one pass, and notes where its members lie.
//!
//! serde looks at every escape of every string, which costs 110 µs in 200 KB of source code (measured in release on this project's
//! machines) against 20 to 30 µs here: a string's end is found by its quote alone. What is not checked is whether a backslash is
//! followed by one of JSON's letters; a node refuses that itself, and no reader disagrees about where such a string ends.

use super::cursor::string_end;

/// Deepest nesting that is read. Tool schemas nest to about 30; recursion must end before the thread's stack does.
const DEPTH: usize = 128;

/// Where text stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Bytes from the start.
    pub(super) at: usize,
    /// What stands there.
    pub(super) problem: &'static str,
}

/// What is missing when the text ends too early; Go's words, which Ollama tells.
pub(super) const UNEXPECTED_END: &str = "unexpected EOF";

/// Checks the text and calls `member` with each member of its top-level object: the inside of the key, and the value as it is written.
pub(super) fn read_object<'a>(
    text: &'a str,
    member: impl FnMut(&'a str, &'a str),
) -> Result<(), Malformed> {
    let mut reader = Reader { text, at: 0 };
    if reader.next() != Some(b'{') {
        return Err(reader.malformed("the body must be a JSON object"));
    }
    reader.object(0, member)?;
    if reader.next().is_some() {
        return Err(reader.malformed("unexpected text after the JSON object"));
    }
    Ok(())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, problem: &'static str) -> Malformed {
        Malformed {
            at: self.at,
            problem: if self.at < self.text.len() {
                problem
            } else {
                UNEXPECTED_END
            },
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space; stays before it.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        match self.next() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(depth, |_, _| {}),
            Some(b'[') => self.array(depth),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.malformed("expected a value")),
        }
    }

    fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&'a str, &'a str),
    ) -> Result<(), Malformed> {
        if depth >= DEPTH {
            return Err(self.malformed("nested too deeply"));
        }
        self.at += 1;
        if self.next() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.next() != Some(b'"') {
                return Err(self.malformed("expected a key"));
            }
            let key = self.string()?;
            if self.next() != Some(b':') {
                return Err(self.malformed("expected ':'"));
            }
            self.at += 1;
            self.next();
            let start = self.at;
            self.value(depth + 1)?;
            member(key, self.text.get(start..self.at).unwrap_or_default());
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.malformed("expected ',' or '}'")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth >= DEPTH {
            return Err(self.malformed("nested too deeply"));
        }
        self.at += 1;
        if self.next() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.malformed("expected ',' or ']'")),
            }
        }
    }

    fn string(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at + 1;
        let Some(end) = string_end(self.text.as_bytes(), start) else {
            self.at = self.text.len();
            return Err(self.malformed(UNEXPECTED_END));
        };
        let inside = self.text.get(start..end).unwrap_or_default();
        // A minimum over all bytes has no branch per byte, so it is taken many bytes at a time.
        if inside.bytes().fold(u8::MAX, u8::min) < b' ' {
            return Err(self.malformed("a control character in a string"));
        }
        self.at = end + 1;
        Ok(inside)
    }

    fn word(&mut self, word: &str) -> Result<(), Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        if word.starts_with(rest) {
            self.at = self.text.len();
        }
        Err(self.malformed("expected a value"))
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.malformed("expected a digit"));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn members(text: &str) -> Result<Vec<(&str, &str)>, Malformed> {
        let mut all = Vec::new();
        read_object(text, |key, value| all.push((key, value))).map(|()| all)
    }

    #[test]
    fn notes_the_members_of_the_top_level_only() {
        assert_eq!(
            members(" {\"a\" : {\"b\":1} , \"c\\\"\":[ -1.5e+3,\"\\\\\"]\n} "),
            Ok(vec![("a", "{\"b\":1}"), ("c\\\"", "[ -1.5e+3,\"\\\\\"]")])
        );
        assert_eq!(members("{}"), Ok(Vec::new()));
    }

    #[test]
    fn says_where_and_why_text_is_no_object() {
        let problem = |text| {
            let malformed = members(text).unwrap_err();
            (malformed.at, malformed.problem)
        };
        assert_eq!(problem("{\"a\":tru"), (8, UNEXPECTED_END));
        assert_eq!(problem("{\"a\":\"b\\\""), (9, UNEXPECTED_END));
        assert_eq!(problem("{\"a\":[1}"), (7, "expected ',' or ']'"));
        assert_eq!(problem("{} x").0, 3);
        assert_eq!(problem("{\"a\":01}"), (6, "expected ',' or '}'"));
        assert_eq!(
            problem("{\"a\":\"\n\"}").1,
            "a control character in a string"
        );
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert_eq!(problem(&deep).1, "nested too deeply");
    }

    #[test]
    fn the_deepest_nesting_fits_the_stack_of_a_connections_thread() {
        let (open, close) = ("{\"a\":[".repeat(DEPTH / 2), "]}".repeat(DEPTH / 2));
        let thread = std::thread::Builder::new().stack_size(128 * 1024);
        let read = thread.spawn(move || read_object(&format!("{open}{close}"), |_, _| {}));
        assert_eq!(read.unwrap().join().unwrap(), Ok(()));
    }

    #[test]
    fn every_cut_of_an_object_ends_unexpectedly() {
        let text = r#"{"a":[true,null,-1.5e3,"é\"\\",{}],"b":{"c":false,"d":[]},"e":"A","f":0}"#;
        for at in (1..text.len()).filter(|at| text.is_char_boundary(*at)) {
            assert_eq!(members(&text[..at]).unwrap_err().problem, UNEXPECTED_END);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_on_what_is_json(text in r#"\{("[ab]":(1|-|0|1\.|\.5|1e|"x|"y"|tru|true|null|\[|\]|\{|\}|,|[ ]){0,5}[,]?){0,4}\}?[ ]?"#) {
            prop_assert_eq!(members(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn reads_what_serde_writes(value in prop::collection::btree_map(any::<String>(), any::<String>(), 0..5)) {
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(members(&text).map(|all| all.len()), Ok(value.len()));
        }
    }
}
