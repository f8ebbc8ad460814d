//! Registrations and challenges, from both sides (S49, S50, S53).

use std::time::Duration;

use crosspoint_proto::Transport;
use crosspoint_proto::sip::auth::{Account, Secret};
use crosspoint_proto::sip::{
    By, CallId, Command, Destination, Event, Flow, How, Invite, Name, Registration, RegistrationId, RequestId,
};

use crate::world::{ALICE, BOB, World, account, check, invite, name, over, sdp, uri, verifier};

fn registration(transport: Transport, password: &str) -> Registration {
    Registration {
        registration: RegistrationId(1),
        registrar: uri("sip:example.com"),
        destination: over(transport, BOB),
        aor: name("<sip:alice@example.com>"),
        expires: Duration::from_secs(3600),
        account: Some(account(password)),
    }
}

fn respond(world: &mut World, request: RequestId, status: u16, headers: Vec<(String, String)>) {
    world.tell(BOB, Command::Respond { request, status, phrase: String::new(), headers, body: None });
}

/// Bob's owner as a registrar of one user: answers the next REGISTER; the flow and contact if good.
fn serve(world: &mut World, verifier: &mut crosspoint_proto::sip::auth::Verifier) -> Option<(Flow, String)> {
    let Event::Request { request, message, source } = world.next(BOB) else { panic!("no REGISTER") };
    let now = world.net.now();
    match check(verifier, now, &message, &source) {
        Ok(()) => {
            let contact = message.headers.get(&Name::Contact).unwrap().to_owned();
            let expires = message.headers.expires().unwrap();
            let bound = ("Contact".to_owned(), format!("{contact};expires={expires}"));
            respond(world, request, 200, vec![bound]);
            Some((source.flow, contact))
        }
        Err(challenges) => {
            respond(world, request, 401, challenges);
            None
        }
    }
}

#[test]
fn a_registration_is_proved_refreshed_called_and_taken_back() {
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        let mut world = World::perfect();
        let mut verifier = verifier();
        world.tell(ALICE, Command::Register(Box::new(registration(transport, "secret"))));
        assert_eq!(serve(&mut world, &mut verifier), None);
        let (flow, _) = serve(&mut world, &mut verifier).expect("the right password");
        match world.next(ALICE) {
            Event::Registered { expires, .. } => assert_eq!(expires, Duration::from_secs(3600)),
            other => panic!("{other:?}"),
        }
        assert!(world.last(ALICE, "REGISTER").contains("algorithm=SHA-256"));

        // Bob calls back over the flow that was kept as text.
        let flow: Flow = flow.to_string().parse().unwrap();
        let back = Invite {
            target: uri("sip:alice@192.0.2.1"),
            destination: Destination::Flow(flow),
            from: name("<sip:bob@example.com>"),
            ..invite(7)
        };
        world.tell(BOB, Command::Invite(Box::new(back)));
        let Event::Incoming(incoming) = world.next(ALICE) else { panic!("no call") };
        assert_eq!(incoming.source.transport, transport);
        world.tell(ALICE, Command::Answer { call: incoming.call, body: sdp("answer") });
        assert!(matches!(world.next(BOB), Event::Answered { .. }));
        world.next(ALICE);
        world.tell(BOB, Command::Hangup { call: CallId(7), reason: None });
        world.next(BOB);
        world.next(ALICE);

        // Well before the hour is over; the nonce has grown stale by then.
        let before = world.net.now().mono;
        let waited =
            world.net.drive_until(Duration::from_secs(3600), |net| !net.nodes[BOB].events.is_empty());
        assert!(waited && world.net.now().mono - before < Duration::from_secs(3100));
        assert_eq!(serve(&mut world, &mut verifier), None);
        assert!(world.last(BOB, "SIP/2.0 401").contains("stale=true"));
        assert!(serve(&mut world, &mut verifier).is_some());
        assert!(matches!(world.next(ALICE), Event::Registered { .. }));

        world.tell(ALICE, Command::Unregister { registration: RegistrationId(1) });
        assert!(serve(&mut world, &mut verifier).is_some(), "the nonce is used again at once");
        assert!(world.last(ALICE, "REGISTER").contains("Expires: 0"));
        assert!(matches!(world.next(ALICE), Event::Unregistered { .. }));
        world.settle();
    }
}

#[test]
fn a_wrong_password_is_refused_once_and_for_all() {
    let mut world = World::perfect();
    let mut verifier = verifier();
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "wrong"))));
    assert_eq!(serve(&mut world, &mut verifier), None);
    assert_eq!(serve(&mut world, &mut verifier), None);
    assert!(matches!(world.next(ALICE), Event::RegistrationFailed { status: 401, retry: None, .. }));
    world.settle();
}

#[test]
fn a_registrar_that_is_busy_or_gone_is_asked_again_with_growing_pauses() {
    let mut world = World::perfect();
    let again = |world: &mut World, headers| {
        let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
        respond(world, request, 503, headers);
        match world.next(ALICE) {
            Event::RegistrationFailed { status: 503, retry: Some(retry), .. } => retry.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "secret"))));
    assert_eq!(again(&mut world, vec![]), 5);
    assert_eq!(again(&mut world, vec![]), 10);
    assert_eq!(again(&mut world, vec![("Retry-After".into(), "17".into())]), 17);
    assert_eq!(again(&mut world, vec![]), 40);
    world.tell(ALICE, Command::Unregister { registration: RegistrationId(1) });
    let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
    respond(&mut world, request, 403, vec![]);
    assert!(matches!(world.next(ALICE), Event::Unregistered { .. }));
    world.settle();
}

