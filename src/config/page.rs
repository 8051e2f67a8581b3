//! The manual page of the configuration file, made from the table of its keys.

use std::fmt::Write;

use super::keys::{KEYS, header};

const INTRODUCTION: &str = "\
gpurouter works without a configuration file: it then looks for the servers on this machine. A file is read from the first of
.IP \\(bu 2
the file named by \\fB\\-\\-config\\fR
.IP \\(bu 2
the file named by \\fB$GPUROUTER_CONFIG\\fR
.IP \\(bu 2
\\fI./gpurouter.toml\\fR
.IP \\(bu 2
\\fI$XDG_CONFIG_HOME/gpurouter/config.toml\\fR (\\fI~/.config\\fR where that is not set)
.IP \\(bu 2
\\fI/etc/gpurouter/config.toml\\fR
.PP
It is TOML. A flag goes before an environment variable, that before the file, and the file before the default; \\fBgpurouter serve \\-\\-print\\-config\\fR shows every value with its origin.
A key that is not listed here is an error.
Durations are written like \"90s\" or \"10m\" (a plain number is seconds), sizes like \"64MiB\" or as a number of bytes.
";

const EXAMPLE: &str = r#"[[node]]
name = "gpu0"
url = "http://127.0.0.1:11434"
role = "main"

[[node]]
name = "gpu1"
url = "http://127.0.0.1:11435"
role = "helper"

[routing]
simple   = { model = "qwen2.5-coder:1.5b", prefer = "gpu1" }
moderate = { model = "qwen2.5-coder:7b", prefer = "gpu0" }

[aliases]
"claude-haiku-*" = "qwen2.5-coder:1.5b"
"#;

/// `gpurouter.toml(5)` as roff.
pub fn manual_page() -> String {
    let mut page = String::from(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n");
    let _ = writeln!(
        page,
        ".TH gpurouter.toml 5 \"\" \"gpurouter {}\" \"\"",
        env!("CARGO_PKG_VERSION")
    );
    page.push_str(".SH NAME\ngpurouter.toml \\- configuration of gpurouter\n.SH DESCRIPTION\n");
    page.push_str(INTRODUCTION);
    page.push_str(".SH KEYS\n");
    let mut last = None;
    for key in KEYS {
        let (table, name) = key.table_and_name();
        if last != Some(table) {
            last = Some(table);
            let title = header(table).unwrap_or_else(|| "Top of the file".to_owned());
            let _ = writeln!(page, ".SS {}", escape(&title));
        }
        let _ = writeln!(
            page,
            ".TP\n\\fB{}\\fR ({})",
            escape(name),
            key.kind.type_name()
        );
        let _ = writeln!(page, "{}", escape(key.doc));
        let _ = writeln!(page, ".br\n{}.", escape(&capital(&key.kind.allowed())));
        let _ = writeln!(page, ".br\n{}.", escape(&fallback(key)));
    }
    page.push_str(".SH EXAMPLE\n.nf\n");
    for line in EXAMPLE.lines() {
        let _ = writeln!(page, "{}", escape(line));
    }
    page.push_str(".fi\n.SH SEE ALSO\n\\fBgpurouter\\fR(1), \\fBgpurouter\\-serve\\fR(1)\n");
    page
}

fn fallback(key: &super::Key) -> String {
    if key.required {
        "Required".to_owned()
    } else if key.default.is_empty() {
        "Default: not set".to_owned()
    } else {
        format!("Default: {}", key.default)
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// Text that roff prints as it is: backslashes and dashes escaped, no line that begins like a request.
fn escape(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_on_the_page() {
        let page = manual_page();
        for key in KEYS {
            let name = escape(key.name());
            assert!(page.contains(&format!("\\fB{name}\\fR")), "{}", key.path);
        }
    }

    #[test]
    fn no_text_becomes_a_request() {
        assert_eq!(escape(".TH x"), "\\&.TH x");
        assert_eq!(escape("'br"), "\\(aqbr");
        assert_eq!(escape("a\\fB"), "a\\efB");
    }
}
