//! Guesses of PINs and of aliases: whose attempt is looked at, and whose is refused unread. Pure: time
//! and keys come in as arguments.
//!
//! * Everybody who tries has a record: five wrong attempts cost nothing, each further one doubles the
//!   time in which nothing of his is read. A right PIN wipes nothing off: whoever knows one could
//!   guess others between two of his own.
//! * A room has a budget of wrong PINs for all together. Once it is spent, only those are read who have
//!   been in that room before, and devices that have proved who they are: a guesser locks himself out
//!   and newcomers, never those whom the room is for.
//! * An alias that nobody has counts as a wrong PIN does, and so does a wrong password of a device. Where
//!   a device has proved itself before it is counted for itself: a telephone with an old password does
//!   not keep out those beside it.
//!
//! What is refused unread is answered as a wrong PIN is, so that nobody learns from the answer.
//!
//! ```text
//!  attempt(who, room, read) ─> Refused | read() ─> Right | Wrong ─> counters ─> changes() ─> store
//! ```

use std::collections::HashMap;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use crate::alias::Alias;

mod budget;
mod gate;
mod porter;
mod rates;
mod seldom;
mod sources;
mod store;
#[cfg(test)]
mod tests;
mod who;

use budget::Budget;
pub use gate::Gate;
pub use porter::Porter;
pub use rates::{BAN, BANS, FREE, FREE_OF_OURS};
pub use sources::SOURCES;
use sources::{BEYOND, Record, Sources};
pub use who::{Source, Visitor, Who};

/// Wrong PINs of a room in any day, by all who try: one chance in 350 against six digits, where the
/// usual 20 in 10 minutes come to the same number.
const SIX_DIGITS: Budget = Budget::a_day(20, 2_880);
/// Of a room whose shortest PIN has four or five digits: one chance in a hundred against four.
const FOUR_DIGITS: Budget = Budget::a_day(10, 100);
/// PINs shorter than this have the small budget.
pub const SAFE_DIGITS: usize = 6;
/// Wrong PINs of a room that are read before the store has those before: what one `kill -9` gives back
/// to a guesser.
const UNSAVED: u32 = 3;
/// Who has been in a room, of one room. Overflow: the oldest is a newcomer again.
const VERIFIED: usize = 64;
/// For so long.
const VERIFIED_FOR: Duration = Duration::from_secs(30 * 86_400);
/// That somebody was there again is not written more often.
const SEEN_EVERY: Duration = Duration::from_secs(86_400);

/// An attempt at a PIN.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Whose.
    pub who: &'a Who,
    /// At which service; `None`: at one that does not exist.
    pub room: Option<&'a str>,
    /// Digits of its shortest PIN.
    pub digits: usize,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It was read, and right.
    Right(T),
    /// It was read, and wrong.
    Wrong,
    /// It was not read. The next one may be after so long.
    Refused(Duration),
}

/// The counters.
#[derive(Debug)]
pub struct Guard {
    sources: Sources,
    rooms: HashMap<String, Room>,
    /// There is a store, which is told of what changes.
    stored: bool,
}

#[derive(Debug, Default)]
struct Room {
    /// When all wrong attempts are paid back.
    clear: Instant,
    /// Wrong attempts that the store does not have.
    unsaved: u32,
    /// Who has been there, and when last.
    verified: Vec<(Who, Instant)>,
    /// Of those, who is not in the store so.
    seen: Vec<Who>,
}

/// What the store should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    sources: Vec<(Who, Record)>,
    /// Name, when paid back, and how many that are new make it so.
    rooms: Vec<(String, Instant, u32)>,
    verified: Vec<(String, Who, Instant)>,
}

impl Changes {
    const fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.rooms.is_empty() && self.verified.is_empty()
    }
}

/// Records that are written at a time: the rest waits for the next.
const ROWS: usize = 4_096;

impl Guard {
    /// Nobody has tried yet. Nobody else knows `secret`.
    pub fn new(secret: [u8; 16]) -> Self {
        Self { sources: Sources::new(secret), rooms: HashMap::new(), stored: false }
    }

    /// Has an attempt read, if it may be, by `read`, which gives what a right one gives.
    pub fn attempt<T>(
        &mut self,
        now: Instant,
        attempt: Attempt<'_>,
        read: impl FnOnce() -> Option<T>,
    ) -> Verdict<T> {
        let Attempt { who, room, digits } = attempt;
        let budget = if digits < SAFE_DIGITS { FOUR_DIGITS } else { SIX_DIGITS };
        let record = self.sources.of(who);
        let mut wait = self.turned_away(now, who, room);
        let state = room.and_then(|room| self.rooms.get(room));
        let (spent, unsaved) = state.map_or((Instant::ZERO, 0), |room| (room.clear, room.unsaved));
        let over = if unsaved < UNSAVED || !self.stored { budget.wait(spent, now) } else { SOON };
        let beyond = !over.is_zero();
        if beyond {
            let known = room.is_some_and(|room| self.knows(now, who, room));
            wait = wait.max(if known { BEYOND.wait(record.beyond, now) } else { over });
        }
        if !wait.is_zero() {
            return Verdict::Refused(wait);
        }
        if let Some(right) = read() {
            room.into_iter().for_each(|room| self.entered(now, who, room));
            return Verdict::Right(right);
        }
        self.sources.change(now, who, |record| {
            record.wrong(now);
            if beyond {
                record.beyond = BEYOND.spend(record.beyond, now);
            }
        });
        if let Some(room) = room.filter(|_| !beyond) {
            let room = self.room(room);
            room.clear = budget.spend(room.clear, now);
            room.unsaved += 1;
        }
        Verdict::Wrong
    }

