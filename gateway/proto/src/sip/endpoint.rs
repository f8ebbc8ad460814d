//! The SIP endpoint: every call, registration and connection of one set of addresses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use super::command::{Command, RegistrationId, RequestId};
use super::config::Config;
use super::content::{session_body, takes_sdp};
use super::event::{By, Ending, Event, How, Incoming, Source};
use super::flow::Flow;
use super::framing::{Frame, PONG};
use super::invite::{Call, no_way, push_extra, refer_to, refuse_brief, refuse_fork};
use super::registration::Binding;
use super::replaces::{Named, Replaced, referred_by};
use super::session::Session;
use super::stack::{ALLOW, Counters, Owner, SUPPORTED, Stack, Timer, unsupported};
use super::stun;
use super::transaction::{Action, Arrived, ClientId, Reply, ServerId};
use super::{CallId, Message, Method, Name, NameAddr, Request, Response, Uri, is_keep_alive};
use crate::{ConnId, Input, Instant, Now, Output, SansIo, Transport};

/// A refused client is asked to wait this long before it tries again, so that all of them do not
/// come back at once.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// A fault of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// That number is taken, or belongs to incoming calls.
    #[error("{0} cannot be the number of a new call")]
    CallNumber(CallId),
    /// That registration is there already.
    #[error("registration {} exists", .0.0)]
    RegistrationNumber(RegistrationId),
}

/// How much of what is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Calls, those that are ending included.
    pub calls: usize,
    /// Dialogs that a request would find.
    pub dialogs: usize,
    /// Requests of ours.
    pub client_transactions: usize,
    /// Requests of peers.
    pub server_transactions: usize,
    /// Stream connections.
    pub connections: usize,
    /// Registrations at other registrars.
    pub registrations: usize,
    /// Deadlines that are set.
    pub timers: usize,
}

/// A SIP endpoint without sockets, clock or chance of its own.
#[derive(Debug)]
pub struct Endpoint {
    stack: Stack,
    calls: HashMap<CallId, Call>,
    /// By Call-ID and our tag.
    dialogs: HashMap<(String, String), CallId>,
    registrations: HashMap<RegistrationId, Binding>,
    next_call: u64,
    draining: bool,
}

impl Endpoint {
    /// An idle one. Equal generators make equal tags, branches and Call-IDs.
    pub fn new(config: Config, rng: ChaCha12Rng) -> Self {
        Self {
            stack: Stack::new(config, rng),
            calls: HashMap::new(),
            dialogs: HashMap::new(),
            registrations: HashMap::new(),
            next_call: CallId::FIRST_INCOMING,
            draining: false,
        }
    }

    /// The same, its generator made from 32 random bytes.
    pub fn from_seed(config: Config, seed: [u8; 32]) -> Self {
        Self::new(config, ChaCha12Rng::from_seed(seed))
    }

    /// How much is going on. All zero once every call has ended and the last timer has fired.
    pub fn load(&self) -> Load {
        Load {
            calls: self.calls.len(),
            dialogs: self.dialogs.len(),
            client_transactions: self.stack.transactions.clients(),
            server_transactions: self.stack.transactions.servers(),
            connections: self.stack.transports.connections(),
            registrations: self.registrations.len(),
            timers: self.stack.schedule.len(),
        }
    }

    /// What happened so far.
    pub const fn counters(&self) -> Counters {
        self.stack.counters
    }

    fn datagram(&mut self, now: Instant, local: SocketAddr, from: SocketAddr, data: &[u8]) {
        if is_keep_alive(data) {
            return;
        }
        if stun::is_stun(data) {
            if let Some(data) = stun::answer(data, from) {
                self.stack.out.push_back(Output::Datagram { local, to: from, data });
            }
            return;
        }
        let flow = Flow { transport: Transport::Udp, local, remote: from, conn: None };
        match Message::parse(data) {
            Ok(message) => self.message(now, flow, message, Some(data)),
            Err(error) => self.malformed(now, flow, &error, data.len()),
        }
    }

