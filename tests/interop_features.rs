//! What happens within a call between real softphones: hold, early media, forks, keys.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::ops::Range;
use std::time::Duration;

use crosspoint::proof::{Wav, gaps, tone};
use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::room::routes;
use support::{Scratch, fixture, free_port, program, sipp, wait_for};

const PCMA: &str = "PCMA/8000/1";

fn pair(answer: &'static str) -> (Gateway, Baresip, Baresip) {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let alice = Baresip::start(Account::new("alice", PCMA, 440), gateway.sip);
    let bob = Baresip::start(Account { answer, ..Account::new("bob", PCMA, 620) }, gateway.sip);
    (gateway, alice, bob)
}

fn dial_bob(gateway: &Gateway, alice: &mut Baresip) {
    alice.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
}

/// The part of a recording between two moments.
fn part(wav: &Wav, from: f64, to: f64) -> &[i16] {
    let at = |seconds: f64| ((seconds * f64::from(wav.rate)) as usize).min(wav.samples.len());
    &wav.samples[at(from)..at(to)]
}

#[test]
fn hold_silences_the_other_side_and_resume_brings_it_back() {
    let (gateway, mut alice, bob) = pair("auto");
    dial_bob(&gateway, &mut alice);
    alice.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_secs(3));
    alice.command("hold", "");
    let held = |gateway: &Gateway| {
        gateway.status()["calls"][0]["legs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|leg| leg["streams"][0]["direction"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    // Alice sends only, so we only receive from her and only send to Bob: it crossed.
    wait_for("the hold to cross", || (held(&gateway) == ["recvonly", "sendonly"]).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    alice.command("resume", "");
    wait_for("the resume to cross", || (held(&gateway) == ["sendrecv", "sendrecv"]).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    alice.hang_up();
    bob.event("CALL_CLOSED");
    let heard = alice.heard();
    let length = heard.samples.len() as f64 / f64::from(heard.rate);
    for (name, body) in
        [("before", part(&heard, 1.0, 2.5)), ("after", part(&heard, length - 2.0, length - 0.5))]
    {
        let found = tone(body, heard.rate);
        assert!((found.frequency - 620.0).abs() < 2.0 && found.snr > 20.0, "{name} the hold: {found:?}");
    }
    // What she recorded meanwhile is silence, or nothing at all: three seconds of tone are missing.
    let silent = gaps(&heard.samples, heard.rate, -50.0) as f64 * 0.02;
    assert!(length - silent < 8.5, "she heard {:.1} s of sound in {length:.1} s", length - silent);
}

#[test]
fn early_media_is_heard_before_the_answer() {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let scratch = Scratch::new("sipp-early");
    coded(&scratch, "tone.ulaw", 0.62, "mulaw");
    let mut callee = support::registered_sipp(&gateway, &scratch, "sipp/callee_early.xml");
    let mut alice = Baresip::start(Account::new("alice", "PCMU/8000/1", 440), gateway.sip);
    dial_bob(&gateway, &mut alice);
    wait_for("early media", || alice.log().contains("183 Session Progress").then_some(()));
    std::thread::sleep(Duration::from_millis(3_200));
    assert_eq!(gateway.status()["calls"][0]["state"], "ringing");
    let early = alice.heard();
    let found = tone(part(&early, 0.5, 2.0), early.rate);
    assert!((found.frequency - 620.0).abs() < 2.0 && found.snr > 25.0, "before the answer: {found:?}");
    alice.event("CALL_ESTABLISHED");
    alice.hang_up();
    let ended = wait_for("the callee's end", || callee.try_wait().unwrap());
    assert!(ended.success());
}

/// Eight seconds of a tone of so many kHz, as sipp plays it.
fn coded(scratch: &Scratch, name: &str, kilohertz: f64, form: &str) {
    let wav = scratch.path().join(format!("{name}.wav"));
    let samples =
        (0..8000 * 8).map(|n| (f64::from(n) * kilohertz * std::f64::consts::TAU / 8.0).sin() * 12_000.0);
    Wav { rate: 8000, samples: samples.map(|sample| sample as i16).collect() }.write(&wav).unwrap();
    let coded = program("ffmpeg")
        .args(["-loglevel", "error", "-i"])
        .arg(&wav)
        .args(["-f", form])
        .arg(scratch.path().join(name))
        .status()
        .unwrap();
    assert!(coded.success());
}

/// The called side goes over to another codec by UPDATE while it rings (RFC 3311 section 5.1), and then answers.
#[test]
fn early_media_goes_on_in_what_an_offer_before_the_answer_says() {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let scratch = Scratch::new("sipp-early-update");
    coded(&scratch, "first.ulaw", 0.62, "mulaw");
    coded(&scratch, "then.alaw", 0.84, "alaw");
    let mut callee = support::registered_sipp(&gateway, &scratch, "sipp/callee_early_update.xml");
    let mut alice = Baresip::start(Account::new("alice", "PCMU/8000/1", 440), gateway.sip);
    dial_bob(&gateway, &mut alice);
    alice.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_secs(2));
    alice.hang_up();
    let ended = wait_for("the callee's end", || callee.try_wait().unwrap());
    let heard = std::fs::read_to_string(scratch.path().join("messages.log")).unwrap_or_default();
    assert!(ended.success(), "the callee got something else:\n{heard}");
    let heard = alice.heard();
    let length = heard.samples.len() as f64 / f64::from(heard.rate);
    // The scenario changes it after 3 s.
    is_tone("alice", &heard, 0.7..1.7, 620.0);
    // Before the answer, and after it: the softphone begins anew with that.
    is_tone("alice", &heard, 4.4..5.4, 840.0);
    is_tone("alice", &heard, length - 1.2..length - 0.2, 840.0);
}

/// Both sides of a call without media, which nothing else would end: 45 s pass until each is
/// refreshed, the caller by re-INVITE, the called party by UPDATE. The scenarios check what they get.
#[test]
fn promise_13_a_session_is_refreshed_both_ways_and_an_early_answer_acknowledged() {
    let gateway = Gateway::start(&["bob"], "");
    let (caller, callee) = (Scratch::new("sipp-caller"), Scratch::new("sipp-callee"));
    let mut called = support::registered_sipp(&gateway, &callee, "sipp/callee_reliable.xml");
    let scenario = fixture("sipp/caller_reliable.xml");
    let (to, port, media) =
        (format!("127.0.0.1:{}", gateway.sip), free_port().to_string(), free_port().to_string());
    let output = sipp::run(
        caller.path(),
        &[
            to.as_str(),
            "-sf",
            scenario.to_str().unwrap(),
            "-s",
            "bob",
            "-i",
            "127.0.0.1",
            "-p",
            &port,
            "-mp",
            &media,
            "-m",
            "1",
            "-timeout",
            "80s",
            "-trace_err",
        ],
    );
    sipp::succeeded(&output, caller.path());
    let ended = wait_for("the callee's end", || called.try_wait().unwrap());
    let heard = std::fs::read_to_string(callee.path().join("messages.log")).unwrap();
    assert!(ended.success(), "the callee got something else:\n{heard}");
    assert!(heard.contains("PRACK sip:") && heard.contains("UPDATE sip:"), "{heard}");
}

/// The caller speaks IPv6, the called party IPv4: what he sends comes back to him the whole way.
#[test]
fn a_call_goes_from_ipv6_to_ipv4_and_its_media_both_ways() {
    let gateway = Gateway::with_ipv6(&["bob", "carol"]);
    let scratch = Scratch::new("sipp-six");
    let scenario = fixture("sipp/caller_six.xml");
    let (to, port, media) =
        (format!("[::1]:{}", gateway.sip), free_port().to_string(), free_port().to_string());
    for (transport, called) in [("u1", "bob"), ("t1", "carol")] {
        let phone =
            Baresip::start(Account { answer: "auto", ..Account::new(called, PCMA, 620) }, gateway.sip);
        let scenario = scenario.to_str().unwrap();
        let arguments = [
            to.as_str(),
            "-sf",
            scenario,
            "-s",
            called,
            "-i",
            "::1",
            "-p",
            &port,
            "-mi",
            "::1",
            "-mp",
            &media,
        ];
        let more = ["-t", transport, "-rtp_echo", "-m", "1", "-timeout", "30s", "-trace_err"];
        let output = sipp::run(scratch.path(), &[&arguments[..], &more[..]].concat());
        sipp::succeeded(&output, scratch.path());
        phone.event("CALL_CLOSED");
        let heard = phone.heard();
        let found = tone(part(&heard, 1.0, 2.5), heard.rate);
        assert!((found.frequency - 620.0).abs() < 2.0 && found.snr > 25.0, "{transport}: {found:?}");
    }
}

/// What a telephone was told of a REFER of its own, a status each: what was sent twice, once.
fn notified(phone: &Baresip) -> Vec<String> {
    let log = phone.log();
    let bodies = log.split("Content-Type: message/sipfrag").skip(1);
    let status = |body: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix("SIP/2.0 "))?;
        line.split(' ').next().map(str::to_owned)
    };
    let mut all: Vec<_> = bodies.filter_map(status).collect();
    all.dedup();
    all
}

