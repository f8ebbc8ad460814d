//! Who hears and sees what: a pure function of the members. The conference diffs two plans and
//! applies the difference; nothing else decides about media.

use std::fmt;

use crosspoint_codecs::format::{MediaFormat, MediaKind, RelayForm, can_relay};

use crate::leg::LegId;
use crate::media::Playback;
use crate::media::port::{StreamId, Unfit};

/// One member as the plan sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its leg.
    pub leg: LegId,
    /// The call with this leg stands. Before that only early media flows.
    pub answered: bool,
    /// Nothing comes from the far side yet and the leg's own device waits for a tone.
    pub wants_ringback: bool,
    /// Its streams, in the order of its m-lines.
    pub streams: Vec<MemberStream>,
}

/// One stream of a member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberStream {
    /// Its port's number.
    pub id: StreamId,
    /// Its role.
    pub role: MediaKind,
    /// The thread that its port lives on.
    pub thread: usize,
    /// How the peer wants what we send; `None` when we must not send.
    pub send: Option<MediaFormat>,
    /// What the peer sends; `None` when it must not.
    pub receive: Option<MediaFormat>,
    /// A relay towards this stream's peer was tried and did not fit.
    pub unfit: Option<Unfit>,
}

/// Where a sink's media comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    /// Nowhere.
    Silence,
    /// From that stream, without decoding.
    Relay {
        /// The source.
        from: StreamId,
        /// Packets or access units.
        form: RelayForm,
    },
    /// From that stream, decoded and encoded anew.
    Transcode {
        /// The source.
        from: StreamId,
    },
    /// From the engine itself.
    Play(Playback),
}

impl Route {
    /// One word for status, records and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Relay { form: RelayForm::Packet, .. } => "relay",
            Self::Relay { form: RelayForm::AccessUnit, .. } => "relay-units",
            Self::Transcode { .. } => "transcode",
            Self::Play(_) => "play",
        }
    }

    /// The stream that feeds it, if one does.
    pub const fn source(self) -> Option<StreamId> {
        match self {
            Self::Relay { from, .. } | Self::Transcode { from } => Some(from),
            Self::Silence | Self::Play(_) => None,
        }
    }
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The leg of the sink.
    pub leg: LegId,
    /// The sink.
    pub sink: StreamId,
    /// Its role.
    pub role: MediaKind,
    /// Where its media comes from.
    pub route: Route,
    /// Why, for a person to read.
    pub why: String,
}

/// The routes of a point-to-point call: one line for each stream of each member, in their order.
///
/// With one member (the other still rings) it hears a ringback tone, when it wants one. With two,
/// each hears the other by the cheapest road that fits.
pub fn plan(members: &[Member]) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let other = members.iter().enumerate().find(|(at, _)| *at != index).map(|(_, other)| other);
        for (line, stream) in member.streams.iter().enumerate() {
            // The n-th stream of a role belongs to the n-th of that role on the other side.
            let rank = member.streams[..line].iter().filter(|before| before.role == stream.role).count();
            let source = other
                .and_then(|other| other.streams.iter().filter(|from| from.role == stream.role).nth(rank));
            let (route, why) = route(member, stream, source);
            planned.push(Planned { leg: member.leg, sink: stream.id, role: stream.role, route, why });
        }
    }
    planned
}

