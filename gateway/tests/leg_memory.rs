//! What a leg costs in memory while it runs in the engine: bytes that Rust has on the heap, and what the
//! process has resident more, which has the C codecs in it as well.
//!
//! One test, alone in its process: others would be in its figures. Rings and buffers on the side of the
//! sockets are not in it.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::f64::consts::TAU;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::VideoEncoding;
use crosspoint_codecs::format::{
    AudioFormat, Codec, H264Profile, MediaFormat, MediaKind, PacketizationMode, VideoFormat,
};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime, Pool, VideoFrame};
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{Engine, EngineConfig, EngineHandle, Route, Timeline};

/// Bytes that are allocated now.
static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same as ours. Pages that nobody touches stay away.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const START: u64 = 1_000_000_000_000;
const STEP: u64 = 10_000_000;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Most that a leg may hold on the heap, and have resident. Sound: the 2000 legs of the default limit
/// of calls fit into 320 MiB. 720p: about six of them keep a core busy with their codecs, and a core has
/// a GiB or more; its six pictures to decode into and six coded ones take most of the heap, of which
/// a picture of 1080p that never comes is not touched, and the two codecs have some 20 MiB of their own.
const SOUND: (usize, usize) = (96 * KIB, 160 * KIB);
const PICTURES: (usize, usize) = (32 * MIB, 40 * MIB);

struct Quiet;

impl Wake for Quiet {
    fn thread(&self) -> usize {
        0
    }
    fn wake(&self) {}
}

/// One stream with its far ends of the rings.
struct Leg {
    id: StreamId,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
    begun: u64,
    sent: u64,
}

/// What is sent round and round, and how often.
struct Round {
    format: MediaFormat,
    frames: Vec<(Data, bool)>,
    every: u64,
}

struct Scene {
    engine: Engine,
    handle: EngineHandle,
    now: u64,
}

impl Scene {
    /// `count` legs of the form of `round`, each of which is sent what the next one sends, transcoded,
    /// for a second and more. Gives what one of them holds on the heap, and has resident.
    fn cost(&mut self, count: u64, round: &Round) -> (usize, usize) {
        let before = (HELD.load(Relaxed), resident());
        let mut legs: Vec<Leg> = (0..count).map(|number| self.join(number, &round.format)).collect();
        for (leg, source) in legs.iter().zip(legs.iter().cycle().skip(1)) {
            self.handle.route(leg.id, Route::Transcode { source: source.id }).unwrap();
            self.step();
        }
        for _ in 0..120 {
            legs.iter_mut().for_each(|leg| leg.send(self.now, round));
            self.step();
            legs.iter_mut().for_each(|leg| while leg.from.pop().is_ok() {});
        }
        let each = |before: usize, after: usize| after.saturating_sub(before) / legs.len();
        let cost = (each(before.0, HELD.load(Relaxed)), each(before.1, resident()));
        for leg in &legs {
            let figures = self.handle.stats(leg.id);
            assert!(figures.sink.unwrap().encoded > 30, "{figures:?}");
            self.handle.remove(leg.id).unwrap();
            self.step();
        }
        cost
    }

    fn step(&mut self) {
        self.now += STEP;
        self.engine.step(Instant::from_nanos(self.now));
    }

    fn join(&mut self, number: u64, format: &MediaFormat) -> Leg {
        let id = StreamId(number);
        let kind = if format.codec().is_video() { MediaKind::Main } else { MediaKind::Audio };
        let (to, frames) = rtrb::RingBuffer::new(RING);
        let (out, from) = rtrb::RingBuffer::new(RING);
        let wishes = Arc::new(Wishes::default());
        let inlet = Inlet { frames, wishes: wishes.clone() };
        let outlet = Outlet { frames: out, wishes, wake: Arc::new(Quiet) };
        self.handle.add_source(id, &Timeline::new(), format, inlet).unwrap();
        self.handle.add_sink(id, kind, format, outlet).unwrap();
        self.step();
        Leg { id, to, from, begun: self.now, sent: 0 }
    }
}

impl Leg {
    fn send(&mut self, now: u64, round: &Round) {
        while self.begun + self.sent * round.every <= now {
            let (data, keyframe) =
                round.frames[usize::try_from(self.sent).unwrap() % round.frames.len()].clone();
            let at = self.begun + self.sent * round.every;
            let video = round.format.codec().is_video();
            let frame = EncodedFrame {
                kind: if video { MediaKind::Main } else { MediaKind::Audio },
                media_time: MediaTime(i64::try_from(at).unwrap()),
                duration: Duration::from_nanos(if video { 0 } else { round.every }),
                lost_before: 0,
                keyframe,
                level: None,
                data,
            };
            self.sent += 1;
            let _ = self.to.push(Arrival { at: Instant::from_nanos(at), frame });
        }
    }
}

fn sound() -> Round {
    let format = AudioFormat::new(Codec::Opus);
    let mut encoder = Registry::built_in().audio_encoder(&format).unwrap();
    let mut room = [0; 1_500];
    let packet = |first: u32| {
        #[allow(clippy::cast_possible_truncation, reason = "a tone of 8000")]
        let sample = |n: u32| (8_000.0 * (TAU * 400.0 * f64::from(n) / 48_000.0).sin()) as i16;
        let pcm: Vec<i16> = (first..first + 960).map(sample).collect();
        let len = encoder.encode(&pcm, &mut room).unwrap();
        (Data::from_slice(&room[..len]), true)
    };
    let frames = (0..48_000).step_by(960).map(packet).collect();
    Round { format: MediaFormat::Audio(format), frames, every: 20_000_000 }
}

fn pictures() -> Round {
    let (width, height, every) = (1_280, 720, 1_000_000_000 / 30);
    let format = VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        mode: PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    };
    let encoding = VideoEncoding {
        bitrate: 2_000_000,
        frame_rate: 30.0,
        profile: format.profile,
        level: format.level,
        max_nal: None,
        sharp: false,
    };
    let mut encoder = Registry::built_in().video_encoder(&format, encoding).unwrap();
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    let mut room = vec![0; MIB];
    let unit = |number: usize| {
        let picture = VideoFrame::new(&pool, width, height, |planes| {
            for (at, pixel) in planes.y.iter_mut().enumerate() {
                let (x, y) = (at % width + 3 * number, at / width + number);
                *pixel = u8::try_from(80 + (x / 24 * 7 + y / 20 * 11) % 90).unwrap();
            }
            planes.u.fill(110);
            planes.v.fill(140);
        });
        let at = Duration::from_nanos(number as u64 * every);
        let encoded = encoder.encode(&picture.unwrap(), at, &mut room).unwrap();
        (encoded.len > 0).then(|| (Data::from_slice(&room[..encoded.len]), encoded.keyframe))
    };
    Round { format: MediaFormat::Video(format), frames: (0..30).filter_map(unit).collect(), every }
}

/// Bytes of the process that are in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
}

#[test]
fn a_leg_of_sound_and_one_of_720p_stay_within_their_memory() {
    let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(Registry::built_in()));
    let mut scene = Scene { engine, handle, now: START };
    for (round, count, most) in [(sound(), 100, SOUND), (pictures(), 20, PICTURES)] {
        let (heap, resident) = scene.cost(count, &round);
        let codec = round.format.codec();
        println!("{codec}: {} KiB on the heap, {} KiB resident", heap / KIB, resident / KIB);
        assert!(heap <= most.0, "{codec}: {heap} bytes on the heap");
        assert!(resident <= most.1, "{codec}: {resident} bytes resident");
    }
}
