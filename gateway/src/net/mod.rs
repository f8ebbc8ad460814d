//! Where the gateway meets the world: the clock, signalling sockets and the one driver of every
//! protocol machine; media sockets have threads of their own ([`media`]).
//!
//! ```text
//!  UDP readers ──┐                         ┌──> UDP sockets
//!  acceptors ────┼─ ingress ─> driver ─────┼──> a bounded write queue per connection
//!  connections ──┘   (bounded)   │  ^      └──> connects
//!                         events v  │ commands, timer
//!                              the machine's owner
//! ```

pub mod clock;
pub mod driver;
pub mod media;
mod peers;
mod pieces;
pub(crate) mod spare;
pub(crate) mod tcp;
mod thread;
pub mod tls;
mod towards;
mod udp;
mod websocket;

pub use thread::SignallingThread;
pub use towards::{Ways, local_address_towards};
