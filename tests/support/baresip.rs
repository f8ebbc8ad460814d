//! baresip as a process: registers, calls, answers, records what it hears.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crosspoint::proof::Wav;
use serde_json::{Value, json};

use super::{PATIENCE, Scratch, free_port, program, wait_for};

/// How a baresip is set up.
#[derive(Clone, Debug)]
pub struct Account {
    pub user: String,
    pub password: String,
    /// "udp", "tcp", "tls".
    pub transport: &'static str,
    /// As baresip spells them: "opus/48000/2", "G722/16000/1", "PCMU/8000/1", "PCMA/8000/1".
    pub audio: &'static str,
    /// "" none, "h264" packetization mode 0 only, "all" modes 0 and 1.
    pub video: &'static str,
    /// "", "srtp", "srtp-mand", "dtls_srtp".
    pub encryption: &'static str,
    /// Hz of the tone that it sends.
    pub tone: u32,
    /// Answers at once, "auto"; "manual"; or "early" (media before the answer).
    pub answer: &'static str,
    /// Milliseconds of sound in a packet.
    pub ptime: u32,
    /// Sends DTMF by INFO instead of RFC 4733.
    pub dtmf_info: bool,
    /// Picture size, "640x360".
    pub size: &'static str,
    /// Bit/s of its video encoder.
    pub video_bitrate: u32,
    /// Pictures a second.
    pub fps: u32,
    /// Of the tone, of 32767.
    pub loudness: f64,
    /// Says in each packet how loud it is (RFC 6464).
    pub levels: bool,
    /// Bit/s of its Opus.
    pub opus_bitrate: u32,
    /// Percent of loss that its Opus is made for; with any it sends FEC.
    pub loss: u32,
    /// A file that it plays in place of the tone.
    pub plays: Option<PathBuf>,
    /// A file of pictures that it sends in place of its own, at their rate.
    pub shows: Option<PathBuf>,
}

impl Account {
    pub fn new(user: &str, audio: &'static str, tone: u32) -> Self {
        Self {
            user: user.into(),
            password: format!("{user}-secret"),
            transport: "udp",
            audio,
            video: "",
            encryption: "",
            tone,
            answer: "auto",
            ptime: 20,
            dtmf_info: false,
            size: "640x360",
            video_bitrate: 600_000,
            fps: 25,
            loudness: 12_000.0,
            levels: false,
            opus_bitrate: 64_000,
            loss: 0,
            plays: None,
            shows: None,
        }
    }
}

/// A running baresip.
#[derive(Debug)]
pub struct Baresip {
    pub account: Account,
    pub port: u16,
    child: Child,
    control: TcpStream,
    messages: Receiver<Value>,
    scratch: Scratch,
}

impl Baresip {
    /// Starts it and waits until it is registered at `server` (port of the account's transport).
    pub fn start(account: Account, server: u16) -> Self {
        let this = Self::start_unregistered(account, Some(server));
        // Its event may come before anybody listens; its log keeps it.
        wait_for("a registration", || this.log().contains(" binding").then_some(()));
        this
    }

