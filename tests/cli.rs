//! The program as its user meets it: commands, exit codes, what is printed, signals.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Everything on loopback and on ports that the system chooses.
const LOOPBACK: &str = r#"
[sip]
listen = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tls:127.0.0.1:0"]
[http]
listen = ["127.0.0.1:0"]
[web]
listen = ["127.0.0.1:0"]
[media]
address = "127.0.0.1"
"#;

/// A folder of one test with a configuration file, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str, config: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("crosspoint-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("crosspoint.toml"), config).unwrap();
        Self(folder)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosspoint"));
        command.current_dir(&self.0).args(["--data", "data"]).args(arguments);
        command
    }

    fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that fails says, in one line.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.call(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running gateway, killed when the test gives up on it.
struct Running {
    child: Child,
    /// Its pipe stays open, or its last words would have nowhere to go.
    out: BufReader<ChildStdout>,
    summary: String,
}

impl Running {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = place
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(place.0.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut summary = String::new();
        while !summary.contains("\n  rules ") {
            let mut line = String::new();
            let length = out.read_line(&mut line).unwrap();
            let log = || std::fs::read_to_string(place.0.join("log")).unwrap();
            assert!(length > 0, "it ended:\n{summary}\n{}", log());
            summary.push_str(&line);
        }
        Self { child, out, summary }
    }

    /// The address behind a word of the summary: "udp:", "http://".
    fn address(&self, word: &str) -> String {
        let (_, rest) = self.summary.split_once(word).unwrap();
        rest.split_whitespace().next().unwrap().into()
    }

    fn stop(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        while self.out.read_line(&mut rest).unwrap() > 0 {}
        code
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_effective_configuration_reads_back_as_itself() {
    let place = Place::new("check", "[[devices]]\nalias = \"alice\"\npassword = \"s3cret\"\n");
    let shown = place.prints(&["check-config"]);
    assert!(shown.starts_with("# crosspoint.toml\n") && shown.contains("[redacted]"), "{shown}");
    assert!(!shown.contains("s3cret"));
    std::fs::write(place.0.join("shown.toml"), shown.replace("[redacted]", "s3cret")).unwrap();
    let again = place.prints(&["check-config", "--config", "shown.toml"]);
    assert_eq!(again.lines().skip(1).collect::<Vec<_>>(), shown.lines().skip(1).collect::<Vec<_>>());
}

#[test]
fn no_configuration_file_is_needed() {
    let place = Place::new("none", "");
    std::fs::remove_file(place.0.join("crosspoint.toml")).unwrap();
    let shown = place.prints(&["check-config"]);
    assert!(shown.contains("defaults") && shown.contains("udp:0.0.0.0:5060"), "{shown}");
}

#[test]
fn a_malformed_configuration_names_file_line_field_and_remedy() {
    let place = Place::new("malformed", "[sip]\nrealm = \"x\"\nring_timout = \"30s\"\nmin_expires = 60\n");
    for command in
        [["check-config"].as_slice(), &["run"], &["device", "list"], &["explain", "a", "--from", "b"]]
    {
        assert_eq!(
            place.fails(command, 2),
            "crosspoint: crosspoint.toml, line 3, sip.ring_timout: is not known: did you mean ring_timeout?\n\
             crosspoint.toml, line 4, sip.min_expires: has no unit: write \"60s\" for seconds\n"
        );
    }
    let told = place.fails(&["check-config", "-c", "nowhere.toml"], 2);
    assert!(told.contains("nowhere.toml") && told.contains("--config"), "{told}");
}

#[test]
fn devices_are_added_listed_and_removed_and_their_passwords_kept_as_hashes() {
    let place = Place::new("device", "");
    let added = place.prints(&["device", "add", "sip:Alice@192.0.2.1"]);
    let made_up = added.split_once("password").unwrap().1.split_whitespace().next().unwrap().to_owned();
    assert_eq!(made_up.len(), 20, "{added}");
    let mut bob = place
        .command(&["device", "add", "bob", "--username", "b", "--password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bob.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let told = String::from_utf8(bob.wait_with_output().unwrap().stdout).unwrap();
    assert!(told.starts_with("added bob") && !told.contains("correct horse"), "{told}");
    let listed = place.prints(&["device", "list"]);
    assert!(listed.contains("alice  user alice") && listed.contains("bob    user b "), "{listed}");
    for file in std::fs::read_dir(place.0.join("data")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [made_up.as_bytes(), b"correct horse"] {
            assert!(!bytes.windows(secret.len()).any(|it| it == secret), "a password lies on disk");
        }
    }
    let twice = place.fails(&["device", "add", "ALICE"], 1);
    assert!(twice.contains("crosspoint device remove alice"), "{twice}");
    place.prints(&["device", "remove", "alice"]);
    assert!(place.fails(&["device", "remove", "alice"], 1).contains("there is none"));
    assert!(!place.prints(&["device", "list"]).contains("alice"));
    assert!(place.fails(&["device", "add", "a\u{1}b"], 2).contains("is no alias"));
}

#[test]
fn conferences_are_added_shown_changed_and_removed_and_pins_are_dots() {
    let place = Place::new("conference", "[[devices]]\nalias = \"carol\"\npassword = \"x\"\n");
    assert!(place.prints(&["conference", "list"]).contains("crosspoint conference add"));
    place.prints(&["device", "add", "alice"]);
    let mut add = place
        .command(&[
            "conference",
            "add",
            "Lecture",
            "--alias",
            "Lecture@Example.com",
            "--alias",
            "500",
            "--kind",
            "auditorium",
            "--host-pin",
            "-",
            "--guest-pin",
            "7777",
            "--guest-layout",
            "4:0",
            "--talkers",
            "all",
            "--limit",
            "50",
            "--no-chat",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    add.stdin.take().unwrap().write_all(b"864209#\n").unwrap();
    let told = String::from_utf8(add.wait_with_output().unwrap().stdout).unwrap();
    assert!(told.starts_with("added auditorium \"Lecture\" to data\nhint: a PIN of 4 digits"), "{told}");
    assert!(told.ends_with("better take 6 digits or more\n"), "{told}");
    let listed = place.prints(&["conference", "list"]);
    assert_eq!(listed, "Lecture  auditorium  host .... guest ....  lecture, 500\n");
    let shown = place.prints(&["conference", "show", "Lecture"]);
    for (field, value) in
        [("guest layout", "4:0"), ("layout", "1:7"), ("talkers", "all"), ("limit", "50"), ("chat", "no")]
    {
        assert!(shown.contains(&format!("{field:20}  {value}\n")), "{shown}");
    }
    assert!(!shown.contains("864209") && !shown.contains("7777"), "{shown}");
    // Errors name the field.
    for (arguments, says, code) in [
        (["Two", "--alias", "500"].as_slice(), "alias: 500 reaches the conference \"Lecture\"", 1),
        (&["Two", "--alias", "alice"], "alias: alice reaches the device alice", 1),
        (&["Two", "--alias", "carol"], "alias: carol reaches the device carol of the configuration file", 1),
        (&["Two"], "--alias", 1),
        (&["Lecture", "--alias", "2"], "name: there is a conference \"Lecture\" already", 1),
        (&["Two", "--alias", "2", "--host-pin", "12"], "host-pin: a PIN has 4 to 20 digits", 2),
        (&["Two", "--alias", "2", "--guest-pin", "1234"], "guest-pin: a guest PIN needs a host PIN", 2),
        (&["Two", "--alias", "2", "--limit", "0"], "limit: ", 1),
        (&["Two", "--alias", "2", "--talkers", "few"], "talkers: ", 2),
        (&["Two", "--alias", "2", "--layout", "3:3"], "--layout", 2),
    ] {
        let told = place.fails(&[["conference", "add"].as_slice(), arguments].concat(), code);
        assert!(told.contains(says), "{arguments:?}: {told}");
    }
    let told = place.fails(&["device", "add", "500"], 1);
    assert!(told.contains("500 is an alias of the conference \"Lecture\""), "{told}");
    // What is not named stays; what reaches it, and who is told so.
    place.prints(&["conference", "set", "Lecture", "--rename", "Hall", "--guest-pin", "none", "--chat"]);
    let shown = place.prints(&["conference", "show", "Hall"]);
    assert!(shown.contains("host ....\n") && shown.contains("limit                 50\n"), "{shown}");
    // S73: whom it calls when it begins; keys may be a PIN and are not shown.
    place.prints(&["conference", "set", "Hall", "--dial", "+49301 role=guest keys=,,1234#", "--dial", "bob"]);
    let shown = place.prints(&["conference", "show", "Hall"]);
    let calls: Vec<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("calls")).map(str::trim).collect();
    assert_eq!(
        calls,
        [
            "+49301 role=guest protocol=auto keeps=in-company keys=....",
            "bob role=host protocol=auto keeps=in-company"
        ]
    );
    let told = place.fails(&["conference", "set", "Hall", "--dial", "bob boss"], 2);
    assert!(told.contains("dial: \"boss\" is not understood"), "{told}");
    place.prints(&["conference", "set", "Hall", "--dial", "none"]);
    assert!(!place.prints(&["conference", "show", "Hall"]).contains("\ncalls"));
    let explained = place.prints(&["explain", "sip:LECTURE@example.com", "--from", "x@elsewhere.org"]);
    assert!(explained.ends_with("the call enters the conference \"Hall\"\n"), "{explained}");
    assert!(
        place.fails(&["conference", "set", "Lecture", "--chat"], 1).contains("no conference \"Lecture\"")
    );
    // PINs are made, differ, and are shown once.
    let made = |told: &str, word: &str| {
        let pin =
            told.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(" PIN ")).unwrap().to_owned();
        assert!(pin.bytes().all(|it| it.is_ascii_digit()), "{told}");
        pin
    };
    let told = place.prints(&[
        "conference",
        "add",
        "Made",
        "--alias",
        "2",
        "--host-pin",
        "new",
        "--guest-pin",
        "new",
    ]);
    let pins = [made(&told, "host"), made(&told, "guest")];
    assert!(pins.iter().all(|it| it.len() == 6) && pins[0] != pins[1], "{told}");
    assert!(told.ends_with("It is not shown again.\n"), "{told}");
    let shown = place.prints(&["conference", "show", "Made"]);
    assert!(shown.contains("host .... guest ....\n") && !pins.iter().any(|it| shown.contains(it)), "{shown}");
    let told = place.prints(&["conference", "set", "Made", "--guest-pin", "new", "--pin-digits", "10"]);
    assert!(made(&told, "guest").len() == 10 && !told.contains("host PIN"), "{told}");
    for (arguments, says) in [
        (["--host-pin", "new", "--pin-digits", "3"].as_slice(), "4..=20"),
        (&["--pin-digits", "8"], "pin-digits: no PIN is made"),
    ] {
        let told = place.fails(&[["conference", "set", "Made"].as_slice(), arguments].concat(), 2);
        assert!(told.contains(says), "{told}");
    }
    place.prints(&["conference", "remove", "Hall"]);
    assert!(place.fails(&["conference", "remove", "Hall"], 1).contains("conference list"));
    place.prints(&["device", "add", "500"]);
}

#[test]
fn explain_says_where_and_why_and_makes_nothing() {
    let config = "[[devices]]\nalias = \"alice\"\npassword = \"x\"\n[[rules]]\nname = \"out\"\npriority = 1\n\
                  match = '\\+49(\\d+)'\nreplace = \"0$1\"\nproxy = \"192.0.2.9\"\nonly_if_registered = false\n";
    let place = Place::new("explain", config);
    let shown = place.prints(&["explain", "tel:+49-30-1", "--from", "stranger@elsewhere.org"]);
    assert!(shown.contains("rule 1 \"out\" matches +49301"), "{shown}");
    assert!(
        shown.ends_with("goes out to sip:0301@192.0.2.9 by 192.0.2.9, allowed by rule \"out\"\n"),
        "{shown}"
    );
    let output = place.call(&["explain", "alice", "--from", "bob"]);
    assert_eq!(output.status.code(), Some(1), "refused");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .ends_with("the call is refused: the device is not registered\n")
    );
    // A rule for callers is none for conferences.
    let conference = place.call(&["explain", "+491", "--from", "meet.alice", "--conference"]);
    let told = String::from_utf8(conference.stdout).unwrap();
    assert!(
        told.contains("conferences = true makes it so") && told.contains("the call is refused"),
        "{told}"
    );
    let unproved = place.call(&["explain", "+491", "--from", "alice", "--stranger"]);
    assert!(String::from_utf8(unproved.stdout).unwrap().ends_with("the caller must authenticate\n"));
    assert!(!place.0.join("data").exists(), "a question leaves no trace");
}

#[test]
fn run_says_what_listens_answers_status_and_stops_on_a_signal() {
    let place = Place::new("run", LOOPBACK);
    let running = Running::start(&place, &["run"]);
    let management = running.address("http://");
    let shown = place.prints(&["status", "--address", &management]);
    assert!(shown.contains(&format!("sip udp:{}", running.address("udp:"))), "{shown}");
    assert!(shown.contains("devices   0, registered 0") && shown.contains("calls     0"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&place.prints(&["status", "--json", "--address", &management])).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));

    assert_eq!(place.prints(&["status", "--health", "--address", &management]), "healthy\n");

    // What is in use is named, with the option; and nothing of the second one stays.
    let (sip, taken) = (running.address("udp:"), Place::new("taken", ""));
    let config = LOOPBACK.replace("udp:127.0.0.1:0", &format!("udp:{sip}"));
    std::fs::write(taken.0.join("crosspoint.toml"), config).unwrap();
    let told = taken.fails(&["run"], 1);
    let port = sip.rsplit(':').next().unwrap();
    assert!(
        told.contains(&format!("udp:{sip} is in use")) && told.contains(port) && told.contains("sip.listen"),
        "{told}"
    );
    assert!(place.fails(&["run"], 1).contains("in use by another gateway"));

    assert_eq!(running.stop(Signal::TERM), Some(0), "{}", log(&place));
    UdpSocket::bind(&sip).unwrap();
    let told = place.fails(&["status", "--address", &management], 1);
    assert!(told.contains(&management) && told.contains("crosspoint run"), "{told}");
    let again = Running::start(&place, &["run"]);
    assert_eq!(again.stop(Signal::INT), Some(0), "{}", log(&place));
}

#[test]
fn a_cap_of_instructions_is_shown_and_obeyed() {
    let place = Place::new("capped", &format!("{LOOPBACK}instructions = \"scalar\"\n"));
    let shown = place.prints(&["check-config"]);
    assert!(shown.contains("\ninstructions = \"scalar\"\n"), "{shown}");
    let running = Running::start(&place, &["run"]);
    assert!(running.summary.contains("scalar (media.instructions)"), "{}", running.summary);
    let management = running.address("http://");
    let shown = place.prints(&["status", "--address", &management]);
    assert!(shown.contains("kernels   scalar\n"), "{shown}");
    running.stop(Signal::TERM);

    std::fs::write(place.0.join("crosspoint.toml"), "[media]\ninstructions = \"mmx\"\n").unwrap();
    assert_eq!(
        place.fails(&["check-config"], 2),
        "crosspoint: crosspoint.toml, line 2, media.instructions: \"mmx\" is not known: use one of avx512, avx2, sse4.2, scalar\n"
    );
}

#[test]
fn log_lines_are_json_when_asked() {
    let place = Place::new("json", &format!("{LOOPBACK}[log]\nformat = \"json\"\n"));
    let running = Running::start(&place, &["run", "--log", "debug"]);
    assert_eq!(running.stop(Signal::TERM), Some(0));
    let log = log(&place);
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "stopped"), "{log}");
    assert!(place.fails(&["run", "--log", "crosspoint=loud"], 1).contains("is not a filter"));
}

#[test]
fn a_gateway_with_a_thousand_devices_is_small() {
    let mut config = LOOPBACK.to_owned();
    for device in 0..1000 {
        config.push_str(&format!("[[devices]]\nalias = \"device{device}\"\npassword = \"secret{device}\"\n"));
    }
    let place = Place::new("thousand", &config);
    let running = Running::start(&place, &["run"]);
    assert!(running.summary.contains("1000, registered 0"), "{}", running.summary);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib <= 30 * 1024, "{kib} KiB");
    running.stop(Signal::TERM);
}

