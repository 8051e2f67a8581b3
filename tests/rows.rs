//! Every row of the source documents' list that this project promises to prove by a test has a test that begins with its name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows: what is shown of keeping models in place, and what belongs to it. E32, E33 and E35 come with the service and its measurements.
fn rows() -> Vec<String> {
    let optimise = (1..=31).chain([34, 36, 37, 38]);
    let mut rows: Vec<String> = optimise.map(|row| format!("e{row:02}")).collect();
    rows.extend(["b15", "c15", "c39", "f17"].map(str::to_owned));
    rows
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The names of the functions of a file that `#[test]` makes tests; one that is ignored proves nothing.
fn tests(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        let name = line.strip_prefix("fn ").and_then(|rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
            Some(&rest[..end])
        });
        match name {
            Some(name) if marked => {
                found.push(name.to_owned());
                marked = false;
            }
            Some(_) => marked = false,
            None if line == "#[test]" => marked = true,
            None if line.starts_with("#[ignore") => marked = false,
            None => {}
        }
    }
    found
}

/// The row that a test is named after.
fn row(name: &str) -> Option<&str> {
    let (row, rest) = name.split_once('_')?;
    (!rest.is_empty()).then_some(row)
}

/// The rows of which no test is named.
fn missing(names: &[String]) -> Vec<String> {
    let proved: BTreeSet<&str> = names.iter().filter_map(|name| row(name)).collect();
    let mut rows = rows();
    rows.retain(|row| !proved.contains(row.as_str()));
    rows
}

#[test]
fn every_row_has_a_test_of_its_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "tests"] {
        sources(&root.join(directory), &mut files);
    }
    assert!(files.len() > 100, "only {} files", files.len());
    let names: Vec<String> = files
        .iter()
        .filter(|file| !file.ends_with("tests/rows.rs"))
        .flat_map(|file| tests(&fs::read_to_string(file).expect("a readable source file")))
        .collect();
    assert!(names.len() > 500, "only {} tests", names.len());
    let missing = missing(&names);
    assert!(missing.is_empty(), "rows without a test: {missing:?}");
}

#[test]
fn a_row_without_a_test_is_missed() {
    let text = "#[test]\nfn e01_is_one() {}\n\n#[test]\n#[ignore = \"slow\"]\nfn e02_is_none() {}\n\n/// e03_\nfn e03_helps() {}\n    #[test]\n    fn b15_is_another() {}\n#[test]\nfn e04() {}\n// #[test]\nfn e05_is_no_test() {}\n";
    assert_eq!(tests(text), ["e01_is_one", "b15_is_another", "e04"]);
    let missing = missing(&tests(text));
    assert_eq!(missing.len(), rows().len() - 2);
    for row in ["e02", "e03", "e04", "e05", "f17"] {
        assert!(missing.iter().any(|missed| missed == row), "{row}");
    }
    assert_eq!(rows().len(), 39);
}
