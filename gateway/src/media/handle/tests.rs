//! The handle: refusals, and what is freed when.

use super::super::port::{RING, Wake, Wishes};
use super::super::route::Playback;
use super::super::{Engine, lane};
use super::*;
use crosspoint_codecs::format::{AudioFormat, Codec, H264Profile, PacketizationMode, VideoFormat};
use crosspoint_codecs::registry::Registry;

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
