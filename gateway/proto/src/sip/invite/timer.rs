//! What the session timer asks of a call (RFC 4028 sections 7 and 10).

use super::super::session::Due;
use super::super::transaction::ServerId;
use super::*;

/// What the far end is told when nobody refreshed the session (RFC 3326 section 2).
const EXPIRED: (u16, &str) = (408, "Session expired");

impl Call {
    /// Refreshes the session, or ends it when nobody did (section 10).
    pub(super) fn session_timeout(&mut self, now: Instant, stack: &mut Stack) {
        if self.session.due(now) == Some(Due::Bye) && self.stage == Stage::Confirmed {
            self.bye_when_allowed(now, stack, Some(Reason::sip(EXPIRED.0, EXPIRED.1)));
            self.end(now, stack, Ending::of(By::Network, How::Expired));
        }
    }

    /// By UPDATE where they take it, else by a re-INVITE that offers what stands (section 7.4): the
    /// peer sees by its version that nothing changed.
    pub(super) fn start_refresh(&mut self, now: Instant, stack: &mut Stack) {
        self.session.want(false);
        if self.updates && self.send_update(now, stack) {
            return;
        }
        if let Some(body) = self.described.clone() {
            self.start_reinvite(now, stack, Some(body), Kind::Refresh);
        }
    }

    /// A 422 to our INVITE: the same again with a longer session (section 7.3). False: it counts
    /// as the refusal that it is.
    pub(super) fn ask_for_more(&mut self, now: Instant, stack: &mut Stack, response: &Response) -> bool {
        let Some(client) = self.client.as_ref().filter(|c| c.goes_on()) else { return false };
        let tx = client.tx;
        if self.stage == Stage::Over || !self.session.too_brief(&response.headers) {
            return false;
        }
        match (self.ask_longer(now, stack, tx), &mut self.client) {
            (Some((tx, flow)), Some(client)) => {
                client.moved(tx, flow);
                self.forks.clear();
                true
            }
            _ => false,
        }
    }

    /// A request of ours again with the interval that is wanted now.
    pub(super) fn ask_longer(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ClientId,
    ) -> Option<(ClientId, Flow)> {
        let owner = stack.transactions.owner_of(id)?;
        let (request, flow) = stack.transactions.request(id)?;
        let mut request = request.clone();
        self.session.ask(&mut request.headers);
        if let Some(account) = &mut self.account {
            stack.authorize_next(account, &mut request);
        }
        self.start_again(now, stack, request, flow, owner)
    }
}

/// Refuses a request that asks for refreshes more often than we make them (section 9).
pub(in crate::sip) fn refuse_brief(now: Instant, stack: &mut Stack, tx: ServerId, tag: &str) {
    let least = stack.config.session.min_expires.as_secs();
    stack.answer_with(now, tx, 422, "", tag, |response| response.headers.push(Name::MinSe, least));
}
