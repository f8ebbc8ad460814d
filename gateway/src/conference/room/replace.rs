//! Somebody in a conference goes on at another telephone of his own (INVITE with Replaces, RFC 3891).
//!
//! ```text
//!  new leg ── Replace ──► room: is it he, and is he in? ── Answer ──► new leg
//!          ── Answered ─► it has his seat, and the old leg is hung up
//! ```
//!
//! Until the new leg stands nothing changes, and one that comes to nothing is as if it had not called. Who hangs up
//! the old one meanwhile has his seat all the same; who is sent away meanwhile is so at both.

use std::time::SystemTime;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::Capabilities;
use tokio::sync::{oneshot, watch};

use super::Room;
use super::attendee::Attendee;
use super::refer::Wished;
use crate::cause::{Cause, Reason};
use crate::conference::call::transfer::{TRANSFERS, identity, telephone};
use crate::conference::call::{CallView, Outcome};
use crate::conference::exchange::refuse;
use crate::conference::offer::answer_alone;
use crate::conference::policy::PartyId;
use crate::leg::{Leg, LegCommand, LegId, Party};
use crate::records::TransferRecord;

impl Room {
    /// `leg` calls for the place of `old`. One at a time does so for each who is in: there are never more of them
    /// than those.
    pub(super) fn replace(
        &mut self,
        leg: Leg,
        offered: Option<&Capabilities>,
        old: LegId,
        referred_by: Option<String>,
        view: watch::Sender<CallView>,
        done: oneshot::Sender<Outcome>,
    ) {
        let of = PartyId(old.0);
        let (by, to) = (identity(&leg.party), telephone(&leg.party));
        let mut new = Attendee::new(leg.id, leg.party.clone(), SystemTime::now()).watched(view, done);
        let stays = match self.who_goes_on(of, &leg.party) {
            Ok(stays) => stays,
            Err(reason) => {
                let (new_leg, outcome) = (leg.id.0, reason.word());
                tracing::info!(leg = new_leg, old = old.0, by, outcome, "no place for a new leg");
                // He is in no roster: nobody here learns that he has tried.
                new.end(Cause::local(reason));
                tokio::spawn(refuse(leg, Cause::local(reason)));
                return;
            }
        };
        tracing::info!(leg = leg.id.0, old = old.0, by, "a new leg takes the place of another");
        stays.wish = Some(Wished::Comes);
        let outcome = "called".to_owned();
        stays.sent_on.push(TransferRecord { by, to, referred_by, rule: None, outcome });
        let Leg { id, commands, events, .. } = leg;
        new = new.spoken_to_by(&self.voice).with_leg(commands, self.follow(id, events));
        (new.seat_of, new.own_seat) = (Some(of), true);
        new.tell(LegCommand::Answer(answer_alone(offered)));
        self.attendees.insert(new.id, new);
    }

    /// Whose place `by` may take; why not (RFC 3891 section 3). That a conference is locked does not count: he is
    /// in already, as whom he has proven to be.
    fn who_goes_on(&mut self, of: PartyId, by: &Party) -> Result<&mut Attendee, Reason> {
        let seat = self.seat_of(of);
        let there = |it: &&mut Attendee| it.hung_up.is_none() && it.leaving.is_none();
        let stays = self.attendees.get_mut(&of).filter(there).ok_or(Reason::Rejected)?;
        if stays.who.proven().is_none() || stays.who.proven() != by.proven() {
            return Err(Reason::Rejected);
        }
        // Who stands at the door or waits has no place yet, and is to call as anybody does.
        seat.ok_or(Reason::Forbidden)?;
        if stays.wish.is_some() || stays.goes_to.is_some() || stays.sent_on.len() >= TRANSFERS {
            return Err(Reason::Congestion);
        }
        Ok(stays)
    }

    /// `id` has our answer. True: he came for a seat of his own, and has it. Where that is gone, for he hung up and
    /// the conference was over with it, the door is the same for him as for anybody.
    pub(super) fn goes_on(&mut self, id: PartyId, now: Instant) -> bool {
        let Some(new) = self.attendees.get_mut(&id).filter(|it| it.own_seat) else { return false };
        let Some(of) = new.seat_of.take() else { return false };
        let Some(was) = self.sat(of) else { return false };
        if let Some(new) = self.attendees.get_mut(&id) {
            new.seat_of = Some(of);
        }
        if self.policy.go_on(now, was, id).is_err() {
            self.no_place_for(id, now);
        }
        true
    }
}
