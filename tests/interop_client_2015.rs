//! The client API as clients of 2015 use it: plain requests, the PIN in a header, nothing but a name
//! in the body, `conference_status` beside the event stream, results read without a schema.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use serde_json::{Value, json};
use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::room::{hears, misses};
use support::wait_for;
use support::web::{Client, Events, Web};

const PCMA: &str = "PCMA/8000/1";
const HOST_PIN: &str = "2468";

fn gateway(devices: &[&str], web_more: &str) -> Gateway {
    let alices: &[&str] = &["Alice's room", "--alias", "meet.alice", "--host-pin", HOST_PIN];
    Gateway::with_conferences(devices, web_more, &[alices])
}

/// The way in of such a client: without a PIN first; then the stream, and the state beside it.
fn enter(gateway: &Gateway, name: &str, pin: &str) -> (Client, Events) {
    let asked = Web::of(gateway).request_token("meet.alice", name, "");
    let (code, answer) = (asked.code, asked.json());
    // A prompt: by "success" he tells it from a refusal.
    assert_eq!(
        (code, &answer["status"], &answer["result"]["pin"]),
        (403, &json!("success"), &json!("required"))
    );
    let client = Client::join(gateway, "meet.alice", name, pin);
    let mut events = client.events();
    let (code, status) = client.get("conference_status");
    assert_eq!(code, 200);
    events.until("participant_sync_begin");
    assert_eq!(events.until_that("participant_create", |it| it["uuid"] == client.uuid)["display_name"], name);
    events.until("participant_sync_end");
    assert_eq!(events.until("conference_update"), status);
    (client, events)
}

/// A command with the body that such clients send where nothing is to be said.
fn does(client: &Client, command: &str) {
    assert_eq!(client.post(command, "{}"), (200, json!(true)), "{command}");
}

fn phone(gateway: &Gateway, name: &str, tone: u32) -> Baresip {
    let mut phone = Baresip::start(Account::new(name, PCMA, tone), gateway.sip);
    phone.dial(&format!("sip:meet.alice@127.0.0.1:{}", gateway.sip));
    phone.event("CALL_ESTABLISHED");
    phone.command("sndcode", "#");
    phone
}

#[test]
fn s17_to_s30_the_door_and_the_lock() {
    let gateway = gateway(&[], "");
    let web = Web::of(&gateway);
    let refusal = web.request_token("meet.alice", "Bob", "9999");
    assert_eq!((refusal.code, refusal.json()), (403, json!({ "status": "failed", "result": "Invalid PIN" })));
    let nobody = web.request_token("nobody", "Bob", "");
    assert_eq!((nobody.code, nobody.result()), (404, json!("Neither conference nor gateway found")));
    let (alice, mut told) = enter(&gateway, "Alice", HOST_PIN);
    assert_eq!(alice.granted["role"], "HOST");
    let (bob, mut bobs) = enter(&gateway, "Bob", "none");
    assert_eq!(
        (&bob.granted["role"], &bob.granted["current_service_type"]),
        (&json!("GUEST"), &json!("conference"))
    );
    does(&alice, "lock");
    assert_eq!(bobs.until("conference_update")["locked"], true);
    // S38: what only hosts may do.
    for command in ["unlock", "muteguests", "disconnect", "start_conference"] {
        assert_eq!(bob.post(command, "{}"), (403, json!("Invalid role")), "{command}");
    }
    // S27 to S29.
    let late = |name: &str| {
        let client = Client::join(&gateway, "meet.alice", name, "none");
        assert_eq!(client.granted["current_service_type"], "waiting_room");
        let events = client.events();
        (client, events)
    };
    let [(carol, mut carols), (dave, mut daves), (erin, mut erins)] = ["Carol", "Dave", "Erin"].map(late);
    let is_waiting = |of: &Client| {
        let id = json!(of.uuid);
        move |it: &Value| it["uuid"] == id && it["service_type"] == "waiting_room"
    };
    told.until_that("participant_create", is_waiting(&carol));
    assert!(bob.participant("Carol").is_none(), "a guest sees who waits");
    does(&alice, &format!("participants/{}/unlock", carol.uuid));
    assert_eq!(carols.until("participant_update")["service_type"], "conference");
    does(&alice, &format!("participants/{}/disconnect", dave.uuid));
    assert_eq!(daves.until("disconnect")["reason"], "Disconnected by another participant");
    assert_eq!(told.until("participant_delete"), json!({ "uuid": dave.uuid }));
    does(&alice, "unlock");
    assert_eq!(erins.until("participant_update")["service_type"], "conference");
    assert!(erin.participant("Carol").is_some());
    // The page is closed: a beacon with the token in its address and no body.
    let gone = format!("POST /api/client/v2/conferences/meet.alice/release_token?token={}", erin.token);
    assert_eq!(web.request(&gone, "", "").unwrap().result(), json!(true));
    told.until_that("participant_delete", |it| it["uuid"] == erin.uuid);
    assert_eq!(erin.get("participants"), (403, json!("Invalid token")));
}

