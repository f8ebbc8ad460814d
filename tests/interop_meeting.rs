//! A meeting of twenty softphones with mixed codecs, one of them encrypted, in one room.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::room::{add_room, dial_room, level, routes};
use support::wait_for;
use support::web::Client;

const LEGS: usize = 20;
const CODECS: [&str; 4] = ["opus/48000/2", "G722/16000/1", "PCMU/8000/1", "PCMA/8000/1"];
/// This leg's keys come by TLS, and its sound goes by SRTP.
const ENCRYPTED: usize = 7;
const HOST: usize = 0;
/// The tones of those who come when it is locked.
const LATE: usize = LEGS;
const SHUT: usize = LEGS + 1;

/// Within what a telephone carries, and at uneven distances: twice one less another is no third.
fn tone(leg: usize) -> u32 {
    // 400 Hz, and 120 to 139 Hz more each time.
    u32::try_from(400 + 120 * leg + leg * leg).unwrap()
}

#[test]
fn twenty_legs_hear_each_other_behind_a_pin_and_a_lock() {
    let names: Vec<String> = (0..LEGS).map(|leg| format!("leg{leg:02}")).collect();
    let mut devices: Vec<&str> = names.iter().map(String::as_str).collect();
    devices.extend(["wrong", "late", "shut"]);
    let gateway = Gateway::start(&devices, "");
    add_room(&gateway, &["--talkers", "all", "--host-pin", "246810"]);
    let mut phones: Vec<_> = (0..LEGS).map(|leg| start(&gateway, &names[leg], leg)).collect();
    phones.iter_mut().for_each(|phone| enter(&gateway, phone));
    // Guests need no PIN, and wait for the host.
    for key in "246810#".chars() {
        press(&mut phones[HOST], key);
        if key == '#' {
            phones.iter_mut().skip(1).for_each(|phone| phone.command("sndcode", "#"));
        }
    }
    wait_for("twenty in the mix", || (routes(&gateway, "audio") == ["mix"; LEGS]).then_some(()));

    // S22: three tries, then the call ends.
    let mut wrong = start(&gateway, "wrong", 2);
    enter(&gateway, &mut wrong);
    "1357#135791#097531#".chars().for_each(|key| press(&mut wrong, key));
    wrong.event("CALL_CLOSED");

    // S27: locked by keypad. Who comes now waits, whether he is let in later or not.
    "*7".chars().for_each(|key| press(&mut phones[HOST], key));
    let mut late = start(&gateway, "late", LATE);
    let mut shut = start(&gateway, "shut", SHUT);
    for phone in [&mut late, &mut shut] {
        enter(&gateway, phone);
        press(phone, '#');
    }
    wait_for("two to wait", || (in_the_mix(&gateway) == [LEGS, 2]).then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    // S29: the host's client sees them, and lets one in.
    let client = Client::join(&gateway, "meet.alice", "Host's laptop", "246810");
    let waiting = client.sees("late");
    assert_eq!(waiting["service_type"], "waiting_room", "{waiting}");
    let admitted = client.post(&format!("participants/{}/unlock", waiting["uuid"].as_str().unwrap()), "");
    assert_eq!(admitted, (200, json!(true)));
    wait_for("the late one in the mix", || (in_the_mix(&gateway) == [LEGS + 1, 1]).then_some(()));
    std::thread::sleep(Duration::from_secs(5));

    let status = gateway.status();
    let encrypted = status["calls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| call["legs"][0]["streams"][0]["encrypted"] == true);
    assert_eq!(encrypted.count(), 1, "one leg of SRTP: {status}");

    for phone in phones.iter_mut().chain([&mut late, &mut shut]) {
        phone.hang_up();
    }
    for phone in phones.iter().chain([&late, &shut]) {
        phone.event("CALL_CLOSED");
    }
    for (own, phone) in phones.iter().chain([&late]).enumerate() {
        let name = &phone.account.user;
        let levels = heard(phone, 4);
        let others = (0..=LATE).filter(|leg| *leg != own).map(|leg| levels[leg]);
        let faintest = others.fold(f64::INFINITY, f64::min);
        assert!(faintest > -60.0, "{name} does not hear everybody: {levels:.0?}");
        assert!(levels[own] < faintest - 20.0, "{name} hears himself: {levels:.0?}");
        assert!(levels[SHUT] < faintest - 20.0, "{name} hears who waits: {levels:.0?}");
    }
    let levels = heard(&shut, 4);
    let loudest = levels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert!(loudest < -60.0, "who waits hears the room: {levels:.0?}");
}

/// How many are in the mix, and how many hear something else.
fn in_the_mix(gateway: &Gateway) -> [usize; 2] {
    let words = routes(gateway, "audio");
    let mixed = words.iter().filter(|word| *word == "mix").count();
    [mixed, words.len() - mixed]
}

fn start(gateway: &Gateway, name: &str, leg: usize) -> Baresip {
    let mut account = Account::new(name, CODECS[leg % CODECS.len()], tone(leg));
    // Twenty of them together leave headroom: nothing but their own tones is in the mix.
    account.loudness = 1_000.0;
    if leg == ENCRYPTED {
        (account.transport, account.encryption) = ("tls", "srtp-mand");
        return Baresip::start(account, gateway.tls);
    }
    Baresip::start(account, gateway.sip)
}

fn enter(gateway: &Gateway, phone: &mut Baresip) {
    if phone.account.transport == "tls" {
        // It adds the transport of its account by itself.
        phone.dial(&format!("sip:meet.alice@127.0.0.1:{}", gateway.tls));
        phone.event("CALL_ESTABLISHED");
        return;
    }
    dial_room(gateway, phone);
}

fn press(phone: &mut Baresip, key: char) {
    phone.command("sndcode", &key.to_string());
    std::thread::sleep(Duration::from_millis(350));
}

/// The levels of all tones in three seconds that begin so many before the end: the very end is
/// when others hang up.
fn heard(phone: &Baresip, seconds: usize) -> Vec<f64> {
    let wav = phone.heard();
    let second = usize::try_from(wav.rate).unwrap();
    let start = wav.samples.len() - seconds * second;
    let body = &wav.samples[start..start + 3 * second];
    (0..=SHUT).map(|leg| level(body, wav.rate, f64::from(tone(leg)))).collect()
}
