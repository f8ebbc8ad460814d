//! Registrations and challenges, from both sides (S49, S50, S53).

use std::time::Duration;

use crosspoint_proto::Transport;
use crosspoint_proto::netem::Conditions;
use crosspoint_proto::sip::auth::{Account, Secret};
use crosspoint_proto::sip::{
    By, CallId, Command, Destination, Event, Flow, How, Invite, Name, Registration, RegistrationId, RequestId,
};

use crate::solo::Solo;
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
    // Never before its time, and not when everybody else comes.
    assert!((5..=6).contains(&again(&mut world, vec![])));
    assert!((10..=12).contains(&again(&mut world, vec![])));
    assert!((17..=21).contains(&again(&mut world, vec![("Retry-After".into(), "17".into())])));
    assert!((40..=50).contains(&again(&mut world, vec![])));
    world.tell(ALICE, Command::Unregister { registration: RegistrationId(1) });
    let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
    respond(&mut world, request, 403, vec![]);
    assert!(matches!(world.next(ALICE), Event::Unregistered { .. }));
    world.settle();
}

/// Those who lost a registrar at the same moment come back one after another.
#[test]
fn pauses_of_two_endpoints_differ() {
    let pause = |seed| {
        let mut world = World::new(seed, Conditions::delay(Duration::from_millis(10)));
        world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "secret"))));
        let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
        respond(&mut world, request, 503, vec![("Retry-After".into(), "100".into())]);
        match world.next(ALICE) {
            Event::RegistrationFailed { retry: Some(retry), .. } => retry,
            other => panic!("{other:?}"),
        }
    };
    let pauses: std::collections::BTreeSet<_> = (1..=8).map(pause).collect();
    assert!(pauses.len() > 4, "{pauses:?}");
    assert!(pauses.iter().all(|it| (100..=125).contains(&it.as_secs())), "{pauses:?}");
}

/// RFC 3261 section 10.2.8: the registrar's least is taken.
#[test]
fn a_registration_that_is_too_brief_is_made_longer() {
    let mut world = World::perfect();
    let brief = Registration { expires: Duration::from_secs(60), ..registration(Transport::Udp, "secret") };
    world.tell(ALICE, Command::Register(Box::new(brief)));
    let Event::Request { request, message, .. } = world.next(BOB) else { panic!("no REGISTER") };
    assert_eq!(message.headers.expires(), Some(60));
    respond(&mut world, request, 423, vec![("Min-Expires".into(), "900".into())]);
    let mut verifier = verifier();
    assert_eq!(serve(&mut world, &mut verifier), None);
    assert!(serve(&mut world, &mut verifier).is_some());
    assert!(world.last(ALICE, "REGISTER").contains("Expires: 900"));
    match world.next(ALICE) {
        Event::Registered { expires, .. } => assert_eq!(expires, Duration::from_secs(900)),
        other => panic!("{other:?}"),
    }
}

/// A registrar that names a least which is none is not asked in a circle.
#[test]
fn a_least_that_is_no_longer_ends_there() {
    let mut world = World::perfect();
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "secret"))));
    let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
    respond(&mut world, request, 423, vec![("Min-Expires".into(), "10".into())]);
    assert!(matches!(world.next(ALICE), Event::RegistrationFailed { status: 423, retry: None, .. }));
    world.settle();
}

/// With every fourth datagram lost a registration comes to be, and stays.
#[test]
fn lost_datagrams_delay_a_registration_and_do_not_end_it() {
    for seed in 1..=20 {
        let lossy = Conditions::lossy(0.25);
        let mut world = World::new(seed, lossy);
        let mut verifier = verifier();
        world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "secret"))));
        while serve(&mut world, &mut verifier).is_none() {}
        assert!(matches!(world.next(ALICE), Event::Registered { .. }), "seed {seed}");
    }
}

