//! What a room is told from outside: who comes, who does what, who is called.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::Capabilities;
use tokio::sync::{oneshot, watch};

use super::attendee::{Attendee, Invitation, Stage};
use super::gateway::Claim;
use super::seam::{Command, Invited, Joined, Said, Seat};
use super::{CONTROL, Room, rules};
use crate::cause::{Cause, Reason};
use crate::conference::call::{CallView, Outcome};
use crate::conference::layout::Layout;
use crate::conference::ledger::Page;
use crate::conference::offer::{answer_alone, offer_for};
use crate::conference::policy::{Actor, Deed, Denied, Entry, Full, Keeps, PartyId, Place, Policy, Role};
use crate::leg::{Leg, LegCommand, LegId, LegStream, Origin, Party};
use crate::uuid::Uuid;

/// Who speaks for the gateway: legs are numbered from 1 on.
const ADMINISTRATOR: PartyId = PartyId(0);

impl Room {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Enter { leg, offered, view, done } => self.arrive(leg, offered, view, done),
            Command::TakeIn { leg, streams, seat, view, done } => {
                self.take_in(leg, streams, seat, view, done)
            }
            Command::Replace { leg, offered, old, referred_by, view, done } => {
                self.replace(leg, offered.as_ref(), old, referred_by, view, done);
            }
            Command::Referral(id, referral) => self.referral(id, referral),
            Command::Act { actor, deed, reply } => {
                let done = match deed {
                    Deed::Remove(id) if self.rings(id) => self.give_up(actor, id),
                    deed => self.policy.act(self.now(), actor, deed),
                };
                self.carry_out();
                // Who asks next sees what he did.
                self.show();
                self.answer(done, deed, reply);
            }
            Command::Join { name, role, source, reply } => self.join(name, role, source, reply),
            Command::Take { leg, name, source, reply } => self.claim(leg, Claim { name, source, reply }),
            Command::Leave(id) => {
                let now = self.now();
                self.policy.leave(now, id);
                self.carry_out();
            }
            Command::Invite { leg, who, view, done, reply } => {
                // Who asked may be gone.
                let _ = reply.send(self.invite(leg, who, view, done));
                self.show();
            }
            Command::HandOver { actor, id, to, role, reply } => {
                // Who asked may be gone.
                let _ = reply.send(self.let_go(actor, id, to, role));
            }
            Command::TakeOver(handed) => self.take_over(*handed),
            Command::Keys(id, keys) => {
                let now = self.now();
                if let Some(attendee) = self.attendees.get_mut(&id) {
                    attendee.queue_keys(now, &keys);
                    attendee.send_keys(now);
                }
            }
            Command::Say { from, to, kind, text } => {
                let here = |it: &&Attendee| matches!(it.stage, Stage::In);
                if let Some(speaker) = self.attendees.get(&from).filter(here) {
                    let (uuid, name) = (speaker.uuid, speaker.name().to_owned());
                    // Nobody may read.
                    let _ = self.said.send(Said { from, uuid, name, to, kind, text });
                }
            }
            Command::Look { hosts, guests, names, banner } => {
                let [was, was_for_guests] = self.layouts;
                self.names = names.unwrap_or(self.names);
                if let Some(text) = banner {
                    self.banner = Some(text).filter(|text| !text.is_empty());
                }
                self.lay_out([hosts.unwrap_or(was), guests.unwrap_or(was_for_guests)]);
                self.show();
            }
            Command::Label { id, text } => {
                if let Some(attendee) = self.attendees.get_mut(&id) {
                    attendee.label = Some(text).filter(|text| !text.is_empty());
                    self.changed = true;
                }
            }
            // Who asked may be gone.
            Command::TakeFloor { id, reply } => drop(reply.send(self.take_floor(id))),
            Command::ReleaseFloor(id) => self.release_floor(id),
            Command::Slide { id, jpeg, picture, reply } => {
                let _ = reply.send(self.slide(id, jpeg, picture));
            }
            #[cfg(test)]
            Command::Fail => panic!("as a test wants it"),
            Command::Announce { text } => {
                let (from, uuid, name) = (ADMINISTRATOR, Uuid::of([0; 16]), "Administrator".to_owned());
                // Nobody may read.
                let _ = self.said.send(Said { from, uuid, name, to: None, kind: "text/plain".into(), text });
            }
        }
    }

    /// A leg has called: it is answered at once, so that it hears us; in a call between two when the
    /// called party is.
    pub(super) fn arrive(
        &mut self,
        leg: Leg,
        offered: Option<Capabilities>,
        view: watch::Sender<CallView>,
        done: oneshot::Sender<Outcome>,
    ) {
        let Leg { id, party, commands, events, .. } = leg;
        let mut attendee = Attendee::new(id, party, SystemTime::now())
            .spoken_to_by(&self.voice)
            .with_leg(commands, self.follow(id, events))
            .watched(view, done);
        attendee.offered = offered;
        if self.policy.parties().len() >= self.service.rules.parties {
            attendee.hang_up(Cause::local(Reason::Congestion));
        } else if !self.is_call() {
            attendee.tell(LegCommand::Answer(answer_alone(attendee.offered.as_ref())));
        }
        self.attendees.insert(attendee.id, attendee);
    }

    /// Somebody was sent here by whom he talked to. He stands at the door like anybody else, and is offered what
    /// there is here: he may be on hold, and his telephone may do more than the other one did. Who takes the
    /// seat of somebody comes in as that one did.
    fn take_in(
        &mut self,
        leg: Leg,
        streams: Vec<LegStream>,
        seat: Option<Seat>,
        view: watch::Sender<CallView>,
        done: oneshot::Sender<Outcome>,
    ) {
        let Leg { id, answers_as, party, commands, events, .. } = leg;
        let mut attendee = Attendee::new(id, party, SystemTime::now())
            .spoken_to_by(&self.voice)
            .with_leg(commands, self.follow(id, events))
            .watched(view, done);
        (attendee.streams, attendee.answered, attendee.answers_as) = (streams, true, answers_as);
        let (id, now) = (attendee.id, self.now());
        // It was promised some seconds ago.
        let promised = seat.map(|seat| seat.of);
        let seat = seat.filter(|_| !self.policy.locked()).and_then(|seat| self.seat_now(seat.of));
        if let Some(of) = promised.filter(|_| seat.is_none()) {
            self.seat_is_refused(of);
        }
        // Who takes a seat needs none more.
        let full = seat.is_none() && self.policy.parties().len() >= self.service.rules.parties;
        if full {
            attendee.hang_up(Cause::local(Reason::Congestion));
        } else {
            self.studio.engage(&attendee);
            attendee.tell(LegCommand::Reoffer(offer_for(None)));
        }
        self.attendees.insert(id, attendee);
        match seat {
            Some(seat) => self.succeed(id, now, seat),
            None if !full => self.knock(id, now),
            None => {}
        }
        self.carry_out();
        self.changed = true;
        self.sound(id);
    }

    /// We call somebody: he is in the roster while it rings.
    fn invite(
        &mut self,
        leg: Leg,
        who: Invited,
        view: watch::Sender<CallView>,
        done: oneshot::Sender<Outcome>,
    ) -> Result<Uuid, Full> {
        // Those that ring count, or a host could have the whole world ring.
        if self.attendees.len() >= self.service.rules.parties {
            return Err(Full);
        }
        let now = self.now();
        let Invited { role, keeps, keys, name, streams, rings, referred } = who;
        let Leg { id, party, commands, events, .. } = leg;
        let called = self.service.aliases.first().map(ToString::to_string).unwrap_or_default();
        let party = Party { name, called, uri: None, ..party };
        let mut attendee = Attendee::new(id, party, SystemTime::now())
            .spoken_to_by(&self.voice)
            .with_leg(commands, self.follow(id, events))
            .watched(view, done);
        attendee.invited = Some(Invitation { role, keeps, streams, until: now + rings });
        attendee.queue_keys(now, &keys);
        if self.is_call() && self.policy.is_over() {
            // Whoever called has gone meanwhile.
            attendee.hang_up(Cause::local(Reason::Cancelled));
        }
        if let Some(referred) = referred
            && !self.called_for(&mut attendee, referred)
        {
            // Whoever wanted it has hung up before he was answered.
            attendee.hang_up(Cause::local(Reason::Cancelled));
        }
        let uuid = attendee.uuid;
        self.attendees.insert(attendee.id, attendee);
        self.changed = true;
        Ok(uuid)
    }

    /// We call him, and he has not answered.
    fn rings(&self, id: PartyId) -> bool {
        self.attendees.get(&id).is_some_and(|it| it.rings_until().is_some())
    }

    /// Who rings is no party yet, so the policy does not know him: a host takes back what a host did.
    fn give_up(&mut self, actor: Actor, id: PartyId) -> Result<(), Denied> {
        if let Actor::Party(own) = actor {
            let own = self.policy.party(own).ok_or(Denied::NoParty)?;
            if own.role != Role::Host || own.place != Place::In {
                return Err(Denied::Role);
            }
        }
        if let Some(attendee) = self.attendees.get_mut(&id) {
            attendee.hang_up(Cause::local(Reason::Cancelled));
        }
        Ok(())
    }

    /// Somebody has come by the client API.
    pub(super) fn join(
        &mut self,
        name: String,
        role: Role,
        source: Option<SocketAddr>,
        reply: oneshot::Sender<Result<Joined, Full>>,
    ) {
        let now = self.now();
        let number = LegId(CONTROL | self.numbers.fetch_add(1, Ordering::Relaxed));
        let who = self.client(name, source);
        let attendee = Attendee::new(number, who, SystemTime::now());
        let (id, uuid) = (attendee.id, attendee.uuid);
        self.attendees.insert(id, attendee);
        let entered = self.enter_as(id, now, Entry { role, invited: false, keeps: Keeps::Always });
        self.carry_out();
        let joined = entered.map(|place| {
            self.show();
            Joined { place, ..self.joined(id, uuid) }
        });
        if joined.is_err() {
            self.attendees.remove(&id);
        }
        if let Err(Ok(joined)) = reply.send(joined) {
            // Who asked is gone: so is he.
            self.policy.leave(now, joined.id);
            self.carry_out();
        }
    }

    /// What somebody is told who has come in.
    pub(super) fn joined(&self, id: PartyId, uuid: Uuid) -> Joined {
        let place = self.policy.party(id).map_or(Place::Waiting, |it| it.place);
        let (view, said) = (self.view.subscribe(), self.said.subscribe());
        Joined { id, uuid, place, view, said, saved: self.record() }
    }

    /// Tells what came of a deed: at once, or when a restart would find it so.
    fn answer(&self, done: Result<(), Denied>, deed: Deed, reply: oneshot::Sender<Result<(), Denied>>) {
        let saved = self.record();
        if done.is_err() || !deed.outlives_a_kill() || saved.is_done() {
            // Who asked may be gone.
            let _ = reply.send(done);
            return;
        }
        tokio::spawn(async move {
            let done = if saved.wait().await { done } else { Err(Denied::Storage) };
            let _ = reply.send(done);
        });
    }

    /// Goes on where another process left this conference.
    pub(super) fn take_up(&mut self, page: Page, stands: Duration) -> Vec<Joined> {
        let Page { conference, mut left, names, .. } = page;
        let now = self.now();
        // Clocks begin anew; who was first stays first.
        let mut hands: Vec<_> = left.parties.iter().filter_map(|it| it.hand).collect();
        let mut lights: Vec<_> = left.parties.iter().filter_map(|it| it.spotlight).collect();
        hands.sort_unstable();
        lights.sort_unstable();
        let again = |all: &[Instant], at: Instant| {
            let rank = all.iter().position(|it| *it == at).unwrap_or(0);
            now + Duration::from_nanos(u64::try_from(rank).unwrap_or(0))
        };
        for (party, named) in left.parties.iter_mut().zip(names) {
            party.hand = party.hand.map(|at| again(&hands, at));
            party.spotlight = party.spotlight.map(|at| again(&lights, at));
            let who = self.client(named.name, None);
            let mut attendee = Attendee::new(LegId(party.id.0), who, named.since);
            attendee.uuid = named.uuid;
            self.attendees.insert(party.id, attendee);
        }
        self.conference = conference;
        let policy = Policy::take_up(rules(&self.service), now, now + stands, left);
        self.policy = policy.with_guests_present(self.service.guests_present);
        // More than the rules allow by now: they have no place any more.
        let policy = &self.policy;
        self.attendees.retain(|id, _| policy.party(*id).is_some());
        self.carry_out();
        self.show();
        let all: Vec<_> = self.attendees.values().map(|it| (it.id, it.uuid)).collect();
        all.into_iter().map(|(id, uuid)| self.joined(id, uuid)).collect()
    }

    /// Somebody who has no leg.
    fn client(&self, name: String, source: Option<SocketAddr>) -> Party {
        Party {
            protocol: "api",
            origin: Origin::Incoming,
            address: String::new(),
            name,
            called: self.service.name.clone(),
            uri: None,
            device: None,
            trunk: None,
            signalling: source,
            transport: "tls",
            hops: 0,
        }
    }

    pub(super) fn lay_out(&mut self, layouts: [Layout; 2]) {
        self.layouts = layouts;
        self.all.set_slots(layouts[0].capacity(), layouts[0].mains());
        self.hosts.set_slots(layouts[1].capacity(), layouts[1].mains());
        self.changed = true;
    }
}
