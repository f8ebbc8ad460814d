//! Values that carry their own rules: each is made from text by `FromStr`, whose error is the
//! remedy, and shown by `Display` as the same text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crosspoint_codecs::format::{MediaFormat, PacketizationMode};
use crosspoint_proto::Transport;
use crosspoint_proto::address::Prefix;
use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

use super::hosts::{HostPort, Webhook};
use super::trunk::Callers;

/// A secret: shown nowhere, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted(String);

impl Redacted {
    /// What stands in its place.
    pub const SHOWN: &'static str = "[redacted]";

    /// Takes a secret in.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for computing with it, never for showing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::SHOWN)
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::SHOWN)
    }
}

impl Serialize for Redacted {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(Self::SHOWN)
    }
}

/// A value that is one of a few words.
pub trait Choice: Copy + 'static {
    /// Every word and what it means.
    const WORDS: &'static [(&'static str, Self)];
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$item_doc])* $item,)* }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$item),)*];
        }

        impl $name {
            /// The word in the configuration.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$item => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.word())
            }
        }
    };
}

choice! {
    /// A codec that a device is held to.
    CodecChoice {
        /// Opus.
        Opus = "opus",
        /// G.722.
        G722 = "g722",
        /// G.711 mu-law.
        Pcmu = "pcmu",
        /// G.711 A-law.
        Pcma = "pcma",
        /// H.264 in single NAL units.
        H264Mode0 = "h264-mode0",
        /// H.264 with fragments and aggregates.
        H264Mode1 = "h264-mode1",
    }
}

impl CodecChoice {
    /// Whether `format` is of this choice.
    pub fn is(self, format: &MediaFormat) -> bool {
        match (self, format) {
            (Self::H264Mode0, MediaFormat::Video(video)) => video.mode == PacketizationMode::SingleNal,
            (Self::H264Mode1, MediaFormat::Video(video)) => video.mode == PacketizationMode::NonInterleaved,
            (_, format) => format.codec().name().eq_ignore_ascii_case(self.word()),
        }
    }
}

choice! {
    /// The best vector instructions that kernels may use. The words are those of
    /// [`LEVELS`](crosspoint_codecs::kernels::cpu::LEVELS).
    Instructions {
        /// AVX-512.
        Avx512 = "avx512",
        /// AVX2 and FMA.
        Avx2 = "avx2",
        /// SSE4.2.
        Sse42 = "sse4.2",
        /// What plain code is compiled to: SSE2 on x86-64, NEON on 64-bit ARM.
        Scalar = "scalar",
    }
}

choice! {
    /// Whom callers that did not authenticate as a device may call. They never get out.
    Strangers {
        /// Registered devices.
        Devices = "devices",
        /// Nobody: every call must authenticate.
        Refused = "refused",
    }
}

choice! {
    /// Hash of digest authentication (RFC 7616, RFC 8760).
    Digest {
        /// SHA-512/256.
        Sha512 = "sha-512-256",
        /// SHA-256.
        Sha256 = "sha-256",
        /// MD5: all that phones of before 2020 know.
        Md5 = "md5",
    }
}

choice! {
    /// Who makes the tone that a caller hears while the called party rings and sends none.
    Ringback {
        /// The gateway, in media before the answer; the caller's own phone where that cannot be.
        Gateway = "gateway",
        /// The caller's own phone.
        Phone = "phone",
    }
}

choice! {
    /// Media encryption of a leg.
    Encryption {
        /// Never.
        None = "none",
        /// Where both sides can.
        BestEffort = "best-effort",
        /// Calls without it are refused with 488.
        Required = "required",
    }
}

choice! {
    /// Whether media is sent to where it comes from, against what SDP says.
    Latching {
        /// For registered, authenticated devices behind NAT, and only to the address that their
        /// signalling comes from.
        Auto = "auto",
        /// Never.
        Off = "off",
    }
}

