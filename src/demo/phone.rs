//! A phone for the demo: the gateway's own SIP machine and media sockets, used as a client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use crosspoint_codecs::format::{
    AudioFormat, Capabilities, Codec, Direction, H264Profile, MediaCapability, MediaFormat, MediaKind,
    PacketizationMode, VideoFormat,
};
use crosspoint_gateway::cause::{Cause, Reason};
use crosspoint_gateway::config::{Credentials, HostPort, Listen, Proxy, Redacted};
use crosspoint_gateway::leg::sip::{SipLegConfig, SipLegs, Trunks};
use crosspoint_gateway::leg::{Address, Caller, Leg, LegCommand, LegEvent, LegStream, Protocol as _};
use crosspoint_gateway::media::port::{Arrival, Feed, Inlet, Outlet};
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver::{Driver, Settings, Sockets};
use crosspoint_gateway::net::media::{MediaConfig, MediaNet};
use crosspoint_proto::sdp::EncryptionPolicy;
use crosspoint_proto::sip::auth::{Account, Secret};
use crosspoint_proto::sip::{
    Command, Config, Destination, Endpoint, Event, Host, MAX_FORWARDS, NameAddr, Registration,
    RegistrationId, SipUri, Uri,
};
use crosspoint_proto::{Instant, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::program::Due;
use super::{DemoError, random};

/// Events of the machine, calls and answers of the registrar that wait. One call at a time: a few
/// are plenty; overflow makes the network wait.
const QUEUE: usize = 64;

/// How long anything in signalling may take on loopback, on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the media thread looks for what came: well below what a ring holds.
const LOOK: Duration = Duration::from_millis(10);

/// The ports of a phone's media: apart from those of the gateway, which sends nothing to its own.
const MEDIA_PORTS: std::ops::RangeInclusive<u16> = 22_000..=22_999;

/// Where the gateway is, and how a phone proves who it is.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
    pub(super) realm: String,
    pub(super) password: String,
}

pub(super) struct Phone {
    name: &'static str,
    clock: Clock,
    address: SocketAddr,
    driver: Driver<Command>,
    legs: SipLegs,
    net: Arc<MediaNet>,
    calls: mpsc::Receiver<Leg>,
    registered: mpsc::Receiver<Result<(), u16>>,
    dispatch: JoinHandle<()>,
}

/// A call that stands, from one phone's side.
pub(super) struct Call {
    commands: mpsc::Sender<LegCommand>,
    pub(super) streams: Vec<LegStream>,
    ended: JoinHandle<()>,
}

/// What one phone did and got during a call.
#[derive(Debug, Default)]
pub(super) struct Recording {
    /// When each sound packet was handed to the socket thread, in order.
    pub(super) sent: Vec<Instant>,
    pub(super) audio: Vec<Arrival>,
    pub(super) video: Vec<Arrival>,
    /// Frames that found no room on their way out.
    pub(super) unsent: usize,
}

impl Phone {
    pub(super) fn start(name: &'static str, clock: Clock) -> Result<Self, DemoError> {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen = [Transport::Udp, Transport::Tcp].map(|transport| Listen { transport, address: local });
        let settings = Settings {
            option: "demo",
            connections: 8,
            connections_per_source: 8,
            origins: Vec::new(),
            tls: None,
            gate: None,
            handshakes: None,
        };
        let sockets = Sockets::bind(&listen, settings)?;
        let listening = sockets.listening().to_vec();
        let address = listening.first().map_or(local, |first| first.address);
        let machine = Config::new(
            listening.iter().map(|it| crosspoint_proto::sip::Listen::new(it.transport, it.address)).collect(),
        );
        let (events, queue) = mpsc::channel(QUEUE);
        let driver = sockets.drive(Endpoint::new(machine, random()?), clock, events)?;
        let net = Arc::new(MediaNet::start(&MediaConfig { threads: 1, ports: MEDIA_PORTS }, clock)?);
        let config = SipLegConfig {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertised: None,
            encryption: EncryptionPolicy::None,
            insecure_keys: false,
            allow: Vec::new(),
            listening,
            own: Vec::new(),
            latching: false,
            media_timeout: None,
            codecs: HashMap::new(),
            trunks: Trunks::default(),
            domain: Some(Host::V4(Ipv4Addr::LOCALHOST)),
        };
        let legs =
            SipLegs::new(driver.commands(), net.clone(), config, random()?, Arc::new(AtomicU64::new(1)));
        let (call_sender, calls) = mpsc::channel(QUEUE);
        let (registered_sender, registered) = mpsc::channel(QUEUE);
        let dispatch = tokio::spawn(dispatch(queue, legs.clone(), call_sender, registered_sender));
        Ok(Self { name, clock, address, driver, legs, net, calls, registered, dispatch })
    }

