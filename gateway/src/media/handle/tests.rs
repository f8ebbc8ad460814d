//! The handle: refusals, and what is freed when.

use super::super::port::{Arrival, RING, Wake, Wishes};
use super::super::route::Playback;
use super::super::{Engine, lane};
use super::*;
use crosspoint_codecs::codec::VideoEncoding;
use crosspoint_codecs::format::{AudioFormat, Codec, H264Profile, PacketizationMode, VideoFormat};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime, Pool, VideoFrame};
use crosspoint_codecs::registry::Registry;
use std::time::Duration;

struct Deaf;

impl Wake for Deaf {
    fn thread(&self) -> usize {
        0
    }
    fn wake(&self) {}
}

fn inlet() -> Inlet {
    Inlet { frames: rtrb::RingBuffer::new(RING).1, wishes: Arc::new(Wishes::default()) }
}

fn outlet() -> Outlet {
    let frames = rtrb::RingBuffer::new(RING).0;
    Outlet { frames, wishes: Arc::new(Wishes::default()), wake: Arc::new(Deaf) }
}

fn sound(codec: Codec) -> MediaFormat {
    MediaFormat::Audio(AudioFormat::new(codec))
}

fn pictures() -> MediaFormat {
    MediaFormat::Video(VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        mode: PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    })
}

fn engine(streams: usize) -> (Engine, EngineHandle) {
    Engine::new(&EngineConfig { streams }, Arc::new(Registry::built_in()))
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (mut engine, handle) = engine(2);
    let (id, kind) = (StreamId(1), MediaKind::Audio);
    let timeline = Timeline::new();
    handle.add_source(id, &timeline, &sound(Codec::Pcmu), inlet()).unwrap();
    handle.add_sink(id, kind, &sound(Codec::Pcmu), outlet()).unwrap();
    let sort = |result| matches!(result, Err(EngineError::Sort(StreamId(1))));
    assert!(sort(handle.add_source(id, &timeline, &pictures(), inlet())));
    assert!(sort(handle.add_sink(id, MediaKind::Main, &sound(Codec::Pcmu), outlet())));
    assert!(sort(handle.set_sink_format(id, &pictures())));
    assert!(sort(handle.set_source_format(id, &pictures())));
    let unknown = |result| matches!(result, Err(EngineError::Unknown(StreamId(9))));
    assert!(unknown(handle.route(StreamId(9), Route::Silence)));
    assert!(unknown(handle.set_sink_format(StreamId(9), &sound(Codec::Pcma))));
    assert!(handle.remove(StreamId(9)).is_ok());
    assert!(matches!(
        handle.add_source(StreamId(2), &timeline, &sound(Codec::H264), inlet()),
        Err(EngineError::Codec(_))
    ));
    handle.add_source(StreamId(2), &timeline, &sound(Codec::Opus), inlet()).unwrap();
    let full = handle.add_source(StreamId(3), &timeline, &sound(Codec::Opus), inlet());
    assert!(matches!(full, Err(EngineError::Full)));
    // One that is there may always be replaced.
    handle.add_source(StreamId(2), &timeline, &sound(Codec::G722), inlet()).unwrap();
    engine.step(Instant::from_millis(20));
    engine.step(Instant::from_millis(40));
    assert_eq!(handle.worker_stats().audio.members, 3);
    assert_eq!(handle.stats(StreamId(9)), StreamFigures::default());
}

#[test]
fn an_engine_that_is_not_stepped_says_so_and_recovers() {
    let (mut engine, handle) = engine(8);
    handle.add_sink(StreamId(1), MediaKind::Audio, &sound(Codec::Pcmu), outlet()).unwrap();
    let mut sent = 0u16;
    let refused = loop {
        let route = Route::Play(Playback::Tone { hertz: 300 + sent });
        match handle.route(StreamId(1), route) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, EngineError::Overloaded));
    assert_eq!(usize::from(sent), lane::COMMANDS - 2);
    engine.step(Instant::from_millis(20));
    handle.route(StreamId(1), Route::Silence).unwrap();
}

