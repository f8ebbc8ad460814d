//! Samples of each tick into packets of one format.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{AudioEncoder, AudioTuning};
use crosspoint_codecs::format::{AudioFormat, Codec, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_codecs::kernels::level::level;

use super::arrival::nanos;
use super::audio::{LONGEST_TICK, TICK};
use super::crew::effort;
use super::handle::EngineError;
use super::parts::Codecs;
use super::port::RING;

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
/// The same for packets that many sinks share: one whose thread stands still holds a ring full of
/// them, and the others must not miss any.
const SHARED_PACKETS: usize = RING + PACKETS;
/// Packets that a tick makes at most: the shortest are of 10 ms.
pub(super) const PACKETS_A_TICK: usize = 2;
/// Sound that an encoder of Opus is fed to go on from another one. Its energies are predicted from
/// those of the frame before: after one frame of 20 ms the receiver's decoder still has other ones
/// (10 dB over the error in the worst 50 ms), after two it has not (31 dB). A longer past changes
/// nothing more; nor is a packet better that is predicted from nothing
/// (`OPUS_SET_PREDICTION_DISABLED`: 29 dB, and 1 dB for packets of 60 ms).
const PAST: Duration = Duration::from_millis(40);
/// What an encoder for many with loss is told: none of them is asked, and 10 % is where FEC helps
/// most.
const SHARED_LOSS_PERCENT: u8 = 10;

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
    /// About how long encoding takes, in microseconds, where somebody of the crew may do it.
    effort: u32,
    /// Of this tick.
    made: [Option<Packet>; PACKETS_A_TICK],
    /// When the first of them was played.
    start: Instant,
    /// Samples to come that belong to no packet: the first one has not begun.
    skip: usize,
    /// The samples of the last packets, [`PAST`] at least; silence before the first.
    past: Box<[i16]>,
    begun: bool,
}

/// For one sink.
pub(super) fn encoding(codecs: &dyn Codecs, format: &AudioFormat) -> Result<Box<Encoding>, EngineError> {
    with_room(codecs, format, PACKETS)
}

/// For many sinks, which have loss when the format has forward error correction.
pub(super) fn shared_encoding(
    codecs: &dyn Codecs,
    format: &AudioFormat,
) -> Result<Box<Encoding>, EngineError> {
    let mut encoding = with_room(codecs, format, SHARED_PACKETS)?;
    if format.fec {
        encoding.tuning.loss_percent = SHARED_LOSS_PERCENT;
        encoding.encoder.tune(encoding.tuning)?;
    }
    Ok(encoding)
}

