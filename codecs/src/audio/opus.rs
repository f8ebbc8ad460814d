//! Opus (RFC 6716, RFC 7587) by libopus: 48 kHz, mono, with in-band error correction, concealment
//! and silence suppression. Stereo packets are decoded to their middle.

use std::time::Duration;

use ::opus::{Application, Bandwidth, Bitrate, Channels};

use crate::codec::{AudioDecoder, AudioEncoder, AudioTuning, CodecError};
use crate::format::AudioFormat;

/// Samples a second: Opus always runs its media clock at this (RFC 7587 section 4.1).
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of the longest packet, 120 ms.
pub const MAX_SAMPLES: usize = 5_760;
/// Bytes of the largest packet of one frame plus header (RFC 6716 section 3.4).
pub const MAX_PACKET: usize = 1_276;
/// libopus' search effort, 0 to 10. Up to 5 each step is heard by speech at 20-40 kbit/s; from 6
/// on only the delayed decision search widens, at half as much CPU again.
pub const COMPLEXITY: i32 = 5;
/// Speech in a room is coded twice. RFC 7587 section 3.1.1 names 28-40 kbit/s for it at full band, coded
/// once: then PESQ gives 4.2 at 32 kbit/s, and 3.9 for twice; for twice at 48 kbit/s it gives 4.2 again.
/// In a narrow band speech would do with half of it, but a telephone's tones would not.
pub const SPEECH_BITRATE: u32 = 48_000;
const LOWEST_BITRATE: u32 = 6_000;
const HIGHEST_BITRATE: u32 = 510_000;
/// Concealment comes in pieces of 2.5 ms.
const PIECE: usize = 120;

/// Encodes one stream.
#[derive(Debug)]
pub struct Encoder {
    inner: ::opus::Encoder,
    dtx: bool,
    /// The receiver's limit, above which no tuning goes.
    max_bitrate: u32,
    band: Bandwidth,
}

impl Encoder {
    /// An encoder for speech in the way that the receiver of `format` wants it.
    pub fn new(format: &AudioFormat) -> Result<Self, CodecError> {
        let mut inner =
            ::opus::Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Voip).map_err(failed)?;
        inner.set_complexity(COMPLEXITY).map_err(failed)?;
        // Decoders of mono streams are what we feed: our samples carry no more than 16 bits.
        inner.set_lsb_depth(16).map_err(failed)?;
        let mut encoder = Self {
            inner,
            dtx: false,
            max_bitrate: format.max_bitrate.unwrap_or(HIGHEST_BITRATE),
            band: Bandwidth::Fullband,
        };
        encoder.tune(AudioTuning::of(format))?;
        Ok(encoder)
    }
}

impl AudioEncoder for Encoder {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    /// Frames of 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms. With `dtx`, zero where the decoder's
    /// comfort noise does as well.
    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        let len = self.inner.encode(pcm, out).map_err(|error| match error.code() {
            ::opus::ErrorCode::BadArg => CodecError::Unsupported("not a frame length of Opus"),
            ::opus::ErrorCode::BufferTooSmall => CodecError::Room { needed: MAX_PACKET, room: out.len() },
            _ => failed(error),
        })?;
        // Packets of one or two bytes need not be sent (libopus, OPUS_SET_DTX).
        Ok(if self.dtx && len <= 2 { 0 } else { len })
    }

    fn tune(&mut self, tuning: AudioTuning) -> Result<(), CodecError> {
        let bitrate = tuning.bitrate.unwrap_or(SPEECH_BITRATE).min(self.max_bitrate);
        let bitrate = bitrate.clamp(LOWEST_BITRATE, HIGHEST_BITRATE);
        self.inner.set_bitrate(Bitrate::Bits(i32::try_from(bitrate).unwrap_or(i32::MAX))).map_err(failed)?;
        self.inner.set_packet_loss_perc(i32::from(tuning.loss_percent.min(100))).map_err(failed)?;
        self.inner.set_inband_fec(tuning.fec).map_err(failed)?;
        self.inner.set_dtx(tuning.dtx).map_err(failed)?;
        let band = bandwidth(tuning.source_rate);
        if band != self.band {
            // SILK would go over in a pause, over five seconds (RFC 6716 section 2.1.2 leaves it to the
            // encoder); where sound comes from somewhere else, there is nothing to go over from.
            self.reset();
            self.inner.set_max_bandwidth(band).map_err(failed)?;
            self.band = band;
        }
        self.dtx = tuning.dtx;
        Ok(())
    }

    fn reset(&mut self) {
        // Cannot fail on a live encoder; its settings stay.
        let _ = self.inner.reset_state();
    }
}