#[test]
fn s32_to_s37_a_meeting_with_a_telephone() {
    let gateway = gateway(&["tess", "uma"], "");
    let (alice, mut told) = enter(&gateway, "Alice", HOST_PIN);
    let (mut bob, mut bobs) = enter(&gateway, "Bob", "none");
    let tess = phone(&gateway, "tess", 440);
    let uma = phone(&gateway, "uma", 620);
    let is_in = |name: &'static str| {
        move |it: &Value| it["display_name"] == name && it["service_type"] == "conference"
    };
    // Who is asked for a PIN is seen by hosts alone.
    let seen = bobs.until_that("participant_create", is_in("tess"));
    assert_eq!(
        (&seen["protocol"], &seen["role"], &seen["is_audio_only_call"]),
        (&json!("sip"), &json!("guest"), &json!("YES"))
    );
    let tess_path = format!("participants/{}", seen["uuid"].as_str().unwrap());
    told.until_that("participant_update", is_in("uma"));
    // S37.
    let hello = json!({ "type": "text/plain", "payload": "hello" });
    assert_eq!(bob.post("message", &hello.to_string()), (200, json!(true)));
    let read = told.until("message_received");
    assert_eq!(
        (&read["origin"], &read["payload"], &read["type"]),
        (&json!("Bob"), &json!("hello"), &json!("text/plain"))
    );
    // S34.
    hears(&uma, 440);
    does(&alice, &format!("{tess_path}/mute"));
    bobs.until_that("participant_update", |it| it["uuid"] == seen["uuid"] && it["is_muted"] == "YES");
    misses(&uma, 440);
    assert_eq!(bob.post(&format!("{tess_path}/unmute"), "{}"), (403, json!("Invalid role")));
    does(&alice, &format!("{tess_path}/unmute"));
    hears(&uma, 440);
    does(&alice, "muteguests");
    assert_eq!(bobs.until_that("conference_update", |it| it["guests_muted"] == true)["locked"], false);
    misses(&uma, 440);
    does(&alice, "unmuteguests");
    hears(&uma, 440);
    // A token is renewed; the one before is still good for what is under way.
    let before = bob.clone();
    bob.refresh();
    assert_ne!(bob.token, before.token);
    assert_eq!((bob.get("conference_status").0, before.get("conference_status").0), (200, 200));
    // S35.
    does(&alice, &format!("{tess_path}/disconnect"));
    tess.event("CALL_CLOSED");
    bobs.until_that("participant_delete", |it| it["uuid"] == seen["uuid"]);
    does(&alice, "disconnect");
    for events in [&mut told, &mut bobs] {
        assert_eq!(events.until("disconnect")["reason"], "Conference terminated by another participant");
    }
    uma.event("CALL_CLOSED");
}

