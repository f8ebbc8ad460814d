//! `/events`: what has happened, page by page or as a stream (S77).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::Admin;
use super::answer::Refused;
use super::body::Asked;
use crate::events::{Event, Events};

/// Streams that are open at a time, of the listener's 32 connections. Overflow: 429.
pub(super) const STREAMS: usize = 8;

/// Events of one page, unless asked otherwise, and at most.
const PAGE: u64 = 100;
const MOST: u64 = 1_000;

/// Proxies end what is silent for a minute.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Events that wait for a reader. Overflow: the feeder waits; the ring forgets, and the reader is told
/// how many it missed.
const QUEUE: usize = 64;

/// Numbers are exact in every JSON reader below this.
const LARGEST: u64 = (1 << 53) - 1;

/// `?after=7&limit=100`: those after number 7.
pub(super) async fn page(
    State(admin): State<Admin>,
    Asked(mut asked): Asked,
) -> Result<axum::Json<Value>, Refused> {
    let after = asked.number("after", 0..=LARGEST)?.unwrap_or(0);
    let limit = asked.number("limit", 1..=MOST)?.unwrap_or(PAGE);
    asked.end()?;
    let page = admin.0.parts.events.after(after, usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(axum::Json(json!(page)))
}

/// The same as server-sent events, from `Last-Event-ID` or `?after=` on, else from now. A stream ends
/// with its connection's life; who opens another with the last number misses nothing.
pub(super) async fn stream(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Asked(mut asked): Asked,
) -> Result<Response, Refused> {
    let after = asked.number("after", 0..=LARGEST)?;
    asked.end()?;
    let last = headers.get("last-event-id").and_then(|it| it.to_str().ok()?.parse().ok());
    let Ok(place) = admin.0.streams.clone().try_acquire_owned() else {
        let told =
            format!("{STREAMS} event streams are open already: close one, or read /events page by page");
        return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, told));
    };
    let events = admin.0.parts.events.clone();
    let newest = events.watch();
    // A number of a former life of the gateway is above all of this one's: then everything is new.
    let now = *newest.borrow();
    let from = last.or(after).map_or(now, |from| if from > now { 0 } else { from });
    let (frames, feed) = mpsc::channel(QUEUE);
    tokio::spawn(tell(events, newest, from, frames));
    let feed = Feed { frames: feed, _place: place };
    Ok(Sse::new(feed).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

async fn tell(events: Events, mut newest: watch::Receiver<u64>, mut from: u64, frames: mpsc::Sender<Frame>) {
    loop {
        newest.mark_unchanged();
        let page = events.after(from, QUEUE);
        if page.lost > 0 {
            let lost = json!({ "event": "lost", "count": page.lost });
            if frames.send(Frame::default().event("lost").data(lost.to_string())).await.is_err() {
                return;
            }
        }
        for event in &page.events {
            from = event.seq;
            if frames.send(frame(event)).await.is_err() {
                return;
            }
        }
        if page.events.is_empty() {
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = frames.closed() => return,
            }
        }
    }
}

fn frame(event: &Event) -> Frame {
    let json = json!(event);
    let kind = json["event"].as_str().unwrap_or_default().to_owned();
    Frame::default().id(event.seq.to_string()).event(kind).data(json.to_string())
}

/// The reading end, which holds the stream's place.
struct Feed {
    frames: mpsc::Receiver<Frame>,
    _place: OwnedSemaphorePermit,
}

impl Stream for Feed {
    type Item = Result<Frame, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.frames.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
