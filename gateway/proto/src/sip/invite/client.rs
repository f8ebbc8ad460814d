//! Our INVITE, first or later (RFC 3261 sections 13.2 and 14.1).

use std::net::SocketAddr;
use std::time::Duration;

use super::super::Contacts;
use super::super::content::session_body;
use super::*;

/// Phones that may ring for one call of ours. A proxy that names more is not believed.
const MAX_FORKS: usize = 16;

/// How often one re-INVITE gives way to the far end's before it counts as refused.
const MAX_GLARES: u8 = 5;

/// What an INVITE of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The call.
    Initial,
    /// The owner's next offer.
    Reoffer,
    /// The session timer (RFC 4028): it offers what stands.
    Refresh,
}

/// Our INVITE under way.
#[derive(Debug)]
pub(super) struct ClientInvite {
    pub(super) tx: ClientId,
    pub(super) kind: Kind,
    /// What it offers.
    pub(super) offer: Option<Body>,
    flow: Flow,
    pinned: bool,
    /// Its offer was answered in a reliable provisional response.
    settled: bool,
    /// Where it goes by UDP when TCP, taken for its size alone, has no listener.
    datagram: Option<SocketAddr>,
    /// A provisional response came: from now on a CANCEL finds it (section 9.1).
    provisional: bool,
    cancel: Cancel,
}

#[derive(Debug, PartialEq)]
pub(super) enum Cancel {
    No,
    /// It waits for a provisional response.
    Wanted(Option<Reason>),
    Sent(Option<Reason>),
}

impl ClientInvite {
    pub(super) const fn new(
        tx: ClientId,
        kind: Kind,
        offer: Option<Body>,
        flow: Flow,
        pinned: bool,
        datagram: Option<SocketAddr>,
    ) -> Self {
        let (settled, provisional, cancel) = (false, false, Cancel::No);
        Self { tx, kind, offer, flow, pinned, settled, datagram, provisional, cancel }
    }

    /// Whether nobody took it back.
    pub(super) fn goes_on(&self) -> bool {
        self.cancel == Cancel::No
    }

    /// Whether an offer of theirs would cross it.
    pub(super) const fn offer_is_open(&self) -> bool {
        !self.settled
    }

    /// A reliable provisional response answered it.
    pub(super) const fn settle(&mut self) {
        self.settled = true;
    }

    /// It was sent again as another request.
    pub(super) const fn moved(&mut self, tx: ClientId, flow: Flow) {
        self.tx = tx;
        self.flow = flow;
        self.provisional = false;
        self.settled = false;
    }
}

/// A 2xx with an offer, whose ACK carries the owner's answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    tx: ClientId,
    number: u32,
}

impl Call {
    /// A response to an INVITE of ours.
    pub(in crate::sip) fn response(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ClientId,
        response: &Response,
    ) {
        if self.client.as_ref().is_none_or(|c| c.tx != id) {
            // Another fork answers after the first.
            if response.is_success() {
                refuse_fork(now, stack, id, response, false);
            }
            return;
        }
        match response.status {
            ..200 => self.provisional(now, stack, response),
            200..300 => self.accepted(now, stack, response),
            401 | 407 => self.challenged(now, stack, response),
            422 if self.ask_for_more(now, stack, response) => {}
            _ => self.refused(now, stack, response),
        }
        self.pump(now, stack);
    }

    /// Our INVITE found no way, or no answer.
    pub(in crate::sip) fn lost(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ClientId,
        request: Request,
        how: How,
    ) {
        let Some(client) = self.client.take_if(|c| c.tx == id) else { return };
        if how == How::Unreachable && self.stage == Stage::Early {
            let way = client.datagram.and_then(|address| {
                let destination =
                    Destination::Address { transport: Some(Transport::Udp), address, name: None };
                stack.way(now, &destination, &request.uri, false).ok()
            });
            if let Some(flow) = way
                && client.cancel == Cancel::No
                && let Ok(tx) = self.send_invite(now, stack, request.clone(), flow)
            {
                self.client = Some(ClientInvite::new(tx, client.kind, client.offer, flow, false, None));
                return;
            }
        }
        let lost_flow = how == How::Unreachable && client.pinned && client.kind == Kind::Initial;
        let how = if lost_flow { How::FlowFailed } else { how };
        if self.may_go_elsewhere(&client) {
            return self.strand(stack, request, how, None);
        }
        if client.kind != Kind::Initial && self.stage == Stage::Confirmed {
            // Section 14.1: as a 408, which ends the dialog.
            self.bye(now, stack, None);
        }
        self.end(now, stack, Ending::of(By::Network, how));
    }

