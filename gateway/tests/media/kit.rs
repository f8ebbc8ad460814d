//! The codecs of the house behind the engine's seam.

use crosspoint_codecs::audio::{g711, g722, opus};
use crosspoint_codecs::codec::{
    AudioDecoder, AudioEncoder, CodecError, VideoDecoder, VideoEncoder, VideoEncoding,
};
use crosspoint_codecs::format::{AudioFormat, Codec, VideoFormat};
use crosspoint_codecs::frame::Pool;
use crosspoint_gateway::media::Codecs;

pub struct Kit;

impl Codecs for Kit {
    fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        Ok(match format.codec {
            Codec::Opus => Box::new(opus::Decoder::new()?),
            Codec::G722 => Box::new(g722::Decoder::new()),
            Codec::Pcmu => Box::new(g711::Decoder::new(g711::Law::Mu)),
            Codec::Pcma => Box::new(g711::Decoder::new(g711::Law::A)),
            _ => return Err(CodecError::Unsupported("not a codec of sound")),
        })
    }

    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        Ok(match format.codec {
            Codec::Opus => Box::new(opus::Encoder::new(format)?),
            Codec::G722 => Box::new(g722::Encoder::new()),
            Codec::Pcmu => Box::new(g711::Encoder::new(g711::Law::Mu)),
            Codec::Pcma => Box::new(g711::Encoder::new(g711::Law::A)),
            _ => return Err(CodecError::Unsupported("not a codec of sound")),
        })
    }

    fn video_decoder(&self, _: &VideoFormat, _: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Err(CodecError::Unsupported("no pictures here"))
    }

    fn video_encoder(&self, _: &VideoFormat, _: VideoEncoding) -> Result<Box<dyn VideoEncoder>, CodecError> {
        Err(CodecError::Unsupported("no pictures here"))
    }
}
