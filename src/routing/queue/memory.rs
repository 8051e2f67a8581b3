//! What a node's memory can hold, learned where nobody tells.

/// The limits of a node's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    /// Usable bytes, where they are known.
    capacity: Option<u64>,
    /// Models at once, where that is known.
    most_models: Option<u32>,
    /// The most bytes that were seen in memory together.
    together: u64,
    /// The fewest bytes that turned out to be too many.
    too_many: Option<u64>,
    /// Models that were left when the node made room by itself although there were bytes enough.
    models_left: Option<u32>,
}

impl Memory {
    pub(super) fn new(capacity: Option<u64>, most_models: Option<u32>) -> Self {
        Self {
            capacity,
            most_models: most_models.map(|most| most.max(1)),
            together: 0,
            too_many: None,
            models_left: None,
        }
    }

    pub(super) fn tell(&mut self, capacity: Option<u64>, most_models: Option<u32>) {
        self.capacity = capacity;
        self.most_models = most_models.map(|most| most.max(1));
    }

    /// Whether so many bytes of so many models may be in memory together, as far as is known.
    pub(super) fn holds(&self, bytes: u64, models: u32) -> bool {
        models <= self.most_models().unwrap_or(u32::MAX) && self.holds_bytes(bytes)
    }

    fn holds_bytes(&self, bytes: u64) -> bool {
        match self.capacity {
            Some(capacity) => bytes <= capacity,
            None => bytes <= self.together || self.too_many.is_none_or(|too_many| bytes < too_many),
        }
    }

    /// Whether the capacity was told, not learned.
    pub(super) fn is_told(&self) -> bool {
        self.capacity.is_some()
    }

    /// The most bytes there can be, as far as is known.
    pub(super) fn most_bytes(&self) -> Option<u64> {
        self.capacity.or_else(|| {
            self.too_many
                .map(|too_many| too_many.saturating_sub(1).max(self.together))
        })
    }

    pub(super) fn most_models(&self) -> Option<u32> {
        self.most_models.or(self.models_left)
    }

    /// So much was seen in memory together.
    pub(super) fn seen(&mut self, bytes: u64, models: u32) {
        self.together = self.together.max(bytes);
        if self.too_many.is_some_and(|too_many| bytes >= too_many) {
            self.too_many = None;
        }
        if self.models_left.is_some_and(|left| models > left) {
            self.models_left = None;
        }
    }

    /// A load made the node evict something by itself, or fail: `bytes` were too many, or `left` models (the new one included) are all it
    /// holds at once.
    pub(super) fn overflowed(&mut self, bytes: u64, left: u32) {
        if self.capacity.is_some() || bytes <= self.together {
            self.models_left = Some(left.max(1));
        } else {
            self.too_many = Some(self.too_many.map_or(bytes, |old| old.min(bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_capacity_is_the_limit() {
        let memory = Memory::new(Some(100), Some(2));
        assert!(memory.holds(100, 2) && !memory.holds(101, 1) && !memory.holds(10, 3));
    }

    #[test]
    fn an_unknown_capacity_is_narrowed_from_both_sides() {
        let mut memory = Memory::new(None, None);
        assert!(memory.holds(1 << 50, 9), "nothing is known yet");
        memory.seen(60, 2);
        memory.overflowed(120, 1);
        assert!(memory.holds(60, 2) && memory.holds(119, 3) && !memory.holds(120, 3));
        memory.overflowed(90, 1);
        assert_eq!(memory.most_bytes(), Some(89));
        memory.seen(95, 2);
        assert!(memory.holds(95, 2), "what was seen is possible");
    }

    #[test]
    fn an_eviction_that_bytes_do_not_explain_is_a_limit_on_models() {
        let mut memory = Memory::new(Some(1000), None);
        memory.overflowed(400, 3);
        assert!(memory.holds(500, 3) && !memory.holds(500, 4));
        memory.seen(500, 4);
        assert!(memory.holds(500, 4));
    }
}
