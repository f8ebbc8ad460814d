//! From bytes to [`Sdp`]: limits first, then the structure (crate `sdp-types`), then the lines
//! that we know. A known line that is malformed is skipped, as if its writer had not written it.

use std::net::IpAddr;
use std::time::Duration;

use crosspoint_codecs::format::Direction;

use super::crypto::Crypto;
use super::description::{
    Attribute, Bandwidth, FeedbackKind, FeedbackLine, MediaLine, Origin, Payload, RtcpAddress, Sdp,
};
use super::error::{Limit, ParseError};

/// Octets of a description. Signalling bodies are bounded likewise; browsers' are below 20 KiB.
pub const MAX_SDP: usize = 64 * 1024;
/// Octets of a line: sprop-parameter-sets and certificates' fingerprints stay well below.
pub const MAX_LINE: usize = 4096;
/// m-lines. A session that has grown for long keeps its dead ones.
pub const MAX_MEDIA: usize = 32;
/// Attributes of the session or of one m-line. Candidates make up most of them.
pub const MAX_ATTRIBUTES: usize = 256;
/// Formats of one m-line: as many payload types as there are.
pub const MAX_FORMATS: usize = 128;
/// Octets of one `a=fmtp`.
pub const MAX_FMTP: usize = 1024;
/// Lines of one section (the session or one m-line) that are not attributes.
pub const MAX_PLAIN_LINES: usize = 64;
/// Longest packet of sound that we believe in, in ms.
const MAX_PTIME: u64 = 1000;

impl Sdp {
    /// Reads a description. Nothing is stored before the limits hold.
    ///
    /// Text that is not UTF-8 (names in Latin-1) is kept with replacement characters.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        check_limits(bytes)?;
        let text = String::from_utf8_lossy(bytes);
        let session = sdp_types::Session::parse(text.as_bytes())?;
        let mut sdp = Self {
            origin: Origin {
                username: session.origin.username.unwrap_or_else(|| "-".to_owned()),
                session_id: session.origin.sess_id,
                version: session.origin.sess_version,
                address: session.origin.unicast_address,
            },
            name: session.session_name,
            connection: session.connection.as_ref().and_then(address),
            bandwidth: bandwidth(&session.bandwidths),
            direction: None,
            attributes: Vec::new(),
            media: Vec::with_capacity(session.medias.len()),
        };
        for attribute in session.attributes {
            match direction(&attribute.attribute) {
                Some(direction) => sdp.direction = Some(direction),
                None => sdp.attributes.push(plain(attribute)),
            }
        }
        sdp.media.extend(session.medias.into_iter().map(media_line));
        Ok(sdp)
    }
}

/// Counts without storing.
fn check_limits(bytes: &[u8]) -> Result<(), ParseError> {
    if bytes.len() > MAX_SDP {
        return Err(ParseError::Limit(Limit::Size));
    }
    let (mut media, mut attributes, mut plain_lines) = (0_usize, 0_usize, 0_usize);
    for line in bytes.split(|octet| *octet == b'\n') {
        if line.len() > MAX_LINE {
            return Err(ParseError::Limit(Limit::Line));
        }
        match line.first() {
            Some(b'm') => {
                media = media.saturating_add(1);
                (attributes, plain_lines) = (0, 0);
                let words = line.split(|octet| *octet == b' ').count();
                // Media type, port and transport stand before the formats.
                if words > MAX_FORMATS.saturating_add(3) {
                    return Err(ParseError::Limit(Limit::Formats));
                }
            }
            Some(b'a') => attributes = attributes.saturating_add(1),
            Some(_) => plain_lines = plain_lines.saturating_add(1),
            None => {}
        }
        let fmtp = line.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"a=fmtp:"));
        if fmtp && line.len() > MAX_FMTP {
            return Err(ParseError::Limit(Limit::FormatParameters));
        }
        if media > MAX_MEDIA {
            return Err(ParseError::Limit(Limit::Media));
        }
        if attributes > MAX_ATTRIBUTES {
            return Err(ParseError::Limit(Limit::Attributes));
        }
        // An empty line is `\r` alone; a body may end in several.
        if plain_lines > MAX_PLAIN_LINES {
            return Err(ParseError::Limit(Limit::Lines));
        }
    }
    Ok(())
}

fn media_line(media: sdp_types::Media) -> MediaLine {
    let formats: Vec<String> = media.fmt.split_ascii_whitespace().map(str::to_owned).collect();
    let mut line = MediaLine::disabled(&media.media, &media.proto, formats);
    line.port = media.port;
    line.connection = media.connections.first().and_then(address);
    line.bandwidth = bandwidth(&media.bandwidths);
    let (mut maps, mut parameters): (Vec<Payload>, Vec<(u8, String)>) = (Vec::new(), Vec::new());
    for attribute in media.attributes {
        let value = attribute.value.as_deref().unwrap_or("").trim();
        match attribute.attribute.to_ascii_lowercase().as_str() {
            "rtpmap" => maps.extend(rtpmap(value)),
            "fmtp" => parameters.extend(fmtp(value)),
            "ptime" => line.ptime = line.ptime.or_else(|| packet_time(value)),
            "maxptime" => line.maxptime = line.maxptime.or_else(|| packet_time(value)),
            "rtcp" => line.rtcp = line.rtcp.or_else(|| rtcp(value)),
            "rtcp-mux" => line.rtcp_mux = true,
            "rtcp-fb" => line.feedback.extend(feedback(value)),
            "crypto" => line.crypto.extend(Crypto::parse(value)),
            "content" => line.content = Some(value.to_owned()),
            "label" => line.label = Some(value.to_owned()),
            name => match direction(name) {
                Some(direction) => line.direction = Some(direction),
                None => line.attributes.push(plain(attribute)),
            },
        }
    }
    if line.profile().is_some() {
        line.payloads = payloads(&line.formats, &maps, &parameters);
    }
    line
}

