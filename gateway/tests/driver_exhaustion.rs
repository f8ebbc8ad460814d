//! Without a free descriptor the driver waits instead of spinning, and goes on when there is one.
//! Alone in its process: the limit is the process's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::time::{Duration, Instant};

use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver::{Settings, Sockets};
use crosspoint_proto::{Input, Now, Output, SansIo};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::sync::mpsc;

const HANG: Duration = Duration::from_secs(30);

/// Tells of connections.
struct Doorman(VecDeque<Output<()>>);

impl SansIo for Doorman {
    type Command = ();
    type Event = ();
    type Error = Infallible;

    fn handle_input(&mut self, _: Now, input: Input<'_>) -> Result<(), Infallible> {
        if matches!(input, Input::Connected { .. }) {
            self.0.push_back(Output::Event(()));
        }
        Ok(())
    }

    fn command(&mut self, _: Now, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn poll_output(&mut self) -> Output<()> {
        self.0.pop_front().unwrap_or(Output::Timeout(None))
    }
}

#[tokio::test]
async fn an_accept_without_descriptors_waits_and_recovers() {
    let settings = Settings {
        option: "sip.listen",
        connections: 100,
        connections_per_source: 100,
        tls: None,
        gate: None,
    };
    let sockets = Sockets::bind(&["tcp:127.0.0.1:0".parse().unwrap()], settings).unwrap();
    let address = sockets.listening()[0].address;
    let (sender, mut events) = mpsc::channel(10);
    let driver = sockets.drive(Doorman(VecDeque::new()), Clock::start(), sender).unwrap();
    let stats = driver.stats();
    let _first = std::net::TcpStream::connect(address).unwrap();
    connected(&mut events).await;

    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: Some(128) }).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    // One descriptor for our end; the driver finds none for its own.
    hoard.pop();
    let _second = std::net::TcpStream::connect(address).unwrap();
    let began = Instant::now();
    while stats.accept_errors.count() < 3 {
        assert!(began.elapsed() < HANG, "no accept error was counted");
        tokio::task::yield_now().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(300), "it spins: 3 errors in {:?}", began.elapsed());
    assert!(events.try_recv().is_err(), "nobody was let in meanwhile");
    hoard.clear();
    connected(&mut events).await;
    assert_eq!(stats.connections(), 2);
    driver.stop().await;
}

async fn connected(events: &mut mpsc::Receiver<()>) {
    tokio::time::timeout(HANG, events.recv()).await.expect("hangs").expect("driver ended");
}
