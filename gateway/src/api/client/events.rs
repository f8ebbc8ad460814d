//! The event stream of a participant.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use super::entry::Holder;
use super::roster::{Roster, Told};
use super::{ClientApi, Session};
use crate::conference::policy::{Actor, End, Exit};
use crate::conference::room::Said;

/// Proxies end what is silent for a minute.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Events that wait for a client that does not read. Overflow: the stream is closed; a client opens
/// another and is told everything anew.
const QUEUE: usize = 1_024;

pub(super) async fn events(State(api): State<ClientApi>, Holder(session): Holder) -> Response {
    let (events, feed) = mpsc::channel(QUEUE);
    tokio::spawn(tell(session, events, api.0.ending.subscribe()));
    Sse::new(Feed(feed)).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response()
}

/// Tells of everything until the participant is out or nobody reads.
async fn tell(mut session: Session, events: mpsc::Sender<Event>, mut ending: watch::Receiver<bool>) {
    let mut roster = Roster::new(session.party);
    let first = {
        let view = session.view.borrow_and_update();
        roster.whole(&session.service, &view)
    };
    if !send(&events, first) {
        return;
    }
    loop {
        let told = tokio::select! {
            changed = session.view.changed() => {
                if changed.is_err() {
                    // The conference is over.
                    let _ = send(&events, vec![disconnect(Exit::Over(End::Empty))]);
                    return;
                }
                let view = session.view.borrow_and_update().clone();
                let own = view.parties.iter().find(|it| it.id == session.party);
                let exit = own.map_or(Some(Exit::Left), |it| it.exit);
                if let Some(exit) = exit {
                    let _ = send(&events, vec![disconnect(exit)]);
                    return;
                }
                roster.news(&session.service, &view)
            }
            said = session.said.recv() => match said {
                Ok(said) => message(&session, said),
                // It was too slow for what was written; everything else it will be told.
                Err(RecvError::Lagged(_)) => Vec::new(),
                Err(RecvError::Closed) => return,
            },
            () = events.closed() => return,
            () = async { drop(ending.wait_for(|ending| *ending).await) } => {
                let reason = json!({ "reason": "Signaling node disconnected" });
                let _ = send(&events, vec![("disconnect", reason)]);
                return;
            }
        };
        if !send(&events, told) {
            return;
        }
    }
}

/// What somebody else wrote: those who write see their own words already.
fn message(session: &Session, said: Said) -> Vec<Told> {
    let view = session.view.borrow();
    let here = view.parties.iter().find(|it| it.id == session.party).is_some_and(|it| it.party.is_some());
    let mine = said.to.is_none_or(|to| to == session.party);
    if said.from == session.party || !mine || !here {
        return Vec::new();
    }
    let data = json!({
        "origin": said.name,
        "uuid": said.uuid.to_string(),
        "type": said.kind,
        "payload": said.text,
        "direct": said.to.is_some(),
    });
    vec![("message_received", data)]
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
        Exit::Over(End::Ended(Actor::Admin)) => "Conference terminated by an administrator",
        Exit::Over(End::Ended(Actor::Party(_))) => "Conference terminated by another participant",
    };
    ("disconnect", json!({ "reason": reason }))
}

/// False when nobody reads any more, or too slowly.
fn send(events: &mpsc::Sender<Event>, told: Vec<Told>) -> bool {
    told.into_iter().all(|(name, data): (&str, Value)| {
        // Each event has data that is JSON: clients pass over empty ones.
        events.try_send(Event::default().event(name).data(data.to_string())).is_ok()
    })
}

/// The reading end.
struct Feed(mpsc::Receiver<Event>);

impl Stream for Feed {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|event| event.map(Ok))
    }
}
