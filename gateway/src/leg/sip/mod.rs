//! SIP legs: one machine for the whole gateway, one actor for each call.

mod actor;
mod cause;
mod dns;
mod hop;
mod info;
mod ladder;
mod locate;
mod mask;
mod media;
mod trunk;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crosspoint_codecs::format::Capabilities;
use crosspoint_proto::Transport;
use crosspoint_proto::address::{OwnPorts, PeerPolicy, Prefix};
use crosspoint_proto::rtp::session::SourcePolicy;
use crosspoint_proto::sdp::{Encryption, EncryptionPolicy, Negotiation, SessionParameters};
use crosspoint_proto::sip::{
    CallId, Command, Destination, Event, Flow, Host, Incoming, Invite, NameAddr, Params, Replaced, Sighted,
    SipUri, Source, Uri,
};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::actor::{Actor, State, Way};
use self::dns::System;
use self::hop::{Hop, Network};
use self::locate::Failures;
use self::media::{Lines, Site};
pub use self::trunk::{NowFn, Reach, TrunkRegistration, TrunkView, Trunks, policy};
use super::{Address, COMMANDS, Caller, EVENTS, HOPS, Leg, LegEvent, LegId, Origin, Party, Protocol, Proven};
use crate::cause::{Cause, Reason};
use crate::config::{CodecChoice, Listen, transport_word};
use crate::events::Events;
use crate::ladder::Ladder;
use crate::net::media::MediaNet;

/// Machine events that wait for one leg. A leg handles them at once; overflow means that its
/// conference hangs, and the leg is ended.
const INBOX: usize = 64;

/// Retry-After of a refusal for congestion or shutdown, in seconds: long enough that a crowd does
/// not come back as one.
const RETRY_AFTER: u32 = 10;

/// How SIP legs are set up.
#[derive(Clone, Debug)]
pub struct SipLegConfig {
    /// Local address of media sockets.
    pub bind: IpAddr,
    /// The address in SDP; `None`: the one that the peer is reached from.
    pub advertised: Option<IpAddr>,
    /// Whether media is encrypted.
    pub encryption: EncryptionPolicy,
    /// Keys may cross signalling without TLS.
    pub insecure_keys: bool,
    /// Networks whose media addresses are believed.
    pub allow: Vec<Prefix>,
    /// Where the machine listens, and with what it can send.
    pub listening: Vec<Listen>,
    /// Listeners of our own: never a place to send media to.
    pub own: Vec<OwnPorts>,
    /// Registered devices behind NAT may send from another port than they said.
    pub latching: bool,
    /// Silence after which a leg counts as dead.
    pub media_timeout: Option<Duration>,
    /// Devices that are held to some codecs.
    pub codecs: HashMap<String, Vec<CodecChoice>>,
    /// The host in From of calls to others: our domain or address. `None`: the address that leads to them.
    pub domain: Option<Host>,
    /// Whom calls come from and go to by name.
    pub trunks: Trunks,
}

/// The SIP side of one gateway. Clones share it.
#[derive(Clone, Debug)]
pub struct SipLegs(Arc<Inner>);

/// What is known of a call of the machine, as long as it has it.
#[derive(Default)]
struct Known {
    ladder: Ladder,
    /// Who its far end has proven to be, and which leg that is.
    whose: Option<(Proven, LegId)>,
}

/// What all SIP legs have in common.
pub(super) struct Inner {
    machine: mpsc::Sender<Command>,
    net: Arc<MediaNet>,
    config: SipLegConfig,
    network: Arc<dyn Network>,
    failures: Mutex<Failures>,
    rng: Mutex<ChaCha12Rng>,
    inboxes: Mutex<HashMap<CallId, mpsc::Sender<Event>>>,
    /// Of every call that the machine has: their legs may be there before, and no longer.
    known: Mutex<HashMap<CallId, Known>>,
    next_call: AtomicU64,
    next_leg: Arc<AtomicU64>,
}

impl SipLegs {
    /// Legs on the machine behind `machine`. `next_leg` numbers the legs of the whole gateway.
    pub fn new(
        machine: mpsc::Sender<Command>,
        net: Arc<MediaNet>,
        config: SipLegConfig,
        rng: ChaCha12Rng,
        next_leg: Arc<AtomicU64>,
    ) -> Self {
        Self::on(Arc::new(System::new()), machine, net, config, rng, next_leg)
    }