fn route(member: &Member, sink: &MemberStream, source: Option<&MemberStream>) -> (Route, String) {
    let Some(send) = &sink.send else {
        return (Route::Silence, "the peer does not want to receive".into());
    };
    let Some((source, receive)) = source.and_then(|source| Some((source, source.receive.as_ref()?))) else {
        if member.wants_ringback && sink.role == MediaKind::Audio {
            return (Route::Play(Playback::Ringback), "the called party rings and sends no tone".into());
        }
        return (Route::Silence, "the other side sends nothing".into());
    };
    if let Some(unfit) = sink.unfit {
        let why = match unfit {
            Unfit::NalTooLarge => "a NAL unit came that does not fit one packet",
            Unfit::Picture => "the source's pictures are beyond what the sink decodes",
            Unfit::Rate => "the source sends more than the sink takes",
        };
        return (Route::Transcode { from: source.id }, why.into());
    }
    match can_relay(receive, send) {
        Err(refusal) => (Route::Transcode { from: source.id }, refusal.to_string()),
        Ok(_) if source.thread != sink.thread => {
            (Route::Transcode { from: source.id }, "the two ends live on different media threads".into())
        }
        Ok(relay) => (Route::Relay { from: source.id, form: relay.form }, relay.to_string()),
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosspoint_codecs::format::{AudioFormat, Codec};

    fn audio(codec: Codec) -> Option<MediaFormat> {
        Some(MediaFormat::Audio(AudioFormat::new(codec)))
    }

    fn member(leg: u64, codec: Codec) -> Member {
        Member {
            leg: LegId(leg),
            answered: true,
            wants_ringback: false,
            streams: vec![MemberStream {
                id: StreamId(leg * 10),
                role: MediaKind::Audio,
                thread: 0,
                send: audio(codec),
                receive: audio(codec),
                unfit: None,
            }],
        }
    }

    fn routes(members: &[Member]) -> Vec<Route> {
        plan(members).into_iter().map(|line| line.route).collect()
    }

    #[test]
    fn equal_codecs_relay_and_different_ones_transcode_per_direction() {
        let both = [member(1, Codec::Pcma), member(2, Codec::Pcma)];
        assert_eq!(
            routes(&both),
            [
                Route::Relay { from: StreamId(20), form: RelayForm::Packet },
                Route::Relay { from: StreamId(10), form: RelayForm::Packet },
            ]
        );
        let mut mixed = [member(1, Codec::Opus), member(2, Codec::Pcmu)];
        mixed[1].streams[0].receive = audio(Codec::Opus);
        let planned = plan(&mixed);
        assert_eq!(planned[0].route.word(), "relay");
        assert_eq!(planned[1].route, Route::Transcode { from: StreamId(10) });
        assert!(planned[1].why.contains("opus") && planned[1].why.contains("PCMU"), "{}", planned[1].why);
    }

    #[test]
    fn a_held_side_hears_nothing_and_sends_nothing() {
        let mut members = [member(1, Codec::Pcma), member(2, Codec::Pcma)];
        // Leg 1 put the call on hold with sendonly: we receive from it only.
        members[0].streams[0].send = None;
        assert_eq!(routes(&members)[0], Route::Silence);
        assert_eq!(routes(&members)[1].source(), Some(StreamId(10)));
        members[0].streams[0].receive = None;
        assert_eq!(routes(&members), [Route::Silence, Route::Silence]);
    }

    #[test]
    fn the_first_leg_hears_a_ringback_until_the_second_sends() {
        let mut caller = member(1, Codec::Opus);
        caller.wants_ringback = true;
        assert_eq!(routes(&[caller.clone()]), [Route::Play(Playback::Ringback)]);
        let mut callee = member(2, Codec::Opus);
        assert_eq!(routes(&[caller.clone(), callee.clone()])[0].word(), "relay");
        callee.streams.clear();
        assert_eq!(routes(&[caller, callee]), [Route::Play(Playback::Ringback)]);
    }

    #[test]
    fn a_relay_that_did_not_fit_becomes_a_transcode_in_that_direction_only() {
        let mut members = [member(1, Codec::Pcma), member(2, Codec::Pcma)];
        members[1].streams[0].unfit = Some(Unfit::Rate);
        let words: Vec<_> = routes(&members).into_iter().map(Route::word).collect();
        assert_eq!(words, ["relay", "transcode"]);
    }

    #[test]
    fn nobody_ever_hears_himself_and_second_streams_of_a_role_pair_up() {
        let mut members = [member(1, Codec::Pcma), member(2, Codec::Pcma)];
        for member in &mut members {
            let mut second = member.streams[0].clone();
            second.id = StreamId(second.id.0 + 1);
            member.streams.push(second);
        }
        let sources: Vec<_> = routes(&members).into_iter().map(Route::source).collect();
        assert_eq!(sources, [Some(StreamId(20)), Some(StreamId(21)), Some(StreamId(10)), Some(StreamId(11))]);
    }

    #[test]
    fn ends_on_different_threads_do_not_relay() {
        let mut members = [member(1, Codec::Pcma), member(2, Codec::Pcma)];
        members[1].streams[0].thread = 1;
        assert!(routes(&members).into_iter().all(|route| route.word() == "transcode"));
    }
}
