//! A point-to-point call: one caller, the devices that ring for it, and the one that answers.
//!
//! The actor owns its legs. It is told by their events and by a deadline, it answers with commands
//! and with a new plan; it never waits for a peer.

mod participant;
mod reoffer;
pub(in crate::conference) mod takeover;
pub(in crate::conference) mod transfer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::format::{Capabilities, Direction, MediaKind};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

pub(in crate::conference) use self::participant::Participant;
use self::participant::next_event;
use self::reoffer::Crossing;
use self::takeover::{Give, Order, Replacement, Taking, answer_of, next_order};
use self::transfer::Transfer;
use super::exchange::Exchange;
use super::graph::Graph;
use super::offer::{answer_for, offer_for};
use super::redirect::{Found, Trail};
use super::service::Service;
use crate::cause::{Cause, Reason};
use crate::config::Ringback;
use crate::leg::{Leg, LegCommand, LegEvent, LegId, LegStream, Party};
use crate::media::port::{StreamEvent, StreamId, Unfit};
use crate::records::TransferRecord;

/// How long legs may take to say goodbye once a call is over: SIP's timer F (RFC 3261 section
/// 17.1.2.2) is 32 s, after which a leg gives up by itself.
const GOODBYE: Duration = Duration::from_secs(35);

/// What a call is given from outside.
#[derive(Clone, Copy, Debug)]
pub struct CallRules {
    /// How long it may ring.
    pub ring_timeout: Duration,
    /// Who makes the ringback tone.
    pub ringback: Ringback,
}

/// What a call tells whoever watches: status, records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallView {
    /// Every leg that is there, the caller first.
    pub legs: Vec<LegView>,
    /// The call stands.
    pub answered: bool,
}

/// One leg of a [`CallView`].
#[derive(Clone, Debug, PartialEq)]
pub struct LegView {
    /// Its number.
    pub id: LegId,
    /// That of the one that answered, where several rang as this leg.
    pub answers_as: Option<LegId>,
    /// Who it is.
    pub party: Party,
    /// It answered (or called).
    pub answered: bool,
    /// Its streams, with the route that feeds each.
    pub streams: Vec<StreamView>,
}

impl LegView {
    /// Whether a peer's protocol means it by that number.
    pub(in crate::conference) fn is(&self, leg: LegId) -> bool {
        self.id == leg || self.answers_as == Some(leg)
    }
}

/// One stream of a [`LegView`].
#[derive(Clone, Debug, PartialEq)]
pub struct StreamView {
    /// The stream and its port (for figures).
    pub stream: LegStream,
    /// What feeds it: "relay", "transcode", "play", "silence".
    pub route: &'static str,
    /// Why.
    pub why: String,
}

/// A call in progress.
#[derive(Debug)]
pub struct Call {
    rules: CallRules,
    offered: Option<Capabilities>,
    caller: Participant,
    callees: Vec<Participant>,
    connected: Option<LegId>,
    /// The callee whose early media the caller hears.
    early: Option<LegId>,
    /// A re-offer that is carried across.
    crossing: Option<Crossing>,
    /// The call's number, and whose rules transfers go by; `None`: there are none.
    transfers: Option<(u64, Exchange)>,
    transfer: Option<Transfer>,
    /// What other calls want of this one, and who calls for a place in it; `None`: nobody can.
    orders: Option<mpsc::Receiver<Order>>,
    taking: Option<Taking>,
    /// A party that another call wants, and until when that waits for a moment in which it can go.
    giving: Option<(Give, Instant)>,
    replacement: Option<Replacement>,
    /// Where the called side has sent it: perhaps to a conference.
    trail: Option<Trail>,
    enters: Option<Found>,
    /// Transfers so far; [`transfer::TRANSFERS`] at most.
    sent_on: Vec<TransferRecord>,
    /// Legs that have sent the other one on, as they were then.
    left: Vec<LegView>,
    /// Who answered first.
    answered_by: Option<LegId>,
    /// Whether a relay in place of a transcode was worth a re-offer has been looked at: once.
    accorded: bool,
    unfit: HashMap<StreamId, Unfit>,
    graph: Graph,
    worst: Option<Cause>,
    /// The two legs as they were when the end began.
    last: Option<Vec<LegView>>,
    view: watch::Sender<CallView>,
}

