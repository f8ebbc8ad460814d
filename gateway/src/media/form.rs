//! In which form a receiver is sent its pictures: everything that changes the bits, so that all who
//! want the same form of the same pictures share one encoder.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{
    H264_LEVELS, H264Level, PacketizationMode, VideoFormat, compare_levels, macroblocks,
};

/// More pictures a second are not made: twice the rate would halve the bits of each.
pub(super) const FRAME_RATE: f32 = 30.0;
/// The time of one picture at that rate.
pub(super) const PICTURE_EVERY: Duration = Duration::from_nanos(33_333_333);
/// Bits for each pixel: 720p at 30 pictures a second gets 1.9 Mbit/s, where OpenH264 is past the
/// knee of its curve for people who talk.
const BITS_A_PIXEL: f64 = 0.07;
/// Even the smallest picture gets so much.
pub(super) const LEAST_BITRATE: u32 = 64_000;
/// Rates at which pictures are made for many, bit/s: each about 1.4 times the one before, so that
/// nobody is given less than seven tenths of what he could take, and a room has few encoders.
const RUNGS: [u32; 15] = [
    64_000, 90_000, 128_000, 180_000, 256_000, 360_000, 512_000, 720_000, 1_000_000, 1_400_000, 2_000_000,
    2_800_000, 4_000_000, 5_600_000, 8_000_000,
];
/// A picture that gets less than one in so many of the bits it deserves is made smaller instead.
const THINNEST: f64 = 4.0;
/// For one who has loss: of a keyframe of thirty packets hardly one comes whole where one of ten is lost, of one of ten
/// a third does.
const THINNEST_LOSSY: f64 = 1.5;
/// How long a higher rate has to hold before it is used: estimates swing, and each change costs a
/// keyframe.
const UP_AFTER: Duration = Duration::from_secs(3);
/// Largest NAL unit for a receiver that takes single ones, or that has loss, so that a packet which is lost
/// takes no other one with it: what a packet carries behind its header, as the RTP side has it.
const LARGEST_NAL: usize = 1_200;
/// A road that loses so much, in percent, gets half of the bits, and beyond the second one a quarter: what is
/// in few packets is more often whole, and of a road that is too full less is lost.
pub(super) const LOSSY_FROM: u8 = 3;
const VERY_LOSSY_FROM: u8 = 8;
/// Macroblocks of a picture at least: a thumbnail that shows something.
const LEAST_FS: u32 = 60;

/// What a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    pub(super) level: u8,
    pub(super) max_nal: Option<usize>,
    pub(super) max_fs: u32,
    pub(super) max_bitrate: u32,
    /// It takes slides.
    pub(super) sharp: bool,
}

/// The form of a stream of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) size: (usize, usize),
    pub(super) level: u8,
    pub(super) max_nal: Option<usize>,
    /// bit/s.
    pub(super) bitrate: u32,
    /// Keyframes come as often as somebody with loss asks for them, and each slice is a packet.
    pub(super) lossy: bool,
    /// Slides: as large as can be and sharp, in fewer pictures where the rate is low.
    pub(super) sharp: bool,
}

impl Limits {
    pub(super) fn new(format: &VideoFormat, sharp: bool) -> Self {
        Self {
            level: level(format),
            max_nal: (format.mode == PacketizationMode::SingleNal).then_some(LARGEST_NAL),
            max_fs: format.max_fs(),
            max_bitrate: format.max_bitrate(),
            sharp,
        }
    }

    /// The form in which pictures of `size` are made for one receiver alone, whose road carries
    /// `estimate`: as large as it takes, at just the rate that it takes.
    pub(super) fn alone(&self, size: (usize, usize), estimate: Option<u32>) -> Form {
        let size = fitted(size, self.max_fs);
        let bitrate = deserved(size).min(self.max_bitrate).min(estimate.unwrap_or(u32::MAX));
        let bitrate = bitrate.max(LEAST_BITRATE.min(self.max_bitrate)).max(1);
        Form { size, level: self.level, max_nal: self.max_nal, bitrate, lossy: false, sharp: self.sharp }
    }

    /// The form in which they are made for it and others: on the highest rung at or below what it
    /// takes, and no larger than that rate can fill. Slides that are made smaller cannot be read: they
    /// keep their size.
    pub(super) fn shared(&self, size: (usize, usize), estimate: Option<u32>, lossy: bool) -> Form {
        let most = self.max_bitrate.min(estimate.unwrap_or(u32::MAX)).max(1);
        let rung = RUNGS.into_iter().rev().find(|rung| *rung <= most).unwrap_or(most);
        let thinnest = if lossy { THINNEST_LOSSY } else { THINNEST };
        let pixels = f64::from(rung) * thinnest / (BITS_A_PIXEL * f64::from(FRAME_RATE));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let filled = ((pixels / 256.0) as u32).max(LEAST_FS);
        let filled = if self.sharp { u32::MAX } else { filled };
        let size = fitted(size, self.max_fs.min(filled));
        let bitrate = rung.min(deserved(size).next_multiple_of(1_000));
        // The weakest level that holds it: receivers of different levels share what fits both.
        let level = H264Level::for_picture(size.0, size.1, FRAME_RATE, Some(bitrate))
            .map(|level| level.idc)
            .filter(|level| compare_levels(*level, self.level).is_lt())
            .unwrap_or(self.level);
        let max_nal = if lossy { self.max_nal.or(Some(LARGEST_NAL)) } else { self.max_nal };
        Form { size, level, max_nal, bitrate, lossy, sharp: self.sharp }
    }
}

