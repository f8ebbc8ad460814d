//! The tick allocates and frees nothing: ten thousand of them with every codec, loss, jitter,
//! pauses, route changes, format changes, joins and leaves, in calls and in a room. What the codecs'
//! C libraries do on their own heap is not seen here.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::VideoEncoding;
use crosspoint_codecs::format::{
    AudioFormat, Codec, H264Profile, MediaFormat, MediaKind, PacketizationMode, VideoFormat,
};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool, VideoFrame};
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{
    BusConfig, BusId, ClockFn, Crew, Engine, EngineConfig, EngineHandle, Playback, Route, Timeline,
};
use crosspoint_gateway::net::clock::Clock;

struct Counting;

thread_local! {
    static TOUCHES: Cell<u64> = const { Cell::new(0) };
}

fn touch() {
    let _ = TOUCHES.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell that
// needs neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        touch();
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        touch();
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        touch();
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Quiet(usize);

impl Wake for Quiet {
    fn thread(&self) -> usize {
        self.0
    }
    fn wake(&self) {}
}

/// Frames made ahead, sent round and round.
struct Leg {
    id: StreamId,
    format: MediaFormat,
    round: Vec<Vec<u8>>,
    every: u64,
    pool: Pool,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
    wishes: Arc<Wishes>,
    timeline: Timeline,
    sent: u64,
    lost: u16,
    /// Sends nothing, as with DTX.
    quiet: bool,
    /// Tells the level of each frame: now a voice, now nothing.
    levels: bool,
}

const START: u64 = 1_000_000_000_000;
const TICK: u64 = 20_000_000;

impl Leg {
    fn join(handle: &EngineHandle, number: u64, format: MediaFormat) -> Self {
        let (round, every) = frames(&format);
        let largest = round.iter().map(Vec::len).max().unwrap();
        let timeline = Timeline::new();
        let (id, to, from, wishes) = add(handle, number, &format, &timeline);
        let pool = Pool::new(RING + 8, largest);
        Self {
            id,
            format,
            round,
            every,
            pool,
            to,
            from,
            wishes,
            timeline,
            sent: 0,
            lost: 0,
            quiet: false,
            levels: false,
        }
    }

    /// The same stream with new rings, as after a re-offer.
    fn rejoin(&mut self, handle: &EngineHandle) {
        let (_, to, from, wishes) = add(handle, self.id.0, &self.format, &self.timeline);
        (self.to, self.from, self.wishes) = (to, from, wishes);
    }

    fn exchange(&mut self, now: u64) {
        while START + self.sent * self.every <= now {
            let number = self.sent;
            self.sent += 1;
            let video = matches!(self.format, MediaFormat::Video(_));
            // Loss, now and then a pause without one, and a restart of the round for pictures.
            let place = usize::try_from(number).unwrap() % self.round.len();
            if number % 37 == 11 && !(video && place == 0) {
                self.lost += 1;
                continue;
            }
            if !video && (self.quiet || number % 500 > 470) {
                continue;
            }
            let jitter = number.wrapping_mul(2_654_435_761) % 40 * 1_000_000;
            let frame = EncodedFrame {
                kind: if video { MediaKind::Main } else { MediaKind::Audio },
                media_time: MediaTime(i64::try_from(number * self.every).unwrap()),
                duration: Duration::from_nanos(if video { 0 } else { self.every }),
                lost_before: std::mem::take(&mut self.lost),
                keyframe: !video || place == 0,
                level: self.levels.then_some(if (number / 60 + self.id.0).is_multiple_of(3) {
                    25
                } else {
                    127
                }),
                data: self.pool.copy(&self.round[place]).unwrap(),
            };
            let at = Instant::from_nanos(START + number * self.every + jitter);
            let _ = self.to.push(Arrival { at, frame });
        }
        while self.from.pop().is_ok() {}
    }
}

fn add(
    handle: &EngineHandle,
    number: u64,
    format: &MediaFormat,
    timeline: &Timeline,
) -> (StreamId, rtrb::Producer<Arrival>, rtrb::Consumer<EncodedFrame>, Arc<Wishes>) {
    let id = StreamId(number);
    let (to, frames) = rtrb::RingBuffer::new(RING);
    let (out, from) = rtrb::RingBuffer::new(RING);
    let wishes = Arc::new(Wishes::default());
    let wake = Arc::new(Quiet(usize::try_from(number).unwrap() % 3));
    let kind = if matches!(format, MediaFormat::Video(_)) { MediaKind::Main } else { MediaKind::Audio };
    handle.add_source(id, timeline, format, Inlet { frames, wishes: wishes.clone() }).unwrap();
    handle.add_sink(id, kind, format, Outlet { frames: out, wishes: wishes.clone(), wake }).unwrap();
    (id, to, from, wishes)
}

/// A second or so of coded sound or pictures.
fn frames(format: &MediaFormat) -> (Vec<Vec<u8>>, u64) {
    let registry = Registry::built_in();
    let mut room = vec![0; 200_000];
    match format {
        MediaFormat::Audio(audio) => {
            let mut encoder = registry.audio_encoder(audio).unwrap();
            let rate = u64::from(encoder.sample_rate());
            let every = u64::try_from(audio.ptime.as_nanos()).unwrap();
            let samples = every * rate / 1_000_000_000;
            let mut packets = Vec::new();
            for packet in 0..30 {
                let tone = |n: u64| (8_000.0 * (TAU * 400.0 * n as f64 / rate as f64).sin()).round();
                #[allow(clippy::cast_possible_truncation, reason = "a tone of 8000")]
                let pcm: Vec<i16> =
                    (packet * samples..(packet + 1) * samples).map(|n| tone(n) as i16).collect();
                let len = encoder.encode(&pcm, &mut room).unwrap();
                packets.push(room[..len].to_vec());
            }
            (packets, every)
        }
        MediaFormat::Video(video) => {
            let encoding = VideoEncoding {
                bitrate: 300_000,
                frame_rate: 5.0,
                profile: H264Profile::ConstrainedBaseline,
                level: 30,
                max_nal: None,
                sharp: false,
            };
            let mut encoder = registry.video_encoder(video, encoding).unwrap();
            let (width, height) = (320, 240);
            let pool = Pool::new(1, VideoFrame::bytes(width, height));
            let every = 200_000_000;
            let mut units = Vec::new();
            for number in 0..30u64 {
                let picture = VideoFrame::new(&pool, width, height, |planes| {
                    for (n, pixel) in planes.y.iter_mut().enumerate() {
                        *pixel = u8::try_from((n + usize::try_from(number).unwrap() * 4) % 200).unwrap();
                    }
                    planes.u.fill(128);
                    planes.v.fill(128);
                })
                .unwrap();
                let encoded =
                    encoder.encode(&picture, Duration::from_nanos(number * every), &mut room).unwrap();
                if encoded.len > 0 {
                    units.push(room[..encoded.len].to_vec());
                }
            }
            (units, every)
        }
    }
}

fn sound(codec: Codec, ptime: u64) -> MediaFormat {
    let mut format = AudioFormat::new(codec);
    format.ptime = Duration::from_millis(ptime);
    format.fec = codec == Codec::Opus;
    MediaFormat::Audio(format)
}

fn pictures(level: u8) -> MediaFormat {
    MediaFormat::Video(VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level,
        mode: PacketizationMode::SingleNal,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    })
}

