//! Server transactions: INVITE (RFC 3261 section 17.2.1, RFC 6026) and all others (17.2.2).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use super::heard::Allowance;
use super::{Method, Name, Request, Response, Timing};
use crate::Instant;
use crate::sip::{Flow, Headers, Via};

/// Where responses go (RFC 3261 section 18.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sip) struct Reply {
    pub(in crate::sip) flow: Flow,
    /// Where to connect to when the stream that the request came on is gone.
    pub(in crate::sip) fallback: Option<SocketAddr>,
}

impl Reply {
    /// That way or not at all.
    pub(in crate::sip) const fn only(flow: Flow) -> Self {
        Self { flow, fallback: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Trying or Proceeding: no final response yet.
    Proceeding,
    /// A final response went out; an INVITE's is repeated until its ACK.
    Completed,
    /// INVITE: acknowledged refusal; late ACKs are absorbed.
    Confirmed,
    /// INVITE: a 2xx went out; its repetition is the dialog's business.
    Accepted,
    Over,
}

#[derive(Debug)]
pub(super) struct Server<S> {
    pub(super) owner: Option<S>,
    pub(super) reply: Reply,
    pub(super) key: String,
    pub(super) merge_key: Option<String>,
    invite: bool,
    state: State,
    /// What every response repeats of the request.
    head: Headers,
    /// Our tag, once something but a 100 went out: who repeats it was told.
    tag: Option<String>,
    /// What goes to an address that was not heard of.
    allowance: Allowance,
    last: Option<Bytes>,
    /// It has been answered with nothing but one final response.
    brief: bool,
    /// Credentials came with it.
    credentials: bool,
    /// An INVITE's 100; none once something was sent.
    trying: Option<Instant>,
    /// Timer G.
    repeat: Option<Instant>,
    pause: Duration,
    /// Timers H, I, J, L; for non-INVITE requests also how long their owner may think.
    end: Option<Instant>,
}

impl<S> Server<S> {
    pub(super) fn new(
        now: Instant,
        timing: &Timing,
        request: &Request,
        reply: Reply,
        key: String,
        merge_key: Option<String>,
    ) -> Self {
        let invite = request.method == Method::Invite;
        let mut head = Headers::new();
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq, Name::Timestamp] {
            head.copy(&request.headers, &name);
        }
        if invite {
            head.copy(&request.headers, &Name::RecordRoute);
        }
        Self {
            owner: None,
            reply,
            key,
            merge_key,
            invite,
            state: State::Proceeding,
            head,
            tag: None,
            allowance: Allowance::default(),
            last: None,
            brief: false,
            credentials: [Name::Authorization, Name::ProxyAuthorization]
                .iter()
                .any(|name| request.headers.get(name).is_some()),
            trying: invite.then(|| now + timing.trying),
            repeat: None,
            pause: timing.t1,
            // The peer stops listening then (RFC 4320 section 4.2).
            end: (!invite).then(|| now + timing.life()),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.trying.into_iter().chain(self.repeat).chain(self.end).min()
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether nothing is lost when it is forgotten: see [`super::Transactions::forget`].
    pub(super) const fn is_forgettable(&self) -> bool {
        matches!(self.state, State::Completed) && self.brief
    }

    pub(super) const fn is_accepted(&self) -> bool {
        matches!(self.state, State::Accepted)
    }

    pub(super) fn reply(&self, status: u16, phrase: &str, tag: &str) -> Response {
        let mut response = Response::from_headers(&self.head, status, (status != 100).then_some(tag));
        // Only what makes a dialog tells the route (section 12.1.1).
        if (101..300).contains(&status) {
            response.headers.copy(&self.head, &Name::RecordRoute);
        }
        if phrase.is_empty() { response } else { response.with_reason(phrase) }
    }

    /// The request came, or came again, and had so many octets.
    pub(super) const fn came(&mut self, octets: usize) {
        self.allowance.came(octets);
    }

    /// Whether responses go to that host.
    pub(super) fn is_at(&self, host: IpAddr) -> bool {
        self.reply.flow.remote.ip().to_canonical() == host.to_canonical()
    }

    /// Whether a request has the tag that its sender was told.
    pub(super) fn told(&self, request: &Request) -> bool {
        request.headers.tag_in_to().is_some_and(|tag| self.tag.as_deref() == Some(tag))
    }

    /// What to send, if its state lets it. `known`: it was heard of where this goes.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        timing: &Timing,
        response: &Response,
        known: bool,
    ) -> Option<Bytes> {
        let stream = self.reply.flow.transport().is_stream();
        let good = (200..300).contains(&response.status);
        let data = response.to_bytes();
        match self.state {
            State::Proceeding => {}
            State::Accepted if good => return self.may_go(data, known),
            _ => return None,
        }
        self.trying = None;
        if response.status > 100 && self.tag.is_none() {
            self.tag = response.headers.tag_in_to().map(str::to_owned);
        }
        if response.status < 200 {
            self.last = Some(data.clone());
            return self.may_go(data, known);
        }
        let challenge = matches!(response.status, 401 | 407);
        self.brief = self.last.is_none() && (challenge || !self.credentials);
        // The first one goes: else nobody would be told.
        self.allowance.must(data.len());
        if self.invite && good {
            self.state = State::Accepted;
            // Nothing is repeated from here: the INVITE's repetitions are absorbed.
            self.last = None;
            self.end = Some(timing.forgotten(now, timing.life()));
            return Some(data);
        }
        if self.invite {
            self.state = State::Completed;
            self.repeat = (!stream).then(|| now + timing.t1);
            self.end = Some(now + timing.life());
        } else if stream {
            self.state = State::Over;
        } else {
            self.state = State::Completed;
            self.end = Some(timing.forgotten(now, timing.life()));
        }
        self.last = Some(data.clone());
        Some(data)
    }

    fn may_go(&mut self, data: Bytes, known: bool) -> Option<Bytes> {
        let last = self.state != State::Proceeding;
        (known || self.allowance.spend(data.len(), last)).then_some(data)
    }

    /// The peer repeated its request.
    pub(super) fn again(&mut self, known: bool) -> Option<Bytes> {
        if self.state == State::Proceeding && self.invite && self.last.is_none() {
            self.trying = None;
            self.last = Some(self.reply(100, "", "").to_bytes());
        }
        let answers = matches!(self.state, State::Proceeding | State::Completed);
        let data = self.last.clone().filter(|_| answers)?;
        self.may_go(data, known)
    }

    /// The ACK of a refusal came.
    pub(super) fn ack(&mut self, now: Instant, timing: &Timing) {
        if self.state != State::Completed {
            return;
        }
        self.repeat = None;
        if self.reply.flow.transport().is_stream() {
            self.state = State::Over;
        } else {
            self.state = State::Confirmed;
            self.end = Some(timing.forgotten(now, timing.t4));
        }
    }

    pub(super) fn timeout(&mut self, now: Instant, timing: &Timing, known: bool) -> Option<Bytes> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.end) {
            self.state = State::Over;
            return None;
        }
        if due(self.trying) {
            self.trying = None;
            self.last = Some(self.reply(100, "", "").to_bytes());
            return self.last.clone().and_then(|data| self.may_go(data, known));
        }
        if due(self.repeat) {
            self.pause = self.pause.saturating_mul(2).min(timing.t2);
            self.repeat = Some(now + self.pause);
            return self.last.clone().and_then(|data| self.may_go(data, known));
        }
        None
    }
}

