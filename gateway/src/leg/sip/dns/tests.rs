//! The resolver against a small name server on loopback.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

use super::*;

const A: u16 = 1;
const CNAME: u16 = 5;
const SRV: u16 = 33;
const NAPTR: u16 = 35;

/// A name server that knows some records, on a port of its own for as long as the test lives.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

/// Owner, type, TTL, data.
type Record = (&'static str, u16, u32, Vec<u8>);

impl Server {
    fn start(zone: Vec<Record>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1_500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(&answer(&zone, &buffer[..length]), from);
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn system(&self) -> System {
        let mut udp = ConnectionConfig::udp();
        udp.port = self.port;
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, Default::default());
        System::with(Some(resolver(builder).unwrap()))
    }
}

/// The question again, and what the zone has for it (RFC 1035 section 4.1).
fn answer(zone: &[Record], query: &[u8]) -> Vec<u8> {
    let (mut name, mut at) = (String::new(), 12);
    while query[at] != 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        name += std::str::from_utf8(label).unwrap();
        name.push('.');
        at += label.len() + 1;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let known = |record: &&Record| record.0.eq_ignore_ascii_case(name.trim_end_matches('.'));
    let exists = zone.iter().any(|record| known(&record));
    let found: Vec<_> =
        zone.iter().filter(known).filter(|record| record.1 == kind || record.1 == CNAME).collect();
    let mut out = query[..2].to_vec();
    out.extend([
        0x85,
        if exists { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::try_from(found.len()).unwrap(),
        0,
        0,
        0,
        0,
    ]);
    out.extend(&query[12..at + 5]);
    for (_, kind, ttl, data) in found {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}

fn domain(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut out: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    out.push(0);
    out
}

fn srv(port: u16, target: &str) -> Vec<u8> {
    [&[0, 1, 0, 2][..], &port.to_be_bytes(), &domain(target)].concat()
}

#[tokio::test]
async fn records_are_read_as_they_stand_and_kept_for_their_time() {
    let naptr =
        [&[0, 10, 0, 20, 1, b's', 7][..], b"SIP+D2U", &[0], &domain("_sip._udp.example.com")].concat();
    let server = Server::start(vec![
        ("example.com", NAPTR, 300, naptr),
        ("_sip._udp.example.com", SRV, 300, srv(5_070, "a.example.com")),
        ("_sip._udp.example.com", SRV, 300, srv(0, ".")),
        ("a.example.com", A, 300, vec![192, 0, 2, 1]),
        ("a.example.com", A, 300, vec![192, 0, 2, 2]),
        ("short.example.com", SRV, 0, srv(5_060, "a.example.com")),
    ]);
    let system = server.system();
    let said = Naptr {
        order: 10,
        preference: 20,
        flags: "s".to_owned(),
        service: "SIP+D2U".to_owned(),
        regexp: String::new(),
        replacement: "_sip._udp.example.com".to_owned(),
    };
    for _ in 0..3 {
        assert_eq!(system.naptr("example.com").await.unwrap(), std::slice::from_ref(&said));
        let mut servers = system.srv("_sip._udp.example.com").await.unwrap();
        servers.sort_by_key(|server| server.port);
        let record = |port, target: &str| Srv { priority: 1, weight: 2, port, target: target.to_owned() };
        assert_eq!(servers, [record(0, ""), record(5_070, "a.example.com")]);
        let mut addresses = system.addresses("a.example.com").await.unwrap();
        addresses.sort();
        assert_eq!(addresses, [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from));
        // What is not there is asked for again: this server says not how long that holds (RFC 2308
        // section 5).
        assert_eq!(system.srv("_sip._tcp.example.com").await, Ok(Vec::new()));
    }
    // One question each, and three times for AAAA and for the other service.
    assert_eq!(server.asked(), 9);
    for _ in 0..2 {
        assert_eq!(system.srv("short.example.com").await.unwrap().len(), 1);
    }
    assert_eq!(server.asked(), 11, "a TTL of zero is for one call");
}

#[tokio::test]
async fn a_chain_of_names_ends() {
    let server = Server::start(vec![
        ("a.example.com", CNAME, 0, domain("b.example.com")),
        ("b.example.com", CNAME, 0, domain("a.example.com")),
    ]);
    let found = server.system().srv("a.example.com").await;
    assert!(found.is_err() || found == Ok(Vec::new()), "{found:?}");
    assert!(server.asked() <= 16, "{}", server.asked());
}

#[tokio::test]
async fn too_many_names_at_once_are_refused_and_not_queued() {
    let system = Server::start(Vec::new()).system();
    let waiting: Vec<_> = (0..LOOKUPS).map(|_| system.srv("_sip._udp.example.com")).collect();
    assert_eq!(system.srv("_sip._udp.example.com").await, Err(Reason::Congestion));
    assert_eq!(system.addresses("a.example.com").await, Err(Reason::Congestion));
    drop(waiting);
    assert_eq!(system.srv("_sip._udp.example.com").await, Ok(Vec::new()));
}