#[test]
fn ten_thousand_ticks_touch_no_heap() {
    calls(engine(None), 10_100);
}

/// The thread of the engine touches none either when others do a part of its work.
#[test]
fn ticks_with_a_crew_touch_no_heap() {
    let clock = Clock::start();
    let clock: ClockFn = Arc::new(move || clock.now());
    let crew = Crew::start(3, &clock).unwrap();
    calls(engine(Some(&crew)), 2_000);
    room(engine(Some(&crew)), 2_500);
}

fn engine(crew: Option<&Crew>) -> (Engine, EngineHandle) {
    let (config, codecs) = (EngineConfig::default(), Arc::new(Registry::built_in()));
    match crew {
        Some(crew) => Engine::with_crew(&config, codecs, crew),
        None => Engine::new(&config, codecs),
    }
}

fn calls((mut engine, handle): (Engine, EngineHandle), ticks: u64) {
    let formats = [
        sound(Codec::Opus, 20),
        sound(Codec::Pcmu, 30),
        sound(Codec::G722, 20),
        sound(Codec::Pcma, 10),
        sound(Codec::Opus, 60),
        sound(Codec::Pcmu, 20),
        pictures(30),
        // Half the size is all that this one takes.
        pictures(10),
    ];
    let mut legs: Vec<Leg> = formats.into_iter().zip(1..).map(|(f, n)| Leg::join(&handle, n, f)).collect();
    let route = |handle: &EngineHandle, legs: &[Leg], turn: usize| {
        for (place, leg) in legs[..6].iter().enumerate() {
            let route = match (turn + place) % 7 {
                5 => Route::Play(Playback::Ringback),
                6 if turn.is_multiple_of(2) => Route::Silence,
                step => Route::Transcode { source: legs[(place + step) % 6].id },
            };
            // One leg is away now and then.
            let known = handle.route(leg.id, route).is_ok();
            assert!(known || place == 5);
        }
        for (to, from) in [(6, 7), (7, 6)] {
            handle.route(legs[to].id, Route::Transcode { source: legs[from].id }).unwrap();
        }
    };
    route(&handle, &legs, 0);
    let mut touched = 0;
    for tick in 0..ticks {
        let now = START + tick * TICK;
        let turn = usize::try_from(tick / 50).unwrap();
        if tick % 50 == 0 {
            route(&handle, &legs, turn);
        }
        match tick % 400 {
            120 => legs[turn % 6].rejoin(&handle),
            200 => handle.remove(legs[5].id).unwrap(),
            260 => legs[5].rejoin(&handle),
            320 => handle.set_sink_format(legs[1].id, &sound(Codec::Pcma, 40)).unwrap(),
            340 => handle.set_source_format(legs[3].id, &sound(Codec::Pcma, 20)).unwrap(),
            360 => handle.set_sink_format(legs[1].id, &sound(Codec::Opus, 20)).unwrap(),
            380 => legs[7].wishes.ask_keyframe(),
            390 => {
                let limit = if turn.is_multiple_of(2) { 20_000 } else { 200_000 };
                legs.iter().for_each(|leg| leg.wishes.limit_bitrate(limit));
                legs[0].wishes.report_loss(u8::try_from(turn % 20).unwrap());
            }
            _ => (),
        }
        for half in [0, TICK / 2] {
            let now = now + half;
            legs.iter_mut().for_each(|leg| leg.exchange(now));
            let before = TOUCHES.get();
            engine.step(Instant::from_nanos(now));
            // The first two seconds see the first pictures: the scaler is made for their size.
            if tick >= 100 {
                touched += TOUCHES.get() - before;
                assert_eq!(touched, 0, "at tick {tick}");
            }
        }
    }
    // It did work meanwhile: all legs were heard, hidden, recovered, seen.
    for leg in &legs {
        let figures = handle.stats(leg.id);
        let (source, sink) = (figures.source.unwrap(), figures.sink.unwrap());
        let least = ticks / 101;
        assert!(source.decoded > least && sink.encoded > least, "{:?}: {source:?} {sink:?}", leg.id);
    }
    assert!(handle.stats(legs[0].id).source.unwrap().concealed > Duration::from_millis(100));
}

