//! What every part of the endpoint works with: chance, ways, transactions, and the road out.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::auth;
use super::command::{Destination, PingId, RegistrationId};
use super::config::Config;
use super::dialog::Dialog;
use super::flow::uri_word;
use super::hex::hex;
use super::loops::Loops;
use super::schedule::Schedule;
use super::tap::Tap;
use super::transaction::{Action, ClientId, Reply, ServerId, Transactions};
use super::transport::{Transports, Unsendable};
use super::uri::{DEFAULT_PORT, DEFAULT_TLS_PORT};
use super::via::MAGIC_COOKIE;
use super::{
    CallId, Event, Flow, Headers, Method, Name, NameAddr, Request, Response, SipUri, Token, Uri, Via,
};
use crate::address::PeerPolicy;
use crate::{Instant, Output, Transport};

/// What we take, for Allow. SUBSCRIBE, NOTIFY and MESSAGE are not among them.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, REGISTER, REFER";

/// Extensions that we take part in, for Supported: reliable provisional responses (RFC 3262 section 8),
/// session timers (RFC 4028 section 3), REFER without a word of what comes of it (RFC 4488 section 4) and
/// calls in the place of others (RFC 3891 section 6.2).
pub(super) const SUPPORTED: &str = "100rel, timer, norefersub, replaces";

/// The same in an INVITE without an offer. A reliable response to it would be one, and its PRACK the
/// answer (RFC 3262 section 5): before the call is answered the owner has none.
pub(super) const SUPPORTED_OFFERLESS: &str = "timer, norefersub, replaces";

/// What a request requires that we do not know (RFC 3261 section 8.2.2.3).
pub(super) fn unsupported(headers: &Headers) -> Vec<Token> {
    let known = |option: &Token| {
        SUPPORTED.split(", ").any(|supported| supported.eq_ignore_ascii_case(option.as_str()))
    };
    headers.tokens(&Name::Require).into_iter().filter(|option| !known(option)).collect()
}

/// Longest request for UDP (RFC 3261 section 18.1.1, path MTU unknown).
pub(super) const MAX_DATAGRAM: usize = 1_300;

/// Whose a request of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Invite(CallId),
    Bye(CallId),
    Info(CallId),
    Update(CallId),
    Prack(CallId),
    Notify(CallId),
    Registration(RegistrationId),
    Ping(PingId),
    /// Nobody waits for its end.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Timer {
    Call(CallId),
    Registration(RegistrationId),
}

/// What happened so far, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams and stream messages that did not parse.
    pub malformed: u64,
    /// Responses that no transaction wanted.
    pub stray_responses: u64,
    /// Requests that a full table refused.
    pub overload: u64,
    /// Messages that had no way to go.
    pub unsendable: u64,
    /// Connections that a limit refused or whose patience ended.
    pub connections_refused: u64,
    /// Requests above 1300 octets that went by UDP all the same.
    pub oversize: u64,
}

/// See the file.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) config: Config,
    rng: ChaCha12Rng,
    pub(super) loops: Loops,
    pub(super) transports: Transports,
    pub(super) transactions: Transactions<Owner, CallId>,
    /// Drained by the owner after every call, so bounded by what one input can cause.
    pub(super) out: VecDeque<Output<Event>>,
    pub(super) schedule: Schedule<Timer>,
    pub(super) counters: Counters,
    /// Tells of messages, when somebody wants to know.
    pub(super) tap: Option<Tap>,
}

