//! One sink of pictures: fitted into what the receiver takes, encoded, handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{VideoEncoder, VideoEncoding};
use crosspoint_codecs::format::{
    H264_LEVELS, H264Level, MediaKind, PacketizationMode, VideoFormat, macroblocks,
};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;

use super::handle::EngineError;
use super::parts::Codecs;
use super::port::{Outlet, StreamId};
use super::route::Route;
use super::see::VideoSource;
use super::stats::{SinkCounters, count};
use super::timeline::nanos;

/// More pictures a second are not made: twice the rate would halve the bits of each.
const FRAME_RATE: f32 = 30.0;
/// Bits for each pixel: 720p at 30 pictures a second gets 1.9 Mbit/s, where OpenH264 is past the
/// knee of its curve for people who talk.
const BITS_A_PIXEL: f64 = 0.07;
/// Even the smallest picture gets so much.
const LEAST_BITRATE: u32 = 64_000;
/// A new target that differs by less than a twentieth of the old is not worth a call.
const WORTH: u32 = 20;
/// Largest NAL unit for a receiver that takes single ones: what a packet carries behind its
/// header, as the RTP side has it.
const LARGEST_NAL: usize = 1_200;
/// Room for one coded picture, and how many are on their way to the socket thread, which takes
/// them within a step. Untouched pages cost nothing.
const UNIT: usize = 1 << 20;
const UNITS: usize = 4;
/// Scaled pictures: one is encoded at a time.
const SCALED: usize = 1;
/// Bytes of a macroblock in I420.
const MACROBLOCK: usize = 384;
/// Keyframes on request are this far apart: a receiver with loss asks with every frame.
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);
/// When no picture comes for so long, a wished-for keyframe is made of the last one.
const STANDSTILL: i64 = 200_000_000;
/// Two pictures of one stream are at least a tick of its clock (90 kHz) apart.
const LEAST_STEP: i64 = 11_112;

/// A sink.
pub(super) struct VideoSink {
    id: StreamId,
    kind: MediaKind,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
    pub(super) route: Route,
    /// Slot of the source that is seen.
    pub(super) seen: Option<usize>,
    /// The next picture shall be a keyframe; and from when on that is allowed.
    keyframe_wanted: bool,
    keyframe_from: Instant,
    /// Stamp of the last picture, and when it went.
    stamp: i64,
    sent_at: i64,
    second: Second,
}

/// The part of a sink that depends on its format.
pub(super) struct Encoding {
    encoder: Box<dyn VideoEncoder>,
    settings: VideoEncoding,
    max_fs: u32,
    max_bitrate: u32,
    units: Pool,
    scaled: Pool,
    scaler: Option<Box<Scaler>>,
    /// Size of the last picture that came.
    size: (usize, usize),
}

/// What went out in this second.
struct Second {
    until: Instant,
    bytes: u32,
}

pub(super) fn encoding(codecs: &dyn Codecs, format: &VideoFormat) -> Result<Box<Encoding>, EngineError> {
    let max_fs = format.max_fs();
    let settings = VideoEncoding {
        bitrate: format.max_bitrate().clamp(LEAST_BITRATE, 500_000),
        frame_rate: FRAME_RATE,
        profile: format.profile,
        level: level(format),
        max_nal: (format.mode == PacketizationMode::SingleNal).then_some(LARGEST_NAL),
    };
    Ok(Box::new(Encoding {
        encoder: codecs.video_encoder(format, settings)?,
        settings,
        max_fs,
        max_bitrate: format.max_bitrate(),
        units: Pool::new(UNITS, UNIT),
        scaled: Pool::new(SCALED, usize::try_from(max_fs).unwrap_or(0).saturating_mul(MACROBLOCK)),
        scaler: None,
        size: (0, 0),
    }))
}

