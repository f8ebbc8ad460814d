//! What participants ask for and do.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::entry::Holder;
use super::roster::{conference as state, participant as object, seen_by};
use super::slides;
use super::transfer::transfer;
use super::{ClientApi, Session, done, refused};
use crate::conference::dialling::Keys;
use crate::conference::layout::Layout;
use crate::conference::policy::{Actor, Deed, Denied, PartyId, Place, Role};
use crate::conference::room::Command;
use crate::uuid::Uuid;

/// Longest text that is drawn into pictures, in characters.
const DRAWN: usize = 250;
/// Longest message, in bytes.
const MESSAGE: usize = 64 * 1024;

pub(super) async fn status(State(api): State<ClientApi>) -> Response {
    if api.0.parts.settings.borrow().maintenance {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "Maintenance mode");
    }
    done("OK")
}

pub(super) async fn participants(Holder(session): Holder) -> Response {
    let view = session.view.borrow();
    let all = seen_by(session.party, &view).map(|it| object(&session.service, it));
    done(all.collect::<Vec<Value>>())
}

pub(super) async fn conference_status(Holder(session): Holder) -> Response {
    let view = session.view.borrow();
    done(state(&session.service, &view))
}

/// There is none.
pub(super) async fn theme(Holder(_): Holder) -> Response {
    StatusCode::NO_CONTENT.into_response()
}

pub(super) async fn available_layouts(
    Holder(_): Holder,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let words = Layout::ALL.map(Layout::word);
    if query.get("annotate").is_some_and(|it| it == "true") {
        return done(words.map(|word| json!({ "name": word, "tags": [] })).to_vec());
    }
    done(words.map(Value::from).to_vec())
}

pub(super) async fn layout_svgs(Holder(_): Holder) -> Response {
    done(json!({}))
}

/// No participant has a picture of himself here.
pub(super) async fn avatar(Holder(_): Holder) -> Response {
    refused(StatusCode::NOT_FOUND, "No image available")
}

/// Media comes with WebRTC; until then a client stays in the conference without. Old clients show stills
/// by a call.
pub(super) async fn calls(
    State(api): State<ClientApi>,
    Holder(session): Holder,
    Path(path): Path<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    if let Some(answer) = slides::of_call(&api, &session, &path) {
        return answer;
    }
    if path.get("rest").is_some_and(|rest| rest.ends_with("/statistics")) {
        // Nobody asks for them; who tells them is heard all the same.
        return done(Value::Null);
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !path.contains_key("rest") && asked["call_type"] == "presentation" {
        return slides::call(&api, &session).await;
    }
    refused(StatusCode::FORBIDDEN, "Media by WebRTC is not available yet")
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "type", default = "plain")]
    kind: String,
    payload: String,
}

fn plain() -> String {
    "text/plain".into()
}

pub(super) async fn message(State(api): State<ClientApi>, Holder(session): Holder, body: Bytes) -> Response {
    say(&api, &session, None, &body)
}

pub(super) async fn direct_message(
    State(api): State<ClientApi>,
    Holder(session): Holder,
    Path(path): Path<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    match find(&session, &path) {
        Some(to) => say(&api, &session, Some(to), &body),
        None => refused(StatusCode::NOT_FOUND, "There is no such participant"),
    }
}

fn say(api: &ClientApi, session: &Session, to: Option<PartyId>, body: &[u8]) -> Response {
    if !session.service.chat {
        return refused(StatusCode::FORBIDDEN, "Chat is disabled");
    }
    let Ok(Message { kind, payload }) = serde_json::from_slice(body) else {
        return refused(StatusCode::BAD_REQUEST, "A message has a type and a payload");
    };
    if payload.len() > MESSAGE {
        return refused(StatusCode::BAD_REQUEST, "The message is too long");
    }
    let say = Command::Say { from: session.party, to, kind, text: payload };
    done(api.rooms().tell(&session.service.name, say))
}

/// What [`conference`] serves: a command that is not here is none.
pub(super) const OF_A_CONFERENCE: [&str; 11] = [
    "lock",
    "unlock",
    "start_conference",
    "muteguests",
    "unmuteguests",
    "disconnect",
    "clearallbuzz",
    "clearspotlights",
    "set_guests_can_unmute",
    "set_guests_can_present",
    "set_message_text",
];

