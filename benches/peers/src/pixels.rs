//! Scaling and what is drawn on pictures, against libyuv on the same memory.

use std::hint::black_box;

use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::blend::{Ink, Mask, blend};
use crosspoint_codecs::kernels::convert::{Layout, Matrix, from_rgb, to_rgb};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::scale::Scaler;

use crate::race::{Contender, race};

/// Where the seven small pictures of 1+7 stand, each a quarter of 720p wide and high.
pub const SMALL: [(usize, usize); 7] =
    [(960, 0), (960, 180), (960, 360), (960, 540), (0, 540), (320, 540), (640, 540)];

/// libyuv's `enum FilterMode`.
const BILINEAR: i32 = 2;
const BOX: i32 = 3;

unsafe extern "C" {
    fn peer_yuv_scale(
        picture: *const u8,
        width: i32,
        height: i32,
        out: *mut u8,
        stride: i32,
        lines: i32,
        x: i32,
        y: i32,
        to_width: i32,
        to_height: i32,
        filter: i32,
    ) -> i32;
    fn peer_yuv_to_rgba(picture: *const u8, width: i32, height: i32, out: *mut u8) -> i32;
    fn peer_yuv_from_rgba(rgba: *const u8, width: i32, height: i32, out: *mut u8) -> i32;
    fn peer_yuv_blend(above: *const u8, alpha: *const u8, below: *mut u8, width: i32, height: i32) -> i32;
}

pub fn run() {
    for (from, to) in [
        ((1280, 720), (640, 360)),
        ((1920, 1080), (960, 540)),
        ((1280, 720), (426, 240)),
        ((1920, 1080), (640, 360)),
        ((1920, 1080), (1280, 720)),
        ((1280, 720), (320, 180)),
        ((1280, 720), (960, 540)),
        ((640, 360), (1280, 720)),
        ((640, 480), (704, 576)),
        ((1280, 720), (240, 134)),
    ] {
        scaling(from, to);
    }
    quarters();
    one_and_seven();
    rgb();
    caption();
}

pub fn picture((width, height): (usize, usize)) -> VideoFrame {
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(width, height));
    let byte = |n: usize| u8::try_from((n * 7 + n / width * 13) % 251).unwrap_or(0);
    VideoFrame::new(&pool, width, height, |planes| {
        planes.y.iter_mut().enumerate().for_each(|(n, y)| *y = byte(n));
        planes.u.iter_mut().enumerate().for_each(|(n, u)| *u = byte(n * 3));
        planes.v.iter_mut().enumerate().for_each(|(n, v)| *v = byte(n * 5));
    })
    .expect("a free picture")
}

/// Scales `frame` to the `area` (x, y, width, height) of a picture of `size`.
fn by_libyuv(frame: &VideoFrame, out: &mut [u8], size: (usize, usize), area: [usize; 4], filter: i32) {
    let [x, y, width, height] = area.map(int);
    // SAFETY: a picture's planes lie one behind the other, as those of `out`, which is of `size`;
    // and the area lies within.
    let done = unsafe {
        peer_yuv_scale(
            frame.y().as_ptr(),
            int(frame.width()),
            int(frame.height()),
            out.as_mut_ptr(),
            int(size.0),
            int(size.1),
            x,
            y,
            width,
            height,
            filter,
        )
    };
    assert_eq!(done, 0);
}

/// A buffer of `pool`, on the same pages as ours, for a peer to write into.
fn onto(pool: &Pool, write: impl FnOnce(&mut [u8])) {
    pool.take(|room| {
        write(room);
        None
    });
}

fn int(side: usize) -> i32 {
    i32::try_from(side).expect("a side of a picture")
}

fn scaling(from: (usize, usize), to: (usize, usize)) {
    let frame = picture(from);
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(to.0, to.1));
    let other = Pool::on_huge_pages(1, VideoFrame::bytes(to.0, to.1));
    let area = [0, 0, to.0, to.1];
    let by = |filter| onto(&other, |out| by_libyuv(black_box(&frame), out, to, area, filter));
    let mut contenders = vec![
        Contender::new("libyuv box", || by(BOX)),
        Contender::new("libyuv bilinear", || by(BILINEAR)),
    ];
    for cpu in Cpu::available() {
        let mut scaler = Scaler::new(from, to).expect("a plan").on(cpu);
        let (frame, pool) = (&frame, &pool);
        contenders.push(Contender::new(cpu.name(), move || {
            VideoFrame::new(pool, to.0, to.1, |mut planes| {
                scaler.scale(black_box(frame), &mut planes, to.0, (0, 0)).expect("a place");
            });
        }));
    }
    race(&format!("scale {}x{} to {}x{}", from.0, from.1, to.0, to.1), 1.0, contenders);
}

