//! H.264 levels and profiles as numbers: Table A-1 of the Recommendation and the three bytes of
//! `profile-level-id` (RFC 6184 section 8.1), which are also the first three of an SPS.

use std::cmp::Ordering;

use super::H264Profile;

/// `level_idc` of level 1b as it stands in a [`super::VideoFormat`]. Only the High profiles write
/// it so; the Baseline and Main profiles write 11 with constraint_set3 set (A.3.1 and A.3.2).
pub const LEVEL_1B: u8 = 9;

/// What a decoder of one level takes (Table A-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Level {
    /// `level_idc`; 1b is [`LEVEL_1B`].
    pub idc: u8,
    /// Macroblocks a second (MaxMBPS).
    pub max_mbps: u32,
    /// Macroblocks a picture (MaxFS).
    pub max_fs: u32,
    /// Bit/s of the VCL NAL units in the Baseline and Main profiles (1000 x MaxBR).
    pub max_bitrate: u32,
}

const fn level(idc: u8, max_mbps: u32, max_fs: u32, max_br: u32) -> H264Level {
    H264Level { idc, max_mbps, max_fs, max_bitrate: max_br * 1000 }
}

/// Table A-1, weakest first. Level 1b stands between 1 and 1.1 although its number is lowest.
pub const H264_LEVELS: [H264Level; 20] = [
    level(10, 1_485, 99, 64),
    level(LEVEL_1B, 1_485, 99, 128),
    level(11, 3_000, 396, 192),
    level(12, 6_000, 396, 384),
    level(13, 11_880, 396, 768),
    level(20, 11_880, 396, 2_000),
    level(21, 19_800, 792, 4_000),
    level(22, 20_250, 1_620, 4_000),
    level(30, 40_500, 1_620, 10_000),
    level(31, 108_000, 3_600, 14_000),
    level(32, 216_000, 5_120, 20_000),
    level(40, 245_760, 8_192, 20_000),
    level(41, 245_760, 8_192, 50_000),
    level(42, 522_240, 8_704, 50_000),
    level(50, 589_824, 22_080, 135_000),
    level(51, 983_040, 36_864, 240_000),
    level(52, 2_073_600, 36_864, 240_000),
    level(60, 4_177_920, 139_264, 240_000),
    level(61, 8_355_840, 139_264, 480_000),
    level(62, 16_711_680, 139_264, 800_000),
];

impl H264Level {
    /// The row of `idc`. A number that the table lacks counts as the strongest level below it:
    /// who says 33 decodes at least 3.2. Below all of them stands level 1.
    pub const fn of(idc: u8) -> Self {
        let mut best = H264_LEVELS[0];
        let mut row = 0;
        while row < H264_LEVELS.len() {
            let level = H264_LEVELS[row];
            if level.idc == idc {
                return level;
            }
            if level.idc < idc && level.idc != LEVEL_1B {
                best = level;
            }
            row += 1;
        }
        best
    }

    /// The weakest level that takes pictures of `width` x `height` at `frame_rate` and, when
    /// given, `bitrate`. `None` when no level does. A side may not exceed sqrt(8 x MaxFS)
    /// macroblocks (A.3.1).
    pub fn for_picture(width: usize, height: usize, frame_rate: f32, bitrate: Option<u32>) -> Option<Self> {
        let fs = macroblocks(width, height);
        let longest = u64::try_from(width.max(height).div_ceil(16)).unwrap_or(u64::MAX);
        let mbps = f64::from(fs) * f64::from(frame_rate.max(0.0));
        H264_LEVELS.into_iter().find(|level| {
            level.max_fs >= fs
                && f64::from(level.max_mbps) >= mbps
                && bitrate.is_none_or(|bits| level.max_bitrate >= bits)
                && longest.saturating_mul(longest) <= 8 * u64::from(level.max_fs)
        })
    }
}

