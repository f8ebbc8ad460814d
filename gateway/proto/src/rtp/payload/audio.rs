//! Sound: one frame a packet (RFC 3551 section 4.5, RFC 7587 section 4), and how long a payload
//! lasts, which its codec tells.

use std::time::Duration;

use crosspoint_codecs::format::Codec;

use super::{Depacketizer, Packetizer, Payload, PayloadError, Unit};

/// Longest payload that counts as sound: 120 ms of Opus at its highest rate (RFC 6716 section 2.1)
/// and 187 ms of G.711, more than any packet on the internet holds.
pub const MAX_AUDIO: usize = 1500;

/// How long `payload` lasts in ticks of the codec's RTP clock. `None` when it is malformed, empty or
/// not sound.
pub fn ticks(codec: Codec, payload: &[u8]) -> Option<u32> {
    match codec {
        Codec::Opus => opus_ticks(payload),
        // One byte a tick: G.722 has two samples in it, and a clock of half its rate (section 4.5.2).
        Codec::G722 | Codec::Pcmu | Codec::Pcma => {
            u32::try_from(payload.len()).ok().filter(|ticks| *ticks > 0)
        }
        _ => None,
    }
}

/// How long `payload` lasts.
pub fn duration(codec: Codec, payload: &[u8]) -> Option<Duration> {
    let nanos = u64::from(ticks(codec, payload)?).saturating_mul(1_000_000_000);
    nanos.checked_div(u64::from(codec.rtp_clock())).map(Duration::from_nanos)
}

/// Bytes of `duration` in a codec whose packets may be cut and joined anywhere; `None` for the
/// others, whose packets stay as the encoder made them.
pub fn bytes_of(codec: Codec, duration: Duration) -> Option<usize> {
    match codec {
        Codec::G722 | Codec::Pcmu | Codec::Pcma => {
            let bytes = duration.as_nanos().saturating_mul(u128::from(codec.rtp_clock())) / 1_000_000_000;
            usize::try_from(bytes).ok()
        }
        _ => None,
    }
}

/// Opus: the configuration in the first byte tells the length of a frame, its code how many there
/// are (RFC 6716 sections 3.1 and 3.2), in ticks of 48 kHz.
fn opus_ticks(packet: &[u8]) -> Option<u32> {
    let (first, rest) = packet.split_first()?;
    // Table 2: four configurations for each SILK mode, two for each hybrid one, four for CELT.
    let frame: u32 = match (first >> 3, first >> 3 & 3) {
        (0..=11, 0) => 480,
        (0..=11, 1) => 960,
        (0..=11, 2) => 1920,
        (0..=11, _) => 2880,
        (12..=15, size) => {
            if size & 1 == 0 {
                480
            } else {
                960
            }
        }
        (_, 0) => 120,
        (_, 1) => 240,
        (_, 2) => 480,
        (_, _) => 960,
    };
    let frames = match first & 3 {
        0 => 1,
        // Two of equal length, so what is left must be even (R3).
        1 if rest.len() % 2 == 0 => 2,
        1 => return None,
        2 => 2,
        // Any number, in the low six bits of the next byte (section 3.2.5).
        _ => u32::from(rest.first()? & 0x3f),
    };
    // At least one frame, and at most 120 ms (R5).
    frame.checked_mul(frames).filter(|ticks| (1..=5760).contains(ticks))
}

/// One packet a frame, for every codec of sound.
#[derive(Debug, Default)]
pub struct AudioPacketizer;

impl Packetizer for AudioPacketizer {
    /// The marker is the caller's business: it marks the first packet after silence (RFC 3551
    /// section 4.1), which only he knows.
    fn packetize(
        &mut self,
        frame: &[u8],
        limit: usize,
        emit: &mut dyn FnMut(&[u8], bool),
    ) -> Result<(), PayloadError> {
        if frame.is_empty() || frame.len() > limit {
            return Err(PayloadError::Unsendable { limit });
        }
        emit(frame, false);
        Ok(())
    }
}

/// One frame a packet, for every codec of sound.
#[derive(Debug)]
pub struct AudioDepacketizer {
    codec: Codec,
    lost: u16,
}

impl AudioDepacketizer {
    /// For packets of `codec`.
    pub const fn new(codec: Codec) -> Self {
        Self { codec, lost: 0 }
    }
}

