//! Whose refusals are written into the log: a line for each source now and then, with the number of
//! those that were not written. Pure: time comes in as an argument.

use std::collections::HashMap;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use super::who::Source;

/// A source's refusals have one line in so long.
const EVERY: Duration = Duration::from_secs(10);
/// Sources that are told apart at a time. Overflow: the others have one line together.
const SOURCES: usize = 1_024;

/// See the file.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    told: HashMap<Source, Told>,
    others: Told,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    until: Instant,
    untold: u64,
}

impl Seldom {
    /// Whether a refusal is written; if so, how many were not since the last one.
    pub(super) fn tells(&mut self, now: Instant, source: Source) -> Option<u64> {
        if self.told.len() >= SOURCES && !self.told.contains_key(&source) {
            let over: u64 = self.told.values().filter(|it| it.until <= now).map(|it| it.untold).sum();
            self.others.untold = self.others.untold.saturating_add(over);
            self.told.retain(|_, it| it.until > now);
        }
        let room = self.told.len() < SOURCES || self.told.contains_key(&source);
        let told = if room { self.told.entry(source).or_default() } else { &mut self.others };
        if told.until > now {
            told.untold = told.untold.saturating_add(1);
            return None;
        }
        told.until = now + EVERY;
        Some(std::mem::take(&mut told.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> Source {
        Source::of_peer(Some(std::net::IpAddr::V4(n.into())))
    }

    #[test]
    fn a_source_has_a_line_in_ten_seconds_with_the_number_of_the_others() {
        let (mut seldom, start) = (Seldom::default(), Instant::from_millis(1_000));
        assert_eq!(seldom.tells(start, source(1)), Some(0));
        for _ in 0..500 {
            assert_eq!(seldom.tells(start + EVERY / 2, source(1)), None);
        }
        assert_eq!(seldom.tells(start, source(2)), Some(0), "another has its own");
        assert_eq!(seldom.tells(start + EVERY, source(1)), Some(500));
        assert_eq!(seldom.tells(start + EVERY, source(1)), None);
    }

    #[test]
    fn many_sources_have_few_lines_and_none_is_lost_in_the_count() {
        let (mut seldom, mut now) = (Seldom::default(), Instant::from_millis(1_000));
        let (mut lines, mut counted) = (0, 0);
        for round in 0..10 {
            for n in 0..20_000 {
                if let Some(untold) = seldom.tells(now, source(n + round * 7)) {
                    lines += 1;
                    counted += 1 + untold;
                }
            }
            now += EVERY;
        }
        assert!(lines <= 10 * (SOURCES as u64 + 1), "{lines}");
        let waiting: u64 = seldom.told.values().map(|it| it.untold).sum::<u64>() + seldom.others.untold;
        assert_eq!(counted + waiting, 200_000);
        assert!(seldom.told.len() <= SOURCES);
    }
}
