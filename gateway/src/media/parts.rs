//! Where the lanes' codecs come from.

use crosspoint_codecs::codec::{
    AudioDecoder, AudioEncoder, CodecError, VideoDecoder, VideoEncoder, VideoEncoding,
};
use crosspoint_codecs::format::{AudioFormat, VideoFormat};
use crosspoint_codecs::frame::Pool;
use crosspoint_codecs::registry::Registry;

/// Makes codecs, on the thread of whoever adds a stream. Tests put their own behind it.
pub trait Codecs: Send + Sync {
    /// For sound that comes in `format`.
    fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError>;

    /// For sound that the receiver wants in `format`.
    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError>;

    /// For pictures that come in `format`; they lie in buffers of `pool`.
    fn video_decoder(&self, format: &VideoFormat, pool: Pool) -> Result<Box<dyn VideoDecoder>, CodecError>;

    /// For pictures that the receiver wants in `format`.
    fn video_encoder(
        &self,
        format: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError>;
}

impl Codecs for Registry {
    fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        self.audio_decoder(format)
    }

    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        self.audio_encoder(format)
    }

    fn video_decoder(&self, format: &VideoFormat, pool: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        self.video_decoder(format, pool)
    }

    fn video_encoder(
        &self,
        format: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError> {
        self.video_encoder(format, encoding)
    }
}
