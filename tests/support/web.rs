//! A client of the API as plain as can be: HTTP/1.1 over TLS with the gateway's own certificate as
//! the only one that it trusts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::gateway::Gateway;
use super::{PATIENCE, wait_for};

/// Where and how a gateway serves clients, and the address that its requests come from.
#[derive(Clone, Debug)]
pub struct Web {
    to: SocketAddr,
    from: Ipv4Addr,
    tls: Option<Arc<ClientConfig>>,
    headers: String,
    /// Octets that the system takes for us before we read; `None`: as many as it likes.
    buffer: Option<usize>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// Its headers, names in lower case, a line each.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What is called `result`.
    pub fn result(&self) -> Value {
        self.json()["result"].clone()
    }
}

impl Web {
    /// The HTTPS listener of `gateway`.
    pub fn of(gateway: &Gateway) -> Self {
        let certificate = gateway.scratch.path().join("data/tls/certificate.pem");
        Self::tls((Ipv4Addr::LOCALHOST, gateway.web).into(), &certificate)
    }

    /// TLS with the certificate of that file.
    pub fn tls(to: SocketAddr, certificate: &std::path::Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        Self { to, from: Ipv4Addr::LOCALHOST, tls: Some(Arc::new(tls)), headers: String::new(), buffer: None }
    }

    /// Without TLS.
    pub const fn plain(to: SocketAddr) -> Self {
        Self { to, from: Ipv4Addr::LOCALHOST, tls: None, headers: String::new(), buffer: None }
    }

    pub const fn address(&self) -> SocketAddr {
        self.to
    }

    /// The same, from another address of loopback.
    #[must_use]
    pub fn from(&self, from: Ipv4Addr) -> Self {
        Self { from, ..self.clone() }
    }

    /// The same by another port of loopback, which leads there.
    #[must_use]
    pub fn by(&self, port: u16) -> Self {
        Self { to: (Ipv4Addr::LOCALHOST, port).into(), ..self.clone() }
    }

    /// The same, with little room for what is not read.
    #[must_use]
    pub fn narrow(&self) -> Self {
        Self { buffer: Some(4_096), ..self.clone() }
    }

    /// The same, with one more header in every request.
    #[must_use]
    pub fn header(&self, name: &str, value: &str) -> Self {
        Self { headers: format!("{}{name}: {value}\r\n", self.headers), ..self.clone() }
    }

    /// A connection; its handshake is done with the first byte.
    pub fn connect(&self) -> std::io::Result<Connection> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((self.from, 0)).into())?;
        if let Some(buffer) = self.buffer {
            socket.set_recv_buffer_size(buffer)?;
        }
        socket.connect(&self.to.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Connection::Plain(stream),
            Some(tls) => {
                let name = ServerName::IpAddress(self.to.ip().into());
                let tls = ClientConnection::new(tls.clone(), name).unwrap();
                Connection::Tls(Box::new(StreamOwned::new(tls, stream)))
            }
        })
    }

    /// Sends a request on a connection.
    pub fn ask(
        &self,
        to: &mut Connection,
        head: &str,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> std::io::Result<()> {
        let body = body.as_ref();
        let head = format!(
            "{head} HTTP/1.1\r\nHost: {}\r\n{}{headers}Content-Length: {}\r\n\r\n",
            self.to,
            self.headers,
            body.len()
        );
        to.write_all(&[head.as_bytes(), body].concat())?;
        to.flush()
    }

    /// One request on a connection of its own. `headers` are whole lines.
    pub fn request(&self, head: &str, headers: &str, body: impl AsRef<[u8]>) -> std::io::Result<Answer> {
        let mut connection = self.connect()?;
        connection.patience(PATIENCE);
        self.ask(&mut connection, head, &format!("{headers}Connection: close\r\n"), body)?;
        let mut incoming = Incoming::new(connection);
        let (code, head) = incoming.head()?;
        let body = incoming.body(&head)?;
        Ok(Answer { code, head, body })
    }

    /// Opens the event stream of that path with that token; its code, and it.
    pub fn events(&self, path: &str, token: &str) -> std::io::Result<(u16, Events)> {
        let mut connection = self.connect()?;
        connection.patience(PATIENCE);
        // As clients do it: no header, the token in the query.
        let head = format!("GET {path}?token={token}");
        self.ask(&mut connection, &head, "Accept: text/event-stream\r\n", "")?;
        let mut incoming = Incoming::new(connection);
        let (code, _) = incoming.head()?;
        Ok((code, Events { incoming, text: String::new() }))
    }

    /// Asks for a token. An empty `pin` is none.
    pub fn request_token(&self, alias: &str, name: &str, pin: &str) -> Answer {
        let pin = if pin.is_empty() { String::new() } else { format!("pin: {pin}\r\n") };
        let body = json!({ "display_name": name }).to_string();
        let head = format!("POST /api/client/v2/conferences/{alias}/request_token");
        let json = "Content-Type: application/json\r\n";
        self.request(&head, &format!("{pin}{json}"), &body).unwrap()
    }
}