#[test]
fn a_lost_connection_is_registered_again() {
    let mut world = World::perfect();
    let mut verifier = verifier();
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Tcp, "secret"))));
    serve(&mut world, &mut verifier);
    let (first, _) = serve(&mut world, &mut verifier).unwrap();
    world.next(ALICE);
    let conn = world.net.connections(ALICE)[0];
    world.net.cut(ALICE, conn);
    assert!(matches!(world.next(BOB), Event::FlowClosed { flow } if flow == first));
    let (second, _) = serve(&mut world, &mut verifier).unwrap();
    assert_ne!(first, second);
    assert!(matches!(world.next(ALICE), Event::Registered { .. }));
    // The old flow leads nowhere, and says so.
    let dead = Invite { destination: Destination::Flow(first), ..invite(9) };
    world.tell(BOB, Command::Invite(Box::new(dead)));
    match world.next(BOB) {
        Event::Ended { ending, .. } => assert_eq!(ending.how, How::Unreachable),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_challenged_call_is_made_again_and_the_first_is_refused() {
    let mut world = World::perfect();
    let mut verifier = verifier();
    let first = world.ring(Invite { account: Some(account("secret")), ..invite(1) });
    let Event::Incoming(again) = challenge(&mut world, &mut verifier, first) else { panic!("no INVITE") };
    let now = world.net.now();
    assert_eq!(check(&mut verifier, now, &again.request, &again.source), Ok(()));
    assert_ne!(again.call, first);
    world.tell(BOB, Command::Answer { call: again.call, body: sdp("answer") });
    assert!(matches!(world.next(ALICE), Event::Answered { .. }));
    assert!(world.last(ALICE, "ACK").contains("Authorization: Digest"));
    world.next(BOB);
    world.tell(ALICE, Command::Hangup { call: CallId(1), reason: None });
    world.next(ALICE);
    world.next(BOB);
    world.settle();
}

/// Bob challenges that call; what he hears next.
fn challenge(world: &mut World, verifier: &mut crosspoint_proto::sip::auth::Verifier, call: CallId) -> Event {
    let now = world.net.now();
    let challenges = verifier.challenges(now, crate::world::address(ALICE).ip(), false);
    let headers = challenges.iter().map(|c| ("WWW-Authenticate".to_owned(), c.to_string())).collect();
    world.tell(BOB, Command::Reject { call, status: 401, phrase: String::new(), reason: None, headers });
    match world.next(BOB) {
        Event::Ended { ending, .. } => assert_eq!((ending.by, ending.how), (By::Us, How::Refused)),
        other => panic!("{other:?}"),
    }
    world.run(Duration::from_secs(1));
    world.next(BOB)
}

#[test]
fn digests_go_to_nobody_but_the_account_s_peer() {
    let elsewhere = Account { peers: vec!["203.0.113.9".parse().unwrap()], ..account("secret") };
    let other_realm = Account { realm: Some("other.example".into()), ..account("secret") };
    for account in [None, Some(elsewhere), Some(other_realm)] {
        let mut world = World::perfect();
        let mut verifier = verifier();
        let call = world.ring(Invite { account, ..invite(1) });
        let now = world.net.now();
        let challenges = verifier.challenges(now, crate::world::address(ALICE).ip(), false);
        let headers = challenges.iter().map(|c| ("WWW-Authenticate".to_owned(), c.to_string())).collect();
        world.tell(BOB, Command::Reject { call, status: 401, phrase: String::new(), reason: None, headers });
        world.next(BOB);
        match world.next(ALICE) {
            Event::Ended { ending, .. } => assert_eq!(ending.status, Some(401)),
            other => panic!("{other:?}"),
        }
        world.settle();
        let leaked = world.net.log().iter().any(|s| s.data.windows(14).any(|w| w == b"Authorization:"));
        assert!(!leaked);
    }
}

#[test]
fn a_password_that_is_wrong_ends_the_call_after_one_try() {
    let mut world = World::perfect();
    let mut verifier = verifier();
    let wrong = Account { secret: Secret::Password("wrong".into()), ..account("") };
    let first = world.ring(Invite { account: Some(wrong), ..invite(1) });
    let Event::Incoming(again) = challenge(&mut world, &mut verifier, first) else { panic!("no INVITE") };
    let now = world.net.now();
    let headers = check(&mut verifier, now, &again.request, &again.source).unwrap_err();
    let (call, phrase) = (again.call, String::new());
    world.tell(BOB, Command::Reject { call, status: 401, phrase, reason: None, headers });
    world.next(BOB);
    match world.next(ALICE) {
        Event::Ended { ending, .. } => assert_eq!((ending.by, ending.status), (By::Peer, Some(401))),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.count(ALICE, "INVITE"), 2);
    world.settle();
}
