//! The configuration file: where it is, and what it says.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::draft::{Draft, Located, Section};
use super::environment::Environment;
use super::keys::{self, Key, Shape};
use super::origin::{Origin, Problems};
use super::value::{Raw, is_text};
use crate::render::Told;

/// Largest configuration file that is read; real ones have a few kilobytes.
const LARGEST_FILE: u64 = 1 << 20;

/// A configuration file that was opened and read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    /// The path as it is told to the user.
    name: String,
    text: String,
}

/// Reads the file that applies: the flag's, `$GPUROUTER_CONFIG`'s, or the first of the usual places that exists; `None` when none does.
pub(super) fn locate(
    flag: Option<&Path>,
    environment: &Environment,
) -> Result<Option<Document>, Told> {
    let named = flag.map(|path| (path.to_owned(), "--config")).or_else(|| {
        Some((
            environment.get("GPUROUTER_CONFIG")?.into(),
            "GPUROUTER_CONFIG",
        ))
    });
    if let Some((path, source)) = named {
        let missing = |error: &io::Error| {
            Told::usage(format!("{source}: cannot read {}: {error}", path.display()))
        };
        let document = open(environment, &path).map_err(|error| missing(&error))?;
        return match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => {
                let text = format!("{}:1: YAML, and the configuration is TOML", path.display());
                Err(Told::usage(text).hint("README.md has the same file in both"))
            }
            _ => Ok(Some(document)),
        };
    }
    for path in usual_places(environment) {
        match open(environment, &path) {
            Ok(document) => return Ok(Some(document)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => {
                return Err(
                    Told::usage(format!("cannot read {}: {error}", path.display()))
                        .hint("make it readable, or name another file with --config"),
                );
            }
        }
    }
    Ok(None)
}

fn usual_places(environment: &Environment) -> Vec<PathBuf> {
    let user = environment
        .get("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        // The XDG specification: a relative path is to be ignored.
        .filter(|path| path.is_absolute())
        .or_else(|| Some(Path::new(environment.get("HOME")?).join(".config")));
    std::iter::once(PathBuf::from("gpurouter.toml"))
        .chain(user.map(|directory| directory.join("gpurouter/config.toml")))
        .chain(std::iter::once("/etc/gpurouter/config.toml".into()))
        .collect()
}

fn open(environment: &Environment, path: &Path) -> io::Result<Document> {
    let full = environment.directory().join(path);
    let mut bytes = Vec::new();
    File::open(&full)?
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        let reason = format!("larger than {} KiB", LARGEST_FILE >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.utf8_error().valid_up_to();
        let line = 1 + error
            .as_bytes()
            .iter()
            .take(before)
            .filter(|byte| **byte == b'\n')
            .count();
        let reason = format!("line {line} is not UTF-8");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })?;
    Ok(Document {
        name: path.display().to_string(),
        path: full,
        text,
    })
}

/// Reads a document into the draft.
pub(super) fn read(document: &Document, draft: &mut Draft, problems: &mut Problems) {
    let mut reader = Reader {
        document,
        draft,
        problems,
    };
    let (root, errors) = DeTable::parse_recoverable(&document.text);
    if errors.is_empty() {
        reader.table("", root.get_ref());
    }
    for error in errors {
        let origin = reader.origin(&error.span().unwrap_or_default());
        let text = error.message().lines().collect::<Vec<_>>().join("; ");
        reader.problems.add(&origin, text);
    }
}