/// With or without TLS.
#[derive(Debug)]
pub enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    /// Reads fail as timed out after `time`.
    pub fn patience(&self, time: Duration) {
        self.socket().set_read_timeout(Some(time.max(Duration::from_millis(1)))).unwrap();
    }
}

impl Read for Connection {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(to),
            Self::Tls(stream) => stream.read(to),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(from),
            Self::Tls(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Reads answers. What a read that timed out brought is kept for the next.
#[derive(Debug)]
pub struct Incoming {
    connection: Connection,
    buffer: Vec<u8>,
}

impl Incoming {
    pub const fn new(connection: Connection) -> Self {
        Self { connection, buffer: Vec::new() }
    }

    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mut more = [0; 16 * 1024];
        match self.connection.read(&mut more)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&more[..count]);
                Ok(())
            }
        }
    }

    /// Everything up to the next `end`, without it.
    fn until(&mut self, end: &[u8]) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|it| it == end) {
                let found = self.buffer[..at].to_vec();
                self.buffer.drain(..at + end.len());
                return Ok(found);
            }
            self.fill()?;
        }
    }

    /// Code and headers of the next answer.
    pub fn head(&mut self) -> std::io::Result<(u16, String)> {
        let head = String::from_utf8(self.until(b"\r\n\r\n")?).unwrap();
        let code = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        let code = code.unwrap_or_else(|| panic!("no HTTP: {head}"));
        Ok((code, head.to_ascii_lowercase()))
    }

    /// The body that belongs to `head`.
    pub fn body(&mut self, head: &str) -> std::io::Result<Vec<u8>> {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if let Some(length) = length.map(|it| it.trim().parse::<usize>().unwrap()) {
            while self.buffer.len() < length {
                self.fill()?;
            }
            return Ok(self.buffer.drain(..length).collect());
        }
        let mut body = Vec::new();
        if head.contains("transfer-encoding: chunked") {
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
        }
        Ok(body)
    }

    /// The next chunk; `None`: that was all. Nothing is taken before all of it is there.
    fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|it| it == b"\r\n") {
                let size = std::str::from_utf8(&self.buffer[..at]).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let start = at + 2;
                if self.buffer.len() >= start + size + 2 {
                    let chunk = self.buffer[start..start + size].to_vec();
                    self.buffer.drain(..start + size + 2);
                    return Ok((size > 0).then_some(chunk));
                }
            }
            self.fill()?;
        }
    }
}

/// Waits until clients find the conference of an alias that was just added. Each look comes from
/// another address: who asks for what is not there too often is told nothing more.
pub fn wait_until_known(gateway: &Gateway, alias: &str) {
    let web = Web::of(gateway);
    let mut looks = 0_u16;
    wait_for("the conference to be known", || {
        let [high, low] = looks.to_be_bytes();
        looks += 1;
        let from = Ipv4Addr::new(127, 99, high, low);
        (web.from(from).request_token(alias, "", "").code != 404).then_some(())
    });
}

/// A participant by the client API.
#[derive(Clone, Debug)]
pub struct Client {
    pub web: Web,
    pub alias: String,
    pub token: String,
    /// In the roster.
    pub uuid: String,
    /// All that the answer to `request_token` said.
    pub granted: Value,
}

impl Client {
    /// Joins, which must succeed. An empty `pin` is none.
    pub fn join(gateway: &Gateway, alias: &str, name: &str, pin: &str) -> Self {
        Self::over(&Web::of(gateway), alias, name, pin)
    }

    /// The same over any way to the gateway.
    pub fn over(web: &Web, alias: &str, name: &str, pin: &str) -> Self {
        let answer = web.request_token(alias, name, pin);
        assert_eq!(answer.code, 200, "{name}: {}", answer.json());
        let granted = answer.result();
        let text = |key: &str| granted[key].as_str().unwrap().to_owned();
        let (token, uuid) = (text("token"), text("participant_uuid"));
        Self { web: web.clone(), alias: alias.into(), token, uuid, granted }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/client/v2/conferences/{}/{rest}", self.alias)
    }

    /// Code and `result`. An empty `body` is none.
    pub fn post(&self, command: &str, body: &str) -> (u16, Value) {
        let headers = format!("token: {}\r\nContent-Type: application/json\r\n", self.token);
        let answer = self.web.request(&format!("POST {}", self.path(command)), &headers, body).unwrap();
        (answer.code, answer.result())
    }

