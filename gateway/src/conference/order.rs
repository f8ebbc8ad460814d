//! Who sits in which slot of a layout: a pure state machine, moved by who joins, leaves and speaks.
//!
//! The first slots of a layout (its *mains*) belong to those who spoke last, the others to whoever
//! else is seen. Nobody moves without need:
//!
//! * Who speaks and is seen well enough stays where he is: in a main slot, or anywhere when the
//!   layout has none.
//! * A speaker who is to enter a main slot changes places with the main who was silent for longest,
//!   and only when that one has been silent for [`HOLD`], so that two who talk to each other do not
//!   fight for one slot.
//! * A speaker who is not seen takes the place of the one who was silent for longest.
//! * A cough is no speech: it takes [`CONFIRM`] of it to move anybody.
//!
//! A spotlight list wins over voice: its members have the first slots, in its order.
//!
//! Nobody looks at himself: [`Order::views`] says which distinct pictures that takes.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use crate::leg::LegId;

#[cfg(test)]
mod tests;
mod view;

pub use view::{SelfView, View};

/// Speech that moves somebody: longer than a cough or a laugh, short enough that the first sentence
/// is seen.
pub const CONFIRM: Duration = Duration::from_millis(800);

/// A pause that does not end a speech: people breathe.
pub const PAUSE: Duration = Duration::from_millis(400);

/// How long a main must have been silent before another takes his slot.
pub const HOLD: Duration = Duration::from_millis(1_500);

/// The members of a conference who can be seen, and their slots.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Slots of the layout, and how many of them are mains.
    slots: usize,
    mains: usize,
    /// All members: first those in slots, by slot; then those who are not seen.
    members: Vec<Member>,
    /// Members with the first slots, whoever speaks.
    spotlight: Vec<LegId>,
}

#[derive(Clone, Debug)]
struct Member {
    leg: LegId,
    /// Began to speak, pauses bridged.
    since: Instant,
    /// Was last heard. `None`: never.
    heard: Option<Instant>,
    /// Was last heard speaking for [`CONFIRM`]. `None`: never.
    spoke: Option<Instant>,
}

impl Order {
    /// An order for a layout of `slots`, the first `mains` of which are for speakers.
    pub fn new(slots: usize, mains: usize) -> Self {
        Self { slots, mains: mains.min(slots), ..Self::default() }
    }

