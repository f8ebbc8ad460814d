//! Floods, scanners and replays against the whole program, beside calls that must not notice.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use support::gateway::{Device, Gateway};
use support::register::Registering;
use support::stranger::{Stranger, resident};
use support::{sipp, wait_for};

#[test]
fn promise_28_a_flood_from_one_source_gets_few_answers_and_one_ban_and_calls_notice_nothing() {
    let gateway = Gateway::start(&["uas"], "");
    let mut flooder = Stranger::at([127, 9, 9, 9], &gateway);
    let before = resident(&gateway);
    let mut flood = None;
    sipp::calls(&gateway, 10, 50, || flood = Some(flooder.flood(500, Duration::from_secs(5))));
    let flood = flood.unwrap();
    assert!(flood.sent >= 2_000, "{} sent", flood.sent);
    assert!(flood.heard.iter().all(|heard| *heard <= 20), "{:?}", flood.heard);
    assert!(flood.statuses.iter().all(|status| *status == 404), "{:?}", flood.statuses);
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown <= 64 * 1024, "{grown} KiB more");

    let banned = |gateway: &Gateway| gateway.status()["bans"].as_array().unwrap().len();
    wait_for("the ban", || (banned(&gateway) == 1).then_some(()));
    assert_eq!(gateway.log().matches("banned: ").count(), 1);
    assert!(gateway.log().matches("call refused").count() <= 2, "one line in ten seconds");
    let told = gateway.cli(&["status"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("crosspoint unban 127.9.9.9"), "{told:?}");
    flooder.patience(Duration::from_millis(500));
    assert!(flooder.ask("INVITE", "stranger", "nobody", "").is_none(), "it is not read");
    // It is lifted by hand, once.
    assert!(gateway.cli(&["unban", "127.9.9.9"]).status.success());
    assert_eq!(banned(&gateway), 0);
    let again = gateway.cli(&["unban", "127.9.9.9"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not banned: see crosspoint status"));
    flooder.patience(Duration::from_secs(2));
    assert_eq!(flooder.ask("INVITE", "stranger", "nobody", "").unwrap().status, 404);
}

#[test]
fn promise_28_a_heap_of_requests_in_one_stream_is_counted_one_by_one() {
    let gateway = Gateway::start(&[], "");
    let mut words = Stranger::at([127, 0, 0, 1], &gateway);
    let heap: String = (0..1_000).map(|_| words.request("INVITE", "stranger", "nobody", "")).collect();
    let heap = heap.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", gateway.sip)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    // It is not read to its end.
    let writing = std::thread::spawn(move || writer.write_all(heap.as_bytes()));
    let (mut heard, mut buffer, start) = (String::new(), [0; 65_536], std::time::Instant::now());
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while start.elapsed() < Duration::from_secs(5) {
        if let Ok(count) = stream.read(&mut buffer) {
            heard.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }
    let answers = heard.matches("SIP/2.0 404 ").count();
    // Sixteen, and two a second.
    assert!((16..=27).contains(&answers), "{answers} answers");
    // Others are read meanwhile.
    let asked = Stranger::at([127, 9, 9, 7], &gateway).ask("INVITE", "stranger", "nobody", "");
    assert_eq!(asked.unwrap().status, 404);
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    let _ = writing.join();
}

#[test]
fn promise_29_forged_sources_get_an_answer_each_and_leave_nothing() {
    let devices = ["uas"].map(|name| Device { name, more: String::new() });
    let gateway = Gateway::with(&devices, "");
    let before = resident(&gateway);
    let mut answered = 0;
    sipp::calls(&gateway, 10, 50, || {
        for n in 0..5_000_u32 {
            let [_, a, b, c] = (n + 1).to_be_bytes();
            let mut forged = Stranger::at([127, 100 + a, b, c], &gateway);
            if n % 50 == 0 {
                // It repeats itself as nobody does who waits for an answer.
                let text = forged.request("INVITE", "uas", "nobody", "");
                forged.send(&text);
                let first = forged.hear().expect("an answer");
                assert_eq!(first.status, 401);
                assert!(forged.octets(Duration::from_millis(20)) == 0, "one answer and no more");
                answered += 1;
            } else {
                let text = forged.request("INVITE", "uas", "nobody", "");
                forged.send(&text);
                std::thread::sleep(Duration::from_micros(500));
            }
        }
    });
    assert_eq!(answered, 100);
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown <= 64 * 1024, "{grown} KiB more");
    assert!(gateway.status()["bans"].as_array().unwrap().is_empty());
}

#[test]
fn promise_29_forged_datagrams_ban_no_device_at_the_address_that_they_name() {
    let gateway = Gateway::start(&["alice"], "");
    let mut alice = Registering::new(gateway.sip, 7);
    assert_eq!(alice.register("alice", "alice-secret"), Some(200));
    // Somebody writes alice's address on his datagrams; her port he does not know.
    let mut forger = Stranger::at([127, 0, 0, 1], &gateway);
    let flood = forger.flood(500, Duration::from_secs(6));
    wait_for("the ban", || {
        flood.sent.checked_sub(1)?;
        (gateway.status()["bans"].as_array()?.len() == 1).then_some(())
    });
    assert_eq!(alice.register("alice", "alice-secret"), Some(200), "she notices nothing");
    // Nor does who connects: forged datagrams say nothing of him.
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", gateway.sip)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let options = forger.request("OPTIONS", "bob", "alice", "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    stream.write_all(options.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SIP/2.0 200 ");
}

#[test]
fn promise_35_who_has_not_answered_gets_three_times_what_he_sent_at_most() {
    let devices = ["alice"].map(|name| Device { name, more: String::new() });
    let gateway = Gateway::with(&devices, "");
    let mut victims: Vec<_> = [
        ("INVITE", "stranger"),
        ("INVITE", "alice"),
        ("REGISTER", "alice"),
        ("REGISTER", "nobody"),
        ("OPTIONS", "stranger"),
        ("MESSAGE", "stranger"),
        ("SUBSCRIBE", "stranger"),
        ("PUBLISH", "stranger"),
        ("REFER", "stranger"),
        ("NOTIFY", "stranger"),
        ("BYE", "stranger"),
        ("CANCEL", "stranger"),
        ("UPDATE", "stranger"),
        ("PRACK", "stranger"),
        ("INFO", "stranger"),
        ("NONSENSE", "stranger"),
    ]
    .into_iter()
    .enumerate()
    .map(|(n, (method, caller))| {
        let mut victim = Stranger::at([127, 7, 7, n as u8 + 1], &gateway);
        let text = victim.request(method, caller, "nobody", "");
        victim.send(&text);
        (victim, method, text.len(), 0)
    })
    .collect();
    // Repetitions of an answer that nobody acknowledges would come at 0.5, 1.5 and 3.5 s.
    let end = std::time::Instant::now() + Duration::from_secs(4);
    while std::time::Instant::now() < end {
        for (victim, _, _, octets) in &mut victims {
            *octets += victim.octets(Duration::from_millis(10));
        }
    }
    for (_, method, sent, heard) in victims {
        assert!(heard > 0, "{method} is answered");
        assert!(heard <= 3 * sent, "{method}: {heard} octets for {sent}");
    }
}

/// One of the scanners of sipvicious, with its home in a folder of the test; what it printed.
fn scanner(gateway: &Gateway, name: &str, arguments: &[&str]) -> String {
    let target = std::path::Path::new(env!("CARGO_BIN_EXE_crosspoint")).ancestors().nth(2).unwrap();
    let program = target.join("sipvicious/bin").join(name);
    assert!(program.is_file(), "sipvicious is not installed: run `make setup-test`");
    let output = std::process::Command::new(program)
        .env("HOME", gateway.scratch.path())
        .current_dir(gateway.scratch.path())
        .args(arguments)
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&told).into_owned()
}

#[test]
fn promise_30_scanners_find_no_device_and_no_password_and_are_banned() {
    let gateway = Gateway::start(&["300"], "");
    let at = format!("udp://127.0.0.1:{}", gateway.sip);
    // They see what it is, as everybody does.
    let map = scanner(&gateway, "sipvicious_svmap", &["127.0.0.1", "-p", &gateway.sip.to_string()]);
    assert!(map.contains("Crosspoint"), "{map}");
    // By REGISTER all extensions look the same, so that the scanner gives up or finds none of them.
    let wanted = "-e100-999";
    let war = ["--force", wanted, "-m", "REGISTER", "--maximumtime=3", &at];
    let war = scanner(&gateway, "sipvicious_svwar", &war);
    assert!(!war.contains("| 300 "), "{war}");
    // By INVITE a few are told that there is no such device; then nothing is read.
    let war =
        scanner(&gateway, "sipvicious_svwar", &["--force", wanted, "--maximumtime=3", "-m", "INVITE", &at]);
    assert!(!war.contains("| 300 "), "{war}");
    assert!(war.matches("| weird").count() <= 20, "{war}");
    let crack = ["-u", "300", "-r", "1000-5999", "--maximumtime=3", &at];
    let crack = scanner(&gateway, "sipvicious_svcrack", &crack);
    assert!(crack.contains("found nothing"), "{crack}");
    wait_for("the ban", || (gateway.status()["bans"].as_array()?.len() == 1).then_some(()));
    let metrics = String::from_utf8(gateway.get("/metrics")).unwrap();
    let challenged = "crosspoint_registers_total{result=\"challenged\"} ";
    let challenged: u32 =
        metrics.lines().find_map(|line| line.strip_prefix(challenged)).unwrap().parse().unwrap();
    // Sixteen and two a second, of five thousand.
    assert!(challenged <= 60, "{challenged} were answered");
}
