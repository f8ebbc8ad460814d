//! Clients that go away at any moment, or are sent away, and those who wait and are not in yet.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use axum::http::{HeaderMap, HeaderValue};

use super::*;
use crate::api::client::entry::{Called, Source, request_token};
use crate::conference::room::Command;

impl Server {
    /// A request of that alias whose client goes away while the conference answers it.
    async fn asked_and_gone(&self, alias: &str) {
        let body = json!({ "display_name": "Eve" }).to_string().into();
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("here"))]);
        let api = axum::extract::State(self.api.clone());
        let mut request = pin!(request_token(api, Called(alias.into()), Source(None), headers, body));
        let mut context = Context::from_waker(Waker::noop());
        assert!(request.as_mut().poll(&mut context).is_pending());
        // The conference answers; nobody looks.
        self.until(|| !self.api.rooms().views().is_empty()).await;
    }

    /// What is to come about does so by what has been told already.
    async fn until(&self, holds: impl Fn() -> bool) {
        let held = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), held).await.expect("it never comes about");
    }

    /// Nobody refreshes a token for as long as one lives.
    fn expire_all(&self) {
        self.ahead.fetch_add(121, Ordering::Relaxed);
        self.api.expire();
    }
}

#[tokio::test]
async fn who_goes_away_before_he_has_his_token_is_gone_when_it_would_expire() {
    let server = server(Door::OPEN, None).await;
    server.asked_and_gone("meet.alice").await;
    // By then what the conference has said was heard by somebody, or he would be there for ever.
    server.until(|| server.api.sessions().those(|_| true).next().is_some()).await;
    server.expire_all();
    server.until(|| server.api.rooms().views().is_empty()).await;
}

#[tokio::test]
async fn s56_a_call_whose_caller_goes_away_while_it_is_placed_is_over_and_counted_no_more() {
    let mut server = server(Door::OPEN, None).await;
    server.asked_and_gone("carol").await;
    server.until(|| server.api.sessions().those(|_| true).next().is_some()).await;
    server.expire_all();
    let (_, _, mut far) = server.last();
    assert_eq!(far.told_to_hang_up().await.reason, Reason::Cancelled);
    far.ends(Cause::local(Reason::Cancelled)).await;
    assert_eq!(server.records.recv().await.unwrap().called, "carol");
    server.until(|| server.api.0.parts.exchange.calls().is_empty()).await;
}

#[tokio::test]
async fn who_leaves_while_the_conference_does_not_keep_up_is_out_all_the_same() {
    let server = server(Door::OPEN, None).await;
    let (_alice, _) = server.join("Alice", "").await;
    let view = server.api.rooms().view("Alice's room").unwrap();
    let id = view.parties[0].id;
    // As much as fits: nothing of it is read before this task waits.
    while server.api.rooms().tell("Alice's room", Command::Label { id, text: "A".into() }) {}
    server.expire_all();
    server.until(|| server.api.rooms().views().is_empty()).await;
}

#[tokio::test]
async fn who_was_sent_away_is_told_so_by_a_new_stream_and_his_token_is_not_renewed() {
    let server = server(pins("1234", None), None).await;
    let (alice, _) = server.join("Alice", "1234").await;
    let (bob, bobs) = server.join("Bob", "none").await;
    let disconnect = format!("participants/{bobs}/disconnect");
    assert_eq!(server.post(&alice, &disconnect, "").await, (200, json!(true)));
    let gone = || server.api.rooms().view("Alice's room").is_some_and(|view| view.parties.len() == 1);
    server.until(gone).await;
    // His client had lost its stream.
    let mut events = server.events(&bob).await;
    assert_eq!(events.until("disconnect").await["reason"], "Call disconnected");
    server.api.expire();
    assert_eq!(server.post(&bob, "refresh_token", "").await, (403, json!("Invalid token")));
    assert_eq!(server.post(&alice, "refresh_token", "").await.0, 200);
    // Nor has anybody when it is over.
    assert_eq!(server.post(&alice, "disconnect", "").await, (200, json!(true)));
    server.until(|| server.api.rooms().views().is_empty()).await;
    server.api.expire();
    server.ahead.fetch_add(60, Ordering::Relaxed);
    server.api.expire();
    assert_eq!(server.api.sessions().those(|_| true).count(), 0);
}

#[tokio::test]
async fn s24_s30_who_waits_at_a_locked_room_does_nothing_there_and_reads_nothing() {
    let server = server(Door::OPEN, None).await;
    let (alice, _) = server.join("Alice", "").await;
    let mut events = server.events(&alice).await;
    events.until("stage").await;
    // A telephone is seen and heard.
    let (_, uuids) = server.dial(&alice, json!({ "destination": "carol" })).await;
    let (_, _, far) = server.last();
    far.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    while events.until("layout").await["participants"] != uuids {}
    assert_eq!(server.post(&alice, "lock", "").await, (200, json!(true)));
    // Without a host PIN he is a host, once he is in (S18).
    let (dave, daves) = server.join("Dave", "").await;
    let mut waits = server.events(&dave).await;
    assert_eq!(waits.until("layout").await["participants"], json!([]));
    assert_eq!(waits.until("stage").await, json!([]));
    for (command, body) in [
        ("transform_layout", json!({ "transforms": { "layout": "4:0" } })),
        ("set_message_text", json!({ "text": "Let me in" })),
        ("dial", json!({ "destination": "carol" })),
        ("muteguests", json!({})),
    ] {
        let refused = (403, json!("Invalid role"));
        assert_eq!(server.post(&dave, command, &body.to_string()).await, refused, "{command}");
    }
    assert!(server.town.0.lock().unwrap().is_empty(), "nobody rings");
    let own = |command: &str| format!("participants/{daves}/{command}");
    let hall = r#"{"conference_alias":"hall","pin":"2468"}"#;
    assert_eq!(server.post(&dave, &own("transfer"), hall).await, (403, json!("Invalid role")));
    let secret = json!({ "type": "text/plain", "payload": "Shall we let him in?" }).to_string();
    assert_eq!(server.post(&alice, "message", &secret).await, (200, json!(true)));
    // What is written to him alone he reads.
    let hold = json!({ "type": "text/plain", "payload": "A moment, please" }).to_string();
    assert_eq!(server.post(&alice, &own("message"), &hold).await, (200, json!(true)));
    assert_eq!(waits.until("message_received").await["payload"], "A moment, please");
    assert_eq!(server.post(&alice, &own("unlock"), "").await, (200, json!(true)));
    waits.until("participant_sync_end").await;
    assert_eq!(waits.until("layout").await["participants"], uuids);
    let four = json!({ "transforms": { "layout": "4:0" } }).to_string();
    assert_eq!(server.post(&dave, "transform_layout", &four).await, (200, json!(true)));
}
