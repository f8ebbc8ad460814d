//! UPDATE (RFC 3311), and offers that come in it or in a PRACK (RFC 3262 section 5).

use std::time::Duration;

use super::super::content::session_body;
use super::super::session::{TIMER, Terms};
use super::*;

/// An offer in a request that is no INVITE is answered by then, or with 504 (RFC 3311 section 5.2):
/// nobody can be asked, and the peer waits 32 s at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most of the pause that a 500 asks for (RFC 3311 section 5.2, RFC 3261 section 14.2).
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Their UPDATE or PRACK with an offer, until the owner has answered it.
#[derive(Debug)]
pub(super) struct Offered {
    tx: ServerId,
    /// UPDATE does, PRACK does not.
    refreshes: bool,
    terms: Option<Terms>,
    pub(super) until: Instant,
}

impl Call {
    /// Their UPDATE, in an early dialog or in one that stands.
    pub(super) fn update_arrived(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        tx: ServerId,
        request: &Request,
    ) {
        if self.stage == Stage::Over {
            return stack.answer(now, tx, 481, &self.tag);
        }
        let body = match session_body(&request.headers, &request.body) {
            Ok(body) => body,
            Err(unsupported) => {
                stack.answer_with(now, tx, 415, "", &self.tag, |r| unsupported.fill(r));
                return;
            }
        };
        // What is not answered yet has no session to refresh.
        let terms = match self.stage {
            Stage::Confirmed => self.session.terms(&request.headers),
            _ => Ok(None),
        };
        let Ok(terms) = terms else { return refuse_brief(now, stack, tx, &self.tag) };
        self.note_allow(&request.headers);
        let Some(body) = body else {
            self.refresh_target(request);
            let said = Said { terms, ..Said::default() };
            self.respond_to(now, stack, tx, 200, said);
            if self.stage == Stage::Confirmed {
                self.session.agreed(now, terms);
            }
            return;
        };
        match self.offer_conflict() {
            Some(status) => self.put_off(now, stack, tx, status),
            // The owner hears of all phones that ring, and agrees with one.
            None if self.dialog.is_none() && self.forks.len() > 1 => stack.answer(now, tx, 488, &self.tag),
            None => {
                self.refresh_target(request);
                self.offered(now, stack, tx, request, terms, body);
            }
        }
    }

    /// Why an offer of theirs cannot be taken now (RFC 3311 section 5.2): 491 while ours is open,
    /// 500 while theirs is.
    pub(super) fn offer_conflict(&self) -> Option<u16> {
        if self.offered.is_some() || self.unanswered.is_some() {
            return Some(500);
        }
        if self.client.as_ref().is_some_and(ClientInvite::offer_is_open) {
            return Some(491);
        }
        self.server.as_ref().and_then(ServerInvite::offer_conflict)
    }

    /// Refuses what came too early: later it may be taken.
    pub(super) fn put_off(&self, now: Instant, stack: &mut Stack, tx: ServerId, status: u16) {
        let after = stack.pause(Duration::ZERO, RETRY_AFTER).as_secs();
        stack.answer_with(now, tx, status, "", &self.tag, |response| {
            if status == 500 {
                response.headers.push(Name::RetryAfter, after);
            }
        });
    }

    /// Hands their offer to the owner.
    pub(super) fn offered(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        tx: ServerId,
        request: &Request,
        terms: Option<Terms>,
        body: Body,
    ) {
        let refreshes = request.method == Method::Update;
        self.offered = Some(Offered { tx, refreshes, terms, until: now + PATIENCE });
        stack.event(Event::Reinvite { call: self.id, body: Some(body) });
    }

    /// The owner's answer to it. False: there is none.
    pub(super) fn answer_offered(&mut self, now: Instant, stack: &mut Stack, body: &Body) -> bool {
        let Some(Offered { tx, refreshes, terms, .. }) = self.offered.take() else { return false };
        let said = Said { terms, body: Some(body.clone()), ..Said::default() };
        self.respond_to(now, stack, tx, 200, said);
        self.described = Some(body.clone());
        for fork in &mut self.forks {
            fork.answer = None;
        }
        if self.stage == Stage::Confirmed && refreshes {
            self.session.agreed(now, terms);
        }
        self.answer_when_settled(now, stack);
        self.pump(now, stack);
        true
    }