choice! {
    /// A kind of leg.
    Protocol {
        /// SIP.
        Sip = "sip",
        /// H.323.
        H323 = "h323",
        /// WebRTC.
        Webrtc = "webrtc",
        /// RTMP.
        Rtmp = "rtmp",
    }
}

choice! {
    /// How much is logged.
    LogLevel {
        /// Only what went wrong.
        Error = "error",
        /// And what was refused or is odd.
        Warn = "warn",
        /// And one or two lines a call.
        Info = "info",
        /// And every decision.
        Debug = "debug",
        /// And every message.
        Trace = "trace",
    }
}

choice! {
    /// The form of log lines.
    LogFormat {
        /// For people.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

macro_rules! serialize_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}
serialize_as_text!(Listen, PortRange, Network, Pattern, Template, HostPort, Webhook);

/// A listener: "udp:0.0.0.0:5060", "tls:[::]:5061".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// UDP, TCP, TLS, or WebSocket without TLS and with it.
    pub transport: Transport,
    /// The local address.
    pub address: SocketAddr,
}

impl Listen {
    /// "udp", "tcp", "tls", "ws", "wss".
    pub const fn transport_word(self) -> &'static str {
        transport_word(self.transport)
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "write transport, address and port: \"udp:0.0.0.0:5060\"";
        let (transport, address) = text.split_once(':').ok_or(REMEDY)?;
        let transport = match transport {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            "ws" => Transport::Ws,
            "wss" => Transport::Wss,
            other => return Err(format!("\"{other}\" is not a transport: use udp, tcp, tls, ws or wss")),
        };
        let address = address.parse().map_err(|_| {
            format!("\"{address}\" is not an address and port: {REMEDY}, or \"udp:[::]:5060\" for IPv6")
        })?;
        Ok(Self { transport, address })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", transport_word(self.transport), self.address)
    }
}

/// "udp", "tcp", "tls", "ws", "wss".
pub(crate) const fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
        Transport::Wss => "wss",
    }
}

