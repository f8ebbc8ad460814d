//! Promise 34: nothing that a stranger writes down as an address makes us send to this machine, to its
//! network's services, or to everybody, however he spells it.

use std::net::{IpAddr, Ipv4Addr};

use crosspoint_proto::address::PeerPolicy;
use crosspoint_proto::sdp::{Encryption, EncryptionPolicy, Negotiation, SessionParameters};
use crosspoint_proto::sip::{Command, Event};

use crate::solo::{Ask, Solo, far};
use crate::world::sdp;

const HIDDEN: [Ipv4Addr; 10] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 255, 255, 254),
    Ipv4Addr::new(0, 0, 0, 1),
    Ipv4Addr::new(0, 255, 1, 2),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 0, 1),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(239, 255, 255, 250),
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv4Addr::new(255, 255, 255, 255),
];

/// Each of them as itself and as five kinds of IPv6 addresses, and those that are of IPv6 alone.
fn spellings() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in HIDDEN {
        let [a, b, c, d] = ip.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        all.push(ip.into());
        for words in [
            [0, 0, 0, 0, 0, 0xffff, high, low],
            [0, 0, 0, 0, 0, 0, high, low],
            [0, 0, 0, 0, 0xffff, 0, high, low],
            [0x64, 0xff9b, 0, 0, 0, 0, high, low],
            [0x2002, high, low, 0, 0, 0, 0, 0],
        ] {
            all.push(std::net::Ipv6Addr::from(words).into());
        }
    }
    all.extend(
        ["::1", "fe80::1", "febf::9", "ff02::1", "ff0e::7", "fd00:ec2::254"]
            .map(|it| it.parse::<IpAddr>().unwrap()),
    );
    assert!(all.len() > 60);
    all
}

fn spelled(ip: IpAddr) -> String {
    format!("IN IP{} {ip}", if ip.is_ipv4() { 4 } else { 6 })
}

fn negotiation() -> Negotiation {
    // The most that any leg believes: that of a device behind a NAT.
    let peer = PeerPolicy { accept_foreign: true, ..PeerPolicy::strict(far().ip()) };
    Negotiation::new(SessionParameters {
        session_id: 7,
        address: crate::world::address(0).ip(),
        encryption: Encryption { policy: EncryptionPolicy::None, ..Encryption::default() },
        certificate: None,
        peer,
    })
}

/// In a description: for all of it, for a line, for its RTCP, and for names that lead anywhere.
#[test]
fn promise_34_no_description_names_a_forbidden_address() {
    let mut offers = Vec::new();
    for ip in spellings() {
        let hidden = spelled(ip);
        let good = "IN IP4 192.0.2.2";
        for (all, line, rtcp) in [
            (&*hidden, String::new(), String::new()),
            (good, format!("c={hidden}\r\n"), String::new()),
            (good, String::new(), format!("a=rtcp:53 {hidden}\r\n")),
        ] {
            offers.push(format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc={all}\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n{line}{rtcp}"
            ));
        }
    }
    for name in ["localhost", "metadata.google.internal", "127.1", "0x7f000001", "2130706433", "0177.0.0.1"] {
        offers.push(format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 {name}\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n"
        ));
    }
    for offer in offers {
        match negotiation().receive_offer(offer.as_bytes()) {
            Err(error) => assert!(matches!(error.status(), 400 | 488), "{offer}: {error}"),
            Ok(_) => panic!("taken: {offer}"),
        }
    }
}

/// As the place of requests within a call: the Contact, or a proxy that wants to be in the way. What we say
/// goes where we were heard from instead.
#[test]
fn promise_34_no_contact_or_route_leads_to_a_forbidden_address() {
    for ip in spellings() {
        let host = if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") };
        for (contact, route) in [
            (format!("sip:x@{host}:22"), String::new()),
            (format!("sip:x@{host}:80;transport=tcp"), String::new()),
            (format!("sip:x@192.0.2.2;maddr={ip}"), String::new()),
            ("sip:x@192.0.2.2".into(), format!("Record-Route: <sip:{host}:80;transport=tcp;lr>\r\n")),
        ] {
            let mut solo = Solo::new();
            let ask = Ask { body: "v=0\r\n".into(), ..Ask::new("INVITE") };
            let ask = ask.with(&format!("Contact: <{contact}>\r\n{route}"));
            if let [refused] = &solo.hear(ask.text())[..] {
                assert_eq!(refused.status(), 400, "{contact}");
                continue;
            }
            let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
            let call = incoming.call;
            let ok = solo.tell(Command::Answer { call, body: sdp("answer") }).remove(0);
            solo.hear(ask.ack(&ok).text());
            solo.tell(Command::Reinvite { call, body: Some(sdp("offer")) });
            solo.tell(Command::Hangup { call, reason: None });
            solo.wait(std::time::Duration::from_secs(40));
            assert!(solo.connects.is_empty(), "{contact} {route}: {:?}", solo.connects);
            for sent in &solo.sent {
                assert_eq!(sent.to.map(|to| to.ip()), Some(far().ip()), "{contact} {route}: {sent:?}");
            }
            assert!(solo.sent.iter().any(|it| it.start().starts_with("INVITE")), "{contact} {route}");
        }
    }
}
