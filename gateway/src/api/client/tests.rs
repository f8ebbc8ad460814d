//! The API over a socket, with rooms of cardboard behind it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

mod dial;
mod doors;
mod gone;
mod guards;
mod registrations;

use super::*;
use crate::alias::{Alias, Domains};
use crate::cause::{Cause, Reason};
use crate::conference::cardboard::{Far, NoCodecs, leg, streams};
use crate::conference::policy::{Door, Pin};
use crate::conference::{CallRules, Directory, ExchangeParts, Resolution, Resolving};
use crate::config::Ringback;
use crate::events::Events as Told;
use crate::guard::Porter;
use crate::leg::connect::ConnectLegs;
use crate::leg::{Address, Caller, Leg, LegCommand, LegEvent, Origin, Party, Protocol};
use crate::media::{Engine, EngineConfig, EngineHandle};
use crate::records::CallRecord;
use crosspoint_codecs::format::{Capabilities, Direction};
use tokio::sync::mpsc;

/// Alice's room, Bob's beside it, which is open, and a hall with PINs.
struct Three([Arc<Service>; 3]);

impl Services for Three {
    fn service(&self, alias: &str) -> Option<Arc<Service>> {
        let alias = Alias::parse(alias, &Domains::default()).ok()?;
        self.0.iter().find(|it| it.aliases.contains(&alias)).cloned()
    }
}

pub(in crate::api) struct Server {
    pub(in crate::api) api: ClientApi,
    pub(in crate::api) at: SocketAddr,
    /// Seconds that the clock is ahead.
    pub(in crate::api) ahead: Arc<AtomicU64>,
    settings: watch::Sender<Settings>,
    /// The last part of the address that requests come from.
    from: AtomicU8,
    /// Who is called.
    town: Arc<Town>,
    /// Records of calls that are over.
    records: mpsc::UnboundedReceiver<CallRecord>,
    pub(in crate::api) engine: EngineHandle,
    _engine: Engine,
}

/// Everybody else can be called: out by the rule "town". Bob is where he has registered.
struct Town(Mutex<Vec<(Address, Caller, Far)>>, ConnectLegs);

impl Directory for Town {
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a> {
        self.dial_out(&party.address, &party.called)
    }

    fn dial_out<'a>(&'a self, _: &'a str, destination: &'a str) -> Resolving<'a> {
        let refuse = |reason| Resolution::Refuse { reason, why: "no rule".into() };
        let resolution = match destination {
            "nobody" => refuse(Reason::NotFound),
            "bob" => {
                let clients = self.1.of(&registrations::alias("bob"), Instant::ZERO);
                let targets = clients.iter().map(ConnectLegs::address).collect();
                Resolution::Dial { targets, rule: None, follow: false, why: String::new() }
            }
            "away" => refuse(Reason::Unavailable),
            number if number.starts_with('+') => refuse(Reason::Forbidden),
            name => {
                let uri = format!("sip:{name}@town.example");
                let target = Address::at(uri);
                Resolution::Dial {
                    targets: vec![target],
                    rule: Some("town".into()),
                    follow: false,
                    why: String::new(),
                }
            }
        };
        Box::pin(std::future::ready(resolution))
    }
}

impl Protocol for Town {
    fn schemes(&self) -> &'static [&'static str] {
        &["sip", "sips"]
    }

    fn dial(&self, to: &Address, from: &Caller, _: Capabilities, _: Option<usize>) -> Result<Leg, Cause> {
        let mut all = self.0.lock().unwrap();
        let number = u64::try_from(all.len()).unwrap() + 1;
        let (mut leg, far) = leg(number);
        (leg.party.origin, leg.party.address) = (Origin::Outgoing, to.uri.clone());
        all.push((to.clone(), from.clone(), far));
        Ok(leg)
    }
}

pub(in crate::api) async fn server(door: Door, disabled: Option<&str>) -> Server {
    guarded(door, disabled, Porter::of_a_test(false, &Told::default())).await
}

