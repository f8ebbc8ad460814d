//! Provisional responses that arrive (RFC 3262): ours to their INVITE until its PRACK, and our
//! PRACK of theirs.

use std::time::Duration;

use super::super::content::session_body;
use super::super::params::{LWS, saturating_number};
use super::*;

/// The option tag.
const RELIABLE: &str = "100rel";

/// Which of our provisional responses to one INVITE are reliable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// None: the caller does not know how.
    Never,
    /// Those that carry a description: it is the answer, so it must arrive (section 5).
    Descriptions,
    /// All: the caller insists (section 3).
    Always,
}

/// What our side of one INVITE needs for it.
#[derive(Debug)]
pub(super) struct Reliable {
    mode: Mode,
    /// The number of the next one.
    rseq: u32,
    /// The one that waits for its PRACK: one at a time (section 3).
    sent: Option<Unacknowledged>,
    /// The one that goes next. A newer one takes its place, unless only the older has a body.
    next: Option<(u16, Option<Body>)>,
    /// Offer and answer were exchanged before the final response.
    settled: bool,
    /// The owner has answered, and the 2xx waits for a PRACK (section 3).
    answer: Option<Body>,
}

#[derive(Debug)]
struct Unacknowledged {
    rseq: u32,
    response: Response,
    body: Option<Body>,
    /// `None`: a final response has overtaken it.
    next: Option<Instant>,
    pause: Duration,
    until: Instant,
}

impl Reliable {
    pub(super) fn new(stack: &mut Stack, request: &Request) -> Self {
        let says = |name| request.headers.has_token(name, RELIABLE);
        let mode = if says(&Name::Require) {
            Mode::Always
        } else if says(&Name::Supported) {
            Mode::Descriptions
        } else {
            Mode::Never
        };
        Self { mode, rseq: stack.first_seq(), sent: None, next: None, settled: false, answer: None }
    }

    /// Of a re-INVITE: nothing is said before its answer.
    pub(super) const fn none() -> Self {
        Self { mode: Mode::Never, rseq: 0, sent: None, next: None, settled: false, answer: None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.as_ref().and_then(|sent| Some(sent.next?.min(sent.until)))
    }

    /// Offer and answer are done, so the final response has no body (RFC 3261 section 13.2.1).
    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }

    fn asks(&self, body: bool) -> bool {
        match self.mode {
            Mode::Never => false,
            Mode::Descriptions => body,
            Mode::Always => true,
        }
    }
}

impl Call {
    /// Says something before the answer so that it arrives, where the caller wants that. False: it
    /// is said the plain way.
    pub(super) fn progress_reliably(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        status: u16,
        body: Option<&Body>,
    ) -> bool {
        let Some(server) = &mut self.server else { return false };
        let reliable = &mut server.reliable;
        if !reliable.asks(body.is_some()) {
            return false;
        }
        let body = body.filter(|_| !reliable.settled).cloned();
        if !server.had_offer && !reliable.settled && body.is_none() {
            // The first that is reliable must carry our offer (section 5), and there is none yet.
            return true;
        }
        if reliable.sent.is_none() {
            self.send_reliably(now, stack, status, body);
        } else if body.is_some() || reliable.next.as_ref().is_none_or(|(_, waiting)| waiting.is_none()) {
            reliable.next = Some((status, body));
        }
        true
    }

    fn send_reliably(&mut self, now: Instant, stack: &mut Stack, status: u16, body: Option<Body>) {
        let Some(rseq) = self.server.as_ref().map(|server| server.reliable.rseq) else { return };
        let headers = [
            (Name::Require.as_str().to_owned(), RELIABLE.to_owned()),
            (Name::RSeq.as_str().to_owned(), rseq.to_string()),
        ];
        let response = self.respond(now, stack, status, "", body.clone(), &headers);
        let (Some(server), Some(response)) = (&mut self.server, response) else { return };
        let timing = stack.config.timing;
        server.said(now, response.clone());
        server.reliable.rseq = rseq.saturating_add(1);
        server.reliable.sent = Some(Unacknowledged {
            rseq,
            response,
            body,
            next: Some(now + timing.t1),
            pause: timing.t1,
            until: now + timing.life(),
        });
    }

    /// Their PRACK (section 3). It may bring the answer to our offer, or an offer of its own
    /// (section 5).
    pub(super) fn prack_arrived(&mut self, now: Instant, stack: &mut Stack, tx: ServerId, request: &Request) {
        let rack = request.headers.get(&Name::RAck).and_then(rack);
        let server = self.server.as_mut().filter(|server| server.initial);
        let Some((server, sent)) = server.and_then(|server| {
            let number = server.number;
            let sent = server.reliable.sent.take_if(|sent| rack == Some((sent.rseq, number)))?;
            Some((server, sent))
        }) else {
            return stack.answer(now, tx, 481, &self.tag);
        };
        let first = sent.body.is_some() && !server.reliable.settled;
        let answers = first && !server.had_offer;
        if first {
            server.reliable.settled = true;
            self.described = sent.body;
        }
        match session_body(&request.headers, &request.body) {
            Err(unsupported) => {
                stack.answer_with(now, tx, 415, "", &self.tag, |r| unsupported.fill(r));
            }
            Ok(body) if answers => {
                stack.answer(now, tx, 200, &self.tag);
                stack.event(Event::Acked { call: self.id, body });
            }
            Ok(None) => stack.answer(now, tx, 200, &self.tag),
            Ok(Some(body)) => match self.offer_conflict() {
                Some(status) => self.put_off(now, stack, tx, status),
                None => self.offered(now, stack, tx, request, None, body),
            },
        }
        let next = self.server.as_mut().filter(|s| !s.is_answered()).and_then(|s| s.reliable.next.take());
        if let Some((status, body)) = next {
            self.progress(now, stack, status, body);
        }
        self.answer_when_settled(now, stack);
    }

