//! Parties change their call or their telephone while they talk (RFC 5589 section 7, RFC 3891).
//!
//! ```text
//!  attended transfer: A talks to B in one call and to C in another, and wants the two joined
//!    A ── Referred (his leg to C) ──► call of B ── Give ──► call of C: hangs up A, gives C away
//!      ◄─ Accepted, Answered, hung up ─   B and C talk, in the call of B
//!
//!  a new leg of A's own in the place of the one that he has:
//!    new leg ── Replace ──► call: answers it, and then hangs up the old one
//! ```
//!
//! Nobody waits: the call that was asked answers when it can, and the one that asks lives on meanwhile.
//! Both look whether the leg that is named is one of whoever asks, by what he has proven.

use std::time::Duration;

use crosspoint_codecs::format::{Capabilities, Direction};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::participant::{Exchange as Offering, Participant};
use super::transfer::{TRANSFERS, identity, takes, telephone};
use super::{Call, LegView};
use crate::cause::{Cause, Reason};
use crate::conference::exchange::refuse;
use crate::leg::{Leg, LegCommand, LegId, LegStream, Proven, Referral};
use crate::records::TransferRecord;

/// Orders that wait for one call. Overflow: what was asked for does not happen; who asks twice as a human
/// does is answered in between.
pub(in crate::conference) const ORDERS: usize = 4;

/// A call gives its party away by then, or not at all: a hold that is on its way has settled, even if it
/// was repeated for want of an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What one call wants of another, and who calls of one that stands.
#[derive(Debug)]
pub(in crate::conference) enum Order {
    /// The party that talks to that leg shall go elsewhere; the leg is hung up then.
    Give(Give),
    /// A new leg shall take the place of another.
    Replace(Box<Replace>),
}

impl Order {
    /// The same for the leg by the number that it has in its call.
    pub(in crate::conference) fn on(mut self, known: LegId) -> Self {
        match &mut self {
            Self::Give(give) => give.leg = known,
            Self::Replace(replace) => replace.old = known,
        }
        self
    }
}

/// See [`Order::Give`].
#[derive(Debug)]
pub(in crate::conference) struct Give {
    /// The leg of who wants it.
    pub(in crate::conference) leg: LegId,
    /// Who he has proven to be.
    pub(in crate::conference) by: Proven,
    /// Whom the party will talk to, for the record.
    pub(in crate::conference) to: String,
    /// The leg has asked for it by a transfer of its own, and is told what comes of it.
    pub(in crate::conference) referral: bool,
    /// The party.
    pub(in crate::conference) reply: oneshot::Sender<Result<Box<Participant>, Reason>>,
}

/// See [`Order::Replace`].
#[derive(Debug)]
pub(in crate::conference) struct Replace {
    /// The leg whose place is taken.
    pub(in crate::conference) old: LegId,
    /// The one that takes it. It has made its offer, or none.
    pub(in crate::conference) new: Leg,
    /// Who is said to have wanted it.
    pub(in crate::conference) referred_by: Option<String>,
}

/// A party of another call is asked for.
#[derive(Debug)]
pub(super) struct Taking {
    referrer: LegId,
    reply: oneshot::Receiver<Result<Box<Participant>, Reason>>,
}

/// A new leg is about to take the place of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacement {
    old: LegId,
    new: LegId,
}

impl Call {
    /// Takes orders of other calls, and of who calls for a place in this one.
    #[must_use]
    pub(in crate::conference) fn with_orders(self, orders: mpsc::Receiver<Order>) -> Self {
        Self { orders: Some(orders), ..self }
    }

    /// `leg` wants the other party to talk to whom he talks to himself on his leg `own`.
    pub(super) async fn referred_to_own(
        &mut self,
        leg: LegId,
        to: String,
        own: LegId,
        referred_by: Option<String>,
    ) {
        let Some(referrer) = self.participant(leg).map(|it| it.leg.party.clone()) else { return };
        let by = identity(&referrer);
        let asked = match referrer.proven() {
            Some(proven) => self.ask_for(leg, &to, own, proven),
            None => Err(Reason::Forbidden),
        };
        let outcome = asked.as_ref().map_or_else(|reason| reason.word(), |_| "called").to_owned();
        tracing::info!(leg = leg.0, by, to, own = own.0, outcome, "attended transfer asked for");
        if self.sent_on.len() < TRANSFERS {
            self.sent_on.push(TransferRecord { by, to, referred_by, rule: None, outcome });
        }
        let answer = asked.map_or_else(Referral::Refused, |()| Referral::Accepted);
        self.tell_referrer(leg, answer).await;
    }

