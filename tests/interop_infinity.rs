//! A meeting as the clients of Infinity Connect hold it: their library, as it is published, with
//! softphones beside it.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use serde_json::{Value, json};
use support::baresip::{Account, Baresip};
use support::cut::Cut;
use support::gateway::Gateway;
use support::infinity::Participant;
use support::room::{TWO_PHONES, hears, in_use, misses};
use support::wait_for;

const PCMA: &str = "PCMA/8000/1";
const HOST_PIN: &str = "2468";
const BOARD: &[&str] = &["Board", "--alias", "board", "--host-pin", "1111", "--guest-pin", "2222"];

/// A gateway with Alice's room (a host PIN, guests without) and others.
fn gateway(devices: &[&str], others: &[&[&str]]) -> Gateway {
    let alices: &[&str] = &["Alice's room", "--alias", "meet.alice", "--host-pin", HOST_PIN];
    Gateway::with_conferences(devices, "", &[&[alices], others].concat())
}

fn participant(gateway: &Gateway, name: &str) -> Participant {
    Participant::new(name, gateway, gateway.web)
}

/// A softphone in Alice's room, as a guest.
fn phone(gateway: &Gateway, name: &str, tone: u32) -> Baresip {
    let mut phone = Baresip::start(Account::new(name, PCMA, tone), gateway.sip);
    phone.dial(&format!("sip:meet.alice@127.0.0.1:{}", gateway.sip));
    phone.event("CALL_ESTABLISHED");
    phone.command("sndcode", "#");
    phone
}

fn error(participant: &mut Participant, signal: &str) -> (String, String) {
    let told = participant.signal(signal, |_| true);
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    (text("error"), text("errorCode"))
}

fn pair(error: &str, code: &str) -> (String, String) {
    (error.to_owned(), code.to_owned())
}

fn uuid(of: &Value) -> String {
    of["uuid"].as_str().unwrap().to_owned()
}

#[test]
fn s17_to_s20_the_door() {
    let gateway = gateway(&[], &[BOARD, &["Open", "--alias", "open"]]);
    let mut bob = participant(&gateway, "Bob");
    assert_eq!(bob.knock("nobody", json!({}))["status"], 404);
    assert_eq!(error(&mut bob, "onError"), pair("Neither conference nor gateway found", "#pex154"));
    // S19: with a host PIN alone guests need none.
    assert_eq!(bob.knock("meet.alice", json!({}))["status"], 403);
    assert_eq!(bob.signal("onPinRequired", |_| true), json!({ "hasHostPin": true, "hasGuestPin": false }));
    bob.knock("board", json!({}));
    assert_eq!(bob.signal("onPinRequired", |_| true), json!({ "hasHostPin": true, "hasGuestPin": true }));
    for wrong in ["9999", "none"] {
        assert_eq!(bob.knock("board", json!({ "pin": wrong }))["status"], 403);
        assert_eq!(error(&mut bob, "onError"), pair("Invalid PIN", "#pex101"));
    }
    // S20: a guest waits for the first host.
    let answer = bob.knock("board", json!({ "pin": "2222" }));
    let result = &answer["data"]["result"];
    assert_eq!((&result["role"], &result["current_service_type"]), (&json!("GUEST"), &json!("waiting_room")));
    let mut alice = participant(&gateway, "Alice");
    let answer = alice.knock("board", json!({ "pin": "1111", "callTag": "tag-7" }));
    let result = &answer["data"]["result"];
    assert_eq!((&result["role"], &result["call_tag"]), (&json!("HOST"), &json!("tag-7")));
    bob.signal("onServiceType", |it| it == "conference");
    let seen = bob.sees("Alice", |it| it["isHost"] == true);
    assert_eq!((&seen["protocol"], &seen["callType"]), (&json!("api"), &json!("api")));
    alice.sees("Bob", |it| it["isHost"] == false && it["isWaiting"] == false);
    // S18: without a PIN everybody is a host. S55, S85: the alias with a domain, in capitals.
    let mut carol = participant(&gateway, "Carol");
    let answer = carol.knock("OPEN@example.com", json!({}));
    assert_eq!(answer["data"]["result"]["role"], "HOST");
    // S35: who leaves is gone.
    bob.call("disconnect", json!({}));
    alice.misses("Bob");
}