    /// Registers with digest, and waits until the registrar has the binding.
    pub(super) async fn register(&mut self, home: &Home) -> Result<(), DemoError> {
        let host = Host::V4(Ipv4Addr::LOCALHOST);
        let registration = Registration {
            registration: RegistrationId(1),
            registrar: Uri::Sip(SipUri::new(None, host.clone(), None)),
            destination: Destination::Address {
                transport: Some(home.transport),
                address: home.address,
                name: None,
            },
            aor: NameAddr::new(SipUri::new(Some(self.name), host, None)),
            expires: Duration::from_secs(600),
            account: Some(Account {
                username: self.name.to_owned(),
                secret: Secret::Password(home.password.clone()),
                realm: Some(home.realm.clone()),
                peers: vec![home.address.ip()],
            }),
        };
        let _ = self.driver.commands().send(Command::Register(Box::new(registration))).await;
        match timeout(PATIENCE, self.registered.recv()).await {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(status))) => {
                Err(DemoError::Call(format!("{} could not register: status {status}", self.name)))
            }
            _ => Err(DemoError::Call(format!("{} had no answer to its registration", self.name))),
        }
    }

    /// Calls `callee` and talks; both sides of the call. Through the gateway with `home`, else
    /// phone to phone.
    pub(super) async fn call(
        &self,
        home: Option<&Home>,
        callee: &mut Self,
        wanted: (Capabilities, Capabilities),
    ) -> Result<(Call, Call), DemoError> {
        let to = match home {
            Some(home) => Address {
                proxy: Some(Proxy {
                    host: HostPort { host: home.address.ip().to_string(), port: Some(home.address.port()) },
                    transport: home.transport,
                    credentials: Some(Credentials {
                        realm: home.realm.clone(),
                        username: self.name.to_owned(),
                        password: Redacted::new(home.password.clone()),
                    }),
                }),
                ..Address::at(format!("sip:{}@{}", callee.name, home.address))
            },
            None => Address::at(format!("sip:{}@{}", callee.name, callee.address)),
        };
        let from =
            Caller { address: self.name.to_owned(), name: String::new(), hops: MAX_FORWARDS, venue: None };
        let leg = self
            .legs
            .dial(&to, &from, wanted.0, None)
            .map_err(|cause| DemoError::Call(format!("{} could not dial: {cause:?}", self.name)))?;
        let caller = tokio::spawn(established(leg, self.name));
        let incoming = timeout(PATIENCE, callee.calls.recv()).await;
        let Ok(Some(incoming)) = incoming else {
            caller.abort();
            return Err(DemoError::Call(format!("no call reached {}", callee.name)));
        };
        let _ = incoming.commands.send(LegCommand::Ring).await;
        let _ = incoming.commands.send(LegCommand::Answer(wanted.1)).await;
        let answered = established(incoming, callee.name).await?;
        let called = caller.await.map_err(|error| DemoError::Call(error.to_string()))??;
        Ok((called, answered))
    }

    /// Starts a thread that sends `dues`, counted from `start`, and takes what comes until `end`.
    pub(super) fn talk(
        &self,
        call: &Call,
        dues: Vec<Due>,
        start: Instant,
        end: Instant,
    ) -> Result<thread::JoinHandle<Recording>, DemoError> {
        let mut lines = Vec::new();
        for stream in &call.streams {
            let fault = |error| DemoError::Call(format!("{}: {error}", self.name));
            stream.port.feed(Feed::Engine).map_err(fault)?;
            let (inlet, outlet) = stream.port.engage().map_err(fault)?;
            lines.push(Line { role: stream.agreed.role, inlet, outlet });
        }
        let clock = self.clock;
        let thread = thread::Builder::new().name(format!("phone-{}", self.name));
        Ok(thread.spawn(move || media(clock, lines, dues, start, end))?)
    }

    pub(super) async fn stop(self) {
        self.driver.stop().await;
        // The driver was the only one to send to it.
        let _ = self.dispatch.await;
        // Joins a thread: not on one of the runtime.
        let _ = tokio::task::spawn_blocking(move || self.net.stop()).await;
    }
}

impl Call {
    /// What the peer wants to be sent in `role`.
    pub(super) fn send_format(&self, role: MediaKind) -> Option<&MediaFormat> {
        self.streams.iter().find(|it| it.agreed.role == role).map(|it| &it.agreed.send)
    }

