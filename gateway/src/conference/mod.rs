//! A container of legs. A point-to-point call is a conference of two.

mod call;
mod graph;
pub mod offer;
pub mod plan;

pub use call::{Call, CallRules, CallView, LegView, Outcome, Ringback, StreamView};
pub use graph::Graph;
