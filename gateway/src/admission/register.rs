//! REGISTER (RFC 3261 section 10.3) between the machine and the registrar.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use crosspoint_proto::sip::auth::Verdict;
use crosspoint_proto::sip::{Contacts as Header, Name, Request, Source, Uri};

use super::SipDoor;
use crate::registrar::{Binding, Contact, Contacts, Refusal, Register};

/// Retry-After of a refusal because too much is going on, in seconds: one of these, so that a crowd does not come
/// back as one.
const RETRY_AFTER: RangeInclusive<u64> = 5..=30;

/// A final response.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
}

impl Answer {
    const fn of(status: u16) -> Self {
        Self { status, headers: Vec::new() }
    }
}

impl SipDoor {
    /// Proves, stores, answers. What is acknowledged has been written.
    pub(super) async fn register(&self, request: &Request, source: &Source) -> Answer {
        let now = self.clock.both();
        let claimed = request.headers.to().map(|to| to.uri.alias()).unwrap_or_default();
        let (verdict, device) = self.prove(now, &claimed, request, source);
        let challenge =
            |stale| Answer { status: 401, headers: self.challenges(now, source.remote.ip(), stale) };
        let device = match (verdict, device) {
            (Verdict::Accepted { .. }, Some(device)) => device,
            (Verdict::Stale, _) => return challenge(true),
            (Verdict::Refused, _) => {
                if let Some(others) = self.porter.logs(Some(source.remote.ip())) {
                    let source = source.remote;
                    tracing::warn!(%source, others, "a registration was refused: unknown user or wrong password");
                }
                return challenge(false);
            }
            _ => return challenge(false),
        };
        let Some(contacts) = contacts(request) else { return Answer::of(400) };
        let registered = self
            .registrar
            .register(Register {
                alias: device.alias.clone(),
                contacts,
                expires: request.headers.expires(),
                call_id: request.headers.call_id().unwrap_or_default().to_owned(),
                cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
                flow: Some(source.flow),
                translated: source.translated,
                user_agent: request.headers.get(&Name::UserAgent).unwrap_or_default().to_owned(),
            })
            .await;
        match registered {
            Ok(bindings) => {
                let mut headers: Vec<_> =
                    bindings.iter().map(|it| ("Contact".to_owned(), contact(it, now.mono))).collect();
                headers.push(("Date".to_owned(), httpdate(now.wall)));
                if is_outbound(request) {
                    headers.push(("Require".to_owned(), "outbound".to_owned()));
                }
                Answer { status: 200, headers }
            }
            Err(refusal) => refused(&refusal, request.headers.call_id().unwrap_or_default()),
        }
    }
}

fn contacts(request: &Request) -> Option<Contacts> {
    match request.headers.contacts().ok()? {
        Header::All => Some(Contacts::All),
        Header::List(list) => list
            .into_iter()
            .map(|it| {
                // Only what a call can reach later is stored.
                matches!(it.uri, Uri::Sip(_)).then(|| Contact {
                    expires: it.expires(),
                    q: Some(it.q()),
                    instance: it.params.text("+sip.instance"),
                    reg_id: it.params.get("reg-id").and_then(|id| id.parse().ok()),
                    uri: it.uri,
                })
            })
            .collect::<Option<Vec<_>>>()
            .map(Contacts::List),
    }
}

/// Whether the device's flow is kept and used as RFC 5626 has it, which section 6 wants said.
fn is_outbound(request: &Request) -> bool {
    let supported = request.headers.tokens(&Name::Supported);
    let contact = match contacts(request) {
        Some(Contacts::List(list)) => {
            list.iter().any(|contact| contact.instance.is_some() && contact.reg_id.is_some())
        }
        _ => false,
    };
    contact && supported.iter().any(|option| option.as_str().eq_ignore_ascii_case("outbound"))
}

fn contact(binding: &Binding, now: crosspoint_proto::Instant) -> String {
    let q = if binding.q == crate::registrar::DEFAULT_Q {
        String::new()
    } else {
        format!(";q={}.{:03}", binding.q / 1000, binding.q % 1000)
    };
    let flow = match (&binding.instance, binding.reg_id) {
        // It stands between quotes.
        (Some(instance), Some(reg_id)) if !instance.contains(['"', '\\']) => {
            format!(";+sip.instance=\"{instance}\";reg-id={reg_id}")
        }
        _ => String::new(),
    };
    format!("<{}>{q}{flow};expires={}", binding.uri, binding.remaining(now).as_secs())
}

fn refused(refusal: &Refusal, call_id: &str) -> Answer {
    match refusal {
        Refusal::UnknownAlias => Answer::of(404),
        Refusal::TooBrief { least } => {
            Answer { status: 423, headers: vec![("Min-Expires".to_owned(), least.as_secs().to_string())] }
        }
        Refusal::BadWildcard => Answer::of(400),
        Refusal::TooManyContacts => Answer::of(403),
        Refusal::Full => Answer {
            status: 503,
            headers: vec![("Retry-After".to_owned(), retry_after(call_id).to_string())],
        },
        _ => Answer::of(500),
    }
}

/// The chance is the telephone's own: its Call-ID is like no other's (RFC 3261 section 8.1.1.4). FNV-1a.
fn retry_after(call_id: &str) -> u64 {
    let mix = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3);
    let hash = call_id.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    let (first, last) = RETRY_AFTER.into_inner();
    first + (hash >> 32) % (last - first + 1)
}

/// RFC 1123 date: some phones set their clock by it (RFC 3261 section 20.17).
fn httpdate(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        weekday.get(..3).unwrap_or_default(),
        at.day(),
        month.get(..3).unwrap_or_default(),
        at.year(),
        at.hour(),
        at.minute(),
        at.second(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_flow_is_said_to_be_one_only_to_who_asks_for_it() {
        let request = |supported: &str, contact: &str| {
            let text = format!(
                "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK1\r\n\
                 From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: 1\r\n\
                 CSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n{supported}Contact: {contact}\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            match crosspoint_proto::sip::Message::parse(text.as_bytes()).unwrap() {
                crosspoint_proto::sip::Message::Request(request) => request,
                other => panic!("{other:?}"),
            }
        };
        let device = "<sip:alice@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\"";
        let flow = format!("{device};reg-id=1");
        let supported = "Supported: path, outbound\r\n";
        assert!(is_outbound(&request(supported, &flow)), "RFC 5626 section 6");
        assert!(!is_outbound(&request("", &flow)));
        assert!(!is_outbound(&request(supported, device)));
        assert!(!is_outbound(&request(supported, "<sip:alice@192.0.2.9>;reg-id=1")));
    }

    #[test]
    fn promise_25_a_crowd_that_is_refused_does_not_come_back_as_one() {
        let mut at = [0_usize; 31];
        for n in 0..10_000 {
            let answer = refused(&Refusal::Full, &format!("{n}@192.0.2.9"));
            let [(name, after)] = answer.headers.as_slice() else { panic!("{:?}", answer.headers) };
            assert_eq!((answer.status, name.as_str()), (503, "Retry-After"));
            at[after.parse::<usize>().unwrap()] += 1;
        }
        assert_eq!(at[..5], [0; 5]);
        let each = 10_000 / 26;
        assert!(at[5..].iter().all(|count| (each * 7 / 10..each * 13 / 10).contains(count)), "{at:?}");
    }

    #[test]
    fn dates_of_every_kind_of_year() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_289_668_229, "Sat, 13 Nov 2010 17:10:29 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(httpdate(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
