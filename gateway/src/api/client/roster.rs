//! What clients are told of a conference: its state, everybody in it, and what has changed since they
//! were told last. Pure translation of a
//! [`RoomView`].

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::edition::{Data, EMPTY_STAGE, Edition};
use super::slides::presenter;
use crate::cause::Reason;
use crate::conference::policy::{PartyId, Place, Role};
use crate::conference::room::{At, PartyView, RoomView};
use crate::conference::service::Service;
use crate::leg::Party;
use crate::uuid::Uuid;
use crosspoint_codecs::format::MediaKind;

/// An event of the stream: its name and its data.
pub(super) type Told = (&'static str, Data);

/// There is another still; the data is its number.
pub(super) const FRAME: &str = "presentation_frame";

/// What one client was told last.
#[derive(Debug)]
pub(super) struct Roster {
    viewer: PartyId,
    /// Everybody it knows of, with what it was told of him.
    known: HashMap<PartyId, (Uuid, Data)>,
    conference: Data,
    layout: Data,
    stage: Data,
    /// Who presents, and the number of the last still.
    presenter: Option<PartyId>,
    still: Option<u64>,
    /// It waited when it was told last.
    waiting: bool,
    /// What it was then; a client that is another since asks for its role anew.
    role: Option<Role>,
}

impl Roster {
    pub(super) fn new(viewer: PartyId) -> Self {
        Self {
            viewer,
            known: HashMap::new(),
            conference: Data::NULL,
            layout: Data::NULL,
            stage: Data::NULL,
            presenter: None,
            still: None,
            waiting: false,
            role: None,
        }
    }

    /// Everything, as a stream begins.
    pub(super) fn whole(&mut self, edition: &Edition) -> Vec<Told> {
        let view = &edition.view;
        self.known.clear();
        self.waiting = place(self.viewer, view) == Some(Place::Waiting);
        self.role = role(self.viewer, view);
        let mut told = vec![("participant_sync_begin", Data::NULL)];
        for it in seen_by(self.viewer, view) {
            let data = edition.participant(it.id);
            told.push(("participant_create", data.clone()));
            self.known.insert(it.id, (it.uuid, data));
        }
        told.push(("participant_sync_end", Data::NULL));
        for (name, was, is) in self.rest(edition) {
            was.clone_from(is);
            told.push((name, is.clone()));
        }
        (self.presenter, self.still) = (None, None);
        told.extend(self.slides(view));
        told
    }

    /// What is new since.
    pub(super) fn news(&mut self, edition: &Edition) -> Vec<Told> {
        let view = &edition.view;
        if self.waiting && place(self.viewer, view) == Some(Place::In) {
            // It was let in: first of itself, then of all whom it did not see before.
            let mut told = vec![("participant_update", edition.participant(self.viewer))];
            told.extend(self.whole(edition));
            return told;
        }
        let mut told = Vec::new();
        let mut seen = HashMap::with_capacity(self.known.len());
        for it in seen_by(self.viewer, view) {
            let is = edition.participant(it.id);
            match self.known.remove(&it.id) {
                None => told.push(("participant_create", is.clone())),
                Some((_, was)) if was != is => told.push(("participant_update", is.clone())),
                Some(_) => {}
            }
            seen.insert(it.id, (it.uuid, is));
        }
        for (uuid, _) in std::mem::replace(&mut self.known, seen).into_values() {
            told.push(("participant_delete", json!({ "uuid": uuid.to_string() }).into()));
        }
        for (name, was, is) in self.rest(edition) {
            if was != is {
                was.clone_from(is);
                told.push((name, is.clone()));
            }
        }
        let role = role(self.viewer, view);
        if role.is_some() && std::mem::replace(&mut self.role, role) != role {
            told.push(("refresh_token", Data::NULL));
        }
        told.extend(self.slides(view));
        told
    }

    /// Who has begun to present, or stopped; and that there is another still.
    fn slides(&mut self, view: &RoomView) -> Vec<Told> {
        let now = presenter(self.viewer, view);
        let mut told = Vec::new();
        if now != self.presenter {
            self.still = None;
            let of = |id| view.parties.iter().find(|it| it.id == id);
            told.push(match now.and_then(of) {
                Some(it) => ("presentation_start", starts(it).into()),
                None => ("presentation_stop", Data::NULL),
            });
            self.presenter = now;
        }
        let still = view.still.as_ref().filter(|_| now.is_some()).map(|it| it.number);
        if let Some(number) = still.filter(|_| still != self.still) {
            told.push((FRAME, json!(number).into()));
        }
        self.still = still;
        told
    }

    /// What is told of the conference as a whole: what it was, and what it is.
    /// Who waits sees nobody, so he is not told who is seen and speaks either (S30).
    fn rest<'a>(&'a mut self, edition: &'a Edition) -> [(&'static str, &'a mut Data, &'a Data); 3] {
        let (layout, stage) = if self.waiting {
            (&edition.empty_layout, &EMPTY_STAGE)
        } else {
            (&edition.layout, &edition.stage)
        };
        [
            ("conference_update", &mut self.conference, &edition.conference),
            ("layout", &mut self.layout, layout),
            ("stage", &mut self.stage, stage),
        ]
    }
}

