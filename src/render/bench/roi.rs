//! The return on investment as text.

use std::io::{self, Write};

use super::figure::{Currency, text, trimmed};
use super::{price_of, row, sentence};
use crate::measure::{
    Basis, Figure, Missing, Note, Payback, RoiInputs, RoiReport, Rounding, Span, Tag, Unit,
    Workload,
};

pub(super) fn roi(out: &mut dyn Write, inputs: &RoiInputs, report: &RoiReport) -> io::Result<()> {
    let told = Told {
        currency: Currency::new(&inputs.currency),
        rounding: inputs.rounding,
    };
    told.time(out, inputs, report)?;
    told.year(out, inputs, report)?;
    for note in &report.notes {
        writeln!(out)?;
        told.note(out, note)?;
    }
    if let Some(evidence) = &inputs.evidence {
        writeln!(out)?;
        let told = format!(
            "{} pairs, whose digest is {}",
            evidence.pairs, evidence.sha256
        );
        sentence(out, "measured: ", &told)?;
    }
    if report.speedup.tag() == Tag::Configured {
        writeln!(out)?;
        sentence(
            out,
            "",
            "nothing here was measured: every figure follows from the numbers that were given",
        )?;
    }
    Ok(())
}

/// How figures are written.
struct Told<'a> {
    currency: Currency<'a>,
    rounding: Rounding,
}

impl Told<'_> {
    /// Minutes and hours: two decimals, or those that the sources printed.
    fn duration(&self, figure: Figure) -> String {
        let unit = match figure.unit() {
            Unit::Minutes => "min",
            _ => "h",
        };
        match (self.rounding, figure.value()) {
            (Rounding::Source, Some(value)) => format!("{} {unit}", trimmed(value, 1)),
            _ => text(figure),
        }
    }

    /// Money: cents, or whole dollars as the sources printed it.
    fn money(&self, figure: Figure) -> String {
        match (self.rounding, figure.value()) {
            (Rounding::Source, Some(value)) => self.currency.of(value, 0),
            _ => self.currency.text(figure),
        }
    }

    fn time(&self, out: &mut dyn Write, inputs: &RoiInputs, report: &RoiReport) -> io::Result<()> {
        let columns = |label: &str, slow: &str, fast: &str, saved: &str, tag: &str| {
            format!("{label:<22}{slow:>13}{fast:>14}{saved:>15}    {tag}")
        };
        writeln!(out, "{}", columns("", "TODAY", "ROUTED", "SAVED", "TAG"))?;
        let each = inputs.slow.minus(inputs.fast);
        let tag = each.tag().as_str();
        let request = [inputs.slow, inputs.fast, each].map(text);
        writeln!(
            out,
            "{}",
            columns("a request", &request[0], &request[1], &request[2], tag)
        )?;
        let span = |label, span: Span| {
            let [slow, fast, saved] =
                [span.slow, span.fast, span.saved].map(|figure| self.duration(figure));
            columns(label, &slow, &fast, &saved, span.saved.tag().as_str())
        };
        writeln!(out, "{}", span("a day", report.day))?;
        writeln!(out, "{}\n", span("a year", report.year))?;
        let of = match inputs.evidence {
            Some(_) => " by mean times",
            None => "",
        };
        let faster = format!(
            "{}{of}, {} less time",
            text(report.speedup),
            text(report.reduction)
        );
        row(out, "speed-up", &faster, report.speedup)?;
        row(
            out,
            "requests",
            &requests(inputs, report),
            report.requests_per_day,
        )?;
        let worth = match report.time.basis {
            Basis::NotCounted => return Ok(()),
            Basis::Sources => {
                let rounded = match inputs.rounding {
                    Rounding::Source => ", rounded at every step as they do",
                    Rounding::Exact => "",
                };
                format!("the sources' arithmetic: every waited second is a paid one{rounded}")
            }
            Basis::Configured => {
                let hours = self.duration(report.time.hours);
                format!(
                    "{} of it paid attention: {hours}",
                    text(report.time.attention)
                )
            }
        };
        let rate = self.currency.text(inputs.rate);
        let value = format!("{} a year at {rate}", self.money(report.time.money));
        row(out, "value of the time", &value, report.time.money)?;
        sentence(out, &" ".repeat(22), &worth)
    }

    /// The lines of a year, where anything was said about one of them.
    fn year(&self, out: &mut dyn Write, inputs: &RoiInputs, report: &RoiReport) -> io::Result<()> {
        writeln!(out)?;
        let said = [
            inputs.api.share,
            inputs.api.tokens_in,
            inputs.api.tokens_out,
            inputs.power.energy,
            inputs.power.idle,
        ];
        if said.iter().any(|figure| figure.is_known()) || inputs.hardware.is_some() {
            self.parts(out, inputs, report)?;
        }
        row(out, "net a year", &self.money(report.net), report.net)?;
        let payback = match report.payback {
            Payback::After { months } => Some(text(months)),
            Payback::Never => Some("never".to_owned()),
            Payback::Unknown => Some(super::figure::unknown()),
            Payback::NoHardware => None,
        };
        if let Some(payback) = payback {
            row(out, "payback", &payback, report.net)?;
        }
        if report.missing.is_empty() {
            return Ok(());
        }
        let flags: Vec<&str> = report
            .missing
            .iter()
            .map(|missing| flag(*missing))
            .collect();
        sentence(out, "the net needs: ", &flags.join(", "))
    }

    /// What the net is made of.
    fn parts(&self, out: &mut dyn Write, inputs: &RoiInputs, report: &RoiReport) -> io::Result<()> {
        let (api, power) = (&report.api, &report.electricity);
        let mut prices = vec![price_of(&inputs.api.price.basis)];
        if inputs.power.kwh.is_known() {
            prices.push(self.currency.text(inputs.power.kwh));
        }
        sentence(out, "prices: ", &prices.join("; "))?;
        self.line(out, "API not paid", api.avoided, "")?;
        let after_all = "answered here, then paid there";
        self.line(out, "less retries", api.retries, after_all)?;
        let above_idle = detail(power.energy, || {
            format!("{} above idle", text(power.energy))
        });
        self.line(out, "less energy", power.energy_cost, &above_idle)?;
        let waiting = detail(power.idle, || {
            let (idle, hours) = (inputs.power.idle, inputs.power.idle_hours.value());
            let hours = trimmed(hours.unwrap_or_default(), 1);
            format!("{}, {} for {hours} h a day", text(power.idle), text(idle))
        });
        self.line(out, "less idle power", power.idle_cost, &waiting)?;
        match inputs.hardware.zip(report.hardware) {
            Some((bought, year)) => {
                let capex = self.currency.text(bought.capex);
                let bought = format!("{capex} over {}", text(bought.life));
                self.line(out, "less hardware", year, &bought)
            }
            None => writeln!(out, "{:<22}not counted", "less hardware"),
        }
    }

    fn line(
        &self,
        out: &mut dyn Write,
        label: &str,
        figure: Figure,
        detail: &str,
    ) -> io::Result<()> {
        let money = self.money(figure);
        row(out, label, &format!("{money:>11}  {detail}"), figure)
    }

    fn note(&self, out: &mut dyn Write, note: &Note) -> io::Result<()> {
        match note {
            Note::SourcesArithmetic => sentence(
                out,
                "note: ",
                "people overlap waits. --attention X says which share of the waiting is paid; without --rate it is none, and the value of the time is never part of the net.",
            ),
            Note::NotLikeForLike {
                logged,
                warm,
                speedup,
                hours,
                money,
            } => {
                let worth = if money.is_known() {
                    format!(" or {}", self.currency.text(*money))
                } else {
                    String::new()
                };
                let saved = if hours.is_known() {
                    format!(", {}{worth} a year", text(*hours))
                } else {
                    String::new()
                };
                let told = format!(
                    "19 s and 0.34 s are the source documents' numbers and not like for like: their own log has {} for the routed request, their FAQ 2 to 3 s for the big model once it is loaded (taken as {}). Warm against warm that is {}{saved}. What was real is the load that is avoided, and that has to be measured.",
                    text(*logged),
                    text(*warm),
                    text(*speedup)
                );
                sentence(out, "note: ", &told)
            }
        }
    }
}