/// Commands to the conference.
pub(super) async fn conference(
    State(api): State<ClientApi>,
    Holder(session): Holder,
    Path(path): Path<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let setting = || serde_json::from_slice::<Value>(&body).ok().and_then(|it| it["setting"].as_bool());
    let deed = match named(&path, &OF_A_CONFERENCE) {
        "lock" => Deed::Lock(true),
        "unlock" => Deed::Lock(false),
        "start_conference" => Deed::Start,
        "muteguests" => Deed::MuteGuests(true),
        "unmuteguests" => Deed::MuteGuests(false),
        "disconnect" => Deed::End,
        "clearallbuzz" => Deed::LowerHands,
        "clearspotlights" => Deed::ClearSpotlights,
        "set_guests_can_unmute" => match setting() {
            Some(can) => Deed::GuestsCanUnmute(can),
            None => return refused(StatusCode::BAD_REQUEST, "setting must be true or false"),
        },
        "set_guests_can_present" => match setting() {
            Some(may) => Deed::GuestsPresent(may),
            None => return refused(StatusCode::BAD_REQUEST, "setting must be true or false"),
        },
        "set_message_text" => return banner(&api, &session, &body),
        _ => return unknown(&path),
    };
    act(&api, &session, deed).await
}

/// A host's message in everybody's picture; an empty one takes it away.
fn banner(api: &ClientApi, session: &Session, body: &[u8]) -> Response {
    if !is_host(session) {
        return refused(StatusCode::FORBIDDEN, "Invalid role");
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    match text(&asked["text"]) {
        Some(text) => look(api, session, None, None, None, Some(text)),
        None => refused(StatusCode::BAD_REQUEST, "text: a text of 250 characters at most"),
    }
}

/// Text that is drawn into pictures: without control characters; `None` where there is none or too much.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| text.chars().count() <= DRAWN)?;
    Some(text.chars().filter(|it| !it.is_control()).collect())
}

fn look(
    api: &ClientApi,
    session: &Session,
    hosts: Option<Layout>,
    guests: Option<Layout>,
    names: Option<bool>,
    banner: Option<String>,
) -> Response {
    done(api.rooms().tell(&session.service.name, Command::Look { hosts, guests, names, banner }))
}

/// What [`participant`] serves.
pub(super) const OF_A_PARTICIPANT: [&str; 25] = [
    "mute",
    "unmute",
    "disconnect",
    "unlock",
    "buzz",
    "clearbuzz",
    "spotlighton",
    "spotlightoff",
    "role",
    "dtmf",
    "preferred_aspect_ratio",
    "client_mute",
    "client_unmute",
    "transfer",
    "allowrxpresentation",
    "denyrxpresentation",
    "video_muted",
    "video_unmuted",
    "take_floor",
    "release_floor",
    "overlaytext",
    "show_live_captions",
    "hide_live_captions",
    "pres_in_mix",
    "notify_not_afk",
];

/// Commands to somebody.
pub(super) async fn participant(
    State(api): State<ClientApi>,
    Holder(session): Holder,
    Path(path): Path<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let Some(id) = find(&session, &path) else {
        return refused(StatusCode::NOT_FOUND, "There is no such participant");
    };
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let deed = match named(&path, &OF_A_PARTICIPANT) {
        "mute" => Deed::Mute(id, true),
        "unmute" => Deed::Mute(id, false),
        "disconnect" => Deed::Remove(id),
        "unlock" => Deed::Admit(id),
        "buzz" => Deed::Hand(id, true),
        "clearbuzz" => Deed::Hand(id, false),
        "spotlighton" => Deed::Spotlight(id, true),
        "spotlightoff" => Deed::Spotlight(id, false),
        "role" => match asked["role"].as_str() {
            Some("chair") => Deed::Role(id, Role::Host),
            Some("guest") => Deed::Role(id, Role::Guest),
            _ => return refused(StatusCode::BAD_REQUEST, "role must be chair or guest"),
        },
        "transfer" => return transfer(&api, &session, id, &asked).await,
        "dtmf" => return keys(&api, &session, id, &asked),
        "allowrxpresentation" => Deed::Slides(id, true),
        "denyrxpresentation" => Deed::Slides(id, false),
        "video_muted" => Deed::Hide(id, true),
        "video_unmuted" => Deed::Hide(id, false),
        "client_mute" => Deed::Microphone(id, false),
        "client_unmute" => Deed::Microphone(id, true),
        "take_floor" => return slides::take_floor(&api, &session, id).await,
        "release_floor" => return slides::release_floor(&api, &session, id),
        "overlaytext" => return label(&api, &session, id, &asked),
        "show_live_captions" | "hide_live_captions" => return done(Value::Null),
        // Nothing to do for a client without media, and nothing wrong.
        "preferred_aspect_ratio" | "pres_in_mix" | "notify_not_afk" => return done(true),
        _ => return unknown(&path),
    };
    act(&api, &session, deed).await
}

/// What somebody is called in pictures: his own matter, and the hosts'.
fn label(api: &ClientApi, session: &Session, id: PartyId, asked: &Value) -> Response {
    if id != session.party && !is_host(session) {
        return refused(StatusCode::FORBIDDEN, "Invalid role");
    }
    match text(&asked["text"]) {
        Some(text) => done(api.rooms().tell(&session.service.name, Command::Label { id, text })),
        None => refused(StatusCode::BAD_REQUEST, "text: a text of 250 characters at most"),
    }
}

