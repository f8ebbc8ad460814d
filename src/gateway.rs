//! The facade: one gateway, started from a configuration, stopped when its owner says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crosspoint_codecs::kernels::cpu::{CapError, Cpu};
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::admission::{CountRegister, SipDoor, SwitchDirectory};
use crosspoint_gateway::api::client::RegistrationParts;
use crosspoint_gateway::api::web::{self, Web};
use crosspoint_gateway::api::{Api, ApiError, Health, Metrics, Source};
use crosspoint_gateway::cause::Reason;
use crosspoint_gateway::conference::ledger::Ledger;
use crosspoint_gateway::conference::prompts::{PromptError, Voice};
use crosspoint_gateway::conference::{CallRules, Exchange, ExchangeParts, Recorder};
use crosspoint_gateway::config::{Config, Digest, Latching, Listen, LiveConfig, Outlets, Redacted};
use crosspoint_gateway::events::Events;
use crosspoint_gateway::events::outlet::Outlet;
use crosspoint_gateway::guard::{Gate, Porter};
use crosspoint_gateway::leg::connect::ConnectLegs;
use crosspoint_gateway::leg::sip::{self as sip_leg, SipLegConfig, SipLegs, Trunks};
use crosspoint_gateway::media::{ClockFn, Crew, EngineConfig, EngineError, EngineHandle};
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver::{self, BindError, Driver, Sockets};
use crosspoint_gateway::net::media::{MediaConfig, MediaNet, MediaStartError};
use crosspoint_gateway::net::tls::{Certificates, Tls, TlsError, Trust, WebTls};
use crosspoint_gateway::net::{SignallingThread, Ways};
use crosspoint_gateway::orders::Order;
use crosspoint_gateway::records::{CallLog, RecordsError};
use crosspoint_gateway::registrar::{self, Expiry, Registrar, StoreError, Watch};
use crosspoint_gateway::routing::Routing;
use crosspoint_gateway::rules::RuleWatch;
use crosspoint_gateway::services::Services;
use crosspoint_gateway::settings::Settings;
use crosspoint_gateway::status::{Status, rfc3339};
use crosspoint_gateway::tokens::{self, LocalFile, TokenError};
use crosspoint_proto::Transport;
use crosspoint_proto::address::OwnPorts;
use crosspoint_proto::sip;
use crosspoint_proto::sip::auth::{Algorithm, Verifier};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

mod alarm;
mod clients;
mod management;
mod reload;
mod view;

use clients::{Clients, ClientsParts};
use management::Management;
use view::View;

/// Machine events that wait for the door. Overflow: the network waits.
const EVENTS: usize = 1024;

/// How long calls have to say goodbye when the gateway stops: a BYE and two repetitions of it (RFC 3261
/// section 17.1.2.2, T1 = 500 ms). All of the end fits into two seconds with it.
const GOODBYE: Duration = Duration::from_millis(1600);

/// How long the last events may take to be written when the gateway stops.
const LAST_EVENTS: Duration = Duration::from_millis(200);

/// Streams that the engine has room for, for each call: audio and video of two legs.
const STREAMS_A_CALL: usize = 4;

/// Why a gateway did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate cannot be read or made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The media side cannot start.
    #[error(transparent)]
    Media(#[from] MediaStartError),
    /// Prompts cannot be had.
    #[error("conference.prompts: {0}")]
    Prompts(#[from] PromptError),
    /// The engine cannot start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The listener for clients or for management cannot be had.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The first token of the management API cannot be stored.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Call records cannot be written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Events cannot be written.
    #[error("events cannot be written: {0}; mend events.file, or make the data folder writable")]
    Events(std::io::Error),
    /// The process works with other instructions already.
    #[error("media.instructions: {0}, or leave the line out")]
    Instructions(#[from] CapError),
    /// Something of the operating system.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
    /// What was left of conferences cannot be read.
    #[error(
        "the conferences that were cut off cannot be read from the store: see the log, or use another data folder"
    )]
    Left,
    /// The counters of guesses cannot be read.
    #[error(
        "the counters of guessed PINs cannot be read from the store: see the log, or use another data folder"
    )]
    Guard,
    /// The system gave no randomness.
    #[error("the system gave no random seed: {0}")]
    Randomness(String),
}

