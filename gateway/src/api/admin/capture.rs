//! `/calls/{call}/capture`: signalling and media of a live call as pcapng, for as long as it is read.
//!
//! ```text
//!  legs, media threads ─> ring ─> one task ─> body of the answer
//! ```
//!
//! For the command line's own token alone: what is said in a call is nobody else's business.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::answer::Refused;
use super::body::{Document, Members, Named};
use super::trace::find;
use super::{Admin, By};
use crate::api::Life;
use crate::conference::traces::Trace;
use crate::events::What;
use crate::ladder::Shown;
use crate::media::capture::Capture;
use crate::media::port::{StreamId, StreamPort};
use crate::net::local_address_towards;
use crate::pcapng;
use crate::tokens::LOCAL;

/// Captures at a time, in all: each may hold [`crate::media::capture::OCTETS`].
pub(super) const CAPTURES: usize = 4;

/// How long a capture lasts, unless asked otherwise, and at most.
const SECONDS: u64 = 3_600;
const MOST_SECONDS: u64 = 86_400;

/// Octets of a capture, unless asked otherwise, and at most.
const OCTETS: u64 = 1 << 30;
const MOST_OCTETS: u64 = 64 << 30;

/// How often the ring is emptied: at 5000 packets a second a thirtieth of it.
const EVERY: Duration = Duration::from_millis(50);

/// How often new legs and streams of the call are looked for, and its end.
const LOOK: Duration = Duration::from_millis(500);

/// After the end of a call its last answers are waited for.
const LINGER: Duration = Duration::from_millis(500);

/// Who reads nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connection may last so much longer than the capture, for what is on its way.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Pieces that wait to be read. Overflow: the ring fills, and then the newest packets are left out.
const PIECES: usize = 4;

/// A piece is sent on when it has this many octets.
const PIECE: usize = 64 << 10;

/// `{"seconds": 60, "octets": 1000000, "keys": false}`, each of which may be left out.
pub(super) async fn start(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    life: Option<Extension<ConnectInfo<Life>>>,
    Named(number): Named<String>,
    Document(document): Document,
) -> Result<Response, Refused> {
    if by.0 != LOCAL {
        let told = "a capture is for the command line's own token alone: use crosspoint capture, as the user who runs the gateway";
        return Err(Refused::new(StatusCode::FORBIDDEN, told));
    }
    let mut asked = Members::new(document);
    let seconds = asked.number("seconds", 1..=MOST_SECONDS)?.unwrap_or(SECONDS);
    let octets = asked.number("octets", 1_000_000..=MOST_OCTETS)?.unwrap_or(OCTETS);
    let keys = asked.flag("keys")?.unwrap_or(false);
    asked.end()?;
    let trace = find(&admin, &number)?;
    if trace.record.is_some() {
        let told = format!("call {} is over: only one that is live can be captured", trace.call);
        return Err(Refused::new(StatusCode::CONFLICT, told));
    }
    let place = Place::take(&admin, trace.call)?;
    let call = trace.call;
    tracing::warn!(call, keys, by = by.0, "a call is captured");
    let told = What::CaptureStarted { call, keys, by: by.0 };
    admin.0.parts.events.tell(admin.0.parts.clock.both().wall, told);
    let (pieces, feed) = mpsc::channel(PIECES);
    let until = Instant::now() + Duration::from_secs(seconds);
    if let Some(Extension(ConnectInfo(life))) = life {
        life.lasts(until + LAST_WORDS);
    }
    let writer = Writer {
        admin,
        trace,
        keys,
        capture: Arc::default(),
        streams: HashMap::new(),
        own: HashMap::new(),
        left: octets,
        piece: Vec::new(),
        pieces,
    };
    tokio::spawn(async move {
        let _place = place;
        writer.run(until).await;
    });
    let body = Body::from_stream(Feed(feed));
    Ok(([(header::CONTENT_TYPE, "application/x-pcapng")], body).into_response())
}

/// The right to capture a call: one at a time.
struct Place {
    admin: Admin,
    call: u64,
}

impl Place {
    fn take(admin: &Admin, call: u64) -> Result<Self, Refused> {
        let mut captured = admin.0.captured.lock().unwrap_or_else(PoisonError::into_inner);
        if captured.contains(&call) {
            let told = format!("call {call} is captured already: end that capture first");
            return Err(Refused::new(StatusCode::CONFLICT, told));
        }
        if captured.len() == CAPTURES {
            let told = format!("{CAPTURES} calls are captured already: end one of these captures first");
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, told));
        }
        captured.insert(call);
        Ok(Self { admin: admin.clone(), call })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admin.0.captured.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.call);
    }
}

struct Writer {
    admin: Admin,
    trace: Trace,
    keys: bool,
    capture: Arc<Capture>,
    streams: HashMap<StreamId, Arc<dyn StreamPort>>,
    /// Our own addresses as peers see them, where sockets are bound to all.
    own: HashMap<IpAddr, IpAddr>,
    /// Octets that may still be written.
    left: u64,
    piece: Vec<u8>,
    pieces: mpsc::Sender<Bytes>,
}

