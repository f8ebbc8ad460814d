//! From TOML text to [`Config`], section by section.

use std::fmt;
use std::num::NonZeroUsize;

use crosspoint_proto::Transport;
use toml::de::DeTable;

use super::hosts;
use super::read::{Faults, Section};
use super::trunk::{self, Callers, Trunk};
use super::types::{self, Choice, Credentials, DeviceEntry, Listen, Protocol, Proxy, Rule, Template};
use super::{Conference, Config, Http, Limits, Log, Media, Outlets, Sip, Web};
use crate::alias::{Alias, Domains};
use crate::conference::prompts::BUILT_IN;

/// Who waits longer for the last call has forgotten that the gateway is told to end.
const LONGEST_DRAIN: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// One fault of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from one.
    pub line: usize,
    /// The field with its section: "sip.listen". Empty when the text is no TOML there.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What the file is called.
    pub file: String,
    /// At least one fault, from the top of the file down.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { line, field, message }) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}, line {line}", self.file)?;
            if !field.is_empty() {
                write!(f, ", {field}")?;
            }
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads a whole file.
pub(super) fn config(text: &str, name: &str) -> Result<Config, ConfigError> {
    read(text, name, true)
}

/// Reads a piece, whose rules may name trunks that stand elsewhere.
pub(super) fn piece(text: &str, name: &str) -> Result<Config, ConfigError> {
    read(text, name, false)
}

fn read(text: &str, name: &str, whole: bool) -> Result<Config, ConfigError> {
    let faults = Faults::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        faults.add(&span, "", format!("is not TOML: {}", error.message().replace('\n', ", ")));
    }
    let mut root = Section::new(&faults, String::new(), 0..0, document.into_inner());
    let mut config = Config {
        data: root.path("data"),
        drain: root.duration("drain").unwrap_or_else(|| Config::default().drain),
        sip: sip(root.section("sip")),
        media: media(root.section("media")),
        web: web(root.section("web")),
        conference: conference(root.section("conference")),
        http: http(root.section("http")),
        limits: limits(root.section("limits")),
        log: log(root.section("log")),
        events: events(root.section("events")),
        ..Config::default()
    };
    let ours = Domains::new(config.sip.domains.iter().cloned());
    for section in root.sections("devices") {
        config.devices.extend(device(section, &ours, &config.devices));
    }
    for section in root.sections("trunks") {
        config.trunks.extend(trunk::trunk(section, &config.trunks));
    }
    let trunks = whole.then_some(config.trunks.as_slice());
    for section in root.sections("rules") {
        config.rules.extend(rule(section, &config.rules, trunks));
    }
    config.rules.sort_by_key(|rule| rule.priority);
    if config.drain > LONGEST_DRAIN {
        root.fault("drain", "is too long: \"24h\" at most, after which a stop seems to hang");
    }
    drop(root);
    let faults = faults.into_list();
    if faults.is_empty() { Ok(config) } else { Err(ConfigError { file: name.into(), faults }) }
}

