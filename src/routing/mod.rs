//! Where a request goes, and why: tokens, complexity, tiers, cost in seconds, the decision with its reasons.
//!
//! Pure: knows neither HTTP nor JSON wire forms; the snapshot, the load and the measurements come in as arguments.

mod affinity;
mod ask;
mod canonical;
mod classify;
mod decide;
mod facts;
mod lane;
mod policy;
pub mod progress;
pub mod queue;
pub mod speed;
mod target;
mod tier;
mod tokens;
pub mod truncation;
pub mod window;

pub use affinity::{Affinity, Likely, Remembered, SessionKey};
pub use ask::{Turn, TurnRole, shape_ask};
pub use canonical::Canonical;
pub use classify::{
    Classification, Complexity, Probabilities, SELFTEST, Signal, classify, classify_with_context,
};
pub use decide::{
    Candidate, Decision, LoadOf, NodeLoad, Plan, Predicted, Refusal, decide, decide_by,
};
pub use facts::{RequestFacts, Task};
pub use lane::{FILL_IN_MARKS, Recognised, Signs, TASK_MARK, recognise};
pub use policy::{ClassTarget, Copies, Policy, Tier};
pub use speed::{Learner, Observation, Speed, Speeds};
pub use tier::{TierChoice, target, tier_of};
pub use tokens::{Family, chars4, estimate_tokens};
pub use window::WindowPolicy;
