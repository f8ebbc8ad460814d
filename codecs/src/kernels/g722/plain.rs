//! The specification: section 6 of the Recommendation word by word, one half band after the other. The
//! names of its blocks are those of the Recommendation.

use super::tables::{
    EXP2, HIGH_2, HIGH_HIGHEST, HIGH_LEVEL, HIGH_STEPS, LOW_4, LOW_6, LOW_HIGHEST, LOW_LEVELS, LOW_STEPS, QMF,
};
use super::{BLOCK, HISTORY};
use crate::audio::saturate;

/// The adaptive predictor and quantizer scale of one half band, the same at both ends.
#[derive(Clone, Debug)]
struct Band {
    /// Prediction of the next sample, and the part of it that the zeros make.
    predicted: i32,
    by_zeros: i32,
    /// Reconstructed and partially reconstructed signal, newest first.
    reconstructed: [i32; 2],
    partial: [i32; 2],
    /// Coefficients of the two poles and of the six zeros, Q14 and Q14.
    poles: [i32; 2],
    zeros: [i32; 6],
    /// Quantized differences, newest first.
    differences: [i32; 6],
    /// Logarithmic and linear scale factor.
    log_scale: i32,
    scale: i32,
}

impl Band {
    const fn new(scale: i32) -> Self {
        Self {
            predicted: 0,
            by_zeros: 0,
            reconstructed: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            zeros: [0; 6],
            differences: [0; 6],
            log_scale: 0,
            scale,
        }
    }

    const fn low() -> Self {
        Self::new(32)
    }

    const fn high() -> Self {
        Self::new(8)
    }

    /// QUANTL: the 6 bit code of the low band sample `x`.
    fn quantize_low(&self, x: i32) -> u8 {
        let difference = clamp16(x - self.predicted);
        let negative = difference < 0;
        let magnitude = if negative { !difference } else { difference };
        let level = LOW_LEVELS.partition_point(|level| magnitude >= (i32::from(*level) * self.scale) >> 12);
        #[allow(clippy::cast_possible_truncation, reason = "an index of 29 levels")]
        let level = level as u8;
        match (negative, level) {
            (false, _) => 61 - level,
            (true, 0 | 1) => 63 - level,
            (true, _) => 33 - level,
        }
    }

    /// QUANTH: the 2 bit code of the high band sample `x`.
    fn quantize_high(&self, x: i32) -> u8 {
        let difference = clamp16(x - self.predicted);
        let negative = difference < 0;
        let magnitude = if negative { !difference } else { difference };
        let large = magnitude >= (HIGH_LEVEL * self.scale) >> 12;
        match (negative, large) {
            (false, false) => 3,
            (false, true) => 2,
            (true, false) => 1,
            (true, true) => 0,
        }
    }

    /// What `code` stands for in the low band, for listening.
    fn reconstruct_low(&self, code: u8) -> i32 {
        clamp15(self.predicted + ((self.scale * i32::from(LOW_6[usize::from(code & 0x3f)])) >> 15))
    }

    /// The same for the high band.
    fn reconstruct_high(&self, code: u8) -> i32 {
        clamp15(self.predicted + ((self.scale * i32::from(HIGH_2[usize::from(code & 3)])) >> 15))
    }

    /// Adapts to the low band's `code`, at either end.
    fn adapt_low(&mut self, code: u8) {
        let index = usize::from((code >> 2) & 0x0f);
        let difference = (self.scale * i32::from(LOW_4[index])) >> 15;
        self.rescale(i32::from(LOW_STEPS[index]), LOW_HIGHEST, 8);
        self.predict(difference);
    }

    /// Adapts to the high band's `code`, at either end.
    fn adapt_high(&mut self, code: u8) {
        let index = usize::from(code & 3);
        let difference = (self.scale * i32::from(HIGH_2[index])) >> 15;
        self.rescale(i32::from(HIGH_STEPS[index]), HIGH_HIGHEST, 10);
        self.predict(difference);
    }

    /// LOGSCL and SCALEL, LOGSCH and SCALEH.
    fn rescale(&mut self, step: i32, highest: i32, exponent: i32) {
        self.log_scale = (((self.log_scale * 127) >> 7) + step).clamp(0, highest);
        let mantissa = i32::from(EXP2[((self.log_scale >> 6) & 31).unsigned_abs() as usize]);
        let shift = exponent - (self.log_scale >> 11);
        self.scale = (if shift < 0 { mantissa << -shift } else { mantissa >> shift }) << 2;
    }

