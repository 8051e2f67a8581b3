//! What known clients change in the beginning of their prompts from request to request: names, and where that is documented.
//!
//! It takes a conversation away from every node that has read it. [`crate::dialect`] finds such places and makes them constant.

/// A place that a known client changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Canonical {
    /// Claude Code's first system text, `x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=fa690;`: the digits of
    /// `cch`, others with every request, and the last part of `cc_version`, another in every conversation, become zeros.
    ClaudeCodeBilling,
    /// Hermes Agent's line `Conversation started: Monday, April 13, 2026 12:06 AM`: the time of day becomes midnight.
    HermesStarted,
    /// Pi's line `Current date and time: Monday, March 9, 2026 at 06:00:31 PM PDT`: the time of day becomes midnight.
    PiClock,
}

impl Canonical {
    /// Every rule, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::ClaudeCodeBilling, Self::HermesStarted, Self::PiClock];
    /// Their names, in the same order.
    pub const NAMES: &'static [&'static str] =
        &["claude-code-billing", "hermes-started", "pi-clock"];

    /// The name used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCodeBilling => "claude-code-billing",
            Self::HermesStarted => "hermes-started",
            Self::PiClock => "pi-clock",
        }
    }

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }

    /// Where it is documented that the client does so.
    pub fn source(self) -> &'static str {
        match self {
            Self::ClaudeCodeBilling => {
                "code.claude.com/docs/en/llm-gateway-protocol, github.com/ggml-org/llama.cpp/pull/21793"
            }
            Self::HermesStarted => "github.com/NousResearch/hermes-agent/issues/8687",
            Self::PiClock => "github.com/earendil-works/pi/issues/2013",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_name_and_its_source() {
        for (rule, name) in Canonical::ALL.into_iter().zip(Canonical::NAMES) {
            assert_eq!(rule.as_str(), *name);
            assert_eq!(Canonical::named(name), Some(rule));
            assert!(rule.source().contains('/'));
        }
        assert_eq!(Canonical::named("everything"), None);
    }
}
