//! H.264 by OpenH264, bound here because the ready wrapper hides what a gateway needs: a rate that
//! changes while it runs, limited slices, and a decoder that conceals instead of failing.
//!
//! The decoder is C++ that reads what peers send. So its own parser never decides on memory: each
//! sequence parameter set is read by [`Sps`] first, and a decoder never lives through a change of
//! picture size.

use std::ffi::c_int;
use std::fmt;
use std::time::Duration;

use openh264_sys2 as sys;

mod openh264;

use self::openh264::{RawDecoder, RawEncoder};
use super::nal::{kind, kind_of, nal_units};
use super::sps::Sps;
use crate::codec::{CodecError, Decoded, Encoded, VideoDecoder, VideoEncoder, VideoEncoding};
use crate::format::{H264_LEVELS, H264Level, LEVEL_1B, compare_levels, macroblocks};
use crate::frame::{Pool, VideoFrame};

/// Least side of a picture that OpenH264 encodes.
const LEAST_SIDE: usize = 16;
/// Highest frame rate that it is made for.
const HIGHEST_RATE: f32 = 60.0;
/// Least room for a NAL unit: what one macroblock may need at most, and the library's margin.
const LEAST_NAL: usize = 500;
/// The rate control's frame rate follows the pictures when they differ by so much from it.
const PACE_TOLERANCE: f64 = 0.15;
/// A picture that comes so much too early tells of another clock, not of haste.
const JUMP: Duration = Duration::from_millis(500);
/// Quantisers of a sharp picture. Coarser than 36, letters of 12 pixels break up: rather one picture
/// less. The library's own finest, 26, would leave them soft however much rate there is.
const SHARP_QP: (c_int, c_int) = (14, 36);
/// Weight of a new interval between pictures in their average: about ten pictures of memory.
const PACE_WEIGHT: f64 = 0.1;

/// Encodes one stream as constrained baseline, which every decoder takes.
pub struct Encoder {
    encoding: VideoEncoding,
    running: Option<Running>,
    keyframe_wanted: bool,
    /// Pictures before this come too fast for the frame rate.
    due: Duration,
    pace: Pace,
}

/// A library encoder for one picture size.
struct Running {
    raw: RawEncoder,
    size: (usize, usize),
    max_rate: f64,
}

/// How fast pictures come.
#[derive(Clone, Copy, Debug)]
struct Pace {
    last: Option<Duration>,
    interval: f64,
    /// The rate that the library was told.
    told: f64,
}

impl Encoder {
    /// An encoder; the library is set up with the first picture, whose size it needs.
    pub fn new(encoding: VideoEncoding) -> Result<Self, CodecError> {
        check(&encoding)?;
        let pace = Pace { last: None, interval: 0.0, told: 0.0 };
        Ok(Self { encoding, running: None, keyframe_wanted: true, due: Duration::ZERO, pace })
    }