pub(super) fn sink(
    id: StreamId,
    kind: MediaKind,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
) -> Box<VideoSink> {
    Box::new(VideoSink {
        id,
        kind,
        outlet,
        counters,
        encoding,
        route: Route::Silence,
        seen: None,
        keyframe_wanted: true,
        keyframe_from: Instant::ZERO,
        stamp: i64::MIN,
        sent_at: 0,
        second: Second { until: Instant::ZERO, bytes: 0 },
    })
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

impl VideoSink {
    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    pub(super) const fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// The source that should be seen and is not.
    pub(super) const fn unlinked(&self) -> Option<StreamId> {
        match self.route {
            Route::Transcode { source } if self.seen.is_none() => Some(source),
            _ => None,
        }
    }

    /// What is seen from now on; whoever looks needs a whole picture first.
    pub(super) const fn link(&mut self, slot: Option<usize>) {
        self.seen = slot;
        self.keyframe_wanted = true;
        self.keyframe_from = Instant::ZERO;
    }

    /// Takes what was in `part` and gives it what was here.
    pub(super) const fn set_encoding(&mut self, part: &mut Box<Encoding>) {
        std::mem::swap(&mut self.encoding, part);
        self.keyframe_wanted = true;
    }

    /// Encodes the picture of this step, if there is one. True when something was handed over;
    /// with a scaler that is of no use any more.
    pub(super) fn feed(&mut self, now: Instant, source: Option<&VideoSource>) -> (bool, Option<Box<Scaler>>) {
        self.keyframe_wanted |= self.outlet.wishes.take_keyframe_asked();
        self.count_second(now);
        let Some((picture, seen_at, fresh)) = source.and_then(VideoSource::picture) else {
            return (false, None);
        };
        let due = self.keyframe_wanted && now >= self.keyframe_from;
        let still = nanos(now).saturating_sub(self.sent_at) > STANDSTILL;
        if !(fresh || due && still) {
            return (false, None);
        }
        if due {
            self.encoding.encoder.request_keyframe();
        }
        let wanted = if fresh { seen_at } else { nanos(now) };
        let stamp = wanted.max(self.stamp.saturating_add(LEAST_STEP));
        let old = self.encoding.fit(picture);
        self.encoding.aim(self.outlet.wishes.bitrate_limit(), &self.counters);
        (self.encode(picture, stamp, now), old)
    }

    fn encode(&mut self, picture: &VideoFrame, stamp: i64, now: Instant) -> bool {
        let scaled;
        let encoding = &mut *self.encoding;
        let picture = match &mut encoding.scaler {
            Some(scaler) => {
                scaled = scale(scaler, picture, &encoding.scaled);
                match &scaled {
                    Some(scaled) => scaled,
                    None => {
                        count(&self.counters.errors);
                        return false;
                    }
                }
            }
            None => picture,
        };
        let at = Duration::from_nanos(u64::try_from(stamp).unwrap_or(0));
        let mut result = None;
        let data = encoding.units.take(|room| {
            let encoded = encoding.encoder.encode(picture, at, room);
            let len = encoded.as_ref().ok().map(|encoded| encoded.len).filter(|len| *len > 0);
            result = Some(encoded);
            len
        });
        let (data, keyframe) = match (data, result) {
            (Some(data), Some(Ok(encoded))) => (data, encoded.keyframe),
            (_, Some(Ok(_))) => {
                count(&self.counters.skipped);
                return false;
            }
            (_, Some(Err(_))) => {
                count(&self.counters.errors);
                self.keyframe_wanted = true;
                return false;
            }
            (_, None) => {
                // Not even tried: the receiver misses a picture, but no reference.
                count(&self.counters.overflow);
                return false;
            }
        };
        let (width, height, len) = (picture.width(), picture.height(), data.len());
        let frame = EncodedFrame {
            kind: self.kind,
            media_time: MediaTime(stamp),
            duration: Duration::ZERO,
            lost_before: 0,
            keyframe,
            level: None,
            data,
        };
        if self.outlet.frames.push(frame).is_err() {
            // What comes next refers to what the receiver never gets.
            count(&self.counters.overflow);
            self.keyframe_wanted = true;
            return false;
        }
        self.stamp = stamp;
        self.sent_at = nanos(now);
        if keyframe {
            count(&self.counters.keyframes);
            self.keyframe_wanted = false;
            self.keyframe_from = now + KEYFRAME_EVERY;
        }
        count(&self.counters.encoded);
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.counters.bytes.fetch_add(u64::from(len), Relaxed);
        self.second.bytes = self.second.bytes.saturating_add(len);
        self.counters.width.store(u32::try_from(width).unwrap_or(0), Relaxed);
        self.counters.height.store(u32::try_from(height).unwrap_or(0), Relaxed);
        true
    }

    fn count_second(&mut self, now: Instant) {
        if now >= self.second.until {
            self.counters.bitrate.store(self.second.bytes.saturating_mul(8), Relaxed);
            self.second = Second { until: now + Duration::from_secs(1), bytes: 0 };
        }
    }
}

impl Encoding {
    /// Has a scaler at hand if pictures of this size need one; gives back the one before. Only a
    /// change of size makes one, as it makes the encoder begin anew: the one place where this
    /// lane allocates.
    fn fit(&mut self, picture: &VideoFrame) -> Option<Box<Scaler>> {
        let size = (picture.width(), picture.height());
        if size == self.size {
            return None;
        }
        self.size = size;
        let fitted = fitted(size, self.max_fs);
        let scaler = if fitted == size { None } else { Scaler::new(size, fitted).ok().map(Box::new) };
        std::mem::replace(&mut self.scaler, scaler)
    }

    /// Sets the encoder's target: what the picture deserves, within what the receiver takes.
    fn aim(&mut self, limit: Option<u32>, counters: &SinkCounters) {
        let (width, height) = self.scaler.as_ref().map_or(self.size, |scaler| scaler.to());
        let target = deserved(width, height).min(self.max_bitrate).min(limit.unwrap_or(u32::MAX));
        let target = target.max(LEAST_BITRATE.min(self.max_bitrate)).max(1);
        let old = self.settings.bitrate;
        if target.abs_diff(old) <= old / WORTH && counters.target_bitrate.load(Relaxed) != 0 {
            return;
        }
        let settings = VideoEncoding { bitrate: target, ..self.settings };
        match self.encoder.tune(settings) {
            Ok(()) => {
                self.settings = settings;
                counters.target_bitrate.store(target, Relaxed);
            }
            Err(_) => count(&counters.errors),
        }
    }
}

fn scale(scaler: &mut Scaler, picture: &VideoFrame, pool: &Pool) -> Option<VideoFrame> {
    let (width, height) = scaler.to();
    let mut done = false;
    let scaled = VideoFrame::new(pool, width, height, |mut planes| {
        done = scaler.scale(picture, &mut planes, width, (0, 0)).is_ok();
    });
    scaled.filter(|_| done)
}

/// The bitrate at which a picture of this size looks well.
fn deserved(width: usize, height: usize) -> u32 {
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
        let mut format = VideoFormat {
            codec: Codec::H264,
            profile: H264Profile::ConstrainedBaseline,
            level: 13,
            mode: PacketizationMode::NonInterleaved,
            max_bitrate: None,
            max_fs: None,
            max_mbps: None,
        };
        assert_eq!(level(&format), 13);
        format.max_fs = Some(3_600);
        assert_eq!(level(&format), 31);
        format.max_mbps = Some(216_000);
        assert_eq!(level(&format), 32);
    }

    #[test]
    fn bits_follow_the_pixels() {
        assert_eq!(deserved(16, 16), LEAST_BITRATE);
        assert!((1_900_000..2_000_000).contains(&deserved(1280, 720)));
    }
}