    /// Asks the call of `own` for the party there. Where that leg is in a conference, the other party of this
    /// call goes there instead.
    fn ask_for(&mut self, leg: LegId, called: &str, own: LegId, by: Proven) -> Result<(), Reason> {
        let (number, exchange) = self.transfers.clone().ok_or(Reason::Forbidden)?;
        let Some(other) = self.other(leg) else { return Err(Reason::Forbidden) };
        if self.is_changing() || self.crossing.is_some() || self.ending() || self.sent_on.len() >= TRANSFERS {
            return Err(Reason::Congestion);
        }
        let to = identity(&other.leg.party);
        if let Some((service, seat)) = exchange.seat_of(own, &by)? {
            self.send_into(&exchange, leg, by, called, service, Some(seat));
            return Ok(());
        }
        let (reply, told) = oneshot::channel();
        exchange.ask(Some(number), own, Order::Give(Give { leg: own, by, to, referral: false, reply }))?;
        self.taking = Some(Taking { referrer: leg, reply: told });
        Ok(())
    }

    /// Whether its parties are about to be others.
    pub(super) const fn is_changing(&self) -> bool {
        self.transfer.is_some()
            || self.taking.is_some()
            || self.giving.is_some()
            || self.replacement.is_some()
    }

    /// What another call wants, or who calls.
    pub(super) async fn ordered(&mut self, order: Order) {
        match order {
            Order::Give(give) => match self.may_give(&give) {
                Ok(()) => {
                    self.giving = Some((give, Instant::now() + PATIENCE));
                    self.give_when_quiet().await;
                }
                Err(reason) => {
                    let _ = give.reply.send(Err(reason));
                }
            },
            Order::Replace(replace) => self.replace(*replace).await,
        }
    }

    /// Whether the party that talks to that leg may go because whoever asks says so.
    fn may_give(&mut self, give: &Give) -> Result<(), Reason> {
        let own = self.participant(give.leg).filter(|it| it.is_there());
        if own.is_none_or(|own| own.leg.party.proven().as_ref() != Some(&give.by)) {
            return Err(Reason::Unavailable);
        }
        if self.is_changing() || self.ending() {
            return Err(Reason::Congestion);
        }
        match self.other(give.leg) {
            Some(other) if other.answered && other.is_there() => Ok(()),
            _ => Err(Reason::Unavailable),
        }
    }

    /// Gives the party away as soon as nothing is being settled with it.
    pub(super) async fn give_when_quiet(&mut self) {
        let Some((give, until)) = self.giving.take() else { return };
        let gone = self.ending() || give.reply.is_closed() || until <= Instant::now();
        let party = self.other(give.leg).filter(|it| it.is_there() && !gone);
        let Some(party) = party else {
            let _ = give.reply.send(Err(Reason::Unavailable));
            if give.referral {
                self.not_given(give.leg).await;
            }
            return;
        };
        if self.crossing.is_some() || party.exchange != Offering::Idle {
            self.giving = Some((give, until));
            return;
        }
        self.remember();
        if give.leg != self.caller.leg.id {
            self.swap_sides();
        }
        let Some(at) = self.connected.and_then(|id| self.callees.iter().position(|it| it.leg.id == id))
        else {
            return;
        };
        let party = Box::new(self.callees.remove(at));
        let connected = self.connected.take();
        let ringing = std::mem::take(&mut self.caller.ringing);
        // Its streams are free of this call's routes before another has them.
        self.replan();
        let by = identity(&self.caller.leg.party);
        if let Err(Ok(party)) = give.reply.send(Ok(party)) {
            // Nobody wants it any more.
            self.callees.push(*party);
            (self.connected, self.caller.ringing) = (connected, ringing);
            self.last = None;
            return self.replan();
        }
        if give.referral {
            tracing::info!(by, to = give.to, "the other party goes to a conference");
            if let Some(told) = self.sent_on.last_mut() {
                "answered".clone_into(&mut told.outcome);
            }
            self.tell_referrer(give.leg, Referral::Answered).await;
            return self.caller.hang_up(Cause::local(Reason::Hangup)).await;
        }
        tracing::info!(by, to = give.to, "the other party goes to another call");
        if self.sent_on.len() < TRANSFERS {
            let outcome = "answered".to_owned();
            self.sent_on.push(TransferRecord { by, to: give.to, referred_by: None, rule: None, outcome });
        }
        self.caller.hang_up(Cause::local(Reason::Hangup)).await;
    }

