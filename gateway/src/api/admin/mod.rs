//! The management API, version 1, on the management listener: services, devices, rules and settings that
//! are stored, what goes on now, and commands to it. Translation only: what may be stored is said by the
//! stores, what may be done in a conference by its policy, with the administrator as the one who does it.
//!
//! Every request carries a token: `Authorization: Bearer ...` ([`crate::tokens`]). What is answered with
//! 2xx is on disk, and in effect for new calls; calls that stand go on. Errors are
//! `{"error": {"field", "message"}}`. The shapes are in `openapi.json` beside this file, which is served
//! and only grows.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::sync::Semaphore;

use crate::alias::Domains;
use crate::api::client::ClientApi;
use crate::conference::Exchange;
use crate::config::LiveConfig;
use crate::events::{Events, What};
use crate::guard::Gate;
use crate::leg::connect::ConnectLegs;
use crate::media::EngineHandle;
use crate::net::clock::Clock;
use crate::orders::Orders;
use crate::registrar::{Registrar, Store};
use crate::settings::LiveSettings;
use crate::tokens::Tokens;

mod answer;
mod bans;
mod body;
mod capture;
mod commands;
mod devices;
mod events;
mod history;
mod live;
mod process;
mod rules;
mod services;
mod settings;
#[cfg(test)]
pub(super) mod tests;
mod trace;

use answer::{Refused, Tags};

/// Where all of it is.
pub const PREFIX: &str = "/api/admin/v1";

/// The document of all routes and shapes.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What the API is made of.
#[derive(Debug)]
pub struct AdminParts {
    /// The data folder, with the store and the call records.
    pub data: PathBuf,
    /// Who may use it.
    pub tokens: Tokens,
    /// Devices, and where they are.
    pub registrar: Registrar,
    /// Clients that are registered by HTTP.
    pub clients: ConnectLegs,
    /// Calls and conferences.
    pub exchange: Exchange,
    /// The API of those who take part without a leg: they are told by it where to go.
    pub participants: ClientApi,
    /// What has happened.
    pub events: Events,
    /// What the program around the gateway is told.
    pub orders: Orders,
    /// Whose SIP is read.
    pub gate: Gate,
    /// Global settings.
    pub settings: LiveSettings,
    /// What mixes and composes: it knows how large pictures are.
    pub engines: Vec<EngineHandle>,
    /// What the configuration file says, as it is read again and again.
    pub config: LiveConfig,
    /// The domains that are ours.
    pub domains: Domains,
    /// What passwords are bound to.
    pub realm: String,
    /// What this moment is.
    pub clock: Clock,
    /// 256 random bits, for entity tags.
    pub key: [u8; 32],
}

/// The API. Clones share it.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    parts: AdminParts,
    tags: Tags,
    /// A connection of its own, opened when it is first needed. Used by one request at a time: a
    /// commit takes milliseconds, and those who change something are few.
    store: Mutex<Option<Store>>,
    /// Event streams that may be open.
    streams: Arc<Semaphore>,
    /// Calls that are captured.
    captured: Mutex<BTreeSet<u64>>,
}

/// The name of the token that a request came with.
#[derive(Clone, Debug)]
struct By(String);

impl Admin {
    /// The API over its parts.
    pub fn new(parts: AdminParts) -> Self {
        let tags = Tags(parts.key);
        let streams = Arc::new(Semaphore::new(events::STREAMS));
        Self(Arc::new(Inner { parts, tags, store: Mutex::default(), streams, captured: Mutex::default() }))
    }

    /// Its routes. None answers without a token.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        for route in routes() {
            router = router.route(route.path, route.handler);
        }
        let missing = || async { Refused::not_found("there is no such resource: see /openapi.json") };
        let wrong = || async {
            Refused::new(StatusCode::METHOD_NOT_ALLOWED, "the resource has other methods: see Allow")
        };
        let router = router
            .method_not_allowed_fallback(wrong)
            .fallback(missing)
            .layer(middleware::from_fn_with_state(self.clone(), authenticate))
            .with_state(self.clone());
        Router::new().nest(PREFIX, router)
    }

    /// Every route: its method and its path below [`PREFIX`].
    pub fn routes() -> Vec<(Method, &'static str)> {
        routes().into_iter().map(|it| (it.method, it.path)).collect()
    }

    /// Works on the store, away from the threads of the runtime.
    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut store = this.0.store.lock().unwrap_or_else(PoisonError::into_inner);
            if store.is_none() {
                *store = Some(Store::open(&this.0.parts.data)?);
            }
            match store.as_mut() {
                Some(store) => work(store),
                None => Err(Refused::busy()),
            }
        });
        let ended = |_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway stops");
        done.await.map_err(ended)?
    }

    /// Changes the store; when this returns the change is on disk, in effect and told of.
    async fn change<T: Send + 'static>(
        &self,
        by: By,
        what: Changed,
        work: impl FnOnce(&mut Store) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let done = self.store(work).await?;
        self.0.parts.registrar.look().await;
        let Changed { kind, name, change } = what;
        tracing::info!(kind, name, change, by = by.0, "changed by the management API");
        let told = What::SettingChanged { kind, name, change, by: by.0 };
        self.0.parts.events.tell(self.0.parts.clock.both().wall, told);
        Ok(done)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// What is told of a change.
