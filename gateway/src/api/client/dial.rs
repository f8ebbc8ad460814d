//! `dial`: a host calls somebody into the conference (S33).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::commands::is_host;
use super::entry::Holder;
use super::{ClientApi, refused};
use crate::conference::dialling::{DialRefused, Dialling, LONGEST_NAME, Way};
use crate::conference::policy::{Keeps, Role};

/// What is asked for. Other members (`presentation_url`, `text`, headers of SIP) are taken and passed
/// over: no leg has a use for them yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    destination: String,
    protocol: Option<String>,
    role: Option<String>,
    dtmf_sequence: Option<String>,
    source_display_name: Option<String>,
    remote_display_name: Option<String>,
    call_type: Option<String>,
    keep_conference_alive: Option<String>,
    /// Words or a boolean: clients send both.
    streaming: Value,
}

/// Answers at once with the number of the new entry in the roster; what comes of it is told there.
/// Clients of 2015 wait for the answer with the whole page.
pub(super) async fn dial(State(api): State<ClientApi>, Holder(session): Holder, body: Bytes) -> Response {
    if !is_host(&session) {
        return refused(StatusCode::FORBIDDEN, "Invalid role");
    }
    let dialling = match asked(&body, &session.name) {
        Ok(dialling) => dialling,
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
    };
    let way = dialling.way;
    match api.0.parts.exchange.dial(&session.service, dialling).await {
        Ok(uuid) => {
            let mut answer = json!({ "status": "success", "result": [uuid.to_string()] });
            if way == Way::Lync {
                answer["note"] = "mssip is dialled as SIP".into();
            }
            axum::Json(answer).into_response()
        }
        Err(DialRefused::Full(_)) => refused(StatusCode::FORBIDDEN, "Participant limit reached"),
        Err(DialRefused::Busy) => refused(StatusCode::FORBIDDEN, "Out of resource"),
        Err(other) => refused(StatusCode::FORBIDDEN, &other.to_string()),
    }
}

fn asked(body: &[u8], asker: &str) -> Result<Dialling, String> {
    let wanted: Wanted = serde_json::from_slice(body)
        .map_err(|_| "dial takes an object with a destination, each member a text".to_owned())?;
    let destination = wanted.destination.trim();
    if destination.is_empty() {
        return Err("destination: say whom to call".into());
    }
    let streams = match &wanted.streaming {
        Value::String(word) => word.eq_ignore_ascii_case("yes") || word == "true",
        other => other.as_bool().unwrap_or_default(),
    };
    let role = match wanted.role.as_deref().map(str::to_ascii_uppercase).as_deref() {
        // Old clients name guests alone.
        None | Some("HOST" | "CHAIR") => Role::Host,
        Some("GUEST") => Role::Guest,
        Some(_) => return Err("role: HOST or GUEST".into()),
    };
    let keeps = match wanted.keep_conference_alive.as_deref() {
        None if streams => Keeps::Never,
        None | Some("keep_conference_alive_if_multiple") => Keeps::InCompany,
        Some("keep_conference_alive") => Keeps::Always,
        Some("keep_conference_alive_never") => Keeps::Never,
        Some(_) => {
            return Err("keep_conference_alive: keep_conference_alive, keep_conference_alive_if_multiple \
                        or keep_conference_alive_never"
                .into());
        }
    };
    let audio_only = match wanted.call_type.as_deref() {
        None | Some("video" | "video-only" | "auto") => false,
        Some("audio") => true,
        Some(_) => return Err("call_type: video, video-only or audio".into()),
    };
    let way = wanted.protocol.as_deref().map_or(Ok(Way::Auto), str::parse);
    let keys = wanted.dtmf_sequence.as_deref().unwrap_or_default().parse();
    Ok(Dialling {
        way: way.map_err(|error: crate::conference::dialling::UnknownWay| error.to_string())?,
        role,
        keeps,
        keys: keys.map_err(|error: crate::conference::dialling::NoKeys| error.to_string())?,
        name: wanted.remote_display_name.as_deref().and_then(name),
        caller: wanted.source_display_name.as_deref().and_then(name),
        audio_only,
        streams,
        ..Dialling::to(destination, asker)
    })
}

/// A name as it is shown: without control characters, of a length that fits; `None` of nothing.
fn name(text: &str) -> Option<String> {
    let tidy: String = text.chars().filter(|it| !it.is_control()).take(LONGEST_NAME).collect();
    Some(tidy.trim().to_owned()).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: Value) -> Result<Dialling, String> {
        asked(body.to_string().as_bytes(), "Alice")
    }

    #[test]
    fn s33_what_is_left_out_has_the_documented_default() {
        let plain = of(json!({ "destination": " sip:bob@example.com " })).unwrap();
        assert_eq!((plain.destination.as_str(), plain.role), ("sip:bob@example.com", Role::Host));
        assert_eq!((plain.way, plain.keeps, plain.streams), (Way::Auto, Keeps::InCompany, false));
        let all = of(json!({
            "destination": "stream", "protocol": "mssip", "role": "GUEST", "dtmf_sequence": ",1#",
            "source_display_name": "Room\u{7}", "remote_display_name": "Recorder", "call_type": "audio",
            "streaming": "yes", "prefer_ipv6": true, "text": null,
        }))
        .unwrap();
        assert_eq!((all.way, all.role, all.keeps), (Way::Lync, Role::Guest, Keeps::Never));
        assert_eq!((all.keys.as_str(), all.audio_only, all.streams), (",1#", true, true));
        assert_eq!((all.caller.as_deref(), all.name.as_deref()), (Some("Room"), Some("Recorder")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (member, value) in [
            ("destination", json!("")),
            ("protocol", json!("teams")),
            ("role", json!("presenter")),
            ("dtmf_sequence", json!("12x")),
            ("call_type", json!("smoke")),
            ("keep_conference_alive", json!("yes")),
        ] {
            let mut body = json!({ "destination": "bob" });
            body[member] = value;
            let why = of(body).unwrap_err();
            assert!(why.starts_with(member), "{why}");
        }
        assert!(asked(b"[1]", "Alice").is_err() && asked(b"", "Alice").is_err());
    }
}