    fn stream(&mut self, now: Instant, conn: ConnId, data: &[u8]) {
        let Some((framer, flow)) = self.stack.transports.stream(conn) else { return };
        if flow.transport.is_framed() {
            return self.piece(now, conn, flow, data);
        }
        let began = !framer.is_waiting();
        // Bounded by the bytes of one input: no frame is shorter than a ping.
        let mut frames = Vec::new();
        framer.push(data, |frame| frames.push(frame));
        let whole = frames.iter().any(|f| !matches!(f, Frame::Refused { .. }));
        self.stack.transports.heard(now, conn, began, whole);
        for frame in frames {
            match frame {
                Frame::Message(message) => self.message(now, flow, message, None),
                Frame::Ping => self.stack.transmit(now, Reply::only(flow), Bytes::from_static(PONG)),
                Frame::Refused { error, close } => {
                    self.malformed(now, flow, &error, usize::MAX);
                    if close {
                        self.close(now, conn);
                    }
                }
            }
            // A close must come after what was said before it.
            self.drain(now);
        }
    }

    /// One message, or a ping of the kind that streams know (RFC 7118 sections 5 and 6).
    fn piece(&mut self, now: Instant, conn: ConnId, flow: Flow, data: &[u8]) {
        if is_keep_alive(data) {
            // Less answers a ping of ours, of which there is none.
            if data.len() > PONG.len() {
                self.stack.transports.heard(now, conn, true, true);
                self.stack.transmit(now, Reply::only(flow), Bytes::from_static(PONG));
            }
            return;
        }
        let message = Message::parse(data);
        self.stack.transports.heard(now, conn, true, message.is_ok());
        match message {
            Ok(message) => self.message(now, flow, message, None),
            Err(error) => self.malformed(now, flow, &error, usize::MAX),
        }
    }

    /// `octets`: of the datagram, which may come from somebody else than it says.
    fn malformed(&mut self, now: Instant, flow: Flow, error: &super::ParseError, octets: usize) {
        self.stack.counters.malformed = self.stack.counters.malformed.saturating_add(1);
        let tag = self.stack.token();
        if let Some(mut response) = error.answer(&tag) {
            let Some(mut via) = response.headers.top_via() else { return };
            via.stamp(flow.remote);
            response.headers.set_top_via(&via);
            let data = response.to_bytes();
            if data.len() <= octets.saturating_mul(3) {
                self.stack.transmit(now, reply_to(&flow, &via), data);
            }
        }
    }

    /// `octets`: those of the datagram; a connection has no need of them.
    fn message(&mut self, now: Instant, flow: Flow, message: Message, octets: Option<&[u8]>) {
        self.stack.heard(now, flow, &message, octets);
        match message {
            Message::Response(response) => {
                // More than our own Via: it went astray (section 8.1.3.3).
                let ours = response.headers.count_vias() == 1;
                if !ours || !self.stack.transactions.response(now, flow.remote.ip(), response) {
                    self.stack.counters.stray_responses =
                        self.stack.counters.stray_responses.saturating_add(1);
                }
            }
            Message::Request(request) => {
                self.request(now, flow, request, octets.map_or(0, <[u8]>::len));
            }
        }
        // It was one that we had already.
        self.stack.heard_first(now, None);
    }

    fn request(&mut self, now: Instant, flow: Flow, mut request: Request, octets: usize) {
        let Some(mut via) = request.headers.top_via() else { return };
        // A browser does not know its address (RFC 7118 appendix B.1).
        let translated = via.host.address().map_or_else(
            || flow.transport.is_framed(),
            |address| address.to_canonical() != flow.remote.ip().to_canonical(),
        );
        via.stamp(flow.remote);
        request.headers.set_top_via(&via);
        let reply = reply_to(&flow, &via);
        let source =
            Source { transport: flow.transport, local: flow.local, remote: flow.remote, flow, translated };
        match self.stack.transactions.request_arrived(now, &request, &via, reply, octets) {
            Arrived::Absorbed => {}
            Arrived::Full => self.overloaded(now, reply, &request),
            Arrived::Ack => match self.find(&request) {
                Some(call) => self.with_call(call, |call, stack| {
                    call.heard(now, stack, flow.remote);
                    call.acked(now, stack, &request);
                }),
                None => self.stack.stray_ack(now, &request, flow.remote.ip()),
            },
            Arrived::New { id, cancels, .. } if request.method == Method::Cancel => {
                self.cancel(now, id, cancels, &request);
            }
            Arrived::New { id, merged, .. } => self.new_request(now, id, merged, request, source),
        }
    }

