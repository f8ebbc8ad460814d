//! A descriptor that is kept back, so that who comes when there is none left is told so.
//!
//! Without it, connections wait in the system's queue for as long as all descriptors are in use, and
//! their peers for their own timeouts. A SIP peer whose connection is closed takes that for a 503 (RFC 3261
//! section 8.1.3.1) and goes to the next server; who asks by HTTP in clear is told 503 in words.

use std::fs::File;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;

/// Turned away in one go at most, by one listener: some hundred a second, which is no work.
const AT_ONCE: usize = 64;

/// What is read of a request before it is answered: the rest of a connection that was not read would have
/// the system take the answer back.
const REQUEST: usize = 4_096;

/// What is said by HTTP.
pub(crate) const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 51\r\n\r\nall connections are in use: try again in a moment\r\n";

/// One for each listener.
#[derive(Debug)]
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub(crate) fn new() -> Self {
        Self(open())
    }

    /// Turns away who waits, after `last_word`, if there is no descriptor for them; so many. Call it when
    /// an accept has failed and a moment has passed.
    pub(crate) async fn turn_away(&mut self, listener: &TcpListener, last_word: &[u8]) -> u64 {
        // There is one again, or this is another fault, which no descriptor mends.
        if open().is_some() || self.0.is_none() {
            self.0 = self.0.take().or_else(open);
            return 0;
        }
        let mut turned_away = 0;
        for _ in 0..AT_ONCE {
            self.0 = None;
            let waiting = timeout(Duration::ZERO, listener.accept()).await;
            if let Ok(Ok((stream, _))) = &waiting {
                // Nothing has come yet, or it is not wanted: either way this was all.
                let _ = stream.try_read(&mut [0; REQUEST]);
                let _ = stream.try_write(last_word);
                turned_away += 1;
            }
            let is_last = !matches!(waiting, Ok(Ok(_)));
            drop(waiting);
            self.0 = open();
            // Who was faster has the descriptor now.
            if is_last || self.0.is_none() {
                break;
            }
        }
        turned_away
    }
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}
