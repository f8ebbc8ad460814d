//! `transfer`: somebody is sent into another conference, by a host or by the administrator. Who came by
//! the client API is told to go there with a token for one use; a leg is handed over within the gateway,
//! its call goes on.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use tokio::sync::oneshot;

use super::commands::{came_of, is_host};
use super::entry::new_token;
use super::sessions::Token;
use super::{ClientApi, Session, Ticket, refused};
use crate::conference::policy::{Actor, Answer, Denied, Knock, PartyId, Role};
use crate::conference::room::{Command, RoomView};
use crate::conference::service::Service;
use crate::guard::Visitor;

/// Where somebody is told to go: the data of a `refer` event.
#[derive(Clone, Debug)]
pub(super) struct Refer {
    pub(super) alias: String,
    pub(super) token: Token,
}

/// Somebody who goes to another conference, whose door has let him in.
#[derive(Debug)]
pub(in crate::api) struct Transfer {
    /// Who wants it: a host of where he is, or the administrator.
    pub(in crate::api) actor: Actor,
    /// The name of where he is.
    pub(in crate::api) from: String,
    /// Who goes.
    pub(in crate::api) id: PartyId,
    /// Where to: another service than that.
    pub(in crate::api) to: Arc<Service>,
    /// An alias of it, for his client.
    pub(in crate::api) alias: String,
    /// What he comes as.
    pub(in crate::api) role: Role,
}

/// Why somebody stays where he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Stays {
    /// The conference does not let him go.
    Denied(Denied),
    /// The conference does not keep up, or too many are under way.
    Busy,
    /// His client is not there any more.
    Gone,
}

impl ClientApi {
    /// Hands his leg over, or tells his client to go.
    pub(in crate::api) async fn transfer(&self, transfer: Transfer) -> Result<(), Stays> {
        let Transfer { actor, from, id, to, alias, role } = transfer;
        let has_leg = |it: &RoomView| it.parties.iter().any(|it| it.id == id && !it.control_only);
        if self.rooms().view(&from).is_some_and(|view| has_leg(&view)) {
            let (reply, told) = oneshot::channel();
            if !self.rooms().tell(&from, Command::HandOver { actor, id, to, role, reply }) {
                return Err(Stays::Busy);
            }
            return told.await.unwrap_or(Err(Denied::Over)).map_err(Stays::Denied);
        }
        let token = new_token().ok_or(Stays::Busy)?;
        let is_he = |it: &Session| it.party == id && it.service.name == from;
        // No token is given that nobody hears of.
        let refer = self.sessions().those(is_he).next().map(|it| it.refer.clone()).ok_or(Stays::Gone)?;
        let ticket = Ticket::Transfer { service: to.name.clone(), role };
        if !self.tickets().give(self.now(), &token, ticket) {
            return Err(Stays::Busy);
        }
        refer.send_replace(Some(Refer { alias, token }));
        Ok(())
    }
}

pub(super) async fn transfer(api: &ClientApi, session: &Session, id: PartyId, asked: &Value) -> Response {
    if !is_host(session) {
        return refused(StatusCode::FORBIDDEN, "Invalid role");
    }
    let wanted = match asked["role"].as_str().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("host" | "chair") => Some(Role::Host),
        Some("guest") => Some(Role::Guest),
        Some(_) => return refused(StatusCode::BAD_REQUEST, "role: host or guest"),
    };
    let alias = asked["conference_alias"].as_str().unwrap_or_default();
    let visitor = at_the_door(session);
    let porter = api.rooms().porter();
    // Who is in one conference guesses others as little as anybody.
    let service = match api.0.parts.services.service(alias) {
        Some(service) => Some(service).filter(|it| !porter.turns_away(&visitor, Some(&it.name))),
        None => {
            porter.missed(&visitor);
            None
        }
    };
    let Some(service) = service else {
        return refused(StatusCode::FORBIDDEN, "conference_alias: there is no conference with that alias");
    };
    if service.name == session.service.name {
        return refused(StatusCode::FORBIDDEN, "conference_alias: the participant is there already");
    }
    let pin = asked["pin"].as_str().filter(|pin| !pin.is_empty());
    let answer = service.answer(porter, &visitor, pin.map_or(Knock::Silent, Knock::Pin));
    let Some(role) = role_there(answer, wanted) else {
        return refused(StatusCode::FORBIDDEN, "Invalid PIN");
    };
    let (actor, from) = (Actor::Party(session.party), session.service.name.clone());
    let transfer = Transfer { actor, from, id, to: service, alias: alias.to_owned(), role };
    match api.transfer(transfer).await {
        Ok(()) => came_of(Ok(())),
        Err(Stays::Denied(denied)) => came_of(Err(denied)),
        Err(Stays::Busy) => refused(StatusCode::FORBIDDEN, "Out of resource"),
        Err(Stays::Gone) => refused(StatusCode::FORBIDDEN, "transfer failed"),
    }
}

/// Who sends somebody, as he came himself.
fn at_the_door(session: &Session) -> Visitor {
    let view = session.view.borrow();
    let own = view.parties.iter().find(|it| it.id == session.party);
    own.map_or_else(|| Visitor::by_api(None, None), |it| Visitor::calling(&it.leg.party))
}

/// What somebody comes as: the PIN of the other conference opens its door for him, as it would for who
/// sends him. A role below that which it opens may be given.
fn role_there(answer: Answer, wanted: Option<Role>) -> Option<Role> {
    let opens = match answer {
        Answer::Enter(role) => role,
        Answer::AskPin { guests_without: true } => Role::Guest,
        Answer::AskPin { guests_without: false } | Answer::Wrong => return None,
    };
    match (opens, wanted) {
        (Role::Host, wanted) => Some(wanted.unwrap_or(Role::Host)),
        (Role::Guest, Some(Role::Host)) => None,
        (Role::Guest, _) => Some(Role::Guest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conference::policy::{Door, Pin};

    #[test]
    fn nobody_is_sent_past_a_door_that_who_sends_him_cannot_open() {
        let pin = |text| Some(Pin::parse(text).unwrap());
        let closed = Door::new(pin("1234"), pin("5678"), true).unwrap();
        let guests = Door::new(pin("1234"), None, true).unwrap();
        let (host, guest) = (Some(Role::Host), Some(Role::Guest));
        for (door, entered, wanted, role) in [
            (&Door::OPEN, None, None, host),
            (&Door::OPEN, None, guest, guest),
            (&closed, None, guest, None),
            (&closed, Some("9999"), guest, None),
            (&closed, Some("5678"), None, guest),
            (&closed, Some("5678"), host, None),
            (&closed, Some("1234"), guest, guest),
            (&closed, Some("1234"), None, host),
            (&guests, None, None, guest),
            (&guests, None, host, None),
        ] {
            let answer = door.answer(entered.map_or(Knock::Silent, Knock::Pin));
            assert_eq!(role_there(answer, wanted), role, "{entered:?} {wanted:?}");
        }
    }
}
