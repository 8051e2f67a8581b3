//! The running router, as the other commands reach it.

use std::time::Duration;

use anyhow::Context;

use crate::cli::Global;
use crate::config::Config;
use crate::render::Told;

/// A router that answers at the configured address.
#[derive(Debug)]
pub(super) struct Running {
    base: String,
    client: reqwest::blocking::Client,
}

impl Running {
    /// The router at the configured address; `None` when none answers there, or when nodes or GPUs were named by flag.
    pub(super) fn find(global: &Global, config: &Config) -> Option<Self> {
        if !global.nodes.is_empty() || global.gpus.is_some() {
            return None;
        }
        let running = Self::at(&format!("http://{}", config.listen)).ok()?;
        let health = running.get("/health").ok()?;
        health.contains("\"gpu_pool_status\"").then_some(running)
    }

    /// A client of the router at that address.
    pub(super) fn at(base: &str) -> anyhow::Result<Self> {
        let client = crate::backend::router_client(Some(Duration::from_secs(10)))?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            client,
        })
    }

    /// The address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// A document of the router.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self
            .client
            .get(format!("{}{path}", self.base))
            .send()
            .with_context(|| format!("the router at {} does not answer", self.base))?;
        text_of(answer)
    }

    /// Has the router do something, and waits for as long as that takes.
    pub(super) fn post_and_wait(&self, path: &str) -> anyhow::Result<String> {
        let client = crate::backend::router_client(None)?;
        let request = client.post(format!("{}{path}", self.base));
        text_of(
            request
                .send()
                .with_context(|| format!("the router at {} does not answer", self.base))?,
        )
    }

    /// A document of the router, for a body.
    pub(super) fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<String> {
        let request = self
            .client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .body(body);
        text_of(
            request
                .send()
                .with_context(|| format!("the router at {} does not answer", self.base))?,
        )
    }
}

fn text_of(answer: reqwest::blocking::Response) -> anyhow::Result<String> {
    let status = answer.status();
    let text = answer.text()?;
    if status.is_success() {
        return Ok(text);
    }
    let message = error_text(&text);
    let told = match status.as_u16() {
        400 => Told::usage(message),
        502..=504 => Told::unreachable(message).hint(super::SEE_NODES),
        _ => Told {
            message,
            hint: None,
            exit: super::Exit::No,
        },
    };
    Err(told.into())
}

/// The message inside an error body of any of the three dialects.
pub(super) fn error_text(body: &str) -> String {
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let error = &document["error"];
    error
        .as_str()
        .or_else(|| error["message"].as_str())
        .unwrap_or(body)
        .to_owned()
}

/// Whether a status document has a node that takes requests.
pub(super) fn any_up(document: &serde_json::Value) -> bool {
    document["nodes"].as_array().is_some_and(|nodes| {
        nodes
            .iter()
            .any(|node| matches!(node["state"].as_str(), Some("up" | "busy")))
    })
}
