//! Who may do what: every route of the client API, of the management API and of the pages beside it, by
//! every kind of credentials. A route that has no row here fails the test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::admin::{self, Admin, tests as managed};
use super::client::routes;
use super::client::tests::ROOM;
use super::{Api, Metrics, PAGES, tests::Fixed};

/// What somebody shows: a token of a client, or one of the management API. He shows it in every place
/// where either API looks for one, so that no token opens the other's door.
const COLUMNS: [&str; 8] =
    ["none", "guest", "host", "admin", "expired", "other room", "revoked", "revoked admin"];

type Answers = [u16; 8];

/// Anybody, whatever he shows.
const ALL: Answers = [200; 8];
/// Whoever has a token of this conference.
const PARTIES: Answers = parties(200);
const NO_CONTENT: Answers = parties(204);
const NOT_FOUND: Answers = parties(404);
const HOSTS: Answers = [403, 403, 200, 403, 403, 403, 403, 403];
const NOBODY: Answers = [403; 8];
/// Whoever has a token of the management API.
const READ: Answers = admins(200);
const MADE: Answers = admins(201);
const DONE: Answers = admins(204);

const fn parties(code: u16) -> Answers {
    [403, code, code, 403, 403, 403, 403, 403]
}

const fn admins(code: u16) -> Answers {
    [401, 401, 401, code, 401, 401, 401, 401]
}

