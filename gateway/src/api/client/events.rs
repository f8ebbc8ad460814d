//! The event stream of a participant.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use super::edition::{Data, Edition, Line, Subscription};
use super::entry::{Holder, Source};
use super::roster::{FRAME, Roster, Told};
use super::transfer::Refer;
use super::{ClientApi, refused};
use crate::cause::Reason;
use crate::conference::policy::{Actor, End, Exit, PartyId, Place};
use crate::conference::room::RoomView;

/// Proxies end what is silent for a minute.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Events on their way to a connection. Overflow: the stream waits; meanwhile changes of the roster
/// become one, and messages wait in their own queue, whose overflow ends the stream.
pub(super) const ON_THE_WAY: usize = 16;

/// Larger ones go out as they are, in pieces of their own: a message of 64 KiB to a thousand clients
/// that do not read is there once.
const COPIED: usize = 2_048;

/// Stands for a comment.
pub(super) const PING: Told = ("", Data::NULL);

/// nginx passes on what has this at once.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn events(
    State(api): State<ClientApi>,
    Source(source): Source,
    Holder(session): Holder,
) -> Response {
    let source = source.map(|source| source.ip());
    let Some((place, closed)) = api.0.streams.open(session.uuid, source) else {
        tracing::debug!(?source, "an event stream was refused: limit reached");
        return refused(StatusCode::TOO_MANY_REQUESTS, "Too many event streams");
    };
    let news = api.0.press.subscribe(&session.service, &session.view, &session.said);
    let (events, feed) = mpsc::channel(ON_THE_WAY);
    let ending = api.0.ending.subscribe();
    tokio::spawn(async move {
        tokio::select! {
            () = tell(session.party, session.view, news, &events, ending, session.refer) => {}
            // A newer stream takes over.
            _ = closed => {}
        }
        drop(place);
    });
    stream(feed)
}

/// An answer that goes on with what comes by `events`.
pub(super) fn stream(events: mpsc::Receiver<Told>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (UNBUFFERED, "no")];
    (headers, Body::from_stream(Feed { events, rest: VecDeque::new() })).into_response()
}

/// Tells of everything until the participant is out or nobody reads.
pub(super) async fn tell(
    viewer: PartyId,
    now: watch::Receiver<RoomView>,
    mut news: Subscription,
    events: &mpsc::Sender<Told>,
    mut ending: watch::Receiver<bool>,
    refer: watch::Sender<Option<Refer>>,
) {
    let mut roster = Roster::new(viewer);
    let mut edition = news.editions.borrow_and_update().clone();
    // It may be from before he came; or he is out, and his client does not know.
    while !edition.view.shows(viewer) {
        if !now.borrow().shows(viewer) {
            send(events, vec![disconnect(Exit::Left)]).await;
            return;
        }
        tokio::select! {
            changed = news.editions.changed() => if changed.is_err() { return },
            () = events.closed() => return,
        }
        edition = news.editions.borrow_and_update().clone();
    }
    if !send(events, roster.whole(&edition)).await {
        return;
    }
    let mut talks = true;
    let mut sent_away = refer.subscribe();
    // One that came while no stream was open is told now.
    sent_away.mark_changed();
    loop {
        let told = tokio::select! {
            // The stop comes first: the rooms that it ends are no reason of their own.
            biased;
            () = async { drop(ending.wait_for(|ending| *ending).await) } => {
                let reason = json!({ "reason": "Signaling node disconnected" });
                send(events, vec![("disconnect", reason.into())]).await;
                return;
            }
            // Who is sent to another conference leaves this one.
            Ok(()) = sent_away.changed() => go_there(&refer),
            changed = news.editions.changed() => {
                if changed.is_err() {
                    // The conference is over.
                    send(events, vec![disconnect(Exit::Over(End::Empty))]).await;
                    return;
                }
                edition = news.editions.borrow_and_update().clone();
                let own = edition.view.parties.iter().find(|it| it.id == viewer);
                if let Some(exit) = own.map_or(Some(Exit::Left), |it| it.exit) {
                    send(events, vec![disconnect(exit)]).await;
                    return;
                }
                roster.news(&edition)
            }
            line = news.lines.recv(), if talks => match line {
                Ok(line) => message(viewer, &edition, &line),
                Err(RecvError::Lagged(_)) => {
                    tracing::debug!(?viewer, "an event stream was closed: its client reads too slowly");
                    return;
                }
                // The last edition tells why.
                Err(RecvError::Closed) => {
                    talks = false;
                    continue;
                }
            },
            () = events.closed() => return,
            () = tokio::time::sleep(ALIVE_EVERY) => {
                vec![PING]
            }
        };
        if !send(events, told).await {
            return;
        }
    }
}

