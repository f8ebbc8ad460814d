//! `/status`: what goes on now. Each answer is of one moment.

use std::time::SystemTime;

use axum::extract::State;
use serde_json::{Value, json};

use super::Admin;
use super::answer::Refused;
use super::body::{Asked, Named};
use crate::conference::LegView;
use crate::conference::policy::{Place, Role};
use crate::conference::room::{At, PartyView, RoomView};
use crate::media::port::StreamId;
use crate::status::{CallStatus, LegStatus, Registration, rfc3339};

type Answer = Result<axum::Json<Value>, Refused>;

pub(super) async fn conferences(State(admin): State<Admin>, Asked(asked): Asked) -> Answer {
    asked.end()?;
    let views = admin.0.parts.exchange.rooms().views();
    let list: Vec<Value> = views.iter().map(|(name, view)| of_conference(name, view)).collect();
    Ok(axum::Json(json!({ "conferences": list })))
}

pub(super) async fn conference(State(admin): State<Admin>, Named(name): Named<String>) -> Answer {
    let view = view(&admin, &name)?;
    Ok(axum::Json(of_conference(&name, &view)))
}

pub(super) async fn participants(State(admin): State<Admin>, Named(name): Named<String>) -> Answer {
    let view = view(&admin, &name)?;
    let list: Vec<Value> = view.parties.iter().map(|party| of_party(&admin, party)).collect();
    Ok(axum::Json(json!({ "participants": list })))
}

pub(super) async fn calls(State(admin): State<Admin>, Asked(asked): Asked) -> Answer {
    asked.end()?;
    let now = admin.0.parts.clock.both().wall;
    let calls = admin.0.parts.exchange.calls();
    let list = calls.iter().map(|it| {
        let age = now.duration_since(it.began).unwrap_or_default();
        let mut call = json!(CallStatus::new(it.call, age, &it.view));
        let legs = call["legs"].as_array_mut().into_iter().flatten();
        for (document, leg) in legs.zip(&it.view.legs) {
            document["streams"] = streams(&admin, leg, &LegStatus::from(leg)).into();
        }
        call
    });
    let list: Vec<Value> = list.collect();
    Ok(axum::Json(json!({ "calls": list })))
}

pub(super) async fn registrations(State(admin): State<Admin>, Asked(asked): Asked) -> Answer {
    asked.end()?;
    let parts = &admin.0.parts;
    let list = Registration::all(&parts.registrar, &parts.clients, parts.clock.now());
    Ok(axum::Json(json!({ "registrations": list })))
}

/// What goes on in a conference; 404 when nothing does.
pub(super) fn view(admin: &Admin, name: &str) -> Result<RoomView, Refused> {
    let view = admin.0.parts.exchange.rooms().view(name);
    view.ok_or_else(|| {
        let name: String = name.chars().take(crate::conference::service::LONGEST_NAME).collect();
        Refused::not_found(format!("no conference \"{name}\" is in progress: see GET /status/conferences"))
    })
}

fn of_conference(name: &str, view: &RoomView) -> Value {
    let at =
        |place: Place| view.parties.iter().filter(|it| it.party.is_some_and(|it| it.place == place)).count();
    json!({
        "name": name,
        "locked": view.locked,
        "started": view.started,
        "guests_muted": view.guests_muted,
        "participants": at(Place::In),
        "waiting": at(Place::Waiting),
        "since": view.parties.iter().map(|it| it.since).min().map(rfc3339),
        "layout": view.layouts.first().map(|it| it.word()),
        "guest_layout": view.layouts.last().map(|it| it.word()),
    })
}

fn of_party(admin: &Admin, party: &PartyView) -> Value {
    let leg = LegStatus::from(&party.leg);
    let place = match party.at {
        At::Connecting => "connecting",
        At::Door => "door",
        At::Waiting => "waiting",
        At::In => "in",
        At::Leaving => "leaving",
    };
    let role = party.party.map(|it| it.role).or(party.invited_as).map(|role| match role {
        Role::Host => "host",
        Role::Guest => "guest",
    });
    let moment = |at: Option<SystemTime>| at.map(rfc3339);
    json!({
        "uuid": party.uuid.to_string(),
        "name": party.name,
        "address": leg.address,
        "protocol": leg.protocol,
        "transport": leg.transport,
        "origin": leg.origin,
        "signalling": leg.signalling,
        "control_only": party.control_only,
        "place": place,
        "role": role,
        "since": rfc3339(party.since),
        "muted": party.party.is_some_and(|it| it.muted.any()),
        "hand_raised": moment(party.hand),
        "spotlight": moment(party.spotlight),
        "streams": streams(admin, &party.leg, &leg),
    })
}

/// The streams of a leg with the size of the last picture each way; null for sound.
fn streams(admin: &Admin, view: &LegView, leg: &LegStatus) -> Vec<Value> {
    let figures = |id: StreamId| {
        let of = admin.0.parts.engines.iter().map(|engine| engine.stats(id));
        of.fold((None, None), |known, it| (known.0.or(it.source), known.1.or(it.sink)))
    };
    let size = |width: u32, height: u32| (width > 0).then(|| format!("{width}x{height}"));
    let both = view.streams.iter().zip(&leg.streams);
    both.map(|(stream, status)| {
        let (source, sink) = figures(stream.stream.port.id());
        let mut document = serde_json::to_value(status).unwrap_or_default();
        if let Value::Object(members) = &mut document {
            let received = source.and_then(|it| size(it.width, it.height));
            members.insert("resolution_received".into(), received.into());
            members.insert("resolution_sent".into(), sink.and_then(|it| size(it.width, it.height)).into());
        }
        document
    })
    .collect()
}
