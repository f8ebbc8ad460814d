//! A party sends the other one on (RFC 3515): it is joined with somebody else in place of who asked.
//!
//! ```text
//!  who asks ── Referred ──► call: may he, and whom would he reach? ── dials ──► the new party
//!           ◄─ Accepted, Rings ─   the other party hears that it rings
//!           ◄─ Answered, then hung up ─   the other party talks to the new one
//! ```
//!
//! The other party is told nothing but an offer anew, and only where it was on hold. Who asked may
//! hang up meanwhile; without that, and where nobody answers, the call goes on as it was.

use std::mem;
use std::sync::Arc;

use crosspoint_codecs::format::{Capabilities, Direction};

use super::Call;
use super::participant::{Exchange as Offering, Participant};
use super::takeover::{Give, PATIENCE};
use crate::cause::{Cause, Reason};
use crate::conference::exchange::{Exchange, Reached};
use crate::conference::offer::answer_for;
use crate::conference::redirect::Trail;
use crate::conference::room::Seat;
use crate::conference::service::Service;
use crate::leg::{LegCommand, LegId, Party, Proven, Referral};
use crate::records::TransferRecord;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Transfers of one call: each is the wish of a party that proved who it is, and a human's.
pub(in crate::conference) const TRANSFERS: usize = 16;

/// A transfer under way. One at a time.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Who asked: the connected leg.
    referrer: LegId,
    /// He called; where it comes to nothing he is the caller again.
    called: bool,
    /// Those that ring.
    legs: Vec<LegId>,
    rings: bool,
    trail: Trail,
    until: Instant,
    worst: Option<Cause>,
}

impl Transfer {
    pub(super) const fn until(&self) -> Instant {
        self.until
    }
}

impl Call {
    /// Lets parties send each other on, by `exchange`'s rules.
    #[must_use]
    pub fn with_transfers(self, number: u64, exchange: Exchange) -> Self {
        Self { transfers: Some((number, exchange)), ..self }
    }

    /// `leg` wants the other party to talk to `to`.
    pub(super) async fn referred(&mut self, leg: LegId, to: String, referred_by: Option<String>) {
        let Some(referrer) = self.participant(leg).map(|it| it.leg.party.clone()) else { return };
        let by = identity(&referrer);
        let begun = self.begin(leg, &referrer, &to).await;
        let (rule, outcome) = match &begun {
            Ok(rule) => (rule.clone(), "called".to_owned()),
            Err(reason) => (None, reason.word().to_owned()),
        };
        tracing::info!(leg = leg.0, by, to, rule, outcome, "transfer asked for");
        if self.sent_on.len() < TRANSFERS {
            self.sent_on.push(TransferRecord { by, to, referred_by, rule, outcome });
        }
        let answer = begun.map_or_else(Referral::Refused, |_| Referral::Accepted);
        if let Some(referrer) = self.participant(leg) {
            referrer.tell(LegCommand::Referral(answer)).await;
        }
    }

    /// Rings whom he would reach if he called; the rule that lets the call out.
    async fn begin(&mut self, leg: LegId, referrer: &Party, to: &str) -> Result<Option<String>, Reason> {
        let (number, exchange) = self.transfers.clone().ok_or(Reason::Forbidden)?;
        // Who has not proved who he is makes no calls at another's cost.
        if referrer.device.is_none() && referrer.trunk.is_none() {
            return Err(Reason::Forbidden);
        }
        let Some(other) = self.other(leg) else { return Err(Reason::Forbidden) };
        // A hold that is on its way settles in a moment.
        if self.is_changing() || self.crossing.is_some() || self.ending() || self.sent_on.len() >= TRANSFERS {
            return Err(Reason::Congestion);
        }
        let called = leg == self.caller.leg.id;
        let (offer, thread, kept) = (takes(other), other.leg.thread, other.leg.party.clone());
        let asker = Party { address: identity(referrer), ..referrer.calling(to) };
        let (legs, rule, trail) = match exchange.transfer(number, &asker, &kept, &offer, thread).await? {
            Reached::Rings(legs, rule, trail) => (legs, rule, trail),
            Reached::Conference(service) => {
                let by = referrer.proven().ok_or(Reason::Forbidden)?;
                self.send_into(&exchange, leg, by, to, service, None);
                return Ok(None);
            }
        };
        if called {
            self.swap_sides();
        }
        self.transfer = Some(Transfer {
            trail,
            referrer: leg,
            called,
            legs: legs.iter().map(|leg| leg.id).collect(),
            rings: false,
            until: Instant::now() + self.rules.ring_timeout,
            worst: None,
        });
        self.callees.extend(legs.into_iter().map(Participant::new));
        self.replan();
        Ok(rule)
    }

