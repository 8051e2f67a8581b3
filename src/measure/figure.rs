//! Numbers that say what they are, in which unit, and where they come from.

use serde::{Deserialize, Serialize};

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tag {
    /// Read from a clock, a counter or a sensor, or a plain summary of such readings (a count, a sum, a mean, a percentile).
    Measured,
    /// Computed, with at least one measured number among what it was computed from.
    Derived,
    /// Typed or configured by somebody, or computed from nothing but such numbers: no evidence for anything.
    Configured,
    /// Nobody measured it and nobody said it.
    Unknown,
}

impl Tag {
    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Derived => "derived",
            Self::Configured => "configured",
            Self::Unknown => "unknown",
        }
    }

    /// The tag of what is computed from two numbers.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Configured, Self::Configured) => Self::Configured,
            _ => Self::Derived,
        }
    }
}

/// What a number counts. Money is in the currency that the document around it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things: requests, loads, checks, people.
    Count,
    /// Tokens.
    Tokens,
    /// One number over another: 2 is twice as much.
    Ratio,
    /// A part of a whole, 0 to 1.
    Share,
    /// A part of a whole, 0 to 100.
    Percent,
    /// Events per second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// Days.
    Days,
    /// Months, twelve to a year.
    Months,
    /// Years.
    Years,
    /// Tokens per second.
    TokensPerSecond,
    /// Joules.
    Joules,
    /// Watts.
    Watts,
    /// Watt hours.
    WattHours,
    /// Kilowatt hours.
    KilowattHours,
    /// Money.
    Money,
    /// Money per hour of somebody's time.
    MoneyPerHour,
    /// Money per kilowatt hour.
    MoneyPerKilowattHour,
    /// Money per million tokens.
    MoneyPerMillionTokens,
}

/// A number with its unit and its origin. An unknown one has no value, and nothing that is computed from it has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Figure {
    value: Option<f64>,
    unit: Unit,
    tag: Tag,
}

/// A figure as it is read, before its tag is held against its value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    value: Option<f64>,
    unit: Unit,
    tag: Tag,
}

impl TryFrom<Written> for Figure {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { value, unit, tag } = written;
        if value.is_none() != (tag == Tag::Unknown) {
            return Err("a figure has no value exactly when its tag is `unknown`");
        }
        Ok(Self { value, unit, tag })
    }
}

impl Figure {
    fn new(value: f64, unit: Unit, tag: Tag) -> Self {
        if value.is_finite() && tag != Tag::Unknown {
            Self {
                value: Some(value),
                unit,
                tag,
            }
        } else {
            Self::unknown(unit)
        }
    }

    /// What was read from a clock, a counter or a sensor.
    pub fn measured(value: f64, unit: Unit) -> Self {
        Self::new(value, unit, Tag::Measured)
    }

    /// What was computed from measured numbers by something other than this type's own arithmetic.
    pub fn derived(value: f64, unit: Unit) -> Self {
        Self::new(value, unit, Tag::Derived)
    }

    /// What somebody typed or configured.
    pub fn configured(value: f64, unit: Unit) -> Self {
        Self::new(value, unit, Tag::Configured)
    }

    /// What nobody measured or said.
    pub fn unknown(unit: Unit) -> Self {
        Self {
            value: None,
            unit,
            tag: Tag::Unknown,
        }
    }

    /// What somebody may have said.
    pub fn given(value: Option<f64>, unit: Unit) -> Self {
        value.map_or(Self::unknown(unit), |value| Self::configured(value, unit))
    }

