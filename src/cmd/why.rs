//! `gpurouter why`: the recorded decision of a request.

use std::io;

use super::Exit;
use super::running::Running;
use crate::cli::Global;
use crate::config::{self, Environment, Overrides};
use crate::render::{self, Told};

/// Flags of `why`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The id is in the answer's X-Gpurouter-Id header and in the log. The running
router remembers its last 512 requests.
Exit codes: 0 found, 1 not remembered, 3 no router runs.")]
pub struct Args {
    /// Id of the request
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let Some(router) = Running::find(global, &loaded.config) else {
        let told = Told::unreachable(format!("no router answers at {}", loaded.config.listen));
        return Err(told
            .hint("decisions are remembered by the running router: gpurouter serve")
            .into());
    };
    if args.id.is_empty() || !args.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Told::usage(format!("`{}` is not an id", args.id))
            .hint("ids look like 6b012332000001")
            .into());
    }
    let text = router.get(&format!("/gpurouter/api/why/{}", args.id))?;
    if global.json {
        render::line(&text)?;
    } else {
        render::why(&mut io::stdout().lock(), &serde_json::from_str(&text)?)?;
    }
    Ok(Exit::Yes)
}
