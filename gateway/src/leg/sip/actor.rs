//! One SIP leg: between the machine's events and the conference's commands, with the negotiation
//! and the media ports in its hands.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use crosspoint_codecs::format::{Capabilities, MediaKind};
use crosspoint_proto::address::PeerPolicy;
use crosspoint_proto::rtp::session::SourcePolicy;
use crosspoint_proto::sdp::{AgreedLine, LocalMedia, Negotiation, Preference};
use crosspoint_proto::sip::{
    Body, CallId, Command, Destination, Elsewhere, Event, Flow, How, NameAddr, Replaced, Uri,
};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::hop::Hop;
use super::locate::{self, Place};
use super::media::Lines;
use super::{Inner, cause, info, ladder};
use crate::cause::{Cause, Reason};
use crate::config::{CodecChoice, transport_word};
use crate::ladder::Ladder;
use crate::leg::{LegCommand, LegEvent, LegStream};
use crate::media::port::{StreamEvent, StreamPort};

/// How long a key is sounded when it is sent in the media: what phones do (RFC 4733 asks for at
/// least 40 ms).
const DTMF_LENGTH: Duration = Duration::from_millis(160);

/// A key that comes by two methods comes once: the second report within this time is the echo of
/// the first.
const DTMF_ECHO: Duration = Duration::from_millis(1_000);

/// The actor of one leg.
pub(super) struct Actor {
    pub(super) inner: Arc<Inner>,
    pub(super) call: CallId,
    pub(super) inbox: mpsc::Receiver<Event>,
    pub(super) commands: mpsc::Receiver<LegCommand>,
    pub(super) events: mpsc::Sender<LegEvent>,
    pub(super) negotiation: Negotiation,
    pub(super) lines: Lines,
    pub(super) source: SourcePolicy,
    /// What the device is held to; empty: nothing.
    pub(super) codecs: Vec<CodecChoice>,
    /// What happens is written there.
    pub(super) ladder: Ladder,
    pub(super) state: State,
}

/// Where the leg is, as far as the conference's commands depend on it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The call stands.
    pub(super) answered: bool,
    /// An incoming call had an offer.
    pub(super) offered: bool,
    /// What we answered early: it is the answer, whatever comes later (RFC 3261 section 13.2.1).
    early: Option<(Bytes, Vec<LegStream>)>,
    /// Our offer went out in a 200; the answer comes with the ACK.
    awaiting_ack: bool,
    /// The peer's re-INVITE had no offer: ours goes into the 200.
    offerless_reinvite: bool,
    /// The last key and how it came.
    key: Option<(char, DtmfMethod, Instant)>,
    /// Where the call went, and where it may go yet. Bounded by what a name leads to.
    place: Option<Place>,
    places: VecDeque<Place>,
    /// Other flows of the device that is called.
    flows: VecDeque<Way>,
    /// What it was to offer there.
    wanted: Capabilities,
    /// We were told to hang up: the cause to report.
    hung_up: Option<Cause>,
}

/// Another flow of a device.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) target: Uri,
    pub(super) routes: Vec<NameAddr>,
    pub(super) flow: Flow,
    /// Its media may be latched.
    pub(super) latched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DtmfMethod {
    Media,
    Info,
}

/// What to do after an event or a command.
enum Next {
    Go,
    End(Cause),
}

impl Actor {
    /// Runs the leg to its end. Its last event is `Ended`.
    pub(super) async fn run(mut self) {
        let cause = loop {
            let next = tokio::select! {
                event = self.inbox.recv() => match event {
                    Some(event) => self.told(event).await,
                    // Overrun, or the gateway is gone: the far end is told where that is possible.
                    None => {
                        self.hang_up(Cause::local(Reason::Congestion)).await;
                        Next::End(Cause::local(Reason::Congestion))
                    }
                },
                command = self.commands.recv(), if self.state.hung_up.is_none() => match command {
                    Some(command) => self.commanded(command).await,
                    // The conference is gone: nobody will say goodbye for it.
                    None => self.hang_up(Cause::local(Reason::Internal)).await,
                },
                (role, event) = next_stream_event(&mut self.lines) => self.stream(role, event).await,
            };
            if let Next::End(cause) = next {
                break cause;
            }
        };
        self.inner.forget(self.call);
        let cause = self.state.hung_up.unwrap_or(cause);
        self.note(&format!("over: {} ({})", cause.reason.word(), cause.side.word()));
        let _ = self.events.send(LegEvent::Ended(cause)).await;
    }