struct Changed {
    kind: &'static str,
    name: String,
    change: &'static str,
}

/// One route below [`PREFIX`].
struct Route {
    method: Method,
    path: &'static str,
    handler: MethodRouter<Admin>,
}

impl Route {
    fn new<H: Handler<T, Admin>, T: 'static>(method: Method, path: &'static str, handler: H) -> Self {
        let filter = match method {
            Method::PUT => MethodFilter::PUT,
            Method::PATCH => MethodFilter::PATCH,
            Method::DELETE => MethodFilter::DELETE,
            Method::POST => MethodFilter::POST,
            _ => MethodFilter::GET,
        };
        Self { method, path, handler: on(filter, handler) }
    }
}

/// Every route there is: what is not here does not exist, and tests hold it against the document and
/// against the rule that none answers without a token.
fn routes() -> Vec<Route> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    vec![
        Route::new(GET, "/openapi.json", openapi),
        Route::new(GET, "/services", services::list),
        Route::new(POST, "/services", services::add),
        Route::new(GET, "/services/{name}", services::show),
        Route::new(PUT, "/services/{name}", services::put),
        Route::new(PATCH, "/services/{name}", services::patch),
        Route::new(DELETE, "/services/{name}", services::remove),
        Route::new(GET, "/devices", devices::list),
        Route::new(POST, "/devices", devices::add),
        Route::new(GET, "/devices/{alias}", devices::show),
        Route::new(PUT, "/devices/{alias}", devices::put),
        Route::new(PATCH, "/devices/{alias}", devices::patch),
        Route::new(DELETE, "/devices/{alias}", devices::remove),
        Route::new(GET, "/rules", rules::list),
        Route::new(POST, "/rules", rules::add),
        Route::new(GET, "/rules/{name}", rules::show),
        Route::new(PUT, "/rules/{name}", rules::put),
        Route::new(PATCH, "/rules/{name}", rules::patch),
        Route::new(DELETE, "/rules/{name}", rules::remove),
        Route::new(GET, "/settings", settings::show),
        Route::new(PUT, "/settings", settings::put),
        Route::new(PATCH, "/settings", settings::patch),
        Route::new(GET, "/status/conferences", live::conferences),
        Route::new(GET, "/status/conferences/{name}", live::conference),
        Route::new(GET, "/status/conferences/{name}/participants", live::participants),
        Route::new(GET, "/status/calls", live::calls),
        Route::new(GET, "/status/registrations", live::registrations),
        Route::new(GET, "/status/bans", bans::list),
        Route::new(DELETE, "/status/bans/{address}", bans::lift),
        Route::new(POST, "/conferences/{name}/lock", commands::lock),
        Route::new(POST, "/conferences/{name}/unlock", commands::unlock),
        Route::new(POST, "/conferences/{name}/start", commands::start),
        Route::new(POST, "/conferences/{name}/mute-guests", commands::mute_guests),
        Route::new(POST, "/conferences/{name}/unmute-guests", commands::unmute_guests),
        Route::new(POST, "/conferences/{name}/disconnect", commands::end),
        Route::new(POST, "/conferences/{name}/dial", commands::dial),
        Route::new(POST, "/conferences/{name}/message", commands::message),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/admit", commands::admit),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/disconnect", commands::disconnect),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/mute", commands::mute),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/unmute", commands::unmute),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/role", commands::role),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/dtmf", commands::dtmf),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/spotlight", commands::spotlight),
        Route::new(POST, "/conferences/{name}/participants/{uuid}/transfer", commands::transfer),
        Route::new(POST, "/process/stop", process::stop),
        Route::new(POST, "/process/reload", process::reload),
        Route::new(POST, "/process/log", process::log),
        Route::new(GET, "/calls/{call}/trace", trace::show),
        Route::new(POST, "/calls/{call}/capture", capture::start),
        Route::new(GET, "/history/calls", history::calls),
        Route::new(GET, "/events", events::page),
        Route::new(GET, "/events/stream", events::stream),
    ]
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Lets in who bears a token (RFC 6750 section 2.1), and notes whose it is.
async fn authenticate(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = given.and_then(|it| it.split_once(' ')).filter(|it| it.0.eq_ignore_ascii_case("bearer"));
    let holder = token.and_then(|(_, token)| admin.0.parts.tokens.holder(token.trim()));
    let Some(name) = holder else {
        if given.is_some() {
            tracing::warn!(path = request.uri().path(), "a wrong token was given to the management API");
        }
        let told =
            "who asks must show a token: Authorization: Bearer ...; make one with crosspoint token new";
        return Refused::new(StatusCode::UNAUTHORIZED, told).into_response();
    };
    request.extensions_mut().insert(By(name));
    let mut response = next.run(request).await;
    // Nothing of it belongs into a cache.
    let no_store = axum::http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    response
}
