use proptest::prelude::*;

use super::*;
use crate::audio::signals::noise;
use crate::frame::Pool;

const MATRICES: [Matrix; 2] = [Matrix::Bt601, Matrix::Bt709];

/// The specification of one pixel towards RGB, in whole numbers.
fn plain_to_rgb(matrix: Matrix, y: u8, u: u8, v: u8) -> [u8; 3] {
    let ToRgb { luma, red_v, green_u, green_v, blue_u } = matrix.factors_to_rgb();
    let (y, u, v) = (i32::from(y) - 16, i32::from(u) - 128, i32::from(v) - 128);
    let of = |u_factor: i16, v_factor: i16| {
        let sum = y * i32::from(luma) + u * i32::from(u_factor) + v * i32::from(v_factor);
        ((sum + (1 << (TO_POINT - 1))) >> TO_POINT).clamp(0, 255) as u8
    };
    [of(0, red_v), of(green_u, green_v), of(blue_u, 0)]
}

/// And from RGB: of the sum of `4^shift` pixels.
fn plain_from_rgb(factors: [i16; 3], rgb: [u32; 3], shift: u32, zero: i32) -> u8 {
    let point = FROM_POINT + 2 * shift;
    let sum: i32 = rgb.iter().zip(factors).map(|(colour, factor)| *colour as i32 * i32::from(factor)).sum();
    ((sum + (zero << point) + (1 << (point - 1))) >> point).clamp(0, 255) as u8
}

/// The Recommendations' equations, with the ranges of section 2.5.3 of BT.601-7.
fn by_equation(matrix: Matrix, rgb: [f64; 3]) -> [f64; 3] {
    let Shares { red, blue } = matrix.shares();
    let luma = red * rgb[0] + (1.0 - red - blue) * rgb[1] + blue * rgb[2];
    let scale = |difference: f64, share: f64| 128.0 + 224.0 * difference / (2.0 * (1.0 - share)) / 255.0;
    [16.0 + 219.0 * luma / 255.0, scale(rgb[2] - luma, blue), scale(rgb[0] - luma, red)]
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    // Rails and what lies between.
    let byte =
        |sample: i16| if sample % 7 == 0 { if sample > 0 { 255 } else { 0 } } else { (sample & 0xff) as u8 };
    noise(seed, 32_767, len).into_iter().map(byte).collect()
}

fn picture(seed: u64, width: usize, height: usize) -> VideoFrame {
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    VideoFrame::new(&pool, width, height, |planes| {
        planes.y.copy_from_slice(&bytes(seed, planes.y.len()));
        planes.u.copy_from_slice(&bytes(seed + 1, planes.u.len()));
        planes.v.copy_from_slice(&bytes(seed + 2, planes.v.len()));
    })
    .unwrap()
}

#[test]
fn known_colours() {
    for matrix in MATRICES {
        assert_eq!(plain_to_rgb(matrix, 16, 128, 128), [0, 0, 0]);
        assert_eq!(plain_to_rgb(matrix, 235, 128, 128), [255, 255, 255]);
        for grey in 0..=255 {
            let rgb = [u32::from(grey); 3];
            assert_eq!(plain_from_rgb(matrix.factors_of_rgb().u, rgb, 0, 128), 128, "{grey}");
            assert_eq!(plain_from_rgb(matrix.factors_of_rgb().v, rgb, 0, 128), 128, "{grey}");
            let y = plain_from_rgb(matrix.factors_of_rgb().y, rgb, 0, 16);
            assert_eq!(plain_to_rgb(matrix, y, 128, 128).map(|c| c.abs_diff(grey) <= 1), [true; 3], "{grey}");
        }
    }
    // Colour bars: BT.601 red is 81, 90, 240; BT.709 red is 63, 102, 240.
    let red = |matrix: Matrix| {
        let OfRgb { y, u, v } = matrix.factors_of_rgb();
        [(y, 16), (u, 128), (v, 128)].map(|(factors, zero)| plain_from_rgb(factors, [255, 0, 0], 0, zero))
    };
    assert_eq!(red(Matrix::Bt601), [81, 90, 240]);
    assert_eq!(red(Matrix::Bt709), [63, 102, 240]);
}

