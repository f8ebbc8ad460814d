//! Tokens that are good for one thing, once, and soon: to come into another conference after a
//! transfer, to take or refuse a call that a registered client is told of. Pure: time and tokens come
//! in as arguments. Tokens are kept as hashes only.

use std::collections::HashMap;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use super::sessions::{Hash, Token, hash};

/// A token that is not used for so long is none any more. Clients come within a second after a
/// transfer; no call rings for longer than this (`sip.ring_timeout`).
pub const LIFE: Duration = Duration::from_secs(180);
/// Tokens that wait to be used. Overflow: no more are given.
pub const MOST: usize = 10_000;

/// Tokens, and what each is good for.
#[derive(Debug)]
pub struct OneTime<T>(HashMap<Hash, (T, Instant)>);

impl<T> Default for OneTime<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> OneTime<T> {
    /// `token` is good for `what`, for [`LIFE`]; false when there are too many already.
    #[must_use]
    pub fn give(&mut self, now: Instant, token: &Token, what: T) -> bool {
        if self.0.len() >= MOST {
            self.expire(now);
        }
        let fits = self.0.len() < MOST;
        if fits {
            self.0.insert(hash(token.reveal()), (what, now + LIFE));
        }
        fits
    }

    /// What `token` is good for; it stays good.
    pub fn look(&self, now: Instant, token: &str) -> Option<&T> {
        self.0.get(&hash(token)).filter(|(_, until)| now < *until).map(|(what, _)| what)
    }

    /// The same, and it is used up.
    pub fn take(&mut self, now: Instant, token: &str) -> Option<T> {
        let (what, until) = self.0.remove(&hash(token))?;
        (now < until).then_some(what)
    }

    /// Takes those back that match: what they were good for is no more.
    pub fn withdraw(&mut self, matches: impl Fn(&T) -> bool) {
        self.0.retain(|_, (what, _)| !matches(what));
    }

    /// Forgets those that are too old; what they were good for.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        self.0.extract_if(|_, (_, until)| now >= *until).map(|(_, (what, _))| what).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * (500 + seconds))
    }

    fn token(number: usize) -> Token {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Token::of(bytes)
    }

    #[test]
    fn a_token_is_used_once_and_within_three_minutes() {
        let mut tokens = OneTime::default();
        assert!(tokens.give(at(0), &token(1), "one") && tokens.give(at(10), &token(2), "two"));
        assert_eq!(tokens.look(at(179), token(1).reveal()), Some(&"one"));
        assert_eq!(tokens.take(at(179), token(1).reveal()), Some("one"));
        assert_eq!(tokens.take(at(179), token(1).reveal()), None, "used");
        assert_eq!(tokens.look(at(190), token(2).reveal()), None, "too late");
        assert_eq!(tokens.take(at(190), token(2).reveal()), None, "too late");
        assert_eq!(tokens.take(at(0), "other"), None);
        assert!(tokens.give(at(0), &token(3), "three") && tokens.give(at(1), &token(4), "four"));
        tokens.withdraw(|what| *what == "three");
        assert_eq!(tokens.expire(at(300)), ["four"]);
    }

    #[test]
    fn there_are_only_so_many_and_old_ones_make_room() {
        let mut tokens = OneTime::default();
        assert!((0..MOST).all(|number| tokens.give(at(0), &token(number), number)));
        assert!(!tokens.give(at(179), &token(MOST), MOST));
        assert!(tokens.look(at(179), token(7).reveal()).is_some(), "none was put out for another");
        assert!(tokens.give(at(180), &token(MOST), MOST));
    }
}
