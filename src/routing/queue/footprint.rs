//! Memory that a model takes, by the context it is loaded with.

/// Most points of a table.
const MOST_POINTS: usize = 32;
/// Contexts of a model whose trained context is unknown end here.
const LONGEST: u32 = 1 << 20;
/// Contexts are found in steps of this many tokens.
const STEP: u32 = 256;

/// Bytes of GPU memory that a model takes, by context: estimates at a few contexts, straight lines between them. Made once for each model
/// on each node (the node's number of parallel requests is in the bytes) and shared by its requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Context and bytes, both ascending.
    points: Vec<(u32, u64)>,
    trained: Option<u32>,
}

impl Footprint {
    /// Nothing is known of the model's size.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// `base` bytes and `per_token` more for each token of context.
    pub fn linear(base: u64, per_token: u64, trained: Option<u32>) -> Self {
        let end = trained.unwrap_or(LONGEST).max(1);
        let most = base.saturating_add(per_token.saturating_mul(u64::from(end)));
        Self::of_points(&[(0, base), (end, most)], trained)
    }

    /// Estimates at some contexts (at most 32 are kept). A larger context is never taken to need less.
    pub fn of_points(points: &[(u32, u64)], trained: Option<u32>) -> Self {
        let mut points = points.to_vec();
        points.sort_unstable();
        points.dedup_by_key(|(context, _)| *context);
        points.truncate(MOST_POINTS);
        let mut most = 0;
        for (_, bytes) in &mut points {
            most = most.max(*bytes);
            *bytes = most;
        }
        Self { points, trained }
    }

    /// Context that the model was trained for.
    pub fn trained(&self) -> Option<u32> {
        self.trained
    }

    /// Whether it tells what more context costs.
    pub fn tells_contexts(&self) -> bool {
        self.points.len() > 1
    }

    /// Bytes with that context; `None` when nothing is known. Beyond the table the last line goes on.
    pub fn bytes(&self, context: u32) -> Option<u64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        if context <= first.0 || self.points.len() == 1 {
            return Some(first.1);
        }
        let after = self
            .points
            .iter()
            .position(|(point, _)| *point >= context)
            .unwrap_or(self.points.len() - 1);
        let high = self.points.get(after).unwrap_or(last);
        let low = self.points.get(after.saturating_sub(1)).unwrap_or(first);
        let width = u128::from(high.0 - low.0).max(1);
        let rise = u128::from(high.1 - low.1) * u128::from(context - low.0);
        let rise = u64::try_from(rise.div_ceil(width)).unwrap_or(u64::MAX);
        Some(low.1.saturating_add(rise))
    }

    /// The largest context, in steps of 256 tokens and not above the trained one, with which the model takes at most `room` bytes;
    /// `None` when not even the smallest fits or nothing is known.
    pub fn largest_context(&self, room: u64) -> Option<u32> {
        let end = self.trained.unwrap_or(LONGEST);
        let fits = |context: u32| self.bytes(context).is_some_and(|bytes| bytes <= room);
        if fits(end) {
            return Some(end);
        }
        let (mut low, mut high) = (0, end.div_ceil(STEP));
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(middle * STEP) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        (low > 0).then_some(low * STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn between_two_points_it_is_a_line() {
        let table = Footprint::of_points(&[(2048, 1000), (4096, 2000), (8192, 6000)], Some(8192));
        assert_eq!(table.bytes(1), Some(1000));
        assert_eq!(table.bytes(3072), Some(1500));
        assert_eq!(table.bytes(6144), Some(4000));
        assert_eq!(table.bytes(16_384), Some(14_000), "the last line goes on");
        assert_eq!(Footprint::unknown().bytes(4096), None);
    }

    #[test]
    fn the_largest_context_is_the_trained_one_or_what_fits() {
        let model = Footprint::linear(1000, 1, Some(32_768));
        assert_eq!(model.largest_context(1_000_000), Some(32_768));
        assert_eq!(model.largest_context(1000 + 5000), Some(4864));
        assert_eq!(model.largest_context(900), None);
        assert_eq!(Footprint::unknown().largest_context(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn more_context_never_takes_less(
            points in prop::collection::vec((0_u32..200_000, 0_u64..1 << 40), 0..40),
            a in 0_u32..400_000, b in 0_u32..400_000, room in 0_u64..1 << 41,
        ) {
            let table = Footprint::of_points(&points, Some(131_072));
            let (less, more) = (a.min(b), a.max(b));
            prop_assert!(table.bytes(less) <= table.bytes(more));
            if let Some(context) = table.largest_context(room) {
                prop_assert!(table.bytes(context).unwrap() <= room);
                prop_assert!(context <= 131_072);
            }
        }
    }
}