    /// Has the password of a device read, if it may be, by `read`. A device has no budget for all
    /// together as a room has: its password is not a number of some digits, and it moves about.
    pub fn password<T>(
        &mut self,
        now: Instant,
        source: Source,
        device: &Alias,
        read: impl FnOnce() -> Option<T>,
    ) -> Verdict<T> {
        let (who, door) = (Who::Source(source), door(device));
        let counted = match self.has_been_in(now, &who, &door) {
            true => Who::At(source, device.clone()),
            false => who.clone(),
        };
        let wait = self.sources.of(&counted).wait(now);
        if !wait.is_zero() {
            return Verdict::Refused(wait);
        }
        let Some(right) = read() else {
            self.sources.change(now, &counted, |record| record.wrong(now));
            return Verdict::Wrong;
        };
        self.entered(now, &who, &door);
        Verdict::Right(right)
    }

    /// Somebody has asked for an alias that nobody has. For how long he had been turned away already:
    /// then it does not count.
    pub fn missed(&mut self, now: Instant, who: &Who) -> Duration {
        let wait = self.turned_away(now, who, None);
        if wait.is_zero() {
            self.sources.change(now, who, |record| record.wrong(now));
        }
        wait
    }

    /// For how long `who` is told nothing of `room`, not even whether it exists.
    pub fn turned_away(&self, now: Instant, who: &Who, room: Option<&str>) -> Duration {
        let been_there = room.is_some_and(|room| self.has_been_in(now, who, room));
        if been_there { Duration::ZERO } else { self.sources.of(who).wait(now) }
    }

    /// Somebody is in, by a right PIN or because none is needed.
    pub fn entered(&mut self, now: Instant, who: &Who, room: &str) {
        let room = self.room(room);
        let known = room.verified.iter().position(|(it, _)| it == who);
        let last = known.map(|at| room.verified.remove(at).1);
        if last.is_none_or(|last| now.saturating_since(last) >= SEEN_EVERY) {
            room.seen.push(who.clone());
        }
        let seen = last.filter(|last| now.saturating_since(*last) < SEEN_EVERY).unwrap_or(now);
        if room.verified.len() >= VERIFIED {
            room.verified.remove(0);
        }
        // The last to come is the last to be forgotten.
        room.verified.push((who.clone(), seen));
    }

    /// Whether a spent budget does not keep him out.
    fn knows(&self, now: Instant, who: &Who, room: &str) -> bool {
        matches!(who, Who::Device(_)) || self.has_been_in(now, who, room)
    }

    fn has_been_in(&self, now: Instant, who: &Who, room: &str) -> bool {
        let lately = |(it, seen): &(Who, Instant)| it == who && now.saturating_since(*seen) < VERIFIED_FOR;
        self.rooms.get(room).is_some_and(|room| room.verified.iter().any(lately))
    }

    fn room(&mut self, room: &str) -> &mut Room {
        // What exists only: as many as there are services and devices.
        self.rooms.entry(room.to_owned()).or_default()
    }

    /// What the store should have by now, [`ROWS`] records of a kind at most. [`Self::saved`] is told
    /// when it has, or has failed to.
    pub(crate) fn changes(&mut self) -> Changes {
        let whose: Vec<Who> = self.sources.changed.iter().take(ROWS).cloned().collect();
        let sources = whose.into_iter().map(|who| {
            self.sources.changed.remove(&who);
            (who.clone(), self.sources.of(&who))
        });
        let mut changes = Changes { sources: sources.collect(), ..Changes::default() };
        for (name, room) in &mut self.rooms {
            if room.unsaved > 0 && changes.rooms.len() < ROWS {
                changes.rooms.push((name.clone(), room.clear, room.unsaved));
            }
            for who in std::mem::take(&mut room.seen) {
                let seen = room.verified.iter().find(|(it, _)| *it == who).map(|(_, seen)| *seen);
                changes.verified.extend(seen.map(|seen| (name.clone(), who, seen)));
            }
        }
        changes
    }

    /// The store has them, or cannot be written: then the counters of this process are what is left,
    /// and people are not kept out for a full disk. What failed is written with the next.
    pub(crate) fn saved(&mut self, changes: Changes, stored: bool) {
        for (name, _, new) in changes.rooms {
            let room = self.room(&name);
            room.unsaved = room.unsaved.saturating_sub(new);
        }
        if !stored {
            self.sources.changed.extend(changes.sources.into_iter().map(|(who, _)| who));
            for (room, who, _) in changes.verified {
                self.room(&room).seen.push(who);
            }
        }
    }

    /// Takes up what was stored. From now on the store has to follow.
    pub(crate) fn restore(&mut self, now: Instant, stored: Changes) {
        self.stored = true;
        for (who, record) in stored.sources {
            self.sources.restore(now, who, record);
        }
        for (name, clear, _) in stored.rooms {
            // The class of its PINs may be another by now: the longer debt stands.
            let latest = FOUR_DIGITS.latest(now).max(SIX_DIGITS.latest(now));
            self.room(&name).clear = clear.min(latest);
        }
        for (name, who, seen) in stored.verified {
            let verified = &mut self.room(&name).verified;
            if verified.len() < VERIFIED {
                verified.push((who, seen.min(now)));
            }
        }
    }

    /// How many are counted one by one.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a device is among the rooms: no service has such a name, for it begins with a space.
fn door(device: &Alias) -> String {
    format!(" device {device}")
}

/// A commit takes some milliseconds.
const SOON: Duration = Duration::from_millis(100);