struct Reader<'a> {
    document: &'a Document,
    draft: &'a mut Draft,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let bytes = self.document.text.as_bytes();
        let before = bytes.iter().take(span.start);
        Origin::File {
            path: self.document.name.clone(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
        }
    }

    /// Reads a table whose own keys are single values, and what is nested in it.
    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let origin = self.origin(&name.span());
            let child = keys::join(path, name.get_ref());
            match (shape(path, name.get_ref()), value.get_ref()) {
                (None, _) => self.unknown(path, name.get_ref(), &origin),
                (Some(Shape::Leaf(key)), _) => {
                    if let Some(located) = self.leaf(key, key.name(), value) {
                        self.draft.scalars.insert(key.path, located);
                    }
                }
                (Some(Shape::Table), DeValue::Table(inner)) => self.table(&child, inner),
                (Some(Shape::Map), DeValue::Table(inner)) => self.map(&child, inner),
                (Some(Shape::ListOfTables), DeValue::Array(items)) => {
                    for item in items {
                        let origin = self.origin(&item.span());
                        match item.get_ref() {
                            DeValue::Table(inner) => self.list_item(&child, &origin, inner),
                            other => self.wrong_shape(&child, &origin, "list of tables", other),
                        }
                    }
                }
                (Some(Shape::ListOfTables), other) => {
                    self.wrong_shape(&child, &origin, "list of tables", other);
                }
                (Some(Shape::Table | Shape::Map), other) => {
                    self.wrong_shape(&child, &origin, "table", other);
                }
            }
        }
    }

    fn list_item(&mut self, list: &str, origin: &Origin, table: &DeTable<'_>) {
        let section = self.section(&format!("{list}[]"), origin, table);
        if list == "node" {
            self.draft.nodes.push(section);
        } else {
            self.draft.tiers.push(section);
        }
    }

    /// Reads a table whose names the user chose: single values (aliases, sizes), or tables (prices, GPUs).
    fn map(&mut self, path: &str, table: &DeTable<'_>) {
        let entry = format!("{path}.*");
        for (name, value) in table {
            let origin = self.origin(&name.span());
            let name = name.get_ref();
            if !is_text(name) {
                self.problems.add(
                    &origin,
                    format!("a name in [{path}] is empty or holds control characters"),
                );
            } else if let Some(Shape::Leaf(key)) = keys::shape(&entry) {
                if let Some(located) = self.leaf(key, name, value) {
                    let values = self.draft.named.entry(entry.clone()).or_default();
                    values.insert(name.to_string(), located);
                }
            } else if let DeValue::Table(inner) = value.get_ref() {
                let section = self.section(&entry, &origin, inner);
                let sections = self.draft.sections.entry(entry.clone()).or_default();
                sections.insert(name.to_string(), section);
            } else {
                let path = format!("{path}.{}", super::print::toml_key(name));
                self.wrong_shape(&path, &origin, "table", value.get_ref());
            }
        }
    }

    /// Reads a table that holds single values only.
    fn section(&mut self, path: &str, origin: &Origin, table: &DeTable<'_>) -> Section {
        let mut section = Section::new(origin.clone());
        for (name, value) in table {
            let at = self.origin(&name.span());
            if let Some(Shape::Leaf(key)) = shape(path, name.get_ref()) {
                match self.leaf(key, key.name(), value) {
                    Some(located) => {
                        section.values.insert(key.name(), located);
                    }
                    None => section.flawed = true,
                }
            } else {
                self.unknown(path, name.get_ref(), &at);
                section.flawed = true;
            }
        }
        section
    }

    fn leaf(
        &mut self,
        key: &'static Key,
        name: &str,
        value: &toml::Spanned<DeValue<'_>>,
    ) -> Option<Located> {
        let origin = self.origin(&value.span());
        match key.kind.read(&raw(value.get_ref())) {
            Ok(value) => Some(Located { value, origin }),
            Err(reason) => {
                self.problems.add(&origin, format!("`{name}` {reason}"));
                None
            }
        }
    }

    fn unknown(&mut self, path: &str, name: &str, origin: &Origin) {
        let name = name.escape_debug().to_string();
        let text = match keys::header(path) {
            Some(header) => format!("unknown key `{name}` in {header}"),
            None => format!("unknown key `{name}`"),
        };
        match keys::nearest(path, &name) {
            Some(hint) => self.problems.add_with_hint(origin, text, hint),
            None => self.problems.add(origin, text),
        }
    }

    fn wrong_shape(&mut self, path: &str, origin: &Origin, wanted: &str, found: &DeValue<'_>) {
        let text = format!("`{path}` must be a {wanted}, not {}", raw(found));
        self.problems.add(origin, text);
    }
}

/// What stands under a name that the user wrote; names with the table's own marks in them are not its paths.
fn shape(path: &str, name: &str) -> Option<Shape> {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    plain
        .then(|| keys::shape(&keys::join(path, name)))
        .flatten()
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number that is too large"), Raw::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or(Raw::Other("a number that is too large"), Raw::Float),
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Datetime(date) => Raw::Date(date.to_string()),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = Environment::new(Path::new("/w"), variables.iter().copied());
        usual_places(&environment)
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn the_usual_places_follow_the_xdg_rules() {
        assert_eq!(
            places(&[("HOME", "/home/a")]),
            [
                "gpurouter.toml",
                "/home/a/.config/gpurouter/config.toml",
                "/etc/gpurouter/config.toml"
            ]
        );
        assert_eq!(
            places(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/c")])
                .get(1)
                .map(String::as_str),
            Some("/c/gpurouter/config.toml")
        );
        assert_eq!(
            places(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "relative")])
                .get(1)
                .map(String::as_str),
            Some("/home/a/.config/gpurouter/config.toml")
        );
        assert_eq!(
            places(&[]),
            ["gpurouter.toml", "/etc/gpurouter/config.toml"]
        );
    }
}