/// Somebody presents. Stills are all that there is yet.
fn starts(it: &PartyView) -> Value {
    json!({
        "presenter_name": it.name,
        "presenter_uri": uri(&it.leg.party),
        "presenter_uuid": it.uuid.to_string(),
        "presenter_source": "static",
    })
}

/// Whom `viewer` may see in the roster: everybody who is in and whom we call; who waits is seen by those
/// who may let him in, who is asked for a PIN by hosts; and oneself (S30, S32).
pub(super) fn seen_by(viewer: PartyId, view: &RoomView) -> impl Iterator<Item = &PartyView> {
    let own = view.parties.iter().find(|it| it.id == viewer).and_then(|it| it.party);
    let is_in = own.is_some_and(|it| it.place == Place::In);
    let is_host = is_in && own.is_some_and(|it| it.role == Role::Host);
    let admits = is_in && (is_host || !view.tells_hosts);
    view.parties.iter().filter(move |it| {
        it.id == viewer
            || match it.at {
                At::In | At::Leaving => is_in && it.party.is_some(),
                At::Connecting => is_in && it.invited_as.is_some(),
                At::Waiting => admits,
                At::Door => is_host,
            }
    })
}

/// The state of a conference.
pub(super) fn conference(service: &Service, view: &RoomView) -> Value {
    json!({
        "locked": view.locked,
        "guests_muted": view.guests_muted,
        "all_muted": false,
        "guests_can_unmute": view.guests_can_unmute,
        "guests_can_present": view.guests_present,
        "started": view.started,
        "presentation_allowed": true,
        "direct_media": false,
        "live_captions_available": false,
        "breakout_rooms": false,
        "chat_enabled": service.chat,
    })
}

/// Somebody, in full: every member that clients insist on.
pub(super) fn participant(service: &Service, it: &PartyView) -> Value {
    let role = it.party.map(|party| party.role).or(it.invited_as).unwrap_or(Role::Guest);
    let streams = &it.leg.streams;
    let has = |kind| streams.iter().any(|stream| stream.stream.agreed.role == kind);
    let (sound, pictures) = (has(MediaKind::Audio), has(MediaKind::Main));
    let encrypted = !streams.is_empty() && streams.iter().all(|it| it.stream.encrypted);
    let who = &it.leg.party;
    let muted = it.party.is_some_and(|party| party.muted.any());
    let protocol = if it.control_only { "api" } else { who.protocol };
    let outgoing = it.invited_as.is_some();
    let mut all = json!({
        "uuid": it.uuid.to_string(),
        "display_name": it.name,
        "overlay_text": it.label.as_ref().unwrap_or(&it.name),
        "uri": uri(who),
        "local_alias": who.called,
        "vendor": "",
        "external_node_uuid": "",
        "api_url": format!("/participants/{}/", it.uuid),
        "call_tag": "",
        "protocol": protocol,
        "service_type": service_type(service, it.at),
        "role": if role == Role::Host { "chair" } else { "guest" },
        "call_direction": if outgoing { "out" } else { "in" },
        "start_time": unix(it.since),
        "buzz_time": it.hand.map_or(0.0, unix),
        "spotlight": it.spotlight.map_or(0.0, unix),
        "last_spoken_time": 0,
        "rx_presentation_policy": if it.party.is_none_or(|it| it.slides) { "ALLOW" } else { "DENY" },
        "receive_from_video_mix": { "mix_name": "main", "timestamp": 0 },
        "encryption": if encrypted || it.control_only { "On" } else { "Off" },
    });
    // Some of it is yes or no in words, the rest true or false.
    let words = [
        ("is_muted", muted),
        ("is_presenting", it.presents),
        ("is_video_call", pictures),
        ("is_audio_only_call", sound && !pictures),
        ("disconnect_supported", true),
        ("mute_supported", sound),
        // Anybody can be told to go, or be handed over, once he is there.
        ("transfer_supported", it.party.is_some()),
        ("fecc_supported", false),
        // By stills.
        ("presentation_supported", it.control_only),
    ];
    let flags = [
        ("is_client_muted", it.party.is_some_and(|it| !it.microphone)),
        ("is_video_muted", it.party.is_some_and(|it| it.hidden)),
        ("is_video_silent", false),
        ("is_main_video_dropped_out", false),
        ("is_streaming_conference", it.streams),
        ("is_external", false),
        ("is_conjoined", false),
        ("is_idp_authenticated", false),
        ("is_transferring", false),
        ("has_media", sound || pictures),
        ("needs_presentation_in_mix", false),
        ("supports_direct_chat", it.control_only),
        ("can_receive_personal_mix", false),
    ];
    if let Some(cause) = it.cause {
        // The last that is told of somebody who was called in vain, before he goes (S79).
        all["disconnect_reason"] = in_words(cause.reason).into();
    }
    if let Some(members) = all.as_object_mut() {
        members.extend(words.map(|(name, is)| (name.to_owned(), yes(is).into())));
        members.extend(flags.map(|(name, is)| (name.to_owned(), is.into())));
    }
    all
}

