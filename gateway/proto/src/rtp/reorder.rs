//! Packets in order, each once, held no longer than a bound, with what to ask for again.
//!
//! Stands before a depacketizer. By sequence only: delay and concealment are the playout's business.

use std::time::Duration;

use super::reception::Index;
use crate::Instant;

/// Least time between two requests for one packet: what a round trip may be told too short by.
const MIN_RETRY: Duration = Duration::from_millis(20);
/// Round trip that is assumed before RTCP tells one: across a continent.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);
/// How long a road that overtakes by more than was waited for is taken for one that does.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Most packets that a window holds, whatever is asked for.
const MAX_CAPACITY: usize = 4096;

/// When to ask for missing packets (RFC 4585 section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NackPolicy {
    /// Time that a packet may be late before it counts as lost: asking for what is only out of order
    /// wastes the peer's rate.
    pub patience: Duration,
    /// Requests for one packet.
    pub tries: u8,
}

impl Default for NackPolicy {
    fn default() -> Self {
        // Disorder within a network is a matter of a few milliseconds; a retransmission that was lost
        // twice comes too late for the third.
        Self { patience: Duration::from_millis(10), tries: 3 }
    }
}

/// How a buffer is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReorderConfig {
    /// Packets between the one that is waited for and the newest. At a megabyte a second of video,
    /// 512 are half a second.
    pub capacity: usize,
    /// Longest time that a packet is held for one before it. Zero lets everything through at once.
    pub max_wait: Duration,
    /// Ask for what is missing, where generic NACK was negotiated.
    pub nack: Option<NackPolicy>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Released, or held for the one before it.
    Taken,
    /// Held already; dropped.
    Duplicate,
    /// Its place was released or given up already; dropped.
    Late,
}

/// A packet whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready<T> {
    /// Its index.
    pub index: Index,
    /// Packets before it that were given up, since the one released before.
    pub lost_before: u16,
    /// What was pushed.
    pub item: T,
}

/// Counters of a buffer; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReorderStats {
    /// Packets released.
    pub released: u64,
    /// Packets given up.
    pub lost: u64,
    /// Packets that came after others that follow them, in time.
    pub reordered: u64,
    /// Packets that came after they were asked for, in time.
    pub recovered: u64,
    /// Packets dropped because they were there.
    pub duplicates: u64,
    /// Packets whose turn was over: dropped, or claimed by who can still use them.
    pub late: u64,
    /// Times that the window was too small, so that packets were given up before their time.
    pub overflows: u64,
    /// Requests that went out, one a packet and try.
    pub requests: u64,
}

#[derive(Clone, Debug)]
enum Slot<T> {
    Empty,
    Missing { asked: u8, ask_at: Instant },
    Held { at: Instant, item: T },
}

/// A window over a stream of packets. Allocates when it is made and never again.
///
/// Bound: `capacity` places and `max_wait`. Overflow: what the oldest place waits for is given up,
/// and counted.
#[derive(Clone, Debug)]
pub struct Reorder<T> {
    slots: Box<[Slot<T>]>,
    /// Now, usually, and on a road that overtakes by more, which it is taken for until then.
    max_wait: Duration,
    usual_wait: Duration,
    longest_wait: Duration,
    patient_until: Instant,
    nack: Option<NackPolicy>,
    retry: Duration,
    /// The next to release, and the newest that came: nothing is held when that is before the next.
    next: Option<Index>,
    newest: Index,
    missing: usize,
    held: usize,
    release_at: Option<Instant>,
    ask_at: Option<Instant>,
    lost_before: u16,
    /// Of the 64 places before the next one, those that were given up and have not come since: the
    /// lowest bit is the nearest.
    absent: u64,
    stats: ReorderStats,
}

impl<T> Reorder<T> {
    /// An empty window; the first packet that comes is the first one released.
    pub fn new(config: &ReorderConfig) -> Self {
        let capacity = config.capacity.clamp(2, MAX_CAPACITY);
        Self {
            slots: std::iter::repeat_with(|| Slot::Empty).take(capacity).collect(),
            max_wait: config.max_wait,
            usual_wait: config.max_wait,
            longest_wait: config.max_wait,
            patient_until: Instant::ZERO,
            nack: config.nack,
            retry: DEFAULT_ROUND_TRIP,
            next: None,
            newest: 0,
            missing: 0,
            held: 0,
            release_at: None,
            ask_at: None,
            lost_before: 0,
            absent: 0,
            stats: ReorderStats::default(),
        }
    }

