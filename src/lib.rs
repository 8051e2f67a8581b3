//! One address in front of your GPUs and model servers.
//!
//! Data flows one way: gather → decide → act → tell. What decides is pure ([`vram`], [`cluster`], [`routing`], [`dialect`], [`measure`]): no
//! I/O, no clock, no environment, no threads. What gathers, acts and tells are the edges ([`gpu`], [`source`], [`http`], [`backend`],
//! [`keeper`], [`serve`], [`sim`], [`render`], [`cmd`]). [`replay`] runs what decides over simulated nodes in virtual time.

#![cfg_attr(not(test), warn(clippy::expect_used, clippy::unwrap_used))]

pub mod backend;
pub mod cli;
pub mod cluster;
pub mod cmd;
pub mod config;
pub mod dialect;
pub mod gpu;
pub mod http;
pub mod keeper;
pub mod live;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod load;
pub mod measure;
pub mod render;
pub mod replay;
pub mod routing;
pub mod serve;
pub mod sim;
pub mod source;
pub mod vram;
