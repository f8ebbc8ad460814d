//! What the phones play: a tone, beeps with the flashes of the clip, speech; and the clip itself.

use std::f64::consts::TAU;
use std::time::Duration;

use crosspoint_codecs::format::{AudioFormat, MediaKind};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime};
use crosspoint_codecs::kernels::resample::Resampler;
use crosspoint_codecs::registry::Registry;
use crosspoint_codecs::video::nal::{kind, kind_of, nal_units};

use super::DemoError;
use crate::proof::Wav;

/// How long the tone lasts that each call begins with.
pub(super) const TONE: Duration = Duration::from_secs(4);

/// The beep that belongs to a flash.
pub(super) const BEEP: f64 = 1000.0;
const BEEP_LENGTH: f64 = 0.08;

/// Time between two pictures of the clip.
pub(super) const PICTURE: Duration = Duration::from_millis(40);

/// Time between two packets of sound.
pub(super) const PACKET: Duration = Duration::from_millis(20);

/// A quarter of full scale for tones, a little more for beeps: far from clipping.
const TONE_LEVEL: f64 = 8_000.0;
const BEEP_LEVEL: f64 = 12_000.0;

/// Bytes of the largest packet of sound: 20 ms of any codec of ours.
const LARGEST: usize = 1_500;

const CLIP: &[u8] = include_bytes!("../../fixtures/demo/clip.h264");
const CALLER: &[u8] = include_bytes!("../../fixtures/demo/caller.wav");
const CALLEE: &[u8] = include_bytes!("../../fixtures/demo/callee.wav");

/// A frame and when it goes out, counted from the start of the call's media.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) after: Duration,
    pub(super) frame: EncodedFrame,
}

/// One side's sound.
#[derive(Clone, Debug)]
pub(super) struct Sound {
    /// Hz, from the start, for [`TONE`].
    pub(super) tone: f64,
    /// Full seconds at which a beep begins.
    pub(super) beeps: std::ops::Range<u32>,
    /// When speech begins, and the speech.
    pub(super) speech: Option<(Duration, Wav)>,
    /// The whole.
    pub(super) length: Duration,
}

impl Sound {
    /// The samples at `rate`.
    fn samples(&self, rate: u32) -> Result<Vec<i16>, DemoError> {
        let hertz = f64::from(rate);
        let length = (self.length.as_secs_f64() * hertz) as usize;
        let mut samples = vec![0i16; length];
        add(&mut samples, hertz, 0.0, TONE.as_secs_f64(), self.tone, TONE_LEVEL);
        for second in self.beeps.clone() {
            add(&mut samples, hertz, f64::from(second), BEEP_LENGTH, BEEP, BEEP_LEVEL);
        }
        if let Some((at, speech)) = &self.speech {
            let mut resampler = Resampler::new(speech.rate, rate)?;
            let mut out = vec![0; resampler.output_len(speech.samples.len())];
            resampler.process(&speech.samples, &mut out)?;
            let at = (at.as_secs_f64() * hertz) as usize;
            for (to, from) in samples.iter_mut().skip(at).zip(out) {
                *to = from;
            }
        }
        Ok(samples)
    }

    /// Encoded for who wants `format`.
    pub(super) fn encoded(&self, registry: &Registry, format: &AudioFormat) -> Result<Vec<Due>, DemoError> {
        let mut encoder = registry.audio_encoder(format)?;
        let rate = encoder.sample_rate();
        let samples = self.samples(rate)?;
        let mut room = [0; LARGEST];
        let mut dues = Vec::new();
        let mut after = Duration::ZERO;
        for pcm in samples.chunks_exact(rate as usize / 50) {
            let len = encoder.encode(pcm, &mut room)?;
            dues.push(due(MediaKind::Audio, after, PACKET, true, &room[..len]));
            after += PACKET;
        }
        Ok(dues)
    }
}

/// The first `length` of a speech fixture.
pub(super) fn speech(caller: bool, length: Duration) -> Result<Wav, DemoError> {
    let mut wav = Wav::parse(if caller { CALLER } else { CALLEE })?;
    wav.samples.truncate((length.as_secs_f64() * f64::from(wav.rate)) as usize);
    Ok(wav)
}

/// The clip's access units, in order.
pub(super) fn clip() -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    let mut complete = true;
    for nal in nal_units(CLIP) {
        let slice = [kind::SLICE, kind::IDR].contains(&kind_of(nal));
        // first_mb_in_slice is zero when its one-bit code stands first (7.3.3).
        let first = slice && nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
        if complete && (first || !slice) {
            units.push(Vec::new());
            complete = false;
        }
        if first {
            complete = true;
        }
        if let Some(unit) = units.last_mut() {
            unit.extend_from_slice(&[0, 0, 0, 1]);
            unit.extend_from_slice(nal);
        }
    }
    units
}

/// The clip as it goes out.
pub(super) fn pictures(units: &[Vec<u8>]) -> Vec<Due> {
    let mut after = Duration::ZERO;
    let mut dues = Vec::new();
    for unit in units {
        let keyframe = nal_units(unit).any(|nal| kind_of(nal) == kind::IDR);
        dues.push(due(MediaKind::Main, after, PICTURE, keyframe, unit));
        after += PICTURE;
    }
    dues
}

/// Both in the order of their time.
pub(super) fn together(mut sound: Vec<Due>, pictures: Vec<Due>) -> Vec<Due> {
    sound.extend(pictures);
    sound.sort_by_key(|due| due.after);
    sound
}

fn due(kind: MediaKind, after: Duration, duration: Duration, keyframe: bool, data: &[u8]) -> Due {
    let media_time = MediaTime(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX));
    let data = Data::from_slice(data);
    Due {
        after,
        frame: EncodedFrame { kind, media_time, duration, lost_before: 0, keyframe, level: None, data },
    }
}

fn add(samples: &mut [i16], hertz: f64, from: f64, length: f64, frequency: f64, level: f64) {
    let from = (from * hertz) as usize;
    let count = (length * hertz) as usize;
    for (index, sample) in samples.iter_mut().skip(from).take(count).enumerate() {
        *sample = (level * (TAU * frequency * index as f64 / hertz).sin()).round() as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clip_is_two_hundred_whole_pictures() {
        let units = clip();
        assert_eq!(units.len(), 200);
        let keyframes: Vec<_> = pictures(&units)
            .iter()
            .enumerate()
            .filter(|(_, it)| it.frame.keyframe)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(keyframes, [0, 27, 52, 77, 102, 127, 152, 177]);
    }
}
