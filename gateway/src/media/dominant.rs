//! Who leads the talk of a room: the one whom a layout shows large.
//!
//! The method of Volfin and Cohen, "Dominant speaker identification for multipoint
//! videoconferencing" (Computer Speech and Language 27, 2013). How long somebody has spoken counts
//! on three scales, each of which counts the active parts of the one before:
//!
//! ```text
//! immediate   steps of 2 dB above the noise        of 13    this tick
//! medium      ticks that are active                of  5    the last 100 ms
//! long        stretches of 100 ms that are active  of 10    the last second
//! ```
//!
//! A count is scored by how much likelier speech makes it than noise does: of `n` parts speech has
//! a binomial number active, noise an exponential one. Somebody takes over when all three scores
//! speak for speech and each is clearly better than that of who leads. A cough wins the short
//! scales and loses the long one.
//!
//! The paper counts sub-bands of a spectrum; a level is all that a sender tells (RFC 6464), so the
//! immediate scale counts steps of that. And it compares ratios of scores, where differences of
//! logarithms also hold for scores below zero.

use crosspoint_codecs::kernels::level::SILENCE;

/// Parts of each scale.
const IMMEDIATE: usize = 13;
const MEDIUM: usize = 5;
const LONG: usize = 10;
/// Steps above the noise from which a tick is active: 8 dB.
const ACTIVE_STEPS: u8 = 4;
/// Active ticks of [`MEDIUM`] from which a stretch is.
const ACTIVE_TICKS: u32 = 3;
/// How likely a part is active while somebody speaks. Half the time, as in the paper, would be
/// enough with spectra; levels of running speech lie above the noise but for the gaps of words.
const SPEECH: f32 = 0.8;
/// Rates of the exponential distributions: so that speech is likelier from 6 of 13 steps (12 dB),
/// 3 of 5 ticks and 5 of 10 stretches (half a second) on, and more is never less likely.
const NOISE: [f32; 3] = [1.2, 0.9, 0.95];
/// By how much a challenger has to be likelier than who leads, on each scale.
const CLEARLY: [f32; 3] = [3.0, 2.0, 1.0];

/// Loudness is told in 1/256 dB above silence here.
const DB: i32 = 256;
const STEP: i32 = 2 * DB;
/// The noise of a line is somewhere between -60 and -40 dBov. It is taken for high until something
/// quieter is heard, so that a steady hum does not begin as speech.
const LEAST_NOISE: i32 = (SILENCE as i32 - 60) * DB;
const MOST_NOISE: i32 = (SILENCE as i32 - 40) * DB;
/// What stays is noise: its estimate rises by 3 dB a second and falls at once, in the next gap
/// between two words.
const NOISE_RISES: i32 = 3 * DB / 50;

/// What is remembered of one member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    noise: i32,
    /// Steps above the noise in this tick.
    steps: u8,
    /// The last ticks and the last stretches, a bit each: active or not.
    ticks: u8,
    stretches: u16,
    /// Ticks of the present stretch.
    passed: u8,
}

impl Voice {
    /// Somebody who has not been heard yet.
    pub(super) const NEW: Self = Self { noise: MOST_NOISE, steps: 0, ticks: 0, stretches: 0, passed: 0 };

    /// This tick's level in -dBov.
    pub(super) fn hear(&mut self, level: u8) {
        let loudness = i32::from(SILENCE.saturating_sub(level)) * DB;
        let above = (loudness - self.noise) / STEP;
        self.steps = u8::try_from(above.clamp(0, STEPS)).unwrap_or(0);
        self.noise = loudness.min(self.noise + NOISE_RISES).clamp(LEAST_NOISE, MOST_NOISE);
        self.ticks = (self.ticks << 1 | u8::from(self.active())) & MEDIUM_MASK;
        self.passed += 1;
        if usize::from(self.passed) == MEDIUM {
            self.passed = 0;
            let active = self.ticks.count_ones() >= ACTIVE_TICKS;
            self.stretches = (self.stretches << 1 | u16::from(active)) & LONG_MASK;
        }
    }

    /// Whether this tick is clearly above the noise.
    pub(super) const fn active(&self) -> bool {
        self.steps >= ACTIVE_STEPS
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "13")]
const STEPS: i32 = IMMEDIATE as i32;
const MEDIUM_MASK: u8 = (1 << MEDIUM) - 1;
const LONG_MASK: u16 = (1 << LONG) - 1;

