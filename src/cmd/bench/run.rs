//! A benchmark from its first observation to its report, with its receipt beside it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::receipt;
use crate::cli::Global;
use crate::measure::{Bench, Document, Header, Observable, Observations, Recorder, Report, report};
use crate::render;

/// A run that is under way.
pub(super) struct Run {
    header: Header,
    observations: Observations,
    recorder: Option<Recorder<File>>,
}

impl Run {
    /// Begins it now, on this machine.
    pub(super) fn start(
        global: &Global,
        bench: Bench,
        receipt: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let header = super::header(global, bench);
        Ok(Self {
            observations: Observations::of(&header.bench),
            recorder: receipt
                .map(|file| receipt::start(file, &header))
                .transpose()?,
            header,
        })
    }

    /// Keeps an observation, and writes it down at once.
    pub(super) fn observe(&mut self, seen: &impl Observable) -> io::Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.observe(seen)?;
        }
        self.observations
            .add(seen.line(self.observations.len() as u64));
        Ok(())
    }

    /// Prints the report and ends the receipt with it.
    pub(super) fn finish(self, global: &Global) -> anyhow::Result<Report> {
        let figures = report(&self.header.bench, &self.observations)?;
        let document = Document::new(&self.header, figures);
        if let Some(recorder) = self.recorder {
            recorder.finish(&document)?;
        }
        if global.json {
            render::json(&document)?;
        } else {
            render::bench(&mut io::stdout().lock(), &self.header, &document.figures)?;
        }
        Ok(document.figures)
    }
}