    /// Who is seen, by slot: without gaps, as many as there are members and slots.
    pub fn seated(&self) -> impl ExactSizeIterator<Item = LegId> + '_ {
        self.members[..self.seats()].iter().map(|it| it.leg)
    }

    /// The speaker to be marked: the one who spoke last, while he has not been silent for [`HOLD`].
    pub fn speaker(&self, now: Instant) -> Option<LegId> {
        let spoke = self.members.iter().filter(|it| it.spoke.is_some());
        // Of two who speak at once the one who began first.
        let last = spoke.max_by_key(|it| (it.spoke, std::cmp::Reverse(it.since)))?;
        let silent = now.saturating_since(last.spoke?);
        (silent < HOLD).then_some(last.leg)
    }

    /// A member comes: the next free slot is his, if there is one.
    pub fn join(&mut self, leg: LegId) {
        if self.position(leg).is_none() {
            self.members.push(Member { leg, since: Instant::ZERO, heard: None, spoke: None });
            self.seat_spotlight();
        }
    }

    /// A member goes. The one who spoke last of those who are not seen takes his slot, or, when all
    /// are seen, the last one does; a main slot is refilled from the other seen ones first.
    pub fn leave(&mut self, leg: LegId) {
        self.spotlight.retain(|it| *it != leg);
        let Some(at) = self.position(leg) else { return };
        let seats = self.seats();
        if at >= seats {
            self.members.remove(at);
            return;
        }
        let mut gap = at;
        if gap < self.mains
            && let Some(next) = self.latest(self.mains.min(seats)..seats)
        {
            self.members.swap(gap, next);
            gap = next;
        }
        if let Some(next) = self.latest(seats..self.members.len()) {
            self.members.swap(gap, next);
            self.members.remove(next);
        } else {
            self.members.swap_remove(gap);
        }
        self.seat_spotlight();
    }

    /// A member is heard speaking: to be called at least every [`PAUSE`] while he does. Says whether
    /// somebody moved.
    pub fn heard(&mut self, leg: LegId, now: Instant) -> bool {
        let Some(at) = self.position(leg) else { return false };
        let member = &mut self.members[at];
        if member.heard.is_none_or(|heard| now.saturating_since(heard) > PAUSE) {
            member.since = now;
        }
        member.heard = Some(now);
        if now.saturating_since(member.since) < CONFIRM {
            return false;
        }
        member.spoke = Some(now);
        let pinned = self.pinned();
        let entered = if self.mains > pinned { self.enter_main(at, now) } else { self.enter_view(at) };
        entered || (self.mains > pinned && self.enter_view(at))
    }

    /// Members to be seen first, in this order, whoever speaks; those who are no members count from
    /// when they join. An empty list gives the slots back to the voices: nobody moves for that.
    pub fn set_spotlight(&mut self, legs: &[LegId]) {
        self.spotlight.clear();
        for leg in legs {
            if !self.spotlight.contains(leg) {
                self.spotlight.push(*leg);
            }
        }
        self.seat_spotlight();
    }

    /// Another layout. Who spoke last stays seen, in the order in which they sit, the last speakers
    /// in the main slots.
    pub fn set_slots(&mut self, slots: usize, mains: usize) {
        let before = self.seats();
        (self.slots, self.mains) = (slots, mains.min(slots));
        let after = self.seats();
        if after < before {
            // Who goes: the longest silent, among equals the last to come.
            for place in after..before {
                let from = self.earliest(0..after).filter(|at| self.rank(place) > self.rank(*at));
                if let Some(from) = from {
                    let member = self.members.remove(place);
                    let gone = self.members.remove(from);
                    self.members.insert(after - 1, member);
                    self.members.insert(place, gone);
                }
            }
        }
        let mains = self.mains.min(after);
        for _ in 0..mains {
            let (Some(next), Some(silent)) = (self.latest(mains..after), self.earliest(0..mains)) else {
                break;
            };
            if self.rank(next) <= self.rank(silent) {
                break;
            }
            self.members.swap(next, silent);
        }
        self.seat_spotlight();
    }

    fn seats(&self) -> usize {
        self.members.len().min(self.slots)
    }

    fn position(&self, leg: LegId) -> Option<usize> {
        self.members.iter().position(|it| it.leg == leg)
    }

    /// Slots that the spotlight holds.
    fn pinned(&self) -> usize {
        let here = self.spotlight.iter().filter(|leg| self.position(**leg).is_some()).count();
        here.min(self.slots)
    }

    /// The speaker at `at` changes places with the longest silent main that voice may move.
    fn enter_main(&mut self, at: usize, now: Instant) -> bool {
        let mains = self.mains.min(self.seats());
        if at < mains {
            return false;
        }
        let Some(silent) = self.earliest(self.pinned()..mains) else { return false };
        let holds = self.members[silent].spoke.is_some_and(|spoke| now.saturating_since(spoke) < HOLD);
        if holds {
            return false;
        }
        self.members.swap(at, silent);
        // Who was a main and is not seen any more was heard later than others who are.
        self.enter_view(at);
        true
    }

    /// The member at `at` takes the place of the longest silent who is seen outside the mains, if he
    /// was heard later and is not seen himself.
    fn enter_view(&mut self, at: usize) -> bool {
        let (seats, first) = (self.seats(), self.mains.max(self.pinned()));
        if at < seats {
            return false;
        }
        let Some(silent) = self.earliest(first.min(seats)..seats) else { return false };
        if self.rank(at) <= self.rank(silent) {
            return false;
        }
        self.members.swap(at, silent);
        true
    }

    /// Puts the spotlit members into the first slots, by swaps.
    fn seat_spotlight(&mut self) {
        let mut slot = 0;
        for index in 0..self.spotlight.len() {
            if slot >= self.slots {
                break;
            }
            let Some(at) = self.position(self.spotlight[index]) else { continue };
            self.members.swap(at, slot);
            slot += 1;
        }
    }

    /// How much a member is to be seen: who spoke later more, who never spoke least.
    fn rank(&self, at: usize) -> Option<Instant> {
        self.members[at].spoke
    }

    /// The longest silent within, the last of equals.
    fn earliest(&self, within: std::ops::Range<usize>) -> Option<usize> {
        within.rev().min_by_key(|at| self.rank(*at))
    }

    /// The last to speak within, the first of equals.
    fn latest(&self, within: std::ops::Range<usize>) -> Option<usize> {
        within.rev().max_by_key(|at| self.rank(*at))
    }
}