/// Who leads, and what each count of the three scales is worth.
#[derive(Debug)]
pub(super) struct Dominance {
    leads: Option<usize>,
    immediate: [f32; IMMEDIATE + 1],
    medium: [f32; MEDIUM + 1],
    long: [f32; LONG + 1],
}

impl Dominance {
    /// Nobody leads yet.
    pub(super) fn new() -> Self {
        let [immediate, medium, long] = NOISE;
        Self { leads: None, immediate: scores(immediate), medium: scores(medium), long: scores(long) }
    }

    /// Who leads after this tick, of `voices` that have heard it. Who leads stays until somebody
    /// else takes over, silent or not.
    pub(super) fn choose(&mut self, voices: &[Voice]) -> Option<usize> {
        let leads = self.leads.and_then(|leads| voices.get(leads)).map(|voice| self.score(voice));
        let mut best: Option<(usize, [f32; 3])> = None;
        // Without one active stretch nobody can win: most of a large room ends here.
        for (at, voice) in voices.iter().enumerate().filter(|(_, voice)| voice.stretches != 0) {
            let score = self.score(voice);
            let wins = score.iter().all(|score| *score > 0.0)
                && leads.is_none_or(|leads| (0..3).all(|scale| score[scale] - leads[scale] > CLEARLY[scale]));
            let better = |(_, best): &(usize, [f32; 3])| score[2] + score[1] > best[2] + best[1];
            if wins && self.leads != Some(at) && best.as_ref().is_none_or(better) {
                best = Some((at, score));
            }
        }
        if let Some((at, _)) = best {
            self.leads = Some(at);
        }
        self.leads
    }

    /// The member in `slot` is gone.
    pub(super) fn forget(&mut self, slot: usize) {
        self.leads = self.leads.filter(|leads| *leads != slot);
    }

    fn score(&self, voice: &Voice) -> [f32; 3] {
        let count = |ones: u32| usize::try_from(ones).unwrap_or(0);
        [
            self.immediate[usize::from(voice.steps)],
            self.medium[count(voice.ticks.count_ones())],
            self.long[count(voice.stretches.count_ones())],
        ]
    }
}

