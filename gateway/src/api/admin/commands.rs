//! `/conferences/{name}/...`: commands to a conference that is in progress, done by the administrator.
//! 204 when it is done; what is done already is done once more without harm.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::answer::Refused;
use super::body::{Document, Members, Named};
use super::services::{existing, keys, one_of, word};
use super::{Admin, By, live};
use crate::alias::{self, Alias};
use crate::api::client::transfer::{Stays, Transfer};
use crate::conference::dialling::{DialRefused, Dialling, LONGEST_NAME};
use crate::conference::policy::{Actor, Answer as AtTheDoor, Deed, Denied, Keeps, Knock, PartyId, Role};
use crate::conference::room::Command;
use crate::conference::service;
use crate::services;
use crate::uuid::Uuid;

/// Longest text that people are told, in characters.
const TEXT: usize = 4_000;

type Answer = Result<StatusCode, Refused>;

/// Commands that take nothing but the conference.
macro_rules! deeds {
    ($($name:ident = $deed:expr;)*) => {$(
        pub(super) async fn $name(
            State(admin): State<Admin>,
            Extension(by): Extension<By>,
            Named(name): Named<String>,
        ) -> Answer {
            act(&admin, &by, &name, $deed).await
        }
    )*};
}

deeds! {
    lock = Deed::Lock(true);
    unlock = Deed::Lock(false);
    start = Deed::Start;
    mute_guests = Deed::MuteGuests(true);
    unmute_guests = Deed::MuteGuests(false);
    end = Deed::End;
}

/// Commands that take nothing but a participant.
macro_rules! deeds_to_one {
    ($($name:ident = $deed:expr;)*) => {$(
        pub(super) async fn $name(
            State(admin): State<Admin>,
            Extension(by): Extension<By>,
            Named((name, uuid)): Named<(String, String)>,
        ) -> Answer {
            let deed: fn(PartyId) -> Deed = $deed;
            act(&admin, &by, &name, deed(find(&admin, &name, &uuid)?)).await
        }
    )*};
}

deeds_to_one! {
    admit = Deed::Admit;
    disconnect = Deed::Remove;
    mute = |id| Deed::Mute(id, true);
    unmute = |id| Deed::Mute(id, false);
}

/// `{"role": "host" | "guest"}`.
pub(super) async fn role(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named((name, uuid)): Named<(String, String)>,
    Document(document): Document,
) -> Answer {
    let id = find(&admin, &name, &uuid)?;
    let mut from = Members::new(document);
    let role = one_of(&mut from, "role", &Role::ALL, Role::word)?;
    let role = role.ok_or_else(|| Refused::field("role", "is missing: write host or guest"))?;
    from.end()?;
    act(&admin, &by, &name, Deed::Role(id, role)).await
}

/// `{"on": true | false}`.
pub(super) async fn spotlight(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named((name, uuid)): Named<(String, String)>,
    Document(document): Document,
) -> Answer {
    let id = find(&admin, &name, &uuid)?;
    let mut from = Members::new(document);
    let on = from.flag("on")?.ok_or_else(|| Refused::field("on", "is missing: write true or false"))?;
    from.end()?;
    act(&admin, &by, &name, Deed::Spotlight(id, on)).await
}

/// `{"digits": "12#"}`: sent to the participant's leg; a comma waits two seconds.
pub(super) async fn dtmf(
    State(admin): State<Admin>,
    Named((name, uuid)): Named<(String, String)>,
    Document(document): Document,
) -> Answer {
    let id = find(&admin, &name, &uuid)?;
    let mut from = Members::new(document);
    let digits = keys(&mut from, "digits")?;
    if digits.is_empty() {
        return Err(Refused::field("digits", "is missing or empty: write some of 0 to 9, *, # and A to D"));
    }
    from.end()?;
    tell(&admin, &name, Command::Keys(id, digits))
}

/// `{"conference": "Board", "role": "host" | "guest"}`: sends somebody to the conference of that service;
/// a call goes on, a client is told to go. Its lock and its wait for a host are for him as for everybody.
pub(super) async fn transfer(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named((name, uuid)): Named<(String, String)>,
    Document(document): Document,
) -> Answer {
    let id = find(&admin, &name, &uuid)?;
    let mut from = Members::new(document);
    let conference = from.text("conference", service::LONGEST_NAME)?;
    let conference =
        conference.ok_or_else(|| Refused::field("conference", "is missing: write the name of a service"))?;
    let role = one_of(&mut from, "role", &Role::ALL, Role::word)?;
    from.end()?;
    if conference == name {
        return Err(Refused::told(StatusCode::CONFLICT, "conference: the participant is there already"));
    }
    let wanted = conference.clone();
    let to = admin.store(move |store| Ok(services::find(store, &wanted)?)).await?;
    let to = to.ok_or_else(|| {
        Refused::field("conference", format!("there is no service \"{conference}\": see GET /services"))
    })?;
    // Without a word he comes as who has no PIN.
    let role = role.unwrap_or_else(|| match to.door.answer(Knock::Silent) {
        AtTheDoor::Enter(role) => role,
        AtTheDoor::AskPin { .. } | AtTheDoor::Wrong => Role::Guest,
    });
    let alias = to.aliases.first().map(Alias::to_string).unwrap_or_default();
    let actor = Actor::Admin;
    let transfer = Transfer { actor, from: name.clone(), id, to: Arc::new(to), alias, role };
    match admin.0.parts.participants.transfer(transfer).await {
        Ok(()) => {
            tracing::info!(
                conference = name,
                uuid,
                to = conference,
                by = by.0,
                "transferred by the management API"
            );
            Ok(StatusCode::NO_CONTENT)
        }
        Err(Stays::Denied(denied)) => Err(refusal(denied)),
        Err(Stays::Busy) => Err(Refused::busy()),
        Err(Stays::Gone) => Err(no_party()),
    }
}

