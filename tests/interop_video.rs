//! Pictures between real softphones: relayed where they fit, transcoded where not.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::baresip::{Account, Baresip};
use support::gateway::{Device, Gateway};
use support::{Scratch, program, wait_for};

const AUDIO: &str = "PCMU/8000/1";

/// NAL unit types of RFC 6184 that packetization mode 0 knows: single NAL units.
const SINGLE: std::ops::RangeInclusive<u8> = 1..=23;

struct Scene {
    gateway: Gateway,
    alice: Baresip,
    bob: Baresip,
}

/// A call with pictures of that size; `modes` says what each phone is held to.
fn call(size: &'static str, modes: [&str; 2]) -> Scene {
    let device = |name: &'static str, mode: &str| Device {
        name,
        more: format!("codecs = [\"pcmu\", \"h264-mode{mode}\"]"),
    };
    let gateway = Gateway::with(&[device("alice", modes[0]), device("bob", modes[1])], "");
    let account = |name, tone| Account { video: "all", size, ..Account::new(name, AUDIO, tone) };
    let mut alice = Baresip::start(account("alice", 440), gateway.sip);
    let bob = Baresip::start(account("bob", 620), gateway.sip);
    alice.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
    alice.event("CALL_ESTABLISHED");
    Scene { gateway, alice, bob }
}

impl Scene {
    /// Route and reason of the pictures that `device` is sent.
    fn route_to(&self, device: &str) -> (String, String) {
        let status = self.gateway.status();
        let stream = self.stream(&status, device);
        (stream["route"].as_str().unwrap().to_owned(), stream["why"].as_str().unwrap().to_owned())
    }

    fn stream<'a>(&self, status: &'a Value, device: &str) -> &'a Value {
        let legs = status["calls"][0]["legs"].as_array().unwrap_or_else(|| panic!("no call: {status}"));
        let leg = legs.iter().find(|leg| leg["device"] == device).unwrap();
        leg["streams"]
            .as_array()
            .unwrap()
            .iter()
            .find(|stream| stream["role"] == "main")
            .unwrap_or(&Value::Null)
    }

    fn await_route(&self, device: &str, word: &str) {
        wait_for(&format!("{word} to {device}; now {:?}", self.route_to(device)), || {
            (self.route_to(device).0 == word).then_some(())
        });
    }

    /// The port on which `device` takes pictures.
    fn port_of(&self, device: &str) -> u16 {
        let status = self.gateway.status();
        let remote = self.stream(&status, device)["remote"].as_str().unwrap().to_owned();
        remote.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Both phones paint half of what they send, and see what the other painted.
    fn both_see_each_other(&mut self) {
        self.alice.command("avfilter", "drawbox=x=0:y=0:w=iw/2:h=ih:color=red:t=fill");
        self.bob.command("avfilter", "drawbox=x=0:y=0:w=iw/2:h=ih:color=blue:t=fill");
        std::thread::sleep(Duration::from_secs(3));
        assert!(left_is(&self.bob.snapshot("seen.png"), [255, 0, 0]), "Bob does not see Alice's red");
        assert!(left_is(&self.alice.snapshot("seen.png"), [0, 0, 255]), "Alice does not see Bob's blue");
    }
}