/// A running gateway. Several live in one process; dropping one stops it without a goodbye.
#[derive(Debug)]
pub struct Gateway {
    _halt: HaltOnDrop,
    view: Arc<View>,
    api: Api,
    clients: Clients,
    driver: Driver<sip::Command>,
    door: JoinHandle<()>,
    signalling: SignallingThread,
    /// Looks after the certificate's files and the counters of guesses.
    watch: JoinSet<()>,
    /// Keeps the trunks.
    trunks: JoinSet<()>,
    management: Management,
    /// The last event that is outside, where they go outside.
    events_written: Option<watch::Receiver<u64>>,
    first_token: Option<Redacted>,
    _local_token: Option<LocalFile>,
}

/// Calls own what they need to go on: without this they would outlive a gateway that is dropped.
#[derive(Debug)]
struct HaltOnDrop(Exchange);

impl Drop for HaltOnDrop {
    fn drop(&mut self) {
        self.0.halt(Reason::Shutdown);
    }
}

impl Gateway {
    /// Starts on the current tokio runtime, with threads of its own for signalling and media.
    ///
    /// `media.instructions` is for the whole process and for good: a second gateway must name the
    /// same or nothing.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        // Before any kernel chooses.
        if let Some(most) = config.media.instructions {
            Cpu::cap(most.word())?;
        }
        let clock = Clock::start();
        let data = config.data_folder();
        let services = Services::default();
        let routing = Arc::new(Routing::new(&config));
        let management = Management::new(&config);
        let watch: Vec<Box<dyn Watch>> = vec![
            Box::new(services.clone()),
            Box::new(RuleWatch::new(routing.clone())),
            Box::new(management.settings.clone()),
            Box::new(management.tokens.clone()),
        ];
        let of_registrar = registrar_settings(&config, &management.events);
        let registrar = Registrar::open_watched(&data, of_registrar, clock, Box::new(watch))?;
        let records = Arc::new(CallLog::open(&data)?);
        let certificates = certificates(&config, &data, clock)?;
        let tls = Some(tls(&config, certificates.clone())?);
        let outlet = outlet(&config, &data, tls.as_ref(), clock)?;
        let web_tls = WebTls::new(certificates.clone())?;
        // Whatever may be in use is bound before anything is started.
        let api = Api::bind(&config.http.listen)?;
        let web = Web::bind(&config.web, &config.limits)?;
        let (most, trusted) = (config.limits.sip_messages_per_source, config.sip.trusted_sources.clone());
        let gate = Gate::new(most, trusted, clock, management.events.clone());
        let of_driver = driver::Settings {
            option: "sip.listen",
            connections: config.limits.connections,
            connections_per_source: config.limits.connections_per_source,
            origins: config.sip.websocket_origins.clone(),
            tls,
            gate: Some(gate.clone()),
            handshakes: Some(Handle::current()),
        };
        let sockets = Sockets::bind(&config.sip.listen, of_driver)?;
        let listening = sockets.listening().to_vec();
        let media = Arc::new(MediaNet::start(&media_config(&config), clock)?);
        let engines = engines(&config, clock)?;
        let (events, event_queue) = mpsc::channel(EVENTS);
        let machine = sip::Endpoint::new(machine_config(&config, &listening, clock), random()?);
        let signalling = SignallingThread::start()?;
        let driver = {
            let _here = signalling.enter();
            sockets.drive(machine, clock, events)?
        };
        let next_leg = Arc::new(AtomicU64::new(1));
        let connect = ConnectLegs::new(config.limits.registrations, next_leg.clone());
        let trunks = Trunks::new(&config.trunks);
        let legs = SipLegs::new(
            driver.commands(),
            media.clone(),
            leg_config(&config, &listening, trunks.clone()),
            random()?,
            next_leg,
        );
        let porter = porter(management.settings.watch(), clock, management.events.clone())?;
        porter.recall(&registrar, clock).await.map_err(|_| StartError::Guard)?;
        let directory = SwitchDirectory {
            porter: porter.clone(),
            services: services.clone(),
            registrar: registrar.clone(),
            clients: connect.clone(),
            trunks: trunks.clone(),
            routing: routing.clone(),
            clock,
        };
        let metrics = Arc::new(Metrics::default());
        let exchange = Exchange::new(ExchangeParts {
            directory: Arc::new(directory),
            protocols: vec![Arc::new(legs.clone()), Arc::new(connect.clone())],
            engines: engines.clone(),
            rules: call_rules(&config),
            calls: config.limits.calls,
            recorder: recorder(records.clone(), metrics.clone()),
            fonts: config.conference.fonts.clone(),
            voice: voice(&config)?,
            porter: porter.clone(),
        });
        let ledger = Ledger::new(registrar.clone(), clock);
        let kept_trunks = legs.keep_trunks(&management.events, Arc::new(move || clock.both()));
        let rooms = exchange.rooms().clone();
        rooms.keep_in(ledger.clone());
        let left = ledger.recall(move || rooms.number()).await.map_err(|_| StartError::Left)?;
        let clients = Clients::start(ClientsParts {
            bound: web,
            tls: web_tls,
            services: services.clone(),
            routing: routing.clone(),
            exchange: exchange.clone(),
            registrations: RegistrationParts {
                registrar: registrar.clone(),
                domains: routing.domains().clone(),
                realm: config.sip.realm.clone(),
                clients: connect.clone(),
                directory: config.web.directory,
            },
            left,
            clock,
            settings: management.settings.watch(),
            streams_per_source: config.limits.web_streams_per_source,
        })?;
        let door = SipDoor {
            legs,
            exchange: exchange.clone(),
            registrar: registrar.clone(),
            clients: connect.clone(),
            trunks: trunks.clone(),
            services,
            routing: routing.clone(),
            machine: driver.commands(),
            verifier: Mutex::new(Verifier::new(
                &config.sip.realm,
                &config.sip.digest.iter().map(|digest| algorithm(*digest)).collect::<Vec<_>>(),
                seed()?,
            )),
            count_register: CountRegister({
                let metrics = metrics.clone();
                Box::new(move |word| metrics.register(word))
            }),
            clock,
            porter: porter.clone(),
            gate: gate.clone(),
            callers: Mutex::default(),
        };
        let view = Arc::new(View {
            gate,
            signalling: driver.stats(),
            started: clock.both().wall,
            http: api.listening().to_vec(),
            web: clients.listening().to_vec(),
            web_stats: clients.stats(),
            records,
            trunks,
            listening,
            data,
            clock,
            exchange,
            registrar,
            connect,
            engines,
            media,
            certificates: certificates.clone(),
            routing,
            most_calls: config.limits.calls,
            alarms: Mutex::default(),
            config: LiveConfig::new(config),
        });
        let admin = management.api(&view, clients.api())?;
        let api = api.serve(&(view.clone() as Arc<dyn Source>), &metrics, Some(&admin))?;
        let mut watch = JoinSet::new();
        let events_written = outlet.as_ref().map(Outlet::taken);
        if let Some(outlet) = outlet {
            watch.spawn(outlet.run(management.events.clone()));
        }
        watch.spawn(alarm::watch(view.clone(), management.events.clone()));
        watch.spawn(async move { certificates.watch().await });
        watch.spawn(porter.keep(view.registrar.clone(), clock));
        watch.spawn(ledger.clone().keep());
        let door = signalling.spawn(Arc::new(door).serve(event_queue));
        let (mut local_token, mut first_token) = (None, None);
        if !api.listening().is_empty() {
            local_token = Some(management.tokens.set_local(&view.data, &tokens::secret(seed()?))?);
            first_token = management::first_token(&view.data, clock)?;
            view.registrar.look().await;
        }
        let _halt = HaltOnDrop(view.exchange.clone());
        let trunks = kept_trunks;
        Ok(Self {
            _halt,
            view,
            api,
            clients,
            driver,
            door,
            signalling,
            watch,
            trunks,
            management,
            events_written,
            first_token,
            _local_token: local_token,
        })
    }

    /// What listens for SIP, with real ports where any were asked for.
    pub fn listening(&self) -> &[Listen] {
        &self.view.listening
    }

    /// The configuration in effect.
    pub fn config(&self) -> Arc<Config> {
        self.view.config.load()
    }

    /// What the gateway shows of itself: listeners, registrations, live calls with routes.
    pub fn status(&self) -> Status {
        self.view.status()
    }

    /// Whether it can serve, and what is wrong.
    pub fn health(&self) -> Health {
        self.view.health()
    }

    /// Where `/status`, `/metrics` and `/healthz` are, with real ports.
    pub fn management(&self) -> &[SocketAddr] {
        self.api.listening()
    }

    /// Where clients are served, with real ports.
    pub fn web(&self) -> &[web::Listening] {
        &self.view.web
    }

    /// The token of the management API that was made at this start, the first one on its data folder.
    /// It is stored as a hash and cannot be shown again.
    pub const fn first_token(&self) -> Option<&Redacted> {
        self.first_token.as_ref()
    }

    /// What its administrator asks of whoever runs it. Nobody answers such a request until they are taken,
    /// which is done once.
    pub fn orders(&self) -> Option<mpsc::Receiver<Order>> {
        self.management.orders.take()
    }

    /// Takes no more calls and nobody more by the client API, says so, and waits until nobody is left or
    /// `config.drain` is over. Registered devices may refresh. What comes next is [`Gateway::stop`].
    pub async fn drain(&self) {
        let view = &self.view;
        let drain = view.config.load().drain;
        view.exchange.drain(view.clock.now() + drain);
        tracing::info!(calls = view.exchange.calls().len(), ?drain, "no more calls are taken");
        if tokio::time::timeout(drain, view.exchange.idle()).await.is_err() {
            tracing::info!(calls = view.exchange.calls().len(), "the time for calls to end is over");
        }
    }

    /// Ends every call with a goodbye, then everything else. Afterwards no thread, socket or task
    /// of it is left.
    pub async fn stop(mut self) {
        self.clients.end();
        let goodbye = tokio::time::timeout(GOODBYE, self.view.exchange.stop(Reason::Shutdown));
        // Clients have been told: all last words go out side by side.
        let (goodbye, (), ()) = tokio::join!(goodbye, self.clients.stop(), self.api.stop());
        if goodbye.is_err() {
            tracing::warn!("some calls were cut off without a goodbye");
        }
        self.view.trunks.leave();
        let left = async { while self.trunks.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, left).await.is_err() {
            tracing::warn!("a trunk's registrar was not reached for a goodbye");
        }
        self.trunks.shutdown().await;
        self.driver.stop().await;
        // The driver was the only one to send to the door.
        let _ = self.door.await;
        if let Some(mut written) = self.events_written {
            let last = *self.management.events.watch().borrow();
            let _ = tokio::time::timeout(LAST_EVENTS, written.wait_for(|it| *it >= last)).await;
        }
        self.watch.shutdown().await;
        // What has ended as it should is not taken up by the next process.
        let _ = Ledger::new(self.view.registrar.clone(), self.view.clock).close().await;
        let (engines, media) = (self.view.engines.clone(), self.view.media.clone());
        // All of them join threads: not on a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || {
            self.signalling.stop();
            engines.iter().for_each(EngineHandle::stop);
            media.stop();
        })
        .await;
    }
}