    /// Where the next hop may be, the best place first. Who hangs up is not kept waiting for a name:
    /// nothing was sent yet, so there is nobody to tell.
    pub(super) async fn find(&mut self, hop: &Hop) -> Result<Vec<Place>, Cause> {
        let inner = self.inner.clone();
        let mut seed = [0; 32];
        inner.random(&mut seed);
        let mut rng = ChaCha12Rng::from_seed(seed);
        let until = Instant::now() + locate::PATIENCE;
        let mut found = pin!(locate::locate(hop, &*inner.network, &inner.config.listening, until, &mut rng));
        loop {
            tokio::select! {
                found = &mut found => {
                    let mut places = found.map_err(Cause::local)?;
                    inner.failures().put_last(Instant::now(), &mut places);
                    return Ok(places);
                }
                command = self.commands.recv() => match command {
                    Some(LegCommand::Hangup(cause)) => return Err(cause),
                    // Nothing else means anything yet.
                    Some(_) => {}
                    None => return Err(Cause::local(Reason::Internal)),
                },
            }
        }
    }

    /// The call goes to the first of `places`; to the others if that cannot take it.
    pub(super) fn set_out(&mut self, places: Vec<Place>, wanted: &Capabilities) -> Option<Place> {
        self.state.places = places.into();
        self.state.wanted = wanted.clone();
        self.next_place()
    }

    /// The call goes to a device by a flow; by these if that is gone.
    pub(super) fn set_out_by_flow(&mut self, flows: Vec<Way>, wanted: &Capabilities) {
        self.state.flows = flows.into();
        self.state.wanted = wanted.clone();
    }

    pub(super) fn may_go_elsewhere(&self) -> bool {
        !self.state.places.is_empty() || !self.state.flows.is_empty()
    }

    fn next_place(&mut self) -> Option<Place> {
        let place = self.state.places.pop_front()?;
        self.found(place.address);
        let more = if self.state.places.is_empty() { "" } else { ", there are others" };
        let by = place.transport.map_or("udp or tcp", transport_word);
        self.note(&format!("goes to {} by {by}{more}", place.address));
        self.state.place = Some(place.clone());
        Some(place)
    }

    /// Nobody took the call where it went (RFC 3263 section 4.3).
    async fn unreached(&mut self, how: How, pause: Option<Duration>) -> Next {
        if let Some(failed) = self.state.place.take() {
            tracing::info!(address = %failed.address, ?how, "a call goes to the next place");
            self.note(&format!("{} does not take it: {}", failed.address, refusal_word(how)));
            self.inner.failures().note(Instant::now(), &failed, pause);
        }
        if self.state.hung_up.is_some() {
            return Next::Go;
        }
        if let Some(way) = self.state.flows.pop_front() {
            return self.go_by(way, how).await;
        }
        let Some(place) = self.next_place() else {
            return self.hang_up(Cause::local(Reason::Unreachable)).await;
        };
        // Our own address may be another one towards there.
        self.go(place.destination(), None).await
    }

    /// The same device by another of its flows (RFC 5626 section 7).
    async fn go_by(&mut self, way: Way, how: How) -> Next {
        let remote = way.flow.remote();
        tracing::info!(%remote, ?how, "a call goes by another flow of the device");
        self.note(&format!("{}: goes by another flow of the device, {remote}", refusal_word(how)));
        self.found(remote);
        let policy = self.negotiation.parameters().peer.clone();
        self.negotiation.set_peer(PeerPolicy { accept_foreign: way.latched, ..policy });
        self.source = if way.latched { SourcePolicy::Latch(remote.ip()) } else { SourcePolicy::Strict };
        self.go(Destination::Flow(way.flow), Some((way.target, way.routes))).await
    }

