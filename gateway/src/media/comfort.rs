//! A little noise while nobody talks, so that the line does not sound dead.

use crosspoint_codecs::kernels::mix::{Bus, Fade, Gain};

use super::audio::LONGEST_TICK;

/// Samples lie between this and its negative, all alike likely: -70 dBov. A line is quieter than
/// that only where there is none.
const PEAK: i32 = 18;
/// Ticks in which it fades in: half a second, which is not noticed. It goes [`OUT`] times as fast.
const IN: u8 = 25;
const OUT: u8 = 5;

/// The noise of one mix. Not random: the same in every run.
#[derive(Debug)]
pub(super) struct Comfort {
    state: u32,
    /// How far it has faded in, of [`IN`].
    level: u8,
}

impl Comfort {
    pub(super) const fn new() -> Self {
        Self { state: 1, level: 0 }
    }

    /// Adds this tick's share to `sum`, of blocks of `tick` samples, where `alone` says that it
    /// holds nobody.
    pub(super) fn mix(&mut self, alone: bool, sum: &mut Bus, tick: usize) {
        let from = self.level;
        self.level = if alone { (from + 1).min(IN) } else { from.saturating_sub(OUT) };
        if from == 0 && self.level == 0 {
            return;
        }
        let mut room = [0; LONGEST_TICK];
        let block = &mut room[..tick];
        for sample in &mut *block {
            *sample = self.next();
        }
        // Of the tick's length, and one input more than the members.
        let _ = sum.add(block, Fade { from: gain(from), to: gain(self.level) });
    }

    /// A linear congruential generator (Numerical Recipes, section 7.1), whose high bits are the
    /// better ones.
    fn next(&mut self) -> i16 {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let high = i32::from(u16::try_from(self.state >> 16).unwrap_or(0));
        i16::try_from(((high * (2 * PEAK + 1)) >> 16) - PEAK).unwrap_or(0)
    }
}

fn gain(level: u8) -> Gain {
    Gain::of(f32::from(level) / f32::from(IN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosspoint_codecs::kernels::cpu::Cpu;
    use crosspoint_codecs::kernels::level::{SILENCE, level};

    /// Level of each of so many ticks, and what was heard.
    fn run(comfort: &mut Comfort, ticks: usize, alone: bool) -> (Vec<u8>, Vec<i32>) {
        let mut sum = Bus::new(Cpu::detect());
        let mut heard = Vec::new();
        let levels = (0..ticks)
            .map(|_| {
                sum.begin(320).unwrap();
                comfort.mix(alone, &mut sum, 320);
                heard.extend_from_slice(sum.sum());
                let block: Vec<i16> =
                    sum.sum().iter().map(|sample| i16::try_from(*sample).unwrap()).collect();
                level(&block)
            })
            .collect();
        (levels, heard)
    }

    #[test]
    fn it_comes_slowly_stays_at_its_level_and_goes() {
        let mut comfort = Comfort::new();
        assert_eq!(run(&mut comfort, 10, false).0, [SILENCE; 10]);
        let (levels, heard) = run(&mut comfort, 100, true);
        assert!(levels[0] > 90 && levels[12] > 72, "{levels:?}");
        assert!(levels[25..].iter().all(|level| (69..=71).contains(level)), "{levels:?}");
        let mean = heard.iter().sum::<i32>() as f32 / heard.len() as f32;
        assert!(mean.abs() < 0.3, "{mean}");
        let (levels, _) = run(&mut comfort, 10, false);
        assert_eq!(levels[5..], [SILENCE; 5]);
    }

    #[test]
    fn two_runs_are_the_same() {
        let run = || run(&mut Comfort::new(), 100, true).1;
        assert_eq!(run(), run());
    }
}
