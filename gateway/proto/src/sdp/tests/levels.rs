//! Levels of sound in headers (RFC 6464): who offers them, under which number, and for which way.

use super::*;

const URN: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

fn maps(sdp: &Sdp) -> Vec<String> {
    let text = text(sdp);
    let maps = text.lines().filter_map(|line| line.strip_prefix("a=extmap:"));
    maps.map(|it| it.replace(URN, "level")).collect()
}

fn answered_levels(lines: &str) -> Option<AgreedLevels> {
    let mut us = plain();
    let offer = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(maps(&offer), ["1 level vad=off"]);
    us.receive_answer(&body(&lines.replace("LEVEL", URN))).unwrap()[0].levels
}

fn offered(lines: &str) -> (Vec<String>, Option<AgreedLevels>) {
    let mut us = plain();
    us.receive_offer(&body(&lines.replace("LEVEL", URN))).unwrap();
    let (sdp, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    (maps(&sdp), agreed[0].levels)
}

#[test]
fn what_we_offer_is_agreed_as_far_as_the_answer_takes_it() {
    let levels = |send, receive| Some(AgreedLevels { id: 1, send, receive });
    for (map, expected) in [
        ("a=extmap:1 LEVEL\n", levels(true, true)),
        ("a=extmap:1/sendrecv LEVEL vad=on\n", levels(true, true)),
        ("a=extmap:1/sendonly LEVEL\n", levels(false, true)),
        ("a=extmap:1/recvonly LEVEL\n", levels(true, false)),
        ("a=extmap:1/inactive LEVEL\n", None),
        ("", None),
        // Another number than was offered means something else.
        ("a=extmap:2 LEVEL\n", None),
        ("a=extmap:1 LEVEL\na=extmap:1 urn:x\n", None),
        ("a=extmap:1 urn:x\n", None),
        ("a=extmap:x LEVEL\n", None),
    ] {
        assert_eq!(answered_levels(&format!("m=audio 5000 RTP/AVP 0\n{map}")), expected, "{map}");
    }
}

#[test]
fn an_offer_is_answered_under_its_number_with_the_way_turned_round() {
    let levels = |id, send, receive| Some(AgreedLevels { id, send, receive });
    for (map, answer, expected) in [
        ("a=extmap:5 LEVEL vad=on", vec!["5 level vad=off"], levels(5, true, true)),
        ("a=extmap:14/sendonly LEVEL", vec!["14/recvonly level vad=off"], levels(14, false, true)),
        (
            "a=extmap:2 urn:x\na=extmap:3/recvonly LEVEL",
            vec!["3/sendonly level vad=off"],
            levels(3, true, false),
        ),
        ("a=extmap:4/inactive LEVEL", vec!["4/inactive level vad=off"], None),
        // Numbers that need two bytes, or are there to be chosen from (RFC 8285 sections 4.3 and 7).
        ("a=extmap:15 LEVEL", vec![], None),
        ("a=extmap:4100 LEVEL", vec![], None),
        ("a=extmap:0 LEVEL", vec![], None),
        ("a=extmap:2 urn:x", vec![], None),
    ] {
        assert_eq!(
            offered(&format!("m=audio 5000 RTP/AVP 0\n{map}\n")),
            (answer.iter().map(|it| (*it).to_owned()).collect(), expected),
            "{map}"
        );
    }
    let (answer, levels) = offered("a=extmap:6 LEVEL\nm=audio 5000 RTP/AVP 0\n");
    assert_eq!(
        (answer, levels.map(|it| it.id)),
        (vec!["6 level vad=off".to_owned()], Some(6)),
        "for all lines"
    );
}

#[test]
fn a_number_that_the_peer_uses_for_something_else_is_not_taken() {
    let offered_anew = |lines: &str| {
        let mut us = plain();
        us.receive_offer(&body(lines)).unwrap();
        us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
        maps(&us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap())
    };
    let line = "m=audio 5000 RTP/AVP 0\n";
    assert_eq!(offered_anew(&format!("{line}a=extmap:2 urn:x\n")), ["1 level vad=off"]);
    assert_eq!(offered_anew(&format!("{line}a=extmap:1 urn:x\na=extmap:3 urn:y\n")), ["2 level vad=off"]);
    assert_eq!(offered_anew(&format!("a=extmap:1 urn:x\n{line}")), ["2 level vad=off"], "of the session");
    let all: String = (1..=14).map(|id| format!("a=extmap:{id} urn:x\n")).collect();
    assert_eq!(offered_anew(&format!("{line}{all}")), Vec::<String>::new(), "none is free");
    // An answer may say so too, and what it said stays so when nobody repeats it.
    let mut us = plain();
    us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    us.receive_answer(&body(&format!("{line}a=extmap:1 urn:x\n"))).unwrap();
    for _ in 0..2 {
        let offer = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
        assert_eq!(maps(&offer), ["2 level vad=off"]);
        us.receive_answer(&body(line)).unwrap();
    }
}

#[test]
fn a_number_stays_what_it_was_when_we_offer_anew_and_pictures_have_none() {
    let mut us = plain();
    us.receive_offer(&body(&format!("m=audio 5000 RTP/AVP 0\na=extmap:9 {URN}\n"))).unwrap();
    us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    let offer = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(maps(&offer), ["9 level vad=off"]);
    let pictures = of(vec![entry(MediaKind::Main, &[cbp(PacketizationMode::SingleNal)])]);
    assert_eq!(maps(&plain().create_offer(&pictures, &local(4000)).unwrap()), Vec::<String>::new());
}
