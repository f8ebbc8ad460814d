//! Rooms that are calls between two (S2, S52, S56): who calls hears that it rings and is answered when
//! the called party is; who is left alone is hung up. And clients that take a call which rings at
//! them, whatever room it comes from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Room;
use super::attendee::{Attendee, Invitation, Stage};
use super::seam::Joined;
use crate::cause::{Cause, Reason};
use crate::conference::offer::answer_alone;
use crate::conference::policy::{End, Entry, Full, PartyId, Place};
use crate::conference::service::Kind;
use crate::leg::{LegCommand, LegId};

/// Whose client has taken the call comes in within so long: its request is on its way. The caller waits
/// no longer for one that does not.
const COMES: Duration = Duration::from_secs(5);

/// How far a call between two is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    /// The called party has answered.
    connected: bool,
}

/// A client that wants to come in, in the place of a leg that rings.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) source: Option<SocketAddr>,
    pub(super) reply: oneshot::Sender<Result<Joined, Full>>,
}

impl Room {
    /// This is a call between two.
    pub(super) fn is_call(&self) -> bool {
        self.service.kind == Kind::Gateway
    }

    /// The called party rings.
    pub(super) fn called_rings(&mut self) {
        if self.is_call() {
            callers(&mut self.attendees).for_each(|caller| caller.tell(LegCommand::Ring));
        }
    }

    /// Somebody is in: once that is the called party, whoever called is answered.
    pub(super) fn called_answers(&mut self, id: PartyId) {
        let called = self.attendees.get(&id).is_some_and(|it| it.invited.is_some());
        let Some(call) = self.call.as_mut().filter(|call| called && !call.connected) else { return };
        call.connected = true;
        callers(&mut self.attendees)
            .for_each(|caller| caller.tell(LegCommand::Answer(answer_alone(caller.offered.as_ref()))));
        // Who came by the client API is in already, and hears the other from now on.
        let all: Vec<_> = self.attendees.keys().copied().collect();
        all.into_iter().for_each(|id| self.sound(id));
    }

    /// A leg of the call, or somebody in it, is gone for that reason: so is the call, unless both are
    /// still there or to come.
    pub(super) fn one_less(&mut self, cause: Cause) {
        let Some(call) = self.call else { return };
        if !call.connected {
            // The called party is not to be had, or nobody wants it any more.
            self.policy.end(End::FarSide(cause.reason));
            callers(&mut self.attendees).for_each(|caller| caller.hang_up(cause.across()));
            return;
        }
        let here = self.policy.parties().iter().filter(|it| it.place == Place::In).count();
        let coming = callers(&mut self.attendees).count();
        if here + coming < 2 {
            self.policy.end(End::FarSide(cause.reason));
            callers(&mut self.attendees).for_each(|caller| caller.hang_up(cause.across()));
        }
    }

    /// A key of one goes to the other.
    pub(super) fn pass_on(&mut self, from: PartyId, key: char) {
        for attendee in self.attendees.values_mut().filter(|it| it.id != from) {
            attendee.tell(LegCommand::SendDtmf(key));
        }
    }

    /// Whether `id` hears himself: the other side of his call has no media of its own yet.
    pub(super) fn is_tested(&self, id: PartyId) -> bool {
        let far = |it: &&Attendee| it.id != id && matches!(it.stage, Stage::In);
        self.is_call() && self.attendees.values().find(far).is_some_and(Attendee::is_control_only)
    }

    /// A client comes in, in the place of `leg`, which rang it.
    pub(super) fn claim(&mut self, leg: LegId, claim: Claim) {
        self.claims.retain(|_, claim| !claim.reply.is_closed());
        let has_taken = |it: &&Attendee| it.taken == Some(leg) && it.rings_until().is_some();
        let taken = self.attendees.values().find(has_taken).map(|it| it.id);
        match taken {
            Some(id) => self.seat(id, claim),
            // The leg's own word is on its way, unless nobody rings any more.
            None if self.attendees.values().any(|it| it.rings_until().is_some()) => {
                self.claims.insert(leg, claim);
            }
            None => {}
        }
    }

    /// The leg of somebody who rings tells that `leg`, which it is or stands for, is taken by a client.
    pub(super) fn taken(&mut self, id: PartyId, leg: LegId) {
        let now = self.now();
        let rings = |it: &&mut Attendee| it.rings_until().is_some();
        let Some(attendee) = self.attendees.get_mut(&id).filter(rings) else { return };
        attendee.taken = Some(leg);
        if let Some(invited) = &mut attendee.invited {
            invited.until = invited.until.min(now + COMES);
        }
        if let Some(claim) = self.claims.remove(&leg) {
            self.seat(id, claim);
        }
    }

    fn seat(&mut self, id: PartyId, claim: Claim) {
        let now = self.now();
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        let Some(Invitation { role, keeps, .. }) = attendee.invited else { return };
        // The leg ends when it is let go of: not before the client knows that it is in.
        attendee.answered = true;
        let leg = attendee.become_client(claim.name, claim.source);
        let uuid = attendee.uuid;
        let entered = self.enter_as(id, now, Entry { role, invited: true, keeps });
        self.carry_out();
        let joined = entered.map(|place| {
            self.show();
            Joined { place, ..self.joined(id, uuid) }
        });
        if joined.is_err() {
            self.attendees.remove(&id);
            self.one_less(Cause::local(Reason::Congestion));
        }
        if let Err(Ok(joined)) = claim.reply.send(joined) {
            // Who asked is gone: so is he.
            self.policy.leave(now, joined.id);
        }
        drop(leg);
        self.carry_out();
    }
}

/// Those who have called and are not answered yet.
fn callers(attendees: &mut BTreeMap<PartyId, Attendee>) -> impl Iterator<Item = &mut Attendee> {
    attendees.values_mut().filter(|it| it.invited.is_none() && matches!(it.stage, Stage::Arriving))
}

#[cfg(test)]
mod tests;