/// S36: hosts send keys to somebody's leg.
fn keys(api: &ClientApi, session: &Session, to: PartyId, asked: &Value) -> Response {
    let digits = asked["digits"].as_str().and_then(|digits| digits.parse::<Keys>().ok());
    let Some(keys) = digits.filter(|keys| !keys.is_empty()) else {
        return refused(StatusCode::BAD_REQUEST, "digits must be some of 0 to 9, *, # and A to D");
    };
    if !is_host(session) {
        return refused(StatusCode::FORBIDDEN, "Invalid role");
    }
    done(api.rooms().tell(&session.service.name, Command::Keys(to, keys)))
}

#[derive(Debug, Deserialize)]
struct Transforms {
    transforms: Transform,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Transform {
    layout: Option<String>,
    host_layout: Option<String>,
    guest_layout: Option<String>,
    /// Names in pictures.
    enable_overlay_text: Option<bool>,
    /// Lines for everybody; they stand in the banner, one behind the other.
    free_form_overlay_text: Option<Vec<String>>,
}

pub(super) async fn transform_layout(
    State(api): State<ClientApi>,
    Holder(session): Holder,
    body: Bytes,
) -> Response {
    if !is_host(&session) {
        return refused(StatusCode::FORBIDDEN, "Invalid role");
    }
    let Ok(Transforms { transforms }) = serde_json::from_slice(&body) else {
        return refused(StatusCode::BAD_REQUEST, "transforms must be an object");
    };
    let wanted = |word: Option<String>| word.map(|word| word.parse::<Layout>()).transpose();
    let banner = match transforms.free_form_overlay_text.map(|lines| text(&lines.join("  ").into())) {
        Some(None) => {
            return refused(StatusCode::BAD_REQUEST, "free_form_overlay_text: 250 characters at most");
        }
        banner => banner.flatten(),
    };
    match (wanted(transforms.layout.or(transforms.host_layout)), wanted(transforms.guest_layout)) {
        (Ok(hosts), Ok(guests)) => {
            look(&api, &session, hosts, guests, transforms.enable_overlay_text, banner)
        }
        (Err(wrong), _) | (_, Err(wrong)) => refused(StatusCode::BAD_REQUEST, &wrong.to_string()),
    }
}

async fn act(api: &ClientApi, session: &Session, deed: Deed) -> Response {
    let (reply, told) = oneshot::channel();
    let act = Command::Act { actor: Actor::Party(session.party), deed, reply };
    answered(api, session, act, told).await
}

/// Tells the conference `command`, which answers by `told`.
pub(super) async fn answered(
    api: &ClientApi,
    session: &Session,
    command: Command,
    told: oneshot::Receiver<Result<(), Denied>>,
) -> Response {
    if !api.rooms().tell(&session.service.name, command) {
        return refused(StatusCode::FORBIDDEN, "Out of resource");
    }
    came_of(told.await.unwrap_or(Err(Denied::Over)))
}

/// What somebody is told of what he did.
pub(super) fn came_of(deed: Result<(), Denied>) -> Response {
    match deed {
        Ok(()) => done(true),
        Err(Denied::Role | Denied::MutedByHost) => refused(StatusCode::FORBIDDEN, "Invalid role"),
        Err(Denied::NoParty) => refused(StatusCode::FORBIDDEN, "There is no such participant"),
        Err(Denied::Storage) => refused(StatusCode::SERVICE_UNAVAILABLE, "Out of resource"),
        Err(Denied::Over) => refused(StatusCode::FORBIDDEN, "Invalid token"),
    }
}

/// A host who is in: without a host PIN everybody is a host, those who wait at the lock as well (S24).
pub(super) fn is_host(session: &Session) -> bool {
    let view = session.view.borrow();
    let own = view.parties.iter().find(|it| it.id == session.party).and_then(|it| it.party);
    own.is_some_and(|it| it.role == Role::Host && it.place == Place::In)
}

/// Somebody whom the session sees.
fn find(session: &Session, path: &HashMap<String, String>) -> Option<PartyId> {
    let uuid = Uuid::parse(path.get("uuid")?)?;
    let view = session.view.borrow();
    seen_by(session.party, &view).find(|it| it.uuid == uuid).map(|it| it.id)
}

/// The command of a path, if it is one of these; else nothing.
fn named<'a>(path: &'a HashMap<String, String>, commands: &[&str]) -> &'a str {
    path.get("command").map(String::as_str).filter(|it| commands.contains(it)).unwrap_or_default()
}

fn unknown(path: &HashMap<String, String>) -> Response {
    tracing::debug!(command = path.get("command"), "a client wants something that is not here");
    refused(StatusCode::NOT_FOUND, "There is no such command")
}
