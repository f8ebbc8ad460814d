//! One thing measured, and the rounds that measure all.

use std::time::{Duration, Instant};

/// Rounds, each through all probes.
pub const ROUNDS: usize = 5;

/// A probe is warm after so much of its share of a round.
const WARM: u32 = 4;

/// Something to measure.
pub(super) struct Probe {
    key: &'static str,
    what: String,
    per: &'static str,
    /// Units of work in a call.
    units: f64,
    /// Does so many calls and tells how long the work took, without what prepares it.
    run: Box<dyn FnMut(u32) -> Duration>,
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// A word for programs.
    pub key: &'static str,
    /// What was done, for people.
    pub what: String,
    /// What the time is for; empty where `what` says all.
    pub per: &'static str,
    /// Median of the rounds, in nanoseconds.
    pub nanos: f64,
    /// From the fastest round to the slowest, as a part of the median.
    pub spread: f64,
}

impl Probe {
    pub(super) fn new(
        key: &'static str,
        what: impl Into<String>,
        per: &'static str,
        units: f64,
        run: impl FnMut(u32) -> Duration + 'static,
    ) -> Self {
        Self { key, what: what.into(), per, units, run: Box::new(run) }
    }

    /// One whose every call counts.
    pub(super) fn timed(
        key: &'static str,
        what: impl Into<String>,
        per: &'static str,
        units: f64,
        mut work: impl FnMut() + 'static,
    ) -> Self {
        Self::new(key, what, per, units, move |calls| {
            let begun = Instant::now();
            (0..calls).for_each(|_| work());
            begun.elapsed()
        })
    }
}

/// Measures all within about `budget`.
pub(super) fn measure(mut probes: Vec<Probe>, budget: Duration, progress: &mut dyn FnMut(&str)) -> Vec<Row> {
    let shares = u32::try_from(probes.len() * (ROUNDS + 1)).unwrap_or(u32::MAX).max(1);
    let share = budget / shares;
    progress("warming up");
    let calls: Vec<u32> = probes.iter_mut().map(|probe| fitting(probe, share)).collect();
    let mut times = vec![Vec::new(); probes.len()];
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        for ((probe, calls), times) in probes.iter_mut().zip(&calls).zip(&mut times) {
            let took = (probe.run)(*calls).as_secs_f64() * 1e9;
            times.push(took / f64::from(*calls) / probe.units);
        }
    }
    probes.into_iter().zip(times).map(|(probe, times)| probe.row(times)).collect()
}

/// How many calls take about `share`; at least one.
fn fitting(probe: &mut Probe, share: Duration) -> u32 {
    let (begun, mut calls) = (Instant::now(), 1u32);
    loop {
        // By the clock on the wall: what prepares the work takes its time too.
        let before = Instant::now();
        (probe.run)(calls);
        let each = before.elapsed().as_secs_f64() / f64::from(calls);
        if begun.elapsed() >= share / WARM {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float cast saturates"
            )]
            let fitting = (share.as_secs_f64() / each.max(1e-9)) as u32;
            return fitting.max(1);
        }
        calls = calls.saturating_mul(2);
    }
}

impl Probe {
    fn row(self, mut times: Vec<f64>) -> Row {
        times.sort_by(f64::total_cmp);
        let nanos = times[times.len() / 2];
        let spread = (times[times.len() - 1] - times[0]) / nanos;
        Row { key: self.key, what: self.what, per: self.per, nanos, spread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_rounds_counts_whatever_one_of_them_says() {
        let mut calls_seen = 0u32;
        let probe = Probe::new("x", "x", "", 2.0, move |calls| {
            calls_seen += 1;
            // A disturbance now and then.
            let slow = if calls_seen.is_multiple_of(4) { 50 } else { 1 };
            Duration::from_micros(4) * calls * slow
        });
        let rows = measure(vec![probe], Duration::from_millis(6), &mut |_| ());
        assert_eq!((rows.len(), rows[0].nanos.round()), (1, 2_000.0));
        assert!(rows[0].spread > 10.0, "{rows:?}");
    }
}
