//! Composed pictures from 720p sources: four alike and one with seven, at 720p and 1080p, as bare
//! pictures (what ffmpeg's xstack does) and with names, frames and a banner. One figure is one picture
//! in which every source is fresh.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use crosspoint_codecs::compose::{Composer, Feed};
use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_gateway::conference::layout::{Canvas, Layout};
use crosspoint_gateway::conference::scene::{Look, Party, scene};

fn compose(criterion: &mut Criterion) {
    let mut text = Typesetter::new();
    for (width, height) in [(1280, 720), (1920, 1080)] {
        for (layout, count) in [(Layout::Four, 4), (Layout::OneAndSeven, 8)] {
            let canvas = Canvas::new(width, height).expect("an even size");
            let pictures: Vec<VideoFrame> = (0..count).map(source).collect();
            let feeds: Vec<_> =
                pictures.iter().map(|it| Feed { picture: Some(it), fresh: true, stalled: false }).collect();
            let parties: Vec<Party> = (0..count)
                .map(|n| Party {
                    name: format!("Participant {n}"),
                    source: Some((n, (1280, 720))),
                    speaks: n == 0,
                    ..Party::default()
                })
                .collect();
            let pool = Pool::on_huge_pages(3, VideoFrame::bytes(width, height));
            let look = Look { banner: Some("Recorded".into()), ..Look::default() };
            let dressed = scene(layout, canvas, &parties, &look, &mut text);
            let mut bare = dressed.clone();
            bare.overlays.clear();
            bare.tiles.iter_mut().for_each(|tile| tile.overlays.clear());
            for (word, scene) in [("bare", bare), ("dressed", dressed)] {
                let mut composer = Composer::new(scene).expect("a scene");
                criterion.bench_function(&format!("compose/{layout} {height}p {word}"), |bencher| {
                    bencher.iter(|| composer.compose(black_box(&feeds), &pool));
                });
            }
        }
    }
}

fn source(number: usize) -> VideoFrame {
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(1280, 720));
    let picture = VideoFrame::new(&pool, 1280, 720, |planes| {
        let noise = |n: usize| u8::try_from((n * 7_919 + number * 31) % 211).unwrap_or(0);
        planes.y.iter_mut().enumerate().for_each(|(n, it)| *it = noise(n));
    });
    picture.expect("room")
}

criterion_group!(benches, compose);
criterion_main!(benches);