/// Levels in the order of what they need, which is not that of their numbers (1b).
pub fn compare_levels(a: u8, b: u8) -> Ordering {
    let (a, b) = (H264Level::of(a), H264Level::of(b));
    (a.max_mbps, a.max_fs, a.max_bitrate).cmp(&(b.max_mbps, b.max_fs, b.max_bitrate))
}

/// Macroblocks of a picture, saturating.
pub fn macroblocks(width: usize, height: usize) -> u32 {
    u32::try_from(width.div_ceil(16).saturating_mul(height.div_ceil(16))).unwrap_or(u32::MAX)
}

const CONSTRAINT_SET0: u8 = 0x80;
const CONSTRAINT_SET1: u8 = 0x40;
const CONSTRAINT_SET3: u8 = 0x10;
const CONSTRAINT_SET4: u8 = 0x08;
const CONSTRAINT_SET5: u8 = 0x04;

impl H264Profile {
    /// Reads the three bytes of `profile-level-id`: profile and level (1b as [`LEVEL_1B`]).
    /// `None` for profiles that we do not name (Extended, High 10, scalable and their kin).
    pub const fn from_id([profile_idc, constraints, level_idc]: [u8; 3]) -> Option<(Self, u8)> {
        // Table 5 of RFC 6184: several spellings name a subset that they all share.
        let profile = match profile_idc {
            66 if constraints & CONSTRAINT_SET1 != 0 => Self::ConstrainedBaseline,
            66 => Self::Baseline,
            77 if constraints & CONSTRAINT_SET0 != 0 => Self::ConstrainedBaseline,
            77 => Self::Main,
            88 if constraints & CONSTRAINT_SET1 != 0 => Self::ConstrainedBaseline,
            88 if constraints & CONSTRAINT_SET0 != 0 => Self::Baseline,
            100 if constraints & CONSTRAINT_SET4 != 0 && constraints & CONSTRAINT_SET5 != 0 => {
                Self::ConstrainedHigh
            }
            100 => Self::High,
            _ => return None,
        };
        let is_1b = level_idc == 11 && profile_idc != 100 && constraints & CONSTRAINT_SET3 != 0;
        Some((profile, if is_1b { LEVEL_1B } else { level_idc }))
    }

    /// The three bytes that say this profile and `level`.
    pub const fn id(self, level: u8) -> [u8; 3] {
        let (profile_idc, constraints) = match self {
            // Sets 0 and 1 beside each other, as most senders spell it (42e0.. and 42c0..).
            Self::ConstrainedBaseline => (66, CONSTRAINT_SET0 | CONSTRAINT_SET1),
            Self::Baseline => (66, 0),
            Self::Main => (77, 0),
            Self::ConstrainedHigh => (100, CONSTRAINT_SET4 | CONSTRAINT_SET5),
            Self::High => (100, 0),
        };
        if level == LEVEL_1B && profile_idc != 100 {
            [profile_idc, constraints | CONSTRAINT_SET3, 11]
        } else {
            [profile_idc, constraints, level]
        }
    }

    /// Whether a decoder of this profile takes streams of `stream`.
    ///
    /// Baseline counts as Constrained Baseline both ways: its extra tools (flexible macroblock
    /// order, arbitrary slice order, redundant slices) are sent by no encoder in use, while many
    /// that say Baseline forget constraint_set1.
    pub const fn decodes(self, stream: Self) -> bool {
        match stream {
            Self::ConstrainedBaseline | Self::Baseline => true,
            Self::Main => matches!(self, Self::Main | Self::High),
            Self::ConstrainedHigh => matches!(self, Self::ConstrainedHigh | Self::High),
            Self::High => matches!(self, Self::High),
        }
    }

    /// The richest profile that decoders of both take.
    #[must_use]
    pub const fn shared(self, other: Self) -> Self {
        if self.decodes(other) {
            other
        } else if other.decodes(self) {
            self
        } else {
            Self::ConstrainedBaseline
        }
    }

