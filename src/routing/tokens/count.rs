//! The single pass that counts the estimator's features.
//!
//! Latin words are weighed in one of two ways, as English or code, or as another language; which one is decided for stretches of
//! text by the stop words and accents in them, so both readings are kept until a stretch ends.

use super::weights::{FEATURES, Feature, Weights};

/// Bytes after which a stretch ends with the line it is in.
const STRETCH: usize = 1024;
/// Bytes after which a stretch ends wherever it is.
const STRETCH_MAX: usize = 4096;

/// Letters of a word before [`Feature::ExtraLetter`] counts.
const LONG_WORD: u32 = 15;
/// Punctuation characters in a row before [`Feature::ExtraPunctuation`] counts.
const LONG_PUNCTUATION: usize = 4;
/// Blanks in a row before [`Feature::ExtraIndent`] counts.
const LONG_INDENT: usize = 8;

/// Longest stop word in bytes.
const STOP_WORD: usize = 5;

/// What a word says about the language around it.
enum Language {
    English,
    Foreign,
}

/// What a short word in lower case says: frequent words that only one side writes that way.
#[rustfmt::skip]
fn language(word: &[u8]) -> Option<Language> {
    match word {
        b"the" | b"of" | b"and" | b"to" | b"in" | b"is" | b"that" | b"for" | b"it" | b"with" | b"as" | b"this" | b"be" | b"are"
        | b"on" | b"not" | b"or" | b"by" | b"from" | b"an" | b"was" | b"at" | b"if" | b"have" | b"has" | b"can" | b"will" | b"you"
        | b"your" | b"which" | b"when" | b"do" | b"how" | b"what" | b"does" | b"my" | b"we" | b"its" => Some(Language::English),
        // Portuguese, Spanish, French, Italian.
        b"de" | b"la" | b"el" | b"los" | b"las" | b"que" | b"en" | b"por" | b"con" | b"para" | b"una" | b"un" | b"del" | b"se"
        | b"es" | b"su" | b"al" | b"os" | b"da" | b"dos" | b"das" | b"em" | b"um" | b"uma" | b"com" | b"ao" | b"le" | b"les" | b"des"
        | b"et" | b"est" | b"du" | b"pour" | b"dans" | b"une" | b"sur" | b"pas" | b"au" | b"qui" | b"plus" | b"avec" | b"ce" | b"il"
        | b"ne" | b"di" | b"che" | b"sono" | b"della" | b"este" | b"esta" | b"como" | b"mais" | b"lo" | b"si"
        // German, Dutch, Swedish, Norwegian, Danish.
        | b"der" | b"und" | b"ist" | b"von" | b"den" | b"mit" | b"auf" | b"ein" | b"eine" | b"im" | b"dem" | b"nicht" | b"zu"
        | b"auch" | b"wird" | b"sind" | b"sich" | b"oder" | b"wenn" | b"het" | b"van" | b"een" | b"niet" | b"voor" | b"dat" | b"och"
        | b"att" | b"det" | b"som" | b"av" | b"till" | b"inte" | b"kan" | b"ikke" | b"til"
        // Polish, Czech, Turkish.
        | b"na" | b"jest" | b"nie" | b"je" | b"lub" | b"przez" | b"nebo" | b"ve" | b"bir" | b"bu" | b"ile" => Some(Language::Foreign),
        _ => None,
    }
}

/// What the stop words and accents of a stretch say.
#[derive(Default)]
struct Evidence {
    english: u32,
    foreign: u32,
}

/// Counts not yet settled on one of the two readings.
#[derive(Default)]
struct Stretch {
    start: usize,
    evidence: Evidence,
    words: u64,
    words7: u64,
    words11: u64,
    extra_letters: u64,
    foreign_letters: u64,
}

struct Counter {
    counts: [u64; FEATURES],
    stretch: Stretch,
}

impl Counter {
    fn add(&mut self, feature: Feature, n: u64) {
        self.counts[feature as usize] += n;
    }

    /// Ends the stretch: its words go to the reading with more evidence, to English where there is none.
    fn settle(&mut self, next: usize) {
        let stretch = std::mem::take(&mut self.stretch);
        self.stretch.start = next;
        if stretch.evidence.foreign > stretch.evidence.english {
            self.add(Feature::ForeignWord, stretch.words);
            self.add(Feature::ForeignLetter, stretch.foreign_letters);
        } else {
            self.add(Feature::Word, stretch.words);
            self.add(Feature::Word7, stretch.words7);
            self.add(Feature::Word11, stretch.words11);
            self.add(Feature::ExtraLetter, stretch.extra_letters);
        }
    }

    /// Counts the word that starts the text; returns its length in bytes.
    fn word(&mut self, text: &str) -> usize {
        let (mut letters, mut accents, mut humps, mut capitals) = (0_u32, 0_u64, 0_u64, 0_u64);
        let mut after_lower = false;
        let mut end = 0;
        let bytes = text.as_bytes();
        while let Some(&byte) = bytes.get(end) {
            let upper;
            if byte.is_ascii_alphabetic() {
                upper = byte & 0x20 == 0;
                end += 1;
            } else if let Some(letter) = latin_at(text, end) {
                upper = letter.is_uppercase();
                accents += 1;
                end += letter.len_utf8();
            } else {
                break;
            }
            // Arithmetic instead of branches: this is the innermost loop.
            humps += u64::from(upper && after_lower);
            capitals += u64::from(upper && !after_lower && letters > 0);
            after_lower = !upper;
            letters += 1;
        }
        self.add(Feature::Camel, humps);
        self.add(Feature::Upper, capitals);
        self.add(Feature::Accent, accents);
        let stretch = &mut self.stretch;
        stretch.words += 1;
        stretch.words7 += u64::from(letters >= 7);
        stretch.words11 += u64::from(letters >= 11);
        stretch.extra_letters += u64::from(letters.saturating_sub(LONG_WORD));
        stretch.foreign_letters += u64::from(letters.saturating_sub(3));
        stretch.evidence.foreign += u32::from(accents > 0);
        let mut lower = [0_u8; STOP_WORD];
        if let (Some(lower), Some(word)) = (lower.get_mut(..end), bytes.get(..end)) {
            lower.copy_from_slice(word);
            lower.make_ascii_lowercase();
            match language(lower) {
                Some(Language::English) => stretch.evidence.english += 1,
                Some(Language::Foreign) => stretch.evidence.foreign += 1,
                None => {}
            }
        }
        end
    }

