//! A room of the gateway, and what people hear and see in it.

use std::f64::consts::TAU;
use std::path::Path;
use std::time::Duration;

use super::baresip::Baresip;
use super::gateway::Gateway;
use super::{program, wait_for};

/// Adds the room "Alice's room", alias meet.alice, with more options of the command line.
pub fn add_room(gateway: &Gateway, options: &[&str]) {
    let mut arguments = vec!["conference", "add", "Alice's room", "--alias", "meet.alice"];
    arguments.extend(options);
    let output = gateway.cli(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A gateway that runs looks once a second what others have written.
    std::thread::sleep(Duration::from_millis(1_100));
}

/// Calls it, and waits until it has answered.
pub fn dial_room(gateway: &Gateway, phone: &mut Baresip) {
    phone.dial(&format!("sip:meet.alice@127.0.0.1:{}", gateway.sip));
    phone.event("CALL_ESTABLISHED");
}

/// Level of one frequency in dB of full scale (Goertzel, Hann window).
pub fn level(samples: &[i16], rate: u32, hertz: f64) -> f64 {
    let length = samples.len() as f64;
    let sum = samples.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, sample)| {
        let window = 0.5 - 0.5 * (TAU * n as f64 / length).cos();
        let turn = TAU * hertz * n as f64 / f64::from(rate);
        let value = window * f64::from(*sample);
        (re + value * turn.cos(), im - value * turn.sin())
    });
    20.0 * (4.0 * sum.0.hypot(sum.1) / length / 32_768.0).max(1e-9).log10()
}

/// Waits until the last second that `phone` has recorded has that tone.
pub fn hears(phone: &Baresip, hertz: u32) {
    wait_for(&format!("{} to hear {hertz} Hz", phone.account.user), || {
        (last_second(phone, hertz)? > -45.0).then_some(())
    });
}

/// Waits until it has not.
pub fn misses(phone: &Baresip, hertz: u32) {
    wait_for(&format!("{} to miss {hertz} Hz", phone.account.user), || {
        (last_second(phone, hertz)? < -65.0).then_some(())
    });
}

fn last_second(phone: &Baresip, hertz: u32) -> Option<f64> {
    let heard = phone.heard();
    let from = heard.samples.len().checked_sub(heard.rate as usize)?;
    Some(level(&heard.samples[from..], heard.rate, f64::from(hertz)))
}

/// Words of everybody's route of that role, as the status has them.
pub fn routes(gateway: &Gateway, role: &str) -> Vec<String> {
    let status = gateway.status();
    let calls = status["calls"].as_array().unwrap();
    let streams = calls.iter().filter_map(|call| call["legs"][0]["streams"].as_array()).flatten();
    let of_role = streams.filter(|stream| stream["role"] == role);
    of_role.map(|stream| stream["route"].as_str().unwrap_or_default().to_owned()).collect()
}

/// What two telephones take: a port each, and a stream each way.
pub const TWO_PHONES: [u64; 3] = [2, 4, 0];

/// Ports of media in use, members for sound, members for pictures.
pub fn in_use(gateway: &Gateway) -> [u64; 3] {
    let status = gateway.status();
    let members = |lane: &str| {
        let workers = status["engine"].as_array().unwrap();
        workers.iter().map(|it| it[lane]["members"].as_u64().unwrap()).sum()
    };
    [status["media_ports"]["used"].as_u64().unwrap(), members("audio"), members("video")]
}

/// A slide, as a client makes it of a page.
pub fn jpeg(folder: &Path) -> Vec<u8> {
    let path = folder.join("slide.jpeg");
    let made = program("ffmpeg")
        .args(["-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=640x360", "-frames:v", "1"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::read(path).unwrap()
}

/// The mean colour of a part of a picture, in parts of its width and height.
pub fn colour(png: &Path, part: &str) -> [u8; 3] {
    let filter = format!("crop={part},scale=1:1:flags=area");
    let output = program("ffmpeg")
        .args(["-loglevel", "error", "-i"])
        .arg(png)
        .args(["-vf", &filter, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    output.stdout.try_into().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