#[test]
fn parts_are_freed_by_the_next_call() {
    let (mut engine, handle) = engine(8);
    let outlet = outlet();
    let kept = Arc::downgrade(&outlet.wishes);
    handle.add_sink(StreamId(1), MediaKind::Audio, &sound(Codec::Pcmu), outlet).unwrap();
    engine.step(Instant::from_millis(20));
    handle.remove(StreamId(1)).unwrap();
    engine.step(Instant::from_millis(40));
    assert!(kept.upgrade().is_some(), "a step frees nothing");
    handle.remove(StreamId(1)).unwrap();
    assert!(kept.upgrade().is_none());
}

/// A keyframe of a grey picture of 720p.
fn keyframe() -> EncodedFrame {
    let MediaFormat::Video(format) = pictures() else { unreachable!("it is of pictures") };
    let settings = VideoEncoding {
        bitrate: 1_000_000,
        frame_rate: 30.0,
        profile: format.profile,
        level: 31,
        max_nal: None,
        sharp: false,
    };
    let mut encoder = Registry::built_in().video_encoder(&format, settings).unwrap();
    let pool = Pool::new(1, VideoFrame::bytes(1_280, 720));
    let picture = VideoFrame::new(&pool, 1_280, 720, |planes| {
        planes.y.fill(90);
        planes.u.fill(128);
        planes.v.fill(128);
    });
    let mut room = vec![0; 200_000];
    let encoded = encoder.encode(&picture.unwrap(), Duration::ZERO, &mut room).unwrap();
    EncodedFrame {
        kind: MediaKind::Main,
        media_time: MediaTime(0),
        duration: Duration::ZERO,
        lost_before: 0,
        keyframe: true,
        level: None,
        data: Data::from_slice(&room[..encoded.len]),
    }
}

#[test]
fn with_too_much_to_do_pictures_get_smaller_and_only_then_the_engine_is_full() {
    let (mut engine, handle) = engine(8);
    let (to, frames) = rtrb::RingBuffer::new(RING);
    let mut to: rtrb::Producer<Arrival> = to;
    let inlet = Inlet { frames, wishes: Arc::new(Wishes::default()) };
    let (out, mut from) = rtrb::RingBuffer::new(RING);
    let outlet = Outlet { frames: out, wishes: Arc::new(Wishes::default()), wake: Arc::new(Deaf) };
    let id = StreamId(1);
    handle.add_source(id, &Timeline::new(), &pictures(), inlet).unwrap();
    handle.add_sink(id, MediaKind::Main, &pictures(), outlet).unwrap();
    handle.route(id, Route::Transcode { source: id }).unwrap();
    let frame = keyframe();
    let (mut sizes, mut full) = (Vec::new(), Vec::new());
    for second in 0..40u64 {
        // Full for eight seconds, then idle.
        (0..8).for_each(|_| handle.0.video.measured(if second < 8 { 1_000 } else { 0 }));
        for step in 0..10 {
            let now = Instant::from_millis(1_000 * (100 + second) + 100 * step);
            let media_time = MediaTime(i64::try_from(now.as_nanos()).unwrap());
            to.push(Arrival { at: now, frame: EncodedFrame { media_time, ..frame.clone() } }).unwrap();
            engine.step(now);
            while from.pop().is_ok() {}
        }
        let (stats, width) = (handle.worker_stats().video, handle.stats(id).sink.unwrap().width);
        if sizes.last() != Some(&width) {
            sizes.push(width);
        }
        if handle.is_full() {
            full.push((width, stats.lowered));
        }
    }
    assert_eq!(sizes.first(), Some(&1_280));
    assert_eq!(sizes.last(), Some(&1_280), "and large again: {sizes:?}");
    let smallest = *sizes.iter().min().unwrap();
    assert!(smallest <= 416, "{sizes:?}");
    assert!(
        !full.is_empty() && full.iter().all(|(width, step)| (*width, *step) == (smallest, 3)),
        "{full:?}"
    );

    // Sound cannot be made less: it is full when it is.
    assert!(!handle.is_full());
    (0..8).for_each(|_| handle.0.audio.measured(950));
    assert!(handle.is_full());
}
