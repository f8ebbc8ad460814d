//! What a conference dials, and how: as a host, the administrator or the service's own list wants it.

use std::fmt;
use std::str::FromStr;

use super::policy::{Full, Keeps, Role};
use crate::cause::{Cause, Reason};

/// Longest sequence of keys that is sent after an answer, pauses among them: a conference number, two
/// PINs and time to hear the questions.
pub const LONGEST_KEYS: usize = 64;

/// Longest name that somebody is shown under, in characters.
pub const LONGEST_NAME: usize = 100;

/// Somebody whom a conference calls (S33, S73).
#[derive(Clone, Debug)]
pub struct Dialling {
    /// An alias, a number, a URI.
    pub destination: String,
    /// By which protocol.
    pub way: Way,
    /// What he comes as.
    pub role: Role,
    /// Whether the conference goes on while he is there.
    pub keeps: Keeps,
    /// What is sent to him once he has answered.
    pub keys: Keys,
    /// What he is called in the roster and on screens, if not by his address.
    pub name: Option<String>,
    /// What he sees calling, if not the conference's name.
    pub caller: Option<String>,
    /// No picture is offered.
    pub audio_only: bool,
    /// He streams or records: shown as such.
    pub streams: bool,
    /// Who wants it, for the log.
    pub asked_by: String,
}

impl Dialling {
    /// A call to `destination`, with every default: by whatever protocol a rule names, as a host.
    pub fn to(destination: impl Into<String>, asked_by: impl Into<String>) -> Self {
        Self {
            destination: destination.into(),
            way: Way::Auto,
            role: Role::Host,
            keeps: Keeps::InCompany,
            keys: Keys::default(),
            name: None,
            caller: None,
            audio_only: false,
            streams: false,
            asked_by: asked_by.into(),
        }
    }
}

/// Somebody whom a conference calls by itself when it begins (S73).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automatic {
    /// As of a [`Dialling`], and so on.
    pub destination: String,
    /// By which protocol.
    pub way: Way,
    /// What he comes as.
    pub role: Role,
    /// Whether the conference goes on while he is there.
    pub keeps: Keeps,
    /// What is sent to him once he has answered.
    pub keys: Keys,
}

impl Automatic {
    /// To `destination`, with every default.
    pub fn to(destination: impl Into<String>) -> Self {
        let Dialling { destination, way, role, keeps, keys, .. } = Dialling::to(destination, "");
        Self { destination, way, role, keeps, keys }
    }

    /// What is dialled.
    pub fn dialling(&self) -> Dialling {
        let Self { destination, way, role, keeps, keys } = self.clone();
        Dialling { way, role, keeps, keys, ..Dialling::to(destination, "the list of the service") }
    }
}

/// Why a text names nobody whom a conference could call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NobodyToDial {
    /// No alias can be made of it.
    #[error("{0}")]
    Destination(crate::alias::AliasError),
    /// See there.
    #[error(transparent)]
    Way(#[from] UnknownWay),
    /// See there.
    #[error(transparent)]
    Keys(#[from] NoKeys),
    /// A word that has no meaning.
    #[error(
        "\"{0}\" is not understood: write the destination, then any of role=guest, protocol=sip, keys=1234#, \
         keeps=always, keeps=in-company, keeps=never"
    )]
    Word(String),
}

/// As it is written on the command line: `+4930123456 role=guest keys=,,1234# keeps=never`.
impl FromStr for Automatic {
    type Err = NobodyToDial;

    fn from_str(text: &str) -> Result<Self, NobodyToDial> {
        let mut words = text.split_whitespace();
        let destination = words.next().unwrap_or_default();
        crate::alias::Alias::with_host(destination).map_err(NobodyToDial::Destination)?;
        let mut all = Self::to(destination);
        for word in words {
            let unknown = || NobodyToDial::Word(word.to_owned());
            let (field, value) = word.split_once('=').ok_or_else(unknown)?;
            match field {
                "protocol" => all.way = value.parse()?,
                "keys" => all.keys = value.parse()?,
                "role" => all.role = find(&Role::ALL, |it| it.word() == value).ok_or_else(unknown)?,
                "keeps" => all.keeps = find(&Keeps::ALL, |it| it.word() == value).ok_or_else(unknown)?,
                _ => return Err(unknown()),
            }
        }
        Ok(all)
    }
}

fn find<T: Copy>(all: &[T], is: impl Fn(T) -> bool) -> Option<T> {
    all.iter().copied().find(|it| is(*it))
}

/// The same again; keys as dots, for there may be a PIN among them.
impl fmt::Display for Automatic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, way, role, keeps, keys } = self;
        write!(f, "{destination} role={} protocol={way} keeps={}", role.word(), keeps.word())?;
        if keys.is_empty() { Ok(()) } else { f.write_str(" keys=....") }
    }
}

