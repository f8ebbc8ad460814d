//! ITU-T G.711, mu-law and A-law at 64 kbit/s, 8 kHz. One byte a sample, no state but the
//! concealment's.

use super::conceal::Concealer;
use crate::codec::{AudioDecoder, AudioEncoder, AudioTuning, CodecError};
use crate::kernels::cpu::Cpu;
use crate::kernels::g711;

/// Samples a second.
pub const SAMPLE_RATE: u32 = 8_000;

/// The two ways of squeezing a sample into eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// North America and Japan.
    Mu,
    /// Everywhere else.
    A,
}

impl Law {
    /// One sample to its byte.
    #[inline(always)]
    pub const fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Mu => encode_mu(sample),
            Self::A => encode_a(sample),
        }
    }

    /// One byte to its sample.
    #[inline(always)]
    pub const fn decode(self, byte: u8) -> i16 {
        match self {
            Self::Mu => MU[byte as usize],
            Self::A => A[byte as usize],
        }
    }

    /// The byte of silence.
    pub const fn silence(self) -> u8 {
        self.encode(0)
    }
}

/// What mu-law adds so that all segments start at a power of two: 33 in the Recommendation's
/// 14 bit scale.
const MU_BIAS: u16 = 33 << 2;
/// The largest magnitude of mu-law after the bias, 8191 in 14 bits.
const MU_CLIP: u16 = 0x7fff;

/// Table 2a/2b: magnitude and segments, sent inverted; the sign bit is one for positive values.
#[inline(always)]
const fn encode_mu(sample: i16) -> u8 {
    let biased = sample.unsigned_abs().saturating_add(MU_BIAS);
    let biased = if biased > MU_CLIP { MU_CLIP } else { biased };
    // The bias makes bit 7 or a higher one the leading one; the four below it are the step.
    let segment = 8 - biased.leading_zeros();
    let step = (biased >> (segment + 3)) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !low_byte(sign | low_16(segment << 4) | step)
}

/// Table 1a/1b: sixteen steps a segment, the first two segments alike; even bits sent inverted.
#[inline(always)]
const fn encode_a(sample: i16) -> u8 {
    // Minus one lies in the first negative step, as zero in the first positive.
    let magnitude = (if sample < 0 { !sample } else { sample }).unsigned_abs() >> 4;
    let (segment, step) = if magnitude < 16 {
        (0, magnitude)
    } else {
        let segment = 12 - magnitude.leading_zeros();
        (segment, (magnitude >> (segment - 1)) & 0x0f)
    };
    let sign = if sample < 0 { 0 } else { 0x80 };
    low_byte(sign | low_16(segment << 4) | step) ^ 0x55
}

#[allow(clippy::cast_possible_truncation, reason = "callers keep to eight bits")]
#[inline(always)]
const fn low_byte(value: u16) -> u8 {
    value as u8
}

#[allow(clippy::cast_possible_truncation, reason = "callers keep to seven bits")]
#[inline(always)]
const fn low_16(value: u32) -> u16 {
    value as u16
}

const MU: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    loop {
        let code = !byte;
        let (segment, step) = ((code >> 4) & 7, (code & 0x0f) as i16);
        // The middle of the step, without the bias.
        let magnitude = ((2 * step + 33) << (segment + 2)) - (33 << 2);
        table[byte as usize] = if code & 0x80 != 0 { -magnitude } else { magnitude };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

const A: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    loop {
        let code = byte ^ 0x55;
        let (segment, step) = ((code >> 4) & 7, (code & 0x0f) as i16);
        let magnitude = if segment == 0 { (2 * step + 1) << 3 } else { (2 * step + 33) << (segment + 2) };
        table[byte as usize] = if code & 0x80 != 0 { magnitude } else { -magnitude };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Encodes one stream; any number of samples is a frame.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    law: Law,
    cpu: Cpu,
}

impl Encoder {
    /// An encoder of `law`.
    pub fn new(law: Law) -> Self {
        Self { law, cpu: Cpu::detect() }
    }
}

impl AudioEncoder for Encoder {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let room = out.len();
        let out = out.get_mut(..pcm.len()).ok_or(CodecError::Room { needed: pcm.len(), room })?;
        g711::encode(self.cpu, self.law, pcm, out);
        Ok(pcm.len())
    }

    fn tune(&mut self, _: AudioTuning) -> Result<(), CodecError> {
        Ok(())
    }

    fn reset(&mut self) {}

    fn adopt(&mut self, _: &dyn AudioEncoder) -> bool {
        // There is no past.
        true
    }
}

/// Decodes one stream.
pub struct Decoder {
    law: Law,
    cpu: Cpu,
    concealer: Concealer,
}

impl Decoder {
    /// A decoder of `law`.
    pub fn new(law: Law) -> Self {
        Self { law, cpu: Cpu::detect(), concealer: Concealer::new(SAMPLE_RATE) }
    }
}

