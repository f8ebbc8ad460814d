//! When each frame of sound is played: by its media time, as late as the network's jitter asks.
//!
//! ```text
//! transit(frame) = arrival - media time         floor = least transit of the last seconds
//! ideal(frame)   = media time + floor + delay   delay = tick + what the jitter asks for
//! ```
//!
//! This file decides; it holds frames and no samples. The caller decodes what [`Playout::next`]
//! says until a tick is full, and keeps near the ideal by cutting or stretching the sound by
//! [`Playout::lag`], which is also how drift between two clocks goes. A gap is where the delay can
//! change for nothing: what follows it is played at its ideal moment.

use std::collections::VecDeque;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::frame::{EncodedFrame, MediaTime};
use crosspoint_codecs::kernels::level::SILENCE;

use super::arrival::{Arrival, RING, nanos};

const MS: i64 = 1_000_000;

/// A frame is needed at the tick that plays its first sample, at worst a whole tick before the
/// rest of it: no delay can be shorter.
pub(super) const MIN_DELAY: Duration = Duration::from_millis(20);
/// Beyond this people talk into each other's words (ITU-T G.114 calls 400 ms the limit for one
/// way); what is later is lost.
pub(super) const MAX_DELAY: Duration = Duration::from_millis(400);
/// Delay before anything is known of the network: a usual frame and the tick.
const FIRST_DELAY: i64 = 40 * MS;
/// Frames after which the measure is trusted.
const TRUSTED: u32 = 25;
/// On top of the measured jitter: the slack within which nothing is slipped.
const MARGIN: i64 = 5 * MS;
/// How long jitter is remembered. P-11 asks for a delay back at its base 10 s after a burst:
/// forgetting takes 6 s, [`FALL`] the rest.
const SECONDS: usize = 6;
/// Width of a bin of the jitter histogram, and how many there are: up to [`MAX_DELAY`].
const BIN: i64 = 2 * MS;
const BINS: usize = 200;
/// Frames of a thousand that may come later than the delay provides for.
const LATE_PERMILLE: u32 = 5;
/// The delay falls only when this much can be gained, or a quarter of what the jitter asks for: the
/// same road asks for another delay each second, and each change is sound cut or repeated.
const HYSTERESIS: i64 = 3 * MS;
const HYSTERESIS_PART: i64 = 4;
/// So fast (ns a second): as fast as sound can be cut without being heard to hurry.
const FALL: i64 = 100 * MS;
/// A sender with FEC that loses more than this of a hundred frames is worth waiting one frame
/// longer for: the copy of a lost frame comes with the next one.
const FEC_LOSS_PERCENT: u32 = 2;
/// After so long without a frame there is no comfort noise to be had from a decoder, only CPU to
/// be spent.
pub(super) const COMFORT: Duration = Duration::from_secs(1);
/// Two moments that are this close are the same: stamps of clocks that do not divide a second.
const TOLERANCE: i64 = 2 * MS;
/// Concealment and silence come in pieces of this length: Opus makes them in units of 2.5 ms.
pub(super) const PIECE: Duration = Duration::from_millis(10);
/// How much a gap may be lengthened over what is missing to reach a longer delay.
const STRETCHED_GAP: i64 = 60 * MS;
/// Sound this far behind its ideal is not caught up with by cutting but dropped.
const TOO_LATE: i64 = 120 * MS;
/// No packet of sound is longer: what says so is not believed.
const LONGEST_FRAME: i64 = 1_000 * MS;
/// A frame this far before the newest belongs to a new timeline, not to a reordered packet.
const NEW_TIMELINE: i64 = 400 * MS;
/// Holes that reordered frames may still fill: on a road that holds back every tenth packet for the
/// time of four others, two are open at once now and then.
const HOLES: usize = 4;
/// After a longer pause nothing is left to keep step with: what comes follows what was.
const LONGEST_PAUSE: i64 = 60_000 * MS;
/// Where our line begins anew (36 years), so that no sum of a few times leaves 64 bits.
const FURTHEST: i64 = 1 << 60;

/// What is played next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Decode this; [`Playout::decoded`] takes how long it was.
    Frame(EncodedFrame),
    /// Take the lost frame of this length out of the next one, [`Playout::head`].
    Recover(Duration),
    /// Hide a gap with this much.
    Conceal(Duration),
    /// Nothing is missing: the sender is silent.
    Pause(Duration),
}

