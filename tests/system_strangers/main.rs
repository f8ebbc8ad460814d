//! What strangers say, and what is said to them, against the whole program.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod fraud;
mod injection;
mod vanish;
