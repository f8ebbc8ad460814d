//! Whom a transfer reaches: whom the one who asked for it would reach if he called.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use crosspoint_codecs::format::Capabilities;
use tokio::sync::{oneshot, watch};

use super::record::attend;
use super::{Exchange, Live, Resolution, rfc3339};
use crate::alias::Alias;
use crate::cause::Reason;
use crate::conference::call::{CallView, Outcome, Participant};
use crate::conference::redirect::{Asker, Placing, Trail};
use crate::conference::room::Seat;
use crate::conference::service::{Kind, Service};
use crate::leg::{Caller, Leg, Party};
use crate::records::CallRecord;

/// Whom a transfer reaches.
#[derive(Debug)]
pub(in crate::conference) enum Reached {
    /// These ring, by that rule; where they send it may be a conference.
    Rings(Vec<Leg>, Option<String>, Trail),
    /// A conference takes him.
    Conference(Arc<Service>),
}

impl Exchange {
    /// Calls what `asker` calls, in the name of `kept`, whom it shall talk to, unless that is a conference.
    /// Clients, who need one to talk to, are not reached like that.
    pub(in crate::conference) async fn transfer(
        &self,
        number: u64,
        asker: &Party,
        kept: &Party,
        offer: &Capabilities,
        thread: usize,
    ) -> Result<Reached, Reason> {
        let (targets, rule, follow) = match self.0.parts.directory.resolve(asker).await {
            Resolution::Dial { targets, rule, follow, why } => {
                tracing::info!(caller = asker.address, called = asker.called, why, "call routed");
                self.0.traces.note(number, &format!("transfer routed: {why}"));
                (targets, rule, follow)
            }
            Resolution::Enter { service, .. } if service.is_decoy() || service.kind == Kind::Gateway => {
                return Err(Reason::NotAcceptable);
            }
            Resolution::Enter { service, why } => {
                tracing::info!(caller = asker.address, called = asker.called, why, "call routed");
                self.0.traces.note(number, &format!("transfer routed: {why}"));
                return Ok(Reached::Conference(service));
            }
            Resolution::Refuse { reason, why } => {
                tracing::warn!(caller = asker.address, called = asker.called, why, "call refused");
                self.0.traces.note(number, &format!("transfer refused, {}: {why}", reason.word()));
                return Err(reason);
            }
        };
        if self.need_venue(&targets) {
            return Err(Reason::NotAcceptable);
        }
        let address = kept.device.clone().unwrap_or_else(|| shown(&kept.address));
        let (name, hops) = (kept.name.clone(), asker.hops.saturating_sub(1));
        let from = Caller { address, name, hops, venue: None };
        let trail = Trail::of(number);
        let placing = Placing::new(self.clone(), Asker::Caller(asker.clone()), follow, &trail).entering();
        let legs = self.begin_all(&targets, &from, offer, Some(thread), &placing);
        Ok(Reached::Rings(legs.map_err(|cause| cause.reason)?, rule, trail))
    }

    /// The conference of `service`, dialled as `called`, takes over a party that was in another call: at its
    /// door, or in the `seat` of somebody who is in it. From now on that is a call of its own.
    pub(in crate::conference) fn send_into(
        &self,
        service: Arc<Service>,
        called: &str,
        party: Participant,
        seat: Option<Seat>,
    ) {
        let (mut leg, streams) = party.into_leg();
        leg.party = Party { called: called.to_owned(), uri: None, ..leg.party };
        self.attends(&service, leg, "sent on from another call", |leg, view| {
            self.0.rooms.take_in(&service, leg, streams, seat, view)
        });
    }

    /// A leg, whose party has a place already, has a call of its own in the conference of `service`, where `enter`
    /// brings it.
    pub(super) fn attends(
        &self,
        service: &Service,
        leg: Leg,
        why: &str,
        enter: impl FnOnce(Leg, watch::Sender<CallView>) -> oneshot::Receiver<Outcome>,
    ) {
        let (number, began) = (self.0.next.fetch_add(1, Ordering::Relaxed), SystemTime::now());
        let (view, views) = watch::channel(CallView::default());
        let live = Live { began, caller: leg.party.clone(), view: views, orders: None };
        self.enlist_again(number, live);
        self.0.traces.join(number, &leg);
        self.0.traces.note(number, why);
        let record = CallRecord {
            call: number,
            started: rfc3339(began),
            caller: leg.party.address.clone(),
            authenticated: leg.party.device.is_some(),
            called: leg.party.called.clone(),
            answered_by: Some(service.name.clone()),
            ..CallRecord::default()
        };
        let (this, start, answers) = (self.clone(), Instant::now(), view.subscribe());
        let over = enter(leg, view);
        tokio::spawn(async move {
            let told = this.answered(number);
            let ended = attend(over, answers, record, start, told).await;
            this.finish(number, ended);
        });
    }
}

/// Without scheme and parameters.
fn shown(address: &str) -> String {
    Alias::with_host(address).map_or_else(|_| address.to_owned(), |it| it.to_string())
}

#[cfg(test)]
pub(super) mod tests;
