//! Configuration in layers (flag > environment > file > default) with the origin of every value.
//!
//! One table ([`KEYS`]) says which keys exist; the file is checked against it, and its manual page is made from it.
//! The environment comes in as data, so nothing here depends on the process's own.

mod address;
mod build;
mod draft;
mod environment;
mod file;
mod keys;
mod nodes;
mod origin;
mod page;
mod print;
mod settings;
mod state;
mod value;

use std::path::PathBuf;

pub use environment::Environment;
pub use keys::{KEYS, Key};
pub use origin::Origin;
pub use page::manual_page;
pub use settings::{
    Admission, AffinitySettings, Config, ContextSettings, GpuSettings, LaneShares, LogLevel,
    NodeConfig, Price, Prices, Residency, Security, Sources, Timeouts,
};
pub use value::Kind;

use crate::cli::Global;
use crate::render::Told;
use draft::Draft;
use origin::Problems;
use value::Value;

/// Values from a command's own flags.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<String>,
}

/// A configuration and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Origin by key as `--print-config --json` writes it (`timeouts.idle`, `node[0].url`, `aliases."a:b"`); a key that is missing has its default.
    pub origins: std::collections::BTreeMap<String, Origin>,
    /// What the user should be told at the start, one sentence each.
    pub notices: Vec<String>,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
}

/// Puts the layers together. All problems that are found come back in one error, one line each.
pub fn load(
    global: &Global,
    environment: &Environment,
    overrides: &Overrides,
) -> Result<Loaded, Told> {
    let mut problems = Problems::default();
    let mut draft = Draft::default();
    let mut notices = Vec::new();

    let file = file::locate(global.config.as_deref(), environment)?;
    if let Some(file) = &file {
        file::read(file, &mut draft, &mut problems);
    }
    let written: Vec<String> = draft.node_names().map(str::to_owned).collect();
    if global.nodes.is_empty() {
        nodes::from_environment(&mut draft, environment, &mut notices, &mut problems);
    } else {
        nodes::from_flags(&mut draft, &global.nodes, &mut problems);
    }
    apply_flags(&mut draft, global, overrides, &mut problems);

    let (mut config, origins) = build::resolve(&draft, &written, &mut notices, &mut problems);
    if config.nodes.is_empty() {
        config.ollama_host = nodes::discovery_host(environment, &mut problems);
    }
    config.state = state::directory(config.sources.state_dir.as_deref(), environment);
    problems.into_result()?;
    Ok(Loaded {
        config,
        origins,
        notices,
        file: file.map(|file| file.path),
    })
}

fn apply_flags(draft: &mut Draft, global: &Global, overrides: &Overrides, problems: &mut Problems) {
    if let Some(listen) = &overrides.listen {
        let origin = Origin::Flag("--listen");
        match Kind::Listen.read_text(listen) {
            Ok(value) => draft.set("listen", value, origin),
            Err(reason) => problems.add(&origin, format!("the address {reason}")),
        }
    }
    let level = match (global.quiet, global.verbose) {
        (true, _) => Some(("error", "--quiet")),
        (false, 0) => None,
        (false, _) => Some(("debug", "--verbose")),
    };
    if let Some((level, flag)) = level {
        draft.set(
            "log_level",
            Value::Text(level.to_owned()),
            Origin::Flag(flag),
        );
    }
}