/// Four pictures of 720p, each in its quarter of one.
fn quarters() {
    let size = (1280, 720);
    let (width, height) = (size.0 / 2, size.1 / 2);
    let frames = [(); 4].map(|()| picture(size));
    let corners = [(0, 0), (width, 0), (0, height), (width, height)];
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(size.0, size.1));
    let other = Pool::on_huge_pages(1, VideoFrame::bytes(size.0, size.1));
    let mut contenders = vec![Contender::new("libyuv box", || {
        onto(&other, |out| {
            for (frame, (x, y)) in black_box(&frames).iter().zip(corners) {
                by_libyuv(frame, out, size, [x, y, width, height], BOX);
            }
        });
    })];
    for cpu in Cpu::available() {
        let mut scaler = Scaler::new(size, (width, height)).expect("a plan").on(cpu);
        let (frames, pool) = (&frames, &pool);
        contenders.push(Contender::new(cpu.name(), move || {
            VideoFrame::new(pool, size.0, size.1, |mut planes| {
                for (frame, corner) in black_box(frames).iter().zip(corners) {
                    scaler.scale(frame, &mut planes, size.0, corner).expect("a place");
                }
            });
        }));
    }
    race("compose 2x2 of 720p", 1.0, contenders);
}

/// One picture of 720p at three quarters of its size, and seven at a quarter along two edges.
fn one_and_seven() {
    let size = (1280, 720);
    let frames = [(); 8].map(|()| picture(size));
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(size.0, size.1));
    let other = Pool::on_huge_pages(1, VideoFrame::bytes(size.0, size.1));
    let mut contenders = vec![Contender::new("libyuv box", || {
        onto(&other, |out| {
            by_libyuv(&frames[0], out, size, [0, 0, 960, 540], BOX);
            for (frame, (x, y)) in black_box(&frames[1..]).iter().zip(SMALL) {
                by_libyuv(frame, out, size, [x, y, 320, 180], BOX);
            }
        });
    })];
    for cpu in Cpu::available() {
        let mut large = Scaler::new(size, (960, 540)).expect("a plan").on(cpu);
        let mut quarter = Scaler::new(size, (320, 180)).expect("a plan").on(cpu);
        let (frames, pool) = (&frames, &pool);
        contenders.push(Contender::new(cpu.name(), move || {
            VideoFrame::new(pool, size.0, size.1, |mut planes| {
                large.scale(&frames[0], &mut planes, size.0, (0, 0)).expect("a place");
                for (frame, corner) in black_box(&frames[1..]).iter().zip(SMALL) {
                    quarter.scale(frame, &mut planes, size.0, corner).expect("a place");
                }
            });
        }));
    }
    race("compose 1+7 of 720p", 1.0, contenders);
}

fn rgb() {
    let (width, height) = (1280, 720);
    let frame = picture((width, height));
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(width, height));
    let mut rgba = vec![0; width * height * 4];
    let mut by_peer = rgba.clone();
    let mut rooms: Vec<_> = Cpu::available().into_iter().map(|cpu| (cpu, rgba.clone())).collect();
    let mut contenders = vec![Contender::new("libyuv", || {
        // SAFETY: a picture of this size, and room for four bytes of each pixel.
        let done = unsafe {
            let picture = black_box(&frame).y().as_ptr();
            peer_yuv_to_rgba(picture, int(width), int(height), by_peer.as_mut_ptr())
        };
        assert_eq!(done, 0);
    })];
    for (cpu, room) in &mut rooms {
        let frame = &frame;
        contenders.push(Contender::new(cpu.name(), || {
            to_rgb(*cpu, black_box(frame), Matrix::Bt601, Layout::Rgba, room).expect("room");
        }));
    }
    race("I420 to RGBA, 720p", 1.0, contenders);
    rgba.copy_from_slice(&rooms[0].1);

    let mut out = vec![0; VideoFrame::bytes(width, height)];
    let mut contenders = vec![Contender::new("libyuv", || {
        // SAFETY: four bytes for each pixel, and room for a picture of this size.
        let done = unsafe {
            peer_yuv_from_rgba(black_box(&rgba).as_ptr(), int(width), int(height), out.as_mut_ptr())
        };
        assert_eq!(done, 0);
    })];
    for cpu in Cpu::available() {
        let (rgba, pool) = (&rgba, &pool);
        contenders.push(Contender::new(cpu.name(), move || {
            VideoFrame::new(pool, width, height, |mut planes| {
                let size = (width, height);
                from_rgb(cpu, black_box(rgba), Layout::Rgba, Matrix::Bt601, size, &mut planes)
                    .expect("a size");
            });
        }));
    }
    race("RGBA to I420, 720p", 1.0, contenders);
}

/// A line of subtitles.
fn caption() {
    let (width, height) = (400, 32);
    let above = picture((width, height));
    let alpha: Vec<u8> = (0..width * height).map(|n| u8::try_from(n * 37 % 256).unwrap_or(0)).collect();
    let mask = Mask::new(width, height, &alpha).expect("a small mask");
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(width, height));
    let mut below = vec![100; VideoFrame::bytes(width, height)];
    let mut contenders = vec![Contender::new("libyuv", || {
        // SAFETY: two pictures of this size, and an alpha for each pixel.
        let done = unsafe {
            let (above, alpha) = (black_box(&above).y().as_ptr(), alpha.as_ptr());
            peer_yuv_blend(above, alpha, below.as_mut_ptr(), int(width), int(height))
        };
        assert_eq!(done, 0);
    })];
    for cpu in Cpu::available() {
        let (above, mask, pool) = (&above, &mask, &pool);
        contenders.push(Contender::new(cpu.name(), move || {
            VideoFrame::new(pool, width, height, |mut planes| {
                blend(cpu, &mut planes, width, (0, 0), mask, Ink::Picture(black_box(above)))
                    .expect("a place");
            });
        }));
    }
    race("blend a picture of 400x32", 1.0, contenders);
}
