//! Concealment of lost packets for codecs that bring none: the last pitch cycles go on and fade,
//! after the idea of G.711 Appendix I, but without its 3.75 ms of added delay. In place of the
//! blend before the gap, which needs that delay, the step at the gap's start is faded out.

use super::saturate_f32;

/// Pitch is sought between 66 and 200 Hz; higher voices are met by a multiple of their period.
const LONGEST_PITCH_US: usize = 15_000;
const SHORTEST_PITCH_US: usize = 5_000;
/// Sound that two candidates are compared over.
const COMPARED_US: usize = 20_000;
/// The gap's first 10 ms repeat one pitch cycle, the next two, then three: repeating one cycle
/// for longer sounds like a buzzer.
const STAGE_US: usize = 10_000;
const STAGES: usize = 3;
/// Full level for 10 ms, then down to nothing at 60 ms: longer cycles are invented sound.
const HOLD_US: usize = 10_000;
const SILENT_US: usize = 60_000;
/// The end of a gap is blended over 4 ms and 4 ms more for each 10 ms lost, at most 10 ms.
const BLEND_US: usize = 4_000;
const LONGEST_BLEND_US: usize = 10_000;

/// Goes on with a voice where packets are missing.
pub(crate) struct Concealer {
    rate: usize,
    /// The last sound, heard or invented, oldest first.
    past: Box<[f32]>,
    /// The past as it was when the gap began.
    origin: Box<[f32]>,
    /// What a gap repeats, and the one before it while they are blended.
    cycles: Cycles,
    before: Cycles,
    /// Samples invented since the last good one.
    lost: usize,
    /// `lost` when the cycles were last replaced; the two are blended from there.
    turned: usize,
    pitch: usize,
    /// What is left between the last good sample and the cycle that follows it.
    step: f32,
}

/// Some pitch cycles, repeated without a seam.
struct Cycles {
    samples: Box<[f32]>,
    len: usize,
    at: usize,
}

impl Concealer {
    pub(crate) fn new(rate: u32) -> Self {
        let rate = usize::try_from(rate).unwrap_or(8_000);
        let longest = samples_of(LONGEST_PITCH_US, rate);
        let past = (STAGES * longest + longest / 4).max(samples_of(COMPARED_US, rate) + longest);
        Self {
            rate,
            past: vec![0.0; past].into(),
            origin: vec![0.0; past].into(),
            cycles: Cycles::new(STAGES * longest),
            before: Cycles::new(STAGES * longest),
            lost: 0,
            turned: 0,
            pitch: longest,
            step: 0.0,
        }
    }

    /// A packet came: `pcm` is what it decodes to. Its start is blended with the gap before it.
    pub(crate) fn heard(&mut self, pcm: &mut [i16]) {
        if self.lost > 0 {
            let tens = self.lost.div_ceil(samples_of(STAGE_US, self.rate));
            let blend = samples_of((BLEND_US * tens).clamp(BLEND_US, LONGEST_BLEND_US), self.rate);
            for (n, sample) in pcm.iter_mut().take(blend).enumerate() {
                let good = ratio(n + 1, blend + 1);
                let invented = self.invent();
                *sample = saturate_f32(f32::from(*sample) * good + invented * (1.0 - good));
            }
            self.lost = 0;
        }
        self.remember(pcm);
    }

    /// Fills `pcm` with a guess.
    pub(crate) fn conceal(&mut self, pcm: &mut [i16]) {
        if self.lost == 0 {
            self.begin();
        }
        for sample in &mut *pcm {
            *sample = saturate_f32(self.invent());
        }
        self.remember(pcm);
    }

    pub(crate) fn reset(&mut self) {
        self.past.fill(0.0);
        self.lost = 0;
    }

    fn remember(&mut self, pcm: &[i16]) {
        let kept = pcm.len().min(self.past.len());
        self.past.copy_within(kept.., 0);
        let newest = self.past.len() - kept;
        for (past, sample) in self.past[newest..].iter_mut().zip(&pcm[pcm.len() - kept..]) {
            *past = f32::from(*sample);
        }
    }

    fn begin(&mut self) {
        self.origin.copy_from_slice(&self.past);
        self.pitch = self.find_pitch();
        self.cycles.fill(&self.origin, self.pitch, 1);
        self.turned = 0;
        let end = self.past.len();
        self.step = self.past[end - 1] - self.past[end - 1 - self.pitch];
    }

    /// The next invented sample.
    fn invent(&mut self) -> f32 {
        let stage = samples_of(STAGE_US, self.rate);
        let blend = (self.pitch / 4).max(1);
        if self.lost > 0 && self.lost.is_multiple_of(stage) && self.lost / stage < STAGES {
            // More cycles from here on, in step with the ones before and blended with them.
            std::mem::swap(&mut self.cycles, &mut self.before);
            self.cycles.fill(&self.origin, self.pitch, self.lost / stage + 1);
            self.cycles.at = self.before.at % self.pitch;
            self.turned = self.lost;
        }
        let mut sample = self.cycles.next();
        let since = self.lost - self.turned;
        if self.turned > 0 && since < blend {
            let new = ratio(since, blend);
            sample = sample * new + self.before.next() * (1.0 - new);
        }
        if self.lost < blend {
            sample += self.step * (1.0 - ratio(self.lost + 1, blend));
        }
        let (hold, silent) = (samples_of(HOLD_US, self.rate), samples_of(SILENT_US, self.rate));
        let fade = ratio(silent.saturating_sub(self.lost).min(silent - hold), silent - hold);
        self.lost = self.lost.saturating_add(1);
        sample * fade
    }

