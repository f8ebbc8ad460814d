//! How the program ends: on a signal and by command, with calls and without (promise 21).
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crosspoint_proto::sip::Name;
use support::call::StandingCall;
use support::gateway::Gateway;
use support::register::Registering;
use support::web::{Client, Web};
use support::{Scratch, free_port, program, wait_for};

/// What the end may take beside the time that calls have.
const SLACK: Duration = Duration::from_secs(2);

/// Calls that stand; a tenth of them in CI.
fn calls() -> usize {
    std::env::var("CROSSPOINT_CALLS").map_or(5, |calls| calls.parse().unwrap())
}

/// What a caller gets who comes late, and when he may come again.
fn invite(gateway: &Gateway, n: u64) -> (u16, Option<String>) {
    let answer = support::call::invite(gateway.sip, "d0", n);
    (answer.status, answer.headers.get(&Name::RetryAfter).map(str::to_owned))
}

fn records(gateway: &Gateway) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(gateway.scratch.path().join("data/calls.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn promise_21_on_sigterm_calls_go_on_for_a_while_and_then_everybody_is_told() {
    const DRAIN: Duration = Duration::from_secs(4);
    let names: Vec<String> = (0..calls()).map(|n| format!("d{n}")).collect();
    let devices: Vec<&str> = names.iter().map(String::as_str).collect();
    let room: &[&str] = &["Room", "--alias", "room"];
    let mut gateway = Gateway::with_conferences(&devices, "", &[room]);
    let short = format!("drain = \"4s\"\n{}", gateway.config());
    gateway.set_config(&short);
    let began = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ends().code(), Some(0));
    assert!(began.elapsed() < SLACK, "without calls it ended after {:?}", began.elapsed());
    std::fs::remove_file(gateway.scratch.path().join("log")).unwrap();
    gateway.start_again();
    let standing: Vec<StandingCall> =
        names.iter().map(|name| StandingCall::new(gateway.sip, name, &format!("{name}-secret"))).collect();
    let clients: Vec<Client> =
        (0..calls() * 2 / 5).map(|n| Client::join(&gateway, "room", &format!("Client {n}"), "")).collect();
    let mut streams: Vec<_> = clients.iter().map(Client::events).collect();
    let registering = |n| Registering::new(gateway.sip, n);

    let began = Instant::now();
    gateway.signal("TERM");
    // New calls are refused at once, and told when to come again.
    wait_for("no more calls to be taken", || gateway.log().contains("no more calls").then_some(()));
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    let (status, after) = invite(&gateway, 1);
    assert_eq!(status, 503);
    let after: u64 = after.expect("Retry-After").parse().unwrap();
    assert!((5..=9).contains(&after), "Retry-After: {after}");
    let answer = Web::of(&gateway).request_token("room", "Late", "");
    assert_eq!((answer.code, answer.json()["status"].as_str()), (503, Some("failed")), "{}", answer.json());
    assert!(answer.result().as_str().unwrap().contains("restart"), "{}", answer.json());
    // Who is registered stays so, and who is in goes on.
    assert_eq!(registering(7).register("d0", "d0-secret"), Some(200));
    assert_eq!(gateway.status()["calls"].as_array().unwrap().len(), standing.len());
    assert_eq!(clients[0].post("message", r#"{"payload":"still here"}"#).0, 200);

    for stream in &mut streams {
        stream.until("disconnect");
    }
    assert!(began.elapsed() >= DRAIN, "they had {:?}", began.elapsed());
    standing.iter().for_each(StandingCall::is_hung_up);
    let status = gateway.ends();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert!(began.elapsed() < DRAIN + SLACK, "it ended after {:?}", began.elapsed());
    // Nothing is unsaved: each call has its record, and who registered is found again.
    let shut = records(&gateway).iter().filter(|it| it["reason"] == "shutdown").count();
    assert_eq!(shut, standing.len());
    gateway.start_again();
    let status = gateway.status();
    let registered = status["registrations"].as_array().unwrap();
    for name in &names {
        assert!(registered.iter().any(|it| it["alias"] == name.as_str()), "{name}: {registered:?}");
    }
}

#[test]
fn promise_21_a_second_signal_ends_within_a_second_and_the_last_call_ends_it_too() {
    let room: &[&str] = &["Room", "--alias", "room"];
    let mut gateway = Gateway::with_conferences(&["d0"], "", &[room]);
    let long = format!("drain = \"1h\"\n{}", gateway.config());
    gateway.set_config(&long);
    gateway.signal("TERM");
    gateway.ends();
    gateway.start_again();
    let call = StandingCall::new(gateway.sip, "d0", "d0-secret");
    gateway.signal("TERM");
    wait_for("no more calls to be taken", || {
        (gateway.log().matches("no more calls").count() == 2).then_some(())
    });
    assert_eq!(invite(&gateway, 1).0, 503);
    let again = Instant::now();
    gateway.signal("TERM");
    call.is_hung_up();
    assert_eq!(gateway.ends().code(), Some(0), "{}", gateway.log());
    assert!(again.elapsed() < Duration::from_secs(1), "it ended after {:?}", again.elapsed());
    assert_eq!(records(&gateway).last().unwrap()["reason"], "shutdown");

    // By command; the last who leaves ends it.
    gateway.start_again();
    let client = Client::join(&gateway, "room", "The last", "");
    let told = gateway.cli(&["stop"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("no more calls are taken") && told.contains("3600 s"), "{told}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.get("conference_status").0, 200, "it waits for him");
    let left = Instant::now();
    assert_eq!(client.post("release_token", "").0, 200);
    assert_eq!(gateway.ends().code(), Some(0), "{}", gateway.log());
    assert!(left.elapsed() < SLACK, "it ended after {:?}", left.elapsed());
    let told = gateway.cli(&["stop"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("no gateway runs"), "{told:?}");

    // Nobody is waited for by who does not want to.
    gateway.start_again();
    let call = StandingCall::new(gateway.sip, "d0", "d0-secret");
    assert!(gateway.cli(&["stop", "--now"]).status.success());
    call.is_hung_up();
    assert_eq!(gateway.ends().code(), Some(0), "{}", gateway.log());
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_ends() {
    let scratch = Scratch::new("notify");
    let socket = scratch.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let config = scratch.path().join("crosspoint.toml");
    let text = format!(
        "data = \"{}\"\n[sip]\nlisten = [\"udp:127.0.0.1:{}\"]\n[http]\nlisten = []\n[web]\nlisten = []\n",
        scratch.path().join("data").display(),
        free_port()
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_crosspoint"))
        .arg("--config")
        .arg(&config)
        .arg("run")
        .env("NOTIFY_SOCKET", &socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    program("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

/// The unit as it is shipped, but for the program, which stands elsewhere here.
#[test]
fn systemd_accepts_the_unit() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway/packaging/crosspoint.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let scratch = Scratch::new("unit");
    let copy: PathBuf = scratch.path().join("crosspoint.service");
    std::fs::write(&copy, text.replace("/usr/bin/crosspoint", env!("CARGO_BIN_EXE_crosspoint"))).unwrap();
    let verify =
        |file: &Path| program("systemd-analyze").args(["verify", "--man=no"]).arg(file).output().unwrap();
    let told = verify(&copy);
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success() && !errors.contains("crosspoint.service"), "{errors}");
    // It would see a mistake.
    std::fs::write(&copy, text.replace("ProtectSystem=strict", "ProtectSystem=very")).unwrap();
    let errors = String::from_utf8_lossy(&verify(&copy).stderr).into_owned();
    assert!(errors.contains("crosspoint.service"), "{errors}");
    // Calls have their time, and the end two seconds more.
    let stop = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    let drain = crosspoint::Config::default().drain;
    assert!(Duration::from_secs(stop.parse().unwrap()) > drain + SLACK);
}
