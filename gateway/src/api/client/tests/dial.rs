//! Who is called into a conference, and who is sent to another.

use super::*;

#[tokio::test]
async fn s33_a_host_calls_somebody_in_and_sees_how_it_goes() {
    let server = server(pins("1234", None), None).await;
    let (alice, _) = server.join("Alice", "1234").await;
    let (bob, _) = server.join("Bob", "none").await;
    let mut events = server.events(&alice).await;
    events.until("stage").await;
    assert_eq!(server.dial(&bob, json!({ "destination": "carol" })).await, (403, json!("Invalid role")));
    let wanted = json!({
        "destination": "carol", "protocol": "sip", "role": "GUEST", "dtmf_sequence": "12#",
        "remote_display_name": "Carol's telephone", "source_display_name": "The room",
    });
    let (code, uuids) = server.dial(&alice, wanted).await;
    assert_eq!((code, uuids.as_array().map(Vec::len)), (200, Some(1)), "{uuids}");
    let created = events.until("participant_create").await;
    for (member, is) in [
        ("uuid", uuids[0].clone()),
        ("service_type", json!("connecting")),
        ("call_direction", json!("out")),
        ("role", json!("guest")),
        ("protocol", json!("sip")),
        ("display_name", json!("Carol's telephone")),
        ("uri", json!("sip:carol@town.example")),
        ("local_alias", json!("meet.alice")),
    ] {
        assert_eq!(created[member], is, "{member}");
    }
    let (to, from, mut far) = server.last();
    assert_eq!(to.uri, "sip:carol@town.example");
    assert_eq!((from.address.as_str(), from.name.as_str()), ("meet.alice", "The room"));
    far.tells(LegEvent::Ringing).await;
    far.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    let updated = events.until("participant_update").await;
    assert_eq!((&updated["uuid"], &updated["service_type"]), (&uuids[0], &json!("conference")));
    for key in ['1', '2', '#'] {
        assert!(matches!(far.told().await, LegCommand::SendDtmf(it) if it == key));
    }
    let disconnect = format!("participants/{}/disconnect", uuids[0].as_str().unwrap());
    assert_eq!(server.post(&alice, &disconnect, "").await, (200, json!(true)));
    let cause = far_cause(&mut far.commands).await;
    far.ends(cause).await;
    assert_eq!(events.until("participant_delete").await["uuid"], uuids[0]);
}

async fn far_cause(commands: &mut mpsc::Receiver<LegCommand>) -> Cause {
    loop {
        if let LegCommand::Hangup(cause) = commands.recv().await.expect("a hang-up") {
            return cause;
        }
    }
}

#[tokio::test]
async fn s79_why_somebody_was_not_reached_is_in_the_roster_and_in_the_record() {
    let mut server = server(Door::OPEN, None).await;
    let (alice, _) = server.join("Alice", "").await;
    let mut events = server.events(&alice).await;
    events.until("stage").await;
    for (cause, words, word) in [
        (Cause::remote(Reason::Busy), "The called party is busy", "busy"),
        (Cause::remote(Reason::Rejected), "Call rejected", "rejected"),
        (Cause::remote(Reason::NoAnswer), "Nobody answered", "no-answer"),
        (Cause::local(Reason::Unreachable), "The called party cannot be reached", "unreachable"),
    ] {
        let (code, uuids) = server.dial(&alice, json!({ "destination": "carol" })).await;
        assert_eq!(code, 200);
        let (_, _, far) = server.last();
        assert_eq!(events.until("participant_create").await["uuid"], uuids[0]);
        far.ends(cause).await;
        let last = events.until("participant_update").await;
        assert_eq!((&last["uuid"], &last["disconnect_reason"]), (&uuids[0], &json!(words)));
        assert_eq!(last["service_type"], "connecting");
        assert_eq!(events.until("participant_delete").await["uuid"], uuids[0]);
        let record = server.records.recv().await.unwrap();
        assert_eq!((record.reason.as_str(), record.rule.as_deref()), (word, Some("town")));
        assert_eq!((record.caller.as_str(), record.called.as_str()), ("meet.alice", "carol"));
        assert_eq!((record.answered_by, record.answered), (None, None));
    }
}

#[tokio::test]
async fn what_cannot_be_dialled_is_refused_in_words_and_nothing_rings() {
    let mut server = server(Door::OPEN, None).await;
    let (alice, _) = server.join("Alice", "").await;
    for (body, code, words) in [
        (json!({ "destination": "+4930123456" }), 403, "destination: no rule lets conferences call there"),
        (json!({ "destination": "nobody" }), 403, "destination: nobody has this alias"),
        (json!({ "destination": "away" }), 403, "destination: the device is not registered"),
        (json!({ "destination": "carol", "protocol": "h323" }), 403, "protocol: h323 cannot be dialled yet"),
        (json!({ "destination": "rtmp://carol/live/1", "protocol": "auto" }), 403, "protocol: rtmp cannot"),
        (json!({ "destination": "carol", "protocol": "teams" }), 400, "protocol: there are"),
        (json!({ "protocol": "sip" }), 400, "destination:"),
    ] {
        let (got, why) = server.dial(&alice, body.clone()).await;
        let why = why.as_str().unwrap_or_default();
        assert!(got == code && why.starts_with(words), "{body}: {got} {why}");
    }
    assert!(server.town.0.lock().unwrap().is_empty());
    assert_eq!(server.records.recv().await.unwrap().reason, "forbidden", "who tried it is on record");
    // Lync is dialled as SIP, and the answer says so.
    let body = json!({ "destination": "carol", "protocol": "mssip" }).to_string();
    let (code, answer) =
        server.ask("POST", &format!("{ROOM}/dial"), &format!("token: {alice}\r\n"), &body).await;
    assert_eq!((code, &answer["note"]), (200, &json!("mssip is dialled as SIP")));
}