#[test]
fn s23_to_s30_the_lock() {
    let gateway = gateway(&[], &[]);
    let [mut alice, mut bob, mut carol, mut dave, mut erin] =
        ["Alice", "Bob", "Carol", "Dave", "Erin"].map(|name| participant(&gateway, name));
    alice.join("meet.alice", HOST_PIN);
    bob.join("meet.alice", "none");
    alice.does("lock", json!({ "lock": true }));
    alice.status(|it| it["locked"] == true);
    bob.status(|it| it["locked"] == true);
    for late in [&mut carol, &mut dave, &mut erin] {
        let answer = late.knock("meet.alice", json!({ "pin": "none" }));
        assert_eq!(answer["data"]["result"]["current_service_type"], "waiting_room");
    }
    // S27, S30: hosts see who waits, guests do not; who waits sees himself.
    let waiting = alice.sees("Carol", |it| it["isWaiting"] == true);
    assert_eq!(bob.names(), ["Alice", "Bob"]);
    carol.sees("Carol", |it| it["isWaiting"] == true);
    assert_eq!(carol.names(), ["Carol"]);
    // S26: a host PIN opens the lock.
    let mut frank = participant(&gateway, "Frank");
    frank.join("meet.alice", HOST_PIN);
    // S29: one is let in, one is rejected.
    alice.does("admit", json!({ "participantUuid": waiting["uuid"] }));
    carol.signal("onServiceType", |it| it == "conference");
    carol.sees("Bob", |_| true);
    bob.sees("Carol", |it| it["isWaiting"] == false);
    let rejected = alice.sees("Dave", |it| it["isWaiting"] == true);
    alice.does("kick", json!({ "participantUuid": rejected["uuid"] }));
    assert_eq!(error(&mut dave, "onDisconnected"), pair("Disconnected by another participant", "#pex124"));
    alice.misses("Dave");
    // S38: a guest does not open it.
    assert!(bob.try_call("lock", json!({ "lock": false })).unwrap_err().contains("403"));
    bob.logged("Unexpected status 403");
    // S28: unlocked, the rest are in.
    alice.does("lock", json!({ "lock": false }));
    erin.signal("onServiceType", |it| it == "conference");
    bob.sees("Erin", |it| it["isWaiting"] == false);
    assert_eq!(erin.names(), ["Alice", "Bob", "Carol", "Erin", "Frank"]);
}

