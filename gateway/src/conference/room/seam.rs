//! What a room is told, and what it tells.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use crosspoint_codecs::format::Capabilities;
use crosspoint_codecs::frame::VideoFrame;
use tokio::sync::{broadcast, oneshot, watch};

use crate::cause::Cause;
use crate::conference::call::{CallView, LegView, Outcome};
use crate::conference::dialling::Keys;
use crate::conference::layout::Layout;
use crate::conference::ledger::Saved;
use crate::conference::policy::{Actor, Deed, Denied, Exit, Full, Keeps, Party, PartyId, Place, Role};
use crate::conference::room::hand_over::Handed;
use crate::conference::room::slides::Still;
use crate::conference::service::Service;
use crate::leg::{Leg, LegId, LegStream, Referral};
use crate::uuid::Uuid;

/// What a room is told.
#[derive(Debug)]
pub enum Command {
    /// A leg that has called.
    Enter {
        /// It.
        leg: Leg,
        /// What it came with.
        offered: Option<Capabilities>,
        /// Told of its call as it goes.
        view: watch::Sender<CallView>,
        /// Told when it is over.
        done: oneshot::Sender<Outcome>,
    },
    /// A leg that has talked to somebody else.
    TakeIn {
        /// It.
        leg: Leg,
        /// What it has agreed.
        streams: Vec<LegStream>,
        /// Whose place it takes; `None`: it comes to the door.
        seat: Option<Seat>,
        /// Told of its call as it goes.
        view: watch::Sender<CallView>,
        /// Told when it is over.
        done: oneshot::Sender<Outcome>,
    },
    /// A leg that calls for the place of one which is in (RFC 3891).
    Replace {
        /// It.
        leg: Leg,
        /// What it came with.
        offered: Option<Capabilities>,
        /// The one that is in.
        old: LegId,
        /// Who is said to have wanted it.
        referred_by: Option<String>,
        /// Told of its call as it goes.
        view: watch::Sender<CallView>,
        /// Told when it is over.
        done: oneshot::Sender<Outcome>,
    },
    /// Somebody does something.
    Act {
        /// Who.
        actor: Actor,
        /// What.
        deed: Deed,
        /// Told what came of it.
        reply: oneshot::Sender<Result<(), Denied>>,
    },
    /// Somebody comes by the client API alone; the door has been asked before.
    Join {
        /// What he is called.
        name: String,
        /// What the door said.
        role: Role,
        /// Where his requests come from.
        source: Option<SocketAddr>,
        /// Told what came of it.
        reply: oneshot::Sender<Result<Joined, Full>>,
    },
    /// A client comes in that has taken a call of this conference, in the place of the leg which rang.
    Take {
        /// Which leg.
        leg: LegId,
        /// What the client's user is called.
        name: String,
        /// Where his requests come from.
        source: Option<SocketAddr>,
        /// Told what came of it; dropped when somebody else was quicker.
        reply: oneshot::Sender<Result<Joined, Full>>,
    },
    /// Somebody who came so leaves.
    Leave(PartyId),
    /// Calls somebody into the conference, with a leg that rings already.
    Invite {
        /// His leg.
        leg: Leg,
        /// What he comes as.
        who: Invited,
        /// Told of his call as it goes.
        view: watch::Sender<CallView>,
        /// Told when it is over.
        done: oneshot::Sender<Outcome>,
        /// Told his number in the roster.
        reply: oneshot::Sender<Result<Uuid, Full>>,
    },
    /// Hands somebody's leg over to another conference; his call goes on. Who has none is told to go
    /// by the client API.
    HandOver {
        /// Who wants it: a host, or the administrator.
        actor: Actor,
        /// Who goes.
        id: PartyId,
        /// Where to: another service than this.
        to: Arc<Service>,
        /// What he comes as.
        role: Role,
        /// Told whether he goes.
        reply: oneshot::Sender<Result<(), Denied>>,
    },
    /// What becomes of the wish of somebody who sends the conference on by his telephone.
    Referral(PartyId, Referral),
    /// Takes over whom another conference hands over.
    TakeOver(Box<Handed>),
    /// Sends keys to somebody's leg.
    Keys(PartyId, Keys),
    /// Somebody writes: to all, or to one.
    Say {
        /// Who.
        from: PartyId,
        /// To whom, if not to all.
        to: Option<PartyId>,
        /// The kind of what is written: "text/plain".
        kind: String,
        /// What.
        text: String,
    },
    /// Another look: what is `None` stays as it is.
    Look {
        /// The layout of hosts, and of everybody in a room.
        hosts: Option<Layout>,
        /// The layout of guests in an auditorium.
        guests: Option<Layout>,
        /// Whether names are shown.
        names: Option<bool>,
        /// A message for everybody; empty: none.
        banner: Option<String>,
    },
    /// Somebody is called otherwise on screens.
    Label {
        /// Who.
        id: PartyId,
        /// Empty: as he is called in the roster.
        text: String,
    },
    /// Somebody takes the floor, to show slides.
    TakeFloor {
        /// Who.
        id: PartyId,
        /// Told what came of it.
        reply: oneshot::Sender<Result<(), Denied>>,
    },
    /// Somebody gives it back.
    ReleaseFloor(PartyId),
    /// The next still of who has the floor.
    Slide {
        /// Who.
        id: PartyId,
        /// A JPEG file.
        jpeg: Bytes,
        /// What is in it, no larger than [`Still::ROOM`].
        picture: VideoFrame,
        /// Told what came of it.
        reply: oneshot::Sender<Result<(), Denied>>,
    },
    /// A fault of ours.
    #[cfg(test)]
    Fail,
    /// The administrator writes to all.
    Announce {
        /// What.
        text: String,
    },
}

