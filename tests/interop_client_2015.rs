//! The client API as clients of 2015 use it: plain requests, the PIN in a header, nothing but a name
//! in the body, `conference_status` beside the event stream, results read without a schema.
//!
//! The flows are those of `interop_infinity.rs`, which has the published library do the same:
//!
//! | flow | test |
//! |---|---|
//! | in as host by PIN, as guest by PIN and by `none`; a wrong PIN; an unknown alias | `s17_to_s30_the_door_and_the_lock` |
//! | lock; who waits is seen and admitted, or rejected; unlocking admits the rest | the same |
//! | a telephone in the roster, which clients take no port, stream or tile beside | `s32_to_s37_a_meeting_with_a_telephone` |
//! | a telephone muted and unmuted, all guests muted; one and then all disconnected | the same |
//! | a token renewed | the same, and `a_stream_that_is_cut_begins_anew` |
//! | chat both ways, to all and to one | `s37_chat` |
//! | spotlight, raised hand, change of role | `s38_hands_light_and_roles` |
//! | slides denied to one and allowed | `s46_one_member_is_denied_the_slides_and_allowed_them` |
//! | called in with a role, keys to him | `s33_s36_somebody_is_called_into_the_meeting` |
//! | transfer | `a_participant_is_transferred_and_comes_in_by_his_token` |
//! | the event stream cut and resumed | `a_stream_that_is_cut_begins_anew` |
//! | "Call Failed: Disabled" | `s70_s71_switched_off_for_clients_alone` |

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use serde_json::{Value, json};
use support::baresip::{Account, Baresip};
use support::cut::Cut;
use support::gateway::Gateway;
use support::room::{TWO_PHONES, hears, in_use, jpeg, misses};
use support::web::{Client, Events, Web};
use support::{PATIENCE, wait_for};

const PCMA: &str = "PCMA/8000/1";
const HOST_PIN: &str = "2468";

/// A gateway with Alice's room (a host PIN, guests without), and a board's (a PIN for each role).
fn gateway(devices: &[&str], web_more: &str) -> Gateway {
    let alices: &[&str] = &["Alice's room", "--alias", "meet.alice", "--host-pin", HOST_PIN];
    let board: &[&str] = &["Board", "--alias", "board", "--host-pin", "1111", "--guest-pin", "2222"];
    Gateway::with_conferences(devices, web_more, &[alices, board])
}

