//! When to ask for a keyframe. Many may want one at once (each viewer of a relay, the decoder, our
//! own loss): who makes it hears of it once a second at most.

use std::time::Duration;

use crate::Instant;

/// Between two requests. A keyframe takes an encoder tens of milliseconds and a burst of packets:
/// asking faster than once a second makes the picture worse, not better.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

/// Or this long where a sixth of all packets or more is lost: so often the request does not arrive, or the
/// beginning of what it brings, and pictures would stand for seconds.
const KEYFRAME_INTERVAL_LOSSY: Duration = Duration::from_millis(500);

/// Requests for one wish. Whoever has not answered by then does not know the request; the next
/// wish tries again.
const TRIES: u8 = 10;

/// Merged wishes for a keyframe of one source.
#[derive(Debug, Default)]
pub(super) struct KeyframeWish {
    asked: Option<Instant>,
    /// Requests that are left.
    tries: u8,
    /// The road loses a sixth or more.
    lossy: bool,
}

impl KeyframeWish {
    /// Somebody wants one.
    pub(super) const fn want(&mut self) {
        self.tries = TRIES;
    }

    /// How much the road loses.
    pub(super) const fn set_lossy(&mut self, lossy: bool) {
        self.lossy = lossy;
    }

    /// One began to arrive: all wishes so far are granted.
    pub(super) const fn arrived(&mut self) {
        self.tries = 0;
    }

    /// True when the peer is to be asked now. The wish stays until one arrives: the request itself
    /// may be lost.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|at| at <= now);
        if due {
            self.asked = Some(now);
            self.tries = self.tries.saturating_sub(1);
        }
        due
    }

    /// When to ask, if anybody wants one.
    pub(super) fn due(&self) -> Option<Instant> {
        let interval = if self.lossy { KEYFRAME_INTERVAL_LOSSY } else { KEYFRAME_INTERVAL };
        (self.tries > 0).then(|| self.asked.map_or(Instant::ZERO, |asked| asked + interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(wish: &mut KeyframeWish, millis: std::ops::Range<u64>) -> Vec<u64> {
        millis.filter(|ms| wish.take(Instant::from_millis(10_000 + ms))).collect()
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
    fn where_much_is_lost_one_asks_twice_a_second() {
        let mut wish = KeyframeWish::default();
        wish.set_lossy(true);
        wish.want();
        assert_eq!(asked(&mut wish, 0..1_200), [0, 500, 1000]);
        wish.set_lossy(false);
        assert_eq!(asked(&mut wish, 1_200..2_500), [2000]);
    }

    #[test]
    fn a_peer_that_never_answers_is_not_asked_for_ever() {
        let mut wish = KeyframeWish::default();
        wish.want();
        assert_eq!(asked(&mut wish, 0..60_000).len(), usize::from(TRIES));
    }
}
