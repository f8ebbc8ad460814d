//! Starting and stopping the driver leaves nothing behind. Alone in its process, so that nobody
//! else opens files at the same time.

use std::collections::VecDeque;
use std::convert::Infallible;

use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver::{Settings, Sockets};
use crosspoint_proto::{Input, Now, Output, SansIo};
use tokio::sync::mpsc;

struct Idle(VecDeque<Output<()>>);

impl SansIo for Idle {
    type Command = ();
    type Event = ();
    type Error = Infallible;

    fn handle_input(&mut self, _: Now, _: Input<'_>) -> Result<(), Infallible> {
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
async fn two_hundred_starts_and_stops_leave_no_descriptor_and_no_port() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut listen = vec!["udp:127.0.0.1:0".parse().unwrap(), "tcp:127.0.0.1:0".parse().unwrap()];
    let mut before = 0;
    for round in 0..200 {
        let settings = Settings {
            option: "sip.listen",
            connections: 10,
            connections_per_source: 10,
            origins: Vec::new(),
            tls: None,
            gate: None,
            handshakes: None,
        };
        // The same ports each time: each must be free again when `stop` returns.
        let sockets = Sockets::bind(&listen, settings).unwrap();
        listen = sockets.listening().to_vec();
        let (events, _receiver) = mpsc::channel(1);
        let driver = sockets.drive(Idle(VecDeque::new()), Clock::start(), events).unwrap();
        let stream = tokio::net::TcpStream::connect(listen[1].address).await.unwrap();
        driver.stop().await;
        drop(stream);
        if round == 0 {
            before = count();
        }
    }
    assert!(count() <= before, "{} after {before}", count());
}
