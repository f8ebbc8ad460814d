//! Registration (S49 to S53): a client proves to be a device, and is told of calls to it.
//!
//! Whether an alias exists is told to nobody: a wrong password and an unknown alias cost the same work
//! and get the same answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use crosspoint_codecs::clock::Instant;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::credentials::Credentials;
use super::entry::{Source, new_token, token_of, version};
use super::events::{ALIVE_EVERY, ON_THE_WAY, PING, send, stream};
use super::one_time::OneTime;
use super::roster::Told;
use super::sessions::{LIFE, Sessions};
use super::{ClientApi, done, refused};
use crate::alias::{Alias, Domains};
use crate::events::What;
use crate::guard::Porter;
use crate::leg::connect::{ConnectLegs, Registered, Ring, Rings};
use crate::records::clean;
use crate::registrar::{Device, Registrar};
use crate::uuid::Uuid;

/// Entries of the directory in one answer: as many as somebody looks through.
const FOUND: usize = 50;

/// Said of a wrong password and of an alias that nobody has.
const UNPROVED: &str = "Invalid alias, username or password";

/// What registration is made of.
#[derive(Debug)]
pub struct RegistrationParts {
    /// Who may register.
    pub registrar: Registrar,
    /// The domains that are ours.
    pub domains: Domains,
    /// The realm that passwords are bound to.
    pub realm: String,
    /// Who has registered.
    pub clients: ConnectLegs,
    /// Registered clients may search for others.
    pub directory: bool,
}

/// Who is registered, and what rings.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    sessions: Mutex<Sessions<Registration>>,
    /// What takes a call, or rejects it.
    rings: Mutex<OneTime<Arc<Ring>>>,
}

/// A registered client.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) alias: Alias,
    uuid: Uuid,
}

impl Registrations {
    /// The device that a registration's token is of.
    pub(super) fn device(&self, now: Instant, token: &str) -> Option<Alias> {
        self.sessions().find(now, token).map(|it| it.alias.clone())
    }

    /// The call that a one-time token is for; the token is used up.
    pub(super) fn take(&self, now: Instant, token: &str) -> Option<Arc<Ring>> {
        self.rings().take(now, token)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions<Registration>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rings(&self) -> MutexGuard<'_, OneTime<Arc<Ring>>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegistrationParts {
    /// The device of an alias, if these are its user and password (S50). The same work whether it may be
    /// read or not.
    fn prove(
        &self,
        porter: &Porter,
        source: Option<SocketAddr>,
        alias: &str,
        credentials: Option<&Credentials>,
    ) -> Option<Arc<Device>> {
        let Self { registrar, domains, realm, .. } = self;
        let alias = Alias::parse(alias, domains).ok();
        let device = alias.as_ref().and_then(|alias| registrar.device(alias));
        let (username, password) =
            credentials.map_or(("", ""), |it| (it.username.as_str(), it.password.as_str()));
        let proved = Device::is_proved(device.as_deref(), realm, username, password);
        // Who sends none has guessed nothing.
        credentials?;
        porter.password(source.map(|it| it.ip()), &alias?, || device.filter(|_| proved))
    }
}

impl ClientApi {
    /// Ends registrations that nobody has refreshed, and those of devices that are no more.
    pub(super) fn expire_registrations(&self) {
        let (parts, now) = (&self.0.parts.registrations, self.now());
        let late = self.0.registrations.sessions().expire(now);
        for it in late {
            self.forget(&it, |alias, contact, source| What::RegistrationExpired { alias, contact, source });
        }
        let orphans: Vec<Registered> = parts
            .clients
            .all(now)
            .into_iter()
            .filter(|it| parts.registrar.device(&it.alias).is_none())
            .collect();
        for Registered { alias, uuid, .. } in orphans {
            self.0.registrations.sessions().close_those(|it| it.uuid == uuid);
            self.forget(&Registration { alias, uuid }, deleted("device removed"));
        }
        self.0.registrations.rings().expire(now);
    }

    /// Takes a client from those who can be called, and tells of it as `what` (S77).
    fn forget(&self, it: &Registration, what: impl FnOnce(String, String, Option<String>) -> What) {
        let Some(gone) = self.0.parts.registrations.clients.remove(&it.alias, it.uuid) else { return };
        self.tell_of(&gone, what);
    }

