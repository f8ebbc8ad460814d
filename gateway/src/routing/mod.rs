//! Where a call goes: into a conference, to a registered device, by a rule to the outside, or
//! nowhere.
//!
//! A pure function of the request, the services, the devices and the configuration, which also says why: calls
//! use it, `crosspoint explain` prints it. Nothing external is reachable without a rule that says
//! so (deny by default), and who claims to be a device must prove it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use crosspoint_proto::Transport;
use crosspoint_proto::sip::{Host, SipUri, Uri};

use crate::alias::{Alias, AliasError, Domains};
use crate::cause::Reason;
use crate::config::{Config, HostPort, Protocol, Proxy, Rule, Strangers, Trunk};

/// A call that looks for its way.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What was called: a URI or a dial string.
    pub called: &'a str,
    /// Who says that he calls: a URI or an alias.
    pub caller: &'a str,
    /// The device that the caller proved to be, if he did.
    pub device: Option<&'a Alias>,
    /// The trunk that it came from, by its source.
    pub trunk: Option<&'a str>,
    /// What the call came by.
    pub protocol: Protocol,
    /// A conference calls, because a host of it wants so or its service says so: `caller` is its
    /// alias. Only rules that are there for conferences let it out.
    pub conference: bool,
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Into the conference of a service.
    Service {
        /// The alias that reaches it.
        alias: Alias,
        /// What it is called.
        name: String,
    },
    /// To every contact that the device has.
    Device(Alias),
    /// To the outside.
    External {
        /// The rule that allows it.
        rule: String,
        /// Where the called side sends it (3xx) may be asked for next.
        follow: bool,
        /// What is called there, with scheme.
        uri: String,
        /// By which protocol.
        protocol: Protocol,
        /// The trunk that it goes to, if it goes to one.
        trunk: Option<String>,
        /// The next hop else; `None`: the host of `uri`.
        proxy: Option<Proxy>,
    },
}

/// Why a call goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// What was called cannot be an alias.
    #[error("not an alias: {0}")]
    NotAnAlias(AliasError),
    /// The caller must authenticate first; with credentials the same call may get through. SIP
    /// answers with a challenge.
    #[error("the caller must authenticate")]
    Unauthenticated,
    /// Nobody has that alias, and it does not look like something outside.
    #[error("nobody has this alias")]
    NotFound,
    /// The device exists and is not registered.
    #[error("the device is not registered")]
    NotRegistered,
    /// It is outside, and no rule lets this caller go there. Not "not found": whether it exists
    /// is not the point, and the caller's administrator should know that a rule is missing.
    #[error("no rule allows this call to leave")]
    Denied,
    /// A rule matches but says neither by proxy nor by host where to go.
    #[error("the rule leads nowhere")]
    NoDestination,
    /// Every trunk that a rule would send it to is down.
    #[error("the trunk does not answer")]
    TrunkDown,
    /// It is to be called by SIPS, and the rule's next hop is not reached by TLS.
    #[error("it would lead from sips to sip")]
    Downgrade,
}

impl Refused {
    /// What the calling leg is ended with: 404, 480, 504, 488 and 403 in SIP.
    pub const fn reason(self) -> Reason {
        match self {
            Self::NotAnAlias(_) | Self::NotFound => Reason::NotFound,
            Self::NotRegistered => Reason::Unavailable,
            Self::TrunkDown => Reason::Unreachable,
            Self::Downgrade => Reason::NotAcceptable,
            Self::Unauthenticated | Self::Denied | Self::NoDestination => Reason::Forbidden,
        }
    }
}

/// The outcome and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Where to, or why not.
    pub outcome: Result<Target, Refused>,
    /// One sentence for each thing that was looked at, in order.
    pub why: Vec<String>,
}

/// Whether a device can be called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has contacts.
    Registered,
    /// It has none.
    Away,
}

/// Who is known, and who is there.
pub trait Directory {
    /// The device of an alias; `None` when there is none.
    fn device(&self, alias: &Alias) -> Option<Presence>;

