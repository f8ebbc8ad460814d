//! Their INVITE, first or later (RFC 3261 sections 13.3 and 14.2).

use std::net::SocketAddr;
use std::time::Duration;

use super::super::content::session_body;
use super::super::session::Terms;
use super::reliable::Reliable;
use super::*;

/// A provisional response is said again this often, so that no proxy gives up (section 13.3.1.1).
const PROVISIONAL_REFRESH: Duration = Duration::from_secs(60);

/// Their INVITE under way.
#[derive(Debug)]
pub(super) struct ServerInvite {
    pub(super) tx: ServerId,
    pub(super) initial: bool,
    /// Whether it brought an offer; else its ACK must bring the answer to ours.
    pub(super) had_offer: bool,
    /// Its CSeq number, which its ACK and PRACK repeat.
    pub(super) number: u32,
    pub(super) reliable: Reliable,
    /// What our 2xx says of the session timer.
    terms: Option<Terms>,
    /// What was said last before the answer, and when it is said again.
    provisional: Option<(Response, Instant)>,
    answer: Option<Answer>,
}

/// Our 2xx, repeated until its ACK comes (section 13.3.1.4).
#[derive(Debug)]
struct Answer {
    response: Response,
    next: Instant,
    pause: Duration,
    until: Instant,
}

impl ServerInvite {
    fn new(
        tx: ServerId,
        had_offer: bool,
        number: u32,
        terms: Option<Terms>,
        reliable: Option<Reliable>,
    ) -> Self {
        let (initial, reliable) = match reliable {
            Some(reliable) => (true, reliable),
            None => (false, Reliable::none()),
        };
        Self { tx, initial, had_offer, number, reliable, terms, provisional: None, answer: None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.answer {
            Some(answer) => Some(answer.next.min(answer.until)),
            None => {
                let again = self.provisional.as_ref().map(|(_, at)| *at);
                again.into_iter().chain(self.reliable.deadline()).min()
            }
        }
    }

    /// Whether a 2xx went out.
    pub(super) const fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// What was said last before the answer.
    pub(super) fn said(&mut self, now: Instant, response: Response) {
        self.provisional = Some((response, now + PROVISIONAL_REFRESH));
    }

    /// Why an offer of theirs in another request cannot be taken beside it (RFC 3311 section 5.2).
    pub(super) const fn offer_conflict(&self) -> Option<u16> {
        match (&self.answer, self.had_offer) {
            _ if self.reliable.is_settled() => None,
            (Some(_), true) => None,
            // Theirs has no answer yet.
            (None, true) => Some(500),
            // Ours has none, or is to come.
            (_, false) => Some(491),
        }
    }

    /// A callee says BYE only after the ACK of its answer, or in place of one that never came.
    pub(super) const fn holds_bye(&self) -> bool {
        self.initial && self.answer.is_some()
    }
}

impl Call {
    /// A call that comes in; its first event is the caller's to send.
    pub(in crate::sip) fn incoming(
        stack: &mut Stack,
        id: CallId,
        tx: ServerId,
        request: &Request,
        source: &Source,
        had_offer: bool,
    ) -> Option<Self> {
        let session = Session::new(stack.config.session);
        let terms = session.terms(&request.headers).ok()?;
        let tag = stack.tag(tx);
        let dialog = Dialog::of_request(request, &tag, source.flow, source.translated)?;
        let number = dialog.remote_seq?;
        let reliable = Reliable::new(stack, request);
        let updates = request.headers.allow().is_some_and(|allowed| allowed.contains(&Method::Update));
        Some(Self {
            id,
            direction: Direction::Incoming,
            stage: Stage::Early,
            call_id: dialog.call_id.clone(),
            tag,
            user: request.uri.as_sip().and_then(|uri| uri.user.clone()),
            secure: request.uri.as_sip().is_some_and(|uri| uri.secure),
            dialog: Some(dialog),
            forks: Vec::new(),
            client: None,
            elsewhere: false,
            stranded: None,
            unanswered: None,
            server: Some(ServerInvite::new(tx, had_offer, number, terms, Some(reliable))),
            offered: None,
            updates,
            wanted: None,
            retry_at: None,
            glares: 0,
            session,
            described: None,
            account: None,
            bye_wanted: None,
            referral: None,
            referred: false,
            subscription: None,
            requests: 0,
        })
    }