    fn tell_of(&self, it: &Registered, what: impl FnOnce(String, String, Option<String>) -> What) {
        let (alias, contact) = (it.alias.to_string(), ConnectLegs::address(it).uri);
        let what = what(alias, contact, it.source.map(|from| from.to_string()));
        self.rooms().events().tell(SystemTime::now(), what);
    }
}

fn deleted(reason: &'static str) -> impl FnOnce(String, String, Option<String>) -> What {
    move |alias, contact, source| What::RegistrationDeleted { alias, contact, source, reason }
}

/// A client with a token of that registration.
pub(super) struct Registrant(Registration);

impl FromRequestParts<ClientApi> for Registrant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &ClientApi) -> Result<Self, Response> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, api).await.ok();
        let token = token_of(&parts.headers, parts.uri.query()).unwrap_or_default();
        let found = api.0.registrations.sessions().find(api.now(), &token).cloned();
        // The search names no alias.
        let called = path.as_ref().and_then(|path| path.get("alias"));
        let is = |called, own| {
            Alias::parse(called, &api.0.parts.registrations.domains).is_ok_and(|called| called == own)
        };
        let own = |it: &Registration| called.is_none_or(|called| is(called, it.alias.clone()));
        found.filter(own).map(Self).ok_or_else(|| refused(StatusCode::FORBIDDEN, "Invalid token"))
    }
}

