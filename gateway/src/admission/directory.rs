//! Where calls go, for the exchange: the routing decision turned into a conference to enter or
//! addresses to ring.

use std::sync::Arc;

use crosspoint_proto::Transport;

use crate::alias::Alias;
use crate::cause::Reason;
use crate::conference::service::Service;
use crate::conference::{Directory, Resolution, Resolving};
use crate::config::Protocol;
use crate::guard::{Porter, Visitor};
use crate::leg::connect::ConnectLegs;
use crate::leg::sip::Trunks;
use crate::leg::{Address, Party};
use crate::net::clock::Clock;
use crate::registrar::{Binding, Registrar, one_flow_each};
use crate::routing::{self, Presence, Refused, Request, Routing, Target};
use crate::services::Services;

/// The services, the registrar and the rules as the exchange's directory.
#[derive(Debug)]
pub struct SwitchDirectory {
    /// What can be entered.
    pub services: Services,
    /// Who is registered by SIP.
    pub registrar: Registrar,
    /// Who is registered by HTTP.
    pub clients: ConnectLegs,
    /// Who is there of those that rules send calls to.
    pub trunks: Trunks,
    /// The rules.
    pub routing: Arc<Routing>,
    /// What this moment is.
    pub clock: Clock,
    /// Counts strangers who ask for what does not exist.
    pub porter: Porter,
}

impl Directory for SwitchDirectory {
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a> {
        let device = party.device.as_deref().and_then(|alias| self.routing.alias(alias).ok());
        let request = Request {
            called: party.dialled(),
            caller: &party.address,
            device: device.as_ref(),
            trunk: party.trunk.as_deref(),
            protocol: protocol(party.protocol),
            conference: false,
        };
        // The client API has a door of its own, which counts. Behind a trunk there are many, and those who
        // dial a wrong number keep nobody else out.
        let counts = party.device.is_none() && party.trunk.is_none() && party.protocol != "api";
        let stranger = counts.then(|| Visitor::calling(party));
        let resolution = self.decide(&request, stranger.as_ref());
        Box::pin(std::future::ready(resolution))
    }

    fn dial_out<'a>(&'a self, from: &'a str, destination: &'a str) -> Resolving<'a> {
        let request = Request {
            called: destination,
            caller: from,
            device: None,
            trunk: None,
            // Rules for conferences do not look at it.
            protocol: Protocol::Sip,
            conference: true,
        };
        let resolution = self.decide(&request, None);
        Box::pin(std::future::ready(resolution))
    }
}

impl SwitchDirectory {
    /// What a `stranger` asks for in vain is counted against him.
    fn decide(&self, request: &Request<'_>, stranger: Option<&Visitor>) -> Resolution {
        let away = |service: &Service| {
            stranger.is_some_and(|it| self.porter.turns_away(it, Some(service.name.as_str())))
        };
        let guesses = || stranger.is_some_and(|it| self.porter.turns_away(it, None));
        let known = Known {
            services: &self.services,
            registrar: &self.registrar,
            clients: &self.clients,
            trunks: &self.trunks,
            clock: self.clock,
        };
        let decision = self.routing.route(request, &known);
        let why = decision.why.join("; ");
        match decision.outcome {
            Ok(Target::Service { alias, .. }) => match self.services.find(&alias) {
                Some(service) if away(&service) => self.nowhere(alias, why),
                Some(service) => Resolution::Enter { service, why },
                // Taken away between two looks.
                None => Resolution::Refuse { reason: Reason::NotFound, why },
            },
            // Who guesses too much is told no more of devices than of conferences.
            Ok(Target::Device(alias)) if guesses() => self.nowhere(alias, why),
            Ok(Target::Device(alias)) => {
                let now = self.clock.now();
                let mut bindings = self.registrar.bindings(&alias, now);
                let any = !bindings.is_empty();
                if is_sips(request.called) {
                    bindings.retain(is_reached_by_tls);
                }
                let none_left = any && bindings.is_empty();
                let devices = one_flow_each(bindings);
                let bindings = devices.into_iter().filter_map(|flows| {
                    let mut flows = flows.iter().map(|binding| address(binding, &alias));
                    let first = flows.next()?;
                    Some(Address { instead: flows.collect(), ..first })
                });
                let clients = self.clients.of(&alias, now);
                let targets: Vec<_> = bindings.chain(clients.iter().map(ConnectLegs::address)).collect();
                if targets.is_empty() && none_left {
                    let why = format!("{why}; sips: was dialled, and none of its telephones is there by TLS");
                    return Resolution::Refuse { reason: Reason::Unavailable, why };
                }
                Resolution::Dial { targets, rule: None, follow: false, why }
            }
            Ok(Target::External { rule, follow, uri, trunk, proxy, .. }) => {
                let target = Address { trunk, proxy, ..Address::at(uri) };
                Resolution::Dial { targets: vec![target], rule: Some(rule), follow, why }
            }
            Err(refused) => {
                let alias = self.routing.alias(request.called).ok();
                match (stranger, alias) {
                    (Some(stranger), Some(alias)) if is_a_guess(refused, &alias) => {
                        self.porter.missed(stranger);
                        self.nowhere(alias, why)
                    }
                    (Some(_), Some(alias)) if refused == Refused::NotRegistered && guesses() => {
                        self.nowhere(alias, why)
                    }
                    _ => Resolution::Refuse { reason: refused.reason(), why },
                }
            }
        }
    }