#[test]
fn ten_thousand_ticks_of_a_room_touch_no_heap() {
    room(engine(None), 10_100);
}

fn room((mut engine, handle): (Engine, EngineHandle), ticks: u64) {
    const BUS: BusId = BusId(3);
    handle.add_bus(BUS, &BusConfig { talkers: 3, ..BusConfig::default() }).unwrap();
    // The first three are all that is better than G.722: the rate of the bus is theirs.
    let formats = [
        sound(Codec::Opus, 20),
        sound(Codec::Opus, 60),
        sound(Codec::Opus, 20),
        sound(Codec::G722, 20),
        sound(Codec::Pcmu, 30),
        sound(Codec::Pcma, 10),
        sound(Codec::Pcmu, 20),
        sound(Codec::Pcmu, 20),
    ];
    let enter = |leg: &Leg| {
        handle.join(BUS, leg.id, Gain::ONE).unwrap();
        handle.route(leg.id, Route::Mix { bus: BUS }).unwrap();
    };
    let exit = |leg: &Leg| {
        handle.leave(BUS, leg.id).unwrap();
        handle.route(leg.id, Route::Silence).unwrap();
    };
    let mut legs: Vec<Leg> = Vec::new();
    let (mut touched, mut seen) = (0, [0u64; 4]);
    for tick in 0..ticks {
        let now = START + tick * TICK;
        let turn = usize::try_from(tick / 400).unwrap();
        if let Some(format) = formats.get(legs.len()) {
            legs.push(Leg::join(&handle, tick + 1, format.clone()));
            enter(&legs[legs.len() - 1]);
        }
        // Others talk each second, sometimes more than are mixed, sometimes nobody.
        for (place, leg) in legs.iter_mut().enumerate() {
            leg.quiet = (place + turn + usize::try_from(tick / 50).unwrap()) % 8 >= [2, 8, 4, 0][turn % 4];
        }
        match tick % 400 {
            // The rate of the bus falls to 16 kHz and rises again; in every second turn to 8 kHz.
            60..=62 => exit(&legs[usize::try_from(tick % 400 - 60).unwrap()]),
            64 if turn.is_multiple_of(2) => exit(&legs[3]),
            120 if turn.is_multiple_of(2) => enter(&legs[3]),
            150..=152 => enter(&legs[usize::try_from(tick % 400 - 150).unwrap()]),
            170 => handle.set_gain(BUS, legs[turn % 8].id, Gain::ZERO).unwrap(),
            190 => handle.set_gain(BUS, legs[turn % 8].id, Gain::of(1.7)).unwrap(),
            // A road with loss takes the form with error correction; a narrow one has its own.
            200 => legs[0].wishes.report_loss(if turn.is_multiple_of(2) { 9 } else { 0 }),
            210 => legs[2].wishes.limit_bitrate(if turn.is_multiple_of(2) { 12_000 } else { 200_000 }),
            220 => handle.set_source_format(legs[5].id, &sound(Codec::G722, 20)).unwrap(),
            230 => handle.set_sink_format(legs[5].id, &sound(Codec::Opus, 40)).unwrap(),
            250 => handle.set_source_format(legs[5].id, &sound(Codec::Pcma, 10)).unwrap(),
            260 => handle.set_sink_format(legs[5].id, &sound(Codec::Pcma, 10)).unwrap(),
            280 => legs[1].rejoin(&handle),
            300 => handle.remove(legs[4].id).unwrap(),
            320 => {
                legs[4].rejoin(&handle);
                enter(&legs[4]);
            }
            340 => handle.route(legs[6].id, Route::Transcode { source: legs[0].id }).unwrap(),
            360 => handle.route(legs[6].id, Route::Mix { bus: BUS }).unwrap(),
            _ => (),
        }
        for half in [0, TICK / 2] {
            let now = now + half;
            legs.iter_mut().for_each(|leg| leg.exchange(now));
            let before = TOUCHES.get();
            engine.step(Instant::from_nanos(now));
            if tick >= 100 {
                touched += TOUCHES.get() - before;
                assert_eq!(touched, 0, "at tick {tick}");
            }
        }
        let stats = handle.bus_stats(BUS).unwrap();
        seen[usize::try_from(stats.talkers).unwrap().min(3)] += 1;
    }
    // All of it did happen: nobody talked, one, two, and as many as may, or one more while it fades.
    assert!(seen.iter().all(|seen| *seen > ticks / 50), "{seen:?}");
    for leg in &legs {
        let figures = handle.stats(leg.id);
        let (source, sink) = (figures.source.unwrap(), figures.sink.unwrap());
        assert!(source.decoded > 20 && sink.encoded > 20, "{:?}: {source:?} {sink:?}", leg.id);
        assert_eq!((sink.errors, sink.overflow), (0, 0), "{:?}", leg.id);
    }
}

