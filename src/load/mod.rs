//! Load for measurements: a mock upstream, a load generator, and what the kernel accounts to a process.
//!
//! It shares no code with what it measures: heads, framing and connections are its own. Sockets are those of `std::net`; where one thread
//! has hundreds of them it waits with epoll, because the generator and the mock must be faster than anything between them. Linux only, for
//! epoll and for `/proc`.

mod answer;
mod campaign;
mod child;
mod fair;
mod leave;
mod machine;
mod many;
mod others;
mod place;
mod process;
mod single;
mod soak;
mod steps;
mod upstream;
mod wire;

pub use campaign::{Campaign, Lane, Progress};
pub use child::Router;
pub use fair::{haproxy, nginx};
pub use machine::load_percent;
pub use place::Place;
pub use process::Processes;
pub use single::{Single, Took};
pub use soak::{Rate, Soak, get};
pub use steps::{Part, Plan, Step};
pub use upstream::{Script, Upstream};
pub use wire::{Ask, Clock};
