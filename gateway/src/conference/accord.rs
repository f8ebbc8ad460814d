//! Whether the one re-offer of a call is worth making: the one that turns a transcode into a relay.
//!
//! A leg that must be answered before the other side is known may end with another codec than it
//! although both could do the same. Who wrote down that he can is believed first; a called party
//! that was offered the caller's codec below the one that it chose may be asked too.

use crosspoint_codecs::format::{Codec, Direction, MediaFormat, Stream};

use crate::config::CodecChoice;

/// The sound of one side of a standing call.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// As agreed.
    pub(super) agreed: Stream,
    /// What its peer said that it takes beside that, in an offer or an answer of its own.
    pub(super) takes: Vec<MediaFormat>,
    /// What it was offered, most wanted first; empty when that says nothing of what it can do.
    pub(super) asked: Vec<MediaFormat>,
    /// What its device is held to; empty: nothing.
    pub(super) codecs: Vec<CodecChoice>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The caller.
    Caller,
    /// Who answered.
    Callee,
}

/// Who should be offered the other's codec, alone, and which that is. `None`: the call is relayed
/// already, is on hold, or nobody can change.
pub(super) fn accord(caller: &Side, callee: &Side) -> Option<(Asked, Codec)> {
    let (calls, answers) = (caller.codec()?, callee.codec()?);
    if calls == answers {
        return None;
    }
    if caller.says(answers) {
        Some((Asked::Caller, answers))
    } else if callee.says(calls) || callee.passed_over(calls) {
        Some((Asked::Callee, calls))
    } else {
        None
    }
}

impl Side {
    /// Its one codec; `None` while it is held, or differs by direction.
    fn codec(&self) -> Option<Codec> {
        let Stream { direction, send, receive, .. } = &self.agreed;
        let same = *direction == Direction::SendRecv && send.codec() == receive.codec();
        same.then(|| send.codec())
    }

    /// Its peer takes that codec, and may.
    fn says(&self, codec: Codec) -> bool {
        self.takes.iter().any(|format| format.codec() == codec && self.allows(format))
    }

    /// It was offered that codec below the one that it took: it did not have to say whether it can.
    fn passed_over(&self, codec: Codec) -> bool {
        let place = |codec| self.asked.iter().position(|it| it.codec() == codec && self.allows(it));
        let chosen = place(self.agreed.send.codec());
        chosen.is_some_and(|chosen| place(codec).is_some_and(|other| other > chosen))
    }

    fn allows(&self, format: &MediaFormat) -> bool {
        self.codecs.is_empty() || self.codecs.iter().any(|choice| choice.is(format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosspoint_codecs::format::{AudioFormat, MediaKind};

    fn format(codec: Codec) -> MediaFormat {
        MediaFormat::Audio(AudioFormat::new(codec))
    }

    fn side(codec: Codec, takes: &[Codec], asked: &[Codec]) -> Side {
        let (send, receive) = (format(codec), format(codec));
        Side {
            agreed: Stream { role: MediaKind::Audio, direction: Direction::SendRecv, send, receive },
            takes: takes.iter().copied().map(format).collect(),
            asked: asked.iter().copied().map(format).collect(),
            codecs: Vec::new(),
        }
    }

    #[test]
    fn a_relay_is_left_alone() {
        let both = side(Codec::Pcmu, &[Codec::Pcmu, Codec::Opus], &[Codec::Opus, Codec::Pcmu]);
        assert_eq!(accord(&both, &both), None);
    }

    #[test]
    fn a_caller_whose_early_answer_fixed_its_codec_takes_the_other_sides() {
        let caller = side(Codec::Opus, &[Codec::Opus, Codec::Pcmu], &[]);
        let callee = side(Codec::Pcmu, &[], &[Codec::Opus, Codec::Pcmu]);
        assert_eq!(accord(&caller, &callee), Some((Asked::Caller, Codec::Pcmu)));
        // One that did not offer it cannot.
        let caller = side(Codec::Opus, &[Codec::Opus, Codec::G722], &[]);
        assert_eq!(accord(&caller, &callee), None, "and the called party passed over opus, which came first");
    }

    #[test]
    fn a_called_party_takes_the_codec_of_a_caller_who_came_without_an_offer() {
        let caller = side(Codec::Pcma, &[], &[]);
        // It named both in its answer.
        let named = side(Codec::Opus, &[Codec::Pcma], &[]);
        assert_eq!(accord(&caller, &named), Some((Asked::Callee, Codec::Pcma)));
        // It chose the best of our offer, in which the caller's came later.
        let all = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];
        assert_eq!(accord(&caller, &side(Codec::Opus, &[], &all)), Some((Asked::Callee, Codec::Pcma)));
        // It passed over the caller's.
        let caller = side(Codec::Opus, &[], &[]);
        assert_eq!(accord(&caller, &side(Codec::Pcma, &[], &all)), None);
    }

    #[test]
    fn what_a_device_is_held_to_is_not_asked_of_it() {
        let caller = side(Codec::Opus, &[Codec::Opus, Codec::Pcmu], &[]);
        let held = Side { codecs: vec![CodecChoice::Opus], ..caller.clone() };
        let callee = side(Codec::Pcmu, &[], &[]);
        assert!(accord(&caller, &callee).is_some());
        assert_eq!(accord(&held, &callee), None);
        let named = side(Codec::Pcmu, &[Codec::Opus], &[]);
        let held = Side { codecs: vec![CodecChoice::Pcmu], ..named.clone() };
        let caller = side(Codec::Opus, &[], &[]);
        assert!(accord(&caller, &named).is_some());
        assert_eq!(accord(&caller, &held), None);
    }

    #[test]
    fn a_side_on_hold_is_not_asked() {
        let caller = side(Codec::Opus, &[Codec::Opus, Codec::Pcmu], &[]);
        let mut callee = side(Codec::Pcmu, &[], &[]);
        callee.agreed.direction = Direction::RecvOnly;
        assert_eq!(accord(&caller, &callee), None);
    }
}
