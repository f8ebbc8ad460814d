//! Without a free descriptor the driver neither spins nor lets anybody wait in vain, and goes on when there
//! is one.
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
use tokio::io::AsyncReadExt as _;
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
async fn who_comes_without_descriptors_is_turned_away_and_the_next_one_let_in() {
    let settings = Settings {
        option: "sip.listen",
        connections: 100,
        connections_per_source: 100,
        origins: Vec::new(),
        tls: None,
        gate: None,
        handshakes: None,
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
    let began = Instant::now();
    for n in 1..=3 {
        // One descriptor for our end; the driver finds none for its own.
        hoard.pop();
        let mut turned_away = tokio::net::TcpStream::connect(address).await.unwrap();
        let told = tokio::time::timeout(HANG, turned_away.read(&mut [0])).await.expect("he waits in vain");
        assert!(matches!(told, Ok(0) | Err(_)), "{told:?}");
        while stats.connections_refused.count() < n {
            assert!(began.elapsed() < HANG, "he was not counted");
            tokio::task::yield_now().await;
        }
        hoard.extend(File::open("/dev/null"));
        drop(turned_away);
        hoard.extend(File::open("/dev/null"));
    }
    assert!(began.elapsed() >= Duration::from_millis(600), "it spins: 3 errors in {:?}", began.elapsed());
    assert!(stats.accept_errors.count() <= 6, "{} errors", stats.accept_errors.count());
    assert!(events.try_recv().is_err(), "nobody was let in meanwhile");
    hoard.clear();
    let _second = std::net::TcpStream::connect(address).unwrap();
    connected(&mut events).await;
    assert_eq!(stats.connections(), 2);
    driver.stop().await;
}

async fn connected(events: &mut mpsc::Receiver<()>) {
    tokio::time::timeout(HANG, events.recv()).await.expect("hangs").expect("driver ended");
}