/// The protocol that somebody is dialled by. Whether there are legs of it is not said here: each
/// [`Protocol`](crate::leg::Protocol) names the schemes that it dials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// As his registration or the rule has it.
    #[default]
    Auto,
    /// SIP.
    Sip,
    /// Lync and Skype for Business: dialled as SIP.
    Lync,
    /// H.323.
    H323,
    /// RTMP: streams and recorders.
    Rtmp,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Sip, Self::Lync, Self::H323, Self::Rtmp];

    /// Its word in the APIs and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sip => "sip",
            Self::Lync => "mssip",
            Self::H323 => "h323",
            Self::Rtmp => "rtmp",
        }
    }

    /// The scheme of its URIs; `None`: any.
    pub const fn scheme(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::Sip | Self::Lync => Some("sip"),
            Self::H323 => Some("h323"),
            Self::Rtmp => Some("rtmp"),
        }
    }

    /// The way that a destination names itself: `h323:bob` wants no SIP.
    pub fn of(destination: &str) -> Self {
        let scheme = destination.trim().split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        let plain = scheme.strip_suffix('s').unwrap_or(&scheme);
        Self::ALL.into_iter().find(|way| way.scheme() == Some(plain)).unwrap_or_default()
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol: there are sip, h323, mssip, rtmp and auto")]
pub struct UnknownWay;

impl FromStr for Way {
    type Err = UnknownWay;

    fn from_str(word: &str) -> Result<Self, UnknownWay> {
        Self::ALL.into_iter().find(|way| way.word() == word).ok_or(UnknownWay)
    }
}

/// Keys to be sent; a comma is a pause of two seconds. Printed as their number: there may be a PIN
/// among them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(String);

/// What cannot be sent by keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("dtmf_sequence: up to {LONGEST_KEYS} of 0 to 9, *, #, A to D, and commas for pauses of two seconds")]
pub struct NoKeys;

impl Keys {
    /// In order.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// There are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Keys {
    type Err = NoKeys;

    fn from_str(text: &str) -> Result<Self, NoKeys> {
        let known = |it: u8| b"0123456789*#ABCD,".contains(&it);
        let good = text.len() <= LONGEST_KEYS && text.bytes().all(known);
        if good { Ok(Self(text.to_owned())) } else { Err(NoKeys) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// Why somebody is not dialled. What goes wrong after that is told in the roster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialRefused {
    /// The directory has nobody, or no rule lets the conference call there.
    #[error("destination: {}", in_words(*.0))]
    Nowhere(Reason),
    /// It would be a conference in a conference.
    #[error("destination: it is the conference \"{0}\": conferences do not call conferences")]
    Conference(String),
    /// There are no such legs.
    #[error("protocol: {0} cannot be dialled yet: use sip or auto")]
    NoLegs(Way),
    /// The rule means another protocol.
    #[error("protocol: the rule \"{rule}\" does not dial by {way}: use auto")]
    OtherWay {
        /// Which rule.
        rule: String,
        /// What was wanted.
        way: Way,
    },
    /// As many as there may be.
    #[error(transparent)]
    Full(#[from] Full),
    /// The gateway has as many calls as it may, stops, or the conference does not keep up.
    #[error("the gateway has too much to do: try again later")]
    Busy,
    /// The conference that wanted it has ended before anybody rang.
    #[error("the conference was over by then")]
    Over,
    /// No leg could be begun.
    #[error("the call could not be begun: {0}")]
    Failed(Cause),
}

impl DialRefused {
    /// What a call record has of it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Nowhere(reason) => *reason,
            Self::Conference(_) | Self::NoLegs(_) | Self::OtherWay { .. } => Reason::NotAcceptable,
            Self::Full(_) | Self::Busy => Reason::Congestion,
            Self::Over => Reason::Cancelled,
            Self::Failed(cause) => cause.reason,
        }
    }
}

fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Forbidden => "no rule lets conferences call there: add one with conferences = true",
        Reason::NotFound => "nobody has this alias",
        Reason::Unavailable | Reason::FlowFailed => "the device is not registered",
        _ => "it cannot be called",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_may_name_its_way_and_a_port_is_none() {
        for (destination, way) in [
            ("bob", Way::Auto),
            ("bob@example.com", Way::Auto),
            ("sip:bob", Way::Sip),
            ("SIPS:bob@example.com", Way::Sip),
            ("h323:bob", Way::H323),
            ("rtmps://stream.example.com/live/key", Way::Rtmp),
            ("192.0.2.7:5060", Way::Auto),
            ("tel:+4930", Way::Auto),
        ] {
            assert_eq!(Way::of(destination), way, "{destination}");
        }
        assert_eq!("teams".parse::<Way>(), Err(UnknownWay));
        assert!(Way::ALL.into_iter().all(|way| way.word().parse() == Ok(way)));
    }

    #[test]
    fn s73_one_of_the_list_is_written_as_words_and_what_is_wrong_is_named() {
        let plain: Automatic = "bob".parse().unwrap();
        assert_eq!(plain, Automatic::to("bob"));
        let all: Automatic = " +4930123456  role=guest keys=,1# protocol=mssip keeps=never ".parse().unwrap();
        let expected = Automatic {
            destination: "+4930123456".into(),
            way: Way::Lync,
            role: Role::Guest,
            keeps: Keeps::Never,
            keys: ",1#".parse().unwrap(),
        };
        assert_eq!(all, expected);
        assert_eq!(all.to_string(), "+4930123456 role=guest protocol=mssip keeps=never keys=....");
        for (wrong, named) in [
            ("", "an alias must not be empty"),
            ("bob guest", "\"guest\""),
            ("bob role=boss", "\"role=boss\""),
            ("bob keys=x", "dtmf_sequence"),
            ("bob protocol=teams", "protocol"),
        ] {
            let told = wrong.parse::<Automatic>().unwrap_err().to_string();
            assert!(told.contains(named), "{told}");
        }
    }

    #[test]
    fn keys_are_checked_and_print_as_their_number() {
        let keys: Keys = ",,1234#*ABCD".parse().unwrap();
        assert_eq!((keys.as_str(), format!("{keys:?}").as_str()), (",,1234#*ABCD", "12 keys"));
        for bad in ["12x", "e", "١", &"1".repeat(65)] {
            assert_eq!(bad.parse::<Keys>(), Err(NoKeys), "{bad}");
        }
    }
}