    /// The table is full: refused without state (RFC 3261 section 8.2.7).
    fn overloaded(&mut self, now: Instant, reply: Reply, request: &Request) {
        self.stack.counters.overload = self.stack.counters.overload.saturating_add(1);
        let tag = self.stack.token();
        let mut response = Response::to(request, 503, Some(&tag));
        let pause = self.stack.pause(RETRY_AFTER.0, RETRY_AFTER.1).as_secs();
        response.headers.push(Name::RetryAfter, pause);
        self.stack.transmit(now, reply, response.to_bytes());
    }

    fn cancel(&mut self, now: Instant, id: ServerId, invite: Option<ServerId>, request: &Request) {
        let tag = self.stack.tag(id);
        let Some(invite) = invite else { return self.stack.answer_once(now, id, 481, &tag) };
        let call = self.stack.transactions.owner(invite);
        let tag = call.and_then(|c| self.calls.get(&c)).map_or(tag, |c| c.key().1);
        self.stack.answer(now, id, 200, &tag);
        if let Some(call) = call {
            self.with_call(call, |call, stack| call.cancelled(now, stack, invite, request));
        }
    }

    /// A request that no transaction knows; in the order of RFC 3261 section 8.2.
    fn new_request(&mut self, now: Instant, id: ServerId, merged: bool, request: Request, source: Source) {
        let tag = self.stack.tag(id);
        let known = matches!(
            request.method,
            Method::Invite
                | Method::Bye
                | Method::Options
                | Method::Info
                | Method::Update
                | Method::Prack
                | Method::Refer
                | Method::Register
        );
        if !known {
            return self.not_taken(now, id, &request, &tag);
        }
        let ours = matches!(&request.uri, Uri::Sip(_)) || request.uri.scheme().eq_ignore_ascii_case("tel");
        if !ours {
            return self.stack.answer_once(now, id, 416, &tag);
        }
        // Merged (RFC 3261 section 8.2.2.2), or a loop (RFC 5393).
        if merged || request.method == Method::Invite && self.stack.loops.knows(&request) {
            return self.stack.answer_once(now, id, 482, &tag);
        }
        let unknown = unsupported(&request.headers);
        if !unknown.is_empty() {
            self.stack.answer_with(now, id, 420, "", &tag, |response| {
                for option in &unknown {
                    response.headers.push(Name::Unsupported, option);
                }
            });
            self.stack.transactions.forget(id);
            return;
        }
        let in_dialog = request.headers.tag_in_to().is_some();
        // It stands in an INVITE or nowhere (RFC 3891 section 3).
        if request.headers.has(&Name::Replaces) && request.method != Method::Invite {
            return self.stack.answer_once(now, id, 400, &tag);
        }
        match (&request.method, in_dialog) {
            (Method::Register, _) => self.register_arrived(now, id, request, source),
            (Method::Options, false) => self.options(now, id, &tag),
            (Method::Invite, false) => self.invite_arrived(now, id, request, source),
            // Calls are placed for who is in one: nobody has us call out of the blue.
            (Method::Refer, false) => self.stack.answer(now, id, 403, &tag),
            _ => match self.find(&request) {
                None => self.stack.answer_once(now, id, 481, &tag),
                Some(_) if request.method == Method::Options => self.options(now, id, &tag),
                Some(call) => self.within(now, id, call, &request, &source),
            },
        }
    }

    fn within(&mut self, now: Instant, id: ServerId, call: CallId, request: &Request, source: &Source) {
        let named = match refer_to(&request.headers) {
            Some(to) if request.method == Method::Refer => Named::of_uri(&to.uri),
            _ => Ok(None),
        };
        let Ok(named) = named else {
            let tag = self.stack.tag(id);
            return self.stack.answer(now, id, 400, &tag);
        };
        let replaced = named.map(|named| self.replaced(&named));
        self.with_call(call, |call, stack| call.request(now, stack, id, request, source, replaced));
    }