    /// The name of the service that an alias reaches; `None` when there is none.
    fn service(&self, alias: &Alias) -> Option<String>;

    /// Whether that trunk has been asked whether it is there, and does not answer.
    fn is_down(&self, trunk: &str) -> bool;
}

/// A fixed directory.
#[derive(Clone, Debug, Default)]
pub struct Fixed {
    /// The devices.
    pub devices: HashMap<Alias, Presence>,
    /// The names of services, by alias.
    pub services: HashMap<Alias, String>,
    /// The trunks that do not answer.
    pub down: Vec<String>,
}

impl Directory for Fixed {
    fn device(&self, alias: &Alias) -> Option<Presence> {
        self.devices.get(alias).copied()
    }

    fn service(&self, alias: &Alias) -> Option<String> {
        self.services.get(alias).cloned()
    }

    fn is_down(&self, trunk: &str) -> bool {
        self.down.iter().any(|it| it == trunk)
    }
}

/// What decides, beside the devices.
#[derive(Debug)]
pub struct Routing {
    domains: Domains,
    trunks: Vec<Trunk>,
    /// What can be configured anew, and the rules of the store. Written by one at a time.
    parts: Mutex<Parts>,
    /// What holds. Calls that are routed already do not look again.
    live: ArcSwap<Live>,
}

#[derive(Debug)]
struct Parts {
    strangers: Strangers,
    /// Those of the configuration.
    file: Vec<Rule>,
    stored: Vec<Rule>,
}

#[derive(Debug)]
struct Live {
    strangers: Strangers,
    /// All of them, by priority.
    rules: Arc<Vec<Rule>>,
}

impl Parts {
    fn live(&self) -> Live {
        let clashes = |rule: &Rule| {
            let clash = self.file.iter().any(|it| it.name == rule.name || it.priority == rule.priority);
            if clash {
                tracing::warn!(
                    name = rule.name,
                    "a rule in the store is one of the configuration file: the file counts"
                );
            }
            clash
        };
        let mut rules = self.file.clone();
        rules.extend(self.stored.iter().filter(|rule| !clashes(rule)).cloned());
        rules.sort_by_key(|rule| rule.priority);
        Live { strangers: self.strangers, rules: Arc::new(rules) }
    }
}

impl Routing {
    /// The routing of a configuration.
    pub fn new(config: &Config) -> Self {
        let parts = Parts { strangers: config.sip.strangers, file: config.rules.clone(), stored: Vec::new() };
        Self {
            domains: Domains::new(config.sip.domains.iter().cloned()),
            trunks: config.trunks.clone(),
            live: ArcSwap::from_pointee(parts.live()),
            parts: Mutex::new(parts),
        }
    }

    /// Puts `stored` beside the rules of the configuration, in place of those that were there before.
    /// One with the name or the priority of a rule of the configuration is left out.
    pub fn set_stored(&self, stored: Vec<Rule>) {
        self.change(|parts| parts.stored = stored);
    }

