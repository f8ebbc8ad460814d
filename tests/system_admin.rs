//! The management API of the whole program: by hand, over `kill -9`, from the command line, and by
//! schemathesis, which holds every answer against the document.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

mod support;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::room::dial_room;
use support::wait_for;

/// Cases of each operation, and the time that all may take: CI has ninety minutes for everything.
const CASES: &str = "12";
const SECONDS: &str = "60";

/// The token that the summary showed; nothing when it showed none.
fn shown_token(gateway: &Gateway) -> Vec<String> {
    wait_for("the summary", || gateway.log().contains("\n  rules ").then_some(()));
    let log = gateway.log();
    let lines = log.lines().filter_map(|line| line.trim_start().strip_prefix("token "));
    lines.filter_map(|rest| rest.split_whitespace().next().map(str::to_owned)).collect()
}

fn ask(gateway: &Gateway, token: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    gateway.ask(token, method, path, &body.map(Value::to_string).unwrap_or_default())
}

fn printed(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = gateway.cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9_and_the_token_is_shown_once() {
    let mut gateway = Gateway::start(&["alice"], "");
    let tokens = shown_token(&gateway);
    let [token] = tokens.as_slice() else { panic!("{tokens:?}") };
    assert!(token.starts_with("crosspoint_") && token.len() == 54, "256 bits");
    let room = json!({ "name": "Meeting", "aliases": ["500"], "host_pin": "123456" });
    assert_eq!(ask(&gateway, token, "POST", "/services", Some(&room)).0, 201);
    let rule = json!({ "name": "out", "priority": 20, "match": r"\+49(\d+)", "proxy": "127.0.0.1:5999" });
    assert_eq!(ask(&gateway, token, "POST", "/rules", Some(&rule)).0, 201);
    let device = json!({ "alias": "bob", "password": "correct horse" });
    assert_eq!(ask(&gateway, token, "POST", "/devices", Some(&device)).0, 201);
    let settings = json!({ "maintenance": true });
    assert_eq!(ask(&gateway, token, "PATCH", "/settings", Some(&settings)).0, 200);
    gateway.kill_and_restart();
    wait_for("the management API", || TcpStream::connect(("127.0.0.1", gateway.http)).ok());
    assert_eq!(ask(&gateway, token, "GET", "/services/Meeting", None).1["host_pin_set"], true);
    assert_eq!(ask(&gateway, token, "GET", "/rules/out", None).0, 200);
    assert_eq!(ask(&gateway, token, "GET", "/devices/bob", None).0, 200);
    assert_eq!(ask(&gateway, token, "GET", "/settings", None).1["maintenance"], true);
    wait_for("the second summary", || (gateway.log().matches("\n  rules ").count() == 2).then_some(()));
    assert_eq!(shown_token(&gateway), *tokens, "once");
    // Secrets are in no log but for that line.
    let log = gateway.log();
    assert!(log.matches(token.as_str()).count() == 1);
    assert!(!log.contains("123456") && !log.contains("correct horse"));
}

#[test]
fn the_command_line_says_the_same_in_the_same_words() {
    let gateway = Gateway::start(&["alice"], "");
    shown_token(&gateway);
    printed(&gateway, &["conference", "add", "Meeting", "--alias", "500"]);
    let told = gateway.cli(&["conference", "lock", "Meeting"]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("no conference \"Meeting\" is in progress: see crosspoint status\n"), "{told}");
    let made = printed(&gateway, &["token", "new", "script"]);
    let token = made.lines().next().unwrap();
    wait_for("the new token", || (ask(&gateway, token, "GET", "/services", None).0 == 200).then_some(()));
    let rule = [
        "rule",
        "add",
        "out",
        "--priority",
        "20",
        "--match",
        r"\+49(\d+)",
        "--anybody",
        "--proxy",
        "127.0.0.1:5999",
    ];
    printed(&gateway, &rule);
    assert!(printed(&gateway, &["rule", "list"]).contains(r" 20  out  \+49(\d+) by 127.0.0.1:5999"));
    assert!(printed(&gateway, &["explain", "+49301234", "--from", "alice"]).contains("rule"));
    printed(&gateway, &["settings", "set", "disabled_text", "Closed"]);
    assert!(printed(&gateway, &["settings", "show"]).contains("disabled_text         Closed  (set)"));
    wait_for("the setting", || {
        let settings = ask(&gateway, token, "GET", "/settings", None).1;
        (settings["disabled_text"] == "Closed").then_some(())
    });
    assert!(printed(&gateway, &["status"]).contains("rooms     0"));
    printed(&gateway, &["rule", "remove", "out"]);
    printed(&gateway, &["token", "revoke", "script"]);
    wait_for("its end", || (ask(&gateway, token, "GET", "/services", None).0 == 401).then_some(()));
}

#[test]
fn streams_are_shown_as_they_are_and_a_call_goes_to_another_conference() {
    let conferences: [&[&str]; 2] =
        [&["Alice's room", "--alias", "meet.alice"], &["Board", "--alias", "board", "--host-pin", "2468"]];
    let gateway = Gateway::with_conferences(&["vera", "uma"], "", &conferences);
    let token = shown_token(&gateway).remove(0);
    let phones = [("vera", 440), ("uma", 620)].map(|(name, tone)| {
        let account = Account { video: "h264", ..Account::new(name, "opus/48000/2", tone) };
        let mut phone = Baresip::start(account, gateway.sip);
        dial_room(&gateway, &mut phone);
        phone
    });
    let named = |conference: &str| {
        let path = format!("/status/conferences/{conference}/participants");
        let answer = ask(&gateway, &token, "GET", &path, None).1;
        answer["participants"].as_array().into_iter().flatten().find(|it| it["name"] == "vera").cloned()
    };
    // Each way: what it is, how fast, and how large.
    let flows = |stream: &Value| {
        let is = |field: &str| stream[field].as_u64().unwrap() > 0;
        is("bitrate_received") && is("bitrate_sent") && is("packets_received")
    };
    let vera = wait_for("streams both ways", || {
        let found = named("Alice's%20room")?;
        let streams = found["streams"].as_array().unwrap();
        let seen = |it: &Value| it["resolution_received"].is_string() && it["resolution_sent"].is_string();
        (streams.len() == 2 && streams.iter().all(flows) && seen(&streams[1])).then_some(found)
    });
    let [sound, picture] = vera["streams"].as_array().unwrap().as_slice() else { panic!("{vera:#}") };
    assert_eq!((&sound["role"], &picture["role"]), (&json!("audio"), &json!("main")));
    for (stream, codec) in [(sound, "opus"), (picture, "h264")] {
        for field in ["receive", "send"] {
            let word = stream[field].as_str().unwrap().to_ascii_lowercase();
            assert!(word.contains(codec), "{field}: {stream:#}");
        }
        for field in ["loss_percent", "remote_loss_percent", "jitter_ms"] {
            assert!(
                stream[field].as_f64().is_some_and(|it| (0.0..100.0).contains(&it)),
                "{field}: {stream:#}"
            );
        }
    }
    assert_eq!(picture["resolution_received"], "640x360");
    assert_eq!((&sound["resolution_received"], &sound["resolution_sent"]), (&Value::Null, &Value::Null));
    let calls = || ask(&gateway, &token, "GET", "/status/calls", None).1["calls"].clone();
    let before = wait_for("pictures of both calls", || {
        let calls = calls();
        let sizes =
            calls.as_array()?.iter().map(|it| it["legs"][0]["streams"][1]["resolution_received"].clone());
        (sizes.collect::<Vec<_>>() == ["640x360", "640x360"]).then_some(calls)
    });
    // His call goes on elsewhere, behind a PIN that he need not know.
    let uuid = vera["uuid"].as_str().unwrap();
    let told =
        printed(&gateway, &["conference", "transfer", "Alice's room", uuid, "Board", "--role", "host"]);
    assert_eq!(told, "transfer: done\n");
    let there = wait_for("him in the other one", || named("Board").filter(|it| it["place"] == "in"));
    assert_eq!(there["role"], "host");
    assert!(named("Alice's%20room").is_none());
    let numbers =
        |calls: &Value| calls.as_array().unwrap().iter().map(|it| it["call"].clone()).collect::<Vec<_>>();
    assert_eq!(numbers(&calls()), numbers(&before));
    let told = gateway.cli(&["conference", "transfer", "Board", uuid, "Nowhere"]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(
        told.contains("conference: there is no service \"Nowhere\": see crosspoint conference list"),
        "{told}"
    );
    drop(phones);
}

#[test]
fn schemathesis_finds_nothing_to_complain_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join("schemathesis/bin/schemathesis");
    assert!(program.is_file(), "schemathesis is not installed: run `make setup-test`");
    let gateway = Gateway::start(&["alice"], "");
    let token = shown_token(&gateway).remove(0);
    let base = format!("http://127.0.0.1:{}/api/admin/v1", gateway.http);
    let run = Command::new(program)
        .current_dir(gateway.scratch.path())
        .arg("--config-file")
        .arg(root.join("tests/schemathesis/schemathesis.toml"))
        .args(["run", &format!("{base}/openapi.json"), "--url", &base])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--checks", "all", "--max-examples", CASES, "--max-time", SECONDS, "--seed", "1"])
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{told}");
    // What it did not do proves nothing.
    assert!(told.contains("Operations:"), "{told}");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
