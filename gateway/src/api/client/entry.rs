//! In and out: tokens.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use crosspoint_codecs::clock::Instant;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::roster::service_type;
use super::sessions::{LIFE, Sessions, Token};
use super::{ClientApi, Session, Ticket, done, prompt, refused};
use crate::conference::policy::{Answer, Knock, PartyId, Place, Role};
use crate::conference::room::{At, Command, Joined};
use crate::conference::service::{Kind, Service};
use crate::events::{Attempt, What};

/// Longest name that somebody is given, in characters.
const NAME: usize = 100;

/// What a client says of itself. Every other member is taken and passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    display_name: Value,
    /// For one use: of a transfer.
    token: Option<String>,
    call_tag: Option<String>,
}

/// A conference that exists, by the alias of the path, and the source of the request.
pub(super) struct Called(pub(super) Arc<Service>);

impl FromRequestParts<ClientApi> for Called {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &ClientApi) -> Result<Self, Response> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, api).await;
        let alias = path.ok().and_then(|path| path.get("alias").cloned()).unwrap_or_default();
        let found = api.0.parts.services.service(&alias);
        found.map(Self).ok_or_else(|| refused(StatusCode::NOT_FOUND, "Neither conference nor gateway found"))
    }
}

/// Where a request comes from.
pub(super) struct Source(pub(super) Option<SocketAddr>);

impl FromRequestParts<ClientApi> for Source {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &ClientApi) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|it| it.0)))
    }
}

/// Somebody with a token of this conference.
pub(super) struct Holder(pub(super) Session);

impl FromRequestParts<ClientApi> for Holder {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &ClientApi) -> Result<Self, Response> {
        let Called(service) = Called::from_request_parts(parts, api).await?;
        let token = token_of(&parts.headers, parts.uri.query());
        let sessions = api.sessions();
        let session = token.and_then(|token| sessions.find(api.now(), &token));
        let session = session.filter(|session| session.service.name == service.name).map(Session::copy);
        session.map(Self).ok_or_else(|| refused(StatusCode::FORBIDDEN, "Invalid token"))
    }
}

/// The token of a request: in its header, else in its query.
pub(super) fn token_of(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    if let Some(token) = headers.get("token").and_then(|it| it.to_str().ok()) {
        return Some(token.to_owned());
    }
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| *name == "token")
        .map(|(_, token)| token.trim_end_matches("%3D").to_owned())
        .next()
}

pub(super) async fn request_token(
    State(api): State<ClientApi>,
    called: Result<Called, Response>,
    Source(source): Source,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(words) = &api.0.parts.disabled {
        return refused(StatusCode::FORBIDDEN, words);
    }
    if *api.0.parts.maintenance.borrow() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "System in maintenance mode");
    }
    let service = match called {
        Ok(Called(service)) => service,
        Err(answer) => return answer,
    };
    let wanted: Wanted = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(token) = wanted.token.as_deref().filter(|token| !token.is_empty()) {
        return match sent_here(&api, token, &service) {
            Some(role) => admit(&api, &service, role, source, wanted).await,
            None => refused(StatusCode::FORBIDDEN, "Invalid token"),
        };
    }
    let pin = headers.get("pin").and_then(|pin| pin.to_str().ok());
    let knock = match pin {
        None | Some("") => Knock::Silent,
        Some("none") => Knock::NoPin,
        Some(pin) => Knock::Pin(pin),
    };
    let role = match service.door.answer(knock) {
        Answer::Enter(role) => {
            if matches!(knock, Knock::Pin(_)) && service.door.tells_hosts() {
                attempt(&api, &service, source, Attempt::Right);
            }
            role
        }
        Answer::AskPin { guests_without } => {
            let guest_pin = if guests_without { "none" } else { "required" };
            return prompt(json!({ "pin": "required", "guest_pin": guest_pin, "version": version(&api) }));
        }
        Answer::Wrong => {
            tracing::warn!(service = service.name, ?source, "a PIN was wrong");
            attempt(&api, &service, source, Attempt::Wrong);
            return refused(StatusCode::FORBIDDEN, "Invalid PIN");
        }
    };
    admit(&api, &service, role, source, wanted).await
}

/// What somebody comes as who was sent here with a token for one use. One for another conference stays
/// good there.
fn sent_here(api: &ClientApi, token: &str, service: &Service) -> Option<Role> {
    let mut tickets = api.tickets();
    match tickets.look(api.now(), token)? {
        Ticket::Transfer { service: there, role } if *there == service.name => {
            let role = *role;
            tickets.take(api.now(), token).map(|_| role)
        }
        Ticket::Transfer { .. } => None,
    }
}

/// The door is open.
async fn admit(
    api: &ClientApi,
    service: &Arc<Service>,
    role: Role,
    source: Option<SocketAddr>,
    wanted: Wanted,
) -> Response {
    if !api.sessions().has_room() {
        return refused(StatusCode::FORBIDDEN, "Out of resource");
    }
    let name = shown(wanted.display_name.as_str().unwrap_or_default());
    let (reply, told) = oneshot::channel();
    let join = Command::Join { name: name.clone(), role, source, reply };
    if !api.rooms().open_and_tell(service, join) {
        return refused(StatusCode::FORBIDDEN, "Out of resource");
    }
    match told.await {
        Ok(Ok(joined)) => admitted(api, service, role, name, joined, wanted.call_tag),
        Ok(Err(_)) => refused(StatusCode::FORBIDDEN, "Participant limit reached"),
        Err(_) => refused(StatusCode::FORBIDDEN, "Out of resource"),
    }
}

