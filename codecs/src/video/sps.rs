//! The sequence parameter set of H.264 (7.3.2.1.1): what a stream is, read before any decoder sees
//! it, so that no peer decides how much memory a decoder takes.

use super::nal::{Bits, kind, kind_of};
use crate::codec::CodecError;
use crate::format::{H264Profile, VideoSeen, macroblocks};
use crate::frame::MAX_SIDE;

/// Reference pictures that any level allows (7.4.2.1.1: MaxDpbFrames is at most 16).
const MAX_REFERENCES: u32 = 16;
/// Entries of offset_for_ref_frame (7.4.2.1.1).
const MAX_ORDER_CYCLE: u32 = 255;
/// Parameter sets of a stream (7.4.2.1.1).
const MAX_ID: u32 = 31;

/// What a sequence parameter set says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// seq_parameter_set_id, 0 to 31.
    pub id: u8,
    /// The first three bytes: profile_idc, constraint flags, level_idc.
    pub profile_level: [u8; 3],
    /// Width and height as coded, whole macroblocks.
    pub coded: (usize, usize),
    /// Width and height to show.
    pub shown: (usize, usize),
    /// Reference pictures that the decoder keeps at most.
    pub references: u8,
    /// Every picture is a frame (no interlace).
    pub progressive: bool,
    /// 4:2:0 with 8 bits, which is all that we can show.
    pub common_samples: bool,
}

impl Sps {
    /// Reads a NAL unit of type 7, its header included. Sizes beyond [`MAX_SIDE`] are refused.
    pub fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        if kind_of(nal) != kind::SPS {
            return Err(CodecError::Malformed("not a sequence parameter set"));
        }
        let mut bits = Bits::new(nal.get(1..).unwrap_or(&[]));
        let sps =
            Self::read(&mut bits).ok_or(CodecError::Malformed("a sequence parameter set that is not one"))?;
        let (width, height) = sps.coded;
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(CodecError::Unsupported("pictures of more than 4096 pixels a side"));
        }
        Ok(sps)
    }

    /// Profile and level, when we know the profile.
    pub const fn profile(&self) -> Option<(H264Profile, u8)> {
        H264Profile::from_id(self.profile_level)
    }

    /// What a route needs to know of the stream; `frame_rate` as measured.
    pub fn seen(&self, frame_rate: Option<f32>) -> Option<VideoSeen> {
        let (profile, level) = self.profile()?;
        let fs = macroblocks(self.coded.0, self.coded.1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let mbps = frame_rate.map(|rate| (f64::from(fs) * f64::from(rate)) as u32);
        Some(VideoSeen { profile, level, fs, mbps })
    }

    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let mut profile_level = [0; 3];
        for byte in &mut profile_level {
            *byte = u8::try_from(bits.bits(8)?).ok()?;
        }
        let id = bits.unsigned().filter(|id| *id <= MAX_ID)?;
        let mut common_samples = true;
        if has_chroma_format(profile_level[0]) {
            common_samples = read_chroma_format(bits)?;
        }
        bits.unsigned().filter(|log2| *log2 <= 12)?; // log2_max_frame_num_minus4
        match bits.unsigned()? {
            0 => {
                bits.unsigned().filter(|log2| *log2 <= 12)?; // log2_max_pic_order_cnt_lsb_minus4
            }
            1 => {
                bits.bit()?; // delta_pic_order_always_zero_flag
                bits.signed()?; // offset_for_non_ref_pic
                bits.signed()?; // offset_for_top_to_bottom_field
                for _ in 0..bits.unsigned().filter(|cycle| *cycle <= MAX_ORDER_CYCLE)? {
                    bits.signed()?;
                }
            }
            2 => {}
            _ => return None,
        }
        let references = bits.unsigned().filter(|count| *count <= MAX_REFERENCES)?;
        bits.bit()?; // gaps_in_frame_num_value_allowed_flag
        let columns = size(bits.unsigned()?)?.checked_add(1)?;
        let map_units = size(bits.unsigned()?)?.checked_add(1)?;
        let progressive = bits.bit()?;
        if !progressive {
            bits.bit()?; // mb_adaptive_frame_field_flag
        }
        bits.bit()?; // direct_8x8_inference_flag
        let lines = if progressive { 1 } else { 2 };
        let coded = (columns.checked_mul(16)?, map_units.checked_mul(16)?.checked_mul(lines)?);
        let mut shown = coded;
        if bits.bit()? {
            // In chroma samples, and in both fields where there are two (7-19 to 7-22).
            let mut crop = |unit: usize| {
                let sum = size(bits.unsigned()?)?.checked_add(size(bits.unsigned()?)?)?;
                sum.checked_mul(unit)
            };
            let across = crop(2)?;
            let upright = crop(2 * lines)?;
            shown = (coded.0.checked_sub(across)?, coded.1.checked_sub(upright)?);
        }
        bits.bit()?; // vui_parameters_present_flag
        if shown.0 == 0 || shown.1 == 0 {
            return None;
        }
        let references = u8::try_from(references).ok()?;
        Some(Self {
            id: u8::try_from(id).ok()?,
            profile_level,
            coded,
            shown,
            references,
            progressive,
            common_samples,
        })
    }
}

