//! Tokens of the client API: who holds one is a participant until it expires. Pure: time and tokens
//! come in as arguments. Tokens are kept as hashes only.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crosspoint_codecs::clock::Instant;
use sha2::{Digest as _, Sha256};

/// A token that is not refreshed for so long is none any more. Clients refresh it three times within.
pub use crate::conference::ledger::LIFE;
/// After a refresh the token before is good for so long: an open event stream and requests under way
/// carry it.
pub const GRACE: Duration = Duration::from_secs(60);
/// Sessions of one gateway. Overflow: nobody more is let in.
pub const MOST: usize = 20_000;

/// A secret: 256 bits. Printed as dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token that is made of random `bytes`.
    pub fn of(bytes: [u8; 32]) -> Self {
        // Tokens go unescaped into URLs.
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// To be given to its holder, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("....")
    }
}

pub(super) type Hash = [u8; 32];

/// Who holds tokens.
#[derive(Debug)]
pub struct Sessions<S> {
    tokens: HashMap<Hash, Entry>,
    sessions: HashMap<u64, Held<S>>,
    next: u64,
}

#[derive(Debug)]
struct Held<S> {
    session: S,
    until: Instant,
    /// Nobody refreshes it any more.
    retired: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    session: u64,
    until: Instant,
}

impl<S> Default for Sessions<S> {
    fn default() -> Self {
        Self { tokens: HashMap::new(), sessions: HashMap::new(), next: 0 }
    }
}

impl<S> Sessions<S> {
    /// Whether another fits.
    pub fn has_room(&self) -> bool {
        self.sessions.len() < MOST
    }

    /// A session begins with `token`.
    pub fn open(&mut self, now: Instant, token: &Token, session: S) {
        self.next += 1;
        let until = now + LIFE;
        self.sessions.insert(self.next, Held { session, until, retired: false });
        self.tokens.insert(hash(token.reveal()), Entry { session: self.next, until });
    }

    /// A session goes on that another process began, with what is left of each of its tokens.
    pub(super) fn take_up(&mut self, now: Instant, tokens: &[(Hash, Duration)], session: S) {
        let Some(longest) = tokens.iter().map(|(_, left)| (*left).min(LIFE)).max() else { return };
        self.next += 1;
        self.sessions.insert(self.next, Held { session, until: now + longest, retired: false });
        for (hash, left) in tokens {
            let until = now + (*left).min(LIFE);
            self.tokens.insert(*hash, Entry { session: self.next, until });
        }
    }

    /// The session of `token`.
    pub fn find(&self, now: Instant, token: &str) -> Option<&S> {
        let entry = self.tokens.get(&hash(token)).filter(|entry| now < entry.until)?;
        self.sessions.get(&entry.session).map(|it| &it.session)
    }

    /// Those that match.
    pub fn those(&self, matches: impl Fn(&S) -> bool) -> impl Iterator<Item = &S> {
        self.sessions.values().map(|it| &it.session).filter(move |session| matches(session))
    }

    /// `new` takes the place of `old`, which is good for a while longer.
    pub fn refresh(&mut self, now: Instant, old: &str, new: &Token) -> Option<&S> {
        let entry = self.tokens.get_mut(&hash(old)).filter(|entry| now < entry.until)?;
        let session = entry.session;
        let held = self.sessions.get_mut(&session).filter(|it| !it.retired)?;
        entry.until = entry.until.min(now + GRACE);
        held.until = now + LIFE;
        self.tokens.insert(hash(new.reveal()), Entry { session, until: held.until });
        Some(&held.session)
    }

    /// Ends the session of `token`.
    pub fn close(&mut self, now: Instant, token: &str) -> Option<S> {
        let entry = self.tokens.get(&hash(token)).copied().filter(|entry| now < entry.until)?;
        self.tokens.retain(|_, it| it.session != entry.session);
        self.sessions.remove(&entry.session).map(|it| it.session)
    }

    /// Ends those that match.
    pub fn close_those(&mut self, matches: impl Fn(&S) -> bool) {
        self.sessions.retain(|_, it| !matches(&it.session));
        self.tokens.retain(|_, it| self.sessions.contains_key(&it.session));
    }

