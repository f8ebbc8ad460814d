//! The thread of signalling.
//!
//! A message of SIP goes from its socket to the machine, to whoever owns the call and back, a few
//! microseconds each. Between threads each of these steps wakes somebody who sleeps, which costs as much
//! again: a registration took a fifth more on two threads, a call an eighth. So the driver, its sockets,
//! the door behind it and the calls between two have one thread. What computes for longer is elsewhere:
//! conferences, HTTP and TLS handshakes of those who connect with the runtime of whoever started the gateway,
//! media, the store and the records with threads of their own. What is left of such things here is rare: the
//! handshakes of connections that we open, and the making of coders where a call between two is transcoded.

use std::future::Future;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::runtime::{self, EnterGuard, Handle};
use tokio::sync::oneshot;
use tokio::task;

/// How long the end waits for threads that tasks wait for.
const BLOCKED: Duration = Duration::from_millis(100);

/// A running thread for tasks. Dropping it ends them all, a moment later.
#[derive(Debug)]
pub struct SignallingThread {
    handle: Handle,
    _stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl SignallingThread {
    /// An idle one.
    pub fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = Builder::new().name("signalling".into()).spawn(move || {
            // Nobody sends anything: that nobody can any more is the end.
            let _ = runtime.block_on(stopped);
            // Tasks end here; who looks a name up on another thread may take as long as he likes.
            runtime.shutdown_timeout(BLOCKED);
        })?;
        Ok(Self { handle, _stop: stop, thread })
    }

    /// What is spawned and which sockets are made while the guard stands are this thread's.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Runs a task here.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> task::JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Ends every task that is left and the thread. Waits for it: not on a thread of a runtime.
    pub fn stop(self) {
        let Self { _stop: stop, thread, .. } = self;
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the thread of signalling panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_a_thread_of_their_own_until_it_stops() {
        let thread = SignallingThread::start().unwrap();
        let (name, told) = std::sync::mpsc::channel();
        let (held, gone) = std::sync::mpsc::channel::<()>();
        thread.spawn(async move {
            name.send(std::thread::current().name().map(str::to_owned)).unwrap();
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert_eq!(told.recv().unwrap().as_deref(), Some("signalling"));
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let here = thread.enter();
        assert!(tokio::net::UdpSocket::from_std(socket).is_ok());
        drop(here);
        thread.stop();
        assert!(gone.recv().is_err(), "the task is over, and what it held is free");
    }

    #[test]
    fn a_name_that_is_looked_up_for_ever_does_not_hold_up_the_end() {
        let thread = SignallingThread::start().unwrap();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, waits) = std::sync::mpsc::channel();
        thread.spawn(async move {
            let _ = task::spawn_blocking(move || {
                begun.send(()).unwrap();
                let _ = wait.recv();
            })
            .await;
        });
        waits.recv().unwrap();
        thread.stop();
        drop(go);
    }
}
