//! `crosspoint demo` as its users run it: it must end with proof, and leave what was heard and seen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]
mod support;

use std::process::Command;

use crosspoint::proof::Wav;
use support::Scratch;

/// S2: sound transcoded and relayed, pictures relayed and transcoded, each measured.
#[test]
fn the_demo_proves_itself() {
    let scratch = Scratch::new("demo");
    let out = scratch.path().join("out");
    let run = Command::new(env!("CARGO_BIN_EXE_crosspoint"))
        .args(["demo", "--shared-machine", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let (text, log) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{text}\n{log}");
    assert!(text.contains("proofs hold"), "{text}");
    for (file, seconds) in [("caller-heard.wav", 12), ("callee-heard.wav", 12)] {
        let wav = Wav::read(&out.join(file)).unwrap();
        assert!(wav.samples.len() > seconds * wav.rate as usize, "{file} is too short");
    }
    let left = std::fs::read_dir(&out).unwrap().filter(|it| it.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(left, 0, "the gateway's data is removed");
    for file in ["callee-saw.h264", "callee-saw.ppm", "callee-saw-flash.ppm", "callee-saw-small.ppm"] {
        assert!(out.join(file).metadata().unwrap().len() > 100_000, "{file}");
    }
}