/// The client leaves and comes to that conference; it is told once.
fn go_there(refer: &watch::Sender<Option<Refer>>) -> Vec<Told> {
    let mut told = None;
    // No change that anybody is told of: a stream would run after its own for ever.
    refer.send_if_modified(|refer| {
        told = refer.take();
        false
    });
    let told = told.map(|Refer { alias, token }| json!({ "alias": alias, "token": token.reveal() }));
    told.map(|data| ("refer", data.into())).into_iter().collect()
}

/// What somebody else wrote: those who write see their own words already. Who waits reads what is
/// written to him alone (S30).
fn message(viewer: PartyId, edition: &Arc<Edition>, line: &Line) -> Vec<Told> {
    let own = edition.view.parties.iter().find(|it| it.id == viewer).and_then(|it| it.party);
    let reads = own.is_some_and(|it| match line.to {
        Some(to) => to == viewer,
        None => it.place == Place::In,
    });
    if line.from == viewer || !reads {
        return Vec::new();
    }
    vec![("message_received", line.data.clone())]
}

fn disconnect(exit: Exit) -> Told {
    let reason = match exit {
        Exit::Left => "Call disconnected",
        Exit::Removed(Actor::Admin) => "Disconnected by an administrator",
        Exit::Removed(Actor::Party(_)) => "Disconnected by another participant",
        Exit::Waited => "Timeout waiting for conference host to join or permit access to locked conference",
        Exit::Over(End::NobodyKeeps | End::Empty) => "No participants can keep conference alive",
        Exit::Over(End::NoHost) => "All conference hosts departed hosted conference",
        Exit::Over(End::LastOne) => "Last remaining participant removed from conference after timeout",
        Exit::Over(End::FarSide(reason)) => unreached(reason),
        Exit::Over(End::Ended(Actor::Admin)) => "Conference terminated by an administrator",
        Exit::Over(End::Ended(Actor::Party(_))) => "Conference terminated by another participant",
    };
    ("disconnect", json!({ "reason": reason }).into())
}

/// Why a call did not come about, or ended, in the words that clients know (S79).
const fn unreached(reason: Reason) -> &'static str {
    match reason {
        Reason::Hangup | Reason::Cancelled | Reason::Shutdown | Reason::MediaTimeout => "Call disconnected",
        Reason::Rejected | Reason::Busy => "Call rejected",
        Reason::NotFound | Reason::Unavailable | Reason::FlowFailed => "404 Not Found",
        Reason::Congestion => "Out of resource",
        _ => "Gateway dial out failed",
    }
}

/// False when nobody reads any more.
pub(super) async fn send(events: &mpsc::Sender<Told>, told: Vec<Told>) -> bool {
    for event in told {
        if events.send(event).await.is_err() {
            return false;
        }
    }
    true
}

/// The reading end: events as they go out.
struct Feed {
    events: mpsc::Receiver<Told>,
    /// What is left of the last one.
    rest: VecDeque<Bytes>,
}

impl Stream for Feed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(rest) = self.rest.pop_front() {
            return Poll::Ready(Some(Ok(rest)));
        }
        let Some((name, data)) = ready!(self.events.poll_recv(context)) else { return Poll::Ready(None) };
        if name.is_empty() {
            return Poll::Ready(Some(Ok(Bytes::from_static(b": ping\n\n"))));
        }
        if name == FRAME {
            // The number is what clients fetch the still by; they want data beside it.
            let number =
                [b"event: ", name.as_bytes(), b"\ndata: {}\nid: ", data.as_bytes(), b"\n\n"].concat();
            return Poll::Ready(Some(Ok(number.into())));
        }
        let begin = [b"event: ", name.as_bytes(), b"\ndata: "].concat();
        const END: &[u8] = b"\n\n";
        if data.as_bytes().len() <= COPIED {
            return Poll::Ready(Some(Ok([&begin, data.as_bytes(), END].concat().into())));
        }
        self.rest.extend([data.into_bytes(), Bytes::from_static(END)]);
        Poll::Ready(Some(Ok(begin.into())))
    }
}
