//! What is withstood: too many streams, clients that do not read, bodies that are too large.

use super::super::edition::{Edition, LINES};
use super::super::events::tell;
use super::*;

impl Server {
    /// The code of the answer alone: a stream has no end.
    async fn code(&self, path: &str) -> u16 {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
    }
}

impl Events {
    /// Reads to the end, which is the last chunk.
    async fn end(&mut self) {
        while self.line().await != "0" {}
    }
}

#[tokio::test]
async fn a_third_event_stream_closes_the_oldest_and_an_address_has_so_many() {
    let server = server(Door::OPEN, None).await;
    let (alice, _) = server.join("Alice", "").await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut events = server.events(&alice).await;
        events.until("stage").await;
        streams.push(events);
    }
    streams.remove(0).end().await;
    assert_eq!(server.post(&alice, "message", r#"{"payload":"to nobody"}"#).await.0, 200);
    // Alice has two; these are two for each of thirty-one others.
    for n in 0..31 {
        let (token, _) = server.join(&format!("Guest {n}"), "").await;
        streams.push(server.events(&token).await);
        streams.push(server.events(&token).await);
    }
    let (last, _) = server.join("Zoe", "").await;
    let (code, answer) = server.ask("GET", &format!("{ROOM}/events?token={last}"), "", "").await;
    assert_eq!((code, &answer["status"]), (429, &json!("failed")), "{answer}");
    // Who has two already replaces one: a reconnect is never refused.
    let mut again = server.events(&alice).await;
    again.until("stage").await;
    // A closed one makes room; that it is closed is seen a moment later.
    drop(streams);
    let begun = std::time::Instant::now();
    while server.code(&format!("{ROOM}/events?token={last}")).await != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "room is not given back");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_stream_and_holds_a_bounded_queue() {
    let server = server(Door::OPEN, None).await;
    let (alice, _) = server.join("Alice", "").await;
    let (bob, _) = server.join("Bob", "").await;
    let session = server.api.sessions().find(server.api.now(), &alice).map(Session::copy).unwrap();
    let news = server.api.0.press.subscribe(&session.service, &session.view, &session.said);
    let (events, mut feed) = mpsc::channel(1);
    let ending = server.api.0.ending.subscribe();
    let telling =
        tokio::spawn(
            async move { tell(session.party, session.view, news, &events, ending, session.refer).await },
        );
    let count = 2 * LINES;
    for n in 0..count {
        let body = json!({ "payload": format!("message {n}") }).to_string();
        assert_eq!(server.post(&bob, "message", &body).await.0, 200);
    }
    let mut messages = 0;
    while let Some(event) = tokio::time::timeout(Duration::from_secs(10), feed.recv()).await.unwrap() {
        messages += usize::from(event.0 == "message_received");
    }
    assert!(messages <= 3, "{messages} of {count} were kept for it");
    telling.await.unwrap();
}

#[tokio::test]
async fn what_has_not_changed_is_written_out_once() {
    let server = server(Door::OPEN, None).await;
    let (alice, _) = server.join("Alice", "").await;
    server.join("Bob", "").await;
    let session = server.api.sessions().find(server.api.now(), &alice).map(Session::copy).unwrap();
    let before = Edition::new(&session.service, session.view.borrow().clone(), None);
    assert_eq!(before.view.parties.len(), 2);
    server.join("Carol", "").await;
    let after = Edition::new(&session.service, session.view.borrow().clone(), Some(&before));
    assert_eq!(after.view.parties.len(), 3);
    for party in &before.view.parties {
        let [was, is] = [&before, &after].map(|it| it.participant(party.id).as_bytes().as_ptr());
        assert_eq!(was, is, "{}", party.name);
    }
    assert_eq!(before.conference.as_bytes().as_ptr(), after.conference.as_bytes().as_ptr());
}

#[tokio::test]
async fn bodies_have_a_size_a_depth_and_no_coding() {
    let server = server(Door::OPEN, None).await;
    let (alice, uuid) = server.join("Alice", "").await;
    let message = |length: usize| json!({ "payload": "x".repeat(length) }).to_string();
    assert_eq!(server.post(&alice, "message", &message(60_000)).await.0, 200);
    assert_eq!(server.post(&alice, "message", &message(70_000)).await.0, 413);
    let calls = format!("participants/{uuid}/calls");
    let offer = |length: usize| json!({ "call_type": "WEBRTC", "sdp": "x".repeat(length) }).to_string();
    assert_ne!(server.post(&alice, &calls, &offer(200_000)).await.0, 413);
    assert_eq!(server.post(&alice, &calls, &offer(300_000)).await.0, 413);
    let deep = "[".repeat(50_000);
    for path in ["message", "dial", "request_token", "transform_layout", &calls] {
        assert_eq!(server.post(&alice, path, &deep).await.0, 400, "{path}");
        let headers = format!("token: {alice}\r\nContent-Encoding: gzip\r\n");
        let (code, answer) = server.ask("POST", &format!("{ROOM}/{path}"), &headers, "\x1f\u{8b}").await;
        assert_eq!((code, &answer["status"]), (415, &json!("failed")), "{path}");
    }
}

#[tokio::test]
async fn a_stop_is_told_as_one_and_not_as_the_end_of_the_conference() {
    let server = server(Door::OPEN, None).await;
    let mut streams = Vec::new();
    for n in 0..20 {
        let (token, _) = server.join(&format!("Client {n}"), "").await;
        streams.push(server.events(&token).await);
    }
    for events in &mut streams {
        events.until("stage").await;
    }
    // The rooms end in the same breath.
    server.api.end();
    server.api.0.parts.exchange.halt(Reason::Shutdown);
    for events in &mut streams {
        assert_eq!(events.until("disconnect").await["reason"], "Signaling node disconnected");
        events.end().await;
    }
}
