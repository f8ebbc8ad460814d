//! One sink of pictures: which form it wants of what it sees, when it needs a keyframe, and what it
//! hands over. Encoding is done once for all sinks of one form: see [`super::video`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::frame::{EncodedFrame, MediaTime};

use super::arrival::nanos;
use super::coder::{Encoding, Order};
use super::crew::Ticket;
use super::form::{Climb, Form, LOSSY_FROM, Limits, spared};
use super::port::{Outlet, RING, StreamId};
use super::route::Route;
use super::stats::{SinkCounters, count};

/// Keyframes on request are this far apart for one receiver, who asks with every frame when it has
/// loss; and for many, of whom only one has it.
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);
const KEYFRAME_EVERY_SHARED: Duration = Duration::from_secs(1);
/// Who joins others waits this long at most for a keyframe.
const JOIN_WITHIN: Duration = Duration::from_millis(200);
/// Who asks again this soon after a keyframe has loss; and so long after its last question it has
/// none any more.
const ASKS_AGAIN: Duration = Duration::from_secs(2);
const LOSSY_FOR: Duration = Duration::from_secs(10);
/// When no picture comes for so long, a wished-for keyframe is made of the last one.
const STANDSTILL: i64 = 200_000_000;
/// A composed picture that stands goes out again after so long: it keeps the way through a NAT open, tells
/// the receiver that the stream lives, and gets sharper. It costs next to no bits.
const REPEAT: i64 = 1_000_000_000;
/// Two pictures of one stream are at least a tick of its clock (90 kHz) apart.
const LEAST_STEP: i64 = 11_112;
/// Frames that may wait for a socket thread: with more it stands still, and must not keep the
/// buffers of all who share them.
const WAITING: usize = 3;

/// What a sink sees, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Source(usize),
    View(usize),
}

/// A sink.
pub(super) struct VideoSink {
    id: StreamId,
    kind: MediaKind,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    /// `None` while it is at work.
    encoding: Option<Box<Encoding>>,
    /// Whose work is waited for.
    awaited: Option<Ticket>,
    limits: Limits,
    pub(super) route: Route,
    pub(super) seen: Option<Seen>,
    climb: Climb,
    /// Its encoder works: for it, and for others of the same form.
    pub(super) leads: bool,
    /// What it was given last, and of what.
    pub(super) group: Option<(Seen, Form)>,
    /// Nothing can be shown to it before a keyframe.
    joining: bool,
    /// It asked for a keyframe.
    asked: bool,
    /// When it was last given one, and until when it is taken to have loss.
    served: Option<Instant>,
    lossy_until: Instant,
    /// As one who leads: when the last keyframe was made.
    keyframe_at: Option<Instant>,
    /// Stamp of the last picture, and when it went.
    stamp: i64,
    sent_at: i64,
    second: Second,
}

/// What went out in this second.
struct Second {
    until: Instant,
    bytes: u32,
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
        limits: encoding.limits(),
        encoding: Some(encoding),
        awaited: None,
        route: Route::Silence,
        seen: None,
        climb: Climb::default(),
        leads: false,
        group: None,
        joining: true,
        asked: false,
        served: None,
        lossy_until: Instant::ZERO,
        keyframe_at: None,
        stamp: i64::MIN,
        sent_at: 0,
        second: Second { until: Instant::ZERO, bytes: 0 },
    })
}

impl VideoSink {
    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    pub(super) const fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// What is seen from now on; whoever looks needs a whole picture first.
    pub(super) const fn link(&mut self, seen: Option<Seen>) {
        self.seen = seen;
        self.group = None;
        self.joining = true;
        self.keyframe_at = None;
    }

    /// Another encoder from now on; gives back the one before, unless it is at work: then nobody waits
    /// for it any more.
    pub(super) fn set_encoding(&mut self, part: Box<Encoding>) -> Option<Box<Encoding>> {
        (self.group, self.joining, self.awaited) = (None, true, None);
        self.limits = part.limits();
        self.encoding.replace(part)
    }

    /// The encoder with something to do; `None` while it is at work. It comes back to [`Self::finish`].
    pub(super) fn begin(&mut self, order: Order, ticket: Ticket) -> Option<Box<Encoding>> {
        let mut encoding = self.encoding.take()?;
        encoding.take(order);
        self.awaited = Some(ticket);
        Some(encoding)
    }

    /// Takes back the encoder that went away with `ticket`. Gives it back when nobody waits for it any
    /// more.
    pub(super) fn finish(&mut self, ticket: Ticket, encoding: Box<Encoding>) -> Option<Box<Encoding>> {
        if self.awaited != Some(ticket) {
            return Some(encoding);
        }
        self.awaited = None;
        self.encoding = Some(encoding);
        None
    }

    /// Whether what was made of `seen` is still for it.
    pub(super) fn sees(&self, seen: Seen) -> bool {
        self.group.is_some_and(|(still, _)| still == seen)
    }