    fn not_taken(&mut self, now: Instant, id: ServerId, request: &Request, tag: &str) {
        let status = match request.method {
            Method::Other(_) => 501,
            Method::Subscribe => 489,
            Method::Notify => 481,
            _ => 405,
        };
        self.stack.answer_with(now, id, status, "", tag, |response| {
            if status == 405 || status == 501 {
                response.headers.push(Name::Allow, ALLOW);
            }
        });
        self.stack.transactions.forget(id);
    }

    fn options(&mut self, now: Instant, id: ServerId, tag: &str) {
        self.stack.answer_with(now, id, 200, "", tag, |response| {
            response.headers.push(Name::Allow, ALLOW);
            response.headers.push(Name::Supported, SUPPORTED);
            response.headers.push(Name::Accept, "application/sdp");
            response.headers.push(Name::AcceptEncoding, "identity");
        });
        self.stack.transactions.forget(id);
    }

    fn register_arrived(&mut self, now: Instant, id: ServerId, request: Request, source: Source) {
        if self.draining {
            return self.unavailable(now, id);
        }
        let message = Box::new(request);
        self.stack.event(Event::Request { request: RequestId(id.0), message, source });
    }

    fn invite_arrived(&mut self, now: Instant, id: ServerId, request: Request, source: Source) {
        if self.draining || self.calls.len() >= self.stack.config.limits.calls {
            return self.unavailable(now, id);
        }
        let tag = self.stack.tag(id);
        let body = match session_body(&request.headers, &request.body) {
            Ok(body) => body,
            Err(unsupported) => {
                self.stack.answer_with(now, id, 415, "", &tag, |response| unsupported.fill(response));
                self.stack.transactions.forget(id);
                return;
            }
        };
        if !takes_sdp(&request.headers) {
            return self.stack.answer_once(now, id, 406, &tag);
        }
        if Session::new(self.stack.config.session).terms(&request.headers).is_err() {
            return refuse_brief(now, &mut self.stack, id, &tag);
        }
        let (Ok(named), Ok(referred_by)) =
            (Named::of_request(&request.headers), referred_by(&request.headers))
        else {
            return self.stack.answer_once(now, id, 400, &tag);
        };
        let replaced = named.map(|named| self.replaced(&named));
        let number = CallId(self.next_call);
        let Some(call) = Call::incoming(&mut self.stack, number, id, &request, &source, body.is_some())
        else {
            return self.stack.answer_once(now, id, 400, &tag);
        };
        self.next_call = self.next_call.saturating_add(1);
        self.stack.transactions.set_owner(id, number);
        self.insert(call);
        let incoming = Incoming { call: number, request, source, body, replaced, referred_by };
        self.stack.event(Event::Incoming(Box::new(incoming)));
        self.stack.heard_first(now, Some(number));
    }

    fn unavailable(&mut self, now: Instant, id: ServerId) {
        let tag = self.stack.tag(id);
        let pause = self.stack.pause(RETRY_AFTER.0, RETRY_AFTER.1).as_secs();
        self.stack.answer_with(now, id, 503, "", &tag, |response| {
            response.headers.push(Name::RetryAfter, pause);
        });
        self.stack.transactions.forget(id);
    }

    /// Does what the transactions ask for, until they ask for nothing.
    fn drain(&mut self, now: Instant) {
        while let Some(action) = self.stack.next_action(now) {
            match action {
                Action::Send { .. } => {}
                Action::Response { id, owner, response } => self.response(now, id, owner, &response),
                Action::NoResponse { id, owner, request } => {
                    self.lost(now, id, owner, *request, How::NoResponse)
                }
                Action::Unreachable { id, owner, request } => {
                    self.lost(now, id, owner, *request, How::Unreachable);
                }
            }
        }
    }