/// The schedule of one source. Bound: [`RING`] frames. Overflow: the oldest goes and is counted as
/// late. Allocates when it is made and never again.
#[derive(Debug)]
pub(super) struct Playout {
    queue: VecDeque<EncodedFrame>,
    jitter: Jitter,
    delay: i64,
    fec: bool,
    /// The newest frame carries a level.
    tells: bool,
    /// Added to media times so that they go on where a sender's timeline was set anew.
    shift: i64,
    /// End of what came last, shifted.
    newest: Option<i64>,
    /// The last holes, newest first: reordered frames may still fill them.
    holes: [(i64, i64); HOLES],
    /// End of what was decoded last, shifted.
    end: Option<i64>,
    /// Made up since then; whether for a loss shows when the next frame is there.
    made_up: i64,
    counts: PlayoutCounts,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PlayoutCounts {
    /// Frames that came too late, twice, or too many.
    pub(super) late: u64,
    /// Nanoseconds made up for lost and late frames.
    pub(super) concealed: u64,
    /// Frames brought back by FEC.
    pub(super) recovered: u64,
}

impl Playout {
    /// `fec`: the codec may bring lost frames back.
    pub(super) fn new(fec: bool) -> Self {
        Self {
            queue: VecDeque::with_capacity(RING),
            jitter: Jitter::new(),
            delay: FIRST_DELAY,
            fec,
            tells: false,
            shift: 0,
            newest: None,
            holes: [(0, 0); HOLES],
            end: None,
            made_up: 0,
            counts: PlayoutCounts::default(),
        }
    }

    pub(super) const fn counts(&self) -> PlayoutCounts {
        self.counts
    }

    /// How long a frame that crosses the network as fast as any is held.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.delay).unwrap_or(0))
    }

    /// Takes a frame: measures its transit and puts it in its place.
    pub(super) fn push(&mut self, arrival: Arrival) {
        let Arrival { at, mut frame } = arrival;
        self.tells = frame.level.is_some();
        let length = nanos_of(frame.duration).min(LONGEST_FRAME);
        let start = self.place(at, &frame, length);
        frame.media_time = MediaTime(start);
        self.jitter.record(at, start, frame.lost_before);
        self.adapt(at, length);
        if self.queue.len() >= RING {
            self.queue.pop_front();
            self.counts.late += 1;
        }
        let place = self.queue.iter().rposition(|queued| queued.media_time.0 <= start).map_or(0, |at| at + 1);
        let twin = place.checked_sub(1).and_then(|before| self.queue.get(before));
        if twin.is_some_and(|twin| start - twin.media_time.0 < TOLERANCE.min(length)) {
            self.counts.late += 1;
            return;
        }
        self.queue.insert(place, frame);
    }

    /// What to play at `plays_at`, the end of what is ready.
    pub(super) fn next(&mut self, plays_at: Instant) -> Next {
        let plays_at = nanos(plays_at);
        loop {
            let Some(head) = self.queue.front() else {
                return self.make_up(PIECE, Cause::Unknown);
            };
            let start = head.media_time.0;
            let wait = start + self.offset() - plays_at;
            let Some(end) = self.end else {
                if wait > TOLERANCE {
                    return Next::Pause(pieces(wait));
                }
                return self.take();
            };
            let gap = start - end;
            if gap < -TOLERANCE || (wait < -TOO_LATE && self.queue.len() > 1) {
                // Its time was made up for, or is too far gone.
                self.drop_late(gap >= -TOLERANCE);
                continue;
            }
            if gap <= TOLERANCE {
                let interrupted = self.made_up > 0 && self.made_up < STRETCHED_GAP;
                if interrupted && wait > PIECE_NANOS {
                    return self.make_up(PIECE, Cause::Loss);
                }
                return self.take();
            }
            let lost = head.lost_before > 0;
            let wait = if lost { wait.min(gap + STRETCHED_GAP - self.made_up) } else { wait };
            let length = nanos_of(head.duration);
            if lost && self.fec && length > 0 && wait > length / 2 && wait <= length + PIECE_NANOS {
                // One attempt a gap: afterwards the frame itself is next.
                self.end = Some(start);
                return Next::Recover(head.duration);
            }
            if wait > TOLERANCE {
                let cause = if lost { Cause::Loss } else { Cause::Silence };
                return self.make_up(pieces(wait), cause);
            }
            return self.take();
        }
    }

    /// The frame that [`Next::Recover`] speaks of.
    pub(super) fn head(&self) -> Option<&EncodedFrame> {
        self.queue.front()
    }