/// A registrar that was started anew knows nobody. Who notices is known again at once, and not when half
/// of the hour is over.
#[test]
fn a_registrar_that_has_forgotten_is_told_again_when_somebody_notices() {
    let mut world = World::perfect();
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "secret"))));
    let mut before = verifier();
    serve(&mut world, &mut before);
    assert!(serve(&mut world, &mut before).is_some());
    world.next(ALICE);
    // The new one signs its nonces with another key, and does not call those of before stale: it has never
    // seen them.
    let mut after = crosspoint_proto::sip::auth::Verifier::new(
        "example.com",
        &[crosspoint_proto::sip::auth::Algorithm::Sha256],
        [9; 32],
    );
    world.run(Duration::from_secs(60));
    world.tell(ALICE, Command::Refresh { registration: RegistrationId(1) });
    let Event::Request { request, source, .. } = world.next(BOB) else { panic!("no REGISTER") };
    let challenges = after.challenges(world.net.now(), source.remote.ip(), false);
    let headers: Vec<_> =
        challenges.iter().map(|it| ("WWW-Authenticate".to_owned(), it.to_string())).collect();
    assert!(!headers[0].1.contains("stale=true"));
    respond(&mut world, request, 401, headers);
    let Event::Request { request, message, source } = world.next(BOB) else { panic!("no REGISTER") };
    let now = world.net.now();
    assert_eq!(check(&mut after, now, &message, &source), Ok(()), "{}", world.last(ALICE, "REGISTER"));
    respond(&mut world, request, 200, vec![]);
    assert!(matches!(world.next(ALICE), Event::Registered { .. }));
}

/// While one REGISTER is under way another waits for its end.
#[test]
fn a_refresh_waits_for_the_one_before() {
    let mut world = World::perfect();
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Tcp, "secret"))));
    let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
    world.tell(ALICE, Command::Refresh { registration: RegistrationId(1) });
    world.tell(ALICE, Command::Refresh { registration: RegistrationId(1) });
    world.run(Duration::from_secs(1));
    assert_eq!(world.count(ALICE, "REGISTER"), 1);
    respond(&mut world, request, 200, vec![]);
    assert!(matches!(world.next(ALICE), Event::Registered { .. }));
    let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
    respond(&mut world, request, 200, vec![]);
    assert!(matches!(world.next(ALICE), Event::Registered { .. }));
    world.run(Duration::from_secs(60));
    assert_eq!(world.count(ALICE, "REGISTER"), 2, "one is enough");
}

/// RFC 3608 section 6.1 and RFC 3327 section 5.1.
#[test]
fn calls_go_by_the_service_route_that_the_registrar_gave() {
    let mut world = World::perfect();
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "secret"))));
    let Event::Request { request, message, .. } = world.next(BOB) else { panic!("no REGISTER") };
    assert!(message.headers.has_token(&Name::Supported, "path"));
    let given = "<sip:192.0.2.2;lr>, <sip:inner.example.com;lr>";
    respond(&mut world, request, 200, vec![("Service-Route".into(), given.into())]);
    let Event::Registered { service_route, .. } = world.next(ALICE) else { panic!("not registered") };
    assert_eq!(service_route.len(), 2);
    world.ring(Invite { routes: service_route, target: uri("sip:+4930@example.com"), ..invite(1) });
    let sent = world.last(ALICE, "INVITE sip:+4930@example.com SIP/2.0");
    let at = |text: &str| sent.find(text).unwrap_or_else(|| panic!("no {text} in {sent}"));
    assert!(at("Route: <sip:192.0.2.2;lr>") < at("Route: <sip:inner.example.com;lr>"));
}

