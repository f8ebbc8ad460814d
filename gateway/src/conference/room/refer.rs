//! Telephones in a conference send it on (RFC 3515, RFC 5589): somebody else takes part in place of who asks.
//!
//! ```text
//!  who asks ── Referred ──► room: may he? ── Wish ──► exchange: whom would he reach? ── Invite, or TakeIn ──► room
//!           ◄─ Accepted, Rings ─     the new party rings; one to whom he talks himself is taken over
//!           ◄─ Answered, then hung up, unless he does so first ─     the new party is in, he is out
//! ```
//!
//! Only who is in and has proven who he is sends a conference on, and not while it is locked: the new party has
//! the role that he has by then, and passes the door that he has passed. Where it comes to nothing he is told so
//! and stays. Who hangs up meanwhile has done his part, and the other one comes all the same. Who is sent away has
//! not, and no seat outlives its conference: whoever comes for such a one stands at the door, and once it is locked
//! he waits as others do.

use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use super::Room;
use super::attendee::{Attendee, Stage};
use super::seam::{Referred, Seat};
use crate::cause::{Cause, Reason};
use crate::conference::call::transfer::{TRANSFERS, identity};
use crate::conference::policy::{self, Entry, Exit, PartyId, Place};
use crate::conference::service::{Kind, Service};
use crate::leg::{LegCommand, LegId, Party, Proven, Referral};
use crate::records::TransferRecord;

/// Who has sent the conference on hangs up within so long after he was told that it is done (RFC 5589 section
/// 6.1), or is hung up: a NOTIFY is repeated every 4 s at the latest (T2, RFC 3261 section 17.1.2.1).
const GOES_WITHIN: Duration = Duration::from_secs(4);

/// Those who hung up whose seats are remembered: he who comes for one comes within seconds, or within the time
/// that a telephone rings. For whose seat is forgotten the door is the same as for anybody.
const VACANT: usize = 16;

/// Somebody in a conference wants somebody else to take part in his place.
#[derive(Debug)]
pub(in crate::conference) struct Wish {
    /// The conference.
    pub(in crate::conference) service: Arc<Service>,
    /// Who he is, and has proven to be.
    pub(in crate::conference) who: Party,
    /// See `who`.
    pub(in crate::conference) by: Proven,
    /// Whom he wants there, in his protocol's spelling.
    pub(in crate::conference) to: String,
    /// A leg of his own in a call, whose other party is meant.
    pub(in crate::conference) instead_of: Option<LegId>,
    /// What he gives up.
    pub(in crate::conference) seat: Seat,
}

/// How far a wish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wished {
    /// It has not been answered.
    Asked,
    /// It is being done.
    Accepted,
    /// It rings there.
    Rings,
    /// Not a wish of this telephone's: another one of his own is about to have his seat.
    Comes,
}

impl Room {
    /// Somebody wants to be replaced by `to`; by the one to whom he talks on his leg `instead_of`.
    pub(super) fn referred(
        &mut self,
        id: PartyId,
        to: String,
        instead_of: Option<LegId>,
        referred_by: Option<String>,
    ) {
        let asked = self.wish(id, &to, instead_of);
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        let by = identity(&attendee.who);
        let outcome = asked.map_or_else(|reason| reason.word(), |()| "called").to_owned();
        tracing::info!(leg = id.0, by, to, outcome, "somebody else is asked for in a participant's place");
        // The last one is that of the wish that is under way.
        if attendee.wish.is_none() && attendee.sent_on.len() < TRANSFERS {
            attendee.sent_on.push(TransferRecord { by, to, referred_by, rule: None, outcome });
        }
        match asked {
            Ok(()) => attendee.wish = Some(Wished::Asked),
            Err(reason) => attendee.tell(LegCommand::Referral(Referral::Refused(reason))),
        }
    }

    fn wish(&self, id: PartyId, to: &str, instead_of: Option<LegId>) -> Result<(), Reason> {
        let attendee = self.attendees.get(&id).ok_or(Reason::Forbidden)?;
        // Who has not proven who he is makes no calls at another's cost.
        let by = attendee.who.proven().ok_or(Reason::Forbidden)?;
        let seat = self.seat_of(id).filter(|_| !self.policy.locked()).ok_or(Reason::Forbidden)?;
        if attendee.wish.is_some() || attendee.sent_on.len() >= TRANSFERS {
            return Err(Reason::Congestion);
        }
        let wishes = self.wishes.as_ref().ok_or(Reason::Forbidden)?;
        let (service, who, to) = (Arc::clone(&self.service), attendee.who.clone(), to.to_owned());
        wishes.try_send(Wish { service, who, by, to, instead_of, seat }).map_err(|_| Reason::Congestion)
    }