    /// Starts it; registers only when a server is given, and does not wait for that.
    pub fn start_unregistered(account: Account, server: Option<u16>) -> Self {
        let scratch = Scratch::new(&format!("baresip-{}", account.user));
        let (port, control_port) = (free_port(), free_port());
        let folder = scratch.path();
        std::fs::create_dir_all(folder.join("rec")).unwrap();
        let tone = folder.join("tone.wav");
        write_tone(&tone, &account);
        std::fs::write(folder.join("config"), config(folder, port, control_port, &account)).unwrap();
        std::fs::write(folder.join("accounts"), accounts(&account, port, server)).unwrap();
        std::fs::write(folder.join("contacts"), "").unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = program("baresip")
            .args(["-v", "-s", "-f"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let control =
            wait_for("baresip's control port", || TcpStream::connect(("127.0.0.1", control_port)).ok());
        let (sender, messages) = channel();
        let mut reader = control.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                bytes.extend_from_slice(&chunk[..count]);
                while let Some((message, rest)) = netstring(&bytes) {
                    bytes = rest;
                    let Ok(value) = serde_json::from_slice(&message) else { continue };
                    if sender.send(value).is_err() {
                        return;
                    }
                }
            }
        });
        Self { account, port, child, control, messages, scratch }
    }

    /// Sends a command; does not wait for its answer.
    pub fn command(&mut self, command: &str, parameters: &str) {
        let message = json!({ "command": command, "params": parameters, "token": "t" }).to_string();
        self.control.write_all(format!("{}:{message},", message.len()).as_bytes()).unwrap();
    }

    /// Waits for the next event of that type; returns it. Earlier ones are passed over.
    pub fn event(&self, kind: &str) -> Value {
        self.event_within(kind, PATIENCE)
            .unwrap_or_else(|| panic!("{}: no {kind}; its log ends:\n{}", self.account.user, self.log_tail()))
    }

    /// The same, or `None` when it does not come in that time.
    pub fn event_within(&self, kind: &str, time: Duration) -> Option<Value> {
        let until = Instant::now() + time;
        while let Ok(value) = self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if value["type"] == kind {
                return Some(value);
            }
        }
        None
    }

    pub fn dial(&mut self, uri: &str) {
        self.command("dial", uri);
    }

    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Keys that it was sent in the media of its call so far.
    pub fn keys(&self) -> String {
        let log = self.log();
        let pressed = log.lines().filter(|line| line.contains("(end=0)"));
        pressed.filter_map(|line| line.split_once("received event: '")?.1.chars().next()).collect()
    }

    /// A PNG of what it sees now.
    pub fn snapshot(&mut self, name: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        // Of an earlier one nothing is left.
        let _ = std::fs::remove_file(&path);
        self.command("snapshot_recv", path.to_str().unwrap());
        wait_for("a snapshot", || path.metadata().ok().filter(|meta| meta.len() > 100));
        path
    }

    /// What it decoded in its last call, once that call has ended.
    pub fn heard(&self) -> Wav {
        self.recording("-dec.wav")
    }

    fn recording(&self, end: &str) -> Wav {
        let mut names: Vec<_> = std::fs::read_dir(self.scratch.path().join("rec"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(end))
            .collect();
        names.sort();
        let path = names.pop().unwrap_or_else(|| panic!("{} recorded nothing", self.account.user));
        Wav::read(&path).unwrap()
    }

    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.scratch.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn netstring(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    (bytes.len() > end).then(|| (bytes[colon + 1..end].to_vec(), bytes[end + 1..].to_vec()))
}

/// What it plays, at the rate and channels that the codec insists on; 60 s of a tone are longer than
/// any test.
fn write_tone(path: &Path, account: &Account) {
    let (rate, channels) = match account.audio.split('/').next() {
        Some("opus") => (48_000, "2"),
        Some("G722") => (16_000, "1"),
        _ => (8_000, "1"),
    };
    let source = account.plays.clone().unwrap_or_else(|| {
        let samples = (0..rate * 60)
            .map(|n| {
                let turn = f64::from(n) * f64::from(account.tone) / f64::from(rate) * std::f64::consts::TAU;
                (turn.sin() * account.loudness) as i16
            })
            .collect();
        let mono = path.with_extension("mono.wav");
        Wav { rate, samples }.write(&mono).unwrap();
        mono
    });
    let made = program("ffmpeg")
        .args(["-loglevel", "error", "-y", "-i"])
        .arg(&source)
        .args(["-ac", channels, "-ar", &rate.to_string(), "-c:a", "pcm_s16le"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

fn config(folder: &Path, port: u16, control: u16, account: &Account) -> String {
    let mut text = String::new();
    let folder = folder.display();
    write!(
        text,
        "poll_method epoll\n\
         sip_listen 127.0.0.1:{port}\n\
         call_local_timeout 120\n\
         call_max_calls 4\n\
         audio_player aufile,{folder}/play.wav\n\
         audio_source aufile,{folder}/tone.wav\n\
         audio_alert aufile,{folder}/alert.wav\n\
         ausrc_format s16\nauplay_format s16\nauenc_format s16\naudec_format s16\n\
         audio_buffer 20-160\n\
         video_source {shows}\nvideo_display fakevideo,nil\n\
         video_size {size}\nvideo_bitrate {bitrate}\nvideo_fps {fps}\n\
         rtp_ports 28100-29998\n\
         jitter_buffer_delay 1-10\n\
         rtp_timeout 0\naudio_level {levels}\n\
         net_interface 127.0.0.1\n\
         opus_bitrate {opus}\nopus_inbandfec {fec}\nopus_packet_loss {loss}\n\
         module_path /usr/lib/baresip/modules\n",
        levels = if account.levels { "yes" } else { "no" },
        opus = account.opus_bitrate,
        fec = if account.loss > 0 { "yes" } else { "no" },
        loss = account.loss,
        size = account.size,
        bitrate = account.video_bitrate,
        fps = account.fps,
        shows = account
            .shows
            .as_ref()
            .map_or_else(|| "fakevideo,nil".to_owned(), |file| format!("avformat,{}", file.display())),
    )
    .unwrap();
    let mut modules = vec!["opus", "g722", "g711", "aufile", "sndfile", "srtp", "dtls_srtp"];
    if !account.video.is_empty() {
        modules.extend(["fakevideo", "avformat", "avcodec", "avfilter", "snapshot"]);
    }
    // The accounts name what the others have registered.
    modules.extend(["account", "menu", "ctrl_tcp"]);
    for module in modules {
        writeln!(text, "module {module}.so").unwrap();
    }
    writeln!(text, "snd_path {folder}/rec\nctrl_tcp_listen 127.0.0.1:{control}").unwrap();
    text
}

fn accounts(account: &Account, port: u16, server: Option<u16>) -> String {
    let Account { user, password, transport, audio, answer, ptime, .. } = account;
    let host = server.unwrap_or(port);
    let mut line = format!(
        "<sip:{user}@127.0.0.1:{host};transport={transport}>;auth_user={user};auth_pass={password};\
         audio_codecs={audio};answermode={answer};ptime={ptime};regint={}",
        if server.is_some() { 300 } else { 0 },
    );
    if account.video == "h264" {
        line.push_str(";video_codecs=h264");
    }
    if !account.encryption.is_empty() {
        line.push_str(&format!(";mediaenc={}", account.encryption));
    }
    if account.dtmf_info {
        line.push_str(";dtmfmode=info");
    }
    line.push('\n');
    line
}
