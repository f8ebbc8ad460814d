//! How often a media thread looks at its sockets.
//!
//! Packets of many streams come one by one, and each would wake the thread anew: a third of what a
//! relay costs then is falling asleep, waking up and cold caches. Where they come close together the
//! thread rests between two looks, so that several are read at once, as network cards do with their
//! interrupts.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

/// Over which packets are counted: short, so that a thread that becomes busy notices, and long against
/// [`REST`].
const WINDOW: Duration = Duration::from_millis(50);

/// Sockets with packets in a window from which on the thread rests: 2000 a second, so that a rest takes
/// in more than one. Twenty calls of sound on one thread.
const DENSE: usize = 100;

/// How long it rests: what a packet may wait, and far less than the jitter of any road; a playout buffer
/// is 20 ms at least.
pub(super) const REST: Duration = Duration::from_millis(1);

/// Counts what one thread reads.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Instant,
    read: usize,
    dense: bool,
}

impl Pace {
    /// So many sockets had something in the look that has just ended. How long to rest before the next.
    pub(super) fn after(&mut self, now: Instant, read: usize) -> Option<Duration> {
        self.read += read;
        if now.saturating_since(self.since) >= WINDOW {
            self.dense = self.read >= DENSE;
            (self.since, self.read) = (now, 0);
        }
        self.dense.then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks, each that long after the one before and with so many sockets: how many were followed by a
    /// rest.
    fn rests(pace: &mut Pace, from: u64, looks: u64, apart: u64, read: usize) -> usize {
        let at = |look: u64| Instant::from_nanos((from + look * apart) * 1_000);
        (0..looks).filter(|look| pace.after(at(*look), read).is_some()).count()
    }

    #[test]
    fn few_packets_are_read_as_they_come() {
        let mut pace = Pace::default();
        // Ten calls: a packet each millisecond.
        assert_eq!(rests(&mut pace, 1_000_000, 1_000, 1_000, 1), 0);
    }

    #[test]
    fn many_are_read_together_and_few_again_as_they_come() {
        let mut pace = Pace::default();
        // A packet each 200 us: dense after the first window, which begins with the first look.
        assert!(rests(&mut pace, 1_000_000, 1_000, 200, 1) >= 700);
        // Then a look each millisecond finds five, and rests go on.
        assert_eq!(rests(&mut pace, 1_200_000, 200, 1_000, 5), 200);
        // Most hang up: two windows later nobody waits.
        rests(&mut pace, 1_400_000, 20, 5_000, 1);
        assert_eq!(rests(&mut pace, 1_500_000, 100, 5_000, 1), 0);
    }
}
