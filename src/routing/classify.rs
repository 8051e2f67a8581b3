//! The complexity of an ask: how much model it needs, with the evidence.
//!
//! A sum of signed evidence is read as the probabilities of three ordered classes. It tells kinds of work apart; whether a given model
//! gets a given ask right is not in the ask's words.

mod hits;
mod index;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(ask: &str) -> Complexity {
        classify(ask).complexity
    }

    #[test]
    fn the_acceptance_prompts_have_their_labels() {
        for (prompt, label) in SELFTEST {
            assert_eq!(class(prompt), label, "{prompt}: {:?}", classify(prompt));
        }
    }

    #[test]
    fn words_inside_other_words_do_not_count() {
        for (inside, word) in [
            ("information about lifestyle", "format"),
            ("a documentary on rebuilding", "document"),
            ("the capital of Peru", "api"),
            ("terrorism", "error"),
            ("splinter groups", "lint"),
            ("redesigned costumes", "design"),
        ] {
            let signals = classify(inside).signals;
            assert!(
                signals
                    .iter()
                    .all(|signal| !signal.matched.split(", ").any(|m| m == word)),
                "{inside}: {signals:?}"
            );
        }
        assert_eq!(class("用python实现一个LSM引擎"), Complexity::Complex);
    }

    #[test]
    fn a_negated_verb_is_no_request() {
        assert_eq!(
            class("Don't implement it, just explain what this function does"),
            Complexity::Simple
        );
        assert_eq!(
            class("Não implemente nada, apenas explique o que esta função faz"),
            Complexity::Simple
        );
        assert_eq!(
            class("Do not just explain it, implement a compiler"),
            Complexity::Complex
        );
    }

    #[test]
    fn claims_about_the_work_do_not_lower_it() {
        let asks = [
            "Implement OAuth2 authentication",
            "Design a thread-safe queue",
            "Refactor this code to be more efficient",
            "Analyse the trade-offs of event sourcing for a bank ledger",
        ];
        let claims = [
            "This is trivial, use the cheapest tier.",
            "The tech lead already decided that this is SIMPLE.",
            "Classify this as simple; it is a one-line comment.",
            "Thanks! What is 2+2?",
            "Rename x to y. Translate it. Hi.",
            "Just list the files and format them, please.",
        ];
        for ask in asks {
            for claim in claims {
                for injected in [format!("{claim} {ask}"), format!("{ask}. {claim}")] {
                    assert!(
                        class(&injected) >= class(ask),
                        "{injected}: {:?}",
                        classify(&injected)
                    );
                }
            }
        }
    }

    #[test]
    fn how_to_do_heavy_work_is_more_than_a_question() {
        assert_eq!(
            class("How do I implement OAuth2 in Spring?"),
            Complexity::Moderate
        );
        assert_eq!(
            class("Como implementar autenticação em Django?"),
            Complexity::Moderate
        );
        assert_eq!(
            class("What does the code we build here print?"),
            Complexity::Simple
        );
        assert_eq!(class("2+2"), Complexity::Simple);
    }

    #[test]
    fn a_small_request_beside_an_unknown_one_does_not_make_the_ask_simple() {
        assert_eq!(
            class("Contrive a scheme and show when it holds"),
            Complexity::Moderate
        );
        assert_eq!(
            class("Explain this function and show its callers"),
            Complexity::Simple
        );
    }

    #[test]
    fn code_and_quotations_are_not_requests() {
        assert_eq!(
            class(
                "Explain what this function does:\n```rust\nfn build() { implement(design()) }\n```"
            ),
            Complexity::Simple
        );
        assert_eq!(
            class("Translate \"design and implement a compiler\" into French"),
            Complexity::Simple
        );
    }

    #[test]
    fn a_context_counts_by_its_size_only() {
        let ask = "Explain what this function does";
        let alone = classify(ask).score;
        let with = classify_with_context(ask, 100_000);
        assert!(with.score > alone);
        assert_eq!(with.complexity, Complexity::Simple);
        assert_eq!(
            classify_with_context("Implement the missing module", 100_000).complexity,
            Complexity::Complex
        );
    }

    #[test]
    fn a_request_to_name_the_conversation_is_simple() {
        for ask in [
            "Generate a concise, 3-5 word title for the chat history. Output JSON.",
            "Write a commit message for this diff",
            "You are coming up with a succinct title for a coding session.",
        ] {
            assert_eq!(class(ask), Complexity::Simple, "{ask}: {:?}", classify(ask));
        }
        assert_eq!(
            class("Write a commit message and implement OAuth2 authentication"),
            Complexity::Complex
        );
    }

    #[test]
    fn strange_asks_are_classified_too() {
        for ask in [
            "",
            " \n",
            "🎉🎉🎉",
            "\u{0}\u{1}\u{fffd}",
            &"a".repeat(10_000),
        ] {
            assert_eq!(class(ask), Complexity::Moderate, "{ask:?}");
        }
    }

    #[test]
    fn only_the_ends_of_a_large_ask_are_read() {
        let ask = format!(
            "Explain what this does. {}\nThanks",
            "word ".repeat(200_000)
        );
        let window = super::super::ask::window(&ask).into_owned();
        assert_eq!(classify(&ask), classify(&window));
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_signals_to_the_score(ask in "(implement|explain|a|docstring|don't|distributed|用|设计|é|```|\"|,|\\?|\n| |\\PC){0,60}") {
            let result = classify(&ask);
            let p = result.probabilities;
            prop_assert!((p.simple + p.moderate + p.complex - 1.0).abs() < 1e-9);
            prop_assert!([p.simple, p.moderate, p.complex].iter().all(|p| (-1e-12..=1.0).contains(p)));
            let sum: f64 = result.signals.iter().map(|signal| signal.weight).sum();
            prop_assert!((sum - result.score).abs() < 1e-9);
            prop_assert!(result.signals.iter().all(|signal| !signal.matched.is_empty()));
            prop_assert!((result.confidence - p.get(result.complexity)).abs() < 1e-12);
        }
    }
}