    /// Whether the frame that follows what was decoded last is here.
    pub(super) fn has_next(&self) -> bool {
        match (self.queue.front(), self.end) {
            (Some(head), Some(end)) => head.media_time.0 - end <= TOLERANCE,
            _ => false,
        }
    }

    /// How long the frame of the last [`Next::Frame`] was in truth.
    pub(super) fn decoded(&mut self, start: MediaTime, length: Duration) {
        self.end = Some(start.0.saturating_add(nanos_of(length)));
    }

    /// The last [`Next::Recover`] brought the frame back, or it did not.
    pub(super) fn recovered(&mut self, length: Duration, success: bool) {
        if success {
            self.counts.recovered += 1;
        } else {
            self.counts.concealed += u64::try_from(nanos_of(length)).unwrap_or(0);
        }
        self.made_up = 0;
    }

    /// How far what ends at `plays_at` is behind its ideal (positive: sound should be cut) or
    /// ahead (negative: stretched). `None` while nothing plays or a gap settles it anyway.
    pub(super) fn lag(&self, plays_at: Instant) -> Option<i64> {
        let end = self.end?;
        (self.made_up == 0).then(|| nanos(plays_at) - (end + self.offset()))
    }

    /// When a frame of the sender's media time 0 is played, as things are: [`super::Timeline`].
    pub(super) fn timeline(&self, plays_at: Instant) -> Option<i64> {
        let end = self.end?;
        (self.made_up == 0).then(|| (nanos(plays_at) - end).saturating_add(self.shift))
    }

    /// The loudest level (-dBov) that the sender tells of what begins before `until` and was not
    /// taken yet; silence where it sends nothing. `None` when its frames do not tell.
    pub(super) fn told(&self, until: Instant) -> Option<u8> {
        let paused = self.queue.is_empty() && (!self.begun() || self.starved() > COMFORT);
        if !self.tells && !paused {
            return None;
        }
        let until = nanos(until).saturating_sub(self.offset());
        let due = self.queue.iter().take_while(|frame| frame.media_time.0 < until);
        due.map(|frame| frame.level).try_fold(SILENCE, |loudest, level| Some(loudest.min(level?)))
    }

    /// Gives `away` what would begin before `until`, for nobody listens.
    pub(super) fn skip_until(&mut self, until: Instant, mut away: impl FnMut(EncodedFrame)) {
        let until = nanos(until).saturating_sub(self.offset());
        while let Some(head) = self.queue.pop_front_if(|head| head.media_time.0 < until) {
            away(head);
        }
        self.end = None;
        self.made_up = 0;
    }

    /// [`Self::timeline`] of a source that is skipped: when its frames would be played.
    pub(super) fn ideal(&self) -> Option<i64> {
        self.newest.map(|_| self.offset().saturating_add(self.shift))
    }

    /// Whether anything was ever played.
    pub(super) const fn begun(&self) -> bool {
        self.end.is_some()
    }