#[test]
fn s32_to_s37_a_meeting_with_a_telephone() {
    let gateway = gateway(&["tess", "uma"], &[]);
    let tess = phone(&gateway, "tess", 440);
    let uma = phone(&gateway, "uma", 620);
    // S20: both wait for a host.
    wait_for("two phones", || (in_use(&gateway) == TWO_PHONES).then_some(()));
    let [mut alice, mut bob] = ["Alice", "Bob"].map(|name| participant(&gateway, name));
    alice.join("meet.alice", HOST_PIN);
    bob.join("meet.alice", "none");
    let seen = bob.sees("tess", |it| it["isWaiting"] == false);
    for (member, is) in [
        ("protocol", json!("sip")),
        ("callType", json!("audio")),
        ("role", json!("guest")),
        ("canMute", json!(true)),
        ("canDisconnect", json!(true)),
        ("hasMedia", json!(true)),
        ("isEndpoint", json!(true)),
    ] {
        assert_eq!(seen[member], is, "{member} of {seen:#}");
    }
    assert_eq!(alice.names(), ["Alice", "Bob", "tess", "uma"]);
    let listed = alice.call("requestParticipants", json!({}));
    assert_eq!(listed["data"]["result"].as_array().unwrap().len(), 4);
    // S6: who is there without media takes no port, no stream and no tile.
    assert_eq!(in_use(&gateway), TWO_PHONES);
    let tess_id = uuid(&seen);
    let uma_id = uuid(&bob.sees("uma", |_| true));
    let shown = alice.event("layout", |it| it["participants"].as_array().is_some_and(|it| it.len() == 2));
    for id in [&tess_id, &uma_id] {
        assert!(shown["participants"].as_array().unwrap().contains(&json!(id)), "{shown}");
    }

    // S34: heard, not heard, heard.
    hears(&uma, 440);
    alice.does("mute", json!({ "participantUuid": tess_id, "mute": true }));
    bob.sees("tess", |it| it["isMuted"] == true);
    misses(&uma, 440);
    assert!(bob.try_call("mute", json!({ "participantUuid": tess_id, "mute": false })).is_ok_and(refused));
    alice.does("mute", json!({ "participantUuid": tess_id, "mute": false }));
    bob.sees("tess", |it| it["isMuted"] == false);
    hears(&uma, 440);
    // All guests at once.
    alice.does("muteAllGuests", json!({ "mute": true }));
    bob.status(|it| it["guestsMuted"] == true);
    misses(&uma, 440);
    misses(&tess, 620);
    alice.sees("uma", |it| it["isMuted"] == true);
    alice.does("muteAllGuests", json!({ "mute": false }));
    bob.status(|it| it["guestsMuted"] == false);
    hears(&uma, 440);

    // Spotlight, hands, roles.
    alice.does("spotlight", json!({ "participantUuid": uma_id, "enable": true }));
    bob.sees("uma", |it| it["isSpotlight"] == true);
    alice.does("spotlight", json!({ "participantUuid": uma_id, "enable": false }));
    bob.sees("uma", |it| it["isSpotlight"] == false);
    bob.does("raiseHand", json!({ "raise": true }));
    alice.signal("onRaiseHand", |it| it["participant"]["raisedHand"] == true);
    alice.does("lowerAllRaisedHands", json!({}));
    alice.sees("Bob", |it| it["raisedHand"] == false);
    let bob_id = uuid(&alice.sees("Bob", |_| true));
    alice.call("setRole", json!({ "participantUuid": bob_id, "role": "chair" }));
    bob.signal("onMe", |it| it["participant"]["role"] == "chair");
    bob.does("lock", json!({ "lock": true }));
    bob.does("lock", json!({ "lock": false }));
    alice.call("setRole", json!({ "participantUuid": bob_id, "role": "guest" }));
    bob.signal("onMe", |it| it["participant"]["role"] == "guest");
    alice.call("setRole", json!({ "participantUuid": tess_id, "role": "chair" }));
    bob.sees("tess", |it| it["isHost"] == true);

    // S35: one, then everybody, telephones as well.
    alice.does("kick", json!({ "participantUuid": tess_id }));
    tess.event("CALL_CLOSED");
    bob.misses("tess");
    alice.does("disconnectAll", json!({}));
    for out in [&mut alice, &mut bob] {
        assert_eq!(
            error(out, "onDisconnected"),
            pair("Conference terminated by another participant", "#pex125")
        );
    }
    uma.event("CALL_CLOSED");
}

#[test]
fn s37_chat() {
    let gateway = gateway(&[], &[]);
    let [mut alice, mut bob, mut carol] = ["Alice", "Bob", "Carol"].map(|name| participant(&gateway, name));
    let alice_id = alice.join("meet.alice", HOST_PIN);
    let bob_id = bob.join("meet.alice", "none");
    carol.join("meet.alice", "none");
    alice.does("sendMessage", json!({ "payload": "Grüße an alle" }));
    for reader in [&mut bob, &mut carol] {
        let read = reader.signal("onMessage", |_| true);
        assert_eq!(
            (&read["message"], &read["displayName"], &read["userId"], &read["direct"]),
            (&json!("Grüße an alle"), &json!("Alice"), &json!(alice_id), &json!(false))
        );
    }
    // One to one: the third reads the next that is for all.
    alice.does("sendMessage", json!({ "payload": "you alone", "participantUuid": bob_id }));
    assert_eq!(bob.signal("onMessage", |it| it["direct"] == true)["message"], "you alone");
    bob.does("sendMessage", json!({ "payload": "hello" }));
    assert_eq!(carol.signal("onMessage", |_| true)["message"], "hello");
    // Nobody is told his own words.
    assert_eq!(alice.signal("onMessage", |_| true)["message"], "hello");
    // What plug-ins tell each other.
    carol.does("sendApplicationMessage", json!({ "payload": { "vote": 3 } }));
    assert_eq!(alice.signal("onApplicationMessage", |_| true)["message"], json!({ "vote": 3 }));
}