    fn on(
        network: Arc<dyn Network>,
        machine: mpsc::Sender<Command>,
        net: Arc<MediaNet>,
        config: SipLegConfig,
        rng: ChaCha12Rng,
        next_leg: Arc<AtomicU64>,
    ) -> Self {
        Self(Arc::new(Inner {
            machine,
            net,
            config,
            network,
            failures: Mutex::default(),
            rng: Mutex::new(rng),
            inboxes: Mutex::default(),
            known: Mutex::default(),
            next_call: AtomicU64::new(1),
            next_leg,
        }))
    }

    /// Begins to keep the trunks: they are asked whether they are there, and registered at.
    pub fn keep_trunks(&self, events: &Events, now: NowFn) -> JoinSet<()> {
        let Inner { config, machine, network, .. } = &*self.0;
        config.trunks.start(machine, network, &config.listening, events, &now, |seed| self.0.random(seed))
    }

    /// The machine is gone: no leg waits any longer for a word of it, and all end.
    pub fn abandon(&self) {
        self.0.inboxes().clear();
    }

    /// Hands an event of the machine to the leg that it is for.
    pub fn deliver(&self, event: Event) {
        match event {
            Event::Sighted(sighted) => return self.0.sighted(&sighted),
            Event::Released { call } => {
                self.0.known().remove(&call);
                return;
            }
            _ => {}
        }
        let Some(call) = call_of(&event) else { return };
        let inbox = self.0.inboxes().get(&call).cloned();
        let Some(inbox) = inbox else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = inbox.try_send(event) {
            tracing::error!(%call, "a leg does not keep up with its own signalling and is ended");
            self.0.forget(call);
        }
    }

    /// The leg whose place a new call of `by` may take; else the status that refuses it (RFC 3891 section
    /// 3): 403 to who has proven nothing, 481 where there is no such dialog or it is another's.
    pub fn replaceable(&self, by: Option<&Proven>, replaced: Replaced) -> Result<LegId, u16> {
        self.0.replaceable(by, replaced)
    }

    /// Makes a leg of a call that came in. `proven` says which device or trunk it is, when it proved it.
    /// `None`: its offer cannot be understood, and it has been refused.
    pub fn incoming(&self, incoming: Incoming, proven: Option<Proven>) -> Option<Leg> {
        let Incoming { call, request, source, body, .. } = incoming;
        let from = request.headers.from();
        let called = request.uri.alias();
        let (device, trunk) = match proven {
            Some(Proven::Device(alias)) => (Some(alias), None),
            Some(Proven::Trunk(name)) => (None, Some(name)),
            None => (None, None),
        };
        let party = Party {
            protocol: "sip",
            origin: Origin::Incoming,
            address: match (&device, &from) {
                (Some(alias), _) => alias.clone(),
                (None, Some(from)) => from.uri.alias(),
                (None, None) => String::new(),
            },
            name: clean(from.as_ref().and_then(|from| from.display.as_deref()).unwrap_or_default()),
            called,
            uri: Some(dialled(&request.uri)),
            device,
            trunk,
            signalling: Some(source.remote),
            transport: transport_word(source.transport),
            hops: request.headers.max_forwards().unwrap_or(HOPS),
        };
        let device = party.device.is_some();
        let (leg, mut actor) = self.leg(call, party, &Peer::of(&source, device), None);
        let offered = body.as_ref().map(|body| actor.read_offer(body));
        let offered = match offered.transpose() {
            Ok(offered) => offered,
            Err(reason) => {
                let refuse = Cause::local(reason);
                tokio::spawn(async move {
                    actor.refuse(refuse).await;
                });
                return None;
            }
        };
        actor.state.offered = offered.is_some();
        // The queue is empty: the offer is the first thing in it.
        let _ = actor.events.try_send(LegEvent::Offered(offered));
        tokio::spawn(Box::pin(actor.run()));
        Some(leg)
    }

