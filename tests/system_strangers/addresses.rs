//! Promise 46: what we say names no address of this machine but those that are configured, and of others
//! those that they have named themselves.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use crosspoint_proto::sip::{Message, Method, Name, Request, Response};

use crate::support::free_port;
use crate::support::gateway::{Device, Gateway};
use crate::support::stranger::{Stranger, signed};
use crate::support::web::{Client, Web};

/// Everything that came to us.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn note(&mut self, what: &str, text: impl Into<Vec<u8>>) {
        self.0.push((what.to_owned(), String::from_utf8_lossy(&text.into()).into_owned()));
    }

    /// The next message that is wanted, all of those before noted too.
    fn next<T>(&mut self, what: &str, line: &Stranger, mut wanted: impl FnMut(&Message) -> Option<T>) -> T {
        loop {
            let message = line.receive().unwrap_or_else(|| panic!("{what}: nothing comes"));
            self.note(
                what,
                match &message {
                    Message::Request(request) => request.to_bytes().to_vec(),
                    Message::Response(response) => response.to_bytes().to_vec(),
                },
            );
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    }

    fn request(&mut self, what: &str, line: &Stranger, method: Method) -> Request {
        self.next(what, line, |message| match message {
            Message::Request(request) if request.method == method => Some(request.clone()),
            _ => None,
        })
    }

    fn answer(&mut self, what: &str, line: &Stranger) -> Response {
        self.next(what, line, |message| match message {
            Message::Response(response) if response.status >= 200 => Some(response.clone()),
            _ => None,
        })
    }
}

/// All addresses that stand in a text.
fn addresses(text: &str) -> BTreeSet<IpAddr> {
    let four = text.split(|it: char| !it.is_ascii_digit() && it != '.');
    let four = four.filter_map(|it| it.trim_matches('.').parse::<Ipv4Addr>().ok()).map(IpAddr::V4);
    let six = text.split(|it: char| !it.is_ascii_hexdigit() && it != ':' && it != '.');
    let six = six.filter(|it| it.contains("::") || it.matches(':').count() == 7);
    let six = six.filter_map(|it| it.parse::<Ipv6Addr>().ok()).map(IpAddr::V6);
    four.chain(six).collect()
}

/// Addresses of peers: nobody else has such.
fn is_a_peers(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[..2] == [127, 7])
}

/// A gateway on all addresses, with more for its sections of SIP and of media.
fn gateway(carrier: &UdpSocket, sip_more: &str, media_more: &str) -> Gateway {
    let devices = ["alice", "bob"].map(|name| Device { name, more: String::new() });
    let at = carrier.local_addr().unwrap();
    let trunk = format!(
        "[[trunks]]\nname = \"carrier\"\nhost = \"{at}\"\nkeep_alive = \"2s\"\n\
         registration = {{ user = \"us\", domain = \"carrier.example\" }}\n\
         [[rules]]\nname = \"out\"\npriority = 1\nmatch = '\\+49\\d+'\nonly_if_registered = false\ntrunk = \"carrier\"\n"
    );
    let sip = format!("trusted_sources = [\"127.0.0.0/8\"]\n{sip_more}");
    let mut gateway = Gateway::with_sections(&devices, &trunk, &sip, "", &[&["Hall", "--alias", "hall"]]);
    let text = gateway.config();
    let text = text.replace("udp:127.0.0.1:", "udp:0.0.0.0:").replace("tcp:127.0.0.1:", "tcp:0.0.0.0:");
    let text = text.replace("tls:127.0.0.1:", "tls:0.0.0.0:");
    let text = text.replace("address = \"127.0.0.1\"", &format!("address = \"0.0.0.0\"\n{media_more}"));
    gateway.set_config(&text);
    gateway.kill_and_restart();
    gateway
}

/// A request that names the gateway as no address.
fn request(line: &mut Stranger, method: &str, caller: &str, called: &str) -> String {
    line.request(method, caller, called, "").replace("127.0.0.1", "gateway.example")
}

