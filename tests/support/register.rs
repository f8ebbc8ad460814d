//! A bare SIP client for registrations: one socket or connection, one answer at a time.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use crosspoint_proto::sip::auth::{Account, Client, Secret};
use crosspoint_proto::sip::{Message, Name, Request, Response};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// A client on a port of its own.
pub struct Registering {
    socket: UdpSocket,
    stream: Option<TcpStream>,
    server: u16,
    rng: ChaCha12Rng,
    cseq: u32,
}

impl Registering {
    pub fn new(server: u16, seed: u64) -> Self {
        Self::on(server, 0, seed)
    }

    /// On a certain port.
    pub fn on(server: u16, port: u16, seed: u64) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        socket.connect(("127.0.0.1", server)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self { socket, stream: None, server, rng: ChaCha12Rng::seed_from_u64(seed), cseq: 0 }
    }

    /// By a connection, which stands as long as the client.
    pub fn by_tcp(server: u16, seed: u64) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self { stream: Some(stream), ..Self::new(server, seed) }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// What it has registered from.
    pub fn into_socket(self) -> UdpSocket {
        self.socket
    }

    /// Registers `user` with digest; the last status, or `None` when nobody answers.
    pub fn register(&mut self, user: &str, password: &str) -> Option<u16> {
        Some(self.register_with(user, password, &[])?.status)
    }

    /// The same with further headers; the last answer.
    pub fn register_with(&mut self, user: &str, password: &str, more: &[(Name, &str)]) -> Option<Response> {
        let call_id = format!("{:x}@test", self.rng.next_u64());
        let account = Account {
            username: user.to_owned(),
            secret: Secret::Password(password.to_owned()),
            realm: None,
            peers: vec![[127, 0, 0, 1].into()],
        };
        let mut client = Client::new(account);
        let asked = self.request(user, &call_id, more);
        let first = self.exchange(&asked)?;
        if first.status != 401 {
            return Some(first);
        }
        let peer = [127, 0, 0, 1].into();
        let (name, credentials) = client.answer(&asked, &first, peer, &mut self.rng).unwrap();
        let mut second = self.request(user, &call_id, more);
        second.headers.push(name, credentials);
        self.exchange(&second)
    }

    /// Answers one.
    pub fn answer(&self, request: &Request, status: u16) {
        self.socket.send(&Response::to(request, status, Some("far")).to_bytes()).unwrap();
    }

    /// The next request that comes.
    pub fn asked(&self) -> Request {
        let mut buffer = [0; 65_536];
        loop {
            let count = self.socket.recv(&mut buffer).expect("a request within two seconds");
            if let Ok(Message::Request(request)) = Message::parse(&buffer[..count]) {
                return request;
            }
        }
    }

    /// Sends any request text and returns the answer's status.
    pub fn send(&self, text: &str) -> Option<Response> {
        self.socket.send(text.as_bytes()).ok()?;
        self.receive()
    }

    fn request(&mut self, user: &str, call_id: &str, more: &[(Name, &str)]) -> Request {
        self.cseq += 1;
        let (port, server) = (self.port(), self.server);
        let (via, contact) = if self.stream.is_some() { ("TCP", ";transport=tcp") } else { ("UDP", "") };
        let text = format!(
            "REGISTER sip:127.0.0.1:{server} SIP/2.0\r\n\
             Via: SIP/2.0/{via} 127.0.0.1:{port};branch=z9hG4bK{branch:x};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@127.0.0.1>;tag={branch:x}\r\n\
             To: <sip:{user}@127.0.0.1>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{user}@127.0.0.1:{port}{contact}>;expires=3600\r\n\
             Content-Length: 0\r\n\r\n",
            branch = self.rng.next_u64(),
            cseq = self.cseq,
        );
        match Message::parse(text.as_bytes()).unwrap() {
            Message::Request(mut request) => {
                more.iter().for_each(|(name, value)| request.headers.push(name.clone(), value));
                request
            }
            Message::Response(_) => unreachable!("a request was written"),
        }
    }

    fn exchange(&mut self, request: &Request) -> Option<Response> {
        let Some(stream) = &mut self.stream else {
            self.socket.send(&request.to_bytes()).ok()?;
            return self.receive();
        };
        stream.write_all(&request.to_bytes()).ok()?;
        let mut read = Vec::new();
        let mut buffer = [0; 4_096];
        // None of these answers has a body.
        while !read.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            read.extend_from_slice(&buffer[..count]);
        }
        match Message::parse(&read) {
            Ok(Message::Response(response)) => Some(response),
            _ => None,
        }
    }

    fn receive(&self) -> Option<Response> {
        final_answer(&self.socket)
    }
}

/// The next final answer that comes; nothing when none comes in time.
pub fn final_answer(socket: &UdpSocket) -> Option<Response> {
    let mut buffer = [0; 65_536];
    loop {
        let count = socket.recv(&mut buffer).ok()?;
        match Message::parse(&buffer[..count]) {
            Ok(Message::Response(response)) if response.status >= 200 => return Some(response),
            _ => {}
        }
    }
}