    async fn go(&mut self, destination: Destination, target: Option<(Uri, Vec<NameAddr>)>) -> Next {
        self.negotiation.withdraw_offer();
        let wanted = self.state.wanted.clone();
        match self.write_offer(&wanted) {
            Ok(body) => {
                let (call, body, elsewhere) = (self.call, Some(body), self.may_go_elsewhere());
                let next = Elsewhere { call, destination, target, body, elsewhere };
                self.machine(Command::Elsewhere(Box::new(next))).await
            }
            Err(reason) => self.hang_up(Cause::local(reason)).await,
        }
    }

    /// The far end is there: from now on it is known what we are called towards it, and whose media
    /// is believed.
    fn found(&mut self, address: SocketAddr) {
        let advertised = self.inner.advertised(address.ip());
        let policy = self.negotiation.parameters().peer.clone();
        self.negotiation.set_peer(PeerPolicy { signalling: address.ip(), ..policy });
        self.negotiation.set_address(advertised);
        self.lines.settle(self.inner.bind(address.ip()), advertised);
        if let SourcePolicy::Latch(ip) = &mut self.source {
            *ip = address.ip();
        }
    }

    /// Refuses an incoming call before anybody has seen it.
    pub(super) async fn refuse(mut self, cause: Cause) {
        self.hang_up(cause).await;
        self.inner.forget(self.call);
    }

    /// Ends an outgoing leg that never began.
    pub(super) async fn fail(self, cause: Cause) {
        self.inner.forget(self.call);
        self.inner.known().remove(&self.call);
        self.note(&format!("over before it began: {}", cause.reason.word()));
        let _ = self.events.send(LegEvent::Ended(cause)).await;
    }

    async fn told(&mut self, event: Event) -> Next {
        match event {
            Event::Ringing { .. } => self.tell(LegEvent::Ringing).await,
            Event::Progress { body, .. } => {
                // A body that is no answer, or a second one of another phone that rings, is passed
                // over: the final answer counts.
                match self.read_answer(&body) {
                    Ok(streams) => {
                        // Some carriers answer with a bare 200 after this.
                        self.state.early = Some((Bytes::new(), streams.clone()));
                        self.tell(LegEvent::Progress(streams)).await
                    }
                    Err(_) => self.tell(LegEvent::Ringing).await,
                }
            }
            Event::Answered { body, .. } => {
                let streams = match (&body, self.state.early.take()) {
                    (Some(body), _) => self.read_answer(body),
                    (None, Some((_, streams))) => Ok(streams),
                    (None, None) => Err(Reason::NotAcceptable),
                };
                match streams {
                    Ok(streams) => {
                        self.state.answered = true;
                        self.tell(LegEvent::Answered(streams)).await
                    }
                    Err(reason) => self.hang_up(Cause::local(reason)).await,
                }
            }
            Event::Acked { body, .. } if self.state.awaiting_ack => {
                self.state.awaiting_ack = false;
                let streams = body.ok_or(Reason::NotAcceptable).and_then(|body| self.read_answer(&body));
                match streams {
                    Ok(streams) if self.state.offerless_reinvite => {
                        self.state.offerless_reinvite = false;
                        self.tell(LegEvent::Changed(streams)).await
                    }
                    Ok(streams) => self.tell(LegEvent::Answered(streams)).await,
                    Err(reason) => self.hang_up(Cause::local(reason)).await,
                }
            }
            Event::Acked { .. } => Next::Go,
            Event::Reinvite { body, .. } => self.reinvited(body).await,
            Event::ReinviteCancelled { .. } => {
                if std::mem::take(&mut self.state.offerless_reinvite) && self.state.awaiting_ack {
                    // Our offer crossed it on the way to the machine: nobody will answer it.
                    self.state.awaiting_ack = false;
                    self.negotiation.withdraw_offer();
                }
                self.negotiation.refuse_offer();
                self.tell(LegEvent::ReofferWithdrawn).await
            }
            Event::ReinviteAnswered { body, .. } => {
                match body.ok_or(Reason::NotAcceptable).and_then(|body| self.read_answer(&body)) {
                    Ok(streams) => self.tell(LegEvent::Changed(streams)).await,
                    Err(_) => {
                        self.negotiation.withdraw_offer();
                        self.tell(LegEvent::ReofferRefused).await
                    }
                }
            }
            Event::ReinviteRefused { .. } => {
                self.negotiation.withdraw_offer();
                self.tell(LegEvent::ReofferRefused).await
            }
            Event::Refreshed { body, .. } => self.refreshed(&body).await,
            Event::Info { body, .. } => self.info(&body).await,
            Event::Refer { to, replaced, referred_by, .. } => {
                let referred_by = referred_by.map(|by| by.uri.to_string());
                self.referred(to.uri, replaced, referred_by).await
            }
            Event::Unreached { how, pause, .. } => self.unreached(how, pause).await,
            Event::Ended { ending, .. } => {
                let places = cause::elsewhere(&ending);
                if !places.is_empty() {
                    self.tell(LegEvent::Elsewhere(places)).await;
                }
                Next::End(cause::of_ending(&ending))
            }
            _ => Next::Go,
        }
    }

