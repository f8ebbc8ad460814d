//! Registration, and calls that ring at clients or are made by them.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::{DeviceEntry, Redacted};
use crate::leg::connect::ConnectLegs;
use crate::net::clock::Clock;
use crate::registrar::{Expiry, Registrar, Settings};

const BOB: &str = "/api/client/v2/registrations/bob";

pub(super) fn alias(text: &str) -> Alias {
    Alias::parse(text, &Domains::default()).unwrap()
}

/// Bob and Carol may register, with "bob-secret" and "carol-secret".
pub(super) fn parts(clients: ConnectLegs) -> RegistrationParts {
    let (registrar, domains, realm) = (registrar(), Domains::default(), "crosspoint".into());
    RegistrationParts { registrar, domains, realm, clients, directory: true }
}

/// One for all tests: it has a thread, and nobody changes what is in it.
fn registrar() -> Registrar {
    static ONE: OnceLock<Registrar> = OnceLock::new();
    let open = || {
        let folder = std::env::temp_dir().join(format!("crosspoint-clients-{}", std::process::id()));
        let device = |name: &str| DeviceEntry {
            alias: alias(name),
            username: name.into(),
            password: Redacted::new(format!("{name}-secret")),
            codecs: Vec::new(),
        };
        let time = Duration::from_secs;
        let settings = Settings {
            realm: "crosspoint".into(),
            expiry: Expiry { least: time(1), default: time(3_600), most: time(7_200) },
            registrations: 20,
            devices: vec![device("bob"), device("carol")],
            events: Default::default(),
        };
        let registrar = Registrar::open(&folder, settings, Clock::start()).unwrap();
        // The file stays open, and goes with the process.
        std::fs::remove_dir_all(&folder).unwrap();
        registrar
    };
    ONE.get_or_init(open).clone()
}