/// Stands at the doors of conferences.
fn porter(settings: watch::Receiver<Settings>, clock: Clock, events: Events) -> Result<Porter, StartError> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| StartError::Randomness(error.to_string()))?;
    let hides = move || settings.borrow().hide_unknown_aliases;
    Ok(Porter::new(secret, hides, move || clock.now(), events))
}

fn voice(config: &Config) -> Result<Voice, PromptError> {
    match &config.conference.prompts {
        Some(folder) => Voice::load(folder, &config.conference.language),
        None => Ok(Voice::default()),
    }
}

/// Writes each call down and counts it.
fn recorder(log: Arc<CallLog>, metrics: Arc<Metrics>) -> Recorder {
    Arc::new(move |record, cause, rang| {
        let talked = record.answered.is_some();
        if talked {
            metrics.call_answered(rang);
        }
        metrics.call_ended(cause, talked.then(|| Duration::from_secs_f64(record.talk_seconds.max(0.0))));
        log.write(record);
    })
}

fn registrar_settings(config: &Config, events: &Events) -> registrar::Settings {
    registrar::Settings {
        realm: config.sip.realm.clone(),
        expiry: Expiry {
            least: config.sip.min_expires,
            default: config.sip.default_expires,
            most: config.sip.max_expires,
        },
        registrations: config.limits.registrations,
        devices: config.devices.clone(),
        events: events.clone(),
    }
}

