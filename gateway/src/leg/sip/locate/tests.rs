//! What records say, with the records given.

use std::io;

use crosspoint_proto::sip::SipUri;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::super::hop::Lookup;
use super::*;

/// A zone, and what was asked of it.
#[derive(Default)]
struct Zone {
    naptr: Vec<(&'static str, Naptr)>,
    srv: Vec<(&'static str, Srv)>,
    hosts: Vec<(&'static str, &'static str)>,
    /// Names whose server never answers.
    silent: Vec<&'static str>,
    asked: std::sync::Mutex<Vec<String>>,
}

impl Zone {
    fn answer<T: Clone + Send + 'static>(&self, kind: &str, name: &str, all: &[(&str, T)]) -> Lookup<T> {
        self.asked.lock().unwrap().push(format!("{kind} {name}"));
        if self.silent.contains(&name) {
            return Box::pin(std::future::pending());
        }
        let found = all.iter().filter(|(owner, _)| *owner == name).map(|(_, data)| data.clone()).collect();
        Box::pin(std::future::ready(Ok(found)))
    }
}

impl Network for Zone {
    fn naptr(&self, name: &str) -> Lookup<Naptr> {
        self.answer("NAPTR", name, &self.naptr)
    }

    fn srv(&self, name: &str) -> Lookup<Srv> {
        self.answer("SRV", name, &self.srv)
    }

    fn addresses(&self, name: &str) -> Lookup<IpAddr> {
        let hosts: Vec<_> = self.hosts.iter().map(|(name, ip)| (*name, ip.parse().unwrap())).collect();
        self.answer("A", name, &hosts)
    }

    fn local_address_towards(&self, peer: IpAddr) -> io::Result<IpAddr> {
        Ok(peer)
    }
}

fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
    let (flags, regexp) = ("s".to_owned(), String::new());
    Naptr {
        order,
        preference,
        flags,
        service: service.to_owned(),
        regexp,
        replacement: replacement.to_owned(),
    }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.to_owned() }
}

fn everywhere() -> Vec<Listen> {
    let all = [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter();
    all.flat_map(|transport| {
        ["0.0.0.0:5060", "[::]:5060"].map(|address| Listen { transport, address: address.parse().unwrap() })
    })
    .collect()
}

async fn found(zone: &Zone, uri: &str, listening: &[Listen]) -> Result<Vec<String>, Reason> {
    let uri: SipUri = match crosspoint_proto::sip::Uri::parse(uri).unwrap() {
        crosspoint_proto::sip::Uri::Sip(uri) => uri,
        other => panic!("{other:?}"),
    };
    let hop = Hop::of(&uri, None, None);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let places = locate(&hop, zone, listening, Instant::now() + PATIENCE, &mut rng).await?;
    Ok(places.iter().map(|place| format!("{} {}", word(place.transport), place.address)).collect())
}

fn word(transport: Option<Transport>) -> &'static str {
    match transport {
        None => "any",
        Some(Transport::Udp) => "udp",
        Some(Transport::Tcp) => "tcp",
        Some(_) => "tls",
    }
}

