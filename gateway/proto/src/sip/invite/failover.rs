//! A call that did not get through goes to another place (RFC 3263 section 4.3).

use std::time::Duration;

use super::client::{ClientInvite, Kind};
use super::*;

impl Call {
    /// Whether another place may be asked: the owner knows one, nobody hung up, and no phone rang.
    pub(super) fn may_go_elsewhere(&self, client: &ClientInvite) -> bool {
        self.elsewhere
            && matches!(client.kind, Kind::Initial)
            && matches!(self.stage, Stage::Early)
            && client.goes_on()
            && self.forks.is_empty()
    }

    /// The INVITE waits for the owner's word.
    pub(super) fn strand(&mut self, stack: &mut Stack, request: Request, how: How, pause: Option<Duration>) {
        self.stranded = Some(request);
        stack.event(Event::Unreached { call: self.id, how, pause });
    }

    /// The owner says where it goes: the same request but for its branch, which makes it a new
    /// transaction, and the offer.
    pub(in crate::sip) fn elsewhere(&mut self, now: Instant, stack: &mut Stack, elsewhere: Elsewhere) {
        let Elsewhere { destination, target, body, elsewhere, .. } = elsewhere;
        let Some(mut request) = self.stranded.take() else { return };
        self.elsewhere = elsewhere;
        // What proved us to one place is not shown to another.
        request.headers.remove(&Name::Authorization);
        request.headers.remove(&Name::ProxyAuthorization);
        if let Some((target, routes)) = target {
            request.uri = request_uri(target);
            request.headers.remove(&Name::Route);
            routes.into_iter().for_each(|route| request.headers.push(Name::Route, route));
        }
        let request = with_body(request, body.clone());
        let kept = request.clone();
        match self.set_out(now, stack, request, body, &destination) {
            Ok(()) => {}
            Err(Unsendable) if self.elsewhere => self.strand(stack, kept, no_way(&destination), None),
            Err(Unsendable) => self.end(now, stack, Ending::of(By::Network, no_way(&destination))),
        }
    }
}

/// What it means that nothing can be sent there.
pub(in crate::sip) const fn no_way(destination: &Destination) -> How {
    if matches!(destination, Destination::Flow(_)) { How::FlowFailed } else { How::Unreachable }
}