const fn call_rules(config: &Config) -> CallRules {
    CallRules { ring_timeout: config.sip.ring_timeout, ringback: config.sip.ringback }
}

fn certificates(config: &Config, data: &Path, clock: Clock) -> Result<Arc<Certificates>, TlsError> {
    if let (Some(certificate), Some(key)) = (&config.sip.certificate, &config.sip.key) {
        return Certificates::load(certificate, key);
    }
    let mut addresses: Vec<IpAddr> = config.sip.listen.iter().map(|listen| listen.address.ip()).collect();
    addresses.extend(config.web.listen.iter().map(SocketAddr::ip));
    addresses.extend(config.sip.public_address);
    addresses.retain(|address| !address.is_unspecified());
    Certificates::load_or_make(&data.join("tls"), &config.sip.domains, &addresses, clock.both().wall)
}

/// Trunks may be trusted otherwise than other hosts.
fn tls(config: &Config, certificates: Arc<Certificates>) -> Result<Tls, TlsError> {
    let mut tls = Tls::new(certificates, &trust(config))?;
    for trunk in &config.trunks {
        let own = match (&trunk.fingerprint, &trunk.trusted_certificates) {
            (Some(fingerprint), _) => Some(Trust::Pinned(fingerprint.0)),
            (None, file) => file.clone().map(Trust::File),
        };
        if let Some(own) = own {
            tls = tls.trusting(&trunk.host.host, &own)?;
        }
    }
    Ok(tls)
}