    /// Block 4: takes the quantized difference in and predicts the next sample.
    fn predict(&mut self, difference: i32) {
        let reconstructed = clamp16(self.predicted + difference);
        let partial = clamp16(self.by_zeros + difference);
        let alike = |old: i32| (old < 0) == (partial < 0);

        // UPPOL2, then UPPOL1, which the new second pole bounds.
        let first = clamp16(self.poles[0] << 2);
        let toward = if alike(self.partial[0]) { (-first).min(32_767) } else { first };
        let second = (toward >> 7)
            + if alike(self.partial[1]) { 128 } else { -128 }
            + ((self.poles[1] * 32_512) >> 15);
        let second = second.clamp(-12_288, 12_288);
        let first =
            clamp16(((self.poles[0] * 32_640) >> 15) + if alike(self.partial[0]) { 192 } else { -192 });
        let bound = clamp16(15_360 - second);
        self.poles = [first.clamp(-bound, bound), second];

        // UPZERO.
        let step = if difference == 0 { 0 } else { 128 };
        for (zero, old) in self.zeros.iter_mut().zip(self.differences) {
            let step = if (old < 0) == (difference < 0) { step } else { -step };
            *zero = clamp16(((*zero * 32_640) >> 15) + step);
        }

        // DELAYA.
        self.differences.copy_within(0..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];

        // FILTEP, FILTEZ, PREDIC.
        let weigh = |coefficient: i32, value: i32| (coefficient * clamp16(2 * value)) >> 15;
        let by_poles = clamp16(
            weigh(self.poles[0], self.reconstructed[0]) + weigh(self.poles[1], self.reconstructed[1]),
        );
        self.by_zeros = clamp16(self.zeros.iter().zip(self.differences).map(|(z, d)| weigh(*z, d)).sum());
        self.predicted = clamp16(by_poles + self.by_zeros);
    }
}

fn clamp16(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

fn clamp15(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}

/// The two sums of the quadrature mirror filters over one window of 24.
fn filter(window: &[i32]) -> (i32, i32) {
    let (mut even, mut odd) = (0, 0);
    for (n, pair) in window.chunks_exact(2).take(12).enumerate() {
        odd += pair[0] * i32::from(QMF[n]);
        even += pair[1] * i32::from(QMF[11 - n]);
    }
    (even, odd)
}

/// Splits sound into two half bands of half the rate.
#[derive(Clone, Debug)]
struct Analysis {
    history: [i32; HISTORY],
}

impl Analysis {
    const fn new() -> Self {
        Self { history: [0; HISTORY] }
    }

    /// Calls `take` with the low and the high band of each pair of `pcm`, 15 bits each.
    fn split(&mut self, pcm: &[i16], mut take: impl FnMut(i32, i32)) {
        let mut line = [0; HISTORY + 2 * BLOCK];
        for block in pcm.chunks(2 * BLOCK) {
            line[..HISTORY].copy_from_slice(&self.history);
            for (to, from) in line[HISTORY..].iter_mut().zip(block) {
                *to = i32::from(*from);
            }
            for at in (0..block.len() & !1).step_by(2) {
                let (even, odd) = filter(&line[at..at + HISTORY + 2]);
                take((even + odd) >> 14, (even - odd) >> 14);
            }
            self.history.copy_from_slice(&line[block.len()..block.len() + HISTORY]);
        }
    }
}

/// Encodes one stream.
pub(super) struct Encoder {
    analysis: Analysis,
    low: Band,
    high: Band,
}

impl Encoder {
    pub(super) const fn new() -> Self {
        Self { analysis: Analysis::new(), low: Band::low(), high: Band::high() }
    }

    pub(super) fn encode(&mut self, pcm: &[i16], out: &mut [u8]) {
        let mut bytes = out.iter_mut();
        let Self { analysis, low, high } = self;
        analysis.split(pcm, |x_low, x_high| {
            let (low_code, high_code) = (low.quantize_low(x_low), high.quantize_high(x_high));
            low.adapt_low(low_code);
            high.adapt_high(high_code);
            if let Some(byte) = bytes.next() {
                *byte = high_code << 6 | low_code;
            }
        });
    }
}

/// Decodes one stream.
pub(super) struct Decoder {
    low: Band,
    high: Band,
    /// Sums and differences of the half bands, for the receiving filters.
    history: [i32; HISTORY],
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { low: Band::low(), high: Band::high(), history: [0; HISTORY] }
    }

    pub(super) fn decode(&mut self, packet: &[u8], out: &mut [i16]) {
        let mut line = [0; HISTORY + 2 * BLOCK];
        for (bytes, out) in packet.chunks(BLOCK).zip(out.chunks_mut(2 * BLOCK)) {
            line[..HISTORY].copy_from_slice(&self.history);
            for (pair, code) in line[HISTORY..].chunks_exact_mut(2).zip(bytes) {
                let (low_code, high_code) = (code & 0x3f, code >> 6);
                let low = self.low.reconstruct_low(low_code);
                let high = self.high.reconstruct_high(high_code);
                self.low.adapt_low(low_code);
                self.high.adapt_high(high_code);
                pair[0] = low + high;
                pair[1] = low - high;
            }
            for (n, out) in out.chunks_exact_mut(2).enumerate() {
                let (even, odd) = filter(&line[2 * n..2 * n + HISTORY + 2]);
                out[0] = saturate(even >> 11);
                out[1] = saturate(odd >> 11);
            }
            self.history.copy_from_slice(&line[2 * bytes.len()..2 * bytes.len() + HISTORY]);
        }
    }
}
