//! What one call wants of another, and who calls for a place in one (RFC 5589 section 7, RFC 3891).

use crosspoint_codecs::format::Capabilities;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::{Exchange, OFFER_WAIT, refuse};
use crate::cause::{Cause, Reason};
use crate::conference::call::takeover::{Order, Replace};
use crate::conference::room::Command;
use crate::conference::service::Service;
use crate::leg::{Leg, LegEvent, LegId};

impl Exchange {
    /// `leg`, which has come in, shall take the place of `old`, which was found to be the same party's, in a call or
    /// in a conference. Where that cannot be, it is refused (RFC 3891 section 3).
    pub fn replace(&self, mut leg: Leg, old: LegId, referred_by: Option<String>) {
        let this = self.clone();
        tokio::spawn(async move {
            let offered = match tokio::time::timeout(OFFER_WAIT, leg.events.recv()).await {
                Ok(Some(LegEvent::Offered(offered))) => offered,
                Ok(Some(LegEvent::Ended(_))) => return,
                _ => {
                    refuse(leg, Cause::local(Reason::Internal)).await;
                    return;
                }
            };
            if let Some((service, _, found)) = this.rooms().with_leg(old) {
                return this.replace_in(&service, leg, offered, found.leg.id, referred_by);
            }
            let order = Order::Replace(Box::new(Replace { old, new: leg, referred_by }));
            if let Err((reason, Order::Replace(back))) = this.order(None, old, order) {
                refuse(back.new, Cause::local(reason)).await;
            }
        });
    }

    /// The same where `old` is in the conference of `service`. Each who is there has a call of his own, and so has
    /// the new leg; that of the old one is recorded as sent on to it.
    fn replace_in(
        &self,
        service: &Service,
        leg: Leg,
        offered: Option<Capabilities>,
        old: LegId,
        referred_by: Option<String>,
    ) {
        self.attends(service, leg, &format!("in the place of leg {old}"), |leg, view| {
            let (done, over) = oneshot::channel();
            let replace = Command::Replace { leg, offered, old, referred_by, view, done };
            if !self.rooms().tell(&service.name, replace) {
                // The leg ends with what was to be told.
                tracing::warn!(service = service.name, "a conference does not keep up");
            }
            over
        });
    }

    /// Asks the call that has the leg `own` for the party there, for the call of that number, or for a
    /// conference.
    pub(in crate::conference) fn ask(
        &self,
        number: Option<u64>,
        own: LegId,
        order: Order,
    ) -> Result<(), Reason> {
        self.order(number, own, order).map_err(|(reason, _)| reason)
    }

    /// Tells the call that has that leg, and is not `asker`.
    fn order(&self, asker: Option<u64>, leg: LegId, order: Order) -> Result<(), (Reason, Order)> {
        let of = |live: &super::Live| live.view.borrow().legs.iter().find(|it| it.is(leg)).map(|it| it.id);
        let found =
            self.live().iter().find_map(|(number, live)| Some((*number, live.orders.clone(), of(live)?)));
        match found {
            Some((number, Some(orders), known)) if Some(number) != asker => {
                orders.try_send(order.on(known)).map_err(|fault| match fault {
                    TrySendError::Full(order) => (Reason::Congestion, order),
                    TrySendError::Closed(order) => (Reason::Rejected, order),
                })
            }
            // It was never a call between two; of one that is in a conference by now nobody listens.
            Some(_) => Err((Reason::NotAcceptable, order)),
            None => Err((Reason::Rejected, order)),
        }
    }
}

#[cfg(test)]
mod tests;