    fn leg(&self, call: CallId, party: Party, peer: &Peer, thread: Option<usize>) -> (Leg, Actor) {
        let inner = &self.0;
        let id = LegId(inner.next_leg.fetch_add(1, Ordering::Relaxed));
        let thread = thread.unwrap_or_else(|| inner.net.quietest());
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (event_queue, events) = mpsc::channel(EVENTS);
        let (inbox, inbox_queue) = mpsc::channel(INBOX);
        inner.inboxes().insert(call, inbox);
        let ladder = {
            let mut all = inner.known();
            let known = all.entry(call).or_default();
            known.whose = party.proven().map(|proven| (proven, id));
            known.ladder.clone()
        };
        let advertised = inner.advertised(peer.address.ip());
        let site = Site {
            net: inner.net.clone(),
            bind: inner.bind(peer.address.ip()),
            advertised,
            thread,
            timeout: inner.config.media_timeout,
            proven: peer.proven.then(|| peer.address.ip()),
        };
        let policy = PeerPolicy {
            signalling: peer.address.ip(),
            allow: inner.config.allow.clone(),
            own: inner.config.own.clone(),
            accept_foreign: peer.latched(&inner.config),
        };
        let trunk = party.trunk.as_ref().and_then(|name| inner.config.trunks.find(name));
        let encryption = Encryption {
            policy: trunk
                .as_ref()
                .and_then(|trunk| trunk.encryption)
                .map_or(inner.config.encryption, trunk::policy),
            secure_signalling: peer.transport.is_secure(),
            allow_insecure: inner.config.insecure_keys,
        };
        let mut session = [0; 8];
        inner.random(&mut session);
        let session = u64::from_be_bytes(session);
        let parameters = SessionParameters {
            session_id: session,
            address: advertised,
            encryption,
            certificate: Some(inner.net.fingerprint().clone()),
            peer: policy,
        };
        let negotiation = Negotiation::new(parameters);
        let source = if peer.latched(&inner.config) {
            SourcePolicy::Latch(peer.address.ip())
        } else {
            SourcePolicy::Strict
        };
        let codecs = party.device.as_ref().and_then(|alias| inner.config.codecs.get(alias)).cloned();
        let codecs = codecs.or_else(|| trunk.map(|trunk| trunk.codecs.clone())).unwrap_or_default();
        let actor = Actor {
            codecs: codecs.clone(),
            inner: inner.clone(),
            call,
            inbox: inbox_queue,
            commands: command_queue,
            events: event_queue,
            negotiation,
            lines: Lines::new(site, format!("{session:x}")),
            source,
            ladder: ladder.clone(),
            state: State::default(),
        };
        (Leg { id, answers_as: None, party, thread, codecs, ladder, commands, events }, actor)
    }
}