/// What a road is given that loses `percent` of pictures of `size`, in bit/s; nothing: whatever it takes.
pub(super) fn spared(size: (usize, usize), percent: u8) -> Option<u32> {
    let part = match percent {
        0..LOSSY_FROM => return None,
        LOSSY_FROM..VERY_LOSSY_FROM => 2,
        VERY_LOSSY_FROM.. => 4,
    };
    Some((deserved(size) / part).max(LEAST_BITRATE))
}

/// From form to form: down at once, up after a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Climb {
    form: Option<Form>,
    /// A better one has held since then.
    better_since: Option<Instant>,
}

impl Climb {
    /// The form to use now, where `wanted` is what the moment allows.
    pub(super) fn follow(&mut self, wanted: Form, now: Instant) -> Form {
        let Some(form) = self.form.filter(|form| only_better(*form, wanted)) else {
            (self.form, self.better_since) = (Some(wanted), None);
            return wanted;
        };
        if form == wanted {
            self.better_since = None;
            return form;
        }
        let since = *self.better_since.get_or_insert(now);
        if now.saturating_since(since) < UP_AFTER {
            return form;
        }
        (self.form, self.better_since) = (Some(wanted), None);
        wanted
    }
}

/// `wanted` differs from `form` in rate and what follows from it, and not downwards.
fn only_better(form: Form, wanted: Form) -> bool {
    wanted.bitrate >= form.bitrate
        && wanted.size.0 >= form.size.0
        && (wanted.max_nal, wanted.lossy) == (form.max_nal, form.lossy)
}

/// The level to encode for: the agreed one, or the lowest that has the picture size and rate
/// which the receiver takes beyond its level (`max-fs`, `max-mbps`).
fn level(format: &VideoFormat) -> u8 {
    let agreed = H264Level::of(format.level);
    if format.max_fs() <= agreed.max_fs && format.max_mbps() <= agreed.max_mbps {
        return format.level;
    }
    let fits = |level: &&H264Level| level.max_fs >= format.max_fs() && level.max_mbps >= format.max_mbps();
    H264_LEVELS.iter().find(fits).map_or(format.level, |level| level.idc)
}

/// The bitrate at which a picture of this size looks well.
fn deserved((width, height): (usize, usize)) -> u32 {
    let pixels = u32::try_from(width.saturating_mul(height)).unwrap_or(u32::MAX);
    let bits = f64::from(pixels) * f64::from(FRAME_RATE) * BITS_A_PIXEL;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    let bits = bits as u32;
    bits.max(LEAST_BITRATE)
}