    /// The owner's answer to the offer of a 2xx.
    pub(in crate::sip) fn ack(&mut self, now: Instant, stack: &mut Stack, body: Option<Body>) {
        if let Some(Unanswered { tx, number }) = self.unanswered.take() {
            if body.is_some() {
                self.described.clone_from(&body);
            }
            self.send_ack(now, stack, tx, number, body);
            self.pump(now, stack);
        }
    }

    pub(super) fn cancel(&mut self, now: Instant, stack: &mut Stack, reason: Option<Reason>) {
        if let Some(client) = &mut self.client
            && client.cancel == Cancel::No
        {
            client.cancel = Cancel::Wanted(reason);
            self.cancel_when_heard(now, stack);
        }
    }

    pub(super) fn start_reinvite(&mut self, now: Instant, stack: &mut Stack, body: Option<Body>, kind: Kind) {
        let Some(dialog) = &mut self.dialog else { return };
        let offer = body.clone();
        let request = with_body(dialog.request(Method::Invite), body);
        let pinned = dialog.pinned;
        let sent = stack
            .way_in(now, dialog)
            .and_then(|flow| self.send_invite(now, stack, request, flow).map(|tx| (tx, flow)));
        match sent {
            Ok((tx, flow)) => {
                self.client = Some(ClientInvite::new(tx, kind, offer, flow, pinned, None));
            }
            Err(Unsendable) if kind == Kind::Refresh => self.session.refused(now),
            Err(Unsendable) => {
                self.wanted = None;
                stack.event(Event::ReinviteRefused { call: self.id, status: 503 });
            }
        }
    }

    /// Before our BYE: an INVITE of ours that is still open may bring a 2xx, but not for ever.
    pub(super) fn drop_client_invite(&mut self, now: Instant, stack: &mut Stack) {
        if let Some(client) = &self.client {
            stack.transactions.give_up_soon(now, client.tx);
        }
        self.ack(now, stack, None);
    }

    fn provisional(&mut self, now: Instant, stack: &mut Stack, response: &Response) {
        let Some(client) = &mut self.client else { return };
        client.provisional = true;
        let initial = client.kind == Kind::Initial;
        let (flow, pinned, tx) = (client.flow, client.pinned, client.tx);
        let offered = client.offer.is_some();
        self.cancel_when_heard(now, stack);
        if self.stage == Stage::Over {
            stack.transactions.give_up_soon(now, tx);
        }
        if !initial || self.stage != Stage::Early || response.status <= 100 {
            return;
        }
        let call = self.id;
        let tag = response.headers.tag_in_to().unwrap_or_default();
        let fork = match self.forks.iter().position(|d| d.remote_tag() == tag) {
            Some(fork) => fork,
            None if self.forks.len() >= MAX_FORKS => return,
            None => {
                let dialog = stack
                    .transactions
                    .request(tx)
                    .and_then(|(request, _)| Dialog::of_response(request, response, flow, pinned));
                if let Some(dialog) = dialog.filter(|_| !tag.is_empty()) {
                    self.forks.push(dialog);
                }
                self.forks.len().saturating_sub(1)
            }
        };
        self.note_allow(&response.headers);
        let number = response.headers.cseq().map_or(0, |cseq| cseq.number);
        let known = offered && !tag.is_empty();
        if known && !self.acknowledge_provisional(now, stack, fork, number, response) {
            return;
        }
        let status = response.status;
        let fork = u32::try_from(fork).unwrap_or(u32::MAX);
        match session_body(&response.headers, &response.body) {
            Ok(Some(body)) => stack.event(Event::Progress { call, status, body, fork }),
            _ => stack.event(Event::Ringing { call, status }),
        }
    }

