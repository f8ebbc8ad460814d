//! What comes within a dialog (RFC 3261 section 12.2.2), but for their INVITE.

use super::super::replaces::Replaced;
use super::super::session::Terms;
use super::super::stack::{ALLOW, SUPPORTED};
use super::*;

/// Bodies of INFO that are handed over; others get 415 (RFC 6086 section 4.2.2).
const INFO_TYPES: [&str; 3] = ["application/dtmf-relay", "application/dtmf", "application/media_control+xml"];

/// What a response of ours says besides its status.
#[derive(Default)]
pub(super) struct Said<'a> {
    pub(super) phrase: &'a str,
    pub(super) terms: Option<Terms>,
    pub(super) body: Option<Body>,
    pub(super) headers: &'a [(String, String)],
}

impl Call {
    /// A request within one of its dialogs: anything but ACK and CANCEL. `replaced`: what a REFER names. One of another far end gets 481,
    /// one out of order 500 (RFC 3261 section 12.2.2).
    pub(in crate::sip) fn request(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        tx: ServerId,
        request: &Request,
        source: &Source,
        replaced: Option<Replaced>,
    ) {
        let from = request.headers.from();
        let tag = from.as_ref().and_then(|f| f.tag()).unwrap_or_default();
        let number = request.headers.cseq().map_or(0, |c| c.number);
        let dialog = self.dialog.iter_mut().chain(self.forks.iter_mut()).find(|d| d.remote_tag() == tag);
        let Some(dialog) = dialog else { return stack.answer(now, tx, 481, &self.tag) };
        if !dialog.in_order(number) {
            return stack.answer(now, tx, 500, &self.tag);
        }
        if let Some(server) = &self.server {
            stack.transactions.repeated_tag(now, server.tx, source.remote.ip());
        }
        if dialog.pinned || dialog.flow.transport == source.transport {
            // The way may have changed: a new connection, another NAT binding.
            dialog.flow = source.flow;
        }
        match request.method {
            Method::Bye => self.bye_arrived(now, stack, tx, request),
            Method::Invite => self.reinvite_arrived(now, stack, tx, request, number),
            Method::Update => self.update_arrived(now, stack, tx, request),
            Method::Prack => self.prack_arrived(now, stack, tx, request),
            Method::Info => self.info_arrived(now, stack, tx, request),
            Method::Refer => self.refer_arrived(now, stack, tx, request, number, replaced),
            _ => stack.answer(now, tx, 501, &self.tag),
        }
    }

    /// What is pending is answered as well (RFC 3261 section 15.1.2).
    fn bye_arrived(&mut self, now: Instant, stack: &mut Stack, tx: ServerId, request: &Request) {
        stack.answer(now, tx, 200, &self.tag);
        self.bye_wanted = None;
        self.drop_server_invite(now, stack);
        let reason = first_reason(&request.headers);
        self.end(now, stack, Ending::of(By::Peer, How::Hangup).with_reason(reason));
    }

    fn info_arrived(&self, now: Instant, stack: &mut Stack, tx: ServerId, request: &Request) {
        let content_type = request.headers.get(&Name::ContentType).unwrap_or_default();
        let plain = content_type.split(';').next().unwrap_or_default().trim();
        let known = INFO_TYPES.iter().any(|t| plain.eq_ignore_ascii_case(t));
        if !known && !request.body.is_empty() {
            stack.answer_with(now, tx, 415, "", &self.tag, |r| {
                r.headers.push(Name::Accept, INFO_TYPES.join(", "))
            });
            return;
        }
        stack.answer(now, tx, 200, &self.tag);
        if known && self.stage != Stage::Over {
            let body = Body { content_type: content_type.to_owned(), data: request.body.clone() };
            stack.event(Event::Info { call: self.id, body });
        }
    }

    /// Answers with what our side of a dialog needs: Contact (RFC 3261 section 12.1.1), Allow and Supported
    /// (section 13.3.1.4).
    pub(super) fn respond_to(
        &self,
        now: Instant,
        stack: &mut Stack,
        tx: ServerId,
        status: u16,
        said: Said<'_>,
    ) -> Option<Response> {
        let Said { phrase, terms, body, headers } = said;
        let flow = self.dialog.as_ref().or_else(|| self.forks.last())?.flow;
        let contact = stack.contact(&flow, self.user.as_deref(), self.secure);
        stack.answer_with(now, tx, status, phrase, &self.tag, |response| {
            if let Some(contact) = contact.filter(|_| status < 300) {
                response.headers.push(Name::Contact, contact);
            }
            if status < 300 {
                response.headers.push(Name::Allow, ALLOW);
                response.headers.push(Name::Supported, SUPPORTED);
            }
            if let Some(terms) = terms.filter(|_| (200..300).contains(&status)) {
                terms.fill(&mut response.headers);
            }
            for (name, value) in headers {
                push_extra(&mut response.headers, name, value);
            }
            if let Some(body) = body {
                response.headers.set(Name::ContentType, body.content_type);
                response.body = body.data;
            }
        })
    }
}
