//! The engine's tick calls codecs and resamplers: none of them may allocate once it is made and
//! has seen its first frame. (What the C libraries take from their own allocator is not seen here;
//! libopus takes nothing after its construction.)
#![allow(unsafe_code, reason = "a global allocator that counts is an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use crosspoint_codecs::codec::AudioTuning;
use crosspoint_codecs::compose::{Composer, Content, Feed, Live, Overlay, Scene, Tile};
use crosspoint_codecs::draw::{Rgb, Round, Sheet};
use crosspoint_codecs::format::{AudioFormat, Codec};
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::fill::{Area, Colour};
use crosspoint_codecs::kernels::level::level;
use crosspoint_codecs::kernels::resample::{RATES, Resampler};
use crosspoint_codecs::kernels::scale::Scaler;
use crosspoint_codecs::registry::Registry;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all work is the system allocator's; the count is a plain cell of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_count_counts() {
    assert_eq!(counted(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn audio_codecs_do_not_allocate() {
    let registry = Registry::built_in();
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        if !registry.supports(codec) {
            assert!(codec == Codec::Opus && !cfg!(feature = "opus"), "{codec}");
            continue;
        }
        let format = AudioFormat::new(codec);
        let mut encoder = registry.audio_encoder(&format).unwrap();
        let mut decoder = registry.audio_decoder(&format).unwrap();
        let mut pcm = [0i16; 960];
        let pcm = &mut pcm[..codec.sample_rate() as usize / 50];
        let mut packet = [0; 1_500];
        let tuning = AudioTuning {
            bitrate: Some(24_000),
            loss_percent: 10,
            fec: true,
            dtx: true,
            source_rate: Some(16_000),
        };
        let mut frame = |n: i16| {
            for (at, sample) in pcm.iter_mut().enumerate() {
                *sample = i16::try_from(at).unwrap().wrapping_mul(37).wrapping_mul(n);
            }
            let len = encoder.encode(pcm, &mut packet).unwrap();
            encoder.tune(tuning).unwrap();
            if len > 0 {
                decoder.decode(&packet[..len], pcm).unwrap();
                let _ = decoder.recover(&packet[..len], pcm);
            }
            decoder.conceal(pcm);
            if n % 20 == 0 {
                encoder.reset();
                decoder.reset();
            }
        };
        frame(1);
        assert_eq!(counted(|| (2..100).for_each(&mut frame)), 0, "{codec}");
    }
}

#[test]
fn resampling_and_levels_do_not_allocate() {
    for (from, to) in RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to))) {
        let mut resampler = Resampler::new(from, to).unwrap();
        let (pcm, mut out) = ([123i16; 960], [0i16; 960]);
        let pcm = &pcm[..from as usize / 50];
        let allocated = counted(|| {
            for _ in 0..10 {
                let written = resampler.process(pcm, &mut out).unwrap();
                std::hint::black_box(level(&out[..written]));
            }
            resampler.reset();
        });
        assert_eq!(allocated, 0, "{from} to {to}");
    }
}

#[test]
fn scaling_into_a_pooled_picture_does_not_allocate() {
    let (large, small) =
        (Pool::new(2, VideoFrame::bytes(640, 360)), Pool::new(2, VideoFrame::bytes(352, 288)));
    let mut scaler = Scaler::new((640, 360), (352, 198)).unwrap();
    let source = VideoFrame::new(&large, 640, 360, |planes| planes.y.fill(77)).unwrap();
    let allocated = counted(|| {
        for _ in 0..5 {
            let scaled = VideoFrame::new(&small, 352, 288, |mut planes| {
                scaler.scale(&source, &mut planes, 352, (0, 44)).unwrap();
            });
            assert!(scaled.is_some());
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn composing_does_not_allocate_once_it_is_planned() {
    let size = VideoFrame::bytes(640, 480);
    let sources = Pool::new(4, size);
    let source = |luma: u8| VideoFrame::new(&sources, 640, 480, |planes| planes.y.fill(luma)).unwrap();
    let (one, two) = (source(70), source(150));
    let mut sheet = Sheet::new(80, 20);
    let plate = Round { x: 0.0, y: 0.0, width: 80.0, height: 20.0, radius: 8.0 };
    sheet.round(plate, Rgb(0, 0, 0), 0.6);
    let sprite = Arc::new(sheet.sprite().unwrap());
    let stand_ins = Pool::new(2, size);
    let tile = |source, area: Area, crop, inside| {
        let ground = Colour::BLACK;
        let stand_in = VideoFrame::new(&stand_ins, area.width, area.height, |_| ());
        let live = Live { source, size: (640, 480), crop, inside, ground, stand_in };
        let overlays = vec![
            Overlay::Sprite(sprite.clone(), (area.x, area.y)),
            Overlay::Fill(Area { height: 2, ..area }, Colour::WHITE),
        ];
        Tile { area, content: Content::Live(live), overlays }
    };
    let area = |x, y, width, height| Area { x, y, width, height };
    let (upper, lower) = (area(0, 0, 320, 180), area(320, 180, 320, 180));
    let scene = Scene {
        width: 640,
        height: 480,
        background: Colour::BLACK,
        tiles: vec![
            tile(0, upper, area(0, 60, 640, 360), upper),
            tile(1, lower, Area::whole(640, 480), area(360, 180, 240, 180)),
        ],
        overlays: vec![Overlay::Sprite(sprite.clone(), (280, 170))],
    };
    let mut composer = Composer::new(scene).unwrap();
    let pool = Pool::on_huge_pages(3, VideoFrame::bytes(640, 480));
    let allocated = counted(|| {
        for n in 0..12 {
            let feeds = [
                Feed { picture: Some(&one), fresh: n % 2 == 0, stalled: n % 5 == 0 },
                Feed { picture: (n % 3 == 0).then_some(&two), fresh: n % 4 == 0, stalled: n % 3 == 1 },
            ];
            assert!(composer.compose(&feeds, &pool).is_some());
        }
    });
    assert_eq!(allocated, 0);
}
