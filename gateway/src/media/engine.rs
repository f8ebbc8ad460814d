//! The two lanes as one, for whoever steps them himself.

use std::fmt;
use std::sync::Arc;

use crosspoint_codecs::clock::Instant;

use super::audio::AudioLane;
use super::crew::{Crew, Hands};
use super::handle::{EngineConfig, EngineHandle};
use super::lane::{self, Lane};
use super::parts::Codecs;
use super::video::VideoLane;

/// An engine without threads: [`Self::step`] does what the workers of [`EngineHandle::start`] do.
pub struct Engine {
    pub(super) audio: AudioLane,
    pub(super) video: VideoLane,
    next_audio: Instant,
    next_video: Instant,
}

impl Engine {
    /// An engine and the handle to it. It has no streams yet.
    pub fn new(config: &EngineConfig, codecs: Arc<dyn Codecs>) -> (Self, EngineHandle) {
        Self::with(config, codecs, None)
    }

    /// The same, whose pieces of work may be done by `crew`.
    pub fn with_crew(config: &EngineConfig, codecs: Arc<dyn Codecs>, crew: &Crew) -> (Self, EngineHandle) {
        Self::with(config, codecs, Some(crew))
    }

    fn with(config: &EngineConfig, codecs: Arc<dyn Codecs>, crew: Option<&Crew>) -> (Self, EngineHandle) {
        // Each source is decoded in one piece of work, and each sink and each form of a mix encoded.
        let pieces = 2 * config.streams;
        let sound = crew.map_or_else(|| Hands::own(pieces), |crew| crew.for_sound(pieces));
        let pictures = crew.map_or_else(|| Hands::own(pieces), |crew| crew.for_pictures(pieces));
        let (audio_desk, audio) = lane::mail(config.streams);
        let (video_desk, video) = lane::mail(config.streams);
        let audio = AudioLane::new(config.streams, audio, sound);
        let video = VideoLane::new(config.streams, video, pictures);
        let handle = EngineHandle::new(
            config,
            codecs,
            (audio_desk, audio.counters().clone()),
            (video_desk, video.counters().clone()),
            crew,
        );
        let engine = Self { audio, video, next_audio: Instant::ZERO, next_video: Instant::ZERO };
        (engine, handle)
    }

    /// Does what is due at `now`: a tick of the sound if 20 ms have passed since the last one, a
    /// step of the pictures if 10 ms have. Call it every 10 ms; moments never go back.
    pub fn step(&mut self, now: Instant) {
        if now >= self.next_audio {
            self.next_audio = now + AudioLane::PERIOD;
            self.audio.step(now);
        }
        if now >= self.next_video {
            self.next_video = now + VideoLane::PERIOD;
            self.video.step(now);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (audio, video) = (self.audio.counters().snapshot(), self.video.counters().snapshot());
        f.debug_struct("Engine").field("audio", &audio).field("video", &video).finish_non_exhaustive()
    }
}
