//! Calls between two: a registered client takes one, or rejects it, or makes one (S52, S56).

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::oneshot;

use super::entry::{NOBODY, Wanted, admitted, shown};
use super::{ClientApi, refused};
use crate::cause::Reason;
use crate::conference::policy::Role;
use crate::conference::room::{Command, Joined};
use crate::leg::{HOPS, Origin, Party};

/// A room answers at once; one that does not has too much to do.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A client takes the call that `token` is for, and is in the conference or call that it comes from.
pub(super) async fn take(
    api: &ClientApi,
    token: &str,
    wanted: Wanted,
    source: Option<SocketAddr>,
) -> Response {
    let over = || refused(StatusCode::FORBIDDEN, "Call disconnected");
    let Some(ring) = api.0.registrations.take(api.now(), token) else {
        return refused(StatusCode::FORBIDDEN, "Invalid token");
    };
    if !api.sessions().has_room() {
        ring.reject();
        return refused(StatusCode::FORBIDDEN, "Out of resource");
    }
    let Some(leg_is_over) = ring.take() else { return over() };
    let Some(service) = api.rooms().service(&ring.venue.service) else { return over() };
    let name = shown(wanted.display_name.as_str().unwrap_or_default());
    let (reply, told) = oneshot::channel();
    let take = Command::Take { leg: ring.leg, name: name.clone(), source, reply };
    if !api.rooms().tell(&service.name, take) {
        return over();
    }
    let joined = tokio::select! {
        biased;
        joined = told => joined.ok(),
        // Somebody else has answered first, or the caller has gone.
        _ = leg_is_over => None,
        () = tokio::time::sleep(ANSWER_WAIT) => None,
    };
    match joined {
        Some(Ok(joined)) => {
            let role = role_of(&joined);
            admitted(api, &service, role, name, joined, wanted.call_tag).await
        }
        Some(Err(_)) => refused(StatusCode::FORBIDDEN, "Participant limit reached"),
        None => over(),
    }
}

/// A client calls `alias`, which is no conference: a device, or somebody outside whom a rule allows.
pub(super) async fn make(
    api: &ClientApi,
    alias: &str,
    wanted: Wanted,
    source: Option<SocketAddr>,
) -> Response {
    if !api.sessions().has_room() {
        return refused(StatusCode::FORBIDDEN, "Out of resource");
    }
    let token = wanted.registration_token.as_deref();
    let device = token.and_then(|token| api.0.registrations.device(api.now(), token));
    let device = device.map(|alias| alias.to_string());
    let name = shown(wanted.display_name.as_str().unwrap_or_default());
    let caller = Party {
        protocol: "api",
        origin: Origin::Incoming,
        address: device.clone().unwrap_or_default(),
        name: name.clone(),
        called: alias.to_owned(),
        device,
        signalling: source,
        transport: "https",
        hops: HOPS,
    };
    match api.0.parts.exchange.call_out(caller).await {
        Ok((service, joined)) => {
            let role = role_of(&joined);
            admitted(api, &service, role, name, joined, wanted.call_tag).await
        }
        Err(reason) => {
            let (code, why) = unplaced(reason);
            refused(code, why)
        }
    }
}

/// Why a call was not even begun. Who is away and who does not exist are alike.
const fn unplaced(reason: Reason) -> (StatusCode, &'static str) {
    match reason {
        Reason::NotFound | Reason::Unavailable => (StatusCode::NOT_FOUND, NOBODY),
        Reason::Congestion | Reason::Shutdown => (StatusCode::FORBIDDEN, "Out of resource"),
        Reason::Busy | Reason::Rejected | Reason::Forbidden => (StatusCode::FORBIDDEN, "Call rejected"),
        _ => (StatusCode::FORBIDDEN, "Gateway dial out failed"),
    }
}

fn role_of(joined: &Joined) -> Role {
    let view = joined.view.borrow();
    let party = view.parties.iter().find(|it| it.id == joined.id).and_then(|it| it.party);
    party.map_or(Role::Guest, |it| it.role)
}
