//! What the kernel alone takes for one socket a stream: a loop that knows nothing of RTP, reads each packet
//! with one call and sends it with another. Whoever relays by sockets takes more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

/// Between two looks, as a media thread rests with so many packets (`gateway/src/net/media/pace.rs`).
const REST: Duration = Duration::from_millis(2);

/// One thread of this process.
#[derive(Debug)]
pub struct Bare {
    /// Where each party shall send to.
    pub to: Vec<SocketAddr>,
    /// The thread, in `/proc`.
    pub task: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bare {
    /// Two of the addresses after one another are a call.
    pub fn start(parties: Vec<SocketAddr>) -> Self {
        let poll = Poll::new().unwrap();
        let mut sockets: Vec<UdpSocket> =
            parties.iter().map(|_| UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap()).collect();
        for (number, socket) in sockets.iter_mut().enumerate() {
            poll.registry().register(socket, Token(number), Interest::READABLE).unwrap();
        }
        let to = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (told, stopped) = (std::sync::mpsc::channel(), stop.clone());
        let thread = std::thread::spawn(move || {
            told.0.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
            relay(poll, &sockets, &parties, &stopped);
        });
        let task = PathBuf::from("/proc").join(told.1.recv().unwrap());
        Self { to, task, stop, thread: Some(thread) }
    }
}

/// One packet of each socket that has some, and no second look: two that come at once, which those who talk
/// here do not send, would wait for the next.
fn relay(mut poll: Poll, sockets: &[UdpSocket], parties: &[SocketAddr], stop: &AtomicBool) {
    let (mut events, mut buffer) = (Events::with_capacity(256), [0; 2_048]);
    while !stop.load(Ordering::Relaxed) {
        let _ = poll.poll(&mut events, Some(Duration::from_millis(100)));
        for event in &events {
            let (here, there) = (event.token().0, event.token().0 ^ 1);
            if let Ok((length, _)) = sockets[here].recv_from(&mut buffer) {
                let _ = sockets[there].send_to(&buffer[..length], parties[there]);
            }
        }
        std::thread::sleep(REST);
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
