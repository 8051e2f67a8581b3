//! The rules of the house: what the pure rooms must not name, which way dependencies run, and that every file says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that do no I/O, have no clock, no environment, no threads and print nothing.
const PURE: [&str; 6] = ["vram", "cluster", "routing", "dialect", "measure", "replay"];

/// What a pure room must not name. `std::io` itself is allowed for its traits (`Read` over bytes in memory).
const IMPURE: [&str; 22] = [
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "Mutex",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "Stdin",
    "Stdout",
    "Stderr",
    "SystemTime",
    "Instant",
    "UNIX_EPOCH.elapsed",
    "TcpStream",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
];

/// Rooms that each room may use, itself aside. A room that is not listed may use whatever it likes, `cmd` aside.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("vram", &[]),
    ("measure", &[]),
    ("cluster", &["routing", "vram"]),
    ("gpu", &["cluster"]),
    ("source", &["vram", "cluster", "backend"]),
    ("routing", &["cluster"]),
    ("dialect", &["cluster", "routing"]),
    ("http", &[]),
    ("load", &["measure"]),
    ("sim", &[]),
    (
        "replay",
        &["sim", "routing", "cluster", "vram", "measure", "dialect"],
    ),
    ("config", &["cluster", "routing", "vram", "cli", "render"]),
    (
        "backend",
        &["cluster", "dialect", "routing", "config", "http"],
    ),
    (
        "keeper",
        &["backend", "cluster", "config", "source", "vram"],
    ),
    ("render", &["cluster", "measure", "routing", "vram"]),
    (
        "serve",
        &[
            "backend", "cluster", "config", "dialect", "gpu", "http", "keeper", "routing", "vram",
        ],
    ),
];

/// A source file without its tests, comments and string contents.
struct Source {
    /// Path below `src`.
    path: PathBuf,
    text: String,
    code: String,
}

impl Source {
    /// The room it belongs to: the first directory, or the file's own name.
    fn room(&self) -> String {
        let first = self.path.components().next().expect("a path");
        first
            .as_os_str()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    gather(&root, &mut files);
    assert!(
        files.len() > 50,
        "only {} files under {}",
        files.len(),
        root.display()
    );
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a readable source file");
            let code = code_of(&text);
            let path = file.strip_prefix(&root).expect("below src").to_owned();
            Source { path, text, code }
        })
        .collect()
}

fn gather(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Whether the file holds tests only.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().expect("a file name").to_string_lossy();
    name == "tests" || name.ends_with("_tests") || name == "wire_samples"
}

