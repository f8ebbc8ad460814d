//! Everything of Crosspoint that waits, owns sockets or threads.

pub mod cause;
pub mod conference;
pub mod leg;
pub mod media;
