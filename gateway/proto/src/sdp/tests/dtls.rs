//! Keys by DTLS: roles, certificates, policies (RFC 5763, RFC 8842, RFC 8643).

use super::*;
use crate::dtls::{Fingerprint, Role};

const FINGERPRINT: &str = "a=fingerprint:sha-256 19:E2:1C:3B:4B:9F:81:E6:B8:5C:F4:A5:A8:D8:73:04:BB:05:2F:70:9F:04:A9:0E:05:E9:26:33:E8:70:88:A2\n";
const WEAK: &str = "a=fingerprint:sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB\n";
const CRYPTO: &str = "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\n";

fn over(policy: EncryptionPolicy, secure_signalling: bool) -> Negotiation {
    let encryption = Encryption { policy, secure_signalling, allow_insecure: false };
    let mut parameters = with(encryption).parameters().clone();
    parameters.certificate = Some(Fingerprint::of(b"ours"));
    Negotiation::new(parameters)
}

fn line(protocol: &str, attributes: &str) -> String {
    format!("m=audio 5000 {protocol} 0\n{attributes}")
}

fn setup(word: &str) -> String {
    format!("a=setup:{word}\n{FINGERPRINT}")
}

/// What an offer is answered with: nothing, or our setup ("" without DTLS) and whether it is
/// encrypted.
fn answered(us: &mut Negotiation, lines: &str) -> Option<(String, bool)> {
    let answer = us
        .receive_offer(&body(lines))
        .and_then(|_| us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs));
    match answer {
        Ok((sdp, agreed)) => {
            let line = &sdp.media[0];
            assert_eq!(line.attribute("setup").is_some(), agreed[0].dtls.is_some());
            assert_eq!(sdp.attribute("fingerprint").is_some(), agreed[0].dtls.is_some());
            assert_eq!(line.crypto.is_empty(), agreed[0].srtp.is_none());
            Some((line.attribute("setup").unwrap_or_default().to_owned(), agreed[0].is_encrypted()))
        }
        Err(error) => {
            assert_eq!(error.status(), 488);
            us.refuse_offer();
            None
        }
    }
}

#[test]
fn what_each_policy_makes_of_each_offer() {
    use EncryptionPolicy::{BestEffort, None as Never, Required};
    let dtls = setup("actpass");
    let offers = [
        line("RTP/AVP", &dtls),
        line("UDP/TLS/RTP/SAVP", &dtls),
        line("UDP/TLS/RTP/SAVPF", &dtls),
        line("RTP/SAVP", &dtls),
        line("UDP/TLS/RTP/SAVP", ""),
        line("UDP/TLS/RTP/SAVP", &format!("a=setup:actpass\n{WEAK}")),
        line("UDP/TLS/RTP/SAVP", CRYPTO),
        line("RTP/AVP", ""),
    ];
    let yes = || Some(("active".to_owned(), true));
    let plain = || Some((String::new(), false));
    for secure in [false, true] {
        for (policy, expected) in [
            (Never, [plain(), None, None, None, None, None, None, plain()]),
            (BestEffort, [yes(), yes(), yes(), yes(), None, None, None, plain()]),
            (Required, [None, yes(), yes(), yes(), None, None, None, None]),
        ] {
            for (offer, expected) in offers.iter().zip(expected) {
                assert_eq!(
                    answered(&mut over(policy, secure), offer),
                    expected,
                    "{policy:?} {secure} {offer}"
                );
            }
        }
    }
}

#[test]
fn keys_in_the_offer_go_before_a_handshake_where_they_may() {
    let both = line("RTP/SAVP", &format!("{CRYPTO}{}", setup("actpass")));
    let required = |secure| answered(&mut over(EncryptionPolicy::Required, secure), &both);
    assert_eq!(required(true), Some((String::new(), true)));
    assert_eq!(required(false), Some(("active".to_owned(), true)));
}

#[test]
fn roles_follow_rfc_5763() {
    for (theirs, ours, role) in [
        ("actpass", "active", Role::Client),
        ("passive", "active", Role::Client),
        ("active", "passive", Role::Server),
    ] {
        let mut us = over(EncryptionPolicy::Required, false);
        let answer = answered(&mut us, &line("UDP/TLS/RTP/SAVP", &setup(theirs)));
        assert_eq!(answer, Some((ours.to_owned(), true)), "{theirs}");
        assert_eq!(us.agreed()[0].dtls.as_ref().unwrap().role, role);
    }
    // A session's attributes hold for its lines.
    let mut us = over(EncryptionPolicy::Required, false);
    let media = line("UDP/TLS/RTP/SAVP", "");
    let text = String::from_utf8(body(&media)).unwrap();
    let session = setup("passive").replace('\n', "\r\n");
    let text = text.replacen("m=audio", &format!("{session}m=audio"), 1);
    us.receive_offer(text.as_bytes()).unwrap();
    us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(us.agreed()[0].dtls.as_ref().unwrap().role, Role::Client);
}

