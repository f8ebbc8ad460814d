//! A road for connections that can be cut: relays bytes, until it is told to stop.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A port of loopback that leads to another one.
#[derive(Debug)]
pub struct Cut {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// Both ends of each connection that was taken.
    ends: Vec<TcpStream>,
}

impl Cut {
    /// The road to port `to`; open.
    pub fn to(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if state.closed {
                    // Dropped: to the other side that is a node that is not there.
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                relay(near.try_clone().unwrap(), far.try_clone().unwrap());
                relay(far.try_clone().unwrap(), near.try_clone().unwrap());
                state.ends.extend([near, far]);
            }
        });
        Self { port, state }
    }

    /// Cuts what stands, and lets nothing through until it is opened.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        for end in state.ends.drain(..) {
            // The other side may have closed it before.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Lets new connections through.
    pub fn open(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = false;
    }
}

/// Copies until one end is closed, then closes the other.
fn relay(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut chunk = [0; 16_384];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
