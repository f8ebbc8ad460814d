//! The engine's tick: calls of two legs, each heard by the other, and rooms. Figures are of one tick
//! of all legs on one thread, of its processor time, so that what else runs on the machine counts for
//! little; 20 ms would be a full core. Who talks does so in voices that differ,
//! and before and after each measurement it is checked that the engine did what its row says.

use std::f64::consts::TAU;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_codecs::kernels::level::level;
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{BusConfig, BusId, Engine, EngineConfig, EngineHandle, Route, Timeline};

const PARTIES: [u64; 4] = [2, 10, 50, 200];

/// Voices that take turns among the parties.
const VOICES: usize = 8;

/// Ticks over which a stage is checked.
const CHECKED: u64 = 50;

struct Silent;

impl Wake for Silent {
    fn thread(&self) -> usize {
        0
    }
    fn wake(&self) {}
}

/// A second of somebody, in packets of 20 ms, and how loud each is.
struct Speech(Vec<(Vec<u8>, u8)>);

impl Speech {
    /// Harmonics of `pitch` that swell and fade; silence without one.
    fn new(codec: Codec, pitch: Option<u32>) -> Rc<Self> {
        let mut encoder = Registry::built_in().audio_encoder(&AudioFormat::new(codec)).expect("an encoder");
        let rate = f64::from(codec.sample_rate());
        let sample = |n: u32| {
            let Some(pitch) = pitch else { return 0 };
            let t = f64::from(n) / rate;
            let swell = 0.8 + 0.2 * (TAU * 4.0 * t).sin();
            let tone = |k| (TAU * f64::from(pitch * k) * t).sin() / f64::from(k);
            #[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
            let sample = (2_500.0 * swell * (1..20).map(tone).sum::<f64>()) as i16;
            sample
        };
        let pcm: Vec<i16> = (0..codec.sample_rate()).map(sample).collect();
        let mut room = [0; 1_500];
        let packets = pcm.chunks_exact(pcm.len() / 50).map(|pcm| {
            let len = encoder.encode(pcm, &mut room).expect("a packet");
            (room[..len].to_vec(), level(pcm))
        });
        Rc::new(Self(packets.collect()))
    }

    fn voices(codec: Codec) -> Vec<Rc<Self>> {
        (0..VOICES).map(|n| Self::new(codec, Some(100 + 15 * u32::try_from(n).unwrap_or(0)))).collect()
    }
}

struct Leg {
    speech: Rc<Speech>,
    /// Whether its packets tell how loud they are.
    tells: bool,
    pool: Pool,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
    heard: u64,
}

impl Leg {
    fn join(handle: &EngineHandle, number: u64, codec: Codec, speech: Rc<Speech>, tells: bool) -> Self {
        let (to, frames) = rtrb::RingBuffer::new(RING);
        let (out, from) = rtrb::RingBuffer::new(RING);
        let wishes = Arc::new(Wishes::default());
        let media = MediaFormat::Audio(AudioFormat::new(codec));
        let inlet = Inlet { frames, wishes: wishes.clone() };
        handle.add_source(StreamId(number), &Timeline::new(), &media, inlet).expect("room");
        let outlet = Outlet { frames: out, wishes, wake: Arc::new(Silent) };
        handle.add_sink(StreamId(number), MediaKind::Audio, &media, outlet).expect("room");
        Self { speech, tells, pool: Pool::new(RING, 1_500), to, from, heard: 0 }
    }

    fn exchange(&mut self, tick: u64) {
        let packets = &self.speech.0;
        let (packet, level) = &packets[usize::try_from(tick).unwrap_or(0) % packets.len()];
        let Some(data) = self.pool.copy(packet) else { return };
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime(i64::try_from(tick * 20_000_000).unwrap_or(0)),
            duration: Duration::from_millis(20),
            lost_before: 0,
            keyframe: true,
            level: self.tells.then_some(*level),
            data,
        };
        let _ = self.to.push(Arrival { at: moment(tick), frame });
        while self.from.pop().is_ok() {
            self.heard += 1;
        }
    }
}

fn moment(tick: u64) -> Instant {
    Instant::from_millis(1_000_000 + tick * 20)
}

/// An engine with legs.
struct Stage {
    engine: Engine,
    handle: EngineHandle,
    legs: Vec<Leg>,
    now: u64,
}

impl Stage {
    fn new() -> Self {
        let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(Registry::built_in()));
        Self { engine, handle, legs: Vec::new(), now: 0 }
    }

    fn join(&mut self, codec: Codec, speech: &Rc<Speech>, tells: bool) {
        let number = u64::try_from(self.legs.len()).unwrap_or(u64::MAX);
        self.legs.push(Leg::join(&self.handle, number, codec, speech.clone(), tells));
    }

    /// That for some ticks each leg is sent a packet a tick, and that those that `decodes` says are
    /// decoded, all the others skipped.
    fn check(&mut self, decodes: impl Fn(u64) -> bool) {
        let now = |stage: &Self| -> Vec<_> {
            let figures = (0..).zip(&stage.legs).map(|(number, leg)| {
                let source = stage.handle.stats(StreamId(number)).source.unwrap_or_default();
                (source, leg.heard)
            });
            figures.collect()
        };
        let before = now(self);
        self.run(CHECKED);
        for (number, (before, after)) in (0..).zip(before.iter().zip(now(self))) {
            let decoded = if decodes(number) { CHECKED } else { 0 };
            assert_eq!(after.1 - before.1, CHECKED, "heard by {number}");
            assert_eq!(after.0.decoded - before.0.decoded, decoded, "decoded of {number}");
            assert_eq!(after.0.skipped - before.0.skipped, CHECKED - decoded, "skipped of {number}");
            assert_eq!(after.0.errors, 0, "refused of {number}");
        }
    }

    /// So many ticks; what the engine took for them.
    fn run(&mut self, ticks: u64) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..ticks {
            self.legs.iter_mut().for_each(|leg| leg.exchange(self.now));
            let begun = used();
            self.engine.step(moment(self.now));
            spent += used() - begun;
            self.now += 1;
        }
        spent
    }
}

