//! Where calls go, for the exchange: the routing decision turned into addresses to ring.

use std::sync::Arc;

use crate::conference::{Directory, Resolution, Resolving};
use crate::config::Protocol;
use crate::leg::{Address, Party};
use crate::net::clock::Clock;
use crate::registrar::Registrar;
use crate::routing::{Registered, Request, Routing, Target};

/// The registrar and the rules as the exchange's directory.
#[derive(Debug)]
pub struct SwitchDirectory {
    /// Who is registered.
    pub registrar: Registrar,
    /// The rules.
    pub routing: Arc<Routing>,
    /// What this moment is.
    pub clock: Clock,
}

impl Directory for SwitchDirectory {
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a> {
        let resolution = self.decide(party);
        Box::pin(std::future::ready(resolution))
    }
}

impl SwitchDirectory {
    fn decide(&self, party: &Party) -> Resolution {
        let device = party.device.as_deref().and_then(|alias| self.routing.alias(alias).ok());
        let request = Request {
            called: &party.called,
            caller: &party.address,
            device: device.as_ref(),
            protocol: protocol(party.protocol),
        };
        let registered = Registered { registrar: &self.registrar, clock: self.clock };
        let decision = self.routing.route(&request, &registered);
        let why = decision.why.join("; ");
        match decision.outcome {
            Ok(Target::Device(alias)) => {
                let targets = self
                    .registrar
                    .bindings(&alias, self.clock.now())
                    .into_iter()
                    .map(|binding| Address {
                        uri: binding.uri.to_string(),
                        flow: binding.flow.map(|flow| flow.to_string()),
                        device: Some(alias.to_string()),
                        translated: binding.translated,
                        proxy: None,
                    })
                    .collect();
                Resolution::Dial { targets, rule: None, why }
            }
            Ok(Target::External { rule, uri, proxy, .. }) => {
                let target = Address { uri, flow: None, device: None, translated: false, proxy };
                Resolution::Dial { targets: vec![target], rule: Some(rule), why }
            }
            Err(refused) => Resolution::Refuse { reason: refused.reason(), why },
        }
    }
}

fn protocol(word: &str) -> Protocol {
    match word {
        "h323" => Protocol::H323,
        "webrtc" => Protocol::Webrtc,
        "rtmp" => Protocol::Rtmp,
        _ => Protocol::Sip,
    }
}
