//! Which tier, and so which model, a classified request belongs to.

use super::{ClassTarget, Classification, Complexity, Policy, Tier};

/// The tier of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierChoice {
    /// The tier's name in lower case.
    pub name: String,
    /// The model configured for it, or for the next larger class that has one; `None` where none is.
    pub model: Option<String>,
    /// The node configured with that model.
    pub prefer: Option<String>,
    /// Short code of the tier and of the class whose model stands in if another's does: `simple_task`, `simple_task_as_complex`.
    pub task: String,
}

/// The target of a class, or else of the next larger class that has one, and which class that was.
pub fn target(policy: &Policy, complexity: Complexity) -> Option<(&ClassTarget, Complexity)> {
    [
        (&policy.simple, Complexity::Simple),
        (&policy.moderate, Complexity::Moderate),
        (&policy.complex, Complexity::Complex),
    ]
    .into_iter()
    .filter(|(_, class)| *class >= complexity)
    .find_map(|(target, class)| Some((target.as_ref()?, class)))
}

/// The tier of a request with so many estimated prompt tokens.
///
/// A further tier applies when every condition it has is met; one without a condition only applies where a client demands it. Of those
/// that apply, the one with the highest `from`, then the highest `min_tokens`, then the later one wins over the class's own tier.
pub fn tier_of(policy: &Policy, classification: &Classification, tokens: u64) -> TierChoice {
    let further = policy
        .tiers
        .iter()
        .filter(|tier| applies(tier, classification.probabilities.complex, tokens))
        .max_by(|a, b| {
            let by_probability = a.from.unwrap_or(0.0).total_cmp(&b.from.unwrap_or(0.0));
            by_probability.then(a.min_tokens.cmp(&b.min_tokens))
        });
    if let Some(tier) = further {
        return TierChoice {
            name: tier.name.clone(),
            model: Some(tier.model.clone()),
            prefer: tier.prefer.clone(),
            task: task(&tier.name, None),
        };
    }
    let name = classification.complexity.tier();
    let target = target(policy, classification.complexity);
    let stand_in = target
        .map(|(_, class)| class)
        .filter(|class| *class != classification.complexity)
        .map(Complexity::tier);
    let prefer = target.and_then(|(target, _)| target.prefer.clone());
    TierChoice {
        name: name.to_owned(),
        model: target.map(|(target, _)| target.model.clone()),
        task: task(name, stand_in),
        prefer,
    }
}

impl TierChoice {
    /// Short code of the reason: the task and, where one is known, the node.
    pub fn reason(&self, node: Option<&str>) -> String {
        match node {
            Some(node) => format!("{}_to_{node}", self.task),
            None => self.task.clone(),
        }
    }
}

fn applies(tier: &Tier, complex: f64, tokens: u64) -> bool {
    (tier.from.is_some() || tier.min_tokens.is_some())
        && tier.from.is_none_or(|from| complex >= from)
        && tier.min_tokens.is_none_or(|least| tokens >= least)
}

fn task(tier: &str, stand_in: Option<&str>) -> String {
    let stand_in = stand_in.map_or_else(String::new, |class| format!("_as_{class}"));
    format!("{tier}_task{stand_in}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::classify;

    fn class_target(model: &str, prefer: Option<&str>) -> ClassTarget {
        ClassTarget {
            model: model.to_owned(),
            prefer: prefer.map(str::to_owned),
        }
    }

    fn tier(name: &str, from: Option<f64>, min_tokens: Option<u64>) -> Tier {
        Tier {
            name: name.to_owned(),
            model: format!("model-of-{name}"),
            prefer: None,
            from,
            min_tokens,
        }
    }

    fn choose(policy: &Policy, ask: &str, tokens: u64) -> TierChoice {
        tier_of(policy, &classify(ask), tokens)
    }

    #[test]
    fn the_class_names_model_node_and_reason() {
        let policy = Policy {
            simple: Some(class_target("small", Some("gpu1"))),
            moderate: Some(class_target("large", Some("gpu0"))),
            complex: Some(class_target("large", Some("gpu0"))),
            ..Policy::default()
        };
        let small = choose(&policy, "Document this class", 10);
        assert_eq!(small.reason(small.prefer.as_deref()), "simple_task_to_gpu1");
        assert_eq!(small.model.as_deref(), Some("small"));
        let large = choose(&policy, "Implement OAuth2 authentication", 10);
        assert_eq!(
            large.reason(large.prefer.as_deref()),
            "complex_task_to_gpu0"
        );
        assert_eq!(
            (large.name.as_str(), large.prefer.as_deref()),
            ("complex", Some("gpu0"))
        );
    }

    #[test]
    fn a_class_without_a_model_takes_the_next_larger_ones() {
        let policy = Policy {
            complex: Some(class_target("large", Some("gpu0"))),
            ..Policy::default()
        };
        let choice = choose(&policy, "Document this class", 10);
        assert_eq!(choice.model.as_deref(), Some("large"));
        assert_eq!(
            choice.reason(choice.prefer.as_deref()),
            "simple_task_as_complex_to_gpu0"
        );
        // Never a smaller one: it might not do.
        let policy = Policy {
            simple: Some(class_target("small", None)),
            ..Policy::default()
        };
        let choice = choose(&policy, "Implement OAuth2 authentication", 10);
        assert_eq!((choice.model, choice.task.as_str()), (None, "complex_task"));
    }

    #[test]
    fn further_tiers_need_every_condition_they_have() {
        let policy = Policy {
            complex: Some(class_target("large", None)),
            tiers: vec![
                tier("long", None, Some(8_000)),
                tier("huge", Some(0.5), Some(8_000)),
                tier("manual", None, None),
            ],
            ..Policy::default()
        };
        let name = |ask, tokens| choose(&policy, ask, tokens).name;
        assert_eq!(name("Document this class", 7_999), "simple");
        assert_eq!(name("Document this class", 8_000), "long");
        assert_eq!(name("Implement OAuth2 authentication", 8_000), "huge");
        assert_eq!(name("Implement OAuth2 authentication", 10), "complex");
    }

    #[test]
    fn of_several_tiers_the_most_demanding_wins() {
        let mut policy = Policy {
            tiers: vec![tier("xl", Some(0.6), None), tier("l", Some(0.5), None)],
            ..Policy::default()
        };
        assert_eq!(
            choose(&policy, "Implement OAuth2 authentication", 1).name,
            "xl"
        );
        policy.tiers.reverse();
        assert_eq!(
            choose(&policy, "Implement OAuth2 authentication", 1).name,
            "xl"
        );
    }
}