/// The example of RFC 3263 section 4.1, and a host that is none of it.
fn example() -> Zone {
    Zone {
        naptr: vec![
            ("example.com", naptr(90, 50, "SIP+D2U", "_sip._udp.example.com")),
            ("example.com", naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com")),
            ("example.com", naptr(10, 1, "SIP+D2S", "_sip._sctp.example.com")),
            ("example.com", naptr(90, 10, "SIP+D2T", "_sip._tcp.example.com")),
            ("example.com", naptr(1, 1, "E2U+sip", "_sip._udp.example.com")),
        ],
        srv: vec![
            ("_sips._tcp.example.com", srv(1, 1, 5071, "s1.example.com")),
            ("_sip._tcp.example.com", srv(2, 1, 5070, "s2.example.com")),
            ("_sip._tcp.example.com", srv(1, 1, 5060, "s1.example.com")),
            ("_sip._udp.example.com", srv(1, 1, 5060, "s2.example.com")),
        ],
        hosts: vec![
            ("s1.example.com", "192.0.2.1"),
            ("s2.example.com", "192.0.2.2"),
            ("s2.example.com", "2001:db8::2"),
            ("example.com", "192.0.2.99"),
        ],
        ..Zone::default()
    }
}

#[tokio::test(start_paused = true)]
async fn naptr_then_srv_then_addresses() {
    let zone = example();
    let all = found(&zone, "sip:bob@example.com", &everywhere()).await.unwrap();
    assert_eq!(
        all,
        [
            "tls 192.0.2.1:5071",
            "tcp 192.0.2.1:5060",
            "tcp 192.0.2.2:5070",
            "tcp [2001:db8::2]:5070",
            "udp 192.0.2.2:5060",
            "udp [2001:db8::2]:5060",
        ],
        "by order, preference and priority; what we do not speak is passed over"
    );
    // Nothing leads from a secure target to what is not (RFC 3263 section 4.1).
    assert_eq!(found(&zone, "sips:bob@example.com", &everywhere()).await.unwrap(), ["tls 192.0.2.1:5071"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_already_is_not_asked_for() {
    for (uri, place, asked) in [
        ("sip:bob@192.0.2.7", "any 192.0.2.7:5060", &[][..]),
        ("sip:bob@192.0.2.7:5070;transport=tcp", "tcp 192.0.2.7:5070", &[]),
        ("sips:bob@[2001:db8::7]", "tls [2001:db8::7]:5061", &[]),
        ("sip:bob@example.com:5080", "any 192.0.2.99:5080", &["A example.com"]),
        ("sips:bob@example.com:5081", "tls 192.0.2.99:5081", &["A example.com"]),
        (
            "sip:bob@example.com;transport=udp",
            "udp 192.0.2.2:5060",
            &["SRV _sip._udp.example.com", "A s2.example.com"],
        ),
    ] {
        let zone = example();
        assert_eq!(found(&zone, uri, &everywhere()).await.unwrap()[0], place, "{uri}");
        assert_eq!(*zone.asked.lock().unwrap(), asked, "{uri}: RFC 3263 sections 4.1 and 4.2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_domain_without_naptr_has_srv_and_one_without_srv_is_a_host() {
    let zone = Zone { naptr: Vec::new(), ..example() };
    let all = found(&zone, "sip:bob@example.com", &everywhere()).await.unwrap();
    assert_eq!((all.len(), all[0].as_str()), (5, "udp 192.0.2.2:5060"));
    let zone = Zone { naptr: Vec::new(), srv: Vec::new(), ..example() };
    assert_eq!(found(&zone, "sip:bob@example.com", &everywhere()).await.unwrap(), ["any 192.0.2.99:5060"]);
    assert_eq!(found(&zone, "sips:bob@example.com", &everywhere()).await.unwrap(), ["tls 192.0.2.99:5061"]);
    // A service that says that it is not there has no host instead (RFC 2782).
    let zone = Zone { srv: vec![("_sip._udp.example.com", srv(0, 0, 0, ""))], ..zone };
    let none = found(&zone, "sip:bob@example.com", &everywhere()).await;
    assert_eq!(none, Err(Reason::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn only_what_we_have_a_socket_for_is_a_place() {
    let listening = [Listen { transport: Transport::Udp, address: "192.0.2.50:5060".parse().unwrap() }];
    let all = found(&example(), "sip:bob@example.com", &listening).await.unwrap();
    assert_eq!(all, ["udp 192.0.2.2:5060"]);
    assert_eq!(found(&example(), "sips:bob@example.com", &listening).await, Err(Reason::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_answer_in_five_seconds_is_left_out() {
    let zone = Zone { silent: vec!["s1.example.com"], ..example() };
    let begun = Instant::now();
    let all = found(&zone, "sip:bob@example.com;transport=tcp", &everywhere()).await;
    let next = ["tcp 192.0.2.2:5070", "tcp [2001:db8::2]:5070"].map(str::to_owned).to_vec();
    assert_eq!((all, begun.elapsed()), (Ok(next), PATIENCE), "what is known already is no question of time");
    // What was known by then counts.
    let zone = Zone {
        silent: vec!["s2.example.com"],
        srv: vec![
            ("_sip._tcp.example.com", srv(1, 1, 5060, "s1.example.com")),
            ("_sip._tcp.example.com", srv(2, 1, 5060, "s2.example.com")),
        ],
        ..example()
    };
    let all = found(&zone, "sip:bob@example.com;transport=tcp", &everywhere()).await.unwrap();
    assert_eq!(all, ["tcp 192.0.2.1:5060"]);
}

#[tokio::test(start_paused = true)]
async fn a_zone_with_a_thousand_records_costs_as_much_as_one_with_a_few() {
    let srv = (0..1_000).map(|n| ("_sip._udp.example.com", srv(n, 0, 5060, "s1.example.com")));
    let zone = Zone { srv: srv.collect(), naptr: Vec::new(), ..example() };
    assert_eq!(found(&zone, "sip:bob@example.com", &everywhere()).await.unwrap(), ["udp 192.0.2.1:5060"]);
    assert!(zone.asked.lock().unwrap().len() <= 3 + RECORDS);
    let hosts = (0..250).map(|n| ("many.example", &*format!("192.0.2.{n}").leak()));
    let zone = Zone { hosts: hosts.collect(), ..Zone::default() };
    assert_eq!(found(&zone, "sip:bob@many.example", &everywhere()).await.unwrap().len(), PLACES);
}

#[test]
fn servers_of_one_priority_are_chosen_by_weight() {
    let records =
        || vec![srv(2, 9, 3, "last"), srv(1, 30, 2, "often"), srv(1, 10, 1, "seldom"), srv(1, 0, 0, "never")];
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    let mut first = [0; 4];
    for _ in 0..4_000 {
        let ordered = by_priority(records(), &mut rng);
        first[usize::from(ordered[0].port)] += 1;
        assert_eq!((ordered.len(), ordered[3].port), (4, 3), "priority counts before weight");
    }
    let [never, seldom, often, last] = first;
    assert_eq!(last, 0);
    assert!((2_750..3_150).contains(&often) && (850..1_150).contains(&seldom), "{first:?}");
    assert!((1..250).contains(&never), "RFC 2782: a very small chance, {never}");
}

#[test]
fn a_place_that_failed_comes_last_for_a_while() {
    let place = |last: u8| Place {
        transport: None,
        address: SocketAddr::from(([192, 0, 2, last], 5060)),
        name: None,
    };
    let order = |failures: &Failures, now| {
        let mut places = vec![place(1), place(2), place(3)];
        failures.put_last(now, &mut places);
        places.iter().map(|place| place.address.to_string()[8..9].to_owned()).collect::<String>()
    };
    let (mut failures, now) = (Failures::default(), Instant::now());
    failures.note(now, &place(1), None);
    failures.note(now, &place(2), Some(Duration::from_secs(86_400)));
    assert_eq!(order(&failures, now), "312", "RFC 3263 section 4.3");
    assert_eq!(order(&failures, now + AVOIDED), "132");
    assert_eq!(order(&failures, now + AVOIDED_AT_MOST), "123", "no server is out of use for a day");
    for n in 0..u16::MAX {
        let address = SocketAddr::from(([198, 51, 100, 1], n));
        failures.note(now, &Place { transport: None, address, name: None }, None);
    }
    assert_eq!(failures.0.len(), FAILURES);
    failures.note(now + AVOIDED_AT_MOST, &place(1), None);
    assert_eq!(failures.0.len(), 1, "what is over is forgotten");
}
