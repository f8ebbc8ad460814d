//! Protocols as machines without sockets, clocks or randomness of their own.
//!
//! Bytes and time go in, bytes, timers and events come out. One driver runs them all, one
//! harness (`netem::Pair`, feature `test-util`) runs any two against each other in virtual
//! time, and one fuzz shape fits all. The contract is *mutate, then drain*: each call of
//! [`SansIo::handle_input`] or [`SansIo::command`] is followed by [`SansIo::poll_output`] until
//! it answers [`Output::Timeout`].

// The library build of the same sources keeps all three; only test code is let off.
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::string_slice,
        reason = "an overflow in a test fails the test"
    )
)]

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
pub use crosspoint_codecs::clock::Instant;

pub mod address;
pub mod dtls;
#[cfg(any(test, feature = "test-util"))]
pub mod netem;
pub mod rtp;
pub mod sdp;
pub mod sip;

/// The time, as the caller tells it.
///
/// Timers use `mono`; nonces, NTP stamps and certificates need `wall`, which may jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes back.
    pub mono: Instant,
    /// What the world calls it.
    pub wall: SystemTime,
}

/// A connection (TCP or TLS, with or without WebSocket in it). Connections that the driver accepted have even numbers, those
/// that the machine asked for have odd ones; none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// How bytes travel. Whether a name is allowed in TLS, and so on, is the driver's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream inside TLS.
    Tls,
    /// Messages of WebSocket (RFC 6455) in a stream that somebody opened to us: browsers have nothing else.
    Ws,
    /// The same inside TLS.
    Wss,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Whether bytes come by connections.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// Whether each piece of a connection is one whole message ([`Input::Stream`], [`Output::Stream`]).
    /// Such connections are never opened by us.
    pub const fn is_framed(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Whether nobody on the way reads it.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// What a machine is told.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram came.
    Datagram {
        /// The local address that it came to: one of those that the machine was made with.
        local: SocketAddr,
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        data: &'a [u8],
    },
    /// A connection stands: accepted, or asked for by [`Output::Connect`].
    Connected {
        /// Its number.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The far end.
        peer: SocketAddr,
        /// How; anything but UDP.
        transport: Transport,
    },
    /// Bytes of a connection, cut anywhere, unless its transport keeps messages apart.
    Stream {
        /// Its number.
        conn: ConnId,
        /// The bytes.
        data: &'a [u8],
    },
    /// A connection is gone, or one that was asked for never stood.
    Closed {
        /// Its number.
        conn: ConnId,
    },
    /// The moment that the last [`Output::Timeout`] named has come.
    Timeout,
}

/// What a machine wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<E> {
    /// Send a datagram.
    Datagram {
        /// The local address to send from.
        local: SocketAddr,
        /// Where to.
        to: SocketAddr,
        /// The bytes.
        data: Bytes,
    },
    /// Send bytes on a connection, a whole message where its transport keeps them apart. What a connection
    /// that is gone cannot take is dropped.
    Stream {
        /// Its number.
        conn: ConnId,
        /// The bytes.
        data: Bytes,
    },
    /// Open a connection; [`Input::Connected`] or [`Input::Closed`] follows.
    Connect {
        /// The number that it shall have: an odd one, not used before.
        conn: ConnId,
        /// Where to.
        to: SocketAddr,
        /// TCP or TLS.
        transport: Transport,
        /// The name that its certificate must carry (TLS).
        name: Option<String>,
    },
    /// Close a connection once what was sent on it has left.
    Close {
        /// Its number.
        conn: ConnId,
    },
    /// Something for the owner.
    Event(E),
    /// Drained. Call again with [`Input::Timeout`] at that moment, if there is one.
    Timeout(Option<Instant>),
}

/// The one shape of every protocol machine.
pub trait SansIo {
    /// What its owner asks of it.
    type Command;
    /// What it tells its owner.
    type Event;
    /// A fault of the caller. A peer's faults are answered, counted or dropped, never returned.
    type Error: std::error::Error;

    /// Tells it what happened.
    fn handle_input(&mut self, now: Now, input: Input<'_>) -> Result<(), Self::Error>;

    /// Asks something of it.
    fn command(&mut self, now: Now, command: Self::Command) -> Result<(), Self::Error>;

    /// What it wants next. Ends with [`Output::Timeout`], which may be asked for again.
    fn poll_output(&mut self) -> Output<Self::Event>;
}