fn sip(mut from: Section<'_, '_>) -> Sip {
    let defaults = Sip::default();
    let sip = Sip {
        listen: from.texts("listen").unwrap_or(defaults.listen),
        websocket_origins: from.texts("websocket_origins").unwrap_or(defaults.websocket_origins),
        public_address: from.text("public_address"),
        domains: from.texts("domains").unwrap_or(defaults.domains),
        realm: from.label("realm").unwrap_or(defaults.realm),
        digest: from.choices("digest").unwrap_or(defaults.digest),
        certificate: from.path("certificate"),
        key: from.path("key"),
        trusted_certificates: from.path("trusted_certificates"),
        verify_certificates: from.flag("verify_certificates").unwrap_or(defaults.verify_certificates),
        min_expires: from.duration("min_expires").unwrap_or(defaults.min_expires),
        default_expires: from.duration("default_expires").unwrap_or(defaults.default_expires),
        max_expires: from.duration("max_expires").unwrap_or(defaults.max_expires),
        ring_timeout: from.duration("ring_timeout").unwrap_or(defaults.ring_timeout),
        session_expires: from.duration("session_expires").unwrap_or(defaults.session_expires),
        min_session_expires: from.duration("min_session_expires").unwrap_or(defaults.min_session_expires),
        ringback: from.choice("ringback").unwrap_or(defaults.ringback),
        strangers: from.choice("strangers").unwrap_or(defaults.strangers),
        trusted_sources: from.texts("trusted_sources").unwrap_or(defaults.trusted_sources),
    };
    if sip.listen.is_empty() {
        from.fault("listen", "is empty: name at least one listener, as \"udp:0.0.0.0:5060\"");
    }
    if !sip.websocket_origins.is_empty() && !sip.listen.iter().any(|listen| listen.transport.is_framed()) {
        from.fault(
            "websocket_origins",
            "is for WebSocket: add a listener as \"wss:0.0.0.0:5062\", or leave it out",
        );
    }
    if sip.digest.is_empty() {
        from.fault(
            "digest",
            "is empty: name sha-512-256, sha-256, md5 or some of them, or leave the line out",
        );
    }
    for (index, listen) in sip.listen.iter().enumerate() {
        let clash = |other: &Listen| {
            other.address == listen.address
                && listen.address.port() != 0
                && other.transport.is_stream() == listen.transport.is_stream()
        };
        if sip.listen.iter().take(index).any(clash) {
            from.fault(
                "listen",
                format!("{listen} shares its port with another listener: take another port"),
            );
        }
    }
    for domain in &sip.domains {
        if !hosts::is_host_name(domain) {
            from.fault("domains", format!("\"{domain}\" is not a domain: write \"example.com\""));
        }
    }
    if sip.realm.contains(['"', '\\']) {
        from.fault("realm", "must not contain quotes or backslashes");
    }
    for (one, other) in [("certificate", "key"), ("key", "certificate")] {
        if from.has(one) && !from.has(other) {
            from.fault(one, format!("needs {other} beside it: name both files or neither"));
        }
    }
    if sip.public_address.is_some_and(|address| address.is_unspecified() || address.is_multicast()) {
        from.fault("public_address", "is not an address that peers can reach: name one host's address");
    }
    let order = [sip.min_expires, sip.default_expires, sip.max_expires];
    if !order.is_sorted() {
        let key = ["min_expires", "max_expires", "default_expires"].into_iter().find(|key| from.has(key));
        from.fault(key.unwrap_or("min_expires"), "must be min_expires <= default_expires <= max_expires");
    }
    if sip.min_expires.as_secs() == 0 {
        from.fault("min_expires", "must be at least \"1s\"");
    }
    if !(1..=180).contains(&sip.ring_timeout.as_secs()) {
        from.fault(
            "ring_timeout",
            "is out of range: \"1s\" to \"3m\", before peers give up (RFC 3261 Timer C)",
        );
    }
    if !(90..=86_400).contains(&sip.min_session_expires.as_secs()) {
        from.fault("min_session_expires", "is out of range: \"90s\" to \"24h\" (RFC 4028 section 5)");
    } else if sip.session_expires < sip.min_session_expires || sip.session_expires.as_secs() > 86_400 {
        let key = if from.has("session_expires") { "session_expires" } else { "min_session_expires" };
        from.fault(key, "must be min_session_expires <= session_expires <= \"24h\"");
    }
    sip
}

fn media(mut from: Section<'_, '_>) -> Media {
    let defaults = Media::default();
    let mut threads =
        |key| from.number(key, 1, 64).and_then(|n| usize::try_from(n).ok()).and_then(NonZeroUsize::new);
    let (socket_threads, engine_threads) = (threads("socket_threads"), threads("engine_threads"));
    let media = Media {
        address: from.text("address").unwrap_or(defaults.address),
        public_address: from.text("public_address"),
        ports: from.text("ports").unwrap_or(defaults.ports),
        socket_threads,
        engine_threads,
        instructions: from.choice("instructions"),
        timeout: from.duration("timeout").unwrap_or(defaults.timeout),
        allow: from.texts("allow").unwrap_or(defaults.allow),
        encryption: from.choice("encryption").unwrap_or(defaults.encryption),
        insecure_keys: from.flag("insecure_keys").unwrap_or(defaults.insecure_keys),
        latching: from.choice("latching").unwrap_or(defaults.latching),
    };
    if media.public_address.is_some_and(|address| address.is_unspecified() || address.is_multicast()) {
        from.fault("public_address", "is not an address that peers can reach: name one host's address");
    }
    if media.timeout.as_secs() < 5 {
        from.fault("timeout", "is too short: at least \"5s\", for RTCP comes every few seconds");
    }
    media
}