    /// The peer sends the other party on; `replaced`: to somebody to whom it talks itself.
    async fn referred(&self, mut to: Uri, replaced: Option<Replaced>, by: Option<String>) -> Next {
        let call = self.call;
        let instead_of = match replaced.map(|it| self.inner.replaceable_by_leg(call, it)).transpose() {
            Ok(instead_of) => instead_of,
            Err(403) => return self.machine(Command::AnswerRefer { call, status: 403 }).await,
            Err(status) => {
                // As the INVITE would have been answered. A 481 to the REFER itself would say that this
                // very dialog is gone (RFC 5057 section 5.1).
                self.note(&format!("asks for a transfer to a call that is not there for it: {status}"));
                let sent = self.machine(Command::AnswerRefer { call, status: 202 }).await;
                if matches!(sent, Next::End(_)) {
                    return sent;
                }
                return self.machine(Command::ReferProgress { call, status }).await;
            }
        };
        if let (Uri::Sip(uri), Some(_)) = (&mut to, instead_of) {
            // What names a dialog is for its two ends, and for no log or record.
            uri.headers.clear();
        }
        let to = to.to_string();
        self.tell(LegEvent::Referred { to, instead_of, referred_by: by }).await
    }

    /// The machine offered again what stood (RFC 4028). Mostly the answer is the one before; an
    /// exchange that is under way says more than it.
    async fn refreshed(&mut self, body: &Body) -> Next {
        let before = self.negotiation.agreed().to_vec();
        if !self.negotiation.repeat_offer() {
            return Next::Go;
        }
        match self.read_answer(body) {
            Ok(_) if self.negotiation.agreed() == before => Next::Go,
            Ok(streams) => self.tell(LegEvent::Changed(streams)).await,
            Err(_) => {
                self.negotiation.withdraw_offer();
                Next::Go
            }
        }
    }