impl Depacketizer for AudioDepacketizer {
    fn push(&mut self, payload: Payload<'_>, emit: &mut dyn FnMut(Unit<'_>)) -> Result<(), PayloadError> {
        self.lost = self.lost.saturating_add(payload.lost_before);
        if payload.data.len() > MAX_AUDIO {
            self.lost = self.lost.saturating_add(1);
            return Err(PayloadError::TooLarge { limit: MAX_AUDIO });
        }
        if ticks(self.codec, payload.data).is_none() {
            // To the decoder it is as if it had never come.
            self.lost = self.lost.saturating_add(1);
            return Err(PayloadError::Malformed("not a packet of this codec"));
        }
        let lost = std::mem::take(&mut self.lost);
        emit(Unit { data: payload.data, timestamp: payload.timestamp, lost, damaged: false, keyframe: true });
        Ok(())
    }

    fn reset(&mut self) {
        self.lost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_packets_tell_their_length() {
        // RFC 6716 table 2: SILK NB 10 to 60 ms, hybrid 10 and 20, CELT 2.5 to 20.
        for (config, millis) in
            [(0, 10.0), (1, 20.0), (2, 40.0), (3, 60.0), (11, 60.0), (12, 10.0), (13, 20.0)]
        {
            assert_eq!(duration(Codec::Opus, &[config << 3]), Some(Duration::from_secs_f64(millis / 1000.0)));
        }
        for (config, millis) in
            [(14, 10.0), (15, 20.0), (16, 2.5), (17, 5.0), (18, 10.0), (19, 20.0), (31, 20.0)]
        {
            assert_eq!(duration(Codec::Opus, &[config << 3]), Some(Duration::from_secs_f64(millis / 1000.0)));
        }
    }

    #[test]
    fn opus_packets_of_more_frames() {
        let twenty = 31 << 3;
        assert_eq!(ticks(Codec::Opus, &[twenty | 1, 1, 2]), Some(1920));
        assert_eq!(ticks(Codec::Opus, &[twenty | 1, 1]), None, "R3: two equal halves of one byte");
        assert_eq!(ticks(Codec::Opus, &[twenty | 2, 1, 9, 9]), Some(1920));
        assert_eq!(ticks(Codec::Opus, &[twenty | 3, 6]), Some(5760));
        assert_eq!(ticks(Codec::Opus, &[twenty | 3, 7]), None, "R5: more than 120 ms");
        assert_eq!(ticks(Codec::Opus, &[twenty | 3, 0]), None, "no frames");
        assert_eq!(ticks(Codec::Opus, &[twenty | 3]), None);
        assert_eq!(ticks(Codec::Opus, &[]), None);
    }

    #[test]
    fn sample_codecs_are_counted_in_bytes() {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722] {
            assert_eq!(bytes_of(codec, Duration::from_millis(30)), Some(240));
            assert_eq!(duration(codec, &[0; 240]), Some(Duration::from_millis(30)));
            assert_eq!(ticks(codec, &[]), None);
        }
        assert_eq!(bytes_of(Codec::Opus, Duration::from_millis(20)), None);
        assert_eq!(duration(Codec::H264, &[0; 240]), None);
    }

    #[test]
    fn a_refused_packet_counts_as_lost() {
        let mut depacketizer = AudioDepacketizer::new(Codec::Opus);
        let payload = Payload { data: &[0xf8, 1], timestamp: 960, marker: false, lost_before: 2 };
        let mut lost = Vec::new();
        assert!(depacketizer.push(Payload { data: &[], ..payload }, &mut |_| panic!("emitted")).is_err());
        let long = [0; MAX_AUDIO + 1];
        assert!(depacketizer.push(Payload { data: &long, ..payload }, &mut |_| panic!("emitted")).is_err());
        depacketizer.push(payload, &mut |unit| lost.push(unit.lost)).unwrap();
        depacketizer.push(Payload { lost_before: 0, ..payload }, &mut |unit| lost.push(unit.lost)).unwrap();
        assert_eq!(lost, [8, 0]);
    }

    #[test]
    fn a_frame_is_a_packet() {
        let mut packets = Vec::new();
        AudioPacketizer
            .packetize(b"frame", 5, &mut |data, marker| packets.push((data.to_vec(), marker)))
            .unwrap();
        assert_eq!(packets, [(b"frame".to_vec(), false)]);
        assert!(AudioPacketizer.packetize(b"frame", 4, &mut |_, _| panic!("emitted")).is_err());
        assert!(AudioPacketizer.packetize(b"", 4, &mut |_, _| panic!("emitted")).is_err());
    }
}
