//! What one side of a call is offered because of what the other side can do: pure functions.
//!
//! The rule is one: what would allow a relay stands first, what we can transcode stands behind it.
//! A leg is never left without a codec that we can decode.

use crosspoint_codecs::format::{
    AudioFormat, Capabilities, Codec, DEFAULT_PTIME, Direction, H264Profile, MediaCapability, MediaFormat,
    MediaKind, PacketizationMode, VideoFormat,
};

use crate::leg::LegStream;

/// Level that we offer for our own decoder when nobody asks for another: 3.1 holds 1280x720 at 30
/// pictures a second, which every endpoint of the last fifteen years takes.
const OWN_LEVEL: u8 = 31;

/// Audio codecs that we transcode, best first.
const OWN_AUDIO: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];

/// What we can receive and decode in `role`, most wanted first.
pub fn own_formats(role: MediaKind) -> Vec<MediaFormat> {
    if !role.is_video() {
        return OWN_AUDIO
            .into_iter()
            .map(|codec| {
                // Forward error correction costs the sender little and saves us what is lost.
                MediaFormat::Audio(AudioFormat { fec: codec == Codec::Opus, ..AudioFormat::new(codec) })
            })
            .collect();
    }
    [PacketizationMode::NonInterleaved, PacketizationMode::SingleNal]
        .into_iter()
        .map(|mode| {
            MediaFormat::Video(VideoFormat {
                codec: Codec::H264,
                profile: H264Profile::ConstrainedBaseline,
                level: OWN_LEVEL,
                mode,
                max_bitrate: None,
                max_fs: None,
                max_mbps: None,
            })
        })
        .collect()
}

/// What we offer a called party for a caller that can receive `caller`. `None`: the caller made no
/// offer, so everything that we can do is offered.
pub fn offer_for(caller: Option<&Capabilities>) -> Capabilities {
    let Some(caller) = caller else {
        let media = [MediaKind::Audio, MediaKind::Main].map(|role| MediaCapability {
            role,
            direction: Direction::SendRecv,
            formats: own_formats(role),
        });
        return Capabilities { media: media.into(), max_bitrate: None };
    };
    let media = caller
        .media
        .iter()
        .map(|line| MediaCapability {
            role: line.role,
            // We act for the caller: what it would like to do is what we would like to do.
            direction: line.direction,
            formats: with_own(line.formats.clone(), line.role),
        })
        .collect();
    Capabilities { media, max_bitrate: caller.max_bitrate }
}

/// What we answer a leg that offered `offered` and that nothing is relayed to: everything that we can do.
/// Pictures come in the packetization mode that it named first (RFC 3264 section 6.1): who prefers single NAL units
/// makes slices that fit packets, so that one which is lost takes no other with it.
pub fn answer_alone(offered: Option<&Capabilities>) -> Capabilities {
    let mut answer = offer_for(None);
    for line in &mut answer.media {
        let theirs = offered.and_then(|offered| offered.media.iter().find(|other| other.role == line.role));
        let place = |format: &MediaFormat| {
            let mode = mode(format)?;
            theirs?.formats.iter().position(|other| self::mode(other) == Some(mode))
        };
        // Sound stays in our order; and what it did not name stands behind.
        line.formats.sort_by_key(|format| match format {
            MediaFormat::Audio(_) => 0,
            MediaFormat::Video(_) => place(format).unwrap_or(usize::MAX),
        });
    }
    answer
}

const fn mode(format: &MediaFormat) -> Option<PacketizationMode> {
    match format {
        MediaFormat::Audio(_) => None,
        MediaFormat::Video(video) => Some(video.mode),
    }
}

/// What we answer (or offer anew to) a leg when the other side's streams are `other`. Roles that
/// the other side refused are left out.
pub fn answer_for(other: &[LegStream]) -> Capabilities {
    let media = other
        .iter()
        .map(|stream| {
            let agreed = &stream.agreed;
            MediaCapability {
                role: agreed.role,
                // What the other side lets us send to it is what we want to receive here.
                direction: agreed.direction.reversed(),
                formats: with_own(vec![agreed.send.clone()], agreed.role),
            }
        })
        .collect();
    Capabilities { media, max_bitrate: None }
}

/// `capabilities` with the directions that `leader` wants: how hold crosses a call.
#[must_use]
pub fn with_directions(mut capabilities: Capabilities, leader: &Capabilities) -> Capabilities {
    for (index, line) in capabilities.media.iter_mut().enumerate() {
        let same_place = leader.media.get(index).filter(|other| other.role == line.role);
        let other = same_place.or_else(|| leader.media.iter().find(|other| other.role == line.role));
        line.direction = other.map_or(Direction::Inactive, |other| other.direction);
    }
    capabilities
}

