//! From the door into the conference, and what is pressed on the way and there.

use crosspoint_codecs::clock::Instant;

use super::attendee::{Invitation, Stage};
use super::keypad::Command as Key;
use super::reception::{self, Reception, Step};
use super::seam::Seat;
use super::{Room, policy};
use crate::cause::{Cause, Reason};
use crate::conference::layout::Layout;
use crate::conference::policy::{Actor, Answer, Deed, Entry, Full, Keeps, Knock, PartyId, Place, Role};
use crate::conference::prompts::Prompt;
use crate::guard::Visitor;

impl Room {
    /// Somebody stands at the door.
    pub(super) fn knock(&mut self, id: PartyId, now: Instant) {
        if self.goes_on(id, now) {
            return;
        }
        if let Some(entry) = self.invited_as(id) {
            return self.enter(id, now, entry);
        }
        match self.service.door.answer(Knock::Silent) {
            Answer::Enter(role) => {
                if let Some(attendee) = self.attendees.get(&id) {
                    self.porter.entered(&Visitor::calling(&attendee.who), &self.service.name);
                }
                self.enter(id, now, Entry { role, invited: false, keeps: Keeps::Always });
            }
            Answer::AskPin { guests_without } => {
                if let Some(attendee) = self.attendees.get_mut(&id) {
                    attendee.stage = Stage::AtTheDoor(Reception::new(now, guests_without));
                }
                self.receive(id, now, |reception, door| reception.timeout(now, door));
            }
            // Nobody is wrong before he has said something.
            Answer::Wrong => {}
        }
    }

    /// As what somebody comes who was called, unless it was for a seat that nobody can give up any more.
    fn invited_as(&self, id: PartyId) -> Option<Entry> {
        let attendee = self.attendees.get(&id)?;
        let Invitation { role, keeps, .. } = attendee.invited?;
        let Some(of) = attendee.seat_of else { return Some(Entry { role, invited: true, keeps }) };
        // He comes as who gives it up is by now, and waits at a locked room like others.
        let Seat { role, keeps, .. } = self.seat_now(of)?;
        Some(Entry { role, invited: !self.policy.locked(), keeps })
    }

    pub(super) fn receive(
        &mut self,
        id: PartyId,
        now: Instant,
        what: impl FnOnce(&mut Reception, &mut reception::Door<'_>) -> Step,
    ) {
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        let Stage::AtTheDoor(reception) = &mut attendee.stage else { return };
        let (service, porter, who) = (&self.service, &self.porter, &attendee.who);
        let step = what(reception, &mut |knock| service.answer(porter, &Visitor::calling(who), knock));
        match step {
            Step::Wait => return,
            Step::Hush => attendee.saying = None,
            Step::Say(prompt) => attendee.say(now, prompt),
            Step::Enter(role) => {
                attendee.saying = None;
                self.enter(id, now, Entry { role, invited: false, keeps: Keeps::Always });
            }
            Step::Refuse { say } => attendee.say_goodbye(now, Some(say), Cause::local(Reason::Forbidden)),
        }
        self.changed = true;
        self.sound(id);
    }

    pub(super) fn enter_as(&mut self, id: PartyId, now: Instant, entry: Entry) -> Result<Place, Full> {
        if self.policy.is_over() && self.is_call() {
            return Err(Full);
        }
        if self.policy.is_over() {
            // The last conference is over but for its goodbyes: this is the next one.
            self.policy = policy(&self.service);
            self.vacant.clear();
            self.is_on = false;
        }
        self.policy.enter(now, id, entry)
    }

    pub(super) fn enter(&mut self, id: PartyId, now: Instant, entry: Entry) {
        if self.enter_as(id, now, entry).is_err() {
            self.no_place_for(id, now);
        }
    }

    pub(super) fn no_place_for(&mut self, id: PartyId, now: Instant) {
        if let Some(attendee) = self.attendees.get_mut(&id) {
            attendee.say_goodbye(now, None, Cause::local(Reason::Congestion));
        }
    }

    pub(super) fn press(&mut self, id: PartyId, now: Instant, key: char) {
        if self.is_call() {
            self.pass_on(id, key);
            return;
        }
        self.receive(id, now, |reception, door| reception.press(now, key, door));
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        if !matches!(attendee.stage, Stage::In) {
            return;
        }
        let Some(command) = attendee.keypad.press(now, key) else { return };
        let Some(party) = self.policy.party(id).copied() else { return };
        let actor = Actor::Party(id);
        let (deed, prompt) = match command {
            Key::Lock if self.policy.locked() => (Deed::Lock(false), Some(Prompt::NowUnlocked)),
            Key::Lock => (Deed::Lock(true), Some(Prompt::NowLocked)),
            Key::MuteGuests if self.policy.guests_muted() => {
                (Deed::MuteGuests(false), Some(Prompt::GuestsUnmuted))
            }
            Key::MuteGuests => (Deed::MuteGuests(true), Some(Prompt::GuestsMuted)),
            Key::MuteMyself if party.muted.any() => (Deed::Mute(id, false), Some(Prompt::Unmuted)),
            Key::MuteMyself => (Deed::Mute(id, true), Some(Prompt::Muted)),
            Key::End => (Deed::End, None),
            Key::NextLayout if party.role == Role::Host => {
                let next = |layout: Layout| {
                    let at = Layout::ALL.iter().position(|it| *it == layout).unwrap_or(0);
                    Layout::ALL[(at + 1) % Layout::ALL.len()]
                };
                self.lay_out([next(self.layouts[0]), self.layouts[1]]);
                return;
            }
            Key::SlidesInMix if party.role == Role::Host => {
                attendee.slides_in_mix = !attendee.slides_in_mix;
                self.changed = true;
                return;
            }
            Key::NextLayout | Key::SlidesInMix => return,
        };
        let done = self.policy.act(now, actor, deed);
        if done.is_ok()
            && let Some(prompt) = prompt
            && let Some(attendee) = self.attendees.get_mut(&id)
        {
            attendee.say(now, prompt);
            self.sound(id);
        }
    }
}
