//! One bad sender of pictures costs the others nothing: how late the ticks of sound and pictures are,
//! with and without it, in turns of one run. And its own picture is back within a second of good
//! input. In real time, so it belongs to the release gate.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{Decoded, VideoEncoding};
use crosspoint_codecs::format::{
    AudioFormat, Codec, H264Profile, MediaFormat, MediaKind, PacketizationMode, VideoFormat,
};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool, VideoFrame};
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{
    BusConfig, BusId, ClockFn, Crew, EngineConfig, EngineHandle, Route, Timeline,
};
use crosspoint_gateway::net::clock::Clock;

/// Turns with and without the bad sender.
const ROUNDS: usize = 3;
/// How long a turn lasts, and how long the bad sender is good at its end.
const TURN: Duration = Duration::from_secs(6);
const GOOD_AGAIN: Duration = Duration::from_secs(2);
/// What the others may notice, in the median of the rounds.
const NOTICED: Duration = Duration::from_millis(1);
/// When its own picture is back at the latest.
const BACK_WITHIN: Duration = Duration::from_secs(1);

const FRAME: Duration = Duration::from_nanos(33_333_333);
/// Brightness of the picture by which the bad sender's good one is known.
const BRIGHT: u8 = 200;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It is not there.
    Absent,
    /// Three of ten frames are missing.
    Loss,
    /// What it sends is no H.264.
    Garbage,
    /// Another size each second.
    Sizes,
    /// It sends for a second, then nothing for a second.
    Stalls,
}

#[test]
fn one_bad_sender_costs_the_others_nothing() {
    let clips = Clips::new();
    for fault in [Fault::Loss, Fault::Garbage, Fault::Sizes, Fault::Stalls] {
        let mut more = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            let without = turn(&clips, Fault::Absent);
            let with = turn(&clips, fault);
            println!("{fault:?} {round}: without {without:?}, with {with:?}");
            for ((more, with), without) in more.iter_mut().zip(with.late).zip(without.late) {
                more.push(with.saturating_sub(without));
            }
            assert!(with.back.is_some_and(|back| back <= BACK_WITHIN), "{fault:?}: {with:?}");
        }
        for (lane, more) in ["sound", "pictures"].iter().zip(&mut more) {
            more.sort_unstable();
            println!("{fault:?}: p99 of the {lane} later by {:?} (median of {ROUNDS})", more[ROUNDS / 2]);
            assert!(more[ROUNDS / 2] < NOTICED, "{fault:?}, {lane}: {more:?}");
        }
    }
}

#[derive(Debug)]
struct Seen {
    /// p99 of the sound's and the pictures' ticks.
    late: [Duration; 2],
    /// How long the bad sender's picture took to be back.
    back: Option<Duration>,
    /// Pictures that the worst of the others was sent.
    _pictures: u64,
}

