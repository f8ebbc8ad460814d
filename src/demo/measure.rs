//! What a recording shows: sound laid out in time, pictures decoded, and their measures.

use std::time::Duration;

use crosspoint_codecs::codec::Decoded;
use crosspoint_codecs::format::{AudioFormat, VideoFormat};
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::Arrival;
use crosspoint_proto::Instant;

use super::DemoError;
use crate::proof::{Wav, onsets, psnr};

/// Longest sound that a phone lays out: what is further away is a broken time stamp.
const LONGEST: Duration = Duration::from_secs(120);

/// Samples of the longest packet of any codec of ours: 120 ms of Opus.
const LONGEST_PACKET: usize = 5_760;

/// Below this (dB of full scale) a tone or a beep has not begun.
const FLOOR: f64 = -30.0;

/// The clip's picture, and its squares that spell the picture's number.
const CLIP_SIZE: (usize, usize) = (640, 360);
const SQUARE: usize = 40;
const SQUARES_TOP: usize = 320;

/// The part of a picture that flashes, and how bright a flash is.
const FLASH_PART: (usize, usize) = (300, 360);
const FLASH: f64 = 200.0;

/// A flash and a beep further apart than this belong to different seconds.
const PAIR: f64 = 0.5;

/// Speech is compared in windows of 20 ms, shifted by up to this many: a playout may make a pause
/// shorter or longer.
const SHIFT: usize = 15;

/// Windows of speech that are compared in one piece: a second.
const PIECE: usize = 50;

/// Sound as it was heard.
pub(super) struct Heard {
    pub(super) wav: Wav,
    /// First sample and arrival of each packet.
    marks: Vec<(usize, Instant)>,
}

impl Heard {
    /// Decodes what arrived and lays it out by its media time: what is missing is silence.
    pub(super) fn new(
        registry: &Registry,
        format: &AudioFormat,
        arrivals: &[Arrival],
    ) -> Result<Self, DemoError> {
        let mut decoder = registry.audio_decoder(format)?;
        let rate = decoder.sample_rate();
        let mut it = Self { wav: Wav { rate, samples: Vec::new() }, marks: Vec::new() };
        let Some(first) = arrivals.first() else { return Ok(it) };
        let mut room = vec![0; LONGEST_PACKET];
        for arrival in arrivals {
            let count = decoder.decode(&arrival.frame.data, &mut room)?;
            let nanos = arrival.frame.media_time.nanos_since(first.frame.media_time);
            let at = (nanos as f64 * f64::from(rate) / 1e9).round();
            if !(0.0..LONGEST.as_secs_f64() * f64::from(rate)).contains(&at) {
                continue;
            }
            let at = at as usize;
            if it.wav.samples.len() < at + count {
                it.wav.samples.resize(at + count, 0);
            }
            it.wav.samples[at..at + count].copy_from_slice(&room[..count]);
            it.marks.push((at, arrival.at));
        }
        Ok(it)
    }

    /// When a sample reached the phone.
    fn arrived(&self, sample: usize) -> Option<Instant> {
        let after = self.marks.partition_point(|(at, _)| *at <= sample);
        let (first, at) = self.marks.get(after.checked_sub(1)?)?;
        Some(*at + Duration::from_secs_f64((sample - first) as f64 / f64::from(self.wav.rate)))
    }

    /// Where the tone that a call begins with sets in.
    pub(super) fn tone_begins(&self, frequency: f64) -> Option<Duration> {
        onsets(&self.wav.samples, self.wav.rate, frequency, FLOOR).into_iter().next()
    }

    /// When each beep reached the phone.
    pub(super) fn beeps(&self, frequency: f64) -> Vec<Instant> {
        onsets(&self.wav.samples, self.wav.rate, frequency, FLOOR)
            .into_iter()
            .filter_map(|at| self.arrived((at.as_secs_f64() * f64::from(self.wav.rate)) as usize))
            .collect()
    }

    /// A part of it.
    pub(super) fn part(&self, from: Duration, to: Duration) -> &[i16] {
        let sample = |at: Duration| {
            ((at.as_secs_f64() * f64::from(self.wav.rate)) as usize).min(self.wav.samples.len())
        };
        self.wav.samples.get(sample(from)..sample(to)).unwrap_or(&[])
    }

    /// How well the speech that should begin at `at` follows `spoken`: the correlation of their
    /// envelopes, and their difference in level in dB. Piece by piece, for a playout that keeps its
    /// depth moves the later ones.
    pub(super) fn speech(&self, at: Duration, spoken: &Wav) -> (f64, f64) {
        let model = envelope(&spoken.samples, spoken.rate);
        let margin = Duration::from_millis(20 * SHIFT as u64);
        let heard = envelope(self.part(at.saturating_sub(margin), LONGEST), self.wav.rate);
        let (mut alike, mut weight, mut power) = (0.0, 0.0, 0.0);
        for (index, piece) in model.chunks_exact(PIECE).enumerate() {
            let from = index * PIECE;
            let best = (from..=from + 2 * SHIFT)
                .filter_map(|from| heard.get(from..from + PIECE))
                .map(|window| (correlation(piece, window), energy(window)))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let (correlation, heard) = best.unwrap_or((0.0, 0.0));
            // A pause has little to say.
            alike += correlation * energy(piece);
            weight += energy(piece);
            power += heard;
        }
        (alike / weight.max(1e-9), 10.0 * (power.max(1e-9) / weight.max(1e-9)).log10())
    }
}

