//! A participant by `@pexip/infinity`, the client library as it is published: a Node of its own for
//! each, driven by lines (`tests/infinity/participant.mjs`). What does not fit the library's own schema
//! fails the test, wherever it turns up; so does what the library logs, unless the test takes it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::{PATIENCE, program};

/// One who uses the library.
#[derive(Debug)]
pub struct Participant {
    pub name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<Value>,
    /// What was told and nobody has asked for yet.
    told: VecDeque<Value>,
    logged: Vec<String>,
    asked: u64,
}

impl Participant {
    /// Somebody whose client finds `gateway` behind that port of loopback, and trusts no certificate
    /// but the gateway's own.
    pub fn new(name: &str, gateway: &Gateway, port: u16) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/infinity");
        let library = folder.join("node_modules/@pexip/infinity");
        assert!(library.is_dir(), "@pexip/infinity is not installed: run `make setup-test`");
        let mut child = program("node")
            // The library's packages name their first file in a way that Node dislikes.
            .args(["--no-deprecation"])
            .arg(folder.join("participant.mjs"))
            .arg(format!("https://127.0.0.1:{port}"))
            .env("NODE_EXTRA_CA_CERTS", gateway.scratch.path().join("data/tls/certificate.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "violation": line }));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let mut this = Self {
            name: name.to_owned(),
            child,
            input,
            lines,
            told: VecDeque::new(),
            logged: Vec::new(),
            asked: 0,
        };
        this.next("a Node that is ready", |line| line.get("ready").is_some());
        this
    }

    /// Calls `method` of the library's client; what it gives, or what it throws.
    pub fn try_call(&mut self, method: &str, with: Value) -> Result<Value, String> {
        self.asked += 1;
        let id = self.asked;
        writeln!(self.input, "{}", json!({ "id": id, "call": method, "with": with })).unwrap();
        let answer = self.next(method, |line| line["id"] == id);
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["value"].clone()),
        }
    }

    /// The same, when it must not throw.
    pub fn call(&mut self, method: &str, with: Value) -> Value {
        let done = self.try_call(method, with);
        done.unwrap_or_else(|error| panic!("{}: {method}: {error}", self.name))
    }

    /// A command of which the answer is `true`.
    pub fn does(&mut self, method: &str, with: Value) {
        let answer = self.call(method, with);
        assert_eq!((&answer["status"], &answer["data"]["result"]), (&json!(200), &json!(true)), "{method}");
    }

    /// Asks for a way in. Members of `with` go to the library's `call` as they are.
    pub fn knock(&mut self, alias: &str, with: Value) -> Value {
        let mut given = json!({ "conferenceAlias": alias, "displayName": self.name });
        given.as_object_mut().unwrap().extend(with.as_object().cloned().unwrap_or_default());
        self.call("call", given)
    }

    /// Comes in; his number in the roster. With an empty PIN none is given.
    pub fn join(&mut self, alias: &str, pin: &str) -> String {
        let with = if pin.is_empty() { json!({}) } else { json!({ "pin": pin }) };
        let answer = self.knock(alias, with);
        assert_eq!(answer["status"], 200, "{}: {answer}", self.name);
        self.signal("onConnected", |_| true);
        answer["data"]["result"]["participant_uuid"].as_str().unwrap().to_owned()
    }

    /// The next signal of that name whose value fits; others stay for who asks for them.
    pub fn signal(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.next(name, |line| line["signal"] == name && fits(&line["value"]))["value"].clone()
    }

    /// The next event of the stream of that name whose data fit.
    pub fn event(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.next(name, |line| line["event"] == name && fits(&line["value"]))["value"].clone()
    }

    /// Whether that signal came and was not asked for.
    pub fn was_told(&mut self, signal: &str) -> bool {
        while let Ok(line) = self.lines.try_recv() {
            self.take(line);
        }
        self.told.iter().any(|line| line["signal"] == signal)
    }

    /// How many events of that name came and were not asked for.
    pub fn events(&mut self, name: &str) -> usize {
        while let Ok(line) = self.lines.try_recv() {
            self.take(line);
        }
        self.told.iter().filter(|line| line["event"] == name).count()
    }

    /// The roster as the library has it.
    pub fn roster(&mut self) -> Vec<Value> {
        self.call("getParticipants", json!("main")).as_array().cloned().unwrap_or_default()
    }

    /// Somebody of the roster by his name or number, once he fits.
    pub fn sees(&mut self, who: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let roster = self.roster();
            let is = |it: &&Value| (it["displayName"] == who || it["uuid"] == who) && fits(it);
            if let Some(found) = roster.iter().find(is) {
                return found.clone();
            }
            assert!(Instant::now() < until, "{} waits in vain for {who}: {roster:#?}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nobody of that name or number is in the roster.
    pub fn misses(&mut self, who: &str) {
        let until = Instant::now() + PATIENCE;
        while self.roster().iter().any(|it| it["displayName"] == who || it["uuid"] == who) {
            assert!(Instant::now() < until, "{} still sees {who}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Names in the roster, in order.
    pub fn names(&mut self) -> Vec<String> {
        let text = |it: &Value| it["displayName"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<_> = self.roster().iter().map(text).collect();
        names.sort();
        names
    }

    /// The state of the conference as the library has it, once it fits.
    pub fn status(&mut self, fits: impl Fn(&Value) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.call("status", Value::Null);
            if fits(&status) {
                return;
            }
            assert!(Instant::now() < until, "{}: {status:#}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes what the library has logged, which must be of one line that contains `what`.
    pub fn logged(&mut self, what: &str) {
        let logged = std::mem::take(&mut self.logged);
        assert!(matches!(&logged[..], [one] if one.contains(what)), "{}: {logged:#?}", self.name);
    }

    /// The next line that fits.
    fn next(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.told.iter().position(&fits) {
            return self.told.remove(at).unwrap();
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if fits(&line) => return line,
                Ok(line) => self.take(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} waits in vain for {what}; told: {:#?}", self.name, self.told)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("{}'s Node ended", self.name),
            }
        }
    }

    fn take(&mut self, line: Value) {
        if let Some(violation) = line.get("violation") {
            panic!("{}: {}", self.name, violation.as_str().unwrap_or_default());
        }
        match line.get("logged").and_then(Value::as_str) {
            Some(logged) => self.logged.push(logged.to_owned()),
            None => self.told.push_back(line),
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}'s library logged: {:#?}", self.name, self.logged);
            return;
        }
        // The rest of the lines: what is wrong in them fails the test as well.
        while let Ok(line) = self.lines.recv() {
            self.take(line);
        }
        assert!(self.logged.is_empty(), "{}'s library logged: {:#?}", self.name, self.logged);
    }
}
