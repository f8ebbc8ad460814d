use super::*;
use crate::frame::Pool;

fn picture(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> VideoFrame {
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    VideoFrame::new(&pool, width, height, |planes| {
        for (n, y) in planes.y.iter_mut().enumerate() {
            *y = pixel(n % width, n / width);
        }
        planes.u.fill(90);
        planes.v.fill(200);
    })
    .unwrap()
}

fn scaled(frame: &VideoFrame, width: usize, height: usize) -> VideoFrame {
    let mut scaler = Scaler::new((frame.width(), frame.height()), (width, height)).unwrap();
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    VideoFrame::new(&pool, width, height, |mut planes| {
        scaler.scale(frame, &mut planes, width, (0, 0)).unwrap();
    })
    .unwrap()
}

/// The exact area average or two-tap value, in floating point, straight from the definition.
fn by_definition(frame: &VideoFrame, to: (usize, usize), x: usize, y: usize) -> f64 {
    let side = |from: usize, to: usize, n: usize| -> Vec<(usize, f64)> {
        let ratio = from as f64 / to as f64;
        (0..from)
            .filter_map(|pixel| {
                let share = if from > to {
                    let (begin, end) = (n as f64 * ratio, (n + 1) as f64 * ratio);
                    ((pixel as f64 + 1.0).min(end) - (pixel as f64).max(begin)) / ratio
                } else {
                    let middle = ((n as f64 + 0.5) * ratio - 0.5).clamp(0.0, from as f64 - 1.0);
                    1.0 - (pixel as f64 - middle).abs()
                };
                (share > 0.0).then_some((pixel, share))
            })
            .collect()
    };
    let (columns, lines) = (side(frame.width(), to.0, x), side(frame.height(), to.1, y));
    let mut sum = 0.0;
    for (line, share) in &lines {
        for (column, part) in &columns {
            sum += share * part * f64::from(frame.y()[line * frame.width() + column]);
        }
    }
    sum
}

#[test]
fn every_pixel_is_what_the_definition_says() {
    for (from, to) in [
        ((64, 48), (32, 24)),
        ((64, 48), (48, 36)),
        ((63, 37), (20, 11)),
        ((61, 35), (200, 99)),
        ((1280, 20), (352, 30)),
        ((16, 16), (16, 16)),
        ((3, 3), (1, 1)),
        ((1, 1), (9, 7)),
        ((400, 4), (5, 2)),
    ] {
        let frame = picture(from.0, from.1, |x, y| (x * 7 + y * 13 + x * y) as u8);
        let out = scaled(&frame, to.0, to.1);
        for y in 0..to.1 {
            for x in 0..to.0 {
                let expected = by_definition(&frame, to, x, y);
                let got = f64::from(out.y()[y * to.0 + x]);
                assert!((expected - got).abs() <= 0.6, "{from:?} to {to:?} at {x},{y}: {expected} {got}");
            }
        }
        assert!(out.u().iter().all(|u| *u == 90), "{from:?} to {to:?}: {:?}", out.u());
        assert!(out.v().iter().all(|v| *v == 200), "{from:?} to {to:?}");
    }
}

#[test]
fn every_level_makes_the_same_picture() {
    for (from, to) in [((61, 35), (30, 17)), ((61, 35), (200, 99)), ((130, 50), (37, 31))] {
        let frame = picture(from.0, from.1, |x, y| (x * 29 + y * 31 + x * y * 3) as u8);
        let expected = scaled(&frame, to.0, to.1);
        let pool = Pool::new(1, VideoFrame::bytes(to.0, to.1));
        for cpu in Cpu::available() {
            let mut scaler = Scaler::new(from, to).unwrap().on(cpu);
            let got = VideoFrame::new(&pool, to.0, to.1, |mut planes| {
                scaler.scale(&frame, &mut planes, to.0, (0, 0)).unwrap();
            });
            assert_eq!(got.as_ref(), Some(&expected), "{from:?} to {to:?} by {cpu:?}");
        }
    }
}

#[test]
fn a_part_of_a_picture_is_written_and_nothing_else() {
    let frame = picture(64, 36, |_, _| 200);
    let mut scaler = Scaler::new((64, 36), (32, 18)).unwrap();
    let pool = Pool::new(1, VideoFrame::bytes(40, 30));
    let out = VideoFrame::new(&pool, 40, 30, |mut planes| {
        crate::kernels::fill::fill(&mut planes, crate::kernels::fill::Colour::BLACK);
        scaler.scale(&frame, &mut planes, 40, (4, 6)).unwrap();
        assert!(scaler.scale(&frame, &mut planes, 40, (10, 0)).is_err());
        assert!(scaler.scale(&frame, &mut planes, 40, (3, 0)).is_err());
        assert!(scaler.scale(&frame, &mut planes, 40, (0, 14)).is_err());
    })
    .unwrap();
    assert_eq!(out.y().iter().filter(|y| **y == 200).count(), 32 * 18);
    assert_eq!(out.u().iter().filter(|u| **u == 90).count(), 16 * 9);
    assert_eq!((out.y()[6 * 40 + 4], out.y()[6 * 40 + 3], out.y()[23 * 40 + 35]), (200, 16, 200));
    assert!(Scaler::new((0, 4), (4, 4)).is_err());
    assert!(Scaler::new((4, 4), (4, MAX_SIDE + 1)).is_err());
}
