//! Somebody at any address of loopback, who writes SIP by hand and means no good.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crosspoint_proto::sip::auth::{Account, Client, Secret};
use crosspoint_proto::sip::{Message, Response};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::gateway::Gateway;
use super::register::final_answer;

/// One socket.
pub struct Stranger {
    socket: UdpSocket,
    to: SocketAddr,
    sent: u32,
}

/// What a flood brought.
#[derive(Debug, Default)]
pub struct Flood {
    pub sent: usize,
    /// Answers in each second since the first request.
    pub heard: Vec<usize>,
    pub statuses: Vec<u16>,
}

impl Stranger {
    pub fn at(address: impl Into<Ipv4Addr>, gateway: &Gateway) -> Self {
        Self::on(address, 0, gateway)
    }

    /// On a certain port.
    pub fn on(address: impl Into<Ipv4Addr>, port: u16, gateway: &Gateway) -> Self {
        Self::over(UdpSocket::bind((address.into(), port)).unwrap(), gateway)
    }

    /// By that socket.
    pub fn over(socket: UdpSocket, gateway: &Gateway) -> Self {
        let to = SocketAddr::from(([127, 0, 0, 1], gateway.sip));
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self { socket, to, sent: 0 }
    }

    /// A request of that method for `called`, with `more` headers that end with a line end each.
    pub fn request(&mut self, method: &str, caller: &str, called: &str, more: &str) -> String {
        self.sent += 1;
        let (at, server, n) = (self.socket.local_addr().unwrap(), self.to.port(), self.sent);
        let body = if method == "INVITE" {
            let ip = at.ip();
            format!(
                "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 29000 RTP/AVP 0\r\n"
            )
        } else {
            String::new()
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        // A registrar is asked for the caller himself.
        let (uri, to) = match method {
            "REGISTER" => (format!("sip:127.0.0.1:{server}"), caller),
            _ => (format!("sip:{called}@127.0.0.1:{server}"), called),
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{port}x{n};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{caller}@127.0.0.1>;tag=t{n}\r\nTo: <sip:{to}@127.0.0.1>\r\n\
             Call-ID: c{n}-{at}\r\nCSeq: 1 {method}\r\nContact: <sip:x@{at}>\r\n{more}{kind}\
             Content-Length: {length}\r\n\r\n{body}",
            port = at.port(),
            length = body.len(),
        )
    }

    /// Sends it as it is.
    pub fn send(&self, text: impl AsRef<[u8]>) {
        let _ = self.socket.send(text.as_ref());
    }

    /// The next final answer; nothing when none comes in time.
    pub fn hear(&self) -> Option<Response> {
        final_answer(&self.socket)
    }

    /// The next message, whatever it is; nothing when none comes in time.
    pub fn receive(&self) -> Option<Message> {
        let mut buffer = [0; 65_536];
        loop {
            let count = self.socket.recv(&mut buffer).ok()?;
            if let Ok(message) = Message::parse(&buffer[..count]) {
                return Some(message);
            }
        }
    }

    /// Where it is.
    pub fn here(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends such a request; its final answer.
    pub fn ask(&mut self, method: &str, caller: &str, called: &str, more: &str) -> Option<Response> {
        let text = self.request(method, caller, called, more);
        self.send(&text);
        self.hear()
    }

    /// Waits for an answer no longer than that.
    pub fn patience(&self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).unwrap();
    }

    /// Octets that come within that time, whatever they are.
    pub fn octets(&self, time: Duration) -> usize {
        let (mut buffer, end, mut octets) = ([0; 65_536], Instant::now() + time, 0);
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.patience(left);
            octets += self.socket.recv(&mut buffer).unwrap_or(0);
        }
        octets
    }

    /// INVITEs at that rate, whatever is answered.
    pub fn flood(&mut self, rate: u64, time: Duration) -> Flood {
        self.socket.set_nonblocking(true).unwrap();
        let (start, mut flood, mut buffer) = (Instant::now(), Flood::default(), [0; 65_536]);
        while start.elapsed() < time {
            let due = (start.elapsed().as_millis() as u64 * rate / 1_000) as usize;
            while flood.sent < due {
                let text = self.request("INVITE", "stranger", "nobody", "");
                self.send(&text);
                flood.sent += 1;
            }
            while let Ok(count) = self.socket.recv(&mut buffer) {
                let second = start.elapsed().as_secs() as usize;
                flood.heard.resize(flood.heard.len().max(second + 1), 0);
                flood.heard[second] += 1;
                if let Ok(Message::Response(response)) = Message::parse(&buffer[..count]) {
                    flood.statuses.push(response.status);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.socket.set_nonblocking(false).unwrap();
        flood
    }
}

/// The same request with the digest of `user`, for the challenge of a REGISTER.
pub fn signed(stranger: &mut Stranger, user: &str, password: &str, text: &str) -> String {
    let account = Account {
        username: user.to_owned(),
        secret: Secret::Password(password.to_owned()),
        realm: None,
        peers: vec![[127, 0, 0, 1].into()],
    };
    let challenge = stranger.ask("REGISTER", user, user, "").expect("a challenge");
    assert_eq!(challenge.status, 401);
    let Ok(Message::Request(mut request)) = Message::parse(text.as_bytes()) else { panic!("{text}") };
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    let answered = Client::new(account).answer(&request, &challenge, [127, 0, 0, 1].into(), &mut rng);
    let (name, credentials) = answered.unwrap();
    request.headers.set(name, credentials);
    String::from_utf8(request.to_bytes().to_vec()).unwrap()
}

/// Processor time of the program so far.
pub fn busy(gateway: &Gateway) -> Duration {
    Duration::from_nanos(super::cpu::of_process(gateway.pid()))
}

/// Resident memory of the program, in KiB.
pub fn resident(gateway: &Gateway) -> u64 {
    kib(gateway, "VmRSS:")
}

/// The most that it has had.
pub fn resident_at_most(gateway: &Gateway) -> u64 {
    kib(gateway, "VmHWM:")
}

fn kib(gateway: &Gateway, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