    /// Says that it rings, or brings media before the answer.
    pub(in crate::sip) fn progress(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        status: u16,
        body: Option<Body>,
    ) {
        let early = self.stage == Stage::Early && self.server.as_ref().is_some_and(|s| s.answer.is_none());
        if !early || self.progress_reliably(now, stack, status, body.as_ref()) {
            return;
        }
        let response = self.respond(now, stack, status, "", body, &[]);
        if let (Some(server), Some(response)) = (&mut self.server, response) {
            server.said(now, response);
        }
    }

    /// Answers their INVITE, first or later, or their offer in another request.
    pub(in crate::sip) fn answer(&mut self, now: Instant, stack: &mut Stack, body: Body, initial: bool) {
        if !initial && self.answer_offered(now, stack, &body) {
            return;
        }
        let waits = self.server.as_ref().is_some_and(|s| s.answer.is_none() && s.initial == initial);
        if !waits || self.stage == Stage::Over {
            return;
        }
        if initial && self.holds_answer(&body) {
            return;
        }
        let timing = stack.config.timing;
        let settled = self.server.as_ref().is_some_and(|server| server.reliable.is_settled());
        let body = (!settled).then_some(body);
        let response = self.respond(now, stack, 200, "", body.clone(), &[]);
        if let (Some(server), Some(response)) = (&mut self.server, response) {
            self.stage = Stage::Confirmed;
            if body.is_some() {
                self.described = body;
            }
            self.session.agreed(now, server.terms);
            let (next, until) = (now + timing.t1, now + timing.life());
            server.answer = Some(Answer { response, next, pause: timing.t1, until });
        }
    }

    /// Refuses the call.
    pub(in crate::sip) fn refuse(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        status: u16,
        phrase: &str,
        reason: Option<Reason>,
        headers: &[(String, String)],
    ) {
        let Some(tx) = self.server.as_ref().map(|server| server.tx).filter(|_| self.stage == Stage::Early)
        else {
            return;
        };
        let status = if (300..700).contains(&status) { status } else { 500 };
        let mut headers = headers.to_vec();
        if let Some(reason) = reason {
            headers.push((Name::Reason.as_str().to_owned(), reason.to_string()));
        }
        self.respond(now, stack, status, phrase, None, &headers);
        stack.transactions.forget(tx);
        self.server = None;
        self.end(now, stack, Ending::of(By::Us, How::Refused).with_status(status, phrase));
    }

    /// Refuses their re-INVITE.
    pub(in crate::sip) fn refuse_reinvite(&mut self, now: Instant, stack: &mut Stack, status: u16) {
        let status = if (300..700).contains(&status) { status } else { 488 };
        if self.refuse_offered(now, stack, status) {
            return;
        }
        if self.server.as_ref().is_some_and(|s| !s.initial && s.answer.is_none()) {
            self.respond(now, stack, status, "", None, &[]);
            self.server = None;
            self.pump(now, stack);
        }
    }

    /// They cancelled their INVITE (section 9.2). An answered one takes no notice.
    pub(in crate::sip) fn cancelled(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        tx: ServerId,
        cancel: &Request,
    ) {
        let Some(server) = self.server.take_if(|s| s.tx == tx && s.answer.is_none()) else { return };
        stack.answer(now, tx, 487, &self.tag);
        if server.initial {
            let reason = first_reason(&cancel.headers);
            self.end(now, stack, Ending::of(By::Peer, How::Cancelled).with_reason(reason));
        } else if self.stage == Stage::Confirmed {
            stack.event(Event::ReinviteCancelled { call: self.id });
            self.pump(now, stack);
        }
    }

    /// A request with our tag came from there.
    pub(in crate::sip) fn heard(&self, now: Instant, stack: &mut Stack, from: SocketAddr) {
        if let Some(server) = &self.server {
            stack.transactions.repeated_tag(now, server.tx, from.ip());
        }
    }

