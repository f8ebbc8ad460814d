//! One TOML file, parsed once into types that cannot be invalid.
//!
//! Without a file everything has its default, so [`Config::default`] is a gateway that works. A
//! file is read as a whole and *all* its faults are reported at once, each with line, field and
//! remedy; unknown fields are faults. [`Config::to_toml`] shows the effective configuration, which
//! reads back as the same configuration (but for secrets, which are shown as `[redacted]`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crosspoint_proto::Transport;
use serde::Serialize;

use crate::conference::prompts::BUILT_IN;

mod hosts;
mod live;
mod parse;
mod read;
mod trunk;
mod types;

pub use hosts::{HostPort, PageOrigin, Webhook};
pub use live::LiveConfig;
pub use parse::{ConfigError, Fault};
pub use trunk::{Callers, Fingerprint, Registration, Trunk};
pub(crate) use types::transport_word;
pub use types::{
    Choice, CodecChoice, Credentials, DeviceEntry, Digest, Encryption, Instructions, Latching, Listen,
    LogFormat, LogLevel, Network, Pattern, PortRange, Protocol, Proxy, Redacted, Ringback, Rule, Strangers,
    Template,
};

/// The folder that is used when neither the command line nor the file names one, if it exists: the
/// system service's own. Otherwise [`DATA_FOLDER`].
pub const SERVICE_DATA_FOLDER: &str = "/var/lib/crosspoint";

/// The data folder of a gateway that is started by hand: below the working directory.
pub const DATA_FOLDER: &str = "crosspoint-data";

/// The management listener (metrics, health, status). Not 8080, which is taken on many machines;
/// 5060 + 4000 is easy to keep in mind.
pub const HTTP_PORT: u16 = 9060;

/// Clients over HTTPS. Not 443, which takes rights that a gateway does not need otherwise; a proxy or
/// a rule of the firewall brings 443 here.
pub const WEB_PORT: u16 = 8443;

/// Options without a value by default: their section, name, and an example with what holds without.
const UNSET: [(&str, &str, &str); 12] = [
    ("[sip]", "public_address", "\"203.0.113.7\"  # else the local address that leads to each peer"),
    ("[sip]", "certificate", "\"cert.pem\"  # else a self-signed one in the data folder"),
    ("[sip]", "key", "\"key.pem\""),
    ("[sip]", "trusted_certificates", "\"ca.pem\"  # else those of the system"),
    ("[media]", "public_address", "\"203.0.113.7\"  # else sip.public_address"),
    ("[media]", "socket_threads", "1  # else one for two processors"),
    ("[media]", "engine_threads", "1  # else one for two processors"),
    ("[media]", "instructions", "\"avx2\"  # else the best that this machine has"),
    ("[conference]", "prompts", "\"prompts\"  # else those that are built in"),
    ("[conference]", "fonts", "\"fonts\"  # else those that are built in"),
    ("[events]", "file", "\"events.jsonl\"  # else by the management API alone"),
    ("[events]", "webhook", "\"https://example.com/events\"  # else by the management API alone"),
];

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Where registrations, certificates and call records are kept. `None`: whoever starts the
    /// gateway decides ([`Config::data_folder`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// How long calls may go on when the gateway is told to end; then they are ended.
    #[serde(serialize_with = "types::show_duration")]
    pub drain: Duration,
    /// SIP signalling.
    pub sip: Sip,
    /// Media addresses, ports, threads, policy.
    pub media: Media,
    /// Clients over HTTPS.
    pub web: Web,
    /// What holds for all conferences.
    pub conference: Conference,
    /// The management listener.
    pub http: Http,
    /// What is refused before it costs anything.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// Where events go, beside the management API.
    pub events: Outlets,
    /// Devices that may register, beside those of `crosspoint device add`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceEntry>,
    /// Other systems by name, that rules may send calls to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<Trunk>,
    /// Where calls to other than devices may go. None: nowhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: None,
            // Longer than anybody waits who restarts it by hand; a service may give its calls an hour.
            drain: Duration::from_secs(30),
            sip: Sip::default(),
            media: Media::default(),
            web: Web::default(),
            conference: Conference::default(),
            http: Http::default(),
            limits: Limits::default(),
            log: Log::default(),
            events: Outlets::default(),
            devices: Vec::new(),
            trunks: Vec::new(),
            rules: Vec::new(),
        }
    }
}