    /// Takes its receiver's wishes; then the form that it wants of pictures of `size`, of which none
    /// has more than `most` macroblocks.
    pub(super) fn want(&mut self, size: (usize, usize), most: u32, now: Instant) -> Form {
        if self.outlet.wishes.take_keyframe_asked() {
            self.asked = true;
            if self.served.is_some_and(|served| now.saturating_since(served) < ASKS_AGAIN) {
                self.lossy_until = now + LOSSY_FOR;
            }
        }
        let limits = Limits { max_fs: self.limits.max_fs.min(most), ..self.limits };
        let loss = self.outlet.wishes.reported_loss();
        if loss >= LOSSY_FROM {
            self.lossy_until = now + LOSSY_FOR;
        }
        let estimate = self.outlet.wishes.bitrate_limit();
        let spared = spared(size, loss);
        let estimate = spared.map_or(estimate, |spared| Some(estimate.map_or(spared, |it| it.min(spared))));
        match self.route {
            Route::Compose { .. } => {
                let wanted = limits.shared(size, estimate, now < self.lossy_until);
                self.climb.follow(wanted, now)
            }
            _ => limits.alone(size, estimate),
        }
    }

    /// Whether it may be given what is made for others.
    pub(super) const fn shares(&self) -> bool {
        matches!(self.route, Route::Compose { .. })
    }

    /// It belongs to those who see `seen` in `form` from now on.
    pub(super) fn enter(&mut self, seen: Seen, form: Form) {
        let same = |(before, was): (Seen, Form)| {
            // The rate of one who is alone moves without a keyframe.
            before == seen && (was == form || !self.shares() && Form { bitrate: form.bitrate, ..was } == form)
        };
        if !self.group.is_some_and(same) {
            self.joining = true;
        }
        self.group = Some((seen, form));
    }

    /// Whether it needs a keyframe now; the last one of those it belongs to was made at `made`.
    pub(super) fn needs_keyframe(&self, made: Option<Instant>, form: &Form, now: Instant) -> bool {
        let Some(made) = made else { return true };
        let every = match () {
            () if self.joining && self.shares() => JOIN_WITHIN,
            () if self.joining => Duration::ZERO,
            () if !self.asked => return false,
            () if self.shares() && !form.lossy => KEYFRAME_EVERY_SHARED,
            () => KEYFRAME_EVERY,
        };
        now.saturating_since(made) >= every
    }

    /// Whether the last picture stands for so long that a keyframe is made of it again.
    pub(super) fn stands_still(&self, now: Instant) -> bool {
        nanos(now).saturating_sub(self.sent_at) > STANDSTILL
    }

    /// Whether the last picture stands for so long that it goes out again.
    pub(super) fn repeats(&self, now: Instant) -> bool {
        nanos(now).saturating_sub(self.sent_at) >= REPEAT
    }

    /// When it made the last keyframe.
    pub(super) const fn keyframe_at(&self) -> Option<Instant> {
        self.keyframe_at
    }

    pub(super) const fn made_keyframe(&mut self, now: Instant) {
        self.keyframe_at = Some(now);
    }

    /// A stamp for a picture that is seen at `seen_at`: later than the last one.
    pub(super) fn stamp(&self, seen_at: i64) -> i64 {
        seen_at.max(self.stamp.saturating_add(LEAST_STEP))
    }

    /// It takes no frame now: its socket thread stands still. What comes later refers to what it
    /// misses.
    pub(super) fn is_stuck(&mut self) -> bool {
        let stuck = RING - self.outlet.frames.slots() >= WAITING;
        if stuck {
            count(&self.counters.overflow);
            self.joining = true;
        }
        stuck
    }

    /// Hands `frame` over. True when it was taken.
    pub(super) fn push(&mut self, frame: &EncodedFrame, size: (usize, usize), now: Instant) -> bool {
        if self.joining && !frame.keyframe || self.is_stuck() {
            return false;
        }
        let stamp = self.stamp(frame.media_time.0);
        let len = u32::try_from(frame.data.len()).unwrap_or(u32::MAX);
        let frame = EncodedFrame { kind: self.kind, media_time: MediaTime(stamp), ..frame.clone() };
        let keyframe = frame.keyframe;
        if self.outlet.frames.push(frame).is_err() {
            count(&self.counters.overflow);
            self.joining = true;
            return false;
        }
        if keyframe {
            count(&self.counters.keyframes);
            (self.joining, self.asked, self.served) = (false, false, Some(now));
        }
        (self.stamp, self.sent_at) = (stamp, nanos(now));
        count(&self.counters.encoded);
        self.counters.bytes.fetch_add(u64::from(len), Relaxed);
        self.second.bytes = self.second.bytes.saturating_add(len);
        self.counters.width.store(u32::try_from(size.0).unwrap_or(0), Relaxed);
        self.counters.height.store(u32::try_from(size.1).unwrap_or(0), Relaxed);
        if let Some((_, form)) = &self.group {
            self.counters.target_bitrate.store(form.bitrate, Relaxed);
        }
        true
    }

    /// A picture that it should have had was not made.
    pub(super) fn miss(&mut self, why: Missing) {
        count(match why {
            Missing::Skipped => &self.counters.skipped,
            Missing::NoRoom => &self.counters.overflow,
            Missing::Refused => &self.counters.errors,
        });
        self.joining |= matches!(why, Missing::Refused);
    }

    pub(super) fn count_second(&mut self, now: Instant) {
        if now >= self.second.until {
            self.counters.bitrate.store(self.second.bytes.saturating_mul(8), Relaxed);
            self.second = Second { until: now + Duration::from_secs(1), bytes: 0 };
        }
    }
}

/// Why a picture was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Skipped,
    NoRoom,
    Refused,
}
