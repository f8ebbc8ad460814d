//! The one place that asks what time it is. Everything else is told.

use std::time::{Duration, SystemTime};

use crosspoint_proto::{Instant, Now};

/// One gateway's monotonic clock. Copies agree with each other, so that moments can be compared
/// across threads; two gateways' clocks have nothing in common.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: std::time::Instant,
    epoch: SystemTime,
}

impl Clock {
    /// A clock whose zero is a day ago, so that "before" exists at the start.
    pub fn start() -> Self {
        let (now, wall) = (std::time::Instant::now(), SystemTime::now());
        let zero = now.checked_sub(Duration::from_secs(24 * 3600)).unwrap_or(now);
        Self { zero, epoch: wall.checked_sub(now - zero).unwrap_or(wall) }
    }

    /// The moment.
    pub fn now(&self) -> Instant {
        let nanos = self.zero.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The moment, and what the world calls it.
    pub fn both(&self) -> Now {
        Now { mono: self.now(), wall: SystemTime::now() }
    }

    /// What the world called the clock's zero when it was started. Media stamps count from here:
    /// a jump of the wall clock must not tear the sound and the picture of a call apart.
    pub const fn epoch(&self) -> SystemTime {
        self.epoch
    }

    /// The clock's zero, for who must be given any moment of the operating system's clock.
    pub(super) const fn zero(&self) -> std::time::Instant {
        self.zero
    }

    /// A moment of this clock as the operating system's clock has it, for sleeping until then.
    /// `None` when it is too far away to be expressed.
    pub fn to_std(&self, moment: Instant) -> Option<std::time::Instant> {
        self.zero.checked_add(Duration::from_nanos(moment.as_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_convert_and_never_go_back() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.both().mono);
        assert!(second >= first);
        let drift =
            clock.both().wall.duration_since(clock.epoch()).unwrap().abs_diff(clock.now() - Instant::ZERO);
        assert!(drift < Duration::from_secs(1), "{drift:?}");
        let std = clock.to_std(first).unwrap();
        assert_eq!(clock.to_std(first + Duration::from_secs(5)).unwrap() - std, Duration::from_secs(5));
    }
}