    /// How long nothing has come to play.
    pub(super) fn starved(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.made_up).unwrap_or(0))
    }

    fn offset(&self) -> i64 {
        self.jitter.floor().saturating_add(self.delay)
    }

    /// Where `frame` lies on our shifted line, and what that tells of the line.
    ///
    /// Frames come in order, so one that says nothing of a loss and yet begins before the end of
    /// the last one tells that the sender's line was set anew (a first sender report, a new
    /// SSRC): it follows the last one. The exception is a frame that fits one of the last holes: that
    /// one is only late, and was no loss. A line that jumps forward looks like a pause, but for one thing: its
    /// frames seem to come faster than any before, by as much as it jumped.
    fn place(&mut self, at: Instant, frame: &EncodedFrame, length: i64) -> i64 {
        let start = frame.media_time.0.saturating_add(self.shift);
        let Some(newest) = self.newest else {
            return self.follow(0, start, length);
        };
        if newest > FURTHEST {
            // Only a sender that jumps ahead with every packet for hours gets here.
            self.queue.clear();
            (self.end, self.holes, self.jitter) = (None, [(0, 0); HOLES], Jitter::new());
            return self.follow(0, start, length);
        }
        let ahead = start.saturating_sub(newest);
        if ahead.saturating_abs() > LONGEST_PAUSE {
            return self.follow(newest, start, length);
        }
        if ahead >= -TOLERANCE {
            let faster = self.jitter.floor().saturating_sub(nanos(at).saturating_sub(start));
            if ahead > TOLERANCE && frame.lost_before == 0 && faster > ahead / 2 {
                return self.follow(newest, start, length);
            }
            if ahead > TOLERANCE {
                self.holes.rotate_right(1);
                self.holes[0] = (newest, start);
            }
            self.newest = Some(start.saturating_add(length));
            return start;
        }
        let fits = self
            .holes
            .iter()
            .any(|(from, to)| start >= from - TOLERANCE && start.saturating_add(length) <= to + TOLERANCE);
        let repeated =
            (ahead + length).abs() <= TOLERANCE || self.queue.iter().any(|held| held.media_time.0 == start);
        if (fits || repeated) && -ahead < NEW_TIMELINE {
            if fits && !repeated {
                self.jitter.found();
            }
            return start;
        }
        self.follow(newest, start, length)
    }

    /// The line was set anew: what would be at `start` comes right after what came last.
    fn follow(&mut self, newest: i64, start: i64, length: i64) -> i64 {
        self.shift = self.shift.saturating_add(newest.saturating_sub(start));
        self.newest = Some(newest.saturating_add(length));
        newest
    }

    fn adapt(&mut self, at: Instant, length: i64) {
        let (wanted, step) = self.jitter.wanted(at, self.fec, length);
        if wanted > self.delay {
            self.delay = wanted;
            self.jitter.falling = false;
        } else if wanted < self.delay - hysteresis(self.delay) || self.jitter.falling {
            self.delay = wanted.max(self.delay - step);
            self.jitter.falling = self.delay > wanted;
        }
    }

    fn take(&mut self) -> Next {
        let Some(frame) = self.queue.pop_front() else {
            return Next::Pause(PIECE);
        };
        // A frame without a loss before it that was waited for: it was late, unless there is a
        // gap in the media time, which then was a pause.
        let gap = self.end.map_or(0, |end| frame.media_time.0 - end);
        if frame.lost_before > 0 || gap <= TOLERANCE {
            self.counts.concealed += u64::try_from(self.made_up).unwrap_or(0);
        }
        self.made_up = 0;
        self.end = Some(frame.media_time.0.saturating_add(nanos_of(frame.duration).min(LONGEST_FRAME)));
        Next::Frame(frame)
    }

    fn drop_late(&mut self, skips: bool) {
        if let Some(frame) = self.queue.pop_front() {
            self.counts.late += 1;
            if skips {
                self.end =
                    Some(frame.media_time.0.saturating_add(nanos_of(frame.duration).min(LONGEST_FRAME)));
            }
        }
    }

    fn make_up(&mut self, length: Duration, cause: Cause) -> Next {
        if self.end.is_none() {
            return Next::Pause(length);
        }
        self.made_up = self.made_up.saturating_add(nanos_of(length));
        match cause {
            Cause::Silence => Next::Pause(length),
            Cause::Loss | Cause::Unknown => Next::Conceal(length),
        }
    }
}

#[derive(Clone, Copy)]
enum Cause {
    Loss,
    Silence,
    Unknown,
}

const PIECE_NANOS: i64 = 10 * MS;

/// `wait` in whole quarters of a piece, one piece at most.
fn pieces(wait: i64) -> Duration {
    const QUARTER: i64 = PIECE_NANOS / 4;
    let quarters = ((wait + QUARTER / 2) / QUARTER).clamp(1, 4);
    Duration::from_nanos(u64::try_from(quarters * QUARTER).unwrap_or(0))
}

/// What has to be gained before a delay falls.
fn hysteresis(delay: i64) -> i64 {
    HYSTERESIS.max((delay - nanos_of(MIN_DELAY) - MARGIN) / HYSTERESIS_PART)
}

fn nanos_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// How unevenly frames came during the last [`SECONDS`] seconds.
#[derive(Debug)]
struct Jitter {
    seconds: [Second; SECONDS],
    current: usize,
    until: Instant,
    /// Frames ever, as far as it matters.
    seen: u32,
    last: Instant,
    falling: bool,
    /// What the bins ask for, as of when they last changed in a way that matters.
    edge: i64,
    floor: i64,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    /// Least transit.
    floor: i64,
    /// Bins count from here: the floor at the second's beginning.
    base: i64,
    bins: [u16; BINS],
    frames: u32,
    lost: u32,
}

impl Second {
    const EMPTY: Self = Self { floor: i64::MAX, base: 0, bins: [0; BINS], frames: 0, lost: 0 };
}