fn requests(inputs: &RoiInputs, report: &RoiReport) -> String {
    if !report.requests_per_day.is_known() {
        return super::figure::unknown();
    }
    let a_day = format!("{} a day", text(report.requests_per_day));
    let days = if inputs.days.is_known() {
        format!(", {} days a year", text(inputs.days))
    } else {
        String::new()
    };
    match inputs.workload {
        Workload::PerDay { .. } => a_day + &days,
        Workload::Team {
            developers,
            per_developer,
        } => format!(
            "{} people x {} = {a_day}{days}",
            text(developers),
            text(per_developer)
        ),
    }
}

/// Words beside a figure that is known.
fn detail(figure: Figure, words: impl FnOnce() -> String) -> String {
    if figure.is_known() {
        words()
    } else {
        String::new()
    }
}

/// The flag that says it.
fn flag(missing: Missing) -> &'static str {
    match missing {
        Missing::Requests => "--requests",
        Missing::Days => "--days",
        Missing::Share => "--api-share",
        Missing::Retries => "--retries",
        Missing::Tokens => "--tokens-in, --tokens-cached, --tokens-out",
        Missing::Price => "--model with a price in [prices.models]",
        Missing::Energy => "--energy",
        Missing::IdlePower => "--idle-watts",
        Missing::KilowattHour => "--kwh",
        Missing::Life => "--life",
    }
}
