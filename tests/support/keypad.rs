//! A caller by hand from any address of loopback, who enters PINs by keys (INFO). One bare socket; what
//! is said to him goes nowhere.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crosspoint_proto::sip::{Message, Method, Response};

/// A datagram that is not answered by then is sent again.
const AGAIN: Duration = Duration::from_millis(500);
/// So often.
const TIMES: usize = 20;

/// A call that stands.
#[derive(Debug)]
pub struct Keypad {
    socket: UdpSocket,
    here: SocketAddr,
    alias: String,
    name: String,
    call_id: String,
    to_tag: String,
    cseq: u32,
    over: bool,
}

impl Keypad {
    /// Calls `alias` as `name`; the status of the answer when it is no success.
    pub fn dial(server: u16, from: Ipv4Addr, alias: &str, name: &str) -> Result<Self, u16> {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, server)).unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        let here = socket.local_addr().unwrap();
        let call_id = format!("keys-{}@{here}", CALLS.fetch_add(1, Ordering::Relaxed));
        let (alias, name) = (alias.to_owned(), name.to_owned());
        let mut call =
            Self { socket, here, alias, name, call_id, to_tag: String::new(), cseq: 0, over: false };
        // Port 9 takes what it gets (RFC 863).
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n",
            here.ip()
        );
        let answer = call.request("INVITE", "application/sdp", &sdp);
        let tag = answer.headers.to().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
        call.to_tag = format!(";tag={tag}");
        call.send("ACK", call.cseq, "", "");
        if answer.is_success() { Ok(call) } else { Err(answer.status) }
    }

    /// Presses keys, one after the other. `false`: the other side has hung up.
    pub fn press(&mut self, keys: &str) -> bool {
        for key in keys.chars() {
            let status = self.request("INFO", "application/dtmf-relay", &format!("Signal={key}\r\n")).status;
            // 481: it has hung up, and its BYE is on its way.
            assert!(matches!(status, 200 | 481), "{status} for a key");
            self.over |= status == 481;
            if self.over {
                return false;
            }
        }
        true
    }

    pub fn hang_up(mut self) {
        if !self.over {
            self.request("BYE", "", "");
        }
    }

    /// The final answer to a request.
    fn request(&mut self, method: &str, kind: &str, body: &str) -> Response {
        self.cseq += 1;
        for _ in 0..TIMES {
            self.send(method, self.cseq, kind, body);
            while let Some(message) = self.receive() {
                match message {
                    Message::Response(answer) => {
                        let own = answer.headers.cseq().is_some_and(|cseq| cseq.number == self.cseq);
                        if own && answer.status >= 200 {
                            return answer;
                        }
                    }
                    Message::Request(request) => {
                        self.over |= request.method == Method::Bye;
                        self.socket.send(&Response::to(&request, 200, None).to_bytes()).unwrap();
                    }
                }
            }
        }
        panic!("{method} was not answered");
    }

    /// `None`: nothing for a while.
    fn receive(&self) -> Option<Message> {
        let mut buffer = [0; 65_536];
        loop {
            let count = self.socket.recv(&mut buffer).ok()?;
            if let Ok(message) = Message::parse(&buffer[..count]) {
                return Some(message);
            }
        }
    }

    fn send(&self, method: &str, cseq: u32, kind: &str, body: &str) {
        let Self { here, alias, name, call_id, to_tag, .. } = self;
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        // A token has no `@` and no colon (RFC 3261 section 25.1).
        let branch = format!("{call_id}-{cseq}-{method}").replace(['@', ':'], ".");
        let text = format!(
            "{method} sip:{alias}@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {here};branch=z9hG4bK-{branch};rport\r\n\
             Max-Forwards: 70\r\n\
             From: \"{name}\" <sip:stranger@{here}>;tag=stranger\r\n\
             To: <sip:{alias}@127.0.0.1>{to_tag}\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:stranger@{here}>\r\n\
             {kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send(text.as_bytes()).unwrap();
    }
}