fn conference(mut from: Section<'_, '_>) -> Conference {
    let defaults = Conference::default();
    let conference = Conference {
        hide_unknown_aliases: from.flag("hide_unknown_aliases").unwrap_or(defaults.hide_unknown_aliases),
        language: from.label("language").unwrap_or(defaults.language),
        prompts: from.path("prompts"),
        fonts: from.path("fonts"),
    };
    // It names a folder.
    if !conference.language.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-') {
        from.fault("language", "is not a language: write \"en\", \"de\", \"pt-br\"");
    }
    if conference.language != BUILT_IN && conference.prompts.is_none() {
        from.fault("language", "needs prompts beside it: only \"en\" is built in");
    }
    conference
}

fn http(mut from: Section<'_, '_>) -> Http {
    Http { listen: from.texts("listen").unwrap_or_else(|| Http::default().listen) }
}

fn web(mut from: Section<'_, '_>) -> Web {
    let defaults = Web::default();
    let web = Web {
        listen: from.texts("listen").unwrap_or(defaults.listen),
        plain_listen: from.texts("plain_listen").unwrap_or(defaults.plain_listen),
        redirect_listen: from.texts("redirect_listen").unwrap_or(defaults.redirect_listen),
        trusted_proxies: from.texts("trusted_proxies").unwrap_or(defaults.trusted_proxies),
        proxy_protocol: from.flag("proxy_protocol").unwrap_or(defaults.proxy_protocol),
        infinity_clients: from.flag("infinity_clients").unwrap_or(defaults.infinity_clients),
        disabled_text: from.label("disabled_text").unwrap_or(defaults.disabled_text),
        maintenance: from.flag("maintenance").unwrap_or(defaults.maintenance),
        directory: from.flag("directory").unwrap_or(defaults.directory),
    };
    for address in web.plain_listen.iter().filter(|address| !address.ip().is_loopback()) {
        from.fault(
            "plain_listen",
            format!("{address} is not of this machine alone: tokens and PINs go there in the clear, so use a loopback address, or listen for TLS"),
        );
    }
    if web.proxy_protocol && web.trusted_proxies.is_empty() {
        from.fault("proxy_protocol", "is believed of trusted proxies only: name them in trusted_proxies");
    }
    web
}