#[test]
fn s33_s36_somebody_is_called_into_the_meeting() {
    let gateway = gateway(&["tess", "uma"], "");
    let called = |name: &str| {
        Baresip::start(Account { answer: "manual", ..Account::new(name, PCMA, 440) }, gateway.sip)
    };
    let [mut tess, mut uma] = ["tess", "uma"].map(called);
    let (alice, mut told) = enter(&gateway, "Alice", HOST_PIN);
    let (bob, _) = enter(&gateway, "Bob", "none");
    // Such a client waits for the answer with the whole page: it must not wait for the telephone.
    let dial = |body: Value| {
        let (code, result) = alice.post("dial", &body.to_string());
        assert_eq!(code, 200, "{result}");
        result[0].as_str().unwrap().to_owned()
    };
    let guest = dial(json!({ "destination": "tess", "protocol": "sip", "role": "GUEST" }));
    let is = |id: &str, at: &'static str| {
        let id = json!(id);
        move |it: &Value| it["uuid"] == id && it["service_type"] == at
    };
    let ringing = told.until_that("participant_create", is(&guest, "connecting"));
    assert_eq!((&ringing["call_direction"], &ringing["role"]), (&json!("out"), &json!("guest")));
    tess.event("CALL_INCOMING");
    tess.command("accept", "");
    told.until_that("participant_update", is(&guest, "conference"));
    // They name guests alone: who is called without a role is a host.
    let host = dial(json!({ "destination": "uma", "protocol": "sip" }));
    assert_eq!(told.until_that("participant_create", is(&host, "connecting"))["role"], "chair");
    uma.event("CALL_INCOMING");
    uma.hang_up();
    told.until_that("participant_delete", |it| it["uuid"] == host.as_str());
    // S36, S38.
    let keys = json!({ "digits": "42" }).to_string();
    let path = format!("participants/{guest}/dtmf");
    assert_eq!(bob.post(&path, &keys), (403, json!("Invalid role")));
    assert_eq!(bob.post("dial", r#"{"destination":"uma","role":"GUEST"}"#), (403, json!("Invalid role")));
    assert_eq!(alice.post(&path, &keys), (200, json!(true)));
    wait_for("keys at the telephone", || (tess.keys() == "42").then_some(()));
    does(&alice, &format!("participants/{guest}/disconnect"));
    tess.event("CALL_CLOSED");
}

#[test]
fn a_participant_is_transferred_and_comes_in_by_his_token() {
    let alices: &[&str] = &["Alice's room", "--alias", "meet.alice", "--host-pin", HOST_PIN];
    let board: &[&str] = &["Board", "--alias", "board", "--host-pin", "1111"];
    let gateway = Gateway::with_conferences(&[], "", &[alices, board]);
    let (alice, _) = enter(&gateway, "Alice", HOST_PIN);
    let (bob, mut told) = enter(&gateway, "Bob", "none");
    let to = json!({ "conference_alias": "board", "pin": "1111" }).to_string();
    assert_eq!(alice.post(&format!("participants/{}/transfer", bob.uuid), &to), (200, json!(true)));
    let referred = told.until("refer");
    assert_eq!(referred["alias"], "board");
    assert_eq!(bob.post("release_token", "{}"), (200, json!(true)));
    let body = json!({ "display_name": "Bob", "token": referred["token"] }).to_string();
    let answer =
        Web::of(&gateway).request("POST /api/client/v2/conferences/board/request_token", "", &body).unwrap();
    assert_eq!((answer.code, &answer.result()["role"]), (200, &json!("HOST")), "{}", answer.json());
}

#[test]
fn s70_s71_switched_off_for_clients_alone() {
    let gateway = gateway(&["tess"], "infinity_clients = false");
    // Such clients show it as "Call Failed: Disabled".
    for (alias, pin) in [("meet.alice", ""), ("meet.alice", HOST_PIN), ("nobody", "")] {
        let refusal = Web::of(&gateway).request_token(alias, "Bob", pin);
        assert_eq!(
            (refusal.code, refusal.json()),
            (403, json!({ "status": "failed", "result": "Disabled" }))
        );
    }
    let tess = phone(&gateway, "tess", 440);
    assert!(tess.log().contains("Call established"));
}