impl AudioDecoder for Decoder {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    fn samples(&self, packet: &[u8]) -> Option<usize> {
        Some(packet.len()).filter(|len| *len > 0)
    }

    fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        if packet.is_empty() {
            return Err(CodecError::Malformed("no bytes"));
        }
        let room = out.len();
        let out = out.get_mut(..packet.len()).ok_or(CodecError::Room { needed: packet.len(), room })?;
        g711::decode(self.cpu, self.law, packet, out);
        self.concealer.heard(out);
        Ok(packet.len())
    }

    fn conceal(&mut self, out: &mut [i16]) {
        self.concealer.conceal(out);
    }

    fn reset(&mut self) {
        self.concealer.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::super::signals::{snr, tone, voice};
    use super::*;

    /// The decision values of Table 2a (14 bit scale): where a segment starts and its step.
    fn mu_by_table(sample: i16) -> u8 {
        let magnitude = i32::from(sample).abs();
        let mut code = 0u8;
        // Decision value n+1 lies above code n; the first step is half as wide.
        let mut decision = 4;
        while code < 127 && magnitude >= decision {
            code += 1;
            decision += 8 << (code / 16);
        }
        !(code | if sample < 0 { 0x80 } else { 0 })
    }

    /// The same for Table 1a (13 bit scale).
    fn a_by_table(sample: i16) -> u8 {
        let magnitude = i32::from(if sample < 0 { !sample } else { sample });
        let mut code = 0u8;
        let mut decision = 16;
        while code < 127 && magnitude >= decision {
            code += 1;
            decision += 16 << (code / 16).saturating_sub(1);
        }
        (code | if sample < 0 { 0 } else { 0x80 }) ^ 0x55
    }

    #[test]
    fn every_sample_has_the_code_of_the_tables() {
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(Law::Mu.encode(sample), mu_by_table(sample), "mu {sample}");
            assert_eq!(Law::A.encode(sample), a_by_table(sample), "A {sample}");
        }
    }

    #[test]
    fn every_code_comes_back() {
        for code in 0..=255 {
            assert_eq!(Law::A.encode(Law::A.decode(code)), code);
            // Mu-law has two zeros; the negative one is not sent.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(Law::Mu.encode(Law::Mu.decode(code)), expected);
        }
    }

    #[test]
    fn known_values() {
        assert_eq!((Law::Mu.silence(), Law::A.silence()), (0xff, 0xd5));
        assert_eq!((Law::Mu.decode(0x80), Law::Mu.decode(0x00)), (32_124, -32_124));
        assert_eq!((Law::A.decode(0xaa), Law::A.decode(0x2a)), (32_256, -32_256));
        assert_eq!((Law::Mu.decode(0xfe), Law::A.decode(0xd5), Law::A.decode(0x55)), (8, 8, -8));
    }

    #[test]
    fn speech_and_tones_keep_their_quality() {
        for law in [Law::Mu, Law::A] {
            for signal in [tone(8_000, 440.0, 12_000.0, 8_000), voice(8_000, 120.0, 8_000)] {
                let (mut encoder, mut decoder) = (Encoder::new(law), Decoder::new(law));
                let mut bytes = vec![0; signal.len()];
                let mut heard = vec![0; signal.len()];
                assert_eq!(encoder.encode(&signal, &mut bytes), Ok(8_000));
                assert_eq!(decoder.decode(&bytes, &mut heard), Ok(8_000));
                let snr = snr(&signal, &heard);
                assert!(snr > 36.0, "{law:?}: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_next_call_works() {
        let (mut encoder, mut decoder) = (Encoder::new(Law::A), Decoder::new(Law::A));
        assert_eq!(encoder.encode(&[0; 3], &mut [0; 2]), Err(CodecError::Room { needed: 3, room: 2 }));
        assert_eq!(decoder.decode(&[0; 3], &mut [0; 2]), Err(CodecError::Room { needed: 3, room: 2 }));
        assert!(decoder.decode(&[], &mut [0; 2]).is_err());
        assert_eq!(encoder.encode(&[0; 2], &mut [0; 3]), Ok(2));
        assert_eq!(decoder.decode(&[0; 2], &mut [0; 3]), Ok(2));
    }

    #[test]
    fn a_lost_packet_is_hidden() {
        let signal = voice(8_000, 125.0, 8_000);
        let mut decoder = Decoder::new(Law::Mu);
        let mut heard = Vec::new();
        for (n, packet) in signal.chunks_exact(160).enumerate() {
            let bytes: Vec<u8> = packet.iter().map(|s| Law::Mu.encode(*s)).collect();
            let mut pcm = [0; 160];
            if n == 20 {
                decoder.conceal(&mut pcm);
            } else {
                decoder.decode(&bytes, &mut pcm).unwrap();
            }
            heard.extend(pcm);
        }
        let gap = 20 * 160..21 * 160;
        let snr = snr(&signal[gap.clone()], &heard[gap]);
        assert!(snr > 8.0, "{snr:.1} dB");
    }
}