    /// What somebody can give up. In a call between two, and with an echo, there is no such thing.
    pub(super) fn seat_of(&self, id: PartyId) -> Option<Seat> {
        self.sits(id).map(Seat::from)
    }

    fn sits(&self, id: PartyId) -> Option<&policy::Party> {
        let meets = matches!(self.service.kind, Kind::Room | Kind::Auditorium);
        self.policy.party(id).filter(|it| meets && it.place == Place::In)
    }

    /// What somebody can give up by now, who was to do so before.
    pub(super) fn seat_now(&self, of: PartyId) -> Option<Seat> {
        self.sat(of).as_ref().map(Seat::from)
    }

    /// As what somebody is in, or was until he hung up a moment ago.
    pub(super) fn sat(&self, of: PartyId) -> Option<policy::Party> {
        if self.policy.is_over() {
            return None;
        }
        self.sits(of).or_else(|| self.vacant.iter().find(|it| it.id == of)).copied()
    }

    /// Somebody is about to leave by himself: who comes for his seat finds it.
    pub(super) fn vacates(&mut self, id: PartyId) {
        let Some(party) = self.sits(id).copied().filter(|_| !self.policy.is_over()) else { return };
        if self.vacant.len() >= VACANT {
            self.vacant.pop_front();
        }
        self.vacant.push_back(party);
    }

    /// What the exchange says of a wish.
    pub(super) fn referral(&mut self, id: PartyId, referral: Referral) {
        // What he no longer wishes he was told of.
        let wishes = |it: &&mut Attendee| it.wish.is_some();
        let Some(attendee) = self.attendees.get_mut(&id).filter(wishes) else { return };
        match referral {
            Referral::Accepted => attendee.wish = Some(Wished::Accepted),
            Referral::Refused(reason) | Referral::Failed(reason) => attendee.wish_ends(reason.word()),
            Referral::NoSuchCall => attendee.wish_ends(Reason::Unavailable.word()),
            Referral::Rings | Referral::Answered => {}
        }
        attendee.tell(LegCommand::Referral(referral));
    }

    /// `new` rings because of a wish. False: whoever wanted it is gone without an answer, or was sent away.
    pub(super) fn called_for(&mut self, new: &mut Attendee, referred: Referred) -> bool {
        let Referred { seat, rule } = referred;
        let stays = |it: &&mut Attendee| !it.was_sent_away();
        let Some(referrer) = self.attendees.get_mut(&seat.of).filter(stays) else { return false };
        if let Some(told) = referrer.sent_on.last_mut() {
            told.rule = rule;
        }
        referrer.wish = Some(Wished::Accepted);
        referrer.tell(LegCommand::Referral(Referral::Accepted));
        new.seat_of = Some(seat.of);
        true
    }

    /// The telephone of `id` rings, perhaps because of a wish.
    pub(super) fn rings_for(&mut self, id: PartyId) {
        let of = self.attendees.get(&id).and_then(|it| it.seat_of);
        let Some(referrer) = of.and_then(|of| self.attendees.get_mut(&of)) else { return };
        if referrer.wish == Some(Wished::Accepted) {
            referrer.wish = Some(Wished::Rings);
            referrer.tell(LegCommand::Referral(Referral::Rings));
        }
    }

    /// Somebody who is there takes a seat at once.
    pub(super) fn succeed(&mut self, id: PartyId, now: Instant, seat: Seat) {
        if let Some(attendee) = self.attendees.get_mut(&id) {
            attendee.seat_of = Some(seat.of);
        }
        // Who gave it up makes room for him, however full it is.
        let entry = Entry { role: seat.role, invited: false, keeps: seat.keeps };
        self.policy.make_way(seat.of);
        self.enter(id, now, entry);
    }