/// Bob sends Alice on to Carol, by REFER; Alice's telephone learns nothing of it.
#[test]
fn a_party_that_is_sent_on_talks_to_the_new_one_and_who_sent_it_is_out() {
    let (gateway, [mut alice, mut bob, carol]) = three();
    std::thread::sleep(Duration::from_secs(2));
    bob.command("transfer", &format!("sip:carol@127.0.0.1:{}", gateway.sip));
    carol.event("CALL_ESTABLISHED");
    bob.event("CALL_CLOSED");
    std::thread::sleep(Duration::from_secs(3));
    let legs = gateway.status()["calls"][0]["legs"].as_array().unwrap().len();
    assert_eq!(legs, 2, "who sent her on is out");
    alice.hang_up();
    carol.event("CALL_CLOSED");
    assert!(!alice.log().contains("\nREFER sip:"), "{}", alice.log());
    // That it was tried, rang, and was answered.
    assert_eq!(notified(&bob), ["100", "180", "200"], "{}", bob.log());
    // Each hears the other at the end, and nobody else: one converts, for the two have no codec in common.
    first_and_then(&alice, 0.5..1.5, [620.0, 840.0]);
    is_tone("carol", &carol.heard(), 1.0..2.5, 440.0);
}

/// Bob sends Alice into the conference that Carol is in. Her telephone learns of it by an offer.
#[test]
fn a_party_that_is_sent_into_a_conference_hears_it_and_who_sent_it_is_out() {
    let gateway = Gateway::with_conferences(
        &["alice", "bob", "carol"],
        "",
        &[&["Alice's room", "--alias", "meet.alice"]],
    );
    let [mut alice, bob, mut carol] =
        [("alice", PCMA, 440), ("bob", PCMA, 620), ("carol", "PCMU/8000/1", 840)]
            .map(|(name, codec, hertz)| Baresip::start(Account::new(name, codec, hertz), gateway.sip));
    let mut bob = bob;
    let meeting = format!("sip:meet.alice@127.0.0.1:{}", gateway.sip);
    carol.dial(&meeting);
    carol.event("CALL_ESTABLISHED");
    dial_bob(&gateway, &mut alice);
    bob.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_secs(2));
    bob.command("transfer", &meeting);
    bob.event("CALL_CLOSED");
    wait_for("both in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    alice.hang_up();
    alice.event("CALL_CLOSED");
    carol.hang_up();
    carol.event("CALL_CLOSED");
    first_and_then(&alice, 0.5..1.5, [620.0, 840.0]);
    let heard = carol.heard();
    let length = heard.samples.len() as f64 / f64::from(heard.rate);
    is_tone("carol", &heard, length - 2.0..length - 0.5, 440.0);
}