    fn response(&mut self, now: Instant, id: ClientId, owner: Owner, response: &Response) {
        match owner {
            Owner::Invite(call) if self.calls.contains_key(&call) => {
                self.with_call(call, |call, stack| call.response(now, stack, id, response));
            }
            Owner::Invite(_) if response.is_success() => {
                refuse_fork(now, &mut self.stack, id, response, false)
            }
            Owner::Invite(_) | Owner::Nobody => {}
            Owner::Bye(call) | Owner::Info(call) if !response.is_provisional() => {
                let bye = matches!(owner, Owner::Bye(_));
                self.with_call(call, |call, stack| {
                    let again = matches!(response.status, 401 | 407)
                        && call.retry_with_credentials(now, stack, id, response).is_some();
                    if !again {
                        call.request_done(now, stack, bye, response.status);
                    }
                });
            }
            Owner::Update(call) if !response.is_provisional() => {
                self.with_call(call, |call, stack| call.update_answered(now, stack, id, response));
            }
            Owner::Prack(call) if !response.is_provisional() => {
                self.with_call(call, |call, stack| call.prack_done(now, stack, id, Some(response)));
            }
            Owner::Notify(call) if !response.is_provisional() => {
                self.with_call(call, |call, _| call.notified(response.status));
            }
            Owner::Bye(_) | Owner::Info(_) | Owner::Update(_) | Owner::Prack(_) | Owner::Notify(_) => {}
            Owner::Registration(registration) => {
                if let Some(binding) = self.registrations.get_mut(&registration) {
                    binding.response(now, &mut self.stack, id, response);
                }
                self.settle_registration(registration);
            }
            Owner::Ping(ping) if !response.is_provisional() => {
                self.stack.event(Event::Pong { ping, status: Some(response.status) });
            }
            Owner::Ping(_) => {}
        }
    }

    fn lost(&mut self, now: Instant, id: ClientId, owner: Owner, request: Request, how: How) {
        let status = if how == How::NoResponse { 408 } else { 503 };
        match owner {
            Owner::Invite(call) => {
                self.with_call(call, |call, stack| call.lost(now, stack, id, request, how))
            }
            Owner::Bye(call) => {
                self.with_call(call, |call, stack| call.request_done(now, stack, true, status));
            }
            Owner::Info(call) => {
                self.with_call(call, |call, stack| call.request_done(now, stack, false, status));
            }
            Owner::Update(call) => {
                self.with_call(call, |call, stack| call.update_lost(now, stack, how));
            }
            Owner::Prack(call) => {
                self.with_call(call, |call, stack| call.prack_done(now, stack, id, None));
            }
            Owner::Notify(call) => self.with_call(call, |call, _| call.notified(status)),
            Owner::Registration(registration) => {
                if let Some(binding) = self.registrations.get_mut(&registration) {
                    binding.lost(now, &mut self.stack, id, status);
                }
                self.settle_registration(registration);
            }
            Owner::Ping(ping) => self.stack.event(Event::Pong { ping, status: None }),
            Owner::Nobody => {}
        }
    }

    /// Lets a call do something, then sets its timer or forgets it.
    fn with_call(&mut self, id: CallId, act: impl FnOnce(&mut Call, &mut Stack)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        act(call, &mut self.stack);
        let over = call.is_over();
        self.stack.schedule.set(Timer::Call(id), if over { None } else { call.deadline() });
        if over && let Some(call) = self.calls.remove(&id) {
            let key = call.key();
            self.dialogs.remove(&key);
            self.stack.unwatch(id, key.0);
        }
    }

    fn insert(&mut self, call: Call) {
        let id = call.id();
        self.dialogs.insert(call.key(), id);
        self.stack.watch(id, call.key());
        self.stack.schedule.set(Timer::Call(id), call.deadline());
        self.calls.insert(id, call);
    }

    /// The call whose dialog a request of the peer belongs to.
    fn find(&self, request: &Request) -> Option<CallId> {
        let call_id = request.headers.call_id()?.to_owned();
        let tag = request.headers.tag_in_to()?.to_owned();
        self.dialogs.get(&(call_id, tag)).copied()
    }

    /// The dialog that a peer names.
    fn replaced(&self, named: &Named) -> Replaced {
        let key = (named.call_id.clone(), named.to_tag.clone());
        let call = self.dialogs.get(&key).and_then(|id| self.calls.get(id));
        call.map_or(Replaced::Nothing, |call| call.replaced(&named.from_tag, named.early_only))
    }

    fn settle_registration(&mut self, id: RegistrationId) {
        let Some(binding) = self.registrations.get(&id) else { return };
        if binding.is_over() {
            self.registrations.remove(&id);
            self.stack.schedule.set(Timer::Registration(id), None);
        } else {
            let deadline = binding.deadline();
            self.stack.schedule.set(Timer::Registration(id), deadline);
        }
    }