    /// The party that was to go to a conference is gone itself, or what it was settling takes too long.
    async fn not_given(&mut self, referrer: LegId) {
        if let Some(told) = self.sent_on.last_mut() {
            Reason::Unavailable.word().clone_into(&mut told.outcome);
        }
        self.tell_referrer(referrer, Referral::Failed(Reason::Unavailable)).await;
        if self.callee(referrer).is_some_and(|it| it.ended.is_some() || it.hung_up) {
            // Who stays would be alone.
            self.remember();
            self.caller.hang_up(Cause::local(Reason::Unavailable)).await;
        }
    }

    /// Whether the end of `leg` is that of one whose party is about to go to a conference: his part is done.
    pub(super) fn leaves_giving(&mut self, leg: LegId, cause: Cause) -> bool {
        if !self.giving.as_ref().is_some_and(|(give, _)| give.referral && give.leg == leg) {
            return false;
        }
        if leg == self.caller.leg.id {
            self.swap_sides();
        }
        self.left.extend(self.callee(leg).map(|it| self.leg_view(it)));
        if let Some(gone) = self.participant(leg) {
            gone.ended = Some(cause);
            gone.streams.clear();
        }
        self.replan();
        true
    }

    /// The other call has answered.
    pub(super) async fn taken(&mut self, answer: Result<Box<Participant>, Reason>) {
        let Some(Taking { referrer, .. }) = self.taking.take() else { return };
        let new = match answer {
            Ok(new) => *new,
            Err(reason) => return self.not_taken(referrer, reason).await,
        };
        let id = new.leg.id;
        if let Some((number, exchange)) = &self.transfers {
            exchange.traces().join(*number, &new.leg);
        }
        if referrer == self.caller.leg.id {
            self.swap_sides();
        }
        self.callees.push(new);
        if self.ending() {
            // Who stays has hung up meanwhile.
            let cause = self.caller.ended.unwrap_or(Cause::local(Reason::Hangup));
            return self.hang_up_callees(cause.across()).await;
        }
        let there = self.callee(referrer).filter(|it| it.ended.is_none());
        self.left.extend(there.map(|it| self.leg_view(it)));
        if let Some(told) = self.sent_on.last_mut() {
            "answered".clone_into(&mut told.outcome);
        }
        self.connected = Some(id);
        // Each has agreed with somebody else.
        self.accorded = true;
        self.tell_referrer(referrer, Referral::Answered).await;
        if let Some(referrer) = self.participant(referrer) {
            referrer.hang_up(Cause::local(Reason::Hangup)).await;
        }
        self.replan();
        let kept = self.caller.leg.id;
        self.take_up_again(kept, id).await;
        self.take_up_again(id, kept).await;
    }

    /// The party is not to be had: the call goes on, if who asked is still in it.
    async fn not_taken(&mut self, referrer: LegId, reason: Reason) {
        if let Some(told) = self.sent_on.last_mut() {
            reason.word().clone_into(&mut told.outcome);
        }
        let referral = match reason {
            // It was there when it was named.
            Reason::Unavailable => Referral::NoSuchCall,
            other => Referral::Failed(other),
        };
        self.tell_referrer(referrer, referral).await;
        if self.participant(referrer).is_some_and(|it| it.ended.is_some()) {
            self.end(Cause::remote(Reason::Hangup).across()).await;
        }
    }

    /// Whether `leg` has asked for a party, and the answer says what becomes of the call without it.
    pub(super) async fn leaves_taking(&mut self, leg: LegId, cause: Cause) -> bool {
        if self.taking.as_ref().is_none_or(|taking| taking.referrer != leg) {
            return false;
        }
        self.left.extend(self.view_of(leg));
        // Who stays takes his side: nothing of this call ends.
        if leg == self.caller.leg.id {
            self.swap_sides();
        }
        if let Some(gone) = self.participant(leg) {
            gone.ended = Some(cause);
            gone.streams.clear();
        }
        self.replan();
        true
    }

    /// A new leg in the place of another: in that of one that talks, or of one that rings.
    async fn replace(&mut self, Replace { old, new, referred_by }: Replace) {
        let wanted = match self.place_of(old, &new) {
            Ok(wanted) => wanted,
            Err(reason) => {
                tokio::spawn(refuse(new, Cause::local(reason)));
                return;
            }
        };
        let by = identity(&new.party);
        tracing::info!(leg = new.id.0, old = old.0, by, "a new leg takes the place of another");
        if let Some((number, exchange)) = &self.transfers {
            exchange.traces().join(*number, &new);
        }
        let (to, outcome) = (telephone(&new.party), "called".to_owned());
        self.sent_on.push(TransferRecord { by, to, referred_by, rule: None, outcome });
        self.replacement = Some(Replacement { old, new: new.id });
        let mut new = Participant::new(new);
        new.tell(LegCommand::Answer(wanted)).await;
        self.callees.push(new);
    }

