//! Pictures into the coded units of one form: scaled to its size, encoded at its rate.

use std::time::Duration;

use crosspoint_codecs::codec::{VideoEncoder, VideoEncoding};
use crosspoint_codecs::format::{MediaKind, VideoFormat};
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

/// The part of a sink that depends on its format. It goes away with a picture and comes back with
/// what it made of it.
pub(super) struct Encoding {
    limits: Limits,
    order: Option<Order>,
    coded: Option<Coded>,
    /// A scaler that is of no use any more.
    old: Option<Box<Scaler>>,
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

/// What is to be encoded: a picture, in which form, shown at which moment (ns).
pub(super) struct Order {
    pub(super) picture: VideoFrame,
    pub(super) form: Form,
    pub(super) stamp: i64,
    pub(super) keyframe: bool,
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

/// For a receiver of `kind`: slides are encoded sharp rather than smooth.
pub(super) fn encoding(
    codecs: &dyn Codecs,
    kind: MediaKind,
    format: &VideoFormat,
) -> Result<Box<Encoding>, EngineError> {
    let limits = Limits::new(format, kind == MediaKind::Content);
    let settings = VideoEncoding {
        bitrate: limits.max_bitrate.clamp(LEAST_BITRATE, 500_000),
        frame_rate: FRAME_RATE,
        profile: format.profile,
        level: limits.level,
        max_nal: limits.max_nal,
        sharp: limits.sharp,
    };
    let scaled = usize::try_from(limits.max_fs).unwrap_or(0).saturating_mul(MACROBLOCK);
    Ok(Box::new(Encoding {
        limits,
        order: None,
        coded: None,
        old: None,
        encoder: codecs.video_encoder(format, settings)?,
        settings,
        told: false,
        units: Pool::new(UNITS, UNIT),
        scaled: Pool::on_huge_pages(SCALED, scaled),
        scaler: None,
        sizes: ((0, 0), (0, 0)),
    }))
}

impl Encoding {
    /// What its receiver takes.
    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes what [`Self::run`] is to do.
    pub(super) fn take(&mut self, order: Order) {
        self.order = Some(order);
    }

    /// Encodes what it went away with.
    pub(super) fn run(&mut self) {
        let Some(Order { picture, form, stamp, keyframe }) = self.order.take() else { return };
        self.coded = Some(match self.prepare(&picture, &form) {
            Ok(()) => self.encode(&picture, stamp, keyframe),
            Err(_) => Coded::Refused,
        });
    }

    /// What came of it, and a scaler that is of no use any more. A codec that gave up has refused.
    pub(super) fn finish(&mut self) -> (Coded, Option<Box<Scaler>>) {
        self.order = None;
        (self.coded.take().unwrap_or(Coded::Refused), self.old.take())
    }

    /// Sets up for pictures of the size of `picture` in `form`. Only a change of size makes a scaler, as
    /// it makes the encoder begin anew: the one place where this allocates.
    fn prepare(&mut self, picture: &VideoFrame, form: &Form) -> Result<(), EngineError> {
        let sizes = ((picture.width(), picture.height()), form.size);
        if sizes != self.sizes {
            let scaler =
                if sizes.0 == sizes.1 { None } else { Some(Box::new(Scaler::new(sizes.0, sizes.1)?)) };
            self.sizes = sizes;
            self.old = std::mem::replace(&mut self.scaler, scaler);
        }
        let settings = VideoEncoding {
            bitrate: form.bitrate,
            level: form.level,
            max_nal: form.max_nal,
            sharp: form.sharp,
            ..self.settings
        };
        let near = form.bitrate.abs_diff(self.settings.bitrate) <= self.settings.bitrate / WORTH;
        let same = VideoEncoding { bitrate: self.settings.bitrate, ..settings } == self.settings;
        if near && same && self.told {
            return Ok(());
        }
        self.encoder.tune(settings)?;
        (self.settings, self.told) = (settings, true);
        Ok(())
    }

    /// Encodes `picture`, shown at `stamp` ns.
    fn encode(&mut self, picture: &VideoFrame, stamp: i64, keyframe: bool) -> Coded {
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
