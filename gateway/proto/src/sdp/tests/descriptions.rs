//! Reading and writing.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_codecs::format::{Direction, MediaKind};
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Sdp {
    Sdp::parse(text.replace('\n', "\r\n").as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn limit(bytes: &[u8]) -> Limit {
    match Sdp::parse(bytes) {
        Err(ParseError::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    }
}

/// What is read back after writing must be what was read at first.
fn goes_round(sdp: &Sdp) {
    let written = sdp.to_bytes();
    let again = Sdp::parse(&written).unwrap();
    assert_eq!(&again, sdp);
    assert_eq!(again.to_bytes(), written);
}

const HEAD: &str = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n";

#[test]
fn rfc_8866_section_5_example() {
    let sdp = parse(
        "v=0\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\ns=Call to John Smith\n\
         i=SDP Offer #1\nu=http://www.jdoe.example.com/home.html\ne=Jane Doe <jane@jdoe.example.com>\n\
         p=+1 617 555-6011\nc=IN IP4 198.51.100.1\nt=0 0\nm=audio 49170 RTP/AVP 0\n\
         m=audio 49180 RTP/AVP 0\nm=video 51372 RTP/AVP 99\nc=IN IP6 2001:db8::2\n\
         a=rtpmap:99 h263-1998/90000\n",
    );
    assert_eq!((sdp.origin.username.as_str(), sdp.origin.version), ("jdoe", 3_724_394_405));
    assert_eq!(sdp.media.len(), 3);
    assert_eq!(sdp.media[1].role(), Some(MediaKind::Audio));
    assert_eq!(sdp.rtp_of(&sdp.media[0]), Some("198.51.100.1:49170".parse().unwrap()));
    let video = &sdp.media[2];
    assert_eq!(sdp.rtp_of(video), Some("[2001:db8::2]:51372".parse().unwrap()));
    assert_eq!(video.payload(99).map(|it| it.encoding.as_str()), Some("h263-1998"));
    assert_eq!(sdp.direction_of(video), Direction::SendRecv);
    goes_round(&sdp);
}

#[test]
fn directions_of_session_and_line() {
    let sdp =
        parse(&format!("{HEAD}a=recvonly\nm=audio 4000 RTP/AVP 0\nm=video 4002 RTP/AVP 97\na=INACTIVE\n"));
    assert_eq!(sdp.direction_of(&sdp.media[0]), Direction::RecvOnly);
    assert_eq!(sdp.direction_of(&sdp.media[1]), Direction::Inactive);
    goes_round(&sdp);
}

#[test]
fn rtcp_address_of_rfc_3605() {
    let rtcp = |line: &str| {
        let sdp = parse(&format!("{HEAD}m=audio 49170 RTP/AVP 0\n{line}\n"));
        sdp.rtcp_of(&sdp.media[0])
    };
    let at = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
    assert_eq!(rtcp("a=rtcp:53020"), at("192.0.2.1:53020"));
    assert_eq!(rtcp("a=rtcp:53020 IN IP4 126.16.64.4"), at("126.16.64.4:53020"));
    assert_eq!(
        rtcp("a=rtcp:53020 IN IP6 2001:2345:6789:ABCD:EF01:2345:6789:ABCD"),
        at("[2001:2345:6789:abcd:ef01:2345:6789:abcd]:53020")
    );
    assert_eq!(rtcp("a=x"), at("192.0.2.1:49171"));
    assert_eq!(rtcp("a=rtcp:0"), None);
    assert_eq!(rtcp("a=rtcp:0 IN IP4 126.16.64.4"), None);
    assert_eq!(rtcp("a=rtcp:65536"), None);
    assert_eq!(rtcp("a=rtcp:184467440737095516160"), None);
    assert_eq!(rtcp("a=rtcp:53020 IN IP4 host.example"), at("192.0.2.1:49171"));
    let last = parse(&format!("{HEAD}m=audio 65535 RTP/AVP 0\n"));
    assert_eq!(last.rtcp_of(&last.media[0]), None);
}

#[test]
fn held_the_old_way_has_no_address() {
    for address in ["IN IP4 0.0.0.0", "IN IP6 ::"] {
        let sdp =
            parse(&format!("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc={address}\nm=audio 4000 RTP/AVP 0\n"));
        assert_eq!(sdp.rtp_of(&sdp.media[0]), None);
        assert!(sdp.address_of(&sdp.media[0]).is_some());
    }
}

#[test]
fn bandwidth_of_both_kinds() {
    let bits = |text: &str, video| {
        parse(&format!("{HEAD}m=video 4 RTP/AVP 97\n{text}")).media[0].bandwidth.media_bits(video)
    };
    assert_eq!(bits("b=AS:1000\n", true), Some(950_000));
    assert_eq!(bits("b=AS:64\n", false), Some(64_000));
    assert_eq!(bits("b=AS:1000\nb=TIAS:900000\n", true), Some(900_000));
    assert_eq!(bits("b=RS:0\nb=CT:128\n", true), None);
    assert_eq!(bits("b=AS:0\n", true), None);
    assert_eq!(bits("b=AS:18446744073709551615\n", true), Some(u32::MAX));
    for rate in [1, 64_000, 950_000, 4_000_000, u32::MAX] {
        assert_eq!(Bandwidth::of_media(rate).media_bits(true), Some(rate));
    }
}

#[test]
fn roles_by_content() {
    let role = |line: &str| parse(&format!("{HEAD}{line}")).media[0].role();
    assert_eq!(role("m=video 4000 RTP/AVP 97\na=content:slides\n"), Some(MediaKind::Content));
    assert_eq!(role("m=video 4000 RTP/AVP 97\na=content:alt, Slides\n"), Some(MediaKind::Content));
    assert_eq!(role("m=video 4000 RTP/AVP 97\na=content:main\n"), Some(MediaKind::Main));
    assert_eq!(role("m=application 4000 TCP/BFCP *\n"), None);
    assert_eq!(role("m=AUDIO 4000 RTP/AVP 0\n"), Some(MediaKind::Audio));
}

#[test]
fn packet_times_are_exact() {
    for (text, micros) in
        [("20", 20_000), ("2.5", 2_500), ("29", 29_000), ("0.125", 125), ("1000", 1_000_000)]
    {
        let sdp = parse(&format!("{HEAD}m=audio 4000 RTP/AVP 0\na=ptime:{text}\na=maxptime:{text}\n"));
        assert_eq!(sdp.media[0].ptime, Some(Duration::from_micros(micros)));
        assert!(String::from_utf8_lossy(&sdp.to_bytes()).contains(&format!("a=ptime:{text}\r\n")));
        goes_round(&sdp);
    }
    for text in ["0", "-20", "1e3", "NaN", "inf", "1001", "+5", ".", "20ms"] {
        let sdp = parse(&format!("{HEAD}m=audio 4000 RTP/AVP 0\na=ptime:{text}\n"));
        assert_eq!(sdp.media[0].ptime, None, "{text}");
    }
}

#[test]
fn attributes_for_later_stay_readable() {
    let sdp = parse(&format!(
        "{HEAD}a=group:BUNDLE a v\na=fingerprint:sha-256 AA:BB\nm=audio 4000 UDP/TLS/RTP/SAVPF 111\n\
         a=rtpmap:111 opus/48000/2\na=setup:actpass\na=ice-ufrag:F7gI\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\n\
         a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host\na=mid:a\na=label:11\na=end-of-candidates\n"
    ));
    let line = &sdp.media[0];
    assert_eq!(line.profile(), Some(Profile::DtlsSavpf));
    assert_eq!(sdp.attribute("fingerprint"), Some("sha-256 AA:BB"));
    assert_eq!(line.attribute("setup"), Some("actpass"));
    assert_eq!(line.attribute("ICE-UFRAG"), Some("F7gI"));
    assert_eq!(line.attribute("end-of-candidates"), Some(""));
    assert_eq!(line.label.as_deref(), Some("11"));
    goes_round(&sdp);
}

#[test]
fn known_lines_that_are_malformed_count_as_absent() {
    let sdp = parse(&format!(
        "{HEAD}m=audio 4000 RTP/AVP 96 97 0 300 x\na=rtpmap:96\na=rtpmap:97 opus\na=rtpmap:300 a/1\n\
         a=rtpmap:200 PCMA/8000\na=fmtp:\na=rtcp:x\na=rtcp-fb:\na=rtcp-fb:999 nack\na=crypto:1 X inline:y\n\
         a=rtpmap:97 /8000\na=rtpmap:97 x/0\n"
    ));
    let line = &sdp.media[0];
    assert_eq!(line.payloads.iter().map(|it| it.number).collect::<Vec<_>>(), [0]);
    assert_eq!(line.formats, ["96", "97", "0", "300", "x"]);
    assert!(line.rtcp.is_none() && line.feedback.is_empty() && line.crypto.is_empty());
    goes_round(&sdp);
}

#[test]
fn names_in_latin_1_do_not_refuse_the_call() {
    let body = b"v=0\r\no=Jos\xe9 1 1 IN IP4 192.0.2.1\r\ns=Caf\xe9\r\nc=IN IP4 192.0.2.1\r\nm=audio 4 RTP/AVP 0\r\n";
    assert_eq!(Sdp::parse(body).unwrap().media.len(), 1);
}

#[test]
fn broken_structure_is_refused() {
    for text in [
        "",
        "\r\n",
        "hello",
        "v=1\r\n",
        "v=0\r\nm=audio\r\n",
        "v=0\r\nm=audio 99999 RTP/AVP 0\r\n",
        "v=0\r\no=x\r\n",
    ] {
        assert!(matches!(Sdp::parse(text.as_bytes()), Err(ParseError::Malformed(_))), "{text:?}");
    }
}

#[test]
fn every_limit_holds() {
    let with = |tail: String| format!("{}{tail}", HEAD.replace('\n', "\r\n")).into_bytes();
    let line = "m=audio 4000 RTP/AVP 0\r\n";
    assert!(Sdp::parse(&with(line.repeat(MAX_MEDIA))).is_ok());
    assert_eq!(limit(&with(line.repeat(MAX_MEDIA + 1))), Limit::Media);
    assert!(Sdp::parse(&with(format!("{line}{}", "a=x\r\n".repeat(MAX_ATTRIBUTES)))).is_ok());
    assert_eq!(limit(&with(format!("{line}{}", "a=x\r\n".repeat(MAX_ATTRIBUTES + 1)))), Limit::Attributes);
    assert_eq!(limit(&with("a=x\r\n".repeat(MAX_ATTRIBUTES + 1))), Limit::Attributes);
    assert_eq!(
        limit(&with(format!("m=audio 4000 RTP/AVP{}\r\n", " 0".repeat(MAX_FORMATS + 1)))),
        Limit::Formats
    );
    assert_eq!(limit(&with(format!("{line}a=fmtp:0 {}\r\n", "x".repeat(MAX_FMTP)))), Limit::FormatParameters);
    assert_eq!(limit(&with(format!("a=x:{}\r\n", "x".repeat(MAX_LINE)))), Limit::Line);
    assert_eq!(limit(&with("e=x\r\n".repeat(MAX_PLAIN_LINES + 1))), Limit::Lines);
    assert_eq!(limit(&vec![b'\n'; MAX_SDP + 1]), Limit::Size);
}

#[test]
fn no_debug_text_shows_a_key() {
    let key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
    let sdp =
        parse(&format!("{HEAD}m=audio 4000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\n"));
    assert!(!format!("{sdp:?}").contains(key));
    assert!(String::from_utf8_lossy(&sdp.to_bytes()).contains(key));
}

fn words() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "v=0\r\n", "o=- 1 1 IN IP4 192.0.2.1\r\n", "s=-\r\n", "c=IN IP4 224.2.1.1/127\r\n", "c=IN IP6 ::1\r\n",
        "c=IN IP4 host\r\n", "t=0 0\r\n", "b=AS:64\r\n", "m=audio 4000 RTP/AVP 0 96\r\n", "m=video 0 RTP/SAVPF 97\r\n",
        "m=application 9 TCP/BFCP *\r\n", "a=rtpmap:96 opus/48000/2\r\n", "a=fmtp:96  stereo=1 \r\n", "a=ptime:20.50\r\n",
        "a=rtcp:9 IN IP6 ::1\r\n", "a=rtcp-fb:* nack  pli\r\n", "a=rtcp-fb:97 ccm tmmbr smaxpr=120\r\n",
        "a=rtcp-fb:* trr-int 100\r\n", "a=sendonly\r\n", "a=rtcp-mux\r\n", "a=content:slides\r\n", "a=label:\r\n", "a=\r\n",
        "a=:\r\n", "a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 KDR=1\r\n",
        "\r\n", "\n", " ", "=", ":", "a", "m", "9", "\u{e9}",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn whatever_is_read_goes_round(parts in prop::collection::vec(words(), 0..40)) {
        let body = format!("v=0\r\n{}", parts.concat());
        if let Ok(sdp) = Sdp::parse(body.as_bytes()) {
            goes_round(&sdp);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Sdp::parse(&bytes);
    }
}
