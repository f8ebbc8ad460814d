//! Between I420 and RGB: for slides, stills and JPEG.
//!
//! Limited range (luma 16 to 235, chroma 16 to 240, ITU-R BT.601-7 section 2.5.3 and BT.709-6
//! section 3), whole numbers, rounded to the nearest once, cut to 0..=255. Towards RGB, the four
//! pixels of a 2 x 2 share its chroma as it is; from RGB, chroma is of the sum of the four, and
//! beyond an odd edge the last pixel counts again. Coefficients have 13 or 14 bits after the
//! point, which keeps every result within one of the exact one.

use fearless_simd::{
    Bytes, Simd, SimdBase, SimdIntWiden, SimdInterleaved, SimdNarrow, SimdWiden, dispatch, i16x8, u8x16,
    u16x8,
};

use super::cpu::Cpu;
use crate::codec::CodecError;
use crate::frame::{PlanesMut, VideoFrame};

/// Which colours the numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: standard definition, and what webcams mostly send.
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

/// How RGB lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Three bytes a pixel.
    Rgb,
    /// Four bytes a pixel. The fourth is written as 255 and not read.
    Rgba,
}

impl Layout {
    /// Bytes of a pixel.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// Pixels of a line that are converted at once, and bytes of each chroma plane for so many.
const LANES: usize = 16;
const HALF: usize = LANES / 2;
/// Bits after the point of the coefficients towards RGB: the largest is just above two.
const TO_POINT: u32 = 13;
/// And from RGB: none is above one.
const FROM_POINT: u32 = 14;

/// What a matrix is made of: the shares of red and blue in luma.
#[derive(Clone, Copy)]
struct Shares {
    red: f64,
    blue: f64,
}

impl Matrix {
    const fn shares(self) -> Shares {
        match self {
            Self::Bt601 => Shares { red: 0.299, blue: 0.114 },
            Self::Bt709 => Shares { red: 0.2126, blue: 0.0722 },
        }
    }

    const fn factors_to_rgb(self) -> ToRgb {
        let Shares { red, blue } = self.shares();
        let green = 1.0 - red - blue;
        let (luma, chroma) = (255.0 / 219.0, 255.0 / 112.0);
        ToRgb {
            luma: fixed(luma, TO_POINT),
            red_v: fixed(chroma * (1.0 - red), TO_POINT),
            green_u: fixed(-chroma * (1.0 - blue) * blue / green, TO_POINT),
            green_v: fixed(-chroma * (1.0 - red) * red / green, TO_POINT),
            blue_u: fixed(chroma * (1.0 - blue), TO_POINT),
        }
    }

