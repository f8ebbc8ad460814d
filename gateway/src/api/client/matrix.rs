//! Who may do what: every route of the API, by every kind of credentials. A route that has no row here
//! fails the test.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::commands::{OF_A_CONFERENCE, OF_A_PARTICIPANT};
use super::routes::{CONFERENCE, NODE, REGISTRATION, REGISTRATIONS};
use super::tests::{ROOM, Server, pins, server};

/// What somebody shows. An administrator's token is none here: it opens the management API alone.
const COLUMNS: [&str; 7] = ["none", "guest", "host", "admin", "expired", "other room", "revoked"];

/// Anybody, whatever he shows.
const ALL: [u16; 7] = [200; 7];
/// Whoever has a token of this conference.
const PARTIES: [u16; 7] = [403, 200, 200, 403, 403, 403, 403];
const NO_CONTENT: [u16; 7] = [403, 204, 204, 403, 403, 403, 403];
const NOT_FOUND: [u16; 7] = [403, 404, 404, 403, 403, 403, 403];
const HOSTS: [u16; 7] = [403, 403, 200, 403, 403, 403, 403];
const NOBODY: [u16; 7] = [403; 7];

/// Method and path with the command written out; the body; what each column is answered. `{uuid}` is
/// another guest.
const ROWS: [(&str, &str, [u16; 7]); 62] = [
    ("GET /api/client/v2/status", "", ALL),
    // A participant's token is none of a registration.
    ("GET /api/client/v2/registrations", "", NOBODY),
    ("POST /api/client/v2/registrations/{alias}/request_token", "", [401; 7]),
    ("POST /api/client/v2/registrations/{alias}/refresh_token", "", NOBODY),
    ("POST /api/client/v2/registrations/{alias}/release_token", "", ALL),
    ("GET /api/client/v2/registrations/{alias}/events", "", NOBODY),
    ("GET /api/client/v2/registrations/{alias}/avatar.jpg", "", NOBODY),
    // A PIN is wanted: no token takes its place.
    ("POST /request_token", "", NOBODY),
    ("POST /refresh_token", "", PARTIES),
    // One that is dead is released as well.
    ("POST /release_token", "", ALL),
    ("GET /events", "", PARTIES),
    ("GET /participants", "", PARTIES),
    ("GET /conference_status", "", PARTIES),
    ("GET /theme/", "", NO_CONTENT),
    ("GET /available_layouts", "", PARTIES),
    ("GET /layout_svgs", "", PARTIES),
    ("POST /dial", r#"{"destination":"carol"}"#, HOSTS),
    // Nobody has the floor.
    ("POST /presentation", "", NOBODY),
    ("GET /presentation.jpeg", "", NOT_FOUND),
    ("GET /presentation_high.jpeg", "", NOT_FOUND),
    ("POST /message", r#"{"type":"text/plain","payload":"hello"}"#, PARTIES),
    ("POST /transform_layout", r#"{"transforms":{"layout":"4:0"}}"#, HOSTS),
    ("POST /lock", "", HOSTS),
    ("POST /unlock", "", HOSTS),
    ("POST /start_conference", "", HOSTS),
    ("POST /muteguests", "", HOSTS),
    ("POST /unmuteguests", "", HOSTS),
    ("POST /disconnect", "", HOSTS),
    ("POST /clearallbuzz", "", HOSTS),
    ("POST /clearspotlights", "", HOSTS),
    ("POST /set_guests_can_unmute", r#"{"setting":true}"#, HOSTS),
    ("POST /set_guests_can_present", r#"{"setting":true}"#, HOSTS),
    ("POST /set_message_text", r#"{"text":"Welcome"}"#, HOSTS),
    ("GET /participants/{uuid}/avatar.jpg", "", NOT_FOUND),
    ("POST /participants/{uuid}/message", r#"{"type":"text/plain","payload":"hello"}"#, PARTIES),
    ("POST /participants/{uuid}/calls", "{}", NOBODY),
    ("POST /participants/{uuid}/calls/{*rest}", "{}", NOBODY),
    ("POST /participants/{uuid}/mute", "", HOSTS),
    ("POST /participants/{uuid}/unmute", "", HOSTS),
    ("POST /participants/{uuid}/disconnect", "", HOSTS),
    ("POST /participants/{uuid}/unlock", "", HOSTS),
    ("POST /participants/{uuid}/buzz", "", HOSTS),
    ("POST /participants/{uuid}/clearbuzz", "", HOSTS),
    ("POST /participants/{uuid}/spotlighton", "", HOSTS),
    ("POST /participants/{uuid}/spotlightoff", "", HOSTS),
    ("POST /participants/{uuid}/role", r#"{"role":"chair"}"#, HOSTS),
    ("POST /participants/{uuid}/dtmf", r#"{"digits":"1"}"#, HOSTS),
    ("POST /participants/{uuid}/preferred_aspect_ratio", r#"{"aspect_ratio":1.78}"#, PARTIES),
    // Each says that of himself alone.
    ("POST /participants/{uuid}/client_mute", "", NOBODY),
    ("POST /participants/{uuid}/client_unmute", "", NOBODY),
    ("POST /participants/{uuid}/take_floor", "", NOBODY),
    ("POST /participants/{uuid}/release_floor", "", NOBODY),
    ("POST /participants/{uuid}/transfer", r#"{"conference_alias":"hall","pin":"1357"}"#, HOSTS),
    ("POST /participants/{uuid}/allowrxpresentation", "", HOSTS),
    ("POST /participants/{uuid}/denyrxpresentation", "", HOSTS),
    ("POST /participants/{uuid}/video_muted", "", HOSTS),
    ("POST /participants/{uuid}/video_unmuted", "", HOSTS),
    ("POST /participants/{uuid}/overlaytext", r#"{"text":"Bobby"}"#, HOSTS),
    ("POST /participants/{uuid}/show_live_captions", "", PARTIES),
    ("POST /participants/{uuid}/hide_live_captions", "", PARTIES),
    ("POST /participants/{uuid}/pres_in_mix", r#"{"state":true}"#, PARTIES),
    ("POST /participants/{uuid}/notify_not_afk", "", PARTIES),
];

/// Every route, with each command of a list written out.
fn routes() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for route in NODE.iter().chain(&CONFERENCE) {
        let commands: &[&str] = match route.path {
            "/{command}" => &OF_A_CONFERENCE,
            "/participants/{uuid}/{command}" => &OF_A_PARTICIPANT,
            _ => &[""],
        };
        all.extend(
            commands
                .iter()
                .map(|command| format!("{} {}", route.method, route.path.replace("{command}", command))),
        );
    }
    all.extend(REGISTRATION.iter().map(|it| format!("{} {REGISTRATIONS}{}", it.method, it.path)));
    all
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let rows: BTreeSet<String> = ROWS.iter().map(|(route, ..)| (*route).to_owned()).collect();
    assert_eq!(rows.len(), ROWS.len(), "a row is there twice");
    assert_eq!(rows, routes());
}

#[tokio::test]
async fn s38_each_route_answers_each_kind_of_credentials_as_the_table_says() {
    let mut wrong = Vec::new();
    for (route, body, expected) in ROWS {
        for (column, (shows, expected)) in COLUMNS.into_iter().zip(expected).enumerate() {
            // Each in a meeting of its own: some of it ends the meeting.
            let found = answer(route, body, column).await;
            if found != expected {
                wrong.push(format!("{route} by {shows}: {found}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn answer(route: &str, body: &str, column: usize) -> u16 {
    let server = server(pins("1234", None), None).await;
    let (expired, _) = server.join("Early", "none").await;
    server.ahead.store(121, Ordering::Relaxed);
    let (host, _) = server.join("Host", "1234").await;
    let (guest, _) = server.join("Guest", "none").await;
    let (_, other) = server.join("Other", "none").await;
    let (revoked, _) = server.join("Gone", "none").await;
    assert_eq!(server.post(&revoked, "release_token", "").await.0, 200);
    let bob = server.ask("POST", &format!("{}/request_token", ROOM.replace("alice", "bob")), "", "").await.1;
    let elsewhere = bob["result"]["token"].as_str().unwrap_or_default().to_owned();
    assert!(!elsewhere.is_empty(), "a token of the other room: {bob}");
    let token = |token: &str| format!("token: {token}\r\n");
    let shown = match COLUMNS[column] {
        "guest" => token(&guest),
        "host" => token(&host),
        "admin" => "Authorization: Bearer 0123456789abcdef0123456789abcdef0123456789abcdef\r\n".to_owned(),
        "expired" => token(&expired),
        "other room" => token(&elsewhere),
        "revoked" => token(&revoked),
        _ => String::new(),
    };
    let (method, path) = route.split_once(' ').unwrap();
    let path = path.replace("{uuid}", &other).replace("{*rest}", "k/ack").replace("{alias}", "bob");
    let path = if path.starts_with("/api") { path } else { format!("{ROOM}{path}") };
    status(&server, method, &path, &shown, body).await
}

/// The status alone: an event stream has no end.
async fn status(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> u16 {
    let mut stream = BufReader::new(TcpStream::connect(server.at).await.unwrap());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: here\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}