impl Config {
    /// The data folder: the configured one, else [`DATA_FOLDER`].
    pub fn data_folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| PathBuf::from(DATA_FOLDER))
    }

    /// Reads a configuration from its text. `name` is what errors call the file.
    pub fn from_toml(text: &str, name: &str) -> Result<Self, ConfigError> {
        parse::config(text, name)
    }

    /// Reads a piece of one, as a rule that is stored: what it names may stand elsewhere.
    pub(crate) fn from_piece(text: &str, name: &str) -> Result<Self, ConfigError> {
        parse::piece(text, name)
    }

    /// The effective configuration as TOML, secrets redacted. Options that are not set stand there
    /// as comments.
    pub fn to_toml(&self) -> String {
        // All types serialise to strings, numbers, lists and tables, which TOML has.
        let set = match toml::to_string(self) {
            Ok(set) => set,
            Err(error) => return format!("# cannot be shown: {error}\n"),
        };
        let mut shown = String::new();
        for line in set.lines() {
            shown.push_str(line);
            shown.push('\n');
            let section = set.split_once(line).map(|(_, rest)| rest.split("\n[").next().unwrap_or_default());
            for (_, key, meaning) in UNSET.iter().filter(|(of, ..)| line == *of) {
                if !section.is_some_and(|section| section.contains(&format!("\n{key} = "))) {
                    shown.push_str(&format!("# {key} = {meaning}\n"));
                }
            }
        }
        shown
    }
}

/// `[sip]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sip {
    /// Where SIP listens: "udp:0.0.0.0:5060". Port 0 takes any free port. Browsers come by "ws:" and "wss:".
    pub listen: Vec<Listen>,
    /// From where pages may come whose browsers speak SIP over WebSocket. Empty: from anywhere, as with the
    /// client API, for nothing that a browser keeps proves who somebody is. Who says nothing of a page is no
    /// browser.
    pub websocket_origins: Vec<PageOrigin>,
    /// What peers shall reach us at when it is not the address that we listen on (NAT, wildcard).
    /// `None`: the local address that leads to each peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<IpAddr>,
    /// The domains that are ours: `alice@domain` is `alice`. Empty: every domain is. An address
    /// in place of a domain is always ours.
    pub domains: Vec<String>,
    /// The digest realm. Stored passwords are bound to it.
    pub realm: String,
    /// Hashes that challenges offer, in this order; "sha-512-256" to devices whose password was set since it is
    /// kept for that. It is not among the usual ones: who knows it knows SHA-256 as well, and some old phones give
    /// up when they meet one that they do not know, even beside one that they do. For them leave "md5" alone.
    pub digest: Vec<Digest>,
    /// PEM certificate chain for TLS. `None`: a self-signed one is made in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM private key of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// PEM certificates that outgoing TLS trusts. `None`: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_certificates: Option<PathBuf>,
    /// Whether outgoing TLS checks the far end's certificate and name.
    pub verify_certificates: bool,
    /// Shorter registrations are refused with 423 (RFC 3261 section 10.3).
    #[serde(serialize_with = "types::show_duration")]
    pub min_expires: Duration,
    /// When a device names no expiry.
    #[serde(serialize_with = "types::show_duration")]
    pub default_expires: Duration,
    /// Longer registrations are shortened to this.
    #[serde(serialize_with = "types::show_duration")]
    pub max_expires: Duration,
    /// How long a device may ring before the call ends as not answered.
    #[serde(serialize_with = "types::show_duration")]
    pub ring_timeout: Duration,
    /// How long a call stands without a sign of a far end that knows session timers (RFC 4028). It
    /// is asked for one at half of this.
    #[serde(serialize_with = "types::show_duration")]
    pub session_expires: Duration,
    /// Whoever wants to give or get such signs more often is refused with 422.
    #[serde(serialize_with = "types::show_duration")]
    pub min_session_expires: Duration,
    /// Who makes the ringing tone when the called party sends none.
    pub ringback: Ringback,
    /// Whom callers that did not authenticate as a device may call.
    pub strangers: Strangers,
    /// Proxies and trunks, which bring many others' calls: never held to `limits.sip_messages_per_source`
    /// and never banned.
    pub trusted_sources: Vec<Network>,
}

