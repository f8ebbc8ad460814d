//! What happened on a leg, step by step, for people who look for a fault: messages, decisions about
//! streams, and what befell the media. Bounded, and without any secret: a message is its start line.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::media::capture::Capture;

/// The first steps of a leg, which are kept to its end: how a call came to be is among them.
pub const FIRST: usize = 96;

/// The last steps of a leg that are kept. Overflow: what lies between is left out and counted, for a
/// call of days with a refresh each quarter of an hour.
pub const LAST: usize = 32;

/// Octets of one step's text. Overflow: it is cut, and ends in "...".
pub const TEXT: usize = 200;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What a step was. Texts are printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A message between us and the leg's party.
    Message(Box<Message>),
    /// What was offered, agreed or refused of its streams.
    Streams(Box<str>),
    /// Something else.
    Note(Box<str>),
    /// So many steps that are left out here.
    More(u64),
}

/// A message as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By us, or to us.
    pub sent: bool,
    /// "udp", "tcp", "tls".
    pub transport: &'static str,
    /// The party's address.
    pub peer: SocketAddr,
    /// "INVITE sip:bob@example.com" or "486 Busy Here".
    pub line: Box<str>,
    /// "1 INVITE".
    pub sequence: Box<str>,
    /// It carried a description of streams.
    pub describes: bool,
}

/// The ladder of one leg, or of what a call is apart from its legs. Clones are the same.
#[derive(Clone, Default)]
pub struct Ladder(Arc<Mutex<Steps>>);

#[derive(Default)]
struct Steps {
    first: Vec<Step>,
    last: VecDeque<Step>,
    left_out: u64,
    capture: Option<Shown>,
}

/// Who is shown the messages of a leg, and whether with keys.
#[derive(Clone)]
pub struct Shown {
    /// Where they go.
    pub capture: Arc<Capture>,
    /// Keys of media are not masked.
    pub keys: bool,
}

impl Ladder {
    /// A message.
    pub fn message(&self, at: Instant, message: Message) {
        self.push(Step { at, what: What::Message(Box::new(message)) });
    }

    /// What was decided about streams.
    pub fn streams(&self, at: Instant, text: &str) {
        self.push(Step { at, what: What::Streams(printable(text)) });
    }

    /// Something else.
    pub fn note(&self, at: Instant, text: &str) {
        self.push(Step { at, what: What::Note(printable(text)) });
    }

    /// Shows every message from now on, whole; `None`: to nobody any more.
    pub fn show(&self, shown: Option<Shown>) {
        self.lock().capture = shown;
    }

    /// Who is shown messages.
    pub fn shown(&self) -> Option<Shown> {
        self.lock().capture.clone()
    }

    /// Every step that is kept, in order, with a word where some are not.
    pub fn steps(&self) -> Vec<Step> {
        let steps = self.lock();
        let more = steps.first.last().filter(|_| steps.left_out > 0);
        let more = more.map(|it| Step { at: it.at, what: What::More(steps.left_out) });
        steps.first.iter().cloned().chain(more).chain(steps.last.iter().cloned()).collect()
    }

    /// About how many octets of memory it has.
    pub fn octets(&self) -> usize {
        let steps = self.lock();
        let texts = steps.first.iter().chain(&steps.last).map(|step| match &step.what {
            What::Message(it) => size_of::<Message>() + it.line.len() + it.sequence.len(),
            What::Streams(text) | What::Note(text) => text.len(),
            What::More(_) => 0,
        });
        let texts: usize = texts.sum();
        texts + size_of::<Step>() * (steps.first.capacity() + steps.last.capacity())
    }

    fn push(&self, step: Step) {
        let mut steps = self.lock();
        if steps.first.len() < FIRST {
            return steps.first.push(step);
        }
        if steps.last.len() == LAST {
            steps.last.pop_front();
            steps.left_out += 1;
        }
        steps.last.push_back(step);
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.lock();
        f.debug_struct("Ladder")
            .field("steps", &(steps.first.len() + steps.last.len()))
            .finish_non_exhaustive()
    }
}

/// Text of a peer as nothing but text, at most [`TEXT`] octets of it: what could drive a terminal, end
/// a line or turn the direction of writing is spelled out, as `\u{1b}`.
pub fn printable(text: &str) -> Box<str> {
    const CUT: &str = "...";
    // Nearly all of it: nothing to be spelled out, nothing to be cut.
    if text.len() <= TEXT && text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len().min(TEXT));
    let mut fits = 0;
    for sign in text.chars() {
        if drives(sign) {
            let _ = write!(out, "{}", sign.escape_unicode());
        } else {
            out.push(sign);
        }
        if out.len() > TEXT {
            out.truncate(fits);
            out.push_str(CUT);
            break;
        }
        if out.len() <= TEXT - CUT.len() {
            fits = out.len();
        }
    }
    out.into_boxed_str()
}

/// Control characters, and those of Unicode that move what is beside them (bidirectional and line
/// controls).
pub fn drives(sign: char) -> bool {
    sign.is_control()
        || matches!(sign, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_steps_are_kept_and_the_rest_is_counted() {
        let (ladder, at) = (Ladder::default(), Instant::now());
        let all = FIRST + LAST + 7;
        (0..all).for_each(|number| ladder.note(at, &number.to_string()));
        let steps = ladder.steps();
        assert_eq!(steps.len(), FIRST + 1 + LAST);
        let note = |number: usize| What::Note(number.to_string().into());
        assert_eq!(steps[FIRST - 1].what, note(FIRST - 1));
        assert_eq!(steps[FIRST].what, What::More(7));
        assert_eq!(steps[FIRST + 1].what, note(FIRST + 7));
        assert_eq!(steps.last().unwrap().what, note(all - 1));
        // The worst that one leg can cost: limits.md says so.
        let full = Ladder::default();
        (0..1_000).for_each(|_| full.note(at, &"x".repeat(10_000)));
        assert!(full.octets() <= 40 << 10, "{}", full.octets());
    }

    #[test]
    fn threat_21_no_text_of_a_peer_drives_a_terminal_or_makes_a_line() {
        assert_eq!(&*printable("Bob\r\n\u{1b}[2J\u{202e}"), "Bob\\u{d}\\u{a}\\u{1b}[2J\\u{202e}");
        assert_eq!(&*printable("Zoë 👋"), "Zoë 👋");
        let long = printable(&"ä".repeat(1_000));
        assert!(long.len() <= TEXT && long.ends_with("ä..."), "{long}");
        let whole = "x".repeat(TEXT);
        assert_eq!(&*printable(&whole), whole);
        assert!(printable(&"\u{1b}".repeat(1_000)).len() <= TEXT);
    }
}
