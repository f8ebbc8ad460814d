//! In and out: tokens.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::roster::service_type;
use super::sessions::{GRACE, LIFE, Sessions, Token, hash};
use super::{ClientApi, Session, Ticket, calls, done, prompt, refused};
use crate::alias::Alias;
use crate::conference::policy::{Answer, Knock, PartyId, Place, Role};
use crate::conference::room::{At, Command, Joined};
use crate::conference::service::{Kind, Service};
use crate::guard::Visitor;
use crate::uuid::Uuid;

/// Before a dead token is told to be one: clients ask again at once and for ever.
pub(super) const HESITATE: Duration = Duration::from_secs(1);

/// What clients are told of an alias that nobody has.
pub(super) const NOBODY: &str = "Neither conference nor gateway found";

/// Longest name that somebody is given, in characters.
const NAME: usize = 100;

/// What a client says of itself. Every other member is taken and passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    pub(super) display_name: Value,
    pub(super) call_tag: Option<String>,
    /// For one use: of a transfer, or of a call that rings here. Takes the place of a PIN.
    token: Option<String>,
    /// Of the registration of the client's device.
    pub(super) registration_token: Option<String>,
}

/// What the path calls.
pub(super) struct Called(pub(super) String);

impl FromRequestParts<ClientApi> for Called {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &ClientApi) -> Result<Self, Infallible> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, api).await;
        Ok(Self(path.ok().and_then(|path| path.get("alias").cloned()).unwrap_or_default()))
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
        let Ok(Called(alias)) = Called::from_request_parts(parts, api).await;
        let token = token_of(&parts.headers, parts.uri.query());
        let sessions = api.sessions();
        let session = token.and_then(|token| sessions.find(api.now(), &token));
        // Without a token nobody learns which conferences there are.
        let session = session.filter(|session| api.is_reached(session, &alias)).map(Session::copy);
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
    Called(alias): Called,
    Source(source): Source,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(answer) = api.turned_away() {
        return answer;
    }
    // A client that goes away meanwhile leaves nobody behind without a token, and no call without an end.
    let entered = tokio::spawn(async move { enter(&api, &alias, source, &headers, &body).await });
    entered.await.unwrap_or_else(|_| refused(StatusCode::FORBIDDEN, "Out of resource"))
}

async fn enter(
    api: &ClientApi,
    alias: &str,
    source: Option<SocketAddr>,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let mut wanted: Wanted = serde_json::from_slice(body).unwrap_or_default();
    let service = api.0.parts.services.service(alias);
    if let Some(token) = wanted.token.take().filter(|token| !token.is_empty()) {
        let sent = |service: Arc<Service>| sent_here(api, &token, &service).map(|role| (service, role));
        return match service.and_then(sent) {
            Some((service, role)) => admit(api, &service, role, source, wanted).await,
            None => calls::take(api, &token, wanted, source).await,
        };
    }
    // A call between two is come into by such a token alone.
    if api.rooms().service(alias).is_some_and(|it| it.kind == Kind::Gateway) {
        return refused(StatusCode::NOT_FOUND, NOBODY);
    }
    let device = wanted.registration_token.as_deref();
    let device = device.and_then(|token| api.0.registrations.device(api.now(), token));
    let visitor = Visitor::by_api(source, device);
    let porter = api.rooms().porter();
    let nowhere = || Arc::new(Service::decoy(Alias::from_canonical(alias)));
    let service = match service {
        Some(service) if !porter.turns_away(&visitor, Some(&service.name)) => service,
        None if !porter.turns_away(&visitor, None) => {
            let answer = calls::make(api, alias, wanted.clone(), source).await;
            if answer.status() != StatusCode::NOT_FOUND {
                return answer;
            }
            // Where unknown aliases are hidden it counts when a PIN is tried, as that of a conference does.
            if !porter.hides() {
                porter.missed(&visitor);
                return answer;
            }
            nowhere()
        }
        // Who guesses too much is told of nothing for a while.
        Some(_) | None => nowhere(),
    };
    let pin = headers.get("pin").and_then(|pin| pin.to_str().ok());
    let knock = match pin {
        None | Some("") => Knock::Silent,
        Some("none") => Knock::NoPin,
        Some(pin) => Knock::Pin(pin),
    };
    let role = match service.answer(api.rooms().porter(), &visitor, knock) {
        Answer::Enter(role) => role,
        Answer::AskPin { guests_without } => {
            let guest_pin = if guests_without { "none" } else { "required" };
            return prompt(json!({ "pin": "required", "guest_pin": guest_pin, "version": version(api) }));
        }
        Answer::Wrong => return refused(StatusCode::FORBIDDEN, "Invalid PIN"),
    };
    if service.door.shortest().is_none() {
        porter.entered(&visitor, &service.name);
    }
    admit(api, &service, role, source, wanted).await
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
        Ok(Ok(joined)) => admitted(api, service, role, name, joined, wanted.call_tag).await,
        Ok(Err(_)) => refused(StatusCode::FORBIDDEN, "Participant limit reached"),
        Err(_) => refused(StatusCode::FORBIDDEN, "Out of resource"),
    }
}