impl Default for Sip {
    fn default() -> Self {
        let listen = |transport, port| Listen {
            transport,
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        };
        Self {
            listen: vec![
                listen(Transport::Udp, 5060),
                listen(Transport::Tcp, 5060),
                listen(Transport::Tls, 5061),
            ],
            websocket_origins: Vec::new(),
            public_address: None,
            domains: Vec::new(),
            realm: "crosspoint".into(),
            digest: vec![Digest::Sha256, Digest::Md5],
            certificate: None,
            key: None,
            trusted_certificates: None,
            verify_certificates: true,
            // RFC 3261 lets a registrar refuse less than an hour; a minute serves NAT keep-alive.
            min_expires: Duration::from_secs(60),
            default_expires: Duration::from_secs(3600),
            max_expires: Duration::from_secs(7200),
            // Below RFC 3261 Timer C (more than 3 min) and about ten rings.
            ring_timeout: Duration::from_secs(60),
            // What RFC 4028 recommends (section 4), and the least that it allows (section 5).
            session_expires: Duration::from_secs(1800),
            min_session_expires: Duration::from_secs(90),
            ringback: Ringback::Gateway,
            strangers: Strangers::Devices,
            trusted_sources: Vec::new(),
        }
    }
}

/// `[media]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Media {
    /// The local address of media sockets.
    pub address: IpAddr,
    /// What SDP shows in its place. `None`: `sip.public_address`, else the local address that
    /// leads to each peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<IpAddr>,
    /// The ports of media sockets: RTP on even ones, RTCP above.
    pub ports: PortRange,
    /// Socket threads. `None`: one for two processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_threads: Option<NonZeroUsize>,
    /// Engines, each with a thread for sound and one for pictures. `None`: one for two processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_threads: Option<NonZeroUsize>,
    /// The best vector instructions that codecs and kernels of ours use, for the whole process.
    /// `None`: the best that the machine has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Instructions>,
    /// A call whose peer sends nothing for so long ends (unless it is on hold).
    #[serde(serialize_with = "types::show_duration")]
    pub timeout: Duration,
    /// Media addresses that are allowed beside the one that signalling came from.
    pub allow: Vec<Network>,
    /// Whether media must, may or must not be encrypted.
    pub encryption: Encryption,
    /// Whether SDES keys are taken and offered over signalling without TLS.
    pub insecure_keys: bool,
    /// Whether media of a registered device behind NAT is answered to where it comes from.
    pub latching: Latching,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            public_address: None,
            ports: PortRange::DEFAULT,
            socket_threads: None,
            engine_threads: None,
            instructions: None,
            timeout: Duration::from_secs(30),
            allow: Vec::new(),
            encryption: Encryption::BestEffort,
            insecure_keys: false,
            latching: Latching::Auto,
        }
    }
}

/// `[conference]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conference {
    /// An alias that nobody has is answered as a room is that wants a PIN and always has a wrong one:
    /// strangers do not learn which rooms there are. Else they are told that there is none.
    pub hide_unknown_aliases: bool,
    /// The language of prompts: "en" is built in.
    pub language: String,
    /// Where `<language>/enter-pin.wav` and so on are. Of "en" each file replaces one prompt, of
    /// another language all must be there. `None`: those that are built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// A folder with fonts for names whose scripts the built-in ones lack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fonts: Option<PathBuf>,
}

