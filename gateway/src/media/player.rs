//! Sound that the engine makes itself.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::route::Playback;

/// Level of what is played: 12 dB below a full-scale sine, as loud as a loud voice.
const AMPLITUDE: f64 = 8_231.0;
/// ITU-T E.180 section 6, the cadence of most of the world.
const RINGBACK_HERTZ: f64 = 425.0;
const RINGBACK_ON: u64 = 1;
const RINGBACK_PERIOD: u64 = 5;
/// Samples over which a cadence begins and ends, so that it does not click: 1/200 s.
const EDGE: u64 = 200;

/// Makes the samples of one sink.
#[derive(Debug)]
pub(super) struct Player {
    playback: Playback,
    rate: u64,
    /// Samples made so far.
    at: u64,
    /// The tone as a pointer that turns: one product a sample in place of a sine.
    pointer: (f64, f64),
    turn: (f64, f64),
    /// At this rate.
    clip: Arc<[i16]>,
}

impl Player {
    /// For a sink of `rate`; `clip` is what a [`Playback::Clip`] plays.
    pub(super) fn new(playback: Playback, rate: u32, clip: Arc<[i16]>) -> Self {
        let hertz = match playback {
            Playback::Silence | Playback::Clip { .. } => 0.0,
            Playback::Ringback => RINGBACK_HERTZ,
            Playback::Tone { hertz } => f64::from(hertz),
        };
        // Above half the rate another tone would be heard.
        let hertz = if hertz * 2.0 < f64::from(rate) { hertz } else { 0.0 };
        let (sin, cos) = (TAU * hertz / f64::from(rate.max(1))).sin_cos();
        Self { playback, rate: u64::from(rate.max(1)), at: 0, pointer: (1.0, 0.0), turn: (cos, sin), clip }
    }

    pub(super) fn fill(&mut self, out: &mut [i16]) {
        if matches!(self.playback, Playback::Clip { .. }) {
            let from = usize::try_from(self.at).unwrap_or(usize::MAX).min(self.clip.len());
            let rest = &self.clip[from..];
            let (said, silent) = out.split_at_mut(out.len().min(rest.len()));
            said.copy_from_slice(&rest[..said.len()]);
            silent.fill(0);
            self.at = self.at.saturating_add(u64::try_from(said.len()).unwrap_or(0));
            return;
        }
        for sample in out.iter_mut() {
            let ((x, y), (cos, sin)) = (self.pointer, self.turn);
            self.pointer = (x * cos - y * sin, x * sin + y * cos);
            let value = y * AMPLITUDE * self.gain();
            #[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
            let rounded = value.round() as i16;
            *sample = rounded;
            self.at = self.at.wrapping_add(1);
        }
        // Rounding lets the pointer grow or shrink by 1e-16 a turn: put it right once a tick.
        let length = self.pointer.0.hypot(self.pointer.1);
        if length > 0.5 {
            self.pointer = (self.pointer.0 / length, self.pointer.1 / length);
        }
    }

    fn gain(&self) -> f64 {
        match self.playback {
            Playback::Silence | Playback::Clip { .. } => 0.0,
            Playback::Tone { .. } => 1.0,
            Playback::Ringback => {
                let at = self.at % (RINGBACK_PERIOD * self.rate);
                let on = RINGBACK_ON * self.rate;
                let edge = self.rate / EDGE;
                let inside = at.min(on.saturating_sub(at)).min(edge);
                #[allow(clippy::cast_precision_loss, reason = "a few hundred samples")]
                let gain = inside as f64 / edge.max(1) as f64;
                gain
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clip::ClipId;
    use super::*;

    fn made(playback: Playback, rate: u32, seconds: usize) -> Vec<i16> {
        let tick = usize::try_from(rate / 50).unwrap();
        let mut player = Player::new(playback, rate, (0..1_000).map(|n| n + 1).collect());
        let mut all = Vec::new();
        for _ in 0..seconds * 50 {
            let mut block = vec![1; tick];
            player.fill(&mut block);
            all.extend(block);
        }
        all
    }

    fn loudest(samples: &[i16]) -> u16 {
        samples.iter().map(|s| s.unsigned_abs()).max().unwrap()
    }

    #[test]
    fn ringback_is_on_for_a_second_and_off_for_four() {
        for rate in [8_000, 16_000, 48_000] {
            let samples = made(Playback::Ringback, rate, 10);
            for (second, part) in samples.chunks(usize::try_from(rate).unwrap()).enumerate() {
                let crossings = part.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
                match second % 5 {
                    0 => assert!((845..=855).contains(&crossings), "{crossings} crossings at {rate}"),
                    _ => assert_eq!(loudest(part), 0),
                }
            }
            let steps = samples.windows(2).map(|pair| i32::from(pair[0]).abs_diff(i32::from(pair[1])));
            let steepest = 8_300.0 * TAU * 425.0 / f64::from(rate) * 1.05;
            assert!(f64::from(steps.max().unwrap()) < steepest, "a click");
        }
    }

    #[test]
    fn a_tone_stays_at_its_level_for_an_hour_and_silence_is_silent() {
        let samples = made(Playback::Tone { hertz: 1_000 }, 8_000, 3_600);
        let last = &samples[samples.len() - 8_000..];
        assert!((8_200..=8_240).contains(&loudest(last)), "{}", loudest(last));
        assert_eq!(loudest(&made(Playback::Silence, 8_000, 1)), 0);
        let clip = made(Playback::Clip { clip: ClipId(1), turn: 0 }, 8_000, 1);
        assert!(clip[..1_000].iter().zip(1..).all(|(sample, n)| *sample == n), "each sample once");
        assert_eq!(loudest(&clip[1_000..]), 0, "then silence");
        assert_eq!(loudest(&made(Playback::Tone { hertz: 5_000 }, 8_000, 1)), 0);
    }
}
