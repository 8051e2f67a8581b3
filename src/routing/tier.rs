//! The tier of a classified request: its class, or a further tier that the configuration adds.

use super::{Classification, Complexity, Policy};

/// The tier of a request and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierChoice {
    /// Name in lower case.
    pub name: String,
    /// Its model; `None` when neither this class nor a larger one has one, so that any completion model has to do.
    pub model: Option<String>,
    /// The node that the configuration prefers for it.
    pub prefer: Option<String>,
    /// What a reader of the reason should know besides, such as a class that borrows a larger one's model.
    pub note: Option<String>,
}

impl TierChoice {
    /// Short code of the reason: `simple_task_to_gpu1`, or `simple_task` while no node is known.
    pub fn reason(&self, node: Option<&str>) -> String {
        match node {
            Some(node) => format!("{}_task_to_{node}", self.name),
            None => format!("{}_task", self.name),
        }
    }
}

/// The tier for a class and a prompt of so many estimated tokens.
///
/// A further tier applies when every condition that it states holds (`from`: probability of COMPLEX; `min_tokens`); one without a
/// condition never does. The most demanding one that applies wins over the class. A class without a model takes the next larger one's.
pub fn tier_of(policy: &Policy, classification: &Classification, tokens: u64) -> TierChoice {
    let complex = classification.probabilities.complex;
    let further = policy
        .tiers
        .iter()
        .filter(|tier| tier.from.is_some() || tier.min_tokens.is_some())
        .filter(|tier| tier.from.is_none_or(|from| complex >= from))
        .filter(|tier| tier.min_tokens.is_none_or(|fewest| tokens >= fewest))
        .max_by(|a, b| {
            let demand = |from: Option<f64>| from.unwrap_or(0.0);
            demand(a.from)
                .total_cmp(&demand(b.from))
                .then(a.min_tokens.cmp(&b.min_tokens))
        });
    if let Some(tier) = further {
        return TierChoice {
            name: tier.name.clone(),
            model: Some(tier.model.clone()),
            prefer: tier.prefer.clone(),
            note: None,
        };
    }
    let class = classification.complexity;
    let larger = [
        (Complexity::Simple, &policy.simple),
        (Complexity::Moderate, &policy.moderate),
        (Complexity::Complex, &policy.complex),
    ];
    let target = larger
        .into_iter()
        .filter(|(complexity, _)| *complexity >= class)
        .find_map(|(complexity, target)| Some((complexity, target.as_ref()?)));
    let note = target
        .filter(|(found, _)| *found != class)
        .map(|(found, _)| {
            format!(
                "no model is configured for {}, {}'s is used",
                class.as_str(),
                found.as_str()
            )
        });
    TierChoice {
        name: class.tier().to_owned(),
        model: target.map(|(_, target)| target.model.clone()),
        prefer: target.and_then(|(_, target)| target.prefer.clone()),
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{ClassTarget, Probabilities, Tier, classify};

    fn target(model: &str) -> Option<ClassTarget> {
        Some(ClassTarget {
            model: model.to_owned(),
            prefer: Some(format!("{model}-node")),
        })
    }

    fn tier(name: &str, from: Option<f64>, min_tokens: Option<u64>) -> Tier {
        Tier {
            name: name.to_owned(),
            model: format!("{name}-model"),
            prefer: None,
            from,
            min_tokens,
        }
    }

    fn of_class(complexity: Complexity, complex: f64) -> Classification {
        Classification {
            complexity,
            probabilities: Probabilities {
                simple: 1.0 - complex,
                moderate: 0.0,
                complex,
            },
            ..classify("")
        }
    }

    #[test]
    fn a_class_has_its_own_model_or_the_next_larger_ones() {
        let policy = Policy {
            simple: target("small"),
            complex: target("big"),
            ..Policy::default()
        };
        let choose = |complexity| tier_of(&policy, &of_class(complexity, 0.0), 10);
        assert_eq!(choose(Complexity::Simple).model.as_deref(), Some("small"));
        let moderate = choose(Complexity::Moderate);
        assert_eq!(
            (moderate.name.as_str(), moderate.model.as_deref()),
            ("moderate", Some("big"))
        );
        assert!(moderate.note.is_some_and(|note| note.contains("COMPLEX")));
        let only_small = Policy {
            simple: target("small"),
            ..Policy::default()
        };
        assert_eq!(
            tier_of(&only_small, &of_class(Complexity::Complex, 0.9), 10).model,
            None
        );
    }

    #[test]
    fn the_most_demanding_further_tier_that_applies_wins() {
        let policy = Policy {
            simple: target("small"),
            tiers: vec![
                tier("huge", Some(0.9), None),
                tier("large", Some(0.6), None),
                tier("long", None, Some(5000)),
                tier("never", None, None),
            ],
            ..Policy::default()
        };
        let name =
            |complex, tokens| tier_of(&policy, &of_class(Complexity::Simple, complex), tokens).name;
        assert_eq!(name(0.1, 10), "simple");
        assert_eq!(name(0.6, 10), "large");
        assert_eq!(name(0.95, 10), "huge");
        assert_eq!(name(0.1, 5000), "long");
        assert_eq!(name(0.7, 9000), "large");
    }
}