impl Default for Conference {
    fn default() -> Self {
        Self { hide_unknown_aliases: false, language: BUILT_IN.into(), prompts: None, fonts: None }
    }
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Http {
    /// Where `/metrics`, `/healthz` and `/status` are served, without authentication: keep it on
    /// loopback or behind a proxy. Empty: nowhere.
    pub listen: Vec<SocketAddr>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), HTTP_PORT)] }
    }
}

/// `[web]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Web {
    /// Where the client API is served over HTTPS, with the certificate of SIP. Empty: nowhere.
    pub listen: Vec<SocketAddr>,
    /// The same without TLS, for a proxy on this machine: loopback only.
    pub plain_listen: Vec<SocketAddr>,
    /// Where `http://` is answered with the way to `https://`.
    pub redirect_listen: Vec<SocketAddr>,
    /// Proxies that are believed when they say whom a request is from: by `X-Forwarded-For`, or by
    /// the PROXY protocol.
    pub trusted_proxies: Vec<Network>,
    /// Connections of trusted proxies begin with a header of the PROXY protocol, version 1 or 2.
    pub proxy_protocol: bool,
    /// Whether clients of Infinity Connect may use the gateway. SIP does not depend on it.
    pub infinity_clients: bool,
    /// What they are told where they may not.
    pub disabled_text: String,
    /// Nobody more is let in by the client API; who is in stays.
    pub maintenance: bool,
    /// Registered clients may search for devices by alias and user name.
    pub directory: bool,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), WEB_PORT)],
            plain_listen: Vec::new(),
            redirect_listen: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            infinity_clients: true,
            disabled_text: "Disabled".into(),
            maintenance: false,
            // Who knows one password need not know who else there is.
            directory: false,
        }
    }
}

/// `[limits]`. Each is a ceiling on memory as well: see `docs/limits.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Calls at once; further ones get 503.
    pub calls: usize,
    /// SIP transactions at once; further requests get 503 without state. A UDP transaction stays
    /// 32 s after its answer, so that 300 digest registrations a second need 19200.
    pub transactions: usize,
    /// Signalling connections (TCP, TLS and WebSocket) at once; further ones are closed when accepted.
    pub connections: usize,
    /// Of one source address (IPv6: /64). A company's phones behind NAT share one.
    pub connections_per_source: usize,
    /// Registered contacts of all devices together; further ones get 503.
    pub registrations: usize,
    /// SIP messages of one source address a second (IPv6: /64), five seconds' worth at once; further ones
    /// are not read. Once somebody has proved where he is this is for his address and port alone.
    pub sip_messages_per_source: usize,
    /// Connections of clients over HTTPS and of their proxies; further ones are closed when accepted.
    pub web_connections: usize,
    /// Of one client address (IPv6: /64), those through a proxy that only `X-Forwarded-For` tells
    /// apart left out.
    pub web_connections_per_source: usize,
    /// Requests of one client address a second, five seconds' worth at once; further ones get 429.
    pub web_requests_per_source: usize,
    /// Event streams of one client address at a time; further ones get 429.
    pub web_streams_per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 1000,
            transactions: 65_536,
            connections: 8192,
            connections_per_source: 512,
            registrations: 100_000,
            // 160 calls a second, set up and ended.
            sip_messages_per_source: 500,
            // Each participant holds one for its events, and another for a moment now and then.
            web_connections: 4096,
            web_connections_per_source: 256,
            web_requests_per_source: 100,
            web_streams_per_source: 64,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// For people, or one JSON object a line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Human }
    }
}

/// `[events]`: outside of the gateway, beside the management API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outlets {
    /// A file that gets a line of JSON for each. `None`: none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Who is sent the same lines by POST, at least once. `None`: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}
