//! Loads that went wrong, so that no cycle repeats them for ever: each failure doubles the pause before the next try.

use std::collections::BTreeMap;

use crate::cluster::ModelName;

/// Longest pause, in cycles: every five hours at the usual interval.
const LONGEST: u64 = 64;

/// Entries kept; more than nodes times wanted models.
const MOST: usize = 4096;

#[derive(Debug, Clone)]
struct Try {
    why: String,
    pause: u64,
    /// Cycle from which on it may be tried again.
    until: u64,
}

/// What went wrong, by node and model.
#[derive(Debug, Clone, Default)]
pub(super) struct Tries {
    cycle: u64,
    failed: BTreeMap<(String, ModelName), Try>,
}

impl Tries {
    /// Begins a cycle and returns its number, from 1.
    pub(super) fn begin(&mut self) -> u64 {
        self.cycle += 1;
        self.cycle
    }

    pub(super) fn failed(&mut self, node: &str, model: &ModelName, why: String) {
        let key = (node.to_owned(), model.clone());
        let before = self.failed.get(&key).map_or(0, |failed| failed.pause);
        let pause = (before * 2).clamp(1, LONGEST);
        if before == 0 && self.failed.len() >= MOST {
            return;
        }
        let until = self.cycle + 1 + pause;
        self.failed.insert(key, Try { why, pause, until });
    }

    pub(super) fn succeeded(&mut self, node: &str, model: &ModelName) {
        self.failed.remove(&(node.to_owned(), model.clone()));
    }

    pub(super) fn forget(&mut self, node: &str) {
        self.failed.retain(|(at, _), _| at != node);
    }

    /// Why it is not tried now.
    pub(super) fn held_back(&self, node: &str, model: &ModelName) -> Option<String> {
        let failed = self.failed.get(&(node.to_owned(), model.clone()))?;
        (self.cycle < failed.until).then(|| {
            let left = failed.until - self.cycle;
            let cycles = if left == 1 { "cycle" } else { "cycles" };
            format!("{}; tried again in {left} {cycles}", failed.why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_a_success() {
        let mut tries = Tries::default();
        let model = ModelName::new("m");
        let held = |tries: &Tries| tries.held_back("a", &model);
        tries.begin();
        tries.failed("a", &model, "no".to_owned());
        assert_eq!(held(&tries).as_deref(), Some("no; tried again in 2 cycles"));
        tries.begin();
        assert_eq!(held(&tries).as_deref(), Some("no; tried again in 1 cycle"));
        tries.begin();
        assert_eq!(held(&tries), None);
        tries.failed("a", &model, "no".to_owned());
        tries.begin();
        tries.begin();
        assert!(held(&tries).is_some());
        assert_eq!(tries.held_back("b", &model), None);
        tries.succeeded("a", &model);
        assert_eq!(held(&tries), None);
        for _ in 0..100 {
            tries.failed("a", &model, "no".to_owned());
        }
        let left = tries.failed[&("a".to_owned(), model.clone())].until - tries.cycle;
        assert_eq!(left, LONGEST + 1);
        tries.forget("a");
        assert_eq!(held(&tries), None);
    }
}
