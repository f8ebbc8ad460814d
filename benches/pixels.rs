//! What is done with pixels: scaling, composing, blending, converting.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::blend::{Corners, Ink, Mask, blend};
use crosspoint_codecs::kernels::convert::{Layout, Matrix, from_rgb, to_rgb};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::fill::{Area, Colour, border, fill};
use crosspoint_codecs::kernels::scale::Scaler;

const HD: (usize, usize) = (1280, 720);
const FULL_HD: (usize, usize) = (1920, 1080);

fn picture((width, height): (usize, usize)) -> VideoFrame {
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    let byte = |n: usize| u8::try_from((n * 7 + n / width * 13) % 251).unwrap_or(0);
    VideoFrame::new(&pool, width, height, |planes| {
        planes.y.iter_mut().enumerate().for_each(|(n, y)| *y = byte(n));
        planes.u.iter_mut().enumerate().for_each(|(n, u)| *u = byte(n * 3));
        planes.v.iter_mut().enumerate().for_each(|(n, v)| *v = byte(n * 5));
    })
    .expect("a free picture")
}

fn scale(criterion: &mut Criterion) {
    for (from, to) in [
        (HD, (640, 360)),
        (FULL_HD, (960, 540)),
        (FULL_HD, (640, 360)),
        (FULL_HD, HD),
        (HD, (320, 180)),
        (HD, (960, 540)),
        ((640, 360), HD),
        ((640, 480), (704, 576)),
    ] {
        let frame = picture(from);
        let pool = Pool::new(1, VideoFrame::bytes(to.0, to.1));
        let mut group = criterion.benchmark_group(format!("scale/{}x{}-{}x{}", from.0, from.1, to.0, to.1));
        for cpu in Cpu::available() {
            let mut scaler = Scaler::new(from, to).expect("a plan").on(cpu);
            group.bench_function(cpu.name(), |bencher| {
                bencher.iter(|| {
                    VideoFrame::new(&pool, to.0, to.1, |mut planes| {
                        let _ = scaler.scale(black_box(&frame), &mut planes, to.0, (0, 0));
                    })
                });
            });
        }
        group.finish();
    }
}

/// Four of one size, each in its quarter.
fn compose(criterion: &mut Criterion) {
    for size in [HD, FULL_HD] {
        let (width, height) = (size.0 / 2, size.1 / 2);
        let frames = [(); 4].map(|()| picture(size));
        let pool = Pool::new(1, VideoFrame::bytes(size.0, size.1));
        let corners = [(0, 0), (width, 0), (0, height), (width, height)];
        let mut group = criterion.benchmark_group(format!("compose/2x2 of {}p", size.1));
        for cpu in Cpu::available() {
            let mut scaler = Scaler::new(size, (width, height)).expect("a plan").on(cpu);
            group.bench_function(cpu.name(), |bencher| {
                bencher.iter(|| {
                    VideoFrame::new(&pool, size.0, size.1, |mut planes| {
                        for (frame, corner) in black_box(&frames).iter().zip(corners) {
                            let _ = scaler.scale(frame, &mut planes, size.0, corner);
                        }
                    })
                });
            });
        }
        group.finish();
    }
}

/// Everything that is drawn on a composed picture of 720p.
fn draw(criterion: &mut Criterion) {
    let pool = Pool::new(1, VideoFrame::bytes(HD.0, HD.1));
    let caption = picture((400, 32));
    let alpha: Vec<u8> = (0..400 * 32).map(|n| u8::try_from(n * 37 % 256).unwrap_or(0)).collect();
    let mask = Mask::new(400, 32, &alpha).expect("a small mask");
    let corners = Corners::new(16).expect("a small radius");
    let tile = Area { x: 0, y: 0, width: 640, height: 360 };
    for cpu in Cpu::available() {
        let mut bench = |name: &str, draw: &dyn Fn(&mut crosspoint_codecs::frame::PlanesMut<'_>)| {
            criterion.bench_function(&format!("draw/{name}/{}", cpu.name()), |bencher| {
                bencher.iter(|| VideoFrame::new(&pool, HD.0, HD.1, |mut planes| draw(&mut planes)));
            });
        };
        bench("letters 400x32", &|planes| {
            let _ = blend(cpu, planes, HD.0, (440, 680), black_box(&mask), Ink::Colour(Colour::WHITE));
        });
        bench("picture 400x32", &|planes| {
            let _ = blend(cpu, planes, HD.0, (440, 680), black_box(&mask), Ink::Picture(&caption));
        });
        bench("corners", &|planes| corners.paint(cpu, planes, HD.0, tile, Colour::BLACK));
        bench("border", &|planes| border(planes, HD.0, black_box(tile), 4, Colour::WHITE));
        bench("slate", &|planes| fill(planes, black_box(Colour::BLACK)));
    }
}

fn convert(criterion: &mut Criterion) {
    let frame = picture(HD);
    let pool = Pool::new(1, VideoFrame::bytes(HD.0, HD.1));
    let mut rgba = vec![0; HD.0 * HD.1 * 4];
    for cpu in Cpu::available() {
        criterion.bench_function(&format!("convert/720p to RGBA/{}", cpu.name()), |bencher| {
            bencher.iter(|| to_rgb(cpu, black_box(&frame), Matrix::Bt709, Layout::Rgba, &mut rgba));
        });
        criterion.bench_function(&format!("convert/720p from RGBA/{}", cpu.name()), |bencher| {
            bencher.iter(|| {
                VideoFrame::new(&pool, HD.0, HD.1, |mut planes| {
                    let _ = from_rgb(cpu, black_box(&rgba), Layout::Rgba, Matrix::Bt709, HD, &mut planes);
                })
            });
        });
    }
}

criterion_group!(benches, scale, compose, draw, convert);
criterion_main!(benches);
