//! Real softphones in a room: who hears whom, PINs by keypad, the lock, pictures of all.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::baresip::{Account, Baresip};
use support::gateway::{Device, Gateway};
use support::room::{add_room, colour, dial_room, hears, level, routes};
use support::web::Client;
use support::{Scratch, fixture, program, wait_for};

const PCMA: &str = "PCMA/8000/1";

#[test]
fn s1_everybody_in_a_room_hears_all_others_and_not_himself() {
    const CODECS: [&str; 4] = ["opus/48000/2", "G722/16000/1", "PCMU/8000/1", PCMA];
    let names = ["ann", "ben", "cat", "dan", "eve", "fay"];
    let tones = [440, 620, 830, 1_060, 1_310, 1_580];
    let gateway = Gateway::start(&names, "");
    add_room(&gateway, &["--talkers", "all"]);
    let mut phones: Vec<_> = names
        .iter()
        .zip(tones)
        .enumerate()
        .map(|(n, (name, tone))| Baresip::start(Account::new(name, CODECS[n % 4], tone), gateway.sip))
        .collect();
    phones.iter_mut().for_each(|phone| dial_room(&gateway, phone));
    wait_for("six in the mix", || (routes(&gateway, "audio") == ["mix"; 6]).then_some(()));
    std::thread::sleep(Duration::from_secs(6));
    phones.iter_mut().for_each(Baresip::hang_up);
    phones.iter().for_each(|phone| drop(phone.event("CALL_CLOSED")));
    for (own, phone) in phones.iter().enumerate() {
        let heard = phone.heard();
        let second = heard.rate as usize;
        // The last seconds but for the very end, when others hang up.
        let end = heard.samples.len() - second / 2;
        let body = &heard.samples[end - 3 * second..end];
        let levels: Vec<f64> = tones.iter().map(|tone| level(body, heard.rate, f64::from(*tone))).collect();
        for (other, found) in levels.iter().enumerate().filter(|(other, _)| *other != own) {
            assert!(*found > -45.0, "{} does not hear {}: {levels:.0?}", names[own], names[other]);
        }
        assert!(levels[own] < -60.0, "{} hears himself: {levels:.0?}", names[own]);
    }
}

