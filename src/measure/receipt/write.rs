//! Writing a receipt line by line.

use std::io::{self, Write};

use super::{Closing, Frame, Header, Line, Seal};
use crate::measure::observations::Observable;
use crate::measure::report::Document;

/// Writes a receipt; each line is whole and flushed before the next thing is measured.
pub struct Recorder<W: Write> {
    out: W,
    seal: Seal,
    observations: u64,
}

impl<W: Write> Recorder<W> {
    /// Writes the header.
    pub fn start(out: W, header: &Header) -> io::Result<Self> {
        let mut recorder = Self {
            out,
            seal: Seal::new(),
            observations: 0,
        };
        recorder.write(&Line::Frame(Frame::Header(Box::new(header.clone()))))?;
        Ok(recorder)
    }

    /// Numbers an observation and writes it.
    pub fn observe(&mut self, observation: &impl Observable) -> io::Result<()> {
        let line = observation.line(self.observations);
        self.observations += 1;
        self.write(&Line::Observed(line))
    }

    /// Writes the report. Without it the receipt says that the run did not end.
    pub fn finish(mut self, document: &Document<'_>) -> io::Result<()> {
        self.write(&Line::Frame(Frame::Report(Closing {
            observations: self.observations,
            sha256: self.seal.hex(),
            report: serde_json::to_value(document)?,
        })))
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.seal.add(&bytes);
        self.out.write_all(&bytes)?;
        self.out.flush()
    }
}
