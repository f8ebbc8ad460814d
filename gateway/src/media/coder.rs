//! Pictures into the coded units of one form: scaled to its size, encoded at its rate.

use std::time::Duration;

use crosspoint_codecs::codec::{VideoEncoder, VideoEncoding};
use crosspoint_codecs::format::VideoFormat;
use crosspoint_codecs::frame::{Data, Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;

use super::form::{FRAME_RATE, Form, LEAST_BITRATE, Limits};
use super::handle::EngineError;
use super::parts::Codecs;

/// A new target that differs by less than a twentieth of the old is not worth a call.
const WORTH: u32 = 20;
/// Room for one coded picture, and how many are on their way to socket threads, which take them
/// within a step. Untouched pages cost nothing.
const UNIT: usize = 1 << 20;
const UNITS: usize = 6;
/// Scaled pictures: one is encoded at a time.
const SCALED: usize = 1;
/// Bytes of a macroblock in I420.
const MACROBLOCK: usize = 384;

/// The part of a sink that depends on its format.
pub(super) struct Encoding {
    pub(super) limits: Limits,
    encoder: Box<dyn VideoEncoder>,
    settings: VideoEncoding,
    /// The encoder was told a rate once.
    told: bool,
    units: Pool,
    scaled: Pool,
    scaler: Option<Box<Scaler>>,
    /// Size of the last picture that came, and of what was made of it.
    sizes: ((usize, usize), (usize, usize)),
}

/// What became of a picture.
pub(super) enum Coded {
    Unit {
        data: Data,
        keyframe: bool,
        size: (usize, usize),
    },
    /// Rate control left it out.
    Skipped,
    /// No buffer was free: a picture is missing, but no reference.
    NoRoom,
    Refused,
}

pub(super) fn encoding(codecs: &dyn Codecs, format: &VideoFormat) -> Result<Box<Encoding>, EngineError> {
    let limits = Limits::new(format);
    let settings = VideoEncoding {
        bitrate: limits.max_bitrate.clamp(LEAST_BITRATE, 500_000),
        frame_rate: FRAME_RATE,
        profile: format.profile,
        level: limits.level,
        max_nal: limits.max_nal,
    };
    let scaled = usize::try_from(limits.max_fs).unwrap_or(0).saturating_mul(MACROBLOCK);
    Ok(Box::new(Encoding {
        limits,
        encoder: codecs.video_encoder(format, settings)?,
        settings,
        told: false,
        units: Pool::new(UNITS, UNIT),
        scaled: Pool::new(SCALED, scaled),
        scaler: None,
        sizes: ((0, 0), (0, 0)),
    }))
}

impl Encoding {
    /// Sets up for pictures of the size of `picture` in `form`. Gives back a scaler that is of no use
    /// any more, and the target rate if that changed. Only a change of size makes a scaler, as it makes
    /// the encoder begin anew: the one place where this lane allocates.
    pub(super) fn prepare(
        &mut self,
        picture: &VideoFrame,
        form: &Form,
    ) -> Result<(Option<Box<Scaler>>, Option<u32>), EngineError> {
        let mut old = None;
        let sizes = ((picture.width(), picture.height()), form.size);
        if sizes != self.sizes {
            let scaler =
                if sizes.0 == sizes.1 { None } else { Some(Box::new(Scaler::new(sizes.0, sizes.1)?)) };
            self.sizes = sizes;
            old = std::mem::replace(&mut self.scaler, scaler);
        }
        let settings = VideoEncoding {
            bitrate: form.bitrate,
            level: form.level,
            max_nal: form.max_nal,
            ..self.settings
        };
        let near = form.bitrate.abs_diff(self.settings.bitrate) <= self.settings.bitrate / WORTH;
        let same = VideoEncoding { bitrate: self.settings.bitrate, ..settings } == self.settings;
        if near && same && self.told {
            return Ok((old, None));
        }
        self.encoder.tune(settings)?;
        (self.settings, self.told) = (settings, true);
        Ok((old, Some(form.bitrate)))
    }

    /// Encodes `picture`, shown at `stamp` ns.
    pub(super) fn encode(&mut self, picture: &VideoFrame, stamp: i64, keyframe: bool) -> Coded {
        let scaled;
        let picture = match &mut self.scaler {
            Some(scaler) => {
                scaled = scale(scaler, picture, &self.scaled);
                let Some(scaled) = &scaled else { return Coded::Refused };
                scaled
            }
            None => picture,
        };
        if keyframe {
            self.encoder.request_keyframe();
        }
        let at = Duration::from_nanos(u64::try_from(stamp).unwrap_or(0));
        let encoder = &mut self.encoder;
        let mut result = None;
        let data = self.units.take(|room| {
            let encoded = encoder.encode(picture, at, room);
            let len = encoded.as_ref().ok().map(|encoded| encoded.len).filter(|len| *len > 0);
            result = Some(encoded);
            len
        });
        match (data, result) {
            (Some(data), Some(Ok(encoded))) => {
                Coded::Unit { data, keyframe: encoded.keyframe, size: (picture.width(), picture.height()) }
            }
            (_, Some(Ok(_))) => Coded::Skipped,
            (_, Some(Err(_))) => Coded::Refused,
            (_, None) => Coded::NoRoom,
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