pub(in crate::api) async fn guarded(door: Door, disabled: Option<&str>, porter: Porter) -> Server {
    let room = |name, alias| Service::new(name, Alias::parse(alias, &Domains::default()).unwrap());
    let mut service = room("Alice's room", "meet.alice");
    service.door = door;
    let mut hall = room("Hall", "hall");
    hall.door = pins("2468", Some("1357"));
    let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
    let settings = Settings {
        infinity_clients: disabled.is_none(),
        disabled_text: disabled.unwrap_or_default().into(),
        ..Settings::default()
    };
    let (settings, live) = watch::channel(settings);
    let begun = std::time::Instant::now();
    let ahead = Arc::new(AtomicU64::new(0));
    let late = ahead.clone();
    let clock = move || {
        let time = begun.elapsed() + Duration::from_secs(late.load(Ordering::Relaxed));
        Instant::from_nanos(u64::try_from(time.as_nanos()).unwrap())
    };
    let clients = ConnectLegs::new(100, Arc::new(AtomicU64::new(1_000)));
    let town = Arc::new(Town(Mutex::default(), clients.clone()));
    let registrations = registrations::parts(clients.clone());
    let (recorder, records) = mpsc::unbounded_channel();
    let exchange = Exchange::new(ExchangeParts {
        directory: town.clone(),
        protocols: vec![town.clone(), Arc::new(clients)],
        engines: vec![handle.clone()],
        rules: CallRules { ring_timeout: Duration::from_secs(60), ringback: Ringback::Phone },
        calls: 100,
        recorder: Arc::new(move |record, _, _| drop(recorder.send(record))),
        porter,
        fonts: None,
        voice: Default::default(),
    });
    let api = ClientApi::new(ClientApiParts {
        services: Arc::new(Three([service, room("Bob's room", "meet.bob"), hall].map(Arc::new))),
        exchange,
        registrations,
        clock: Arc::new(clock),
        settings: live,
        streams_per_source: 64,
        version: "0.1.0",
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let router = api.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let from = AtomicU8::new(1);
    Server { api, at, ahead, settings, from, town, records, engine: handle, _engine: engine }
}

pub(in crate::api) fn pins(host: &str, guest: Option<&str>) -> Door {
    let pin = |text: &str| Pin::parse(text).unwrap();
    Door::new(Some(pin(host)), guest.map(pin), true).unwrap()
}

pub(in crate::api) const ROOM: &str = "/api/client/v2/conferences/meet.alice";

impl Server {
    /// What goes on here.
    pub(in crate::api) fn exchange(&self) -> Exchange {
        self.api.0.parts.exchange.clone()
    }

    pub(in crate::api) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, Value) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, self.from.load(Ordering::Relaxed)], 0).into()).unwrap();
        let mut stream = socket.connect(self.at).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("access-control-allow-origin: *"), "{head}");
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn enter(&self, name: &str, pin: &str) -> (u16, Value) {
        let pin = if pin.is_empty() { String::new() } else { format!("pin: {pin}\r\n") };
        let body = json!({ "display_name": name, "direct_media": true, "chosen_idp": "none" }).to_string();
        self.ask("POST", &format!("{ROOM}/request_token"), &pin, &body).await
    }

    /// Enters; the token and the participant.
    pub(in crate::api) async fn join(&self, name: &str, pin: &str) -> (String, String) {
        let (code, answer) = self.enter(name, pin).await;
        assert_eq!((code, &answer["status"]), (200, &json!("success")), "{answer}");
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        (text(&answer["result"]["token"]), text(&answer["result"]["participant_uuid"]))
    }

    pub(in crate::api) async fn post(&self, token: &str, path: &str, body: &str) -> (u16, Value) {
        let (code, answer) =
            self.ask("POST", &format!("{ROOM}/{path}"), &format!("token: {token}\r\n"), body).await;
        (code, answer["result"].clone())
    }

    async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        let (code, answer) = self.ask("GET", &format!("{ROOM}/{path}?token={token}"), "", "").await;
        (code, answer["result"].clone())
    }

    /// With bytes both ways.
    async fn bytes(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let head = format!(
            "{method} {ROOM}/{path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that has refused it does not read it to its end.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").expect("a head");
        let code = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (code, answer.split_off(end + 4))
    }

    async fn upload(&self, token: &str, still: &[u8]) -> (u16, Value) {
        let mut body = b"--b\r\nContent-Disposition: form-data; name=\"frame\"\r\n\r\n".to_vec();
        body.extend(still);
        body.extend(b"\r\n--b--\r\n");
        let headers = format!("token: {token}\r\nContent-Type: multipart/form-data; boundary=b\r\n");
        let (code, answer) = self.bytes("POST", "presentation", &headers, &body).await;
        (code, serde_json::from_slice::<Value>(&answer).unwrap_or_default()["result"].clone())
    }

    pub(in crate::api) async fn events(&self, token: &str) -> Events {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let head = format!("GET {ROOM}/events?token={token} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut events = Events(BufReader::new(stream));
        while !events.line().await.is_empty() {}
        events
    }
}