/// What holds all of a sound of that rate (RFC 6716 section 2).
fn bandwidth(source_rate: Option<u32>) -> Bandwidth {
    match source_rate {
        Some(..=8_000) => Bandwidth::Narrowband,
        Some(..=12_000) => Bandwidth::Mediumband,
        Some(..=16_000) => Bandwidth::Wideband,
        Some(..=24_000) => Bandwidth::Superwideband,
        _ => Bandwidth::Fullband,
    }
}

/// Decodes one stream.
#[derive(Debug)]
pub struct Decoder {
    inner: ::opus::Decoder,
}

impl Decoder {
    /// A decoder at the start of its stream.
    pub fn new() -> Result<Self, CodecError> {
        Ok(Self { inner: ::opus::Decoder::new(SAMPLE_RATE, Channels::Mono).map_err(failed)? })
    }
}

impl AudioDecoder for Decoder {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    fn samples(&self, packet: &[u8]) -> Option<usize> {
        ::opus::packet::get_nb_samples(packet, SAMPLE_RATE).ok().filter(|samples| *samples > 0)
    }

    fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        // No bytes would ask libopus for concealment.
        let needed = self.samples(packet).ok_or(CodecError::Malformed("not an Opus packet"))?;
        let room = out.len();
        let out = out.get_mut(..needed).ok_or(CodecError::Room { needed, room })?;
        self.inner.decode(packet, out, false).map_err(|error| match error.code() {
            ::opus::ErrorCode::InvalidPacket => CodecError::Malformed("not an Opus packet"),
            _ => failed(error),
        })
    }

    fn conceal(&mut self, out: &mut [i16]) {
        for piece in out.chunks_mut(MAX_SAMPLES) {
            let (whole, rest) = piece.split_at_mut(piece.len() / PIECE * PIECE);
            if !whole.is_empty() && self.inner.decode(&[], whole, false).is_err() {
                whole.fill(0);
            }
            if !rest.is_empty() {
                // No frame of ours has such a length; the few samples over are thrown away.
                let mut last = [0; PIECE];
                let _ = self.inner.decode(&[], &mut last, false);
                rest.copy_from_slice(&last[..rest.len()]);
            }
        }
    }

    fn recover(&mut self, next: &[u8], out: &mut [i16]) -> bool {
        if !carries_fec(next) || !out.len().is_multiple_of(PIECE) || out.is_empty() || out.len() > MAX_SAMPLES
        {
            return false;
        }
        matches!(self.inner.decode(next, out, true), Ok(written) if written == out.len())
    }

    /// Two frames of the usual length: energies are predicted from half of those before (RFC 6716
    /// section 4.3.2.1), so a quarter of what was not known is left.
    fn memory(&self) -> Duration {
        Duration::from_millis(40)
    }

    fn reset(&mut self) {
        // Cannot fail on a live decoder.
        let _ = self.inner.reset_state();
    }
}

fn failed(error: ::opus::Error) -> CodecError {
    CodecError::Library { library: "libopus", code: i64::from(error.code() as i32) }
}

/// Whether `packet` brings a copy of the frame before it (RFC 6716 section 4.2.4: the LBRR flag
/// of the first SILK frame's channels, after their voice flags).
pub fn carries_fec(packet: &[u8]) -> bool {
    let Some((&toc, rest)) = packet.split_first() else {
        return false;
    };
    // Section 3.1: configurations 16 to 31 are CELT alone, which has no such copies.
    let config = toc >> 3;
    if config >= 16 {
        return false;
    }
    let Some(&first) = first_frame(toc, rest).and_then(<[u8]>::first) else {
        return false;
    };
    // SILK frames last 20 ms: 40 and 60 ms hold two and three, each with a voice flag.
    let frames = match config {
        0..12 if config % 4 == 2 => 2,
        0..12 if config % 4 == 3 => 3,
        _ => 1,
    };
    let stereo = toc & 0x04 != 0;
    let middle = first >> (7 - frames) & 1 != 0;
    let side = stereo && first >> (6 - 2 * frames) & 1 != 0;
    middle || side
}

/// The bytes of the first frame (RFC 6716 section 3.2). `None` when it has none.
fn first_frame(toc: u8, rest: &[u8]) -> Option<&[u8]> {
    match toc & 3 {
        0 => Some(rest),
        1 => rest.get(..rest.len() / 2),
        2 => {
            let (len, rest) = frame_length(rest)?;
            rest.get(..len)
        }
        _ => {
            let (&count, mut rest) = rest.split_first()?;
            let (variable, padded, frames) =
                (count & 0x80 != 0, count & 0x40 != 0, usize::from(count & 0x3f));
            let mut padding = 0;
            if padded {
                loop {
                    let (&more, after) = rest.split_first()?;
                    rest = after;
                    padding += if more == 255 { 254 } else { usize::from(more) };
                    if more != 255 {
                        break;
                    }
                }
            }
            if variable && frames > 1 {
                let (first, mut after) = frame_length(rest)?;
                for _ in 2..frames {
                    after = frame_length(after)?.1;
                }
                return after.get(..first);
            }
            rest.get(..rest.len().checked_sub(padding)?.checked_div(frames)?)
        }
    }
}

