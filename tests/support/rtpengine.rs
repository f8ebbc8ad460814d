//! rtpengine as a process, without its kernel module, and its control protocol: bencoded dictionaries
//! by UDP.

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{Scratch, free_port, program, wait_for};

/// A running rtpengine.
#[derive(Debug)]
pub struct Rtpengine {
    child: Child,
    /// Where it is controlled.
    pub port: u16,
    control: UdpSocket,
    asked: Cell<u32>,
    _scratch: Scratch,
}

impl Rtpengine {
    /// With two threads for packets, as the gateway has.
    pub fn start() -> Self {
        let (scratch, port) = (Scratch::new("rtpengine"), free_port());
        let log = std::fs::File::create(scratch.path().join("log")).unwrap();
        let child = program("rtpengine")
            .args(["--foreground", "--log-stderr", "--log-level=4", "--table=-1", "--num-threads=2"])
            .args(["--interface=127.0.0.1", &format!("--listen-ng=127.0.0.1:{port}")])
            // What a call leaves is its own work, not the next one's.
            .args(["--port-min=50000", "--port-max=57999", "--delete-delay=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let control = UdpSocket::bind("127.0.0.1:0").unwrap();
        control.connect(("127.0.0.1", port)).unwrap();
        control.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let this = Self { child, port, control, asked: Cell::new(0), _scratch: scratch };
        wait_for("rtpengine", || this.ask(&[("command", Value::Text("ping"))]));
        this
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One of its figures: "totalanswercount", "regularterminatedsessions".
    pub fn counted(&self, what: &str) -> u64 {
        let told = wait_for("figures of rtpengine", || self.ask(&[("command", Value::Text("statistics"))]));
        let (_, number) = told.split_once(&format!("{what}i")).unwrap_or_else(|| panic!("{told}"));
        number.split('e').next().unwrap().parse().unwrap()
    }

    /// Has it join two descriptions, the second of which speaks `codec` alone where there is one. Where
    /// each of the two shall send to.
    pub fn join(&self, call: &str, offer: &str, answer: &str, codec: Option<&str>) -> [SocketAddr; 2] {
        let mut command = vec![
            ("command", Value::Text("offer")),
            ("call-id", Value::Text(call)),
            ("from-tag", Value::Text("caller")),
            ("sdp", Value::Text(offer)),
            ("ICE", Value::Text("remove")),
        ];
        let other: Vec<&str> = codec.into_iter().collect();
        let codecs = [("mask", Value::List(&["all"])), ("transcode", Value::List(&other))];
        if codec.is_some() {
            command.push(("codec", Value::Dictionary(&codecs)));
        }
        let callee = self.order(&command);
        command.retain(|(key, _)| !matches!(*key, "command" | "sdp" | "codec"));
        command.push(("command", Value::Text("answer")));
        command.push(("to-tag", Value::Text("callee")));
        command.push(("sdp", Value::Text(answer)));
        [self.order(&command), callee]
    }

    /// Where the description in its answer leads.
    fn order(&self, command: &[(&str, Value<'_>)]) -> SocketAddr {
        let answer = wait_for("an answer of rtpengine", || self.ask(command));
        let (_, port) = answer.split_once("m=audio ").unwrap_or_else(|| panic!("{answer}"));
        let port: u16 = port.split(' ').next().unwrap().parse().unwrap();
        ([127, 0, 0, 1], port).into()
    }

    fn ask(&self, command: &[(&str, Value<'_>)]) -> Option<String> {
        // What asks again by the same cookie gets the same answer.
        self.asked.set(self.asked.get() + 1);
        let cookie = format!("{} ", self.asked.get());
        let mut text = cookie.clone();
        Value::Dictionary(command).write(&mut text);
        self.control.send(text.as_bytes()).ok()?;
        let mut buffer = [0; 65_536];
        loop {
            let length = self.control.recv(&mut buffer).ok()?;
            let answer = String::from_utf8_lossy(&buffer[..length]);
            if let Some(answer) = answer.strip_prefix(&cookie) {
                return Some(answer.to_owned());
            }
        }
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

enum Value<'a> {
    Text(&'a str),
    List(&'a [&'a str]),
    Dictionary(&'a [(&'a str, Self)]),
}

impl Value<'_> {
    fn write(&self, to: &mut String) {
        match self {
            Self::Text(text) => text_to(text, to),
            Self::List(items) => {
                to.push('l');
                items.iter().for_each(|item| text_to(item, to));
                to.push('e');
            }
            Self::Dictionary(entries) => {
                to.push('d');
                for (key, value) in *entries {
                    text_to(key, to);
                    value.write(to);
                }
                to.push('e');
            }
        }
    }
}

fn text_to(text: &str, to: &mut String) {
    to.push_str(&format!("{}:{text}", text.len()));
}