pub(in crate::api) struct Events(BufReader<TcpStream>);

impl Events {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        let read = tokio::time::timeout(Duration::from_secs(10), read).await.expect("a line").unwrap();
        assert!(read > 0, "the stream is over");
        line.trim_end().to_owned()
    }

    async fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        loop {
            let line = self.line().await;
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).expect("data that is JSON"));
            }
        }
    }

    /// The number of the next event that has one.
    async fn number(&mut self) -> u64 {
        loop {
            if let Some(number) = self.line().await.strip_prefix("id: ") {
                return number.parse().unwrap();
            }
        }
    }

    /// All that comes before that one, without it.
    async fn names_until(&mut self, wanted: &str) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let (name, _) = self.next().await;
            if name == wanted {
                return names;
            }
            names.push(name);
        }
    }

    /// Passes over others until that one.
    pub(in crate::api) async fn until(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.next().await;
            if name == wanted {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn prompts_refusals_and_tokens_are_as_clients_expect_them() {
    let server = server(pins("1234", None), None).await;
    let (code, answer) = server.enter("Bob", "").await;
    assert_eq!((code, &answer["status"]), (403, &json!("success")), "a prompt");
    assert_eq!(
        (&answer["result"]["pin"], &answer["result"]["guest_pin"]),
        (&json!("required"), &json!("none"))
    );
    let (code, answer) = server.enter("Bob", "9999").await;
    assert_eq!((code, answer), (403, json!({ "status": "failed", "result": "Invalid PIN" })));
    let nobody = server.ask("POST", "/api/client/v2/conferences/nobody/request_token", "", "{}").await;
    assert_eq!(
        nobody,
        (404, json!({ "status": "failed", "result": "Neither conference nor gateway found" }))
    );
    // S77: who tried is told of, and not what.
    let told = server.api.rooms().events().after(0, 10).events;
    let told = serde_json::to_value(&told[0]).unwrap();
    assert_eq!((&told["event"], &told["result"]), (&json!("pin_attempt"), &json!("wrong")));
    assert!(told["source"].as_str().unwrap().starts_with("127.0.0.1:") && told["protocol"] == "api");
    assert!(!told.to_string().contains("9999"));
    // S55, S85: with a domain, escaped or not, in either case.
    for alias in ["meet.alice%40example.com", "MEET.alice@example.com", "sip%3Ameet.alice@example.com"] {
        let path = format!("/api/client/v2/conferences/{alias}/request_token");
        assert_eq!(server.ask("POST", &path, "pin: 1234\r\n", "").await.0, 200, "{alias}");
    }
    let (code, answer) = server.enter("Alice", "1234").await;
    let result = &answer["result"];
    assert_eq!((code, &result["role"], &result["expires"]), (200, &json!("HOST"), &json!("120")));
    assert_eq!(result["current_service_type"], "conference");
    assert!(result.get("stun").is_none() && result["direct_media"] == false);
    // A token is renewed; the old one is good for a while.
    let token = result["token"].as_str().unwrap();
    let (code, renewed) = server.post(token, "refresh_token", "").await;
    assert_eq!((code, &renewed["role"]), (200, &json!("HOST")));
    let new = renewed["token"].as_str().unwrap();
    assert!(new != token && server.get(token, "conference_status").await.0 == 200);
    assert_eq!(server.post(new, "release_token", "{}").await, (200, json!(true)));
    assert_eq!(server.get(new, "participants").await, (403, json!("Invalid token")));
    assert_eq!(server.post(new, "release_token", "{}").await, (200, json!(true)), "twice is no fault");
}

#[tokio::test]
async fn s70_s76_a_switch_and_maintenance_refuse_in_words() {
    let off = server(Door::OPEN, Some("Disabled")).await;
    assert_eq!(off.enter("Bob", "").await, (403, json!({ "status": "failed", "result": "Disabled" })));
    let server = server(Door::OPEN, None).await;
    assert_eq!(server.ask("GET", "/api/client/v2/status", "", "").await.0, 200);
    server.settings.send_modify(|it| it.maintenance = true);
    let (code, answer) = server.ask("GET", "/api/client/v2/status", "", "").await;
    assert_eq!((code, &answer["result"]), (503, &json!("Maintenance mode")));
    assert_eq!(server.enter("Bob", "").await.0, 503);
}

#[tokio::test]
async fn a_stream_begins_with_everything_in_order_and_goes_on_with_what_changes() {
    let server = server(pins("1234", None), None).await;
    let (alice, uuid) = server.join("Alice", "1234").await;
    let mut events = server.events(&alice).await;
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != "stage") {
        let (name, data) = events.next().await;
        if name == "participant_create" {
            assert_eq!((&data["uuid"], &data["role"]), (&json!(uuid), &json!("chair")));
        }
        names.push(name);
    }
    assert_eq!(
        names,
        [
            "participant_sync_begin",
            "participant_create",
            "participant_sync_end",
            "conference_update",
            "layout",
            "stage"
        ]
    );
    let (bob, bobs) = server.join("Bob", "none").await;
    let created = events.until("participant_create").await;
    assert_eq!((&created["display_name"], &created["role"]), (&json!("Bob"), &json!("guest")));
    // S37: what is written goes to all but the one who wrote it.
    let mut others = server.events(&bob).await;
    let hello = json!({ "type": "text/plain", "payload": "hello" }).to_string();
    assert_eq!(server.post(&alice, "message", &hello).await, (200, json!(true)));
    let message = others.until("message_received").await;
    assert_eq!((&message["origin"], &message["payload"]), (&json!("Alice"), &json!("hello")));
    // S38: guests do not lock.
    assert_eq!(server.post(&bob, "lock", "").await, (403, json!("Invalid role")));
    assert_eq!(server.post(&alice, "lock", "").await, (200, json!(true)));
    assert_eq!(events.until("conference_update").await["locked"], true);
    // S27 to S30: who comes now waits, the host sees him and lets him in.
    let (code, answer) = server.enter("Carol", "none").await;
    assert_eq!((code, &answer["result"]["current_service_type"]), (200, &json!("waiting_room")));
    let (carol, carols) =
        (answer["result"]["token"].as_str().unwrap(), &answer["result"]["participant_uuid"]);
    let waiting = events.until("participant_create").await;
    assert_eq!((&waiting["uuid"], &waiting["service_type"]), (carols, &json!("waiting_room")));
    let mut own = server.events(carol).await;
    assert_eq!(own.until("participant_create").await["uuid"], *carols);
    assert_eq!(server.get(carol, "participants").await.1.as_array().unwrap().len(), 1, "herself");
    let admit = format!("participants/{}/unlock", carols.as_str().unwrap());
    assert_eq!(server.post(&bob, &admit, "").await.0, 404, "guests do not see who waits");
    assert_eq!(server.post(&alice, &admit, "").await, (200, json!(true)));
    assert_eq!(own.until("participant_update").await["service_type"], "conference");
    let mut seen = 0;
    loop {
        match own.next().await.0.as_str() {
            "participant_create" => seen += 1,
            "participant_sync_end" => break,
            _ => {}
        }
    }
    assert_eq!(seen, 3);
    // S34 to S36, hands, roles.
    let to = |command: &str| format!("participants/{bobs}/{command}");
    assert_eq!(server.post(&alice, &to("mute"), "").await, (200, json!(true)));
    assert_eq!(server.post(&bob, &to("buzz"), "").await, (200, json!(true)));
    assert_eq!(server.post(&alice, &to("dtmf"), r#"{"digits":"12#"}"#).await, (200, json!(true)));
    assert_eq!(server.post(&bob, &to("dtmf"), r#"{"digits":"1"}"#).await.0, 403);
    assert_eq!(server.post(&alice, &to("role"), r#"{"role":"chair"}"#).await, (200, json!(true)));
    // His client is told to ask for its role anew.
    assert_eq!(others.until("refresh_token").await, Value::Null);
    assert_eq!(server.post(&bob, "refresh_token", "").await.1["role"], "HOST");
    // S35: one, then all.
    assert_eq!(server.post(&alice, &to("disconnect"), "").await, (200, json!(true)));
    assert_eq!(others.until("disconnect").await["reason"], "Disconnected by another participant");
    assert_eq!(server.post(&alice, "disconnect", "").await, (200, json!(true)));
    assert_eq!(own.until("disconnect").await["reason"], "Conference terminated by another participant");
}

#[tokio::test]
async fn media_is_refused_in_words_and_layouts_by_name() {
    let server = server(Door::OPEN, None).await;
    let (alice, uuid) = server.join("Alice", "").await;
    let calls = format!("participants/{uuid}/calls");
    assert_eq!(server.post(&alice, &calls, "{}").await.0, 403);
    let layouts = server.get(&alice, "available_layouts").await.1;
    assert!(layouts.as_array().unwrap().contains(&json!("1:7")));
    let four = r#"{"transforms":{"layout":"4:0"}}"#;
    assert_eq!(server.post(&alice, "transform_layout", four).await, (200, json!(true)));
    let (code, why) = server.post(&alice, "transform_layout", r#"{"transforms":{"layout":"7:7"}}"#).await;
    assert!(code == 400 && why.as_str().unwrap().contains("7:7"), "{why}");
    assert_eq!(server.get(&alice, "theme/").await.0, 204);
    assert_eq!(server.post(&alice, "nonsense", "").await.0, 404);
    server.api.expire();
}

impl Server {
    async fn dial(&self, token: &str, body: Value) -> (u16, Value) {
        self.post(token, "dial", &body.to_string()).await
    }

    /// The telephone that was dialled last.
    fn last(&self) -> (Address, Caller, Far) {
        self.town.0.lock().unwrap().pop().expect("somebody was dialled")
    }
}

#[tokio::test]
async fn s42_s46_one_presents_at_a_time_and_who_is_denied_slides_knows_of_none() {
    let server = server(pins("1234", None), None).await;
    let (alice, alices) = server.join("Alice", "1234").await;
    let (bob, bobs) = server.join("Bob", "none").await;
    let (carol, carols) = server.join("Carol", "none").await;
    let mut of_alice = server.events(&alice).await;
    let mut of_bob = server.events(&bob).await;
    let mut of_carol = server.events(&carol).await;
    for events in [&mut of_alice, &mut of_bob, &mut of_carol] {
        events.until("stage").await;
    }
    let to = async |token: &str, uuid: &str, command: &str| {
        server.post(token, &format!("participants/{uuid}/{command}"), "").await
    };
    assert_eq!(to(&bob, &carols, "denyrxpresentation").await.0, 403, "S38");
    assert_eq!(to(&alice, &carols, "denyrxpresentation").await, (200, json!(true)));
    let update = of_carol.until("participant_update").await;
    assert_eq!((&update["uuid"], &update["rx_presentation_policy"]), (&json!(carols), &json!("DENY")));
    // The result is null: clients take nothing else.
    assert_eq!(to(&alice, &bobs, "take_floor").await, (403, json!("Invalid role")), "each for himself");
    assert_eq!(to(&bob, &bobs, "take_floor").await, (200, Value::Null));
    let start = of_alice.until("presentation_start").await;
    assert_eq!(
        (&start["presenter_uuid"], &start["presenter_name"], &start["presenter_source"]),
        (&json!(bobs), &json!("Bob"), &json!("static"))
    );
    let own = of_bob.until("participant_update").await;
    assert!(own["uuid"] == json!(carols) || own["is_presenting"] == "YES", "{own}");
    // Stills go through as they came, to those who may see them.
    let still = include_bytes!("../../../../fixtures/stills/fields.jpeg").as_slice();
    assert_eq!(server.upload(&alice, still).await.0, 403, "the floor is Bob's");
    assert_eq!(server.upload(&bob, b"GIF89a").await.0, 400);
    assert_eq!(server.upload(&bob, &jpeg::header_only(0xc0, 9_000, 9_000)).await.0, 400);
    assert_eq!(server.upload(&bob, &jpeg::header_only(0xc0, 640, 360)).await.0, 400, "no picture in it");
    assert_eq!(server.upload(&bob, still).await, (200, json!(true)));
    assert_eq!(of_alice.until("presentation_frame").await, json!({}));
    assert_eq!(of_alice.number().await, 1);
    for file in ["presentation.jpeg", "presentation_high.jpeg"] {
        let (code, picture) = server.bytes("GET", &format!("{file}?id=1&token={alice}"), "", b"").await;
        assert!(code == 200 && picture == still, "{file}");
        assert_eq!(server.bytes("GET", &format!("{file}?token={carol}"), "", b"").await.0, 404);
    }
    // Who is let see them learns of them now, and nothing before.
    assert_eq!(to(&carol, &carols, "allowrxpresentation").await, (200, json!(true)), "S46: by himself too");
    let before = of_carol.names_until("presentation_start").await;
    assert!(!before.iter().any(|name| name.starts_with("presentation")), "{before:?}");
    // The floor goes to Alice; Bob hears of that, and what he gives back is no more his.
    assert_eq!(to(&alice, &alices, "take_floor").await, (200, Value::Null));
    assert_eq!(of_bob.until("presentation_start").await["presenter_uuid"], json!(alices));
    assert_eq!(to(&bob, &bobs, "release_floor").await, (200, Value::Null));
    assert_eq!(
        server.bytes("GET", &format!("presentation.jpeg?token={bob}"), "", b"").await.0,
        404,
        "none yet"
    );
    assert_eq!(server.upload(&alice, still).await, (200, json!(true)));
    assert_eq!(to(&alice, &alices, "release_floor").await, (200, Value::Null));
    of_bob.until("presentation_stop").await;
    of_carol.until("presentation_stop").await;
    // Guests may be kept from it; who has the floor then loses it.
    assert_eq!(to(&bob, &bobs, "take_floor").await, (200, Value::Null));
    let setting = |may: bool| json!({ "setting": may }).to_string();
    assert_eq!(server.post(&bob, "set_guests_can_present", &setting(true)).await.0, 403);
    assert_eq!(server.post(&alice, "set_guests_can_present", &setting(false)).await, (200, json!(true)));
    of_carol.until("presentation_start").await;
    of_carol.until("presentation_stop").await;
    assert_eq!(to(&bob, &bobs, "take_floor").await, (403, json!("You may not present here")));
    // Clients of 2015 show stills by a call.
    let calls = format!("participants/{alices}/calls");
    let (code, call) = server.post(&alice, &calls, r#"{"call_type":"presentation"}"#).await;
    let call = format!("{calls}/{}", call["call_uuid"].as_str().unwrap());
    assert_eq!(
        (code, of_bob.until("presentation_start").await["presenter_uuid"].clone()),
        (200, json!(alices))
    );
    assert_eq!(server.upload(&alice, still).await, (200, json!(true)));
    assert_eq!(server.post(&alice, &format!("{call}/disconnect"), "").await, (200, Value::Null));
    of_bob.until("presentation_stop").await;
    // Who leaves has the floor no more.
    assert_eq!(to(&alice, &alices, "take_floor").await, (200, Value::Null));
    of_bob.until("presentation_start").await;
    assert_eq!(server.post(&alice, "release_token", "{}").await, (200, json!(true)));
    of_bob.until("presentation_stop").await;
}

/// Section by section of the API: the command, its body, and the JSON type of its result, which clients
/// check.
#[tokio::test]
async fn every_command_answers_with_the_type_that_clients_insist_on() {
    let server = server(Door::OPEN, None).await;
    let (alice, uuid) = server.join("Alice", "").await;
    let (_, bobs) = server.join("Bob", "").await;
    let own = |command: &str| format!("participants/{uuid}/{command}");
    let other = |command: &str| format!("participants/{bobs}/{command}");
    let on = r#"{"setting":true}"#.to_owned();
    let bare = String::new;
    let rows: Vec<(String, String, Value)> = vec![
        ("lock".into(), bare(), json!(true)),
        ("unlock".into(), "{}".into(), json!(true)),
        ("start_conference".into(), bare(), json!(true)),
        ("muteguests".into(), bare(), json!(true)),
        ("unmuteguests".into(), bare(), json!(true)),
        ("message".into(), r#"{"type":"text/plain","payload":"x"}"#.into(), json!(true)),
        ("transform_layout".into(), r#"{"transforms":{"layout":"1:7"}}"#.into(), json!(true)),
        ("transform_layout".into(), r#"{"transforms":{"enable_overlay_text":false}}"#.into(), json!(true)),
        (
            "transform_layout".into(),
            r#"{"transforms":{"free_form_overlay_text":["a","b"]}}"#.into(),
            json!(true),
        ),
        ("set_guests_can_unmute".into(), on.clone(), json!(true)),
        ("set_guests_can_present".into(), on, json!(true)),
        ("set_message_text".into(), r#"{"text":"Welcome"}"#.into(), json!(true)),
        ("clearallbuzz".into(), bare(), json!(true)),
        ("clearspotlights".into(), bare(), json!(true)),
        (other("mute"), bare(), json!(true)),
        (other("unmute"), bare(), json!(true)),
        (other("dtmf"), r#"{"digits":"1"}"#.into(), json!(true)),
        (other("role"), r#"{"role":"guest"}"#.into(), json!(true)),
        (other("message"), r#"{"type":"text/plain","payload":"x"}"#.into(), json!(true)),
        (other("buzz"), bare(), json!(true)),
        (other("clearbuzz"), bare(), json!(true)),
        (other("video_muted"), bare(), json!(true)),
        (other("video_unmuted"), bare(), json!(true)),
        (own("client_mute"), bare(), json!(true)),
        (own("client_unmute"), bare(), json!(true)),
        (other("spotlighton"), bare(), json!(true)),
        (other("spotlightoff"), bare(), json!(true)),
        (other("denyrxpresentation"), bare(), json!(true)),
        (other("allowrxpresentation"), bare(), json!(true)),
        (own("preferred_aspect_ratio"), r#"{"aspect_ratio":1.78}"#.into(), json!(true)),
        (own("pres_in_mix"), r#"{"state":true}"#.into(), json!(true)),
        (other("overlaytext"), r#"{"text":"Bobby"}"#.into(), json!(true)),
        (own("take_floor"), bare(), Value::Null),
        (own("release_floor"), bare(), Value::Null),
        (own("show_live_captions"), bare(), Value::Null),
        (own("hide_live_captions"), bare(), Value::Null),
        (own(&format!("calls/{uuid}/statistics")), r#"{"audio":{}}"#.into(), Value::Null),
        (other("transfer"), r#"{"conference_alias":"hall","role":"guest","pin":"1357"}"#.into(), json!(true)),
        (other("disconnect"), bare(), json!(true)),
        ("disconnect".into(), bare(), json!(true)),
    ];
    for (path, body, result) in rows {
        assert_eq!(server.post(&alice, &path, &body).await, (200, result), "{path}");
    }
}

#[tokio::test]
async fn what_is_set_of_somebody_is_told_of_him() {
    let server = server(Door::OPEN, None).await;
    let (alice, uuid) = server.join("Alice", "").await;
    let mut events = server.events(&alice).await;
    events.until("stage").await;
    for (command, body, member, is) in [
        ("client_mute", "", "is_client_muted", json!(true)),
        ("client_unmute", "", "is_client_muted", json!(false)),
        ("video_muted", "", "is_video_muted", json!(true)),
        ("denyrxpresentation", "", "rx_presentation_policy", json!("DENY")),
        ("take_floor", "", "is_presenting", json!("YES")),
        ("overlaytext", r#"{"text":"Ally"}"#, "overlay_text", json!("Ally")),
    ] {
        assert_eq!(server.post(&alice, &format!("participants/{uuid}/{command}"), body).await.0, 200);
        assert_eq!(events.until("participant_update").await[member], is, "{command}");
    }
    let names = r#"{"transforms":{"enable_overlay_text":false}}"#;
    assert_eq!(server.post(&alice, "transform_layout", names).await, (200, json!(true)));
    assert_eq!(events.until("layout").await["overlay_text_enabled"], false);
}
