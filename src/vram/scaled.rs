//! The same shape in another quantisation.

use super::Shape;

impl Shape {
    /// This shape with weights `bytes`/`of` as large: another quantisation of the model, of which only the size is known. Caches and buffers stay,
    /// because they do not depend on the weights' type.
    #[must_use]
    pub fn scaled(&self, bytes: u64, of: u64) -> Self {
        let scale = |part: &mut u64| {
            let scaled = u128::from(*part) * u128::from(bytes) / u128::from(of.max(1));
            *part = u64::try_from(scaled).unwrap_or(u64::MAX);
        };
        let mut shape = self.clone();
        for layer in &mut shape.layers {
            scale(&mut layer.dense_bytes);
            scale(&mut layer.expert_bytes);
        }
        for sums in &mut shape.sums {
            scale(&mut sums.dense);
            scale(&mut sums.expert);
        }
        scale(&mut shape.input_bytes);
        scale(&mut shape.output_bytes);
        scale(&mut shape.tied_bytes);
        shape
    }
}
