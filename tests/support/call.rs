//! A call by hand: two bare sockets, enough SIP that it stands, no media.

use std::net::UdpSocket;
use std::time::Duration;

use crosspoint_proto::sip::{Message, Method, Name, Response};

use super::free_port;
use super::register::Registering;

/// The two ends of a call that stands.
#[derive(Debug)]
pub struct StandingCall {
    pub caller: UdpSocket,
    pub callee: UdpSocket,
}

impl StandingCall {
    /// From a stranger who speaks PCMA to the device `user`, which speaks PCMU and registers first.
    pub fn new(server: u16, user: &str, password: &str) -> Self {
        Self::with(server, user, password, [&sdp(8), &sdp(0)]).0
    }

    /// The same with bodies of one's own, the caller's first; what each of both was told in return.
    pub fn with(server: u16, user: &str, password: &str, sdp: [&str; 2]) -> (Self, [String; 2]) {
        let port = free_port();
        assert_eq!(Registering::on(server, port, port.into()).register(user, password), Some(200));
        let [caller, callee] = [0, port].map(|port| {
            // A program that another test starts holds the port of before for a moment.
            let socket = super::wait_for("the port", || UdpSocket::bind(("127.0.0.1", port)).ok());
            socket.connect(("127.0.0.1", server)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        });
        let here = caller.local_addr().unwrap();
        let request = |method: &str, uri: &str, to_tag: &str, sdp: &str| {
            format!(
                "{method} {uri} SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {here};branch=z9hG4bK-{method};rport\r\n\
                 Max-Forwards: 70\r\n\
                 From: <sip:stranger@{here}>;tag=stranger\r\n\
                 To: <sip:{user}@127.0.0.1>{to_tag}\r\n\
                 Call-ID: by-hand@{here}\r\n\
                 CSeq: 1 {method}\r\n\
                 Contact: <sip:stranger@{here}>\r\n\
                 Content-Type: application/sdp\r\n\
                 Content-Length: {}\r\n\r\n{sdp}",
                sdp.len()
            )
        };
        let to = format!("sip:{user}@127.0.0.1:{server}");
        caller.send(request("INVITE", &to, "", sdp[0]).as_bytes()).unwrap();
        let invite = receive(&callee, |message| match message {
            Message::Request(request) if request.method == Method::Invite => Some(request),
            _ => None,
        });
        let mut answer =
            Response::to(&invite, 200, Some("callee")).with_body("application/sdp", sdp[1].to_owned());
        answer.headers.push(Name::Contact, format!("<sip:{user}@127.0.0.1:{port}>"));
        callee.send(&answer.to_bytes()).unwrap();
        let answered = receive(&caller, |message| match message {
            Message::Response(response) if response.is_success() => Some(response),
            _ => None,
        });
        let to_tag = answered.headers.to().and_then(|to| to.tag().map(str::to_owned)).unwrap();
        caller.send(request("ACK", &to, &format!(";tag={to_tag}"), "").as_bytes()).unwrap();
        let body = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        let told = [body(&answered.body), body(&invite.body)];
        (Self { caller, callee }, told)
    }

    /// Waits until both ends are told that the call is over, and says yes to it.
    pub fn is_hung_up(&self) {
        for socket in [&self.caller, &self.callee] {
            let bye = receive(socket, |message| match message {
                Message::Request(request) if request.method == Method::Bye => Some(request),
                _ => None,
            });
            socket.send(&Response::to(&bye, 200, None).to_bytes()).unwrap();
        }
    }
}

/// The final answer to a stranger who calls `user` without an offer; `n` makes it a call of its own.
pub fn invite(server: u16, user: &str, n: u64) -> Response {
    let text = format!(
        "INVITE sip:{user}@127.0.0.1:{server} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK-late-{n};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:late@127.0.0.1>;tag=late{n}\r\nTo: <sip:{user}@127.0.0.1>\r\n\
         Call-ID: late-{n}@test\r\nCSeq: 1 INVITE\r\nContact: <sip:late@127.0.0.1:9>\r\n\
         Content-Length: 0\r\n\r\n"
    );
    Registering::new(server, n).send(&text).expect("a final answer")
}

fn sdp(payload_type: u8) -> String {
    sdp_at(free_port(), payload_type)
}

/// Sound at a port of ours, in one static format (RFC 3551).
pub fn sdp_at(rtp: u16, payload_type: u8) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {rtp} RTP/AVP {payload_type}\r\n"
    )
}

/// The next message that is wanted; others are passed over.
fn receive<T>(socket: &UdpSocket, mut wanted: impl FnMut(Message) -> Option<T>) -> T {
    let mut buffer = [0; 65_536];
    loop {
        let len = socket.recv(&mut buffer).expect("a message within five seconds");
        if let Some(found) = Message::parse(&buffer[..len]).ok().and_then(&mut wanted) {
            return found;
        }
    }
}
