//! Kamailio as a process: a carrier's registrar and proxy, that can be killed and started again.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use super::{Scratch, fixture, free_port, program, wait_for};

/// A running Kamailio, which knows nobody when it starts.
#[derive(Debug)]
pub struct Kamailio {
    pub port: u16,
    scratch: Scratch,
    child: Option<Child>,
}

impl Kamailio {
    /// Starts it as a carrier. `transport` is what its Service-Route says.
    pub fn start(transport: &str) -> Self {
        Self::with("kamailio/upstream.cfg", transport)
    }

    /// Starts it with another configuration of the fixtures.
    pub fn with(config: &str, transport: &str) -> Self {
        let (scratch, port) = (Scratch::new("kamailio"), free_port());
        let text = std::fs::read_to_string(fixture(config)).unwrap();
        let text = text.replace("PORT", &port.to_string()).replace("OWN", transport);
        std::fs::write(scratch.path().join("kamailio.cfg"), text).unwrap();
        let mut this = Self { port, scratch, child: None };
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