    /// This figure, or the other one where this is unknown.
    #[must_use]
    pub fn or(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if !self.is_known() => other,
            _ => self,
        }
    }

    /// The number; `None` when it is unknown.
    pub fn value(self) -> Option<f64> {
        self.value
    }

    /// What it counts.
    pub fn unit(self) -> Unit {
        self.unit
    }

    /// Where it comes from.
    pub fn tag(self) -> Tag {
        self.tag
    }

    /// Whether it has a value.
    pub fn is_known(self) -> bool {
        self.value.is_some()
    }

    /// The sum of two figures of one unit; of two units there is none.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.same_unit(other, |one, two| one + two)
    }

    /// The difference of two figures of one unit; of two units there is none.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.same_unit(other, |one, two| one - two)
    }

    /// The product, in the unit that the caller knows it to have.
    #[must_use]
    pub fn times(self, other: Self, unit: Unit) -> Self {
        self.combine(other, unit, |one, two| one * two)
    }

    /// The quotient, in the unit that the caller knows it to have; unknown where it is divided by 0.
    #[must_use]
    pub fn over(self, other: Self, unit: Unit) -> Self {
        self.combine(other, unit, |one, two| one / two)
    }

    /// The same quantity in another unit, `factor` of which make one of this; its tag stays.
    #[must_use]
    pub fn converted(self, factor: f64, unit: Unit) -> Self {
        self.adjusted(unit, |value| value * factor)
    }

    /// Its value through a function that needs no other number, such as rounding; its tag stays.
    #[must_use]
    pub(super) fn adjusted(self, unit: Unit, change: impl FnOnce(f64) -> f64) -> Self {
        self.value.map_or(Self::unknown(unit), |value| {
            Self::new(change(value), unit, self.tag)
        })
    }

    fn same_unit(self, other: Self, combine: impl FnOnce(f64, f64) -> f64) -> Self {
        if self.unit == other.unit {
            self.combine(other, self.unit, combine)
        } else {
            debug_assert!(false, "{:?} and {:?}", self.unit, other.unit);
            Self::unknown(self.unit)
        }
    }

    fn combine(self, other: Self, unit: Unit, combine: impl FnOnce(f64, f64) -> f64) -> Self {
        match (self.value, other.value) {
            (Some(one), Some(two)) => Self::new(combine(one, two), unit, self.tag.with(other.tag)),
            _ => Self::unknown(unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Unit = Unit::Seconds;

    #[test]
    fn unknown_stays_unknown() {
        let (known, unknown) = (Figure::measured(2.0, S), Figure::unknown(S));
        for result in [
            known.plus(unknown),
            unknown.minus(known),
            known.times(unknown, S),
            unknown.over(known, S),
            unknown.converted(60.0, S),
            known.over(Figure::configured(0.0, S), S),
            Figure::measured(f64::NAN, S),
            Figure::given(None, S),
        ] {
            assert_eq!(result, unknown);
            assert_eq!((result.value(), result.tag()), (None, Tag::Unknown));
        }
    }

    #[test]
    fn a_result_rests_on_its_weakest_number() {
        let (measured, said) = (Figure::measured(6.0, S), Figure::configured(3.0, S));
        let cases = [
            (measured.over(measured, Unit::Ratio), 1.0, Tag::Derived),
            (measured.over(said, Unit::Ratio), 2.0, Tag::Derived),
            (said.plus(said), 6.0, Tag::Configured),
            (said.minus(measured), -3.0, Tag::Derived),
            (
                measured.converted(1000.0, Unit::Milliseconds),
                6000.0,
                Tag::Measured,
            ),
        ];
        for (figure, value, tag) in cases {
            assert_eq!((figure.value(), figure.tag()), (Some(value), tag));
        }
    }

    #[test]
    fn a_value_and_its_tag_agree_when_they_are_read() {
        let read = |text: &str| serde_json::from_str::<Figure>(text);
        let text = r#"{"value":19.0,"unit":"seconds","tag":"configured"}"#;
        let figure = read(text).unwrap();
        assert_eq!(serde_json::to_string(&figure).unwrap(), text);
        assert!(read(r#"{"value":null,"unit":"seconds","tag":"unknown"}"#).is_ok());
        for wrong in [
            r#"{"value":null,"unit":"seconds","tag":"measured"}"#,
            r#"{"value":1.0,"unit":"seconds","tag":"unknown"}"#,
            r#"{"value":1.0,"unit":"parsecs","tag":"measured"}"#,
            r#"{"value":1.0,"unit":"seconds","tag":"guessed"}"#,
            r#"{"value":1.0,"unit":"seconds","tag":"measured","more":1}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
