//! From one conference to another without a new call: a room lets go of a leg, the other takes it over.
//!
//! ```text
//!  let_go ─> the leg's events stop, behind the last of them ─> hand_over ─> take_over in the other room
//! ```
//!
//! Nothing that a leg has told is lost between the two, its end least of all: whatever it told before
//! comes first, in the same queue as the word that it is free.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Room;
use super::attendee::Attendee;
use crate::cause::{Cause, Reason};
use crate::conference::policy::{Actor, Denied, Entry, Keeps, PartyId, Place, Role};
use crate::conference::service::Service;
use crate::leg::{LegEvent, LegId};

/// What comes of a leg.
#[derive(Debug)]
pub(super) enum Told {
    /// It tells that.
    Event(LegEvent),
    /// It is free: nothing more of it comes here.
    Released(mpsc::Receiver<LegEvent>),
}

/// Somebody between two conferences.
#[derive(Debug)]
pub struct Handed {
    attendee: Attendee,
    events: mpsc::Receiver<LegEvent>,
    to: Arc<Service>,
    role: Role,
}

impl Handed {
    /// Where he goes.
    pub(super) const fn to(&self) -> &Arc<Service> {
        &self.to
    }

    /// Nobody takes him: his call ends.
    pub(super) async fn give_up(mut self) {
        let cause = Cause::local(Reason::Congestion);
        self.attendee.hang_up(cause);
        while let Some(event) = self.events.recv().await {
            if matches!(event, LegEvent::Ended(_)) {
                break;
            }
        }
        self.attendee.end(cause);
    }
}

impl Room {
    /// The events of a leg go to the room from now on, until it is released by what is given back.
    pub(super) fn follow(&self, leg: LegId, mut events: mpsc::Receiver<LegEvent>) -> oneshot::Sender<()> {
        let (party, told) = (PartyId(leg.0), self.told.clone());
        let (release, mut released) = oneshot::channel();
        tokio::spawn(async move {
            // A leg that vanishes without a word is a fault of ours, and over all the same.
            let mut last = LegEvent::Ended(Cause::local(Reason::Internal));
            let mut held = true;
            loop {
                let event = tokio::select! {
                    wanted = &mut released, if held => {
                        if wanted.is_ok() {
                            let _ = told.send((party, Told::Released(events))).await;
                            return;
                        }
                        held = false;
                        continue;
                    }
                    event = events.recv() => event,
                };
                match event {
                    Some(event @ LegEvent::Ended(_)) => last = event,
                    Some(event) => {
                        if told.send((party, Told::Event(event))).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    None => {}
                }
                let _ = told.send((party, Told::Event(last))).await;
                return;
            }
        });
        release
    }

    /// Somebody is to go to the conference of `to`: his leg is released, and then handed over.
    pub(super) fn let_go(
        &mut self,
        actor: Actor,
        id: PartyId,
        to: Arc<Service>,
        role: Role,
    ) -> Result<(), Denied> {
        if let Actor::Party(own) = actor {
            let own = self.policy.party(own).ok_or(Denied::NoParty)?;
            if own.role != Role::Host || own.place != Place::In {
                return Err(Denied::Role);
            }
        }
        let there = self.policy.party(id).is_some();
        let attendee = self.attendees.get_mut(&id).filter(|_| there).ok_or(Denied::NoParty)?;
        if !attendee.release() {
            return Err(Denied::NoParty);
        }
        attendee.goes_to = Some((to, role));
        // He goes there at the telephone that he has.
        self.stays_at_one(id);
        Ok(())
    }

    /// A leg is free: he is out here.
    pub(super) fn hand_over(&mut self, id: PartyId, events: mpsc::Receiver<LegEvent>) -> Option<Handed> {
        let now = self.now();
        let going = self.attendees.get(&id)?;
        if going.hung_up.is_some() || self.policy.party(id).is_none() {
            // He was sent away meanwhile, or everybody was: he is not to turn up elsewhere.
            let release = self.follow(going.leg, events);
            self.attendees.get_mut(&id)?.stay(release);
            return None;
        }
        let mut attendee = self.attendees.remove(&id)?;
        let (to, role) = attendee.goes_to.take()?;
        attendee.gives_up_his_wish();
        self.studio.release(&attendee);
        self.forget(attendee.leg);
        self.vacates(id);
        self.policy.leave(now, id);
        self.carry_out();
        self.show();
        tracing::info!(leg = attendee.leg.0, to = to.name, "handed over");
        Some(Handed { attendee, events, to, role })
    }

    /// Somebody comes from another conference. The lock and the wait for a host are for him as for
    /// everybody.
    pub(super) fn take_over(&mut self, handed: Handed) {
        let Handed { mut attendee, events, role, .. } = handed;
        let now = self.now();
        let id = attendee.id;
        // Who was sent here may be the first: he waits for others, unless he is a recorder.
        let recorder = attendee.invited.is_some_and(|it| it.keeps == Keeps::Never);
        let keeps = if recorder { Keeps::Never } else { Keeps::Always };
        attendee.begin_anew(role, self.follow(attendee.leg, events));
        self.studio.engage(&attendee);
        self.attendees.insert(id, attendee);
        self.enter(id, now, Entry { role, invited: false, keeps });
        self.carry_out();
        self.changed = true;
        self.sound(id);
    }
}
