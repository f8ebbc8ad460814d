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

/// Ratios that each way takes, with lines that are no whole number of vectors.
const SIZES: [((usize, usize), (usize, usize)); 26] = [
    ((61, 35), (30, 17)),
    ((61, 35), (200, 99)),
    ((130, 50), (37, 31)),
    ((256, 64), (128, 32)),
    ((302, 62), (151, 31)),
    ((60, 60), (30, 30)),
    ((520, 80), (130, 20)),
    ((404, 44), (101, 11)),
    ((300, 90), (100, 30)),
    ((411, 60), (137, 20)),
    ((150, 90), (100, 60)),
    ((128, 96), (96, 72)),
    ((256, 16), (192, 12)),
    ((264, 24), (198, 18)),
    ((1280, 8), (960, 6)),
    ((260, 12), (195, 9)),
    ((244, 84), (183, 63)),
    ((64, 36), (128, 72)),
    ((35, 21), (140, 84)),
    ((128, 40), (128, 40)),
    ((128, 40), (128, 20)),
    ((640, 20), (80, 9)),
    ((700, 33), (101, 5)),
    ((900, 9), (20, 2)),
    ((17, 17), (16, 16)),
    ((7, 9), (33, 3)),
];

#[test]
fn every_level_makes_the_picture_of_the_plain_loops() {
    let mut ways = std::collections::BTreeSet::new();
    for (from, to) in SIZES {
        let frame = noisy(from.0, from.1);
        let pool = Pool::new(1, VideoFrame::bytes(to.0 + 6, to.1 + 4));
        let paint = |mut scaler: Scaler| {
            VideoFrame::new(&pool, to.0 + 6, to.1 + 4, |mut planes| {
                crate::kernels::fill::fill(&mut planes, crate::kernels::fill::Colour::BLACK);
                scaler.scale(&frame, &mut planes, to.0 + 6, (4, 2)).unwrap();
            })
            .map(|frame| [frame.y(), frame.u(), frame.v()].map(<[u8]>::to_vec))
        };
        let mut plain = Scaler::new(from, to).unwrap();
        (plain.luma.1, plain.chroma.1) = (Way::Plain, Way::Plain);
        let expected = paint(plain);
        for cpu in Cpu::available() {
            let scaler = Scaler::new(from, to).unwrap().on(cpu);
            ways.extend(
                [&scaler.luma.1, &scaler.chroma.1].map(std::mem::discriminant).map(|it| format!("{it:?}")),
            );
            assert!(paint(scaler) == expected, "{from:?} to {to:?} by {cpu:?}");
        }
    }
    // Where there are shuffles, every way was gone.
    assert!(ways.len() >= if Cpu::detect().shuffles() { 6 } else { 3 }, "{ways:?}");
}

fn noisy(width: usize, height: usize) -> VideoFrame {
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    let byte = |sample: i16| if sample % 5 == 0 { 255 } else { (sample & 0xff) as u8 };
    VideoFrame::new(&pool, width, height, |planes| {
        for (seed, plane) in [planes.y, planes.u, planes.v].into_iter().enumerate() {
            let noise = crate::audio::signals::noise(seed as u64 + 3, 32_767, plane.len());
            plane.iter_mut().zip(noise).for_each(|(pixel, sample)| *pixel = byte(sample));
        }
    })
    .unwrap()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_size_is_scaled_alike(width in 1usize..150, height in 1usize..40, to in (1usize..150, 1usize..40)) {
        let frame = noisy(width, height);
        let mut plain = Scaler::new((width, height), to).unwrap();
        (plain.luma.1, plain.chroma.1) = (Way::Plain, Way::Plain);
        let pool = Pool::new(2, VideoFrame::bytes(to.0, to.1));
        let paint = |mut scaler: Scaler| VideoFrame::new(&pool, to.0, to.1, |mut planes| {
            scaler.scale(&frame, &mut planes, to.0, (0, 0)).unwrap();
        });
        let expected = paint(plain);
        for cpu in Cpu::available() {
            let got = paint(Scaler::new((width, height), to).unwrap().on(cpu));
            proptest::prop_assert!(got == expected, "{:?}", cpu);
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