impl Stack {
    pub(super) fn new(config: Config, mut rng: ChaCha12Rng) -> Self {
        let limits = config.limits;
        let mut key = [0; 64];
        rng.fill_bytes(&mut key);
        Self {
            transports: Transports::new(config.listen.clone(), limits),
            transactions: Transactions::new(
                config.timing,
                limits.client_transactions,
                limits.server_transactions,
            ),
            tap: config.tap.then(Tap::default),
            config,
            rng,
            loops: Loops::new(key),
            out: VecDeque::new(),
            schedule: Schedule::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// 80 random bits as a token: tags, branches, Call-IDs.
    pub(super) fn token(&mut self) -> String {
        let [a, b, c, d, e, f, g, h] = self.rng.next_u64().to_be_bytes();
        let [i, j, ..] = self.rng.next_u32().to_be_bytes();
        hex(&[a, b, c, d, e, f, g, h, i, j])
    }

    /// Our tag in the answers to that request.
    pub(super) fn tag(&mut self, id: ServerId) -> String {
        let known = self.transactions.mark(id).map(|mark| self.loops.tag(&mark));
        known.unwrap_or_else(|| self.token())
    }

    /// An ACK of what is not kept any more. Whoever has our tag in it has heard our refusal.
    pub(super) fn stray_ack(&mut self, now: Instant, ack: &Request, from: IpAddr) {
        let mark = Transactions::<Owner, CallId>::mark_of_ack(ack, from);
        if ack.headers.tag_in_to().is_some_and(|tag| tag == self.loops.tag(&mark)) {
            self.transactions.hear(now, from);
        }
    }

    /// Even between the two, in steps of 10 ms.
    pub(super) fn pause(&mut self, from: Duration, to: Duration) -> Duration {
        let step = Duration::from_millis(10);
        let steps = to.saturating_sub(from).as_millis().checked_div(step.as_millis()).unwrap_or(0);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).saturating_add(1);
        let drawn = self.rng.next_u32().checked_rem(steps).unwrap_or(0);
        from.saturating_add(step.saturating_mul(drawn))
    }

    /// The first number of a sequence: small enough to grow for years (section 8.1.1.5).
    pub(super) fn first_seq(&mut self) -> u32 {
        (self.rng.next_u32() >> 20).saturating_add(1)
    }

    /// The way to a destination. `big`: a datagram does not hold it.
    pub(super) fn way(
        &mut self,
        now: Instant,
        destination: &Destination,
        target: &Uri,
        big: bool,
    ) -> Result<Flow, Unsendable> {
        match destination {
            Destination::Flow(flow) => self.transports.stands(flow).then_some(*flow).ok_or(Unsendable),
            Destination::Address { transport, address, name } => {
                let transport = transport.unwrap_or(if big { Transport::Tcp } else { Transport::Udp });
                let way = self.transports.way_to(now, transport, *address, name.as_deref(), &mut self.out);
                // No binding of that kind: the datagram goes all the same.
                if big && way.is_err() && transport == Transport::Tcp {
                    return self.transports.way_to(now, Transport::Udp, *address, None, &mut self.out);
                }
                way
            }
            Destination::Target => {
                let (transport, address) = hop(target, None).ok_or(Unsendable)?;
                self.transports.way_to(now, transport, address, None, &mut self.out)
            }
        }
    }

    /// The way to the next hop of a dialog. The way on which the far end was heard is preferred
    /// where it leads to the same host; it is the only one for what is pinned or has a mere name.
    pub(super) fn way_in(&mut self, now: Instant, dialog: &Dialog) -> Result<Flow, Unsendable> {
        let last = dialog.flow;
        let stands = self.transports.stands(&last);
        // Nobody connects to a browser: whatever it calls itself, it is where its connection ends (RFC 7118
        // appendix B.1 lets it be a name that leads nowhere).
        if last.transport.is_framed() {
            return stands.then_some(last).ok_or(Unsendable);
        }
        let Some((transport, address)) = hop(dialog.next_hop(), Some(&last)) else {
            return stands.then_some(last).ok_or(Unsendable);
        };
        // What a peer writes down leads neither into this machine nor to its network's services, unless
        // it is there itself (threat 13).
        let peer = PeerPolicy { accept_foreign: true, ..PeerPolicy::strict(last.remote.ip()) };
        if peer.judge(address).is_err() {
            return stands.then_some(last).ok_or(Unsendable);
        }
        let same_host = address.ip() == last.remote.ip() && transport == last.transport;
        if stands && (dialog.pinned || same_host && transport.is_stream()) {
            return Ok(last);
        }
        if dialog.pinned && !transport.is_stream() {
            return Err(Unsendable);
        }
        let mut way = self.transports.way_to(now, transport, address, None, &mut self.out)?;
        if transport == Transport::Udp && last.transport == Transport::Udp {
            way.local = last.local;
        }
        Ok(way)
    }

    /// Starts the transaction of a request: Via on top, our name at the end.
    pub(super) fn start(
        &mut self,
        now: Instant,
        mut request: Request,
        flow: Flow,
        owner: Owner,
    ) -> Result<ClientId, Unsendable> {
        self.sign(&mut request, &flow)?;
        let id = self.transactions.start(now, request, flow, owner).map_err(|_| Unsendable)?;
        let long = !flow.transport.is_stream() && self.transactions.octets(id) > MAX_DATAGRAM;
        self.counters.oversize = self.counters.oversize.saturating_add(u64::from(long));
        Ok(id)
    }

    /// Sends the ACK of a 2xx; it is no transaction, its repetitions follow those of the 2xx.
    pub(super) fn acknowledge(
        &mut self,
        id: ClientId,
        mut ack: Request,
        to_tag: &str,
        flow: Flow,
    ) -> Result<(), Unsendable> {
        self.sign(&mut ack, &flow)?;
        self.transactions.acknowledge(id, to_tag, flow, ack.to_bytes());
        Ok(())
    }

    /// Answers a request whose To has a tag, or needs none.
    pub(super) fn answer(&mut self, now: Instant, id: ServerId, status: u16, tag: &str) {
        self.answer_with(now, id, status, "", tag, |_| {});
    }

    /// The same, and keeps nothing of it.
    pub(super) fn answer_once(&mut self, now: Instant, id: ServerId, status: u16, tag: &str) {
        self.answer(now, id, status, tag);
        self.transactions.forget(id);
    }

    /// Answers a request with more than a status; the response is given back to be sent again.
    pub(super) fn answer_with(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        phrase: &str,
        tag: &str,
        fill: impl FnOnce(&mut Response),
    ) -> Option<Response> {
        let mut response = self.transactions.reply(id, status, phrase, tag)?;
        fill(&mut response);
        if status > 100 {
            response.headers.push(Name::Server, &self.config.product);
        }
        self.transactions.respond(now, id, &response);
        Some(response)
    }

    /// The challenged request again with its credentials, to go the same way; its CSeq is still the
    /// old one. Nothing when the account is not for that peer, or was refused.
    pub(super) fn authorize(
        &mut self,
        account: &mut auth::Client,
        id: ClientId,
        response: &Response,
    ) -> Option<(Request, Flow)> {
        let (request, flow) = self.transactions.request(id)?;
        let peer = flow.remote.ip();
        match account.answer(request, response, peer, &mut self.rng) {
            Ok((name, credentials)) => {
                let mut request = request.clone();
                request.headers.set(name, credentials);
                Some((request, flow))
            }
            Err(refusal) => {
                tracing::debug!(%refusal, %peer, "challenge not answered");
                None
            }
        }
    }

    /// Credentials for a new request to the same peer, before it asks.
    pub(super) fn authorize_next(&mut self, account: &mut auth::Client, request: &mut Request) {
        if let Some((name, credentials)) = account.next(&request.method, &request.uri, &mut self.rng) {
            request.headers.set(name, credentials);
        }
    }

    /// Our Contact on that way.
    pub(super) fn contact(&self, flow: &Flow, user: Option<&str>, secure: bool) -> Option<NameAddr> {
        let (host, port) = self.transports.listen_for(flow)?.name(flow, self.config.towards.as_ref());
        let mut uri = SipUri::new(None, host, Some(port));
        uri.user = user.map(str::to_owned);
        uri.secure = secure;
        if flow.transport.is_stream() {
            uri.set_param("transport", Some(uri_word(flow.transport)));
        }
        Some(NameAddr::new(uri))
    }

    /// Does what the transactions want sent; answers the first other action.
    pub(super) fn next_action(&mut self, now: Instant) -> Option<Action<Owner>> {
        loop {
            match self.transactions.poll()? {
                Action::Send { reply, data } => self.transmit(now, reply, data),
                other => return Some(other),
            }
        }
    }

    /// Sends what no transaction remembers.
    pub(super) fn transmit(&mut self, now: Instant, reply: Reply, data: Bytes) {
        let told = self.tap.is_some().then(|| data.clone());
        if self.transports.send(now, reply, data, &mut self.out).is_err() {
            self.counters.unsendable = self.counters.unsendable.saturating_add(1);
            self.transactions.flow_lost(&reply.flow);
        } else if let Some(data) = told {
            self.said(now, reply.flow, data);
        }
    }

    fn sign(&mut self, request: &mut Request, flow: &Flow) -> Result<(), Unsendable> {
        let listen = self.transports.listen_for(flow).ok_or(Unsendable)?;
        let (host, port) = listen.name(flow, self.config.towards.as_ref());
        let token = self.token();
        let branch = match request.method {
            Method::Invite => self.loops.branch(&token, &request.uri),
            _ => format!("{MAGIC_COOKIE}{token}"),
        };
        request.headers.remove(&Name::Via);
        request.headers.push_front(Name::Via, Via::new(flow.transport, host, Some(port), &branch));
        request.headers.set(Name::UserAgent, &self.config.product);
        Ok(())
    }
}

/// Transport and address of a URI whose host is an address (RFC 3263 section 4, without names).
/// `last`: the way on which its owner was heard; a URI that names no transport means that one.
fn hop(uri: &Uri, last: Option<&Flow>) -> Option<(Transport, SocketAddr)> {
    let sip = uri.as_sip()?;
    let host = sip.params.get("maddr").and_then(|m| super::Host::parse(m).ok());
    let ip = host.as_ref().unwrap_or(&sip.host).address()?;
    let transport = match sip.transport().map(str::to_ascii_lowercase).as_deref() {
        _ if sip.secure => Transport::Tls,
        Some("tcp") => Transport::Tcp,
        Some("tls") => Transport::Tls,
        Some("udp") => Transport::Udp,
        Some(_) => return None,
        None => last.filter(|l| l.remote.ip() == ip).map_or(Transport::Udp, |l| l.transport),
    };
    let default = if transport == Transport::Tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
    Some((transport, SocketAddr::new(ip, sip.port.unwrap_or(default))))
}