    fn accepted(&mut self, now: Instant, stack: &mut Stack, response: &Response) {
        let Some(client) = self.client.take() else { return };
        let Some((request, _)) = stack.transactions.request(client.tx) else { return };
        let number = request.headers.cseq().map_or(0, |c| c.number);
        if client.kind != Kind::Initial {
            let body = session_body(&response.headers, &response.body).unwrap_or_default();
            if let Some(dialog) = &mut self.dialog {
                dialog.refresh(response.headers.contact());
            }
            if self.stage == Stage::Confirmed {
                self.reinvite_accepted(now, stack, &client, response, body.clone());
            }
            self.acknowledge(now, stack, &client, number, body.is_some());
            return;
        }
        let dialog = Dialog::of_response(request, response, client.flow, client.pinned);
        let fork =
            dialog.as_ref().and_then(|d| self.forks.iter().position(|f| f.remote_tag() == d.remote_tag()));
        let forks = std::mem::take(&mut self.forks);
        let Some(mut dialog) = dialog else {
            return self.end(now, stack, Ending::of(By::Network, How::Protocol));
        };
        let (mut settled, mut early_answer) = (false, None);
        if let Some(early) = fork.and_then(|fork| forks.get(fork)) {
            settled = early.settled;
            early_answer.clone_from(&early.answer);
            // What went before the answer has numbers too.
            dialog.local_seq = dialog.local_seq.max(early.local_seq);
            dialog.remote_seq = early.remote_seq;
        }
        self.dialog = Some(dialog);
        if self.stage == Stage::Over {
            // The 2xx crossed our CANCEL.
            self.send_ack(now, stack, client.tx, number, None);
            let reason = match client.cancel {
                Cancel::No => None,
                Cancel::Wanted(reason) | Cancel::Sent(reason) => reason,
            };
            self.bye(now, stack, reason);
            return;
        }
        self.stage = Stage::Confirmed;
        self.session.answered(now, &response.headers);
        self.note_allow(&response.headers);
        if !settled {
            self.described.clone_from(&client.offer);
        }
        let body = session_body(&response.headers, &response.body).unwrap_or_default();
        self.acknowledge(now, stack, &client, number, body.is_some());
        let fork = u32::try_from(fork.unwrap_or(0)).unwrap_or(u32::MAX);
        // Other phones may have answered early since: the owner hears again whose answer counts.
        let body = if settled { early_answer } else { body };
        stack.event(Event::Answered { call: self.id, body, fork });
    }

    fn reinvite_accepted(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        client: &ClientInvite,
        response: &Response,
        body: Option<Body>,
    ) {
        let call = self.id;
        self.session.answered(now, &response.headers);
        self.note_allow(&response.headers);
        if client.offer.is_some() {
            self.described.clone_from(&client.offer);
        }
        if client.kind == Kind::Refresh {
            if let Some(body) = body {
                stack.event(Event::Refreshed { call, body });
            }
            return;
        }
        self.wanted = None;
        stack.event(Event::ReinviteAnswered { call, body });
    }

    /// Acknowledges a 2xx, or leaves it to the owner when an answer is due.
    fn acknowledge(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        client: &ClientInvite,
        number: u32,
        body: bool,
    ) {
        if client.offer.is_none() && body && self.stage == Stage::Confirmed {
            self.unanswered = Some(Unanswered { tx: client.tx, number });
        } else {
            self.send_ack(now, stack, client.tx, number, None);
        }
    }

    fn challenged(&mut self, now: Instant, stack: &mut Stack, response: &Response) {
        let Some(client) = self.client.as_ref().filter(|c| c.goes_on()) else {
            return self.refused(now, stack, response);
        };
        let again = self.retry_with_credentials(now, stack, client.tx, response);
        match (again, &mut self.client) {
            (Some((tx, flow)), Some(client)) => {
                client.moved(tx, flow);
                self.forks.clear();
            }
            _ => self.refused(now, stack, response),
        }
    }