#[test]
fn every_value_is_within_one_of_the_equations() {
    for matrix in MATRICES {
        let Shares { red, blue } = matrix.shares();
        let OfRgb { y, u, v } = matrix.factors_of_rgb();
        for n in (0..256 * 256 * 256).step_by(61) {
            let bytes = [n >> 16, n >> 8 & 0xff, n & 0xff];
            let exact = by_equation(matrix, bytes.map(f64::from));
            for ((factors, zero), exact) in [(y, 16), (u, 128), (v, 128)].into_iter().zip(exact) {
                let got = f64::from(plain_from_rgb(factors, bytes.map(|byte| byte as u32), 0, zero));
                assert!((got - exact).abs() < 0.52, "{matrix:?} {bytes:?}: {got} {exact}");
            }
            let [luma, u, v] = bytes.map(f64::from);
            let luma = (luma - 16.0) * 255.0 / 219.0;
            let (u, v) = ((u - 128.0) * 255.0 / 112.0, (v - 128.0) * 255.0 / 112.0);
            let (r, b) = (luma + v * (1.0 - red), luma + u * (1.0 - blue));
            let exact = [r, (luma - red * r - blue * b) / (1.0 - red - blue), b];
            let [y, u, v] = bytes.map(|byte| byte as u8);
            for (got, exact) in plain_to_rgb(matrix, y, u, v).into_iter().zip(exact) {
                assert!(
                    (f64::from(got) - exact.clamp(0.0, 255.0)).abs() < 0.6,
                    "{matrix:?} {bytes:?}: {got} {exact}"
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (frame, cpu) = (picture(1, 6, 4), Cpu::detect());
    let short = to_rgb(cpu, &frame, Matrix::Bt601, Layout::Rgb, &mut [0; 71]);
    assert_eq!(short, Err(CodecError::Room { needed: 72, room: 71 }));
    let pool = Pool::new(1, VideoFrame::bytes(6, 4));
    VideoFrame::new(&pool, 6, 4, |mut planes| {
        let mut from = |rgb: &[u8], size| from_rgb(cpu, rgb, Layout::Rgba, Matrix::Bt601, size, &mut planes);
        assert!(from(&[0; 95], (6, 4)).is_err());
        assert!(from(&[0; 80], (5, 4)).is_err());
        assert!(from(&[], (0, 4)).is_err());
        assert_eq!(from(&[0; 96], (6, 4)), Ok(()));
    })
    .unwrap();
}

proptest! {
    #[test]
    fn every_level_makes_the_pixels_of_the_plain_code(
        width in 1usize..70,
        height in 1usize..6,
        seed in 1u64..10_000,
        matrix in prop::sample::select(MATRICES.to_vec()),
        layout in prop::sample::select(vec![Layout::Rgb, Layout::Rgba]),
    ) {
        let (frame, half) = (picture(seed, width, height), width.div_ceil(2));
        for cpu in Cpu::available() {
            let mut out = vec![1; width * height * layout.bytes()];
            to_rgb(cpu, &frame, matrix, layout, &mut out).unwrap();
            for (n, pixel) in out.chunks(layout.bytes()).enumerate() {
                let chroma = n / width / 2 * half + n % width / 2;
                let expected = plain_to_rgb(matrix, frame.y()[n], frame.u()[chroma], frame.v()[chroma]);
                prop_assert_eq!(&pixel[..3], &expected, "{} by {:?}", n, cpu);
                prop_assert!(pixel[3..].iter().all(|alpha| *alpha == 255));
            }
        }
        let rgb = bytes(seed + 5, width * height * layout.bytes());
        let at = |x: usize, y: usize| {
            let pixel = (y.min(height - 1) * width + x.min(width - 1)) * layout.bytes();
            [0, 1, 2].map(|n| u32::from(rgb[pixel + n]))
        };
        let OfRgb { y: of_y, u: of_u, v: of_v } = matrix.factors_of_rgb();
        let pool = Pool::new(1, VideoFrame::bytes(width, height));
        for cpu in Cpu::available() {
            let frame = VideoFrame::new(&pool, width, height, |mut planes| {
                from_rgb(cpu, &rgb, layout, matrix, (width, height), &mut planes).unwrap();
            })
            .unwrap();
            for (n, y) in frame.y().iter().enumerate() {
                prop_assert_eq!(*y, plain_from_rgb(of_y, at(n % width, n / width), 0, 16), "{} by {:?}", n, cpu);
            }
            for n in 0..frame.u().len() {
                let (x, y) = (2 * (n % half), 2 * (n / half));
                let four = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
                let sum = [0, 1, 2].map(|colour| four.iter().map(|pixel| pixel[colour]).sum::<u32>());
                let expected = (plain_from_rgb(of_u, sum, 1, 128), plain_from_rgb(of_v, sum, 1, 128));
                prop_assert_eq!((frame.u()[n], frame.v()[n]), expected, "{} by {:?}", n, cpu);
            }
        }
    }
}
