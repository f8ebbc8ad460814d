//! One source of pictures: coded frames in, at most one new picture a step out, in step with the
//! sound of its leg.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{CodecError, Decoded, VideoDecoder};
use crosspoint_codecs::format::VideoFormat;
use crosspoint_codecs::frame::{EncodedFrame, Pool, VideoFrame};

use super::arrival::nanos;
use super::crew::Ticket;
use super::form::PICTURE_EVERY;
use super::handle::EngineError;
use super::parts::Codecs;
use super::playout::MAX_DELAY;
use super::port::{Arrival, Inlet, StreamId};
use super::stats::{SourceCounters, count};
use super::timeline::Timeline;

/// Pictures that a decoder writes into: the last one, the last good one, which views hold as well, the
/// one that is made, and one for each end that may hold one a moment longer: three of them.
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
/// Losses within [`ROUGH_WITHIN`] that make a road a rough one. They come faster than keyframes may be
/// asked for: who waits for whole pictures there sees next to none.
const ROUGH_LOSSES: usize = 3;
const ROUGH_WITHIN: Duration = Duration::from_secs(2);
/// How long it is taken for one after that: a few keyframes without a loss.
const ROUGH_FOR: Duration = Duration::from_secs(5);
/// Who looks on such a road waits so long for a whole picture to begin with, and then sees what there is: of a
/// keyframe of ten packets, one of ten comes whole where one of five packets is lost.
const BLIND_FOR: Duration = Duration::from_secs(2);
/// On a rough road pictures come in heaps: one that lacks a packet is held until the next one shows that it will
/// not come. They are seen one after the other all the same, as long as none is later than this: less than
/// one notices between sound and picture.
const LATE_AT_MOST: i64 = 80_000_000;
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
    /// `None` while it is at work.
    decoding: Option<Box<Decoding>>,
    /// Whose work is waited for.
    awaited: Option<Ticket>,
    floor: Floor,
    /// Somebody sees it in this step.
    pub(super) watched: bool,
    picture: Option<VideoFrame>,
    /// The last one that is fit to be seen, and when it came: without damage, or on a rough road.
    good: Option<(VideoFrame, Instant)>,
    /// A whole one was decoded since somebody looks: what refers to it can be made out.
    begun: bool,
    /// Or there are damaged ones alone, since then.
    blind_since: Option<Instant>,
    rough: Rough,
    /// On a rough road the next one is not seen before.
    free_at: Instant,
    /// When `picture` is seen; and whether this step made it.
    shown_at: i64,
    fresh: bool,
    /// Something is missing: a keyframe mends it.
    damaged: bool,
    /// The same, and it happened while the decoder was at work.
    damaged_since: bool,
    /// Frames are dropped until a keyframe comes.
    skipping: bool,
    ask_from: Instant,
}

/// The part of a source that depends on its format. It goes away with a few frames and comes back
/// with the picture of the last one.
pub(super) struct Decoding {
    decoder: Box<dyn VideoDecoder>,
    due: [Option<Due>; FRAMES_A_STEP],
    result: Outcome,
}

/// A frame, when its picture is seen, and how long it has waited (ns).
struct Due {
    frame: EncodedFrame,
    seen: i64,
    waited: u64,
}

/// What came of the frames.
#[derive(Default)]
struct Outcome {
    shown: Option<Shown>,
    /// The last one without damage.
    good: Option<VideoFrame>,
    decoded: u64,
    late: u64,
    errors: u64,
    damaged: bool,
}

/// A picture, when it is seen, and how long its frame had waited (ns).
struct Shown {
    picture: VideoFrame,
    at: i64,
    waited: u64,
}

