//! A binding that this endpoint keeps at somebody else's registrar (RFC 3261 section 10.2).
//!
//! The registrar may say by which proxies requests of ours have to go (RFC 3608), and proxies on the way
//! there may have put themselves on the way back (RFC 3327).

use std::time::Duration;

use super::auth;
use super::command::Registration;
use super::dialog::request_uri;
use super::event::Event;
use super::stack::{Owner, Stack};
use super::transaction::ClientId;
use super::{CSeq, Contacts, Flow, Method, Name, NameAddr, Request, Response};
use crate::Instant;

/// First pause after a failure that may pass; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// Longest pause.
const RETRY_MOST: Duration = Duration::from_secs(300);
/// A pause is longer than its least by up to one part of so many: those who lost the same registrar at the
/// same moment do not come back to it at the same moment.
const JITTER: u32 = 4;
/// Proxies of a Service-Route at most: a request with more would not fit a datagram.
const ROUTES: usize = 8;
/// A binding is refreshed so long before its end, or at half time when that is sooner.
const MARGIN: Duration = Duration::from_secs(600);
/// After the loss of its connection.
const RECONNECT: Duration = Duration::from_secs(1);

/// One registration.
#[derive(Debug)]
pub(super) struct Binding {
    config: Registration,
    account: Option<auth::Client>,
    call_id: String,
    tag: String,
    seq: u32,
    /// The REGISTER under way.
    tx: Option<ClientId>,
    flow: Option<Flow>,
    failures: u32,
    next: Option<Instant>,
    /// The one under way may speak of what was before: another follows it.
    again: bool,
    leaving: bool,
    over: bool,
}