/// How a call went.
#[derive(Debug)]
pub struct Outcome {
    /// Why it ended, as the caller's leg has it.
    pub cause: Cause,
    /// The leg that answered, if one did.
    pub answered_by: Option<LegId>,
    /// The caller's leg and the one that answered, as they were when the end began; then those that had
    /// sent the other one on.
    pub legs: Vec<LegView>,
    /// Routes that it had, each once, with the role: what a record shows.
    pub routes: Vec<(LegId, MediaKind, &'static str)>,
    /// Who wanted the other party to talk to somebody else.
    pub transfers: Vec<TransferRecord>,
    /// It goes on in a conference.
    pub enters: Option<Box<Entering>>,
}

/// Somebody whose call the called side has sent to a conference.
#[derive(Debug)]
pub struct Entering {
    /// The caller, who has not been answered.
    pub leg: Leg,
    /// Where he goes.
    pub service: Arc<Service>,
    /// By which alias.
    pub called: String,
}

impl Call {
    /// A call of `caller`, who offered `offered`, to all of `callees`, which ring already with
    /// [`Call::offer`]. The first to answer wins.
    pub fn new(
        rules: CallRules,
        caller: Leg,
        offered: Option<Capabilities>,
        callees: Vec<Leg>,
        graph: Graph,
        view: watch::Sender<CallView>,
    ) -> Self {
        Self {
            rules,
            offered,
            caller: Participant { answered: false, ..Participant::new(caller) },
            callees: callees.into_iter().map(Participant::new).collect(),
            connected: None,
            early: None,
            crossing: None,
            transfers: None,
            transfer: None,
            orders: None,
            taking: None,
            giving: None,
            replacement: None,
            trail: None,
            enters: None,
            sent_on: Vec::new(),
            left: Vec::new(),
            answered_by: None,
            accorded: false,
            unfit: HashMap::new(),
            graph,
            worst: None,
            last: None,
            view,
        }
    }

    /// `trail` may lead to a conference: the caller goes there then.
    #[must_use]
    pub(super) fn with_trail(self, trail: Trail) -> Self {
        Self { trail: Some(trail), ..self }
    }

    /// What the called parties shall be offered.
    pub fn offer(offered: Option<&Capabilities>) -> Capabilities {
        offer_for(offered)
    }

    /// Runs the call to its end. `stop` ends it from outside with that reason.
    pub async fn run(mut self, mut stop: watch::Receiver<Option<Reason>>) -> Outcome {
        self.show();
        let ring_until = Instant::now() + self.rules.ring_timeout;
        let mut goodbye: Option<Instant> = None;
        while !self.over() && self.enters.is_none() {
            let deadline = match goodbye {
                Some(at) => Some(at),
                None if self.connected.is_none() => Some(ring_until),
                None => self.transfer.as_ref().map(Transfer::until),
            };
            tokio::select! {
                (leg, event) = next_event(&mut self.caller, &mut self.callees) => self.told(leg, event).await,
                () = until(deadline) => {
                    if goodbye.is_some() {
                        break;
                    }
                    if self.transfer.is_some() {
                        self.transfer_failed(Cause::local(Reason::NoAnswer)).await;
                        continue;
                    }
                    self.end(Cause::local(Reason::NoAnswer)).await;
                }
                reason = stopped(&mut stop), if goodbye.is_none() => {
                    self.end(Cause::local(reason)).await;
                }
                order = next_order(&mut self.orders) => self.ordered(order).await,
                answer = answer_of(&mut self.taking) => self.taken(answer).await,
                () = until(self.giving.as_ref().map(|(_, until)| *until)) => {}
            }
            self.give_when_quiet().await;
            if goodbye.is_none() && self.ending() {
                goodbye = Some(Instant::now() + GOODBYE);
            }
        }
        let routes = self.graph.history().to_vec();
        self.graph.clear();
        let cause = self.caller.ended.or(self.worst).unwrap_or(Cause::local(Reason::Internal));
        let mut legs = self.last.unwrap_or_default();
        legs.extend(self.left);
        let enters = self.enters.map(|Found { service, called }| {
            let (mut leg, _) = self.caller.into_leg();
            leg.party = Party { called: called.clone(), uri: None, ..leg.party };
            Box::new(Entering { leg, service, called })
        });
        let (answered_by, transfers) = (self.answered_by, self.sent_on);
        Outcome { cause, answered_by, legs, routes, transfers, enters }
    }

