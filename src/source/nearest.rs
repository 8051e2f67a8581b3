//! The known names that are most like a wrong one.

use crate::cluster::ModelName;

/// How alike two names must be (Jaro-Winkler, 0 to 1): a slip or two in a word, not another word.
const ALIKE: f64 = 0.87;

/// Most names that are proposed.
const MOST: usize = 3;

/// The known names that are most like the wrong one, the nearest first: those of the same model with another tag, then slips of the pen.
pub(super) fn nearest(wrong: &str, known: impl IntoIterator<Item = String>) -> Vec<String> {
    let wrong = ModelName::new(wrong);
    let mut scored: Vec<(f64, String)> = known
        .into_iter()
        .filter_map(|name| {
            let score = likeness(wrong.as_str(), ModelName::new(&name).as_str());
            (score >= ALIKE).then_some((score, name))
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup_by(|a, b| ModelName::new(&a.1) == ModelName::new(&b.1));
    scored
        .into_iter()
        .take(MOST)
        .map(|(_, name)| name)
        .collect()
}

fn likeness(wrong: &str, known: &str) -> f64 {
    let base = |name: &str| {
        name.rsplit_once(':')
            .map_or(name, |(base, _)| base)
            .to_owned()
    };
    let whole = strsim::jaro_winkler(wrong, known);
    let bases = strsim::jaro_winkler(&base(wrong), &base(known));
    // The same model with another tag is nearer than any slip; a slip in the model's own name counts more than the tags' likeness.
    if bases >= 1.0 {
        1.0 + whole
    } else {
        whole.max(bases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(wrong: &str) -> Vec<String> {
        let known = [
            "llama3.1:8b",
            "llama3.1:70b",
            "qwen2.5-coder:7b",
            "mxbai-embed-large:latest",
        ];
        nearest(wrong, known.map(str::to_owned))
    }

    #[test]
    fn another_tag_comes_before_a_slip() {
        assert_eq!(near("lama3.1:8b")[0], "llama3.1:8b");
        assert_eq!(near("llama3.1:7b")[..2], ["llama3.1:70b", "llama3.1:8b"]);
        assert_eq!(near("qwen2.5-codr:7b"), ["qwen2.5-coder:7b"]);
        assert_eq!(near("mxbai-embed-lage"), ["mxbai-embed-large:latest"]);
    }

    #[test]
    fn another_word_is_not_proposed() {
        assert!(near("gpt-oss:20b").is_empty());
        assert!(near("").is_empty());
    }
}
