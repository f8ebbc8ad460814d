//! What the same work costs Crosspoint and the programs that operators run today: packets beside rtpengine,
//! registrations and calls beside Kamailio, in turns, as processor time by the scheduler's own count. Each turn
//! proves first that the work was done. Prints its figures; run it alone, in the release profile:
//! `make bench-servers`.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a test that cannot set up its peers has failed, and figures of a bench"
)]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use crosspoint_codecs::format::Codec;
use support::bare::Bare;
use support::call::StandingCall;
use support::gateway::{Device, Gateway};
use support::kamailio::Kamailio;
use support::rtpengine::Rtpengine;
use support::streams::{Clip, Party, talk};
use support::{Scratch, cpu, fixture, free_port, sipp};

/// Turns of each. Odd, so that the median is one of them.
const ROUNDS: usize = 3;
/// How long all talk in a turn.
const TALK: Duration = Duration::from_secs(5);
/// Who registers, in each turn anew.
const USERS: usize = 2_000;
/// Registrations a second.
const REGISTERS: u32 = 1_000;
/// The same where each binding is on the disk: Kamailio has one process for it then, which waits for the disk.
const REGISTERS_TO_DISK: u32 = 250;
/// Calls of a turn, and a second.
const CALLS: (u32, u32) = (500, 50);

#[test]
fn g711_is_relayed() {
    beside_rtpengine("ulaw relay", 100, Codec::Pcmu, None, 1.0);
}

#[test]
fn g711_becomes_opus_and_back() {
    // As good and as dear an encoder as ours: one channel, the same rate and complexity.
    let theirs = "opus/48000/1/32000///compression_level=5,application=voip";
    beside_rtpengine("ulaw <-> opus", 20, Codec::Opus, Some(theirs), 0.75);
}

#[test]
fn g711_becomes_g722_and_back() {
    beside_rtpengine("ulaw <-> g722", 20, Codec::G722, Some("G722"), 0.9);
}

/// Calls of one who speaks mu-law and one who speaks `codec`.
fn beside_rtpengine(what: &str, calls: usize, codec: Codec, theirs: Option<&str>, most: f64) {
    let payload_type = match codec {
        Codec::Opus => 96,
        Codec::G722 => 9,
        _ => 0,
    };
    let (near, far) = (Clip::new(Codec::Pcmu, 0, 440), Clip::new(codec, payload_type, 620));
    let pairs = || -> Vec<Party> { (0..calls).flat_map(|_| [Party::new(&near), Party::new(&far)]).collect() };

    let rtpengine = Rtpengine::start();
    let mut at_rtpengine = pairs();
    for (number, call) in at_rtpengine.chunks_exact_mut(2).enumerate() {
        let to = rtpengine.join(&format!("call{number}"), &call[0].sdp(), &call[1].sdp(), theirs);
        call.iter_mut().zip(to).for_each(|(party, to)| party.send_to(to));
    }

    let names: Vec<String> = (0..calls).map(|n| format!("leg{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let gateway = Gateway::start(&names, "");
    let mut at_gateway = pairs();
    let mut standing = Vec::new();
    for (name, call) in names.iter().zip(at_gateway.chunks_exact_mut(2)) {
        let sdp = [call[0].sdp(), call[1].sdp()];
        let (stands, told) =
            StandingCall::with(gateway.sip, name, &format!("{name}-secret"), [&sdp[0], &sdp[1]]);
        call.iter_mut().zip(&told).for_each(|(party, told)| party.follow(told));
        standing.push(stands);
    }

    // Where packets leave as they come, what the kernel takes for that.
    let mut at_kernel = if codec == Codec::Pcmu { pairs() } else { Vec::new() };
    let bare = Bare::start(at_kernel.iter().map(Party::address).collect());
    at_kernel.iter_mut().zip(&bare.to).for_each(|(party, to)| party.send_to(*to));

    let leg_seconds = 2.0 * calls as f64 * TALK.as_secs_f64();
    let (mut figures, mut floor) = (Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        let turn = |parties: &mut Vec<Party>, used: &dyn Fn() -> u64| {
            cost(used, || talk(parties, TALK)) / leg_seconds
        };
        let theirs = turn(&mut at_rtpengine, &|| cpu::of_process(rtpengine.pid()));
        figures.add(theirs, turn(&mut at_gateway, &|| cpu::of_process(gateway.pid())));
        if !at_kernel.is_empty() {
            floor.add(theirs, turn(&mut at_kernel, &|| cpu::of_thread(&bare.task)));
        }
    }
    if !at_kernel.is_empty() {
        floor.print("the same by a bare loop", "rtpengine", "Bare loop");
    }
    figures.hold(&format!("{what}, a leg-second"), "rtpengine", most);
}

#[test]
fn telephones_register() {
    register_beside("REGISTER with digest", "Kamailio", &Kamailio::to_measure(), REGISTERS, 2.5);
}

#[test]
fn telephones_register_and_stay_registered() {
    // As much is promised then: who kills it, loses no binding.
    let kamailio = Kamailio::with_disk();
    register_beside("the same, on the disk", "Kamailio, SQLite", &kamailio, REGISTERS_TO_DISK, 0.95);
    // Each turn registers from another port.
    assert_eq!(kamailio.bindings_on_disk() as usize, ROUNDS * USERS);
}

fn register_beside(what: &str, peer: &str, kamailio: &Kamailio, rate: u32, most: f64) {
    let names: Vec<String> = (0..USERS).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut gateway = Gateway::start(&names, "");
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        let theirs = cost(|| cpu::of_group(kamailio.group()), || register(&names, kamailio.port, rate));
        let ours = cost(|| cpu::of_process(gateway.pid()), || register(&names, gateway.sip, rate));
        figures.add(theirs / USERS as f64, ours / USERS as f64);
    }
    gateway.kill_and_restart();
    assert_eq!(gateway.status()["registrations"].as_array().unwrap().len(), USERS);
    figures.hold(what, peer, most);
}

#[test]
fn calls_are_set_up() {
    let kamailio = Kamailio::to_measure();
    let used = || cpu::of_group(kamailio.group());
    call_beside("a call, set up and ended", "Kamailio, a proxy", kamailio.port, used, 3.0);
}

#[test]
fn calls_are_set_up_with_their_media() {
    // Who wants what we do has both: ports of its own for each call, and descriptions that name them.
    let rtpengine = Rtpengine::start();
    let kamailio = Kamailio::with_media(rtpengine.port);
    let used = || cpu::of_group(kamailio.group()) + cpu::of_process(rtpengine.pid());
    call_beside("the same, with ports for media", "with rtpengine", kamailio.port, used, 1.1);
    for what in ["totalanswercount", "regularterminatedsessions"] {
        assert_eq!(rtpengine.counted(what), ROUNDS as u64 * u64::from(CALLS.0), "{what}");
    }
}

fn call_beside(what: &str, peer: &str, port: u16, used: impl Fn() -> u64, most: f64) {
    let device = Device { name: "uas", more: String::new() };
    // Nor does a proxy make a ringing tone.
    let gateway = Gateway::with_sip(&[device], "", "ringback = \"phone\"");
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        let theirs = cost(&used, || call(port));
        let ours = cost(|| cpu::of_process(gateway.pid()), || call(gateway.sip));
        figures.add(theirs / f64::from(CALLS.0), ours / f64::from(CALLS.0));
    }
    figures.hold(what, peer, most);
}