/// A URI of somebody's address, which may be one already: of those whom we have called.
fn uri(who: &Party) -> String {
    let scheme = format!("{}:", who.protocol);
    let is_uri = who.address.starts_with(&scheme) || who.address.starts_with("sips:");
    if who.address.is_empty() || is_uri { who.address.clone() } else { scheme + &who.address }
}

/// Why somebody was not reached, for people.
pub(super) const fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Busy => "The called party is busy",
        Reason::NoAnswer => "Nobody answered",
        Reason::Rejected => "Call rejected",
        Reason::Cancelled | Reason::AnsweredElsewhere | Reason::Hangup => "The call was taken back",
        Reason::NotFound => "Nobody has that address",
        Reason::Unavailable | Reason::FlowFailed => "The called party is not there",
        Reason::Forbidden => "The other side does not allow the call",
        Reason::NotAcceptable => "There is no codec or encryption in common",
        Reason::Unreachable | Reason::MediaTimeout | Reason::ProtocolError => {
            "The called party cannot be reached"
        }
        Reason::Congestion => "Out of resource",
        Reason::Shutdown => "The gateway stops",
        Reason::Internal => "Gateway dial out failed",
    }
}

/// What somebody takes part in, in the word of the API.
pub(super) const fn service_type(service: &Service, at: At) -> &'static str {
    match (at, service.kind) {
        (At::Connecting, _) => "connecting",
        (At::Door, _) => "ivr",
        (At::Waiting, _) => "waiting_room",
        (At::In | At::Leaving, kind) => kind.type_word(),
    }
}

/// The layout of `view`, with those of `seen` in it.
pub(super) fn layout(view: &RoomView, seen: &[PartyId]) -> Value {
    let [hosts, guests] = view.layouts.map(|it| it.word());
    let uuid = |id: &PartyId| view.parties.iter().find(|it| it.id == *id).map(|it| it.uuid.to_string());
    json!({
        "view": hosts,
        "participants": seen.iter().filter_map(uuid).collect::<Vec<_>>(),
        "requested_layout": { "primary_screen": { "chair_layout": hosts, "guest_layout": guests } },
        "overlay_text_enabled": view.names,
        "pres_slot_coords": null,
    })
}

pub(super) fn stage(view: &RoomView) -> Value {
    let of = |(index, id): (usize, &PartyId)| {
        let party = view.parties.iter().find(|it| it.id == *id)?;
        let vad = if view.speaker == Some(*id) { 100 } else { 0 };
        Some(json!({ "participant_uuid": party.uuid.to_string(), "stage_index": index, "vad": vad }))
    };
    Value::Array(view.stage.iter().enumerate().filter_map(of).collect())
}

fn place(viewer: PartyId, view: &RoomView) -> Option<Place> {
    view.parties.iter().find(|it| it.id == viewer)?.party.map(|it| it.place)
}

fn role(viewer: PartyId, view: &RoomView) -> Option<Role> {
    view.parties.iter().find(|it| it.id == viewer)?.party.map(|it| it.role)
}

const fn yes(is: bool) -> &'static str {
    if is { "YES" } else { "NO" }
}

fn unix(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