    async fn told(&mut self, leg: LegId, event: LegEvent) {
        let from_caller = leg == self.caller.leg.id;
        match event {
            LegEvent::Ended(cause) => self.ended(leg, cause).await,
            LegEvent::Ringing if !from_caller => self.rings(leg).await,
            LegEvent::Progress(streams) => self.progress(leg, streams).await,
            LegEvent::Answered(streams) => self.answered(leg, streams).await,
            LegEvent::Changed(streams) => self.changed(leg, streams).await,
            LegEvent::Reoffered { offer } => self.reoffered(leg, offer).await,
            LegEvent::ReofferRefused => self.refused(leg).await,
            LegEvent::ReofferWithdrawn => self.withdrawn(leg).await,
            LegEvent::Dtmf(digit) => self.dtmf(leg, digit).await,
            LegEvent::Referred { to, instead_of: None, referred_by } => {
                self.referred(leg, to, referred_by).await;
            }
            LegEvent::Referred { to, instead_of: Some(own), referred_by } => {
                self.referred_to_own(leg, to, own, referred_by).await;
            }
            LegEvent::Stream { role, event } => self.stream(leg, role, event).await,
            // Whom such legs ring are called from a conference, never from here.
            LegEvent::Taken(_) => self.ended(leg, Cause::local(Reason::Internal)).await,
            LegEvent::Redirected(party) => self.redirected(leg, *party),
            LegEvent::AnswersAs(other) => {
                if let Some(participant) = self.participant(leg) {
                    participant.leg.answers_as = Some(other);
                    self.show();
                }
            }
            LegEvent::Offered(_) | LegEvent::Ringing | LegEvent::Elsewhere(_) => {}
        }
    }

    fn redirected(&mut self, leg: LegId, party: Party) {
        if let Some(callee) = self.participant(leg) {
            callee.leg.party = party;
        }
        self.show();
    }

    async fn rings(&mut self, leg: LegId) {
        if let Some(callee) = self.participant(leg) {
            callee.ringing = true;
        }
        if self.is_transferred_to(leg) {
            return self.transfer_rings().await;
        }
        if self.connected.is_some() || self.caller.ringing {
            return;
        }
        self.caller.ringing = true;
        self.caller.tell(LegCommand::Ring).await;
        // A caller without an offer cannot hear us yet: our offer is the answer's business.
        if self.rules.ringback == Ringback::Gateway
            && self.early.is_none()
            && let Some(offered) = &self.offered
            // An early answer is the answer: pictures would have to be accepted before anybody
            // knows whether the called party has any.
            && offered.media.iter().all(|line| !line.role.is_video())
        {
            self.caller.tell(LegCommand::Progress(offer_for(Some(offered)))).await;
        }
    }

    async fn progress(&mut self, leg: LegId, streams: Vec<LegStream>) {
        if leg == self.caller.leg.id {
            self.caller.streams = streams;
        } else if let Some(callee) = self.participant(leg) {
            callee.streams = streams;
            if self.is_transferred_to(leg) {
                return self.transfer_rings().await;
            }
            if self.connected.is_none() && self.early.is_none() {
                self.early = Some(leg);
                if self.offered.is_some() {
                    let wanted =
                        self.callee(leg).map(|callee| answer_for(&callee.streams)).unwrap_or_default();
                    self.caller.tell(LegCommand::Progress(wanted)).await;
                }
            }
        }
        self.replan();
    }

    async fn answered(&mut self, leg: LegId, streams: Vec<LegStream>) {
        if leg == self.caller.leg.id {
            self.caller.streams = streams;
            self.caller.answered = true;
            self.proceed().await;
            self.replan();
            return;
        }
        if self.ending() {
            // Its own hang-up is on its way already.
            return;
        }
        if self.is_transferred_to(leg) {
            if let Some(new) = self.participant(leg) {
                new.streams = streams;
                new.answered = true;
            }
            return self.transfer_answered(leg).await;
        }
        if self.replaced(leg, &streams).await {
            return;
        }
        if self.connected.is_some() {
            // Two picked up at once: the later one is told that it was too late.
            if let Some(late) = self.participant(leg) {
                late.hang_up(Cause::local(Reason::AnsweredElsewhere)).await;
            }
            return;
        }
        self.connected = Some(leg);
        self.answered_by = Some(leg);
        for other in self.callees.iter_mut().filter(|other| other.leg.id != leg) {
            other.hang_up(Cause::local(Reason::AnsweredElsewhere)).await;
        }
        let Some(callee) = self.participant(leg) else { return };
        callee.streams = streams;
        callee.answered = true;
        let wanted = answer_for(&callee.streams);
        self.caller.tell(LegCommand::Answer(wanted)).await;
        if self.caller.streams.is_empty() {
            // Nothing to route until his leg says what it has answered, in a moment.
            self.show();
        } else {
            self.replan();
        }
    }

