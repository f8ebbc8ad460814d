//! The status document: what `/status` serves and `crosspoint status` shows. Plain data; fields are
//! only ever added.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::conference::policy::Place;
use crate::conference::room::RoomView;
use crate::conference::{CallView, LegView, StreamView};
use crate::config::transport_word;
use crate::leg::Origin;
use crate::leg::connect::{ConnectLegs, Registered};
use crate::leg::sip::{TrunkRegistration, TrunkView};
use crate::media::{LaneStats, WorkerStats};
use crate::net::driver::Stats;
use crate::registrar::Registrar;

/// Everything that a gateway is doing now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// When it was started (RFC 3339, UTC).
    pub started: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// Where it listens.
    pub listening: Vec<Listener>,
    /// Its data folder.
    pub data: String,
    /// Vector instructions that the kernels use: "avx512", "avx2", "sse4.2", "scalar".
    #[serde(default)]
    pub instructions: String,
    /// Devices that may register.
    pub devices: usize,
    /// Devices that are registered.
    pub registrations: Vec<Registration>,
    /// The trunks, as the configuration has them.
    #[serde(default)]
    pub trunks: Vec<TrunkStatus>,
    /// What is wrong: words of [`crate::alarms::Alarm::word`].
    #[serde(default)]
    pub alarms: Vec<String>,
    /// Calls that are set up, stand or end.
    pub calls: Vec<CallStatus>,
    /// Conferences in progress.
    #[serde(default)]
    pub conferences: Vec<ConferenceStatus>,
    /// Sources of SIP of which nothing is read for a while.
    #[serde(default)]
    pub bans: Vec<BanStatus>,
    /// How well the media engine keeps its time, one for each worker.
    pub engine: Vec<Worker>,
    /// Signalling sockets, for each protocol.
    pub signalling: Vec<Signalling>,
    /// Media ports in use, and all of them.
    pub media_ports: Ports,
}

/// One address that is listened on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// "sip", "http".
    pub service: String,
    /// "udp", "tcp", "tls".
    pub transport: String,
    /// Address and port.
    pub address: String,
}

/// A banned source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanStatus {
    /// Its address; of IPv6 the first of its /64.
    pub source: String,
    /// Until it is read again.
    pub seconds: u64,
}

/// A registered device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its alias.
    pub alias: String,
    /// Where it is, best first.
    pub contacts: Vec<RegisteredContact>,
}

/// One contact of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredContact {
    /// The contact's URI.
    pub uri: String,
    /// The way that it registered by; empty once that is closed.
    pub flow: String,
    /// What is left of it.
    pub expires_seconds: u64,
    /// What the device calls itself.
    pub user_agent: String,
    /// "sip"; "api" for a client of the client API, whose `uri` is empty.
    #[serde(default)]
    pub protocol: String,
    /// What it came by: "udp", "tcp", "tls", "https"; empty once that is closed.
    #[serde(default)]
    pub transport: String,
}

/// One trunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkStatus {
    /// What it is called.
    pub name: String,
    /// "udp", "tcp", "tls".
    pub transport: String,
    /// Its host, as configured.
    pub host: String,
    /// Where that is; absent while it is not known.
    pub address: Option<String>,
    /// "up", "down"; "unknown" when it has not been asked, or not answered yet.
    pub state: String,
    /// "registered", "failed", "none".
    pub registration: String,
    /// What the registration failed with.
    pub status: Option<u16>,
    /// What is left of it.
    pub expires_seconds: Option<u64>,
}

/// One call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallStatus {
    /// Its number, as in logs and records.
    pub call: u64,
    /// "ringing" or "answered".
    pub state: String,
    /// Seconds since it came in.
    pub seconds: u64,
    /// Its legs, the caller first.
    pub legs: Vec<LegStatus>,
}

/// One conference in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConferenceStatus {
    /// Its service.
    pub name: String,
    /// Newcomers wait.
    pub locked: bool,
    /// How many are in.
    pub participants: usize,
    /// How many wait.
    pub waiting: usize,
}

/// One leg of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegStatus {
    /// Its number.
    pub leg: u64,
    /// "sip".
    pub protocol: String,
    /// "udp", "tcp", "tls".
    pub transport: String,
    /// "incoming" or "outgoing".
    pub origin: String,
    /// Alias or address of its party.
    pub address: String,
    /// Its display name.
    pub name: String,
    /// What it called, or was called as.
    pub called: String,
    /// The device that it proved to be.
    pub device: Option<String>,
    /// The trunk that it comes from or goes to.
    #[serde(default)]
    pub trunk: Option<String>,
    /// Where its signalling comes from.
    pub signalling: Option<String>,
    /// It has answered, or called.
    pub answered: bool,
    /// Its streams.
    pub streams: Vec<StreamStatus>,
}

