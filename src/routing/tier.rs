//! stub
use super::{Classification, Policy};
/// stub
#[derive(Debug, Clone, PartialEq)]
pub struct TierChoice {
    /// name
    pub name: String,
    /// model
    pub model: Option<String>,
    /// prefer
    pub prefer: Option<String>,
    /// reason
    pub reason: String,
}
/// stub
pub fn tier_of(policy: &Policy, classification: &Classification, _tokens: u64) -> TierChoice {
    let c = policy.moderate.clone();
    TierChoice {
        name: classification.complexity.tier().to_owned(),
        model: c.as_ref().map(|c| c.model.clone()),
        prefer: c.and_then(|c| c.prefer),
        reason: String::new(),
    }
}
