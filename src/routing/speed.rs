//! Measured speeds. A speed that was not measured is unknown; none is ever invented.

use std::collections::HashMap;

use serde::Serialize;

use crate::cluster::ModelName;

/// What was measured of one model on one node; `None` where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Speed {
    /// Prompt tokens per second.
    pub prefill_tps: Option<f64>,
    /// Answer tokens per second.
    pub decode_tps: Option<f64>,
    /// Milliseconds a load takes.
    pub load_ms: Option<f64>,
    /// Tokens of a usual answer.
    #[serde(skip)]
    pub completion_tokens: Option<f64>,
    /// Requests that were measured.
    pub samples: u64,
}

/// Measured speeds by node and model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Speeds {
    /// Key: node name and full model name.
    pub by_node_and_model: HashMap<String, HashMap<ModelName, Speed>>,
}

impl Speeds {
    /// What is known of that model on that node.
    pub fn get(&self, node: &str, model: &ModelName) -> Speed {
        self.by_node_and_model
            .get(node)
            .and_then(|models| models.get(model))
            .copied()
            .unwrap_or_default()
    }
}
