//! Their REFER within a call (RFC 3515, RFC 7647), and what they are told of it: the implicit
//! subscription (RFC 6665), which lives in the dialog of the call and ends with it at the latest.

use super::super::headers::Headers;
use super::super::message::reason_phrase;
use super::super::replaces::{Replaced, referred_by};
use super::super::stack::ALLOW;
use super::*;

/// How long the far end may count on being told, in seconds: longer than any phone rings, and than
/// what a session timer would ask. What is told last ends it.
const EXPIRES: u32 = 600;

/// A REFER that the owner has not answered yet.
#[derive(Debug)]
pub(super) struct Referral {
    tx: ServerId,
    /// Told apart from the first by the number of its REFER (RFC 3515 section 2.4.6).
    id: Option<u32>,
    /// They want to be told nothing (RFC 4488).
    silent: bool,
}

/// They are told what becomes of it.
#[derive(Debug)]
pub(super) struct Subscription {
    id: Option<u32>,
}

impl Call {
    pub(super) fn refer_arrived(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        tx: ServerId,
        request: &Request,
        number: u32,
        replaced: Option<Replaced>,
    ) {
        let (to, referred_by) = match (refer_to(&request.headers), referred_by(&request.headers)) {
            (Some(to), Ok(by)) if self.stage == Stage::Confirmed => (to, by),
            (Some(_), Ok(_)) => return stack.answer(now, tx, 403, &self.tag),
            (None, _) | (_, Err(_)) => return stack.answer(now, tx, 400, &self.tag),
        };
        if self.referral.is_some() || self.subscription.is_some() {
            // One after the other: what they were told of it would be of either.
            return stack.answer(now, tx, 491, &self.tag);
        }
        let silent = request.headers.get(&Name::ReferSub).is_some_and(|value| {
            value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("false")
        });
        let id = self.referred.then_some(number);
        self.referred = true;
        self.referral = Some(Referral { tx, id, silent });
        let referred_by = referred_by.map(Box::new);
        stack.event(Event::Refer { call: self.id, to: Box::new(to), replaced, referred_by });
    }

    /// The owner's word: 202 accepts, anything from 300 refuses.
    pub(in crate::sip) fn answer_refer(&mut self, now: Instant, stack: &mut Stack, status: u16) {
        let Some(Referral { tx, id, silent }) = self.referral.take() else { return };
        if status >= 300 {
            return stack.answer(now, tx, status, &self.tag);
        }
        let Some(dialog) = &self.dialog else { return };
        let contact = stack.contact(&dialog.flow, self.user.as_deref(), self.secure);
        stack.answer_with(now, tx, 202, "", &self.tag, |response| {
            if let Some(contact) = contact {
                response.headers.push(Name::Contact, contact);
            }
            response.headers.push(Name::Allow, ALLOW);
            if silent {
                response.headers.push(Name::ReferSub, "false");
            }
        });
        if !silent {
            self.subscription = Some(Subscription { id });
            self.refer_progress(now, stack, 100);
        }
    }

    /// Tells them how it goes: a response to the INVITE that came of it (RFC 3515 section 2.4.5).
    pub(in crate::sip) fn refer_progress(&mut self, now: Instant, stack: &mut Stack, status: u16) {
        let (Some(subscription), Some(dialog)) = (&self.subscription, &mut self.dialog) else { return };
        let mut request = dialog.request(Method::Notify);
        let event = match subscription.id {
            Some(id) => format!("refer;id={id}"),
            None => "refer".to_owned(),
        };
        request.headers.push(Name::Event, event);
        let over = status >= 200;
        let state = match over {
            true => "terminated;reason=noresource".to_owned(),
            false => format!("active;expires={EXPIRES}"),
        };
        request.headers.push(Name::SubscriptionState, state);
        let told = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        let mut request = request.with_body("message/sipfrag;version=2.0", told.into_bytes());
        if let Ok(flow) = stack.way_in(now, dialog) {
            if let Some(contact) = stack.contact(&flow, self.user.as_deref(), self.secure) {
                request.headers.push(Name::Contact, contact);
            }
            if stack.start(now, request, flow, Owner::Notify(self.id)).is_ok() {
                self.requests = self.requests.saturating_add(1);
            }
        }
        if over {
            self.subscription = None;
        }
    }

    /// Our NOTIFY has its final response: who does not want it is told nothing more (RFC 6665
    /// section 4.2.2).
    pub(in crate::sip) fn notified(&mut self, status: u16) {
        self.requests = self.requests.saturating_sub(1);
        if status >= 300 && status != 491 {
            self.subscription = None;
        }
    }

    /// The call is over, and with it what was asked within it.
    pub(super) fn drop_referral(&mut self, now: Instant, stack: &mut Stack) {
        if let Some(Referral { tx, .. }) = self.referral.take() {
            stack.answer(now, tx, 481, &self.tag);
        }
        self.subscription = None;
    }
}

/// The one Refer-To of a REFER (RFC 3515 section 2.1).
pub(in crate::sip) fn refer_to(headers: &Headers) -> Option<NameAddr> {
    let mut all = headers.all(&Name::ReferTo);
    let only = all.next().filter(|_| all.next().is_none())?;
    NameAddr::parse(only).ok()
}