    const fn factors_of_rgb(self) -> OfRgb {
        let Shares { red, blue } = self.shares();
        let green = 1.0 - red - blue;
        let (luma, chroma) = (219.0 / 255.0, 112.0 / 255.0);
        let (u, v) = (chroma / (1.0 - blue), chroma / (1.0 - red));
        // Grey has no colour: what rounding leaves goes to green.
        let (u_red, u_blue) = (fixed(-u * red, FROM_POINT), fixed(u * (1.0 - blue), FROM_POINT));
        let (v_red, v_blue) = (fixed(v * (1.0 - red), FROM_POINT), fixed(-v * blue, FROM_POINT));
        OfRgb {
            y: [
                fixed(luma * red, FROM_POINT),
                fixed(luma * green, FROM_POINT),
                fixed(luma * blue, FROM_POINT),
            ],
            u: [u_red, -u_red - u_blue, u_blue],
            v: [v_red, -v_red - v_blue, v_blue],
        }
    }
}

/// Factors of luma and chroma, which are counted from their zeros.
struct ToRgb {
    luma: i16,
    red_v: i16,
    green_u: i16,
    green_v: i16,
    blue_u: i16,
}

/// Factors of red, green and blue.
struct OfRgb {
    y: [i16; 3],
    u: [i16; 3],
    v: [i16; 3],
}

/// Writes `frame` as RGB, lines one behind the other. An `out` that is too short is refused.
pub fn to_rgb(
    cpu: Cpu,
    frame: &VideoFrame,
    matrix: Matrix,
    layout: Layout,
    out: &mut [u8],
) -> Result<(), CodecError> {
    let (width, room) = (frame.width(), out.len());
    let needed = width * frame.height() * layout.bytes();
    let out = out.get_mut(..needed).ok_or(CodecError::Room { needed, room })?;
    let half = width.div_ceil(2);
    let chroma = frame.u().chunks_exact(half).zip(frame.v().chunks_exact(half));
    // Each line of chroma serves two lines.
    let chroma = chroma.flat_map(|line| [line, line]);
    let lines = out.chunks_exact_mut(width * layout.bytes());
    for ((out, y), (u, v)) in lines.zip(frame.y().chunks_exact(width)).zip(chroma) {
        dispatch!(cpu.0, simd => line_to_rgb(simd, &matrix.factors_to_rgb(), layout, [y, u, v], out));
    }
    Ok(())
}

/// Makes a picture of `width` x `height` of RGB. `rgb` and planes of other lengths are refused.
pub fn from_rgb(
    cpu: Cpu,
    rgb: &[u8],
    layout: Layout,
    matrix: Matrix,
    (width, height): (usize, usize),
    picture: &mut PlanesMut<'_>,
) -> Result<(), CodecError> {
    let (needed, room) = (width * height * layout.bytes(), rgb.len());
    if room != needed || width == 0 {
        return Err(CodecError::Room { needed, room });
    }
    let half = width.div_ceil(2);
    let chroma = half * height.div_ceil(2);
    if (picture.y.len(), picture.u.len(), picture.v.len()) != (width * height, chroma, chroma) {
        return Err(CodecError::Unsupported("the picture is of another size than its pixels"));
    }
    let stride = width * layout.bytes();
    let chroma = picture.u.chunks_exact_mut(half).zip(picture.v.chunks_exact_mut(half));
    for ((rgb, y), (u, v)) in rgb.chunks(2 * stride).zip(picture.y.chunks_mut(2 * width)).zip(chroma) {
        let (upper, lower) = rgb.split_at(stride);
        // Below the last line of an odd number, it counts again.
        let lower = if lower.is_empty() { upper } else { lower };
        dispatch!(cpu.0, simd => lines_from_rgb(simd, &matrix.factors_of_rgb(), layout, [upper, lower], y, u, v));
    }
    Ok(())
}

#[inline(always)]
fn line_to_rgb<S: Simd>(simd: S, matrix: &ToRgb, layout: Layout, [y, u, v]: [&[u8]; 3], out: &mut [u8]) {
    let whole = y.len() / LANES;
    let (out, out_rest) = out.split_at_mut(whole * LANES * layout.bytes());
    let (y, y_rest) = y.as_chunks::<LANES>();
    let chroma = u.as_chunks::<HALF>().0.iter().zip(v.as_chunks::<HALF>().0);
    for ((y, (u, v)), out) in y.iter().zip(chroma).zip(out.chunks_exact_mut(LANES * layout.bytes())) {
        let [red, green, blue] = vector_to_rgb(simd, matrix, y, u, v);
        match layout {
            Layout::Rgba => {
                u8x16::store_four_interleaved([red, green, blue, u8x16::splat(simd, 255)], out);
            }
            Layout::Rgb => write(layout, red, green, blue, out),
        }
    }
    if !y_rest.is_empty() {
        let (u, v) = (padded(&u[whole * HALF..]), padded(&v[whole * HALF..]));
        let [red, green, blue] = vector_to_rgb(simd, matrix, &padded(y_rest), &u, &v);
        write(layout, red, green, blue, out_rest);
    }
}

#[inline(always)]
fn write<S: Simd>(layout: Layout, red: u8x16<S>, green: u8x16<S>, blue: u8x16<S>, out: &mut [u8]) {
    let colours = red.as_slice().iter().zip(green.as_slice()).zip(blue.as_slice());
    for (((red, green), blue), pixel) in colours.zip(out.chunks_exact_mut(layout.bytes())) {
        pixel[..3].copy_from_slice(&[*red, *green, *blue]);
        pixel[3..].fill(255);
    }
}

/// `bytes`, and zeros behind.
#[inline(always)]
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    all[..bytes.len()].copy_from_slice(bytes);
    all
}

