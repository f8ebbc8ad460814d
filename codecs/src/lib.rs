//! Pictures and sound: the vocabulary (formats, frames), the codecs and the kernels.
//!
//! No sockets, no clock, no threads: time comes in as an argument ([`clock::Instant`]) and
//! memory comes from pools ([`frame::Pool`]). Nothing here knows RTP, SDP, a leg or a conference.

#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "tests make signals of numbers that they chose themselves"
    )
)]

pub mod audio;
pub mod clock;
pub mod codec;
pub mod compose;
pub mod draw;
pub mod format;
pub mod frame;
pub mod kernels;
pub mod registry;
#[cfg(feature = "stills")]
pub mod still;
pub mod video;