    /// Counts the run of the kind of its first byte that starts the text; returns its length in bytes.
    fn ascii(&mut self, bytes: &[u8]) -> usize {
        match bytes.first() {
            Some(b' ' | b'\t') => {
                let length = run(bytes, |byte| matches!(byte, b' ' | b'\t'));
                if length >= 2 {
                    self.add(Feature::Indent, 1);
                    let extra = length.saturating_sub(LONG_INDENT);
                    self.add(Feature::ExtraIndent, extra as u64);
                }
                length
            }
            Some(b'0'..=b'9') => {
                let length = run(bytes, |byte| byte.is_ascii_digit());
                self.add(Feature::Digit, length as u64);
                self.add(Feature::DigitGroup, length.div_ceil(3) as u64);
                length
            }
            Some(b'\n' | b'\r') => {
                self.add(Feature::Newline, 1);
                run(bytes, |byte| matches!(byte, b'\n' | b'\r'))
            }
            // Control characters are as rare and as expensive as punctuation.
            _ => {
                let length = run(bytes, |byte| {
                    byte.is_ascii()
                        && !byte.is_ascii_alphanumeric()
                        && !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
                });
                self.add(Feature::Punctuation, 1);
                let extra = length.saturating_sub(LONG_PUNCTUATION);
                self.add(Feature::ExtraPunctuation, extra as u64);
                length
            }
        }
    }

    fn non_ascii(&mut self, character: char, previous: Option<char>) {
        let feature = script(character);
        self.add(feature, 1);
        if feature == Feature::Cyrillic
            && previous.is_none_or(|previous| script(previous) != Feature::Cyrillic)
        {
            self.add(Feature::CyrillicWord, 1);
        }
    }
}

/// How many bytes at the start are alike.
fn run(bytes: &[u8], alike: impl Fn(u8) -> bool) -> usize {
    bytes
        .iter()
        .position(|byte| !alike(*byte))
        .unwrap_or(bytes.len())
}

/// The Latin letter outside ASCII that starts at a byte.
fn latin_at(text: &str, at: usize) -> Option<char> {
    text.as_bytes().get(at).filter(|byte| !byte.is_ascii())?;
    let letter = text.get(at..)?.chars().next()?;
    is_latin(letter).then_some(letter)
}

fn is_latin(character: char) -> bool {
    matches!(character, '\u{C0}'..='\u{24F}' | '\u{1E00}'..='\u{1EFF}')
        && !matches!(character, '×' | '÷')
}

/// The feature that a character counts for, outside ASCII and the Latin script.
fn script(character: char) -> Feature {
    match character {
        '\u{300}'..='\u{36F}' => Feature::Accent,
        '\u{370}'..='\u{3FF}' | '\u{E00}'..='\u{FFF}' | '\u{1F00}'..='\u{1FFF}' => Feature::Thai,
        '\u{400}'..='\u{52F}' => Feature::Cyrillic,
        '\u{590}'..='\u{77F}'
        | '\u{8A0}'..='\u{8FF}'
        | '\u{FB1D}'..='\u{FDFF}'
        | '\u{FE70}'..='\u{FEFE}' => Feature::Arabic,
        '\u{900}'..='\u{DFF}' => Feature::Indic,
        '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}' | '\u{AC00}'..='\u{D7AF}' => {
            Feature::Hangul
        }
        '\u{3040}'..='\u{30FF}' => Feature::Kana,
        '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}' => Feature::Han,
        '\u{3000}'..='\u{303F}' | '\u{FF00}'..='\u{FFEF}' => Feature::CjkPunctuation,
        '\u{80}'..='\u{BF}' | '×' | '÷' | '\u{2000}'..='\u{2BFF}' => Feature::Symbol,
        _ => Feature::Other,
    }
}

/// Sum of weight × count over the text.
pub(super) fn weighted(text: &str, weights: &Weights) -> f64 {
    let mut counter = Counter {
        counts: [0; FEATURES],
        stretch: Stretch::default(),
    };
    let mut position = 0;
    let mut previous = None;
    while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
        let bytes = rest.as_bytes();
        let first = bytes.first().copied().unwrap_or_default();
        if first.is_ascii_alphabetic() {
            position += counter.word(rest);
            previous = None;
        } else if first.is_ascii() {
            position += counter.ascii(bytes);
            previous = None;
        } else if latin_at(rest, 0).is_some() {
            position += counter.word(rest);
            previous = None;
        } else if let Some(character) = rest.chars().next() {
            counter.non_ascii(character, previous);
            position += character.len_utf8();
            previous = Some(character);
        }
        let stretch = position - counter.stretch.start;
        if stretch >= STRETCH && (first == b'\n' || stretch >= STRETCH_MAX) {
            counter.settle(position);
        }
    }
    counter.settle(position);
    // Counts are below 2^52: they count bytes of a text in memory.
    #[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
    let terms = counter
        .counts
        .iter()
        .zip(weights)
        .map(|(n, w)| *n as f64 * w);
    terms.sum()
}
