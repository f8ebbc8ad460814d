//! When to ask a peer for a keyframe. Many may want one at once (each viewer of a relay, the
//! decoder, our own loss): the peer hears of it once a second at most.

use std::time::Duration;

use crate::Instant;

/// Between two requests. A keyframe takes an encoder tens of milliseconds and a burst of packets:
/// asking faster than once a second makes the picture worse, not better.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

/// Merged requests of one source.
#[derive(Debug, Default)]
pub(super) struct KeyframeRequests {
    asked: Option<Instant>,
    wanted: bool,
}

impl KeyframeRequests {
    /// Somebody wants one.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// One began to arrive: all wishes so far are granted.
    pub(super) const fn arrived(&mut self) {
        self.wanted = false;
    }

    /// True when the peer is to be asked now. The wish stays until one arrives: the request itself
    /// may be lost.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|at| at <= now);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// When to ask, if anybody wants one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wanted.then(|| self.asked.map_or(Instant::ZERO, |asked| asked + KEYFRAME_INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_merge_and_repeat_until_a_keyframe_comes() {
        let mut requests = KeyframeRequests::default();
        let start = Instant::from_millis(10_000);
        let mut asked = Vec::new();
        for ms in 0..3500 {
            let now = start + Duration::from_millis(ms);
            if ms < 100 {
                requests.want();
            }
            if requests.take(now) {
                asked.push(ms);
            }
            if ms == 2500 {
                requests.arrived();
            }
        }
        assert_eq!(asked, [0, 1000, 2000]);
        // A wish after the keyframe waits for the interval only if that is not over.
        requests.want();
        assert!(requests.take(start + Duration::from_millis(3600)));
    }
}
