//! Whole frames instead of packets: the road to and from the engine, and of relays whose sides
//! packetise differently.

use crosspoint_codecs::frame::{EncodedFrame, Pool};

use super::{Carries, Session, Wire};
use crate::Instant;

impl Session {
    /// From now on, what comes is put together to frames from `pool`, for [`Self::poll_frame`].
    pub fn open_frames(&mut self, pool: Pool) {
        self.frames = Some(pool);
    }

    /// Ends that.
    pub fn close_frames(&mut self) {
        self.frames = None;
    }

    /// Whether frames are put together.
    pub const fn has_frames(&self) -> bool {
        self.frames.is_some()
    }

    /// What the frames carry.
    pub const fn frames_carry(&self) -> Option<Carries> {
        None
    }

    /// The next complete frame.
    pub fn poll_frame(&mut self, _now: Instant) -> Option<EncodedFrame> {
        None
    }

    /// Packetises and sends a frame at once. `source` tells apart who may feed this session.
    pub fn send_frame(&mut self, _now: Instant, _source: u64, _frame: &EncodedFrame, _wire: &mut dyn Wire) {}
}
