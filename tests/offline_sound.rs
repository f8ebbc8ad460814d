//! Files mixed: `crosspoint mix` and the library behind it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]
#![allow(clippy::cast_possible_truncation, reason = "test signals are small")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crosspoint::offline::{Mix, Settings, Sound};
use crosspoint::proof::{Wav, tone};

/// Full scale, both ends of it.
const LOUDEST: u16 = 32_768;

/// A folder of one test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("crosspoint-mix-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, rate: u32, samples: Vec<i16>) {
        Wav { rate, samples }.write(&self.0.join(name)).unwrap();
    }

    fn read(&self, name: &str) -> Wav {
        Wav::read(&self.0.join(name)).unwrap()
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosspoint"));
        command.current_dir(&self.0).arg("mix").args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a mix that succeeds prints.
    fn mixes(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What one that fails says: one line. It leaves the folder as it was.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let before = self.files();
        let output = self.call(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert_eq!(self.files(), before, "{arguments:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("crosspoint: ") && told.lines().count() == 1, "{told}");
        told
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|it| it.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Noise between `-peak` and `peak - 1`; half of the samples at the rails when `peak` is the loudest.
fn noise(seed: u64, peak: u16, len: usize) -> Vec<i16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let range = 2 * u64::from(peak);
            let sample = i64::try_from((state >> 20) % range).unwrap() - i64::from(peak);
            match state % 4 {
                0 if peak == LOUDEST => i16::MIN,
                1 if peak == LOUDEST => i16::MAX,
                _ => i16::try_from(sample).unwrap(),
            }
        })
        .collect()
}

/// The specification: the sum in 64 bits of all but one, saturated once.
fn expected(inputs: &[Vec<i16>], without: Option<usize>) -> Vec<i16> {
    let len = inputs.iter().map(Vec::len).max().unwrap();
    (0..len)
        .map(|at| {
            let all = inputs.iter().enumerate().filter(|(input, _)| Some(*input) != without);
            let sum: i64 = all.map(|(_, samples)| i64::from(samples.get(at).copied().unwrap_or(0))).sum();
            i16::try_from(sum.clamp(i16::MIN.into(), i16::MAX.into())).unwrap()
        })
        .collect()
}

struct Held {
    rate: u32,
    samples: Vec<i16>,
    at: usize,
}

impl Sound for Held {
    fn rate(&self) -> u32 {
        self.rate
    }

    fn read(&mut self, samples: &mut [i16]) -> io::Result<usize> {
        let rest = &self.samples[self.at..];
        let taken = rest.len().min(samples.len());
        samples[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// All outputs of a mix by the library.
fn mixed(inputs: &[(u32, Vec<i16>)], settings: Settings) -> Vec<Vec<i16>> {
    let sounds =
        inputs.iter().map(|(rate, samples)| Held { rate: *rate, samples: samples.clone(), at: 0 }).collect();
    let mut mix = Mix::new(sounds, &settings).unwrap();
    let mut outputs = vec![Vec::new(); mix.outputs()];
    while mix.step().unwrap() {
        for (number, output) in outputs.iter_mut().enumerate() {
            output.extend_from_slice(mix.block(number));
        }
    }
    outputs
}

fn at(rate: u32, inputs: &[Vec<i16>]) -> Vec<(u32, Vec<i16>)> {
    inputs.iter().map(|samples| (rate, samples.clone())).collect()
}

#[test]
fn full_scale_files_sum_exactly_and_saturate_once() {
    for (count, rate) in [(3, 48_000), (50, 8_000)] {
        let place = Place::new(&format!("exact-{count}"));
        // Lengths that differ, and end within a block.
        let inputs: Vec<_> = (0..count).map(|n| noise(n + 1, LOUDEST, 12_345 - 77 * n as usize)).collect();
        let mut names = Vec::new();
        for (n, samples) in inputs.iter().enumerate() {
            names.push(format!("in{n}.wav"));
            place.write(&names[n], rate, samples.clone());
        }
        let mut arguments: Vec<&str> = names.iter().map(String::as_str).collect();
        arguments.extend(["-o", "out.wav", "--minus-one"]);
        let told = place.mixes(&arguments);
        let all = place.read("out.wav");
        assert_eq!((all.rate, &all.samples), (rate, &expected(&inputs, None)), "{count}");
        let over = inputs_over(&inputs);
        assert!(over > 3_000 && told.contains(&format!("{over} of 12345 samples saturated")), "{told}");
        for n in 0..inputs.len() {
            let name = format!("out-{}.wav", n + 1);
            assert_eq!(place.read(&name).samples, expected(&inputs, Some(n)), "{count} without {n}");
            assert!(told.contains(&name), "{told}");
        }
        assert_eq!(place.files().len(), 2 * inputs.len() + 1);
    }
}

/// Samples whose sum is beyond 16 bits.
fn inputs_over(inputs: &[Vec<i16>]) -> usize {
    let len = inputs.iter().map(Vec::len).max().unwrap();
    let sum = |at: usize| -> i64 { inputs.iter().filter_map(|it| it.get(at)).map(|it| i64::from(*it)).sum() };
    (0..len).filter(|at| i16::try_from(sum(*at)).is_err()).count()
}

#[test]
fn a_thousand_at_full_scale_sum_exactly() {
    let inputs: Vec<_> = (0..1_000).map(|n| noise(n + 7, LOUDEST, 1_000)).collect();
    let outputs = mixed(&at(16_000, &inputs), Settings { minus_one: true, ..Settings::default() });
    assert_eq!(outputs[0], expected(&inputs, None));
    for n in [0, 1, 499, 999] {
        assert_eq!(outputs[n + 1], expected(&inputs, Some(n)), "without {n}");
    }
    let rails: Vec<_> = (0..1_000).map(|n| vec![if n == 0 { i16::MAX } else { i16::MIN }; 100]).collect();
    let outputs = mixed(&at(8_000, &rails), Settings::default());
    assert_eq!(outputs, [vec![i16::MIN; 100]]);
}

#[test]
fn with_a_limiter_nothing_clips_and_what_fits_is_the_same_bit_by_bit() {
    for rate in [8_000, 16_000, 24_000, 32_000, 48_000] {
        let limited = Settings { limit: true, minus_one: true, rate: None };
        let loud: Vec<_> = (0..20).map(|n| noise(n + 3, LOUDEST, 10_007)).collect();
        for output in mixed(&at(rate, &loud), limited) {
            assert_eq!(output.len(), 10_007);
            assert!(output.iter().all(|sample| sample.unsigned_abs() <= 32_000), "{rate}");
        }
        // Three of these stay below -3 dBFS (23197) together: the limiter shows as nothing, not as a
        // delay either.
        for len in [1, 47, 960, 10_007] {
            let soft: Vec<_> = (0..3).map(|n| noise(n + 5, 7_700, len)).collect();
            let outputs = mixed(&at(rate, &soft), limited);
            assert_eq!(outputs[0], expected(&soft, None), "{rate}, {len}");
            assert_eq!(outputs[2], expected(&soft, Some(1)), "{rate}, {len}");
        }
    }
}

#[test]
fn rates_meet_at_the_best_and_what_was_together_stays_together() {
    // One knock, after half a second, at each rate: all at the same place of the result.
    let knock = |rate: u32| -> (u32, Vec<i16>) {
        let mut samples = vec![0; rate as usize];
        // As long as a sample of the lowest rate.
        samples[rate as usize / 2..][..rate as usize / 8_000].fill(8_000);
        (rate, samples)
    };
    for to in [8_000, 16_000, 24_000, 32_000, 48_000] {
        for from in [8_000, 16_000, 24_000, 32_000, 48_000] {
            for limit in [false, true] {
                let settings = Settings { rate: Some(to), limit, minus_one: false };
                let outputs = mixed(&[knock(from), (to, vec![0])], settings);
                assert_eq!(outputs[0].len(), to as usize, "{from} to {to}");
                let weight: i64 = outputs[0].iter().map(|it| i64::from(*it)).sum();
                let moment: i64 = (0..).zip(&outputs[0]).map(|(n, it)| n * i64::from(*it)).sum();
                let middle = f64::from(from / 2) + (f64::from(from / 8_000) - 1.0) / 2.0;
                let off = moment as f64 / weight as f64 - middle * f64::from(to) / f64::from(from);
                // Delays that are no whole number of samples are rounded.
                assert!(off.abs() < 0.5, "{from} to {to}: {off} samples");
            }
        }
    }
    let tone_of = |rate: u32, hertz: f64| -> (u32, Vec<i16>) {
        let turn = std::f64::consts::TAU * hertz / f64::from(rate);
        (rate, (0..2 * rate).map(|n| (8_000.0 * (turn * f64::from(n)).sin()) as i16).collect())
    };
    let mut mix = mixed(&[tone_of(8_000, 440.0), tone_of(48_000, 0.0)], Settings::default());
    let heard = tone(&mix.remove(0), 48_000);
    assert!((heard.frequency - 440.0).abs() < 0.1 && heard.snr > 60.0, "{heard:?}");
}

#[test]
fn a_shorter_file_is_silence_after_its_end_and_the_summary_says_what_was_mixed() {
    let place = Place::new("summary");
    place.write("a b.wav", 16_000, vec![1_000; 16_000]);
    place.write("c.wav", 8_000, vec![0; 0]);
    let told = place.mixes(&["a b.wav", "c.wav", "a b.wav", "-o", "out.wav"]);
    assert_eq!(place.read("out.wav"), Wav { rate: 16_000, samples: vec![2_000; 16_000] });
    for expected in [
        "mixed 3 files, 0:01.000 at 16000 Hz",
        "a b.wav  16-bit PCM, 16000 Hz, mono, 0:01.000",
        "c.wav    16-bit PCM, 8000 Hz, mono, 0:00.000",
        "out.wav  all: peak -24.3 dBFS before, 0 of 16000 samples saturated",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    let told = place.mixes(&["c.wav", "c.wav", "-o", "out.wav", "--rate", "24000", "--limit"]);
    assert!(told.contains("at 24000 Hz, peaks limited") && told.contains("silence"), "{told}");
    // What was there is replaced.
    assert_eq!(place.read("out.wav"), Wav { rate: 24_000, samples: Vec::new() });
    assert_eq!(place.files().len(), 3);
}

#[test]
fn each_mistake_is_told_in_one_line_and_leaves_nothing() {
    let place = Place::new("mistakes");
    place.write("a.wav", 8_000, vec![1; 100]);
    place.write("b.wav", 8_000, vec![1; 100]);
    place.write("cd.wav", 44_100, vec![1; 100]);
    let mut wide = std::fs::read(place.0.join("a.wav")).unwrap();
    wide[34] = 24;
    wide[22] = 6;
    std::fs::write(place.0.join("wide.wav"), wide).unwrap();
    std::fs::write(place.0.join("song.mp3"), "ID3 and so on").unwrap();
    std::fs::create_dir(place.0.join("folder")).unwrap();
    std::os::unix::fs::symlink("a.wav", place.0.join("link.wav")).unwrap();

    let nothing = place.fails(&["-o", "out.wav"], 2);
    assert_eq!(nothing, "crosspoint: nothing to mix: name two WAV files or more\n");
    let one = place.fails(&["a.wav", "-o", "out.wav"], 2);
    assert_eq!(one, "crosspoint: a.wav alone makes no mix: name two WAV files or more\n");
    for output in ["a.wav", "./a.wav", "link.wav", "folder/../b.wav"] {
        let told = place.fails(&["a.wav", "b.wav", "-o", output], 2);
        assert_eq!(told, format!("crosspoint: {output} is one of the inputs: name another file with -o\n"));
    }
    // What --minus-one writes is an output too.
    place.write("x-2.wav", 8_000, vec![1; 100]);
    let told = place.fails(&["a.wav", "x-2.wav", "-o", "x.wav", "--minus-one"], 2);
    assert!(told.contains("x-2.wav is one of the inputs"), "{told}");
    let told = place.fails(&["a.wav", "b.wav", "-o", "folder"], 2);
    assert_eq!(told, "crosspoint: folder is a folder: name a file with -o\n");
    let told = place.fails(&["a.wav", "b.wav", "-o", "out.wav", "--rate", "44100"], 2);
    let rates = "8000, 16000, 24000, 32000 and 48000 Hz";
    assert_eq!(told, format!("crosspoint: a mix of 44100 Hz is not made: there are {rates}\n"));

    let told = place.fails(&["a.wav", "none.wav", "-o", "out.wav"], 1);
    assert!(told.starts_with("crosspoint: cannot read none.wav: No such file"), "{told}");
    for (name, has) in [
        ("cd.wav", "is 16-bit PCM, 44100 Hz, mono"),
        ("wide.wav", "is 24-bit PCM, 8000 Hz, 6 channels"),
        ("song.mp3", "is not a WAV file"),
    ] {
        let told = place.fails(&["a.wav", name, "-o", "out.wav"], 1);
        let remedy = format!("ffmpeg -i \"{name}\" -c:a pcm_s16le -ac 1 -ar 48000 converted.wav");
        let taken = format!("taken is 16-bit PCM, mono or stereo, at {rates}");
        assert_eq!(told, format!("crosspoint: {name} {has}; {taken}; convert it with: {remedy}\n"));
    }
    let told = place.fails(&["a.wav", "b.wav", "-o", "nowhere/out.wav"], 1);
    assert!(told.starts_with("crosspoint: cannot write nowhere/out.wav: No such file"), "{told}");
    let told = place.fails(&["a.wav", "b.wav", "-o", "/proc/out.wav"], 1);
    assert!(told.starts_with("crosspoint: cannot write /proc/out.wav: "), "{told}");
}

#[test]
fn a_signal_ends_a_mix_and_leaves_nothing() {
    use rustix::process::{Pid, Signal, kill_process};
    let place = Place::new("signal");
    // An hour that takes no room on the disk: more than anybody waits for here.
    let hour = |name: &str| {
        place.write(name, 48_000, vec![0; 1]);
        let file = std::fs::File::options().write(true).open(place.0.join(name)).unwrap();
        file.set_len(44 + 2 * 3_600 * 48_000).unwrap();
        let length = (2u32 * 3_600 * 48_000).to_le_bytes();
        std::os::unix::fs::FileExt::write_all_at(&file, &length, 40).unwrap();
    };
    hour("a.wav");
    hour("b.wav");
    let before = place.files();
    let mut child = Command::new(env!("CARGO_BIN_EXE_crosspoint"))
        .current_dir(&place.0)
        .args(["mix", "a.wav", "b.wav", "-o", "out.wav"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = || place.files().iter().any(|it| it.extension() == Some("part".as_ref()));
    while !begun() {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "crosspoint: interrupted; nothing was written\n");
    assert_eq!(place.files(), before);
}

#[test]
fn memory_does_not_grow_with_the_length() {
    let place = Place::new("memory");
    for (name, samples) in [("a.wav", 1u64 << 25), ("b.wav", 1 << 20)] {
        place.write(name, 48_000, vec![0; 1]);
        let file = std::fs::File::options().write(true).open(Path::new(&place.0).join(name)).unwrap();
        file.set_len(44 + 2 * samples).unwrap();
        let length = u32::try_from(2 * samples).unwrap().to_le_bytes();
        std::os::unix::fs::FileExt::write_all_at(&file, &length, 40).unwrap();
    }
    // 64 MiB of sound; a process with 40 MiB of data could not hold it.
    let output = Command::new("sh")
        .current_dir(&place.0)
        .args(["-c", "ulimit -d 40960 && exec \"$0\" mix a.wav b.wav -o out.wav"])
        .arg(env!("CARGO_BIN_EXE_crosspoint"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("mixed 2 files, 11:39.050 at 48000 Hz"), "{told}");
}
