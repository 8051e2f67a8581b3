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
const LONG_WORD: usize = 15;
/// Punctuation characters in a row before [`Feature::ExtraPunctuation`] counts.
const LONG_PUNCTUATION: usize = 4;
/// Blanks in a row before [`Feature::ExtraIndent`] counts.
const LONG_INDENT: usize = 8;

/// Longest stop word in bytes.
const STOP_WORD: usize = 5;

/// What a word says about the language around it.
#[derive(Clone, Copy)]
enum Language {
    English,
    Foreign,
}

/// Frequent English words in lower case that other languages do not have.
#[rustfmt::skip]
const ENGLISH: &[&[u8]] = &[
    b"the", b"of", b"and", b"to", b"in", b"is", b"that", b"for", b"it", b"with", b"as", b"this", b"be", b"are",
    b"on", b"not", b"or", b"by", b"from", b"an", b"was", b"at", b"if", b"have", b"has", b"can", b"will", b"you",
    b"your", b"which", b"when", b"do", b"how", b"what", b"does", b"my", b"we", b"its",
];

/// Frequent words in lower case that English does not have.
#[rustfmt::skip]
const FOREIGN: &[&[u8]] = &[
    // Portuguese, Spanish, French, Italian.
    b"de", b"la", b"el", b"los", b"las", b"que", b"en", b"por", b"con", b"para", b"una", b"un", b"del", b"se",
    b"es", b"su", b"al", b"os", b"da", b"dos", b"das", b"em", b"um", b"uma", b"com", b"ao", b"le", b"les", b"des",
    b"et", b"est", b"du", b"pour", b"dans", b"une", b"sur", b"pas", b"au", b"qui", b"plus", b"avec", b"ce", b"il",
    b"ne", b"di", b"che", b"sono", b"della", b"este", b"esta", b"como", b"mais", b"lo", b"si",
    // German, Dutch, Swedish, Norwegian, Danish.
    b"der", b"und", b"ist", b"von", b"den", b"mit", b"auf", b"ein", b"eine", b"im", b"dem", b"nicht", b"zu",
    b"auch", b"wird", b"sind", b"sich", b"oder", b"wenn", b"het", b"van", b"een", b"niet", b"voor", b"dat", b"och",
    b"att", b"det", b"som", b"av", b"till", b"inte", b"kan", b"ikke", b"til",
    // Polish, Czech, Turkish.
    b"na", b"jest", b"nie", b"je", b"lub", b"przez", b"nebo", b"ve", b"bir", b"bu", b"ile",
];

/// Slots of [`STOP_WORDS`], a power of two; about three of four are empty.
const SLOTS: usize = 512;

/// The stop words by their letters, packed as [`packed`] does it, in an open-addressing table.
static STOP_WORDS: [(u64, Language); SLOTS] = {
    let mut table = [(0, Language::English); SLOTS];
    let mut at = 0;
    while at < ENGLISH.len() + FOREIGN.len() {
        let (word, language) = if at < ENGLISH.len() {
            (packed(ENGLISH[at]), Language::English)
        } else {
            (packed(FOREIGN[at - ENGLISH.len()]), Language::Foreign)
        };
        let mut slot = slot_of(word);
        while table[slot].0 != 0 {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = (word, language);
        at += 1;
    }
    table
};

const fn packed(word: &[u8]) -> u64 {
    assert!(word.len() <= STOP_WORD);
    let mut packed = 0;
    let mut at = 0;
    while at < word.len() {
        packed |= (word[at] as u64) << (8 * at);
        at += 1;
    }
    packed
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the shift leaves fewer bits than any usize has"
)]
const fn slot_of(word: u64) -> usize {
    // Fibonacci hashing: the upper bits of the product depend on every letter.
    (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SLOTS.ilog2())) as usize
}