/// One stream of a leg. "Received" is from the party, "sent" to it; counters since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// "audio", "main", "content".
    pub role: String,
    /// "sendrecv", "sendonly", "recvonly", "inactive", as we see it.
    pub direction: String,
    /// Codec that we receive.
    pub receive: String,
    /// Codec that we send.
    pub send: String,
    /// What feeds it: "relay", "transcode", "play", "silence".
    pub route: String,
    /// Why.
    pub why: String,
    /// Media is encrypted.
    pub encrypted: bool,
    /// The party's media address.
    pub remote: Option<String>,
    /// Packets received.
    pub packets_received: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// The same in percent of all that were sent to us.
    pub loss_percent: f64,
    /// Packets dropped: late, doubled, malformed, foreign, not authentic.
    pub packets_dropped: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Interarrival jitter of what we receive.
    pub jitter_ms: f64,
    /// Loss that the party reports, in percent.
    pub remote_loss_percent: f64,
    /// Round trip by RTCP.
    pub round_trip_ms: Option<f64>,
    /// Bit/s received over the last second.
    pub bitrate_received: u32,
    /// Bit/s sent over the last second.
    pub bitrate_sent: u32,
    /// Keyframes that we asked for.
    pub keyframes_requested: u64,
    /// Keyframes that the party asked for.
    pub keyframes_asked: u64,
}

/// One worker of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Sound.
    pub audio: Lane,
    /// Pictures.
    pub video: Lane,
}

/// One clock of a worker. Lateness is that of its wake; microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Streams that it serves.
    pub members: u64,
    /// Encoders that work for them: streams that are sent the same share one.
    pub encoders: u64,
    /// How full it is, in thousandths: from 900 on no new calls are taken. For pictures that of the
    /// threads which decode and encode, for all workers together.
    #[serde(default)]
    pub load: u32,
    /// By how many sizes pictures are made smaller because there is too much to do.
    #[serde(default)]
    pub lowered: u64,
    /// Pictures that took longer than their step, which did not wait for them.
    #[serde(default)]
    pub overdue: u64,
    /// Steps so far.
    pub steps: u64,
    /// Those of them that were made up for right after a late wake.
    pub caught_up: u64,
    /// Steps left out because of a wake that was far too late.
    pub jumped: u64,
    /// Half of all wakes were at most so late.
    pub late_p50_us: u64,
    /// 99 of 100 were.
    pub late_p99_us: u64,
    /// All were.
    pub late_max_us: u64,
    /// The longest step.
    pub busy_max_us: u64,
}

/// Signalling sockets of one protocol; counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalling {
    /// "sip".
    pub protocol: String,
    /// Connections that stand.
    pub connections: u64,
    /// Connections refused by a limit.
    pub connections_refused: u64,
    /// Connections that could not be opened.
    pub connects_failed: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// Times that the system could accept no connection.
    pub accept_errors: u64,
    /// Connections closed because their peer did not read.
    pub write_overflows: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams dropped or refused by the system.
    pub datagrams_dropped: u64,
    /// Times that the network had to wait for us.
    pub event_stalls: u64,
}

/// How many of a stock are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Taken.
    pub used: usize,
    /// All.
    pub total: usize,
}

impl Registration {
    /// Everybody who is registered at `now`, by alias.
    pub fn all(registrar: &Registrar, clients: &ConnectLegs, now: crosspoint_proto::Instant) -> Vec<Self> {
        let contact = |it: &crate::registrar::Binding| RegisteredContact {
            uri: it.uri.to_string(),
            flow: it.flow.map(|flow| flow.to_string()).unwrap_or_default(),
            expires_seconds: it.remaining(now).as_secs(),
            user_agent: it.user_agent.clone(),
            protocol: "sip".into(),
            transport: it.flow.map_or("", |flow| transport_word(flow.transport())).into(),
        };
        let client = |it: &Registered| RegisteredContact {
            uri: String::new(),
            flow: it.source.map(|from| from.to_string()).unwrap_or_default(),
            expires_seconds: it.remaining(now).as_secs(),
            user_agent: it.user_agent.clone(),
            protocol: "api".into(),
            transport: "https".into(),
        };
        let mut all: BTreeMap<String, Vec<RegisteredContact>> = BTreeMap::new();
        for (alias, bindings) in registrar.registrations(now) {
            all.entry(alias.to_string()).or_default().extend(bindings.iter().map(contact));
        }
        for it in clients.all(now) {
            all.entry(it.alias.to_string()).or_default().push(client(&it));
        }
        all.into_iter().map(|(alias, contacts)| Self { alias, contacts }).collect()
    }
}

impl TrunkStatus {
    /// One as it shows itself at `now`.
    pub fn new(view: &TrunkView, now: crosspoint_proto::Instant) -> Self {
        let (registration, status, left) = match view.registration {
            TrunkRegistration::No => ("none", None, None),
            TrunkRegistration::Until(at) => ("registered", None, Some(at.saturating_since(now).as_secs())),
            TrunkRegistration::Failed(status) => ("failed", Some(status), None),
        };
        Self {
            name: view.config.name.clone(),
            transport: transport_word(view.config.transport).into(),
            host: view.config.host.to_string(),
            address: view.address.map(|it| it.to_string()),
            state: view.reach.word().into(),
            registration: registration.into(),
            status,
            expires_seconds: left,
        }
    }
}