/// One picture as it was seen.
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) frame: VideoFrame,
}

/// Decodes pictures one by one.
pub(super) fn watch<'a>(
    registry: &Registry,
    format: &VideoFormat,
    units: impl Iterator<Item = (Instant, &'a [u8])>,
    mut see: impl FnMut(Seen),
) -> Result<(), DemoError> {
    let pool = Pool::new(4, VideoFrame::bytes(1280, 720));
    let mut decoder = registry.video_decoder(format, pool)?;
    for (at, unit) in units {
        if let Ok(Decoded::Picture { frame, concealed: false }) = decoder.decode(unit) {
            see(Seen { at, frame });
        }
    }
    Ok(())
}

/// The number that a picture of the clip carries, at whatever size it came.
pub(super) fn number(frame: &VideoFrame) -> usize {
    let (wide, high) = (frame.width(), frame.height());
    let line = (SQUARES_TOP + SQUARE / 2) * high / CLIP_SIZE.1;
    (0..8)
        .filter(|bit| {
            let column = (bit * SQUARE + SQUARE / 2) * wide / CLIP_SIZE.0;
            // The middle of the square: its edges are blurred.
            let around = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| (line + y) * wide + column + x);
            let sum: u32 = around.iter().map(|at| u32::from(frame.y().get(*at).copied().unwrap_or(0))).sum();
            sum / 4 > 127
        })
        .map(|bit| 1 << bit)
        .sum()
}

/// Whether a picture is one of a flash.
pub(super) fn flashes(frame: &VideoFrame) -> bool {
    let lines = frame.height() * FLASH_PART.0 / FLASH_PART.1;
    let part = frame.y().get(..lines * frame.width()).unwrap_or(&[]);
    let sum: u64 = part.iter().map(|luma| u64::from(*luma)).sum();
    sum as f64 / part.len().max(1) as f64 > FLASH
}

/// How close `seen` is to `shown`, which is scaled to its size first: PSNR of luma in dB.
pub(super) fn likeness(seen: &VideoFrame, shown: &VideoFrame) -> Result<f64, DemoError> {
    let (from, to) = ((shown.width(), shown.height()), (seen.width(), seen.height()));
    if from == to {
        return Ok(psnr(seen.y(), shown.y()).psnr);
    }
    let mut scaler = Scaler::new(from, to)?;
    let pool = Pool::new(1, VideoFrame::bytes(to.0, to.1));
    let mut fault = Ok(());
    let scaled = VideoFrame::new(&pool, to.0, to.1, |mut planes| {
        fault = scaler.scale(shown, &mut planes, to.0, (0, 0));
    });
    fault?;
    Ok(scaled.map_or(f64::NEG_INFINITY, |scaled| psnr(seen.y(), scaled.y()).psnr))
}

/// How far each beep came after its flash, in ms.
pub(super) fn skews(flashes: &[Instant], beeps: &[Instant]) -> Vec<f64> {
    let seconds = |it: &Instant| it.as_nanos() as f64 / 1e9;
    beeps
        .iter()
        .filter_map(|beep| {
            let apart = flashes.iter().map(|flash| seconds(beep) - seconds(flash));
            apart.filter(|it| it.abs() < PAIR).min_by(|a, b| a.abs().total_cmp(&b.abs()))
        })
        .map(|apart| apart * 1e3)
        .collect()
}

/// The value at `part` (0 to 1) of the sorted values; not a number without any.
pub(super) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (part * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// RMS of windows of 20 ms.
fn envelope(samples: &[i16], rate: u32) -> Vec<f64> {
    let power = |chunk: &[i16]| {
        chunk.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>() / chunk.len().max(1) as f64
    };
    samples.chunks_exact((rate as usize / 50).max(1)).map(|chunk| power(chunk).sqrt()).collect()
}

fn energy(envelope: &[f64]) -> f64 {
    envelope.iter().map(|it| it * it).sum()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let count = a.len().min(b.len()).max(1) as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - mean_a, y - mean_b);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab / (aa * bb).sqrt().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_is_known_by_its_envelope_and_not_by_another() {
        let wave = |beat: f64| -> Vec<i16> {
            (0..16_000)
                .map(|n| {
                    let t = f64::from(n) / 8_000.0;
                    (8_000.0 * (t * beat).sin().abs() * (t * 2_000.0).sin()) as i16
                })
                .collect()
        };
        let spoken = Wav { rate: 8_000, samples: wave(9.0) };
        let mut samples = vec![0; 8_000];
        samples.extend(wave(9.0));
        let heard = Heard { wav: Wav { rate: 8_000, samples }, marks: Vec::new() };
        let (alike, level) = heard.speech(Duration::from_millis(1_100), &spoken);
        assert!(alike > 0.99 && level.abs() < 0.1, "{alike} {level}");
        let other = Wav { rate: 8_000, samples: wave(23.0) };
        assert!(heard.speech(Duration::from_millis(1_000), &other).0 < 0.5);
    }

    #[test]
    fn beeps_belong_to_the_nearest_flash() {
        let at = Instant::from_millis;
        let apart = skews(&[at(1_000), at(2_000)], &[at(1_030), at(1_980), at(9_000)]);
        let rounded: Vec<_> = apart.iter().map(|it| it.round()).collect();
        assert_eq!(rounded, [30.0, -20.0]);
        assert!(percentile(&[3.0, 1.0, 2.0], 0.5) > 1.9 && percentile(&[], 0.5).is_nan());
    }
}