impl Jitter {
    const fn new() -> Self {
        Self {
            seconds: [Second::EMPTY; SECONDS],
            current: 0,
            until: Instant::ZERO,
            seen: 0,
            last: Instant::ZERO,
            falling: false,
            edge: BIN,
            floor: i64::MAX,
        }
    }

    fn record(&mut self, at: Instant, start: i64, lost_before: u16) {
        let turned = self.turn(at);
        let transit = nanos(at).saturating_sub(start);
        // Nothing is known of the way after a long pause: it begins anew.
        let known = if self.frames() == 0 { transit } else { self.floor };
        let (floor, edge) = (known.min(transit), self.edge);
        let Some(second) = self.seconds.get_mut(self.current) else {
            return;
        };
        if second.frames == 0 {
            second.base = floor;
        }
        second.floor = second.floor.min(transit);
        let late = transit.saturating_sub(second.base).max(0);
        let bin = usize::try_from(late / BIN).unwrap_or(BINS).min(BINS - 1);
        second.bins[bin] = second.bins[bin].saturating_add(1);
        second.frames = second.frames.saturating_add(1);
        second.lost = second.lost.saturating_add(u32::from(lost_before));
        self.seen = self.seen.saturating_add(1);
        if turned || floor != self.floor || transit.saturating_sub(floor) >= edge {
            self.floor = self.seconds.iter().map(|second| second.floor).min().unwrap_or(floor);
            self.edge = self.measure();
        }
    }

    /// A frame that counts as lost was only overtaken: FEC does not help there, time does.
    fn found(&mut self) {
        for at in [self.current, (self.current + SECONDS - 1) % SECONDS] {
            if let Some(lost) = self.seconds.get_mut(at).map(|it| &mut it.lost).filter(|lost| **lost > 0) {
                *lost -= 1;
                return;
            }
        }
    }

    /// Begins a new second where one is over, over the oldest.
    fn turn(&mut self, at: Instant) -> bool {
        if at < self.until {
            return false;
        }
        let next = (self.current + 1) % SECONDS;
        let missed = nanos(at).saturating_sub(nanos(self.until)) / (1_000 * MS);
        for passed in 0..usize::try_from(missed).unwrap_or(SECONDS).min(SECONDS) + 1 {
            if let Some(oldest) = self.seconds.get_mut((next + passed) % SECONDS) {
                *oldest = Second::EMPTY;
            }
        }
        self.current = next;
        self.until = at + Duration::from_secs(1);
        true
    }

    const fn floor(&self) -> i64 {
        self.floor
    }

    /// The upper edge of the bin that all but a few frames stay below, from the floor.
    fn measure(&self) -> i64 {
        let mut sums = [0u32; BINS];
        for second in self.seconds.iter().filter(|second| second.frames > 0) {
            // A second's bins begin where its floor was; the common floor may be lower by now.
            let higher = (second.base - self.floor).max(0);
            let shift = usize::try_from((higher + BIN - 1) / BIN).unwrap_or(BINS).min(BINS);
            for (bin, held) in second.bins.iter().enumerate() {
                sums[(bin + shift).min(BINS - 1)] += u32::from(*held);
            }
        }
        let allowed = self.frames() * LATE_PERMILLE / 1000;
        let mut above = 0;
        for (bin, held) in sums.iter().enumerate().rev() {
            above += held;
            if above > allowed {
                return i64::try_from(bin + 1).unwrap_or(0) * BIN;
            }
        }
        BIN
    }

    fn frames(&self) -> u32 {
        self.seconds.iter().fold(0, |sum: u32, second| sum.saturating_add(second.frames))
    }

    /// The delay that the measure asks for, and how far it may have fallen since the last frame.
    fn wanted(&mut self, at: Instant, fec: bool, length: i64) -> (i64, i64) {
        let since = nanos_of(at.saturating_since(self.last)).min(1_000 * MS);
        self.last = at;
        let mut wanted = nanos_of(MIN_DELAY) + self.edge + MARGIN;
        if fec {
            let lost = self.seconds.iter().fold(0, |sum: u32, second| sum.saturating_add(second.lost));
            if lost.saturating_mul(100) > self.frames().saturating_mul(FEC_LOSS_PERCENT) {
                wanted += length;
            }
        }
        if self.seen < TRUSTED {
            wanted = wanted.max(FIRST_DELAY);
        }
        (wanted.min(nanos_of(MAX_DELAY)), since * FALL / 1_000_000_000)
    }
}