#[test]
fn a_token_is_renewed_and_a_stream_that_is_cut_resumes() {
    let gateway = gateway(&[], &[]);
    let road = Cut::to(gateway.web);
    let mut alice = participant(&gateway, "Alice");
    let mut bob = Participant::new("Bob", &gateway, road.port);
    alice.join("meet.alice", HOST_PIN);
    bob.join("meet.alice", "none");
    // The library renews after a third of the life of 120 s, by its own timer; time alone is ours here.
    assert_eq!(bob.call("intervals", Value::Null), json!([40_000]));
    let mut tokens = vec![];
    for _ in 0..2 {
        bob.call("pass", json!(39_999));
        bob.does("sendMessage", json!({ "payload": "with the one before" }));
        assert!(!bob.was_told("onTokenRefreshed"), "too early");
        bob.call("pass", json!(1));
        tokens.push(bob.signal("onTokenRefreshed", |_| true)["token"].clone());
        bob.does("sendMessage", json!({ "payload": "with the new one" }));
    }
    assert_ne!(tokens[0], tokens[1]);
    // The road is gone, and meanwhile somebody comes and somebody is renamed to host.
    bob.signal("onParticipants", |_| true);
    road.close();
    let mut carol = participant(&gateway, "Carol");
    carol.join("meet.alice", "none");
    alice.sees("Carol", |_| true);
    alice.does("lock", json!({ "lock": true }));
    assert_eq!(bob.names(), ["Alice", "Bob"]);
    road.open();
    // A new stream tells everything anew.
    bob.sees("Carol", |_| true);
    bob.status(|it| it["locked"] == true);
    bob.signal("onParticipants", |it| it["participants"].as_array().is_some_and(|it| it.len() == 3));
    alice.does("sendMessage", json!({ "payload": "still here?" }));
    bob.signal("onMessage", |it| it["message"] == "still here?");
}

#[test]
fn s33_s36_somebody_is_called_into_the_meeting() {
    let gateway = gateway(&["tess", "uma"], &[]);
    let called = |name: &str| {
        let account = Account { answer: "manual", ..Account::new(name, PCMA, 620) };
        Baresip::start(account, gateway.sip)
    };
    let [mut tess, mut uma] = ["tess", "uma"].map(called);
    let [mut alice, mut bob] = ["Alice", "Bob"].map(|name| participant(&gateway, name));
    alice.join("meet.alice", HOST_PIN);
    bob.join("meet.alice", "none");
    let dial = |alice: &mut Participant, destination: &str, role: &str| {
        let wanted = json!({ "destination": destination, "protocol": "sip", "role": role });
        let answer = alice.call("dial", wanted);
        answer["data"]["result"][0].as_str().unwrap().to_owned()
    };
    // The roster tells at once that a telephone rings.
    let guest = dial(&mut alice, "tess", "GUEST");
    bob.sees(&guest, |it| it["isConnecting"] == true && it["rawData"]["call_direction"] == "out");
    tess.event("CALL_INCOMING");
    tess.command("accept", "");
    let seen = bob.sees(&guest, |it| it["isConnecting"] == false && it["hasMedia"] == true);
    assert_eq!((&seen["role"], &seen["protocol"]), (&json!("guest"), &json!("sip")));
    let host = dial(&mut alice, "uma", "HOST");
    uma.event("CALL_INCOMING");
    uma.command("accept", "");
    bob.sees(&host, |it| it["isHost"] == true && it["hasMedia"] == true);
    // S36: keys for that one telephone.
    assert!(refused(bob.call("sendDTMF", json!({ "participantUuid": guest, "digits": "9" }))));
    alice.does("sendDTMF", json!({ "participantUuid": guest, "digits": "12#" }));
    wait_for("keys at the telephone", || (tess.keys() == "12#").then_some(()));
    assert_eq!(uma.keys(), "");
    // S38: guests call nobody in.
    let refusal = bob.try_call("dial", json!({ "destination": "tess", "protocol": "sip", "role": "GUEST" }));
    assert!(refusal.unwrap_err().contains("403"));
    bob.logged("Unexpected status 403");
    // S35: one is sent away and called again, and does not want to.
    alice.does("kick", json!({ "participantUuid": guest }));
    tess.event("CALL_CLOSED");
    bob.misses(&guest);
    let again = dial(&mut alice, "tess", "GUEST");
    tess.event("CALL_INCOMING");
    bob.sees(&again, |it| it["isConnecting"] == true);
    tess.hang_up();
    bob.misses(&again);
}