/// Three good senders of pictures, each seen by the next one, four voices in a room, and the bad one.
fn turn(clips: &Clips, fault: Fault) -> Seen {
    let clock = Clock::start();
    let asked: ClockFn = Arc::new(move || clock.now());
    let cores = thread::available_parallelism().unwrap().get();
    let crew = Crew::start(cores, &asked).unwrap();
    let codecs = Arc::new(Registry::built_in());
    let engine = EngineHandle::start(&EngineConfig::default(), codecs, asked, &crew).unwrap();

    let bus = BusId(1);
    engine.add_bus(bus, &BusConfig { talkers: 2, ..BusConfig::default() }).unwrap();
    let mut voices: Vec<_> = (0..4).map(|n| join(&engine, 100 + n, &sound())).collect();
    for voice in &voices {
        engine.join(bus, voice.id, Gain::ONE).unwrap();
        engine.route(voice.id, Route::Mix { bus }).unwrap();
    }
    let mut good: Vec<_> = (0..3).map(|n| join(&engine, n, &pictures())).collect();
    for (number, sender) in good.iter().enumerate() {
        let source = good[(number + 1) % good.len()].id;
        engine.route(sender.id, Route::Transcode { source }).unwrap();
    }
    let mut bad = (fault != Fault::Absent).then(|| {
        let bad = join(&engine, 50, &pictures());
        engine.route(bad.id, Route::Transcode { source: bad.id }).unwrap();
        bad
    });

    let mut decoder = Registry::built_in()
        .video_decoder(&video_format(), Pool::new(6, VideoFrame::bytes(1_920, 1_088)))
        .unwrap();
    let begun = clock.now();
    let (mut back, mut frame, mut tick) = (None, 0u64, 0u64);
    loop {
        let passed = clock.now().saturating_since(begun);
        if passed >= TURN {
            break;
        }
        let faulty = passed < TURN - GOOD_AGAIN;
        while Duration::from_millis(20) * u32::try_from(tick).unwrap() <= passed {
            for voice in &mut voices {
                voice.send(
                    &clips.voice[0],
                    true,
                    Duration::from_millis(20) * u32::try_from(tick).unwrap(),
                    clock.now(),
                );
            }
            tick += 1;
        }
        while FRAME * u32::try_from(frame).unwrap() <= passed {
            let at = FRAME * u32::try_from(frame).unwrap();
            for sender in &mut good {
                sender.send_next(&clips.good, at, clock.now());
            }
            if let Some(bad) = &mut bad {
                bad.misbehave(if faulty { fault } else { Fault::Absent }, clips, frame, at, clock.now());
            }
            frame += 1;
        }
        voices.iter_mut().chain(&mut good).for_each(|stream| while stream.from.pop().is_ok() {});
        while let Some(unit) = bad.as_mut().and_then(|bad| bad.from.pop().ok()) {
            let Ok(Decoded::Picture { frame, concealed: false }) = decoder.decode(&unit.data) else {
                continue;
            };
            if !faulty && back.is_none() && frame.y()[frame.y().len() / 2].abs_diff(BRIGHT) < 8 {
                back = Some((clock.now().saturating_since(begun)).saturating_sub(TURN - GOOD_AGAIN));
            }
        }
        thread::sleep(Duration::from_millis(3));
    }
    let stats = engine.worker_stats();
    let pictures = good.iter().map(|it| engine.stats(it.id).sink.unwrap().encoded).min().unwrap();
    // They did see each other meanwhile.
    assert!(pictures > 60, "{pictures} pictures, {stats:?}");
    engine.stop();
    Seen { late: [stats.audio.late_p99, stats.video.late_p99], back, _pictures: pictures }
}

struct Stream {
    id: StreamId,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
    wishes: Arc<Wishes>,
    pool: Pool,
    /// Place in its clip.
    next: usize,
    lost: u16,
}

impl Stream {
    fn send(&mut self, data: &[u8], keyframe: bool, at: Duration, now: Instant) {
        let frame = EncodedFrame {
            kind: MediaKind::Main,
            media_time: MediaTime(i64::try_from(at.as_nanos()).unwrap()),
            duration: Duration::from_millis(20),
            lost_before: std::mem::take(&mut self.lost),
            keyframe,
            level: None,
            data: self.pool.copy(data).unwrap(),
        };
        let _ = self.to.push(Arrival { at: now, frame });
    }

    /// The next frame of `clip`, or its first when a keyframe is wanted.
    fn send_next(&mut self, clip: &[Vec<u8>], at: Duration, now: Instant) {
        if self.wishes.take_keyframe_wanted() || self.next >= clip.len() {
            self.next = 0;
        }
        let place = self.next;
        self.next += 1;
        self.send(&clip[place], place == 0, at, now);
    }

    fn misbehave(&mut self, fault: Fault, clips: &Clips, number: u64, at: Duration, now: Instant) {
        match fault {
            Fault::Absent => self.send_next(&clips.bright, at, now),
            Fault::Loss if number.wrapping_mul(2_654_435_761) % 1_000 / 10 % 10 < 3 => {
                self.next += 1;
                self.lost += 1;
            }
            Fault::Loss => self.send_next(&clips.large, at, now),
            Fault::Garbage => self.send(&clips.garbage[usize::try_from(number).unwrap() % 8], true, at, now),
            Fault::Sizes => {
                let sizes = [&clips.large, &clips.good, &clips.bright];
                if number.is_multiple_of(30) {
                    self.next = 0;
                }
                self.send_next(sizes[usize::try_from(number / 30).unwrap() % 3], at, now);
            }
            Fault::Stalls if number / 30 % 2 == 1 => {}
            Fault::Stalls => self.send_next(&clips.large, at, now),
        }
    }
}

