//! Statistics and reports: pure functions of what was observed, so that a stored observation gives the same report again.

pub mod proxy;