#[test]
fn a_participant_is_transferred_and_comes_in_by_his_token() {
    let gateway = gateway(&[], &[BOARD]);
    let [mut alice, mut bob, mut carol] = ["Alice", "Bob", "Carol"].map(|name| participant(&gateway, name));
    alice.join("meet.alice", HOST_PIN);
    let bob_id = bob.join("meet.alice", "none");
    carol.join("board", "1111");
    let to = |role: &str, pin: &str| json!({ "destination": "board", "role": role, "pin": pin, "participantUuid": bob_id });
    assert!(refused(bob.call("transfer", to("guest", "2222"))));
    alice.does("transfer", to("guest", "2222"));
    // What a client does then: leaves, and comes with the token in place of a PIN.
    let told = bob.signal("onTransfer", |_| true);
    assert_eq!(told["alias"], "board");
    bob.call("disconnect", json!({ "reason": "Transfer" }));
    let answer = bob.knock("board", json!({ "token": told["token"] }));
    assert_eq!((&answer["status"], &answer["data"]["result"]["role"]), (&json!(200), &json!("GUEST")));
    carol.sees("Bob", |it| it["isHost"] == false);
    alice.misses("Bob");
    // The token was for once.
    let mut dave = participant(&gateway, "Dave");
    assert_eq!(dave.knock("board", json!({ "token": told["token"] }))["status"], 403);
}

#[test]
fn s42_s46_one_member_is_denied_the_presentation_and_allowed_it() {
    let gateway = gateway(&[], &[]);
    let [mut alice, mut bob, mut carol] = ["Alice", "Bob", "Carol"].map(|name| participant(&gateway, name));
    alice.join("meet.alice", HOST_PIN);
    let bob_id = bob.join("meet.alice", "none");
    let carol_id = carol.join("meet.alice", "none");
    let ask = |who: &mut Participant, command: &str| {
        // The library has no method of its own for it.
        let path = format!("participants/{bob_id}/{command}");
        who.call("sendConferenceRequest", json!({ "path": path, "method": "POST" }))
    };
    alice.sees("Bob", |it| it["rxPresentation"] == true);
    // Carol takes the floor; all others are shown her slides, and she is not.
    carol.call("present", Value::Null);
    carol.signal("slides", |it| it["send"] == "connected");
    for viewer in [&mut alice, &mut bob] {
        assert_eq!(viewer.event("presentation_start", |_| true)["presenter_uuid"], carol_id.as_str());
        viewer.signal("slides", |it| it["recv"] == "connected");
        viewer.sees("Carol", |it| it["isPresenting"] == true);
    }
    for (command, allowed) in [("denyrxpresentation", false), ("allowrxpresentation", true)] {
        assert_eq!(ask(&mut alice, command)["data"], json!({ "status": "success", "result": true }));
        bob.sees("Bob", |it| it["rxPresentation"] == allowed);
        alice.sees("Alice", |it| it["rxPresentation"] == true);
        let (event, state) =
            if allowed { ("presentation_start", "connected") } else { ("presentation_stop", "disconnected") };
        bob.event(event, |_| true);
        bob.signal("slides", |it| it["recv"] == state);
    }
    carol.call("stopPresenting", Value::Null);
    carol.signal("slides", |it| it["send"] == "disconnected");
    for viewer in [&mut alice, &mut bob] {
        viewer.event("presentation_stop", |_| true);
        viewer.signal("slides", |it| it["recv"] == "disconnected");
    }
    // Nobody else noticed what was Bob's alone, and who presents is told of no presentation.
    assert_eq!((alice.events("presentation_start"), alice.events("presentation_stop")), (0, 0));
    assert_eq!((carol.events("presentation_start"), carol.events("presentation_stop")), (0, 0));
    // Where guests may not present, the library is refused and gives up.
    let may = |setting: bool| json!({ "path": "set_guests_can_present", "method": "POST", "payload": { "setting": setting } });
    assert_eq!(alice.call("sendConferenceRequest", may(false))["data"]["result"], true);
    carol.call("present", Value::Null);
    carol.signal("slides", |it| it["send"] == "failed");
    carol.logged("Presentation rejected");
}

/// A refusal that the library hands on.
fn refused(answer: Value) -> bool {
    answer["status"] == 403 && answer["data"]["result"] == "Invalid role"
}