/// Equal for a request, its repetitions and the ACK of its refusal (section 17.2.3). The method is
/// an argument: ACK and CANCEL look for their INVITE.
pub(super) fn key(request: &Request, via: Option<&Via>, method: &Method) -> String {
    let headers = &request.headers;
    match via {
        Some(via) if via.has_magic_branch() => {
            let branch = via.branch().unwrap_or_default();
            format!("{branch} {}:{} {method}", via.host, via.sent_by_port())
        }
        // RFC 2543: the request itself, but for the To tag, which an ACK has and its INVITE not.
        via => {
            let tag = headers.tag_in_from().unwrap_or_default();
            let number = headers.cseq().map(|c| c.number).unwrap_or_default();
            let call = headers.call_id().unwrap_or_default();
            let via = via.map(|v| v.to_string()).unwrap_or_default();
            format!("{}\n{tag}\n{call}\n{number}\n{via}\n{method}", request.uri)
        }
    }
}

/// Equal for the copies of one request that came by several ways (section 8.2.2.2); nothing for
/// requests within dialogs, and for ACK and CANCEL, which have no life of their own.
pub(super) fn merge_key(request: &Request) -> Option<String> {
    if matches!(request.method, Method::Ack | Method::Cancel) || request.headers.tag_in_to().is_some() {
        return None;
    }
    let headers = &request.headers;
    let (tag, call, cseq) = (headers.tag_in_from()?, headers.call_id()?, headers.cseq()?);
    Some(format!("{tag}\n{call}\n{cseq}"))
}
