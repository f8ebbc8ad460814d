//! A frame that has come, and the bound on those that wait.
//!
//! Like [`super::playout`] it knows nothing but frames and their clock, so that the fuzz targets, which
//! link no C, take both as they are.

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::frame::EncodedFrame;

/// Frames in each ring between a stream's thread and the engine. 64 audio packets are 1.28 s:
/// longer than any playout delay. Overflow: the newest frame is dropped and counted by who pushes.
pub const RING: usize = 64;

/// A frame and when it came, on the gateway's clock: playout measures jitter with it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Arrival of its last packet, [`Instant`] of the gateway's clock.
    pub at: Instant,
    /// The frame.
    pub frame: EncodedFrame,
}

/// A moment as signed nanoseconds, for differences with media time.
pub(super) fn nanos(at: Instant) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}
