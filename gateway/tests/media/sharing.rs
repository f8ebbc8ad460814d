//! What sharing is worth: a large room in virtual time, how many codecs work in it and what that costs.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime};
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, StreamId};
use crosspoint_gateway::media::{BusConfig, BusId, Engine, EngineConfig, EngineHandle, Route, Timeline};
use rustix::time::{ClockId, clock_gettime};

use crate::far::{Bell, Rings, START, rings};
use crate::view::{limited, room};

const SECOND: Duration = Duration::from_secs(1);
const BUS: BusId = BusId(1);
const LEGS: u64 = 100;
const TICK: u64 = 20_000_000;

/// A room of legs whose frames were coded beforehand, so that time is spent in the engine.
struct Room {
    engine: Engine,
    handle: EngineHandle,
    legs: Vec<Rings>,
    /// A second of coded speech and of coded silence.
    rounds: [Vec<Data>; 2],
    talkers: u64,
    ticks: u64,
}

/// What a second of the room took.
#[derive(Debug)]
struct Cost {
    encoders: u64,
    decoded: u64,
    cpu: Duration,
}

impl Room {
    fn new(config: &BusConfig) -> Self {
        let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(Registry::built_in()));
        handle.add_bus(BUS, config).unwrap();
        let rounds = [4_000.0, 0.0].map(coded);
        let mut room = Self { engine, handle, legs: Vec::new(), rounds, talkers: 0, ticks: 0 };
        let format = MediaFormat::Audio(AudioFormat::new(Codec::Opus));
        let bell = Arc::new(Bell::default());
        for number in 0..LEGS {
            let (rings, inlet, outlet) = rings(&bell);
            let id = StreamId(number);
            room.handle.add_source(id, &Timeline::new(), &format, inlet).unwrap();
            room.handle.add_sink(id, MediaKind::Audio, &format, outlet).unwrap();
            room.handle.join(BUS, id, Gain::ONE).unwrap();
            room.handle.route(id, Route::Mix { bus: BUS }).unwrap();
            room.legs.push(rings);
            room.tick();
        }
        room
    }

    /// Gives the time that the engine took.
    fn tick(&mut self) -> Duration {
        let now = START + self.ticks * TICK;
        for (number, leg) in self.legs.iter_mut().enumerate() {
            let talks = (number as u64) < self.talkers;
            let round = &self.rounds[usize::from(!talks)];
            let frame = EncodedFrame {
                kind: MediaKind::Audio,
                media_time: MediaTime((self.ticks * TICK) as i64),
                duration: Duration::from_nanos(TICK),
                lost_before: 0,
                keyframe: true,
                level: Some(if talks { 21 } else { 127 }),
                data: round[self.ticks as usize % round.len()].clone(),
            };
            leg.to.push(Arrival { at: Instant::from_nanos(now), frame }).unwrap();
            while leg.from.pop().is_ok() {}
        }
        self.ticks += 1;
        let before = cpu();
        self.engine.step(Instant::from_nanos(now));
        cpu() - before
    }

    /// The first so many talk; after a second, what the next one takes.
    fn talk(&mut self, talkers: u64) -> Cost {
        self.talkers = talkers;
        for _ in 0..50 {
            self.tick();
        }
        let before = self.decoded();
        let cpu = (0..50).map(|_| self.tick()).sum();
        let encoders = self.handle.worker_stats().audio.encoders;
        assert_eq!(encoders, self.handle.bus_stats(BUS).unwrap().encoders);
        Cost { encoders, decoded: self.decoded() - before, cpu }
    }

    fn decoded(&self) -> u64 {
        (0..LEGS).map(|number| self.handle.stats(StreamId(number)).source.unwrap().decoded).sum()
    }
}

/// A second of a tone of that peak in frames of 20 ms.
fn coded(peak: f64) -> Vec<Data> {
    let mut encoder = Registry::built_in().audio_encoder(&AudioFormat::new(Codec::Opus)).unwrap();
    let mut room = [0; 1_500];
    let packet = |first: u32| {
        let sample = |n: u32| peak * (TAU * 400.0 * f64::from(n) / 48_000.0).sin();
        let pcm: Vec<i16> = (first..first + 960).map(|n| sample(n) as i16).collect();
        let len = encoder.encode(&pcm, &mut room).unwrap();
        Data::from_slice(&room[..len])
    };
    (0..48_000).step_by(960).map(packet).collect()
}

/// What this thread has worked.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap(), u32::try_from(spent.tv_nsec).unwrap())
}

#[test]
fn a_hundred_of_whom_three_talk_cost_what_three_cost() {
    let all = BusConfig { talkers: usize::MAX, ..BusConfig::default() };
    let mut table = Vec::new();
    for (name, config, talkers, encoders, decoders) in [
        // One encoder for each who is mixed, as he lacks himself, and one for all others.
        ("3 of 100 talk", BusConfig::default(), 3, 3 + 1, 3),
        ("100 of 100, loudest 8 mixed", BusConfig::default(), 100, 8 + 1, 8),
        ("3 of 100 talk, all mixed", all, 3, 3 + 1, 3),
        ("100 of 100, all mixed", all, 100, 100, 100),
    ] {
        let cost = Room::new(&config).talk(talkers);
        println!(
            "{name:<28} {:>3} encoders {:>5} decoded {:>9.2?} of a second",
            cost.encoders, cost.decoded, cost.cpu
        );
        assert_eq!((cost.encoders, cost.decoded), (encoders, decoders * 50), "{name}");
        table.push(cost.cpu.as_secs_f64());
    }
    // A twenty-fifth, and a tenth with eight. What grows with the legs and not with the talkers is
    // rings, playout, levels and copies of packets.
    for few in &table[..3] {
        assert!(few / table[3] < 0.3, "{few:.4} s of {:.4}", table[3]);
    }
}

#[test]
fn one_who_loses_a_tenth_costs_the_others_no_picture_and_few_keyframes() {
    let (mut scene, viewers) = room(&[limited(400_000), limited(400_000), limited(400_000)]);
    scene.run(3 * SECOND);
    scene.forget();
    let bad = viewers[1];
    scene.cameras[bad].lose_incoming = |number| number.wrapping_mul(2_654_435_761) >> 7 & 0xff < 26;
    let mut keyframes = [0; 5];
    for each in &mut keyframes {
        // A picture loss indication each 200 ms.
        for _ in 0..10 {
            scene.cameras[bad].rings.wishes.ask_keyframe();
            scene.run(SECOND / 5);
        }
        *each = scene.cameras[viewers[0]].keyframes();
    }
    let in_two_seconds = keyframes.iter().scan(0, |before, now| Some(now - std::mem::replace(before, *now)));
    let in_two_seconds: Vec<usize> = in_two_seconds.collect();
    assert!(in_two_seconds.iter().all(|keyframes| *keyframes <= 1), "{in_two_seconds:?} each two seconds");
    for place in [viewers[0], viewers[2]] {
        // Decoding asserts that nothing is concealed. Pictures are 33 ms apart.
        let seen = &scene.cameras[place].seen;
        let gap = seen.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
        assert!(seen.len() >= 298 && gap < 50_000_000, "{} pictures, {gap} ns apart", seen.len());
    }
    let camera = &scene.cameras[bad];
    let (came, lost) = (camera.units.len() as u64, camera.lost_incoming);
    assert!((8..=12).contains(&(100 * lost / (came + lost))), "{lost} lost of {came}");
    assert!(camera.seen.len() > 90, "it sees {} whole pictures", camera.seen.len());
    assert_eq!(scene.handle.worker_stats().video.encoders, 2);
}