/// Method and path with the command written out, below a conference or whole; the body; what each column
/// is answered. `{uuid}` is another guest.
const CLIENT: [(&str, &str, Answers); 62] = [
    ("GET /api/client/v2/status", "", ALL),
    // A participant's token is none of a registration.
    ("GET /api/client/v2/registrations", "", NOBODY),
    ("POST /api/client/v2/registrations/{alias}/request_token", "", [401; 8]),
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

/// The same below [`admin::PREFIX`].
const MANAGEMENT: [(&str, &str, Answers); 53] = [
    ("GET /openapi.json", "", READ),
    ("GET /services", "", READ),
    ("POST /services", r#"{"name":"Two","aliases":["two"]}"#, MADE),
    ("GET /services/{name}", "", READ),
    ("PUT /services/{name}", r#"{"aliases":["meet.alice"]}"#, READ),
    ("PATCH /services/{name}", r#"{"chat":false}"#, READ),
    ("DELETE /services/{name}", "", DONE),
    ("GET /devices", "", READ),
    ("POST /devices", r#"{"alias":"uma","password":"correct horse"}"#, MADE),
    ("GET /devices/{alias}", "", READ),
    ("PUT /devices/{alias}", "{}", READ),
    ("PATCH /devices/{alias}", "{}", READ),
    ("DELETE /devices/{alias}", "", DONE),
    ("GET /rules", "", READ),
    ("POST /rules", r#"{"name":"more","priority":30,"match":"a","proxy":"trunk.example.net"}"#, MADE),
    ("GET /rules/{name}", "", READ),
    ("PUT /rules/{name}", r#"{"priority":30,"match":"a","proxy":"trunk.example.net"}"#, READ),
    ("PATCH /rules/{name}", r#"{"enable":false}"#, READ),
    ("DELETE /rules/{name}", "", DONE),
    ("GET /settings", "", READ),
    ("PUT /settings", "{}", READ),
    ("PATCH /settings", "{}", READ),
    ("GET /status/conferences", "", READ),
    ("GET /status/conferences/{name}", "", READ),
    ("GET /status/conferences/{name}/participants", "", READ),
    ("GET /status/calls", "", READ),
    ("GET /status/registrations", "", READ),
    ("GET /status/bans", "", READ),
    ("DELETE /status/bans/{address}", "", READ),
    // Whoever may give an order is told that nobody is there to take it.
    ("POST /process/stop", "{}", admins(503)),
    ("POST /process/reload", "", admins(409)),
    ("POST /process/log", "{}", admins(400)),
    ("POST /conferences/{name}/lock", "", DONE),
    ("POST /conferences/{name}/unlock", "", DONE),
    ("POST /conferences/{name}/start", "", DONE),
    ("POST /conferences/{name}/mute-guests", "", DONE),
    ("POST /conferences/{name}/unmute-guests", "", DONE),
    ("POST /conferences/{name}/disconnect", "", DONE),
    ("POST /conferences/{name}/dial", r#"{"destination":"carol"}"#, READ),
    ("POST /conferences/{name}/message", r#"{"text":"hello"}"#, DONE),
    ("POST /conferences/{name}/participants/{uuid}/admit", "", DONE),
    ("POST /conferences/{name}/participants/{uuid}/disconnect", "", DONE),
    ("POST /conferences/{name}/participants/{uuid}/mute", "", DONE),
    ("POST /conferences/{name}/participants/{uuid}/unmute", "", DONE),
    ("POST /conferences/{name}/participants/{uuid}/role", r#"{"role":"host"}"#, DONE),
    ("POST /conferences/{name}/participants/{uuid}/dtmf", r#"{"digits":"1"}"#, DONE),
    ("POST /conferences/{name}/participants/{uuid}/spotlight", r#"{"on":true}"#, DONE),
    ("POST /conferences/{name}/participants/{uuid}/transfer", r#"{"conference":"Hall"}"#, DONE),
    // There is none.
    ("GET /calls/{call}/trace", "", admins(404)),
    // It is for the token of the command line alone.
    ("POST /calls/{call}/capture", "{}", admins(403)),
    ("GET /history/calls", "", READ),
    ("GET /events", "", READ),
    ("GET /events/stream", "", READ),
];

/// Pages of the management listener: they are for whoever reaches it, and it is on loopback.
const BESIDE: [(&str, &str, Answers); 3] =
    [("GET /status", "", ALL), ("GET /healthz", "", ALL), ("GET /metrics", "", ALL)];

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let management = Admin::routes().into_iter().map(|(method, path)| format!("{method} {path}"));
    let pages = PAGES.iter().map(|(path, _)| format!("GET {path}"));
    hold(&CLIENT, routes::written_out());
    hold(&MANAGEMENT, management.collect());
    hold(&BESIDE, pages.collect());
}

fn hold(rows: &[(&str, &str, Answers)], routes: Vec<String>) {
    let named: BTreeSet<String> = rows.iter().map(|(route, ..)| (*route).to_owned()).collect();
    assert_eq!(named.len(), rows.len(), "a row is there twice");
    assert_eq!(named, routes.into_iter().collect());
}

#[tokio::test]
async fn s38_each_route_of_clients_answers_each_kind_of_credentials_as_the_table_says() {
    let path = |path: &str, world: &World| {
        let path = path.replace("{uuid}", &world.other).replace("{*rest}", "k/ack").replace("{alias}", "bob");
        let path = if path.starts_with("/api") { path } else { format!("{ROOM}{path}") };
        (world.server.clients.at, path)
    };
    table("clients", &CLIENT, path).await;
}

#[tokio::test]
async fn threat_18_each_route_of_management_answers_each_kind_of_credentials_as_the_table_says() {
    let path = |path: &str, world: &World| {
        let name = if path.starts_with("/rules") { "out" } else { "Alice's%20room" };
        let path = path
            .replace("{name}", name)
            .replace("{alias}", "tess")
            .replace("{address}", "192.0.2.1")
            .replace("{uuid}", &world.other);
        (world.management.listening()[0], format!("{}{path}", admin::PREFIX))
    };
    table("management", &MANAGEMENT, path).await;
    table("pages", &BESIDE, |path, world| (world.management.listening()[0], path.to_owned())).await;
}

/// Holds every cell of `rows` against what is answered.
async fn table(
    name: &str,
    rows: &[(&str, &str, Answers)],
    whole: impl Fn(&str, &World) -> (SocketAddr, String),
) {
    let mut wrong = Vec::new();
    let mut world = World::new(name).await;
    for (route, body, expected) in rows {
        let (method, path) = route.split_once(' ').unwrap();
        for (column, (shows, expected)) in COLUMNS.into_iter().zip(expected).enumerate() {
            let (at, path) = whole(path, &world);
            let found = status(at, method, &path, &world.shown[column], body).await;
            if found != *expected {
                wrong.push(format!("{route} by {shows}: {found}, not {expected}"));
            }
            // Who was let in may have ended the meeting.
            if found < 300 {
                drop(world);
                world = World::new(name).await;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Both APIs over the same rooms, in a meeting, and what each column shows.
struct World {
    server: managed::Server,
    management: Api,
    shown: [String; 8],
    /// Another guest.
    other: String,
}

impl World {
    async fn new(name: &str) -> Self {
        let server = managed::server(&format!("matrix-{name}")).await;
        for (path, document) in [
            ("/services", json!({ "name": "Alice's room", "aliases": ["meet.alice"] })),
            ("/services", json!({ "name": "Hall", "aliases": ["hall"] })),
            ("/devices", json!({ "alias": "tess", "password": "correct horse" })),
            ("/rules", json!({ "name": "out", "priority": 20, "match": "b", "proxy": "trunk.example.net" })),
        ] {
            assert_eq!(server.send("POST", path, document).await.code, 201, "{path}");
        }
        let clients = &server.clients;
        let (expired, _) = clients.join("Early", "none").await;
        clients.ahead.store(121, Ordering::Relaxed);
        let (host, _) = clients.join("Host", "1234").await;
        let (guest, _) = clients.join("Guest", "none").await;
        let (_, other) = clients.join("Other", "none").await;
        let (revoked, _) = clients.join("Gone", "none").await;
        assert_eq!(clients.post(&revoked, "release_token", "").await.0, 200);
        let bob =
            clients.ask("POST", &format!("{}/request_token", ROOM.replace("alice", "bob")), "", "").await.1;
        let elsewhere = bob["result"]["token"].as_str().unwrap_or_default().to_owned();
        assert!(!elsewhere.is_empty(), "a token of the other room: {bob}");
        let gone = server.revoked_token().await;
        let tokens = [String::new(), guest, host, server.token.clone(), expired, elsewhere, revoked, gone];
        let shown = tokens.map(|it| match it.as_str() {
            "" => String::new(),
            it => format!("token: {it}\r\nAuthorization: Bearer {it}\r\n"),
        });
        let source = Arc::new(Fixed(Vec::new())) as Arc<dyn super::Source>;
        let listen = ["127.0.0.1:0".parse().unwrap()];
        let management =
            Api::bind(&listen).unwrap().serve(&source, &Metrics::default(), Some(&server.admin)).unwrap();
        Self { server, management, shown, other }
    }
}

/// The status alone: an event stream has no end.
async fn status(at: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> u16 {
    let mut stream = BufReader::new(TcpStream::connect(at).await.unwrap());
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}