#[test]
fn what_each_policy_offers() {
    use EncryptionPolicy::{BestEffort, None as Never, Required};
    for (policy, secure, transport, keys, dtls) in [
        (Never, true, "RTP/AVP", false, false),
        (BestEffort, true, "RTP/AVP", true, true),
        (BestEffort, false, "RTP/AVP", false, true),
        (Required, true, "RTP/SAVP", true, true),
        (Required, false, "UDP/TLS/RTP/SAVP", false, true),
    ] {
        let sdp = over(policy, secure).create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
        let line = &sdp.media[0];
        assert_eq!(line.protocol, transport, "{policy:?} {secure}");
        assert_eq!(!line.crypto.is_empty(), keys, "{policy:?} {secure}");
        assert_eq!(line.attribute("setup"), dtls.then_some("actpass"), "{policy:?} {secure}");
        assert_eq!(sdp.attribute("fingerprint").is_some(), dtls, "{policy:?} {secure}");
    }
}

#[test]
fn what_answers_to_our_offers_are_taken() {
    use EncryptionPolicy::{BestEffort, Required};
    let answer = |policy, secure, lines: &str| {
        let mut us = over(policy, secure);
        us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
        let agreed = us.receive_answer(&body(lines)).ok()?;
        Some(agreed[0].dtls.as_ref().map(|dtls| dtls.role))
    };
    for policy in [BestEffort, Required] {
        let transport = if policy == Required { "UDP/TLS/RTP/SAVP" } else { "RTP/AVP" };
        let role = |word: &str| answer(policy, false, &line(transport, &setup(word)));
        assert_eq!(role("active"), Some(Some(Role::Server)));
        assert_eq!(role("passive"), Some(Some(Role::Client)));
    }
    assert_eq!(answer(BestEffort, false, &line("RTP/AVP", "")), Some(None));
    // An answer that does not choose, one without a certificate that counts, one in clear.
    for lines in [
        line("UDP/TLS/RTP/SAVP", &setup("actpass")),
        line("UDP/TLS/RTP/SAVP", &format!("a=setup:active\n{WEAK}")),
        line("RTP/AVP", ""),
    ] {
        assert_eq!(answer(Required, false, &lines), None, "{lines}");
    }
}

#[test]
fn a_reoffer_keeps_roles_and_certificate() {
    let mut us = over(EncryptionPolicy::BestEffort, true);
    let offer = line("UDP/TLS/RTP/SAVP", &setup("active"));
    assert_eq!(answered(&mut us, &offer), Some(("passive".to_owned(), true)));
    let before = us.agreed()[0].dtls.clone();
    // Theirs, asking anew: the roles stay (RFC 8842 section 5.3).
    let again = line("UDP/TLS/RTP/SAVP", &setup("actpass"));
    assert_eq!(answered(&mut us, &again), Some(("passive".to_owned(), true)));
    assert_eq!(us.agreed()[0].dtls, before);
    // Ours asks anew, too, and offers nothing else.
    let sdp = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(m_lines(&sdp), ["m=audio 4000 UDP/TLS/RTP/SAVP 0 101"]);
    assert_eq!((sdp.media[0].attribute("setup"), sdp.media[0].crypto.len()), (Some("actpass"), 0));
    us.receive_answer(&body(&offer)).unwrap();
    assert_eq!(us.agreed()[0].dtls, before);
}

/// Threat 11: what is required is required in every exchange of the call.
#[test]
fn required_holds_for_the_whole_call() {
    let mut us = over(EncryptionPolicy::Required, false);
    let secure = line("UDP/TLS/RTP/SAVP", &setup("actpass"));
    assert_eq!(answered(&mut us, &secure), Some(("active".to_owned(), true)));
    let before = us.agreed().to_vec();
    for lines in [line("RTP/AVP", ""), line("RTP/AVP", &setup("actpass")), line("UDP/TLS/RTP/SAVP", "")] {
        assert_eq!(answered(&mut us, &lines), None, "{lines}");
    }
    assert_eq!(us.agreed(), before);
    us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(us.receive_answer(&body(&line("RTP/AVP", ""))).unwrap_err().status(), 488);
    assert_eq!(us.agreed(), before);
}
