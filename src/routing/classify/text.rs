//! What of an ask the scorer reads: its prose in lower case, without accents, code and quotations, cut into words and clauses.

/// A word, or one CJK character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// First byte in [`Prose::text`].
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Number of the clause it is in.
    pub clause: usize,
    /// Whether it is a CJK character.
    pub cjk: bool,
}

/// The prose of an ask.
#[derive(Debug, Default)]
pub(super) struct Prose {
    /// Lower case, Latin accents removed, apostrophes straight.
    pub text: String,
    /// Its words in order.
    pub tokens: Vec<Token>,
    /// Lines inside code fences.
    pub code_lines: usize,
    /// Question marks.
    pub questions: usize,
    /// Lines that start with a list mark.
    pub items: usize,
    /// Clauses.
    pub clauses: usize,
}

impl Prose {
    /// Reads an ask. Code fences and quotations are content, not words of the ask, unless there is nothing else.
    pub(super) fn of(ask: &str) -> Self {
        let prose = Self::read(ask, true);
        if prose.tokens.is_empty() {
            return Self {
                code_lines: prose.code_lines,
                ..Self::read(ask, false)
            };
        }
        prose
    }

    /// The text of a token.
    pub(super) fn word(&self, token: &Token) -> &str {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    fn read(ask: &str, skip_content: bool) -> Self {
        let mut prose = Self::default();
        let mut fenced = false;
        for line in ask.lines() {
            if skip_content && line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if fenced {
                prose.code_lines += 1;
            } else {
                prose.items += usize::from(is_item(line));
                prose.line(line, skip_content);
            }
        }
        prose
    }

    fn line(&mut self, line: &str, skip_quotes: bool) {
        let mut rest = line;
        while let Some(character) = rest.chars().next() {
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
            if skip_quotes && let Some(after) = after_quotation(character, rest) {
                rest = after;
                // What is quoted stands for a word: it separates.
                self.text.push(' ');
                continue;
            }
            self.questions += usize::from(matches!(character, '?' | '？'));
            if is_word(character) {
                self.letter(character);
            } else {
                self.separator(character, rest);
            }
        }
        self.text.push('\n');
        self.clauses += 1;
    }

    fn letter(&mut self, character: char) {
        let start = self.text.len();
        let cjk = is_cjk(character);
        push_folded(&mut self.text, character);
        let end = self.text.len();
        match self.tokens.last_mut() {
            Some(last) if !cjk && !last.cjk && last.end == start => last.end = end,
            _ => self.tokens.push(Token {
                start,
                end,
                clause: self.clauses,
                cjk,
            }),
        }
    }

    fn separator(&mut self, character: char, rest: &str) {
        let ends_clause = match character {
            // Not inside a version, a file name or a number.
            '.' | ',' | ':' => !rest.starts_with(is_word),
            '!' | '?' | ';' | '。' | '，' | '、' | '；' | '：' | '？' | '！' | '(' | ')' | '—' => {
                true
            }
            _ => false,
        };
        self.text.push(' ');
        self.clauses += usize::from(ends_clause);
    }
}

/// What follows a quotation that this character opens; `None` when it opens none.
fn after_quotation(open: char, rest: &str) -> Option<&str> {
    let close = match open {
        '"' => '"',
        '`' => '`',
        '“' => '”',
        '«' => '»',
        '「' => '」',
        _ => return None,
    };
    rest.split_once(close).map(|(_, after)| after)
}

fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let mark = line.get(digits..).unwrap_or_default();
    if digits == 0 {
        mark.starts_with("- ") || mark.starts_with("* ") || mark.starts_with("• ")
    } else {
        digits <= 2 && (mark.starts_with(". ") || mark.starts_with(") "))
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '\'' | '’')
}

/// Scripts written without blanks: a word list cannot rely on boundaries there.
fn is_cjk(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// Appends a character in lower case and without its accent: people leave accents out, and word lists need not repeat themselves.
fn push_folded(text: &mut String, character: char) {
    if character.is_ascii() {
        text.push(character.to_ascii_lowercase());
        return;
    }
    for lower in character.to_lowercase() {
        text.push(match lower {
            'à'..='å' => 'a',
            'ç' => 'c',
            'è'..='ë' => 'e',
            'ì'..='ï' => 'i',
            'ñ' => 'n',
            'ò'..='ö' => 'o',
            'ù'..='ü' => 'u',
            '’' => '\'',
            other => other,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(ask: &str) -> Vec<String> {
        let prose = Prose::of(ask);
        prose
            .tokens
            .iter()
            .map(|token| prose.word(token).to_owned())
            .collect()
    }

    #[test]
    fn words_end_where_the_script_changes() {
        assert_eq!(words("用python写"), ["用", "python", "写"]);
        assert_eq!(
            words("Função thread-safe, não?"),
            ["funcao", "thread", "safe", "nao"]
        );
    }

    #[test]
    fn code_and_quotations_are_no_words_of_the_ask() {
        assert_eq!(
            words("Fix `build()` and \"design\":\n```rust\nimplement();\n```\nplease"),
            ["fix", "and", "please"]
        );
        assert_eq!(words("\"implement it\""), ["implement", "it"]);
        assert_eq!(Prose::of("```\na\nb\n```").code_lines, 2);
    }

    #[test]
    fn clauses_end_at_punctuation_but_not_inside_names() {
        let prose = Prose::of("Show config.yaml v1.2, then stop. Now");
        let clauses: Vec<_> = prose.tokens.iter().map(|token| token.clause).collect();
        assert_eq!(clauses, [0, 0, 0, 0, 0, 1, 1, 2]);
    }
}
