//! The committed completions and manual pages are what the program prints, and every help text fits a terminal.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;
use gpurouter::cli::Cli;
use gpurouter::cmd::{completions, man};

fn completion_files() -> Vec<(String, Vec<u8>)> {
    Shell::value_variants()
        .iter()
        .map(|shell| {
            let name = match shell {
                Shell::Bash => "gpurouter.bash",
                Shell::Elvish => "gpurouter.elv",
                Shell::Fish => "gpurouter.fish",
                Shell::PowerShell => "_gpurouter.ps1",
                Shell::Zsh => "_gpurouter",
                other => panic!("no file name for {other}"),
            };
            (name.to_owned(), completions::script(*shell))
        })
        .collect()
}

/// Compares a directory with what it should hold; with `UPDATE=1` it is rewritten instead.
fn check(directory: &str, expected: &[(String, Vec<u8>)]) {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let present: Vec<PathBuf> = fs::read_dir(&directory)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    let wanted = |path: &&PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        expected.iter().any(|(file, _)| file == name)
    };
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(&directory).unwrap();
        for path in present.iter().filter(|path| !wanted(path)) {
            fs::remove_file(path).unwrap();
        }
        for (name, content) in expected {
            fs::write(directory.join(name), content).unwrap();
        }
        return;
    }
    let mut stale: Vec<String> = present
        .iter()
        .filter(|path| !wanted(path))
        .map(|path| format!("{}: belongs to no command", path.display()))
        .collect();
    for (name, content) in expected {
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(committed) if committed == *content => {}
            Ok(committed) => stale.push(first_difference(&path, &committed, content)),
            Err(error) => stale.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(
        stale.is_empty(),
        "these files are not what the program prints:\n  {}\nrun: UPDATE=1 cargo test --test generated",
        stale.join("\n  ")
    );
}

fn first_difference(path: &Path, committed: &[u8], printed: &[u8]) -> String {
    let committed = String::from_utf8_lossy(committed);
    let printed = String::from_utf8_lossy(printed);
    let line = committed
        .lines()
        .zip(printed.lines())
        .take_while(|(old, new)| old == new)
        .count();
    format!(
        "{}:{}: committed {:?}, printed {:?}",
        path.display(),
        line + 1,
        committed.lines().nth(line).unwrap_or("end of file"),
        printed.lines().nth(line).unwrap_or("end of file"),
    )
}

#[test]
fn completions_are_current() {
    check("completions", &completion_files());
}

#[test]
fn manual_pages_are_current() {
    check("man", &man::pages().unwrap());
}

#[test]
fn every_command_has_a_page() {
    let pages = man::pages().unwrap();
    for command in Cli::command().get_subcommands() {
        let name = format!("gpurouter-{}.1", command.get_name());
        assert!(pages.iter().any(|(file, _)| *file == name), "{name}");
    }
}

#[test]
fn help_fits_eighty_columns() {
    let mut program = Cli::command();
    program.build();
    let names: Vec<String> = program
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let mut long = Vec::new();
    let mut look = |name: &str, help: String| {
        for line in help.lines().filter(|line| line.chars().count() > 80) {
            long.push(format!("{name}: {line}"));
        }
    };
    look("gpurouter", program.render_long_help().to_string());
    look("gpurouter", program.render_help().to_string());
    for name in names {
        let command = program.find_subcommand_mut(&name).unwrap();
        look(&name, command.render_long_help().to_string());
        look(&name, command.render_help().to_string());
    }
    assert!(
        long.is_empty(),
        "wider than 80 columns:\n{}",
        long.join("\n")
    );
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

fn gpurouter(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpurouter"));
    command.args(arguments).stdin(Stdio::null());
    command
}

#[test]
fn the_program_prints_what_is_compared() {
    let output = gpurouter(&["man", "serve"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let pages = man::pages().unwrap();
    let page = pages
        .iter()
        .find(|(file, _)| file == "gpurouter-serve.1")
        .unwrap();
    assert_eq!(output.stdout, page.1);
    let output = gpurouter(&["completions", "bash"]).output().unwrap();
    assert_eq!(output.stdout, completions::script(Shell::Bash));
}

#[test]
fn a_page_that_does_not_exist_is_a_usage_error() {
    let output = gpurouter(&["man", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("error: no manual page for `nothing`\nhint: "),
        "{error}"
    );
}

#[test]
fn typos_are_usage_errors_that_name_the_nearest_word() {
    for (arguments, nearest) in [
        (["serv", "--json"], "'serve'"),
        (["man", "--jsno"], "'--json'"),
    ] {
        let output = gpurouter(&arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        assert!(
            error.starts_with("error: ") && error.contains(nearest),
            "{error}"
        );
    }
}

/// Runs the program with a standard output that nobody reads.
fn with_closed_output(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = gpurouter(arguments)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    (child.wait().unwrap().code(), told)
}

#[test]
fn a_closed_output_is_a_quiet_end() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["man"],
        &["man", "config"],
        &["completions", "zsh"],
    ] {
        assert_eq!(
            with_closed_output(arguments),
            (Some(0), String::new()),
            "{arguments:?}"
        );
    }
}
