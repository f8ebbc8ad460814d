//! Which codecs can be encoded and decoded here, and by whom: one line a codec.

use std::fmt;
use std::sync::Arc;

use crate::audio::g711::Law;
use crate::audio::{g711, g722};
use crate::codec::{
    AudioDecoder, AudioEncoder, CodecError, CodecFactory, VideoDecoder, VideoEncoder, VideoEncoding,
};
use crate::format::{AudioFormat, Codec, VideoFormat};
use crate::frame::Pool;

/// How good an implementation is among those of its codec. The best that can do what is asked
/// is taken; among equals the one registered last, so that a host can put its own in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Better than nothing.
    Fallback,
    /// What is built in.
    Standard,
    /// Better than what is built in, as hardware.
    Preferred,
}

/// The codecs at hand. Clones are cheap.
#[derive(Clone, Default)]
pub struct Registry {
    /// Best first.
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    codec: Codec,
    tier: Tier,
    factory: Arc<dyn CodecFactory>,
}

impl Registry {
    /// None at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that this build has.
    pub fn built_in() -> Self {
        let mut registry = Self::new();
        registry.register(Codec::Pcmu, Tier::Standard, Arc::new(G711(Law::Mu)));
        registry.register(Codec::Pcma, Tier::Standard, Arc::new(G711(Law::A)));
        registry.register(Codec::G722, Tier::Standard, Arc::new(G722));
        #[cfg(feature = "opus")]
        registry.register(Codec::Opus, Tier::Standard, Arc::new(Opus));
        #[cfg(feature = "h264")]
        registry.register(Codec::H264, Tier::Standard, Arc::new(OpenH264));
        registry
    }

    /// Adds an implementation of `codec`.
    pub fn register(&mut self, codec: Codec, tier: Tier, factory: Arc<dyn CodecFactory>) {
        let at = self.entries.partition_point(|entry| entry.tier > tier);
        self.entries.insert(at, Entry { codec, tier, factory });
    }

    /// Whether `codec` can be encoded and decoded here: what no leg of a conference may go
    /// without.
    pub fn supports(&self, codec: Codec) -> bool {
        self.implementations(codec).next().is_some()
    }

    /// Names of the implementations of `codec`, best first.
    pub fn names(&self, codec: Codec) -> impl Iterator<Item = &'static str> {
        self.implementations(codec).map(CodecFactory::name)
    }

    /// An encoder in the way that the receiver of `format` wants it.
    pub fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        self.best(format.codec, |factory| factory.audio_encoder(format))
    }

    /// A decoder for what we asked for as `format`.
    pub fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        self.best(format.codec, |factory| factory.audio_decoder(format))
    }

    /// An encoder for the receiver of `format`; `encoding` says what of it is used at first.
    pub fn video_encoder(
        &self,
        format: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError> {
        self.best(format.codec, |factory| factory.video_encoder(format, encoding))
    }

    /// A decoder for what we asked for as `format`, into pictures of `pool`: larger pictures than
    /// the pool has are refused.
    pub fn video_decoder(
        &self,
        format: &VideoFormat,
        pool: Pool,
    ) -> Result<Box<dyn VideoDecoder>, CodecError> {
        self.best(format.codec, |factory| factory.video_decoder(format, pool.clone()))
    }

    fn implementations(&self, codec: Codec) -> impl Iterator<Item = &dyn CodecFactory> {
        self.entries.iter().filter(move |entry| entry.codec == codec).map(|entry| &*entry.factory)
    }

    /// The first that can; else what the last one said.
    fn best<T>(
        &self,
        codec: Codec,
        make: impl Fn(&dyn CodecFactory) -> Result<T, CodecError>,
    ) -> Result<T, CodecError> {
        let mut refusal = CodecError::Unsupported("this build lacks the codec");
        for factory in self.implementations(codec) {
            match make(factory) {
                Ok(made) => return Ok(made),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.iter().map(|entry| (entry.codec, entry.tier, entry.factory.name()));
        f.debug_list().entries(entries).finish()
    }
}

struct G711(Law);

impl CodecFactory for G711 {
    fn name(&self) -> &'static str {
        "own G.711"
    }

    fn audio_encoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        Ok(Box::new(g711::Encoder::new(self.0)))
    }

    fn audio_decoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        Ok(Box::new(g711::Decoder::new(self.0)))
    }
}

