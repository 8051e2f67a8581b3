//! What the configuration says about routing, as plain data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::ModelName;

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

/// On how many nodes a model is loaded at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copies {
    /// On another one, too, when that saves clearly more time than the load takes.
    #[default]
    AsNeeded,
    /// On one: requests wait for it as long as it is in order.
    One,
}

impl Copies {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::AsNeeded, Self::One];

    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsNeeded => "as-needed",
            Self::One => "one",
        }
    }

    /// The choice that a word stands for.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|copies| copies.as_str() == word)
    }
}

/// Routing by class and by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// On how many nodes a model is loaded at once.
    pub copies: Copies,
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
            copies: Copies::default(),
            virtual_models: vec!["auto".to_owned()],
            simple: None,
            moderate: None,
            complex: None,
            tiers: Vec::new(),
            aliases: BTreeMap::new(),
        }
    }
}

impl Policy {
    /// Whether a class or a further tier is configured with that model.
    pub fn names(&self, model: &ModelName) -> bool {
        let classes = [&self.simple, &self.moderate, &self.complex];
        let classes = classes.into_iter().flatten().map(|class| &class.model);
        let mut models = classes.chain(self.tiers.iter().map(|tier| &tier.model));
        models.any(|name| ModelName::new(name) == *model)
    }

    /// Whether a request for that name is routed by class; a request that names no model is not, unless every one is.
    pub fn routes_by_class(&self, requested: Option<&str>) -> bool {
        self.virtual_models.iter().any(|name| {
            name == "*"
                || requested.is_some_and(|requested| {
                    name.eq_ignore_ascii_case(
                        requested.strip_suffix(":latest").unwrap_or(requested),
                    )
                })
        })
    }

    /// The model that a name stands for: an exact key first, then the longest prefix key (`claude-*`).
    pub fn alias(&self, requested: &str) -> Option<&str> {
        if let Some(model) = self.aliases.get(requested) {
            return Some(model);
        }
        self.aliases
            .iter()
            .filter_map(|(key, model)| Some((key.strip_suffix('*')?, model)))
            .filter(|(prefix, _)| requested.starts_with(prefix))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, model)| model.as_str())
    }
}
