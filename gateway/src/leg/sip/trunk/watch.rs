//! Whether a trunk is there, by what it answers to OPTIONS (RFC 3261 section 11). Pure: the moment
//! comes in.

use std::time::Duration;

use crosspoint_proto::Instant;

/// A trunk that has not answered by then is down: OPTIONS over UDP is sent five times until then (RFC
/// 3261 Timer E), so that a lost datagram is not taken for a lost trunk. The transaction itself goes on
/// for 32 s, which is longer than calls should wait.
const ANSWER: Duration = Duration::from_secs(8);

/// What is known of a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It has not been asked, or has not had the time to answer.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Reach {
    /// The word in status and events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Asks and judges.
#[derive(Debug)]
pub(super) struct Watch {
    every: Duration,
    reach: Reach,
    /// The question that is out, and until when its answer counts.
    asked: Option<(u64, Instant)>,
    next: Instant,
    count: u64,
}

impl Watch {
    /// Asks at once, and then every `every`.
    pub(super) const fn new(every: Duration, now: Instant) -> Self {
        Self { every, reach: Reach::Unknown, asked: None, next: now, count: 0 }
    }

    pub(super) const fn reach(&self) -> Reach {
        self.reach
    }

    /// When [`Self::timeout`] is due.
    pub(super) fn deadline(&self) -> Instant {
        self.asked.map_or(self.next, |(_, until)| until)
    }

    /// The number of the question to ask now, if it is time for one. Nothing is asked while an answer may
    /// still come.
    pub(super) fn timeout(&mut self, now: Instant) -> Option<u64> {
        if let Some((_, until)) = self.asked
            && until <= now
        {
            self.asked = None;
            self.reach = Reach::Down;
        }
        if self.asked.is_some() || self.next > now {
            return None;
        }
        self.count = self.count.wrapping_add(1);
        self.asked = Some((self.count, now + ANSWER));
        self.next = now + self.every;
        Some(self.count)
    }

    /// What became of a question. Any answer shows that somebody is there, but for 503, which says that
    /// nothing is served now (RFC 3261 section 21.5.4). An answer that comes too late counts as well.
    pub(super) fn answered(&mut self, question: u64, status: Option<u16>) {
        let newest = self.asked.is_some_and(|(asked, _)| asked == question);
        if newest {
            self.asked = None;
        }
        match status {
            Some(status) if status != 503 => self.reach = Reach::Up,
            // What an older question has come to is known already.
            _ if newest => self.reach = Reach::Down,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn a_trunk_that_answers_is_asked_every_so_often() {
        let mut watch = Watch::new(EVERY, at(0));
        for round in 0..10 {
            let now = at(round * 30);
            assert_eq!(watch.deadline(), now);
            let question = watch.timeout(now).expect("a question");
            assert_eq!(watch.timeout(now), None, "one at a time");
            watch.answered(question, Some(if round == 3 { 404 } else { 200 }));
            assert_eq!(watch.reach(), Reach::Up);
        }
    }

    #[test]
    fn silence_and_503_are_down_and_a_late_answer_is_up_again() {
        let mut watch = Watch::new(EVERY, at(0));
        let first = watch.timeout(at(0)).unwrap();
        assert_eq!(watch.timeout(at(7)), None);
        assert_eq!(watch.reach(), Reach::Unknown, "it may still answer");
        assert_eq!(watch.timeout(at(8)), None, "the next question has its own time");
        assert_eq!((watch.reach(), watch.deadline()), (Reach::Down, at(30)));
        watch.answered(first, Some(200));
        assert_eq!(watch.reach(), Reach::Up);
        let second = watch.timeout(at(30)).unwrap();
        // The transaction of an old question ends: that says nothing of now.
        watch.answered(first, None);
        assert_eq!(watch.reach(), Reach::Up);
        watch.answered(second, Some(503));
        assert_eq!(watch.reach(), Reach::Down);
        let third = watch.timeout(at(60)).unwrap();
        watch.answered(third, None);
        assert_eq!(watch.reach(), Reach::Down, "refused at once");
    }
}
