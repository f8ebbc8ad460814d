//! A container of legs. A point-to-point call is a conference of two.

mod accord;
mod call;
#[cfg(test)]
pub(crate) mod cardboard;
pub mod dialling;
mod engaged;
mod exchange;
pub mod floor;
pub mod fonts;
mod graph;
mod hunt;
pub mod layout;
pub mod ledger;
pub mod offer;
pub mod order;
pub mod plan;
pub mod policy;
pub mod prompts;
mod redirect;
pub mod room;
pub mod scene;
pub mod service;
pub mod traces;

pub use call::{Call, CallRules, CallView, Entering, LegView, Outcome, StreamView};
pub use dialling::{DialRefused, Dialling};
pub use exchange::{Directory, Exchange, ExchangeParts, LiveCall, Recorder, Resolution, Resolving};
pub use graph::Graph;
