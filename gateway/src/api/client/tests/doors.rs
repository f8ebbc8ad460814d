//! Who guesses PINs and aliases, over a socket.

use super::*;
use crate::events::{Attempt, Event, What};

/// A porter whose clock is told the time in seconds.
fn told_porter(hides: bool) -> (Porter, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(90_000));
    let time = clock.clone();
    let now = move || Instant::from_millis(1_000 * time.load(Ordering::Relaxed));
    (Porter::new([7; 16], move || hides, now, Told::default()), clock)
}

impl Server {
    /// PINs that were read, and wrong.
    fn read(&self) -> usize {
        let told = self.api.rooms().events().after(0, usize::MAX);
        let wrong = |it: &&Event| matches!(it.what, What::PinAttempt { result: Attempt::Wrong, .. });
        assert_eq!(told.lost, 0);
        told.events.iter().filter(wrong).count()
    }
}

#[tokio::test]
async fn promise_40_guesses_over_a_socket_are_answered_alike_whether_read_or_not() {
    let (porter, clock) = told_porter(false);
    let server = guarded(pins("271828", None), None, porter).await;
    let wrong = (403, json!({ "status": "failed", "result": "Invalid PIN" }));
    for guess in 0..200 {
        assert_eq!(server.enter("Eve", &format!("{:06}", 100_000 + guess)).await, wrong);
    }
    assert_eq!(server.read(), 6, "five, and the one that made the wait");
    assert_eq!(server.enter("Eve", "271828").await, wrong, "the right one is not read either");
    // Neither does she learn which conferences there are.
    let nobody = server.ask("POST", "/api/client/v2/conferences/nobody/request_token", "", "{}").await;
    assert_eq!(server.enter("Eve", "").await, nobody);
    let pin = "pin: 123456\r\n";
    let path = "/api/client/v2/conferences/nobody/request_token";
    assert_eq!(server.ask("POST", path, pin, "{}").await, wrong);
    // Two seconds later she may; and who has been in may whatever is tried from where he is.
    clock.fetch_add(2, Ordering::Relaxed);
    assert_eq!(server.enter("Alice", "271828").await.0, 200);
    for from in 60..70 {
        server.from.store(from, Ordering::Relaxed);
        for guess in 0..10 {
            assert_eq!(server.enter("Eve", &format!("{:06}", 200_000 + guess)).await, wrong);
        }
    }
    assert_eq!(server.read(), 20, "what the room has for all");
    assert_eq!(server.enter("Bob", "271828").await, wrong, "newcomers pay for it");
    server.from.store(1, Ordering::Relaxed);
    assert_eq!(server.enter("Alice", "271828").await.0, 200);
}

#[tokio::test]
async fn unknown_aliases_are_told_so_and_count_or_are_hidden() {
    let asks = async |server: &Server, alias: &str, pin: &str| {
        let pin = if pin.is_empty() { String::new() } else { format!("pin: {pin}\r\n") };
        let path = format!("/api/client/v2/conferences/{alias}/request_token");
        server.ask("POST", &path, &pin, "{}").await
    };
    let server = guarded(pins("271828", Some("314159")), None, told_porter(false).0).await;
    for _ in 0..6 {
        assert_eq!(asks(&server, "nobody", "").await.0, 404);
    }
    let (code, answer) = asks(&server, "nobody", "").await;
    assert_eq!(
        (code, &answer["result"]["pin"]),
        (403, &json!("required")),
        "who guesses is told nothing more"
    );
    // No other route tells whether a conference exists.
    let known = server.ask("GET", &format!("{ROOM}/participants?token=x"), "", "").await;
    let unknown = server.ask("GET", "/api/client/v2/conferences/nobody/participants?token=x", "", "").await;
    assert_eq!((known.0, &known), (403, &unknown));

    let server = guarded(pins("271828", Some("314159")), None, told_porter(true).0).await;
    for pin in ["", "none", "123456", "#", "00000000000000000000"] {
        let (known, unknown) = (asks(&server, "meet.alice", pin).await, asks(&server, "nobody", pin).await);
        assert_eq!(known, unknown, "{pin:?}");
    }
}

#[tokio::test]
async fn threat_19_wrong_passwords_count_and_keep_no_device_from_where_it_has_been() {
    let (porter, clock) = told_porter(false);
    let server = guarded(Door::OPEN, None, porter).await;
    let register = async |from: u8, name: &str, password: &str| {
        server.from.store(from, Ordering::Relaxed);
        let headers = registrations::basic("Authorization", name, password);
        let path = format!("/api/client/v2/registrations/{name}/request_token");
        server.ask("POST", &path, &headers, "{}").await
    };
    assert_eq!(register(66, "bob", "bob-secret").await.0, 200);
    let wrong = register(66, "carol", "guess").await;
    assert_eq!(wrong.0, 401);
    for guess in 0..5 {
        assert_eq!(register(66, ["carol", "nobody"][guess % 2], &guess.to_string()).await, wrong);
    }
    assert_eq!(register(66, "carol", "carol-secret").await, wrong, "the right one is not read");
    let nobody = server.ask("POST", "/api/client/v2/conferences/nobody/request_token", "", "{}").await;
    assert_eq!(nobody.0, 403, "neither is anything else of that address");
    // Bob has been there before, and Carol is elsewhere.
    assert_eq!(register(66, "bob", "bob-secret").await.0, 200);
    assert_eq!(register(67, "carol", "carol-secret").await.0, 200);
    clock.fetch_add(2, Ordering::Relaxed);
    assert_eq!(register(66, "carol", "carol-secret").await.0, 200);
    // A telephone with an old password keeps itself out, and not the one beside it.
    for guess in 0..6 {
        assert_eq!(register(66, "bob", &guess.to_string()).await, wrong);
    }
    assert_eq!(register(66, "bob", "bob-secret").await, wrong);
    assert_eq!(register(66, "carol", "carol-secret").await.0, 200);
    assert_eq!(register(67, "bob", "bob-secret").await.0, 200);
    // Without credentials nothing was guessed.
    for _ in 0..9 {
        let path = "/api/client/v2/registrations/carol/request_token";
        assert_eq!(server.ask("POST", path, "", "{}").await, wrong);
    }
    assert_eq!(register(67, "carol", "carol-secret").await.0, 200);
}
