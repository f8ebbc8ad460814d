//! One source of pictures: coded frames in, at most one new picture a step out, in step with the
//! sound of its leg.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{CodecError, Decoded, VideoDecoder};
use crosspoint_codecs::format::VideoFormat;
use crosspoint_codecs::frame::{Pool, VideoFrame};

use super::handle::EngineError;
use super::parts::Codecs;
use super::playout::MAX_DELAY;
use super::port::{Arrival, Inlet, StreamId};
use super::stats::{SourceCounters, count};
use super::timeline::{Timeline, nanos};

/// Pictures that a decoder writes into: the one that is shown, the one that is made, and one for
/// each end that may hold one a moment longer: two sinks and two views.
const PICTURES: usize = 6;
/// Bytes of a macroblock in I420.
const MACROBLOCK: usize = 384;
/// Pictures of this many macroblocks (1080p) can always be decoded: peers exceed what they agreed
/// to, and untouched pages cost nothing.
const USUAL_FS: u32 = 8_160;
/// The largest that is ever decoded: level 5.2.
const LARGEST_FS: u32 = 36_864;
/// Frames of one source that a step decodes: more than that is a backlog, and the others wait.
const FRAMES_A_STEP: usize = 4;
/// A frame that waited longer than any delay asks for is not worth its decoding: what follows is
/// skipped to the next keyframe.
const HOPELESS: i64 = 800_000_000;
/// Time between two wishes for a keyframe while pictures are missing or damaged.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A picture that is this far from its sound has lost its timeline, and goes alone.
const ASTRAY: i64 = 2_000_000_000;
/// How long the fastest transit is remembered, twice.
const FLOOR_FOR: Duration = Duration::from_secs(3);

/// A source.
pub(super) struct VideoSource {
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
    floor: Floor,
    /// Somebody sees it in this step.
    pub(super) watched: bool,
    picture: Option<VideoFrame>,
    /// When `picture` is seen; and whether this step made it.
    shown_at: i64,
    fresh: bool,
    /// Something is missing: a keyframe mends it.
    damaged: bool,
    /// Frames are dropped until a keyframe comes.
    skipping: bool,
    ask_from: Instant,
}

/// The part of a source that depends on its format.
pub(super) struct Decoding {
    decoder: Box<dyn VideoDecoder>,
}

pub(super) fn decoding(codecs: &dyn Codecs, format: &VideoFormat) -> Result<Box<Decoding>, EngineError> {
    let blocks = usize::try_from(format.max_fs().clamp(USUAL_FS, LARGEST_FS)).unwrap_or(0);
    let pool = Pool::new(PICTURES, blocks * MACROBLOCK);
    Ok(Box::new(Decoding { decoder: codecs.video_decoder(format, pool)? }))
}

pub(super) fn source(
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
) -> Box<VideoSource> {
    Box::new(VideoSource {
        id,
        inlet,
        timeline,
        counters,
        decoding,
        floor: Floor::new(),
        watched: false,
        picture: None,
        shown_at: 0,
        fresh: false,
        damaged: true,
        skipping: false,
        ask_from: Instant::ZERO,
    })
}

impl VideoSource {
    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    /// The last picture, when it is seen, and whether this step made it.
    pub(super) fn picture(&self) -> Option<(&VideoFrame, i64, bool)> {
        Some((self.picture.as_ref()?, self.shown_at, self.fresh))
    }

    pub(super) const fn set_decoding(&mut self, part: &mut Box<Decoding>) {
        std::mem::swap(&mut self.decoding, part);
        self.damaged = true;
    }

    /// Decodes what is due; of several pictures the latest wins.
    pub(super) fn pull(&mut self, now: Instant) {
        self.fresh = false;
        if !std::mem::take(&mut self.watched) {
            self.look_away();
            return;
        }
        for _ in 0..FRAMES_A_STEP {
            let Some((arrival, due)) = self.due(now) else {
                break;
            };
            self.decode(&arrival, due, now);
        }
        if self.damaged && now >= self.ask_from {
            self.ask_from = now + ASK_EVERY;
            self.inlet.wishes.want_keyframe();
            count(&self.counters.keyframes_wanted);
        }
    }

