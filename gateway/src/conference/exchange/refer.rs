//! What telephones in conferences wish, who send these on (RFC 3515): somebody is called who takes part in
//! their place, or is taken out of another call of theirs (RFC 5589 section 7).

use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot};

use super::dial::Whose;
use super::{Exchange, Inner};
use crate::cause::Reason;
use crate::conference::call::Participant;
use crate::conference::call::takeover::{Give, Order};
use crate::conference::call::transfer::identity;
use crate::conference::dialling::Dialling;
use crate::conference::policy::Place;
use crate::conference::room::{Seat, Wish};
use crate::conference::service::{Kind, Service};
use crate::leg::{LegId, Party, Proven, Referral};

/// Does what is wished, each by itself.
pub(super) async fn wishes(exchange: Weak<Inner>, mut wished: mpsc::Receiver<Wish>) {
    while let Some(wish) = wished.recv().await {
        let Some(exchange) = exchange.upgrade().map(Exchange) else { return };
        tokio::spawn(async move {
            match wish.instead_of {
                None => exchange.call_for(wish).await,
                Some(own) => exchange.bring(wish, own).await,
            }
        });
    }
}

impl Exchange {
    /// Calls whom he would reach if he called.
    async fn call_for(&self, wish: Wish) {
        let Wish { service, who, to, seat, .. } = wish;
        let by = identity(&who);
        let asker = Party { address: by.clone(), ..who.calling(&to) };
        let dialling = Dialling { role: seat.role, keeps: seat.keeps, ..Dialling::to(to, by) };
        let whose = Whose::Referred(Box::new(asker), seat);
        if let Err(refused) = self.dial_and_record(&service, dialling, whose).await {
            self.rooms().referral(&service.name, seat.of, Referral::Refused(refused.reason()));
        }
    }

    /// Takes the party to whom he talks on his leg `own` into the conference.
    async fn bring(&self, wish: Wish, own: LegId) {
        let Wish { service, by, to, seat, .. } = wish;
        let (reply, given) = oneshot::channel::<Result<Box<Participant>, Reason>>();
        let give = Give { leg: own, by, to: service.name.clone(), referral: false, reply };
        let tell = |referral| self.rooms().referral(&service.name, seat.of, referral);
        if let Err(reason) = self.ask(None, own, Order::Give(give)) {
            return tell(Referral::Refused(reason));
        }
        tell(Referral::Accepted);
        match given.await.unwrap_or(Err(Reason::Unavailable)) {
            Ok(party) => self.send_into(Arc::clone(&service), &to, *party, Some(seat)),
            // It was there when it was named.
            Err(Reason::Unavailable) => tell(Referral::NoSuchCall),
            Err(reason) => tell(Referral::Failed(reason)),
        }
    }

    /// The conference that `own`, a leg of who has proven to be `by`, is in, and what he has to give up there;
    /// `None` when it is in no conference. A call between two is none.
    pub(in crate::conference) fn seat_of(
        &self,
        own: LegId,
        by: &Proven,
    ) -> Result<Option<(Arc<Service>, Seat)>, Reason> {
        let Some((service, locked, found)) = self.rooms().with_leg(own) else { return Ok(None) };
        if found.leg.party.proven().as_ref() != Some(by) {
            return Err(Reason::Rejected);
        }
        let party = found.party.filter(|it| it.place == Place::In);
        match party {
            Some(party) if !locked && matches!(service.kind, Kind::Room | Kind::Auditorium) => {
                Ok(Some((service, Seat { of: found.id, role: party.role, keeps: party.keeps })))
            }
            _ => Err(Reason::Forbidden),
        }
    }
}

#[cfg(test)]
mod tests;