    /// The lag at which the past resembles itself most. Coarse first, on every fourth (8 kHz:
    /// second) sample and lag, then exact around the best.
    fn find_pitch(&self) -> usize {
        let coarse = (self.rate / 4_000).max(1);
        let (shortest, longest) =
            (samples_of(SHORTEST_PITCH_US, self.rate), samples_of(LONGEST_PITCH_US, self.rate));
        let rough = self.best_lag((shortest..=longest).step_by(coarse), coarse);
        let from = (rough + 1).saturating_sub(coarse).max(shortest);
        self.best_lag(from..=(rough + coarse - 1).min(longest), 1)
    }

    fn best_lag(&self, lags: impl Iterator<Item = usize>, step: usize) -> usize {
        let end = self.past.len();
        let start = end - samples_of(COMPARED_US, self.rate);
        let mut best = (f32::NEG_INFINITY, samples_of(LONGEST_PITCH_US, self.rate));
        for lag in lags {
            let (mut product, mut energy) = (0.0f32, 1.0f32);
            let (now, then) = (&self.past[start..end], &self.past[start - lag..end - lag]);
            for (a, b) in now.iter().zip(then).step_by(step) {
                product += a * b;
                energy += b * b;
            }
            let likeness = product / energy.sqrt();
            if likeness > best.0 {
                best = (likeness, lag);
            }
        }
        best.1
    }
}

impl Cycles {
    fn new(capacity: usize) -> Self {
        Self { samples: vec![0.0; capacity].into(), len: 0, at: 0 }
    }

    /// The last `count` cycles of `past`; their end runs into what came before their start, so
    /// that the seam of each repetition is as smooth as the voice was.
    fn fill(&mut self, past: &[f32], pitch: usize, count: usize) {
        let blend = (pitch / 4).max(1);
        self.len = (pitch * count).min(self.samples.len());
        self.at = 0;
        let start = past.len() - self.len;
        self.samples[..self.len].copy_from_slice(&past[start..]);
        for n in 0..blend {
            let earlier = ratio(n + 1, blend);
            let at = self.len - blend + n;
            self.samples[at] = self.samples[at] * (1.0 - earlier) + past[start - blend + n] * earlier;
        }
    }

    fn next(&mut self) -> f32 {
        let sample = self.samples[self.at];
        self.at += 1;
        if self.at >= self.len {
            self.at = 0;
        }
        sample
    }
}

fn samples_of(micros: usize, rate: usize) -> usize {
    micros * rate / 1_000_000
}

/// `part / whole`; both are at most a few thousand samples, exact in f32.
#[allow(clippy::cast_precision_loss, reason = "counts of samples far below 2^24")]
fn ratio(part: usize, whole: usize) -> f32 {
    part as f32 / whole as f32
}

#[cfg(test)]
mod tests {
    use super::super::signals::{energy, snr, tone, voice};
    use super::*;

    fn play(rate: u32, signal: &[i16], frame: usize, lost: impl Fn(usize) -> bool) -> Vec<i16> {
        let mut concealer = Concealer::new(rate);
        let mut heard = Vec::new();
        for (n, packet) in signal.chunks_exact(frame).enumerate() {
            let mut pcm = packet.to_vec();
            if lost(n) {
                concealer.conceal(&mut pcm);
            } else {
                concealer.heard(&mut pcm);
            }
            heard.extend(pcm);
        }
        heard
    }

    #[test]
    fn a_steady_voice_survives_a_lost_packet() {
        for rate in [8_000, 16_000] {
            let frame = rate as usize / 50;
            let signal = voice(rate, 140.0, rate as usize);
            let heard = play(rate, &signal, frame, |n| n % 10 == 5);
            for n in [5, 15, 25] {
                let gap = n * frame..(n + 1) * frame;
                let snr = snr(&signal[gap.clone()], &heard[gap]);
                assert!(snr > 8.0, "{rate} Hz, packet {n}: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn no_click_at_either_end_of_a_gap() {
        let signal = tone(8_000, 317.0, 8_000.0, 8_000);
        let heard = play(8_000, &signal, 160, |n| n % 7 == 3 || n % 7 == 4);
        let steepest = |pcm: &[i16]| {
            pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap_or(0)
        };
        assert!(steepest(&heard) < steepest(&signal) * 3 / 2, "{}", steepest(&heard));
    }

    #[test]
    fn a_long_gap_fades_to_silence_and_ends_softly() {
        let signal = voice(8_000, 110.0, 8_000);
        let heard = play(8_000, &signal, 160, |n| (10..20).contains(&n));
        assert!(energy(&heard[1600..1680]) > energy(&signal[1600..1680]) / 4.0);
        assert!(heard[1600 + 480..3200].iter().all(|s| *s == 0));
        assert!(energy(&heard[3200 + 160..3520]) > 0.0);
        assert_eq!(heard[3200 + 160..], signal[3200 + 160..]);
    }

    #[test]
    fn nothing_heard_means_silence_and_odd_lengths_are_fine() {
        let mut concealer = Concealer::new(8_000);
        let mut pcm = [1; 37];
        concealer.conceal(&mut pcm);
        assert_eq!(pcm, [0; 37]);
        concealer.conceal(&mut []);
        concealer.heard(&mut []);
        concealer.heard(&mut [5; 3]);
        concealer.reset();
        concealer.conceal(&mut pcm);
        assert_eq!(pcm, [0; 37]);
    }
}
