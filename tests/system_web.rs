//! The side of the clients from outside: HTTPS, proxies, and what is withstood there.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::PATIENCE;
use support::gateway::Gateway;
use support::web::{Client, Web};

fn add_room(gateway: &Gateway, name: &str, options: &[&str]) {
    let mut arguments = vec!["conference", "add", name];
    arguments.extend(options);
    let output = gateway.cli(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A gateway with a room `meet.alice` (host PIN 1234, guests without), which clients can enter.
fn with_room(web_more: &str) -> Gateway {
    let gateway = Gateway::with_web(&[], web_more);
    add_room(&gateway, "Alice's room", &["--alias", "meet.alice", "--host-pin", "1234", "--guests"]);
    let known = || (Web::of(&gateway).request_token("meet.alice", "", "").code == 403).then_some(());
    support::wait_for("the room to be known", known);
    gateway
}

#[test]
fn s55_s85_two_clients_meet_over_https_by_any_spelling_of_the_alias() {
    let gateway = with_room("");
    let host = Client::join(&gateway, "meet.alice", "Alice", "1234");
    let mut events = host.events();
    assert_eq!(events.next().0, "participant_sync_begin");
    assert_eq!(events.until("conference_update")["started"], json!(true));
    for alias in ["MEET.Alice", "meet.alice@127.0.0.1", "meet.alice%40127.0.0.1"] {
        let guest = Client::join(&gateway, alias, "Bob", "none");
        assert_eq!(guest.granted["role"], "GUEST");
        let came = events.until_that("participant_create", |it| it["uuid"] == guest.uuid.as_str());
        assert_eq!(came["protocol"], "api");
        let said = json!({ "type": "text/plain", "payload": "hello" }).to_string();
        assert_eq!(guest.post("message", &said), (200, json!(true)));
        assert_eq!(events.until("message_received")["payload"], "hello");
        guest.post("release_token", "{}");
        events.until_that("participant_delete", |it| it["uuid"] == guest.uuid.as_str());
    }
    let status = gateway.status();
    let listening = status["listening"].as_array().unwrap();
    let web = listening.iter().find(|it| it["service"] == "web").unwrap();
    assert_eq!(web["address"], format!("127.0.0.1:{}", gateway.web));
    assert_eq!(web["transport"], "tls");
}

#[test]
fn s70_clients_can_be_shut_out() {
    let gateway = with_room("infinity_clients = false\ndisabled_text = \"Closed on Sundays\"");
    let answer = Web::of(&gateway).request_token("meet.alice", "Alice", "1234");
    assert_eq!(
        (answer.code, answer.json()),
        (403, json!({ "status": "failed", "result": "Closed on Sundays" }))
    );
}

#[test]
fn s76_in_maintenance_nobody_is_let_in_and_the_node_says_so() {
    let gateway = Gateway::with_web(&[], "maintenance = true");
    let status = Web::of(&gateway).request("GET /api/client/v2/status", "", "").unwrap();
    assert_eq!((status.code, status.result()), (503, json!("Maintenance mode")));
}

#[test]
fn clients_are_told_that_the_gateway_stops() {
    let gateway = with_room("");
    let mut events = Client::join(&gateway, "meet.alice", "Alice", "1234").events();
    events.until("conference_update");
    let begun = std::time::Instant::now();
    support::program("kill").arg(gateway.pid().to_string()).status().unwrap();
    assert_eq!(events.until("disconnect"), json!({ "reason": "Signaling node disconnected" }));
    assert_eq!(events.next_or_end(PATIENCE), Some(None));
    // It does not wait for clients as it waits for telephones.
    let stopped = || gateway.log().contains("stopped").then_some(());
    support::wait_for("the gateway to stop", stopped);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
