//! The complexity of an ask: how much model it needs, with the evidence.
//!
//! A sum of signed evidence is read as the probabilities of three ordered classes. It tells kinds of work apart; whether a given model
//! gets a given ask right is not in the ask's words.

mod hits;
mod lexicon;
mod score;
mod text;

use serde::{Deserialize, Serialize};

/// Kind of work, by how much model it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Complexity {
    /// A small model should do.
    Simple,
    /// In between.
    Moderate,
    /// The large model.
    Complex,
}

impl Complexity {
    /// The upper-case word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "SIMPLE",
            Self::Moderate => "MODERATE",
            Self::Complex => "COMPLEX",
        }
    }

    /// The tier's name: the word in lower case.
    pub fn tier(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Moderate => "moderate",
            Self::Complex => "complex",
        }
    }
}

/// Probabilities of the three classes; they sum to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Probabilities {
    /// Of SIMPLE.
    pub simple: f64,
    /// Of MODERATE.
    pub moderate: f64,
    /// Of COMPLEX.
    pub complex: f64,
}

/// One thing that moved the score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signal {
    /// What kind of evidence.
    pub name: String,
    /// How far it moved the score; positive towards COMPLEX.
    pub weight: f64,
    /// The words that matched.
    pub matched: String,
}

/// The class of an ask, with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// The class.
    pub complexity: Complexity,
    /// Probability of that class.
    pub confidence: f64,
    /// Probabilities of all three.
    pub probabilities: Probabilities,
    /// Sum of the signals' weights; positive towards COMPLEX.
    pub score: f64,
    /// The evidence, strongest first.
    pub signals: Vec<Signal>,
}

/// The 15 acceptance prompts of the source documents with their labels.
pub const SELFTEST: [(&str, Complexity); 15] = [
    ("Write a docstring for a function", Complexity::Simple),
    ("Add a comment explaining this code", Complexity::Simple),
    ("Explain what this function does", Complexity::Simple),
    ("Document this class", Complexity::Simple),
    ("Add type hints to this function", Complexity::Moderate),
    (
        "Refactor this code to be more efficient",
        Complexity::Moderate,
    ),
    ("Optimize this algorithm", Complexity::Complex),
    (
        "Improve error handling in this function",
        Complexity::Moderate,
    ),
    ("Modernize this legacy code", Complexity::Moderate),
    ("Add logging to this module", Complexity::Moderate),
    ("Implement a binary search tree", Complexity::Complex),
    ("Create a REST API for user management", Complexity::Complex),
    ("Build a caching layer with TTL", Complexity::Complex),
    ("Design a thread-safe queue", Complexity::Complex),
    ("Implement OAuth2 authentication", Complexity::Complex),
];

/// Score at which SIMPLE and its neighbours are equally likely.
const SIMPLE_BELOW: f64 = -1.0;
/// Score at which COMPLEX and its neighbours are equally likely.
const COMPLEX_ABOVE: f64 = 1.0;
/// How fast likelihood turns around those scores.
const STEEPNESS: f64 = 2.0;
/// Least probability of SIMPLE for SIMPLE: above one half, because a small model that fails costs more than a large one that was not needed.
const SIMPLE_FROM: f64 = 0.6;
/// Least probability of COMPLEX for COMPLEX.
const COMPLEX_FROM: f64 = 0.5;

/// Classifies an ask (already peeled by [`super::shape_ask`]).
///
/// Reads the first and last 4 KiB of it. The weights of the signals add up to [`Classification::score`].
pub fn classify(ask: &str) -> Classification {
    classify_with_context(ask, 0)
}

/// Classifies an ask that comes with further text of so many bytes. Only that size counts: the words of a file are not a request.
pub fn classify_with_context(ask: &str, context_bytes: usize) -> Classification {
    let prose = text::Prose::of(&super::ask::window(ask));
    let mut signals = score::evidence(&prose, context_bytes);
    signals.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
    let score = signals.iter().map(|signal| signal.weight).sum();
    let probabilities = Probabilities::of_score(score);
    let complexity = decide(&probabilities);
    Classification {
        complexity,
        confidence: probabilities.get(complexity),
        probabilities,
        score,
        signals,
    }
}

impl Probabilities {
    /// Of one class.
    pub fn get(&self, complexity: Complexity) -> f64 {
        match complexity {
            Complexity::Simple => self.simple,
            Complexity::Moderate => self.moderate,
            Complexity::Complex => self.complex,
        }
    }

    /// The ordered logistic model.
    fn of_score(score: f64) -> Self {
        let logistic = |x: f64| 1.0 / (1.0 + (-STEEPNESS * x).exp());
        let simple = logistic(SIMPLE_BELOW - score);
        let complex = logistic(score - COMPLEX_ABOVE);
        Self {
            simple,
            moderate: 1.0 - simple - complex,
            complex,
        }
    }
}

/// The class by thresholds in order, not the likeliest one: what is in doubt is rounded up.
fn decide(probabilities: &Probabilities) -> Complexity {
    if probabilities.complex >= COMPLEX_FROM {
        Complexity::Complex
    } else if probabilities.simple >= SIMPLE_FROM {
        Complexity::Simple
    } else {
        Complexity::Moderate
    }
}
