//! Simulated nodes with declared GPUs and speeds.