impl Protocol for SipLegs {
    fn schemes(&self) -> &'static [&'static str] {
        &["sip", "sips"]
    }

    fn dial(
        &self,
        to: &Address,
        from: &Caller,
        offer: Capabilities,
        thread: Option<usize>,
    ) -> Result<Leg, Cause> {
        let unusable = |_| Cause::local(Reason::NotFound);
        let target = Uri::parse(&to.uri).map_err(unusable)?;
        let sip = match &target {
            Uri::Sip(sip) => sip.clone(),
            _ => return Err(Cause::local(Reason::NotFound)),
        };
        let flow: Option<Flow> = match &to.flow {
            Some(flow) => Some(flow.parse().map_err(|_| Cause::local(Reason::Unavailable))?),
            None => None,
        };
        let trunk = match &to.trunk {
            // Taken out of the configuration between two looks.
            Some(name) => {
                let found = self.0.config.trunks.find(name);
                Some(found.ok_or_else(|| Cause::local(Reason::Unreachable))?)
            }
            None => None,
        };
        let proxy = trunk.as_ref().map(|trunk| trunk::proxy(trunk)).or_else(|| to.proxy.clone());
        let path: Vec<NameAddr> = to.path.iter().filter_map(|it| NameAddr::parse(it).ok()).collect();
        if path.len() != to.path.len() {
            return Err(Cause::local(Reason::Internal));
        }
        let call = CallId(self.0.next_call.fetch_add(1, Ordering::Relaxed));
        let domain = trunk.as_ref().and_then(|trunk| trunk::home(trunk));
        let domain = domain.or_else(|| self.0.config.domain.clone());
        let host = domain.clone().unwrap_or_else(|| Host::from(self.0.config.bind));
        let mut unnamed = domain.is_none();
        let mut caller = SipUri::new(Some(user_of(&from.address)), host, None);
        if let Some((user, host)) = from.address.rsplit_once('@')
            && let Ok(host) = Host::parse(host)
        {
            caller = SipUri::new(Some(user), host, None);
            unnamed = false;
        }
        let invite = Invite {
            call,
            target,
            destination: flow.map_or(Destination::Target, Destination::Flow),
            from: NameAddr::new(caller).with_display(&from.name),
            to: None,
            body: None,
            routes: match &to.trunk {
                Some(trunk) => self.0.config.trunks.service_route(trunk),
                None => path.clone(),
            },
            headers: Vec::new(),
            account: None,
            max_forwards: from.hops,
            elsewhere: false,
        };
        // Where the flow of its registration is gone, it is reached by the proxies that it came by.
        let nearest = path.first().and_then(|it| it.uri.as_sip());
        let hop = Hop::of(nearest.unwrap_or(&sip), flow.as_ref(), proxy.as_ref());
        let named = nearest.is_some() && hop.address().is_none();
        let party = Party {
            protocol: "sip",
            origin: Origin::Outgoing,
            address: to.uri.clone(),
            name: String::new(),
            called: to.uri.clone(),
            uri: None,
            device: to.device.clone(),
            trunk: to.trunk.clone(),
            signalling: None,
            transport: transport_word(hop.transport),
            hops: from.hops,
        };
        // A device that registered is as trusted as when it did so.
        let device = to.device.is_some();
        let this = self.clone();
        let credentials = proxy.and_then(|proxy| proxy.credentials);
        let known = flow.as_ref().map(Flow::remote).or_else(|| hop.address());
        let peer = Peer {
            address: known.unwrap_or_else(|| SocketAddr::new(self.0.config.bind, 0)),
            transport: hop.transport,
            translated: to.translated,
            device,
            // It registered over this flow.
            proven: device && flow.is_some(),
        };
        let (leg, mut actor) = self.leg(call, party, &peer, thread);
        let has_flow = flow.is_some();
        if let Some(flow) = &flow {
            actor.set_out_by_flow(self.0.other_flows(to, flow), &offer);
        }
        tokio::spawn(Box::pin(async move {
            let mut invite = invite;
            invite.elsewhere = actor.may_go_elsewhere();
            let mut reached = known.map(|address| address.ip());
            if !has_flow {
                let places = match actor.find(&hop).await {
                    Ok(places) => places,
                    Err(cause) => return actor.fail(cause).await,
                };
                let mut places = places;
                if named {
                    // An address was looked at when it was registered; what a name is now was not.
                    places.retain(|place| this.0.is_elsewhere(place.address));
                }
                let peers: Vec<_> = places.iter().map(|place| place.address.ip()).collect();
                let Some(place) = actor.set_out(places, &offer) else {
                    return actor.fail(Cause::local(Reason::Unreachable)).await;
                };
                reached = Some(place.address.ip());
                invite.destination = place.destination();
                invite.elsewhere = actor.may_go_elsewhere();
                invite.account = credentials.map(|it| trunk::account(&it, peers));
            }
            if let (true, Some(peer), Uri::Sip(uri)) = (unnamed, reached, &mut invite.from.uri)
                && let Ok(own) = this.0.network.local_address_towards(peer)
            {
                uri.host = Host::from(own);
            }
            match actor.write_offer(&offer) {
                Ok(body) => {
                    invite.body = Some(body);
                    if this.0.machine.send(Command::Invite(Box::new(invite))).await.is_err() {
                        return actor.fail(Cause::local(Reason::Shutdown)).await;
                    }
                    actor.run().await;
                }
                Err(reason) => actor.fail(Cause::local(reason)).await,
            }
        }));
        Ok(leg)
    }
}

/// What is known of the far end before anything is agreed.
struct Peer {
    address: SocketAddr,
    transport: Transport,
    translated: bool,
    device: bool,
    /// The device is at `address`: it answered a challenge there, and nonces are bound to the address
    /// that they were sent to ([`crosspoint_proto::sip::auth::Verifier`]).
    proven: bool,
}

impl Peer {
    const fn of(source: &Source, device: bool) -> Self {
        Self {
            address: source.remote,
            transport: source.transport,
            translated: source.translated,
            device,
            proven: device,
        }
    }

    /// Media may be latched: a device that authenticated, behind a NAT.
    const fn latched(&self, config: &SipLegConfig) -> bool {
        config.latching && self.device && self.translated
    }
}

impl Inner {
    /// The leg is over: events for it have nowhere to go.
    fn forget(&self, call: CallId) {
        self.inboxes().remove(&call);
    }

    /// A message of a call came or went.
    fn sighted(&self, sighted: &Sighted) {
        let ladder = self.known().entry(sighted.call).or_default().ladder.clone();
        let message = ladder::line_of(sighted);
        if let Some(shown) = ladder.shown() {
            let mut data = sighted.data.to_vec();
            mask::mask(&mut data, shown.keys);
            let ends = (sighted.flow.local(), sighted.flow.remote());
            let (from, to) = if sighted.sent { ends } else { (ends.1, ends.0) };
            shown.capture.put(from, to, message.transport, &data);
        }
        ladder.message(Instant::now(), message);
    }

    fn random(&self, bytes: &mut [u8]) {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }

    /// Where media sockets for `peer` are bound: all addresses are those of its family as well.
    fn bind(&self, peer: IpAddr) -> IpAddr {
        match (self.config.bind, peer.to_canonical()) {
            (bind, IpAddr::V4(_)) if bind.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
            (bind, IpAddr::V6(_)) if bind.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
            (bind, _) => bind,
        }
    }

