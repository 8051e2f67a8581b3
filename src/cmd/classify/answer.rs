//! The answer for one prompt, as a document and as a table.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::input::Input;
use crate::routing::{
    Classification, Family, Policy, Probabilities, Signal, TierChoice, classify_with_context,
    estimate_tokens, target, tier_of,
};

/// Width of the table in columns.
const WIDTH: u16 = 80;
/// Characters of the ask that the table shows.
const ASK_SHOWN: usize = 240;

/// The classification of a prompt and what follows from it.
pub(super) struct Answer {
    ask: String,
    task: String,
    tokens: u64,
    classification: Classification,
    tier: TierChoice,
}

/// The JSON document.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema: u32,
    complexity: &'a str,
    confidence: f64,
    probabilities: Probabilities,
    tokens: u64,
    tier: &'a str,
    model: Option<&'a str>,
    node: Option<&'a str>,
    reason: &'a str,
    signals: &'a [Signal],
    ask: &'a str,
    task: &'a str,
}

impl Answer {
    /// Classifies, estimates tokens for the model of the class, and chooses the tier.
    pub(super) fn new(input: &Input, context: Option<&str>, task: &str, policy: &Policy) -> Self {
        let classification = classify_with_context(&input.ask, context.map_or(0, str::len));
        let family = target(policy, classification.complexity)
            .map_or(Family::Unknown, |(target, _)| {
                Family::of_model(&target.model)
            });
        let texts = input.texts.iter().map(String::as_str).chain(context);
        let tokens = texts.map(|text| estimate_tokens(text, family)).sum();
        let tier = tier_of(policy, &classification, tokens);
        Self {
            ask: input.ask.clone(),
            task: task.to_owned(),
            tokens,
            classification,
            tier,
        }
    }

    /// `SIMPLE`, `MODERATE` or `COMPLEX`.
    pub(super) fn class(&self) -> &'static str {
        self.classification.complexity.as_str()
    }

    pub(super) fn document(&self) -> Document<'_> {
        Document {
            schema: 1,
            complexity: self.class(),
            confidence: self.classification.confidence,
            probabilities: self.classification.probabilities,
            tokens: self.tokens,
            tier: &self.tier.name,
            model: self.tier.model.as_deref(),
            node: self.tier.prefer.as_deref(),
            reason: &self.tier.reason,
            signals: &self.classification.signals,
            ask: &self.ask,
            task: &self.task,
        }
    }

    /// The evidence as tables of at most 80 columns, without a line end after the last line.
    pub(super) fn explained(&self) -> String {
        let Classification {
            probabilities: p,
            score,
            signals,
            ..
        } = &self.classification;
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let mut facts = table();
        let likelihoods = format!(
            "SIMPLE {}, MODERATE {}, COMPLEX {}",
            percent(p.simple),
            percent(p.moderate),
            percent(p.complex)
        );
        // Line ends would break the table, escapes the terminal.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = self.ask.chars().take(ASK_SHOWN).map(plain).collect();
        let more = match self.ask.chars().nth(ASK_SHOWN) {
            Some(_) => " …",
            None => "",
        };
        facts.add_row(["class", self.class()]);
        facts.add_row(["likelihood", &likelihoods]);
        facts.add_row(["tokens", &format!("{} (estimated)", self.tokens)]);
        facts.add_row(["tier", &self.tier.name]);
        facts.add_row([
            "model",
            self.tier.model.as_deref().unwrap_or("none configured"),
        ]);
        facts.add_row(["node", self.tier.prefer.as_deref().unwrap_or("any")]);
        facts.add_row(["reason", &self.tier.reason]);
        facts.add_row(["ask", &format!("{shown}{more}")]);
        let mut evidence = table();
        evidence.set_header(["weight", "signal", "matched"]);
        for signal in signals {
            let weight = format!("{:+.2}", signal.weight);
            evidence.add_row([&weight, &signal.name, &signal.matched]);
        }
        evidence.add_row([
            format!("{score:+.2}"),
            "score".to_owned(),
            "below -1 towards SIMPLE, above +1 towards COMPLEX".to_owned(),
        ]);
        if let Some(column) = evidence.column_mut(0) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let lines = facts.lines().chain(std::iter::once(String::new()));
        let lines: Vec<_> = lines
            .chain(evidence.lines())
            .map(|line| line.trim_end().to_owned())
            .collect();
        lines.join("\n")
    }
}

fn table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}