/// What a short word in lower case says: frequent words that only one side writes that way.
fn language(word: u64) -> Option<Language> {
    let mut slot = slot_of(word);
    loop {
        match STOP_WORDS.get(slot) {
            Some(&(known, language)) if known == word => return Some(language),
            Some((1.., _)) => slot = (slot + 1) % SLOTS,
            _ => return None,
        }
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

    /// Counts the word that starts the text at a byte; returns its length in bytes.
    fn word(&mut self, text: &str, start: usize) -> usize {
        let (mut length, mut humps, mut capitals) = (0, 0, 0);
        let mut before = Before::Nothing;
        loop {
            let eight = eight_at(text.as_bytes(), start + length);
            let letters = Letters::of(eight);
            if letters.upper != 0 {
                let (new_humps, new_capitals) = letters.capitals(before);
                humps += new_humps;
                capitals += new_capitals;
            }
            length += letters.count;
            if letters.count < 8 {
                if latin_at(text, start + length).is_some() {
                    return self.accented_word(text.get(start..).unwrap_or_default());
                }
                if length == letters.count && length <= STOP_WORD {
                    self.note_language(letters.lower(eight));
                }
                break;
            }
            before = letters.last();
        }
        self.add(Feature::Camel, humps);
        self.add(Feature::Upper, capitals);
        self.add_word(length);
        length
    }

    /// The same for a word with letters outside ASCII.
    fn accented_word(&mut self, text: &str) -> usize {
        let (mut letters, mut accents, mut humps, mut capitals) = (0, 0, 0_u64, 0_u64);
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
            humps += u64::from(upper && after_lower);
            capitals += u64::from(upper && !after_lower && letters > 0);
            after_lower = !upper;
            letters += 1;
        }
        self.add(Feature::Camel, humps);
        self.add(Feature::Upper, capitals);
        self.add(Feature::Accent, accents);
        self.add_word(letters);
        self.stretch.evidence.foreign += 1;
        end
    }

    fn add_word(&mut self, letters: usize) {
        let stretch = &mut self.stretch;
        stretch.words += 1;
        stretch.words7 += u64::from(letters >= 7);
        stretch.words11 += u64::from(letters >= 11);
        stretch.extra_letters += letters.saturating_sub(LONG_WORD) as u64;
        stretch.foreign_letters += letters.saturating_sub(3) as u64;
    }

    fn note_language(&mut self, packed: u64) {
        match language(packed) {
            Some(Language::English) => self.stretch.evidence.english += 1,
            Some(Language::Foreign) => self.stretch.evidence.foreign += 1,
            None => {}
        }
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

/// One bit for each of eight bytes: its highest.
const HIGH: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// What stands before a byte, as far as capitals care.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Lower,
    Upper,
}

/// The ASCII letters that start eight bytes, looked at all at once: words are most of a prompt.
struct Letters {
    /// How many there are.
    count: usize,
    /// The high bits of their bytes.
    within: u64,
    /// Those of capitals.
    upper: u64,
}

impl Letters {
    fn of(eight: u64) -> Self {
        // The high bit of each sum tells whether the byte, without case and high bit, is at least `a`, and beyond `z`.
        let lower = (eight | (0x20 * ONES)) & !HIGH;
        let from_a = lower + u64::from(0x80 - b'a') * ONES;
        let beyond_z = lower + u64::from(0x80 - b'z' - 1) * ONES;
        let letters = from_a & !beyond_z & !eight & HIGH;
        let count = (!letters & HIGH).trailing_zeros() as usize / 8;
        let within = if count == 8 {
            HIGH
        } else {
            HIGH & ((1 << (8 * count)) - 1)
        };
        Self {
            count,
            within,
            upper: within & (!eight << 2),
        }
    }

    /// Capitals after a small letter, and those after another capital.
    fn capitals(&self, before: Before) -> (u64, u64) {
        let carried = |seen: Before| if before == seen { 0x80 } else { 0 };
        let after_lower = (self.within & !self.upper) << 8 | carried(Before::Lower);
        let after_upper = self.upper << 8 | carried(Before::Upper);
        (
            u64::from((self.upper & after_lower).count_ones()),
            u64::from((self.upper & after_upper).count_ones()),
        )
    }

    fn last(&self) -> Before {
        if self.upper >> 63 == 1 {
            Before::Upper
        } else {
            Before::Lower
        }
    }

    /// The letters in lower case as [`packed`] has them.
    fn lower(&self, eight: u64) -> u64 {
        (eight | (0x20 * ONES)) & ((self.within >> 7) * 0xFF)
    }
}

/// Eight bytes from a place on, the first one lowest; zeroes beyond the end.
fn eight_at(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(eight) = rest.first_chunk() {
        return u64::from_le_bytes(*eight);
    }
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(rest) {
        *to = *from;
    }
    u64::from_le_bytes(eight)
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
    let bytes = text.as_bytes();
    while let Some(&first) = bytes.get(position) {
        // What follows is on a boundary between characters: every branch takes whole ones.
        if first == b' ' && !matches!(bytes.get(position + 1), Some(b' ' | b'\t')) {
            // The blank between two words, the most frequent run of all, costs nothing.
            position += 1;
            previous = None;
        } else if first.is_ascii_alphabetic() {
            position += counter.word(text, position);
            previous = None;
        } else if first.is_ascii() {
            position += counter.ascii(bytes.get(position..).unwrap_or_default());
            previous = None;
        } else if latin_at(text, position).is_some() {
            position += counter.accented_word(text.get(position..).unwrap_or_default());
            previous = None;
        } else if let Some(character) = text.get(position..).and_then(|rest| rest.chars().next()) {
            counter.non_ascii(character, previous);
            position += character.len_utf8();
            previous = Some(character);
        } else {
            break;
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
