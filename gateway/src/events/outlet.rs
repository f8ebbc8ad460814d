//! Events outside of the gateway: a file with one JSON object a line, and a webhook that is sent the same
//! lines at least once, in order.
//!
//! ```text
//!  Events (ring) ─> follow ─┬─> file
//!                           └─> spool on disk ─> deliver ─> webhook
//! ```
//!
//! Nobody who tells an event waits for either. What the ring or the spool has no room for is counted, and
//! told before the next one that has room, as an event `lost` of its own. Each line has, beside its number,
//! `life`: when the gateway was started that told it. Both together are there once; who is sent a line
//! twice sees so by them.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::post::post;
use super::spool::Spool;
use super::{Event, Events, Page};
use crate::config::Webhook;

/// Events that are taken from the ring, and sent in one POST, at a time.
const BATCH: usize = 100;

/// Bytes that wait for a webhook which is down: about 60 000 events. Overflow: counted and told.
pub const WAITING: u64 = 16 << 20;

/// After a failure it is tried again so soon, and twice as late each time up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// After the disk has taken nothing.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Where events go.
#[derive(Debug)]
pub struct Outlet {
    /// When the gateway was started.
    life: String,
    file: Option<PathBuf>,
    webhook: Option<Arc<Hook>>,
    /// The number of the last event that was written.
    taken: watch::Sender<u64>,
}

#[derive(Debug)]
struct Hook {
    to: Webhook,
    tls: Arc<ClientConfig>,
    spool: Mutex<Spool>,
    more: Notify,
}

impl Outlet {
    /// To `file`, opened anew for each batch so that it may be moved away, and to `webhook`, for which what
    /// waits is in `folder`.
    pub fn open(
        life: String,
        file: Option<PathBuf>,
        webhook: Option<(Webhook, Arc<ClientConfig>)>,
        folder: &Path,
    ) -> io::Result<Self> {
        if let Some(file) = &file {
            OpenOptions::new().create(true).append(true).open(file)?;
        }
        let webhook = webhook.map(|(to, tls)| {
            let spool = Mutex::new(Spool::open(folder, WAITING)?);
            Ok::<_, io::Error>(Arc::new(Hook { to, tls, spool, more: Notify::new() }))
        });
        Ok(Self { life, file, webhook: webhook.transpose()?, taken: watch::channel(0).0 })
    }

    /// The number of the last event that was written, as it grows.
    pub fn taken(&self) -> watch::Receiver<u64> {
        self.taken.subscribe()
    }