/// A length of one or two bytes (section 3.2.1) and what follows.
fn frame_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 252 {
        return Some((usize::from(first), rest));
    }
    let (&second, rest) = rest.split_first()?;
    Some((usize::from(second) * 4 + usize::from(first), rest))
}

#[cfg(test)]
mod tests {
    use super::super::signals::{best_snr, energy, noise, snr, tone, voice};
    use super::*;
    use crate::format::Codec;

    fn encoder(tuning: AudioTuning) -> Encoder {
        let mut encoder = Encoder::new(&AudioFormat::new(Codec::Opus)).unwrap();
        encoder.tune(tuning).unwrap();
        encoder
    }

    const PLAIN: AudioTuning =
        AudioTuning { bitrate: Some(64_000), loss_percent: 0, fec: false, dtx: false, source_rate: None };
    const GUARDED: AudioTuning = AudioTuning { bitrate: Some(32_000), loss_percent: 20, fec: true, ..PLAIN };

    fn packets(encoder: &mut Encoder, signal: &[i16], frame: usize) -> Vec<Vec<u8>> {
        let mut out = [0; MAX_PACKET];
        signal
            .chunks_exact(frame)
            .map(|pcm| {
                let len = encoder.encode(pcm, &mut out).unwrap();
                out[..len].to_vec()
            })
            .collect()
    }

    #[test]
    fn speech_and_tones_keep_their_quality() {
        for (signal, least) in
            [(tone(48_000, 440.0, 10_000.0, 48_000), 20.0), (voice(48_000, 140.0, 48_000), 10.0)]
        {
            let mut decoder = Decoder::new().unwrap();
            let mut heard = Vec::new();
            for packet in packets(&mut encoder(PLAIN), &signal, 960) {
                let mut pcm = [0; MAX_SAMPLES];
                assert_eq!(decoder.samples(&packet), Some(960));
                assert_eq!(decoder.decode(&packet, &mut pcm), Ok(960));
                heard.extend_from_slice(&pcm[..960]);
            }
            let (delay, snr) = best_snr(&signal[24_000..36_000], &heard[24_000..36_000], 480);
            assert!(snr > least, "{snr:.1} dB at a delay of {delay}");
        }
    }

    #[test]
    fn a_narrow_sound_is_encoded_as_one_and_a_wide_one_after_it_as_wide() {
        // At a rate at which a tone never lets SILK rest.
        let mut encoder = encoder(GUARDED);
        let rates = [
            (Some(8_000), Bandwidth::Narrowband),
            (Some(16_000), Bandwidth::Wideband),
            (None, Bandwidth::Fullband),
        ];
        for (source_rate, band) in rates {
            encoder.tune(AudioTuning { source_rate, fec: false, ..GUARDED }).unwrap();
            for packet in packets(&mut encoder, &tone(48_000, 440.0, 10_000.0, 48_000), 960) {
                assert_eq!(::opus::packet::get_bandwidth(&packet).ok(), Some(band));
            }
        }
    }

    #[test]
    fn every_frame_length_of_opus_works_and_others_are_refused() {
        let mut encoder = encoder(PLAIN);
        let mut decoder = Decoder::new().unwrap();
        let mut out = [0; 3 * MAX_PACKET];
        for frame in [120, 240, 480, 960, 1920, 2880, 5760] {
            let len = encoder.encode(&tone(48_000, 300.0, 5_000.0, frame), &mut out).unwrap();
            assert_eq!(decoder.decode(&out[..len], &mut [0; MAX_SAMPLES]), Ok(frame));
            assert!(matches!(decoder.decode(&out[..len], &mut [0; 100]), Err(CodecError::Room { .. })));
        }
        assert!(matches!(encoder.encode(&[0; 961], &mut out), Err(CodecError::Unsupported(_))));
        assert!(encoder.encode(&[0; 960], &mut out).is_ok());
    }

