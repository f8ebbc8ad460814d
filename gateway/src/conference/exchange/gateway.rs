//! Calls between two that need a conference of their own: those that ring clients of the client API,
//! and those that such clients make (S52, S56). Both sides are in a room made for the call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crosspoint_codecs::format::Capabilities;
use tokio::sync::{oneshot, watch};

use super::record::{attend, ended, leg_record};
use super::{Exchange, Live, Resolution};
use crate::alias::{Alias, Domains};
use crate::cause::{Cause, Reason, Side};
use crate::conference::call::{Call, CallView, LegView};
use crate::conference::dialling::Keys;
use crate::conference::hunt::hunt;
use crate::conference::policy::{End, Exit, Keeps, PartyId, Role};
use crate::conference::redirect::{Asker, Placing, Trail};
use crate::conference::room::{At, Command, Invited, Joined, RoomView};
use crate::conference::service::Service;
use crate::leg::{Address, Caller, Leg, LegId, Party, Venue};
use crate::records::CallRecord;
use crate::status::rfc3339;
use crate::uuid::Uuid;

impl Exchange {
    /// Whether one of them can be called into a conference only.
    pub(super) fn need_venue(&self, targets: &[Address]) -> bool {
        targets.iter().any(|it| self.protocol(&it.uri).is_some_and(|protocol| protocol.needs_venue()))
    }

    /// The service of a call that begins now, and how its called party is told of it. Who has called
    /// by the client API knows it by what he `called`.
    fn call_service(called: Option<&str>) -> (Arc<Service>, Venue) {
        // Nobody guesses it, and without a token nobody comes in by it.
        let alias = Alias::from_canonical(&format!("call-{}", Uuid::random()));
        let mut service = Service::call(alias.clone());
        // By the user part alone: it is his token that he comes by.
        service.aliases.extend(called.and_then(|called| Alias::parse(called, &Domains::default()).ok()));
        let venue = Venue { service: service.name.clone(), alias: alias.to_string(), kind: "gateway" };
        (Arc::new(service), venue)
    }

    /// All of `targets`, ringing, as one leg; why not, when none does.
    fn ring(
        &self,
        targets: &[Address],
        from: &Caller,
        offer: &Capabilities,
        thread: Option<usize>,
        placing: &Placing,
    ) -> Result<Leg, Cause> {
        let legs = self.begin_all(targets, from, offer, thread, placing)?;
        hunt(legs).ok_or(Cause::local(Reason::Unavailable))
    }

    /// The call of `leg` to `targets`, to its end.
    #[allow(clippy::too_many_arguments, reason = "the pieces of one call, each used once")]
    pub(super) async fn meet(
        self,
        leg: Leg,
        offered: Option<Capabilities>,
        targets: Vec<Address>,
        placing: Placing,
        mut record: CallRecord,
        view: watch::Sender<CallView>,
        start: Instant,
    ) -> (CallRecord, Cause, Duration) {
        let (service, venue) = Self::call_service(None);
        let from = Caller { venue: Some(venue), ..Caller::of(&leg.party) };
        let offer = Call::offer(offered.as_ref());
        let called = match self.ring(&targets, &from, &offer, Some(leg.thread), &placing) {
            Ok(called) => called,
            Err(cause) => return ended(record, super::refuse(leg, cause).await, start.elapsed()),
        };
        record.answered_by = called.party.device.clone().or_else(|| Some(called.party.address.clone()));
        let answers = view.subscribe();
        let over = self.0.rooms.enter(&service, leg, offered, view);
        self.invite(&service, called);
        let told = self.answered(record.call);
        attend(over, answers, record, start, told).await
    }

    /// A call that a client of the client API makes: `caller` is its user, `caller.called` what he
    /// wants. He is in the call's room, and the called party rings, once this returns; why not, else.
    pub async fn call_out(&self, caller: Party) -> Result<(Arc<Service>, Joined), Reason> {
        let (targets, rule, follow) = match self.0.parts.directory.resolve(&caller).await {
            Resolution::Dial { targets, rule, follow, why } => {
                tracing::info!(caller = caller.address, called = caller.called, why, "call routed");
                (targets, rule, follow)
            }
            Resolution::Refuse { reason, why } => {
                let word = reason.word();
                tracing::info!(
                    caller = caller.address,
                    called = caller.called,
                    reason = word,
                    why,
                    "call refused"
                );
                return Err(reason);
            }
            // A rule makes a conference of it: that is to be called by its own alias.
            Resolution::Enter { .. } => return Err(Reason::NotFound),
        };
        let (number, began) = (self.0.next.fetch_add(1, Ordering::Relaxed), SystemTime::now());
        let (view, views) = watch::channel(CallView::default());
        if !self.enlist(number, Live { began, caller: caller.clone(), view: views, orders: None }) {
            return Err(Reason::Congestion);
        }
        let record = CallRecord {
            call: number,
            started: rfc3339(began),
            caller: caller.address.clone(),
            authenticated: caller.device.is_some(),
            called: caller.called.clone(),
            rule,
            ..CallRecord::default()
        };
        let trail = Trail::of(number);
        let placing = Placing::new(self.clone(), Asker::Caller(caller.clone()), follow, &trail);
        let placed = self.place_as(&caller, &targets, &placing).await;
        match &placed {
            Ok((_, joined)) => {
                let watched = Watched { own: joined.id, room: joined.view.clone(), view };
                let this = self.clone();
                tokio::spawn(async move {
                    let mut ended = watched.until_over(record).await;
                    trail.mark(&mut ended.0);
                    this.finish(number, ended);
                });
            }
            Err(reason) => {
                self.finish(number, ended(record, Cause::local(*reason), Duration::ZERO));
            }
        }
        placed
    }

