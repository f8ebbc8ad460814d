//! The ladder of a leg, with the real machine behind it, in paused time.

use crosspoint_proto::sip::Endpoint;
use crosspoint_proto::{Input, Now, Output, SansIo};

use super::*;
use crate::ladder::{Step, What};

const FAR: &str = "127.0.0.1:5070";
const THEIR_KEY: &str = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

/// The machine, and a far end that is nothing but text.
struct Wire {
    rig: Rig,
    machine: Endpoint,
    began: Instant,
    sent: Vec<String>,
}

impl Wire {
    fn new() -> Self {
        let listen = crosspoint_proto::sip::Listen::new(Transport::Udp, "127.0.0.1:5060".parse().unwrap());
        let mut config = crosspoint_proto::sip::Config::new(vec![listen]);
        config.tap = true;
        let machine = Endpoint::new(config, ChaCha12Rng::seed_from_u64(3));
        let rig = Rig::encrypting(LO, Trunks::default(), EncryptionPolicy::BestEffort);
        Self { rig, machine, began: Instant::now(), sent: Vec::new() }
    }

    fn now(&self) -> Now {
        let mono = crosspoint_proto::Instant::from_millis(1_000) + self.began.elapsed();
        Now { mono, wall: std::time::SystemTime::UNIX_EPOCH }
    }

    /// Lets the leg and the machine talk until neither has more to say; what went to the far end.
    async fn settle(&mut self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        while let Ok(command) = self.rig.machine.try_recv() {
            self.machine.command(self.now(), command).unwrap();
            self.drain();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::mem::take(&mut self.sent)
    }

    async fn hear(&mut self, text: &str) -> Vec<String> {
        let (local, from) = ("127.0.0.1:5060".parse().unwrap(), FAR.parse().unwrap());
        let input = Input::Datagram { local, from, data: text.as_bytes() };
        self.machine.handle_input(self.now(), input).unwrap();
        self.drain();
        self.settle().await
    }

    fn drain(&mut self) {
        loop {
            match self.machine.poll_output() {
                Output::Datagram { data, .. } => self.sent.push(String::from_utf8_lossy(&data).into_owned()),
                Output::Event(event) => self.rig.legs.deliver(event),
                Output::Timeout(_) => return,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What the far end says to a request.
fn response(request: &str, status: &str, body: &str) -> String {
    let header = |name: &str| {
        let mut lines = request.lines().filter(|line| line.starts_with(&format!("{name}: ")));
        lines.next().unwrap().to_owned()
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status}\r\n{}\r\n{}\r\n{};tag=far\r\n{}\r\n{}\r\nContact: <sip:bob@{FAR}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        header("Via"),
        header("From"),
        header("To").split(";tag=").next().unwrap(),
        header("Call-ID"),
        header("CSeq"),
        body.len()
    )
}

fn drawn(began: Instant, steps: &[Step]) -> String {
    let line = |step: &Step| {
        let ms = (step.at - began).as_millis();
        match &step.what {
            What::Message(it) => {
                let arrow = if it.sent { "->" } else { "<-" };
                let sdp = if it.describes { " [sdp]" } else { "" };
                format!("{ms} {arrow} {} {} {}, {}{sdp}\n", it.transport, it.peer, it.line, it.sequence)
            }
            What::Streams(text) | What::Note(text) => format!("{ms} * {text}\n"),
            What::More(count) => format!("{ms} {count} more\n"),
        }
    };
    steps.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn the_ladder_of_a_call_says_what_happened_and_no_key() {
    let mut wire = Wire::new();
    let mut leg = wire.rig.call("sip:bob:hunter2@127.0.0.1:5070", None);
    let ladder = leg.ladder.clone();
    let began = wire.began;
    let sent = wire.settle().await;
    let invite = sent.first().expect("an INVITE");
    let ours: Vec<&str> = invite.split("inline:").skip(1).map(|it| &it[..30]).collect();
    assert!(!ours.is_empty(), "a key of ours");
    let line = invite.lines().find(|line| line.contains(" AES_CM_128_HMAC_SHA1_80 ")).unwrap();
    let suite = line.split("inline:").next().unwrap();
    tokio::time::sleep(Duration::from_millis(98)).await;
    wire.hear(&response(invite, "180 Ringing\u{1b}[2J", "")).await;
    tokio::time::sleep(Duration::from_millis(899)).await;
    let answer = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio 5900 RTP/AVP 0\r\n{suite}inline:{THEIR_KEY}\r\n"
    );
    wire.hear(&response(invite, "200 OK", &answer)).await;
    leg.commands.send(LegCommand::Hangup(Cause::local(Reason::Hangup))).await.unwrap();
    let bye = wire.settle().await.remove(0);
    wire.hear(&response(&bye, "200 OK", "")).await;
    while leg.events.recv().await.is_some() {}
    let found = drawn(began, &ladder.steps());
    let expected = "\
0 * goes to 127.0.0.1:5070 by udp or tcp
0 * we offer audio PCMU sendrecv
1 -> udp 127.0.0.1:5070 INVITE sip:bob:[redacted]@127.0.0.1:5070, 1998 INVITE [sdp]
100 <- udp 127.0.0.1:5070 180 Ringing\\u{1b}[2J, 1998 INVITE
1000 <- udp 127.0.0.1:5070 200 OK, 1998 INVITE [sdp]
1000 -> udp 127.0.0.1:5070 ACK sip:bob@127.0.0.1:5070, 1998 ACK
1000 * agreed audio PCMU sendrecv, SRTP by SDES AES_CM_128_HMAC_SHA1_80
1002 -> udp 127.0.0.1:5070 BYE sip:bob@127.0.0.1:5070, 1999 BYE
1002 * over: hangup (local)
1003 <- udp 127.0.0.1:5070 200 OK, 1999 BYE
";
    assert_eq!(found, expected, "\n{found}");
    for secret in ours.into_iter().chain([THEIR_KEY, "hunter2", "\u{1b}"]) {
        assert!(!found.contains(secret), "{secret} in\n{found}");
    }
    assert!(wire.rig.legs.0.known().is_empty(), "nothing is left of it");
}
