//! SDES: what each policy offers, takes and refuses (threat 11).

use super::*;
use crate::rtp::srtp::SrtpSuite;

const CRYPTO: &str =
    "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31\n";
const SHORT: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\n";
const WITH_MKI: &str =
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\n";
const UNKNOWN: &str = "a=crypto:1 AES_192_CM_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\n";

fn over(policy: EncryptionPolicy, secure_signalling: bool) -> Negotiation {
    with(Encryption { policy, secure_signalling, allow_insecure: false })
}

/// Whether an offer is taken, and encrypted.
fn taken(us: &mut Negotiation, lines: &str) -> Option<bool> {
    let answer = us
        .receive_offer(&body(lines))
        .and_then(|_| us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs));
    match answer {
        Ok((sdp, agreed)) => {
            assert_eq!(sdp.media[0].crypto.len(), usize::from(agreed[0].srtp.is_some()));
            Some(agreed[0].srtp.is_some())
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
    let avp = "m=audio 5000 RTP/AVP 0\n";
    let savp = "m=audio 5000 RTP/SAVP 0\n";
    let offers = [
        avp.to_owned(),
        format!("{avp}{CRYPTO}"),
        format!("{savp}{CRYPTO}"),
        savp.to_owned(),
        format!("{savp}{UNKNOWN}{WITH_MKI}"),
        format!("{avp}{UNKNOWN}{WITH_MKI}"),
    ];
    const PLAIN: Option<bool> = Some(false);
    const SRTP: Option<bool> = Some(true);
    const NO: Option<bool> = None;
    for (policy, secure, expected) in [
        (Never, true, [PLAIN, PLAIN, NO, NO, NO, PLAIN]),
        (Never, false, [PLAIN, PLAIN, NO, NO, NO, PLAIN]),
        (BestEffort, true, [PLAIN, SRTP, SRTP, NO, NO, PLAIN]),
        (BestEffort, false, [PLAIN, PLAIN, NO, NO, NO, PLAIN]),
        (Required, true, [NO, NO, SRTP, NO, NO, NO]),
        (Required, false, [NO, NO, NO, NO, NO, NO]),
    ] {
        for (offer, expected) in offers.iter().zip(expected) {
            assert_eq!(taken(&mut over(policy, secure), offer), expected, "{policy:?} {secure} {offer}");
        }
    }
    // A leg set to allow it does over UDP what others do over TLS.
    let mut allowed = with(Encryption { policy: Required, secure_signalling: false, allow_insecure: true });
    assert_eq!(taken(&mut allowed, &offers[2]), SRTP);
}

#[test]
fn the_answer_repeats_tag_and_suite_with_our_key() {
    let mut us = over(EncryptionPolicy::BestEffort, true);
    us.receive_offer(&body(&format!("m=audio 5000 RTP/SAVP 0\n{UNKNOWN}{WITH_MKI}{CRYPTO}{SHORT}"))).unwrap();
    let (sdp, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    let own = &sdp.media[0].crypto[0];
    assert_eq!((own.tag, own.suite()), (3, SrtpSuite::Aes128CmSha1_80));
    assert_eq!(m_lines(&sdp), ["m=audio 4000 RTP/SAVP 0"]);
    let keys = agreed[0].srtp.as_ref().unwrap();
    assert_eq!(keys.local, own.key);
    assert_eq!(&keys.remote.key_and_salt()[..7], b"YS___se");
    assert_eq!(agreed[0].profile, Profile::Savp);
    // Only the short tag offered: taken, with the same key.
    let mut us = over(EncryptionPolicy::Required, true);
    us.receive_offer(&body(&format!("m=audio 5000 RTP/SAVP 0\n{SHORT}"))).unwrap();
    let (_, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(agreed[0].srtp.as_ref().unwrap().local.suite(), SrtpSuite::Aes128CmSha1_32);
}

#[test]
fn what_each_policy_offers() {
    use EncryptionPolicy::{BestEffort, None as Never, Required};
    let offer = |policy, secure| over(policy, secure).create_offer(&sound(&[Codec::Pcmu]), &local(4000));
    for (policy, secure, transport, keys) in [
        (Never, true, "RTP/AVP", 0),
        (BestEffort, true, "RTP/AVP", 4),
        (BestEffort, false, "RTP/AVP", 0),
        (Required, true, "RTP/SAVP", 4),
    ] {
        let sdp = offer(policy, secure).unwrap();
        assert_eq!((sdp.media[0].protocol.as_str(), sdp.media[0].crypto.len()), (transport, keys));
    }
    assert!(matches!(offer(Required, false), Err(NegotiationError::NoEncryption)));
}

/// RFC 4568 section 6.1: no key twice.
#[test]
fn every_suite_is_offered_with_a_key_of_its_own() {
    let mut secret = [0; SRTP_SECRET_LENGTH];
    secret.iter_mut().zip(0..).for_each(|(octet, number)| *octet = number);
    let mut media = local(4000);
    media[0].key = Some(SrtpSecret::new(secret));
    let sdp = over(EncryptionPolicy::Required, true).create_offer(&sound(&[Codec::Pcmu]), &media).unwrap();
    let lines = &sdp.media[0].crypto;
    assert_eq!(lines.iter().map(|line| line.suite()).collect::<Vec<_>>(), SrtpSuite::ALL);
    assert_eq!(lines.iter().map(|line| line.tag).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let octets: Vec<u8> = lines.iter().flat_map(|line| line.key.key_and_salt().to_vec()).collect();
    assert_eq!(octets, secret);
}

#[test]
fn what_answers_to_our_offers_are_taken() {
    use EncryptionPolicy::{BestEffort, Required};
    let other_tag = CRYPTO.replace("crypto:3", "crypto:9");
    let answer = |policy, lines: &str| {
        let mut us = over(policy, true);
        us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
        us.receive_answer(&body(lines)).map(|agreed| agreed[0].srtp.is_some()).ok()
    };
    let avp = "m=audio 5000 RTP/AVP 0\n";
    assert_eq!(answer(BestEffort, avp), Some(false));
    assert_eq!(answer(BestEffort, &format!("{avp}{CRYPTO}")), Some(true));
    assert_eq!(answer(BestEffort, &format!("{avp}{other_tag}")), Some(false), "a tag that we did not offer");
    assert_eq!(answer(BestEffort, &format!("{avp}{SHORT}")), Some(false), "not the suite of that tag");
    assert_eq!(answer(BestEffort, "m=audio 5000 RTP/SAVP 0\n"), None);
    assert_eq!(answer(Required, avp), None);
    assert_eq!(answer(Required, "m=audio 5000 RTP/SAVP 0\n"), None, "a secure name without a key");
    assert_eq!(answer(Required, &format!("m=audio 5000 RTP/SAVP 0\n{CRYPTO}")), Some(true));
}

#[test]
fn required_holds_for_the_whole_call() {
    let mut us = over(EncryptionPolicy::Required, true);
    assert_eq!(taken(&mut us, &format!("m=audio 5000 RTP/SAVP 0\n{CRYPTO}")), Some(true));
    let before = us.agreed().to_vec();
    assert_eq!(taken(&mut us, "m=audio 5000 RTP/AVP 0\n"), None);
    assert_eq!(taken(&mut us, &format!("m=audio 5000 RTP/AVP 0\n{CRYPTO}")), None);
    assert_eq!(us.agreed(), before);
    assert_eq!(taken(&mut us, &format!("m=audio 5000 RTP/SAVP 0\n{CRYPTO}")), Some(true));
}

#[test]
fn of_twin_lines_the_encrypted_one_is_taken() {
    let twins = format!("m=audio 5000 RTP/AVP 0\nm=audio 5002 RTP/SAVP 0\n{CRYPTO}");
    for (policy, index) in
        [(EncryptionPolicy::None, 0), (EncryptionPolicy::BestEffort, 1), (EncryptionPolicy::Required, 1)]
    {
        let mut us = over(policy, true);
        us.receive_offer(&body(&twins)).unwrap();
        let (sdp, agreed) =
            us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
        assert_eq!(agreed.iter().map(|line| line.index).collect::<Vec<_>>(), [index]);
        assert_eq!(sdp.media.iter().filter(|line| line.port != 0).count(), 1);
    }
}

#[test]
fn a_reoffer_keeps_transport_and_key() {
    let mut us = over(EncryptionPolicy::BestEffort, true);
    assert_eq!(taken(&mut us, &format!("m=audio 5000 RTP/SAVPF 0\n{CRYPTO}")), Some(true));
    let offer = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(offer.media[0].protocol, "RTP/SAVPF");
    let answer = body(&format!("m=audio 5000 RTP/SAVPF 0\n{}", CRYPTO.replace("crypto:3", "crypto:1")));
    let first = us.agreed()[0].srtp.clone();
    assert_eq!(us.receive_answer(&answer).unwrap()[0].srtp, first, "the same keys: SRTP goes on");
}

#[test]
fn a_peer_that_insists_is_offered_the_secure_profile_once_more() {
    let mut us = over(EncryptionPolicy::BestEffort, true);
    let first = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    us.withdraw_offer();
    us.set_encryption(Encryption { policy: EncryptionPolicy::Required, ..us.parameters().encryption });
    let second = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(
        (first.media[0].protocol.as_str(), second.media[0].protocol.as_str()),
        ("RTP/AVP", "RTP/SAVP")
    );
    assert_eq!((first.origin.version, second.origin.version), (1, 2));
}

#[test]
fn a_secure_line_is_not_answered_with_a_plain_one() {
    let mut us = over(EncryptionPolicy::BestEffort, true);
    assert_eq!(taken(&mut us, &format!("m=audio 5000 RTP/SAVP 0\n{CRYPTO}")), Some(true));
    let before = us.agreed().to_vec();
    let offer = us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(offer.media[0].protocol, "RTP/SAVP");
    let error = us.receive_answer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap_err();
    assert_eq!((error.status(), us.agreed()), (488, before.as_slice()));
}