pub(super) async fn request_token(
    State(api): State<ClientApi>,
    Path(path): Path<HashMap<String, String>>,
    Source(source): Source,
    headers: HeaderMap,
) -> Response {
    if let Some(answer) = api.turned_away() {
        return answer;
    }
    let parts = &api.0.parts.registrations;
    let alias = path.get("alias").map_or("", String::as_str);
    let credentials = Credentials::of(&headers);
    let Some(device) = parts.prove(api.rooms().porter(), source, alias, credentials.as_ref()) else {
        tracing::warn!(
            alias = clean(alias),
            ?source,
            "a registration was refused: unknown user or wrong password"
        );
        // Without a challenge: browsers would ask their user for a password of their own.
        return refused(StatusCode::UNAUTHORIZED, UNPROVED);
    };
    let full = || refused(StatusCode::FORBIDDEN, "Out of resource");
    let Some(token) = new_token() else { return full() };
    let (now, uuid) = (api.now(), Uuid::random());
    let agent = headers.get(header::USER_AGENT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let client =
        Registered { uuid, alias: device.alias.clone(), until: now + LIFE, source, user_agent: clean(agent) };
    {
        let mut sessions = api.0.registrations.sessions();
        if !sessions.has_room() || parts.clients.add(now, client.clone()).is_err() {
            return full();
        }
        sessions.open(now, &token, Registration { alias: device.alias.clone(), uuid });
    }
    api.tell_of(&client, |alias, contact, source| What::RegistrationAdded { alias, contact, source });
    done(json!({
        "token": token.reveal(),
        "expires": LIFE.as_secs().to_string(),
        "registration_uuid": uuid.to_string(),
        "directory_enabled": parts.directory,
        // ConnectLegs find other domains by themselves.
        "route_via_registrar": false,
        "version": version(&api),
    }))
}

/// The token is in the header or in the query, or, of the desktop client, in the body.
pub(super) async fn refresh_token(
    State(api): State<ClientApi>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let in_body = || serde_json::from_slice::<Value>(&body).ok()?["token"].as_str().map(str::to_owned);
    let old = token_of(&headers, None).or_else(|| query.get("token").cloned()).or_else(in_body);
    let Some(new) = new_token() else { return refused(StatusCode::FORBIDDEN, "Out of resource") };
    let now = api.now();
    let known = api.0.registrations.sessions().refresh(now, &old.unwrap_or_default(), &new).cloned();
    let clients = &api.0.parts.registrations.clients;
    let stands = known.is_some_and(|it| clients.refresh(&it.alias, it.uuid, now + LIFE));
    if !stands {
        tokio::time::sleep(super::entry::HESITATE).await;
        return refused(StatusCode::FORBIDDEN, "Invalid token");
    }
    done(json!({ "token": new.reveal(), "expires": LIFE.as_secs().to_string() }))
}

pub(super) async fn release_token(
    State(api): State<ClientApi>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let token = token_of(&headers, None).or_else(|| query.get("token").cloned()).unwrap_or_default();
    let gone = api.0.registrations.sessions().close(api.now(), &token);
    if let Some(it) = gone {
        api.forget(&it, deleted("unregistered"));
    }
    // One that is dead already is released as well.
    done(true)
}

/// Nobody has a picture of himself here.
pub(super) async fn avatar(Registrant(_): Registrant) -> Response {
    refused(StatusCode::NOT_FOUND, "No image available")
}

/// Whom a registered client can call: devices whose alias or user has the text in it.
pub(super) async fn directory(
    State(api): State<ClientApi>,
    Registrant(_): Registrant,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let parts = &api.0.parts.registrations;
    if !parts.directory {
        return refused(StatusCode::FORBIDDEN, "The directory is disabled");
    }
    let text = query.get("q").map(|text| text.to_lowercase()).unwrap_or_default();
    let matches = |device: &&Arc<Device>| {
        device.alias.as_str().contains(&text) || device.username.to_lowercase().contains(&text)
    };
    let entry = |device: &Arc<Device>| json!({ "alias": device.alias.as_str(), "description": "", "username": device.username });
    done(parts.registrar.devices().iter().filter(matches).take(FOUND).map(entry).collect::<Vec<_>>())
}

pub(super) async fn events(
    State(api): State<ClientApi>,
    Source(source): Source,
    Registrant(it): Registrant,
) -> Response {
    // One that has ended since the token was looked up.
    let Some(rings) = api.0.parts.registrations.clients.rings(&it.alias, it.uuid) else {
        return refused(StatusCode::FORBIDDEN, "Invalid token");
    };
    let Some((place, closed)) = api.0.streams.open(it.uuid, source.map(|source| source.ip())) else {
        return refused(StatusCode::TOO_MANY_REQUESTS, "Too many event streams");
    };
    let (events, feed) = mpsc::channel(ON_THE_WAY);
    tokio::spawn(async move {
        tokio::select! {
            () = tell(&api, rings, &events) => {}
            // A newer stream takes over.
            _ = closed => {}
        }
        drop(place);
    });
    stream(feed)
}

/// Tells of calls as they come and go until the registration is over or nobody reads.
async fn tell(api: &ClientApi, mut rings: Rings, events: &mpsc::Sender<Told>) {
    let mut ending = api.0.ending.subscribe();
    let mut known: Vec<Arc<Ring>> = Vec::new();
    loop {
        let now = rings.borrow_and_update().clone();
        let is_in = |all: &[Arc<Ring>], ring: &Arc<Ring>| all.iter().any(|it| it.leg == ring.leg);
        let gone = known.iter().filter(|ring| !is_in(&now, ring)).filter_map(|ring| cancelled(api, ring));
        let mut told: Vec<Told> = gone.collect();
        told.extend(now.iter().filter(|ring| !is_in(&known, ring)).filter_map(|ring| incoming(api, ring)));
        if !send(events, told).await {
            return;
        }
        known = now;
        loop {
            tokio::select! {
                changed = rings.changed() => match changed {
                    Ok(()) => break,
                    // The registration is over.
                    Err(_) => return,
                },
                () = events.closed() => return,
                () = async { drop(ending.wait_for(|ending| *ending).await) } => return,
                () = tokio::time::sleep(ALIVE_EVERY) => if !send(events, vec![PING]).await { return },
            }
        }
    }
}

fn incoming(api: &ClientApi, ring: &Arc<Ring>) -> Option<Told> {
    let token = ring.token(|| {
        // A stream that is opened anew tells of the same call by the same token.
        let token = new_token()?;
        let given = api.0.registrations.rings().give(api.now(), &token, ring.clone());
        given.then_some(token.reveal().to_owned())
    })?;
    let (caller, venue) = (&ring.caller, &ring.venue);
    let name = if caller.name.is_empty() { &caller.address } else { &caller.name };
    let data = json!({
        "conference_alias": venue.alias,
        "local_alias": ring.called,
        "remote_alias": caller.address,
        "remote_display_name": name,
        "service_type": venue.kind,
        "token": token,
    });
    Some(("incoming", data.into()))
}

/// `None`: the client itself has ended the ringing.
fn cancelled(api: &ClientApi, ring: &Ring) -> Option<Told> {
    let token = ring.token(|| None)?;
    // Whatever it was good for is no more.
    drop(api.0.registrations.take(api.now(), token));
    (!ring.is_settled()).then(|| ("incoming_cancelled", json!({ "token": token }).into()))
}
