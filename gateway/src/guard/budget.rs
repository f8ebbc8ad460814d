//! How often something may happen: so many at once, then one every so often. One moment is all that
//! is remembered: when everything that was spent is paid back.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

/// A budget. In any time T at most `burst + T / each` are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    burst: u32,
    each: Duration,
}

impl Budget {
    pub(super) const fn new(burst: u32, each: Duration) -> Self {
        Self { burst, each }
    }

    /// `burst` at once, and at most `most` in any 24 hours, the burst among them.
    pub(super) const fn a_day(burst: u32, most: u32) -> Self {
        // Rounded up: a day has at most so many.
        Self { burst, each: Duration::from_millis(DAY.as_secs() * 1_000 / (most - burst) as u64 + 1) }
    }

    /// How long until one more may be spent; zero: now.
    pub(super) fn wait(self, clear: Instant, now: Instant) -> Duration {
        let full = self.each * (self.burst - 1);
        clear.saturating_since(now).saturating_sub(full)
    }

    /// Spends one: the moment when everything is paid back.
    pub(super) fn spend(self, clear: Instant, now: Instant) -> Instant {
        clear.max(now) + self.each
    }

    /// How many are spent and not paid back.
    pub(super) fn level(self, clear: Instant, now: Instant) -> u32 {
        let spent = clear.saturating_since(now).as_nanos().div_ceil(self.each.as_nanos());
        u32::try_from(spent).unwrap_or(u32::MAX)
    }

    /// The latest moment that `clear` can be: what a clock that was set back is cut to.
    pub(super) fn latest(self, now: Instant) -> Instant {
        now + self.each * self.burst
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * seconds)
    }

    #[test]
    fn a_burst_then_one_every_so_often() {
        let budget = Budget::new(3, Duration::from_secs(10));
        let mut clear = Instant::ZERO;
        for spent in 1..=3 {
            assert_eq!(budget.wait(clear, at(100)), Duration::ZERO);
            clear = budget.spend(clear, at(100));
            assert_eq!(budget.level(clear, at(100)), spent);
        }
        assert_eq!(budget.wait(clear, at(100)), Duration::from_secs(10));
        assert_eq!(budget.wait(clear, at(109)), Duration::from_secs(1));
        assert_eq!(budget.wait(clear, at(110)), Duration::ZERO);
        assert_eq!((budget.level(clear, at(110)), budget.level(clear, at(130))), (2, 0));
        assert_eq!(clear, budget.latest(at(100)));
    }

    #[test]
    fn no_day_has_more_than_was_said() {
        for (burst, most) in [(20, 2_880), (10, 100), (3, 5)] {
            let budget = Budget::a_day(burst, most);
            let (mut clear, mut spent) = (Instant::ZERO, 0);
            for second in 0..=86_400 {
                while budget.wait(clear, at(second)).is_zero() {
                    clear = budget.spend(clear, at(second));
                    spent += 1;
                }
            }
            assert!(spent <= most && spent + 1 >= most, "{spent} of {most}");
        }
    }
}
