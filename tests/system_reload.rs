//! The configuration is read again under calls, and what is logged is changed (promise 22).
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::call::{StandingCall, invite, sdp_at};
use support::gateway::Gateway;
use support::register::Registering;
use support::wait_for;

/// How often it is read again; two hundred times in the gate.
fn reloads() -> usize {
    std::env::var("CROSSPOINT_RELOADS").map_or(20, |reloads| reloads.parse().unwrap())
}

/// Calls that stand meanwhile.
const CALLS: usize = 20;

/// Two ends of a call that send each other a packet of sound each 20 ms; the number of each is its first
/// four octets, which a relay does not touch.
struct Talking {
    _call: StandingCall,
    ends: [End; 2],
}

struct End {
    socket: UdpSocket,
    sent: u32,
    heard: HashSet<u32>,
}

impl Talking {
    fn new(gateway: &Gateway, user: &str) -> Self {
        let sockets = [(); 2].map(|()| {
            let socket = UdpSocket::bind(("127.0.0.1", support::free_port())).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let [one, other] = [0_usize, 1].map(|at| sdp_at(sockets[at].local_addr().unwrap().port(), 8));
        let (call, told) = StandingCall::with(gateway.sip, user, &format!("{user}-secret"), [&one, &other]);
        for (socket, sdp) in sockets.iter().zip(told) {
            let audio = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
            let port: u16 = audio.split(' ').next().unwrap().parse().unwrap();
            socket.connect(("127.0.0.1", port)).unwrap();
        }
        let ends = sockets.map(|socket| End { socket, sent: 0, heard: HashSet::new() });
        Self { _call: call, ends }
    }

    fn say(&mut self) {
        for end in &mut self.ends {
            let mut packet = vec![0x80, 8];
            packet.extend((end.sent as u16).to_be_bytes());
            packet.extend((end.sent * 160).to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            packet.extend(end.sent.to_be_bytes());
            packet.extend([0xD5; 156]);
            // A port that is not ready yet refuses the one before.
            let _ = end.socket.send(&packet);
            end.sent += 1;
        }
        self.listen();
    }

    fn listen(&mut self) {
        let mut packet = [0; 2048];
        for end in &mut self.ends {
            while let Ok(len) = end.socket.recv(&mut packet) {
                // RTCP comes to a port of its own.
                if len == 172 {
                    end.heard.insert(u32::from_be_bytes(packet[12..16].try_into().unwrap()));
                }
            }
        }
    }

    /// Packets from `first` on that did not arrive at the other end.
    fn missing(&self, first: u32) -> usize {
        let one = |from: &End, to: &End| (first..from.sent).filter(|it| !to.heard.contains(it)).count();
        one(&self.ends[0], &self.ends[1]) + one(&self.ends[1], &self.ends[0])
    }
}

/// Talks on a thread of its own until it is told to stop; which packet was the first that counts.
fn talk(
    mut calls: Vec<Talking>,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
) -> std::thread::JoinHandle<(Vec<Talking>, u32)> {
    std::thread::spawn(move || {
        let mut next = Instant::now();
        let mut first = None;
        while !stop.load(Ordering::Relaxed) {
            calls.iter_mut().for_each(Talking::say);
            rounds.fetch_add(1, Ordering::Relaxed);
            let all = || calls.iter().flat_map(|call| &call.ends);
            if first.is_none() && all().all(|end| end.heard.len() >= 5) {
                first = all().map(|end| end.sent).max();
            }
            next += Duration::from_millis(20);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        for _ in 0..25 {
            std::thread::sleep(Duration::from_millis(20));
            calls.iter_mut().for_each(Talking::listen);
        }
        (calls, first.expect("everybody hears the other"))
    })
}

#[test]
fn promise_22_reloads_drop_no_call_and_no_packet_and_a_wrong_file_changes_nothing() {
    let names: Vec<String> = (0..CALLS).map(|n| format!("d{n}")).collect();
    let devices: Vec<&str> = names.iter().map(String::as_str).collect();
    let gateway = Gateway::start(&devices, "");
    let base = gateway.config();
    let talking: Vec<Talking> = names.iter().map(|name| Talking::new(&gateway, name)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicUsize::new(0));
    let talk = talk(talking, stop.clone(), rounds.clone());
    for n in 0..reloads() {
        // Each falls between other packets.
        wait_for("everybody to talk", || (rounds.load(Ordering::Relaxed) > 3 * n).then_some(()));
        let valid = n % 2 == 0;
        let more = format!(
            "[[devices]]\nalias = \"new{n}\"\nusername = \"new{n}\"\npassword = \"new-secret\"\n\
             [[rules]]\nname = \"r{n}\"\npriority = 7\nmatch = \"x{n}\"\nproxy = \"192.0.2.1\"\n\
             [limits]\ncalls = {}\n[log]\nlevel = \"{}\"\n",
            if n % 4 == 0 { CALLS } else { 1000 },
            if n % 4 == 0 { "debug" } else { "info" },
        );
        let wrong = if valid { "" } else { "[[devices]]\nalias = \"more\"\npassword = 5\n" };
        gateway.set_config(&format!("{base}{more}{wrong}"));
        let (code, told) = gateway.order("/process/reload", "");
        if valid {
            assert_eq!(code, 200, "{told}");
            let changed = json!(["devices", "limits.calls", "log.level", "rules"]);
            assert_eq!(told, json!({ "changed": changed, "restart": [] }));
            let mut new = Registering::new(gateway.sip, 100 + n as u64);
            assert_eq!(new.register(&format!("new{n}"), "new-secret"), Some(200));
        } else {
            let told = told["error"]["message"].as_str().unwrap();
            assert_eq!(code, 409, "{told}");
            assert!(
                told.contains("crosspoint.toml, line ") && told.contains("].password: is a number"),
                "{told}"
            );
        }
        // Of a wrong file nothing is taken.
        assert_eq!(gateway.status()["devices"], CALLS + 1, "after {n}");
    }
    stop.store(true, Ordering::Relaxed);
    let (calls, first) = talk.join().unwrap();
    let missing: usize = calls.iter().map(|call| call.missing(first)).sum();
    let sent: u32 = calls.iter().flat_map(|call| &call.ends).map(|end| end.sent - first).sum();
    println!("{sent} packets, {missing} of them missing");
    assert!(sent as usize > CALLS * 2 * 25, "{sent} packets are too few to prove anything");
    assert_eq!(missing, 0, "of {sent} packets");
    let status = gateway.status();
    assert_eq!(status["calls"].as_array().unwrap().len(), CALLS);
}

#[test]
fn promise_22_what_needs_a_restart_is_named_and_a_signal_does_the_same() {
    let mut gateway = Gateway::start(&["alice"], "");
    let base = gateway.config();
    let told = |gateway: &Gateway| {
        let told = gateway.cli(&["reload"]);
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).unwrap()
    };
    assert_eq!(told(&gateway), "nothing that can change at once is another\n");
    assert_eq!(invite(gateway.sip, "alice", 1).status, 480);
    // Another realm waits; whom strangers may call does not.
    gateway.set_config(&base.replace("[sip]\n", "[sip]\nrealm = \"other\"\nstrangers = \"refused\"\n"));
    assert_eq!(told(&gateway), "changed: sip.strangers\nafter a restart: sip.realm\n");
    assert_eq!(told(&gateway), "nothing that can change at once is another\nafter a restart: sip.realm\n");
    assert_eq!(invite(gateway.sip, "alice", 2).status, 401);
    gateway.set_config(&format!("{base}[limits]\ncalls = 0\n"));
    let wrong = gateway.cli(&["reload"]);
    let error = String::from_utf8_lossy(&wrong.stderr);
    assert!(!wrong.status.success() && error.contains(", limits.calls: 0 is out of range"), "{error}");
    // By SIGHUP, where the log is told.
    gateway.set_config(&format!("{base}[limits]\ncalls = 0\n"));
    gateway.signal("HUP");
    wait_for("the fault to be logged", || gateway.log().contains("limits.calls: ").then_some(()));
    gateway.set_config(&format!("drain = \"5s\"\n{base}"));
    gateway.signal("HUP");
    wait_for("it to be taken", || gateway.log().contains("changed: drain, sip.strangers").then_some(()));
    // A file that is gone is a fault like another.
    std::fs::remove_file(gateway.scratch.path().join("crosspoint.toml")).unwrap();
    gateway.signal("HUP");
    wait_for("the file to be missed", || gateway.log().contains("cannot read").then_some(()));
    gateway.set_config(&base);

    // What is logged, until the next start.
    let log = |gateway: &Gateway, what: &[&str]| {
        let told = gateway.cli(&[&["log"], what].concat());
        (told.status.success(), String::from_utf8([told.stdout, told.stderr].concat()).unwrap())
    };
    assert_eq!(log(&gateway, &[]), (true, "info\n".into()));
    assert_eq!(
        log(&gateway, &["crosspoint_gateway::admission=debug"]),
        (true, "info,crosspoint_gateway::admission=debug\n".into())
    );
    let (done, told) = log(&gateway, &["loud"]);
    assert!(!done && told.contains("filter: \"loud\" is no level"), "{told}");
    assert_eq!(log(&gateway, &["debug"]), (true, "debug\n".into()));
    let mut alice = Registering::new(gateway.sip, 3);
    for _ in 0..2 {
        assert_eq!(alice.register("alice", "alice-secret"), Some(200));
    }
    wait_for("a line of that level", || gateway.log().contains("DEBUG registration refreshed").then_some(()));
    assert_eq!(log(&gateway, &["default"]), (true, "info\n".into()));
    gateway.signal("TERM");
    gateway.ends();
    gateway.start_again();
    assert_eq!(log(&gateway, &[]), (true, "info\n".into()));
}