    /// The library encoder for pictures of `size`.
    fn start(encoding: &VideoEncoding, size: (usize, usize)) -> Result<Running, CodecError> {
        let level = H264Level::of(encoding.level);
        let fs = macroblocks(size.0, size.1);
        let longest = size.0.max(size.1).div_ceil(16);
        if fs > level.max_fs || longest * longest > 8 * usize::try_from(level.max_fs).unwrap_or(usize::MAX) {
            return Err(CodecError::Unsupported("the picture is larger than the level allows"));
        }
        let max_rate = f64::from(encoding.frame_rate.min(HIGHEST_RATE))
            .min(f64::from(level.max_mbps) / f64::from(fs))
            .max(1.0);
        let raw = RawEncoder::new()?;
        let mut params = raw.default_params()?;
        params.iUsageType =
            if encoding.sharp { sys::SCREEN_CONTENT_REAL_TIME } else { sys::CAMERA_VIDEO_REAL_TIME };
        if encoding.sharp {
            (params.iMinQp, params.iMaxQp) = SHARP_QP;
        }
        params.iPicWidth = int(size.0);
        params.iPicHeight = int(size.1);
        params.iTargetBitrate = bitrate(encoding);
        params.iRCMode = sys::RC_BITRATE_MODE;
        params.fMaxFrameRate = single(max_rate);
        params.iSpatialLayerNum = 1;
        params.iTemporalLayerNum = 1;
        params.iComplexityMode = sys::LOW_COMPLEXITY;
        // Keyframes come when they are asked for, and at the start.
        params.uiIntraPeriod = 0;
        params.eSpsPpsIdStrategy = sys::CONSTANT_ID;
        params.iEntropyCodingModeFlag = 0;
        // Without it the rate control cannot hold its rate.
        params.bEnableFrameSkip = true;
        // Our threads are the engine's; more than one gains nothing with one slice.
        params.iMultipleThreadIdc = 1;
        params.bEnableFrameCroppingFlag = true;
        params.bEnableDenoise = false;
        params.bEnableLongTermReference = false;
        let layer = &mut params.sSpatialLayers[0];
        layer.iVideoWidth = int(size.0);
        layer.iVideoHeight = int(size.1);
        layer.fFrameRate = single(max_rate);
        layer.iSpatialBitrate = bitrate(encoding);
        layer.uiProfileIdc = sys::PRO_BASELINE;
        layer.uiLevelIdc = library_level(level.idc);
        if let Some(max_nal) = encoding.max_nal {
            layer.sSliceArgument.uiSliceMode = sys::SM_SIZELIMITED_SLICE;
            let max_nal = u32::try_from(max_nal).unwrap_or(u32::MAX);
            layer.sSliceArgument.uiSliceSizeConstraint = max_nal;
            params.uiMaxNalSize = max_nal;
        }
        raw.initialize(&params)?;
        Ok(Running { raw, size, max_rate })
    }

    /// Tells the rate control how fast pictures really come, so that each gets its share.
    fn follow_pace(&mut self, at: Duration) {
        let Some(running) = &mut self.running else { return };
        let pace = &mut self.pace;
        if let Some(last) = pace.last.replace(at) {
            let interval = at.saturating_sub(last).as_secs_f64().clamp(1.0 / f64::from(HIGHEST_RATE), 1.0);
            pace.interval += (interval - pace.interval) * PACE_WEIGHT;
            let rate = (1.0 / pace.interval).min(running.max_rate);
            if (rate / pace.told - 1.0).abs() > PACE_TOLERANCE
                && running.raw.set_frame_rate(single(rate)).is_ok()
            {
                pace.told = rate;
            }
        }
    }
}

impl VideoEncoder for Encoder {
    /// Pictures of at least 16 pixels a side; of odd sides the last line or column is left out.
    fn encode(&mut self, frame: &VideoFrame, at: Duration, out: &mut [u8]) -> Result<Encoded, CodecError> {
        let size = (frame.width() & !1, frame.height() & !1);
        if size.0 < LEAST_SIDE || size.1 < LEAST_SIDE {
            return Err(CodecError::Unsupported("pictures of less than 16 pixels a side"));
        }
        if self.running.as_ref().is_none_or(|running| running.size != size) {
            // Dropped first: never two at once.
            self.running = None;
            let running = Self::start(&self.encoding, size)?;
            self.pace = Pace { last: None, interval: 1.0 / running.max_rate, told: running.max_rate };
            self.due = Duration::ZERO;
            self.keyframe_wanted = true;
            self.running = Some(running);
        }
        let Some(running) = &mut self.running else {
            return Err(CodecError::Unsupported("no encoder"));
        };
        let interval = Duration::from_secs_f64(1.0 / running.max_rate);
        if self.due > at + JUMP {
            // The clock of the pictures went back: what was due counts no more.
            self.due = at;
            self.pace.last = None;
        }
        // A quarter of an interval of jitter is forgiven.
        if at + interval / 4 < self.due {
            return Ok(Encoded { len: 0, keyframe: false });
        }
        self.due = (self.due + interval).max(at);
        self.follow_pace(at);
        let Some(running) = &mut self.running else {
            return Err(CodecError::Unsupported("no encoder"));
        };
        if self.keyframe_wanted {
            running.raw.force_idr()?;
        }
        let encoded = match running.raw.encode(frame, size, at, out) {
            Ok(encoded) => encoded,
            Err(error) => {
                // What was lost here, the receiver's decoder will miss.
                self.keyframe_wanted = true;
                if matches!(error, CodecError::Library { .. }) {
                    // After some failures the library has let go of its state.
                    self.running = None;
                }
                return Err(error);
            }
        };
        // The library counts a slice before its emulation prevention, and of noise one in some
        // thousands is too long all the same. Such a picture must not be sent.
        if self.encoding.max_nal.is_some_and(|max_nal| {
            nal_units(out.get(..encoded.len).unwrap_or(&[])).any(|nal| nal.len() > max_nal)
        }) {
            self.keyframe_wanted = true;
            return Ok(Encoded { len: 0, keyframe: false });
        }
        if encoded.keyframe {
            self.keyframe_wanted = false;
        }
        Ok(encoded)
    }