/// Each colour is a sum of products in pairs: of luma with one chroma, and for green of the other
/// chroma with the rounding.
#[inline(always)]
fn vector_to_rgb<S: Simd>(
    simd: S,
    matrix: &ToRgb,
    y: &[u8; LANES],
    u: &[u8; HALF],
    v: &[u8; HALF],
) -> [u8x16<S>; 3] {
    let (u, v) = (u8x16::from_slice(simd, &padded::<LANES>(u)), u8x16::from_slice(simd, &padded::<LANES>(v)));
    let y = centred(simd, u8x16::from_slice(simd, y), 16);
    let (u, v) = (centred(simd, u.zip_low(u), 128), centred(simd, v.zip_low(v), 128));
    let low = half_to_rgb(simd, matrix, y.0, u.0, v.0);
    let high = half_to_rgb(simd, matrix, y.1, u.1, v.1);
    [to_bytes(low[0], high[0]), to_bytes(low[1], high[1]), to_bytes(low[2], high[2])]
}

#[inline(always)]
fn half_to_rgb<S: Simd>(simd: S, matrix: &ToRgb, y: i16x8<S>, u: i16x8<S>, v: i16x8<S>) -> [i16x8<S>; 3] {
    let half = i16x8::splat(simd, 1 << (TO_POINT - 1));
    [
        colour(simd, (y, v), (matrix.luma, matrix.red_v), (half, half), (0, 1)),
        colour(simd, (y, u), (matrix.luma, matrix.green_u), (v, half), (matrix.green_v, 1)),
        colour(simd, (y, u), (matrix.luma, matrix.blue_u), (half, half), (0, 1)),
    ]
}

/// Two halves of 16 bytes, less `zero`.
#[inline(always)]
fn centred<S: Simd>(simd: S, bytes: u8x16<S>, zero: i16) -> (i16x8<S>, i16x8<S>) {
    let (low, high) = bytes.widen();
    let zero = i16x8::splat(simd, zero);
    (low.bitcast::<i16x8<S>>() - zero, high.bitcast::<i16x8<S>>() - zero)
}

#[inline(always)]
fn colour<S: Simd>(
    simd: S,
    (a, b): (i16x8<S>, i16x8<S>),
    factors: (i16, i16),
    (c, d): (i16x8<S>, i16x8<S>),
    others: (i16, i16),
) -> i16x8<S> {
    let (factors, others) = (in_turn(simd, factors), in_turn(simd, others));
    let low = a.zip_low(b).pairwise_dot_product(factors) + c.zip_low(d).pairwise_dot_product(others);
    let high = a.zip_high(b).pairwise_dot_product(factors) + c.zip_high(d).pairwise_dot_product(others);
    (low >> TO_POINT).saturating_narrow(high >> TO_POINT)
}

#[inline(always)]
fn in_turn<S: Simd>(simd: S, (even, odd): (i16, i16)) -> i16x8<S> {
    i16x8::from_slice(simd, &[even, odd, even, odd, even, odd, even, odd])
}

#[inline(always)]
fn to_bytes<S: Simd>(low: i16x8<S>, high: i16x8<S>) -> u8x16<S> {
    let low: u16x8<S> = low.max(0).min(255).bitcast();
    let high: u16x8<S> = high.max(0).min(255).bitcast();
    low.relaxed_narrow(high)
}

#[inline(always)]
fn lines_from_rgb<S: Simd>(
    simd: S,
    matrix: &OfRgb,
    layout: Layout,
    rgb: [&[u8]; 2],
    y: &mut [u8],
    u: &mut [u8],
    v: &mut [u8],
) {
    let width = rgb[0].len() / layout.bytes();
    for at in (0..width).step_by(LANES) {
        let count = LANES.min(width - at);
        let mut sums = [u16x8::splat(simd, 0); 3];
        for (row, rgb) in rgb.iter().enumerate() {
            let colours = planar(simd, layout, &rgb[at * layout.bytes()..(at + count) * layout.bytes()]);
            for (sum, colour) in sums.iter_mut().zip(colours) {
                *sum += colour.pairwise_widening_add();
            }
            // No second line where a picture of odd height ends.
            if let Some(out) = y.get_mut(row * width + at..row * width + at + count) {
                put(luma(simd, &matrix.y, colours), out);
            }
        }
        let (half, chroma) = (at / 2, count.div_ceil(2));
        put(difference(simd, &matrix.u, sums), &mut u[half..half + chroma]);
        put(difference(simd, &matrix.v, sums), &mut v[half..half + chroma]);
    }
}