pub(super) fn basic(header: &str, user: &str, password: &str) -> String {
    format!("{header}: x-pexip-basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

fn text(it: &Value) -> String {
    it.as_str().unwrap_or_else(|| panic!("no text: {it}")).to_owned()
}

impl Server {
    /// Registers as bob; the token.
    async fn register(&self) -> String {
        let headers = basic("Authorization", "bob", "bob-secret");
        let (code, answer) = self.ask("POST", &format!("{BOB}/request_token"), &headers, "{}").await;
        assert_eq!((code, &answer["status"]), (200, &json!("success")), "{answer}");
        text(&answer["result"]["token"])
    }

    async fn stream(&self, path: &str, token: &str) -> Events {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let head = format!("GET {path}/events?token={token} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut events = Events(BufReader::new(stream));
        assert!(events.line().await.contains(" 200 "));
        while !events.line().await.is_empty() {}
        events
    }

    /// Comes into what rang, or does not; code and result.
    async fn accept(&self, incoming: &Value) -> (u16, Value) {
        let path =
            format!("/api/client/v2/conferences/{}/request_token", text(&incoming["conference_alias"]));
        let body = json!({ "display_name": "Bob B.", "token": incoming["token"] }).to_string();
        let (code, answer) = self.ask("POST", &path, "", &body).await;
        (code, answer["result"].clone())
    }

    fn clients(&self) -> Vec<crate::leg::connect::Registered> {
        self.api.0.parts.registrations.clients.all(self.api.now())
    }

    /// What rings at the first client.
    fn rings(&self) -> Vec<Arc<crate::leg::connect::Ring>> {
        let client = &self.clients()[0];
        let rings = self.api.0.parts.registrations.clients.rings(&client.alias, client.uuid).unwrap();
        rings.borrow().clone()
    }

    /// A telephone calls bob.
    async fn telephone(&self, number: u64) -> Far {
        let (mut leg, far) = leg(number);
        (leg.party.address, leg.party.name, leg.party.called) =
            ("alice".into(), "Alice".into(), "bob".into());
        self.api.0.parts.exchange.accept(leg);
        far.tells(LegEvent::Offered(Some(crate::conference::cardboard::offer()))).await;
        far
    }

    /// Somebody whom the API has dialled.
    async fn dialled(&self) -> (Address, Caller, Far) {
        for _ in 0..1_000 {
            if let Some(dialled) = self.town.0.lock().unwrap().pop() {
                return dialled;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody was dialled");
    }
}

#[tokio::test]
async fn s49_s50_a_client_registers_with_what_is_written_down_for_its_alias() {
    let server = server(Door::OPEN, None).await;
    let request = format!("{BOB}/request_token");
    let wrong = server.ask("POST", &request, &basic("Authorization", "bob", "bob-Secret"), "{}").await;
    assert_eq!(wrong.0, 401);
    let unknown = "/api/client/v2/registrations/nobody/request_token";
    let others = [
        server.ask("POST", unknown, &basic("Authorization", "bob", "bob-secret"), "{}").await,
        server.ask("POST", &request, &basic("Authorization", "carol", "carol-secret"), "{}").await,
        server.ask("POST", &request, "", "").await,
        server.ask("POST", &request, "Authorization: x-pexip-basic ////\r\n", "").await,
    ];
    for other in others {
        assert_eq!(other, wrong, "the same words for whatever is wrong");
    }
    // Either header; an alias in any of its forms.
    for (path, header) in [("bob", "Authorization"), ("BOB%40example.com", "X-Pexip-Authorization")] {
        let path = format!("/api/client/v2/registrations/{path}/request_token");
        let (code, answer) = server.ask("POST", &path, &basic(header, "bob", "bob-secret"), "").await;
        let result = &answer["result"];
        assert_eq!((code, &result["expires"]), (200, &json!("120")), "{answer}");
        for (member, is) in [("directory_enabled", json!(true)), ("route_via_registrar", json!(false))] {
            assert_eq!(result[member], is, "{member}");
        }
        assert!(!text(&result["token"]).is_empty() && !text(&result["registration_uuid"]).is_empty());
        assert!(result["version"].is_object());
    }
    assert_eq!(server.clients().len(), 2, "one device, two clients");
    let told = server.api.rooms().events().after(0, 10).events;
    let told = serde_json::to_value(&told[0]).unwrap();
    assert_eq!((&told["event"], &told["alias"]), (&json!("registration_added"), &json!("bob")), "S77");
}

#[tokio::test]
async fn s53_a_registration_is_refreshed_released_and_expires() {
    let server = server(Door::OPEN, None).await;
    let token = server.register().await;
    // The desktop client has the token in the body, and no header.
    let body = json!({ "token": token }).to_string();
    let (code, answer) = server.ask("POST", &format!("{BOB}/refresh_token"), "", &body).await;
    assert_eq!((code, &answer["result"]["expires"]), (200, &json!("120")));
    let new = text(&answer["result"]["token"]);
    assert_ne!(new, token);
    let header = format!("token: {new}\r\n");
    let avatar = server.ask("GET", &format!("{BOB}/avatar.jpg?token={new}"), "", "").await;
    assert_eq!(avatar, (404, json!({ "status": "failed", "result": "No image available" })));
    let mallory = "/api/client/v2/registrations/carol/avatar.jpg";
    assert_eq!(server.ask("GET", mallory, &header, "").await.0, 403, "of another alias");
    let events = server.stream(BOB, &new).await;
    let released = server.ask("POST", &format!("{BOB}/release_token?token={new}"), "", "").await;
    assert_eq!(released, (200, json!({ "status": "success", "result": true })));
    assert!(server.clients().is_empty());
    ends(events).await;
    assert_eq!(server.ask("POST", &format!("{BOB}/refresh_token"), &header, "").await.0, 403);
    // Nobody refreshes the next one.
    let events = {
        let token = server.register().await;
        server.stream(BOB, &token).await
    };
    server.ahead.store(119, Ordering::Relaxed);
    server.api.expire();
    assert_eq!(server.clients().len(), 1);
    server.ahead.store(121, Ordering::Relaxed);
    server.api.expire();
    assert!(server.clients().is_empty());
    ends(events).await;
    let told = server.api.rooms().events().after(0, 10).events;
    let names: Vec<_> = told.iter().map(|it| text(&serde_json::to_value(it).unwrap()["event"])).collect();
    let add = "registration_added";
    assert_eq!(names, [add, "registration_deleted", add, "registration_expired"], "S77");
}

/// The stream is over.
async fn ends(mut events: Events) {
    // The last chunk is empty.
    while events.line().await != "0" {}
}

#[tokio::test]
async fn s52_a_client_is_called_sees_who_it_is_and_takes_the_call() {
    let mut server = server(Door::OPEN, None).await;
    let token = server.register().await;
    let mut events = server.stream(BOB, &token).await;
    let mut phone = server.telephone(7).await;
    let incoming = events.until("incoming").await;
    for (member, is) in [
        ("local_alias", "bob"),
        ("remote_alias", "alice"),
        ("remote_display_name", "Alice"),
        ("service_type", "gateway"),
    ] {
        assert_eq!(incoming[member], is, "{member}");
    }
    assert!(matches!(phone.told().await, LegCommand::Ring));
    // Nobody else comes into the call.
    let path = format!("/api/client/v2/conferences/{}", text(&incoming["conference_alias"]));
    let (code, _) = server.ask("POST", &format!("{path}/request_token"), "", "{}").await;
    assert_eq!(code, 404, "without the token there is no such conference");
    let guess = json!({ "conference_alias": incoming["conference_alias"], "token": "guess" });
    assert_eq!(server.accept(&guess).await, (403, json!("Invalid token")));
    let (code, granted) = server.accept(&incoming).await;
    assert_eq!((code, &granted["current_service_type"]), (200, &json!("gateway")), "{granted}");
    assert_eq!(granted["display_name"], "Bob B.");
    assert!(matches!(phone.told().await, LegCommand::Answer(_)));
    phone.tells(LegEvent::Answered(streams(70, Direction::SendRecv).0)).await;
    assert_eq!(server.accept(&incoming).await, (403, json!("Invalid token")), "once");
    // In the call: who is there, a mute, a key, the end.
    let own = text(&granted["token"]);
    let mut call = server.stream(&path, &own).await;
    let alice = loop {
        let (name, data) = call.next().await;
        if data["display_name"] == "Alice" && data["service_type"] == "gateway" {
            assert!(name.starts_with("participant_"));
            break data;
        }
    };
    let command = |what: &str| format!("{path}/participants/{}/{what}", text(&alice["uuid"]));
    let header = format!("token: {own}\r\n");
    assert_eq!(server.ask("POST", &command("mute"), &header, "").await.0, 200);
    assert_eq!(call.until("participant_update").await["is_muted"], "YES");
    assert_eq!(server.ask("POST", &command("dtmf"), &header, r#"{"digits":"5"}"#).await.0, 200);
    assert!(matches!(phone.told().await, LegCommand::SendDtmf('5')));
    phone.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(call.until("disconnect").await["reason"], "Call disconnected");
    let record = server.records.recv().await.unwrap();
    assert_eq!((record.answered_by.as_deref(), record.reason.as_str()), (Some("bob"), "hangup"));
    assert!(record.answered.is_some());
    // Nothing of it is left on the client's list.
    assert!(server.rings().is_empty());
}

#[tokio::test]
async fn s52_a_client_hangs_up_and_so_does_the_caller() {
    let server = server(Door::OPEN, None).await;
    let token = server.register().await;
    let mut events = server.stream(BOB, &token).await;
    let mut phone = server.telephone(7).await;
    let incoming = events.until("incoming").await;
    assert!(matches!(phone.told().await, LegCommand::Ring));
    let (_, granted) = server.accept(&incoming).await;
    assert!(matches!(phone.told().await, LegCommand::Answer(_)));
    phone.tells(LegEvent::Answered(streams(70, Direction::SendRecv).0)).await;
    let path = format!("/api/client/v2/conferences/{}", text(&incoming["conference_alias"]));
    let header = format!("token: {}\r\n", text(&granted["token"]));
    assert_eq!(server.ask("POST", &format!("{path}/release_token"), &header, "{}").await.0, 200);
    assert_eq!(phone.told_to_hang_up().await.reason, Reason::Hangup);
}

#[tokio::test]
async fn s52_a_client_rejects_a_call_and_hears_of_one_that_is_taken_back() {
    let server = server(Door::OPEN, None).await;
    let token = server.register().await;
    let mut events = server.stream(BOB, &token).await;
    let mut phone = server.telephone(7).await;
    let incoming = events.until("incoming").await;
    assert!(matches!(phone.told().await, LegCommand::Ring));
    let reject = format!(
        "/api/client/v2/conferences/{}/release_token?token={}",
        text(&incoming["conference_alias"]),
        text(&incoming["token"])
    );
    assert_eq!(server.ask("POST", &reject, "", "").await.0, 200);
    let cause = phone.told_to_hang_up().await;
    assert_eq!(cause.reason, Reason::Rejected);
    phone.ends(cause).await;

    let mut phone = server.telephone(8).await;
    let incoming = events.until("incoming").await;
    assert!(matches!(phone.told().await, LegCommand::Ring));
    // A stream that is opened anew is told of the same call by the same token.
    let mut again = server.stream(BOB, &token).await;
    assert_eq!(again.until("incoming").await, incoming);
    phone.ends(Cause::remote(Reason::Cancelled)).await;
    for stream in [&mut events, &mut again] {
        assert_eq!(stream.next().await, ("incoming_cancelled".into(), json!({ "token": incoming["token"] })));
    }
    assert_eq!(server.accept(&incoming).await.0, 403, "it is over");
}

#[tokio::test]
async fn all_clients_of_a_device_ring_and_the_first_has_the_call() {
    let server = server(Door::OPEN, None).await;
    let (one, other) = (server.register().await, server.register().await);
    let (mut first, mut second) = (server.stream(BOB, &one).await, server.stream(BOB, &other).await);
    let mut phone = server.telephone(7).await;
    let (here, there) = (first.until("incoming").await, second.until("incoming").await);
    assert_ne!(here["token"], there["token"]);
    assert!(matches!(phone.told().await, LegCommand::Ring));
    assert_eq!(server.accept(&there).await.0, 200);
    assert_eq!(first.until("incoming_cancelled").await["token"], here["token"]);
    assert_eq!(server.accept(&here).await.0, 403, "somebody was quicker");
    assert!(matches!(phone.told().await, LegCommand::Answer(_)));
}

#[tokio::test]
async fn s56_a_registered_client_calls_somebody_and_sees_how_it_goes() {
    let mut server = server(Door::OPEN, None).await;
    let token = server.register().await;
    let request = "/api/client/v2/conferences/dora/request_token";
    let body = json!({ "display_name": "Bob B.", "registration_token": token }).to_string();
    let place = async |server: &Server| {
        let (code, answer) = server.ask("POST", request, "", &body).await;
        assert_eq!((code, &answer["result"]["current_service_type"]), (200, &json!("gateway")), "{answer}");
        // The client goes on with what it called, as clients do.
        let own = text(&answer["result"]["token"]);
        (server.stream("/api/client/v2/conferences/dora", &own).await, own)
    };
    let (mut call, _) = place(&server).await;
    let (to, from, far) = server.dialled().await;
    assert_eq!(
        (to.uri.as_str(), from.address.as_str(), from.name.as_str()),
        ("sip:dora@town.example", "bob", "Bob B.")
    );
    let rings = loop {
        let data = call.until("participant_create").await;
        if data["call_direction"] == "out" {
            break data;
        }
    };
    assert_eq!(rings["service_type"], "connecting");
    far.tells(LegEvent::Ringing).await;
    far.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    loop {
        let data = call.until("participant_update").await;
        if data["uuid"] == rings["uuid"] && data["service_type"] == "gateway" {
            break;
        }
    }
    far.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(call.until("disconnect").await["reason"], "Call disconnected");
    let record = server.records.recv().await.unwrap();
    assert_eq!((record.caller.as_str(), record.authenticated, record.called.as_str()), ("bob", true, "dora"));
    assert!(record.answered.is_some() && record.legs.len() == 2);

    // S79.
    for (cause, why) in [
        (Cause::remote(Reason::Rejected), "Call rejected"),
        (Cause::remote(Reason::NotFound), "404 Not Found"),
        (Cause::local(Reason::Unreachable), "Gateway dial out failed"),
    ] {
        let (mut call, _) = place(&server).await;
        let (_, _, far) = server.dialled().await;
        far.ends(cause).await;
        assert_eq!(call.until("disconnect").await["reason"], why);
        let record = server.records.recv().await.unwrap();
        assert_eq!((record.reason.as_str(), record.answered), (cause.reason.word(), None));
    }

    // The caller gives up.
    let (_call, own) = place(&server).await;
    let (_, _, mut far) = server.dialled().await;
    let release = "/api/client/v2/conferences/dora/release_token";
    assert_eq!(server.ask("POST", release, &format!("token: {own}\r\n"), "{}").await.0, 200);
    assert_eq!(far.told_to_hang_up().await.reason, Reason::Cancelled);
}

#[tokio::test]
async fn s52_a_conference_calls_a_registered_client_in() {
    let server = server(pins("1234", None), None).await;
    let token = server.register().await;
    let mut events = server.stream(BOB, &token).await;
    let (alice, _) = server.join("Alice", "1234").await;
    let dial = json!({ "destination": "bob", "role": "GUEST" }).to_string();
    let (code, uuids) = server.post(&alice, "dial", &dial).await;
    assert_eq!(code, 200, "{uuids}");
    let incoming = events.until("incoming").await;
    for (member, is) in [
        ("conference_alias", "meet.alice"),
        ("remote_display_name", "Alice's room"),
        ("service_type", "conference"),
    ] {
        assert_eq!(incoming[member], is, "{member}");
    }
    let (code, granted) = server.accept(&incoming).await;
    assert_eq!((code, &granted["role"], &granted["participant_uuid"]), (200, &json!("GUEST"), &uuids[0]));
    assert_eq!(granted["current_service_type"], "conference", "without a PIN");
    let all = server.get(&alice, "participants").await.1;
    let bob = all.as_array().unwrap().iter().find(|it| it["uuid"] == uuids[0]).unwrap();
    assert_eq!(
        (&bob["display_name"], &bob["protocol"], &bob["has_media"]),
        (&json!("Bob B."), &json!("api"), &json!(false))
    );
}

#[tokio::test]
async fn registered_clients_search_and_nobody_else() {
    let server = server(Door::OPEN, None).await;
    let token = server.register().await;
    let search = |q: &str| format!("/api/client/v2/registrations?q={q}");
    let header = format!("token: {token}\r\n");
    let found = server.ask("GET", &search("CAR"), &header, "").await;
    let carol = json!([{ "alias": "carol", "description": "", "username": "carol" }]);
    assert_eq!(found, (200, json!({ "status": "success", "result": carol })));
    assert_eq!(server.ask("GET", &search(""), &header, "").await.1["result"].as_array().unwrap().len(), 2);
    assert_eq!(server.ask("GET", &search("car"), "", "").await.0, 403);
}

#[tokio::test]
async fn s70_s76_where_clients_are_turned_away_nobody_registers() {
    let headers = basic("Authorization", "bob", "bob-secret");
    let request = format!("{BOB}/request_token");
    let off = server(Door::OPEN, Some("Disabled")).await;
    let answer = off.ask("POST", &request, &headers, "{}").await;
    assert_eq!(answer, (403, json!({ "status": "failed", "result": "Disabled" })));
    let server = server(Door::OPEN, None).await;
    server.settings.send_modify(|it| it.maintenance = true);
    assert_eq!(server.ask("POST", &request, &headers, "{}").await.0, 503);
}
