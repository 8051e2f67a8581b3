//! Values of the configuration: what may be written, and what it means.

use std::fmt;
use std::time::Duration;

use super::address;

/// What the value of a key may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text that is not empty and holds no control characters.
    Text,
    /// A list of such texts.
    Texts,
    /// A node's name: it goes into headers, logs and metrics as it is.
    NodeName,
    /// A tier's name: like a node's, in lower case, and none of the built-in ones.
    TierName,
    /// Base URL of a node.
    Url,
    /// Loopback address with a port.
    Listen,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// A number from 0 to 1.
    Fraction,
    /// A number that is not negative.
    Price,
    /// A number above 0.
    Positive,
    /// `true` or `false`.
    Switch,
    /// A whole number between these, both included.
    Count(u64, u64),
    /// A duration; plain numbers are seconds. `endless`: 0 is allowed and means no limit.
    Time {
        /// Whether there may be no limit.
        endless: bool,
    },
    /// `"off"` or a time.
    Pause,
    /// `"auto"` or a whole number from 1.
    Slots,
    /// Bytes: a whole number, or one with a unit.
    Size,
    /// The same, or 0 for none.
    Memory,
    /// A list of host names.
    Hosts,
    /// A date, YYYY-MM-DD.
    Date,
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Count(u64),
    Number(f64),
    Switch(bool),
    /// Zero: no limit.
    Time(Duration),
    /// Zero: auto.
    Slots(u32),
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn texts(&self) -> Option<Vec<String>> {
        match self {
            Self::Texts(texts) => Some(texts.clone()),
            _ => None,
        }
    }

    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Count(count) => Some(*count),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn switch(&self) -> Option<bool> {
        match self {
            Self::Switch(on) => Some(*on),
            _ => None,
        }
    }

    pub(super) fn time(&self) -> Option<Duration> {
        match self {
            Self::Time(time) => Some(*time),
            _ => None,
        }
    }

    pub(super) fn slots(&self) -> Option<u32> {
        match self {
            Self::Slots(slots) => Some(*slots),
            _ => None,
        }
    }
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Float(f64),
    Switch(bool),
    /// A date without quotes.
    Date(String),
    List(Vec<Raw>),
    /// Something that no key takes, by its name.
    Other(&'static str),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if text.is_empty() => f.write_str("empty"),
            Self::Text(text) => write!(f, "`{}`", text.escape_debug()),
            Self::Date(text) => write!(f, "`{text}`"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Switch(on) => write!(f, "{on}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Longest time limit: a year. Deadlines are sums of instants, which must not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Largest size: a tebibyte, more than any machine would buffer.
const LARGEST: u64 = 1 << 40;

/// Longest name of a node or a tier; it goes into every answer's headers.
const LONGEST_NAME: usize = 100;

impl Kind {
    /// What is allowed, as it follows "must be".
    pub fn allowed(self) -> String {
        match self {
            Self::Text => "a text that is not empty, without control characters".to_owned(),
            Self::Texts => "a list of texts that are not empty".to_owned(),
            Self::NodeName => format!(
                "a name of at most {LONGEST_NAME} visible ASCII characters without spaces, quotes, backslashes, commas and `=`"
            ),
            Self::TierName => format!(
                "a lower-case name of at most {LONGEST_NAME} visible ASCII characters without spaces, quotes, backslashes, commas and `=`, other than simple, moderate, complex and explicit"
            ),
            Self::Url => {
                "an http:// or https:// URL of a host, without user name, query and fragment"
                    .to_owned()
            }
            Self::Listen => "a loopback IP address with a port, such as 127.0.0.1:8512".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ").replace(", warn,", ",")),
            Self::Choices(words) => format!("a list of any of {}", words.join(", ")),
            Self::Fraction => "a number from 0 to 1".to_owned(),
            Self::Price => "a number from 0".to_owned(),
            Self::Positive => "a number above 0".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Count(least, most) if most >= u64::from(u32::MAX) => {
                format!("a whole number from {least}")
            }
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Time { endless: true } => {
                "a duration up to a year, such as \"90s\", or 0 for no limit".to_owned()
            }
            Self::Time { endless: false } => {
                "a duration from 1ms up to a year, such as \"2s\"".to_owned()
            }
            Self::Pause => {
                "\"off\" or a duration from 1ms up to a year, such as \"20s\"".to_owned()
            }
            Self::Slots => "\"auto\" or a whole number from 1".to_owned(),
            Self::Size => {
                "a size from 1 byte to 1 TiB, such as \"64MiB\" or a number of bytes".to_owned()
            }
            Self::Memory => {
                "a size up to 1 TiB, such as \"16GiB\" or a number of bytes, or 0 for none"
                    .to_owned()
            }
            Self::Hosts => "a list of host names without scheme, port and path".to_owned(),
            Self::Date => "a date such as \"2026-11-01\"".to_owned(),
        }
    }

    /// The type in a word or two, for the manual page.
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Texts | Self::Hosts => "list of texts",
            Self::NodeName | Self::TierName => "name",
            Self::Url => "URL",
            Self::Listen => "address",
            Self::Choice(_) => "word",
            Self::Choices(_) => "list of words",
            Self::Fraction | Self::Price | Self::Positive => "number",
            Self::Switch => "true or false",
            Self::Count(..) => "whole number",
            Self::Time { .. } => "duration",
            Self::Pause => "off or duration",
            Self::Slots => "auto or whole number",
            Self::Size | Self::Memory => "size",
            Self::Date => "date",
        }
    }

    /// Reads a flag or an environment variable. The error says what is allowed and begins with "must be".
    pub(super) fn read_text(self, text: &str) -> Result<Value, String> {
        self.read(&Raw::Text(text.to_owned()))
    }

    /// Reads a value. The error says what is allowed and begins with "must be".
    pub(super) fn read(self, raw: &Raw) -> Result<Value, String> {
        if let (Self::Listen, Raw::Text(text)) = (self, raw) {
            return address::listen(text).map(Value::Text);
        }
        if let (Self::Choices(words), Raw::List(items)) = (self, raw)
            && let Some(other) = items
                .iter()
                .find(|item| !matches!(item, Raw::Text(text) if words.contains(&text.as_str())))
        {
            return Err(format!("must be {}, without {other}", self.allowed()));
        }
        self.understand(raw)
            .ok_or_else(|| format!("must be {}, not {raw}", self.allowed()))
    }

    fn understand(self, raw: &Raw) -> Option<Value> {
        match (self, raw) {
            (Self::Text, Raw::Text(text)) if is_text(text) => Some(Value::Text(text.clone())),
            (Self::Texts, Raw::List(items)) => list(items, is_text),
            (Self::Hosts, Raw::List(items)) => list(items, address::is_host_name),
            (Self::NodeName, Raw::Text(text)) if is_name(text) => Some(Value::Text(text.clone())),
            (Self::TierName, Raw::Text(text)) if is_tier_name(text) => {
                Some(Value::Text(text.clone()))
            }
            (Self::Url, Raw::Text(text)) => address::node_url(text).map(Value::Text),
            // In capitals too, as the sources' own files have their levels.
            (Self::Choice(words), Raw::Text(text)) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| Value::Text((*word).to_owned())),
            (Self::Choices(words), Raw::List(items)) => list(items, |word| words.contains(&word)),
            (Self::Fraction, raw) => number(raw)
                .filter(|number| (0.0..=1.0).contains(number))
                .map(Value::Number),
            (Self::Price, raw) => number(raw)
                .filter(|number| number.is_finite() && *number >= 0.0)
                .map(Value::Number),
            (Self::Positive, raw) => number(raw)
                .filter(|number| number.is_finite() && *number > 0.0)
                .map(Value::Number),
            (Self::Switch, Raw::Switch(on)) => Some(Value::Switch(*on)),
            // Flags and environment variables are text.
            (Self::Switch, Raw::Text(text)) => text.parse().ok().map(Value::Switch),
            (Self::Count(least, most), Raw::Integer(number)) => u64::try_from(*number)
                .ok()
                .filter(|number| (least..=most).contains(number))
                .map(Value::Count),
            (Self::Time { endless }, raw) => time(raw, endless),
            (Self::Pause, Raw::Text(text)) if text == "off" => Some(Value::Time(Duration::ZERO)),
            (Self::Pause, raw) => time(raw, false),
            (Self::Slots, Raw::Text(text)) if text == "auto" => Some(Value::Slots(0)),
            (Self::Slots, Raw::Integer(number)) => u32::try_from(*number)
                .ok()
                .filter(|number| *number > 0)
                .map(Value::Slots),
            (Self::Size, raw) => size(raw)
                .filter(|bytes| (1..=LARGEST).contains(bytes))
                .map(Value::Count),
            (Self::Memory, raw) => size(raw)
                .filter(|bytes| *bytes <= LARGEST)
                .map(Value::Count),
            (Self::Date, Raw::Text(text) | Raw::Date(text)) if is_date(text) => {
                Some(Value::Text(text.clone()))
            }
            _ => None,
        }
    }
}

