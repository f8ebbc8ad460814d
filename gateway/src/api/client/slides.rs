//! Slides: the floor, stills that presenters upload, and that others fetch (S41 to S43).
//!
//! To clients a still goes through as it came: a JPEG file that could be read. Telephones with pictures
//! see it composed.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use crosspoint_codecs::frame::VideoFrame;
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::still;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::commands::answered;
use super::entry::Holder;
use super::{ClientApi, Session, done, jpeg, multipart, refused};
use crate::conference::policy::{Denied, PartyId, Place};
use crate::conference::room::{Command, RoomView, Still};

/// Largest still: what a picture of 33 million pixels needs at good quality. Only who has the floor may
/// send one, so each conference takes up one such body and one still.
pub(super) const STILL: usize = 20 * 1024 * 1024;
/// A still must be there by then: 20 MiB at 6 Mbit/s.
const READ: Duration = Duration::from_secs(30);
/// What a form has beside the still.
const FORM: usize = 64 * 1024;

/// Who presents, as far as `viewer` is to know: not himself, and nobody where he is denied slides.
pub(super) fn presenter(viewer: PartyId, view: &RoomView) -> Option<PartyId> {
    let own = view.parties.iter().find(|it| it.id == viewer)?.party?;
    view.presenter.filter(|it| *it != viewer && own.place == Place::In && own.slides)
}

pub(super) async fn take_floor(api: &ClientApi, session: &Session, id: PartyId) -> Response {
    match take(api, session, id).await {
        Ok(()) => done(Value::Null),
        Err(refusal) => refusal,
    }
}

pub(super) fn release_floor(api: &ClientApi, session: &Session, id: PartyId) -> Response {
    if id != session.party {
        return refused(StatusCode::FORBIDDEN, "Invalid role");
    }
    api.rooms().tell(&session.service.name, Command::ReleaseFloor(id));
    done(Value::Null)
}

/// The call of an old client that shows stills: the floor under another name. Its number is that of the
/// participant.
pub(super) async fn call(api: &ClientApi, session: &Session) -> Response {
    match take(api, session, session.party).await {
        Ok(()) => done(json!({ "call_uuid": session.uuid.to_string() })),
        Err(refusal) => refusal,
    }
}

async fn take(api: &ClientApi, session: &Session, id: PartyId) -> Result<(), Response> {
    if id != session.party {
        return Err(refused(StatusCode::FORBIDDEN, "Invalid role"));
    }
    let (reply, told) = oneshot::channel();
    if !api.rooms().tell(&session.service.name, Command::TakeFloor { id, reply }) {
        return Err(refused(StatusCode::FORBIDDEN, "Out of resource"));
    }
    match told.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Denied::Role)) => Err(refused(StatusCode::FORBIDDEN, "You may not present here")),
        _ => Err(refused(StatusCode::FORBIDDEN, "Invalid token")),
    }
}

/// `POST presentation`: a form with the still in the field `frame`.
pub(super) async fn upload(
    State(api): State<ClientApi>,
    Holder(session): Holder,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Before a byte of it is read.
    if session.view.borrow().presenter != Some(session.party) {
        return refused(StatusCode::FORBIDDEN, "Take the floor first");
    }
    let Ok(read) = tokio::time::timeout(READ, to_bytes(body, STILL + FORM)).await else {
        return refused(StatusCode::REQUEST_TIMEOUT, "The body took too long");
    };
    let Ok(body) = read else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "frame: 20 MiB at most");
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let Some(still) = multipart::part(&body, kind, "frame") else {
        return refused(StatusCode::BAD_REQUEST, "frame: is missing: send multipart/form-data with it");
    };
    if let Err(bad) = jpeg::size(still) {
        return refused(StatusCode::BAD_REQUEST, &bad.to_string());
    }
    let jpeg = body.slice_ref(still);
    let picture = match picture(&api, jpeg.clone()).await {
        Ok(picture) => picture,
        Err(bad) => return refused(StatusCode::BAD_REQUEST, &format!("frame: {bad}")),
    };
    let (reply, told) = oneshot::channel();
    let slide = Command::Slide { id: session.party, jpeg, picture, reply };
    answered(&api, &session, slide, told).await
}

/// What is in a still. One at a time, as a large one takes 300 MB meanwhile: who presents waits his turn.
async fn picture(api: &ClientApi, jpeg: Bytes) -> Result<VideoFrame, String> {
    let _turn = api.0.drawing.acquire().await.map_err(|closed| closed.to_string())?;
    let decoded = tokio::task::spawn_blocking(move || still::decode(Cpu::detect(), &jpeg, Still::ROOM));
    match decoded.await {
        Ok(decoded) => decoded.map_err(|bad| bad.to_string()),
        // A fault of the decoder costs this still alone.
        Err(_) => Err("is a JPEG file that cannot be read".to_owned()),
    }
}

/// The last still, whichever was asked for.
pub(super) async fn still(Holder(session): Holder) -> Response {
    let view = session.view.borrow();
    let seen = presenter(session.party, &view).is_some() || view.presenter == Some(session.party);
    match view.still.as_ref().filter(|_| seen) {
        Some(still) => {
            let jpeg: Bytes = still.jpeg.clone();
            ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response()
        }
        None => refused(StatusCode::NOT_FOUND, "Nobody presents"),
    }
}

/// What follows a call of an old client that shows stills; `None`: it is another call.
pub(super) fn of_call(
    api: &ClientApi,
    session: &Session,
    path: &HashMap<String, String>,
) -> Option<Response> {
    let (call, command) = path.get("rest")?.split_once('/')?;
    if call != session.uuid.to_string() {
        return None;
    }
    match command {
        "ack" => Some(done(true)),
        "disconnect" => Some(release_floor(api, session, session.party)),
        _ => None,
    }
}