/// Alice is in a conference with Carol and sends it on to Bob, by REFER: he is called, and in it instead of her.
#[test]
fn who_is_named_by_a_telephone_in_a_conference_is_called_and_takes_its_place() {
    let (gateway, [mut alice, mut bob, mut carol], meeting) = meeting();
    for phone in [&mut alice, &mut carol] {
        phone.dial(&meeting);
        phone.event("CALL_ESTABLISHED");
    }
    wait_for("both in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
    alice.command("transfer", &format!("sip:bob@127.0.0.1:{}", gateway.sip));
    bob.event("CALL_ESTABLISHED");
    alice.event("CALL_CLOSED");
    // Bob heard by Carol, once what she still hears of Alice has passed.
    std::thread::sleep(Duration::from_secs(3));
    carol.hang_up();
    carol.event("CALL_CLOSED");
    bob.hang_up();
    bob.event("CALL_CLOSED");
    // That it was tried, rang, and was answered.
    assert_eq!(notified(&alice), ["100", "180", "200"], "{}", alice.log());
    let heard = carol.heard();
    let length = heard.samples.len() as f64 / f64::from(heard.rate);
    is_tone("carol", &heard, length - 2.0..length - 0.5, 620.0);
}

/// Alice is in a conference with Carol, calls Bob, and has him take her place there, by REFER with Replaces.
#[test]
fn to_whom_a_telephone_in_a_conference_talks_is_brought_into_it_and_takes_its_place() {
    let (gateway, [mut alice, mut bob, mut carol], meeting) = meeting();
    carol.dial(&meeting);
    carol.event("CALL_ESTABLISHED");
    alice.dial(&meeting);
    alice.event("CALL_ESTABLISHED");
    wait_for("both in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
    let in_it = replaces(&alice.log());
    dial_bob(&gateway, &mut alice);
    bob.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_millis(1_500));
    alice.command("transfer", &format!("<{meeting}?Replaces={in_it}>"));
    alice.event("CALL_CLOSED");
    alice.event("CALL_CLOSED");
    wait_for("Bob in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    bob.hang_up();
    bob.event("CALL_CLOSED");
    carol.hang_up();
    carol.event("CALL_CLOSED");
    first_and_then(&bob, 0.3..1.2, [440.0, 840.0]);
}

/// Alice is in a conference with Carol and goes on at a second telephone of hers, which calls with Replaces.
#[test]
fn who_is_in_a_conference_goes_on_at_a_second_telephone_and_nobody_misses_her() {
    let (gateway, [mut alice, _bob, mut carol], meeting) = meeting();
    for phone in [&mut carol, &mut alice] {
        phone.dial(&meeting);
        phone.event("CALL_ESTABLISHED");
    }
    wait_for("both in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    let place = replaces(&alice.log()).replace("%3B", ";").replace("%3D", "=");
    let scratch = Scratch::new("sipp-replaces");
    coded(&scratch, "tone.ulaw", 0.62, "mulaw");
    let (to, port, media) =
        (format!("127.0.0.1:{}", gateway.sip), free_port().to_string(), free_port().to_string());
    let scenario = fixture("sipp/caller_replaces.xml");
    let arguments =
        [to.as_str(), "-sf", scenario.to_str().unwrap(), "-s", "meet.alice", "-key", "replaces", &place];
    let addresses = ["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", &port, "-mp", &media];
    // The digest is for the very target of the request.
    let target = format!("meet.alice@{to}");
    let more = ["-auth_uri", &target, "-m", "1", "-timeout", "30s", "-trace_err", "-trace_msg"];
    let output = std::thread::scope(|scope| {
        let second = scope.spawn(|| sipp::run(scratch.path(), &[&arguments[..], &addresses, &more].concat()));
        // Its telephone is hung up, and nobody else comes or goes.
        alice.event("CALL_CLOSED");
        wait_for("both in the mix", || (routes(&gateway, "audio") == ["mix"; 2]).then_some(()));
        wait_for("what Carol says on its way to it", || {
            let calls = gateway.status()["calls"].clone();
            let sent = calls[1]["legs"][0]["streams"][0]["packets_sent"].as_u64()?;
            (sent > 100).then_some(())
        });
        second.join().unwrap()
    });
    carol.hang_up();
    carol.event("CALL_CLOSED");
    sipp::succeeded(&output, scratch.path());
    let heard = carol.heard();
    let length = heard.samples.len() as f64 / f64::from(heard.rate);
    is_tone("carol", &heard, length - 7.5..length - 6.0, 440.0);
    is_tone("carol", &heard, length - 4.0..length - 1.5, 620.0);
    let silent = gaps(part(&heard, length - 7.5, length - 1.5), heard.rate, -50.0) as f64 * 0.02;
    assert!(silent < 0.5, "{silent:.2} s of silence between the two telephones");
}

/// Three telephones, as those of [`three`], and what reaches a conference that they can call.
fn meeting() -> (Gateway, [Baresip; 3], String) {
    let room: &[&str] = &["Alice's room", "--alias", "meet.alice"];
    let gateway = Gateway::with_conferences(&["alice", "bob", "carol"], "", &[room]);
    let phones = [("alice", PCMA, 440), ("bob", PCMA, 620), ("carol", "PCMU/8000/1", 840)];
    let phones =
        phones.map(|(name, codec, hertz)| Baresip::start(Account::new(name, codec, hertz), gateway.sip));
    let meeting = format!("sip:meet.alice@127.0.0.1:{}", gateway.sip);
    (gateway, phones, meeting)
}

/// Three telephones; Alice, of 440 Hz, talks to Bob, of 620 Hz. Carol has 840 Hz.
fn three() -> (Gateway, [Baresip; 3]) {
    let gateway = Gateway::start(&["alice", "bob", "carol"], "");
    let mut alice = Baresip::start(Account::new("alice", PCMA, 440), gateway.sip);
    let bob = Baresip::start(Account::new("bob", PCMA, 620), gateway.sip);
    let carol = Baresip::start(Account::new("carol", "PCMU/8000/1", 840), gateway.sip);
    dial_bob(&gateway, &mut alice);
    bob.event("CALL_ESTABLISHED");
    (gateway, [alice, bob, carol])
}

/// It heard one tone at first, in these seconds, and another one at the end.
fn first_and_then(phone: &Baresip, at_first: Range<f64>, [first, then]: [f64; 2]) {
    let heard = phone.heard();
    let length = heard.samples.len() as f64 / f64::from(heard.rate);
    is_tone(&phone.account.user, &heard, at_first, first);
    is_tone(&phone.account.user, &heard, length - 2.0..length - 0.5, then);
}

fn is_tone(who: &str, heard: &Wav, seconds: Range<f64>, hertz: f64) {
    let found = tone(part(heard, seconds.start, seconds.end), heard.rate);
    assert!((found.frequency - hertz).abs() < 2.0 && found.snr > 20.0, "{who}, {hertz} Hz: {found:?}");
}

/// Alice talks to Bob, asks Carol, and joins the two by REFER with Replaces. She puts nobody on hold, for
/// these softphones record nothing after that.
#[test]
fn two_calls_of_one_telephone_are_joined_and_it_is_out_of_both() {
    let (gateway, [mut alice, mut bob, carol]) = three();
    std::thread::sleep(Duration::from_millis(1_500));
    let with_bob = replaces(&alice.log());
    alice.dial(&format!("sip:carol@127.0.0.1:{}", gateway.sip));
    carol.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_millis(1_500));
    alice.command("transfer", &format!("<sip:bob@127.0.0.1:{}?Replaces={with_bob}>", gateway.sip));
    alice.event("CALL_CLOSED");
    alice.event("CALL_CLOSED");
    std::thread::sleep(Duration::from_secs(3));
    let calls = gateway.status()["calls"].clone();
    let legs: Vec<_> = calls[0]["legs"].as_array().unwrap().iter().map(|it| it["address"].clone()).collect();
    assert_eq!((calls.as_array().unwrap().len(), legs.len()), (1, 2), "{legs:?}");
    bob.hang_up();
    carol.event("CALL_CLOSED");
    // That it was tried, and that it stands.
    assert_eq!(notified(&alice), ["100", "200"], "{}", alice.log());
    first_and_then(&bob, 0.3..1.2, [440.0, 840.0]);
    first_and_then(&carol, 0.3..1.2, [440.0, 620.0]);
}

/// The last call of a softphone, as it is named in the URI of a Refer-To.
fn replaces(log: &str) -> String {
    // The first ACK is that of the challenge.
    let ack = log.rsplit("ACK sip:").next().expect("an ACK");
    let header = |name: &str| ack.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    let tag = |name: &str| header(name).split(";tag=").nth(1).unwrap();
    format!("{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}", header("Call-ID:"), tag("To:"), tag("From:"))
}

#[test]
fn two_phones_of_one_alias_ring_one_answers_the_other_stops() {
    let (gateway, mut alice, bob) = pair("manual");
    let mut other =
        Baresip::start(Account { answer: "manual", ..Account::new("bob", PCMA, 840) }, gateway.sip);
    dial_bob(&gateway, &mut alice);
    bob.event("CALL_INCOMING");
    other.event("CALL_INCOMING");
    other.command("accept", "");
    alice.event("CALL_ESTABLISHED");
    bob.event("CALL_CLOSED");
    assert!(bob.log().contains("Reason: SIP;cause=200"), "the phone that stopped was not told why");
    std::thread::sleep(Duration::from_secs(3));
    alice.hang_up();
    other.event("CALL_CLOSED");
    let heard = alice.heard();
    let found = tone(part(&heard, 1.0, 2.5), heard.rate);
    assert!((found.frequency - 840.0).abs() < 2.0 && found.snr > 25.0, "{found:?}");
}

#[test]
fn a_caller_who_hears_no_tone_from_the_callee_hears_ours() {
    let (gateway, mut alice, mut bob) = pair("manual");
    dial_bob(&gateway, &mut alice);
    bob.event("CALL_INCOMING");
    std::thread::sleep(Duration::from_secs(3));
    let heard = alice.heard();
    // One second of tone, four of silence (ITU-T E.180).
    let found = tone(part(&heard, 0.1, 0.8), heard.rate);
    assert!((found.frequency - 425.0).abs() < 2.0 && found.snr > 20.0, "{found:?}");
    bob.hang_up();
    alice.event("CALL_CLOSED");
}

#[test]
fn keys_in_the_media_reach_a_callee_that_takes_info_each_once() {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let scratch = Scratch::new("sipp-info");
    let mut callee = support::registered_sipp(&gateway, &scratch, "sipp/callee_info.xml");
    let mut alice = Baresip::start(Account::new("alice", "PCMU/8000/1", 440), gateway.sip);
    dial_bob(&gateway, &mut alice);
    alice.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_secs(1));
    for key in ["1", "2", "3"] {
        alice.command("sndcode", key);
        std::thread::sleep(Duration::from_millis(700));
    }
    alice.hang_up();
    let ended = wait_for("the callee's end", || callee.try_wait().unwrap());
    let messages = std::fs::read_to_string(scratch.path().join("messages.log")).unwrap();
    assert!(ended.success(), "{messages}");
    let keys: Vec<&str> = messages.lines().filter_map(|line| line.trim().strip_prefix("Signal=")).collect();
    assert_eq!(keys, ["1", "2", "3"]);
}