    fn close(&mut self, now: Instant, conn: ConnId) {
        self.stack.out.push_back(Output::Close { conn });
        self.closed(now, conn);
    }

    fn closed(&mut self, now: Instant, conn: ConnId) {
        let Some((flow, accepted)) = self.stack.transports.closed(conn) else { return };
        self.stack.transactions.flow_lost(&flow);
        let mut waiting: Vec<_> = self.registrations.keys().copied().collect();
        waiting.sort_unstable();
        for id in waiting {
            if let Some(binding) = self.registrations.get_mut(&id) {
                binding.flow_closed(now, &flow);
            }
            self.settle_registration(id);
        }
        if accepted {
            self.stack.event(Event::FlowClosed { flow });
        }
    }

    fn timeout(&mut self, now: Instant) {
        self.stack.transactions.timeout(now);
        self.drain(now);
        while let Some(timer) = self.stack.schedule.due(now) {
            match timer {
                Timer::Call(id) => self.with_call(id, |call, stack| call.timeout(now, stack)),
                Timer::Registration(id) => {
                    if let Some(binding) = self.registrations.get_mut(&id) {
                        binding.timeout(now, &mut self.stack);
                    }
                    self.settle_registration(id);
                }
            }
        }
        while let Some(conn) = self.stack.transports.expired(now) {
            self.stack.counters.connections_refused =
                self.stack.counters.connections_refused.saturating_add(1);
            self.close(now, conn);
        }
    }
}

impl SansIo for Endpoint {
    type Command = Command;
    type Event = Event;
    type Error = Error;

    fn handle_input(&mut self, now: Now, input: Input<'_>) -> Result<(), Error> {
        let now = now.mono;
        match input {
            Input::Datagram { local, from, data } => self.datagram(now, local, from, data),
            Input::Connected { conn, local, peer, transport } => {
                let flow = Flow { transport, local, remote: peer, conn: Some(conn) };
                if !self.stack.transports.connected(now, conn, flow, &mut self.stack.out) {
                    let refused = &mut self.stack.counters.connections_refused;
                    *refused = refused.saturating_add(1);
                }
            }
            Input::Stream { conn, data } => self.stream(now, conn, data),
            Input::Closed { conn } => self.closed(now, conn),
            Input::Timeout => self.timeout(now),
        }
        self.drain(now);
        self.stack.let_go();
        Ok(())
    }

    fn command(&mut self, now: Now, command: Command) -> Result<(), Error> {
        let now = now.mono;
        let result = self.obey(now, command);
        self.drain(now);
        self.stack.let_go();
        result
    }

    fn poll_output(&mut self) -> Output<Event> {
        self.stack.out.pop_front().unwrap_or_else(|| {
            let next = [
                self.stack.transactions.next_timeout(),
                self.stack.schedule.next(),
                self.stack.transports.next_timeout(),
            ];
            Output::Timeout(next.into_iter().flatten().min())
        })
    }
}

