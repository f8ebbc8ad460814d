//! The client API of Infinity Connect, version 2: translation only. What people may do is the policy's
//! matter, what goes on the room's.
//!
//! Answers are `{"status", "result"}`. A prompt (a PIN is wanted) is 403 with `success`, a refusal 403
//! with `failed`: clients tell them apart by that. A token is in the header `token` or in the query;
//! `Authorization` is left to reverse proxies.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use crosspoint_codecs::clock::Instant;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast, watch};

use crate::alias::{Alias, Domains};
use crate::api::body;
use crate::conference::Exchange;
use crate::conference::ledger::Found;
use crate::conference::policy::{PartyId, Role};
use crate::conference::room::{Joined, RoomView, Rooms, Said};
use crate::conference::service::{Kind, Service};
use crate::media::ClockFn;
use crate::settings::Settings;
use crate::uuid::Uuid;

mod calls;
mod commands;
mod credentials;
mod dial;
mod edition;
mod entry;
mod events;
mod jpeg;
mod multipart;
pub mod one_time;
mod registrations;
mod roster;
pub(super) mod routes;
pub mod sessions;
mod slides;
mod streams;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod transfer;

use edition::Press;
use one_time::OneTime;
pub use registrations::RegistrationParts;
use registrations::Registrations;
use routes::{CONFERENCES, REGISTRATIONS, Route};
use sessions::Sessions;
use streams::Streams;
use transfer::Refer;

/// Largest body with a description of media, which has some 10 kB mostly.
const MEDIA: usize = 256 * 1024;

/// What clients are told that come while the gateway waits for its last calls.
const ENDING: &str = "The system is about to restart, please try again in a minute";

/// Finds services by what clients put into the path.
pub trait Services: Send + Sync {
    /// The service that `alias` reaches.
    fn service(&self, alias: &str) -> Option<Arc<Service>>;
}

/// What the API is made of.
pub struct ClientApiParts {
    /// Finds services.
    pub services: Arc<dyn Services>,
    /// What goes on, and what calls people.
    pub exchange: Exchange,
    /// Who may register.
    pub registrations: RegistrationParts,
    /// The gateway's clock.
    pub clock: ClockFn,
    /// Whether clients may use it (S70), and whether the gateway takes anybody more (S76).
    pub settings: watch::Receiver<Settings>,
    /// Event streams of one client address (IPv6: /64) at a time.
    pub streams_per_source: usize,
    /// Of the program.
    pub version: &'static str,
}

/// The API. Clones share it.
#[derive(Clone)]
pub struct ClientApi(Arc<Inner>);

struct Inner {
    parts: ClientApiParts,
    registrations: Registrations,
    sessions: Mutex<Sessions<Session>>,
    tickets: Mutex<OneTime<Ticket>>,
    streams: Streams,
    press: Press,
    /// Who has it decodes a still.
    drawing: Semaphore,
    /// True when the gateway stops.
    ending: watch::Sender<bool>,
}

/// What a token for one use is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ticket {
    /// Entry into a conference without a PIN: somebody was sent there.
    Transfer {
        /// The name of its service.
        service: String,
        /// What he comes as.
        role: Role,
    },
}

/// A participant by the client API.
#[derive(Debug)]
struct Session {
    service: Arc<Service>,
    party: PartyId,
    uuid: Uuid,
    name: String,
    view: watch::Receiver<RoomView>,
    said: broadcast::Receiver<Said>,
    /// Where he has been told to go, until his client knows.
    refer: watch::Sender<Option<Refer>>,
}

impl Session {
    fn copy(&self) -> Self {
        Self {
            service: self.service.clone(),
            party: self.party,
            uuid: self.uuid,
            name: self.name.clone(),
            view: self.view.clone(),
            said: self.said.resubscribe(),
            refer: self.refer.clone(),
        }
    }
}

impl ClientApi {
    /// The API, without participants.
    pub fn new(parts: ClientApiParts) -> Self {
        Self(Arc::new(Inner {
            registrations: Registrations::default(),
            sessions: Mutex::default(),
            tickets: Mutex::default(),
            streams: Streams::new(parts.streams_per_source),
            press: Press::default(),
            drawing: Semaphore::new(1),
            ending: watch::channel(false).0,
            parts,
        }))
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        let below = |routes: &[Route]| {
            routes.iter().fold(Router::new(), |router, it| {
                if it.path == "/presentation" {
                    // Its body is large, and read only for who has the floor.
                    return router.route(it.path, (it.serve)());
                }
                let most = if it.path.contains("/calls") { MEDIA } else { body::JSON };
                let bounded = middleware::from_fn(move |request, next| body::bounded(most, request, next));
                router.route(it.path, (it.serve)().layer(bounded))
            })
        };
        Router::new()
            .merge(below(&routes::NODE))
            .nest(CONFERENCES, below(&routes::CONFERENCE))
            .nest(REGISTRATIONS, below(&routes::REGISTRATION))
            // Bodies have their limits already.
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(middleware::from_fn(across_origins))
            .with_state(self.clone())
    }