    /// Shows a still, as a form of which it is one field.
    pub fn upload(&self, still: &[u8]) -> (u16, Value) {
        let field = "--b\r\nContent-Disposition: form-data; name=\"frame\"; filename=\"slide.jpg\"\r\n\
                     Content-Type: image/jpeg\r\n\r\n";
        let form = [field.as_bytes(), still, b"\r\n--b--\r\n"].concat();
        let headers = format!("token: {}\r\nContent-Type: multipart/form-data; boundary=b\r\n", self.token);
        let answer =
            self.web.request(&format!("POST {}", self.path("presentation")), &headers, form).unwrap();
        (answer.code, answer.result())
    }

    /// Code and `result`.
    pub fn get(&self, what: &str) -> (u16, Value) {
        let head = format!("GET {}", self.path(what));
        let answer = self.web.request(&head, &format!("token: {}\r\n", self.token), "").unwrap();
        (answer.code, answer.result())
    }

    /// The participants that it sees, by name.
    pub fn participant(&self, name: &str) -> Option<Value> {
        let (code, all) = self.get("participants");
        assert_eq!(code, 200, "{all}");
        all.as_array().unwrap().iter().find(|it| it["display_name"] == name).cloned()
    }

    /// Waits until somebody of that name is there.
    pub fn sees(&self, name: &str) -> Value {
        wait_for(name, || self.participant(name))
    }

    /// A new token in place of this one.
    pub fn refresh(&mut self) {
        let (code, result) = self.post("refresh_token", "");
        assert_eq!(code, 200, "{result}");
        self.token = result["token"].as_str().unwrap().to_owned();
    }

    /// Opens the event stream, which must be answered with 200 at once.
    pub fn events(&self) -> Events {
        let (code, events) = self.try_events().unwrap();
        assert_eq!(code, 200);
        events
    }

    /// Opens the event stream.
    pub fn try_events(&self) -> std::io::Result<(u16, Events)> {
        self.web.events(&self.path("events"), &self.token)
    }
}

/// An event stream.
#[derive(Debug)]
pub struct Events {
    incoming: Incoming,
    text: String,
}

impl Events {
    pub fn connection(&mut self) -> &mut Connection {
        self.incoming.connection()
    }

    /// The next event within `time`, if there is one: its name and its data. Panics when the stream
    /// is over.
    pub fn within(&mut self, time: Duration) -> Option<(String, Value)> {
        self.next_or_end(time).map(|it| it.expect("the stream is over"))
    }

    /// The next event within `time`; `Some(None)` when the stream is over.
    pub fn next_or_end(&mut self, time: Duration) -> Option<Option<(String, Value)>> {
        let end = Instant::now() + time;
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = event(block);
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(Some(event)),
                    // A comment.
                    None => continue,
                }
            }
            let left = end.checked_duration_since(Instant::now())?;
            self.incoming.connection.patience(left);
            match self.incoming.chunk() {
                Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Ok(None) => return Some(None),
                Err(error) if is_late(&error) => {}
                Err(_) => return Some(None),
            }
        }
    }

    /// The next event, whatever it is.
    pub fn next(&mut self) -> (String, Value) {
        self.within(PATIENCE).expect("an event")
    }

    /// The data of the next event of that name; others before it are passed over.
    pub fn until(&mut self, name: &str) -> Value {
        self.until_that(name, |_| true)
    }

    /// The data of the next event of that name which `is` what is looked for.
    pub fn until_that(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until_one_of(&[name], is)
    }

    fn until_one_of(&mut self, names: &[&str], is: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (found, data) = self.within(left).unwrap_or_else(|| panic!("waited in vain for {names:?}"));
            if names.contains(&found.as_str()) && is(&data) {
                return data;
            }
        }
    }

    /// A participant as he `is` looked for. Who has got there between two looks of the conference at itself
    /// is new to the stream as that; others were there before and have changed.
    pub fn until_participant(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        self.until_one_of(&["participant_create", "participant_update"], is)
    }

    /// Whether nothing of that name comes for `time`.
    pub fn silent(&mut self, name: &str, time: Duration) -> bool {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.within(left).is_some_and(|(found, _)| found == name) {
                return false;
            }
        }
        true
    }
}

pub fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// `None`: a comment.
fn event(block: &str) -> Option<(String, Value)> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        lines.collect::<Vec<_>>().join("\n")
    };
    let name = field("event");
    if name.is_empty() {
        return None;
    }
    Some((name, serde_json::from_str(&field("data")).expect("data that is JSON")))
}
