//! Ticks of the whole engine: a call that is transcoded, and rooms in which three talk.

use std::sync::Arc;
use std::time::{Duration, Instant as Wall};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{BusConfig, BusId, Engine, EngineConfig, EngineHandle, Route, Timeline};

use super::CapacityError;
use super::probe::Probe;
use super::signals::voice;
use super::sound::packets;

/// The engine's.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Calls at once, so that the engine's own part is a call's share of it.
const CALLS: u32 = 10;
/// Who talks in a room.
const TALKERS: u64 = 3;
/// Ticks before the first that counts: playout has begun, all have faded in.
const SETTLING: u32 = 20;

pub(super) fn probes() -> Result<Vec<Probe>, CapacityError> {
    let mut calls = Stage::new()?;
    for call in 0..CALLS {
        let (one, other) = (u64::from(2 * call), u64::from(2 * call + 1));
        calls.join(one, Codec::Pcmu, true)?;
        calls.join(other, Codec::Opus, true)?;
        for (sink, source) in [(one, other), (other, one)] {
            calls.handle.route(StreamId(sink), Route::Transcode { source: StreamId(source) })?;
        }
        calls.run(1);
    }
    let mut probes = vec![calls.probe(
        "call-pcmu-opus",
        "tick of a call PCMU <-> Opus, both ways",
        "call and tick",
        CALLS.into(),
    )];
    for (key, parties) in [("room-20", 20), ("room-100", 100)] {
        let mut room = Stage::new()?;
        let bus = BusId(1);
        room.handle.add_bus(bus, &BusConfig::default())?;
        for number in 0..parties {
            room.join(number, Codec::Opus, number < TALKERS)?;
            room.handle.join(bus, StreamId(number), Gain::ONE)?;
            room.handle.route(StreamId(number), Route::Mix { bus })?;
            // The lane takes only so many commands at once.
            room.run(1);
        }
        room.run(SETTLING);
        let talkers = room.handle.bus_stats(bus).map_or(0, |stats| stats.talkers);
        if talkers != TALKERS {
            return Err(CapacityError::Idle("the room"));
        }
        let what = format!("tick of a room of {parties}, Opus, {TALKERS} talk");
        probes.push(room.probe(key, what, "tick", 1.0));
    }
    Ok(probes)
}

/// An engine and the parties around it.
struct Stage {
    engine: Engine,
    handle: EngineHandle,
    parties: Vec<Party>,
    /// Of each codec: somebody who talks, somebody who does not.
    speakers: Vec<Speaker>,
    now: u64,
}

/// A second of packets.
struct Speaker {
    codec: Codec,
    talks: bool,
    packets: Arc<Vec<Vec<u8>>>,
}

impl Stage {
    fn new() -> Result<Self, CapacityError> {
        let registry = Registry::built_in();
        let mut speakers = Vec::new();
        for codec in [Codec::Pcmu, Codec::Opus] {
            for talks in [false, true] {
                let mut encoder = registry.audio_encoder(&AudioFormat::new(codec))?;
                let mut signal = voice(encoder.sample_rate(), 140.0);
                if !talks {
                    signal.fill(0);
                }
                let packets = Arc::new(packets(|pcm, out| encoder.encode(pcm, out), &signal)?);
                speakers.push(Speaker { codec, talks, packets });
            }
        }
        let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(registry));
        Ok(Self { engine, handle, parties: Vec::new(), speakers, now: 0 })
    }

    fn join(&mut self, number: u64, codec: Codec, talks: bool) -> Result<(), CapacityError> {
        let speaks = |it: &&Speaker| (it.codec, it.talks) == (codec, talks);
        let Some(Speaker { packets, .. }) = self.speakers.iter().find(speaks) else {
            return Err(CapacityError::Idle("the encoder"));
        };
        let (to, frames) = rtrb::RingBuffer::new(RING);
        let (out, from) = rtrb::RingBuffer::new(RING);
        let wishes = Arc::new(Wishes::default());
        let format = MediaFormat::Audio(AudioFormat::new(codec));
        let inlet = Inlet { frames, wishes: wishes.clone() };
        self.handle.add_source(StreamId(number), &Timeline::new(), &format, inlet)?;
        let outlet = Outlet { frames: out, wishes, wake: Arc::new(Deaf) };
        self.handle.add_sink(StreamId(number), MediaKind::Audio, &format, outlet)?;
        let longest = packets.iter().map(Vec::len).max().unwrap_or(0);
        let (packets, pool) = (packets.clone(), Pool::new(RING, longest));
        self.parties.push(Party { packets, pool, to, from });
        Ok(())
    }

    /// So many ticks; the time that the engine took for them.
    fn run(&mut self, ticks: u32) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..ticks {
            self.parties.iter_mut().for_each(|party| party.exchange(self.now));
            let begun = Wall::now();
            self.engine.step(moment(self.now));
            took += begun.elapsed();
            self.now += 1;
        }
        took
    }

    fn probe(mut self, key: &'static str, what: impl Into<String>, per: &'static str, units: f64) -> Probe {
        self.run(SETTLING);
        Probe::new(key, what, per, units, move |ticks| self.run(ticks))
    }
}

/// Far end of a leg.
struct Party {
    packets: Arc<Vec<Vec<u8>>>,
    pool: Pool,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
}

impl Party {
    fn exchange(&mut self, tick: u64) {
        while self.from.pop().is_ok() {}
        let place = usize::try_from(tick).unwrap_or(0) % self.packets.len().max(1);
        let Some(data) = self.packets.get(place).and_then(|packet| self.pool.copy(packet)) else { return };
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime(i64::try_from(tick * 20_000_000).unwrap_or(i64::MAX)),
            duration: TICK,
            lost_before: 0,
            keyframe: true,
            level: None,
            data,
        };
        let _ = self.to.push(Arrival { at: moment(tick), frame });
    }
}

/// Nobody has to be woken.
struct Deaf;

impl Wake for Deaf {
    fn thread(&self) -> usize {
        0
    }

    fn wake(&self) {}
}

fn moment(tick: u64) -> Instant {
    Instant::from_millis(1_000_000 + tick * 20)
}
