//! The engine's threads: they keep time, park when there is nobody to serve, and end.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as Wall};

use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{
    ClockFn, Crew, EngineConfig, EngineError, EngineHandle, Playback, Route, Timeline,
};
use crosspoint_gateway::net::clock::Clock;

#[derive(Default)]
struct Bell(AtomicU64);

impl Wake for Bell {
    fn thread(&self) -> usize {
        0
    }
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn start() -> (EngineHandle, Clock) {
    let clock = Clock::start();
    let asked: ClockFn = Arc::new(move || clock.now());
    (
        EngineHandle::start(
            &EngineConfig::default(),
            Arc::new(Registry::built_in()),
            asked.clone(),
            &Crew::start(2, &asked).unwrap(),
        )
        .unwrap(),
        clock,
    )
}

struct Stream {
    id: StreamId,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
    bell: Arc<Bell>,
}

fn join(engine: &EngineHandle, number: u64, codec: Codec) -> Stream {
    let id = StreamId(number);
    let (to, frames) = rtrb::RingBuffer::new(RING);
    let (out, from) = rtrb::RingBuffer::new(RING);
    let (wishes, bell) = (Arc::new(Wishes::default()), Arc::new(Bell::default()));
    let format = MediaFormat::Audio(AudioFormat::new(codec));
    let inlet = Inlet { frames, wishes: wishes.clone() };
    engine.add_source(id, &Timeline::new(), &format, inlet).unwrap();
    let outlet = Outlet { frames: out, wishes, wake: bell.clone() };
    engine.add_sink(id, MediaKind::Audio, &format, outlet).unwrap();
    Stream { id, to, from, bell }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until `done`, which a loaded machine may delay, but not for ever.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Wall::now() + Duration::from_secs(20);
    while !done() {
        assert!(Wall::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One test, for it counts the threads of the process.
#[test]
fn engines_park_keep_time_and_leave_nothing_behind() {
    // Nobody to serve: no step at all.
    let (engine, clock) = start();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(engine.worker_stats().audio.steps, 0);
    assert_eq!(engine.worker_stats().video.steps, 0);

    // Two legs for two seconds: a step every 20 ms, packets both ways, one wake for each step.
    let (mut one, mut other) = (join(&engine, 1, Codec::Opus), join(&engine, 2, Codec::Pcmu));
    engine.route(one.id, Route::Transcode { source: other.id }).unwrap();
    engine.route(other.id, Route::Play(Playback::Tone { hertz: 500 })).unwrap();
    let pool = Pool::new(RING, 160);
    let begun = Wall::now();
    let mut packets = 0u32;
    for number in 0..100u32 {
        let due = Duration::from_millis(20) * number;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime(i64::from(number) * 20_000_000),
            duration: Duration::from_millis(20),
            lost_before: 0,
            keyframe: true,
            level: None,
            data: pool.copy(&[0xff; 160]).unwrap(),
        };
        other.to.push(Arrival { at: clock.now(), frame }).unwrap();
        for stream in [&mut one, &mut other] {
            while stream.from.pop().is_ok() {
                packets += 1;
            }
        }
    }
    let stats = engine.worker_stats().audio;
    println!("{stats:?}");
    let left_out = stats.jumped;
    let steps = stats.steps + stats.caught_up + left_out;
    assert!((95..=115).contains(&steps), "{stats:?}");
    assert!(u64::from(packets) + 2 * left_out > 180, "{packets} packets");
    assert!(stats.late_p50 <= stats.late_p99 && stats.late_p99 <= stats.late_max);
    assert_eq!((stats.members, engine.worker_stats().video.steps), (4, 0));
    assert_eq!(stats.encoders, 2);
    assert!(one.bell.0.load(Ordering::Relaxed) > 90, "both are told");
    assert!(engine.stats(other.id).source.unwrap().decoded > 80);

    // All gone: the steps end, and so do the parts.
    engine.remove(one.id).unwrap();
    engine.remove(other.id).unwrap();
    wait("the end of the steps", || engine.worker_stats().audio.members == 0);
    wait("the end of the encoders", || engine.worker_stats().audio.encoders == 0);
    wait("the sink's end", || one.from.is_abandoned() && other.from.is_abandoned());
    let steps = engine.worker_stats().audio.steps;
    std::thread::sleep(Duration::from_millis(100));
    assert!(engine.worker_stats().audio.steps <= steps + 1);
    // And begin again with the next stream.
    let third = join(&engine, 3, Codec::Pcma);
    engine.route(third.id, Route::Play(Playback::Silence)).unwrap();
    wait("packets", || third.bell.0.load(Ordering::Relaxed) > 3);
    engine.stop();
    assert!(matches!(engine.remove(third.id), Err(EngineError::Stopped)));
    engine.stop();
    drop(engine);

    // 200 engines, some with a stream, some stopped and some only dropped.
    let before = threads();
    for number in 0..200u64 {
        let (engine, _) = start();
        if number % 3 == 0 {
            let _stream = join(&engine, number, Codec::G722);
            engine.route(StreamId(number), Route::Play(Playback::Ringback)).unwrap();
        }
        if number % 2 == 0 {
            engine.stop();
        }
    }
    wait("the end of the threads", || threads() == before);
}