impl Binding {
    /// Not sent yet: [`Self::timeout`] does.
    pub(super) fn new(stack: &mut Stack, mut config: Registration) -> Self {
        Self {
            account: config.account.take().map(auth::Client::new),
            config,
            call_id: stack.token(),
            tag: stack.token(),
            seq: stack.first_seq(),
            tx: None,
            flow: None,
            failures: 0,
            next: None,
            again: false,
            leaving: false,
            over: false,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Registers, refreshes or tries again.
    pub(super) fn timeout(&mut self, now: Instant, stack: &mut Stack) {
        self.next = None;
        if self.tx.is_none() {
            self.send(now, stack);
        }
    }

    /// The registrar may have forgotten us: it is told now, and not when the binding would be refreshed.
    pub(super) fn refresh(&mut self, now: Instant, stack: &mut Stack) {
        if self.leaving {
            return;
        }
        self.again = self.tx.is_some();
        if !self.again {
            self.failures = 0;
            self.timeout(now, stack);
        }
    }

    pub(super) fn unregister(&mut self, now: Instant, stack: &mut Stack) {
        if !self.leaving {
            self.leaving = true;
            self.next = None;
            // A REGISTER under way would bring the binding back: this one comes behind it.
            if self.tx.is_none() {
                self.send(now, stack);
            }
        }
    }

    pub(super) fn flow_closed(&mut self, now: Instant, flow: &Flow) {
        if self.flow.as_ref() == Some(flow) && self.tx.is_none() && !self.leaving {
            self.next = Some(now + RECONNECT);
        }
    }

    pub(super) fn response(&mut self, now: Instant, stack: &mut Stack, id: ClientId, response: &Response) {
        if self.tx != Some(id) || response.is_provisional() {
            return;
        }
        self.tx = None;
        match response.status {
            401 | 407 if self.answer_challenge(now, stack, id, response) => {}
            200..300 if self.leaving => self.left(stack),
            200..300 => self.registered(now, stack, response),
            // Too brief (section 10.2.8).
            423 if response
                .headers
                .min_expires()
                .is_some_and(|s| u64::from(s) > self.config.expires.as_secs()) =>
            {
                let least = response.headers.min_expires().unwrap_or_default();
                self.config.expires = Duration::from_secs(u64::from(least));
                self.send(now, stack);
            }
            status => {
                let after = response.headers.retry_after().map(|s| Duration::from_secs(u64::from(s)));
                let passes = matches!(status, 408 | 480 | 500..600);
                self.failed(now, stack, status, passes, after);
            }
        }
        self.follow(now, stack);
    }

    /// What had to wait for the end of the REGISTER before.
    fn follow(&mut self, now: Instant, stack: &mut Stack) {
        if self.tx.is_some() || self.over {
            return;
        }
        if self.leaving || std::mem::take(&mut self.again) {
            self.send(now, stack);
        }
    }

    pub(super) fn lost(&mut self, now: Instant, stack: &mut Stack, id: ClientId, status: u16) {
        if self.tx == Some(id) {
            self.tx = None;
            self.failed(now, stack, status, true, None);
            self.follow(now, stack);
        }
    }

    fn registered(&mut self, now: Instant, stack: &mut Stack, response: &Response) {
        let ours = self.flow.and_then(|flow| self.contact(stack, &flow));
        let list = match response.headers.contacts() {
            Ok(Contacts::List(list)) => list,
            _ => Vec::new(),
        };
        let own = list.iter().find(|c| ours.as_ref().is_some_and(|o| o.uri.matches(&c.uri)));
        let seconds = own.and_then(NameAddr::expires).or_else(|| response.headers.expires());
        let expires = seconds.map_or(self.config.expires, |s| Duration::from_secs(u64::from(s)));
        self.failures = 0;
        let wait = expires.saturating_sub(MARGIN).max(expires.checked_div(2).unwrap_or_default());
        self.next = Some(now + wait.max(Duration::from_secs(1)));
        let service_route = response.headers.name_addrs(&Name::ServiceRoute).unwrap_or_default();
        let fits = service_route.len() <= ROUTES;
        let service_route = if fits { service_route } else { Vec::new() };
        stack.event(Event::Registered { registration: self.config.registration, expires, service_route });
    }

    fn failed(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        status: u16,
        passes: bool,
        after: Option<Duration>,
    ) {
        if self.leaving {
            return self.left(stack);
        }
        let doubled = 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let least = after.unwrap_or_else(|| RETRY_FIRST.saturating_mul(doubled)).min(RETRY_MOST);
        let pause = stack.pause(least, least.saturating_add(least.checked_div(JITTER).unwrap_or_default()));
        let retry = passes.then_some(pause);
        self.next = retry.map(|pause| now + pause);
        self.over = retry.is_none();
        stack.event(Event::RegistrationFailed { registration: self.config.registration, status, retry });
    }

    fn left(&mut self, stack: &mut Stack) {
        self.over = true;
        stack.event(Event::Unregistered { registration: self.config.registration });
    }

    fn send(&mut self, now: Instant, stack: &mut Stack) {
        if self.begin(now, stack).is_none() {
            self.failed(now, stack, 503, true, None);
        }
    }

    fn begin(&mut self, now: Instant, stack: &mut Stack) -> Option<()> {
        let flow = stack.way(now, &self.config.destination, &self.config.registrar, false).ok()?;
        self.seq = self.seq.saturating_add(1);
        let aor = NameAddr { params: super::Params::default(), ..self.config.aor.clone() };
        let from = aor.clone().with_tag(&self.tag);
        let uri = request_uri(self.config.registrar.clone());
        let mut request = Request::with_core(Method::Register, uri, &from, &aor, &self.call_id, self.seq);
        request.headers.push(Name::Contact, self.contact(stack, &flow)?);
        let expires = if self.leaving { 0 } else { self.config.expires.as_secs() };
        request.headers.push(Name::Expires, expires);
        request.headers.push(Name::Allow, super::stack::ALLOW);
        // Proxies that have to be on the way back may put themselves there (RFC 3327 section 5.1).
        request.headers.push(Name::Supported, "path");
        if let Some(account) = &mut self.account {
            stack.authorize_next(account, &mut request);
        }
        self.flow = Some(flow);
        let id = stack.start(now, request, flow, Owner::Registration(self.config.registration)).ok()?;
        self.tx = Some(id);
        Some(())
    }

    fn answer_challenge(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ClientId,
        response: &Response,
    ) -> bool {
        let Some((mut request, flow)) = self.account.as_mut().and_then(|a| stack.authorize(a, id, response))
        else {
            return false;
        };
        self.seq = self.seq.saturating_add(1);
        request.headers.set(Name::CSeq, CSeq { number: self.seq, method: Method::Register });
        self.tx = stack.start(now, request, flow, Owner::Registration(self.config.registration)).ok();
        self.tx.is_some()
    }

    fn contact(&self, stack: &Stack, flow: &Flow) -> Option<NameAddr> {
        let aor = self.config.aor.uri.as_sip();
        let secure = self.config.registrar.as_sip().is_some_and(|uri| uri.secure);
        stack.contact(flow, aor.and_then(|uri| uri.user.as_deref()), secure)
    }
}