fn log(place: &Place) -> String {
    std::fs::read_to_string(Path::new(&place.0).join("log")).unwrap()
}

#[test]
fn bench_measures_every_part_and_says_what_follows_for_a_core() {
    let place = Place::new("bench", "");
    let shown = place.prints(&["bench", "--seconds", "1", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(json["machine"]["cores"].as_u64().unwrap() >= 1 && json["machine"]["kernels"].is_string());
    let keys = |list: &str, figures: &[&str]| -> Vec<String> {
        let rows = json[list].as_array().unwrap();
        for (row, figure) in rows.iter().flat_map(|row| figures.iter().map(move |it| (row, *it))) {
            assert!(row[figure].as_f64().is_some_and(|it| it > 0.0 && it.is_finite()), "{figure} of {row}");
        }
        rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    let rows = [
        "yardstick",
        "mix-10",
        "mix-50",
        "mix-200",
        "pcmu-encode",
        "pcmu-decode",
        "g722-encode",
        "g722-decode",
        "opus-encode",
        "opus-decode",
        "resample-8-48",
        "resample-48-8",
        "resample-16-48",
        "resample-48-16",
        "h264-720-encode",
        "h264-720-decode",
        "h264-360-encode",
        "h264-360-decode",
        "scale-720-360",
        "scale-360-720",
        "relay-rtp",
        "relay-srtp",
        "call-pcmu-opus",
        "room-20",
        "room-100",
    ];
    assert_eq!(keys("rows", &["nanoseconds", "yardsticks"]), rows);
    let per_core =
        ["relayed-calls", "relayed-calls-srtp", "transcoded-calls", "conference-legs", "encodes-720p30"];
    assert_eq!(keys("per_core", &["count"]), per_core);
    assert!(json["note"].as_str().unwrap().contains("clock"), "{shown}");
    let refused = place.fails(&["bench", "--seconds", "0"], 2);
    assert!(refused.contains("--seconds"), "{refused}");
}