fn limits(mut from: Section<'_, '_>) -> Limits {
    let defaults = Limits::default();
    let mut limit = |key, default, most| {
        from.number(key, 1, most).and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    Limits {
        calls: limit("calls", defaults.calls, 100_000),
        transactions: limit("transactions", defaults.transactions, 10_000_000),
        connections: limit("connections", defaults.connections, 1_000_000),
        connections_per_source: limit("connections_per_source", defaults.connections_per_source, 1_000_000),
        registrations: limit("registrations", defaults.registrations, 10_000_000),
        sip_messages_per_source: limit(
            "sip_messages_per_source",
            defaults.sip_messages_per_source,
            1_000_000,
        ),
        web_connections: limit("web_connections", defaults.web_connections, 1_000_000),
        web_connections_per_source: limit(
            "web_connections_per_source",
            defaults.web_connections_per_source,
            1_000_000,
        ),
        web_requests_per_source: limit(
            "web_requests_per_source",
            defaults.web_requests_per_source,
            1_000_000,
        ),
        web_streams_per_source: limit("web_streams_per_source", defaults.web_streams_per_source, 1_000_000),
    }
}

fn log(mut from: Section<'_, '_>) -> Log {
    let defaults = Log::default();
    Log {
        level: from.choice("level").unwrap_or(defaults.level),
        format: from.choice("format").unwrap_or(defaults.format),
    }
}

fn events(mut from: Section<'_, '_>) -> Outlets {
    Outlets { file: from.path("file"), webhook: from.text("webhook") }
}

fn device(mut from: Section<'_, '_>, ours: &Domains, earlier: &[DeviceEntry]) -> Option<DeviceEntry> {
    let alias = from.label("alias");
    let username = from.label("username");
    let password = from.secret("password");
    let codecs = from.choices("codecs").unwrap_or_default();
    let alias = from.require("alias", alias, "\"alice\"")?;
    let password = from.require("password", password, "\"...\"");
    let alias = Alias::parse(&alias, ours).map_err(|error| from.fault("alias", error.to_string())).ok()?;
    if earlier.iter().any(|other| other.alias == alias) {
        from.fault("alias", format!("{alias} is there twice: remove one of the two"));
    }
    let username = username.unwrap_or_else(|| alias.to_string());
    if username.contains([':', '"', '\\']) {
        from.fault("username", "must not contain colons, quotes or backslashes");
    }
    Some(DeviceEntry { alias, username, password: password?, codecs })
}

/// `trunks`: those that it may name, when they are all known.
fn rule(mut from: Section<'_, '_>, earlier: &[Rule], trunks: Option<&[Trunk]>) -> Option<Rule> {
    let name = from.label("name");
    let priority = from.number("priority", 1, 200).and_then(|number| u8::try_from(number).ok());
    let enable = from.flag("enable").unwrap_or(true);
    let pattern = from.text::<types::Pattern>("match");
    let replace = from.text::<String>("replace");
    let caller = from.text("from");
    let incoming =
        from.choices("incoming").unwrap_or_else(|| Protocol::WORDS.iter().map(|it| it.1).collect());
    let callers = from.text::<Callers>("callers");
    // Deny is the default: a call that costs money needs a caller who proved who he is.
    let only_if_registered = from.flag("only_if_registered").unwrap_or_else(|| callers.is_none());
    // Nor does a rule that is there for callers let out whoever is a host in an open room.
    let conferences = from.flag("conferences").unwrap_or(false);
    // Who is called must not choose whom we pay for next, unless the administrator says so.
    let follow_redirects = from.flag("follow_redirects").unwrap_or(false);
    let outgoing = from.choice("outgoing").unwrap_or(Protocol::Sip);
    // proxy = "host", or a table with more.
    let proxy = if from.is_string("proxy") {
        from.text("proxy").map(|host| Proxy { host, transport: Transport::Udp, credentials: None })
    } else {
        from.maybe_section("proxy").and_then(proxy)
    };
    let trunk = from.label("trunk");
    let name = from.require("name", name, "\"...\"");
    let priority = from.require("priority", priority, "100");
    let pattern = from.require("match", pattern, "'\\+49.*'");
    let (name, priority, pattern) = (name?, priority?, pattern?);
    if let Some(other) = earlier.iter().find(|other| other.priority == priority) {
        from.fault(
            "priority",
            format!("{priority} is that of \"{}\" too: give each rule its own", other.name),
        );
    }
    if earlier.iter().any(|other| other.name == name) {
        from.fault("name", format!("\"{name}\" is there twice: give each rule its own"));
    }
    if incoming.is_empty() {
        from.fault("incoming", "is empty: name a protocol, or leave the line out for all");
    }
    if outgoing != Protocol::Sip {
        from.fault("outgoing", format!("{outgoing} legs cannot be dialled yet: use sip"));
    }
    if from.has("trunk") && from.has("proxy") {
        from.fault("trunk", "and proxy say two things: leave one of them out");
    }
    if callers.is_some() && only_if_registered {
        from.fault("only_if_registered", "is for devices, and callers for a trunk: leave one of them out");
    }
    for (key, named) in [("trunk", trunk.as_ref()), ("callers", callers.as_ref().map(|it| &it.trunk))] {
        let known = |name: &String| trunks.is_none_or(|all| all.iter().any(|it| it.name == *name));
        if let Some(name) = named.filter(|name| !known(name)) {
            from.fault(key, format!("there is no trunk \"{name}\": add it under [[trunks]]"));
        }
    }
    let replace = match replace.map(|text| Template::new(&text, &pattern)) {
        Some(Err(message)) => {
            from.fault("replace", message);
            None
        }
        Some(Ok(template)) => Some(template),
        None => None,
    };
    let from = caller;
    Some(Rule {
        name,
        priority,
        enable,
        pattern,
        replace,
        from,
        callers,
        incoming,
        only_if_registered,
        conferences,
        follow_redirects,
        outgoing,
        trunk,
        proxy,
    })
}

fn proxy(mut from: Section<'_, '_>) -> Option<Proxy> {
    let host = from.text("host");
    let transport = from.choice("transport").unwrap_or(Transport::Udp);
    let credentials = from.maybe_section("credentials").and_then(credentials);
    let host = from.require("host", host, "\"proxy.example.com\"")?;
    Some(Proxy { host, transport, credentials })
}

/// What we are at a proxy or a trunk.
pub(super) fn credentials(mut from: Section<'_, '_>) -> Option<Credentials> {
    let (realm, username) = (from.label("realm"), from.label("username"));
    let password = from.secret("password");
    let realm = from.require("realm", realm, "\"...\"");
    let username = from.require("username", username, "\"...\"");
    let password = from.require("password", password, "\"...\"");
    Some(Credentials { realm: realm?, username: username?, password: password? })
}

impl Choice for Transport {
    const WORDS: &'static [(&'static str, Self)] =
        &[("udp", Self::Udp), ("tcp", Self::Tcp), ("tls", Self::Tls)];
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Encryption, Instructions, LogFormat, Strangers};

    fn faults(text: &str) -> Vec<String> {
        match config(text, "x.toml") {
            Ok(config) => panic!("accepted: {config:?}"),
            Err(error) => error.to_string().lines().map(Into::into).collect(),
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(config("", "x.toml").unwrap(), Config::default());
        assert_eq!(config("# nothing\n[sip]\n", "x.toml").unwrap(), Config::default());
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let default = Config::default();
        let shown = default.to_toml();
        assert_eq!(config(&shown, "shown").unwrap(), default);
        // What stands there as a comment is a field that would be read.
        assert!(shown.contains("# public_address = ") && shown.contains("# engine_threads = "), "{shown}");
        let commented = shown.replace("# ", "");
        let all = config(&commented.replace("  else", "  # else"), "shown").unwrap();
        assert!(all.sip.key.is_some() && all.media.engine_threads.is_some());
        assert!(!all.to_toml().contains("# "), "{}", all.to_toml());
    }

    const FULL: &str = r#"
        data = "/srv/crosspoint"
        drain = "2m"
        [sip]
        listen = ["udp:192.0.2.1:5060", "tls:[2001:db8::1]:5061"]
        public_address = "203.0.113.7"
        domains = ["example.com"]
        realm = "example.com"
        certificate = "/etc/crosspoint/cert.pem"
        key = "/etc/crosspoint/key.pem"
        min_expires = "90s"
        default_expires = "10m"
        max_expires = "1h"
        ring_timeout = "45s"
        session_expires = "10m"
        min_session_expires = "2m"
        strangers = "refused"
        trusted_sources = ["192.0.2.32/28"]
        [media]
        address = "192.0.2.1"
        ports = "20000-20099"
        socket_threads = 2
        instructions = "sse4.2"
        timeout = "1m"
        allow = ["198.51.100.0/24", "2001:db8:1::/48"]
        encryption = "required"
        [web]
        listen = ["192.0.2.1:443"]
        plain_listen = ["127.0.0.1:8080", "[::1]:8080"]
        redirect_listen = ["192.0.2.1:80"]
        trusted_proxies = ["127.0.0.1", "192.0.2.0/28"]
        proxy_protocol = true
        infinity_clients = false
        disabled_text = "Closed on Sundays"
        maintenance = true
        directory = true
        [conference]
        hide_unknown_aliases = true
        language = "de"
        prompts = "/etc/crosspoint/prompts"
        fonts = "/usr/share/fonts/truetype/noto"
        [http]
        listen = ["127.0.0.1:9000", "[::1]:9000"]
        [limits]
        calls = 10
        [log]
        level = "debug"
        format = "json"
        [events]
        file = "/var/log/crosspoint/events.jsonl"
        webhook = "https://example.com:8443/hook?to=us"
        [[devices]]
        alias = "Alice@example.com"
        password = "s3cret-one"
        [[rules]]
        name = "germany"
        priority = 20
        match = '\+49(\d+)'
        replace = "0${1}"
        from = "alice"
        incoming = ["sip"]
        [rules.proxy]
        host = "trunk.example.net:5061"
        transport = "tls"
        credentials = { realm = "trunk", username = "me", password = "s3cret-two" }
        [[rules]]
        name = "partner"
        priority = 10
        match = '.*@partner\.example'
        proxy = "192.0.2.9:5070"
        only_if_registered = false
    "#;

    #[test]
    fn a_full_file_is_read() {
        let config = config(FULL, "x.toml").unwrap();
        assert_eq!(config.drain, Duration::from_secs(120));
        assert_eq!(config.sip.max_expires, Duration::from_secs(3600));
        assert_eq!(config.sip.strangers, Strangers::Refused);
        assert!(config.sip.trusted_sources[0].contains("192.0.2.40".parse().unwrap()));
        assert_eq!(config.media.encryption, Encryption::Required);
        assert_eq!(config.media.ports.pairs(), 50);
        assert_eq!(config.media.instructions, Some(Instructions::Sse42));
        assert_eq!(config.log.format, LogFormat::Json);
        let webhook = config.events.webhook.unwrap();
        assert_eq!((webhook.host.as_str(), webhook.port, webhook.tls), ("example.com", 8443, true));
        assert_eq!(webhook.path, "/hook?to=us");
        assert!(config.conference.hide_unknown_aliases);
        assert_eq!(config.limits.calls, 10);
        assert_eq!(config.web.plain_listen.len(), 2);
        assert!(config.web.trusted_proxies[1].contains("192.0.2.15".parse().unwrap()));
        assert!(
            config.web.proxy_protocol
                && config.web.maintenance
                && config.web.directory
                && !config.web.infinity_clients
        );
        assert_eq!(config.web.disabled_text, "Closed on Sundays");
        assert_eq!(config.devices[0].alias.as_str(), "alice");
        assert_eq!(config.devices[0].username, "alice");
        let rules: Vec<_> = config.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(rules, ["partner", "germany"], "by priority");
        assert!(config.rules[1].only_if_registered, "deny is the default");
        assert!(!config.rules[1].conferences, "and so it is for conferences");
        assert!(!config.rules[1].follow_redirects, "and for what the called side says");
        assert_eq!(config.rules[0].proxy.as_ref().unwrap().host.to_string(), "192.0.2.9:5070");
        let proxy = config.rules[1].proxy.as_ref().unwrap();
        assert_eq!(proxy.host.to_string(), "trunk.example.net:5061");
        assert_eq!(proxy.credentials.as_ref().unwrap().password.expose(), "s3cret-two");
    }

    #[test]
    fn secrets_are_shown_nowhere_and_the_rest_reads_back() {
        let full = config(FULL, "x.toml").unwrap();
        let shown = full.to_toml();
        for text in [shown.as_str(), &format!("{full:?}")] {
            assert!(!text.contains("s3cret"), "{text}");
        }
        let again = config(&shown.replacen("[redacted]", "a", 3), "x.toml").unwrap();
        assert_eq!(again.to_toml(), shown);
    }

    #[test]
    fn instructions_that_do_not_exist_name_those_that_do() {
        assert_eq!(
            faults("[media]\ninstructions = \"avx1024\""),
            [
                "x.toml, line 2, media.instructions: \"avx1024\" is not known: use one of avx512, avx2, sse4.2, scalar"
            ]
        );
    }

    #[test]
    fn a_placeholder_is_no_password() {
        let text = "[[devices]]\nalias = \"a\"\npassword = \"[redacted]\"";
        assert_eq!(faults(text).len(), 1);
    }

    #[test]
    fn every_fault_is_told_with_line_field_and_remedy() {
        let text = "[sip]\nlsiten = []\nrealm = 5\nmin_expires = 60\nstrangers = \"all\"\n[sipp]\n[media]\nports = \"9-5\"\n";
        assert_eq!(
            faults(text),
            [
                "x.toml, line 2, sip.lsiten: is not known: did you mean listen?",
                "x.toml, line 3, sip.realm: is a number but must be a string: put it in quotes",
                "x.toml, line 4, sip.min_expires: has no unit: write \"60s\" for seconds",
                "x.toml, line 5, sip.strangers: \"all\" is not known: use one of devices, refused",
                "x.toml, line 6, sipp: is not known: did you mean sip?",
                "x.toml, line 8, media.ports: 9 is odd: begin with an even port, RTP takes even ones",
            ]
        );
    }

    #[test]
    fn faults_of_syntax_name_their_line() {
        let told = faults("[sip]\nrealm = \"x\nstrangers = \"refused\"\n");
        assert!(told[0].starts_with("x.toml, line 2: is not TOML: "), "{told:?}");
        assert!(!faults("= 5").is_empty());
        assert!(!faults("[sip]\n[sip]\n").is_empty());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, expected) in [
            ("drain = \"25h\"", "drain: is too long"),
            ("[sip]\nlisten = []", "sip.listen: is empty"),
            ("[sip]\nlisten = [\"tcp:0.0.0.0:5060\", \"tls:0.0.0.0:5060\"]", "shares its port"),
            ("[sip]\ncertificate = \"c.pem\"", "needs key beside it"),
            ("[sip]\nmin_expires = \"2h\"", "min_expires <= default_expires"),
            ("[sip]\nring_timeout = \"1h\"", "out of range"),
            ("[sip]\nmin_session_expires = \"30s\"", "min_session_expires: is out of range: \"90s\""),
            ("[sip]\nmin_session_expires = \"31m\"", "min_session_expires: must be"),
            ("[sip]\nsession_expires = \"1m\"", "session_expires: must be"),
            ("[sip]\npublic_address = \"0.0.0.0\"", "peers can reach"),
            ("[sip]\npublic_address = \"example.com\"", "is not an IP address"),
            ("[conference]\nlanguage = \"../en\"\nprompts = \"prompts\"", "is not a language"),
            ("[conference]\nlanguage = \"de\"", "needs prompts beside it"),
            ("[http]\nlisten = [\"9060\"]", "is not an address with port"),
            ("[web]\nplain_listen = [\"0.0.0.0:8080\"]", "use a loopback address"),
            ("[web]\nproxy_protocol = true", "name them in trusted_proxies"),
            ("[web]\ndisabled_text = \"\"", "1 to 255 bytes"),
            ("[limits]\ncalls = 0", "out of range: 1 to 100000"),
            ("[limits]\ncalls = -1", "out of range"),
            ("[events]\nwebhook = \"example.com\"", "is not a webhook"),
            ("[events]\nwebhook = \"http://example.com/x\"", "write https://"),
            ("[events]\nwebhook = \"https://me:secret@example.com/\"", "is not a webhook"),
            ("[[devices]]\nalias = \"a\"", "devices[1].password: is missing"),
            ("[devices]\nalias = \"a\"", "list of tables: write [[devices]]"),
            ("[[rules]]\nname = \"r\"\npriority = 201\nmatch = \"a\"", "out of range: 1 to 200"),
            ("[[rules]]\nname = \"r\"\npriority = 1", "rules[1].match: is missing"),
            ("[[rules]]\nname = \"r\"\npriority = 1\nmatch = \"(\"", "is not a regular expression"),
            (
                "[[rules]]\nname = \"r\"\npriority = 1\nmatch = \"a\"\nreplace = \"$1\"",
                "group $1 is not in match",
            ),
        ] {
            let told = faults(text);
            assert!(told.iter().any(|fault| fault.contains(expected)), "{text}: {told:?}");
        }
        // A list whose one entry is wrong is not empty as well.
        assert_eq!(faults("[sip]\nlisten = [\"udp:nowhere\"]").len(), 1);
        let twice =
            "[[devices]]\nalias='a'\npassword='1'\n[[devices]]\nalias='sip:A@192.0.2.1'\npassword='2'";
        assert_eq!(
            faults(twice),
            ["x.toml, line 5, devices[2].alias: a is there twice: remove one of the two"]
        );
    }
}
