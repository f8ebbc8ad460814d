//! How full an engine is, and what follows: pictures are made smaller first, then new calls are
//! refused. Those that stand are never dropped for it.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

/// In thousandths of all the time that there is.
pub(super) type Share = u32;

/// A lane as full as that takes no new call: the rest is for those that stand, whose load swings.
pub(super) const FULL: Share = 900;
/// From here on pictures are made smaller, and below here larger again. One size is some half of the
/// work, so that a larger one fits where it begins.
const LOWER_FROM: Share = 850;
const RAISE_BELOW: Share = 400;
/// Over so long the load is measured: longer than a keyframe of everybody, shorter than people wait.
const MEASURED_OVER: Duration = Duration::from_millis(500);
/// A measured load holds for so long before pictures get smaller, larger.
const LOWER_AFTER: Duration = Duration::from_secs(1);
const RAISE_AFTER: Duration = Duration::from_secs(5);
/// Who has to go down so soon after he went up waits twice as long before the next try, up to so long:
/// each change costs everybody a keyframe.
const TOO_SOON: Duration = Duration::from_secs(15);
const RAISE_AFTER_MOST: Duration = Duration::from_secs(160);
/// Largest pictures by step, in macroblocks: no limit, 720p, 640x360, CIF.
const SIZES: [u32; 4] = [u32::MAX, 3_600, 920, 396];

/// Adds up how long a lane was busy.
pub(super) struct Meter {
    since: Instant,
    busy: Duration,
}

impl Meter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, busy: Duration::ZERO }
    }

    /// It was busy for so long until `now`. Returns its share, every now and then.
    pub(super) fn note(&mut self, now: Instant, busy: Duration) -> Option<Share> {
        self.busy += busy;
        let passed = now.saturating_since(self.since);
        if passed < MEASURED_OVER {
            return None;
        }
        let share = self.busy.as_nanos() * 1_000 / passed.as_nanos().max(1);
        (self.since, self.busy) = (now, Duration::ZERO);
        Some(Share::try_from(share).unwrap_or(Share::MAX))
    }
}

/// How large pictures may be: down when there is too much to do, up again when there is room.
#[derive(Debug)]
pub(super) struct Pressure {
    step: usize,
    /// Too much, or little, to do since then.
    high_since: Option<Instant>,
    low_since: Option<Instant>,
    raised: Option<Instant>,
    raise_after: Duration,
}

impl Pressure {
    pub(super) const NEW: Self =
        Self { step: 0, high_since: None, low_since: None, raised: None, raise_after: RAISE_AFTER };

    /// The load is `share` at `now`.
    pub(super) fn follow(&mut self, share: Share, now: Instant) {
        let lasts = |held: &mut Option<Instant>, holds: bool, long: Duration| {
            let since = if holds { *held.get_or_insert(now) } else { now };
            *held = holds.then_some(since);
            holds && now.saturating_since(since) >= long
        };
        let high = lasts(&mut self.high_since, share >= LOWER_FROM, LOWER_AFTER);
        let low = lasts(&mut self.low_since, share < RAISE_BELOW, self.raise_after);
        if high && self.step + 1 < SIZES.len() {
            self.step += 1;
            self.high_since = None;
            let soon = self.raised.is_some_and(|raised| now.saturating_since(raised) < TOO_SOON);
            self.raise_after = if soon { (2 * self.raise_after).min(RAISE_AFTER_MOST) } else { RAISE_AFTER };
        } else if low && self.step > 0 {
            self.step -= 1;
            (self.low_since, self.raised) = (None, Some(now));
        }
    }

    /// The largest picture that is made now, in macroblocks.
    pub(super) fn max_fs(&self) -> u32 {
        SIZES[self.step]
    }

    /// How many steps down.
    pub(super) fn step(&self) -> u64 {
        u64::try_from(self.step).unwrap_or(u64::MAX)
    }

    /// Whether there is nothing left to make smaller.
    pub(super) fn is_last(step: u64) -> bool {
        usize::try_from(step).is_ok_and(|step| step + 1 >= SIZES.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(10_000 + millis)
    }

    #[test]
    fn a_share_is_told_twice_a_second() {
        let mut meter = Meter::new(at(0));
        let told: Vec<_> = (1..=100)
            .filter_map(|tick| meter.note(at(tick * 20), Duration::from_millis(5 + 10 * (tick / 51))))
            .collect();
        assert_eq!(told, [250, 250, 750, 750]);
    }

    #[test]
    fn pictures_get_smaller_when_it_lasts_and_larger_when_there_is_room() {
        let mut pressure = Pressure::NEW;
        let mut sizes = Vec::new();
        let mut follow = |from: u64, to: u64, share| {
            for millis in (from..to).step_by(500) {
                pressure.follow(share, at(millis));
                if sizes.last().is_none_or(|(_, size)| *size != pressure.max_fs()) {
                    sizes.push((millis, pressure.max_fs()));
                }
            }
        };
        follow(0, 500, 990);
        follow(500, 5_000, 700);
        follow(5_000, 8_000, 900);
        follow(8_000, 20_000, 600);
        follow(20_000, 25_500, 300);
        assert_eq!(sizes, [(0, u32::MAX), (6_000, 3_600), (7_500, 920), (25_000, 3_600)]);
    }

    #[test]
    fn who_went_up_too_soon_waits_longer_each_time() {
        let mut pressure = Pressure::NEW;
        let mut raised = Vec::new();
        // Full with large pictures, idle with the next smaller ones.
        for millis in (0..400_000).step_by(500) {
            let before = pressure.step();
            pressure.follow(if before == 0 { 950 } else { 200 }, at(millis));
            if pressure.step() < before {
                raised.push(millis / 1_000);
            }
        }
        let waits: Vec<u64> = raised.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            waits.iter().zip([11, 21, 41, 81, 161]).all(|(wait, most)| wait.abs_diff(most) <= 1),
            "{waits:?}"
        );
        assert!(!Pressure::is_last(2) && Pressure::is_last(3));
    }
}
