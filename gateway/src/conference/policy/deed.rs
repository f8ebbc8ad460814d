//! What people do in a conference, and who may (S34 to S38).

use crosspoint_codecs::clock::Instant;

use super::{Change, End, Exit, Muted, Party, PartyId, Place, Policy, Role};

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The administrator: may do everything.
    Admin,
    /// Somebody in the conference.
    Party(PartyId),
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Newcomers wait, or need not any more.
    Lock(bool),
    /// Guests need not wait for a host any more.
    Start,
    /// Lets one in who waits.
    Admit(PartyId),
    /// Sends somebody away; one who waits is rejected.
    Remove(PartyId),
    /// Sends everybody away.
    End,
    /// Mutes somebody, or takes that back. A host does not open the microphone of one who muted himself.
    Mute(PartyId, bool),
    /// The same with all guests, those who come as well.
    MuteGuests(bool),
    /// Whether guests may take back a host's mute.
    GuestsCanUnmute(bool),
    /// Makes somebody a host or a guest.
    Role(PartyId, Role),
    /// Raises somebody's hand, or lowers it.
    Hand(PartyId, bool),
    /// Lowers all hands.
    LowerHands,
    /// Shows somebody first, or not any more.
    Spotlight(PartyId, bool),
    /// Shows nobody first.
    ClearSpotlights,
    /// Whether somebody is sent slides (S46).
    Slides(PartyId, bool),
    /// Whether somebody's picture is hidden.
    Hide(PartyId, bool),
    /// Somebody says that he has turned his own microphone off, or on.
    Microphone(PartyId, bool),
    /// Whether guests may show slides.
    GuestsPresent(bool),
}

/// Why it was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// His role does not allow it.
    #[error("only a host may do that")]
    Role,
    /// A host muted him.
    #[error("a host has muted you")]
    MutedByHost,
    /// It is done to somebody who is not there.
    #[error("there is no such participant")]
    NoParty,
    /// The conference is over.
    #[error("the conference is over")]
    Over,
    /// It was done, but may not outlive this process: the store could not be written.
    #[error("it could not be stored")]
    Storage,
}

impl Deed {
    /// Whether it is told as done only when it is on disk: who may be where, and as what. Mutes, hands
    /// and spotlights are written as well, and waited for by nobody.
    pub const fn outlives_a_kill(self) -> bool {
        !matches!(
            self,
            Self::Mute(..) | Self::Hand(..) | Self::LowerHands | Self::Spotlight(..) | Self::ClearSpotlights
        )
    }
}

impl Policy {
    /// Does it, if `actor` may. What comes of it is in [`Policy::take_changes`]; doing what is done
    /// already changes nothing.
    pub fn act(&mut self, now: Instant, actor: Actor, deed: Deed) -> Result<(), Denied> {
        if self.over.is_some() {
            return Err(Denied::Over);
        }
        self.may(actor, deed)?;
        match deed {
            Deed::Lock(locked) => self.set(|it| &mut it.locked, locked),
            Deed::Start => self.opened = true,
            Deed::GuestsCanUnmute(can) => self.set(|it| &mut it.guests_can_unmute, can),
            Deed::Admit(id) => self.let_in(now, id),
            Deed::Remove(id) if actor == Actor::Party(id) => self.out(id, Exit::Left),
            Deed::Remove(id) => self.out(id, Exit::Removed(actor)),
            Deed::End => self.finish(End::Ended(actor)),
            Deed::Mute(id, true) if actor == Actor::Party(id) => {
                self.change(id, |party| party.muted.himself = true);
            }
            Deed::Mute(id, true) => self.change(id, |party| party.muted.by_host = true),
            Deed::Mute(id, false) if actor == Actor::Party(id) => {
                self.change(id, |party| party.muted = Muted::default());
            }
            Deed::Mute(id, false) => self.change(id, |party| party.muted.by_host = false),
            Deed::MuteGuests(muted) => {
                self.set(|it| &mut it.guests_muted, muted);
                for id in self.with(|party| party.role == Role::Guest) {
                    self.change(id, |party| party.muted.by_host = muted);
                }
            }
            Deed::Role(id, role) => self.change(id, |party| party.role = role),
            Deed::Hand(id, up) => self.change(id, |party| party.hand = up.then(|| party.hand.unwrap_or(now))),
            Deed::LowerHands => {
                for id in self.with(|party| party.hand.is_some()) {
                    self.change(id, |party| party.hand = None);
                }
            }
            Deed::Spotlight(id, on) => {
                self.change(id, |party| party.spotlight = on.then(|| party.spotlight.unwrap_or(now)));
            }
            Deed::ClearSpotlights => {
                for id in self.with(|party| party.spotlight.is_some()) {
                    self.change(id, |party| party.spotlight = None);
                }
            }
            Deed::Slides(id, sent) => self.change(id, |party| party.slides = sent),
            Deed::Hide(id, hidden) => self.change(id, |party| party.hidden = hidden),
            Deed::Microphone(id, on) => self.change(id, |party| party.microphone = on),
            Deed::GuestsPresent(may) => self.set(|it| &mut it.guests_present, may),
        }
        self.settle(now);
        Ok(())
    }