pub(super) fn decoding(codecs: &dyn Codecs, format: &VideoFormat) -> Result<Box<Decoding>, EngineError> {
    let blocks = usize::try_from(format.max_fs().clamp(USUAL_FS, LARGEST_FS)).unwrap_or(0);
    let pool = Pool::new(PICTURES, blocks * MACROBLOCK);
    let decoder = codecs.video_decoder(format, pool)?;
    Ok(Box::new(Decoding { decoder, due: [const { None }; FRAMES_A_STEP], result: Outcome::default() }))
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
        decoding: Some(decoding),
        awaited: None,
        floor: Floor::new(),
        watched: false,
        picture: None,
        good: None,
        begun: false,
        blind_since: None,
        rough: Rough::new(),
        free_at: Instant::ZERO,
        shown_at: 0,
        fresh: false,
        damaged: true,
        damaged_since: false,
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

    /// The last picture that is fit to be seen, and the step that brought it.
    pub(super) fn good(&self) -> Option<(&VideoFrame, Instant)> {
        self.good.as_ref().map(|(picture, came)| (picture, *came))
    }

    /// Another decoder from now on; gives back the one before, unless it is at work: then nobody waits
    /// for it any more.
    pub(super) fn set_decoding(&mut self, part: Box<Decoding>) -> Option<Box<Decoding>> {
        (self.damaged, self.begun, self.awaited) = (true, false, None);
        self.blind_since = None;
        self.decoding.replace(part)
    }

    /// Begins a step: what was new is not new any more.
    pub(super) const fn turn(&mut self) {
        self.fresh = false;
    }

    /// The decoder with what is due, for [`Decoding::run`]; `None` when nothing is, or while it is at
    /// work. It comes back to [`Self::finish`].
    pub(super) fn begin(&mut self, now: Instant, ticket: Ticket) -> Option<Box<Decoding>> {
        if !self.watched {
            self.look_away();
            return None;
        }
        let mut decoding = self.decoding.take()?;
        for place in &mut decoding.due {
            *place = self.next(now);
        }
        if decoding.due.iter().all(Option::is_none) {
            self.decoding = Some(decoding);
            return None;
        }
        decoding.result = Outcome { damaged: self.damaged, ..Outcome::default() };
        (self.awaited, self.damaged_since) = (Some(ticket), false);
        Some(decoding)
    }

    /// Takes back the decoder that went away with `ticket`, and what it made. Gives it back when nobody
    /// waits for it any more.
    pub(super) fn finish(
        &mut self,
        ticket: Ticket,
        mut decoding: Box<Decoding>,
        now: Instant,
    ) -> Option<Box<Decoding>> {
        if self.awaited != Some(ticket) {
            return Some(decoding);
        }
        self.awaited = None;
        let result = std::mem::take(&mut decoding.result);
        self.decoding = Some(decoding);
        self.counters.decoded.fetch_add(result.decoded, Relaxed);
        self.counters.late.fetch_add(result.late, Relaxed);
        self.counters.errors.fetch_add(result.errors, Relaxed);
        self.damaged = result.damaged || self.damaged_since;
        let rough = self.rough.is_now(now);
        if rough && result.shown.is_some() {
            let since = *self.blind_since.get_or_insert(now);
            self.begun |= now.saturating_since(since) >= BLIND_FOR;
        }
        self.begun |= result.good.is_some();
        let rough = rough && self.begun;
        let last = result.shown.as_ref().filter(|_| rough).map(|shown| shown.picture.clone());
        if let Some(picture) = last.or(result.good) {
            self.good = Some((picture, now));
        }
        // What a decoder makes of a damaged keyframe alone is grey where nothing came.
        if let Some(Shown { picture, at, waited }) = result.shown.filter(|_| self.begun) {
            if self.fresh {
                // The one before was never seen.
                count(&self.counters.late);
            }
            self.counters.width.store(u32::try_from(picture.width()).unwrap_or(0), Relaxed);
            self.counters.height.store(u32::try_from(picture.height()).unwrap_or(0), Relaxed);
            self.counters.playout_delay.store(waited, Relaxed);
            self.inlet.wishes.set_playout_delay(Duration::from_nanos(waited));
            (self.picture, self.shown_at, self.fresh) = (Some(picture), at, true);
        }
        None
    }

    /// Ends a step: asks for a keyframe where one is missed.
    pub(super) fn ask(&mut self, now: Instant) {
        if std::mem::take(&mut self.watched) && self.damaged && now >= self.ask_from {
            self.ask_from = now + ASK_EVERY;
            self.inlet.wishes.want_keyframe();
            count(&self.counters.keyframes_wanted);
        }
    }

    /// Nobody sees it: frames go by, and who looks again needs a keyframe.
    fn look_away(&mut self) {
        while let Ok(arrival) = self.inlet.frames.pop() {
            self.floor.record(&arrival);
            (self.damaged, self.damaged_since) = (true, true);
        }
        if self.damaged {
            (self.picture, self.good, self.begun) = (None, None, false);
            self.blind_since = None;
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
        let late = nanos(now).saturating_sub(due);
        let early = self.rough.is_now(now) && now < self.free_at && late < LATE_AT_MOST;
        if late < 0 || early {
            return None;
        }
        // As views compose them: on a grid while they come, from now on after a pause.
        let grid = (self.free_at + PICTURE_EVERY).max(now + PICTURE_EVERY / 2);
        self.free_at = grid.min(now + PICTURE_EVERY);
        let arrival = self.inlet.frames.pop().ok()?;
        Some((arrival, seen))
    }

    /// The next frame that is due and worth its decoding.
    fn next(&mut self, now: Instant) -> Option<Due> {
        loop {
            let (arrival, seen) = self.due(now)?;
            let waited = nanos(now).saturating_sub(nanos(arrival.at));
            if arrival.frame.lost_before > 0 {
                self.rough.lost(now);
            }
            self.skipping = (self.skipping || waited > HOPELESS) && !arrival.frame.keyframe;
            if !self.skipping {
                let waited = u64::try_from(waited).unwrap_or(0);
                return Some(Due { frame: arrival.frame, seen, waited });
            }
            self.damaged = true;
            count(&self.counters.late);
        }
    }
}

impl Decoding {
    /// Decodes what it went away with; of several pictures the latest wins.
    pub(super) fn run(&mut self) {
        for due in &mut self.due {
            let Some(Due { frame, seen, waited }) = due.take() else { continue };
            let result = &mut self.result;
            result.damaged |= frame.lost_before > 0;
            match self.decoder.decode(&frame.data) {
                Ok(Decoded::Picture { frame: picture, concealed }) => {
                    result.decoded += 1;
                    result.damaged = concealed;
                    if !concealed {
                        result.good = Some(picture.clone());
                    }
                    // The one before is never seen.
                    let before = result.shown.replace(Shown { picture, at: seen, waited });
                    result.late += u64::from(before.is_some());
                }
                Ok(Decoded::Nothing) => (),
                // It was decoded, and what refers to it can be: only we do not keep up.
                Err(CodecError::NoPicture) => result.late += 1,
                Err(_) => {
                    result.errors += 1;
                    result.damaged = true;
                }
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "400 ms are 29 bits of nanoseconds")]
#[allow(clippy::cast_possible_wrap, reason = "400 ms are 29 bits of nanoseconds")]
const MAX_DELAY_NANOS: i64 = MAX_DELAY.as_nanos() as i64;

/// Whether losses come so fast that there is no time to mend them.
struct Rough {
    /// The last losses, newest first.
    losses: [Option<Instant>; ROUGH_LOSSES],
    until: Instant,
}

impl Rough {
    const fn new() -> Self {
        Self { losses: [None; ROUGH_LOSSES], until: Instant::ZERO }
    }

    fn lost(&mut self, now: Instant) {
        self.losses.rotate_right(1);
        self.losses[0] = Some(now);
        let first = self.losses[ROUGH_LOSSES - 1];
        if first.is_some_and(|first| now.saturating_since(first) <= ROUGH_WITHIN) {
            self.until = now + ROUGH_FOR;
        }
    }

    fn is_now(&self, now: Instant) -> bool {
        now < self.until
    }
}

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
