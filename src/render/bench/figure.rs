//! Figures as text: every unit has its decimals, and an unknown is n/a.

use crate::measure::{Figure, Unit};

/// What an unknown figure prints.
pub(super) fn unknown() -> String {
    "n/a".to_owned()
}

/// How money is written.
pub(super) struct Currency<'a>(&'a str);

impl<'a> Currency<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// Money with this many decimals.
    pub(super) fn of(&self, money: f64, decimals: usize) -> String {
        self.sign(money, &grouped(money.abs(), decimals))
    }

    /// Money with all its decimals.
    pub(super) fn exact(&self, money: f64) -> String {
        self.sign(money, &trimmed(money.abs(), 12))
    }

    fn sign(&self, money: f64, amount: &str) -> String {
        let minus = if money < 0.0 { "-" } else { "" };
        match self.0 {
            "USD" => format!("{minus}${amount}"),
            name => format!("{minus}{amount} {name}"),
        }
    }

    /// A figure in its unit.
    pub(super) fn text(&self, figure: Figure) -> String {
        let Some(value) = figure.value() else {
            return unknown();
        };
        match figure.unit() {
            Unit::Money | Unit::MoneyPerMillionTokens => self.of(value, 2),
            Unit::MoneyPerHour => format!("{}/h", self.of(value, 2)),
            Unit::MoneyPerKilowattHour => format!("{}/kWh", self.of(value, 2)),
            _ => text(figure),
        }
    }
}

/// A figure that is no money, in its unit.
pub(super) fn text(figure: Figure) -> String {
    let Some(value) = figure.value() else {
        return unknown();
    };
    match figure.unit() {
        Unit::Ratio if value.abs() < 9.995 => format!("{value:.2}x"),
        Unit::Ratio => format!("{}x", grouped(value, 1)),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Percent => format!("{value:.1} %"),
        Unit::PerSecond => format!("{}/s", grouped_trimmed(value, 1)),
        Unit::Bytes => bytes(value),
        Unit::Count | Unit::Tokens | Unit::Days => grouped_trimmed(value, 1),
        Unit::Milliseconds if value.abs() < 10.0 => format!("{value:.2} ms"),
        Unit::Milliseconds if value.abs() < 10_000.0 => format!("{value:.0} ms"),
        Unit::Milliseconds => format!("{:.1} s", value / 1000.0),
        Unit::Seconds if value.abs() < 1.0 => format!("{} s", trimmed(value, 4)),
        Unit::Seconds => format!("{} s", trimmed(value, 3)),
        Unit::Minutes => format!("{} min", grouped(value, 2)),
        Unit::Hours => format!("{} h", grouped(value, 2)),
        Unit::Months => format!("{value:.1} months"),
        Unit::Years => format!("{} years", trimmed(value, 1)),
        Unit::TokensPerSecond => grouped(value, 1),
        Unit::Joules => format!("{} J", grouped(value, 1)),
        Unit::Watts => format!("{} W", grouped_trimmed(value, 1)),
        Unit::WattHours => format!("{} Wh", grouped(value, 3)),
        Unit::KilowattHours => format!("{} kWh", grouped(value, 1)),
        Unit::Money
        | Unit::MoneyPerHour
        | Unit::MoneyPerKilowattHour
        | Unit::MoneyPerMillionTokens => grouped(value, 2),
    }
}

/// A size or a change of one, in the unit that a person reads at a glance.
fn bytes(value: f64) -> String {
    const MIB: f64 = 1_048_576.0;
    match value.abs() {
        size if size < 1024.0 => format!("{value:.0} B"),
        size if size < MIB => format!("{:.0} KiB", value / 1024.0),
        _ => format!("{} MiB", grouped(value / MIB, 1)),
    }
}

/// A number with a comma after every three digits before the point.
pub(super) fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{:.decimals$}", value.abs());
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let zero = plain.chars().all(|digit| matches!(digit, '0' | '.'));
    let minus = if value < 0.0 && !zero { "-" } else { "" };
    format!("{minus}{text}{rest}")
}

/// A grouped number without zeros at its end.
pub(super) fn grouped_trimmed(value: f64, most: usize) -> String {
    without_zeros(grouped(value, most))
}

/// A number with at most so many decimals, without zeros at its end.
pub(super) fn trimmed(value: f64, most: usize) -> String {
    without_zeros(format!("{value:.most$}"))
}

fn without_zeros(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_trimmed() {
        let cases = [
            (12_958.333, 2, "12,958.33"),
            (1_234_567.0, 0, "1,234,567"),
            (999.0, 1, "999.0"),
            (-1_000.4, 0, "-1,000"),
            (-0.004, 2, "0.00"),
        ];
        for (value, decimals, text) in cases {
            assert_eq!(grouped(value, decimals), text);
        }
        assert_eq!(trimmed(19.0, 3), "19");
        assert_eq!(trimmed(0.005_42, 12), "0.00542");
        assert_eq!(trimmed(100.0, 0), "100");
        assert_eq!(grouped_trimmed(2_000.5, 1), "2,000.5");
    }

    #[test]
    fn every_unit_has_its_form() {
        let dollars = Currency::new("USD");
        let said = |value, unit| dollars.text(Figure::configured(value, unit));
        let cases = [
            (55.882, Unit::Ratio, "55.9x"),
            (1.049_5, Unit::Ratio, "1.05x"),
            (0.982_1, Unit::Share, "98.2 %"),
            (12_958.333, Unit::Money, "$12,958.33"),
            (-5.0, Unit::Money, "-$5.00"),
            (50.0, Unit::MoneyPerHour, "$50.00/h"),
            (259.167, Unit::Hours, "259.17 h"),
            (612.4, Unit::Milliseconds, "612 ms"),
            (61_240.0, Unit::Milliseconds, "61.2 s"),
            (91.4, Unit::Percent, "91.4 %"),
            (50.0, Unit::PerSecond, "50/s"),
            (-512.0, Unit::Bytes, "-512 B"),
            (10_485_760.0, Unit::Bytes, "10.0 MiB"),
        ];
        for (value, unit, text) in cases {
            assert_eq!(said(value, unit), text);
        }
        assert_eq!(dollars.text(Figure::unknown(Unit::Money)), "n/a");
        assert_eq!(Currency::new("EUR").of(-1.5, 2), "-1.50 EUR");
    }
}