impl Endpoint {
    fn obey(&mut self, now: Instant, command: Command) -> Result<(), Error> {
        match command {
            Command::Invite(invite) => {
                let id = invite.call;
                if id.is_incoming() || self.calls.contains_key(&id) {
                    return Err(Error::CallNumber(id));
                }
                let room = self.calls.len() < self.stack.config.limits.calls;
                let how = if room { no_way(&invite.destination) } else { How::Unreachable };
                let call = room.then(|| Call::outgoing(now, &mut self.stack, *invite).ok()).flatten();
                match call {
                    Some(call) => self.insert(call),
                    None => {
                        let ending = Box::new(Ending::of(By::Network, how));
                        self.stack.event(Event::Ended { call: id, ending });
                        // Nothing of it was ever sent.
                        self.stack.unwatch(id, String::new());
                    }
                }
            }
            Command::Elsewhere(elsewhere) => {
                let call = elsewhere.call;
                self.with_call(call, |call, stack| call.elsewhere(now, stack, *elsewhere));
            }
            Command::Ring { call } => self.with_call(call, |c, stack| c.progress(now, stack, 180, None)),
            Command::Progress { call, body } => {
                self.with_call(call, |c, stack| c.progress(now, stack, 183, Some(body)));
            }
            Command::Answer { call, body } => {
                self.with_call(call, |c, stack| c.answer(now, stack, body, true));
            }
            Command::Reject { call, status, phrase, reason, headers } => {
                self.with_call(call, |c, stack| c.refuse(now, stack, status, &phrase, reason, &headers));
            }
            Command::Ack { call, body } => self.with_call(call, |c, stack| c.ack(now, stack, Some(body))),
            Command::Hangup { call, reason } => {
                self.with_call(call, |c, stack| c.hang_up(now, stack, reason))
            }
            Command::Reinvite { call, body } => self.with_call(call, |c, stack| c.reinvite(now, stack, body)),
            Command::AnswerReinvite { call, body } => {
                self.with_call(call, |c, stack| c.answer(now, stack, body, false));
            }
            Command::RefuseReinvite { call, status } => {
                self.with_call(call, |c, stack| c.refuse_reinvite(now, stack, status));
            }
            Command::Info { call, body } => self.with_call(call, |c, stack| c.info(now, stack, body)),
            Command::AnswerRefer { call, status } => {
                self.with_call(call, |c, stack| c.answer_refer(now, stack, status));
            }
            Command::ReferProgress { call, status } => {
                self.with_call(call, |c, stack| c.refer_progress(now, stack, status));
            }
            Command::Respond { request, status, phrase, headers, body } => {
                let id = ServerId(request.0);
                let tag = self.stack.tag(id);
                self.stack.answer_with(now, id, status.clamp(200, 699), &phrase, &tag, |response| {
                    for (name, value) in &headers {
                        push_extra(&mut response.headers, name, value);
                    }
                    if let Some(body) = body {
                        response.headers.set(Name::ContentType, body.content_type);
                        response.body = body.data;
                    }
                });
                if status >= 300 {
                    self.stack.transactions.forget(id);
                }
            }
            Command::Register(registration) => {
                let id = registration.registration;
                if self.registrations.contains_key(&id) {
                    return Err(Error::RegistrationNumber(id));
                }
                let mut binding = Binding::new(&mut self.stack, *registration);
                binding.timeout(now, &mut self.stack);
                self.registrations.insert(id, binding);
                self.settle_registration(id);
            }
            Command::Refresh { registration } => {
                if let Some(binding) = self.registrations.get_mut(&registration) {
                    binding.refresh(now, &mut self.stack);
                }
                self.settle_registration(registration);
            }
            Command::Unregister { registration } => {
                if let Some(binding) = self.registrations.get_mut(&registration) {
                    binding.unregister(now, &mut self.stack);
                }
                self.settle_registration(registration);
            }
            Command::Ping { ping, target, destination } => {
                if self.ping(now, ping, &target, &destination).is_none() {
                    self.stack.event(Event::Pong { ping, status: None });
                }
            }
            Command::Drain => self.draining = true,
        }
        Ok(())
    }

    fn ping(
        &mut self,
        now: Instant,
        ping: super::PingId,
        target: &Uri,
        destination: &super::Destination,
    ) -> Option<ClientId> {
        let flow = self.stack.way(now, destination, target, false).ok()?;
        let (tag, call_id, seq) = (self.stack.token(), self.stack.token(), self.stack.first_seq());
        let contact = self.stack.contact(&flow, None, false)?;
        let from = NameAddr::new(contact.uri.clone()).with_tag(&tag);
        let to = NameAddr::new(target.clone());
        let uri = super::dialog::request_uri(target.clone());
        let mut request = Request::with_core(Method::Options, uri, &from, &to, &call_id, seq);
        request.headers.push(Name::Contact, contact);
        request.headers.push(Name::Accept, "application/sdp");
        self.stack.start(now, request, flow, Owner::Ping(ping)).ok()
    }
}

/// Where the response to a request goes, its topmost Via stamped (section 18.2.2, RFC 3581).
fn reply_to(flow: &Flow, via: &super::Via) -> Reply {
    if flow.transport.is_framed() {
        return Reply::only(*flow);
    }
    if flow.transport.is_stream() {
        let fallback = SocketAddr::new(flow.remote.ip(), via.sent_by_port());
        return Reply { flow: *flow, fallback: Some(fallback) };
    }
    Reply::only(Flow { remote: via.response_address().unwrap_or(flow.remote), ..*flow })
}