    async fn changed(&mut self, leg: LegId, streams: Vec<LegStream>) {
        if let Some(participant) = self.participant(leg) {
            participant.streams = streams;
        }
        self.settled(leg).await;
        self.replan();
    }

    async fn dtmf(&mut self, leg: LegId, digit: char) {
        if let Some(other) = self.other(leg).map(|other| other.leg.id)
            && let Some(other) = self.participant(other)
        {
            other.tell(LegCommand::SendDtmf(digit)).await;
        }
    }

    async fn stream(&mut self, leg: LegId, role: MediaKind, event: StreamEvent) {
        match event {
            StreamEvent::KeyframeRequested => {
                // A relay asks the source; an encoder of ours was told by its own wish already.
                if self.streams_of(leg, role).into_iter().any(|id| self.graph.relays(id))
                    && let Some(other) = self.other(leg).map(|other| other.leg.id)
                    && let Some(other) = self.participant(other)
                {
                    other.tell(LegCommand::RequestKeyframe(role)).await;
                }
            }
            StreamEvent::RelayUnfit(unfit) => {
                for id in self.streams_of(leg, role) {
                    self.unfit.insert(id, unfit);
                }
                self.replan();
            }
            StreamEvent::Dtmf(digit) => self.dtmf(leg, digit).await,
            StreamEvent::MediaTimeout if self.is_dead(leg, role) => {
                self.end(Cause::local(Reason::MediaTimeout)).await;
            }
            // Before the answer, on hold or with the camera off, silence is nothing unusual.
            StreamEvent::MediaTimeout => {}
            // What its own leg does by signalling.
            StreamEvent::KeyframeNeeded
            | StreamEvent::KeysFound(_)
            | StreamEvent::EncryptionFailed
            | StreamEvent::MediaStarted => {}
        }
    }

    async fn ended(&mut self, leg: LegId, cause: Cause) {
        if self.leaves_transfer(leg, cause).await || self.leaves_taking(leg, cause).await {
            return;
        }
        if self.leaves_giving(leg, cause) {
            return;
        }
        self.leaves_replacement(leg, cause).await;
        if leg == self.caller.leg.id || self.connected == Some(leg) {
            self.remember();
        }
        let Some(participant) = self.participant(leg) else { return };
        participant.ended = Some(cause);
        participant.streams.clear();
        if leg == self.caller.leg.id {
            self.hang_up_callees(cause.across()).await;
        } else if self.connected == Some(leg) {
            self.caller.hang_up(cause.across()).await;
        } else if self.connected.is_none() {
            self.worst = Some(self.worst.map_or(cause, |worst| more_telling(worst, cause)));
            if self.callees.iter().all(|callee| callee.ended.is_some()) {
                // Who has turned the call down has done so for all places (RFC 3261 section 21.6).
                let rejected = self.worst.is_some_and(|worst| worst.reason == Reason::Rejected);
                if !self.ending() && !rejected {
                    self.enters = self.trail.as_ref().and_then(Trail::take_conference);
                }
                if self.enters.is_some() {
                    return;
                }
                let cause = self.worst.unwrap_or(cause);
                self.caller.hang_up(cause.across()).await;
            } else if self.early == Some(leg) {
                self.early = None;
            }
        }
        self.replan();
    }

    async fn end(&mut self, cause: Cause) {
        self.remember();
        self.caller.hang_up(cause).await;
        let told =
            if self.connected.is_some() { cause } else { Cause { reason: Reason::Cancelled, ..cause } };
        self.hang_up_callees(told).await;
    }

    async fn hang_up_callees(&mut self, cause: Cause) {
        for callee in &mut self.callees {
            callee.hang_up(cause).await;
        }
    }

