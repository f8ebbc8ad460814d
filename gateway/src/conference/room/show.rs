//! What a room tells whoever watches.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use tokio::sync::watch;

use super::Room;
use super::attendee::Attendee;
use super::seam::{PartyView, RoomView};
use crate::conference::ledger::{Named, Page, Saved};
use crate::conference::policy::PartyId;

impl Room {
    /// Has what should outlive the process written down, if it has changed.
    pub(super) fn record(&self) -> Saved {
        let Some(pages) = &self.pages else { return Saved::at_once() };
        let client = |id| self.attendees.get(&id).filter(|it| it.is_control_only());
        let left = self.policy.left(|id| client(id).is_some());
        let named = |it: &Attendee| Named { uuid: it.uuid, name: it.name().to_owned(), since: it.since };
        let page = (!self.policy.is_over() && !left.is_plain()).then(|| Page {
            conference: self.conference,
            service: self.service.name.clone(),
            names: left.parties.iter().filter_map(|it| client(it.id)).map(named).collect(),
            left,
        });
        pages.write(page)
    }

    pub(super) fn show(&self) {
        let wall = |at: Instant| self.began_at + Duration::from_nanos(at.as_nanos());
        let parties = self.attendees.values().map(|it| {
            let party = self.policy.party(it.id).copied();
            PartyView {
                id: it.id,
                uuid: it.uuid,
                name: it.name().to_owned(),
                label: it.label.clone(),
                since: it.since,
                at: it.at(),
                party,
                invited_as: it.invited.map(|it| it.role),
                streams: it.invited.is_some_and(|it| it.streams),
                cause: it.ended,
                leg: it.leg_view(),
                control_only: it.is_control_only(),
                hand: party.and_then(|it| it.hand).map(wall),
                spotlight: party.and_then(|it| it.spotlight).map(wall),
                presents: self.floor.holder() == Some(it.id),
                exit: it.exit,
            }
        });
        let view = RoomView {
            locked: self.policy.locked(),
            guests_muted: self.policy.guests_muted(),
            guests_can_unmute: self.policy.guests_can_unmute(),
            tells_hosts: self.service.door.tells_hosts(),
            names: self.names,
            guests_present: self.policy.guests_present(),
            presenter: self.floor.holder(),
            still: self.still.clone(),
            banner: self.banner.clone(),
            started: self.policy.started(),
            parties: parties.collect(),
            layouts: self.layouts,
            stage: self.all.seated().map(|leg| PartyId(leg.0)).collect(),
            speaker: self.all.speaker(self.now()).map(|leg| PartyId(leg.0)),
        };
        show_new(&self.view, view);
        self.attendees.values().for_each(Attendee::show);
    }
}

/// Tells who watches, unless it is what he knows: with each view everything is written out anew for
/// everybody.
pub(super) fn show_new<T: PartialEq>(to: &watch::Sender<T>, view: T) {
    to.send_if_modified(|known| {
        let is_new = *known != view;
        if is_new {
            *known = view;
        }
        is_new
    });
}
