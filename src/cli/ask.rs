//! Asking the running gateway, over its management listener.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crosspoint_gateway::api::admin::PREFIX;
use crosspoint_gateway::records::clean;
use crosspoint_gateway::tokens::LOCAL_FILE;
use serde_json::Value;

use super::{Failure, Setting};

/// How long the gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A longer answer is not read: ten thousand calls need a tenth of it.
const ANSWER: u64 = 256 << 20;

/// Longest head of an answer.
const HEAD: usize = 16 << 10;

/// The management listener of a gateway on this machine, with the token that it has left for us.
pub(super) struct Management {
    address: SocketAddr,
    token: String,
}

impl Management {
    /// That of the gateway which runs on the data folder.
    pub(super) fn of(setting: &Setting) -> Result<Self, Failure> {
        let path = setting.data.join(LOCAL_FILE);
        let token = std::fs::read_to_string(&path).map_err(|error| {
            Failure::Told(format!(
                "no gateway runs on {}, or its token is not for you ({}: {error}); start one with crosspoint run, \
                 or be the user who runs it",
                setting.data.display(),
                path.display()
            ))
        })?;
        Ok(Self { address: address(setting, None)?, token: token.trim_end().to_owned() })
    }

    /// The answer's document; null where there is none.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let headers = format!("Authorization: Bearer {}\r\n{kind}", self.token);
        let path = format!("{PREFIX}{path}");
        let (line, body) = fetch(self.address, method, &path, &headers, &body)
            .map_err(|error| nobody(self.address, &error))?;
        let code = line.split(' ').nth(1).unwrap_or_default();
        let document: Value = serde_json::from_str(&body).unwrap_or_default();
        if code.starts_with('2') {
            return Ok(document);
        }
        Err(refusal(&line, &document))
    }
}

impl Management {
    /// An answer that goes on: how to read it, and its first octets.
    pub(super) fn open(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<(TcpStream, Vec<u8>), Failure> {
        let nobody = |error: String| nobody(self.address, &error);
        let text = |error: std::io::Error| nobody(error.to_string());
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
        let body = body.to_string();
        // By HTTP/1.0 it is not cut into chunks.
        let request = format!(
            "{method} {PREFIX}{path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(text)?;
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        let end = loop {
            if let Some(at) = answer.windows(4).position(|it| it == b"\r\n\r\n") {
                break at;
            }
            match stream.read(&mut piece).map_err(text)? {
                0 => return Err(nobody("the answer is not HTTP".into())),
                _ if answer.len() > HEAD => return Err(nobody("the answer is not HTTP".into())),
                read => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            }
        };
        let mut rest = answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&answer);
        let line = head.lines().next().unwrap_or_default();
        if line.split(' ').nth(1) == Some("200") {
            // How long it takes to go on is not known.
            stream.set_read_timeout(None).map_err(text)?;
            return Ok((stream, rest));
        }
        stream.take(ANSWER).read_to_end(&mut rest).map_err(text)?;
        Err(refusal(line, &serde_json::from_slice(&rest).unwrap_or_default()))
    }
}

/// What a refusal says.
fn refusal(line: &str, document: &Value) -> Failure {
    let told =
        document["error"]["message"].as_str().map_or_else(|| clean(line), |it| in_commands(&clean(it)));
    Failure::Told(match document["error"]["field"].as_str() {
        Some(field) => format!("{}: {told}", clean(field)),
        None => told,
    })
}

/// The API names its own paths where there is more to see; here they are commands.
const COMMANDS: [(&str, &str); 6] = [
    ("GET /status/conferences/{name}/participants", "crosspoint conference participants"),
    ("GET /status/conferences", "crosspoint status"),
    ("GET /status/calls and GET /history/calls", "crosspoint status and the call records"),
    ("GET /services", "crosspoint conference list"),
    ("GET /devices", "crosspoint device list"),
    ("GET /rules", "crosspoint rule list"),
];

fn in_commands(told: &str) -> String {
    COMMANDS.iter().fold(told.to_owned(), |told, (path, command)| told.replace(path, command))
}

/// Where the management listener is: as asked, else as configured.
pub(super) fn address(setting: &Setting, asked: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    let configured = || setting.config.http.listen.first().copied();
    asked.or_else(configured).map(reachable).ok_or_else(|| {
        Failure::Told("http.listen is empty in the configuration: the gateway cannot be asked".into())
    })
}

pub(super) fn nobody(address: SocketAddr, error: &str) -> Failure {
    Failure::Told(format!(
        "no gateway answers at http://{address}: {error}; start one with crosspoint run, or name its management \
         listener with --address"
    ))
}

/// A wildcard is listened on, not connected to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Status line and body. `headers` end with a line end each.
pub(super) fn fetch(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<(String, String), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.take(ANSWER).read_to_string(&mut answer).map_err(text)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    Ok((head.lines().next().unwrap_or_default().into(), body.into()))
}

/// A name as one part of a path (RFC 3986 section 2.1).
pub(super) fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|it| if plain(it) { char::from(it).to_string() } else { format!("%{it:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:9060".parse().unwrap()).to_string(), "127.0.0.1:9060");
        assert_eq!(reachable("[::]:9060".parse().unwrap()).to_string(), "[::1]:9060");
    }

    #[test]
    fn paths_of_the_api_are_commands_here() {
        let told = |it: &str| in_commands(&format!("nobody: see GET {it}"));
        assert_eq!(told("/status/conferences"), "nobody: see crosspoint status");
        let participants = told("/status/conferences/{name}/participants");
        assert_eq!(participants, "nobody: see crosspoint conference participants");
    }

    #[test]
    fn names_are_one_part_of_a_path() {
        assert_eq!(escaped("Große Halle/1"), "Gro%C3%9Fe%20Halle%2F1");
    }
}