    /// The device of `to` by its other flows. Keys are not sent by a weaker one than the first.
    fn other_flows(&self, to: &Address, first: &Flow) -> Vec<Way> {
        let way = |other: &Address| {
            let flow: Flow = other.flow.as_ref()?.parse().ok()?;
            if first.transport().is_secure() && !flow.transport().is_secure() {
                return None;
            }
            let routes = other.path.iter().map(|it| NameAddr::parse(it).ok()).collect::<Option<_>>()?;
            let latched = self.config.latching && other.device.is_some() && other.translated;
            Some(Way { target: Uri::parse(&other.uri).ok()?, routes, flow, latched })
        };
        to.instead.iter().filter_map(way).collect()
    }

    /// Our media address as `peer` must write it. A public address is one of its own family.
    fn advertised(&self, peer: IpAddr) -> IpAddr {
        let (bind, peer) = (self.bind(peer), peer.to_canonical());
        match self.config.advertised {
            Some(public) if public.is_ipv4() == peer.is_ipv4() => public,
            _ if bind.is_unspecified() => self.network.local_address_towards(peer).unwrap_or(bind),
            _ => bind,
        }
    }

    /// Whether an address that somebody else's name leads to is neither ours nor one of a forbidden class
    /// (threat 13).
    fn is_elsewhere(&self, address: SocketAddr) -> bool {
        let nobody = PeerPolicy::strict(Ipv4Addr::UNSPECIFIED.into());
        let policy = PeerPolicy { accept_foreign: true, own: self.config.own.clone(), ..nobody };
        policy.judge(address).is_ok()
    }

    /// Further headers of a refusal.
    fn refusal_headers(&self, reason: Reason) -> Vec<(String, String)> {
        match reason {
            Reason::Congestion | Reason::Shutdown => {
                vec![("Retry-After".to_owned(), RETRY_AFTER.to_string())]
            }
            _ => Vec::new(),
        }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<CallId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leg whose place `by` may take with what it names; else the status to answer (RFC 3891 section
    /// 3). To who is not a party of that dialog, by the same proof, there is none.
    fn replaceable(&self, by: Option<&Proven>, replaced: Replaced) -> Result<LegId, u16> {
        let by = by.ok_or(403_u16)?;
        let Replaced::Call { call, refusal } = replaced else { return Err(481) };
        let known = self.known();
        let whose = known.get(&call).and_then(|known| known.whose.as_ref());
        let (_, leg) = whose.filter(|(proven, _)| proven == by).ok_or(481_u16)?;
        refusal.map_or(Ok(*leg), Err)
    }

    /// The same for who speaks on the leg of `call`.
    fn replaceable_by_leg(&self, call: CallId, replaced: Replaced) -> Result<LegId, u16> {
        let by = self.known().get(&call).and_then(|known| known.whose.clone());
        self.replaceable(by.map(|(proven, _)| proven).as_ref(), replaced)
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<CallId, mpsc::Sender<Event>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipLegs").field("calls", &self.inboxes().len()).finish_non_exhaustive()
    }
}

fn user_of(address: &str) -> &str {
    address.split('@').next().unwrap_or(address)
}

/// A URI as routing wants it: its headers and most of its parameters are nobody's business.
pub fn dialled(uri: &Uri) -> String {
    let Uri::Sip(sip) = uri else { return uri.alias() };
    let mut named = sip.clone();
    (named.password, named.params, named.headers) = (None, Params::default(), Vec::new());
    if let Some(transport) = sip.transport() {
        named.params.set("transport", Some(transport));
    }
    named.to_string()
}

/// A display name without what could break a line of a log or a page.
fn clean(name: &str) -> String {
    name.chars().filter(|sign| !sign.is_control()).take(64).collect()
}

fn call_of(event: &Event) -> Option<CallId> {
    match event {
        Event::Ringing { call, .. }
        | Event::Progress { call, .. }
        | Event::Answered { call, .. }
        | Event::Acked { call, .. }
        | Event::Reinvite { call, .. }
        | Event::ReinviteCancelled { call }
        | Event::ReinviteAnswered { call, .. }
        | Event::ReinviteRefused { call, .. }
        | Event::Refreshed { call, .. }
        | Event::Info { call, .. }
        | Event::InfoAnswered { call, .. }
        | Event::Refer { call, .. }
        | Event::Unreached { call, .. }
        | Event::Ended { call, .. } => Some(*call),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
