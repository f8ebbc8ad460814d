//! The engine's tick: calls of two legs, each heard by the other. Figures are of one tick of all
//! legs on one thread; 20 ms would be a full core.

use std::sync::Arc;
use std::time::{Duration, Instant as Wall};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{Engine, EngineConfig, EngineHandle, Route, Timeline};

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
    fn join(handle: &EngineHandle, number: u64, codec: Codec) -> Self {
        let format = AudioFormat::new(codec);
        let mut encoder = Registry::built_in().audio_encoder(&format).expect("an encoder");
        let mut room = [0; 1_500];
        let pcm: Vec<i16> =
            (0..codec.sample_rate() / 50).map(|n| if n % 80 < 40 { 3_000 } else { -3_000 }).collect();
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

fn tick(criterion: &mut Criterion) {
    let pairs = [(Codec::Pcmu, Codec::Pcma), (Codec::Pcmu, Codec::G722), (Codec::Pcmu, Codec::Opus)];
    for (one, other) in pairs {
        let mut group = criterion.benchmark_group(format!("tick/{one}-{other}"));
        for parties in [2u64, 10, 50, 200] {
            let (mut engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(Registry::built_in()));
            let mut legs = Vec::new();
            for number in 0..parties {
                legs.push(Leg::join(&handle, number, if number % 2 == 0 { one } else { other }));
                if number % 2 == 1 {
                    for (sink, source) in [(number, number - 1), (number - 1, number)] {
                        let route = Route::Transcode { source: StreamId(source) };
                        handle.route(StreamId(sink), route).expect("a sink");
                    }
                }
                // The lane takes only so many commands at once.
                engine.step(moment(number));
            }
            let mut now = parties;
            group.bench_function(BenchmarkId::from_parameter(parties), |bencher| {
                bencher.iter_custom(|ticks| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..ticks {
                        legs.iter_mut().for_each(|leg| leg.exchange(now));
                        let begun = Wall::now();
                        engine.step(moment(now));
                        spent += begun.elapsed();
                        now += 1;
                    }
                    spent
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, tick);
criterion_main!(benches);
