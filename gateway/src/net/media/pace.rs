//! How often a media thread looks at its sockets.
//!
//! Packets of many streams come one by one, and each would wake the thread anew: a third of what a
//! relay costs then is falling asleep, waking up and cold caches. Where they come close together the
//! thread rests between two looks, so that several are read at once, as network cards do with their
//! interrupts.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

/// Over which packets are counted: short, so that a thread that becomes busy notices, and long against
/// any rest.
const WINDOW: Duration = Duration::from_millis(50);

/// From so many sockets with packets in a window on the thread rests so long, the densest first. A rest
/// pays when it takes in more than one packet, which one of a millisecond does from 2000 a second on:
/// twenty calls of sound on one thread. From 4000 on two milliseconds take in eight and halve once more
/// what falling asleep and waking cost each of them; longer ones would save less than they did already.
///
/// A packet waits half a rest on average. That is far less than the jitter of any road, and less than
/// a tenth of the shortest playout buffer, 20 ms, when it waits all of it.
const RESTS: [(usize, Duration); 2] = [(200, Duration::from_millis(2)), (100, Duration::from_millis(1))];

/// Counts what one thread reads.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Instant,
    read: usize,
    rest: Option<Duration>,
}

impl Pace {
    /// So many sockets had something in the look that has just ended; `left`: not all of it was read. How long
    /// to rest before the next. What is left is read at once: a burst is not drawn out, and where a flood comes to
    /// one socket, its buffer would be full and what is wanted lost with the rest.
    pub(super) fn after(&mut self, now: Instant, read: usize, left: bool) -> Option<Duration> {
        self.read += read;
        if now.saturating_since(self.since) >= WINDOW {
            let fitting = RESTS.iter().find(|(dense, _)| self.read >= *dense);
            self.rest = fitting.map(|(_, rest)| *rest);
            (self.since, self.read) = (now, 0);
        }
        self.rest.filter(|_| !left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks, each that long after the one before and with so many sockets: how many were followed by a
    /// rest of one millisecond and of two.
    fn rests(pace: &mut Pace, from: u64, looks: u64, apart: u64, read: usize) -> [usize; 2] {
        let at = |look: u64| Instant::from_nanos((from + look * apart) * 1_000);
        let rests: Vec<_> = (0..looks).filter_map(|look| pace.after(at(look), read, false)).collect();
        [1, 2].map(|millis| rests.iter().filter(|rest| rest.as_millis() == millis).count())
    }

    #[test]
    fn few_packets_are_read_as_they_come() {
        let mut pace = Pace::default();
        // Ten calls: a packet each millisecond.
        assert_eq!(rests(&mut pace, 1_000_000, 1_000, 1_000, 1), [0, 0]);
    }

    #[test]
    fn many_are_read_together_and_few_again_as_they_come() {
        let mut pace = Pace::default();
        // A packet each 400 us: dense after the first window, which begins with the first look.
        let [short, long] = rests(&mut pace, 1_000_000, 1_000, 400, 1);
        assert!(short >= 850 && long == 0, "{short} and {long}");
        // Then a look each millisecond finds two or three, and rests go on.
        assert_eq!(rests(&mut pace, 1_400_000, 200, 1_000, 3), [200, 0]);
        // Most hang up: two windows later nobody waits.
        rests(&mut pace, 1_600_000, 20, 5_000, 1);
        assert_eq!(rests(&mut pace, 1_700_000, 100, 5_000, 1), [0, 0]);
    }

    #[test]
    fn what_is_left_is_read_at_once() {
        let mut pace = Pace::default();
        assert!(rests(&mut pace, 1_000_000, 1_000, 400, 1)[0] > 0);
        let now = Instant::from_nanos(1_400_000_000);
        assert_eq!(pace.after(now, 1, true), None);
        assert!(pace.after(now, 1, false).is_some());
    }

    #[test]
    fn the_more_come_the_longer_is_the_rest() {
        let mut pace = Pace::default();
        rests(&mut pace, 1_000_000, 50, 1_000, 3);
        // A look each two milliseconds finds ten: 5000 a second, so that the rest stays as long.
        rests(&mut pace, 1_050_000, 30, 2_000, 10);
        assert_eq!(rests(&mut pace, 1_110_000, 100, 2_000, 10), [0, 100]);
        // A few less, and it is short again after a window.
        rests(&mut pace, 1_310_000, 50, 2_000, 7);
        assert_eq!(rests(&mut pace, 1_410_000, 100, 1_000, 3), [100, 0]);
    }
}
