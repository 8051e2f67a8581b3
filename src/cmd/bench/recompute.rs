//! `gpurouter bench --recompute`: the report of a receipt, from its observations alone.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::Exit;
use crate::cli::Global;
use crate::measure::{Document, Finding, check};
use crate::render::{self, Told};

/// `bench --recompute --json`.
#[derive(Serialize)]
struct Verdict<'a> {
    schema: u32,
    /// Whether everything in the receipt agrees.
    holds: bool,
    observations: u64,
    sha256: &'a str,
    findings: &'a [Finding],
    /// The report that follows from the observations.
    report: &'a Document<'a>,
}

/// Runs the command.
pub(super) fn run(global: &Global, file: &Path) -> anyhow::Result<Exit> {
    let bytes = super::super::read_file(file)?;
    let checked = check(&bytes).map_err(|error| Told {
        message: format!("`{}` is no receipt that holds: {error}", file.display()),
        hint: None,
        exit: if error.is_contradiction() {
            Exit::No
        } else {
            Exit::Usage
        },
    })?;
    let receipt = &checked.receipt;
    let document = Document::new(&receipt.header, checked.figures);
    let holds = checked.findings.is_empty();
    if global.json {
        render::json(&Verdict {
            schema: 1,
            holds,
            observations: receipt.observations.len() as u64,
            sha256: &receipt.sha256,
            findings: &checked.findings,
            report: &document,
        })?;
    } else {
        let mut out = io::stdout().lock();
        render::bench(&mut out, &receipt.header, &document.figures)?;
        render::verdict(&mut out, receipt, &checked.findings)?;
    }
    Ok(if holds { Exit::Yes } else { Exit::No })
}
