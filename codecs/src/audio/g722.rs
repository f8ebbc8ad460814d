//! ITU-T G.722 at 64 kbit/s: 16 kHz sound in two half bands, each coded by adaptive differences,
//! one byte for two samples. The arithmetic is in [`crate::kernels::g722`].

use std::any::Any;
use std::time::Duration;

use super::conceal::Concealer;
use crate::codec::{AudioDecoder, AudioEncoder, AudioTuning, CodecError};
use crate::kernels::cpu::Cpu;
use crate::kernels::g722::Coder;

/// Samples a second.
pub const SAMPLE_RATE: u32 = 16_000;

/// Encodes one stream. Frames hold an even number of samples.
#[derive(Clone, Debug)]
pub struct Encoder {
    cpu: Cpu,
    coder: Coder,
}

impl Encoder {
    /// An encoder at the start of its stream.
    pub fn new() -> Self {
        Self { cpu: Cpu::detect(), coder: Coder::new() }
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
        let out = out.get_mut(..needed).ok_or(CodecError::Room { needed, room })?;
        self.coder.encode(self.cpu, pcm, out);
        Ok(needed)
    }

    fn tune(&mut self, _: AudioTuning) -> Result<(), CodecError> {
        Ok(())
    }

    fn reset(&mut self) {
        self.coder = Coder::new();
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
    cpu: Cpu,
    coder: Coder,
    concealer: Concealer,
}

impl Decoder {
    /// A decoder at the start of its stream.
    pub fn new() -> Self {
        Self { cpu: Cpu::detect(), coder: Coder::new(), concealer: Concealer::new(SAMPLE_RATE) }
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
        self.coder.decode(self.cpu, packet, out);
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
        self.coder = Coder::new();
        self.concealer.reset();
    }
}

#[cfg(test)]
mod tests {
    use ezk_g722::libg722;

    use super::super::signals::{best_snr, energy, noise, snr, tone, voice};
    use super::*;
    use crate::kernels::g722::HISTORY;

    /// The oracle starts with scale factors of zero, where the Recommendation (6.2.1.3) starts
    /// with 32 and 8; all that follows is the same.
    fn like_the_oracle() -> (Encoder, Decoder) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        encoder.coder = Coder::unscaled();
        decoder.coder = Coder::unscaled();
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
