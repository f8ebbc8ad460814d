//! Crosspoint as a library: a gateway that joins call legs, started from a configuration.
#![forbid(unsafe_code)]

pub mod demo;
mod gateway;
pub mod proof;

pub use crosspoint_gateway::config::Config;
pub use gateway::{Gateway, StartError};
