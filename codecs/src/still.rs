//! Stills: JPEG files (ITU-T T.81) to pictures.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::codec::CodecError;
use crate::frame::{MAX_SIDE, Pool, VideoFrame};
use crate::kernels::convert::{Layout, Matrix, from_rgb};
use crate::kernels::cpu::Cpu;
use crate::kernels::fill::Area;
use crate::kernels::scale::Scaler;

/// Most pixels of a file: a screen of 7680 x 4320 has as many. One of so many takes 100 MB while it is
/// decoded, and 200 MB more if it is progressive.
pub const MOST_PIXELS: usize = 33_177_600;

/// Most passes over a progressive picture. Programs write ten or so; each costs time over all of it.
const MOST_SCANS: usize = 32;

/// Longest side that a file can have.
const LONGEST: usize = 65_535;

/// Why there is no picture of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StillError {
    /// It is none, it is cut, or of a rare kind.
    #[error("is no JPEG file that can be read: {0}")]
    Unreadable(String),
    /// More than [`MOST_PIXELS`].
    #[error("has {0} x {1} pixels: {MOST_PIXELS} at most")]
    TooLarge(usize, usize),
    /// Its size.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The picture of a JPEG `file`, whole and undistorted, made smaller if it is larger than `room` (width
/// and height, even). Nothing is decoded of a file that says of itself that it has too many pixels.
pub fn decode(cpu: Cpu, file: &[u8], room: (usize, usize)) -> Result<VideoFrame, StillError> {
    let unreadable = |fault: zune_jpeg::errors::DecodeErrors| StillError::Unreadable(format!("{fault:?}"));
    let options = DecoderOptions::new_safe()
        .set_max_width(LONGEST)
        .set_max_height(LONGEST)
        .jpeg_set_max_scans(MOST_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(unreadable)?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| StillError::Unreadable("it has no size".into()))?;
    if width * height > MOST_PIXELS {
        return Err(StillError::TooLarge(width, height));
    }
    let mut rgb = decoder.decode().map_err(unreadable)?;
    let mut size = (width, height);
    while size.0 > MAX_SIDE || size.1 > MAX_SIDE {
        (rgb, size) = halved(&rgb, size);
    }
    let picture = drawn(size, |planes| from_rgb(cpu, &rgb, Layout::Rgb, Matrix::Bt601, size, planes))?;
    drop(rgb);
    if size.0 <= room.0 && size.1 <= room.1 {
        return Ok(picture);
    }
    let Area { width, height, .. } = Area::fit(size, room.0, room.1);
    Ok(scaled(&picture, (width, height))?)
}

/// `picture` in another size.
pub fn scaled(picture: &VideoFrame, to: (usize, usize)) -> Result<VideoFrame, CodecError> {
    let mut scaler = Scaler::new((picture.width(), picture.height()), to)?;
    drawn(to, |planes| scaler.scale(picture, planes, to.0, (0, 0)))
}

/// A picture of memory of its own.
fn drawn(
    (width, height): (usize, usize),
    draw: impl FnOnce(&mut crate::frame::PlanesMut<'_>) -> Result<(), CodecError>,
) -> Result<VideoFrame, CodecError> {
    let mut result = Ok(());
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    let picture = VideoFrame::new(&pool, width, height, |mut planes| result = draw(&mut planes));
    result?;
    picture.ok_or(CodecError::Unsupported("a side of zero or of more than 4096 pixels"))
}

/// The mean of each four pixels; a line or a column that is left over is left out.
fn halved(rgb: &[u8], (width, height): (usize, usize)) -> (Vec<u8>, (usize, usize)) {
    const PIXEL: usize = 3;
    let (across, upright) = (width.min(2), height.min(2));
    let size = (width / across, height / upright);
    let mut half = Vec::with_capacity(size.0 * size.1 * PIXEL);
    for lines in rgb.chunks_exact(width * PIXEL * upright) {
        for x in 0..size.0 {
            for colour in 0..PIXEL {
                let value = |line: usize, column: usize| {
                    u16::from(lines[(line * width + x * across + column) * PIXEL + colour])
                };
                let mean = (value(0, 0)
                    + value(0, across - 1)
                    + value(upright - 1, 0)
                    + value(upright - 1, across - 1)
                    + 2)
                    / 4;
                half.push(u8::try_from(mean).unwrap_or(u8::MAX));
            }
        }
    }
    (half, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four fields of colour, 640 x 360, as ffmpeg writes them.
    const SLIDE: &[u8] = include_bytes!("../../fixtures/stills/fields.jpeg");
    const GREY: &[u8] = include_bytes!("../../fixtures/stills/grey.jpeg");

    fn at(picture: &VideoFrame, x: usize, y: usize) -> [u8; 3] {
        let chroma = y / 2 * picture.width().div_ceil(2) + x / 2;
        [picture.y()[y * picture.width() + x], picture.u()[chroma], picture.v()[chroma]]
    }

    #[track_caller]
    fn looks(found: [u8; 3], wanted: [u8; 3]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 4), "{found:?} for {wanted:?}");
    }

    #[test]
    fn the_fields_are_where_they_were() {
        let whole = decode(Cpu::detect(), SLIDE, (1_280, 720)).unwrap();
        let half = decode(Cpu::detect(), SLIDE, (320, 720)).unwrap();
        assert_eq!((whole.width(), whole.height(), half.width(), half.height()), (640, 360, 320, 180));
        for picture in [&whole, &half] {
            let (left, right) = (picture.width() / 4, picture.width() * 3 / 4);
            let (top, bottom) = (picture.height() / 4, picture.height() * 3 / 4);
            looks(at(picture, left, top), [81, 90, 240]);
            looks(at(picture, right, top), [145, 54, 34]);
            looks(at(picture, left, bottom), [41, 240, 110]);
            looks(at(picture, right, bottom), [235, 128, 128]);
        }
        looks(at(&decode(Cpu::detect(), GREY, (64, 64)).unwrap(), 30, 10), [126, 128, 128]);
    }

    #[test]
    fn a_side_that_is_too_long_is_halved() {
        let rgb: Vec<u8> = (0..30).collect();
        assert_eq!(halved(&rgb, (5, 2)), (vec![9, 10, 11, 15, 16, 17], (2, 1)));
        assert_eq!(halved(&rgb[..6], (1, 2)).1, (1, 1));
        assert_eq!(halved(&rgb[..6], (2, 1)), (vec![2, 3, 4], (1, 1)));
    }

    #[test]
    fn whatever_is_cut_or_changed_is_survived() {
        for end in (0..SLIDE.len()).step_by(37) {
            let _ = decode(Cpu::detect(), &SLIDE[..end], (64, 64));
        }
        for at in (0..SLIDE.len()).step_by(11) {
            let mut bad = SLIDE.to_vec();
            bad[at] ^= 0xff;
            let _ = decode(Cpu::detect(), &bad, (64, 64));
        }
        // It says that it is 65 535 pixels wide and high.
        let mut large = SLIDE.to_vec();
        let frame = large.windows(2).position(|it| it == [0xff, 0xc0]).unwrap();
        large[frame + 5..frame + 9].fill(0xff);
        let fault = decode(Cpu::detect(), &large, (64, 64)).unwrap_err();
        assert!(matches!(fault, StillError::TooLarge(65_535, 65_535)), "{fault}");
        assert!(decode(Cpu::detect(), b"", (64, 64)).is_err());
    }
}