fn with_room(
    codecs: &dyn Codecs,
    format: &AudioFormat,
    packets: usize,
) -> Result<Box<Encoding>, EngineError> {
    let encoder = codecs.audio_encoder(format)?;
    let rate = encoder.sample_rate();
    let packet = usize::try_from(packet_length(format).as_nanos() * u128::from(rate) / 1_000_000_000)
        .unwrap_or(LONGEST_TICK);
    let past = usize::try_from(PAST.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(0);
    let past = past.div_ceil(packet.max(1)).max(1) * packet;
    let bytes = if format.codec == Codec::Opus { OPUS_PACKET } else { packet };
    Ok(Box::new(Encoding {
        encoder,
        rate,
        tuning: AudioTuning::of(format),
        fec: format.fec,
        pool: Pool::new(packets, bytes),
        pcm: vec![0; packet + LONGEST_TICK].into(),
        len: 0,
        packet,
        effort: effort(format.codec),
        made: [const { None }; PACKETS_A_TICK],
        start: Instant::ZERO,
        skip: 0,
        past: vec![0; past].into(),
        begun: false,
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
        if !self.begun || self.start + self.length(self.len) != now + self.length(self.skip) {
            // The first of all, or the first after steps that were left out.
            self.begin(now, block.len());
        }
        let early = self.skip.min(block.len());
        self.skip -= early;
        let block = &block[early..];
        if let Some(room) = self.pcm.get_mut(self.len..self.len + block.len()) {
            room.copy_from_slice(block);
            self.len += block.len();
        }
    }

    /// Whether [`Self::pack`] has something to do that takes so long that somebody of the crew may do
    /// it.
    pub(super) const fn is_heavy(&self) -> bool {
        self.effort > 0 && self.len >= self.packet
    }

    /// About how long that takes, in microseconds.
    pub(super) const fn effort(&self) -> u32 {
        self.effort
    }

    /// Encodes what fills packets.
    pub(super) fn pack(&mut self) {
        for at in 0..PACKETS_A_TICK {
            self.made[at] = self.packet();
        }
    }

    /// What the last [`Self::pack`] made, once.
    pub(super) fn made(&mut self) -> [Option<Packet>; PACKETS_A_TICK] {
        std::mem::replace(&mut self.made, [const { None }; PACKETS_A_TICK])
    }

    /// The next whole packet.
    fn packet(&mut self) -> Option<Packet> {
        if self.len < self.packet || self.packet == 0 {
            return None;
        }
        let (encoder, pcm) = (&mut self.encoder, self.pcm.get(..self.packet)?);
        let level = level(pcm);
        let mut result = None;
        let data = self.pool.take(|room| {
            let encoded = encoder.encode(pcm, room);
            let len = encoded.as_ref().ok().copied().filter(|len| *len > 0);
            result = Some(encoded);
            len
        });
        let duration = self.length(self.packet);
        let packet = match (data, result) {
            (Some(data), _) => Packet::Frame(EncodedFrame {
                kind: MediaKind::Audio,
                media_time: MediaTime(nanos(self.start)),
                duration,
                lost_before: 0,
                keyframe: true,
                level: Some(level),
                data,
            }),
            (None, Some(Ok(_))) => Packet::Silent,
            (None, Some(Err(_))) => Packet::Refused,
            (None, None) => Packet::NoRoom,
        };
        self.start += duration;
        self.past.copy_within(self.packet.., 0);
        let newest = self.past.len() - self.packet;
        self.past[newest..].copy_from_slice(&self.pcm[..self.packet]);
        self.pcm.copy_within(self.packet..self.len, 0);
        self.len -= self.packet;
        Some(packet)
    }

    /// Goes on as `other` would, which wants the same format: with what it has of the next packet,
    /// and an encoder that knows the last ones.
    pub(super) fn adopt(&mut self, other: &Self) {
        self.reset();
        if other.packet != self.packet || !other.begun {
            return;
        }
        (self.begun, self.start, self.skip, self.len) = (true, other.start, other.skip, other.len);
        self.pcm[..other.len].copy_from_slice(&other.pcm[..other.len]);
        self.past.copy_from_slice(&other.past);
        if self.encoder.adopt(&*other.encoder) {
            return;
        }
        let Self { encoder, past, pool, packet, .. } = self;
        for past in past.chunks_exact(*packet) {
            let _ = pool.take(|room| {
                // For what it remembers, not for the packet.
                let _ = encoder.encode(past, room);
                None
            });
        }
    }

    /// Forgets the past.
    pub(super) fn reset(&mut self) {
        if self.begun {
            self.encoder.reset();
            self.past.fill(0);
            self.begun = false;
            self.len = 0;
        }
    }

    /// Begins soon after `now`. Packets of one length begin at the same moments wherever they are
    /// made, so that a sink may go from one encoder to another between two: what comes before the first
    /// such moment, less than a packet, is left out.
    fn begin(&mut self, now: Instant, tick: usize) {
        let ticks = usize::try_from(u128::from(now.as_nanos()) / TICK.as_nanos()).unwrap_or(0);
        let packet = self.packet.max(1);
        self.skip = (packet - ticks.wrapping_mul(tick) % packet) % packet;
        self.len = 0;
        self.start = now + self.length(self.skip);
        self.begun = true;
    }

    fn length(&self, samples: usize) -> Duration {
        let nanos = u64::try_from(samples).unwrap_or(0).saturating_mul(1_000_000_000);
        Duration::from_nanos(nanos / u64::from(self.rate.max(1)))
    }
}