    /// Takes the rules of another configuration, and whom it lets strangers call. Its domains stay: what
    /// is stored is spelled by them.
    pub fn set_config(&self, config: &Config) {
        self.change(|parts| {
            parts.file.clone_from(&config.rules);
            parts.strangers = config.sip.strangers;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        self.live.store(Arc::new(parts.live()));
    }

    /// The rules, by priority.
    pub fn rules(&self) -> Arc<Vec<Rule>> {
        self.live.load().rules.clone()
    }

    /// The domains that are ours.
    pub const fn domains(&self) -> &Domains {
        &self.domains
    }

    /// The alias in a dialled string or URI, in its canonical form.
    pub fn alias(&self, dialled: &str) -> Result<Alias, AliasError> {
        Alias::parse(dialled, &self.domains)
    }

    /// Decides. The same request, devices and configuration give the same decision.
    pub fn route(&self, request: &Request<'_>, directory: &impl Directory) -> Decision {
        let mut why = Vec::new();
        let outcome = self.decide(request, directory, &mut why);
        Decision { outcome, why }
    }

    fn decide(
        &self,
        request: &Request<'_>,
        directory: &impl Directory,
        why: &mut Vec<String>,
    ) -> Result<Target, Refused> {
        // Before anything is looked up: whoever may not call is not told by the answer who is here.
        let live = self.live.load();
        let stranger = !request.conference && request.device.is_none() && request.trunk.is_none();
        if stranger && live.strangers == Strangers::Refused {
            why.push("the caller has not authenticated, and sip.strangers = \"refused\"".into());
            return Err(Refused::Unauthenticated);
        }
        let called = Alias::parse(request.called, &self.domains).map_err(|error| {
            why.push(format!("what was called is no alias: {error}"));
            Refused::NotAnAlias(error)
        })?;
        why.push(format!("called is {called}"));
        self.identify(request, directory, why)?;
        if let Some(known) = Self::known(&called, directory, why) {
            return known;
        }
        why.push(format!("no device has the alias {called}"));
        let rules = &live.rules;
        let mut barred = None;
        for rule in rules.iter() {
            match self.try_rule(rule, &called, request, directory, why) {
                // The next rule that matches may lead there by another way.
                Some(Err(why @ (Refused::TrunkDown | Refused::Downgrade))) => barred = Some(why),
                Some(outcome) => return outcome,
                None => {}
            }
        }
        if let Some(why) = barred {
            return Err(why);
        }
        if rules.is_empty() {
            why.push("there are no rules".into());
        }
        if let Some(domain) = called.domain() {
            why.push(format!("{domain} is not a domain of ours: calls leave only by a rule"));
            Err(Refused::Denied)
        } else if called.is_number() {
            why.push("it is a telephone number: calls leave only by a rule".into());
            Err(Refused::Denied)
        } else {
            Err(Refused::NotFound)
        }
    }

    /// Who claims to be a device must have proved it: nobody calls in another's name.
    fn identify(
        &self,
        request: &Request<'_>,
        directory: &impl Directory,
        why: &mut Vec<String>,
    ) -> Result<(), Refused> {
        if request.conference {
            why.push(format!("the conference {} calls", request.caller));
            return Ok(());
        }
        if let Some(device) = request.device {
            why.push(format!("the caller authenticated as device {device}"));
            return Ok(());
        }
        let who = match request.trunk {
            Some(trunk) => format!("calls from trunk \"{trunk}\""),
            None => "is a stranger".into(),
        };
        match Alias::parse(request.caller, &self.domains) {
            Ok(caller) if directory.device(&caller).is_some() => {
                why.push(format!("the caller says he is device {caller} and has not proved it"));
                Err(Refused::Unauthenticated)
            }
            Ok(caller) => {
                why.push(format!("the caller {caller} {who}"));
                Ok(())
            }
            Err(error) => {
                why.push(format!("the caller {who} and has no proper alias: {error}"));
                Ok(())
            }
        }
    }

    /// A service first, then a device; `None`: neither has that alias.
    fn known(
        alias: &Alias,
        directory: &impl Directory,
        why: &mut Vec<String>,
    ) -> Option<Result<Target, Refused>> {
        if let Some(name) = directory.service(alias) {
            why.push(format!("the conference \"{name}\" has the alias {alias}"));
            return Some(Ok(Target::Service { alias: alias.clone(), name }));
        }
        let presence = directory.device(alias)?;
        Some(Self::to_device(alias.clone(), presence, why))
    }

    fn to_device(alias: Alias, presence: Presence, why: &mut Vec<String>) -> Result<Target, Refused> {
        if presence == Presence::Away {
            why.push(format!("device {alias} is not registered now"));
            return Err(Refused::NotRegistered);
        }
        why.push(format!("device {alias} is registered"));
        Ok(Target::Device(alias))
    }

    /// `None`: the rule does not match, and the next one is looked at.
    fn try_rule(
        &self,
        rule: &Rule,
        called: &Alias,
        request: &Request<'_>,
        directory: &impl Directory,
        why: &mut Vec<String>,
    ) -> Option<Result<Target, Refused>> {
        let mut pass = |reason: &str| {
            why.push(format!("rule {} \"{}\" does not apply: {reason}", rule.priority, rule.name));
            None
        };
        if !rule.enable {
            return pass("it is disabled");
        }
        if request.conference && !rule.conferences {
            return pass("not for calls of conferences: conferences = true makes it so");
        }
        if !request.conference && !rule.incoming.contains(&request.protocol) {
            return pass(&format!("not for calls by {}", request.protocol));
        }
        let full = Alias::with_host(request.called).unwrap_or_else(|_| called.clone());
        let Some(subject) = [called, &full].into_iter().find(|it| rule.pattern.regex().is_match(it.as_str()))
        else {
            return pass(&format!("{called} does not match {}", rule.pattern));
        };
        if let Some(from) = &rule.from {
            let claimed = Alias::parse(request.caller, &self.domains).ok();
            let caller = request.device.or(claimed.as_ref()).map(Alias::as_str).unwrap_or_default();
            if !from.regex().is_match(caller) {
                return pass(&format!("the caller {caller} does not match {from}"));
            }
        }
        if let Some(callers) = &rule.callers
            && !request.conference
            && request.trunk != Some(&callers.trunk)
        {
            return pass(&format!("it is for calls from trunk \"{}\"", callers.trunk));
        }
        if rule.only_if_registered && !request.conference {
            match request.device {
                None if request.trunk.is_some() => return pass("it is for registered devices only"),
                // Matching goes on after authentication: a later rule might mean somebody else.
                None => {
                    why.push(format!(
                        "rule {} \"{}\" is for registered devices only",
                        rule.priority, rule.name
                    ));
                    return Some(Err(Refused::Unauthenticated));
                }
                Some(device) if directory.device(device) != Some(Presence::Registered) => {
                    return pass(&format!("device {device} has authenticated but is not registered"));
                }
                Some(_) => {}
            }
        }
        why.push(format!("rule {} \"{}\" matches {subject}", rule.priority, rule.name));
        let replaced = rule.replace.as_ref().map(|template| {
            let mut text = String::new();
            if let Some(groups) = rule.pattern.regex().captures(subject.as_str()) {
                groups.expand(template.as_str(), &mut text);
            }
            why.push(format!("it makes {text} of it"));
            text
        });
        // What was asked for outside by SIPS stays so, whatever the rule makes of it. Within a domain of ours the
        // rule is what says how calls go on (RFC 3261 section 26.2.2).
        let outside = subject.as_str().rsplit_once('@').is_some_and(|(_, host)| !self.domains.list(host));
        let called = Called {
            alias: replaced.as_deref().unwrap_or(subject.as_str()),
            spelled: replaced.as_deref().unwrap_or(request.called),
            secure: outside && named(request.called).is_some_and(|uri| uri.secure),
        };
        Some(self.follow(rule, &called, directory, why))
    }

    fn follow(
        &self,
        rule: &Rule,
        called: &Called<'_>,
        directory: &impl Directory,
        why: &mut Vec<String>,
    ) -> Result<Target, Refused> {
        let alias = Alias::parse(called.alias, &self.domains).map_err(|error| {
            why.push(format!("which is no alias: {error}"));
            Refused::NotAnAlias(error)
        })?;
        if let Some(known) = Self::known(&alias, directory, why) {
            return known;
        }
        let trunk = rule.trunk.as_ref().map(|name| (name, self.trunks.iter().find(|it| it.name == *name)));
        if let Some((name, None)) = trunk {
            why.push(format!("there is no trunk \"{name}\": add it, or change the rule"));
            return Err(Refused::NoDestination);
        }
        let trunk = trunk.and_then(|(_, trunk)| trunk);
        if let Some(trunk) = trunk.filter(|it| directory.is_down(&it.name)) {
            why.push(format!("trunk \"{}\" does not answer", trunk.name));
            return Err(Refused::TrunkDown);
        }
        let hop = trunk.map(Trunk::domain).or_else(|| rule.proxy.as_ref().map(|proxy| proxy.host.clone()));
        let Some(uri) = self.external_uri(called, hop.as_ref()) else {
            why.push(
                "neither the alias nor the rule names a host: add a proxy or a trunk to the rule".into(),
            );
            return Err(Refused::NoDestination);
        };
        let next = trunk.map(|it| it.transport).or_else(|| rule.proxy.as_ref().map(|proxy| proxy.transport));
        if uri.secure && next.is_some_and(|transport| transport != Transport::Tls) {
            why.push("it was called by sips, and the next hop is not reached by TLS".into());
            return Err(Refused::Downgrade);
        }
        let uri = uri.to_string();
        match (trunk, &rule.proxy) {
            (Some(trunk), _) => {
                why.push(format!("it goes to {uri} by trunk \"{}\" at {}", trunk.name, trunk.host));
            }
            (None, Some(proxy)) => why.push(format!("it goes to {uri} by the proxy {}", proxy.host)),
            (None, None) => why.push(format!("it goes to {uri}")),
        }
        if rule.follow_redirects {
            why.push("where it is sent elsewhere, it goes as a new call of the same caller".into());
        }
        let (name, protocol, proxy) = (rule.name.clone(), rule.outgoing, rule.proxy.clone());
        let (follow, trunk) = (rule.follow_redirects, rule.trunk.clone());
        Ok(Target::External { rule: name, follow, uri, protocol, trunk, proxy })
    }

    /// The URI to call outside: at the host of the alias, unless that is a domain of ours, with the port and
    /// the transport that were named with it; else at the next hop.
    fn external_uri(&self, called: &Called<'_>, hop: Option<&HostPort>) -> Option<SipUri> {
        let full = Alias::with_host(called.alias).ok()?;
        let (user, host) = match full.as_str().rsplit_once('@') {
            Some((user, host)) => (user, Some(host).filter(|host| !self.domains.list(host))),
            None => (full.as_str(), None),
        };
        let (text, port) = match (host, hop) {
            (Some(host), _) => (host.to_owned(), None),
            (None, Some(hop)) => (hop.host.clone(), hop.port),
            (None, None) => return None,
        };
        let parsed = match text.parse() {
            Ok(address) => Host::from(std::net::IpAddr::to_canonical(&address)),
            Err(_) => Host::parse(&text).ok()?,
        };
        let mut uri = SipUri::new(Some(user), parsed, port);
        let spelled = host.and_then(|_| named(called.spelled));
        if let Some(spelled) =
            spelled.filter(|it| it.host.to_string().eq_ignore_ascii_case(&uri.host.to_string()))
        {
            (uri.port, uri.secure) = (spelled.port, spelled.secure);
            if let Some(transport) = spelled.transport() {
                uri.params.set("transport", Some(transport));
            }
        }
        uri.secure |= called.secure;
        Some(uri)
    }
}

/// What a rule is followed with.
struct Called<'a> {
    /// What is called now.
    alias: &'a str,
    /// As somebody spelled it: the caller, or who wrote the rule.
    spelled: &'a str,
    /// It must be reached by SIPS.
    secure: bool,
}

/// What was dialled as a SIP URI, where it is one with a host.
fn named(dialled: &str) -> Option<SipUri> {
    let dialled = dialled.trim();
    let uri = Uri::parse(dialled).ok();
    let uri = uri.filter(|uri| uri.as_sip().is_some()).or_else(|| {
        let bare = dialled.contains('@').then(|| Uri::parse(&format!("sip:{dialled}")))?;
        bare.ok()
    });
    uri.and_then(|uri| uri.as_sip().cloned())
}

#[cfg(test)]
mod tests;