/// For each number of active parts of `COUNTS - 1`: the logarithm of how likely speech makes it,
/// less that for noise of this rate.
fn scores<const COUNTS: usize>(rate: f32) -> [f32; COUNTS] {
    let parts = COUNTS - 1;
    // The logarithm of the binomial coefficient, from one count to the next.
    let mut choices = 0.0f32;
    std::array::from_fn(|active| {
        let (k, rest) = (active as f32, (parts - active) as f32);
        if active > 0 {
            choices += ((rest + 1.0) / k).ln();
        }
        let speech = choices + k * SPEECH.ln() + rest * (1.0 - SPEECH).ln();
        let noise = rate.ln() - rate * k;
        speech - noise
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: usize = 50;

    /// Ticks of running speech around -25 dBov: syllables of 160 ms, gaps of 60 ms between them, a
    /// breath of 300 ms every two seconds.
    fn speech(tick: usize) -> u8 {
        match (tick % 100, tick % 11) {
            (85.., _) => 70,
            (_, 8..) => 48,
            (_, syllable) => [33, 25, 22, 24, 23, 27, 24, 30][syllable],
        }
    }

    struct Room {
        voices: Vec<Voice>,
        dominance: Dominance,
        tick: usize,
    }

    impl Room {
        /// So many, the first of whom leads.
        fn led(members: usize) -> Self {
            let mut room = Self { voices: vec![Voice::NEW; members], dominance: Dominance::new(), tick: 0 };
            room.run(SECOND, |_, _| 70);
            assert_eq!(room.dominance.leads, None);
            room.run(2 * SECOND, |member, tick| if member == 0 { speech(tick) } else { 70 });
            assert_eq!(room.dominance.leads, Some(0));
            room
        }

        /// Who led at each of so many ticks; `level` is asked for each member, from tick 0 on.
        fn run(&mut self, ticks: usize, level: impl Fn(usize, usize) -> u8) -> Vec<Option<usize>> {
            (0..ticks)
                .map(|tick| {
                    for (member, voice) in self.voices.iter_mut().enumerate() {
                        voice.hear(level(member, tick));
                    }
                    self.tick += 1;
                    self.dominance.choose(&self.voices)
                })
                .collect()
        }
    }

    #[test]
    fn more_is_never_less_likely_speech_and_the_turning_points_are_where_they_should_be() {
        let dominance = Dominance::new();
        let turns = |scores: &[f32]| {
            assert!(scores.is_sorted(), "{scores:?}");
            scores.iter().position(|score| *score > 0.0)
        };
        assert_eq!(turns(&dominance.immediate), Some(6));
        assert_eq!(turns(&dominance.medium), Some(3));
        assert_eq!(turns(&dominance.long), Some(5));
    }

    #[test]
    fn two_seconds_of_speech_take_over_within_about_one() {
        for phase in 0..100 {
            let mut room = Room::led(3);
            room.run(phase, |member, tick| if member == 0 { speech(tick) } else { 70 });
            let led = room.run(2 * SECOND, |member, tick| if member == 2 { speech(tick) } else { 70 });
            let after = led.iter().position(|leads| *leads == Some(2)).expect("takes over");
            assert!((SECOND * 2 / 5..=SECOND * 11 / 10).contains(&after), "after {after} ticks at {phase}");
            assert!(led[after..].iter().all(|leads| *leads == Some(2)));
        }
    }

    #[test]
    fn a_cough_changes_nothing_whether_somebody_speaks_or_not() {
        for phase in 0..20 {
            for speaks in [true, false] {
                let mut room = Room::led(3);
                room.run(SECOND + phase, |_, _| 70);
                let led = room.run(3 * SECOND, |member, tick| match member {
                    0 if speaks => speech(tick),
                    // As loud as can be.
                    1 if (40..55).contains(&tick) => 3,
                    _ => 70,
                });
                assert!(led.iter().all(|leads| *leads == Some(0)), "{speaks} {phase}");
            }
        }
    }

    #[test]
    fn two_who_agree_in_turn_do_not_take_over() {
        for speaks in [true, false] {
            let mut room = Room::led(3);
            // 240 ms of "mm" each, every 800 ms, one after the other.
            let mm = |tick: usize| if tick % 40 < 12 { 20 } else { 70 };
            let led = room.run(20 * SECOND, |member, tick| match member {
                0 if speaks => speech(tick),
                1 => mm(tick),
                2 => mm(tick + 20),
                _ => 70,
            });
            assert!(led.iter().all(|leads| *leads == Some(0)), "{speaks}");
        }
    }

    #[test]
    fn two_who_speak_at_once_do_not_chase_each_other() {
        let mut room = Room::led(2);
        let led = room.run(10 * SECOND, |member, tick| speech(tick + 5 * member).saturating_sub(6));
        let changes = led.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes <= 2, "{changes} changes in 10 s");
    }

    #[test]
    fn noise_does_not_lead_and_one_who_speaks_over_it_does() {
        let mut room = Room { voices: vec![Voice::NEW; 2], dominance: Dominance::new(), tick: 0 };
        let hum = |tick: usize| if tick.is_multiple_of(2) { 42 } else { 44 };
        let led = room.run(20 * SECOND, |member, tick| if member == 0 { hum(tick) } else { 127 });
        assert!(led.iter().all(Option::is_none));
        let led = room.run(2 * SECOND, |member, tick| match member {
            0 => hum(tick).min(speech(tick)),
            _ => 127,
        });
        assert_eq!(led.last(), Some(&Some(0)));
    }

    #[test]
    fn who_leads_stays_when_silent_and_is_forgotten_when_gone() {
        let mut room = Room::led(2);
        assert!(room.run(60 * SECOND, |_, _| 127).iter().all(|leads| *leads == Some(0)));
        room.dominance.forget(1);
        assert_eq!(room.dominance.leads, Some(0));
        room.dominance.forget(0);
        room.voices[0] = Voice::NEW;
        assert_eq!(room.run(1, |_, _| 127), [None]);
        // From the breath on, so that the noise is known.
        let led = room.run(2 * SECOND, |member, tick| if member == 1 { speech(tick + 85) } else { 70 });
        assert_eq!(led.last(), Some(&Some(1)));
    }
}
