//! Crosspoint as a library: a gateway that joins call legs, started from a configuration.
//!
//! [`Gateway::start`] and [`Gateway::stop`] are the whole of it for a host: no signal handler, no
//! exit, logs through `tracing`, several gateways in one process. They share no state but one
//! choice, which vector instructions kernels use. The binary is a user of this crate like any other.
//!
//! # The map
//!
//! A *leg* is one party on one protocol. A *conference* is a container of legs; a call between two
//! is a conference of two. Who may know whom, from the outside in (`tests/layering.rs` checks it):
//!
//! ```text
//! crosspoint             this crate: facade, command line, demo, measures of proof, work on
//!                        files, capacity of a machine
//!   crosspoint-gateway   everything that waits, owns sockets or threads
//!     admission          the front door: who may register, who may call
//!     api, status,       what the gateway shows of itself; nobody imports api
//!     records
//!     conference         exchange (calls begin), call (the actor), plan and offer (pure), graph;
//!                        layout and order (pure) and scene: what is seen of many
//!     services           rooms and auditoriums as they are written down, and which alias reaches them
//!     routing, registrar where calls go; who is reachable, written down before it is acknowledged
//!     leg                the seam for protocols, and one folder for each: sip
//!     media              the engine: playout, decode, encode; knows no protocol
//!     net                the one driver for protocol machines and its thread; media socket threads
//!   crosspoint-proto     machines without sockets, clocks or randomness: sip, sdp, rtp
//!   crosspoint-codecs    formats, frames, codecs, kernels; draw and compose: pictures in pictures
//! ```
//!
//! How a packet goes: a socket thread (`net::media`) reads it, a `proto::rtp::session` checks its
//! source, takes its encryption off and counts it. If the plan says *relay*, the same thread writes
//! it anew for the other leg and sends it before it reads the next. If the plan says *transcode*,
//! frames go through a ring to the engine, which ticks every 20 ms, and back.
//!
//! How a call goes: the driver feeds bytes to `proto::sip`, `admission` proves who calls, a SIP leg
//! turns offers into capabilities, `conference::exchange` asks `routing` and dials, and
//! `conference::call` joins the legs: it plans, and `graph` tells ports and engine the difference.
#![forbid(unsafe_code)]

pub mod capacity;
pub mod demo;
mod gateway;
pub mod offline;
pub mod proof;

pub use crosspoint_gateway::config::Config;
pub use gateway::{Gateway, StartError};