/// A list that no request could carry is none.
#[test]
fn an_endless_service_route_is_left_out() {
    let mut world = World::perfect();
    world.tell(ALICE, Command::Register(Box::new(registration(Transport::Udp, "secret"))));
    let Event::Request { request, .. } = world.next(BOB) else { panic!("no REGISTER") };
    let given = ["<sip:192.0.2.2;lr>"; 9].join(", ");
    respond(&mut world, request, 200, vec![("Service-Route".into(), given)]);
    match world.next(ALICE) {
        Event::Registered { service_route, .. } => assert!(service_route.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// What the far end answers to the text of a request of ours.
fn reply(request: &str, status: &str, more: &str) -> String {
    let line = |name: &str| request.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let to = line("To:");
    let tag = if to.contains("tag=") { "" } else { ";tag=rogue" };
    let [via, from, call, seq] = ["Via:", "From:", "Call-ID:", "CSeq:"].map(line);
    format!("SIP/2.0 {status}\r\n{via}\r\n{from}\r\n{to}{tag}\r\n{call}\r\n{seq}\r\n{more}")
}

fn digest(realm: &str, header: &str) -> String {
    format!("{header}: Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n")
}

/// Threat 2: whoever challenges an INVITE, a REGISTER or a BYE of ours gets no digest, unless he is where the
/// account says and names the realm that it says.
#[test]
fn p43_no_digest_for_a_rogue_server_a_wrong_realm_a_wrong_source_or_a_bye() {
    const ELSEWHERE: &str = "203.0.113.9";
    let elsewhere = Account { peers: vec![ELSEWHERE.parse().unwrap()], ..account("secret") };
    // Who has no account, whose account is for another server, and whose server is asked by its name alone.
    for (account, realm) in [
        (None, "example.com"),
        (Some(elsewhere), "example.com"),
        (Some(account("secret")), "evil.example"),
        (Some(account("secret")), "EXAMPLE.COM"),
    ] {
        for (status, header) in
            [("401 Unauthorized", "WWW-Authenticate"), ("407 Proxy", "Proxy-Authenticate")]
        {
            let mut solo = Solo::new();
            let wanted = Registration { account: account.clone(), ..registration(Transport::Udp, "secret") };
            for command in [
                Command::Invite(Box::new(Invite { account: account.clone(), ..invite(1) })),
                Command::Register(Box::new(wanted)),
            ] {
                let request = solo.tell(command)[0].text.clone();
                solo.hear(reply(&request, status, &digest(realm, header)));
                solo.wait(Duration::from_secs(60));
            }
            assert!(!solo.sent.iter().any(|it| it.text.contains("uthorization:")), "{:#?}", solo.sent);
        }
    }
    // The right server lets the call through to a phone that wants to be told its password: within the call
    // requests go to the phone.
    for (contact, challenged) in [("192.0.2.2", true), (ELSEWHERE, false)] {
        let mut solo = Solo::new();
        let asked = Invite { account: Some(account("secret")), ..invite(1) };
        let request = solo.tell(Command::Invite(Box::new(asked)))[0].text.clone();
        let body = format!(
            "Contact: <sip:bob@{contact}>\r\nContent-Type: application/sdp\r\nContent-Length: 6\r\n\r\nanswer"
        );
        solo.hear(reply(&request, "200 OK", &body));
        let sent = solo.tell(Command::Hangup { call: CallId(1), reason: None });
        let bye = sent.iter().find(|it| it.text.starts_with("BYE")).expect("a BYE").clone();
        let to = bye.to.unwrap();
        assert_eq!(to.ip().to_string(), contact);
        solo.hear_from(to, reply(&bye.text, "401 Unauthorized", &digest("example.com", "WWW-Authenticate")));
        solo.wait(Duration::from_secs(60));
        let told: Vec<_> = solo.sent.iter().filter(|it| it.text.contains("uthorization:")).collect();
        assert_eq!(!told.is_empty(), challenged, "{told:#?}");
        assert!(told.iter().all(|it| it.to == Some(crate::world::address(BOB))), "{told:#?}");
    }
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
        Event::Ended { ending, .. } => assert_eq!(ending.how, How::FlowFailed),
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