    fn refused(&mut self, now: Instant, stack: &mut Stack, response: &Response) {
        let Some(client) = self.client.take() else { return };
        let status = response.status;
        if matches!(status, 430 | 503)
            && self.may_go_elsewhere(&client)
            && let Some((request, _)) = stack.transactions.request(client.tx)
        {
            let pause = response.headers.retry_after().map(|seconds| Duration::from_secs(seconds.into()));
            let how = if status == 430 { How::FlowFailed } else { How::Refused };
            return self.strand(stack, request.clone(), how, pause);
        }
        if client.kind == Kind::Initial {
            let contacts = match response.headers.contacts() {
                Ok(Contacts::List(list)) if (300..400).contains(&status) => list,
                _ => Vec::new(),
            };
            let reason = first_reason(&response.headers);
            let ending = Ending::of(By::Peer, How::Refused).with_status(status, &response.reason);
            self.forks.clear();
            return self.end(now, stack, Ending { contacts, ..ending.with_reason(reason) });
        }
        if self.stage != Stage::Confirmed {
            return;
        }
        match status {
            491 if self.glares < MAX_GLARES => {
                self.glares = self.glares.saturating_add(1);
                // Who made the Call-ID waits longer (section 14.1).
                let (from, to) = match self.direction {
                    Direction::Outgoing => (2_100, 4_000),
                    Direction::Incoming => (0, 2_000),
                };
                let pause = stack.pause(Duration::from_millis(from), Duration::from_millis(to));
                self.retry_at = Some(now + pause);
                // One that became due meanwhile is wanted still (RFC 4028 section 10).
                if client.kind == Kind::Refresh {
                    self.session.want(true);
                }
            }
            408 | 481 => self.gone(now, stack, status, &response.reason),
            _ if client.kind == Kind::Refresh => self.session.refused(now),
            _ => {
                self.wanted = None;
                stack.event(Event::ReinviteRefused { call: self.id, status });
            }
        }
    }

    fn cancel_when_heard(&mut self, now: Instant, stack: &mut Stack) {
        let Some(client) = self.client.as_mut().filter(|c| c.provisional) else { return };
        let Cancel::Wanted(reason) = &client.cancel else { return };
        let reason = reason.clone();
        let Some((invite, flow)) = stack.transactions.request(client.tx) else { return };
        let mut request = invite.cancel();
        if let Some(reason) = &reason {
            request.headers.push(Name::Reason, reason);
        }
        client.cancel = Cancel::Sent(reason);
        let tx = client.tx;
        // A CANCEL that finds no room is no worse than one that is lost.
        let _ = stack.transactions.start(now, request, flow, Owner::Nobody);
        stack.transactions.give_up_soon(now, tx);
    }

    fn send_ack(&mut self, now: Instant, stack: &mut Stack, tx: ClientId, number: u32, body: Option<Body>) {
        let Some(dialog) = &mut self.dialog else { return };
        let mut ack = with_body(dialog.ack(number), body);
        let tag = dialog.remote_tag().to_owned();
        if let Ok(flow) = stack.way_in(now, dialog) {
            if let Some((invite, went)) = stack.transactions.request(tx)
                && went.remote.ip() == flow.remote.ip()
            {
                copy_credentials(&mut ack, invite);
            }
            let _ = stack.acknowledge(tx, ack, &tag, flow);
        }
    }
}

/// A 2xx that nobody wants: acknowledged, and hung up (section 13.2.2.4).
pub(in crate::sip) fn refuse_fork(
    now: Instant,
    stack: &mut Stack,
    id: ClientId,
    response: &Response,
    pinned: bool,
) {
    let Some((invite, flow)) = stack.transactions.request(id) else { return };
    let Some(mut dialog) = Dialog::of_response(invite, response, flow, pinned) else { return };
    let ack = dialog.ack(dialog.local_seq);
    let bye = dialog.request(Method::Bye);
    let tag = dialog.remote_tag().to_owned();
    if let Ok(flow) = stack.way_in(now, &dialog) {
        let _ = stack.acknowledge(id, ack, &tag, flow);
        let _ = stack.start(now, bye, flow, Owner::Nobody);
    }
}

/// The ACK of a 2xx proves itself as its INVITE did, to the same peer (section 22.1).
fn copy_credentials(ack: &mut Request, invite: &Request) {
    for name in [Name::Authorization, Name::ProxyAuthorization] {
        ack.headers.copy(&invite.headers, &name);
    }
}
