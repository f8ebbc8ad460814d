//! SIP messages and SDP decisions in the words of a ladder. What is secret never gets there: of a
//! message its start line is taken and its CSeq, of a description what was made of it.

use std::borrow::Cow;
use std::fmt::Write as _;

use crosspoint_codecs::format::{Capabilities, Direction};
use crosspoint_proto::sdp::{AgreedLine, Offer, Refusals};
use crosspoint_proto::sip::Sighted;

use crate::config::transport_word;
use crate::ladder::{Message, printable};

/// A message as one line.
pub(super) fn line_of(sighted: &Sighted) -> Message {
    let (head, body) = split(&sighted.data);
    let mut lines = Lines(Some(head));
    let line = text(lines.next().unwrap_or_default());
    let (mut sequence, mut kind) = (Cow::default(), String::new());
    // Each message of each call is read here, so that nothing is made of lines that say nothing to us.
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"cseq") {
            sequence = text(value);
        } else if name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c") {
            kind = text(value).trim().to_ascii_lowercase();
        }
    }
    const SDP: &str = "application/sdp";
    let within = || kind.starts_with("multipart/") && text(body).to_ascii_lowercase().contains(SDP);
    Message {
        sent: sighted.sent,
        transport: transport_word(sighted.flow.transport()),
        peer: sighted.flow.remote(),
        line: printable(&start_line(&line)),
        sequence: printable(sequence.trim()),
        describes: !body.is_empty() && (kind.starts_with(SDP) || within()),
    }
}

/// Method and target, or status and phrase; a password in the target is no business of who reads it,
/// nor are the headers that a URI may carry.
fn start_line(line: &str) -> String {
    if let Some(status) = line.strip_prefix("SIP/2.0 ") {
        return status.to_owned();
    }
    let line = line.strip_suffix(" SIP/2.0").unwrap_or(line);
    let (line, _) = line.split_once('?').unwrap_or((line, ""));
    let secret = line.split_once(':').and_then(|(scheme, rest)| {
        let (user, host) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}:{user}:[redacted]@{host}"))
    });
    secret.unwrap_or_else(|| line.to_owned())
}

/// What stands between line feeds.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let end = memchr::memchr(b'\n', rest);
        self.0 = end.and_then(|at| rest.get(at + 1..));
        end.and_then(|at| rest.get(..at)).or(Some(rest))
    }
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memmem::find(data, b"\r\n\r\n") {
        Some(at) => (data.get(..at).unwrap_or_default(), data.get(at + 4..).unwrap_or_default()),
        None => (data, &[]),
    }
}

fn text(mut octets: &[u8]) -> Cow<'_, str> {
    while let [rest @ .., b'\r'] = octets {
        octets = rest;
    }
    String::from_utf8_lossy(octets)
}

/// What the party offers.
pub(super) fn offered(offer: &Offer) -> String {
    let refused = offer.lines.iter().filter_map(|line| Some((line.index, line.refusal?))).collect();
    format!("it offers {}{}", capabilities(&offer.capabilities), refusals(&Refusals(refused)))
}

/// What we offer.
pub(super) fn offering(wanted: &Capabilities) -> String {
    format!("we offer {}", capabilities(wanted))
}

/// What both have agreed on.
pub(super) fn agreed(lines: &[AgreedLine], refused: &Refusals) -> String {
    let mut out = String::from("agreed ");
    for (number, line) in lines.iter().enumerate() {
        let stream = line.stream();
        let (receive, send) = (stream.receive.codec(), stream.send.codec());
        let comma = if number == 0 { "" } else { "; " };
        let _ = write!(out, "{comma}{} ", line.role);
        let _ = if receive == send { write!(out, "{send}") } else { write!(out, "{receive} in, {send} out") };
        let _ = write!(out, " {}", way(line.direction));
        let _ = match (&line.srtp, &line.dtls) {
            (Some(keys), _) => write!(out, ", SRTP by SDES {}", keys.local.suite()),
            (None, Some(_)) => write!(out, ", SRTP by DTLS"),
            (None, None) => write!(out, ", not encrypted"),
        };
        if line.dtmf.is_some() {
            out.push_str(", keys as events");
        }
    }
    out + &refusals(refused)
}

fn refusals(refused: &Refusals) -> String {
    if refused.0.is_empty() { String::new() } else { format!("; refused {refused}") }
}

fn capabilities(capabilities: &Capabilities) -> String {
    if capabilities.media.is_empty() {
        return "no stream".to_owned();
    }
    let lines = capabilities.media.iter().map(|line| {
        let codecs: Vec<String> = line.formats.iter().map(|format| format.codec().to_string()).collect();
        let mut codecs = codecs;
        codecs.dedup();
        format!("{} {} {}", line.role, codecs.join(" "), way(line.direction))
    });
    lines.collect::<Vec<_>>().join("; ")
}

const fn way(direction: Direction) -> &'static str {
    match (direction.sends(), direction.receives()) {
        (true, true) => "sendrecv",
        (true, false) => "sendonly",
        (false, true) => "recvonly",
        (false, false) => "inactive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_target_is_shown_and_no_octet_breaks_a_line() {
        for (line, shown) in [
            ("INVITE sip:bob@example.com SIP/2.0", "INVITE sip:bob@example.com"),
            ("INVITE sip:bob:hunter2@example.com;a=b SIP/2.0", "INVITE sip:bob:[redacted]@example.com;a=b"),
            ("INVITE sip:bob@[2001:db8::1]:5070 SIP/2.0", "INVITE sip:bob@[2001:db8::1]:5070"),
            ("INVITE sip:bob@h?Authorization=Digest%20x SIP/2.0", "INVITE sip:bob@h"),
            ("SIP/2.0 486 Busy: call me@home", "486 Busy: call me@home"),
        ] {
            assert_eq!(start_line(line), shown);
        }
        assert_eq!(text(b"486 \xff\x1b[2J\r"), "486 \u{fffd}\u{1b}[2J", "printable() is next");
    }
}