    /// What a stranger is told of an alias that nobody has, and of every alias once he has guessed
    /// too much.
    fn nowhere(&self, alias: Alias, why: String) -> Resolution {
        if self.porter.hides() {
            return Resolution::Enter { service: Arc::new(Service::decoy(alias)), why };
        }
        // Numbers that nobody has are refused as calls to the outside.
        let reason = if alias.is_number() { Reason::Forbidden } else { Reason::NotFound };
        Resolution::Refuse { reason, why }
    }
}

fn address(binding: &Binding, alias: &Alias) -> Address {
    Address {
        flow: binding.flow.map(|flow| flow.to_string()),
        device: Some(alias.to_string()),
        translated: binding.translated,
        path: binding.path.iter().map(ToString::to_string).collect(),
        ..Address::at(binding.uri.to_string())
    }
}

/// Who dials `sips:` wants TLS all the way (RFC 3261 section 26.2.2).
fn is_sips(called: &str) -> bool {
    called.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("sips"))
}

/// Whether a telephone of ours is (RFC 5630 section 5.3): by its connection, or because it says so of the
/// address that it is called at.
fn is_reached_by_tls(binding: &Binding) -> bool {
    let flow = binding.flow.map(|flow| flow.transport());
    flow.map_or_else(|| binding.uri.as_sip().is_some_and(|uri| uri.secure), Transport::is_secure)
}

/// Whether a call that goes nowhere might have found a conference, had it guessed better.
fn is_a_guess(refused: Refused, alias: &Alias) -> bool {
    match refused {
        Refused::NotFound => true,
        Refused::Denied => alias.domain().is_none(),
        _ => false,
    }
}

/// Who can be called at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) services: &'a Services,
    pub(super) registrar: &'a Registrar,
    pub(super) clients: &'a ConnectLegs,
    pub(super) trunks: &'a Trunks,
    pub(super) clock: Clock,
}

impl routing::Directory for Known<'_> {
    fn device(&self, alias: &Alias) -> Option<Presence> {
        self.registrar.device(alias)?;
        let now = self.clock.now();
        let there =
            !self.registrar.bindings(alias, now).is_empty() || !self.clients.of(alias, now).is_empty();
        Some(if there { Presence::Registered } else { Presence::Away })
    }

    fn service(&self, alias: &Alias) -> Option<String> {
        self.services.find(alias).map(|service| service.name.clone())
    }

    fn is_down(&self, trunk: &str) -> bool {
        self.trunks.is_down(trunk)
    }
}

fn protocol(word: &str) -> Protocol {
    match word {
        "h323" => Protocol::H323,
        // Whoever calls by the client API has a browser or an app.
        "webrtc" | "api" => Protocol::Webrtc,
        "rtmp" => Protocol::Rtmp,
        _ => Protocol::Sip,
    }
}

#[cfg(test)]
mod tests;