struct G722;

impl CodecFactory for G722 {
    fn name(&self) -> &'static str {
        "own G.722"
    }

    fn audio_encoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        Ok(Box::new(g722::Encoder::new()))
    }

    fn audio_decoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        Ok(Box::new(g722::Decoder::new()))
    }
}

#[cfg(feature = "opus")]
struct Opus;

#[cfg(feature = "opus")]
impl CodecFactory for Opus {
    fn name(&self) -> &'static str {
        "libopus"
    }

    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        Ok(Box::new(crate::audio::opus::Encoder::new(format)?))
    }

    fn audio_decoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        Ok(Box::new(crate::audio::opus::Decoder::new()?))
    }
}

#[cfg(feature = "h264")]
struct OpenH264;

#[cfg(feature = "h264")]
impl CodecFactory for OpenH264 {
    fn name(&self) -> &'static str {
        "OpenH264"
    }

    fn video_encoder(
        &self,
        _: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError> {
        Ok(Box::new(crate::video::h264::Encoder::new(encoding)?))
    }

    fn video_decoder(&self, _: &VideoFormat, pool: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Ok(Box::new(crate::video::h264::Decoder::new(pool)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Card {
        stuck: bool,
    }

    impl CodecFactory for Card {
        fn name(&self) -> &'static str {
            "a card"
        }

        fn audio_encoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
            if self.stuck {
                return Err(CodecError::Library { library: "the card", code: 7 });
            }
            Ok(Box::new(g722::Encoder::new()))
        }
    }

    fn rate(registry: &Registry, codec: Codec) -> Result<u32, CodecError> {
        registry.audio_encoder(&AudioFormat::new(codec)).map(|encoder| encoder.sample_rate())
    }

    #[test]
    fn every_built_in_codec_of_sound_works_both_ways() {
        let registry = Registry::built_in();
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
            if !registry.supports(codec) {
                assert!(codec == Codec::Opus && !cfg!(feature = "opus"));
                continue;
            }
            let format = AudioFormat::new(codec);
            let mut encoder = registry.audio_encoder(&format).unwrap();
            let mut decoder = registry.audio_decoder(&format).unwrap();
            let frame = codec.sample_rate() as usize / 50;
            assert_eq!(
                (encoder.sample_rate(), decoder.sample_rate()),
                (codec.sample_rate(), codec.sample_rate())
            );
            let mut packet = [0; 2_000];
            let len = encoder.encode(&vec![100; frame], &mut packet).unwrap();
            assert_eq!(decoder.samples(&packet[..len]), Some(frame));
            assert_eq!(decoder.decode(&packet[..len], &mut vec![0; frame]), Ok(frame));
        }
        assert_eq!(registry.supports(Codec::H264), cfg!(feature = "h264"));
    }

    #[test]
    fn a_better_tier_is_asked_first_and_the_next_one_helps_out() {
        let mut registry = Registry::built_in();
        registry.register(Codec::Pcmu, Tier::Fallback, Arc::new(Card { stuck: false }));
        assert_eq!(rate(&registry, Codec::Pcmu), Ok(8_000));
        registry.register(Codec::Pcmu, Tier::Preferred, Arc::new(Card { stuck: false }));
        assert_eq!(rate(&registry, Codec::Pcmu), Ok(16_000));
        assert_eq!(registry.names(Codec::Pcmu).collect::<Vec<_>>(), ["a card", "own G.711", "a card"]);
        registry.register(Codec::Pcma, Tier::Preferred, Arc::new(Card { stuck: true }));
        assert_eq!(rate(&registry, Codec::Pcma), Ok(8_000));
    }

    #[test]
    fn what_nobody_can_says_why() {
        assert_eq!(
            rate(&Registry::new(), Codec::Pcmu),
            Err(CodecError::Unsupported("this build lacks the codec"))
        );
        let mut registry = Registry::new();
        registry.register(Codec::Pcmu, Tier::Standard, Arc::new(Card { stuck: true }));
        assert_eq!(rate(&registry, Codec::Pcmu), Err(CodecError::Library { library: "the card", code: 7 }));
        assert_eq!(
            registry.audio_decoder(&AudioFormat::new(Codec::Pcmu)).err(),
            Some(CodecError::Unsupported("not a codec of sound"))
        );
    }
}
