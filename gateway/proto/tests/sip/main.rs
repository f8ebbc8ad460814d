//! SIP endpoints against each other in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::string_slice,
    reason = "a fault in a test fails the test"
)]

mod amplification;
mod calls;
mod chaos;
mod failover;
mod identity;
mod loss;
mod nonces;
mod peers;
mod races;
mod refer;
mod reliable;
mod replaces;
mod solo;
mod ssrf;
mod tap;
mod timers;
mod torture;
mod update;
mod vanish;
mod websocket;
mod world;