    /// The owner does not want it. False: there is none.
    pub(super) fn refuse_offered(&mut self, now: Instant, stack: &mut Stack, status: u16) -> bool {
        let Some(Offered { tx, .. }) = self.offered.take() else { return false };
        stack.answer(now, tx, status, &self.tag);
        self.answer_when_settled(now, stack);
        self.pump(now, stack);
        true
    }

    /// The call ends: what still waits is answered (RFC 3261 section 15.1.2).
    pub(super) fn drop_offered(&mut self, now: Instant, stack: &mut Stack) {
        if let Some(Offered { tx, .. }) = self.offered.take() {
            stack.answer(now, tx, 487, &self.tag);
        }
    }

    /// The owner takes too long.
    pub(super) fn offered_timeout(&mut self, now: Instant, stack: &mut Stack) {
        if self.offered.as_ref().is_some_and(|offered| offered.until <= now) {
            self.refuse_offered(now, stack, 504);
            stack.event(Event::ReinviteCancelled { call: self.id });
        }
    }

    /// Refreshes the session without an offer (RFC 4028 section 7.4). False: it cannot be sent.
    pub(super) fn send_update(&mut self, now: Instant, stack: &mut Stack) -> bool {
        let Some(dialog) = &mut self.dialog else { return false };
        let mut request = dialog.request(Method::Update);
        let Ok(flow) = stack.way_in(now, dialog) else { return false };
        let Some(contact) = stack.contact(&flow, self.user.as_deref(), self.secure) else { return false };
        request.headers.set(Name::Contact, contact);
        request.headers.set(Name::Allow, ALLOW);
        request.headers.set(Name::Supported, TIMER);
        self.session.ask(&mut request.headers);
        let sent = stack.start(now, request, flow, Owner::Update(self.id)).is_ok();
        self.requests = self.requests.saturating_add(u32::from(sent));
        sent
    }

    /// A final response to our UPDATE.
    pub(in crate::sip) fn update_answered(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ClientId,
        response: &Response,
    ) {
        let standing = self.stage == Stage::Confirmed;
        let again = match response.status {
            _ if !standing => false,
            401 | 407 => self.retry_with_credentials(now, stack, id, response).is_some(),
            422 => self.session.too_brief(&response.headers) && self.ask_longer(now, stack, id).is_some(),
            _ => false,
        };
        if again {
            return;
        }
        self.requests = self.requests.saturating_sub(1);
        match response.status {
            _ if !standing => {}
            200..300 => {
                self.session.answered(now, &response.headers);
                if let Some(dialog) = &mut self.dialog {
                    dialog.refresh(response.headers.contact());
                }
            }
            // RFC 4028 section 10.
            408 | 481 => self.gone(now, stack, response.status, &response.reason),
            // It said that it takes UPDATE, and does not: the other way then.
            405 | 501 => {
                self.updates = false;
                self.session.want(true);
                self.pump(now, stack);
            }
            _ => self.session.refused(now),
        }
    }

    /// Our UPDATE found no way, or no answer.
    pub(in crate::sip) fn update_lost(&mut self, now: Instant, stack: &mut Stack, how: How) {
        self.requests = self.requests.saturating_sub(1);
        if self.stage == Stage::Confirmed {
            self.bye(now, stack, None);
            self.end(now, stack, Ending::of(By::Network, how));
        }
    }

    /// What they take, whenever they say so.
    pub(super) fn note_allow(&mut self, headers: &super::super::Headers) {
        if let Some(allowed) = headers.allow() {
            self.updates = allowed.contains(&Method::Update);
        }
    }

    fn refresh_target(&mut self, request: &Request) {
        let tag = request.headers.from();
        let tag = tag.as_ref().and_then(|from| from.tag()).unwrap_or_default();
        let mut dialogs = self.dialog.iter_mut().chain(self.forks.iter_mut());
        if let Some(dialog) = dialogs.find(|dialog| dialog.remote_tag() == tag) {
            dialog.refresh(request.headers.contact());
        }
    }
}
