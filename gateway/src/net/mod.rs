//! Where the gateway meets the world: the clock, signalling sockets and the one driver of every
//! protocol machine.

pub mod clock;