/// A call to `called`, which stands; its media is described by who is called too, if that is a line of ours.
fn call(heard: &mut Heard, caller: &mut Stranger, called: &str, line: Option<&Stranger>) {
    let text = request(caller, "INVITE", "guest", called);
    caller.send(&text);
    if let Some(line) = line {
        let invite = heard.request(called, line, Method::Invite);
        let ip = line.here().ip();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 29200 RTP/AVP 8\r\n"
        );
        line.send(Response::to(&invite, 180, Some("line")).to_bytes());
        let mut answer = Response::to(&invite, 200, Some("line")).with_body("application/sdp", sdp);
        answer.headers.push(Name::Contact, format!("<sip:line@{}>", line.here()));
        line.send(answer.to_bytes());
    }
    let ok = heard.answer("the caller", caller);
    assert_eq!(ok.status, 200, "{called}");
    let get = |name| ok.headers.get(&name).unwrap();
    let (from, to, id) = (get(Name::From), get(Name::To), get(Name::CallId));
    let here = caller.here();
    for (method, n) in [("ACK", 1), ("BYE", 2)] {
        caller.send(format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{method}{id};rport\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: {n} {method}\r\nContent-Length: 0\r\n\r\n",
            get(Name::Contact).trim_matches(['<', '>'])
        ));
        if method == "ACK" {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    if let Some(line) = line {
        let bye = heard.request(called, line, Method::Bye);
        line.send(Response::to(&bye, 200, None).to_bytes());
    }
    assert_eq!(heard.answer("the caller", caller).status, 200);
}

/// Calls, a registration, a trunk and a client: what all of them were told.
fn everything(gateway: &Gateway, carrier: &UdpSocket) -> Heard {
    let mut heard = Heard::default();
    // The trunk's registrar, before anything else.
    let mut buffer = [0; 65_536];
    let mut registered = false;
    let mut asked = false;
    carrier.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    while !(registered && asked) {
        let (count, from) = carrier.recv_from(&mut buffer).expect("the trunk is kept");
        heard.note("the trunk", &buffer[..count]);
        let Ok(Message::Request(request)) = Message::parse(&buffer[..count]) else { continue };
        registered |= request.method == Method::Register;
        asked |= request.method == Method::Options;
        let mut answer = Response::to(&request, 200, Some("carrier"));
        if let Some(contact) = request.headers.get(&Name::Contact) {
            answer.headers.push(Name::Contact, format!("{contact};expires=3600"));
        }
        carrier.send_to(&answer.to_bytes(), from).unwrap();
    }
    let mut bob = Stranger::at([127, 7, 0, 2], gateway);
    let text = request(&mut bob, "REGISTER", "bob", "bob");
    let text = signed(&mut bob, "bob", "bob-secret", &text);
    bob.send(text);
    assert_eq!(heard.answer("bob", &bob).status, 200);
    let mut caller = Stranger::at([127, 7, 0, 1], gateway);
    for method in ["OPTIONS", "MESSAGE", "SUBSCRIBE", "REGISTER"] {
        let text = request(&mut caller, method, "alice", "nobody");
        caller.send(text);
        heard.answer(method, &caller);
    }
    call(&mut heard, &mut caller, "hall", None);
    call(&mut heard, &mut caller, "bob", Some(&bob));
    let trunk = Stranger::over(carrier.try_clone().unwrap(), gateway);
    call(&mut heard, &mut caller, "+4930123", Some(&trunk));

    let web = Web::of(gateway).from(Ipv4Addr::new(127, 7, 0, 3));
    let client = Client::over(&web, "hall", "Somebody", "");
    heard.note("request_token", client.granted.to_string());
    let mut events = client.events();
    for what in ["participants", "conference_status"] {
        let (code, told) = client.get(what);
        heard.note(what, format!("{code} {told}"));
    }
    while let Some((name, value)) = events.within(Duration::from_millis(500)) {
        heard.note(&name, value.to_string());
    }
    heard
}

fn names(heard: &Heard, ours: &[&str]) {
    let ours: BTreeSet<IpAddr> = ours.iter().map(|it| it.parse().unwrap()).collect();
    let mut seen = BTreeSet::new();
    for (what, text) in &heard.0 {
        for address in addresses(text) {
            assert!(ours.contains(&address) || is_a_peers(&address), "{what} is told of {address}:\n{text}");
            seen.insert(address);
        }
    }
    assert!(ours.is_subset(&seen), "of {ours:?} only {seen:?} are ever named");
    assert!(heard.0.len() >= 20, "{}", heard.0.len());
}

#[test]
fn promise_46_only_configured_addresses_are_named() {
    for (sip, media, ours) in [
        // Nothing is configured: the address that leads to the peer, and no other of this machine.
        ("", "", vec!["127.0.0.1"]),
        ("public_address = \"203.0.113.7\"", "", vec!["203.0.113.7"]),
        (
            "public_address = \"203.0.113.7\"",
            "public_address = \"203.0.113.8\"",
            vec!["203.0.113.7", "203.0.113.8"],
        ),
    ] {
        let carrier = UdpSocket::bind(("127.7.0.9", free_port())).unwrap();
        let gateway = gateway(&carrier, sip, media);
        names(&everything(&gateway, &carrier), &ours);
    }
}