    async fn commanded(&mut self, command: LegCommand) -> Next {
        let call = self.call;
        match command {
            LegCommand::Ring => self.machine(Command::Ring { call }).await,
            LegCommand::Progress(wanted) => self.progress(&wanted).await,
            LegCommand::Answer(wanted) => self.answer(&wanted).await,
            LegCommand::Reoffer(wanted) => match self.write_offer(&wanted) {
                Ok(body) => self.machine(Command::Reinvite { call, body: Some(body) }).await,
                Err(_) => self.tell(LegEvent::ReofferRefused).await,
            },
            LegCommand::AcceptReoffer(wanted) => self.accept_reoffer(&wanted).await,
            LegCommand::RefuseReoffer => {
                self.state.offerless_reinvite = false;
                self.negotiation.refuse_offer();
                self.machine(Command::RefuseReinvite { call, status: 488 }).await
            }
            LegCommand::SendDtmf(digit) => match self.lines.dtmf() {
                Some(port) => {
                    let _ = port.send_dtmf(digit, DTMF_LENGTH);
                    Next::Go
                }
                None => self.machine(Command::Info { call, body: info::dtmf(digit, DTMF_LENGTH) }).await,
            },
            LegCommand::RequestKeyframe(role) => {
                // Its answer is RTCP, or the event that RTCP has no way to ask.
                if let Some(port) = self.lines.port(role) {
                    let _ = port.request_keyframe();
                }
                Next::Go
            }
            LegCommand::Referral(referral) => self.machine(cause::of_referral(call, referral)).await,
            LegCommand::Hangup(cause) => self.hang_up(cause).await,
        }
    }

    async fn progress(&mut self, wanted: &Capabilities) -> Next {
        // Without an offer there is nothing to answer early, and one early answer is enough.
        if !self.state.offered || self.state.early.is_some() {
            return Next::Go;
        }
        let Ok((body, streams)) = self.write_answer(wanted) else { return Next::Go };
        self.state.early = Some((body.data.clone(), streams.clone()));
        let sent = self.machine(Command::Progress { call: self.call, body }).await;
        if matches!(sent, Next::End(_)) {
            return sent;
        }
        self.tell(LegEvent::Progress(streams)).await
    }

    async fn answer(&mut self, wanted: &Capabilities) -> Next {
        if self.state.answered {
            return Next::Go;
        }
        let call = self.call;
        if !self.state.offered {
            return match self.write_offer(wanted) {
                Ok(body) => {
                    self.state.answered = true;
                    self.state.awaiting_ack = true;
                    self.machine(Command::Answer { call, body }).await
                }
                Err(reason) => self.hang_up(Cause::local(reason)).await,
            };
        }
        let answer = match self.state.early.take() {
            Some((data, streams)) => Ok((Body::sdp(data), streams)),
            None => self.write_answer(wanted),
        };
        match answer {
            Ok((body, streams)) => {
                self.state.answered = true;
                let sent = self.machine(Command::Answer { call, body }).await;
                if matches!(sent, Next::End(_)) {
                    return sent;
                }
                self.tell(LegEvent::Answered(streams)).await
            }
            Err(reason) => self.hang_up(Cause::local(reason)).await,
        }
    }

    async fn reinvited(&mut self, body: Option<Body>) -> Next {
        let Some(body) = body else {
            self.state.offerless_reinvite = true;
            return self.tell(LegEvent::Reoffered { offer: None }).await;
        };
        self.state.offerless_reinvite = false;
        // Our own offer is on its way: both wait and try again (RFC 3261 section 14.2).
        if self.negotiation.is_pending() && !self.negotiation.owes_answer() {
            return self.machine(Command::RefuseReinvite { call: self.call, status: 491 }).await;
        }
        match self.read_offer(&body) {
            Ok(offer) => self.tell(LegEvent::Reoffered { offer: Some(offer) }).await,
            Err(_) => {
                self.negotiation.refuse_offer();
                self.machine(Command::RefuseReinvite { call: self.call, status: 488 }).await
            }
        }
    }

    async fn accept_reoffer(&mut self, wanted: &Capabilities) -> Next {
        let call = self.call;
        if self.state.offerless_reinvite {
            return match self.write_offer(wanted) {
                Ok(body) => {
                    self.state.awaiting_ack = true;
                    self.machine(Command::AnswerReinvite { call, body }).await
                }
                Err(_) => self.refuse_reoffer().await,
            };
        }
        match self.write_answer(wanted) {
            Ok((body, streams)) => {
                if !self.state.answered {
                    // By UPDATE or PRACK: this is what the call is answered with now.
                    self.state.early = Some((body.data.clone(), streams.clone()));
                }
                let sent = self.machine(Command::AnswerReinvite { call, body }).await;
                if matches!(sent, Next::End(_)) {
                    return sent;
                }
                self.tell(LegEvent::Changed(streams)).await
            }
            Err(_) => self.refuse_reoffer().await,
        }
    }