    /// Whether somebody may show slides.
    pub fn may_present(&self, id: PartyId) -> bool {
        let may = |it: &Party| it.role == Role::Host || self.guests_present;
        self.party(id).is_some_and(|it| it.place == Place::In && may(it))
    }

    fn may(&self, actor: Actor, deed: Deed) -> Result<(), Denied> {
        let to = match deed {
            Deed::Admit(id)
            | Deed::Remove(id)
            | Deed::Mute(id, _)
            | Deed::Role(id, _)
            | Deed::Hand(id, _)
            | Deed::Spotlight(id, _)
            | Deed::Slides(id, _)
            | Deed::Hide(id, _)
            | Deed::Microphone(id, _) => Some(*self.party(id).ok_or(Denied::NoParty)?),
            _ => None,
        };
        let Actor::Party(id) = actor else { return Ok(()) };
        let own = *self.party(id).ok_or(Denied::NoParty)?;
        let himself = to.is_some_and(|to| to.id == id);
        match deed {
            Deed::Remove(_) if himself => Ok(()),
            // Who waits may go, and nothing else.
            _ if own.place == Place::Waiting => Err(Denied::Role),
            // Only he himself knows.
            Deed::Microphone(..) => {
                if himself {
                    Ok(())
                } else {
                    Err(Denied::Role)
                }
            }
            _ if own.role == Role::Host => Ok(()),
            // All in a room without a host PIN let in and reject (S25), whatever they were made since.
            Deed::Admit(_) | Deed::Remove(_) if to.is_some_and(waits) && self.sees_waiting(id) => Ok(()),
            Deed::Hand(..) | Deed::Slides(..) | Deed::Hide(..) | Deed::Mute(_, true) if himself => Ok(()),
            Deed::Mute(_, false) if himself && own.muted.by_host && !self.guests_can_unmute => {
                Err(Denied::MutedByHost)
            }
            Deed::Mute(_, false) if himself => Ok(()),
            _ => Err(Denied::Role),
        }
    }

    fn set(&mut self, flag: impl Fn(&mut Self) -> &mut bool, to: bool) {
        if std::mem::replace(flag(self), to) != to {
            self.changes.push(Change::Conference);
        }
    }

    fn with(&self, which: impl Fn(&Party) -> bool) -> Vec<PartyId> {
        self.parties.iter().filter(|party| which(party)).map(|party| party.id).collect()
    }

    fn change(&mut self, id: PartyId, how: impl FnOnce(&mut Party)) {
        if let Some(party) = self.parties.iter_mut().find(|party| party.id == id) {
            let before = *party;
            how(party);
            if *party != before {
                self.changes.push(Change::Party(id));
            }
        }
    }
}

const fn waits(party: Party) -> bool {
    matches!(party.place, Place::Waiting)
}
