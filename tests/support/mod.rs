//! What the interop tests share: the gateway as a process, the real programs beside it, scratch
//! folders and ports. A program that is missing fails the test that needs it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

pub mod bare;
pub mod baresip;
pub mod call;
pub mod cpu;
pub mod cut;
pub mod gateway;
pub mod guest;
pub mod infinity;
pub mod kamailio;
pub mod keypad;
pub mod lossy;
pub mod pictures;
pub mod register;
pub mod registered;
pub mod road;
pub mod room;
pub mod rtpengine;
pub mod sipp;
pub mod stranger;
pub mod streams;
pub mod web;

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Ten times what anything here should take: bounds a hang, promises nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that is removed with its owner, unless the test fails.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("crosspoint-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A port that is free for UDP and TCP now, and the one above it too (baresip takes it for TLS).
/// Counted on from a base of this process's own, so that tests that run at once do not meet.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = 10_000 + (std::process::id() * 37 + step) % 9_000 * 2;
        let port = u16::try_from(base).unwrap();
        let free = |port: u16| {
            UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok()
        };
        if free(port) && free(port + 1) {
            return port;
        }
    }
}

/// Waits until `ready`, which is asked every 20 ms; panics with `what` when patience ends.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program `name`, which must be installed.
pub fn program(name: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|path| path.join(name).is_file()));
    assert!(found, "{name} is not installed: run `make setup-test`");
    Command::new(name)
}

/// A file of fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// sipp with that scenario, registered as bob on the port that it listens on.
pub fn registered_sipp(gateway: &gateway::Gateway, scratch: &Scratch, scenario: &str) -> Child {
    let port = free_port();
    let mut registering = register::Registering::on(gateway.sip, port, 3);
    assert_eq!(registering.register("bob", "bob-secret"), Some(200));
    drop(registering);
    let child = program("sipp")
        .current_dir(scratch.path())
        .args(["-sf", fixture(scenario).to_str().unwrap()])
        .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", &port.to_string(), "-m", "1", "-nostdin"])
        .args(["-mp", &free_port().to_string()])
        .args(["-trace_msg", "-message_file", "messages.log", "-timeout", "90s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("sipp to listen", || UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(()));
    child
}
