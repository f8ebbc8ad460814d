//! Promise 13 over sockets: who vanishes within a call gives his ports and his connection back.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crosspoint_proto::sip::{Message, Name, Response};

use crate::support::gateway::Gateway;
use crate::support::stranger::Stranger;
use crate::support::wait_for;
use crate::support::web::{Connection, Web};

/// Guests by each transport.
const EACH: u8 = 8;

/// Whom a guest talks by, until it is dropped.
enum Line {
    Datagrams(Stranger),
    Stream(Connection),
}

impl Line {
    fn say(&mut self, text: &str) {
        match self {
            Self::Datagrams(line) => line.send(text),
            Self::Stream(stream) => {
                stream.write_all(text.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        }
    }

    /// The final answer.
    fn hear(&mut self) -> Response {
        match self {
            Self::Datagrams(line) => line.hear().expect("an answer"),
            Self::Stream(stream) => {
                stream.patience(Duration::from_secs(5));
                let (mut heard, mut piece) = (Vec::new(), [0; 4_096]);
                loop {
                    let count = stream.read(&mut piece).unwrap();
                    assert!(count > 0, "closed");
                    heard.extend_from_slice(&piece[..count]);
                    let at = heard.windows(10).position(|it| it == b"SIP/2.0 20").unwrap_or(heard.len());
                    if let Ok(Message::Response(answer)) = Message::parse(&heard[at..]) {
                        return answer;
                    }
                }
            }
        }
    }
}

/// A guest in the hall.
fn enter(gateway: &Gateway, transport: &str, at: [u8; 4]) -> Line {
    let mut scribe = Stranger::at(at, gateway);
    let invite =
        scribe.request("INVITE", "guest", "hall", "").replace("SIP/2.0/UDP", &format!("SIP/2.0/{transport}"));
    let stream = |web: Web| Line::Stream(web.from(at.into()).connect().unwrap());
    let to = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut line = match transport {
        "TCP" => stream(Web::plain(to(gateway.sip))),
        "TLS" => {
            let certificate = gateway.scratch.path().join("data/tls/certificate.pem");
            stream(Web::tls(to(gateway.tls), &certificate))
        }
        _ => Line::Datagrams(scribe),
    };
    line.say(&invite);
    let ok = line.hear();
    assert_eq!(ok.status, 200, "{transport}");
    let get = |name: Name| ok.headers.get(&name).unwrap();
    let (via, [.., kind, n]) = (get(Name::Via).split(';').next().unwrap(), at);
    line.say(&format!(
        "ACK sip:hall@127.0.0.1 SIP/2.0\r\nVia: {via};branch=z9hG4bKack{kind}x{n}\r\nMax-Forwards: 70\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
        get(Name::From),
        get(Name::To),
        get(Name::CallId),
    ));
    line
}

#[test]
fn promise_13_who_vanishes_gives_his_ports_and_his_connection_back() {
    let mut gateway = Gateway::with_conferences(&[], "", &[&["Hall", "--alias", "hall"]]);
    let text = gateway.config().replace("[media]\n", "[media]\ntimeout = \"5s\"\n");
    gateway.set_config(&text);
    gateway.kill_and_restart();
    let mut guests = Vec::new();
    for (place, transport) in ["UDP", "TCP", "TLS"].into_iter().enumerate() {
        for n in 1..=EACH {
            guests.push(enter(&gateway, transport, [127, 8, u8::try_from(place).unwrap(), n]));
        }
    }
    let used = |gateway: &Gateway| gateway.status()["media_ports"]["used"].as_u64().unwrap();
    let calls = |gateway: &Gateway| gateway.status()["calls"].as_array().unwrap().len();
    let all = usize::from(EACH) * 3;
    assert_eq!(calls(&gateway), all);
    // A port that was opened for what is not agreed is closed by its thread, a moment later.
    wait_for("a port for each", || (used(&gateway) == all as u64).then_some(()));
    drop(guests);
    let begun = Instant::now();
    wait_for("all ports to be free", || (used(&gateway) == 0).then_some(()));
    wait_for("all calls to be over", || (calls(&gateway) == 0).then_some(()));
    // After 5 s without media; the rest only bounds a hang.
    assert!(begun.elapsed() <= Duration::from_secs(15), "{:?}", begun.elapsed());
    let status = gateway.status();
    let sip = status["signalling"].as_array().unwrap().iter().find(|it| it["protocol"] == "sip").unwrap();
    assert_eq!(sip["connections"], 0);
}
