//! The registrar of the whole program: rates, kills, refusals.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use crosspoint_proto::sip::{Method, Name};
use support::gateway::Gateway;
use support::register::Registering;

/// Kills in a CI run (promise 14; the release gate kills 200 times).
const KILLS: u64 = 15;

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let names: Vec<String> = (0..400).map(|n| format!("device{n}")).collect();
    let devices: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut gateway = Gateway::start(&devices, "");
    let kills = std::env::var("CROSSPOINT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let mut acknowledged = HashSet::new();
    for round in 0..kills {
        let sip = gateway.sip;
        let part: Vec<String> = names.iter().skip((round * 26 % 380) as usize).take(20).cloned().collect();
        let worker = std::thread::spawn(move || {
            let mut client = Registering::new(sip, round);
            let mut done = Vec::new();
            for name in part {
                match client.register(&name, &format!("{name}-secret")) {
                    Some(200) => done.push(format!("sip:{name}@127.0.0.1:{}", client.port())),
                    Some(other) => panic!("{name} was answered {other}"),
                    None => break,
                }
            }
            done
        });
        // A different moment each time: in the middle of a challenge, of a write, of an answer.
        std::thread::sleep(Duration::from_millis(3 + round * 7 % 40));
        gateway.kill_and_restart();
        acknowledged.extend(worker.join().unwrap());
        let status = gateway.status();
        let there: HashSet<String> = status["registrations"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|registration| registration["contacts"].as_array().unwrap())
            .map(|contact| contact["uri"].as_str().unwrap().to_owned())
            .collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
    }
    assert!(acknowledged.len() as u64 > kills, "only {} were acknowledged", acknowledged.len());
}

#[test]
fn an_unknown_alias_and_a_wrong_password_are_told_the_same() {
    let gateway = Gateway::start(&["alice"], "");
    let mut client = Registering::new(gateway.sip, 7);
    assert_eq!(client.register("alice", "wrong"), Some(401));
    assert_eq!(client.register("nobody", "wrong"), Some(401));
    assert_eq!(client.register("alice", "alice-secret"), Some(200));
    assert!(gateway.status()["registrations"].to_string().contains("alice"));
}

/// RFC 3327 sections 5.3 and 5.4: what is told in the answer is stored, and calls go by it.
#[test]
fn who_registered_through_proxies_is_called_by_them_after_a_restart_too() {
    let mut gateway = Gateway::start(&["alice"], "");
    let mut client = Registering::new(gateway.sip, 9);
    let path = format!("<sip:edge@127.0.0.1:{};lr>", client.port());
    let refused = client.register_with("alice", "alice-secret", &[(Name::Path, &path)]).unwrap();
    assert_eq!((refused.status, refused.headers.get(&Name::Unsupported)), (420, Some("path")));
    let through =
        [(Name::Supported, "path"), (Name::Path, path.as_str()), (Name::Path, "<sip:b.example;lr>")];
    let taken = client.register_with("alice", "alice-secret", &through).unwrap();
    let told: Vec<&str> = taken.headers.all(&Name::Path).collect();
    assert_eq!((taken.status, told), (200, vec![path.as_str(), "<sip:b.example;lr>"]));
    gateway.kill_and_restart();
    let server = gateway.sip;
    let caller = std::thread::spawn(move || support::call::invite(server, "alice", 1).status);
    let invite = client.asked();
    assert_eq!(invite.method, Method::Invite);
    assert!(invite.uri.to_string().starts_with("sip:alice@127.0.0.1:"), "{}", invite.uri);
    assert_eq!(invite.headers.all(&Name::Route).collect::<Vec<_>>(), [path.as_str(), "<sip:b.example;lr>"]);
    client.answer(&invite, 486);
    assert_eq!(caller.join().unwrap(), 486);
}
