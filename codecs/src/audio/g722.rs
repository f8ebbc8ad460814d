//! ITU-T G.722 at 64 kbit/s: 16 kHz sound in two half bands, each coded by adaptive differences,
//! one byte for two samples. Names of blocks are those of the Recommendation, section 6.

use std::any::Any;
use std::time::Duration;

use super::conceal::Concealer;
use super::saturate;
use crate::codec::{AudioDecoder, AudioEncoder, AudioTuning, CodecError};

/// Samples a second.
pub const SAMPLE_RATE: u32 = 16_000;

/// Coefficients of the quadrature mirror filters, one phase; the other is its mirror (Table 11).
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
/// Samples before the newest pair that the filters look back on.
const HISTORY: usize = 22;
/// Pairs filtered in one go.
const BLOCK: usize = 160;

/// Decision levels of the 60 level quantizer, Q12 of the scale factor (Table 14). The first
/// entry of the Recommendation's table, zero, is implied.
const LOW_LEVELS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219,
    1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Values of the low band's 4 bit codes, Q15 of the scale factor: all that adaptation sees, so
/// that a receiver of fewer bits stays in step.
const LOW_4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// Values of the low band's 6 bit codes.
const LOW_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
/// How each 4 bit code moves the low band's logarithmic scale factor.
const LOW_STEPS: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// Values of the high band's 2 bit codes.
const HIGH_2: [i32; 4] = [-7408, -1616, 7408, 1616];
/// How they move its logarithmic scale factor.
const HIGH_STEPS: [i32; 4] = [798, -214, 798, -214];
/// The high band's one decision level.
const HIGH_LEVEL: i32 = 564;
/// 2^(n/32), Q11.
const EXP2: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

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
        let level = LOW_LEVELS.partition_point(|level| magnitude >= (level * self.scale) >> 12);
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
        clamp15(self.predicted + ((self.scale * LOW_6[usize::from(code & 0x3f)]) >> 15))
    }

    /// The same for the high band.
    fn reconstruct_high(&self, code: u8) -> i32 {
        clamp15(self.predicted + ((self.scale * HIGH_2[usize::from(code & 3)]) >> 15))
    }

    /// Adapts to the low band's `code`, at either end.
    fn adapt_low(&mut self, code: u8) {
        let index = usize::from((code >> 2) & 0x0f);
        let difference = (self.scale * LOW_4[index]) >> 15;
        self.rescale(LOW_STEPS[index], 18_432, 8);
        self.predict(difference);
    }

    /// Adapts to the high band's `code`, at either end.
    fn adapt_high(&mut self, code: u8) {
        let index = usize::from(code & 3);
        let difference = (self.scale * HIGH_2[index]) >> 15;
        self.rescale(HIGH_STEPS[index], 22_528, 10);
        self.predict(difference);
    }

    /// LOGSCL and SCALEL, LOGSCH and SCALEH.
    fn rescale(&mut self, step: i32, highest: i32, exponent: i32) {
        self.log_scale = (((self.log_scale * 127) >> 7) + step).clamp(0, highest);
        let mantissa = EXP2[((self.log_scale >> 6) & 31).unsigned_abs() as usize];
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

#[inline(always)]
fn clamp16(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

#[inline(always)]
fn clamp15(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}

/// The two sums of the quadrature mirror filters over one window of 24. The coefficients sum to
/// less than 2^13 and values have 16 bits: nothing wraps, and no check keeps vectors away.
#[inline(always)]
fn filter(window: &[i32]) -> (i32, i32) {
    let (mut even, mut odd) = (0, 0);
    for (n, pair) in window.chunks_exact(2).take(12).enumerate() {
        odd = pair[0].wrapping_mul(QMF[n]).wrapping_add(odd);
        even = pair[1].wrapping_mul(QMF[11 - n]).wrapping_add(even);
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

/// Encodes one stream. Frames hold an even number of samples.
#[derive(Clone, Debug)]
pub struct Encoder {
    analysis: Analysis,
    low: Band,
    high: Band,
}

impl Encoder {
    /// An encoder at the start of its stream.
    pub const fn new() -> Self {
        Self { analysis: Analysis::new(), low: Band::low(), high: Band::high() }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl AudioEncoder for Encoder {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        if !pcm.len().is_multiple_of(2) {
            return Err(CodecError::Unsupported("G.722 codes samples in pairs"));
        }
        let (needed, room) = (pcm.len() / 2, out.len());
        let mut bytes = out.get_mut(..needed).ok_or(CodecError::Room { needed, room })?.iter_mut();
        let Self { analysis, low, high } = self;
        analysis.split(pcm, |x_low, x_high| {
            let (low_code, high_code) = (low.quantize_low(x_low), high.quantize_high(x_high));
            low.adapt_low(low_code);
            high.adapt_high(high_code);
            if let Some(byte) = bytes.next() {
                *byte = high_code << 6 | low_code;
            }
        });
        Ok(needed)
    }

    fn tune(&mut self, _: AudioTuning) -> Result<(), CodecError> {
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn adopt(&mut self, other: &dyn AudioEncoder) -> bool {
        let other = (other as &dyn Any).downcast_ref::<Self>();
        if let Some(other) = other {
            self.clone_from(other);
        }
        other.is_some()
    }
}

/// Decodes one stream.
pub struct Decoder {
    low: Band,
    high: Band,
    /// Sums and differences of the half bands, for the receiving filters.
    history: [i32; HISTORY],
    concealer: Concealer,
}

impl Decoder {
    /// A decoder at the start of its stream.
    pub fn new() -> Self {
        Self {
            low: Band::low(),
            high: Band::high(),
            history: [0; HISTORY],
            concealer: Concealer::new(SAMPLE_RATE),
        }
    }

    fn join(&mut self, packet: &[u8], out: &mut [i16]) {
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

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl AudioDecoder for Decoder {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    fn samples(&self, packet: &[u8]) -> Option<usize> {
        Some(2 * packet.len()).filter(|len| *len > 0)
    }

    fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        if packet.is_empty() {
            return Err(CodecError::Malformed("no bytes"));
        }
        let (needed, room) = (2 * packet.len(), out.len());
        let out = out.get_mut(..needed).ok_or(CodecError::Room { needed, room })?;
        self.join(packet, out);
        self.concealer.heard(out);
        Ok(needed)
    }

    /// The bands wait as they were. To take them along by encoding the guess was tried: the packet
    /// after a loss of 20 ms then came out 4 dB worse, since a guess is never quite in phase.
    fn conceal(&mut self, out: &mut [i16]) {
        self.concealer.conceal(out);
    }

    /// The slowest of what adapts forgets 1/256 with each of 8000 samples a second (blocks UPZERO
    /// and UPPOL1): in this time all but a hundredth.
    fn memory(&self) -> Duration {
        Duration::from_millis(160)
    }

    fn reset(&mut self) {
        self.low = Band::low();
        self.high = Band::high();
        self.history = [0; HISTORY];
        self.concealer.reset();
    }
}

#[cfg(test)]
mod tests {
    use ezk_g722::libg722;

    use super::super::signals::{best_snr, energy, noise, snr, tone, voice};
    use super::*;

    /// The oracle starts with scale factors of zero, where the Recommendation (6.2.1.3) starts
    /// with 32 and 8; all that follows is the same.
    fn like_the_oracle() -> (Encoder, Decoder) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for band in [&mut encoder.low, &mut encoder.high, &mut decoder.low, &mut decoder.high] {
            band.scale = 0;
        }
        (encoder, decoder)
    }

    fn signals() -> Vec<Vec<i16>> {
        let square = (0..16_000).map(|n| if n / 37 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        vec![
            tone(16_000, 1_000.0, 10_000.0, 16_000),
            tone(16_000, 6_100.0, 32_767.0, 16_000),
            voice(16_000, 140.0, 16_000),
            noise(7, 32_767, 16_000),
            noise(8, 12, 16_000),
            square,
            vec![0; 1_600],
        ]
    }

    #[test]
    fn bit_exact_with_an_independent_encoder() {
        for (n, signal) in signals().iter().enumerate() {
            let mut oracle = libg722::encoder::Encoder::new(libg722::Bitrate::Mode1_64000, false, false);
            let (mut encoder, _) = like_the_oracle();
            for frame in signal.chunks(320) {
                let mut bytes = [0; 160];
                let len = encoder.encode(frame, &mut bytes).unwrap();
                assert_eq!(bytes[..len], oracle.encode(frame), "signal {n}");
            }
        }
    }

    #[test]
    fn bit_exact_with_an_independent_decoder_on_any_bytes() {
        for seed in 0..20 {
            let bytes: Vec<u8> = noise(seed, 32_767, 4_000).iter().map(|s| s.to_le_bytes()[0]).collect();
            let mut oracle = libg722::decoder::Decoder::new(libg722::Bitrate::Mode1_64000, false, false);
            let (_, mut decoder) = like_the_oracle();
            // Odd lengths, and one longer than a block.
            for packet in bytes.chunks(if seed % 2 == 0 { 160 } else { 333 }) {
                let mut pcm = vec![0; 2 * packet.len()];
                decoder.decode(packet, &mut pcm).unwrap();
                assert_eq!(pcm, oracle.decode(packet));
            }
        }
    }

    #[test]
    fn the_quality_of_wideband_sound() {
        for (signal, least) in
            [(tone(16_000, 437.0, 10_000.0, 16_000), 30.0), (voice(16_000, 140.0, 16_000), 18.0)]
        {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            let (mut bytes, mut heard) = (vec![0; 8_000], vec![0; 16_000]);
            encoder.encode(&signal, &mut bytes).unwrap();
            assert_eq!(decoder.decode(&bytes, &mut heard), Ok(16_000));
            let (delay, snr) = best_snr(&signal[..8_000], &heard[..8_000], 40);
            assert_eq!(delay, HISTORY);
            assert!(snr > least, "{snr:.1} dB");
        }
    }

    #[test]
    fn a_lost_packet_is_hidden_and_the_next_ones_are_in_step() {
        let signal = voice(16_000, 125.0, 16_000);
        let (mut encoder, mut whole, mut lossy) = (Encoder::new(), Decoder::new(), Decoder::new());
        let (mut clean, mut heard) = (Vec::new(), Vec::new());
        for (n, packet) in signal.chunks_exact(320).enumerate() {
            let mut bytes = [0; 160];
            encoder.encode(packet, &mut bytes).unwrap();
            let (mut pcm, mut other) = ([0; 320], [0; 320]);
            whole.decode(&bytes, &mut pcm).unwrap();
            if n % 10 == 5 {
                lossy.conceal(&mut other);
            } else {
                lossy.decode(&bytes, &mut other).unwrap();
            }
            clean.extend(pcm);
            heard.extend(other);
        }
        for n in [5, 15, 25, 35, 45] {
            let gap = n * 320..(n + 1) * 320;
            let hidden = snr(&clean[gap.clone()], &heard[gap]);
            assert!(hidden > 6.0, "packet {n}: {hidden:.1} dB");
            // The blend of 4 ms is over, the rest of the next packet counts.
            let next = (n + 1) * 320 + 64..(n + 2) * 320;
            let after = snr(&clean[next.clone()], &heard[next]);
            assert!(after > 10.0, "after packet {n}: {after:.1} dB");
        }
    }

    #[test]
    fn one_that_adopts_another_makes_the_same_packets() {
        let signal = voice(16_000, 140.0, 3_200);
        let (mut one, mut other) = (Encoder::new(), Encoder::new());
        let mut rooms = [[0; 160]; 2];
        for pcm in signal.chunks_exact(320) {
            one.encode(pcm, &mut rooms[0]).unwrap();
        }
        assert!(other.adopt(&one));
        for pcm in signal.chunks_exact(320) {
            one.encode(pcm, &mut rooms[0]).unwrap();
            other.encode(pcm, &mut rooms[1]).unwrap();
            assert_eq!(rooms[0], rooms[1]);
        }
        let another = crate::audio::g711::Encoder::new(crate::audio::g711::Law::A);
        assert!(!other.adopt(&another));
    }

    #[test]
    fn odd_input_and_short_rooms_are_refused() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        assert!(encoder.encode(&[0; 3], &mut [0; 4]).is_err());
        assert_eq!(encoder.encode(&[0; 8], &mut [0; 3]), Err(CodecError::Room { needed: 4, room: 3 }));
        assert_eq!(decoder.decode(&[0; 4], &mut [0; 7]), Err(CodecError::Room { needed: 8, room: 7 }));
        assert!(decoder.decode(&[], &mut [0; 7]).is_err());
        let mut odd = [1; 7];
        decoder.conceal(&mut odd);
        assert_eq!(energy(&odd), 0.0);
    }
}
