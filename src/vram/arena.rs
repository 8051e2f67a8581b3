//! A replay of the allocator that lays out llama.cpp's compute graph, so that a compute buffer is as large here as it is there.
//!
//! ggml gives every intermediate tensor the smallest free block that holds it, joins neighbouring free blocks, and takes from the open end
//! only when no block fits (`ggml-alloc.c`). What a graph needs is therefore not the sum of what lives at once: holes that later tensors are
//! too large for count too, and only following the order of the allocations finds them.

/// A piece of the buffer. Not `Copy`: it is given back once.
#[derive(Debug, Default)]
pub(super) struct Block {
    start: u64,
    bytes: u64,
}

/// The buffer of one device while a graph is laid out.
#[derive(Debug)]
pub(super) struct Arena {
    /// Free blocks below the open end: start and size, by start, never adjacent.
    free: Vec<(u64, u64)>,
    /// Where the open end begins.
    end: u64,
    /// The highest byte ever used.
    high: u64,
}

/// Sizes are rounded up to this: 128 bytes on CUDA, less elsewhere.
const ALIGNMENT: u64 = 128;

/// Largest block: 256 TiB, beyond every machine. It keeps the sums of a hostile header's graph within 64 bits.
const LARGEST: u64 = 1 << 48;

impl Arena {
    /// Nothing allocated.
    pub(super) fn new() -> Self {
        Self {
            free: Vec::with_capacity(32),
            end: 0,
            high: 0,
        }
    }

    /// Bytes of the buffer so far.
    pub(super) fn high(&self) -> u64 {
        self.high
    }

    /// The smallest free block that is large enough (the last of equals), else the open end.
    pub(super) fn take(&mut self, bytes: u64) -> Block {
        let bytes = bytes.min(LARGEST).next_multiple_of(ALIGNMENT);
        if bytes == 0 {
            return Block {
                start: self.end,
                bytes,
            };
        }
        let mut best: Option<usize> = None;
        let mut size = u64::MAX;
        for (index, &(_, free)) in self.free.iter().enumerate() {
            if free >= bytes && free <= size {
                best = Some(index);
                size = free;
            }
        }
        let start = if let Some(index) = best {
            self.carve(index, bytes)
        } else {
            let start = self.end;
            self.end = self.end.saturating_add(bytes);
            start
        };
        self.high = self.high.max(start.saturating_add(bytes));
        Block { start, bytes }
    }

    /// The first bytes of a free block.
    fn carve(&mut self, index: usize, bytes: u64) -> u64 {
        let Some(block) = self.free.get_mut(index) else {
            return self.end;
        };
        let start = block.0;
        block.0 = block.0.saturating_add(bytes);
        block.1 = block.1.saturating_sub(bytes);
        if block.1 == 0 {
            self.free.remove(index);
        }
        start
    }

    /// Gives a block back; free neighbours become one.
    #[expect(clippy::needless_pass_by_value, reason = "a block is given back once")]
    pub(super) fn give(&mut self, block: Block) {
        let Block { start, bytes } = block;
        if bytes == 0 {
            return;
        }
        let mut at = self.free.partition_point(|&(other, _)| other < start);
        let mut joined = (start, bytes);
        if let Some(before) = at.checked_sub(1)
            && let Some(&(other, size)) = self.free.get(before)
            && other.saturating_add(size) == start
        {
            joined = (other, size.saturating_add(bytes));
            self.free.remove(before);
            at = before;
        }
        if let Some(&(other, size)) = self.free.get(at)
            && joined.0.saturating_add(joined.1) == other
        {
            joined.1 = joined.1.saturating_add(size);
            self.free.remove(at);
        }
        if joined.0.saturating_add(joined.1) == self.end {
            self.end = joined.0;
        } else {
            self.free.insert(at, joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_hole_that_fits_is_used_and_the_last_of_equals() {
        let mut arena = Arena::new();
        let [large, first, middle, second, last] =
            [1024, 128, 512, 128, 512].map(|bytes| arena.take(bytes));
        let keep = arena.take(128);
        arena.give(large);
        arena.give(middle);
        arena.give(last);
        let small = arena.take(512);
        assert_eq!(
            small.start,
            1024 + 128 + 512 + 128,
            "the last of two equal holes"
        );
        let again = arena.take(1000);
        assert_eq!(again.start, 0);
        assert_eq!(arena.high(), 2432);
        for block in [first, second, keep, small, again] {
            arena.give(block);
        }
        assert_eq!((arena.end, arena.free.len()), (0, 0));
    }

    #[test]
    fn nothing_overflows() {
        let mut arena = Arena::new();
        let first = arena.take(u64::MAX);
        let second = arena.take(u64::MAX - 5);
        arena.give(first);
        arena.give(second);
        assert_eq!(arena.high(), 2 * LARGEST);
    }
}