/// Ports for media, both ends included: "40000-49999".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// 10000 ports: 2500 calls of audio alone.
    pub const DEFAULT: Self = Self { first: 40_000, last: 49_999 };

    /// A range of at least one pair; the first port even and not below 1024.
    pub fn new(first: u16, last: u16) -> Result<Self, String> {
        if !first.is_multiple_of(2) {
            return Err(format!("{first} is odd: begin with an even port, RTP takes even ones"));
        }
        if first < 1024 {
            return Err(format!("{first} is a system port: begin with 1024 or above"));
        }
        if last <= first {
            return Err(format!("{first}-{last} holds no pair of ports: the last must be above the first"));
        }
        Ok(Self { first, last })
    }

    /// The first port: even.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port, which may be used too.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many pairs it holds.
    pub const fn pairs(self) -> usize {
        ((self.last - self.first) as usize).div_ceil(2)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ends = text.split_once('-').and_then(|(first, last)| {
            Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
        });
        let (first, last) = ends.ok_or("write two ports: \"40000-49999\"")?;
        Self::new(first, last)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A network: "192.0.2.0/24", or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` lies in it. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(it)) => {
                let shift = 32 - u32::from(self.prefix);
                (u64::from(net.to_bits()) >> shift) == (u64::from(it.to_bits()) >> shift)
            }
            (IpAddr::V6(net), IpAddr::V6(it)) => {
                let shift = 128 - u32::from(self.prefix);
                net.to_bits().checked_shr(shift) == it.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl Network {
    /// The same for the policy of media addresses.
    pub fn prefix(&self) -> Option<Prefix> {
        Prefix::new(self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong = || format!("\"{text}\" is not a network: write \"192.0.2.0/24\" or one address");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse().map_err(|_| wrong()))?;
        if prefix > longest {
            return Err(format!("a prefix of {prefix} is too long: at most {longest}"));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What the compiled form of one expression may take: enough for any dial plan, and a hostile or
/// mistaken `{1000}{1000}` fails when read instead of eating memory.
const PATTERN_LIMIT: usize = 1 << 20;

/// A regular expression that must match a whole alias, in any case of letters.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// The compiled expression, anchored at both ends.
    pub const fn regex(&self) -> &Regex {
        &self.regex
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Alone first: "a)(b" must not become valid by our brackets.
        RegexBuilder::new(text).size_limit(PATTERN_LIMIT).build().map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("\"{text}\" is not a regular expression ({reason}): mend it")
        })?;
        let regex = RegexBuilder::new(&format!(r"\A(?:{text})\z"))
            .case_insensitive(true)
            .size_limit(PATTERN_LIMIT)
            .dfa_size_limit(PATTERN_LIMIT)
            .build()
            .map_err(|error| format!("\"{text}\" is not usable as an expression: {error}"))?;
        Ok(Self { source: text.into(), regex })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// What a rule makes of an alias: text with `$1` or `${name}` for groups of its match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// A template whose groups exist in `pattern`.
    pub fn new(text: &str, pattern: &Pattern) -> Result<Self, String> {
        for group in groups(text)? {
            let known = match group.parse::<usize>() {
                Ok(number) => number < pattern.regex.captures_len(),
                Err(_) => pattern.regex.capture_names().flatten().any(|name| name == group),
            };
            if !known {
                return Err(format!(
                    "group ${group} is not in match = \"{pattern}\": name one that is, write ${{1}} where letters \
                     or digits follow, and $$ for a dollar sign"
                ));
            }
        }
        Ok(Self(text.into()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The group names that a template refers to, as the `regex` crate reads them: `$name` takes the
/// longest run of letters, digits and underscores.
fn groups(text: &str) -> Result<Vec<&str>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(escaped) = after.strip_prefix('$') {
            rest = escaped;
        } else if let Some(braced) = after.strip_prefix('{') {
            let (name, tail) = braced.split_once('}').ok_or("\"${\" without \"}\": close it")?;
            found.push(name);
            rest = tail;
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            if name.is_empty() {
                return Err("\"$\" without a group: write $$ for a dollar sign".into());
            }
            found.push(name);
            rest = tail;
        }
    }
    Ok(found)
}

/// A device that may register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceEntry {
    /// What it registers as and is called by.
    pub alias: crate::alias::Alias,
    /// What it authenticates as.
    pub username: String,
    /// With what.
    pub password: Redacted,
    /// The only codecs that are offered to it and taken from it. Empty: all that we have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<CodecChoice>,
}

/// Where a rule's calls go instead of to the host of the alias.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proxy {
    /// Its address.
    pub host: HostPort,
    /// How to reach it.
    #[serde(serialize_with = "show_transport")]
    pub transport: Transport,
    /// What we answer its digest challenge with; it is never sent to anybody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

/// What we authenticate as at a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// The realm that its challenge must name.
    pub realm: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Redacted,
}

/// Where calls to other than devices may go (`[[rules]]`). The lowest priority number that
/// matches decides, and nothing is looked at after it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// What it is called in logs, status and `explain`.
    pub name: String,
    /// 1 to 200, none twice.
    pub priority: u8,
    /// Whether it is looked at.
    pub enable: bool,
    /// What the called alias must be, as a whole, without scheme and parameters: either without
    /// its host (where that is ours or an address) or with it.
    #[serde(rename = "match")]
    pub pattern: Pattern,
    /// What is called instead. `None`: unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<Template>,
    /// What the calling alias must be. `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Pattern>,
    /// Whose calls it is for. `None`: those of devices, and with `only_if_registered = false` anybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callers: Option<Callers>,
    /// The protocols that the call may come by.
    pub incoming: Vec<Protocol>,
    /// Only for callers that are registered devices and have authenticated.
    pub only_if_registered: bool,
    /// Also for calls that conferences make: those that a host adds and those that are dialled when a
    /// conference begins. `from` is an alias of the conference then; `incoming` and
    /// `only_if_registered` say nothing of them. A room without a PIN makes everybody a host.
    pub conferences: bool,
    /// A call that it lets out, and that is sent elsewhere (3xx), goes there, if the rules let the same
    /// caller call that too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow_redirects: bool,
    /// The protocol that the call goes out by.
    pub outgoing: Protocol,
    /// The trunk that it goes to, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// Where it goes without a trunk. `None`: to the host in the alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

pub(super) fn show_transport<S: Serializer>(transport: &Transport, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(transport_word(*transport))
}

/// Shows a duration as [`duration`] reads it.
pub(super) fn show_duration<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    let millis = duration.as_millis();
    let (unit, name) = [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
        .into_iter()
        .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit))
        .unwrap_or((1, "ms"));
    to.collect_str(&format_args!("{}{name}", millis / unit))
}

