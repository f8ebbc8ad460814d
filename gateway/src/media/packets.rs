//! Samples of each tick into packets of one format.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{AudioEncoder, AudioTuning};
use crosspoint_codecs::format::{AudioFormat, Codec, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};

use super::audio::LONGEST_TICK;
use super::handle::EngineError;
use super::parts::Codecs;
use super::timeline::nanos;

/// Shortest and longest packet that is made, whatever the receiver asks for: shorter ones are
/// mostly header, longer ones delay, and a lost one is heard.
const SHORTEST_PACKET: Duration = Duration::from_millis(10);
const LONGEST_PACKET: Duration = Duration::from_millis(120);
/// Frames of Opus that are one packet without repacketising (RFC 6716 section 2.1.4).
const OPUS_FRAMES_MS: [u64; 4] = [10, 20, 40, 60];
/// Bytes of the largest Opus packet (RFC 6716 section 3.4, with its header).
const OPUS_PACKET: usize = 1_276;
/// Packets on their way to the socket thread. It takes them each tick; when it has not for this
/// long, new ones are dropped and counted.
const PACKETS: usize = 16;

/// The part of a sink that depends on its format.
pub(super) struct Encoding {
    pub(super) encoder: Box<dyn AudioEncoder>,
    pub(super) rate: u32,
    pub(super) tuning: AudioTuning,
    /// What the receiver allows.
    pub(super) fec: bool,
    pool: Pool,
    /// Samples that do not fill a packet yet.
    pcm: Box<[i16]>,
    pub(super) len: usize,
    packet: usize,
    /// When the first of them was played.
    start: Instant,
}

pub(super) fn encoding(codecs: &dyn Codecs, format: &AudioFormat) -> Result<Box<Encoding>, EngineError> {
    let encoder = codecs.audio_encoder(format)?;
    let rate = encoder.sample_rate();
    let packet = usize::try_from(packet_length(format).as_nanos() * u128::from(rate) / 1_000_000_000)
        .unwrap_or(LONGEST_TICK);
    let bytes = if format.codec == Codec::Opus { OPUS_PACKET } else { packet };
    Ok(Box::new(Encoding {
        encoder,
        rate,
        tuning: AudioTuning { bitrate: None, loss_percent: 0, fec: format.fec, dtx: format.dtx },
        fec: format.fec,
        pool: Pool::new(PACKETS, bytes),
        pcm: vec![0; packet + LONGEST_TICK].into(),
        len: 0,
        packet,
        start: Instant::ZERO,
    }))
}

/// What is made of the packet time that the receiver asks for.
fn packet_length(format: &AudioFormat) -> Duration {
    let asked = format.ptime.clamp(SHORTEST_PACKET, LONGEST_PACKET);
    if format.codec == Codec::Opus {
        let fits = OPUS_FRAMES_MS.into_iter().rev().map(Duration::from_millis).find(|frame| *frame <= asked);
        return fits.unwrap_or(SHORTEST_PACKET);
    }
    // Whole milliseconds are whole samples at every rate.
    Duration::from_millis(u64::try_from(asked.as_millis()).unwrap_or(20))
}

/// What became of the samples of a packet.
pub(super) enum Packet {
    Frame(EncodedFrame),
    /// The encoder has nothing to say.
    Silent,
    Refused,
    NoRoom,
}

impl Encoding {
    /// Takes the samples of the tick at `now`.
    pub(super) fn append(&mut self, now: Instant, block: &[i16]) {
        let played = u64::try_from(self.len).unwrap_or(0) * 1_000_000_000 / u64::from(self.rate.max(1));
        if self.len == 0 || self.start + Duration::from_nanos(played) != now {
            // The first of all, or the first after steps that were left out.
            self.len = 0;
            self.start = now;
        }
        if let Some(room) = self.pcm.get_mut(self.len..self.len + block.len()) {
            room.copy_from_slice(block);
            self.len += block.len();
        }
    }

    /// The next whole packet.
    pub(super) fn packet(&mut self) -> Option<Packet> {
        if self.len < self.packet || self.packet == 0 {
            return None;
        }
        let (encoder, pcm) = (&mut self.encoder, self.pcm.get(..self.packet)?);
        let mut result = None;
        let data = self.pool.take(|room| {
            let encoded = encoder.encode(pcm, room);
            let len = encoded.as_ref().ok().copied().filter(|len| *len > 0);
            result = Some(encoded);
            len
        });
        let length = u64::try_from(self.packet).unwrap_or(0) * 1_000_000_000 / u64::from(self.rate.max(1));
        let duration = Duration::from_nanos(length);
        let packet = match (data, result) {
            (Some(data), _) => Packet::Frame(EncodedFrame {
                kind: MediaKind::Audio,
                media_time: MediaTime(nanos(self.start)),
                duration,
                lost_before: 0,
                keyframe: true,
                level: None,
                data,
            }),
            (None, Some(Ok(_))) => Packet::Silent,
            (None, Some(Err(_))) => Packet::Refused,
            (None, None) => Packet::NoRoom,
        };
        self.start += duration;
        self.pcm.copy_within(self.packet..self.len, 0);
        self.len -= self.packet;
        Some(packet)
    }
}