/// The mean colour of the left quarter of a picture lies near `colour` (each channel within 60: the
/// softphone turns YUV of the studio range into RGB in its own way).
fn left_is(png: &Path, colour: [u8; 3]) -> bool {
    let output = program("ffmpeg")
        .args(["-loglevel", "error", "-i"])
        .arg(png)
        .args(["-vf", "crop=iw/4:ih:0:0,scale=1:1:flags=area", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    assert_eq!(output.stdout.len(), 3, "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.iter().zip(colour).all(|(seen, wanted)| seen.abs_diff(wanted) < 60)
}

/// Records what goes to a port of loopback.
struct Sniffer {
    child: Child,
    scratch: Scratch,
    port: u16,
}

impl Sniffer {
    fn on(port: u16) -> Self {
        let scratch = Scratch::new("sniffer");
        let file = scratch.path().join("media.pcap");
        let child = program("tshark")
            .args(["-q", "-i", "lo", "-f", &format!("udp dst port {port}"), "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the sniffer", || file.metadata().ok().filter(|meta| meta.len() > 0));
        Self { child, scratch, port }
    }

    /// The NAL unit type of each packet that it saw.
    fn nal_types(mut self) -> Vec<u8> {
        self.payloads().iter().filter_map(|payload| payload.first()).map(|first| first & 0x1f).collect()
    }

    /// Decodes what it saw (single NAL units) with ffmpeg; the size of the last picture.
    fn last_picture(mut self) -> (usize, usize) {
        let mut stream = Vec::new();
        for payload in self.payloads() {
            stream.extend_from_slice(&[0, 0, 0, 1]);
            stream.extend_from_slice(&payload);
        }
        let file = self.scratch.path().join("seen.h264");
        std::fs::write(&file, stream).unwrap();
        let output = program("ffprobe")
            .args(["-loglevel", "quiet", "-show_entries", "frame=width,height", "-of", "csv=p=0"])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text
            .lines()
            .rev()
            .find(|line| line.contains(','))
            .unwrap_or_else(|| panic!("no picture: {text}"));
        let mut sides = last.split(',').filter_map(|side| side.parse().ok());
        (sides.next().unwrap(), sides.next().unwrap())
    }

    fn payloads(&mut self) -> Vec<Vec<u8>> {
        // SIGINT makes it write what it has.
        let pid = self.child.id().to_string();
        assert!(program("kill").args(["-INT", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
        let output = program("tshark")
            .arg("-r")
            .arg(self.scratch.path().join("media.pcap"))
            .args([
                "-d",
                &format!("udp.port=={},rtp", self.port),
                "-Y",
                "rtp",
                "-T",
                "fields",
                "-e",
                "rtp.payload",
            ])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| {
                let octets = (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16));
                octets.collect::<Result<_, _>>().unwrap()
            })
            .collect()
    }
}

#[test]
fn mode_0_to_mode_1_is_relayed_both_ways_while_it_fits() {
    // Flat pictures of 160x120: every NAL unit of theirs fits a packet.
    let mut scene = call("160x120", ["0", "1"]);
    scene.await_route("bob", "relay-units");
    scene.await_route("alice", "relay-units");
    scene.both_see_each_other();
    assert_eq!(scene.route_to("bob").0, "relay-units");
    scene.alice.hang_up();
    scene.bob.event("CALL_CLOSED");
}

#[test]
fn mode_1_to_mode_0_is_transcoded_from_the_first_unit_that_does_not_fit() {
    let mut scene = call("640x360", ["0", "1"]);
    // Noise makes large pictures of Bob, who may fragment them; Alice must not be sent fragments.
    scene.bob.command("avfilter", "noise=alls=40:allf=t+u");
    scene.await_route("alice", "transcode");
    let (_, why) = scene.route_to("alice");
    assert!(why.contains("does not fit"), "{why}");
    let sniffer = Sniffer::on(scene.port_of("alice"));
    std::thread::sleep(Duration::from_secs(3));
    let types = sniffer.nal_types();
    assert!(types.len() > 50, "only {} packets", types.len());
    let wrong: Vec<_> = types.iter().filter(|kind| !SINGLE.contains(*kind)).collect();
    assert!(wrong.is_empty(), "{} of {} packets are no single NAL units", wrong.len(), types.len());
    scene.both_see_each_other();
    scene.alice.hang_up();
    scene.bob.event("CALL_CLOSED");
}

#[test]
fn pictures_beyond_what_the_far_side_takes_are_transcoded() {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let scratch = Scratch::new("sipp-small");
    // It takes level 1.1: 352x288 at most. Alice sends 640x360 whatever she is told.
    let mut callee = support::registered_sipp(&gateway, &scratch, "sipp/callee_small.xml");
    let mut alice =
        Baresip::start(Account { video: "all", ..Account::new("alice", AUDIO, 440) }, gateway.sip);
    let sniffer = Sniffer::on(SMALL_PORT);
    alice.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
    alice.event("CALL_ESTABLISHED");
    let route = wait_for("the transcode", || {
        let status = gateway.status();
        let streams = status["calls"][0]["legs"][1]["streams"].as_array()?.clone();
        let video = streams.into_iter().find(|stream| stream["role"] == "main")?;
        (video["route"] == "transcode").then(|| video["why"].as_str().unwrap().to_owned())
    });
    assert!(route.contains("beyond what the sink decodes"), "{route}");
    std::thread::sleep(Duration::from_secs(3));
    alice.hang_up();
    assert!(wait_for("the callee's end", || callee.try_wait().unwrap()).success());
    // What Bob was sent last decodes to a picture that his level allows.
    let (width, height) = sniffer.last_picture();
    assert!(width * height <= 352 * 288 && width >= 160, "{width}x{height}");
}

/// Where `callee_small.xml` takes pictures.
const SMALL_PORT: u16 = 29_400;
