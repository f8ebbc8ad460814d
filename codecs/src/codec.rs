//! The seam for codecs. A codec is one file behind these traits and one line in the registry.
//!
//! Contract for all four: no call allocates once the first frame has passed (the engine's tick
//! calls them), no input panics, and a failed call leaves the codec usable.

use std::any::Any;
use std::time::Duration;

use crate::format::{AudioFormat, H264Profile, VideoFormat};
use crate::frame::{Pool, VideoFrame};

/// Why a codec refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes are not a packet of this codec.
    #[error("the packet is not valid: {0}")]
    Malformed(&'static str),
    /// The output would not fit the slice given.
    #[error("the output needs {needed} but {room} were given")]
    Room {
        /// Samples or bytes that it needs.
        needed: usize,
        /// Samples or bytes that there were.
        room: usize,
    },
    /// Frame length, picture size or parameter outside of what the codec takes.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The picture pool had no picture free: whoever holds them does not keep up.
    #[error("no picture is free to decode into")]
    NoPicture,
    /// The library beneath failed.
    #[error("{library} failed with code {code}")]
    Library {
        /// Its name.
        library: &'static str,
        /// Its own error code.
        code: i64,
    },
}

/// Decodes one audio stream to mono samples at the codec's own rate.
pub trait AudioDecoder: Send {
    /// Samples a second that come out.
    fn sample_rate(&self) -> u32;

    /// Samples that `packet` holds, without decoding it. `None` when it is malformed.
    fn samples(&self, packet: &[u8]) -> Option<usize>;

    /// Decodes `packet` to the front of `out`; returns the samples written.
    fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, CodecError>;

    /// Fills `out` with what best hides a packet that never came (concealment).
    fn conceal(&mut self, out: &mut [i16]);

    /// Fills `out` with what `next` says of the packet before it (in-band FEC). False, and
    /// nothing written, when it says nothing.
    fn recover(&mut self, next: &[u8], out: &mut [i16]) -> bool {
        let _ = (next, out);
        false
    }

    /// How much sound a decoder that was left out for a while has to decode before what it makes is
    /// right again. Zero where packets do not depend on each other.
    fn memory(&self) -> Duration {
        Duration::ZERO
    }

    /// Forgets the past, as at the start of a stream.
    fn reset(&mut self);
}

/// What may change while an audio encoder runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioTuning {
    /// Target in bit/s; codecs of one rate ignore it.
    pub bitrate: Option<u32>,
    /// Loss that the receiver reports, 0 to 100.
    pub loss_percent: u8,
    /// Put forward error correction into the stream.
    pub fec: bool,
    /// Send nothing while nobody speaks.
    pub dtx: bool,
    /// Samples a second that what is encoded was made of, where those are fewer than the encoder takes:
    /// above half of that there is nothing to be heard, and nothing to be spent on.
    pub source_rate: Option<u32>,
}

impl AudioTuning {
    /// As an encoder begins that nobody has told anything but what was agreed.
    pub const fn of(format: &AudioFormat) -> Self {
        Self { bitrate: None, loss_percent: 0, fec: format.fec, dtx: format.dtx, source_rate: None }
    }
}

/// Encodes mono samples at the codec's own rate.
pub trait AudioEncoder: Send + Any {
    /// Samples a second that go in.
    fn sample_rate(&self) -> u32;

    /// Encodes all of `pcm` as one packet to the front of `out`; returns its length. Zero means
    /// that nothing needs to be sent (discontinuous transmission).
    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError>;

    /// Changes what may change; takes effect with the next frame.
    fn tune(&mut self, tuning: AudioTuning) -> Result<(), CodecError>;

    /// Forgets the past, as at the start of a stream.
    fn reset(&mut self);

    /// Takes over the past of `other`, so that its next packet is the one that `other` would make.
    /// False, and nothing happens, where `other` is of another kind or the codec keeps its past to
    /// itself.
    fn adopt(&mut self, other: &dyn AudioEncoder) -> bool {
        let _ = other;
        false
    }
}

/// What a video decoder made of an access unit.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A picture; `concealed` when parts of it were guessed or refer to a picture that was.
    Picture {
        /// The picture, from the pool given at construction.
        frame: VideoFrame,
        /// Ask the source for a keyframe: this stays until one has come.
        concealed: bool,
    },
    /// The decoder holds it back or had nothing to show.
    Nothing,
}

/// Decodes one video stream.
pub trait VideoDecoder: Send {
    /// Decodes one access unit (H.264: Annex B, start codes of three or four bytes). An error
    /// means that nothing of it can be shown: ask the source for a keyframe.
    fn decode(&mut self, unit: &[u8]) -> Result<Decoded, CodecError>;
}

/// How a video encoder is set up; all of it but the picture limits may change while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoEncoding {
    /// Target in bit/s.
    pub bitrate: u32,
    /// Highest frame rate.
    pub frame_rate: f32,
    /// Highest profile that may be used.
    pub profile: H264Profile,
    /// Highest level that may be used, `level_idc`. For a receiver that raises `max-fs` or
    /// `max-mbps` beyond its level: the level that the picture needs
    /// ([`crate::format::H264Level::for_picture`]).
    pub level: u8,
    /// Largest NAL unit in bytes, when each must fit a packet (packetization mode 0).
    pub max_nal: Option<usize>,
    /// Slides, not people: each picture is to be sharp, rather than the next one soon.
    pub sharp: bool,
}

/// What a video encoder made of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes written; zero when rate control skipped the picture.
    pub len: usize,
    /// The unit is an IDR with its parameter sets in front.
    pub keyframe: bool,
}

/// Encodes one video stream.
pub trait VideoEncoder: Send {
    /// Encodes `frame`, shown `at` after the stream's start, as one access unit (Annex B with
    /// start codes of four bytes) to the front of `out`. A change of size makes a keyframe.
    fn encode(&mut self, frame: &VideoFrame, at: Duration, out: &mut [u8]) -> Result<Encoded, CodecError>;

    /// The next picture becomes a keyframe.
    fn request_keyframe(&mut self);

    /// Changes rate or frame rate at once; other changes rebuild the encoder with the next
    /// picture, which is then a keyframe.
    fn tune(&mut self, encoding: VideoEncoding) -> Result<(), CodecError>;
}

/// Makes encoders and decoders of one codec. A codec overrides the two methods of its kind.
pub trait CodecFactory: Send + Sync {
    /// Whose implementation it is, for status and logs.
    fn name(&self) -> &'static str;

    /// An encoder in the way that the receiver of `format` wants it.
    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        let _ = format;
        Err(CodecError::Unsupported("not a codec of sound"))
    }

    /// A decoder for what we asked for as `format`.
    fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        let _ = format;
        Err(CodecError::Unsupported("not a codec of sound"))
    }

    /// An encoder for the receiver of `format`; `encoding` says what of it is used at first.
    fn video_encoder(
        &self,
        format: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError> {
        let _ = (format, encoding);
        Err(CodecError::Unsupported("not a codec of pictures"))
    }

    /// A decoder for what we asked for as `format`, into pictures of `pool`.
    fn video_decoder(&self, format: &VideoFormat, pool: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        let _ = (format, pool);
        Err(CodecError::Unsupported("not a codec of pictures"))
    }
}