    fn request_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    fn tune(&mut self, encoding: VideoEncoding) -> Result<(), CodecError> {
        check(&encoding)?;
        let old = std::mem::replace(&mut self.encoding, encoding);
        let same_shape = (old.profile, old.level, old.max_nal, old.sharp)
            == (encoding.profile, encoding.level, encoding.max_nal, encoding.sharp);
        if !same_shape {
            self.running = None;
            return Ok(());
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        if old.bitrate != encoding.bitrate {
            running.raw.set_bitrate(bitrate(&encoding))?;
        }
        if old.frame_rate.to_bits() != encoding.frame_rate.to_bits() {
            let fs = macroblocks(running.size.0, running.size.1);
            running.max_rate = f64::from(encoding.frame_rate.min(HIGHEST_RATE))
                .min(f64::from(H264Level::of(encoding.level).max_mbps) / f64::from(fs))
                .max(1.0);
            running.raw.set_frame_rate(single(running.max_rate))?;
            self.pace = Pace { last: None, interval: 1.0 / running.max_rate, told: running.max_rate };
        }
        Ok(())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("encoding", &self.encoding).finish_non_exhaustive()
    }
}

fn check(encoding: &VideoEncoding) -> Result<(), CodecError> {
    if encoding.bitrate == 0 || !encoding.frame_rate.is_finite() || encoding.frame_rate <= 0.0 {
        return Err(CodecError::Unsupported("a rate of zero"));
    }
    if encoding.max_nal.is_some_and(|max_nal| max_nal < LEAST_NAL) {
        return Err(CodecError::Unsupported("NAL units of less than 500 bytes"));
    }
    Ok(())
}

/// The target within what the level allows.
fn bitrate(encoding: &VideoEncoding) -> c_int {
    c_int::try_from(encoding.bitrate.min(H264Level::of(encoding.level).max_bitrate)).unwrap_or(c_int::MAX)
}

/// The library ends at 5.2 and spells 1b as we do.
fn library_level(idc: u8) -> sys::ELevelIdc {
    let highest = H264_LEVELS.iter().rev().find(|level| level.idc == 52).map_or(idc, |level| level.idc);
    debug_assert_eq!(sys::LEVEL_1_B, c_int::from(LEVEL_1B));
    c_int::from(if compare_levels(idc, highest).is_gt() { highest } else { idc })
}

/// Sides of at most 4096 pixels.
fn int(side: usize) -> c_int {
    c_int::try_from(side).unwrap_or(c_int::MAX)
}

#[allow(clippy::cast_possible_truncation, reason = "frame rates of 1 to 60")]
const fn single(rate: f64) -> f32 {
    rate as f32
}

/// Decodes one stream into pictures of a pool. The pool's pictures are the limit of what a peer
/// may send: larger ones are refused before the library sees them.
pub struct Decoder {
    pool: Pool,
    running: Option<RawDecoder>,
    /// The sizes that the running decoder may meet: all alike.
    size: Option<(usize, usize)>,
    /// The last parameter set that was seen.
    sps: Option<Sps>,
    /// Something was lost since the last whole keyframe, so what refers to it is damaged too.
    damaged: bool,
    /// Units from which something was taken out, kept for its capacity.
    scratch: Vec<u8>,
}

/// What an access unit holds.
#[derive(Clone, Copy, Debug, Default)]
struct Contents {
    /// Slices of an IDR picture.
    keyframe: bool,
    /// Units that are left out.
    foreign: bool,
}

/// The largest unit that is decoded: an intra picture of 4096 x 2304 at 12 bits a pixel.
const LARGEST_UNIT: usize = 1 << 24;
/// Pixels that a parameter set may crop away each way: less than a macroblock pair.
const LARGEST_CROP: usize = 32;

impl Decoder {
    /// A decoder into the pictures of `pool`.
    pub const fn new(pool: Pool) -> Self {
        Self { pool, running: None, size: None, sps: None, damaged: true, scratch: Vec::new() }
    }