    /// The usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "constrained baseline",
            Self::Baseline => "baseline",
            Self::Main => "main",
            Self::ConstrainedHigh => "constrained high",
            Self::High => "high",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_a1_grows_in_every_column() {
        for pair in H264_LEVELS.windows(2) {
            assert!(pair[0].max_mbps <= pair[1].max_mbps, "{pair:?}");
            assert!(pair[0].max_fs <= pair[1].max_fs, "{pair:?}");
            assert!(pair[0].max_bitrate <= pair[1].max_bitrate, "{pair:?}");
            assert_eq!(compare_levels(pair[0].idc, pair[1].idc), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn unknown_numbers_are_the_level_below() {
        assert_eq!(H264Level::of(33).idc, 32);
        assert_eq!(H264Level::of(255).idc, 62);
        assert_eq!(H264Level::of(0).idc, 10);
        assert_eq!(H264Level::of(LEVEL_1B).max_bitrate, 128_000);
    }

    #[test]
    fn usual_pictures_need_their_usual_levels() {
        for (width, height, rate, level) in [
            (176, 144, 15.0, 10),
            (352, 288, 30.0, 13),
            (640, 360, 30.0, 30),
            (640, 480, 30.0, 30),
            (1280, 720, 30.0, 31),
            (1280, 720, 60.0, 32),
            (1920, 1080, 30.0, 40),
            (3840, 2160, 30.0, 51),
        ] {
            assert_eq!(H264Level::for_picture(width, height, rate, None).map(|l| l.idc), Some(level));
        }
        // 1584 pixels are 99 macroblocks, which fits level 1's picture but not its width of 28.
        assert_eq!(H264Level::for_picture(1584, 16, 15.0, None).map(|l| l.idc), Some(22));
        assert_eq!(H264Level::for_picture(176, 144, 15.0, Some(100_000)).map(|l| l.idc), Some(LEVEL_1B));
        assert_eq!(H264Level::for_picture(usize::MAX, usize::MAX, 30.0, None), None);
    }

    #[test]
    fn profile_level_id_of_real_programs() {
        use H264Profile as P;
        for (id, profile, level) in [
            ([0x42, 0xe0, 0x1f], P::ConstrainedBaseline, 31),
            ([0x42, 0xc0, 0x1f], P::ConstrainedBaseline, 31),
            ([0x42, 0x00, 0x1f], P::Baseline, 31),
            ([0x42, 0x80, 0x16], P::Baseline, 22),
            ([0x42, 0xf0, 0x0b], P::ConstrainedBaseline, LEVEL_1B),
            ([0x4d, 0x80, 0x1e], P::ConstrainedBaseline, 30),
            ([0x4d, 0x00, 0x1f], P::Main, 31),
            ([0x58, 0xc0, 0x1f], P::ConstrainedBaseline, 31),
            ([0x64, 0x0c, 0x1f], P::ConstrainedHigh, 31),
            ([0x64, 0x00, 0x28], P::High, 40),
        ] {
            assert_eq!(P::from_id(id), Some((profile, level)), "{id:02x?}");
        }
        assert_eq!(P::from_id([0x58, 0, 0x1f]), None);
        assert_eq!(P::from_id([0x6e, 0, 0x1f]), None);
    }

    #[test]
    fn profile_level_id_goes_round() {
        use H264Profile as P;
        for profile in [P::ConstrainedBaseline, P::Baseline, P::Main, P::ConstrainedHigh, P::High] {
            for level in H264_LEVELS {
                assert_eq!(P::from_id(profile.id(level.idc)), Some((profile, level.idc)));
            }
            assert!(profile.decodes(profile) && profile.decodes(P::ConstrainedBaseline));
            assert!(P::High.decodes(profile));
        }
        assert!(!P::Main.decodes(P::ConstrainedHigh) && !P::ConstrainedHigh.decodes(P::Main));
    }
}
