//! A number of parameters as names write it: `7b`, `0.5b`, `8x7b`, `30b-a3b`, `270m`.

/// The parameters of a model, from the words people use for its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Parameters in all. For `8x7b` eight times seven billion: an upper bound, because such experts share their attention (Mixtral
    /// 8x7B has 46.7 billion).
    pub total: u64,
    /// Parameters used for one token, where the text tells them (`-a3b`).
    pub active: Option<u64>,
    /// Experts of `NxM`, each of that size.
    pub experts: Option<u32>,
}

/// Most parameters that a name may claim; a thousand times the largest open model of 2026.
const MOST: u64 = 1_000_000_000_000_000;

/// Most experts that a name may claim.
const MOST_EXPERTS: u32 = 4096;

impl Parameters {
    /// Reads a whole text as a size.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (size, active) = match lower.split_once("-a") {
            Some((size, active)) => (size, Some(count(active)?)),
            None => (lower.as_str(), None),
        };
        let (experts, each) = match size.split_once('x') {
            Some((experts, each)) => (Some(whole(experts)?), each),
            None => (None, size),
        };
        let total = count(each)?.checked_mul(u64::from(experts.unwrap_or(1)))?;
        let plausible = total <= MOST && active.is_none_or(|active| active <= total);
        plausible.then_some(Self {
            total,
            active,
            experts,
        })
    }

    /// The size in a model's name: in its tag, else in the rest. `None` where there is none, and where the figure is that of one part
    /// only (`17b-16e`: sixteen experts beside it; `e4b`: without the embeddings of each layer).
    pub fn in_name(name: &str) -> Option<Self> {
        let last = name.rsplit('/').next().unwrap_or(name);
        let (base, tag) = last.rsplit_once(':').unwrap_or((last, ""));
        [tag, base].into_iter().find_map(in_words)
    }
}

/// The first word that is a size, joined with the active share that follows it.
fn in_words(text: &str) -> Option<Parameters> {
    let words: Vec<&str> = text.split(['-', '_', ' ', '/']).collect();
    words.iter().enumerate().find_map(|(at, word)| {
        let next = words.get(at + 1).copied().unwrap_or_default();
        if next
            .strip_suffix(['e', 'E'])
            .is_some_and(|experts| whole(experts).is_some())
        {
            return None;
        }
        Parameters::parse(&format!("{word}-{next}")).or_else(|| Parameters::parse(word))
    })
}

fn whole(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|number| (1..=MOST_EXPERTS).contains(number))
}

/// `7b`, `1.5b`, `270m` as a number; exact, without floating point.
fn count(text: &str) -> Option<u64> {
    let (number, unit) = if let Some(number) = text.strip_suffix('b') {
        (number, 1_000_000_000_u64)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 1_000_000)
    } else {
        (text.strip_suffix('t')?, 1_000_000_000_000)
    };
    let (integer, fraction) = match number.split_once('.') {
        Some((integer, fraction)) => (integer, fraction),
        None => (number, "0"),
    };
    let digits = |text: &str| (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(integer) || !digits(fraction) {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()? * (unit / scale);
    let total = integer.parse::<u64>().ok()?.checked_mul(unit)? + part;
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(text: &str) -> Option<(u64, Option<u64>)> {
        Parameters::parse(text).map(|it| (it.total, it.active))
    }

    #[test]
    fn reads_the_sizes_people_write() {
        assert_eq!(totals("7b"), Some((7_000_000_000, None)));
        assert_eq!(totals("0.5B"), Some((500_000_000, None)));
        assert_eq!(totals("1.78b"), Some((1_780_000_000, None)));
        assert_eq!(totals("270m"), Some((270_000_000, None)));
        assert_eq!(totals("8x7b"), Some((56_000_000_000, None)));
        assert_eq!(Parameters::parse("8x7b").and_then(|it| it.experts), Some(8));
        assert_eq!(
            totals("30b-a3b"),
            Some((30_000_000_000, Some(3_000_000_000)))
        );
        assert_eq!(totals("1t"), Some((1_000_000_000_000, None)));
    }

    #[test]
    fn anything_else_is_no_size() {
        for text in [
            "", "b", "7", "7bb", "-7b", "+7b", "7.b", ".5b", "1e3b", "0b", "x7b", "0x7b", "8x", "3b-a7b",
            "7b-a", "9999999999b", "999999t", "7b-q4", "٧b",
        ] {
            assert_eq!(totals(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_tells_its_size_in_the_tag_first() {
        let size = |name| Parameters::in_name(name).map(|it| it.total);
        assert_eq!(size("llama3.1:8b-instruct-q4_0"), Some(8_000_000_000));
        assert_eq!(size("qwen2.5-coder-7b:latest"), Some(7_000_000_000));
        assert_eq!(size("Qwen/Qwen2.5-1.5B-Instruct"), Some(1_500_000_000));
        assert_eq!(size("mixtral:8x22b"), Some(176_000_000_000));
        assert_eq!(size("qwen3:30b-a3b-q8_0"), Some(30_000_000_000));
        assert_eq!(
            Parameters::in_name("qwen3:30b-a3b").and_then(|it| it.active),
            Some(3_000_000_000)
        );
        for name in ["llama3", "llama4:17b-16e", "gemma3n:e4b", "phi3:mini", ""] {
            assert_eq!(size(name), None, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9a-zA-Z.:/_ -]{0,30}") {
            let _ = Parameters::parse(&text);
            let _ = Parameters::in_name(&text);
        }
    }
}