    /// The other party goes to a conference as soon as nothing is being settled with it: to its door, or
    /// to the seat of who asked.
    pub(super) fn send_into(
        &mut self,
        exchange: &Exchange,
        leg: LegId,
        by: Proven,
        to: &str,
        service: Arc<Service>,
        seat: Option<Seat>,
    ) {
        let (reply, given) = oneshot::channel::<Result<Box<Participant>, Reason>>();
        let (exchange, called) = (exchange.clone(), to.to_owned());
        tokio::spawn(async move {
            if let Ok(Ok(party)) = given.await {
                exchange.send_into(service, &called, *party, seat);
            }
        });
        let give = Give { leg, by, to: to.to_owned(), referral: true, reply };
        self.giving = Some((give, Instant::now() + PATIENCE));
    }

    /// Who stays is the caller from now on, and who asked is whom it is connected with.
    pub(super) fn swap_sides(&mut self) {
        let Some(at) = self.connected.and_then(|id| self.callees.iter().position(|it| it.leg.id == id))
        else {
            return;
        };
        if let Some(callee) = self.callees.get_mut(at) {
            mem::swap(&mut self.caller, callee);
            self.connected = Some(callee.leg.id);
        }
    }

    /// Whether `leg` rings because of a transfer.
    pub(super) fn is_transferred_to(&self, leg: LegId) -> bool {
        self.transfer.as_ref().is_some_and(|it| it.legs.contains(&leg))
    }

    /// Whether the end of `leg` is the matter of a transfer that is under way: one that was to ring, or
    /// who asked, whose part is done.
    pub(super) async fn leaves_transfer(&mut self, leg: LegId, cause: Cause) -> bool {
        let referrer = self.transfer.as_ref().is_some_and(|it| it.referrer == leg);
        if !referrer && !self.is_transferred_to(leg) {
            return false;
        }
        if referrer {
            self.left.extend(self.callee(leg).map(|it| self.leg_view(it)));
        }
        if let Some(gone) = self.participant(leg) {
            gone.ended = Some(cause);
            gone.streams.clear();
        }
        if !referrer {
            self.transfer_lost(leg, cause).await;
        }
        self.replan();
        true
    }

    /// Whether who stays hears that it rings.
    pub(super) fn rings_on(&self) -> bool {
        self.transfer.as_ref().is_some_and(|it| it.rings)
    }

    pub(super) async fn transfer_rings(&mut self) {
        let Some(transfer) = self.transfer.as_mut().filter(|it| !it.rings) else { return };
        transfer.rings = true;
        let referrer = transfer.referrer;
        self.tell_referrer(referrer, Referral::Rings).await;
        self.replan();
    }

    /// The new party is there.
    pub(super) async fn transfer_answered(&mut self, leg: LegId) {
        let Some(transfer) = self.transfer.take() else { return };
        for late in
            self.callees.iter_mut().filter(|it| it.leg.id != leg && transfer.legs.contains(&it.leg.id))
        {
            late.hang_up(Cause::local(Reason::AnsweredElsewhere)).await;
        }
        let there = self.callee(transfer.referrer).filter(|it| it.ended.is_none());
        self.left.extend(there.map(|it| self.leg_view(it)));
        if let Some(told) = self.sent_on.last_mut() {
            "answered".clone_into(&mut told.outcome);
        }
        self.connected = Some(leg);
        self.accorded = true;
        self.tell_referrer(transfer.referrer, Referral::Answered).await;
        if let Some(referrer) = self.participant(transfer.referrer) {
            referrer.hang_up(Cause::local(Reason::Hangup)).await;
        }
        self.replan();
        self.take_off_hold(leg).await;
    }