    /// Keeps the owner's answer while the caller may not have it yet (section 3): until our
    /// description has its PRACK, and an offer in that PRACK its answer.
    pub(super) fn holds_answer(&mut self, body: &Body) -> bool {
        let open = self.offered.is_some();
        let Some(server) = &mut self.server else { return false };
        let reliable = &mut server.reliable;
        reliable.next = None;
        if open || reliable.sent.as_ref().is_some_and(|sent| sent.body.is_some()) {
            reliable.answer = Some(body.clone());
            return true;
        }
        // A 2xx says all that a response without a description would.
        if let Some(sent) = &mut reliable.sent {
            sent.next = None;
        }
        false
    }

    /// Sends the answer that waited, when nothing keeps it any more.
    pub(super) fn answer_when_settled(&mut self, now: Instant, stack: &mut Stack) {
        if let Some(body) = self.server.as_mut().and_then(|server| server.reliable.answer.take()) {
            self.answer(now, stack, body, true);
        }
    }

    /// Repeats what has no PRACK yet; the call ends when none comes (section 3).
    pub(super) fn reliable_timeout(&mut self, now: Instant, stack: &mut Stack) {
        let Some(server) = self.server.as_mut().filter(|server| !server.is_answered()) else { return };
        let Some(sent) = &mut server.reliable.sent else { return };
        let Some(next) = sent.next else { return };
        if sent.until <= now {
            self.respond(now, stack, 504, "", None, &[]);
            self.server = None;
            self.end(now, stack, Ending::of(By::Network, How::NoAck).with_status(504, ""));
        } else if next <= now {
            sent.pause = sent.pause.saturating_mul(2);
            sent.next = Some(now + sent.pause);
            stack.transactions.respond(now, server.tx, &sent.response);
        }
    }

    /// Our PRACK of a provisional response of theirs (section 4). False: it is a repetition, or the
    /// one before it is missing, and counts for nothing.
    pub(super) fn acknowledge_provisional(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        fork: usize,
        number: u32,
        response: &Response,
    ) -> bool {
        let rseq = response.headers.get(&Name::RSeq).and_then(saturating_number);
        let reliable = response.headers.has_token(&Name::Require, RELIABLE);
        let (Some(rseq), Some(dialog), true) = (rseq, self.forks.get_mut(fork), reliable) else {
            return true;
        };
        if dialog.rseq.is_some_and(|last| last.checked_add(1) != Some(rseq)) {
            return false;
        }
        dialog.rseq = Some(rseq);
        let mut request = dialog.request(Method::Prack);
        request.headers.push(Name::RAck, format_args!("{rseq} {number} INVITE"));
        let owner = Owner::Prack(self.id);
        if stack.way_in(now, dialog).is_ok_and(|flow| stack.start(now, request, flow, owner).is_ok()) {
            self.requests = self.requests.saturating_add(1);
        }
        if let Ok(Some(answer)) = session_body(&response.headers, &response.body)
            && let Some(client) = &mut self.client
        {
            dialog.settled = true;
            dialog.answer.get_or_insert(answer);
            client.settle();
            self.described.clone_from(&client.offer);
        }
        true
    }

    /// Our PRACK has its final response, or never will. What that means for the call is what becomes
    /// of its INVITE.
    pub(in crate::sip) fn prack_done(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ClientId,
        response: Option<&Response>,
    ) {
        let challenge = response.filter(|response| matches!(response.status, 401 | 407));
        let again = challenge.and_then(|response| self.retry_with_credentials(now, stack, id, response));
        if again.is_none() {
            self.requests = self.requests.saturating_sub(1);
        }
    }
}

/// RAck: the numbers of the response and of its INVITE (section 7.2).
fn rack(value: &str) -> Option<(u32, u32)> {
    let mut words = value.split(LWS).filter(|word| !word.is_empty());
    let (rseq, number) = (words.next()?, words.next()?);
    let numbers = (saturating_number(rseq)?, saturating_number(number)?);
    (words.next()? == "INVITE" && words.next().is_none()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rack_has_three_parts() {
        assert_eq!(rack("776656 1 INVITE"), Some((776_656, 1)));
        assert_eq!(rack(" 1\t 2  INVITE "), Some((1, 2)));
        for other in ["", "1 INVITE", "1 2", "1 2 invite", "1 2 BYE", "x 2 INVITE", "1 2 INVITE 3"] {
            assert_eq!(rack(other), None, "{other}");
        }
    }
}
