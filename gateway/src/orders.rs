//! What the administrator asks of the program around the gateway: to end, to read its configuration
//! again, to log more. The library does none of it by itself: it has no file, no logger and no exit, so
//! whoever runs it takes the orders.
//!
//! ```text
//!  management API ─> Orders::give ─> queue ─> the host, which answers
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Orders that wait for the host. They come one by one from people; overflow is refused.
const QUEUE: usize = 8;

/// How long the host may take: it reads a file and a certificate.
const PATIENCE: Duration = Duration::from_secs(10);

/// An order, and where its answer goes. `Err` is one sentence with the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub enum Order {
    /// Take no more calls, and end when the last is over or the time for it is.
    Stop {
        /// Do not wait for calls.
        now: bool,
        /// Told that it begins.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Read the configuration file again.
    Reload {
        /// Told what came of it.
        reply: oneshot::Sender<Result<Reloaded, String>>,
    },
    /// Log something else until the next start.
    Log {
        /// "debug" in place of what is logged, "target=debug" beside it, "default" as configured, and
        /// nothing to be told alone.
        filter: String,
        /// Told what is logged now.
        reply: oneshot::Sender<Result<String, String>>,
    },
}

/// What came of another configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Fields that are in effect, "sip.ring_timeout", and "certificate" where its files have changed.
    pub changed: Vec<String>,
    /// Fields that are as they were before, until the next start.
    pub restart: Vec<String>,
}

/// Gives orders. Clones give them to the same host.
#[derive(Clone, Debug)]
pub struct Orders(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Order>,
    /// Until somebody takes them.
    orders: Mutex<Option<mpsc::Receiver<Order>>>,
}

impl Default for Orders {
    fn default() -> Self {
        let (queue, orders) = mpsc::channel(QUEUE);
        Self(Arc::new(Inner { queue, orders: Mutex::new(Some(orders)) }))
    }
}

impl Orders {
    /// The orders, those that were given before too. `None`: somebody has them.
    pub fn take(&self) -> Option<mpsc::Receiver<Order>> {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has the host carry one out. An error when it refuses, or when there is nobody who takes orders.
    pub async fn give<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Order,
    ) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let nobody = || "the program around the gateway takes no such orders".to_owned();
        self.0.queue.try_send(order(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "it is busy with other orders: try again".to_owned(),
            mpsc::error::TrySendError::Closed(_) => nobody(),
        })?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(nobody()),
            Err(_) => Err("the program around the gateway does not answer: see its log".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_orders_answers_them_those_from_before_too() {
        let orders = Orders::default();
        let stop = |reply| Order::Stop { now: true, reply };
        let answering = async {
            // It was given while the program was still starting.
            tokio::task::yield_now().await;
            let mut taken = orders.take().unwrap();
            let Some(Order::Stop { now, reply }) = taken.recv().await else { panic!("no order") };
            reply.send(if now { Err("not now".into()) } else { Ok(()) }).unwrap();
        };
        assert_eq!(tokio::join!(orders.give(stop), answering).0, Err("not now".into()));
        assert!(orders.take().is_none());
        let told = orders.give(stop).await.unwrap_err();
        assert!(told.contains("takes no such orders"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_hangs_is_waited_for_some_time_and_its_queue_is_bounded() {
        let orders = Orders::default();
        let _taken = orders.take();
        let stop = |reply| Order::Stop { now: false, reply };
        for _ in 0..QUEUE {
            let told = orders.give(stop).await.unwrap_err();
            assert!(told.contains("does not answer"), "{told}");
        }
        assert!(orders.give(stop).await.unwrap_err().contains("busy"));
    }
}
