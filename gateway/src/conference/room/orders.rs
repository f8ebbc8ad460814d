//! What a room is told from outside: who comes, who does what, who is called.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot, watch};

use super::attendee::{Attendee, Invitation, Stage};
use super::seam::{Command, Joined, Said};
use super::{CONTROL, Room};
use crate::cause::{Cause, Reason};
use crate::conference::call::{CallView, Outcome};
use crate::conference::layout::Layout;
use crate::conference::offer::offer_for;
use crate::conference::policy::{Entry, Full, PartyId, Role};
use crate::leg::{Leg, LegCommand, LegEvent, LegId, Origin, Party};

impl Room {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Enter { leg, view, done } => self.arrive(leg, view, done),
            Command::Act { actor, deed, reply } => {
                let done = self.policy.act(self.now(), actor, deed);
                self.carry_out();
                // Who asks next sees what he did.
                self.show();
                // Who asked may be gone.
                let _ = reply.send(done);
            }
            Command::Join { name, role, source, reply } => self.join(name, role, source, reply),
            Command::Leave(id) => {
                let now = self.now();
                self.policy.leave(now, id);
                self.carry_out();
            }
            Command::Invite { leg, role, keeps, reply } => {
                let invitation = Invitation { role, keeps };
                let (id, party, commands) = self.follow(leg);
                let mut attendee = Attendee::new(id, party, SystemTime::now()).with_leg(commands);
                attendee.invited = Some(invitation);
                // Who asked may be gone.
                let _ = reply.send(attendee.uuid);
                self.attendees.insert(attendee.id, attendee);
                self.changed = true;
            }
            Command::Keys(id, keys) => {
                if let Some(attendee) = self.attendees.get_mut(&id) {
                    keys.chars().for_each(|key| attendee.tell(LegCommand::SendDtmf(key)));
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
            Command::Layout(hosts, guests) => self.lay_out([hosts, guests]),
        }
    }

    /// A leg has called: it is answered at once, so that it hears us.
    pub(super) fn arrive(&mut self, leg: Leg, view: watch::Sender<CallView>, done: oneshot::Sender<Outcome>) {
        let (id, party, commands) = self.follow(leg);
        let mut attendee = Attendee::new(id, party, SystemTime::now()).with_leg(commands).watched(view, done);
        if self.policy.parties().len() >= self.service.rules.parties {
            attendee.hang_up(Cause::local(Reason::Congestion));
        } else {
            attendee.tell(LegCommand::Answer(offer_for(None)));
        }
        self.attendees.insert(attendee.id, attendee);
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
        let who = Party {
            protocol: "api",
            origin: Origin::Incoming,
            address: String::new(),
            name,
            called: self.service.name.clone(),
            device: None,
            signalling: source,
            transport: "tls",
            hops: 0,
        };
        let attendee = Attendee::new(number, who, SystemTime::now());
        let (id, uuid) = (attendee.id, attendee.uuid);
        self.attendees.insert(id, attendee);
        let entered = self.enter_as(id, now, Entry { role, invited: false, keeps: true });
        self.carry_out();
        let joined = entered.map(|place| {
            self.show();
            Joined { id, uuid, place, view: self.view.subscribe(), said: self.said.subscribe() }
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

    /// The events of `leg` go to the room from now on.
    pub(super) fn follow(&self, leg: Leg) -> (LegId, Party, mpsc::Sender<LegCommand>) {
        let Leg { id, party, commands, mut events, .. } = leg;
        let (number, told) = (PartyId(id.0), self.told.clone());
        tokio::spawn(async move {
            // A leg that vanishes without a word is a fault of ours, and over all the same.
            let mut last = LegEvent::Ended(Cause::local(Reason::Internal));
            while let Some(event) = events.recv().await {
                if matches!(event, LegEvent::Ended(_)) {
                    last = event;
                    break;
                }
                if told.send((number, event)).await.is_err() {
                    return;
                }
            }
            let _ = told.send((number, last)).await;
        });
        (id, party, commands)
    }

    pub(super) fn lay_out(&mut self, layouts: [Layout; 2]) {
        self.layouts = layouts;
        self.all.set_slots(layouts[0].capacity(), layouts[0].mains());
        self.hosts.set_slots(layouts[1].capacity(), layouts[1].mains());
        self.changed = true;
    }
}