    /// Whoever was to ring has sent the call to a conference: who stays goes there.
    async fn transfer_enters(&mut self, service: Arc<Service>, called: &str) {
        let Some(transfer) = self.transfer.take() else { return };
        let by = self.participant(transfer.referrer).and_then(|it| it.leg.party.proven());
        match (self.transfers.clone(), by) {
            (Some((_, exchange)), Some(by)) => {
                self.send_into(&exchange, transfer.referrer, by, called, service, None);
            }
            _ => {
                self.transfer = Some(transfer);
                self.transfer_failed(Cause::local(Reason::Forbidden)).await;
            }
        }
    }

    /// Nobody is there, or it took too long: the call goes on, if who asked is still in it.
    pub(super) async fn transfer_failed(&mut self, cause: Cause) {
        let Some(transfer) = self.transfer.take() else { return };
        for leg in self.callees.iter_mut().filter(|it| transfer.legs.contains(&it.leg.id)) {
            leg.hang_up(Cause { reason: Reason::Cancelled, ..cause }).await;
        }
        if let Some(told) = self.sent_on.last_mut() {
            cause.reason.word().clone_into(&mut told.outcome);
        }
        self.tell_referrer(transfer.referrer, Referral::Failed(cause.reason)).await;
        if self.callee(transfer.referrer).is_none_or(|it| it.ended.is_some() || it.hung_up) {
            self.remember();
            self.caller.hang_up(cause.across()).await;
            return;
        }
        if transfer.called {
            self.swap_sides();
        }
        self.replan();
    }

    /// One of those that were to ring is gone.
    pub(super) async fn transfer_lost(&mut self, leg: LegId, cause: Cause) {
        let Some(transfer) = &mut self.transfer else { return };
        transfer.legs.retain(|it| *it != leg);
        let worst = transfer.worst.map_or(cause, |worst| super::more_telling(worst, cause));
        transfer.worst = Some(worst);
        if !transfer.legs.is_empty() {
            return;
        }
        let conference = transfer.trail.take_conference().filter(|_| worst.reason != Reason::Rejected);
        match conference {
            Some(found) => self.transfer_enters(found.service, &found.called).await,
            None => self.transfer_failed(worst).await,
        }
    }

    pub(super) async fn tell_referrer(&mut self, leg: LegId, referral: Referral) {
        if let Some(referrer) = self.participant(leg) {
            referrer.tell(LegCommand::Referral(referral)).await;
        }
    }

    /// Who asked had mostly put the other party on hold first: nobody else takes it off.
    async fn take_off_hold(&mut self, new: LegId) {
        let held = self.caller.streams.iter().any(|it| it.agreed.direction != Direction::SendRecv);
        let Some(new) = self.callee(new).filter(|_| held) else { return };
        let wanted = answer_for(&new.streams);
        if self.caller.exchange == Offering::Idle {
            self.caller.exchange = Offering::Ours;
            self.caller.tell(LegCommand::Reoffer(wanted)).await;
        }
    }
}

/// Who somebody is to the rules, when he calls.
pub(in crate::conference) fn identity(party: &Party) -> String {
    party.device.clone().unwrap_or_else(|| party.address.clone())
}

/// The same, and where his telephone is.
pub(in crate::conference) fn telephone(party: &Party) -> String {
    let who = identity(party);
    party.signalling.map_or_else(|| who.clone(), |at| format!("{who} at {at}"))
}

/// What the other party has agreed, both ways: what allows a relay stands first in the offer then.
pub(super) fn takes(other: &Participant) -> Capabilities {
    let mut capabilities = answer_for(&other.streams);
    for line in &mut capabilities.media {
        line.direction = Direction::SendRecv;
    }
    capabilities
}
