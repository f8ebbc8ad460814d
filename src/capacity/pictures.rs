//! H.264 and scaling.

use std::hint::black_box;
use std::time::Duration;

use crosspoint_codecs::codec::{VideoDecoder as _, VideoEncoder as _, VideoEncoding};
use crosspoint_codecs::format::H264Profile;
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;
use crosspoint_codecs::video::h264::{Decoder, Encoder};

use super::CapacityError;
use super::probe::Probe;
use super::signals::pictures;

/// Pictures of the motion, which goes forth and back.
const COUNT: usize = 12;
/// Access units that are decoded round and round, from a keyframe on.
const UNITS: usize = 2 * COUNT;
/// Pictures that a decoder holds, and the one that is looked at.
const HELD: usize = 4;
/// More than an access unit of this bench can be.
const UNIT: usize = 1 << 20;

pub(super) fn probes() -> Result<Vec<Probe>, CapacityError> {
    let (large, small) = ((1280, 720), (640, 360));
    let mut probes = Vec::new();
    probes.extend(codec("h264-720-encode", "h264-720-decode", large, 1_500_000)?);
    probes.extend(codec("h264-360-encode", "h264-360-decode", small, 600_000)?);
    probes.push(scale("scale-720-360", large, small)?);
    probes.push(scale("scale-360-720", small, large)?);
    Ok(probes)
}

fn codec(
    encode: &'static str,
    decode: &'static str,
    (width, height): (usize, usize),
    bitrate: u32,
) -> Result<[Probe; 2], CapacityError> {
    let mut motion = Motion { pictures: pictures((width, height), COUNT)?, shown: 0 };
    let encoding = VideoEncoding {
        bitrate,
        frame_rate: 30.0,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        max_nal: None,
        sharp: false,
    };
    let mut encoder = Encoder::new(encoding)?;
    let mut out = vec![0; UNIT];
    let mut units = Vec::new();
    for _ in 0..UNITS {
        let (picture, at) = motion.next();
        let len = encoder.encode(picture, at, &mut out)?.len;
        units.push(out[..len].to_vec());
    }
    // Rate control leaves pictures out.
    units.retain(|unit| !unit.is_empty());
    let encoding =
        Probe::timed(encode, format!("H.264 encode {width}x{height}"), "picture", 1.0, move || {
            let (picture, at) = motion.next();
            let _ = encoder.encode(picture, at, black_box(&mut out));
        });
    let mut decoder = Decoder::new(Pool::new(HELD, VideoFrame::bytes(width, height)));
    let mut at = 0;
    let decoding =
        Probe::timed(decode, format!("H.264 decode {width}x{height}"), "picture", 1.0, move || {
            let _ = black_box(decoder.decode(&units[at]));
            at = (at + 1) % units.len();
        });
    Ok([encoding, decoding])
}

/// Pictures in an order without a jump.
struct Motion {
    pictures: Vec<VideoFrame>,
    shown: u32,
}

impl Motion {
    fn next(&mut self) -> (&VideoFrame, Duration) {
        let at = Duration::from_secs(1) * self.shown / 30;
        let step = usize::try_from(self.shown).unwrap_or(0) % (2 * COUNT - 2);
        self.shown += 1;
        (&self.pictures[step.min(2 * COUNT - 2 - step)], at)
    }
}

fn scale(
    key: &'static str,
    from: (usize, usize),
    (width, height): (usize, usize),
) -> Result<Probe, CapacityError> {
    let picture = pictures(from, 1)?.remove(0);
    let mut scaler = Scaler::new(from, (width, height))?;
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    let what = format!("scale {}x{} to {width}x{height}", from.0, from.1);
    Ok(Probe::timed(key, what, "picture", 1.0, move || {
        black_box(VideoFrame::new(&pool, width, height, |mut planes| {
            let _ = scaler.scale(&picture, &mut planes, width, (0, 0));
        }));
    }))
}