    fn replan(&mut self) {
        let speaking = self.connected.or(self.early);
        let mut members = vec![self.caller.member(&self.unfit)];
        let rings_on = self.rings_on();
        members[0].wants_ringback = rings_on || self.connected.is_none() && self.caller.ringing;
        let callee =
            speaking.and_then(|id| self.callee(id)).filter(|callee| callee.ended.is_none() && !rings_on);
        members.extend(callee.map(|callee| callee.member(&self.unfit)));
        let streams: Vec<LegStream> = std::iter::once(&self.caller)
            .chain(callee)
            .flat_map(|participant| participant.streams.iter().cloned())
            .collect();
        self.graph.apply(&members, &streams);
        self.show();
    }

    fn show(&self) {
        let legs = std::iter::once(&self.caller)
            .chain(&self.callees)
            .filter(|participant| participant.ended.is_none())
            .map(|participant| self.leg_view(participant))
            .collect();
        self.view.send_replace(CallView { legs, answered: self.connected.is_some() });
    }

    fn leg_view(&self, participant: &Participant) -> LegView {
        let streams = participant.streams.iter().map(|stream| {
            let (route, why) = self.graph.route_of(stream.port.id());
            StreamView { stream: stream.clone(), route, why: why.to_owned() }
        });
        LegView {
            id: participant.leg.id,
            answers_as: participant.leg.answers_as,
            party: participant.leg.party.clone(),
            answered: participant.answered,
            streams: streams.collect(),
        }
    }

    /// Keeps what the record shall show, once.
    fn remember(&mut self) {
        if self.last.is_none() {
            let callee = self.connected.and_then(|id| self.callee(id));
            let legs = std::iter::once(&self.caller).chain(callee).map(|it| self.leg_view(it)).collect();
            self.last = Some(legs);
        }
    }

    fn over(&self) -> bool {
        self.caller.ended.is_some() && self.callees.iter().all(|callee| callee.ended.is_some())
    }

    fn ending(&self) -> bool {
        self.caller.hung_up || self.caller.ended.is_some()
    }

    fn callee(&self, id: LegId) -> Option<&Participant> {
        self.callees.iter().find(|callee| callee.leg.id == id)
    }

    fn participant(&mut self, id: LegId) -> Option<&mut Participant> {
        std::iter::once(&mut self.caller)
            .chain(&mut self.callees)
            .find(|participant| participant.leg.id == id)
    }

    fn streams_of(&mut self, leg: LegId, role: MediaKind) -> Vec<StreamId> {
        let streams = self.participant(leg).map_or(&[][..], |participant| &participant.streams);
        streams.iter().filter(|stream| stream.agreed.role == role).map(|stream| stream.port.id()).collect()
    }

    /// Whether silence of that stream means that the leg is gone: the call stands, and it should
    /// speak.
    fn is_dead(&mut self, leg: LegId, role: MediaKind) -> bool {
        let stands = self.connected == Some(leg) || self.connected.is_some() && leg == self.caller.leg.id;
        let speaks =
            |stream: &LegStream| stream.agreed.role == role && stream.agreed.direction == Direction::SendRecv;
        stands && !role.is_video() && self.participant(leg).is_some_and(|it| it.streams.iter().any(speaks))
    }

    /// The far side of `leg` in the standing call.
    fn other(&self, leg: LegId) -> Option<&Participant> {
        let connected = self.connected?;
        if leg == self.caller.leg.id {
            self.callee(connected)
        } else {
            (leg == connected).then_some(&self.caller)
        }
    }
}

/// Of the causes of several devices the one that tells the caller most: a busy line says more than
/// one that nobody answered.
pub(super) fn more_telling(a: Cause, b: Cause) -> Cause {
    const fn rank(reason: Reason) -> u8 {
        match reason {
            Reason::Rejected => 0,
            Reason::Busy => 1,
            Reason::NotAcceptable => 2,
            Reason::NoAnswer => 3,
            Reason::Unavailable => 4,
            Reason::FlowFailed => 5,
            Reason::Unreachable => 6,
            _ => 7,
        }
    }
    if rank(b.reason) < rank(a.reason) { b } else { a }
}

/// Waits for `deadline`, or for ever.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until everything is to stop; why.
pub(super) async fn stopped(stop: &mut watch::Receiver<Option<Reason>>) -> Reason {
    loop {
        if let Some(reason) = *stop.borrow_and_update() {
            return reason;
        }
        if stop.changed().await.is_err() {
            return Reason::Shutdown;
        }
    }
}

#[cfg(test)]
mod tests;