/// Joins the numbers of the m-line with their meaning; the first of two meanings counts.
fn payloads(formats: &[String], maps: &[Payload], parameters: &[(u8, String)]) -> Vec<Payload> {
    let mut payloads: Vec<Payload> = Vec::with_capacity(formats.len());
    for format in formats {
        let Some(number) = payload_number(format) else { continue };
        if payloads.iter().any(|payload| payload.number == number) {
            continue;
        }
        let mapped = maps.iter().find(|map| map.number == number).cloned();
        let Some(mut payload) = mapped.or_else(|| static_payload(number)) else { continue };
        payload.parameters =
            parameters.iter().find(|(fmtp, _)| *fmtp == number).map(|(_, text)| text.clone());
        payloads.push(payload);
    }
    payloads
}

/// Payload types that need no `a=rtpmap` (RFC 3551 section 6), as far as we know their codecs.
fn static_payload(number: u8) -> Option<Payload> {
    let encoding = match number {
        0 => "PCMU",
        8 => "PCMA",
        9 => "G722",
        _ => return None,
    };
    Some(Payload { number, encoding: encoding.to_owned(), clock: 8000, channels: None, parameters: None })
}

fn payload_number(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number| *number <= 127)
}

/// `<payload type> <encoding>/<clock>[/<channels>]`
fn rtpmap(value: &str) -> Option<Payload> {
    let (number, map) = value.split_once(char::is_whitespace)?;
    let mut fields = map.trim().split('/');
    let encoding = fields.next().filter(|name| !name.is_empty() && !name.contains(char::is_whitespace))?;
    let clock = fields.next()?.parse().ok().filter(|clock| *clock > 0)?;
    let channels = match fields.next() {
        Some(channels) => Some(channels.parse().ok()?),
        None => None,
    };
    Some(Payload {
        number: payload_number(number)?,
        encoding: encoding.to_owned(),
        clock,
        channels,
        parameters: None,
    })
}

/// `<format> <parameters>`
fn fmtp(value: &str) -> Option<(u8, String)> {
    let (number, parameters) = value.split_once(char::is_whitespace)?;
    Some((payload_number(number)?, parameters.trim().to_owned()))
}

/// Milliseconds, whole or decimal; microseconds are as fine as we keep them.
fn packet_time(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    let whole = whole.parse().ok().filter(|millis| digits(whole) && *millis <= MAX_PTIME)?;
    let micros = format!("{:0<3.3}", if digits(fraction) { fraction } else { return None }).parse().ok()?;
    let time = Duration::from_millis(whole).saturating_add(Duration::from_micros(micros));
    Some(time).filter(|time| !time.is_zero())
}

/// `<port> [<nettype> <addrtype> <address>]`. A number that is no port says that there is none, as
/// 0 does: whoever wrote it does not mean the port above.
fn rtcp(value: &str) -> Option<RtcpAddress> {
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?;
    let digits = port.bytes().all(|digit| digit.is_ascii_digit());
    let port = port.parse().ok().or_else(|| digits.then_some(0))?;
    let address = match words.nth(2) {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    Some(RtcpAddress { port, address })
}

/// `<payload type or *> <kind>`
fn feedback(value: &str) -> Option<FeedbackLine> {
    let (number, kind) = value.split_once(char::is_whitespace)?;
    let payload = match number {
        "*" => None,
        number => Some(payload_number(number)?),
    };
    Some(FeedbackLine { payload, kind: FeedbackKind::from_text(kind) })
}

fn direction(name: &str) -> Option<Direction> {
    [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        .into_iter()
        .find(|direction| super::write::direction_name(*direction).eq_ignore_ascii_case(name))
}

/// An IP address; host names count as none, for nobody resolves them here.
fn address(connection: &sdp_types::Connection) -> Option<IpAddr> {
    // IPv4 multicast has a `/ttl` behind it.
    connection.connection_address.split('/').next()?.parse().ok()
}

fn bandwidth(lines: &[sdp_types::Bandwidth]) -> Bandwidth {
    let of = |kind: &str| {
        lines.iter().find(|line| line.bwtype.eq_ignore_ascii_case(kind)).map(|line| line.bandwidth)
    };
    Bandwidth { application: of("AS"), independent: of("TIAS") }
}

fn plain(attribute: sdp_types::Attribute) -> Attribute {
    Attribute { name: attribute.attribute, value: attribute.value }
}
