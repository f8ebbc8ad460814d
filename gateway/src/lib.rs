//! Everything of Crosspoint that waits, owns sockets or threads.
#![forbid(unsafe_code)]

pub mod admission;
pub mod alarms;
pub mod alias;
pub mod api;
pub mod cause;
pub mod conference;
pub mod config;
pub mod events;
pub mod guard;
pub mod ladder;
pub mod leg;
pub mod media;
pub mod net;
pub mod orders;
pub mod pcapng;
pub mod records;
pub mod registrar;
pub mod routing;
pub mod rules;
#[cfg(test)]
mod scratch;
pub mod services;
pub mod settings;
pub mod status;
pub mod tokens;
pub mod uuid;