/// Processor time of this thread.
fn used() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.try_into().unwrap_or_default()
}

fn calls(criterion: &mut Criterion) {
    let pairs = [(Codec::Pcmu, Codec::Pcma), (Codec::Pcmu, Codec::G722), (Codec::Pcmu, Codec::Opus)];
    for (one, other) in pairs {
        let voices = [one, other].map(Speech::voices);
        let mut group = criterion.benchmark_group(format!("tick/{one}-{other}"));
        for parties in PARTIES {
            let mut stage = Stage::new();
            for (number, (codec, voices)) in (0..parties).zip([one, other].iter().zip(&voices).cycle()) {
                stage.join(*codec, &voices[stage.legs.len() % VOICES], false);
                if number % 2 == 1 {
                    for (sink, source) in [(number, number - 1), (number - 1, number)] {
                        let route = Route::Transcode { source: StreamId(source) };
                        stage.handle.route(StreamId(sink), route).expect("a sink");
                    }
                }
                // The lane takes only so many commands at once.
                stage.run(1);
            }
            stage.run(CHECKED);
            stage.check(|_| true);
            group.bench_function(BenchmarkId::from_parameter(parties), |bencher| {
                bencher.iter_custom(|ticks| stage.run(ticks));
            });
            stage.check(|_| true);
        }
        group.finish();
    }
}

/// What a room is like.
struct Shape {
    name: &'static str,
    /// How many talk, and how many are mixed at most. Who does not talk sends silence.
    talking: u64,
    talkers: usize,
    /// Packets tell how loud they are (RFC 6464).
    tells: bool,
}

impl Shape {
    const ALL: [Self; 4] = [
        Self { name: "all-talk", talking: u64::MAX, talkers: usize::MAX, tells: false },
        Self { name: "all-talk-8-mixed", talking: u64::MAX, talkers: 8, tells: false },
        Self { name: "3-talk", talking: 3, talkers: 8, tells: false },
        Self { name: "3-talk-with-levels", talking: 3, talkers: 8, tells: true },
    ];

    /// Who is mixed has an encoder of his own; all others share one. Whose packets tell nothing is
    /// decoded, and of the others who talks.
    fn check(&self, stage: &mut Stage, bus: BusId) {
        let parties = u64::try_from(stage.legs.len()).unwrap_or(u64::MAX);
        stage.check(|number| !self.tells || number < self.talking);
        let mixed = parties.min(self.talking).min(u64::try_from(self.talkers).unwrap_or(u64::MAX));
        let stats = stage.handle.bus_stats(bus).expect("a bus");
        let expected = (parties, mixed, mixed + u64::from(parties > mixed));
        assert_eq!((stats.listeners, stats.talkers, stats.encoders), expected, "{} of {parties}", self.name);
    }
}

/// One bus that everybody is a member of and hears.
fn rooms(criterion: &mut Criterion) {
    for codec in [Codec::Opus, Codec::Pcmu] {
        let (voices, silence) = (Speech::voices(codec), Speech::new(codec, None));
        for shape in Shape::ALL {
            let mut group = criterion.benchmark_group(format!("room/{codec}/{}", shape.name));
            // The largest takes more than a tick's time for a tick.
            group.sample_size(10).measurement_time(Duration::from_secs(2));
            for parties in PARTIES {
                let mut stage = Stage::new();
                let bus = BusId(1);
                let config = BusConfig { talkers: shape.talkers, ..BusConfig::default() };
                stage.handle.add_bus(bus, &config).expect("room");
                for number in 0..parties {
                    let voice = &voices[stage.legs.len() % VOICES];
                    stage.join(codec, if number < shape.talking { voice } else { &silence }, shape.tells);
                    stage.handle.join(bus, StreamId(number), Gain::ONE).expect("a source");
                    stage.handle.route(StreamId(number), Route::Mix { bus }).expect("a sink");
                    // The lane takes only so many commands at once.
                    stage.run(1);
                }
                // All who talk have been chosen by then.
                stage.run(CHECKED);
                shape.check(&mut stage, bus);
                group.bench_function(BenchmarkId::from_parameter(parties), |bencher| {
                    bencher.iter_custom(|ticks| stage.run(ticks));
                });
                shape.check(&mut stage, bus);
            }
            group.finish();
        }
    }
}

criterion_group!(benches, calls, rooms);
criterion_main!(benches);