/// Gives somebody who is in his token.
pub(super) async fn admitted(
    api: &ClientApi,
    service: &Arc<Service>,
    role: Role,
    name: String,
    joined: Joined,
    call_tag: Option<String>,
) -> Response {
    let Some(token) = new_token() else { return refused(StatusCode::FORBIDDEN, "Out of resource") };
    let Joined { id, uuid, place, view, said, saved } = joined;
    // He and his token are on disk before he hears of it; both go with one commit.
    let (here, held) = tokio::join!(saved.wait(), keep_token(api, uuid, &token, None));
    if !(here && held) {
        api.rooms().leave(&service.name, id);
        return not_stored();
    }
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
    Called(alias): Called,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let old = token_of(&headers, None).or_else(|| query.get("token").cloned()).unwrap_or_default();
    let Some(new) = new_token() else { return refused(StatusCode::FORBIDDEN, "Out of resource") };
    let found = {
        let sessions = api.sessions();
        let here = belongs(&api, &sessions, &old, &alias);
        here.then(|| sessions.find(api.now(), &old).map(|session| (session.uuid, role(session)))).flatten()
    };
    let Some((uuid, role)) = found else {
        tokio::time::sleep(HESITATE).await;
        return refused(StatusCode::FORBIDDEN, "Invalid token");
    };
    if !keep_token(&api, uuid, &new, Some(&old)).await {
        return not_stored();
    }
    // He may be out by now; then nothing is refreshed.
    if api.sessions().refresh(api.now(), &old, &new).is_none() {
        tokio::time::sleep(HESITATE).await;
        return refused(StatusCode::FORBIDDEN, "Invalid token");
    }
    done(json!({ "token": new.reveal(), "expires": LIFE.as_secs().to_string(), "role": role }))
}

pub(super) async fn release_token(
    State(api): State<ClientApi>,
    Called(alias): Called,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let token = token_of(&headers, None).or_else(|| query.get("token").cloned()).unwrap_or_default();
    if let Some(ring) = api.0.registrations.take(api.now(), &token) {
        // S52: so is a call rejected.
        ring.reject();
        return done(true);
    }
    let session = {
        let mut sessions = api.sessions();
        let here = belongs(&api, &sessions, &token, &alias);
        here.then(|| sessions.close(api.now(), &token)).flatten()
    };
    if let Some(session) = session {
        api.rooms().leave(&session.service.name, session.party);
        if let Some(ledger) = api.rooms().ledger()
            && ledger.forget(session.uuid).await.is_err()
        {
            return not_stored();
        }
    }
    // So is one for one use: who was told to come, or called, does not want to.
    api.tickets().take(api.now(), &token);
    // One that is dead already is released as well.
    done(true)
}

/// Whether a token is of the conference that is called: in another one it is none.
fn belongs(api: &ClientApi, sessions: &Sessions<Session>, token: &str, alias: &str) -> bool {
    sessions.find(api.now(), token).is_some_and(|session| api.is_reached(session, alias))
}

/// Writes a token down, so that a restart finds it; `old` is the one that it takes the place of.
async fn keep_token(api: &ClientApi, party: Uuid, new: &Token, old: Option<&str>) -> bool {
    let Some(ledger) = api.rooms().ledger() else { return true };
    let old = old.map(|old| (hash(old), GRACE));
    ledger.token(party, (hash(new.reveal()), LIFE), old).await.is_ok()
}

/// Clients try again.
fn not_stored() -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, "Out of resource")
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

pub(super) fn version(api: &ClientApi) -> Value {
    json!({ "version_id": api.0.parts.version, "pseudo_version": api.0.parts.version })
}

/// A name as it is shown: without control characters, of a length that fits.
pub(super) fn shown(name: &str) -> String {
    let tidy: String = name.chars().filter(|it| !it.is_control()).take(NAME).collect();
    let tidy = tidy.trim();
    if tidy.is_empty() { "Unnamed".to_owned() } else { tidy.to_owned() }
}