    /// Those that match have nothing to be refreshed for any more. What tokens they have is good for
    /// [`GRACE`] yet: a client that has lost its event stream opens another, and is told why.
    pub fn retire(&mut self, now: Instant, mut matches: impl FnMut(&mut S) -> bool) {
        for it in self.sessions.values_mut().filter(|it| !it.retired) {
            if matches(&mut it.session) {
                (it.retired, it.until) = (true, it.until.min(now + GRACE));
            }
        }
    }

    /// Forgets old tokens, and ends the sessions that nobody refreshes; those of them that might have been.
    pub fn expire(&mut self, now: Instant) -> Vec<S> {
        let late = self.sessions.extract_if(|_, it| now >= it.until);
        let gone = late.filter(|(_, it)| !it.retired).map(|(_, it)| it.session).collect();
        self.tokens.retain(|_, it| now < it.until && self.sessions.contains_key(&it.session));
        gone
    }
}

pub(super) fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * (500 + seconds))
    }

    #[test]
    fn a_token_is_spelled_for_urls_and_prints_as_dots() {
        let token = Token::of(std::array::from_fn(|n| u8::try_from(255 - n).unwrap()));
        // RFC 4648 section 5, without padding.
        assert_eq!(token.reveal(), "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA");
        assert_eq!(format!("{token:?}"), "....");
    }

    #[test]
    fn a_token_lives_while_it_is_refreshed_and_the_one_before_for_a_while() {
        let (one, two) = (Token::of([1; 32]), Token::of([2; 32]));
        let mut sessions = Sessions::default();
        sessions.open(at(0), &one, "alice");
        assert_eq!(sessions.find(at(119), one.reveal()), Some(&"alice"));
        assert_eq!(sessions.find(at(120), one.reveal()), None);
        assert_eq!(sessions.find(at(0), "other"), None);
        assert_eq!(sessions.refresh(at(40), one.reveal(), &two), Some(&"alice"));
        assert_eq!(sessions.find(at(99), one.reveal()), Some(&"alice"));
        assert_eq!(sessions.find(at(100), one.reveal()), None);
        assert_eq!(sessions.refresh(at(100), one.reveal(), &one), None, "the old one is over");
        assert_eq!(sessions.expire(at(159)), Vec::<&str>::new());
        assert_eq!(sessions.find(at(159), two.reveal()), Some(&"alice"));
        assert_eq!(sessions.expire(at(160)), ["alice"]);
        assert!(sessions.tokens.is_empty() && sessions.sessions.is_empty());
    }

    #[test]
    fn a_session_that_is_retired_is_good_for_a_while_and_not_refreshed() {
        let (one, two) = (Token::of([1; 32]), Token::of([2; 32]));
        let mut sessions = Sessions::default();
        sessions.open(at(0), &one, "alice");
        sessions.open(at(0), &two, "bob");
        sessions.retire(at(10), |it| *it == "bob");
        sessions.retire(at(30), |it| *it == "bob");
        assert_eq!(sessions.refresh(at(20), two.reveal(), &Token::of([3; 32])), None);
        assert_eq!(sessions.expire(at(69)), Vec::<&str>::new());
        assert_eq!(sessions.find(at(69), two.reveal()), Some(&"bob"));
        assert_eq!(sessions.expire(at(70)), Vec::<&str>::new(), "he is out already");
        assert_eq!(sessions.find(at(70), two.reveal()), None);
        assert_eq!(sessions.expire(at(120)), ["alice"]);
        assert!(sessions.tokens.is_empty() && sessions.sessions.is_empty());
    }

    #[test]
    fn a_session_ends_with_all_its_tokens() {
        let (one, two) = (Token::of([1; 32]), Token::of([2; 32]));
        let mut sessions = Sessions::default();
        sessions.open(at(0), &one, 7);
        sessions.refresh(at(1), one.reveal(), &two);
        assert_eq!(sessions.close(at(2), one.reveal()), Some(7));
        assert_eq!(sessions.find(at(2), two.reveal()), None);
        sessions.open(at(3), &one, 8);
        sessions.close_those(|session| *session == 8);
        assert_eq!(sessions.find(at(3), one.reveal()), None);
    }
}