    /// The ACK of a 2xx of ours.
    pub(in crate::sip) fn acked(&mut self, now: Instant, stack: &mut Stack, ack: &Request) {
        let number = ack.headers.cseq().map(|c| c.number);
        if self.server.as_ref().is_some_and(|s| s.answer.is_some() && Some(s.number) == number) {
            let body = session_body(&ack.headers, &ack.body).unwrap_or_default();
            self.settled(now, stack, body);
            self.pump(now, stack);
        }
    }

    pub(super) fn server_timeout(&mut self, now: Instant, stack: &mut Stack) {
        let t2 = stack.config.timing.t2;
        self.reliable_timeout(now, stack);
        let Some(server) = &mut self.server else { return };
        if let Some(answer) = &mut server.answer {
            if answer.until <= now {
                let flow = self.dialog.as_ref().map(|dialog| dialog.flow);
                let hears = flow.is_some_and(|flow| stack.transactions.hears(now, &flow));
                self.server = None;
                self.bye_wanted = None;
                // Nobody is told who may never have called, at a Contact that may be anybody's.
                if hears {
                    self.bye(now, stack, None);
                }
                self.end(now, stack, Ending::of(By::Network, How::NoAck));
            } else if answer.next <= now {
                answer.pause = answer.pause.saturating_mul(2).min(t2);
                answer.next = now + answer.pause;
                stack.transactions.respond(now, server.tx, &answer.response);
            }
        } else if let Some((response, at)) = &mut server.provisional
            && *at <= now
        {
            *at = now + PROVISIONAL_REFRESH;
            stack.transactions.respond(now, server.tx, response);
        }
    }

    /// Our 2xx arrived.
    fn settled(&mut self, now: Instant, stack: &mut Stack, body: Option<Body>) {
        self.server = None;
        if let Some(reason) = self.bye_wanted.take() {
            self.bye(now, stack, reason);
        } else if self.stage == Stage::Confirmed {
            stack.event(Event::Acked { call: self.id, body });
        }
    }

    /// Before our BYE: their re-INVITE is not answered any more.
    pub(super) fn drop_server_invite(&mut self, now: Instant, stack: &mut Stack) {
        if let Some(server) = self.server.take()
            && server.answer.is_none()
        {
            stack.answer(now, server.tx, 487, &self.tag);
        }
    }

    pub(super) fn reinvite_arrived(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        tx: ServerId,
        request: &Request,
        number: u32,
    ) {
        if self.server.as_ref().is_some_and(|s| s.answer.is_some() && s.had_offer) {
            // The next INVITE proves that our 2xx came; its ACK was lost, and nothing was in it.
            self.settled(now, stack, None);
        }
        let status = match (&self.server, &self.client, &self.unanswered) {
            _ if self.stage == Stage::Over => Some(481),
            _ if self.stage == Stage::Early => Some(500),
            (_, Some(_), _) | (_, _, Some(_)) => Some(491),
            (Some(server), ..) if server.answer.is_some() => Some(491),
            (Some(_), ..) => Some(500),
            _ => self.offered.as_ref().map(|_| 500),
        };
        if let Some(status) = status {
            return self.put_off(now, stack, tx, status);
        }
        let body = match session_body(&request.headers, &request.body) {
            Ok(body) => body,
            Err(unsupported) => {
                stack.answer_with(now, tx, 415, "", &self.tag, |r| unsupported.fill(r));
                return;
            }
        };
        let Ok(terms) = self.session.terms(&request.headers) else {
            return refuse_brief(now, stack, tx, &self.tag);
        };
        if let Some(dialog) = &mut self.dialog {
            dialog.refresh(request.headers.contact());
        }
        self.note_allow(&request.headers);
        stack.transactions.set_owner(tx, self.id);
        self.server = Some(ServerInvite::new(tx, body.is_some(), number, terms, None));
        stack.event(Event::Reinvite { call: self.id, body });
    }

    /// Answers their INVITE.
    pub(super) fn respond(
        &self,
        now: Instant,
        stack: &mut Stack,
        status: u16,
        phrase: &str,
        body: Option<Body>,
        headers: &[(String, String)],
    ) -> Option<Response> {
        let server = self.server.as_ref()?;
        self.respond_to(now, stack, server.tx, status, Said { phrase, terms: server.terms, body, headers })
    }
}
