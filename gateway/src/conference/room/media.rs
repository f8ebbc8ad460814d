//! What everybody of a room hears and sees.

use std::sync::Arc;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::kernels::mix::Gain;

use super::attendee::{Attendee, Stage};
use super::sight::{Sight, Slate, composition};
use super::{Room, SPEAKS_WITHIN};
use crate::conference::order::SelfView;
use crate::conference::policy::{PartyId, Role};
use crate::conference::scene::Look;
use crate::conference::service::Kind;
use crate::leg::LegId;
use crate::media::port::StreamId;

impl Room {
    /// Has somebody be heard, and hear, as he should.
    pub(super) fn sound(&mut self, id: PartyId) {
        let tested = self.is_tested(id);
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        attendee.tested = tested;
        if self.service.kind == Kind::TestCall && matches!(attendee.stage, Stage::In) {
            self.studio.echo(attendee, false);
            return;
        }
        if matches!(attendee.stage, Stage::In) && tested {
            self.studio.echo(attendee, self.policy.party(id).is_some_and(|it| it.muted.any()));
            return;
        }
        let gain = self
            .policy
            .party(id)
            .filter(|_| matches!(attendee.stage, Stage::In))
            .map(|party| if party.muted.any() { Gain::ZERO } else { Gain::ONE });
        self.studio.sound(attendee, gain);
    }

    /// Somebody sees others: then it matters who speaks.
    pub(super) fn watched(&self) -> bool {
        self.all.seated().len() > 1 && self.attendees.values().any(|it| it.sink(MediaKind::Main).is_some())
    }

    /// Looks who speaks, and has everybody see what he should.
    pub(super) fn look(&mut self, now: Instant) {
        self.changed = false;
        if self.watched() {
            for (stream, since) in self.studio.heard() {
                let speaks = |it: &&Attendee| it.source(MediaKind::Audio) == Some(stream);
                if since <= SPEAKS_WITHIN
                    && let Some(leg) = self.attendees.values().find(speaks).map(|it| it.leg)
                {
                    self.all.heard(leg, now);
                    self.hosts.heard(leg, now);
                }
            }
        }
        let sights = self.sights(now);
        self.studio.want(sights);
        self.show();
    }

    /// What each picture sink is to show.
    pub(super) fn sights(&self, now: Instant) -> Vec<(StreamId, Sight)> {
        let mut sights = Vec::new();
        // All and guests of an auditorium; with slides and without.
        let mut viewers = [const { [Vec::new(), Vec::new()] }; 2];
        for attendee in self.attendees.values() {
            let Some(sink) = attendee.sink(MediaKind::Main) else { continue };
            match &attendee.stage {
                Stage::Arriving => {}
                Stage::AtTheDoor(reception) => sights.push((sink, Sight::Slate(reception.slate()))),
                Stage::Waiting if self.policy.locked() => sights.push((sink, Sight::Slate(Slate::Locked))),
                Stage::Waiting => sights.push((sink, Sight::Slate(Slate::Waiting))),
                Stage::Leaving => sights.push((sink, Sight::Slate(Slate::Goodbye))),
                // He sees himself.
                Stage::In if self.service.kind == Kind::TestCall || attendee.tested => {}
                Stage::In => {
                    let party = self.policy.party(attendee.id);
                    let guest = party.is_some_and(|it| it.role == Role::Guest);
                    let hosts_alone = guest && self.service.kind == Kind::Auditorium;
                    let slides = attendee.slides_in_mix && party.is_some_and(|it| it.slides);
                    let slides = slides && self.still.is_some();
                    viewers[usize::from(hosts_alone)][usize::from(slides)].push(attendee.leg);
                }
            }
        }
        let find = |leg: LegId| {
            let attendee = self.attendees.get(&PartyId(leg.0))?;
            let hidden = self.policy.party(attendee.id).is_some_and(|it| it.hidden);
            let picture = attendee.source(MediaKind::Main).filter(|_| !hidden);
            Some((attendee.label().to_owned(), attendee.who.address.clone(), picture))
        };
        for ((order, viewers), layout) in [&self.all, &self.hosts].into_iter().zip(&viewers).zip(self.layouts)
        {
            let speaker = order.speaker(now);
            let slides = [None, self.still.clone()];
            let views = viewers.iter().zip(slides).flat_map(|(viewers, slides)| {
                order.views(viewers, SelfView::Hidden).into_iter().map(move |view| (view, slides.clone()))
            });
            for (view, slides) in views {
                let look = Look { names: self.names, banner: self.banner.clone(), ..Look::default() };
                let picture = composition(&self.studio, layout, look, slides, &view.seated, speaker, find);
                let picture = Arc::new(picture);
                let sinks = view
                    .viewers
                    .iter()
                    .filter_map(|leg| self.attendees.get(&PartyId(leg.0))?.sink(MediaKind::Main));
                sights.extend(sinks.map(|sink| (sink, Sight::Picture(picture.clone()))));
            }
        }
        sights
    }
}