    /// No answer can be made, or there is nothing to answer any more: then the machine knows it and
    /// does nothing, and the conference was told.
    async fn refuse_reoffer(&mut self) -> Next {
        let due = std::mem::take(&mut self.state.offerless_reinvite) || self.negotiation.owes_answer();
        self.negotiation.refuse_offer();
        let sent = self.machine(Command::RefuseReinvite { call: self.call, status: 488 }).await;
        if matches!(sent, Next::End(_)) || !due {
            return sent;
        }
        self.tell(LegEvent::ReofferWithdrawn).await
    }

    async fn stream(&mut self, role: MediaKind, event: StreamEvent) -> Next {
        match event {
            StreamEvent::MediaStarted => self.note(&format!("{role}: the first packet has come")),
            StreamEvent::MediaTimeout => self.note(&format!("{role}: nothing comes any more")),
            StreamEvent::EncryptionFailed => self.note(&format!("{role}: the handshake for keys failed")),
            _ => {}
        }
        match event {
            StreamEvent::Dtmf(digit) => self.key(digit, DtmfMethod::Media).await,
            StreamEvent::KeyframeNeeded => {
                let (call, body) = (self.call, info::fast_update());
                self.machine(Command::Info { call, body }).await
            }
            StreamEvent::KeysFound(suite) => {
                self.note(&format!("{role}: a handshake has found keys, {suite}"));
                Next::Go
            }
            StreamEvent::EncryptionFailed => self.hang_up(Cause::local(Reason::NotAcceptable)).await,
            event => self.tell(LegEvent::Stream { role, event }).await,
        }
    }

    fn note(&self, text: &str) {
        self.ladder.note(Instant::now(), text);
    }

    fn decided(&self, text: &str) {
        self.ladder.streams(Instant::now(), text);
    }

    async fn info(&mut self, body: &Body) -> Next {
        match info::parse(body) {
            Some(info::Meaning::Dtmf(digit)) => self.key(digit, DtmfMethod::Info).await,
            Some(info::Meaning::FastUpdate) => {
                // The stream tells its source and us, merged with requests in RTCP.
                if let Some(port) = self.lines.port(MediaKind::Main) {
                    let _ = port.keyframe_asked();
                }
                Next::Go
            }
            None => Next::Go,
        }
    }

    /// A key by one method; its echo by the other is passed over.
    async fn key(&mut self, digit: char, method: DtmfMethod) -> Next {
        let now = Instant::now();
        if let Some((before, by, at)) = self.state.key
            && before == digit
            && by != method
            && now.duration_since(at) < DTMF_ECHO
        {
            return Next::Go;
        }
        self.state.key = Some((digit, method, now));
        self.tell(LegEvent::Dtmf(digit)).await
    }

    async fn hang_up(&mut self, cause: Cause) -> Next {
        self.state.hung_up = Some(cause);
        let call = self.call;
        let reason = Some(cause::to_header(cause.reason));
        let command = if call.is_incoming() && !self.state.answered {
            let headers = self.inner.refusal_headers(cause.reason);
            let status = cause::to_status(cause.reason);
            Command::Reject { call, status, phrase: String::new(), reason, headers }
        } else {
            Command::Hangup { call, reason }
        };
        self.machine(command).await
    }

    pub(super) fn read_offer(&mut self, body: &Body) -> Result<Capabilities, Reason> {
        let offer = self.negotiation.receive_offer(&body.data).map_err(|fault| {
            tracing::info!(%fault, "an offer was not understood");
            self.ladder.streams(Instant::now(), &format!("its offer is refused: {fault}"));
            Reason::NotAcceptable
        })?;
        self.decided(&ladder::offered(&offer));
        Ok(self.permitted(&offer.capabilities))
    }

