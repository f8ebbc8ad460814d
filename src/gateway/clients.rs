//! The side of the clients: their API over the web listeners.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crosspoint_gateway::api::client::{self, ClientApi, ClientApiParts, RegistrationParts};
use crosspoint_gateway::api::web::{Bound, Listening, Web};
use crosspoint_gateway::conference::Exchange;
use crosspoint_gateway::conference::ledger::Found;
use crosspoint_gateway::conference::service::Service;
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver;
use crosspoint_gateway::net::tls::WebTls;
use crosspoint_gateway::routing::Routing;
use crosspoint_gateway::services::Services;
use crosspoint_gateway::settings::Settings;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often it is looked whose token has expired: they live for minutes.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// What it is made of.
pub(super) struct ClientsParts {
    pub(super) bound: Bound,
    pub(super) tls: WebTls,
    pub(super) services: Services,
    pub(super) routing: Arc<Routing>,
    pub(super) exchange: Exchange,
    pub(super) registrations: RegistrationParts,
    /// What a process before this one was killed in.
    pub(super) left: Vec<Found>,
    pub(super) clock: Clock,
    /// Whether clients may come, as it changes.
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) streams_per_source: usize,
}

/// It, running.
#[derive(Debug)]
pub(super) struct Clients {
    api: ClientApi,
    web: Web,
    expiry: JoinSet<()>,
}

impl Clients {
    pub(super) fn start(parts: ClientsParts) -> io::Result<Self> {
        let ClientsParts {
            bound,
            tls,
            services,
            routing,
            exchange,
            registrations,
            left,
            clock,
            settings,
            streams_per_source,
        } = parts;
        let api = ClientApi::new(ClientApiParts {
            services: Arc::new(ByAlias { services: services.clone(), routing }),
            exchange,
            registrations,
            clock: Arc::new(move || clock.now()),
            settings,
            streams_per_source,
            version: env!("CARGO_PKG_VERSION"),
        });
        for found in left {
            if let Some(service) = services.named(&found.page.service) {
                api.take_up(&service, found);
            }
        }
        let web = bound.serve(api.router(), tls)?;
        let mut expiry = JoinSet::new();
        let expiring = api.clone();
        expiry.spawn(async move {
            let mut tick = tokio::time::interval(EXPIRE_EVERY);
            loop {
                tick.tick().await;
                expiring.expire();
            }
        });
        Ok(Self { api, web, expiry })
    }

    pub(super) fn api(&self) -> ClientApi {
        self.api.clone()
    }

    pub(super) fn listening(&self) -> &[Listening] {
        self.web.listening()
    }

    pub(super) fn stats(&self) -> Arc<driver::Stats> {
        self.web.stats()
    }

    /// Everybody is told that the gateway stops.
    pub(super) fn end(&self) {
        self.api.end();
    }

    pub(super) async fn stop(mut self) {
        self.web.stop().await;
        self.expiry.shutdown().await;
    }
}

/// Services by what clients put into the path: with and without a domain of ours, in any case (S55,
/// S85).
struct ByAlias {
    services: Services,
    routing: Arc<Routing>,
}

impl client::Services for ByAlias {
    fn service(&self, alias: &str) -> Option<Arc<Service>> {
        self.services.find(&self.routing.alias(alias).ok()?)
    }
}