/// The code before the tests, without comments and without what is inside of string and character literals.
fn code_of(text: &str) -> String {
    let production = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let mut code = String::with_capacity(production.len());
    let mut rest = production;
    while let Some(first) = rest.chars().next() {
        let raw_string = ["r#\"", "r\"", "br#\"", "br\""]
            .into_iter()
            .find(|start| rest.starts_with(start));
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(start) = raw_string.filter(|_| !after_word) {
            let end = if start.contains('#') { "\"#" } else { "\"" };
            rest = rest[start.len()..]
                .split_once(end)
                .map_or("", |(_, after)| after);
        } else if first == '"' {
            rest = after_string(&rest[1..]);
        } else if let Some(literal) = ["'\"'", "'\\''", "'\\\\'"]
            .into_iter()
            .find(|literal| rest.starts_with(literal))
        {
            rest = &rest[literal.len()..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

fn after_string(inside: &str) -> &str {
    let mut escaped = false;
    for (at, character) in inside.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &inside[at + 1..],
            _ => {}
        }
    }
    ""
}

/// Lines of the code that hold the word on its own, as `path: line`.
fn naming(source: &Source, word: &str) -> Vec<String> {
    let boundary = |c: Option<char>| c.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
    source
        .code
        .lines()
        .filter(|line| {
            line.match_indices(word).any(|(at, _)| {
                boundary(line[..at].chars().next_back())
                    && (word.ends_with('!') || boundary(line[at + word.len()..].chars().next()))
            })
        })
        .map(|line| format!("{}: {}", source.path.display(), line.trim()))
        .collect()
}

/// Rooms of this crate that the code uses.
fn used_rooms(source: &Source) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in source.code.match_indices("crate::") {
        let after = &source.code[at + "crate::".len()..];
        let listed = after
            .strip_prefix('{')
            .map_or("", |list| list.split('}').next().unwrap_or_default());
        let names = if listed.is_empty() { after } else { listed };
        let names = if listed.is_empty() {
            vec![names]
        } else {
            names.split(',').collect()
        };
        for name in names {
            let word: String = name
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if !word.is_empty() {
                rooms.push(word);
            }
        }
    }
    rooms
}

#[test]
fn pure_rooms_do_no_io_and_have_no_clock() {
    let sources = sources();
    for room in PURE {
        assert!(
            sources.iter().any(|source| source.room() == room),
            "no room {room}"
        );
    }
    let violations: Vec<String> = sources
        .iter()
        .filter(|source| PURE.contains(&source.room().as_str()) && !is_test(&source.path))
        .flat_map(|source| IMPURE.iter().flat_map(|word| naming(source, word)))
        .collect();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn dependencies_run_one_way() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !is_test(&source.path)) {
        let room = source.room();
        let allowed = MAY_USE
            .iter()
            .find(|(name, _)| *name == room)
            .map(|(_, allowed)| *allowed);
        for used in used_rooms(source) {
            let above = used == "cmd" && !matches!(room.as_str(), "cmd" | "cli" | "main");
            let across =
                used != room && allowed.is_some_and(|allowed| !allowed.contains(&used.as_str()));
            if above || across {
                violations.push(format!("{} uses {used}", source.path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn commands_do_not_use_each_other() {
    // `demo` sends its prompts as `ask` does; what both need lives in `ask`. `estimate` and `fit` mean the same model: `model`.
    let shared = ["mod", "running", "ask", "model"];
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.room() == "cmd") {
        for (at, _) in source.code.match_indices("super::") {
            let word: String = source.code[at + 7..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("src/cmd")
                .join(format!("{word}.rs"));
            if file.exists() && !shared.contains(&word.as_str()) {
                violations.push(format!("{} uses {word}", source.path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "without a `//!` line: {silent:#?}");
}

/// Whether a line declares an array of plain data that nothing can change.
fn is_table(line: &str) -> bool {
    let kind = line
        .split_once(": static ")
        .and_then(|(_, rest)| rest.split_once(": "));
    let changing = ["mut ", "Atomic", "Cell", "Mutex", "Lock"];
    kind.is_some_and(|(_, kind)| kind.starts_with('['))
        && !changing.iter().any(|word| line.contains(word))
}

#[test]
fn there_is_no_unsafe_code_and_no_global_state() {
    let statics = [
        "static",
        "thread_local!",
        "lazy_static!",
        "static mut",
        "LazyLock",
    ];
    let mut violations = Vec::new();
    for source in &sources() {
        violations.extend(naming(source, "unsafe"));
        for word in statics {
            // `'static` is a lifetime, and a table that is computed at compile time is no state.
            violations.extend(
                naming(source, word)
                    .into_iter()
                    .filter(|line| line.replace("'static", "").contains(word) && !is_table(line)),
            );
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn the_reader_of_code_sees_code_and_nothing_else() {
    let text = "//! std::net\nfn a() { let _ = \"std::fs \\\" std::env\"; b(r#\"SystemTime \" \"#); c('\"'); Instant::now() }\n#[cfg(test)]\nmod tests { std::thread }\n";
    let source = Source {
        path: "x.rs".into(),
        text: text.to_owned(),
        code: code_of(text),
    };
    for word in [
        "std::net",
        "std::fs",
        "std::env",
        "SystemTime",
        "std::thread",
    ] {
        assert!(naming(&source, word).is_empty(), "{word}: {}", source.code);
    }
    assert_eq!(naming(&source, "Instant").len(), 1);
    let uses = Source {
        code: "use crate::{a::X, b}; use crate::c::D; use mycrate::e;".to_owned(),
        ..source
    };
    assert_eq!(used_rooms(&uses)[..3], ["a", "b", "c"]);
}
