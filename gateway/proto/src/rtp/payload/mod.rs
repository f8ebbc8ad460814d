//! Payload formats: frames into packets and packets into frames. One file a codec.
//!
//! Nothing here allocates once it is made. Bytes of a peer bound nothing: units and what is
//! remembered have limits of their own.

pub mod audio;
pub mod h264;

/// Why a payload or a frame was refused. The caller counts it; the state stays usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The payload is not of this format.
    #[error("the payload is malformed: {0}")]
    Malformed(&'static str),
    /// A form of the format that was not negotiated.
    #[error("the payload has a form that was not negotiated: {0}")]
    Unsupported(&'static str),
    /// The unit is larger than we take; all of it is dropped.
    #[error("the unit is larger than {limit} bytes or NAL units")]
    TooLarge {
        /// The limit that was met.
        limit: usize,
    },
    /// A NAL unit does not fit a packet, and the sink takes single NAL units only: it needs a
    /// transcode. Nothing of the frame was emitted.
    #[error("a NAL unit of {len} bytes does not fit a packet of {limit}")]
    NalTooLarge {
        /// Its length.
        len: usize,
        /// The most that fits.
        limit: usize,
    },
    /// The frame is empty or cannot be split to fit.
    #[error("the frame cannot be sent in packets of {limit} bytes")]
    Unsendable {
        /// The most that fits.
        limit: usize,
    },
}

/// Splits frames into payloads.
pub trait Packetizer: Send {
    /// Gives the payloads of `frame`, each of at most `limit` bytes, in order, with the marker that
    /// goes with it (RFC 3550 section 5.1). On an error nothing was emitted.
    fn packetize(
        &mut self,
        frame: &[u8],
        limit: usize,
        emit: &mut dyn FnMut(&[u8], bool),
    ) -> Result<(), PayloadError>;
}

/// A received payload, in order of sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Its bytes, without padding.
    pub data: &'a [u8],
    /// The packet's time stamp.
    pub timestamp: u32,
    /// The packet's marker.
    pub marker: bool,
    /// Packets missing between the one before and this one.
    pub lost_before: u16,
}

/// A frame put together: an audio packet's payload, or an access unit in Annex B form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Its bytes, until the next call.
    pub data: &'a [u8],
    /// The time stamp that its packets share.
    pub timestamp: u32,
    /// Packets missing since the unit before, before this one or within.
    pub lost: u16,
    /// Something of this unit is missing, or its end was not seen; what is there is whole, but for
    /// slices of H.264 whose beginning is wanted ([`h264::H264Depacketizer::with_torn_slices`]).
    pub damaged: bool,
    /// A decoder can start here.
    pub keyframe: bool,
}

/// Puts frames together.
pub trait Depacketizer: Send {
    /// Takes the next payload; emits what it completes: usually nothing or one unit, two when it
    /// shows that the one before had ended.
    fn push(&mut self, payload: Payload<'_>, emit: &mut dyn FnMut(Unit<'_>)) -> Result<(), PayloadError>;

    /// Forgets what was begun, as at a change of source.
    fn reset(&mut self);
}
