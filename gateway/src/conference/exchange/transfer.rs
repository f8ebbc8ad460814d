//! Whom a transfer reaches: whom the one who asked for it would reach if he called.

use crosspoint_codecs::format::Capabilities;

use super::{Exchange, Resolution};
use crate::alias::Alias;
use crate::cause::Reason;
use crate::conference::redirect::{Asker, Placing, Trail};
use crate::leg::{Caller, Leg, Party};

impl Exchange {
    /// Calls what `asker` calls, in the name of `kept`, whom it shall talk to; and the rule that lets the
    /// call out. Conferences, and clients that need one, are not reached like that.
    pub(in crate::conference) async fn transfer(
        &self,
        number: u64,
        asker: &Party,
        kept: &Party,
        offer: &Capabilities,
        thread: usize,
    ) -> Result<(Vec<Leg>, Option<String>), Reason> {
        let (targets, rule, follow) = match self.0.parts.directory.resolve(asker).await {
            Resolution::Dial { targets, rule, follow, why } => {
                tracing::info!(caller = asker.address, called = asker.called, why, "call routed");
                self.0.traces.note(number, &format!("transfer routed: {why}"));
                (targets, rule, follow)
            }
            Resolution::Enter { .. } => return Err(Reason::NotAcceptable),
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
        let placing = Placing::new(self.clone(), Asker::Caller(asker.clone()), follow, &Trail::of(number));
        let legs = self.begin_all(&targets, &from, offer, Some(thread), &placing);
        Ok((legs.map_err(|cause| cause.reason)?, rule))
    }
}

/// Without scheme and parameters.
fn shown(address: &str) -> String {
    Alias::with_host(address).map_or_else(|_| address.to_owned(), |it| it.to_string())
}

#[cfg(test)]
pub(super) mod tests;
