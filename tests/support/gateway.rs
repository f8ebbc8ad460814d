//! The gateway as users run it: its binary, a configuration file, a data folder.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

use super::{Scratch, free_port, wait_for};

/// A device that may register.
#[derive(Clone, Debug)]
pub struct Device<'a> {
    /// Alias, user name, and with "-secret" its password.
    pub name: &'a str,
    /// More lines of its section.
    pub more: String,
}

/// Where it listens beside the loopback address of IPv4, and where its media are.
struct Addresses {
    sip: u16,
    more: String,
    media: &'static str,
}

impl Addresses {
    fn new() -> Self {
        Self { sip: free_port(), more: String::new(), media: "127.0.0.1" }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    pub sip: u16,
    pub tls: u16,
    pub http: u16,
    /// HTTPS for clients.
    pub web: u16,
    child: Child,
    pub scratch: Scratch,
}

impl Gateway {
    /// With these devices (password: the name and "-secret") and more lines of configuration.
    pub fn start(devices: &[&str], more: &str) -> Self {
        let devices: Vec<_> = devices.iter().map(|name| Device { name, more: String::new() }).collect();
        Self::with(&devices, more)
    }

    /// The same, with more lines for each device.
    pub fn with(devices: &[Device<'_>], more: &str) -> Self {
        Self::with_sip(devices, more, "")
    }

    /// The same, with more lines for the section of SIP.
    pub fn with_sip(devices: &[Device<'_>], more: &str, sip_more: &str) -> Self {
        Self::with_sections(devices, more, sip_more, "", &[])
    }

    /// The same, with more lines for the section of clients.
    pub fn with_web(devices: &[&str], web_more: &str) -> Self {
        let devices: Vec<_> = devices.iter().map(|name| Device { name, more: String::new() }).collect();
        Self::with_sections(&devices, "", "", web_more, &[])
    }

    /// The same, with conferences that it knows from its start: what `conference add` is told of each.
    pub fn with_conferences(devices: &[&str], web_more: &str, conferences: &[&[&str]]) -> Self {
        let devices: Vec<_> = devices.iter().map(|name| Device { name, more: String::new() }).collect();
        Self::with_sections(&devices, "", "", web_more, conferences)
    }

    /// The same, also on the loopback address of IPv6, with media on all addresses.
    pub fn with_ipv6(devices: &[&str]) -> Self {
        let devices: Vec<_> = devices.iter().map(|name| Device { name, more: String::new() }).collect();
        let sip = free_port();
        let more = format!(", \"udp:[::1]:{sip}\", \"tcp:[::1]:{sip}\"");
        Self::with_all(&devices, "", "", "", "", &[], &Addresses { sip, more, media: "0.0.0.0" })
    }

    /// The same as [`Self::start`], also at these listeners, with more lines for the section of SIP.
    pub fn with_listeners(devices: &[&str], listeners: &[&str], sip_more: &str) -> Self {
        let devices: Vec<_> = devices.iter().map(|name| Device { name, more: String::new() }).collect();
        let more = listeners.iter().map(|listener| format!(", \"{listener}\"")).collect();
        Self::with_all(&devices, "", sip_more, "", "", &[], &Addresses { more, ..Addresses::new() })
    }

    /// The same as [`Self::start`], with more lines for the section of media.
    pub fn with_media(devices: &[&str], media_more: &str) -> Self {
        let devices: Vec<_> = devices.iter().map(|name| Device { name, more: String::new() }).collect();
        Self::with_all(&devices, "", "", media_more, "", &[], &Addresses::new())
    }

    /// With lines for every section but that of media.
    pub fn with_sections(
        devices: &[Device<'_>],
        more: &str,
        sip_more: &str,
        web_more: &str,
        conferences: &[&[&str]],
    ) -> Self {
        Self::with_all(devices, more, sip_more, "", web_more, conferences, &Addresses::new())
    }

    fn with_all(
        devices: &[Device<'_>],
        more: &str,
        sip_more: &str,
        media_more: &str,
        web_more: &str,
        conferences: &[&[&str]],
        addresses: &Addresses,
    ) -> Self {
        let scratch = Scratch::new("gateway");
        let Addresses { sip, more: listeners, media } = addresses;
        let (sip, http) = (*sip, free_port());
        let (tls, web) = (free_port(), free_port());
        let first = 30_000 + u32::from(sip) % 300 * 30;
        let mut text = format!(
            "data = \"{data}\"\n{more}\n\
             [sip]\n# This baresip stops at a challenge whose algorithm it does not know.\ndigest = [\"md5\"]\n{sip_more}\n\
             listen = [\"udp:127.0.0.1:{sip}\", \"tcp:127.0.0.1:{sip}\", \"tls:127.0.0.1:{tls}\"{listeners}]\n\
             [media]\naddress = \"{media}\"\nports = \"{first}-{last}\"\n{media_more}\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\n\
             [web]\nlisten = [\"127.0.0.1:{web}\"]\n{web_more}\n",
            data = scratch.path().join("data").display(),
            last = first + 1_999,
        );
        for device in devices {
            text.push_str(&format!(
                "[[devices]]\nalias = \"{name}\"\nusername = \"{name}\"\npassword = \"{name}-secret\"\n{more}\n",
                name = device.name,
                more = device.more,
            ));
        }
        std::fs::write(scratch.path().join("crosspoint.toml"), text).unwrap();
        for conference in conferences {
            let output = subcommand(&scratch, &[&["conference", "add"], *conference].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let child = run(&scratch);
        let this = Self { sip, tls, http, web, child, scratch };
        this.wait();
        this
    }

    /// Kills it without a word, as a power cut does, and starts it again on the same data.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = run(&self.scratch);
        self.wait();
    }

    /// Gives it an order by the management API, with the token that it leaves for its own user.
    pub fn order(&self, path: &str, body: &str) -> (u16, Value) {
        let token = std::fs::read_to_string(self.scratch.path().join("data/admin-token")).unwrap();
        self.ask(token.trim(), "POST", path, body)
    }

    /// Asks its management API; status and document, which is null where there is none.
    pub fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        write!(
            stream,
            "{method} /api/admin/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    /// Sends it a signal by its name: "TERM".
    pub fn signal(&self, name: &str) {
        let sent =
            super::program("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "SIG{name} was not sent");
    }

    /// Has it end without the time that calls have: by a second signal, once the first is heard.
    pub fn stop_at_once(&self) {
        let stops = || self.log().matches("no more calls are taken").count();
        let before = stops();
        self.signal("TERM");
        wait_for("the stop to begin", || (stops() > before).then_some(()));
        self.signal("TERM");
    }

    /// Waits until it has ended by itself.
    pub fn ends(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the gateway to end", || child.try_wait().unwrap())
    }

    /// Starts it again, after it has ended.
    pub fn start_again(&mut self) {
        self.start_in(&[]);
    }

    /// The same, with these in its environment.
    pub fn start_in(&mut self, environment: &[(&str, &str)]) {
        self.child = run_in(&self.scratch, environment);
        self.wait();
    }

    /// Its configuration file, as it is now.
    pub fn config(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("crosspoint.toml")).unwrap()
    }

    /// Puts another one in its place. It is not told.
    pub fn set_config(&self, text: &str) {
        std::fs::write(self.scratch.path().join("crosspoint.toml"), text).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status document.
    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.get("/status")).unwrap()
    }

    /// The body of a page of the management port.
    pub fn get(&self, path: &str) -> Vec<u8> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{path}: {line}");
        let mut length = None;
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>().unwrap());
            }
        }
        let mut body = vec![0; length.expect("the length of the body")];
        reader.read_exact(&mut body).unwrap();
        body
    }

    /// Runs a subcommand on the same configuration.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        subcommand(&self.scratch, arguments)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Until all listens, and the token of this machine's users is there.
    fn wait(&self) {
        for (what, port) in [("the gateway's SIP port", self.sip), ("its management", self.http)] {
            wait_for(what, || TcpStream::connect(("127.0.0.1", port)).ok());
        }
        wait_for("its token", || self.scratch.path().join("data/admin-token").exists().then_some(()));
    }
}

fn subcommand(scratch: &Scratch, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crosspoint"))
        .arg("--config")
        .arg(scratch.path().join("crosspoint.toml"))
        .args(arguments)
        .output()
        .unwrap()
}

fn run(scratch: &Scratch) -> Child {
    run_in(scratch, &[])
}

fn run_in(scratch: &Scratch, environment: &[(&str, &str)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(scratch.path().join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_crosspoint"))
        .arg("--config")
        .arg(scratch.path().join("crosspoint.toml"))
        .arg("run")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the gateway's log ends:\n{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }
}