    pub(super) async fn hang_up(&self) {
        let _ = self.commands.send(LegCommand::Hangup(Cause::local(Reason::Hangup))).await;
    }

    /// Waits until the far end knows that the call is over.
    pub(super) async fn ended(self) -> Result<(), DemoError> {
        timeout(PATIENCE, self.ended)
            .await
            .map(|_| ())
            .map_err(|_| DemoError::Call("a call did not end when its other side hung up".to_owned()))
    }
}

/// What a phone takes: one sound codec, and H.264 in one mode up to a level.
pub(super) fn capabilities(audio: Codec, video: Option<(PacketizationMode, u8)>) -> Capabilities {
    let entry =
        |role, format| MediaCapability { role, direction: Direction::SendRecv, formats: vec![format] };
    let mut media = vec![entry(MediaKind::Audio, MediaFormat::Audio(AudioFormat::new(audio)))];
    media.extend(video.map(|(mode, level)| {
        let format = VideoFormat {
            codec: Codec::H264,
            profile: H264Profile::ConstrainedBaseline,
            level,
            mode,
            max_bitrate: None,
            max_fs: None,
            max_mbps: None,
        };
        entry(MediaKind::Main, MediaFormat::Video(format))
    }));
    Capabilities { media, max_bitrate: None }
}

async fn dispatch(
    mut events: mpsc::Receiver<Event>,
    legs: SipLegs,
    calls: mpsc::Sender<Leg>,
    registered: mpsc::Sender<Result<(), u16>>,
) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Incoming(incoming) => {
                if let Some(leg) = legs.incoming(*incoming, None) {
                    // A full queue drops the leg, which refuses the call.
                    let _ = calls.try_send(leg);
                }
            }
            Event::Registered { .. } => {
                let _ = registered.try_send(Ok(()));
            }
            Event::RegistrationFailed { status, .. } => {
                let _ = registered.try_send(Err(status));
            }
            event => legs.deliver(event),
        }
    }
}

async fn established(mut leg: Leg, name: &'static str) -> Result<Call, DemoError> {
    loop {
        let event = timeout(PATIENCE, leg.events.recv()).await;
        match event {
            Ok(Some(LegEvent::Answered(streams))) => {
                let mut events = leg.events;
                let ended = tokio::spawn(async move {
                    while let Some(event) = events.recv().await {
                        if matches!(event, LegEvent::Ended(_)) {
                            return;
                        }
                    }
                });
                return Ok(Call { commands: leg.commands, streams, ended });
            }
            Ok(Some(LegEvent::Ended(cause))) => {
                return Err(DemoError::Call(format!("the call of {name} ended early: {cause:?}")));
            }
            Ok(Some(_)) => {}
            _ => return Err(DemoError::Call(format!("the call of {name} was not answered in time"))),
        }
    }
}

struct Line {
    role: MediaKind,
    inlet: Inlet,
    outlet: Outlet,
}

/// The whole media side of one phone in one call: nothing is coded here, so that the machine's
/// time goes to what is measured.
fn media(clock: Clock, mut lines: Vec<Line>, dues: Vec<Due>, start: Instant, end: Instant) -> Recording {
    let mut it = Recording::default();
    for due in dues {
        wait(clock, start + due.after, &mut lines, &mut it);
        let Some(line) = lines.iter_mut().find(|line| line.role == due.frame.kind) else {
            it.unsent += 1;
            continue;
        };
        let audio = !line.role.is_video();
        let now = clock.now();
        if line.outlet.frames.push(due.frame).is_err() {
            it.unsent += 1;
        } else if audio {
            it.sent.push(now);
        }
        line.outlet.wake.wake();
    }
    wait(clock, end, &mut lines, &mut it);
    it
}

fn wait(clock: Clock, until: Instant, lines: &mut [Line], it: &mut Recording) {
    loop {
        for line in &mut *lines {
            let list = if line.role.is_video() { &mut it.video } else { &mut it.audio };
            while let Ok(arrival) = line.inlet.frames.pop() {
                // Buffers of the socket thread go back: a recording outlives them.
                let data = crosspoint_codecs::frame::Data::from_slice(&arrival.frame.data);
                let frame = crosspoint_codecs::frame::EncodedFrame { data, ..arrival.frame };
                list.push(Arrival { at: arrival.at, frame });
            }
        }
        let left = until - clock.now();
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(LOOK));
    }
}