fn cost(used: impl Fn() -> u64, work: impl FnOnce()) -> f64 {
    let before = used();
    work();
    (used() - before) as f64
}

/// All of them register, each with a challenge and its answer.
fn register(names: &[&str], port: u16, a_second: u32) {
    let scratch = Scratch::new("figures-register");
    let mut csv = String::from("SEQUENTIAL\n");
    for name in names {
        writeln!(csv, "{name};[authentication username={name} password={name}-secret]").unwrap();
    }
    std::fs::write(scratch.path().join("users.csv"), csv).unwrap();
    rate(&scratch, port, "sipp/register.xml", (USERS as u32, a_second), &["-inf", "users.csv"]);
}

/// Calls to the device "uas", who registers first.
fn call(server: u16) {
    let scratch = Scratch::new("figures-calls");
    let scenario = fixture("sipp/routed_callee.xml");
    let mut callee = sipp::callee(server, scratch.path(), ["-sf", scenario.to_str().unwrap()]);
    rate(&scratch, server, "sipp/routed_caller.xml", CALLS, &["-s", "uas", "-d", "500"]);
    let _ = callee.kill();
    let _ = callee.wait();
}

/// So many of a scenario, so many a second; none fails.
fn rate(scratch: &Scratch, port: u16, scenario: &str, (number, rate): (u32, u32), more: &[&str]) {
    let (to, from) = (format!("127.0.0.1:{port}"), free_port().to_string());
    let (number, rate, scenario) = (number.to_string(), rate.to_string(), fixture(scenario));
    let mut arguments = vec![to.as_str(), "-sf", scenario.to_str().unwrap(), "-i", "127.0.0.1"];
    arguments.extend([
        "-mi",
        "127.0.0.1",
        "-p",
        &from,
        "-r",
        &rate,
        "-m",
        &number,
        "-timeout",
        "60s",
        "-trace_err",
    ]);
    arguments.extend(more);
    sipp::succeeded(&sipp::run(scratch.path(), &arguments), scratch.path());
}

/// Nanoseconds of each round, the peer's first.
#[derive(Default)]
struct Figures(Vec<(f64, f64)>);

impl Figures {
    fn add(&mut self, theirs: f64, ours: f64) {
        self.0.push((theirs, ours));
    }

    /// Prints medians, and returns the median of the ratios of each round.
    fn print(&self, what: &str, peer: &str, who: &str) -> f64 {
        let of = |value: fn(&(f64, f64)) -> f64| median(self.0.iter().map(value).collect());
        let ratio = of(|turn| turn.1 / turn.0);
        println!(
            "{what:30} {peer:18} {:8.1} us   {who:10} {:8.1} us   ratio {ratio:.2}",
            of(|turn| turn.0) / 1e3,
            of(|turn| turn.1) / 1e3,
        );
        ratio
    }

    /// The same; the ratio is not above `most`: what was measured, and a quarter more for a machine that does
    /// other things as well.
    fn hold(&self, what: &str, peer: &str, most: f64) {
        let ratio = self.print(what, peer, "Crosspoint");
        assert!(ratio <= most, "{what}: {ratio:.2} of {peer}, and at most {most} is held");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
