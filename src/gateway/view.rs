//! What the management listener and the owner can see.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_gateway::alarms::Alarm;
use crosspoint_gateway::api::web;
use crosspoint_gateway::api::{Health, Source};
use crosspoint_gateway::conference::Exchange;
use crosspoint_gateway::config::{Listen, LiveConfig};
use crosspoint_gateway::guard::Gate;
use crosspoint_gateway::leg::connect::ConnectLegs;
use crosspoint_gateway::leg::sip::Trunks;
use crosspoint_gateway::media::EngineHandle;
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver;
use crosspoint_gateway::net::media::MediaNet;
use crosspoint_gateway::net::tls::Certificates;
use crosspoint_gateway::records::CallLog;
use crosspoint_gateway::registrar::Registrar;
use crosspoint_gateway::routing::Routing;
use crosspoint_gateway::status::{
    BanStatus, CallStatus, ConferenceStatus, Listener, Ports, Registration, Signalling, Status, TrunkStatus,
    rfc3339,
};

/// One gateway, seen from outside.
#[derive(Debug)]
pub(super) struct View {
    pub(super) listening: Vec<Listen>,
    pub(super) config: LiveConfig,
    pub(super) data: PathBuf,
    pub(super) clock: Clock,
    pub(super) started: SystemTime,
    pub(super) exchange: Exchange,
    pub(super) registrar: Registrar,
    pub(super) connect: ConnectLegs,
    pub(super) engines: Vec<EngineHandle>,
    pub(super) media: Arc<MediaNet>,
    pub(super) gate: Gate,
    pub(super) signalling: Arc<driver::Stats>,
    pub(super) http: Vec<SocketAddr>,
    pub(super) web: Vec<web::Listening>,
    pub(super) web_stats: Arc<driver::Stats>,
    pub(super) records: Arc<CallLog>,
    pub(super) trunks: Trunks,
    pub(super) certificates: Arc<Certificates>,
    pub(super) routing: Arc<Routing>,
    /// What tables were made for when it was started.
    pub(super) most_calls: usize,
    /// Those that stood at the last look.
    pub(super) alarms: Mutex<Vec<Alarm>>,
}

impl View {
    fn bans(&self) -> Vec<BanStatus> {
        let bans = self.gate.bans().into_iter();
        bans.map(|(source, left)| BanStatus { source: source.to_string(), seconds: left.as_secs() }).collect()
    }
}

impl Source for View {
    fn status(&self) -> Status {
        let now = self.clock.both();
        let sip = self.listening.iter().map(|listen| Listener {
            service: "sip".to_owned(),
            transport: listen.transport_word().to_owned(),
            address: listen.address.to_string(),
        });
        let http = self.http.iter().map(|address| Listener {
            service: "http".to_owned(),
            transport: "tcp".to_owned(),
            address: address.to_string(),
        });
        let web = self.web.iter().map(|it| Listener {
            service: "web".to_owned(),
            transport: if it.kind == web::Kind::Tls { "tls" } else { "tcp" }.to_owned(),
            address: it.address.to_string(),
        });
        let since = |at: SystemTime| now.wall.duration_since(at).unwrap_or_default();
        let (calls, rooms) = (self.exchange.calls(), self.exchange.rooms().views());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(self.started),
            uptime_seconds: since(self.started).as_secs(),
            listening: sip.chain(web).chain(http).collect(),
            data: self.data.display().to_string(),
            instructions: Cpu::detect().name().to_owned(),
            devices: self.registrar.device_count(),
            registrations: Registration::all(&self.registrar, &self.connect, now.mono),
            alarms: self.alarms().iter().map(|it| it.word().to_owned()).collect(),
            calls: calls.iter().map(|it| CallStatus::new(it.call, since(it.began), &it.view)).collect(),
            trunks: self.trunks.views().iter().map(|it| TrunkStatus::new(it, now.mono)).collect(),
            bans: self.bans(),
            conferences: rooms.iter().map(|(name, view)| ConferenceStatus::new(name, view)).collect(),
            engine: self.engines.iter().map(|engine| engine.worker_stats().into()).collect(),
            signalling: vec![
                Signalling::new("sip", &self.signalling),
                Signalling::new("web", &self.web_stats),
            ],
            media_ports: Ports {
                used: self.media.pairs_in_use(),
                total: self.config.load().media.ports.pairs(),
            },
        }
    }

    fn health(&self) -> Health {
        let mut problems = Vec::new();
        if self.exchange.ending().is_some() {
            problems.push("it is to end: no more calls are taken".to_owned());
        }
        if self.registrar.is_failing() {
            problems.push("registrations cannot be stored: see the log".to_owned());
        }
        if self.records.is_failing() {
            let lost = self.records.lost();
            problems.push(format!("call records cannot be written, {lost} lost: see the log"));
        }
        Health { problems }
    }
}
