//! The traces that come with the program: seeded generators of what users of such servers do, with the numbers that make them.

mod agents;
mod chats;
mod fleets;
mod writer;

use super::Scenario;

/// A trace that comes with the program.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    make: fn(u64) -> Scenario,
}

impl Builtin {
    /// The trace that a seed makes.
    pub fn scenario(&self, seed: u64) -> Scenario {
        Scenario {
            name: self.name.to_owned(),
            about: self.about.to_owned(),
            ..(self.make)(seed)
        }
    }
}

/// Every trace that comes with the program.
pub fn builtins() -> &'static [Builtin] {
    const ALL: &[Builtin] = &[
        Builtin {
            name: "contexts",
            about: "36 requests that alternate between num_ctx 2048, 4096 and 3000",
            make: chats::contexts,
        },
        Builtin {
            name: "three-clients",
            about: "three clients, one model, three contexts",
            make: chats::three_clients,
        },
        Builtin {
            name: "aider",
            about: "a coding session whose num_ctx grows with every request",
            make: agents::aider,
        },
        Builtin {
            name: "open-webui",
            about: "four people chat; titles, tags and follow-ups after each answer",
            make: chats::open_webui,
        },
        Builtin {
            name: "rag",
            about: "embed, then chat, on a card where both just do not fit",
            make: chats::rag,
        },
        Builtin {
            name: "agents",
            about: "two coding agents with long prompts and small background calls",
            make: agents::coding,
        },
        Builtin {
            name: "team",
            about: "five people with five kinds of work on two nodes",
            make: fleets::team,
        },
        Builtin {
            name: "batch",
            about: "three people chat beside batch embeddings that saturate the card",
            make: chats::batch,
        },
        Builtin {
            name: "priority",
            about: "embeddings that must stay while three chat models take turns",
            make: chats::priority,
        },
        Builtin {
            name: "restart",
            about: "chat and embeddings on a node that dies and comes back",
            make: chats::restart,
        },
        Builtin {
            name: "fleet",
            about: "twelve people and four models on four unequal nodes",
            make: fleets::unequal,
        },
        Builtin {
            name: "twelve",
            about: "twelve models on two small cards",
            make: fleets::twelve,
        },
    ];
    ALL
}

/// The trace of that name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    builtins().iter().find(|builtin| builtin.name == name)
}

#[cfg(test)]
mod tests {
    use super::super::trace;
    use super::*;

    #[test]
    fn every_trace_is_well_formed_and_the_same_for_the_same_seed() {
        for builtin in builtins() {
            let one = builtin.scenario(7);
            assert_eq!(
                one.requests,
                builtin.scenario(7).requests,
                "{}",
                builtin.name
            );
            assert!(one.requests.is_sorted_by_key(|request| request.at_ms));
            assert!(!one.fleet.is_empty() && !one.requests.is_empty());
            let text = trace::write(&one.requests);
            assert_eq!(
                trace::parse(&text).unwrap(),
                one.requests,
                "{}",
                builtin.name
            );
            assert!(
                builtin.about.len() + builtin.name.len() < 78,
                "{}",
                builtin.name
            );
        }
    }

    #[test]
    fn another_seed_makes_another_trace() {
        let agents = builtin("agents").unwrap();
        assert_ne!(agents.scenario(1).requests, agents.scenario(2).requests);
        assert!(builtin("nothing").is_none());
    }
}