    fn read_answer(&mut self, body: &Body) -> Result<Vec<LegStream>, Reason> {
        let agreed = self.negotiation.receive_answer(&body.data).map_err(|fault| {
            tracing::info!(%fault, "an answer was not acceptable");
            self.ladder.streams(Instant::now(), &format!("its answer is no good: {fault}"));
            Reason::NotAcceptable
        })?;
        self.decided(&ladder::agreed(&agreed, self.negotiation.refused()));
        self.agreed(&agreed)
    }

    /// Our offer for a conference that wants `wanted` of this leg.
    pub(super) fn write_offer(&mut self, wanted: &Capabilities) -> Result<Body, Reason> {
        let wanted = &self.permitted(wanted);
        let local = self.local(wanted)?;
        let sdp = self.negotiation.create_offer(wanted, &local).map_err(|fault| {
            tracing::warn!(%fault, "no offer can be made");
            self.ladder.streams(Instant::now(), &format!("we can offer nothing: {fault}"));
            Reason::NotAcceptable
        })?;
        self.decided(&ladder::offering(wanted));
        Ok(Body::sdp(sdp.to_bytes()))
    }

    fn write_answer(&mut self, wanted: &Capabilities) -> Result<(Body, Vec<LegStream>), Reason> {
        let wanted = &self.permitted(wanted);
        let local = self.local(wanted)?;
        let (sdp, agreed) =
            self.negotiation.create_answer(wanted, &local, Preference::Ours).map_err(|fault| {
                tracing::info!(%fault, "an offer was not acceptable");
                self.ladder.streams(Instant::now(), &format!("its offer is refused: {fault}"));
                Reason::NotAcceptable
            })?;
        self.decided(&ladder::agreed(&agreed, self.negotiation.refused()));
        Ok((Body::sdp(sdp.to_bytes()), self.agreed(&agreed)?))
    }

    fn agreed(&mut self, agreed: &[AgreedLine]) -> Result<Vec<LegStream>, Reason> {
        if agreed.is_empty() {
            return Err(Reason::NotAcceptable);
        }
        Ok(self.lines.apply(agreed, self.source))
    }

    /// Without the codecs that the device is not to use.
    fn permitted(&self, capabilities: &Capabilities) -> Capabilities {
        let mut permitted = capabilities.clone();
        if !self.codecs.is_empty() {
            for line in &mut permitted.media {
                line.formats.retain(|format| self.codecs.iter().any(|codec| codec.is(format)));
            }
            permitted.media.retain(|line| !line.formats.is_empty());
        }
        permitted
    }

    fn local(&mut self, wanted: &Capabilities) -> Result<Vec<LocalMedia>, Reason> {
        let mut local: Vec<LocalMedia> = Vec::new();
        for line in &wanted.media {
            if local.iter().all(|media| media.role != line.role) {
                let inner = &self.inner;
                let media =
                    self.lines.local(line.role, &mut |bytes| inner.random(bytes)).map_err(|fault| {
                        tracing::warn!(%fault, "no port for media");
                        Reason::Congestion
                    })?;
                local.push(media);
            }
        }
        Ok(local)
    }

    async fn machine(&self, command: Command) -> Next {
        match self.inner.machine.send(command).await {
            Ok(()) => Next::Go,
            Err(_) => Next::End(Cause::local(Reason::Shutdown)),
        }
    }

    async fn tell(&self, event: LegEvent) -> Next {
        // A conference that is gone is noticed by its command queue.
        let _ = self.events.send(event).await;
        Next::Go
    }
}

const fn refusal_word(how: How) -> &'static str {
    match how {
        How::NoResponse => "nothing comes back",
        How::Unreachable => "it cannot be reached",
        How::FlowFailed => "the flow is gone",
        _ => "it says 503",
    }
}

async fn next_stream_event(lines: &mut Lines) -> (MediaKind, StreamEvent) {
    poll_fn(|cx| match lines.poll_event(cx) {
        Poll::Ready(event) => Poll::Ready(event),
        Poll::Pending => Poll::Pending,
    })
    .await
}