    /// Nobody sees it: frames go by, and who looks again needs a keyframe.
    fn look_away(&mut self) {
        while let Ok(arrival) = self.inlet.frames.pop() {
            self.floor.record(&arrival);
            self.damaged = true;
        }
        if self.damaged {
            self.picture = None;
            self.ask_from = Instant::ZERO;
        }
    }

    /// The next frame, if it is due, and when it is seen.
    fn due(&mut self, now: Instant) -> Option<(Arrival, i64)> {
        let head = self.inlet.frames.peek().ok()?;
        self.floor.record(head);
        let (came, time) = (nanos(head.at), head.frame.media_time);
        let alone = time.0.saturating_add(self.floor.transit());
        // Without sound there is nothing to wait for; the stamp is smooth all the same.
        let (due, seen) = match self.timeline.plays_at(time) {
            Some(heard) if heard.saturating_sub(came).saturating_abs() < ASTRAY => {
                let due = heard.min(came.saturating_add(MAX_DELAY_NANOS));
                self.counters.skew.store(nanos(now).max(due).saturating_sub(heard), Relaxed);
                (due, due)
            }
            _ => (came, alone.min(came)),
        };
        if due > nanos(now) {
            return None;
        }
        let arrival = self.inlet.frames.pop().ok()?;
        Some((arrival, seen))
    }

    fn decode(&mut self, arrival: &Arrival, seen: i64, now: Instant) {
        let frame = &arrival.frame;
        let waited = nanos(now).saturating_sub(nanos(arrival.at));
        self.skipping = (self.skipping || waited > HOPELESS) && !frame.keyframe;
        if self.skipping {
            self.damaged = true;
            count(&self.counters.late);
            return;
        }
        self.damaged |= frame.lost_before > 0;
        match self.decoding.decoder.decode(&frame.data) {
            Ok(Decoded::Picture { frame: picture, concealed }) => {
                count(&self.counters.decoded);
                if self.fresh {
                    // The one before was never seen.
                    count(&self.counters.late);
                }
                self.damaged = concealed;
                self.counters.width.store(u32::try_from(picture.width()).unwrap_or(0), Relaxed);
                self.counters.height.store(u32::try_from(picture.height()).unwrap_or(0), Relaxed);
                self.counters.playout_delay.store(u64::try_from(waited).unwrap_or(0), Relaxed);
                self.inlet.wishes.set_playout_delay(Duration::from_nanos(u64::try_from(waited).unwrap_or(0)));
                self.picture = Some(picture);
                self.shown_at = seen;
                self.fresh = true;
            }
            Ok(Decoded::Nothing) => (),
            // It was decoded, and what refers to it can be: only we do not keep up.
            Err(CodecError::NoPicture) => count(&self.counters.late),
            Err(_) => {
                count(&self.counters.errors);
                self.damaged = true;
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "400 ms are 29 bits of nanoseconds")]
#[allow(clippy::cast_possible_wrap, reason = "400 ms are 29 bits of nanoseconds")]
const MAX_DELAY_NANOS: i64 = MAX_DELAY.as_nanos() as i64;

/// The fastest transit of the last seconds: where pictures without sound are on the clock.
struct Floor {
    this: i64,
    before: i64,
    until: Instant,
    last: Option<Instant>,
}

impl Floor {
    const fn new() -> Self {
        Self { this: i64::MAX, before: i64::MAX, until: Instant::ZERO, last: None }
    }

    /// The same frame may be recorded twice.
    fn record(&mut self, arrival: &Arrival) {
        if self.last.replace(arrival.at) == Some(arrival.at) {
            return;
        }
        if arrival.at >= self.until {
            self.before = std::mem::replace(&mut self.this, i64::MAX);
            self.until = arrival.at + FLOOR_FOR;
        }
        let transit = nanos(arrival.at).saturating_sub(arrival.frame.media_time.0);
        self.this = self.this.min(transit);
    }

    fn transit(&self) -> i64 {
        self.this.min(self.before)
    }
}
