//! The complexity of an ask.

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

/// Classifies an ask (already peeled by [`super::shape_ask`]).
pub fn classify(_ask: &str) -> Classification {
    Classification {
        complexity: Complexity::Moderate,
        confidence: 1.0,
        probabilities: Probabilities {
            simple: 0.0,
            moderate: 1.0,
            complex: 0.0,
        },
        signals: Vec::new(),
    }
}