struct Quiet;

impl Wake for Quiet {
    fn thread(&self) -> usize {
        0
    }
    fn wake(&self) {}
}

fn join(engine: &EngineHandle, number: u64, format: &MediaFormat) -> Stream {
    let id = StreamId(number);
    let (to, frames) = rtrb::RingBuffer::new(RING);
    let (out, from) = rtrb::RingBuffer::new(RING);
    let wishes = Arc::new(Wishes::default());
    let video = matches!(format, MediaFormat::Video(_));
    let kind = if video { MediaKind::Main } else { MediaKind::Audio };
    engine.add_source(id, &Timeline::new(), format, Inlet { frames, wishes: wishes.clone() }).unwrap();
    let outlet = Outlet { frames: out, wishes: wishes.clone(), wake: Arc::new(Quiet) };
    engine.add_sink(id, kind, format, outlet).unwrap();
    let pool = Pool::new(RING + 8, if video { 200_000 } else { 1_500 });
    Stream { id, to, from, wishes, pool, next: 0, lost: 0 }
}

fn sound() -> MediaFormat {
    MediaFormat::Audio(AudioFormat::new(Codec::Opus))
}

fn video_format() -> VideoFormat {
    VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        mode: PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    }
}

fn pictures() -> MediaFormat {
    MediaFormat::Video(video_format())
}

/// Coded ahead, each a second long and beginning with a keyframe.
struct Clips {
    voice: Vec<Vec<u8>>,
    good: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    bright: Vec<Vec<u8>>,
    garbage: Vec<Vec<u8>>,
}

impl Clips {
    fn new() -> Self {
        let mut encoder = Registry::built_in().audio_encoder(&AudioFormat::new(Codec::Opus)).unwrap();
        let mut room = [0; 1_500];
        let pcm: Vec<i16> = (0..960).map(|n| if n % 96 < 48 { 3_000 } else { -3_000 }).collect();
        let len = encoder.encode(&pcm, &mut room).unwrap();
        let mut dice = 1u32;
        let garbage = (0..8).map(|_| {
            // It looks like slices of a picture, and is noise.
            let mut unit = vec![0, 0, 0, 1, 0x65];
            unit.extend((0..4_000).map(|_| {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                dice.to_be_bytes()[0]
            }));
            unit
        });
        Self {
            voice: vec![room[..len].to_vec()],
            good: clip((640, 360), None),
            large: clip((1_280, 720), None),
            bright: clip((320, 192), Some(BRIGHT)),
            garbage: garbage.collect(),
        }
    }
}

fn clip((width, height): (usize, usize), bright: Option<u8>) -> Vec<Vec<u8>> {
    let encoding = VideoEncoding {
        bitrate: 1_000_000,
        frame_rate: 30.0,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        max_nal: None,
        sharp: false,
    };
    let mut encoder = Registry::built_in().video_encoder(&video_format(), encoding).unwrap();
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    let mut room = vec![0; 400_000];
    let mut units = Vec::new();
    for number in 0..30usize {
        let picture = VideoFrame::new(&pool, width, height, |planes| {
            for (n, pixel) in planes.y.iter_mut().enumerate() {
                let (x, y) = (n % width, n / width);
                let moving = u8::try_from(((x + 3 * number) / 8 + y / 8) % 16 * 10 + 40).unwrap();
                *pixel = bright.unwrap_or(moving);
            }
            planes.u.fill(128);
            planes.v.fill(128);
        })
        .unwrap();
        let at = FRAME * u32::try_from(number).unwrap();
        let encoded = encoder.encode(&picture, at, &mut room).unwrap();
        if encoded.len > 0 {
            units.push(room[..encoded.len].to_vec());
        }
    }
    units
}