/// Reads "500ms", "30s", "5m", "2h".
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("\"{text}\" is not a duration: write a number and ms, s, m or h: \"30s\"")),
    };
    let number: u64 = number.parse().map_err(|_| format!("\"{text}\" is not a duration: write \"30s\""))?;
    number
        .checked_mul(millis)
        .filter(|millis| *millis <= 366 * 24 * 3_600_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("\"{text}\" is too long: a year at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_shown() {
        struct Shown(Duration);
        impl Serialize for Shown {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                show_duration(&self.0, to)
            }
        }
        for millis in [0, 1, 500, 1000, 1500, 60_000, 90_000, 3_600_000, 7_200_000] {
            let it = Duration::from_millis(millis);
            let shown = serde_json::to_value(Shown(it)).unwrap();
            assert_eq!(duration(shown.as_str().unwrap()), Ok(it));
        }
        for wrong in ["", "30", "s", "-1s", "1.5s", "30 s", "1d", "99999999999999999999s", "999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_level_of_instructions_has_its_word() {
        let words = Instructions::WORDS.iter().map(|(word, _)| *word);
        assert!(words.eq(crosspoint_codecs::kernels::cpu::LEVELS));
    }

    #[test]
    fn networks_contain_their_addresses() {
        let inside = |net: &str, ip: &str| net.parse::<Network>().unwrap().contains(ip.parse().unwrap());
        assert!(inside("192.0.2.0/24", "192.0.2.255"));
        assert!(!inside("192.0.2.0/24", "192.0.3.0"));
        assert!(inside("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(inside("0.0.0.0/0", "203.0.113.9"));
        assert!(!inside("0.0.0.0/0", "2001:db8::1"));
        assert!(inside("2001:db8::/32", "2001:db8:5::1"));
        assert!(inside("::/0", "2001:db8::1"));
        assert!(!inside("2001:db8::/32", "2001:db9::1"));
        assert!("192.0.2.0/33".parse::<Network>().is_err());
    }

    #[test]
    fn expressions_match_the_whole_in_any_case_and_have_a_size() {
        let pattern: Pattern = "a|meet\\.(.*)".parse().unwrap();
        assert!(pattern.regex().is_match("MEET.Alice"));
        assert!(!pattern.regex().is_match("ab"));
        assert!("a)(b".parse::<Pattern>().is_err());
        assert!("(a{1000}){1000}".parse::<Pattern>().is_err());
    }

    #[test]
    fn templates_name_groups_that_exist() {
        let pattern: Pattern = r"\+(?<number>\d+)(@.*)?".parse().unwrap();
        assert!(Template::new("00$number@x$$", &pattern).is_ok());
        assert!(Template::new("${1}0", &pattern).is_ok());
        for wrong in ["$3", "$1x", "$", "${1", "$other"] {
            assert!(Template::new(wrong, &pattern).is_err(), "{wrong}");
        }
    }
}