/// Whether a text says something and can be put into a log line or a header's value.
pub(super) fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"'`\\,=".contains(&byte))
}

fn is_tier_name(text: &str) -> bool {
    is_name(text)
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        && !["simple", "moderate", "complex", "explicit"].contains(&text)
}

fn is_date(text: &str) -> bool {
    text.len() == "2026-11-01".len()
        && humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok()
}

fn list(items: &[Raw], allowed: impl Fn(&str) -> bool) -> Option<Value> {
    items
        .iter()
        .map(|item| match item {
            Raw::Text(text) if allowed(text) => Some(text.clone()),
            _ => None,
        })
        .collect::<Option<Vec<String>>>()
        .map(Value::Texts)
}

fn number(raw: &Raw) -> Option<f64> {
    match raw {
        Raw::Float(number) => Some(*number),
        // Prices and fractions are far below 2^53; a larger integer is refused instead of rounded.
        Raw::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        _ => None,
    }
}

fn time(raw: &Raw, endless: bool) -> Option<Value> {
    let time = match raw {
        Raw::Text(text) => match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
            Err(_) => humantime::parse_duration(text).ok()?,
        },
        raw => Duration::try_from_secs_f64(number(raw)?).ok()?,
    };
    let in_range = (Duration::from_millis(1)..=LONGEST).contains(&time);
    (in_range || (endless && time.is_zero())).then_some(Value::Time(time))
}