    /// `id` is in: whose seat he takes is out.
    pub(super) fn has_the_seat(&mut self, id: PartyId, now: Instant) {
        let Some(new) = self.attendees.get_mut(&id) else { return };
        let Some(of) = new.seat_of.take() else { return };
        let (to, own) = (identity(&new.who), new.own_seat);
        self.vacant.retain(|it| it.id != of);
        if !own {
            self.stays_at_one(of);
        }
        let Some(referrer) = self.attendees.get_mut(&of).filter(|it| it.hung_up.is_none()) else { return };
        let hangup = Cause::local(Reason::Hangup);
        referrer.stage = Stage::Leaving;
        match referrer.wish {
            Some(Wished::Comes) => {
                referrer.wish_ends("answered");
                referrer.hang_up(hangup);
            }
            Some(_) => {
                referrer.tell(LegCommand::Referral(Referral::Answered));
                referrer.wish_ends("answered");
                referrer.leaving = Some((now + GOES_WITHIN, hangup));
            }
            None => {
                // He asked for it in another call: this leg is over as one that another has replaced (RFC 3891
                // section 3).
                let (by, outcome) = (identity(&referrer.who), "answered".to_owned());
                if referrer.sent_on.len() < TRANSFERS {
                    referrer.sent_on.push(TransferRecord { by, to, referred_by: None, rule: None, outcome });
                }
                referrer.hang_up(hangup);
            }
        }
        self.policy.leave(now, of);
    }

    /// Whoever was to take a seat does not come.
    pub(super) fn not_reached_for(&mut self, id: PartyId, reason: Reason) {
        let of = self.attendees.get_mut(&id).and_then(|it| it.seat_of.take());
        let Some(referrer) = of.and_then(|of| self.attendees.get_mut(&of)) else { return };
        let Some(wish) = referrer.wish else { return };
        referrer.wish_ends(reason.word());
        if wish != Wished::Comes {
            referrer.tell(LegCommand::Referral(Referral::Failed(reason)));
        }
    }

    /// Somebody is out. Nobody comes in place of who was sent away, and with the conference it is over for him at
    /// every telephone.
    pub(super) fn gives_up_seat(&mut self, of: PartyId, exit: Exit) {
        match exit {
            Exit::Left | Exit::Waited => {}
            Exit::Over(_) => self.call_off(of, |it| it.own_seat),
            Exit::Removed(_) => self.call_off(of, |_| true),
        }
    }

    /// Another telephone of his that is about to have the seat of `of` does not get it any more.
    pub(super) fn stays_at_one(&mut self, of: PartyId) {
        self.call_off(of, |it| it.own_seat);
        let stays = self.attendees.get_mut(&of).filter(|it| it.wish == Some(Wished::Comes));
        if let Some(stays) = stays {
            stays.wish_ends(Reason::Cancelled.word());
        }
    }

    /// Who was promised a seat of `of` does not get it: it was granted a while ago, and is not by now.
    pub(super) fn seat_is_refused(&mut self, of: PartyId) {
        let referrer = self.attendees.get_mut(&of).filter(|it| it.wish == Some(Wished::Accepted));
        if let Some(referrer) = referrer {
            referrer.wish_ends(Reason::Forbidden.word());
            referrer.tell(LegCommand::Referral(Referral::Failed(Reason::Forbidden)));
        }
    }

    /// Those of `which` kind who come for the seat of `of` come no more. What becomes of an own one says nothing of
    /// what he wishes later.
    fn call_off(&mut self, of: PartyId, which: impl Fn(&Attendee) -> bool) {
        for new in self.attendees.values_mut().filter(|it| it.seat_of == Some(of) && which(it)) {
            if new.own_seat {
                new.seat_of = None;
            }
            new.hang_up(Cause::local(Reason::Cancelled));
        }
    }
}

impl From<&policy::Party> for Seat {
    fn from(party: &policy::Party) -> Self {
        Self { of: party.id, role: party.role, keeps: party.keeps }
    }
}

impl Attendee {
    /// He is out against his will, and his place is nobody's.
    pub(super) const fn was_sent_away(&self) -> bool {
        matches!(self.exit, Some(Exit::Removed(_)))
    }

    /// What came of his wish.
    fn wish_ends(&mut self, outcome: &str) {
        self.wish = None;
        if let Some(told) = self.sent_on.last_mut() {
            outcome.clone_into(&mut told.outcome);
        }
    }

    /// He goes to another conference, and nobody takes his place here on his behalf.
    pub(super) fn gives_up_his_wish(&mut self) {
        let referral = match self.wish {
            None => return,
            Some(Wished::Asked) => Referral::Refused(Reason::Cancelled),
            Some(Wished::Accepted | Wished::Rings) => Referral::Failed(Reason::Cancelled),
            Some(Wished::Comes) => return self.wish_ends(Reason::Cancelled.word()),
        };
        self.wish_ends(Reason::Cancelled.word());
        self.tell(LegCommand::Referral(referral));
    }
}