    /// Takes events out of the ring, for as long as it is polled.
    pub async fn run(self, events: Events) {
        let deliver = async {
            match &self.webhook {
                Some(hook) => deliver(hook).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(self.follow(&events), deliver);
    }

    async fn follow(&self, events: &Events) {
        let mut newest = events.watch();
        // Events that the spool had no room for.
        let (mut from, mut refused) = (0, 0);
        loop {
            newest.mark_unchanged();
            let page = events.after(from, BATCH);
            if page.events.is_empty() && page.lost == 0 {
                if newest.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let last = page.events.last().map_or(from, |it| it.seq);
            match self.write(page, refused).await {
                Ok(now) => {
                    (from, refused) = (last, now);
                    self.taken.send_replace(from);
                }
                Err(error) => {
                    tracing::warn!(%error, "events cannot be written");
                    tokio::time::sleep(DISK_RETRY).await;
                }
            }
        }
    }

    /// How many there is no room for now, those of before among them.
    async fn write(&self, page: Page, refused: u64) -> io::Result<u64> {
        let (file, hook, life) = (self.file.clone(), self.webhook.clone(), self.life.clone());
        let written = tokio::task::spawn_blocking(move || {
            if let Some(file) = file {
                let mut text = lines(&life, &page, 0).join("\n");
                text.push('\n');
                OpenOptions::new().create(true).append(true).open(file)?.write_all(text.as_bytes())?;
            }
            let Some(hook) = hook else { return Ok(0) };
            let lines = lines(&life, &page, refused);
            let mut spool = hook.spool.lock().unwrap_or_else(PoisonError::into_inner);
            let mut taken = 0;
            while let Some(line) = lines.get(taken)
                && spool.append(line)?
            {
                taken += 1;
            }
            hook.more.notify_one();
            let events = page.events.len() as u64;
            // The first line may be that of what was lost before.
            let told = lines.len() - page.events.len();
            Ok(match taken.checked_sub(told) {
                Some(taken) => events - taken as u64,
                None => page.lost + refused + events,
            })
        });
        written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// What is lost comes first: it lies before the others.
fn lines(life: &str, page: &Page, refused: u64) -> Vec<String> {
    let lost = page.lost + refused;
    let lost = (lost > 0).then(|| json!({ "life": life, "event": "lost", "count": lost }).to_string());
    lost.into_iter().chain(page.events.iter().map(|event| line(life, event))).collect()
}

fn line(life: &str, event: &Event) -> String {
    let mut document = json!(event);
    if let Value::Object(members) = &mut document {
        members.insert("life".into(), life.into());
    }
    document.to_string()
}

/// Sends what waits, in order, until it is taken.
async fn deliver(hook: &Arc<Hook>) {
    let mut pause = FIRST_RETRY;
    loop {
        let (lines, end) = match at(hook, |spool| spool.waiting(BATCH)).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%error, "events that wait cannot be read");
                tokio::time::sleep(DISK_RETRY).await;
                continue;
            }
        };
        if lines.is_empty() {
            hook.more.notified().await;
            continue;
        }
        let mut body = lines.join("\n");
        body.push('\n');
        match post(&hook.to, &hook.tls, &body).await {
            Ok(()) => {
                pause = FIRST_RETRY;
                if let Err(error) = at(hook, move |spool| spool.delivered(end)).await {
                    tracing::warn!(%error, "that events were delivered cannot be written down");
                    tokio::time::sleep(DISK_RETRY).await;
                }
            }
            Err(error) => {
                tracing::warn!(host = hook.to.host, error, ?pause, "events are not delivered, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    }
}

async fn at<T: Send + 'static>(
    hook: &Arc<Hook>,
    work: impl FnOnce(&mut Spool) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let hook = hook.clone();
    let done = tokio::task::spawn_blocking(move || {
        work(&mut hook.spool.lock().unwrap_or_else(PoisonError::into_inner))
    });
    done.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::What;
    use super::*;

    fn outlet(name: &str, most: u64) -> (Outlet, PathBuf) {
        let folder = std::env::temp_dir().join(format!("crosspoint-outlet-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
        let to = "http://127.0.0.1:9/".parse().unwrap();
        let spool = Mutex::new(Spool::open(&folder, most).unwrap());
        let webhook = Some(Arc::new(Hook { to, tls, spool, more: Notify::new() }));
        (Outlet { life: "then".into(), file: None, webhook, taken: watch::channel(0).0 }, folder)
    }

    fn page(lost: u64, count: u64) -> Page {
        let events = Events::default();
        for _ in 0..count {
            events.tell(SystemTime::UNIX_EPOCH, What::CallAnswered { call: 7 });
        }
        Page { lost, ..events.after(0, 100) }
    }

    #[tokio::test]
    async fn promise_50_what_has_no_room_is_counted_and_told_before_the_next() {
        let one = lines("then", &page(0, 1), 0)[0].len() as u64 + 1;
        let (outlet, folder) = outlet("room", one * 2);
        assert_eq!(outlet.write(page(0, 3), 0).await.unwrap(), 1);
        assert_eq!(
            outlet.write(page(4, 2), 1).await.unwrap(),
            7,
            "the line of what is lost has no room either"
        );
        let hook = outlet.webhook.clone().unwrap();
        let (lines, end) = hook.spool.lock().unwrap().waiting(10).unwrap();
        assert!(
            lines.len() == 2 && lines[0].contains("\"seq\":1") && lines[0].contains("\"life\":\"then\""),
            "{lines:?}"
        );
        hook.spool.lock().unwrap().delivered(end).unwrap();
        assert_eq!(outlet.write(page(0, 1), 7).await.unwrap(), 0);
        let (lines, _) = hook.spool.lock().unwrap().waiting(10).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&lines[0]).unwrap(),
            json!({ "life": "then", "event": "lost", "count": 7 })
        );
        assert_eq!(lines.len(), 2);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
