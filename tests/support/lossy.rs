//! A road for signalling that loses every fifth datagram or so, both ways.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// Carries what comes to a port to another port, and answers back to who sent last. Says nothing of itself.
pub struct Lossy {
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Lossy {
    /// From `port` to the port `to`; of a hundred datagrams so many are lost. Equal seeds draw the same.
    pub fn on(port: u16, to: u16, percent: u32, seed: u64) -> Self {
        let [near, far] = [port, 0].map(|port| {
            let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            Arc::new(socket)
        });
        far.connect(("127.0.0.1", to)).unwrap();
        let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = Arc::new(std::sync::Mutex::new(None::<SocketAddr>));
        let threads = [true, false].map(|up| {
            let (near, far, client) = (near.clone(), far.clone(), client.clone());
            let (stop, lost) = (stop.clone(), lost.clone());
            let mut rng = ChaCha12Rng::seed_from_u64(2 * seed + u64::from(up));
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    let received = if up {
                        near.recv_from(&mut buffer).map(|(count, from)| {
                            *client.lock().unwrap() = Some(from);
                            count
                        })
                    } else {
                        far.recv(&mut buffer)
                    };
                    let Ok(count) = received else { continue };
                    if rng.next_u32() % 100 < percent {
                        lost.fetch_add(1, Ordering::Relaxed);
                    } else if up {
                        let _ = far.send(&buffer[..count]);
                    } else if let Some(to) = *client.lock().unwrap() {
                        let _ = near.send_to(&buffer[..count], to);
                    }
                }
            })
        });
        Self { stop, lost, threads: threads.into() }
    }

    /// Datagrams so far.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