impl ConferenceStatus {
    /// One as it shows itself.
    pub fn new(name: &str, view: &RoomView) -> Self {
        let at =
            |place| view.parties.iter().filter(|it| it.party.is_some_and(|it| it.place == place)).count();
        Self {
            name: name.to_owned(),
            locked: view.locked,
            participants: at(Place::In),
            waiting: at(Place::Waiting),
        }
    }
}

impl CallStatus {
    /// A call as it shows itself, `age` after it came in.
    pub fn new(call: u64, age: Duration, view: &CallView) -> Self {
        let state = if view.answered { "answered" } else { "ringing" };
        let legs = view.legs.iter().map(LegStatus::from).collect();
        Self { call, state: state.into(), seconds: age.as_secs(), legs }
    }
}

impl From<&LegView> for LegStatus {
    fn from(view: &LegView) -> Self {
        let party = &view.party;
        Self {
            leg: view.id.0,
            protocol: party.protocol.into(),
            transport: party.transport.into(),
            origin: match party.origin {
                Origin::Incoming => "incoming".into(),
                Origin::Outgoing => "outgoing".into(),
            },
            address: party.address.clone(),
            name: party.name.clone(),
            called: party.called.clone(),
            device: party.device.clone(),
            trunk: party.trunk.clone(),
            signalling: party.signalling.map(|it| it.to_string()),
            answered: view.answered,
            streams: view.streams.iter().map(StreamStatus::from).collect(),
        }
    }
}

impl From<&StreamView> for StreamStatus {
    fn from(view: &StreamView) -> Self {
        let (agreed, stats) = (&view.stream.agreed, view.stream.port.stats());
        let expected = stats.packets_received + stats.packets_lost;
        let direction = match (agreed.direction.sends(), agreed.direction.receives()) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        };
        Self {
            role: agreed.role.to_string(),
            direction: direction.into(),
            receive: agreed.receive.codec().to_string(),
            send: agreed.send.codec().to_string(),
            route: view.route.into(),
            why: view.why.clone(),
            encrypted: stats.encrypted,
            remote: stats.remote.map(|it| it.to_string()),
            packets_received: stats.packets_received,
            packets_lost: stats.packets_lost,
            loss_percent: percent(stats.packets_lost, expected),
            packets_dropped: stats.packets_dropped,
            packets_sent: stats.packets_sent,
            jitter_ms: millis(stats.jitter),
            remote_loss_percent: f64::from(stats.remote_loss) * 100.0,
            round_trip_ms: stats.round_trip.map(millis),
            bitrate_received: stats.bitrate_received,
            bitrate_sent: stats.bitrate_sent,
            keyframes_requested: stats.keyframes_requested,
            keyframes_asked: stats.keyframes_asked,
        }
    }
}

impl From<WorkerStats> for Worker {
    fn from(stats: WorkerStats) -> Self {
        Self { audio: stats.audio.into(), video: stats.video.into() }
    }
}

impl From<LaneStats> for Lane {
    fn from(stats: LaneStats) -> Self {
        let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
        Self {
            members: stats.members,
            encoders: stats.encoders,
            load: stats.load,
            lowered: stats.lowered,
            overdue: stats.overdue,
            steps: stats.steps,
            caught_up: stats.caught_up,
            jumped: stats.jumped,
            late_p50_us: micros(stats.late_p50),
            late_p99_us: micros(stats.late_p99),
            late_max_us: micros(stats.late_max),
            busy_max_us: micros(stats.busy_max),
        }
    }
}

impl Signalling {
    /// The figures of one driver.
    pub fn new(protocol: &str, stats: &Stats) -> Self {
        Self {
            protocol: protocol.into(),
            connections: stats.connections(),
            connections_refused: stats.connections_refused.count(),
            connects_failed: stats.connects_failed.count(),
            handshakes_failed: stats.handshakes_failed.count(),
            accept_errors: stats.accept_errors.count(),
            write_overflows: stats.write_overflows.count(),
            datagrams_received: stats.datagrams_received.count(),
            datagrams_sent: stats.datagrams_sent.count(),
            datagrams_dropped: stats.datagrams_dropped.count() + stats.datagrams_failed.count(),
            event_stalls: stats.event_stalls.count(),
        }
    }
}

/// A moment as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at: SystemTime) -> String {
    use time::format_description::well_known::iso8601::{Config, EncodedConfig, Iso8601, TimePrecision};
    const FORM: EncodedConfig = Config::DEFAULT
        .set_time_precision(TimePrecision::Second { decimal_digits: std::num::NonZero::new(3) })
        .encode();
    time::OffsetDateTime::from(at).format(&Iso8601::<FORM>).unwrap_or_default()
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { lossy(part) * 100.0 / lossy(whole) }
}

#[allow(clippy::cast_precision_loss, reason = "a share in percent needs no more than 52 bits")]
const fn lossy(count: u64) -> f64 {
    count as f64
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn loss_is_a_share_of_what_was_sent() {
        assert!((percent(1, 4) - 25.0).abs() < 1e-9);
        assert!(percent(0, 0).abs() < 1e-9, "nothing sent, nothing lost");
    }
}
