//! What the configuration says about routing, as plain data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The model of a class, and the node it should go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassTarget {
    /// Model name as the nodes know it.
    pub model: String,
    /// Node to choose when it has the model and is usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<String>,
}

/// A tier beyond the three classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Name in lower case, as it appears in headers and logs.
    pub name: String,
    /// Model name as the nodes know it.
    pub model: String,
    /// Node to choose when it has the model and is usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<String>,
    /// Lowest probability of COMPLEX (0 to 1) from which the tier applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// Fewest estimated prompt tokens from which the tier applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<u64>,
}

/// Routing by class and by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Names routed by class; `*` stands for every request.
    pub virtual_models: Vec<String>,
    /// Target of SIMPLE.
    pub simple: Option<ClassTarget>,
    /// Target of MODERATE.
    pub moderate: Option<ClassTarget>,
    /// Target of COMPLEX.
    pub complex: Option<ClassTarget>,
    /// Further tiers, in configuration order.
    pub tiers: Vec<Tier>,
    /// Names that clients ask for and the model each stands for; a key that ends in `*` is a prefix.
    pub aliases: BTreeMap<String, String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            virtual_models: vec!["auto".to_owned()],
            simple: None,
            moderate: None,
            complex: None,
            tiers: Vec::new(),
            aliases: BTreeMap::new(),
        }
    }
}