    #[test]
    fn the_bitrate_is_kept_and_the_receivers_limit_wins() {
        let bits = |tuning, max_bitrate| {
            let mut format = AudioFormat::new(Codec::Opus);
            format.max_bitrate = max_bitrate;
            let mut encoder = Encoder::new(&format).unwrap();
            encoder.tune(tuning).unwrap();
            let signal = voice(48_000, 140.0, 96_000);
            packets(&mut encoder, &signal, 960).iter().map(|p| p.len() * 8).sum::<usize>() / 2
        };
        let free = bits(PLAIN, None);
        // The rate varies with what the sound needs; a steady vowel needs less than the target.
        assert!((38_000..=70_000).contains(&free), "{free}");
        let bound = bits(PLAIN, Some(20_000));
        assert!((14_000..=22_000).contains(&bound), "{bound}");
    }

    #[test]
    fn a_lost_packet_comes_back_from_the_next_one() {
        let signal = voice(48_000, 140.0, 48_000);
        let packets = packets(&mut encoder(GUARDED), &signal, 960);
        let (mut whole, mut lossy) = (Decoder::new().unwrap(), Decoder::new().unwrap());
        let mut guessing = Decoder::new().unwrap();
        let (mut recovered, mut concealed, mut copies) = (0.0, 0.0, 0);
        for (n, packet) in packets.iter().enumerate() {
            let mut clean = [0; 960];
            whole.decode(packet, &mut clean).unwrap();
            let (mut pcm, mut guess) = ([0; 960], [0; 960]);
            if n % 5 == 4 && n + 1 < packets.len() {
                let next = &packets[n + 1];
                if lossy.recover(next, &mut pcm) {
                    copies += 1;
                } else {
                    lossy.conceal(&mut pcm);
                }
                guessing.conceal(&mut guess);
                recovered += snr(&clean, &pcm);
                concealed += snr(&clean, &guess);
            } else {
                lossy.decode(packet, &mut pcm).unwrap();
                guessing.decode(packet, &mut guess).unwrap();
            }
        }
        // Nine packets are lost; libopus begins to add copies some packets after the start.
        assert!(copies >= 6, "{copies} copies");
        assert!(recovered > concealed + 2.0 * 9.0, "{recovered:.1} against {concealed:.1} dB in 9 packets");
    }

    #[test]
    fn recovery_says_so_when_there_is_nothing() {
        let signal = voice(48_000, 140.0, 9_600);
        let packets = packets(&mut encoder(PLAIN), &signal, 960);
        let mut decoder = Decoder::new().unwrap();
        decoder.decode(&packets[0], &mut [0; 960]).unwrap();
        let mut pcm = [7; 960];
        assert!(!decoder.recover(&packets[2], &mut pcm));
        assert!(!decoder.recover(&[], &mut pcm));
        assert_eq!(pcm, [7; 960]);
    }

    #[test]
    fn concealment_goes_on_fades_and_takes_any_length() {
        let signal = voice(48_000, 140.0, 48_000);
        let mut decoder = Decoder::new().unwrap();
        for packet in packets(&mut encoder(PLAIN), &signal, 960) {
            decoder.decode(&packet, &mut [0; 960]).unwrap();
        }
        let mut first = [0; 960];
        decoder.conceal(&mut first);
        assert!(energy(&first) > energy(&signal[47_040..]) / 8.0);
        let mut long = vec![1; 48_001];
        decoder.conceal(&mut long);
        assert!(energy(&long[47_000..]) < energy(&first));
        decoder.conceal(&mut []);
    }

    #[test]
    fn silence_is_not_sent() {
        let mut encoder = encoder(AudioTuning { dtx: true, ..GUARDED });
        let sent = packets(&mut encoder, &vec![0; 96_000], 960).iter().filter(|p| !p.is_empty()).count();
        assert!(sent < 30, "{sent} of 100 packets");
        let spoken = packets(&mut encoder, &voice(48_000, 140.0, 48_000), 960);
        assert!(spoken.iter().all(|packet| !packet.is_empty()));
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut decoder = Decoder::new().unwrap();
        let good = packets(&mut encoder(GUARDED), &voice(48_000, 140.0, 48_000), 960);
        let mut out = vec![0; MAX_SAMPLES];
        for seed in 0..3_000u64 {
            let mut bytes = good[seed as usize % good.len()].clone();
            for (n, change) in noise(seed + 1, 32_767, 1 + seed as usize % 5).iter().enumerate() {
                let at = change.unsigned_abs() as usize * (n + 1) % bytes.len();
                bytes[at] ^= change.to_le_bytes()[0];
            }
            bytes.truncate(seed as usize * 7 % (bytes.len() + 1));
            let _ = decoder.decode(&bytes, &mut out);
            let _ = decoder.recover(&bytes, &mut out[..960]);
        }
        assert_eq!(decoder.decode(&good[0], &mut out), Ok(960));
    }
}