/// Where events go, if anywhere.
fn outlet(
    config: &Config,
    data: &Path,
    tls: Option<&Tls>,
    clock: Clock,
) -> Result<Option<Outlet>, StartError> {
    let Outlets { file, webhook } = config.events.clone();
    let webhook = webhook.zip(tls.map(|tls| tls.client.clone()));
    if file.is_none() && webhook.is_none() {
        return Ok(None);
    }
    let life = rfc3339(clock.both().wall);
    Outlet::open(life, file, webhook, data).map(Some).map_err(StartError::Events)
}

fn trust(config: &Config) -> Trust {
    match &config.sip.trusted_certificates {
        _ if !config.sip.verify_certificates => Trust::Anybody,
        Some(file) => Trust::File(file.clone()),
        None => Trust::System,
    }
}

/// Half of the processors, when the configuration says nothing: the other half reads sockets.
fn half_of_the_processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2))
}

fn engines(config: &Config, clock: Clock) -> Result<Vec<EngineHandle>, EngineError> {
    let count = config.media.engine_threads.map_or_else(half_of_the_processors, std::num::NonZeroUsize::get);
    let streams = config.limits.calls.saturating_mul(STREAMS_A_CALL);
    let clock: ClockFn = Arc::new(move || clock.now());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let crew = Crew::start(cores, &clock)?;
    (0..count)
        .map(|_| {
            let codecs = Arc::new(Registry::built_in());
            EngineHandle::start(&EngineConfig { streams }, codecs, clock.clone(), &crew)
        })
        .collect()
}

fn media_config(config: &Config) -> MediaConfig {
    let threads =
        config.media.socket_threads.map_or_else(half_of_the_processors, std::num::NonZeroUsize::get);
    MediaConfig { threads, ports: config.media.ports.first()..=config.media.ports.last() }
}

