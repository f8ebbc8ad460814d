//! What a leg offers anew within a call: hold and resume cross, everything else is answered here.
//!
//! ```text
//!  who began ── Reoffered ──► call ── Reoffer ──► the other leg
//!            ◄─ AcceptReoffer ─     ◄─ Changed or ReofferRefused ─
//!            ── Changed or ReofferWithdrawn ──►  (withdrawn: the other leg is offered what it had)
//! ```

use crosspoint_codecs::format::{Capabilities, MediaFormat, MediaKind};

use super::Call;
use super::participant::{Exchange, Participant};
use super::transfer::takes;
use crate::conference::accord::{Asked, Side, accord};
use crate::conference::offer::{answer_for, offer_for, with_directions};
use crate::leg::{LegCommand, LegId};

/// A re-offer that is carried across. One at a time.
#[derive(Debug)]
pub(super) struct Crossing {
    began: LegId,
    offer: Capabilities,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The other leg still has something else to settle.
    Waiting,
    /// The other leg has the offer.
    Offered,
    /// The other leg has the offer, and who began has taken it back.
    Withdrawn,
    /// Who began has been answered. The other leg may have taken the offer.
    Answered { taken: bool },
}

impl Call {
    /// Hold and resume are carried across, everything else is answered here: a leg keeps what it
    /// negotiated and the engine adapts.
    pub(super) async fn reoffered(&mut self, leg: LegId, offer: Option<Capabilities>) {
        let other = self.other(leg).map(|other| answer_for(&other.streams));
        if other.is_none() {
            return self.reoffered_early(leg, offer).await;
        }
        let free = self.crossing.is_none();
        let Some(participant) = self.participant(leg) else { return };
        let Some(standing) = other else { return participant.tell(LegCommand::RefuseReoffer).await };
        participant.exchange = Exchange::Theirs;
        let before: Vec<_> =
            participant.streams.iter().map(|s| (s.agreed.role, s.agreed.direction.reversed())).collect();
        let crosses = offer.filter(|offer| {
            let now: Vec<_> = offer.media.iter().map(|line| (line.role, line.direction)).collect();
            before != now
        });
        match crosses {
            Some(offer) if free => {
                self.crossing = Some(Crossing { began: leg, offer, stage: Stage::Waiting });
                self.proceed().await;
            }
            _ => participant.tell(LegCommand::AcceptReoffer(standing)).await,
        }
    }

    /// The same before the call stands (RFC 3311 section 5.1, RFC 3262 section 5). Nothing crosses: whom it will
    /// talk to, and how, is not settled, so it is answered with what may come of that.
    async fn reoffered_early(&mut self, leg: LegId, offer: Option<Capabilities>) {
        let standing = offer.as_ref().and_then(|offer| self.early_answer(leg, offer));
        let from_caller = leg == self.caller.leg.id;
        let Some(participant) = self.participant(leg) else { return };
        let Some(standing) = standing else { return participant.tell(LegCommand::RefuseReoffer).await };
        participant.exchange = Exchange::Theirs;
        participant.tell(LegCommand::AcceptReoffer(standing)).await;
        if from_caller {
            self.offered = offer;
        }
    }

    fn early_answer(&self, leg: LegId, offer: &Capabilities) -> Option<Capabilities> {
        if self.is_transferred_to(leg) {
            return Some(takes(&self.caller));
        }
        if self.connected.is_some() || self.ending() {
            return None;
        }
        if leg != self.caller.leg.id {
            return Some(offer_for(self.offered.as_ref()));
        }
        let early = self.early.and_then(|id| self.callee(id));
        Some(early.map_or_else(|| offer_for(Some(offer)), |early| answer_for(&early.streams)))
    }

    /// The streams of `leg` are as agreed now.
    pub(super) async fn settled(&mut self, leg: LegId) {
        self.concluded(leg, true).await;
    }

    /// Our offer to `leg` was refused.
    pub(super) async fn refused(&mut self, leg: LegId) {
        // Its own peer may have offered first, which goes on.
        if self.participant(leg).is_some_and(|participant| participant.exchange == Exchange::Theirs) {
            self.crossed(leg, false).await;
        } else {
            self.concluded(leg, false).await;
        }
    }

    /// The re-offer of `leg` came to nothing: what it made of the other leg is undone.
    pub(super) async fn withdrawn(&mut self, leg: LegId) {
        if let Some(participant) = self.participant(leg)
            && participant.exchange == Exchange::Theirs
        {
            participant.exchange = Exchange::Idle;
        }
        if let Some(crossing) = self.crossing.take_if(|crossing| crossing.began == leg) {
            match crossing.stage {
                Stage::Offered | Stage::Withdrawn => {
                    self.crossing = Some(Crossing { stage: Stage::Withdrawn, ..crossing });
                }
                Stage::Answered { taken: true } => self.undo(leg).await,
                Stage::Answered { taken: false } | Stage::Waiting => {}
            }
        }
        self.proceed().await;
    }