/// `{"text": "..."}`: everybody who has a screen for it reads it.
pub(super) async fn message(
    State(admin): State<Admin>,
    Named(name): Named<String>,
    Document(document): Document,
) -> Answer {
    live::view(&admin, &name)?;
    let text = only(document, "text", TEXT)?;
    tell(&admin, &name, Command::Announce { text })
}

/// Calls somebody into the conference, which begins if there is none (S33): his number in the roster as
/// soon as it rings. Who may be called is the matter of devices and of rules with `conferences`.
pub(super) async fn dial(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    Document(document): Document,
) -> Result<axum::Json<Value>, Refused> {
    let mut from = Members::new(document);
    let destination = from.text("destination", alias::LONGEST)?;
    let destination =
        destination.ok_or_else(|| Refused::field("destination", "is missing: say whom to call"))?;
    let plain = Dialling::to(destination, format!("the administrator ({})", by.0));
    let dialling = Dialling {
        way: word(&mut from, "protocol")?.unwrap_or(plain.way),
        role: one_of(&mut from, "role", &Role::ALL, Role::word)?.unwrap_or(plain.role),
        keeps: one_of(&mut from, "keeps", &Keeps::ALL, Keeps::word)?.unwrap_or(plain.keeps),
        keys: keys(&mut from, "keys")?,
        name: from.text("name", LONGEST_NAME)?,
        audio_only: from.flag("audio_only")?.unwrap_or(plain.audio_only),
        ..plain
    };
    from.end()?;
    let service = admin.store(move |store| existing(store, &name)).await?;
    let dialled = admin.0.parts.exchange.dial(&Arc::new(service), dialling).await;
    let uuid = dialled.map_err(|error| match error {
        DialRefused::Busy => Refused::busy(),
        other => Refused::told(StatusCode::CONFLICT, &other.to_string()),
    })?;
    Ok(axum::Json(json!({ "uuid": uuid.to_string() })))
}

/// The one text that a document must have.
fn only(document: Map<String, Value>, name: &'static str, most: usize) -> Result<String, Refused> {
    let mut from = Members::new(document);
    let text = from.text(name, most)?.ok_or_else(|| Refused::field(name, "is missing"))?;
    from.end()?;
    Ok(text)
}

fn find(admin: &Admin, name: &str, uuid: &str) -> Result<PartyId, Refused> {
    let view = live::view(admin, name)?;
    let party = Uuid::parse(uuid).and_then(|uuid| view.parties.iter().find(|it| it.uuid == uuid));
    party.map(|it| it.id).ok_or_else(no_party)
}

fn no_party() -> Refused {
    Refused::not_found("there is no such participant: see GET /status/conferences/{name}/participants")
}

fn tell(admin: &Admin, name: &str, command: Command) -> Answer {
    let told = admin.0.parts.exchange.rooms().tell(name, command);
    if told { Ok(StatusCode::NO_CONTENT) } else { Err(Refused::busy()) }
}

async fn act(admin: &Admin, by: &By, name: &str, deed: Deed) -> Answer {
    live::view(admin, name)?;
    let (reply, told) = oneshot::channel();
    let act = Command::Act { actor: Actor::Admin, deed, reply };
    tell(admin, name, act)?;
    match told.await {
        Ok(Ok(())) => {
            tracing::info!(conference = name, ?deed, by = by.0, "done by the management API");
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(Err(denied)) => Err(refusal(denied)),
        Err(_) => Err(refusal(Denied::Over)),
    }
}

/// Why something was not done.
fn refusal(denied: Denied) -> Refused {
    match denied {
        Denied::NoParty => no_party(),
        Denied::Role | Denied::MutedByHost => {
            Refused::new(StatusCode::CONFLICT, "the conference does not allow it now")
        }
        Denied::Storage => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "it is done, but a restart would not know of it: free space on the disk and try again",
        ),
        Denied::Over => Refused::not_found("the conference is over: see GET /status/conferences"),
    }
}