fn machine_config(config: &Config, listening: &[Listen], clock: Clock) -> sip::Config {
    let listen = listening
        .iter()
        .map(|listen| {
            let mut it = sip::Listen::new(listen.transport, listen.address);
            let public = public(config, listen.address.ip());
            it.advertised = public.map(|ip| (host(ip), listen.address.port()));
            it
        })
        .collect();
    let mut machine = sip::Config::new(listen);
    // Without descriptors nobody can be asked: then it is the address that leads to most.
    let usual =
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].map(|any| advertised(config, any));
    let ways = Ways::new(clock);
    machine.towards = Some(sip::Towards(Arc::new(move |peer: IpAddr| {
        let usual = if peer.is_ipv4() { usual[0] } else { usual[1] };
        ways.towards(peer).unwrap_or(usual)
    })));
    machine.product = concat!("Crosspoint/", env!("CARGO_PKG_VERSION")).to_owned();
    machine.session.expires = config.sip.session_expires;
    machine.session.min_expires = config.sip.min_session_expires;
    // For the ladders of calls.
    machine.tap = true;
    // Each call has two legs.
    machine.limits.calls = config.limits.calls.saturating_mul(2);
    machine.limits.server_transactions = config.limits.transactions;
    machine.limits.client_transactions = config.limits.transactions;
    machine.limits.connections = config.limits.connections;
    machine.limits.connections_per_address = config.limits.connections_per_source;
    machine
}

fn leg_config(config: &Config, listening: &[Listen], trunks: Trunks) -> SipLegConfig {
    let mut own: Vec<OwnPorts> = listening
        .iter()
        .map(|listen| OwnPorts {
            ip: listen.address.ip(),
            ports: listen.address.port()..=listen.address.port(),
        })
        .collect();
    own.push(OwnPorts {
        ip: config.media.address,
        ports: config.media.ports.first()..=config.media.ports.last(),
    });
    let domain = config.sip.domains.first().and_then(|domain| sip::Host::parse(domain).ok());
    let first =
        listening.iter().find(|listen| listen.transport == Transport::Udp).or_else(|| listening.first());
    let ip = first.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |listen| listen.address.ip());
    SipLegConfig {
        bind: config.media.address,
        advertised: config.media.public_address.or(config.sip.public_address),
        encryption: sip_leg::policy(config.media.encryption),
        insecure_keys: config.media.insecure_keys,
        allow: config.media.allow.iter().filter_map(|network| network.prefix()).collect(),
        listening: listening.to_vec(),
        own,
        codecs: config
            .devices
            .iter()
            .filter(|device| !device.codecs.is_empty())
            .map(|device| (device.alias.to_string(), device.codecs.clone()))
            .collect(),
        latching: config.media.latching == Latching::Auto,
        media_timeout: Some(config.media.timeout),
        domain: domain.or_else(|| public(config, ip).map(host)).or_else(|| {
            // Of all addresses each peer is told the one that leads to it.
            (!ip.is_unspecified()).then(|| host(ip))
        }),
        trunks,
    }
}

const fn algorithm(digest: Digest) -> Algorithm {
    match digest {
        Digest::Sha512 => Algorithm::Sha512_256,
        Digest::Sha256 => Algorithm::Sha256,
        Digest::Md5 => Algorithm::Md5,
    }
}

/// The address that peers are told instead of `local`, where one is configured for its family.
fn public(config: &Config, local: IpAddr) -> Option<IpAddr> {
    config.sip.public_address.filter(|public| public.is_ipv4() == local.is_ipv4())
}

/// The address that peers are told instead of `local`, whoever they are.
fn advertised(config: &Config, local: IpAddr) -> IpAddr {
    /// Only the routing table is asked: nothing is sent there (RFC 5737, RFC 3849).
    const ELSEWHERE: (Ipv4Addr, Ipv6Addr) =
        (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let (elsewhere, loopback): (IpAddr, IpAddr) = match local {
        IpAddr::V4(_) => (ELSEWHERE.0.into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (ELSEWHERE.1.into(), Ipv6Addr::LOCALHOST.into()),
    };
    match public(config, local) {
        Some(public) => public,
        None if local.is_unspecified() => {
            crosspoint_gateway::net::local_address_towards(elsewhere).unwrap_or(loopback)
        }
        None => local,
    }
}

const fn host(ip: IpAddr) -> sip::Host {
    match ip {
        IpAddr::V4(ip) => sip::Host::V4(ip),
        IpAddr::V6(ip) => sip::Host::V6(ip),
    }
}

fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::Randomness(error.to_string()))?;
    Ok(seed)
}

fn random() -> Result<ChaCha12Rng, StartError> {
    Ok(ChaCha12Rng::from_seed(seed()?))
}
