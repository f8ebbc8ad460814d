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
    // Somebody else has answered first, or the caller has gone.
    let too_late = async {
        let _ = tokio::time::timeout(ANSWER_WAIT, leg_is_over).await;
    };
    match told_before(told, too_late).await {
        Some(Ok(joined)) => {
            let role = role_of(&joined);
            admitted(api, &service, role, name, joined, wanted.call_tag).await
        }
        Some(Err(_)) => refused(StatusCode::FORBIDDEN, "Participant limit reached"),
        None => over(),
    }
}

/// What is told before it is too late. Nothing is told that nobody hears: the room ends what it has begun
/// where it is not heard.
async fn told_before<T>(mut told: oneshot::Receiver<T>, too_late: impl Future<Output = ()>) -> Option<T> {
    tokio::select! {
        biased;
        told = &mut told => told.ok(),
        () = too_late => {
            told.close();
            told.try_recv().ok()
        }
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
        uri: None,
        device,
        trunk: None,
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
        Reason::NotFound | Reason::Unavailable | Reason::FlowFailed => (StatusCode::NOT_FOUND, NOBODY),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_at_the_last_moment_is_heard() {
        let (reply, told) = oneshot::channel();
        // The room seats the client, and lets go of the leg, between two looks.
        let crossing = async { reply.send(7).unwrap() };
        assert_eq!(told_before(told, crossing).await, Some(7));
        let (reply, told) = oneshot::channel::<u8>();
        assert_eq!(told_before(told, async {}).await, None);
        assert!(reply.is_closed(), "the room sees that nobody hears it");
    }
}
