//! Calls by trunks, and how trunks are kept, in paused time.

use crosspoint_proto::Now;
use crosspoint_proto::sip::{PingId, RegistrationId};

use super::*;
use crate::config::Config;
use crate::events::What;

const TRUNKS: &str = r#"
    [[trunks]]
    name = "carrier"
    host = "proxy.example:5070"
    transport = "tcp"
    encryption = "none"
    codecs = ["pcma"]
    keep_alive = "30s"
    credentials = { realm = "carrier.example", username = "me", password = "s3cret" }
    registration = { user = "4930", domain = "carrier.example" }
"#;

fn rig() -> (Rig, Trunks) {
    let trunks = Trunks::new(&Config::from_toml(TRUNKS, "x.toml").unwrap().trunks);
    (Rig::with(LO, trunks.clone()), trunks)
}

fn by_trunk(rig: &Rig) -> Leg {
    let uri = "sip:+4940@carrier.example".to_owned();
    let trunk = Some("carrier".to_owned());
    let to = Address { trunk, ..Address::at(uri) };
    let from = Caller { address: "alice".to_owned(), name: String::new(), hops: 70, venue: None };
    let mut offer = sound(Direction::SendRecv);
    offer.media[0].formats.push(MediaFormat::Audio(AudioFormat::new(Codec::Pcma)));
    rig.legs.dial(&to, &from, offer, None).unwrap()
}

#[tokio::test]
async fn a_call_by_a_trunk_has_its_hop_its_password_its_codecs_and_its_domain() {
    let (mut rig, _) = rig();
    let leg = by_trunk(&rig);
    assert_eq!((leg.party.trunk.as_deref(), leg.party.transport), (Some("carrier"), "tcp"));
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    let address = SocketAddr::new(PROXY, 5070);
    let name = Some(KNOWN.to_owned());
    let transport = Some(Transport::Tcp);
    assert_eq!(invite.destination, Destination::Address { transport, address, name });
    assert_eq!(invite.from.uri.to_string(), "sip:alice@carrier.example");
    let account = invite.account.unwrap();
    assert_eq!(
        (account.realm.as_deref(), account.peers.as_slice()),
        (Some("carrier.example"), [PROXY].as_slice())
    );
    let offer = String::from_utf8_lossy(&invite.body.unwrap().data).into_owned();
    assert!(offer.contains("PCMA/8000") && !offer.contains("PCMU/8000"), "{offer}");
    assert!(!format!("{leg:?} {:?}", rig.legs).contains("s3cret"));
}

/// Everything that a trunk's task asks of the machine, and what it makes of the answers.
#[tokio::test(start_paused = true)]
async fn a_trunk_is_asked_registered_at_told_again_after_an_outage_and_left() {
    let (mut rig, trunks) = rig();
    let (events, zero) = (Events::default(), Instant::now());
    let now = move || Now {
        mono: crosspoint_proto::Instant::ZERO + zero.elapsed(),
        wall: std::time::SystemTime::UNIX_EPOCH,
    };
    let mut tasks = rig.legs.keep_trunks(&events, Arc::new(now));
    let Command::Register(registration) = rig.asked().await else { panic!("no REGISTER") };
    assert_eq!(registration.aor.uri.to_string(), "sip:4930@carrier.example");
    assert_eq!(registration.registrar.to_string(), "sip:carrier.example");
    assert!(registration.account.is_some());
    let id = registration.registration;
    let ping = pinged(&mut rig).await;
    let state = || (trunks.views()[0].reach, trunks.views()[0].registration);
    assert_eq!(state(), (Reach::Unknown, TrunkRegistration::No));
    assert!(!trunks.is_down("carrier"), "calls are tried before anything is known");

    let route = NameAddr::parse("<sip:inner.example;lr>").unwrap();
    let hour = Duration::from_secs(3600);
    trunks.deliver(Event::Registered { registration: id, expires: hour, service_route: vec![route.clone()] });
    trunks.deliver(Event::Pong { ping, status: Some(200) });
    until(|| state().0 == Reach::Up).await;
    assert!(matches!(state().1, TrunkRegistration::Until(_)));
    let _leg = by_trunk(&rig);
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    assert_eq!(invite.routes, [route], "RFC 3608");

    // Refused: down at once, and the next answer is also the moment to register anew.
    tokio::time::advance(Duration::from_secs(30)).await;
    let ping = pinged(&mut rig).await;
    trunks.deliver(Event::Pong { ping, status: None });
    until(|| trunks.is_down("carrier")).await;
    let failed = Event::RegistrationFailed { registration: id, status: 503, retry: Some(hour) };
    trunks.deliver(failed);
    until(|| state().1 == TrunkRegistration::Failed(503)).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    let ping = pinged(&mut rig).await;
    trunks.deliver(Event::Pong { ping, status: Some(200) });
    assert!(matches!(rig.asked().await, Command::Refresh { registration } if registration == id));
    assert!(!trunks.is_down("carrier"));
    trunks.deliver(Event::Registered { registration: id, expires: hour, service_route: Vec::new() });
    until(|| matches!(state().1, TrunkRegistration::Until(_))).await;

    trunks.leave();
    assert!(matches!(rig.asked().await, Command::Unregister { registration } if registration == id));
    trunks.deliver(Event::Unregistered { registration: id });
    tasks.join_next().await.unwrap().unwrap();
    let told: Vec<_> = events.after(0, 100).events.into_iter().map(|it| it.what).collect();
    let trunk = || "carrier".to_owned();
    for what in [
        What::TrunkChanged { trunk: trunk(), state: "up" },
        What::TrunkChanged { trunk: trunk(), state: "down" },
        What::TrunkRegistrationFailed { trunk: trunk(), status: 503 },
        What::TrunkRegistered { trunk: trunk() },
    ] {
        assert!(told.contains(&what), "{what:?} in {told:?}");
    }
}

/// What is for no trunk of ours is nobody's.
#[tokio::test]
async fn events_of_other_numbers_are_passed_over() {
    let (_rig, trunks) = rig();
    for number in [1, 7, u64::MAX] {
        trunks.deliver(Event::Unregistered { registration: RegistrationId(number) });
        trunks.deliver(Event::Pong { ping: PingId(number << 48 | 1), status: Some(200) });
    }
    assert_eq!(trunks.views()[0].reach, Reach::Unknown);
}

async fn pinged(rig: &mut Rig) -> PingId {
    let Command::Ping { ping, target, destination } = rig.asked().await else { panic!("no OPTIONS") };
    assert_eq!(target.to_string(), "sip:proxy.example:5070");
    assert!(matches!(destination, Destination::Address { address, .. } if address.ip() == PROXY));
    ping
}

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came");
}
