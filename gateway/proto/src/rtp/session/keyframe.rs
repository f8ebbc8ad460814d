//! When to ask for a keyframe. Many may want one at once (each viewer of a relay, the decoder, our
//! own loss): who makes it is asked once a second at most.

use std::time::Duration;

use crate::Instant;

/// Between two requests. A keyframe takes an encoder tens of milliseconds and a burst of packets:
/// asking faster than once a second makes the picture worse, not better.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

/// Or this long where a sixth of all packets or more is lost: so often the request does not arrive, or the
/// beginning of what it brings, and pictures would stand for seconds.
const KEYFRAME_INTERVAL_LOSSY: Duration = Duration::from_millis(500);

/// Where packets are lost, a request goes out once more so long after it went first: one of ten that does not arrive
/// costs a second of pictures, its repetition 100 bytes. Not at once, as losses come in rows, and within the time of
/// a picture: who merges requests makes one keyframe of both. Who does not makes two, and what the first one lost
/// may be in the second.
const REPEAT_AFTER: Duration = Duration::from_millis(30);

/// So long after a request was heard one without a number may be its repetition: ours come 30 ms later, and a road
/// makes that more. Nobody whose picture broke anew is kept waiting by it: he asks again.
const SAID_TWICE: Duration = Duration::from_millis(100);

/// Requests for one wish. Whoever has not answered by then does not know the request; the next
/// wish tries again.
const TRIES: u8 = 10;

/// How much of the packets a road loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Loss {
    /// So few that a request arrives.
    #[default]
    Little,
    /// One of 32 or more.
    Some,
    /// A sixth or more.
    Much,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    New,
    /// The last one once more: the same request for who got it before.
    Repeated,
}

/// Merged wishes for a keyframe of one source.
#[derive(Debug, Default)]
pub(super) struct KeyframeWish {
    asked: Option<Instant>,
    /// Requests that are left.
    tries: u8,
    loss: Loss,
    /// When the last request goes out once more.
    repeat: Option<Instant>,
}

impl KeyframeWish {
    /// Somebody wants one.
    pub(super) const fn want(&mut self) {
        self.tries = TRIES;
    }

    /// A peer says that it wants one, in words that have no number. What it says again at once after it was heard
    /// is the same wish, which may have been granted meanwhile.
    pub(super) fn want_unnumbered(&mut self, now: Instant) {
        let again = self.asked.is_some_and(|asked| now.saturating_since(asked) < SAID_TWICE);
        if self.tries > 0 || !again {
            self.want();
        }
    }

    /// How much the road loses.
    pub(super) const fn set_loss(&mut self, loss: Loss) {
        self.loss = loss;
    }

    /// One began to arrive: all wishes so far are granted.
    pub(super) const fn arrived(&mut self) {
        self.tries = 0;
        self.repeat = None;
    }

    /// What the peer is to be sent now, if anything. The wish stays until a keyframe arrives: the request itself
    /// may be lost.
    pub(super) fn take(&mut self, now: Instant) -> Option<Request> {
        if self.next().is_some_and(|at| at <= now) {
            self.asked = Some(now);
            self.tries = self.tries.saturating_sub(1);
            self.repeat = (self.loss != Loss::Little).then(|| now + REPEAT_AFTER);
            return Some(Request::New);
        }
        self.repeat.take_if(|at| *at <= now).map(|_| Request::Repeated)
    }

    /// When to call [`Self::take`], if anybody wants one.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.next(), self.repeat].into_iter().flatten().min()
    }

    /// When to ask anew.
    fn next(&self) -> Option<Instant> {
        let interval = if self.loss == Loss::Much { KEYFRAME_INTERVAL_LOSSY } else { KEYFRAME_INTERVAL };
        (self.tries > 0).then(|| self.asked.map_or(Instant::ZERO, |asked| asked + interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When something was to be sent, and what.
    fn sent(wish: &mut KeyframeWish, millis: std::ops::Range<u64>) -> Vec<(u64, Request)> {
        let take = |ms| Some((ms, wish.take(Instant::from_millis(10_000 + ms))?));
        millis.filter_map(take).collect()
    }

    fn asked(wish: &mut KeyframeWish, millis: std::ops::Range<u64>) -> Vec<u64> {
        let new = |(ms, request)| (request == Request::New).then_some(ms);
        sent(wish, millis).into_iter().filter_map(new).collect()
    }

    #[test]
    fn wishes_merge_and_repeat_until_a_keyframe_comes() {
        let mut wish = KeyframeWish::default();
        wish.want();
        wish.want();
        assert_eq!(asked(&mut wish, 0..100), [0]);
        wish.want();
        assert_eq!(asked(&mut wish, 100..2500), [1000, 2000]);
        wish.arrived();
        assert_eq!(asked(&mut wish, 2500..9000), [0; 0]);
        // After the interval a new wish goes at once.
        wish.want();
        assert_eq!(asked(&mut wish, 9000..9500), [9000]);
    }

    #[test]
    fn where_packets_are_lost_each_request_goes_out_twice() {
        let mut wish = KeyframeWish::default();
        wish.want();
        assert_eq!(sent(&mut wish, 0..100), [(0, Request::New)]);
        wish.set_loss(Loss::Some);
        let twice = [(1000, Request::New), (1030, Request::Repeated), (2000, Request::New)];
        assert_eq!(sent(&mut wish, 100..2010), twice);
        assert_eq!(wish.due(), Some(Instant::from_millis(12_030)));
        // It has come in the meantime.
        wish.arrived();
        assert_eq!(wish.due(), None);
        assert_eq!(sent(&mut wish, 2010..9000), []);
    }

    #[test]
    fn who_wants_one_more_does_not_hasten_or_hold_the_repetition() {
        let mut wish = KeyframeWish::default();
        wish.set_loss(Loss::Some);
        wish.want();
        assert_eq!(sent(&mut wish, 0..10), [(0, Request::New)]);
        wish.want();
        assert_eq!(sent(&mut wish, 10..1000), [(30, Request::Repeated)]);
    }

    #[test]
    fn what_a_peer_says_twice_is_one_wish_though_it_was_granted_in_between() {
        let at = |ms: u64| Instant::from_millis(10_000 + ms);
        let mut wish = KeyframeWish::default();
        wish.want_unnumbered(at(0));
        assert_eq!(asked(&mut wish, 0..10), [0]);
        wish.arrived();
        wish.want_unnumbered(at(40));
        assert_eq!(asked(&mut wish, 40..2000), [0; 0]);
        wish.want_unnumbered(at(2000));
        assert_eq!(asked(&mut wish, 2000..2010), [2000]);
    }

    #[test]
    fn where_much_is_lost_one_asks_twice_a_second() {
        let mut wish = KeyframeWish::default();
        wish.set_loss(Loss::Much);
        wish.want();
        assert_eq!(asked(&mut wish, 0..1_200), [0, 500, 1000]);
        wish.set_loss(Loss::Some);
        assert_eq!(asked(&mut wish, 1_200..2_500), [2000]);
    }

    #[test]
    fn a_peer_that_never_answers_is_not_asked_for_ever() {
        let mut wish = KeyframeWish::default();
        wish.set_loss(Loss::Some);
        wish.want();
        assert_eq!(sent(&mut wish, 0..60_000).len(), 2 * usize::from(TRIES));
    }
}