#[tokio::test]
async fn a_host_sends_somebody_to_another_conference_with_a_token_for_one_use() {
    let server = server(pins("1234", None), None).await;
    let (alice, alices) = server.join("Alice", "1234").await;
    let (bob, bobs) = server.join("Bob", "none").await;
    let mut events = server.events(&bob).await;
    events.until("stage").await;
    let transfer = async |token: &str, uuid: &str, body: Value| {
        server.post(token, &format!("participants/{uuid}/transfer"), &body.to_string()).await
    };
    let there = json!({ "conference_alias": "hall", "role": "guest", "pin": "1357" });
    assert_eq!(transfer(&bob, &alices, there.clone()).await, (403, json!("Invalid role")));
    for (body, code, words) in [
        (json!({ "conference_alias": "nowhere", "role": "guest" }), 403, "conference_alias: there is no"),
        (json!({ "conference_alias": "meet.alice" }), 403, "conference_alias: the participant is there"),
        (json!({ "conference_alias": "hall", "role": "guest" }), 403, "Invalid PIN"),
        (json!({ "conference_alias": "hall", "role": "host", "pin": "1357" }), 403, "Invalid PIN"),
        (json!({ "conference_alias": "hall", "role": "boss" }), 400, "role: "),
    ] {
        let (got, why) = transfer(&alice, &bobs, body).await;
        assert!(got == code && why.as_str().unwrap().starts_with(words), "{why}");
    }
    assert_eq!(transfer(&alice, &bobs, there.clone()).await, (200, json!(true)));
    let refer = events.until("refer").await;
    assert_eq!(refer["alias"], "hall");
    let token = refer["token"].as_str().unwrap();
    // As his client does: it leaves, and comes there without a PIN.
    assert_eq!(server.post(&bob, "release_token", "{}").await, (200, json!(true)));
    let enter = async |alias: &str, token: &str| {
        let body = json!({ "display_name": "Bob", "token": token }).to_string();
        server.ask("POST", &format!("/api/client/v2/conferences/{alias}/request_token"), "", &body).await
    };
    assert_eq!(enter("meet.alice", token).await.0, 403, "for another conference it is none");
    let (code, answer) = enter("hall", token).await;
    assert_eq!((code, &answer["result"]["role"]), (200, &json!("GUEST")), "{answer}");
    let (code, answer) = enter("hall", token).await;
    assert_eq!((code, &answer["result"]), (403, &json!("Invalid token")), "once");
    // Who does not want to go takes it back; one that came while no stream was open is told later.
    let (carol, carols) = server.join("Carol", "none").await;
    assert_eq!(transfer(&alice, &carols, there).await, (200, json!(true)));
    let refer = server.events(&carol).await.until("refer").await;
    let token = refer["token"].as_str().unwrap();
    assert_eq!(server.post(token, "release_token", "").await, (200, json!(true)));
    assert_eq!(enter("hall", token).await.0, 403);
}

#[tokio::test]
async fn a_telephone_that_is_sent_to_another_conference_is_handed_over() {
    let server = server(Door::OPEN, None).await;
    let (alice, _) = server.join("Alice", "").await;
    let mut events = server.events(&alice).await;
    let (_, uuids) = server.dial(&alice, json!({ "destination": "carol" })).await;
    let (_, _, far) = server.last();
    far.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    while events.until("participant_update").await["service_type"] != "conference" {}
    let path = format!("participants/{}/transfer", uuids[0].as_str().unwrap());
    let body = json!({ "conference_alias": "hall", "role": "host", "pin": "2468" }).to_string();
    assert_eq!(server.post(&alice, &path, &body).await, (200, json!(true)));
    assert_eq!(events.until("participant_delete").await["uuid"], uuids[0]);
    let body = json!({ "display_name": "Dave" }).to_string();
    let hall = "/api/client/v2/conferences/hall";
    let (code, answer) = server.ask("POST", &format!("{hall}/request_token"), "pin: 2468\r\n", &body).await;
    let token = answer["result"]["token"].as_str().unwrap();
    let (_, all) = server.ask("GET", &format!("{hall}/participants?token={token}"), "", "").await;
    let uuids_there: Vec<&Value> = all["result"].as_array().unwrap().iter().map(|it| &it["uuid"]).collect();
    assert!(code == 200 && uuids_there.contains(&&uuids[0]), "{all}");
}