/// Why a capture ended.
#[derive(Clone, Copy)]
enum Ended {
    Call,
    Time,
    Size,
    Reader,
}

impl Writer {
    async fn run(mut self, until: Instant) {
        let comment = format!(
            "call {}, keys of media {}; signalling over TCP and TLS is written as datagrams, as it was said",
            self.trace.call,
            if self.keys { "unmasked" } else { "masked" },
        );
        pcapng::head(&mut self.piece, concat!("Crosspoint ", env!("CARGO_PKG_VERSION")), &comment);
        let (mut ends, mut look) = (None, Instant::now());
        let ended = loop {
            if Instant::now() >= look {
                self.attach();
                look = Instant::now() + LOOK;
            }
            if let Err(ended) = self.write().await {
                break ended;
            }
            let now = Instant::now();
            if now >= until {
                break Ended::Time;
            }
            if ends.is_none() && self.is_over() {
                ends = Some(now + LINGER);
            }
            if ends.is_some_and(|at| now >= at) {
                break Ended::Call;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.pieces.closed() => break Ended::Reader,
            }
        };
        self.detach();
        let why = match ended {
            Ended::Reader => return,
            Ended::Call => "the call is over",
            Ended::Time => "its time is over",
            Ended::Size => "it has the size that it may have",
        };
        let (seen, dropped) = self.capture.counts();
        // What was not written because there was no more room for it counts as well.
        let waiting = std::iter::from_fn(|| self.capture.take()).count();
        let dropped = dropped + u64::try_from(waiting).unwrap_or(u64::MAX);
        let comment = format!("{why}; {seen} packets seen, {dropped} of them left out");
        pcapng::end(&mut self.piece, SystemTime::now(), seen, dropped, &comment);
        let _ = self.flush().await;
    }

    /// Shows all legs and streams that the call has now.
    fn attach(&mut self) {
        if let Ok(trace) = self.admin.0.parts.exchange.traces().find(&self.trace.call.to_string()) {
            self.trace = trace;
        }
        for leg in &self.trace.legs {
            leg.ladder.show(Some(Shown { capture: self.capture.clone(), keys: self.keys }));
        }
        let calls = self.admin.0.parts.exchange.calls();
        let Some(live) = calls.into_iter().find(|it| it.call == self.trace.call) else { return };
        let mut there = HashSet::new();
        for stream in live.view.legs.iter().flat_map(|leg| &leg.streams) {
            let port = &stream.stream.port;
            there.insert(port.id());
            if !self.streams.contains_key(&port.id()) && port.show(Some(self.capture.clone())).is_ok() {
                self.streams.insert(port.id(), port.clone());
            }
        }
        // A port that is held here would not be given back.
        self.streams.retain(|id, port| {
            let stays = there.contains(id);
            // It may go on in a call that nobody looks at.
            if !stays {
                let _ = port.show(None);
            }
            stays
        });
    }

    fn detach(&mut self) {
        self.trace.legs.iter().for_each(|leg| leg.ladder.show(None));
        for (_, port) in self.streams.drain() {
            let _ = port.show(None);
        }
    }

    fn is_over(&self) -> bool {
        self.trace.record.is_some()
    }

    /// Sends on what has come.
    async fn write(&mut self) -> Result<(), Ended> {
        while let Some(packet) = self.capture.take() {
            let before = self.piece.len();
            let (from, to) = (self.seen(packet.from, packet.to), self.seen(packet.to, packet.from));
            let said = if matches!(packet.by, "tcp" | "tls") { packet.by } else { "" };
            pcapng::datagram(&mut self.piece, packet.at, from, to, &packet.data, said);
            let octets = u64::try_from(self.piece.len() - before).unwrap_or(u64::MAX);
            match self.left.checked_sub(octets) {
                Some(left) => self.left = left,
                None => {
                    self.piece.truncate(before);
                    return Err(Ended::Size);
                }
            }
            if self.piece.len() >= PIECE {
                self.flush().await?;
            }
        }
        if self.piece.is_empty() { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let piece = std::mem::take(&mut self.piece);
        match tokio::time::timeout(PATIENCE, self.pieces.send(piece.into())).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Ended::Reader),
        }
    }

    /// An address of ours that means all of them, as the other end sees it.
    fn seen(&mut self, address: SocketAddr, other: SocketAddr) -> SocketAddr {
        if !address.ip().is_unspecified() {
            return address;
        }
        let ask = || local_address_towards(other.ip()).unwrap_or_else(|_| address.ip());
        // Bounded: a capture of peers without number keeps the first.
        if self.own.len() > 64 {
            return SocketAddr::new(ask(), address.port());
        }
        SocketAddr::new(*self.own.entry(other.ip()).or_insert_with(ask), address.port())
    }
}

/// The pieces as they come.
struct Feed(mpsc::Receiver<Bytes>);

impl Stream for Feed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}