    /// What the stream says of itself, once its parameter set was seen.
    pub const fn sps(&self) -> Option<&Sps> {
        self.sps.as_ref()
    }

    /// Reads the parameter sets of a unit and starts anew where they change the picture's size.
    fn inspect(&mut self, unit: &[u8]) -> Result<Contents, CodecError> {
        let (mut size, mut contents) = (None, Contents::default());
        for nal in nal_units(unit) {
            match kind_of(nal) {
                kind::SPS => {
                    let sps = Sps::parse(nal)?;
                    self.admit(&sps)?;
                    // One unit shows one picture: two sizes have no use but to confuse.
                    if size.replace(sps.coded).is_some_and(|other| other != sps.coded) {
                        return Err(CodecError::Unsupported("two picture sizes in one access unit"));
                    }
                    self.sps = Some(sps);
                }
                kind::IDR => contents.keyframe = true,
                kind::SLICE | kind::PPS => {}
                _ => contents.foreign = true,
            }
        }
        if let Some(size) = size
            && self.size.replace(size) != Some(size)
        {
            // A change of size within one decoder has read beyond its buffers (cisco/openh264
            // issue 3925), and what it knew is of no use any more.
            self.running = None;
        }
        Ok(contents)
    }

    fn admit(&self, sps: &Sps) -> Result<(), CodecError> {
        if !sps.common_samples || !sps.progressive {
            return Err(CodecError::Unsupported("only progressive 4:2:0 with 8 bits is decoded"));
        }
        let (coded, shown) = (sps.coded, sps.shown);
        if coded.0 - shown.0 >= LARGEST_CROP || coded.1 - shown.1 >= LARGEST_CROP {
            return Err(CodecError::Unsupported("a picture that hides more than a macroblock"));
        }
        if VideoFrame::bytes(shown.0, shown.1) > self.pool.capacity() {
            return Err(CodecError::Unsupported("a picture larger than was agreed"));
        }
        Ok(())
    }

    /// Copies `unit` without what no baseline decoder needs: extensions, partitions, unknown
    /// types. Less for the library to read is less for it to get wrong.
    fn strip(&mut self, unit: &[u8]) {
        self.scratch.clear();
        for nal in nal_units(unit) {
            if matches!(kind_of(nal), kind::SLICE | kind::IDR | kind::SPS | kind::PPS) {
                self.scratch.extend_from_slice(&[0, 0, 0, 1]);
                self.scratch.extend_from_slice(nal);
            }
        }
    }
}

impl VideoDecoder for Decoder {
    /// An error means that nothing can be shown: ask the source for a keyframe.
    fn decode(&mut self, unit: &[u8]) -> Result<Decoded, CodecError> {
        if unit.len() > LARGEST_UNIT {
            return Err(CodecError::Unsupported("an access unit of more than 16 MiB"));
        }
        let contents = self.inspect(unit)?;
        if self.size.is_none() {
            return Err(CodecError::Malformed("no parameter sets yet"));
        }
        if contents.foreign {
            self.strip(unit);
        }
        let unit = if contents.foreign { self.scratch.as_slice() } else { unit };
        if unit.is_empty() {
            return Ok(Decoded::Nothing);
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(RawDecoder::new()?),
        };
        match running.decode(unit, &self.pool) {
            Ok(Decoded::Picture { frame, concealed }) => {
                self.damaged = concealed || (self.damaged && !contents.keyframe);
                Ok(Decoded::Picture { frame, concealed: self.damaged })
            }
            Ok(Decoded::Nothing) => Ok(Decoded::Nothing),
            // Decoded all the same: only the copy is missing.
            Err(CodecError::NoPicture) => Err(CodecError::NoPicture),
            Err(error) => {
                self.damaged = true;
                if matches!(error, CodecError::Library { .. }) {
                    // Out of memory or out of step: the next keyframe finds a fresh one.
                    self.running = None;
                }
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("sps", &self.sps).finish_non_exhaustive()
    }
}