fn size(raw: &Raw) -> Option<u64> {
    let text = match raw {
        Raw::Integer(bytes) => return u64::try_from(*bytes).ok(),
        Raw::Text(text) => text.trim(),
        _ => return None,
    };
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// A duration as [`Kind::Time`] reads it.
pub(super) fn time_text(time: Duration) -> String {
    if time.subsec_nanos() == 0 {
        format!("{}s", time.as_secs())
    } else if time.subsec_nanos().is_multiple_of(1_000_000) {
        format!("{}ms", time.as_millis())
    } else {
        humantime::format_duration(time).to_string()
    }
}

/// A size as [`Kind::Size`] reads it, in the largest unit that loses nothing.
pub(super) fn size_text(bytes: u64) -> String {
    for (unit, name) in [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endless(text: &str) -> Option<Duration> {
        let kind = Kind::Time { endless: true };
        kind.read_text(text).ok().and_then(|value| value.time())
    }

    #[test]
    fn plain_numbers_are_seconds() {
        let kind = Kind::Time { endless: true };
        assert_eq!(endless("90"), Some(Duration::from_secs(90)));
        assert_eq!(endless("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(
            kind.read(&Raw::Integer(3)).ok().and_then(|v| v.time()),
            Some(Duration::from_secs(3))
        );
        assert_eq!(endless("1m 30s"), Some(Duration::from_secs(90)));
    }

    #[test]
    fn zero_is_no_limit_where_there_may_be_none() {
        assert_eq!(endless("0"), Some(Duration::ZERO));
        assert_eq!(endless("0s"), Some(Duration::ZERO));
        assert!(Kind::Time { endless: false }.read_text("0").is_err());
    }

    #[test]
    fn a_time_that_would_overflow_a_deadline_is_refused() {
        assert_eq!(endless("400days"), None);
        assert_eq!(endless("-1"), None);
        assert_eq!(endless("nan"), None);
        assert_eq!(endless("inf"), None);
        assert_eq!(endless("1e300"), None);
    }

    #[test]
    fn sizes_know_both_kinds_of_units() {
        let read = |text: &str| Kind::Size.read_text(text).ok().and_then(|v| v.count());
        assert_eq!(read("64MiB"), Some(64 << 20));
        assert_eq!(read("1 kB"), Some(1000));
        assert_eq!(read("17"), Some(17));
        assert_eq!(read("0"), None);
        assert_eq!(read("MiB"), None);
        assert_eq!(read("9999999999GiB"), None);
        assert_eq!(read("1.5GiB"), None);
        let memory = |text: &str| Kind::Memory.read_text(text).ok().and_then(|v| v.count());
        assert_eq!((memory("0"), memory("16GiB")), (Some(0), Some(16 << 30)));
        assert_eq!((memory("2000GiB"), memory("-1")), (None, None));
    }

    #[test]
    fn a_tier_is_in_lower_case_and_none_of_the_built_in_ones() {
        assert!(Kind::TierName.read_text("simple").is_err());
        assert!(Kind::TierName.read_text("Huge").is_err());
        assert!(Kind::TierName.read_text("huge").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 1u64..31_536_000_000, bytes in 1u64..=LARGEST) {
            let time = Duration::from_millis(millis);
            proptest::prop_assert_eq!(endless(&time_text(time)), Some(time));
            let size = Kind::Size.read_text(&size_text(bytes)).ok().and_then(|value| value.count());
            proptest::prop_assert_eq!(size, Some(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            for key in super::super::KEYS {
                let _ = key.kind.read_text(&text);
            }
        }
    }
}
