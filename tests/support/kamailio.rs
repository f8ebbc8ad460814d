//! Kamailio as a process: a carrier's registrar and proxy, that can be killed and started again.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use super::{Scratch, fixture, free_port, program, wait_for};

/// What it is measured with.
const BENCH: &str = "kamailio/bench.cfg";

/// The database of one with a disk.
const DISK: &str = "kamailio.db";

/// A running Kamailio, which knows nobody when it starts.
#[derive(Debug)]
pub struct Kamailio {
    pub port: u16,
    scratch: Scratch,
    /// What its configuration shall define.
    defined: Vec<String>,
    child: Option<Child>,
}

impl Kamailio {
    /// Starts it as a carrier. `transport` is what its Service-Route says.
    pub fn start(transport: &str) -> Self {
        Self::of(Scratch::new("kamailio"), "kamailio/upstream.cfg", &[("OWN", transport)], &[])
    }

    /// Starts it to be measured, with bindings in memory, and media on its own way.
    pub fn to_measure() -> Self {
        Self::of(Scratch::new("kamailio"), BENCH, &[], &[])
    }

    /// The same; each binding is in a database on the disk before it says so.
    pub fn with_disk() -> Self {
        let scratch = Scratch::new("kamailio");
        let disk = scratch.path().join(DISK);
        let database = rusqlite::Connection::open(&disk).unwrap();
        for tables in ["standard", "usrloc"] {
            let file = format!("/usr/share/kamailio/db_sqlite/{tables}-create.sql");
            let text = std::fs::read_to_string(&file).expect("the tables of kamailio-sqlite-modules");
            database.execute_batch(&text).unwrap();
        }
        drop(database);
        Self::of(scratch, BENCH, &[("@disk@", disk.to_str().unwrap())], &["WITH_DISK"])
    }

    /// Bindings that the disk has, by a log that is written ahead as ours is.
    pub fn bindings_on_disk(&self) -> u32 {
        let database = rusqlite::Connection::open(self.scratch.path().join(DISK)).unwrap();
        let mode: String = database.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        database.query_row("SELECT count(*) FROM location", [], |row| row.get(0)).unwrap()
    }

    /// The same as [`Self::to_measure`]; media goes by the rtpengine that is controlled there.
    pub fn with_media(control: u16) -> Self {
        Self::of(Scratch::new("kamailio"), BENCH, &[("@media@", &control.to_string())], &["WITH_MEDIA"])
    }

    fn of(scratch: Scratch, config: &str, words: &[(&str, &str)], defined: &[&str]) -> Self {
        let port = free_port();
        let mut text = std::fs::read_to_string(fixture(config)).unwrap().replace("PORT", &port.to_string());
        for (word, meaning) in words {
            text = text.replace(word, meaning);
        }
        std::fs::write(scratch.path().join("kamailio.cfg"), text).unwrap();
        let defined = defined.iter().map(|it| (*it).to_owned()).collect();
        let mut this = Self { port, scratch, defined, child: None };
        this.restart();
        this
    }

    /// Starts it again, after [`Self::kill`].
    pub fn restart(&mut self) {
        let folder = self.scratch.path();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        let child = program("kamailio")
            .args(["-DD", "-E", "-m", "32", "-M", "8", "-f"])
            .arg(folder.join("kamailio.cfg"))
            .arg("-Y")
            .arg(folder)
            .arg("-P")
            .arg(folder.join("pid"))
            .args(self.defined.iter().flat_map(|word| ["-A", word]))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // It is many processes, which shall end together.
            .process_group(0)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("Kamailio's port", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// The group of its processes, while it runs.
    pub fn group(&self) -> u32 {
        self.child.as_ref().expect("a running Kamailio").id()
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let group = format!("-{}", child.id());
        let _ = program("kill").args(["-KILL", "--", &group]).status();
        let _ = child.wait();
        wait_for("Kamailio's end", || TcpStream::connect(("127.0.0.1", self.port)).is_err().then_some(()));
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("Kamailio's log ends:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}
