//! Real requests for measurements: what is asked, how it is sent and timed, and in which order under which policy.
//!
//! A run is a pass of the whole trace under one policy, then one under the other; the next run turns the order round. Within a pass nobody
//! else loads or evicts models, so that what a policy does to a node's memory is its own doing. What two policies send differs in one word at
//! the head of the prompt, because a prompt that a node has just read for the one policy would cost the other one nothing.

mod answer;
mod body;
mod campaign;
mod filler;
mod nodes;
mod power;
mod prompt;
mod recorded;
mod send;
mod sets;

pub use answer::Answer;
pub use body::Form;
pub use campaign::{Campaign, Seen, Side, Step};
pub use nodes::Memory;
pub use power::{IDLE_TIME, Meter};
pub use prompt::{Message, Prompt, PromptError, Size, read_prompts};
pub use recorded::{Recorded, read_trace};
pub use send::{Sender, Sent, Target};
pub use sets::built_in;
