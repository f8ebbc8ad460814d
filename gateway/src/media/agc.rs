//! Everybody as loud as the others: a slow gain for each member of a room.
//!
//! It follows the active speech level of ITU-T P.56 (the mean power of the time in which somebody
//! speaks; pauses up to 200 ms belong to it) and moves towards the gain that brings this to the
//! target. Slow enough that nobody hears it move: never in silence, never in the first moment of a
//! sentence, some dB a second at most.

use crosspoint_codecs::kernels::mix::Gain;

/// The level that speech is brought to, -dBov: what the networks' test signals are levelled to
/// (ITU-T P.56 for the measure, P.830 for the level).
const TARGET: f32 = 26.0;
/// Gains in dB at most, either way. More would lift the noise of a line into the room, and a
/// [`Gain`] ends there.
const MOST: f32 = 12.0;
/// dB a tick at most: 3 dB a second.
const STEP: f32 = 3.0 / 50.0;
/// Ticks for which nothing moves after speech has begun, and which a pause is short of that does not
/// begin it anew: 200 ms.
const ONSET: u16 = 10;
/// Ticks of speech over which its power is averaged: 3 s.
const MEMORY: u16 = 150;

/// The gain of one member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agc {
    /// Mean power of speech, of full scale, and of how many ticks, [`MEMORY`] at most.
    power: f32,
    heard: u16,
    /// Ticks since speech began, and since it was there last.
    since: u16,
    quiet: u16,
    decibel: f32,
    gain: Gain,
}

impl Agc {
    /// Of somebody who has not been heard yet: nothing is changed.
    pub(super) const NEW: Self =
        Self { power: 0.0, heard: 0, since: 0, quiet: ONSET, decibel: 0.0, gain: Gain::ONE };

    /// This tick's level in -dBov, and whether that is speech.
    pub(super) fn hear(&mut self, level: u8, speaks: bool) {
        if speaks {
            self.quiet = 0;
        } else {
            self.quiet = self.quiet.saturating_add(1);
            if self.quiet >= ONSET {
                self.since = 0;
                return;
            }
        }
        self.since = self.since.saturating_add(1);
        self.heard = (self.heard + 1).min(MEMORY);
        let power = 10f32.powf(-f32::from(level) / 10.0);
        self.power += (power - self.power) / f32::from(self.heard);
        if speaks && self.since > ONSET {
            self.follow();
        }
    }

    /// What the member's sound is multiplied with.
    pub(super) const fn gain(&self) -> Gain {
        self.gain
    }

    fn follow(&mut self) {
        let level = -10.0 * self.power.max(f32::MIN_POSITIVE).log10();
        let wanted = (level - TARGET).clamp(-MOST, MOST);
        self.decibel += (wanted - self.decibel).clamp(-STEP, STEP);
        self.gain = Gain::of(10f32.powf(self.decibel / 20.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u32 = 50;

    /// Gain in dB after each of so many ticks of one level.
    fn run(agc: &mut Agc, ticks: u32, level: u8, speaks: bool) -> Vec<f32> {
        (0..ticks)
            .map(|_| {
                agc.hear(level, speaks);
                agc.decibel
            })
            .collect()
    }

    #[test]
    fn speech_is_brought_to_the_target_slowly() {
        for (level, wanted) in [(34, 8.0), (20, -6.0), (26, 0.0), (60, 12.0), (5, -12.0)] {
            let mut agc = Agc::NEW;
            let gains = run(&mut agc, 6 * SECOND, level, true);
            assert!((gains[gains.len() - 1] - wanted).abs() < 0.1, "{level}: {:?}", gains.last());
            let fastest = gains.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
            assert!(fastest * 50.0 < 3.01, "{level}: {fastest} dB a tick");
            assert_eq!(agc.gain(), Gain::of(10f32.powf(agc.decibel / 20.0)));
        }
    }

    #[test]
    fn nothing_moves_in_silence_nor_at_the_onset() {
        let mut agc = Agc::NEW;
        assert_eq!(run(&mut agc, 60 * SECOND, 80, false).last(), Some(&0.0));
        let gains = run(&mut agc, SECOND, 40, true);
        assert!(gains[..10].iter().all(|gain| *gain == 0.0));
        assert!(gains[10] > 0.0);
        let stands = gains[gains.len() - 1];
        // A pause freezes it, and after a long one the first 200 ms are waited for again.
        assert!(run(&mut agc, 10 * SECOND, 80, false).iter().all(|gain| *gain == stands));
        assert!(run(&mut agc, 10, 40, true).iter().all(|gain| *gain == stands));
        assert!(run(&mut agc, 1, 40, true)[0] > stands);
        // After a short one they are not.
        run(&mut agc, 5, 80, false);
        let before = agc.decibel;
        assert!(run(&mut agc, 1, 40, true)[0] > before);
    }

    #[test]
    fn a_shout_moves_it_by_no_more_than_it_may() {
        let mut agc = Agc::NEW;
        run(&mut agc, 10 * SECOND, 26, true);
        let gains = run(&mut agc, SECOND / 2, 6, true);
        assert!((-1.6..0.0).contains(gains.last().unwrap()), "{gains:?}");
    }
}