    /// Waits for up to `longest` once a packet has come after all that was given up, and for as long
    /// as packets go on to need more than the usual time: what waits for nothing else than order can
    /// wait shortly on a good road, and on others rather longer than lose it.
    #[must_use]
    pub fn patient(mut self, longest: Duration) -> Self {
        self.longest_wait = longest.max(self.usual_wait);
        self
    }

    /// Whether this packet was given up, not long ago, and comes for the first time: of use to who
    /// orders by time and may still play it. From now on it counts as there, and as late.
    pub fn claim_given_up(&mut self, index: Index) -> bool {
        let absent = self.claim(index);
        self.stats.late = self.stats.late.saturating_add(u64::from(absent));
        absent
    }

    fn claim(&mut self, index: Index) -> bool {
        let Some(back) = self.next.and_then(|next| next.checked_sub(index)?.checked_sub(1)) else {
            return false;
        };
        let place = u32::try_from(back).ok().and_then(|back| 1_u64.checked_shl(back)).unwrap_or(0);
        let absent = self.absent & place != 0;
        self.absent &= !place;
        absent
    }

    /// The usual time was too short for a packet that came now.
    fn needs_patience(&mut self, now: Instant) {
        self.max_wait = self.longest_wait;
        self.patient_until = now + REMEMBERED;
    }

    /// A packet came. Releases what is due by it, in order.
    pub fn push(&mut self, now: Instant, index: Index, item: T, release: &mut dyn FnMut(Ready<T>)) -> Pushed {
        let next = *self.next.get_or_insert_with(|| {
            self.newest = index.saturating_sub(1);
            index
        });
        if now >= self.patient_until {
            self.max_wait = self.usual_wait;
        }
        if index < next {
            if self.claim(index) {
                self.needs_patience(now);
            }
            self.stats.late = self.stats.late.saturating_add(1);
            return Pushed::Late;
        }
        if index > self.newest {
            self.make_room(index, release);
            self.mark_missing(now, index);
        } else {
            match self.slot(index) {
                Slot::Held { .. } => {
                    self.stats.duplicates = self.stats.duplicates.saturating_add(1);
                    return Pushed::Duplicate;
                }
                Slot::Missing { asked, .. } => {
                    let asked = *asked > 0;
                    // Who has waited longest would have had to go by then.
                    let held_since = |at: Instant| at + self.usual_wait < now + self.max_wait;
                    if self.max_wait > self.usual_wait && self.release_at.is_some_and(held_since) {
                        self.needs_patience(now);
                    }
                    self.missing = self.missing.saturating_sub(1);
                    self.stats.reordered = self.stats.reordered.saturating_add(1);
                    self.stats.recovered = self.stats.recovered.saturating_add(u64::from(asked));
                }
                Slot::Empty => {}
            }
        }
        *self.slot(index) = Slot::Held { at: now, item };
        self.held = self.held.saturating_add(1);
        self.release_row(release);
        self.poll(now, release);
        Pushed::Taken
    }

    /// Releases what has waited long enough, and what follows it. Call it at [`Self::deadline`].
    pub fn poll(&mut self, now: Instant, release: &mut dyn FnMut(Ready<T>)) {
        if self.release_at.is_none_or(|at| at > now) {
            return;
        }
        let Some(next) = self.next else { return };
        let mut due = next;
        for index in next..=self.newest {
            let max_wait = self.max_wait;
            if matches!(self.slot(index), Slot::Held { at, .. } if *at + max_wait <= now) {
                due = index.saturating_add(1);
            }
        }
        self.give_up_to(due, release);
        self.release_row(release);
    }