/// The way in of such a client: without a PIN first; then the stream, and the state beside it.
fn enter(gateway: &Gateway, name: &str, pin: &str) -> (Client, Events) {
    prompted(&Web::of(gateway), "meet.alice", "none");
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

/// Without a PIN there is a prompt, told from a refusal by its "success"; guests need a PIN, or none.
fn prompted(web: &Web, alias: &str, guests: &str) {
    let asked = web.request_token(alias, "Bob", "");
    let prompt = json!({ "pin": "required", "guest_pin": guests });
    let result = asked.result();
    let told = json!({ "pin": result["pin"], "guest_pin": result["guest_pin"] });
    assert_eq!((asked.code, &asked.json()["status"], told), (403, &json!("success"), prompt));
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
    prompted(&web, "board", "required");
    // S20: who comes by the guest PIN waits for the first host.
    let early = Client::join(&gateway, "board", "Gail", "2222");
    let granted = (&early.granted["role"], &early.granted["current_service_type"]);
    assert_eq!(granted, (&json!("GUEST"), &json!("waiting_room")));
    let mut earlys = early.events();
    assert_eq!(Client::join(&gateway, "board", "Hugo", "1111").granted["role"], "HOST");
    assert_eq!(earlys.until("participant_update")["service_type"], "conference");
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
    let other = told.until_participant(is_in("uma"));
    // S6: who is there without media takes no port, no stream and no tile.
    wait_for("two phones alone", || (in_use(&gateway) == TWO_PHONES).then_some(()));
    let tiles = [&seen["uuid"], &other["uuid"]];
    told.until_that("layout", |it| {
        it["participants"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && tiles.iter().all(|it| all.contains(it)))
    });
    // S34: heard, not heard, heard.
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
fn s37_chat() {
    let gateway = gateway(&[], "");
    let (alice, mut alices) = enter(&gateway, "Alice", HOST_PIN);
    let (bob, mut bobs) = enter(&gateway, "Bob", "none");
    let (_, mut carols) = enter(&gateway, "Carol", "none");
    let says = |client: &Client, command: &str, text: &str| {
        let body = json!({ "type": "text/plain", "payload": text }).to_string();
        assert_eq!(client.post(command, &body), (200, json!(true)), "{text}");
    };
    let message = |from: &Client, name: &str, text: &str, direct: bool| json!({ "origin": name, "uuid": from.uuid, "type": "text/plain", "payload": text, "direct": direct });
    says(&bob, "message", "hello");
    for reader in [&mut alices, &mut carols] {
        assert_eq!(reader.until("message_received"), message(&bob, "Bob", "hello", false));
    }
    // Bob has his own words on his screen already: the next that he is told are hers, for him alone.
    says(&alice, &format!("participants/{}/message", bob.uuid), "you alone");
    assert_eq!(bobs.until("message_received"), message(&alice, "Alice", "you alone", true));
    says(&alice, "message", "Grüße an alle");
    for reader in [&mut bobs, &mut carols] {
        assert_eq!(reader.until("message_received"), message(&alice, "Alice", "Grüße an alle", false));
    }
}

#[test]
fn s38_hands_light_and_roles() {
    let gateway = gateway(&[], "");
    let (alice, mut told) = enter(&gateway, "Alice", HOST_PIN);
    let (mut bob, mut bobs) = enter(&gateway, "Bob", "none");
    let path = |client: &Client, command: &str| format!("participants/{}/{command}", client.uuid);
    let id = json!(bob.uuid);
    let is = |member: &'static str, on: bool| {
        let id = id.clone();
        move |it: &Value| it["uuid"] == id && (it[member].as_f64().unwrap() > 0.0) == on
    };
    does(&bob, &path(&bob, "buzz"));
    told.until_that("participant_update", is("buzz_time", true));
    does(&alice, &path(&bob, "clearbuzz"));
    bobs.until_that("participant_update", is("buzz_time", false));
    does(&bob, &path(&bob, "buzz"));
    told.until_that("participant_update", is("buzz_time", true));
    does(&alice, "clearallbuzz");
    told.until_that("participant_update", is("buzz_time", false));
    does(&alice, &path(&bob, "spotlighton"));
    bobs.until_that("participant_update", is("spotlight", true));
    does(&alice, &path(&bob, "spotlightoff"));
    bobs.until_that("participant_update", is("spotlight", false));
    for command in ["spotlighton", "role"] {
        assert_eq!(bob.post(&path(&bob, command), r#"{"role":"chair"}"#), (403, json!("Invalid role")));
    }
    // Such a client takes its role from the event, or from the token that it renews.
    for (role, word, can_lock) in
        [("chair", "HOST", (200, json!(true))), ("guest", "GUEST", (403, json!("Invalid role")))]
    {
        let wanted = json!({ "role": role }).to_string();
        assert_eq!(alice.post(&path(&bob, "role"), &wanted), (200, json!(true)));
        bobs.until_that("participant_update", |it| it["uuid"] == id && it["role"] == role);
        bobs.until("refresh_token");
        let (_, renewed) = bob.post("refresh_token", "");
        assert_eq!(renewed["role"], word);
        bob.token = renewed["token"].as_str().unwrap().to_owned();
        assert_eq!(bob.post("lock", "{}"), can_lock, "as {role}");
    }
}

#[test]
fn s46_one_member_is_denied_the_slides_and_allowed_them() {
    let gateway = gateway(&[], "");
    let (alice, mut alices) = enter(&gateway, "Alice", HOST_PIN);
    let (bob, mut bobs) = enter(&gateway, "Bob", "none");
    let (carol, mut carols) = enter(&gateway, "Carol", "none");
    // Slides are a call of their own, and then a form for each.
    let calls = format!("participants/{}/calls", alice.uuid);
    let (code, call) = alice.post(&calls, r#"{"call_type":"presentation"}"#);
    assert_eq!(code, 200, "{call}");
    let call = call["call_uuid"].as_str().unwrap();
    let slide = jpeg(gateway.scratch.path());
    assert_eq!(alice.upload(&slide), (200, json!(true)));
    let sees = |client: &Client| {
        let path = format!("conferences/meet.alice/presentation.jpeg?id=1&token={}", client.token);
        let answer = client.web.request(&format!("GET /api/client/v2/{path}"), "", "").unwrap();
        (answer.code, answer.code == 200 && answer.body == slide)
    };
    for events in [&mut bobs, &mut carols] {
        assert_eq!(events.until("presentation_start")["presenter_uuid"], alice.uuid.as_str());
        events.until("presentation_frame");
    }
    assert_eq!((sees(&bob), sees(&carol)), ((200, true), (200, true)));
    let path = |command: &str| format!("participants/{}/{command}", bob.uuid);
    assert_eq!(carol.post(&path("denyrxpresentation"), "{}"), (403, json!("Invalid role")));
    does(&alice, &path("denyrxpresentation"));
    bobs.until("presentation_stop");
    let policy = |word: &'static str| {
        let id = json!(bob.uuid);
        move |it: &Value| it["uuid"] == id && it["rx_presentation_policy"] == word
    };
    carols.until_that("participant_update", policy("DENY"));
    assert_eq!((sees(&bob), sees(&carol)), ((404, false), (200, true)));
    does(&alice, &path("allowrxpresentation"));
    assert_eq!(bobs.until("presentation_start")["presenter_name"], "Alice");
    carols.until_that("participant_update", policy("ALLOW"));
    assert_eq!(sees(&bob), (200, true));
    assert_eq!(alice.post(&format!("{calls}/{call}/disconnect"), "{}"), (200, Value::Null));
    for events in [&mut bobs, &mut carols] {
        events.until("presentation_stop");
    }
    // Who presents is told of no presentation: some clients would stop their own at that.
    does(&alice, "lock");
    loop {
        match alices.next() {
            (event, it) if event == "conference_update" && it["locked"] == true => break,
            (event, _) => assert!(!event.starts_with("presentation"), "{event}"),
        }
    }
}

#[test]
fn a_stream_that_is_cut_begins_anew() {
    let gateway = gateway(&[], "");
    let road = Cut::to(gateway.web);
    let (alice, mut told) = enter(&gateway, "Alice", HOST_PIN);
    let mut bob = Client::over(&Web::of(&gateway).by(road.port), "meet.alice", "Bob", "none");
    let mut bobs = bob.events();
    bobs.until("conference_update");
    road.close();
    while bobs.next_or_end(PATIENCE).expect("the end of the stream").is_some() {}
    assert!(bob.try_events().is_err(), "the road is closed");
    // Meanwhile somebody comes, and the door is locked. Nobody who is cut off has left.
    let (carol, _) = enter(&gateway, "Carol", "none");
    does(&alice, "lock");
    told.until_that("conference_update", |it| it["locked"] == true);
    assert!(alice.participant("Bob").is_some());
    road.open();
    // A new stream, by the token that was there: all of it anew.
    let mut bobs = bob.events();
    assert_eq!(bobs.next().0, "participant_sync_begin");
    let mut names = Vec::new();
    loop {
        match bobs.next() {
            (event, it) if event == "participant_create" => names.push(it["uuid"].clone()),
            (event, _) => break assert_eq!(event, "participant_sync_end"),
        }
    }
    for client in [&alice, &bob, &carol] {
        assert!(names.contains(&json!(client.uuid)), "{names:?}");
    }
    assert_eq!(names.len(), 3);
    assert_eq!(bobs.until("conference_update")["locked"], true);
    // It goes on over a renewal: the token in its address is that of before.
    bob.refresh();
    does(&alice, "unlock");
    assert_eq!(bobs.until("conference_update")["locked"], false);
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
    let gateway = gateway(&[], "");
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