    /// Goes on with a conference that another process has left: its tokens are good again. Before anybody
    /// is served.
    pub fn take_up(&self, service: &Arc<Service>, found: Found) {
        let (tokens, names) = (found.tokens.clone(), found.page.names.clone());
        for joined in self.rooms().take_up(service, found) {
            let Joined { id, uuid, view, said, .. } = joined;
            let own = tokens.iter().filter(|it| it.0 == uuid).map(|(_, hash, left)| (*hash, *left));
            let own: Vec<_> = own.collect();
            let name = names.iter().find(|it| it.uuid == uuid).map(|it| it.name.clone()).unwrap_or_default();
            let refer = watch::channel(None).0;
            let session = Session { service: service.clone(), party: id, uuid, name, view, said, refer };
            self.sessions().take_up(self.now(), &own, session);
        }
    }

    /// Ends the sessions and registrations that nobody has refreshed, and soon the sessions of those who are
    /// out: to be called every second or so.
    pub fn expire(&self) {
        self.expire_registrations();
        // Of a conference that tells nothing new nobody is out.
        self.sessions().retire(self.now(), |it| match it.view.has_changed() {
            Ok(true) => !it.view.borrow_and_update().shows(it.party),
            Ok(false) => false,
            Err(_) => true,
        });
        let gone = self.sessions().expire(self.now());
        self.tickets().expire(self.now());
        for session in gone {
            tracing::info!(name = session.name, "Timer expired awaiting token refresh");
            // His tokens are over in the store by their age, and with him.
            self.rooms().leave(&session.service.name, session.party);
        }
    }

    fn tickets(&self) -> MutexGuard<'_, OneTime<Ticket>> {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gateway stops: every event stream says so and ends. The rooms are told by who stops them.
    pub fn end(&self) {
        self.0.ending.send_replace(true);
    }

    fn rooms(&self) -> &Rooms {
        self.0.parts.exchange.rooms()
    }

    /// Whether `alias` is what a participant has come by, or another alias of the same. Who has called
    /// somebody goes on with the alias that he called.
    fn is_reached(&self, session: &Session, alias: &str) -> bool {
        let service = &session.service;
        if service.kind != Kind::Gateway {
            return self.0.parts.services.service(alias).is_some_and(|it| it.name == service.name);
        }
        Alias::parse(alias, &Domains::default()).is_ok_and(|it| service.aliases.contains(&it))
    }

    /// What everybody is told who would come now, if nobody may.
    fn turned_away(&self) -> Option<Response> {
        if self.0.parts.exchange.ending().is_some() {
            return Some(refused(StatusCode::SERVICE_UNAVAILABLE, ENDING));
        }
        let settings = self.0.parts.settings.borrow();
        if !settings.infinity_clients {
            return Some(refused(StatusCode::FORBIDDEN, &settings.disabled_text));
        }
        settings.maintenance.then(|| refused(StatusCode::SERVICE_UNAVAILABLE, "System in maintenance mode"))
    }

    fn now(&self) -> Instant {
        (self.0.parts.clock)()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<Session>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ClientApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientApi").finish_non_exhaustive()
    }
}

/// Pages of third parties use the API from their own origin; there are no cookies that this could
/// expose.
async fn across_origins(request: axum::extract::Request, next: Next) -> Response {
    let mut response = if request.method() == axum::http::Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "token, pin, content-type, authorization, x-pexip-authorization",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

/// It was done.
fn done(result: impl Into<Value>) -> Response {
    axum::Json(json!({ "status": "success", "result": result.into() })).into_response()
}

/// Something is wanted first.
fn prompt(result: Value) -> Response {
    (StatusCode::FORBIDDEN, axum::Json(json!({ "status": "success", "result": result }))).into_response()
}

/// It was not done.
fn refused(code: StatusCode, why: &str) -> Response {
    (code, axum::Json(json!({ "status": "failed", "result": why }))).into_response()
}