/// S77: who tries which door.
pub(super) fn attempt(api: &ClientApi, service: &Service, source: Option<SocketAddr>, result: Attempt) {
    let (service, source) = (service.name.clone(), source.map(|it| it.to_string()));
    let what = What::PinAttempt { service, source, protocol: "api", result };
    api.rooms().events().tell(SystemTime::now(), what);
}

fn admitted(
    api: &ClientApi,
    service: &Arc<Service>,
    role: Role,
    name: String,
    joined: Joined,
    call_tag: Option<String>,
) -> Response {
    let Some(token) = new_token() else { return refused(StatusCode::FORBIDDEN, "Out of resource") };
    let Joined { id, uuid, place, view, said } = joined;
    let session = Session {
        service: service.clone(),
        party: id,
        uuid,
        name: name.clone(),
        view,
        said,
        refer: watch::channel(None).0,
    };
    api.sessions().open(api.now(), &token, session);
    let at = if place == Place::Waiting { At::Waiting } else { At::In };
    let in_service = service_type(service, At::In);
    let mut result = json!({
        "token": token.reveal(),
        "expires": LIFE.as_secs().to_string(),
        "participant_uuid": uuid.to_string(),
        "version": version(api),
        "role": if role == Role::Host { "HOST" } else { "GUEST" },
        "display_name": name,
        "current_service_type": service_type(service, at),
        "service_type": in_service,
        "call_type": "video",
        "conference_name": service.name,
        "service_name": service.aliases.first().map(ToString::to_string).unwrap_or_default(),
        "chat_enabled": service.chat && service.kind != Kind::TestCall,
        "guests_can_present": service.guests_present,
        "fecc_enabled": false,
        "rtmp_enabled": false,
        "rtsp_enabled": false,
        "analytics_enabled": false,
        "allow_1080p": false,
        "vp9_enabled": false,
        "trickle_ice_enabled": false,
        "direct_media": false,
        "breakout_rooms": false,
        "route_via_registrar": false,
        "use_relay_candidates_only": false,
        "live_captions_available": false,
    });
    if let (Some(tag), Some(members)) = (call_tag, result.as_object_mut()) {
        members.insert("call_tag".into(), tag.into());
    }
    done(result)
}

pub(super) async fn refresh_token(
    State(api): State<ClientApi>,
    called: Result<Called, Response>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let old = token_of(&headers, None).or_else(|| query.get("token").cloned()).unwrap_or_default();
    let Some(new) = new_token() else { return refused(StatusCode::FORBIDDEN, "Out of resource") };
    let role = {
        let mut sessions = api.sessions();
        let here = belongs(&sessions, api.now(), &old, &called);
        here.then(|| sessions.refresh(api.now(), &old, &new).map(role)).flatten()
    };
    let Some(role) = role else {
        // Clients ask again at once and for ever.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        return refused(StatusCode::FORBIDDEN, "Invalid token");
    };
    done(json!({ "token": new.reveal(), "expires": LIFE.as_secs().to_string(), "role": role }))
}

pub(super) async fn release_token(
    State(api): State<ClientApi>,
    called: Result<Called, Response>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let token = token_of(&headers, None).or_else(|| query.get("token").cloned()).unwrap_or_default();
    let session = {
        let mut sessions = api.sessions();
        let here = belongs(&sessions, api.now(), &token, &called);
        here.then(|| sessions.close(api.now(), &token)).flatten()
    };
    if let Some(session) = session {
        api.rooms().tell(&session.service.name, Command::Leave(session.party));
    }
    // So is one for one use: who was told to come, or called, does not want to.
    api.tickets().take(api.now(), &token);
    // One that is dead already is released as well.
    done(true)
}

/// Whether a token is of the conference that is called: in another one it is none.
fn belongs(
    sessions: &Sessions<Session>,
    now: Instant,
    token: &str,
    called: &Result<Called, Response>,
) -> bool {
    let Ok(Called(service)) = called else { return false };
    sessions.find(now, token).is_some_and(|session| session.service.name == service.name)
}

fn role(session: &Session) -> &'static str {
    let view = session.view.borrow();
    let own = |id: PartyId| view.parties.iter().find(|it| it.id == id)?.party;
    if own(session.party).is_some_and(|it| it.role == Role::Host) { "HOST" } else { "GUEST" }
}

pub(super) fn new_token() -> Option<Token> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(Token::of(bytes))
}

fn version(api: &ClientApi) -> Value {
    json!({ "version_id": api.0.parts.version, "pseudo_version": api.0.parts.version })
}

/// A name as it is shown: without control characters, of a length that fits.
fn shown(name: &str) -> String {
    let tidy: String = name.chars().filter(|it| !it.is_control()).take(NAME).collect();
    let tidy = tidy.trim();
    if tidy.is_empty() { "Unnamed".to_owned() } else { tidy.to_owned() }
}
