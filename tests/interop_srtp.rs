//! Every way to encrypt, with real softphones: what each policy makes of it is what the table in
//! `gateway/docs/media.md` says, and a sniffer hears no tone where it says SRTP.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crosspoint::proof::{SoundReport, tone};
use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::{Scratch, program, wait_for};

/// How long a call talks before it is judged.
const TALK: Duration = Duration::from_secs(4);

const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];

/// What both softphones of a call are set to, and what comes of their call.
struct Cell {
    encryption: &'static str,
    transport: &'static str,
    outcome: Outcome,
    number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Clear,
    Encrypted,
    /// The caller is encrypted; the callee has no encryption. (One that has, but insists on a secure
    /// profile, refuses what best effort offers it.)
    CallerEncrypted,
    /// 488.
    Refused,
}
use Outcome::{CallerEncrypted, Clear, Encrypted, Refused};

/// The modes of baresip: nothing, `RTP/AVP` with keys, `RTP/SAVP`, DTLS; over UDP, TCP and TLS.
type Table = [(&'static str, [Outcome; 3]); 4];

#[test]
fn policy_none() {
    matrix(
        "none",
        0,
        &[
            ("", [Clear, Clear, Clear]),
            ("srtp", [Clear, Clear, Clear]),
            ("srtp-mand", [Refused, Refused, Refused]),
            ("dtls_srtp", [Refused, Refused, Refused]),
        ],
    );
}

#[test]
fn policy_best_effort() {
    matrix(
        "best-effort",
        12,
        &[
            ("", [Clear, Clear, Clear]),
            ("srtp", [Clear, Clear, Encrypted]),
            ("srtp-mand", [Refused, Refused, CallerEncrypted]),
            ("dtls_srtp", [CallerEncrypted, CallerEncrypted, CallerEncrypted]),
        ],
    );
}

#[test]
fn policy_required() {
    matrix(
        "required",
        24,
        &[
            ("", [Refused, Refused, Refused]),
            ("srtp", [Refused, Refused, Refused]),
            ("srtp-mand", [Refused, Refused, Encrypted]),
            ("dtls_srtp", [Encrypted, Encrypted, Encrypted]),
        ],
    );
}

/// All calls of one policy at once.
fn matrix(policy: &str, first: u32, table: &Table) {
    let cells: Vec<Cell> = table
        .iter()
        .flat_map(|(encryption, outcomes)| {
            TRANSPORTS
                .into_iter()
                .zip(*outcomes)
                .map(|(transport, outcome)| (*encryption, transport, outcome))
        })
        .zip(first..)
        .map(|((encryption, transport, outcome), number)| Cell { encryption, transport, outcome, number })
        .collect();
    let names: Vec<String> = cells.iter().flat_map(|cell| [cell.caller().user, cell.callee().user]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let gateway = Gateway::with_media(&names, &format!("encryption = \"{policy}\""));
    let sniffer = Sniffer::start();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = cells.iter().map(|cell| (cell, scope.spawn(|| cell.call(&gateway)))).collect();
        calls
            .into_iter()
            .filter_map(|(cell, call)| {
                call.join().is_err().then(|| format!("{} {}", cell.encryption, cell.transport))
            })
            .collect()
    });
    assert!(failed.is_empty(), "{policy}: {failed:?}");
    let heard = sniffer.tones();
    // Both legs of a call carry the same tones: where one is in clear, they are heard.
    for cell in &cells {
        for account in [cell.caller(), cell.callee()] {
            let clear = heard.iter().any(|heard| (heard - f64::from(account.tone)).abs() < 2.0);
            // In clear it is heard, so the sniffer has ears.
            assert_eq!(
                clear,
                matches!(cell.outcome, Clear | CallerEncrypted),
                "{policy}: {} of {heard:?}",
                account.user
            );
        }
    }
}

impl Cell {
    fn account(&self, side: &str, tone: u32) -> Account {
        let mut account = Account::new(&format!("{side}{}", self.number), "PCMU/8000/1", tone);
        account.encryption = self.encryption;
        account.transport = self.transport;
        account
    }

    /// Of all softphones in this program each has a tone of its own.
    fn caller(&self) -> Account {
        self.account("a", 400 + self.number * 40)
    }

    fn callee(&self) -> Account {
        let mut account = self.account("b", 420 + self.number * 40);
        if self.outcome == CallerEncrypted {
            account.encryption = "";
        }
        account
    }

    fn call(&self, gateway: &Gateway) {
        let port = if self.transport == "tls" { gateway.tls } else { gateway.sip };
        let callee = Baresip::start(self.callee(), port);
        let mut caller = Baresip::start(self.caller(), port);
        caller.dial(&format!("sip:{}@127.0.0.1:{port}", callee.account.user));
        if self.outcome == Refused {
            let closed = caller.event("CALL_CLOSED").to_string();
            assert!(closed.contains("488"), "{} {}: {closed}", self.encryption, self.transport);
            return;
        }
        caller.event("CALL_ESTABLISHED");
        std::thread::sleep(TALK);
        let status = gateway.status();
        let legs =
            status["calls"].as_array().unwrap().iter().flat_map(|call| call["legs"].as_array().unwrap());
        let own = legs.filter(|leg| leg.to_string().contains(&format!("\"{}\"", caller.account.user)));
        let encrypted =
            own.flat_map(|leg| leg["streams"].as_array().unwrap()).map(|it| it["encrypted"] == true);
        assert_eq!(encrypted.collect::<Vec<_>>(), [self.outcome != Clear], "{status}");
        caller.hang_up();
        callee.event("CALL_CLOSED");
        for (listener, speaker) in [(&caller, &callee), (&callee, &caller)] {
            let heard = listener.heard();
            let report = SoundReport::new(&heard.samples, heard.rate, Duration::from_millis(1500));
            assert!((report.tone.frequency - f64::from(speaker.account.tone)).abs() < 1.0, "{report:?}");
            assert!(report.tone.snr > 20.0, "{report:?}");
        }
    }
}

/// dumpcap on the loopback interface.
struct Sniffer {
    child: Child,
    file: PathBuf,
    _scratch: Scratch,
}

impl Sniffer {
    fn start() -> Self {
        let scratch = Scratch::new("sniffer");
        let file = scratch.path().join("media.pcap");
        let child = program("dumpcap")
            .args(["-q", "-P", "-i", "lo", "-f", "udp and portrange 20000-60000", "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its header is there when it listens.
        wait_for("dumpcap, which needs the right to capture", || {
            file.metadata().ok().filter(|file| file.len() >= 24)
        });
        Self { child, file, _scratch: scratch }
    }

    /// The tones of all streams whose payload is u-law as it stands.
    fn tones(mut self) -> Vec<f64> {
        // What the kernel holds is written within its second.
        std::thread::sleep(Duration::from_secs(2));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let capture = std::fs::read(&self.file).unwrap();
        let mut streams: HashMap<Vec<u8>, Vec<i16>> = HashMap::new();
        let mut rest = &capture[24..];
        while let Some((header, packet)) = rest.split_at_checked(16) {
            let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some((packet, behind)) = packet.split_at_checked(length) else { break };
            rest = behind;
            // Ethernet, IPv4 without options, UDP.
            let Some(datagram) = packet.get(42..).filter(|_| packet[14] == 0x45) else { continue };
            // RTP version 2, no extension, u-law: what baresip and the gateway send.
            if datagram.len() < 12 + 160 || datagram[0] != 0x80 || datagram[1] & 0x7f != 0 {
                continue;
            }
            let key = [&packet[34..38], &datagram[8..12]].concat();
            streams.entry(key).or_default().extend(datagram[12..172].iter().map(|octet| linear(*octet)));
        }
        assert!(!streams.is_empty(), "the sniffer saw no media");
        // A second is enough to tell a tone from noise.
        let long = streams.values().filter(|samples| samples.len() >= 8_000);
        let tones = long.map(|samples| tone(&samples[samples.len() / 2 - 4_000..][..8_000], 8_000));
        tones.filter(|tone| tone.snr > 10.0).map(|tone| tone.frequency).collect()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// u-law (ITU-T G.711), written from its definition: what is under test has its own.
fn linear(octet: u8) -> i16 {
    let octet = !octet;
    let magnitude = ((i16::from(octet & 0x0f) << 3) + 0x84) << (octet >> 4 & 7);
    if octet & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}
