//! Simulated nodes with declared GPUs and speeds.

pub mod catalog;
pub mod clock;
pub mod fault;
pub mod gpu;
pub mod model;
pub mod seed;