    /// What a new leg is answered with in the place of `old`; why it cannot have that (RFC 3891 section 3).
    fn place_of(&mut self, old: LegId, new: &Leg) -> Result<Capabilities, Reason> {
        let standing = self.participant(old).filter(|it| it.is_there());
        let standing = standing.map(|it| (it.leg.party.proven(), it.answered));
        let Some((Some(proven), answered)) = standing else { return Err(Reason::Rejected) };
        if new.party.proven() != Some(proven) {
            return Err(Reason::Rejected);
        }
        if self.is_changing() || self.crossing.is_some() || self.ending() || self.sent_on.len() >= TRANSFERS {
            return Err(Reason::Congestion);
        }
        match self.other(old) {
            Some(other) if answered && other.answered => Ok(takes(other)),
            // It rings there, because we called.
            None if self.connected.is_none() && old != self.caller.leg.id => {
                Ok(Self::offer(self.offered.as_ref()))
            }
            _ => Err(Reason::Rejected),
        }
    }

    /// `leg` is answered. True: it was to take the place of one that talks, and has it now.
    pub(super) async fn replaced(&mut self, leg: LegId, streams: &[LegStream]) -> bool {
        let Some(Replacement { old, .. }) = self.replacement.take_if(|it| it.new == leg) else {
            return false;
        };
        if let Some(told) = self.sent_on.last_mut() {
            "answered".clone_into(&mut told.outcome);
        }
        if self.connected.is_none() || self.ending() {
            return false;
        }
        self.left.extend(self.view_of(old));
        if let Some(new) = self.participant(leg) {
            new.streams = streams.to_vec();
            new.answered = true;
        }
        if old == self.caller.leg.id {
            if let Some(new) = self.callees.iter_mut().find(|it| it.leg.id == leg) {
                std::mem::swap(&mut self.caller, new);
            }
        } else {
            self.connected = Some(leg);
        }
        self.accorded = true;
        if let Some(old) = self.participant(old) {
            old.hang_up(Cause::local(Reason::Hangup)).await;
        }
        self.replan();
        if let Some(other) = self.other(leg).map(|it| it.leg.id) {
            self.take_up_again(other, leg).await;
        }
        true
    }

    /// The end of `leg` may be that of one that was to take a place, or of who was to talk to it.
    pub(super) async fn leaves_replacement(&mut self, leg: LegId, cause: Cause) {
        let Some(Replacement { new, .. }) = self.replacement else { return };
        let stands = self.connected.is_some();
        if leg == new {
            self.replacement = None;
            if let Some(told) = self.sent_on.last_mut() {
                cause.reason.word().clone_into(&mut told.outcome);
            }
        } else if leg == self.caller.leg.id || stands && self.connected == Some(leg) {
            self.replacement = None;
            if let Some(new) = self.participant(new) {
                new.hang_up(cause.across()).await;
            }
        }
    }

    fn view_of(&self, leg: LegId) -> Option<LegView> {
        let mut all = std::iter::once(&self.caller).chain(&self.callees);
        all.find(|it| it.leg.id == leg).map(|it| self.leg_view(it))
    }

    /// Offers `leg` anew what `other` takes, both ways, if it is on hold: who held it is gone.
    async fn take_up_again(&mut self, leg: LegId, other: LegId) {
        let Some(wanted) = self.participant(other).map(|it| takes(it)) else { return };
        let Some(leg) = self.participant(leg) else { return };
        let held = leg.streams.iter().any(|it| it.agreed.direction != Direction::SendRecv);
        if held && leg.exchange == Offering::Idle {
            leg.exchange = Offering::Ours;
            leg.tell(LegCommand::Reoffer(wanted)).await;
        }
    }
}

/// The answer of the call that was asked for its party; never, where none was asked.
pub(super) async fn answer_of(taking: &mut Option<Taking>) -> Result<Box<Participant>, Reason> {
    match taking {
        Some(taking) => (&mut taking.reply).await.unwrap_or(Err(Reason::Unavailable)),
        None => std::future::pending().await,
    }
}

/// The next order, or never.
pub(super) async fn next_order(orders: &mut Option<mpsc::Receiver<Order>>) -> Order {
    let next = match orders {
        Some(orders) => orders.recv().await,
        None => None,
    };
    match next {
        Some(order) => order,
        None => std::future::pending().await,
    }
}
