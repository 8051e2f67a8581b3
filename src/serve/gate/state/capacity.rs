//! The memory that a node has for its models, as it is measured again and again.

/// Looks of which the most generous counts: the driver's figures and the node's own are never of the same moment, and a model that has just
/// come or gone is in one of them only.
const LOOKS: usize = 3;

/// What a look at a node's memory told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Measured {
    /// So many bytes for its models, those that are loaded counted in.
    Bytes(u64),
    /// It has no GPU: its models are in main memory, and what that holds is the node's business.
    NoGpu,
    /// Nobody tells.
    Unknown,
}

/// The last looks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Capacity {
    looks: Vec<Measured>,
}

impl Capacity {
    /// Takes a look in; whether what is known has changed by it.
    pub(super) fn measured(&mut self, look: Measured) -> bool {
        let before = self.now();
        if self.looks.len() == LOOKS {
            self.looks.remove(0);
        }
        self.looks.push(look);
        before != self.now()
    }

    /// Whether models of the node are in main memory.
    pub(super) fn no_gpu(&self) -> bool {
        self.looks.last() == Some(&Measured::NoGpu)
    }

    /// What is known by now.
    pub(super) fn now(&self) -> Measured {
        let last = self.looks.last().copied().unwrap_or(Measured::Unknown);
        let Measured::Bytes(_) = last else {
            return last;
        };
        let bytes = self.looks.iter().filter_map(|look| match look {
            Measured::Bytes(bytes) => Some(*bytes),
            _ => None,
        });
        bytes.max().map_or(Measured::Unknown, Measured::Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Measured::{Bytes, NoGpu, Unknown};

    #[test]
    fn less_memory_is_believed_when_it_was_seen_three_times_and_more_at_once() {
        let mut capacity = Capacity::default();
        assert_eq!(capacity.now(), Unknown);
        assert!(capacity.measured(Bytes(8)));
        for look in 1..=3 {
            assert_eq!(capacity.measured(Bytes(5)), look == 3, "{look}");
        }
        assert_eq!(capacity.now(), Bytes(5));
        assert!(capacity.measured(Bytes(9)));
        assert_eq!(capacity.now(), Bytes(9));
        for other in [NoGpu, Unknown] {
            assert!(capacity.measured(other));
            assert_eq!(capacity.now(), other);
        }
    }
}