#[test]
fn rooms_of_those_who_tell_their_levels_touch_no_heap() {
    let (mut engine, handle) = engine(None);
    let bus = BusId(1);
    let config = BusConfig { talkers: 3, members: 16, ..BusConfig::default() };
    handle.add_bus(bus, &config).unwrap();
    let formats = [
        sound(Codec::Opus, 20),
        sound(Codec::Pcmu, 30),
        sound(Codec::G722, 20),
        sound(Codec::Opus, 60),
        sound(Codec::Pcma, 20),
        sound(Codec::Opus, 20),
    ];
    let enter = |leg: &Leg| {
        handle.join(bus, leg.id, Gain::ONE).unwrap();
        handle.route(leg.id, Route::Mix { bus }).unwrap();
    };
    let mut legs: Vec<Leg> = formats.into_iter().zip(1..).map(|(f, n)| Leg::join(&handle, n, f)).collect();
    // One leg in six tells no levels.
    legs[1..].iter_mut().for_each(|leg| leg.levels = true);
    legs.iter().for_each(enter);
    for tick in 0..5_000u64 {
        let now = START + tick * TICK;
        let turn = usize::try_from(tick / 50).unwrap();
        match tick % 250 {
            50 => handle.leave(bus, legs[turn % 5].id).unwrap(),
            51 if turn.is_multiple_of(2) => enter(&legs[turn % 5]),
            80 => legs.iter().for_each(enter),
            110 => handle.remove(legs[5].id).unwrap(),
            140 => {
                legs[5].rejoin(&handle);
                enter(&legs[5]);
            }
            170 => handle.set_gain(bus, legs[turn % 5].id, Gain::ZERO).unwrap(),
            190 => handle.set_gain(bus, legs[turn % 5].id, Gain::of(0.5)).unwrap(),
            210 => legs[0].wishes.report_loss(u8::try_from(turn % 20).unwrap()),
            _ => (),
        }
        legs.iter_mut().for_each(|leg| leg.exchange(now));
        let before = TOUCHES.get();
        engine.step(Instant::from_nanos(now));
        assert_eq!(TOUCHES.get() - before, 0, "at tick {tick}");
    }
    for leg in &legs[1..5] {
        let source = handle.stats(leg.id).source.unwrap();
        assert!(source.decoded > 100 && source.skipped > 100, "{:?}: {source:?}", leg.id);
    }
    assert_eq!(handle.bus_activity(bus).len(), 6);
}

#[test]
fn the_count_counts() {
    let before = TOUCHES.get();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(TOUCHES.get() - before, 2);
}
