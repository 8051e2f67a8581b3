//! The header fields of one message, kept as they came.

use std::ops::Range;

/// Header fields in the order and spelling in which they were received.
#[derive(Default, Clone)]
pub struct Headers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

/// Names only: values hold keys.
impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

#[derive(Debug, Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

impl Headers {
    /// The first value of `name` (compared without case).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The first value of `name` if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Every value of `name` in order.
    pub fn get_all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.fields
            .iter()
            .filter(move |field| {
                field.name.len() == name.len()
                    && (self.slice(&field.name)).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|field| self.slice(&field.value))
    }

    /// Every field in order, names spelled as received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            (
                // Names are tokens, hence ASCII; the parser made sure.
                std::str::from_utf8(self.slice(&field.name)).unwrap_or_default(),
                self.slice(&field.value),
            )
        })
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether one of the comma-separated members of `name` is `token` (compared without case).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Takes over a parsed head; `fields` must point into `head`.
    pub(crate) fn fill<'b>(
        &mut self,
        head: &'b [u8],
        fields: impl Iterator<Item = (&'b str, &'b [u8])>,
    ) {
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
        self.fields.clear();
        self.fields.extend(fields.map(|(name, value)| Field {
            name: span(head, name.as_bytes()),
            value: span(head, value),
        }));
    }

    pub(crate) fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Gives back the memory of an unusually large head.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > 4096 {
            *self = Self::default();
        }
    }
}

/// Where `part` lies inside `whole`.
pub(crate) fn span(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// Why the lengths in a head cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LengthError {
    NotDigits,
    Differing,
}

/// The declared length of a body: digits only (RFC 9110 §8.6), and all values the same number.
pub(crate) fn content_length(headers: &Headers) -> Result<Option<u64>, LengthError> {
    let mut length = None;
    for value in headers.get_all("content-length") {
        let parsed = digits(value).ok_or(LengthError::NotDigits)?;
        if length.is_some_and(|known| known != parsed) {
            return Err(LengthError::Differing);
        }
        length = Some(parsed);
    }
    Ok(length)
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &'static str) -> Headers {
        let mut parsed = [httparse::EMPTY_HEADER; 16];
        let (_, fields) = httparse::parse_headers(text.as_bytes(), &mut parsed)
            .unwrap()
            .unwrap();
        let mut headers = Headers::default();
        headers.fill(
            text.as_bytes(),
            fields.iter().map(|field| (field.name, field.value)),
        );
        headers
    }

    #[test]
    fn fields_keep_order_spelling_and_bytes() {
        let headers = headers("X-One: a\r\nx-one:  Caf\u{e9} \r\nEmpty:\r\n\r\n");
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all[0], ("X-One", &b"a"[..]));
        assert_eq!(all[1], ("x-one", "Caf\u{e9}".as_bytes()));
        assert_eq!(all[2], ("Empty", &b""[..]));
        assert_eq!(headers.get_all("X-ONE").count(), 2);
        assert_eq!(headers.get("missing"), None);
    }

    #[test]
    fn tokens_are_found_in_lists_over_several_fields() {
        let headers = headers("Connection: a\r\nConnection: b , Close\r\n\r\n");
        assert!(headers.has_token("connection", "close"));
        assert!(!headers.has_token("connection", "clos"));
    }

    #[test]
    fn a_length_is_one_number_of_digits() {
        let of = |text| content_length(&headers(text));
        assert_eq!(of("Content-Length: 5\r\n\r\n"), Ok(Some(5)));
        assert_eq!(of("A: b\r\n\r\n"), Ok(None));
        for bad in ["+5", "-1", "5, 5", "0x5", "", "5 5", "18446744073709551616"] {
            let text: &'static str = format!("Content-Length: {bad}\r\n\r\n").leak();
            assert_eq!(of(text), Err(LengthError::NotDigits), "{bad}");
        }
        let twice = "Content-Length: 5\r\nContent-Length: 6\r\n\r\n";
        assert_eq!(of(twice), Err(LengthError::Differing));
    }
}