/// What somebody comes as whom we call.
#[derive(Clone, Debug)]
pub struct Invited {
    /// His role.
    pub role: Role,
    /// Whether the conference goes on while he is there.
    pub keeps: Keeps,
    /// What is sent to him once he has answered.
    pub keys: Keys,
    /// What he is called.
    pub name: String,
    /// He streams or records.
    pub streams: bool,
    /// How long it may ring.
    pub rings: Duration,
    /// Somebody who is in has sent the conference on to him.
    pub referred: Option<Referred>,
}

/// The place in a conference that somebody gives up for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Who gives it up.
    pub of: PartyId,
    /// His role, which the other one has then.
    pub role: Role,
    /// The same of whether the conference goes on for him.
    pub keeps: Keeps,
}

/// Who has sent a conference on.
#[derive(Clone, Debug)]
pub struct Referred {
    /// What he gives up.
    pub seat: Seat,
    /// The rule that lets the call out, when one does.
    pub rule: Option<String>,
}

/// Somebody has come by the client API.
#[derive(Debug)]
pub struct Joined {
    /// Who he is here.
    pub id: PartyId,
    /// And in the roster.
    pub uuid: Uuid,
    /// Where he is.
    pub place: Place,
    /// What goes on.
    pub view: watch::Receiver<RoomView>,
    /// What is written. Who reads too slowly loses the oldest.
    pub said: broadcast::Receiver<Said>,
    /// Whether a restart would find him.
    pub saved: Saved,
}

/// Something that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// By whom.
    pub from: PartyId,
    /// In the roster.
    pub uuid: Uuid,
    /// What he is called.
    pub name: String,
    /// To whom, if not to all.
    pub to: Option<PartyId>,
    /// The kind of what is written.
    pub kind: String,
    /// What.
    pub text: String,
}

/// What a room tells whoever watches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoomView {
    /// Newcomers wait.
    pub locked: bool,
    /// Guests are muted.
    pub guests_muted: bool,
    /// They may take that back.
    pub guests_can_unmute: bool,
    /// There is a host PIN: hosts and guests are told apart.
    pub tells_hosts: bool,
    /// Names are shown.
    pub names: bool,
    /// A host is or was there, or is not needed.
    pub started: bool,
    /// Everybody who is there in whatever way, in the order of their legs.
    pub parties: Vec<PartyView>,
    /// The layouts of hosts (and of everybody in a room) and of guests.
    pub layouts: [Layout; 2],
    /// Who is seen first, and so on.
    pub stage: Vec<PartyId>,
    /// Who speaks.
    pub speaker: Option<PartyId>,
    /// Guests may show slides.
    pub guests_present: bool,
    /// Who shows slides.
    pub presenter: Option<PartyId>,
    /// The last still of them.
    pub still: Option<Still>,
    /// The host's message to everybody.
    pub banner: Option<String>,
}

impl RoomView {
    /// Whether somebody is there, in whatever way.
    pub fn shows(&self, id: PartyId) -> bool {
        self.parties.iter().any(|it| it.id == id)
    }
}

/// Somebody.
#[derive(Clone, Debug, PartialEq)]
pub struct PartyView {
    /// Who he is here.
    pub id: PartyId,
    /// And in the roster.
    pub uuid: Uuid,
    /// What he is called.
    pub name: String,
    /// What he is called on screens, if otherwise.
    pub label: Option<String>,
    /// When he came.
    pub since: SystemTime,
    /// Where he is.
    pub at: At,
    /// Role, place, mute and so on, once he is in or waits.
    pub party: Option<Party>,
    /// What he comes as, if we have called him.
    pub invited_as: Option<Role>,
    /// He streams or records.
    pub streams: bool,
    /// Why his leg has ended, or was never answered.
    pub cause: Option<Cause>,
    /// His leg; without streams for one who has none.
    pub leg: LegView,
    /// He has no leg, but the client API.
    pub control_only: bool,
    /// When a hand was raised and a spotlight turned on him, by the clock of the wall.
    pub hand: Option<SystemTime>,
    /// See `hand`.
    pub spotlight: Option<SystemTime>,
    /// He shows slides.
    pub presents: bool,
    /// Why he goes, once that is clear.
    pub exit: Option<Exit>,
}

/// Where somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// His phone rings.
    Connecting,
    /// He is asked for a PIN.
    Door,
    /// He waits for a host, or to be let in.
    Waiting,
    /// He is in.
    In,
    /// He is on his way out.
    Leaving,
}
