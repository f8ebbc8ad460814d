//! What a leg offers anew within a call: hold and resume cross, everything else is answered here.

use crosspoint_codecs::format::Capabilities;

use super::Call;
use crate::conference::offer::{answer_for, with_directions};
use crate::leg::{LegCommand, LegId};

impl Call {
    /// Hold and resume are carried across, everything else is answered here: a leg keeps what it
    /// negotiated and the engine adapts.
    pub(super) async fn reoffered(&mut self, leg: LegId, offer: Option<Capabilities>) {
        let other = self.other(leg).map(|other| (other.leg.id, answer_for(&other.streams)));
        let Some((other, standing)) = other else {
            if let Some(participant) = self.participant(leg) {
                participant.tell(LegCommand::RefuseReoffer).await;
            }
            return;
        };
        let crosses = match (&offer, self.participant(leg)) {
            (Some(offer), Some(participant)) => {
                let before: Vec<_> = participant
                    .streams
                    .iter()
                    .map(|s| (s.agreed.role, s.agreed.direction.reversed()))
                    .collect();
                let now: Vec<_> = offer.media.iter().map(|line| (line.role, line.direction)).collect();
                before != now
            }
            _ => false,
        };
        if !crosses || self.crossing.is_some() {
            if let Some(participant) = self.participant(leg) {
                participant.tell(LegCommand::AcceptReoffer(standing)).await;
            }
            return;
        }
        // The other leg is offered what it has, in the directions that this one wants.
        let own = self.participant(leg).map(|this| answer_for(&this.streams)).unwrap_or_default();
        if let Some(offer) = &offer {
            let onwards = with_directions(own, offer);
            self.crossing = Some((leg, Some(offer.clone())));
            if let Some(other) = self.participant(other) {
                other.tell(LegCommand::Reoffer(onwards)).await;
            }
        }
    }

    /// The leg that was offered a hold or resume has answered or refused: answer who began it.
    pub(super) async fn crossed(&mut self, answered: LegId) {
        let Some((began, _)) = self.crossing.take_if(|(began, _)| *began != answered) else {
            if self.crossing.as_ref().is_some_and(|(began, _)| *began == answered) {
                self.crossing = None;
            }
            return;
        };
        let standing = self.other(began).map(|other| answer_for(&other.streams)).unwrap_or_default();
        if let Some(participant) = self.participant(began) {
            participant.tell(LegCommand::AcceptReoffer(standing)).await;
        }
    }
}
