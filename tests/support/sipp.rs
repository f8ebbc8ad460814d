//! sipp as a process: scenarios, rates, its own count of what failed.

use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use super::gateway::Gateway;
use super::register::Registering;
use super::{Scratch, free_port, program};

/// Runs sipp in `folder` with these arguments until it ends by itself.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    program("sipp").current_dir(folder).args(arguments).args(["-nostdin"]).output().unwrap()
}

/// It ended with 0, which is its word for "no call failed".
pub fn succeeded(output: &Output, folder: &Path) {
    if output.status.code() == Some(0) {
        return;
    }
    let mut told = String::from_utf8_lossy(&output.stdout).into_owned();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().to_string_lossy().ends_with("_errors.log") {
            let errors = std::fs::read_to_string(entry.path()).unwrap_or_default();
            told.push_str(&errors.chars().take(4_000).collect::<String>());
        }
    }
    let tail: String = told.chars().skip(told.chars().count().saturating_sub(6_000)).collect();
    panic!("sipp ended with {:?}:\n{tail}", output.status.code());
}

/// So many calls at that rate, of half a second each, to the device "uas", while `meanwhile` is done.
/// None fails.
pub fn calls(gateway: &Gateway, rate: u32, number: u32, meanwhile: impl FnOnce()) {
    let _ = calls_of(gateway, Duration::from_millis(500), rate, number, meanwhile);
}

/// The same with calls that last so long. How long each waited from its INVITE to its 200, the shortest
/// first: who is called answers at once.
pub fn calls_of(
    gateway: &Gateway,
    lasting: Duration,
    rate: u32,
    number: u32,
    meanwhile: impl FnOnce(),
) -> Vec<Duration> {
    let scratch = Scratch::new("sipp-calls");
    let mut uas = callee(gateway.sip, scratch.path(), ["-sn", "uas"]);
    let output = std::thread::scope(|scope| {
        let callers = scope.spawn(|| {
            run(
                scratch.path(),
                &[
                    &format!("127.0.0.1:{}", gateway.sip),
                    "-sn",
                    "uac",
                    "-s",
                    "uas",
                    "-i",
                    "127.0.0.1",
                    "-mi",
                    "127.0.0.1",
                    "-p",
                    &free_port().to_string(),
                    "-r",
                    &rate.to_string(),
                    "-m",
                    &number.to_string(),
                    "-d",
                    &lasting.as_millis().to_string(),
                    "-timeout",
                    "120s",
                    "-trace_err",
                    "-trace_rtt",
                    "-rtt_freq",
                    "1",
                ],
            )
        });
        meanwhile();
        callers.join().unwrap()
    });
    let _ = uas.kill();
    let _ = uas.wait();
    succeeded(&output, scratch.path());
    let mut waits = waits(scratch.path());
    waits.sort();
    waits
}

/// sipp as the device "uas", which takes every call by that scenario.
pub fn callee(server: u16, folder: &Path, scenario: [&str; 2]) -> Child {
    let port = free_port();
    // It registers from the port that it will listen on: calls come back the same way.
    let mut client = Registering::on(server, port, port.into());
    assert_eq!(client.register("uas", "uas-secret"), Some(200));
    drop(client);
    listening(port, folder, scenario)
}

/// sipp on that port, which takes every call by that scenario.
pub fn listening(port: u16, folder: &Path, scenario: [&str; 2]) -> Child {
    program("sipp")
        .current_dir(folder)
        .args(scenario)
        .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", &port.to_string(), "-nostdin"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What sipp has measured, of a line "when;milliseconds;which" each.
fn waits(folder: &Path) -> Vec<Duration> {
    let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let file =
        files.into_iter().find(|it| it.to_string_lossy().ends_with("_rtt.csv")).expect("response times");
    let text = std::fs::read_to_string(file).unwrap();
    let millis = text.lines().filter_map(|line| line.split(';').nth(1)?.trim().parse::<f64>().ok());
    millis.map(|it| Duration::from_secs_f64(it / 1_000.0)).collect()
}
