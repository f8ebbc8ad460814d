//! The side of the administrator: the management API and the tokens that open it.

use std::path::Path;

use crosspoint_gateway::alias::Domains;
use crosspoint_gateway::api::client::ClientApi;
use crosspoint_gateway::api::{Admin, AdminParts};
use crosspoint_gateway::config::{Config, Redacted};
use crosspoint_gateway::events::Events;
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::orders::Orders;
use crosspoint_gateway::registrar::Store;
use crosspoint_gateway::settings::{LiveSettings, Settings};
use crosspoint_gateway::tokens::{self, Tokens};

use super::{StartError, View, seed};

/// What it keeps beside what everybody sees.
#[derive(Clone, Debug)]
pub(super) struct Management {
    pub(super) tokens: Tokens,
    pub(super) settings: LiveSettings,
    pub(super) events: Events,
    pub(super) orders: Orders,
}

impl Management {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            tokens: Tokens::default(),
            settings: LiveSettings::new(Settings::from(config)),
            events: Events::default(),
            orders: Orders::default(),
        }
    }

    pub(super) fn api(&self, view: &View, participants: ClientApi) -> Result<Admin, StartError> {
        let config = view.config.load();
        Ok(Admin::new(AdminParts {
            data: view.data.clone(),
            tokens: self.tokens.clone(),
            registrar: view.registrar.clone(),
            clients: view.connect.clone(),
            exchange: view.exchange.clone(),
            participants,
            events: self.events.clone(),
            orders: self.orders.clone(),
            gate: view.gate.clone(),
            settings: self.settings.clone(),
            engines: view.engines.clone(),
            config: view.config.clone(),
            domains: Domains::new(config.sip.domains.iter().cloned()),
            realm: config.sip.realm.clone(),
            clock: view.clock,
            key: seed()?,
        }))
    }
}

/// Makes a token if there never was one. To be done last of all: it is shown once, and not at all by a
/// gateway that does not start.
pub(super) fn first_token(data: &Path, clock: Clock) -> Result<Option<Redacted>, StartError> {
    let store = Store::open(data)?;
    if tokens::were_any(&store)? {
        return Ok(None);
    }
    let secret = tokens::secret(seed()?);
    tokens::add(&store, tokens::FIRST, &secret, clock.both().wall)?;
    Ok(Some(secret))
}
