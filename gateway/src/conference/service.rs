//! What people call: meeting rooms, auditoriums, a test call. As the administrator set them up; what
//! goes on in one is a conference.

use std::fmt;
use std::str::FromStr;

use super::dialling::Automatic;
use super::layout::Layout;
use super::policy::{Answer, Door, Knock, Rules};
use crate::alias::Alias;
use crate::guard::{Porter, Visitor};

/// Parties of one conference at most, whatever the administrator says: more do not fit one bus.
pub const MOST_PARTIES: usize = 1_000;

/// How names begin of what stands in for services that do not exist.
const NOWHERE: char = ' ';

/// Longest name, in characters.
pub const LONGEST_NAME: usize = 250;

/// What a service is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A virtual meeting room (S1): all see and hear all.
    #[default]
    Room,
    /// A virtual auditorium (S1): guests see the hosts alone.
    Auditorium,
    /// Whoever calls hears and sees himself.
    TestCall,
    /// A call between two (S2), made for it and gone with it: nobody sets one up.
    Gateway,
}

impl Kind {
    /// All that can be set up.
    pub const ALL: [Self; 3] = [Self::Room, Self::Auditorium, Self::TestCall];

    /// What somebody takes part in, in the word of the client API.
    pub const fn type_word(self) -> &'static str {
        match self {
            Self::Room => "conference",
            Self::Auditorium => "lecture",
            Self::TestCall => "test_call",
            Self::Gateway => "gateway",
        }
    }

    /// Its word on the command line and in the management API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Auditorium => "auditorium",
            Self::TestCall => "test-call",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no kind of service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no kind of service; there are: room, auditorium, test-call")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| UnknownKind(word.to_owned()))
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// What people see it called. No two services of a gateway have the same.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// What reaches it; at least one, and none that reaches another service.
    pub aliases: Vec<Alias>,
    /// Its PINs.
    pub door: Door,
    /// Limits and times. `tells_hosts` follows the door.
    pub rules: Rules,
    /// How hosts, and everybody in a room, are laid out.
    pub layout: Layout,
    /// How guests of an auditorium see the hosts.
    pub guest_layout: Layout,
    /// Parties that are mixed at a time; `None`: all who talk.
    pub talkers: Option<usize>,
    /// People may write to each other.
    pub chat: bool,
    /// Guests may show slides.
    pub guests_present: bool,
    /// Names are shown.
    pub names: bool,
    /// Who is called when a conference begins, in order (S73).
    pub dials: Vec<Automatic>,
}

/// Whether what has that name stands in for a service that does not exist.
pub fn is_decoy(name: &str) -> bool {
    name.starts_with(NOWHERE)
}

impl Service {
    /// A call between two that is named, and reached by, `alias`, which nobody else has.
    pub fn call(alias: Alias) -> Self {
        let mut call = Self::new(alias.to_string(), alias);
        call.kind = Kind::Gateway;
        call.rules.parties = 2;
        (call.layout, call.guest_layout) = (Layout::OneMain, Layout::OneMain);
        (call.talkers, call.names) = (None, false);
        call
    }

    /// What stands in for a service that does not exist: it wants a PIN and has none that opens.
    pub fn decoy(alias: Alias) -> Self {
        // No service that was written down has such a name, and no two aliases share one.
        let name = format!("{NOWHERE}{alias}");
        Self { door: Door::shut(), ..Self::new(name, alias) }
    }

    /// Whether it stands in for one that does not exist.
    pub fn is_decoy(&self) -> bool {
        is_decoy(&self.name)
    }

    /// What its door says to `knock` of `visitor`. A PIN that is refused unread is answered as a wrong one.
    pub fn answer(&self, porter: &Porter, visitor: &Visitor, knock: Knock<'_>) -> Answer {
        let room = (!self.is_decoy()).then_some(self.name.as_str());
        match (knock, self.door.shortest()) {
            (Knock::Pin(_), Some(digits)) => {
                let read = || Some(self.door.answer(knock)).filter(|it| matches!(it, Answer::Enter(_)));
                porter.attempt(visitor, room, digits, read).unwrap_or(Answer::Wrong)
            }
            _ => self.door.answer(knock),
        }
    }

    /// An open room of that name and alias, with every default.
    pub fn new(name: impl Into<String>, alias: Alias) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Room,
            aliases: vec![alias],
            door: Door::OPEN,
            rules: Rules::default(),
            layout: Layout::default(),
            guest_layout: Layout::default(),
            talkers: Some(crate::media::BusConfig::default().talkers),
            chat: true,
            guests_present: true,
            names: true,
            dials: Vec::new(),
        }
    }
}