fn with_own(mut formats: Vec<MediaFormat>, role: MediaKind) -> Vec<MediaFormat> {
    // Packet time is one line for all formats of an m-line: 30 ms that suit one phone's G.711 make
    // another's Opus fail, which has no such frame. A relay takes any packet time anyway.
    for format in &mut formats {
        if let MediaFormat::Audio(audio) = format {
            audio.ptime = DEFAULT_PTIME;
        }
    }
    for own in own_formats(role) {
        if !formats.iter().any(|format| same_payload(format, &own)) {
            formats.push(own);
        }
    }
    formats
}

/// Whether two formats would be one payload type of an offer.
fn same_payload(a: &MediaFormat, b: &MediaFormat) -> bool {
    match (a, b) {
        (MediaFormat::Audio(a), MediaFormat::Audio(b)) => a.codec == b.codec,
        (MediaFormat::Video(a), MediaFormat::Video(b)) => {
            a.codec == b.codec && a.mode == b.mode && a.profile == b.profile
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(role: MediaKind, direction: Direction, formats: Vec<MediaFormat>) -> Capabilities {
        Capabilities { media: vec![MediaCapability { role, direction, formats }], max_bitrate: Some(500_000) }
    }

    fn codecs(capabilities: &Capabilities) -> Vec<Codec> {
        capabilities.media[0].formats.iter().map(MediaFormat::codec).collect()
    }

    #[test]
    fn the_callers_codecs_come_first_and_ours_follow_once() {
        let pcma = MediaFormat::Audio(AudioFormat::new(Codec::Pcma));
        let offer = offer_for(Some(&line(MediaKind::Audio, Direction::SendOnly, vec![pcma])));
        assert_eq!(codecs(&offer), [Codec::Pcma, Codec::Opus, Codec::G722, Codec::Pcmu]);
        assert_eq!(offer.media[0].direction, Direction::SendOnly);
        assert_eq!(offer.max_bitrate, Some(500_000));
    }

    #[test]
    fn a_caller_without_an_offer_is_given_all_that_we_can_do() {
        let offer = offer_for(None);
        assert_eq!(offer.media.len(), 2);
        assert_eq!(codecs(&offer)[0], Codec::Opus);
        assert_eq!(offer.media[1].formats.len(), 2);
    }

    #[test]
    fn who_is_answered_alone_sends_pictures_as_it_likes_best_and_sound_as_we_do() {
        let modes = |offered: Option<&Capabilities>| {
            let answer = answer_alone(offered);
            assert_eq!(codecs(&answer), OWN_AUDIO);
            answer.media[1].formats.iter().filter_map(mode).collect::<Vec<_>>()
        };
        use PacketizationMode::{NonInterleaved, SingleNal};
        assert_eq!(modes(None), [NonInterleaved, SingleNal]);
        let mut formats = own_formats(MediaKind::Main);
        assert_eq!(
            modes(Some(&line(MediaKind::Main, Direction::SendRecv, formats.clone()))),
            [NonInterleaved, SingleNal]
        );
        formats.reverse();
        let mut offer = line(MediaKind::Main, Direction::SendRecv, formats);
        offer.media.push(MediaCapability {
            role: MediaKind::Audio,
            direction: Direction::SendRecv,
            formats: own_formats(MediaKind::Audio).into_iter().rev().collect(),
        });
        assert_eq!(modes(Some(&offer)), [SingleNal, NonInterleaved]);
    }

    #[test]
    fn a_video_caller_of_mode_0_is_offered_onwards_with_both_modes() {
        let mut mode0 = own_formats(MediaKind::Main).remove(1);
        if let MediaFormat::Video(video) = &mut mode0 {
            video.level = 13;
        }
        let offer = offer_for(Some(&line(MediaKind::Main, Direction::SendRecv, vec![mode0.clone()])));
        assert_eq!(offer.media[0].formats.len(), 2);
        assert_eq!(offer.media[0].formats[0], mode0);
    }

    #[test]
    fn one_phones_packet_time_is_not_asked_of_another() {
        let pcmu =
            AudioFormat { ptime: std::time::Duration::from_millis(30), ..AudioFormat::new(Codec::Pcmu) };
        let caller = line(MediaKind::Audio, Direction::SendRecv, vec![MediaFormat::Audio(pcmu)]);
        for format in &offer_for(Some(&caller)).media[0].formats {
            let MediaFormat::Audio(audio) = format else { panic!("{format} in a line of sound") };
            assert_eq!(audio.ptime, DEFAULT_PTIME, "{format}");
        }
    }

    #[test]
    fn directions_of_the_leader_cross_by_role() {
        let base = offer_for(None);
        let hold = line(MediaKind::Audio, Direction::SendOnly, own_formats(MediaKind::Audio));
        let crossed = with_directions(base, &hold);
        assert_eq!(crossed.media[0].direction, Direction::SendOnly);
        assert_eq!(crossed.media[1].direction, Direction::Inactive);
    }
}