    /// An exchange with `leg` has ended.
    async fn concluded(&mut self, leg: LegId, taken: bool) {
        if let Some(participant) = self.participant(leg) {
            participant.exchange = Exchange::Idle;
        }
        self.crossed(leg, taken).await;
        self.proceed().await;
    }

    /// If `leg` was offered a hold or resume, it has answered or refused: answer who began it.
    async fn crossed(&mut self, leg: LegId, taken: bool) {
        let Some(crossing) = &mut self.crossing else { return };
        let began = crossing.began;
        match crossing.stage {
            Stage::Offered if began != leg => {
                crossing.stage = Stage::Answered { taken };
                let standing = self.other(began).map(|other| answer_for(&other.streams)).unwrap_or_default();
                if let Some(participant) = self.participant(began) {
                    participant.tell(LegCommand::AcceptReoffer(standing)).await;
                }
            }
            Stage::Withdrawn if began != leg => {
                self.crossing = None;
                if taken {
                    self.undo(began).await;
                }
            }
            Stage::Answered { .. } if began == leg => self.crossing = None,
            _ => {}
        }
    }

    /// Offers the other leg what `began` has, whose re-offer it took in vain.
    async fn undo(&mut self, began: LegId) {
        let standing = self.participant(began).map(|began| answer_for(&began.streams)).unwrap_or_default();
        if let Some(other) = self.other(began).map(|other| other.leg.id) {
            self.reoffer(other, standing).await;
        }
    }

    /// Does what waited until nothing else was under way.
    pub(super) async fn proceed(&mut self) {
        let Some(crossing) = &self.crossing else { return self.accord().await };
        if crossing.stage != Stage::Waiting {
            return;
        }
        let (began, offer) = (crossing.began, crossing.offer.clone());
        let Some(other) = self.other(began).filter(|other| other.exchange == Exchange::Idle) else { return };
        let other = other.leg.id;
        if let Some(crossing) = &mut self.crossing {
            crossing.stage = Stage::Offered;
        }
        // The other leg is offered what it has, in the directions that this one wants.
        let own = self.participant(began).map(|this| answer_for(&this.streams)).unwrap_or_default();
        self.reoffer(other, with_directions(own, &offer)).await;
    }

    /// The one re-offer that turns a transcode into a relay, when both sides stand. Refused, all
    /// stays as it is.
    async fn accord(&mut self) {
        let Some(callee) = self.connected.and_then(|id| self.callee(id)) else { return };
        let idle = |it: &Participant| it.answered && !it.hung_up && it.exchange == Exchange::Idle;
        if self.accorded || !idle(&self.caller) || !idle(callee) {
            return;
        }
        let (caller_offered, callee_was_offered) = (self.offered.as_ref(), offer_for(self.offered.as_ref()));
        let takes = caller_offered.map(sound_of).unwrap_or_default();
        let sides = side(&self.caller, takes, Vec::new()).zip(side(
            callee,
            Vec::new(),
            sound_of(&callee_was_offered),
        ));
        let ids = (self.caller.leg.id, callee.leg.id);
        let streams = (callee.streams.clone(), self.caller.streams.clone());
        self.accorded = true;
        let Some((caller, callee)) = sides.filter(|((caller, _), (callee, _))| caller == callee) else {
            return;
        };
        let Some((asked, codec)) = accord(&caller.1, &callee.1) else { return };
        let (leg, others) = match asked {
            Asked::Caller => (ids.0, streams.0),
            Asked::Callee => (ids.1, streams.1),
        };
        let mut wanted = answer_for(&others);
        for line in wanted.media.iter_mut().filter(|line| line.role == MediaKind::Audio) {
            line.formats.retain(|format| format.codec() == codec);
        }
        tracing::info!(leg = leg.0, %codec, "asked to take the other side's codec");
        self.reoffer(leg, wanted).await;
    }

    async fn reoffer(&mut self, leg: LegId, wanted: Capabilities) {
        if let Some(participant) = self.participant(leg) {
            // While its peer offers, the answer to that says the same.
            if participant.exchange == Exchange::Idle {
                participant.exchange = Exchange::Ours;
                participant.tell(LegCommand::Reoffer(wanted)).await;
            }
        }
    }
}

/// The sound of a participant, and the thread that it is on: only on one thread can it be relayed.
fn side(
    participant: &Participant,
    mut takes: Vec<MediaFormat>,
    asked: Vec<MediaFormat>,
) -> Option<(usize, Side)> {
    let sound = participant.streams.iter().find(|stream| stream.agreed.role == MediaKind::Audio)?;
    takes.extend(sound.also.iter().cloned());
    let codecs = participant.leg.codecs.clone();
    Some((sound.port.thread(), Side { agreed: sound.agreed.clone(), takes, asked, codecs }))
}

fn sound_of(capabilities: &Capabilities) -> Vec<MediaFormat> {
    let sound = capabilities.media.iter().find(|line| line.role == MediaKind::Audio);
    sound.map(|line| line.formats.clone()).unwrap_or_default()
}
