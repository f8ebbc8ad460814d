//! What a JPEG file says of itself before its pictures begin (ITU-T T.81 annex B). Pure: no picture is
//! decoded, and nobody is sent what would burst his decoder.

/// Most pixels of a still: a screen of 7680x4320 has as many.
pub(super) const PIXELS: u32 = 33_177_600;
/// Segments before the picture. Cameras write some twenty.
const SEGMENTS: usize = 128;

/// Why a file is not shown to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadJpeg {
    /// It is none, or it is cut.
    #[error("frame: is no JPEG file")]
    NotOne,
    /// Lossless, arithmetic, 12 bits and such: browsers do not show it.
    #[error("frame: is a JPEG file of a kind that browsers do not show: use a baseline or progressive one")]
    Kind,
    /// Larger than [`PIXELS`].
    #[error("frame: has {0} x {1} pixels: make it smaller, 7680 x 4320 at most")]
    TooLarge(u16, u16),
}

/// Width and height of the picture in `file`.
pub(super) fn size(file: &[u8]) -> Result<(u16, u16), BadJpeg> {
    let mut rest = file.strip_prefix(&[0xff, 0xd8]).ok_or(BadJpeg::NotOne)?;
    if !file.ends_with(&[0xff, 0xd9]) {
        return Err(BadJpeg::NotOne);
    }
    let mut found = None;
    for _ in 0..SEGMENTS {
        let marker;
        (marker, rest) = next_marker(rest).ok_or(BadJpeg::NotOne)?;
        let (segment, behind) = segment(rest).ok_or(BadJpeg::NotOne)?;
        rest = behind;
        match marker {
            // The picture begins.
            0xda => return found.ok_or(BadJpeg::NotOne),
            // Tables among the numbers of frames: Huffman, arithmetic; and one that is reserved.
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xc2 if found.is_none() => found = Some(frame(segment)?),
            0xc0..=0xcf => return Err(BadJpeg::Kind),
            // Tables, intervals, what programs and cameras add.
            0xdb | 0xdd | 0xe0..=0xef | 0xfe => {}
            _ => return Err(BadJpeg::NotOne),
        }
    }
    Err(BadJpeg::NotOne)
}

/// The next marker; any number of bytes of ones may stand before it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let ones = bytes.iter().take_while(|byte| **byte == 0xff).count();
    let (marker, rest) = bytes.get(ones..)?.split_first()?;
    (ones > 0 && *marker != 0).then_some((*marker, rest))
}

/// A segment without its length, and what comes behind it.
fn segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)).checked_sub(2)?)
}

fn frame(segment: &[u8]) -> Result<(u16, u16), BadJpeg> {
    let [bits, height1, height2, width1, width2, components, rest @ ..] = segment else {
        return Err(BadJpeg::NotOne);
    };
    let (height, width) = (u16::from_be_bytes([*height1, *height2]), u16::from_be_bytes([*width1, *width2]));
    if *bits != 8 || !matches!(components, 1 | 3) {
        return Err(BadJpeg::Kind);
    }
    if height == 0 || width == 0 || rest.len() != 3 * usize::from(*components) {
        return Err(BadJpeg::NotOne);
    }
    if u32::from(height) * u32::from(width) > PIXELS {
        return Err(BadJpeg::TooLarge(width, height));
    }
    Ok((width, height))
}

/// A file that says of itself what a JPEG file says, for tests: it has no picture.
#[cfg(test)]
pub(super) fn header_only(kind: u8, width: u16, height: u16) -> Vec<u8> {
    let ([w1, w2], [h1, h2]) = (width.to_be_bytes(), height.to_be_bytes());
    let mut file = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, b'J', b'F', 0xff, 0xff, 0xdb, 0, 2];
    file.extend([0xff, kind, 0, 17, 8, h1, h2, w1, w2, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
    file.extend([0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9]);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_and_what_is_not_shown_is_refused() {
        assert_eq!(size(&header_only(0xc0, 640, 360)), Ok((640, 360)));
        assert_eq!(size(&header_only(0xc2, 7_680, 4_320)), Ok((7_680, 4_320)));
        assert_eq!(size(&header_only(0xc0, 7_681, 4_320)), Err(BadJpeg::TooLarge(7_681, 4_320)));
        assert_eq!(size(&header_only(0xc0, 65_535, 65_535)), Err(BadJpeg::TooLarge(65_535, 65_535)));
        assert_eq!(size(&header_only(0xc3, 640, 360)), Err(BadJpeg::Kind), "lossless");
        assert_eq!(size(&header_only(0xc9, 640, 360)), Err(BadJpeg::Kind), "arithmetic");
        assert_eq!(size(&header_only(0xc0, 0, 360)), Err(BadJpeg::NotOne));
        for other in [b"".as_slice(), b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xd9"] {
            assert_eq!(size(other), Err(BadJpeg::NotOne));
        }
    }

    #[test]
    fn whatever_is_cut_or_changed_is_survived() {
        let good = header_only(0xc0, 640, 360);
        for end in 0..good.len() {
            assert!(size(&good[..end]).is_err(), "{end}");
        }
        for at in 0..good.len() {
            for value in [0x00, 0x01, 0x7f, 0xc0, 0xda, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                if let Ok((width, height)) = size(&bad) {
                    assert!(u32::from(width) * u32::from(height) <= PIXELS);
                }
            }
        }
        let mut endless = vec![0xff, 0xd8];
        endless.extend([0xff, 0xfe, 0, 2].repeat(SEGMENTS + 1));
        endless.extend([0xff, 0xd9]);
        assert_eq!(size(&endless), Err(BadJpeg::NotOne));
    }
}