/// Two of three tell how loud each packet is (RFC 6464), one of them nothing but silence.
#[test]
fn telephones_that_tell_how_loud_they_are_are_heard_and_told_as_others_are() {
    let gateway = Gateway::start(&["ann", "ben", "cat"], "");
    add_room(&gateway, &[]);
    let telling = |name, tone| Account { levels: true, ..Account::new(name, "opus/48000/2", tone) };
    let accounts = [telling("ann", 440), telling("ben", 0), Account::new("cat", PCMA, 840)];
    let mut phones = accounts.map(|account| Baresip::start(account, gateway.sip));
    phones.iter_mut().for_each(|phone| dial_room(&gateway, phone));
    wait_for("three in the mix", || (routes(&gateway, "audio") == ["mix"; 3]).then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    phones.iter_mut().for_each(Baresip::hang_up);
    phones.iter().for_each(|phone| drop(phone.event("CALL_CLOSED")));
    let agreed =
        |phone: &Baresip| phone.log().contains("urn:ietf:params:rtp-hdrext:ssrc-audio-level vad=off");
    assert_eq!(phones.each_ref().map(agreed), [true, true, false]);
    for (phone, [ann, cat]) in phones.iter().zip([[false, true], [true, true], [true, false]]) {
        let heard = phone.heard();
        let second = heard.rate as usize;
        let end = heard.samples.len() - second / 2;
        let body = &heard.samples[end - 2 * second..end];
        for (tone, expected) in [(440.0, ann), (840.0, cat)] {
            let found = level(body, heard.rate, tone);
            let right = if expected { found > -45.0 } else { found < -60.0 };
            assert!(right, "{} hears {tone} Hz at {found:.0} dB", phone.account.user);
        }
    }
}

#[test]
fn s22_to_s29_pins_by_keypad_the_lock_and_the_end() {
    let names = ["host", "guest", "late", "wrong"];
    let gateway = Gateway::start(&names, "");
    add_room(&gateway, &["--host-pin", "2468"]);
    let start = |n: usize| Baresip::start(Account::new(names[n], PCMA, 440 + 200 * n as u32), gateway.sip);
    let [mut host, mut guest, mut late, mut wrong] = [0, 1, 2, 3].map(start);
    let keys = |phone: &mut Baresip, keys: &str| {
        for key in keys.chars() {
            phone.command("sndcode", &key.to_string());
            std::thread::sleep(Duration::from_millis(350));
        }
    };
    // S20: the guest waits for the host.
    dial_room(&gateway, &mut guest);
    keys(&mut guest, "#");
    dial_room(&gateway, &mut host);
    wait_for("both at prompts", || (routes(&gateway, "audio") == ["play"; 2]).then_some(()));
    keys(&mut host, "2468#");
    wait_for("both in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    // S27: it is locked by keypad, and a guest who comes waits.
    keys(&mut host, "*7");
    dial_room(&gateway, &mut late);
    keys(&mut late, "#");
    std::thread::sleep(Duration::from_secs(5));
    let words = routes(&gateway, "audio");
    assert_eq!(words.iter().filter(|word| *word == "mix").count(), 2, "{words:?}");
    // S28: unlocked, he is in.
    keys(&mut host, "*7");
    wait_for("three in the mix", || (routes(&gateway, "audio") == ["mix"; 3]).then_some(()));
    // S22: three wrong PINs end a call, and no other.
    dial_room(&gateway, &mut wrong);
    keys(&mut wrong, "1111#2222#3333#");
    wrong.event("CALL_CLOSED");
    assert_eq!(routes(&gateway, "audio"), ["mix"; 3]);
    // ## of the host ends it for all.
    keys(&mut host, "##");
    for phone in [&host, &guest, &late] {
        phone.event("CALL_CLOSED");
    }
    let heard = guest.heard();
    let second = heard.rate as usize;
    let loudest = heard.samples.windows(second).step_by(second).map(|part| level(part, heard.rate, 440.0));
    let loudest = loudest.fold(f64::NEG_INFINITY, f64::max);
    assert!(loudest > -45.0, "the guest heard the host's tone at {loudest:.0} dB");
}

#[test]
fn prompts_are_replaced_by_files() {
    let prompts = Scratch::new("prompts");
    let folder = prompts.path().join("de");
    std::fs::create_dir(&folder).unwrap();
    let built_in = std::fs::read_dir("gateway/prompts/en").unwrap();
    for file in built_in {
        let file = file.unwrap().path();
        // Who speaks no German hears a tone.
        let tone = if file.ends_with("enter-pin-or-hash.wav") {
            "sine=frequency=930:duration=4"
        } else {
            "sine=3000:duration=1"
        };
        let output = program("ffmpeg")
            .args(["-loglevel", "error", "-f", "lavfi", "-i", tone, "-ar", "16000"])
            .arg(folder.join(file.file_name().unwrap()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let more = format!("[conference]\nlanguage = \"de\"\nprompts = {:?}", prompts.path());
    let ann = Device { name: "ann", more: String::new() };
    let room: &[&str] = &["Alice's room", "--alias", "meet.alice", "--host-pin", "2468"];
    let gateway = Gateway::with_sections(&[ann], &more, "", "", &[room]);
    let mut phone = Baresip::start(Account::new("ann", PCMA, 440), gateway.sip);
    dial_room(&gateway, &mut phone);
    hears(&phone, 930);
}

#[test]
fn s33_s36_s79_a_host_adds_a_telephone_by_a_rule_and_sees_why_others_are_not_reached() {
    let phone = |name: &str, tone, answer| {
        let account = Account { answer, ..Account::new(name, PCMA, tone) };
        Baresip::start_unregistered(account, None)
    };
    let (ann, mut rude, deaf) =
        (phone("ann", 440, "auto"), phone("rude", 0, "manual"), phone("deaf", 0, "manual"));
    let rule = |priority, phone: &Baresip| {
        format!(
            "[[rules]]\nname = \"to {user}\"\npriority = {priority}\nmatch = '{user}'\nfrom = 'meet.alice'\n\
             conferences = true\nproxy = \"127.0.0.1:{port}\"\n",
            user = phone.account.user,
            port = phone.port
        )
    };
    let rules = [rule(1, &ann), rule(2, &rude), rule(3, &deaf)].concat();
    let ben = Device { name: "ben", more: String::new() };
    // Known from the start: who asks for a room before there is one is taken for a guesser.
    let room: &[&str] = &["Alice's room", "--alias", "meet.alice", "--host-pin", "2468"];
    let gateway = Gateway::with_sections(&[ben], &rules, "ring_timeout = \"4s\"", "", &[room]);
    let host = Client::join(&gateway, "meet.alice", "Alice", "2468");
    let mut ben = Baresip::start(Account::new("ben", PCMA, 620), gateway.sip);
    dial_room(&gateway, &mut ben);
    ben.command("sndcode", "#");
    wait_for("ben in the mix", || (routes(&gateway, "audio") == ["mix"]).then_some(()));
    let mut events = host.events();
    events.until("stage");
    let dial = |body: Value| host.post("dial", &body.to_string());
    // Nobody is called without a rule.
    let (code, why) = dial(json!({ "destination": "sip:+4930123456@carrier.example" }));
    assert!(code == 403 && why.as_str().unwrap().contains("no rule lets conferences call there"), "{why}");
    // S33, S36: a telephone with a role, and keys once it has answered.
    let (code, uuids) = dial(json!({ "destination": "ann", "role": "GUEST", "dtmf_sequence": ",4#" }));
    assert_eq!(code, 200, "{uuids}");
    let rings = events.until_that("participant_create", |it| it["uuid"] == uuids[0]);
    assert_eq!((&rings["service_type"], &rings["call_direction"]), (&json!("connecting"), &json!("out")));
    let in_it = |it: &Value| it["uuid"] == uuids[0] && it["service_type"] == "conference";
    let there = events.until_that("participant_update", in_it);
    assert_eq!((&there["role"], &there["is_audio_only_call"]), (&json!("guest"), &json!("YES")));
    for key in ["4", "#"] {
        assert_eq!(ann.event("CALL_DTMF_START")["param"], key);
    }
    wait_for("both in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
    std::thread::sleep(Duration::from_secs(4));
    // S79.
    let not_reached = |events: &mut support::web::Events, name: &str, act: &mut dyn FnMut()| {
        let (code, uuids) = dial(json!({ "destination": name }));
        assert_eq!(code, 200, "{uuids}");
        act();
        let why = |it: &Value| it["uuid"] == uuids[0] && !it["disconnect_reason"].is_null();
        let last = events.until_that("participant_update", why);
        events.until_that("participant_delete", |it| it["uuid"] == uuids[0]);
        last["disconnect_reason"].as_str().unwrap().to_owned()
    };
    let refuse = &mut || {
        rude.event("CALL_INCOMING");
        rude.hang_up();
    };
    assert_eq!(not_reached(&mut events, "rude", refuse), "The called party is busy");
    assert_eq!(not_reached(&mut events, "deaf", &mut || ()), "Nobody answered");
    deaf.event("CALL_CLOSED");
    let disconnect = format!("participants/{}/disconnect", uuids[0].as_str().unwrap());
    assert_eq!(host.post(&disconnect, ""), (200, json!(true)));
    ann.event("CALL_CLOSED");
    ben.hang_up();
    ben.event("CALL_CLOSED");
    for (phone, other) in [(&ann, 620.0), (&ben, 440.0)] {
        let heard = phone.heard();
        let second = heard.rate as usize;
        let loudest =
            heard.samples.windows(second).step_by(second / 2).map(|part| level(part, heard.rate, other));
        let loudest = loudest.fold(f64::NEG_INFINITY, f64::max);
        assert!(loudest > -45.0, "{} hears the other at {loudest:.0} dB", phone.account.user);
    }
    let records = std::fs::read_to_string(gateway.scratch.path().join("data/calls.jsonl")).unwrap();
    for (called, reason) in [("rude", "busy"), ("deaf", "no-answer"), ("ann", "hangup")] {
        let of = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let record = records.lines().map(of).find(|it| it["called"] == called).expect(called);
        assert_eq!((&record["reason"], &record["caller"]), (&json!(reason), &json!("meet.alice")));
        assert_eq!(record["rule"], format!("to {called}"));
    }
}

#[test]
fn s42_s46_a_video_phone_sees_slides_in_its_picture_unless_it_is_kept_from_them() {
    let gateway = Gateway::with_conferences(&["ann"], "", &[&["Alice's room", "--alias", "meet.alice"]]);
    let account = Account { video: "all", fps: 15, ..Account::new("ann", "PCMU/8000/1", 0) };
    let mut ann = Baresip::start(account, gateway.sip);
    dial_room(&gateway, &mut ann);
    wait_for("a picture", || (routes(&gateway, "main") == ["compose"]).then_some(()));
    let alice = Client::join(&gateway, "meet.alice", "Alice", "");
    let anns = alice.sees("ann")["uuid"].as_str().unwrap().to_owned();
    // She is alone but for Alice, who has no pictures: slides are all that she sees.
    let fields = [("1/8", "1/8", [255, 0, 0]), ("5/8", "1/8", [0, 255, 0]), ("1/8", "5/8", [0, 0, 255])];
    let looks = |phone: &mut Baresip, wanted: bool| {
        wait_for(if wanted { "slides" } else { "no slides" }, || {
            let png = phone.snapshot("seen.png");
            let shown = fields.iter().filter(|(x, y, wanted)| {
                let seen = colour(&png, &format!("iw/4:ih/4:iw*{x}:ih*{y}"));
                seen.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) < 50)
            });
            (shown.count() == if wanted { 3 } else { 0 }).then_some(())
        });
    };
    looks(&mut ann, false);
    assert_eq!(alice.post(&format!("participants/{}/take_floor", alice.uuid), "").0, 200);
    assert_eq!(alice.upload(&std::fs::read(fixture("stills/fields.jpeg")).unwrap()), (200, json!(true)));
    looks(&mut ann, true);
    let star_4 = |phone: &mut Baresip| {
        for key in ["*", "4"] {
            phone.command("sndcode", key);
            std::thread::sleep(Duration::from_millis(350));
        }
    };
    star_4(&mut ann);
    looks(&mut ann, false);
    star_4(&mut ann);
    looks(&mut ann, true);
    for (command, seen) in [("denyrxpresentation", false), ("allowrxpresentation", true)] {
        assert_eq!(alice.post(&format!("participants/{anns}/{command}"), ""), (200, json!(true)));
        looks(&mut ann, seen);
    }
    let floor = format!("participants/{}/release_floor", alice.uuid);
    assert_eq!(alice.post(&floor, ""), (200, Value::Null));
    looks(&mut ann, false);
}

#[test]
fn three_with_pictures_see_the_two_others() {
    let names = ["red", "green", "blue"];
    let gateway = Gateway::start(&names, "");
    add_room(&gateway, &[]);
    let account = |n: usize| Account {
        video: "all",
        fps: 15,
        // One of them talks: his picture is the large one.
        ..Account::new(names[n], "PCMU/8000/1", if n == 0 { 500 } else { 0 })
    };
    let mut phones = [0, 1, 2].map(|n| Baresip::start(account(n), gateway.sip));
    for (phone, name) in phones.iter_mut().zip(names) {
        dial_room(&gateway, phone);
        phone.command("avfilter", &format!("drawbox=x=0:y=0:w=iw:h=ih:color={name}:t=fill"));
    }
    wait_for("three pictures", || (routes(&gateway, "main") == ["compose"; 3]).then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    let close = |seen: [u8; 3], wanted: [u8; 3]| seen.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 70);
    let colours = [[255, 0, 0], [0, 128, 0], [0, 0, 255]];
    for own in 0..3 {
        let png = phones[own].snapshot("seen.png");
        // 1:7 of two: the large one, and the other beside it or below.
        let main = colour(&png, "iw/8:ih/8:iw/4:ih/3");
        assert!(!close(main, colours[own]), "{} sees himself: {main:?}", names[own]);
        let shown = colours.iter().position(|wanted| close(main, *wanted));
        assert!(shown.is_some(), "{} sees nobody large: {main:?}", names[own]);
        if own != 0 {
            assert_eq!(shown, Some(0), "{} does not see who talks", names[own]);
        }
        // And the third in the middle of what is left beside the large one.
        let third = (0..3).find(|n| *n != own && Some(*n) != shown).unwrap();
        let small = colour(&png, "iw/8:ih/8:iw*13/16:ih*7/16");
        assert!(
            close(small, colours[third]),
            "{} does not see {} small: {small:?}",
            names[own],
            names[third]
        );
    }
}