    /// When [`Self::poll`] or [`Self::requests`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.release_at, self.ask_at) {
            (Some(release), Some(ask)) => Some(release.min(ask)),
            (release, ask) => release.or(ask),
        }
    }

    /// Writes the sequence numbers to ask for now to the front of `out`; returns how many. Those for
    /// which there is no room are asked for next time.
    pub fn requests(&mut self, now: Instant, out: &mut [u16]) -> usize {
        let (Some(policy), Some(next)) = (self.nack, self.next) else { return 0 };
        if self.ask_at.is_none_or(|at| at > now) {
            return 0;
        }
        let retry = self.retry;
        let mut count = 0usize;
        let mut soonest = None;
        for index in next..=self.newest {
            let Slot::Missing { asked, ask_at } = self.slot(index) else { continue };
            if *asked >= policy.tries {
                continue;
            }
            if *ask_at <= now
                && let Some(room) = out.get_mut(count)
            {
                *room = u16::try_from(index & 0xffff).unwrap_or(0);
                count = count.saturating_add(1);
                *asked = asked.saturating_add(1);
                *ask_at = now + retry;
            }
            if *asked < policy.tries {
                soonest = Some(soonest.map_or(*ask_at, |at: Instant| at.min(*ask_at)));
            }
        }
        self.ask_at = soonest;
        self.stats.requests = self.stats.requests.saturating_add(u64::try_from(count).unwrap_or(0));
        count
    }

    /// The round trip to the peer. An answer to a request takes that long and some jitter, for which
    /// half of it is allowed: asking too soon doubles the requests and brings nothing.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        let half = Duration::from_nanos(u64::try_from(round_trip.as_nanos() / 2).unwrap_or(u64::MAX));
        self.retry = round_trip.saturating_add(half).max(MIN_RETRY);
    }

    /// Releases everything that is held, and forgets the source: as at its end, or when it restarts.
    pub fn flush(&mut self, release: &mut dyn FnMut(Ready<T>)) {
        self.give_up_to(self.newest.saturating_add(1), release);
        self.next = None;
        self.lost_before = 0;
        self.absent = 0;
    }

    /// The counters.
    pub const fn stats(&self) -> ReorderStats {
        self.stats
    }

    /// Packets held.
    pub const fn held(&self) -> usize {
        self.held
    }

    fn slot(&mut self, index: Index) -> &mut Slot<T> {
        let capacity = u64::try_from(self.slots.len()).unwrap_or(1).max(1);
        let place = usize::try_from(index.checked_rem(capacity).unwrap_or(0)).unwrap_or(0);
        // The place is below the length, which is at least two.
        #[allow(clippy::indexing_slicing, reason = "a remainder of the length, which is never zero")]
        &mut self.slots[place]
    }

    /// Gives up what lies too far behind `index` to share the window with it.
    fn make_room(&mut self, index: Index, release: &mut dyn FnMut(Ready<T>)) {
        let capacity = u64::try_from(self.slots.len()).unwrap_or(1);
        let first = index.saturating_add(1).saturating_sub(capacity);
        if self.next.is_some_and(|next| next < first) {
            self.stats.overflows = self.stats.overflows.saturating_add(1);
            self.give_up_to(first, release);
            self.release_row(release);
        }
    }

    /// The places between the newest so far and `index`, which is the newest now.
    fn mark_missing(&mut self, now: Instant, index: Index) {
        let first = self.newest.saturating_add(1).max(self.next.unwrap_or(index));
        let ask_at = now + self.nack.map_or(Duration::ZERO, |policy| policy.patience);
        for missing in first..index {
            *self.slot(missing) = Slot::Missing { asked: 0, ask_at };
            self.missing = self.missing.saturating_add(1);
        }
        if first < index && self.nack.is_some_and(|policy| policy.tries > 0) {
            self.ask_at = Some(self.ask_at.map_or(ask_at, |at| at.min(ask_at)));
        }
        self.newest = index;
    }

    /// Releases what is held before `end` and counts what is not as lost.
    fn give_up_to(&mut self, end: Index, release: &mut dyn FnMut(Ready<T>)) {
        let Some(mut next) = self.next else { return };
        while next < end && next <= self.newest {
            self.step(next, release);
            next = next.saturating_add(1);
        }
        // Beyond the newest nothing was ever marked.
        let never_seen = end.saturating_sub(next);
        self.lose(never_seen);
        let places = u32::try_from(never_seen).unwrap_or(u32::MAX);
        let vacant = 1_u64.checked_shl(places).map_or(u64::MAX, |bit| bit.wrapping_sub(1));
        self.absent = self.absent.checked_shl(places).unwrap_or(0) | vacant;
        self.next = Some(next.max(end));
        self.reckon();
    }

    /// Releases the packets that follow each other at the front.
    fn release_row(&mut self, release: &mut dyn FnMut(Ready<T>)) {
        let Some(mut next) = self.next else { return };
        while next <= self.newest && matches!(self.slot(next), Slot::Held { .. }) {
            self.step(next, release);
            next = next.saturating_add(1);
        }
        self.next = Some(next);
        self.reckon();
    }

    /// Empties one place.
    fn step(&mut self, index: Index, release: &mut dyn FnMut(Ready<T>)) {
        self.absent = self.absent.wrapping_shl(1);
        match std::mem::replace(self.slot(index), Slot::Empty) {
            Slot::Held { item, .. } => {
                self.held = self.held.saturating_sub(1);
                self.stats.released = self.stats.released.saturating_add(1);
                release(Ready { index, lost_before: std::mem::take(&mut self.lost_before), item });
            }
            Slot::Missing { .. } => {
                self.missing = self.missing.saturating_sub(1);
                self.absent |= 1;
                self.lose(1);
            }
            Slot::Empty => {}
        }
    }

    fn lose(&mut self, packets: u64) {
        self.stats.lost = self.stats.lost.saturating_add(packets);
        self.lost_before = self.lost_before.saturating_add(u16::try_from(packets).unwrap_or(u16::MAX));
    }

    /// When the first of the packets that are held has waited long enough. Looks through the window
    /// only while something is missing.
    fn reckon(&mut self) {
        if self.missing == 0 {
            self.ask_at = None;
        }
        self.release_at = None;
        let (true, Some(next)) = (self.held > 0, self.next) else { return };
        let mut oldest = Instant::FAR;
        for index in next..=self.newest {
            if let Slot::Held { at, .. } = self.slot(index) {
                oldest = oldest.min(*at);
            }
        }
        self.release_at = Some(oldest + self.max_wait);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_millis(60);

    fn window(capacity: usize, nack: bool) -> Reorder<u64> {
        let nack = nack.then(NackPolicy::default);
        Reorder::new(&ReorderConfig { capacity, max_wait: WAIT, nack })
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn push(window: &mut Reorder<u64>, millis: u64, index: Index) -> (Pushed, Vec<(Index, u16)>) {
        let mut ready = Vec::new();
        let pushed = window.push(at(millis), index, index, &mut |packet| {
            assert_eq!(packet.index, packet.item);
            ready.push((packet.index, packet.lost_before));
        });
        (pushed, ready)
    }

    fn poll(window: &mut Reorder<u64>, millis: u64) -> Vec<(Index, u16)> {
        let mut ready = Vec::new();
        window.poll(at(millis), &mut |packet| ready.push((packet.index, packet.lost_before)));
        ready
    }

    #[test]
    fn packets_in_order_pass_at_once() {
        let mut window = window(8, false);
        for index in 100..300 {
            assert_eq!(push(&mut window, 0, index), (Pushed::Taken, vec![(index, 0)]));
        }
        assert_eq!((window.deadline(), window.held()), (None, 0));
    }

    #[test]
    fn a_swap_is_put_right_and_duplicates_vanish() {
        let mut window = window(8, false);
        push(&mut window, 0, 1);
        assert_eq!(push(&mut window, 1, 3), (Pushed::Taken, vec![]));
        assert_eq!(push(&mut window, 2, 3), (Pushed::Duplicate, vec![]));
        assert_eq!(push(&mut window, 3, 2), (Pushed::Taken, vec![(2, 0), (3, 0)]));
        assert_eq!(push(&mut window, 4, 2), (Pushed::Late, vec![]));
        let stats = window.stats();
        assert_eq!((stats.reordered, stats.duplicates, stats.late, stats.lost), (1, 1, 1, 0));
    }

    #[test]
    fn a_gap_is_given_up_when_the_first_behind_it_has_waited() {
        let mut window = window(16, false);
        push(&mut window, 0, 1);
        push(&mut window, 10, 4);
        push(&mut window, 30, 6);
        push(&mut window, 40, 5);
        assert_eq!(window.deadline(), Some(at(70)));
        assert_eq!(poll(&mut window, 69), []);
        assert_eq!(poll(&mut window, 70), [(4, 2), (5, 0), (6, 0)]);
        assert_eq!((window.deadline(), window.stats().lost), (None, 2));
        // A packet behind a second gap waits its own time.
        push(&mut window, 80, 8);
        push(&mut window, 90, 10);
        assert_eq!(poll(&mut window, 140), [(8, 1)]);
        assert_eq!(window.deadline(), Some(at(150)));
        assert_eq!(poll(&mut window, 150), [(10, 1)]);
    }

    #[test]
    fn what_was_given_up_can_be_claimed_once_when_it_comes() {
        let mut window = window(16, false);
        push(&mut window, 0, 1);
        push(&mut window, 10, 4);
        poll(&mut window, 70);
        let claims = |window: &mut Reorder<u64>| {
            (0..6).filter(|index| window.claim_given_up(*index)).collect::<Vec<_>>()
        };
        assert_eq!(claims(&mut window), [2, 3]);
        assert_eq!(claims(&mut window), []);
        // A jump beyond the window leaves its last 64 places, and those of before are forgotten.
        push(&mut window, 80, 1000);
        poll(&mut window, 140);
        assert!(window.claim_given_up(999) && window.claim_given_up(937));
        assert!(!window.claim_given_up(1000) && !window.claim_given_up(936) && !window.claim_given_up(2000));
        assert_eq!(window.stats().late, 4);
    }

    #[test]
    fn a_road_that_overtakes_by_more_is_waited_for_longer() {
        let mut window = window(64, false).patient(Duration::from_millis(120));
        push(&mut window, 0, 1);
        push(&mut window, 10, 3);
        assert_eq!(poll(&mut window, 70), [(3, 1)]);
        // It was not lost: from now on there is more time, as long as it is needed,
        assert_eq!(push(&mut window, 90, 2), (Pushed::Late, vec![]));
        for second in 1..60 {
            let (now, index) = (second * 1_000, second * 2 + 2);
            push(&mut window, now, index + 1);
            assert_eq!(window.deadline(), Some(at(now + 120)));
            assert_eq!(push(&mut window, now + 100, index).1, [(index, 0), (index + 1, 0)]);
        }
        // and when it was not for half a minute, no longer.
        for second in 60..91 {
            push(&mut window, second * 1_000, second + 62);
        }
        push(&mut window, 91_000, 154);
        assert_eq!(window.deadline(), Some(at(91_060)));
    }

    #[test]
    fn what_is_lost_is_not_waited_for_longer() {
        let mut window = window(64, false).patient(Duration::from_millis(120));
        push(&mut window, 0, 1);
        push(&mut window, 10, 3);
        assert_eq!(poll(&mut window, 70), [(3, 1)]);
        // A twin of what was there tells nothing.
        assert_eq!(push(&mut window, 90, 3), (Pushed::Late, vec![]));
        push(&mut window, 100, 5);
        assert_eq!(window.deadline(), Some(at(160)));
    }

    #[test]
    fn a_small_window_gives_up_early_but_keeps_order() {
        let mut window = window(4, false);
        push(&mut window, 0, 1);
        push(&mut window, 1, 3);
        push(&mut window, 1, 5);
        assert_eq!(push(&mut window, 2, 6), (Pushed::Taken, vec![(3, 1)]));
        assert_eq!(push(&mut window, 2, 1000), (Pushed::Taken, vec![(5, 1), (6, 0)]));
        assert_eq!((window.stats().overflows, window.stats().lost), (2, 2 + 990));
        assert_eq!(poll(&mut window, 62), [(1000, 993)]);
        assert_eq!(window.stats().lost, 2 + 993);
    }

    #[test]
    fn no_wait_lets_everything_through_and_still_counts() {
        let mut window: Reorder<u64> =
            Reorder::new(&ReorderConfig { capacity: 8, max_wait: Duration::ZERO, nack: None });
        assert_eq!(push(&mut window, 0, 1).1, [(1, 0)]);
        assert_eq!(push(&mut window, 0, 4).1, [(4, 2)]);
        assert_eq!(push(&mut window, 0, 3), (Pushed::Late, vec![]));
    }

    #[test]
    fn missing_packets_are_asked_for_after_some_patience_until_it_is_no_use() {
        let mut window = window(64, true);
        window.set_round_trip(Duration::from_millis(10));
        push(&mut window, 0, 65_534);
        push(&mut window, 0, 65_537);
        let mut out = [0; 8];
        assert_eq!((window.requests(at(9), &mut out), window.deadline()), (0, Some(at(10))));
        assert_eq!((window.requests(at(10), &mut out), &out[..2]), (2, &[65_535, 0][..]));
        assert_eq!(window.requests(at(29), &mut out), 0);
        assert_eq!(push(&mut window, 29, 65_535).1, [(65_535, 0)]);
        // Only one has room, then one more try, then the wait is over.
        assert_eq!((window.requests(at(30), &mut out[..1]), out[0]), (1, 0));
        assert_eq!(window.requests(at(50), &mut out), 1);
        assert_eq!(window.requests(at(55), &mut out), 0);
        assert_eq!(window.deadline(), Some(at(60)));
        assert_eq!(poll(&mut window, 60), [(65_537, 1)]);
        assert_eq!((window.deadline(), window.requests(at(70), &mut out)), (None, 0));
        let stats = window.stats();
        assert_eq!((stats.requests, stats.recovered, stats.lost), (4, 1, 1));
    }

    #[test]
    fn requests_that_have_no_room_come_next() {
        let mut window = window(64, true);
        push(&mut window, 0, 1);
        push(&mut window, 0, 6);
        let mut out = [0; 3];
        assert_eq!((window.requests(at(10), &mut out), out), (3, [2, 3, 4]));
        assert_eq!((window.requests(at(10), &mut out), out[0]), (1, 5));
        assert_eq!(window.requests(at(10), &mut out), 0);
    }

    #[test]
    fn a_flush_releases_all_and_begins_anew() {
        let mut window = window(16, true);
        push(&mut window, 0, 1);
        push(&mut window, 0, 3);
        push(&mut window, 0, 5);
        let mut ready = Vec::new();
        window.flush(&mut |packet| ready.push((packet.index, packet.lost_before)));
        assert_eq!(ready, [(3, 1), (5, 1)]);
        assert_eq!((window.held(), window.deadline()), (0, None));
        assert_eq!(push(&mut window, 1, 1 << 40).1, [(1 << 40, 0)]);
    }

    /// Plays packets through the window in virtual time, each with its delay; `None` is lost. Returns
    /// what came out: index, time of arrival, time of release, lost before.
    fn play(delays: &[Option<u64>], capacity: usize) -> (Vec<(Index, u64, u64, u16)>, ReorderStats) {
        let mut arrivals: Vec<(u64, Index)> = (0u64..)
            .zip(delays)
            .filter_map(|(number, delay)| delay.map(|delay| (number * 10 + delay, 500 + number)))
            .collect();
        arrivals.sort_unstable();
        let mut window: Reorder<u64> = Reorder::new(&ReorderConfig { capacity, max_wait: WAIT, nack: None });
        let mut out = Vec::new();
        let note = |now: u64| {
            move |out: &mut Vec<(Index, u64, u64, u16)>, packet: Ready<u64>| {
                out.push((packet.index, packet.item, now, packet.lost_before));
            }
        };
        for (millis, index) in arrivals {
            while let Some(deadline) = window.deadline().filter(|deadline| *deadline < at(millis)) {
                let now = deadline.as_nanos() / 1_000_000;
                let note = note(now);
                window.poll(deadline, &mut |packet| note(&mut out, packet));
            }
            let note = note(millis);
            window.push(at(millis), index, millis, &mut |packet| note(&mut out, packet));
        }
        while let Some(deadline) = window.deadline() {
            let now = deadline.as_nanos() / 1_000_000;
            let note = note(now);
            window.poll(deadline, &mut |packet| note(&mut out, packet));
        }
        (out, window.stats())
    }

    proptest! {
        #[test]
        fn any_disorder_within_the_bound_comes_out_whole(delays in proptest::collection::vec(0u64..50, 1..200)) {
            // The first packet begins the order, so it is the first to come.
            let mut delays: Vec<_> = delays.into_iter().map(Some).collect();
            delays[0] = Some(0);
            let (out, stats) = play(&delays, 64);
            let order: Vec<Index> = out.iter().map(|(index, ..)| *index).collect();
            let expected: Vec<Index> = (500..).take(delays.len()).collect();
            prop_assert_eq!(order, expected);
            prop_assert_eq!((stats.lost, stats.late), (0, 0));
            prop_assert!(out.iter().all(|(_, arrival, release, lost)| release - arrival <= 60 && *lost == 0));
        }

        #[test]
        fn whatever_happens_order_and_bounds_hold(
            delays in proptest::collection::vec(proptest::option::weighted(0.8, 0u64..300), 1..200),
            capacity in 2usize..40,
        ) {
            let (out, stats) = play(&delays, capacity);
            prop_assert!(out.windows(2).all(|pair| pair[0].0 < pair[1].0), "order, no duplicates");
            prop_assert!(out.iter().all(|(_, arrival, release, _)| release - arrival <= 60));
            for pair in out.windows(2) {
                prop_assert_eq!(u64::from(pair[1].3), pair[1].0 - pair[0].0 - 1, "every gap is told");
            }
            let came = delays.iter().flatten().count() as u64;
            prop_assert_eq!(stats.released + stats.late, came);
        }
    }
}
