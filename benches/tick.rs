//! The engine's tick: calls of two legs, each heard by the other, and rooms. Figures are of one tick
//! of all legs on one thread; 20 ms would be a full core.

use std::sync::Arc;
use std::time::{Duration, Instant as Wall};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{BusConfig, BusId, Engine, EngineConfig, EngineHandle, Route, Timeline};

const PARTIES: [u64; 4] = [2, 10, 50, 200];

/// As loud as somebody who talks.
const VOICE: i16 = 3_000;

struct Silent;

impl Wake for Silent {
    fn thread(&self) -> usize {
        0
    }
    fn wake(&self) {}
}

struct Leg {
    packet: Vec<u8>,
    pool: Pool,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
}

impl Leg {
    fn join(handle: &EngineHandle, number: u64, codec: Codec, peak: i16) -> Self {
        let format = AudioFormat::new(codec);
        let mut encoder = Registry::built_in().audio_encoder(&format).expect("an encoder");
        let mut room = [0; 1_500];
        let pcm: Vec<i16> =
            (0..codec.sample_rate() / 50).map(|n| if n % 80 < 40 { peak } else { -peak }).collect();
        let len = encoder.encode(&pcm, &mut room).expect("a packet");
        let (to, frames) = rtrb::RingBuffer::new(RING);
        let (out, from) = rtrb::RingBuffer::new(RING);
        let wishes = Arc::new(Wishes::default());
        let media = MediaFormat::Audio(format);
        let inlet = Inlet { frames, wishes: wishes.clone() };
        handle.add_source(StreamId(number), &Timeline::new(), &media, inlet).expect("room");
        let outlet = Outlet { frames: out, wishes, wake: Arc::new(Silent) };
        handle.add_sink(StreamId(number), MediaKind::Audio, &media, outlet).expect("room");
        Self { packet: room[..len].to_vec(), pool: Pool::new(RING, 1_500), to, from }
    }

    fn exchange(&mut self, tick: u64) {
        let Some(data) = self.pool.copy(&self.packet) else { return };
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime(i64::try_from(tick * 20_000_000).unwrap_or(0)),
            duration: Duration::from_millis(20),
            lost_before: 0,
            keyframe: true,
            level: None,
            data,
        };
        let _ = self.to.push(Arrival { at: moment(tick), frame });
        while self.from.pop().is_ok() {}
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

    fn join(&mut self, number: u64, codec: Codec, peak: i16) {
        self.legs.push(Leg::join(&self.handle, number, codec, peak));
    }

    /// So many ticks; the time that the engine took.
    fn run(&mut self, ticks: u64) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..ticks {
            self.legs.iter_mut().for_each(|leg| leg.exchange(self.now));
            let begun = Wall::now();
            self.engine.step(moment(self.now));
            spent += begun.elapsed();
            self.now += 1;
        }
        spent
    }
}

fn calls(criterion: &mut Criterion) {
    let pairs = [(Codec::Pcmu, Codec::Pcma), (Codec::Pcmu, Codec::G722), (Codec::Pcmu, Codec::Opus)];
    for (one, other) in pairs {
        let mut group = criterion.benchmark_group(format!("tick/{one}-{other}"));
        for parties in PARTIES {
            let mut stage = Stage::new();
            for number in 0..parties {
                stage.join(number, if number % 2 == 0 { one } else { other }, VOICE);
                if number % 2 == 1 {
                    for (sink, source) in [(number, number - 1), (number - 1, number)] {
                        let route = Route::Transcode { source: StreamId(source) };
                        stage.handle.route(StreamId(sink), route).expect("a sink");
                    }
                }
                // The lane takes only so many commands at once.
                stage.run(1);
            }
            group.bench_function(BenchmarkId::from_parameter(parties), |bencher| {
                bencher.iter_custom(|ticks| stage.run(ticks));
            });
        }
        group.finish();
    }
}

/// One bus. Who talks is mixed up to the number of talkers and has an encoder of his own; all others
/// share one. Everybody sends a packet in each tick; who does not talk sends silence.
fn rooms(criterion: &mut Criterion) {
    let all = usize::MAX;
    let shapes = [
        ("all-talk", u64::MAX, all),
        ("all-talk-8-mixed", u64::MAX, 8),
        ("3-talk", 3, 8),
        ("3-talk-all-mixed", 3, all),
    ];
    for codec in [Codec::Opus, Codec::Pcmu] {
        for (name, talking, talkers) in shapes {
            let mut group = criterion.benchmark_group(format!("room/{codec}/{name}"));
            // The largest takes more than a tick's time for a tick.
            group.sample_size(10).measurement_time(Duration::from_secs(2));
            for parties in PARTIES {
                let mut stage = Stage::new();
                let bus = BusId(1);
                stage.handle.add_bus(bus, &BusConfig { talkers, ..BusConfig::default() }).expect("room");
                for number in 0..parties {
                    stage.join(number, codec, if number < talking { VOICE } else { 0 });
                    stage.handle.join(bus, StreamId(number), Gain::ONE).expect("a source");
                    stage.handle.route(StreamId(number), Route::Mix { bus }).expect("a sink");
                    // The lane takes only so many commands at once.
                    stage.run(1);
                }
                // All who talk have been chosen.
                stage.run(20);
                let mixed = parties.min(talking).min(u64::try_from(talkers).unwrap_or(u64::MAX));
                let stats = stage.handle.bus_stats(bus).expect("a bus");
                assert_eq!((stats.talkers, stats.encoders), (mixed, mixed + u64::from(parties > mixed)));
                group.bench_function(BenchmarkId::from_parameter(parties), |bencher| {
                    bencher.iter_custom(|ticks| stage.run(ticks));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, calls, rooms);
criterion_main!(benches);