/// The largest size of the same shape that has at most `max_fs` macroblocks and no side longer
/// than the level allows (A.3.1: sqrt(8 x MaxFS)). Whole macroblocks across, even lines.
fn fitted(size: (usize, usize), max_fs: u32) -> (usize, usize) {
    let fits = |(width, height): (usize, usize)| {
        let longest = u64::try_from(width.max(height).div_ceil(16)).unwrap_or(u64::MAX);
        macroblocks(width, height) <= max_fs && longest.saturating_mul(longest) <= 8 * u64::from(max_fs)
    };
    if fits(size) {
        return size;
    }
    let mut width = size.0 & !15;
    while width > 16 {
        let height = (width * size.1 / size.0.max(1)).max(16) & !1;
        if fits((width, height)) {
            return (width, height);
        }
        width -= 16;
    }
    (16, 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosspoint_codecs::format::{Codec, H264Profile};

    fn format(level: u8, max_bitrate: Option<u32>) -> VideoFormat {
        VideoFormat {
            codec: Codec::H264,
            profile: H264Profile::ConstrainedBaseline,
            level,
            mode: PacketizationMode::NonInterleaved,
            max_bitrate,
            max_fs: None,
            max_mbps: None,
        }
    }

    #[test]
    fn pictures_keep_their_shape_within_the_limit() {
        for (size, level, wanted) in [
            ((1280, 720), 31, (1280, 720)),
            ((1280, 720), 30, (848, 476)),
            ((1280, 720), 13, (416, 234)),
            ((1920, 1080), 31, (1280, 720)),
            ((640, 480), 30, (640, 480)),
            ((640, 480), 13, (352, 264)),
            ((720, 1280), 30, (480, 852)),
            ((176, 144), 10, (176, 144)),
            ((4096, 16), 10, (448, 16)),
        ] {
            let found = fitted(size, H264Level::of(level).max_fs);
            assert_eq!(found, wanted, "{size:?} at level {level}");
        }
    }

    #[test]
    fn the_level_covers_what_the_receiver_takes_beyond_its_own() {
        let mut format = format(13, None);
        assert_eq!(level(&format), 13);
        format.max_fs = Some(3_600);
        assert_eq!(level(&format), 31);
        format.max_mbps = Some(216_000);
        assert_eq!(level(&format), 32);
    }

    #[test]
    fn bits_follow_the_pixels() {
        assert_eq!(deserved((16, 16)), LEAST_BITRATE);
        assert!((1_900_000..2_000_000).contains(&deserved((1280, 720))));
    }

    #[test]
    fn receivers_that_can_take_the_same_are_sent_the_same() {
        let hd = (1280, 720);
        let of = |level, bits, estimate| Limits::new(&format(level, bits), false).shared(hd, estimate, false);
        // What is beyond what the picture deserves makes no difference.
        assert_eq!(of(31, None, None), of(40, None, None));
        assert_eq!(of(31, Some(4_000_000), None), of(32, None, Some(3_000_000)));
        // Nor does what lies between two rungs.
        assert_eq!(of(31, Some(1_000_000), None), of(31, None, Some(1_300_000)));
        assert_ne!(of(31, Some(1_000_000), None), of(31, Some(999_000), None));
        for (bits, size) in [(1_000_000, hd), (512_000, hd), (256_000, (912, 512)), (64_000, (448, 252))] {
            let form = of(31, Some(bits), None);
            assert!(form.bitrate <= bits, "{form:?}");
            assert_eq!(form.size, size, "at {bits} bit/s");
        }
    }

    #[test]
    fn slides_keep_their_size_at_any_rate() {
        let of = |sharp| Limits::new(&format(31, Some(64_000)), sharp).shared((1280, 720), None, false);
        assert_eq!((of(true).size, of(false).size), ((1280, 720), (448, 252)));
        assert_ne!(of(true), Form { size: (1280, 720), ..of(false) }, "never shared with pictures of people");
    }

    #[test]
    fn a_road_that_loses_gets_fewer_bits_in_slices_that_fit_packets() {
        let limits = Limits::new(&format(31, None), false);
        let of = |percent| limits.shared((1280, 720), spared((1280, 720), percent), percent >= LOSSY_FROM);
        let all = [0, LOSSY_FROM - 1, LOSSY_FROM, VERY_LOSSY_FROM, 100].map(of);
        assert_eq!(all.map(|form| form.max_nal.is_some()), [false, false, true, true, true]);
        assert_eq!(all.map(|form| form.bitrate), [1_936_000, 1_936_000, 720_000, 360_000, 360_000]);
        assert_eq!(all.map(|form| form.size.0), [1_280, 1_280, 944, 656, 656]);
    }

    #[test]
    fn one_alone_is_given_just_what_it_takes() {
        let limits = Limits::new(&format(31, Some(777_000)), false);
        assert_eq!(limits.alone((640, 360), None).bitrate, deserved((640, 360)));
        assert_eq!(limits.alone((1280, 720), None).bitrate, 777_000);
        assert_eq!(limits.alone((1280, 720), Some(123_456)).bitrate, 123_456);
        assert_eq!(limits.alone((1280, 720), Some(1_000)).bitrate, LEAST_BITRATE);
    }

    #[test]
    fn down_at_once_and_up_after_a_while() {
        let limits = Limits::new(&format(31, None), false);
        let at = |estimate| limits.shared((1280, 720), Some(estimate), false);
        let moment = |millis: u64| Instant::from_millis(1_000 + millis);
        let mut climb = Climb::default();
        assert_eq!(climb.follow(at(1_000_000), moment(0)), at(1_000_000));
        assert_eq!(climb.follow(at(200_000), moment(10)), at(200_000));
        for millis in (20..3_020).step_by(10) {
            assert_eq!(climb.follow(at(1_000_000), moment(millis)), at(200_000), "{millis}");
        }
        assert_eq!(climb.follow(at(1_000_000), moment(3_020)), at(1_000_000));
        // A better moment that does not last changes nothing.
        climb.follow(at(2_000_000), moment(4_000));
        climb.follow(at(1_000_000), moment(6_000));
        assert_eq!(climb.follow(at(2_000_000), moment(8_000)), at(1_000_000));
        // Another receiver's wishes are no matter of better or worse.
        let lossy = limits.shared((1280, 720), Some(1_000_000), true);
        assert_eq!(climb.follow(lossy, moment(8_010)), lossy);
    }
}
