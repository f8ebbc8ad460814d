//! What comes of the policy: who is where, hears and is seen, and who goes.

use std::sync::Arc;

use crosspoint_codecs::clock::Instant;

use super::attendee::{Attendee, Stage};
use super::{REMIND_EVERY, Room};
use crate::cause::{Cause, Reason};
use crate::conference::policy::{Change, End, Exit, PartyId, Place, Role};
use crate::conference::prompts::Prompt;
use crate::conference::service::Kind;
use crate::leg::LegId;

impl Room {
    /// Does what the policy has told.
    pub(super) fn carry_out(&mut self) {
        let now = self.now();
        let mut any = false;
        loop {
            let changes = self.policy.take_changes();
            if changes.is_empty() {
                break;
            }
            (self.changed, any) = (true, true);
            for change in changes {
                match change {
                    Change::Came(id) | Change::LetIn(id) | Change::Party(id) => self.place(id, now),
                    Change::Out(id, exit) => {
                        self.sent_away(id, now, exit);
                        // Which may end the call.
                        self.one_less(Cause::local(Reason::Hangup));
                    }
                    Change::Conference => {}
                    Change::Over(end) => {
                        tracing::info!(service = self.service.name, ?end, "conference over");
                        // Nobody is called into a conference that is over.
                        let rings = |it: &&mut Attendee| it.rings_until().is_some();
                        let over = Cause::local(Reason::Cancelled);
                        self.attendees.values_mut().filter(rings).for_each(|it| it.hang_up(over));
                    }
                }
            }
        }
        self.look_after_floor();
        if any {
            self.record();
        }
    }

    /// Brings somebody to where the policy has him.
    fn place(&mut self, id: PartyId, now: Instant) {
        let (Some(party), Some(attendee)) = (self.policy.party(id).copied(), self.attendees.get_mut(&id))
        else {
            return;
        };
        let was_in = matches!(attendee.stage, Stage::In);
        match party.place {
            Place::Waiting if !matches!(attendee.stage, Stage::Waiting) => {
                attendee.stage = Stage::Waiting;
                attendee.say(now, if self.policy.locked() { Prompt::Locked } else { Prompt::Waiting });
                self.remind_at = self.remind_at.max(now + REMIND_EVERY);
            }
            Place::Waiting => {}
            Place::In if !was_in => {
                attendee.stage = Stage::In;
                if !std::mem::replace(&mut self.is_on, true)
                    && let Some(begun) = &self.begun
                    && begun.try_send(Arc::clone(&self.service)).is_err()
                {
                    tracing::warn!("too many conferences begin: nobody is called into this one");
                }
                let alone = self.policy.parties().iter().filter(|it| it.place == Place::In).count() == 1;
                // Who goes on at another telephone has been greeted, and is in the middle of a word.
                let goes_on = attendee.own_seat && attendee.seat_of.is_some();
                if self.service.kind != Kind::Gateway && !goes_on {
                    attendee.say(now, if alone { Prompt::Alone } else { Prompt::Welcome });
                }
                if !attendee.is_control_only() {
                    self.all.join(attendee.leg);
                }
            }
            Place::In => {}
        }
        let leg = attendee.leg;
        if party.place == Place::In && party.role == Role::Host && !attendee.is_control_only() {
            self.hosts.join(leg);
        } else {
            self.hosts.leave(leg);
        }
        let mut spotlit: Vec<_> =
            self.policy.parties().iter().filter_map(|it| Some((it.spotlight?, it.id))).collect();
        spotlit.sort_unstable();
        let spotlit: Vec<LegId> = spotlit.iter().map(|(_, id)| LegId(id.0)).collect();
        self.all.set_spotlight(&spotlit);
        self.hosts.set_spotlight(&spotlit);
        self.sound(id);
        if !was_in {
            self.called_answers(id);
        }
        if party.place == Place::In && !was_in {
            self.has_the_seat(id, now);
        }
    }

    fn sent_away(&mut self, id: PartyId, now: Instant, exit: Exit) {
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        let prompt = match exit {
            Exit::Left => None,
            Exit::Waited => Some(Prompt::Waited),
            // Between two nobody speaks for us.
            _ if self.service.kind == Kind::Gateway => None,
            Exit::Removed(_) | Exit::Over(_) => Some(Prompt::Ended),
        };
        let cause = match exit {
            Exit::Waited => Cause::local(Reason::NoAnswer),
            Exit::Over(End::FarSide(reason)) => Cause::local(reason).across(),
            _ => Cause::local(Reason::Hangup),
        };
        attendee.exit = Some(exit);
        attendee.say_goodbye(now, prompt, cause);
        self.not_reached_for(id, cause.reason);
        self.gives_up_seat(id, exit);
        let Some(attendee) = self.attendees.get(&id) else { return };
        let leg = attendee.leg;
        self.forget(leg);
        self.sound(id);
    }
}