    async fn place_as(
        &self,
        caller: &Party,
        targets: &[Address],
        placing: &Placing,
    ) -> Result<(Arc<Service>, Joined), Reason> {
        let (service, venue) = Self::call_service(Some(&caller.called));
        let from = Caller { venue: Some(venue), ..Caller::of(caller) };
        let called = self.ring(targets, &from, &Call::offer(None), None, placing);
        let called = called.map_err(|cause| cause.reason)?;
        let (reply, told) = oneshot::channel();
        let (name, source) = (caller.name.clone(), caller.signalling);
        let join = Command::Join { name, role: Role::Host, source, reply };
        if !self.0.rooms.open_and_tell(&service, join) {
            return Err(Reason::Congestion);
        }
        let Ok(Ok(joined)) = told.await else { return Err(Reason::Congestion) };
        self.invite(&service, called);
        Ok((service, joined))
    }

    /// The called party of a call comes into its room when it answers. A leg that the room does not
    /// take is hung up by being dropped.
    fn invite(&self, service: &Service, leg: Leg) {
        let who = Invited {
            role: Role::Host,
            keeps: Keeps::Always,
            keys: Keys::default(),
            name: leg.party.device.clone().unwrap_or_else(|| leg.party.address.clone()),
            streams: false,
            rings: self.0.rules.load().0.ring_timeout,
            referred: None,
        };
        // It is shown and recorded with the caller's call: nobody watches it by itself.
        let (view, done, reply) =
            (watch::channel(CallView::default()).0, oneshot::channel().0, oneshot::channel().0);
        self.0.rooms.tell(&service.name, Command::Invite { leg, who, view, done, reply });
    }
}

/// A call that a client has made, for those who watch it.
struct Watched {
    own: PartyId,
    room: watch::Receiver<RoomView>,
    view: watch::Sender<CallView>,
}

impl Watched {
    /// Tells of it until its room is gone.
    async fn until_over(mut self, mut record: CallRecord) -> (CallRecord, Cause, Duration) {
        let start = Instant::now();
        let (mut cause, mut answered) = (Cause::remote(Reason::Hangup), None);
        let mut legs: Vec<LegView> = Vec::new();
        loop {
            {
                let room = self.room.borrow_and_update();
                let there = room.parties.iter().filter(|it| matches!(it.at, At::In)).count();
                if there > 1 && answered.is_none() {
                    answered = Some((Instant::now(), SystemTime::now()));
                    let called = room.parties.iter().find(|it| it.id != self.own);
                    record.answered_by = called.map(|it| {
                        let party = &it.leg.party;
                        party.device.clone().unwrap_or_else(|| party.address.clone())
                    });
                }
                if room.parties.len() > 1 {
                    legs = room.parties.iter().map(|it| it.leg.clone()).collect();
                }
                if let Some(exit) = room.parties.iter().find(|it| it.id == self.own).and_then(|it| it.exit) {
                    cause = cause_of(exit);
                }
                let now = room.parties.iter().map(|it| it.leg.clone()).collect();
                self.view.send_replace(CallView { legs: now, answered: answered.is_some() });
            }
            if self.room.changed().await.is_err() {
                break;
            }
        }
        let mut rang = start.elapsed();
        if let Some((at, wall)) = answered {
            record.answered = Some(rfc3339(wall));
            record.talk_seconds = at.elapsed().as_secs_f64();
            rang = at - start;
        }
        let fed: Vec<(LegId, _, &'static str)> = legs
            .iter()
            .flat_map(|leg| leg.streams.iter().map(|it| (leg.id, it.stream.agreed.role, it.route)))
            .collect();
        record.legs = legs.iter().map(|leg| leg_record(leg, &fed)).collect();
        ended(record, cause, rang)
    }
}

/// How the caller's side of a call ended.
const fn cause_of(exit: Exit) -> Cause {
    match exit {
        Exit::Over(End::FarSide(reason)) => Cause { reason, side: Side::Peer },
        Exit::Removed(_) | Exit::Waited | Exit::Over(_) => Cause::local(Reason::Hangup),
        Exit::Left => Cause::remote(Reason::Hangup),
    }
}