/// As many of `bytes` as `out` takes. A call to copy a length that only the run knows costs more
/// than all the rest.
#[inline(always)]
fn put<S: Simd>(bytes: u8x16<S>, out: &mut [u8]) {
    let bytes = bytes.as_slice();
    match out.len() {
        LANES => out.copy_from_slice(&bytes[..LANES]),
        HALF => out.copy_from_slice(&bytes[..HALF]),
        len => out.copy_from_slice(&bytes[..len]),
    }
}

/// Red, green and blue of up to [`LANES`] pixels; the last counts again behind the end.
#[inline(always)]
fn planar<S: Simd>(simd: S, layout: Layout, rgb: &[u8]) -> [u8x16<S>; 3] {
    if layout == Layout::Rgba && rgb.len() == 4 * LANES {
        let [red, green, blue, _] = u8x16::load_four_interleaved(simd, rgb);
        return [red, green, blue];
    }
    let mut colours = [[0; LANES]; 3];
    let last = rgb.len() / layout.bytes() - 1;
    for n in 0..LANES {
        let pixel = n.min(last) * layout.bytes();
        for (colour, byte) in colours.iter_mut().zip(&rgb[pixel..pixel + 3]) {
            colour[n] = *byte;
        }
    }
    let [red, green, blue] = &colours;
    [u8x16::from_slice(simd, red), u8x16::from_slice(simd, green), u8x16::from_slice(simd, blue)]
}

#[inline(always)]
fn luma<S: Simd>(simd: S, factors: &[i16; 3], colours: [u8x16<S>; 3]) -> u8x16<S> {
    let [red, green, blue] = colours;
    let (red, green, blue) = (red.widen(), green.widen(), blue.widen());
    let offset = (16 << FROM_POINT) + (1 << (FROM_POINT - 1));
    let low = weighted(simd, factors, [red.0, green.0, blue.0], offset, FROM_POINT);
    let high = weighted(simd, factors, [red.1, green.1, blue.1], offset, FROM_POINT);
    to_bytes(low, high)
}

/// Of sums of four pixels; eight values, and eight of no meaning.
#[inline(always)]
fn difference<S: Simd>(simd: S, factors: &[i16; 3], sums: [u16x8<S>; 3]) -> u8x16<S> {
    let point = FROM_POINT + 2;
    let values = weighted(simd, factors, sums, (128 << point) + (1 << (point - 1)), point);
    to_bytes(values, values)
}

#[inline(always)]
fn weighted<S: Simd>(
    simd: S,
    factors: &[i16; 3],
    [red, green, blue]: [u16x8<S>; 3],
    offset: i32,
    point: u32,
) -> i16x8<S> {
    let (red, green, blue): (i16x8<S>, i16x8<S>, i16x8<S>) = (red.bitcast(), green.bitcast(), blue.bitcast());
    let (pair, rest) = (in_turn(simd, (factors[0], factors[1])), in_turn(simd, (factors[2], 0)));
    let low = red.zip_low(green).pairwise_dot_product(pair) + blue.zip_low(blue).pairwise_dot_product(rest);
    let high =
        red.zip_high(green).pairwise_dot_product(pair) + blue.zip_high(blue).pairwise_dot_product(rest);
    ((low + offset) >> point).saturating_narrow((high + offset) >> point)
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "factors of at most just above two; a float cast saturates"
)]
const fn fixed(factor: f64, point: u32) -> i16 {
    let scaled = factor * (1 << point) as f64;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i16
}

#[cfg(test)]
mod tests;