/// Profiles whose parameter sets tell the chroma format (7.3.2.1.1).
const fn has_chroma_format(profile_idc: u8) -> bool {
    matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// Whether samples are 4:2:0 with 8 bits.
fn read_chroma_format(bits: &mut Bits<'_>) -> Option<bool> {
    let format = bits.unsigned().filter(|format| *format <= 3)?;
    if format == 3 {
        bits.bit()?; // separate_colour_plane_flag
    }
    let luma_depth = bits.unsigned().filter(|extra| *extra <= 6)?;
    let chroma_depth = bits.unsigned().filter(|extra| *extra <= 6)?;
    bits.bit()?; // qpprime_y_zero_transform_bypass_flag
    if bits.bit()? {
        for list in 0..if format == 3 { 12 } else { 8 } {
            if bits.bit()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(format == 1 && luma_depth == 0 && chroma_depth == 0)
}

/// 7.3.2.1.1.1: a list ends where its next scale becomes zero.
fn skip_scaling_list(bits: &mut Bits<'_>, len: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..len {
        if next != 0 {
            let delta = bits.signed().filter(|delta| (-128..=127).contains(delta))?;
            next = (last + delta).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

fn size(value: u32) -> Option<usize> {
    usize::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes bits as the parser reads them, with emulation prevention.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn bits(&mut self, value: u32, count: u32) -> &mut Self {
            self.0.extend((0..count).rev().map(|n| value >> n & 1 != 0));
            self
        }

        fn unsigned(&mut self, value: u32) -> &mut Self {
            let len = 32 - (value + 1).leading_zeros();
            self.bits(0, len - 1).bits(value + 1, len)
        }

        fn nal(&mut self, header: u8) -> Vec<u8> {
            self.bits(1, 1);
            while !self.0.len().is_multiple_of(8) {
                self.bits(0, 1);
            }
            let mut nal = vec![header];
            for byte in self.0.chunks(8) {
                let byte = byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
                if nal.len() > 2 && nal.ends_with(&[0, 0]) && byte <= 3 {
                    nal.push(3);
                }
                nal.push(byte);
            }
            nal
        }
    }

    fn sps(id: [u8; 3], columns: u32, lines: u32, crop: Option<[u32; 4]>) -> Vec<u8> {
        let mut writer = Writer::default();
        for byte in id {
            writer.bits(u32::from(byte), 8);
        }
        writer.unsigned(0);
        if has_chroma_format(id[0]) {
            writer.unsigned(1).unsigned(0).unsigned(0).bits(0, 2);
        }
        writer.unsigned(0).unsigned(2).unsigned(1).bits(0, 1).unsigned(columns - 1).unsigned(lines - 1);
        writer.bits(1, 1).bits(1, 1).bits(u32::from(crop.is_some()), 1);
        for side in crop.into_iter().flatten() {
            writer.unsigned(side);
        }
        writer.bits(0, 1).nal(0x67)
    }

    #[test]
    fn sizes_profiles_and_cropping() {
        let hd = Sps::parse(&sps([66, 0xc0, 40], 120, 68, Some([0, 0, 0, 4]))).unwrap();
        assert_eq!((hd.coded, hd.shown, hd.references), ((1920, 1088), (1920, 1080), 1));
        assert_eq!(hd.profile(), Some((H264Profile::ConstrainedBaseline, 40)));
        assert_eq!(
            hd.seen(Some(30.0)),
            Some(VideoSeen {
                profile: H264Profile::ConstrainedBaseline,
                level: 40,
                fs: 8160,
                mbps: Some(244_800)
            })
        );
        let high = Sps::parse(&sps([100, 0x0c, 31], 80, 45, None)).unwrap();
        assert_eq!((high.shown, high.profile()), ((1280, 720), Some((H264Profile::ConstrainedHigh, 31))));
        assert!(high.common_samples && high.progressive);
    }

    #[test]
    fn sets_of_real_encoders() {
        // x264, High 4.0, 1920x1080, with usage information behind it.
        let x264 = [
            0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03,
            0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58,
        ];
        let sps = Sps::parse(&x264).unwrap();
        assert_eq!((sps.shown, sps.profile()), ((1920, 1080), Some((H264Profile::High, 40))));
    }

    #[test]
    fn bombs_are_refused() {
        assert_eq!(
            Sps::parse(&sps([66, 0xc0, 31], 257, 1, None)),
            Err(CodecError::Unsupported("pictures of more than 4096 pixels a side"))
        );
        assert!(Sps::parse(&sps([66, 0xc0, 31], 60_000, 60_000, None)).is_err());
        assert!(Sps::parse(&sps([66, 0xc0, 31], u32::MAX - 1, 9, None)).is_err());
        // Cropped to nothing and to less than nothing.
        assert!(Sps::parse(&sps([66, 0xc0, 31], 2, 2, Some([8, 8, 0, 0]))).is_err());
        assert!(Sps::parse(&sps([66, 0xc0, 31], 2, 2, Some([u32::MAX - 2, 4, 0, 0]))).is_err());
        assert!(Sps::parse(&[0x67]).is_err());
        assert!(Sps::parse(&[]).is_err());
        assert!(Sps::parse(&[0x68, 1, 2, 3]).is_err());
    }

    proptest! {
        #[test]
        fn any_size_comes_back(columns in 1u32..=256, lines in 1u32..=256, crop in prop::option::of([0u32..4, 0u32..4, 0u32..4, 0u32..4])) {
            let parsed = Sps::parse(&sps([66, 0xc0, 31], columns, lines, crop)).unwrap();
            let [left, right, top, bottom] = crop.unwrap_or_default().map(|side| side as usize);
            let coded = (columns as usize * 16, lines as usize * 16);
            prop_assert_eq!(parsed.coded, coded);
            prop_assert_eq!(parsed.shown, (coded.0 - 2 * (left + right), coded.1 - 2 * (top + bottom)));
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..64), high in any::<bool>()) {
            bytes.insert(0, 0x67);
            if high && bytes.len() > 1 {
                bytes[1] = 100;
            }
            if let Ok(sps) = Sps::parse(&bytes) {
                prop_assert!(sps.coded.0 <= MAX_SIDE && sps.coded.1 <= MAX_SIDE);
                prop_assert!(sps.shown.0 <= sps.coded.0 && sps.shown.1 > 0);
            }
        }
    }
}
