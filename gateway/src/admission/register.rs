//! REGISTER (RFC 3261 section 10.3) between the machine and the registrar.
//!
//! Of RFC 5626 it does what section 6 asks of a registrar. What section 5 asks of edges has no place here: no
//! request is passed on as it is, so that nobody is given a token of a flow, and a call that finds none ends with
//! 480 and never with 430 of ours. The flow stands in the binding instead, which section 6 allows.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use crosspoint_proto::Transport;
use crosspoint_proto::address::PeerPolicy;
use crosspoint_proto::sip::auth::Verdict;
use crosspoint_proto::sip::{
    Contacts as Header, DEFAULT_PORT, DEFAULT_TLS_PORT, Host, Name, NameAddr, Request, SipUri, Source, Uri,
};

use super::SipDoor;
use crate::registrar::{Binding, Contact, Contacts, Refusal, Register};

/// Retry-After of a refusal because too much is going on, in seconds: one of these, so that a crowd does not come
/// back as one.
const RETRY_AFTER: RangeInclusive<u64> = 5..=30;

/// Proxies of a Path at most: an INVITE with more would not fit a datagram.
const PATH: usize = 8;

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

/// What of a registration may be stored.
pub(super) struct Admitted {
    register: Register,
    /// Its answer says that the device's flow is used as RFC 5626 has it.
    outbound: bool,
}

impl SipDoor {
    /// Whether what a REGISTER asks for may be stored, or what it is answered instead. Waits for nobody.
    pub(super) fn admit(&self, request: &Request, source: &Source) -> Result<Admitted, Answer> {
        let now = self.clock.both();
        let claimed = request.headers.to().map(|to| to.uri.alias()).unwrap_or_default();
        let (verdict, device) = self.prove(now, &claimed, request, source);
        let challenge = |stale| Answer {
            status: 401,
            headers: self.challenges(now, source.remote.ip(), stale, &claimed),
        };
        let device = match (verdict, device) {
            (Verdict::Accepted { .. }, Some(device)) => device,
            (Verdict::Stale, _) => return Err(challenge(true)),
            (Verdict::Refused, _) => {
                if let Some(others) = self.porter.logs(Some(source.remote.ip())) {
                    let source = source.remote;
                    tracing::warn!(%source, others, "a registration was refused: unknown user or wrong password");
                }
                return Err(challenge(false));
            }
            _ => return Err(challenge(false)),
        };
        let path = path(request, source)?;
        let contacts = contacts(request, &path)?;
        let outbound = is_outbound(request, &contacts);
        let register = Register {
            alias: device.alias.clone(),
            contacts,
            expires: request.headers.expires(),
            call_id: request.headers.call_id().unwrap_or_default().to_owned(),
            cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
            flow: Some(source.flow),
            translated: source.translated,
            path,
            user_agent: request.headers.get(&Name::UserAgent).unwrap_or_default().to_owned(),
        };
        Ok(Admitted { register, outbound })
    }

    /// Stores, answers. What is acknowledged has been written.
    pub(super) async fn store(&self, admitted: Admitted) -> Answer {
        let Admitted { register, outbound } = admitted;
        let (path, call_id) = (register.path.clone(), register.call_id.clone());
        match self.registrar.register(register).await {
            Ok(bindings) => {
                let now = self.clock.both();
                let mut headers: Vec<_> =
                    bindings.iter().map(|it| ("Contact".to_owned(), contact(it, now.mono))).collect();
                headers.push(("Date".to_owned(), httpdate(now.wall)));
                headers.extend(path.iter().map(|it| ("Path".to_owned(), it.to_string())));
                if outbound {
                    headers.push(("Require".to_owned(), "outbound".to_owned()));
                }
                Answer { status: 200, headers }
            }
            Err(refusal) => refused(&refusal, &call_id),
        }
    }
}

/// What the device asks for. Its flows count where the one who knows them is here or has written himself down
/// (RFC 5626 section 6); if not, 439 says so to who wanted them, and for others they are no flows.
fn contacts(request: &Request, path: &[NameAddr]) -> Result<Contacts, Answer> {
    let list = match request.headers.contacts().map_err(|_| Answer::of(400))? {
        Header::All => return Ok(Contacts::All),
        Header::List(list) => list,
    };
    let direct = request.headers.count_vias() == 1;
    let edge = path.first().and_then(|it| it.uri.as_sip()).is_some_and(SipUri::is_outbound);
    let knows = direct || edge;
    let contact = |it: NameAddr| {
        let instance = it.params.text("+sip.instance");
        let reg_id = it.params.get("reg-id").and_then(|id| id.parse().ok()).filter(|_| instance.is_some());
        // Only what a call can reach later is stored.
        matches!(it.uri, Uri::Sip(_)).then(|| Contact {
            expires: it.expires(),
            q: Some(it.q()),
            instance,
            reg_id,
            uri: it.uri,
        })
    };
    let list: Option<Vec<Contact>> = list.into_iter().map(contact).collect();
    let mut list = list.ok_or_else(|| Answer::of(400))?;
    let flows = list.iter().any(|it| it.reg_id.is_some());
    if flows && !knows && supports(request, "outbound") {
        return Err(Answer::of(439));
    }
    if !knows {
        list.iter_mut().for_each(|it| it.reg_id = None);
    }
    let stay = list.iter().filter(|it| it.expires.or_else(|| request.headers.expires()) != Some(0)).count();
    // One flow is one way to one device.
    if list.iter().any(|it| it.reg_id.is_some()) && stay > 1 {
        return Err(Answer::of(400));
    }
    Ok(Contacts::List(list))
}

fn supports(request: &Request, option: &str) -> bool {
    let supported = request.headers.tokens(&Name::Supported);
    supported.iter().any(|it| it.as_str().eq_ignore_ascii_case(option))
}

/// The proxies that want to be on the way back (RFC 3327 section 5.3). Who sends the device's calls there
/// must be told of it: 420 where the device does not know how (the policy that section recommends).
fn path(request: &Request, source: &Source) -> Result<Vec<NameAddr>, Answer> {
    let mut path = request.headers.name_addrs(&Name::Path).map_err(|_| Answer::of(400))?;
    if path.is_empty() {
        return Ok(path);
    }
    if !supports(request, "path") {
        let unsupported = vec![("Unsupported".to_owned(), "path".to_owned())];
        return Err(Answer { status: 420, headers: unsupported });
    }
    if path.len() > PATH {
        return Err(Answer::of(403));
    }
    for proxy in &mut path {
        let Uri::Sip(uri) = &mut proxy.uri else { return Err(Answer::of(400)) };
        // A strict router would have the Request-URI for itself, and what a URI says of headers is for
        // nobody (RFC 3261 section 19.1.1).
        if !uri.is_loose() {
            return Err(Answer::of(400));
        }
        uri.headers.clear();
        proxy.display = None;
    }
    let nearest = path.first().and_then(|it| it.uri.as_sip());
    if nearest.is_some_and(|uri| leads_astray(uri, source)) {
        return Err(Answer::of(403));
    }
    Ok(path)
}

/// Whether a proxy is said to be where nobody but this machine or its network's services are, unless it has
/// spoken to us from there (threat 13).
fn leads_astray(uri: &SipUri, source: &Source) -> bool {
    let hosts = [Some(uri.host.clone()), uri.params.get("maddr").and_then(|it| Host::parse(it).ok())];
    let usual = if source.transport == Transport::Tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
    let policy = PeerPolicy { accept_foreign: true, ..PeerPolicy::strict(source.remote.ip()) };
    let mut named = hosts.into_iter().flatten().filter_map(|host| host.address());
    named.any(|ip| policy.judge((ip, uri.port.unwrap_or(usual)).into()).is_err())
}

/// Whether the device's flow is kept and used as RFC 5626 has it, which section 6 wants said.
fn is_outbound(request: &Request, contacts: &Contacts) -> bool {
    let flows = match contacts {
        Contacts::List(list) => list.iter().any(|contact| contact.reg_id.is_some()),
        Contacts::All => false,
    };
    flows && supports(request, "outbound")
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
        let is_outbound = |request: Request| is_outbound(&request, &contacts(&request, &[]).ok().unwrap());
        let device = "<sip:alice@192.0.2.9>;+sip.instance=\"<urn:uuid:1>\"";
        let flow = format!("{device};reg-id=1");
        let supported = "Supported: path, outbound\r\n";
        assert!(is_outbound(request(supported, &flow)), "RFC 5626 section 6");
        assert!(!is_outbound(request("", &flow)));
        assert!(!is_outbound(request(supported, device)));
        assert!(!is_outbound(request(supported, "<sip:alice@192.0.2.9>;reg-id=1")));
    }

    #[test]
    fn flows_through_a_proxy_count_where_it_says_that_it_knows_them() {
        let of = |more: &str, contact: &str| {
            let mut request = through(more);
            request.headers.set(Name::Contact, contact);
            let path = request.headers.name_addrs(&Name::Path).unwrap();
            match contacts(&request, &path) {
                Ok(Contacts::List(list)) => Ok(list.iter().map(|it| it.reg_id).collect::<Vec<_>>()),
                Ok(Contacts::All) => panic!("no list"),
                Err(answer) => Err(answer.status),
            }
        };
        let flow = "<sip:alice@10.1.1.9>;+sip.instance=\"<urn:uuid:1>\";reg-id=7";
        let (wants, second) =
            ("Supported: path, outbound\r\n", "Via: SIP/2.0/UDP 10.1.1.9;branch=z9hG4bK2\r\n");
        let edge = "Path: <sip:token@198.51.100.7;lr;ob>\r\n";
        let other = "Path: <sip:198.51.100.7;lr>, <sip:token@198.51.100.7;lr;ob>\r\n";
        assert_eq!(of(wants, flow), Ok(vec![Some(7)]), "there is nobody between");
        assert_eq!(of(&format!("{wants}{second}{edge}"), flow), Ok(vec![Some(7)]));
        assert_eq!(of(&format!("{wants}{second}{other}"), flow), Err(439), "RFC 5626 section 6");
        assert_eq!(of(&format!("{wants}{second}"), flow), Err(439));
        assert_eq!(of(&format!("Supported: path\r\n{second}"), flow), Ok(vec![None]));
        assert_eq!(of(&format!("{wants}{second}"), "<sip:alice@10.1.1.9>;reg-id=7"), Ok(vec![None]));
        // One flow is of one contact; others may go with it.
        assert_eq!(of(wants, &format!("{flow}, <sip:alice@10.1.1.10>")), Err(400));
        assert_eq!(of(wants, &format!("{flow}, <sip:alice@10.1.1.10>;expires=0")), Ok(vec![Some(7), None]));
    }

    fn through(more: &str) -> Request {
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK1\r\n\
             From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: 1\r\n\
             CSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n{more}Contact: <sip:alice@10.1.1.9>\r\n\r\n"
        );
        match crosspoint_proto::sip::Message::parse(text.as_bytes()).unwrap() {
            crosspoint_proto::sip::Message::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn from(remote: &str) -> Source {
        let remote: std::net::SocketAddr = remote.parse().unwrap();
        let local = "192.0.2.1:5060".parse().unwrap();
        let flow = format!("udp {local} {remote}").parse().unwrap();
        Source { transport: Transport::Udp, local, remote, flow, translated: false }
    }

    #[test]
    fn a_path_is_taken_from_who_knows_of_it_and_refused_to_others() {
        let of = |more: &str| {
            let path = path(&through(more), &from("192.0.2.9:5060"));
            path.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>()).map_err(|it| it.status)
        };
        let known = "Supported: outbound, Path\r\n";
        let two = "Path: <sip:edge@198.51.100.7;lr;ob>, <sip:core.example;lr>\r\n";
        assert_eq!(of(""), Ok(Vec::new()));
        let taken = ["<sip:edge@198.51.100.7;lr;ob>".to_owned(), "<sip:core.example;lr>".to_owned()];
        assert_eq!(of(&format!("{known}{two}")), Ok(taken.to_vec()));
        assert_eq!(of(two), Err(420), "RFC 3327 section 5.3");
        for (bad, status) in [
            ("Path: <sip:strict.example>\r\n".to_owned(), 400),
            ("Path: <tel:+49>\r\n".to_owned(), 400),
            ("Path: <<x\r\n".to_owned(), 400),
            (two.repeat(5), 403),
        ] {
            assert_eq!(of(&format!("{known}{bad}")), Err(status), "{bad}");
        }
        let stripped = of(&format!("{known}Path: \"x\" <sip:a.example;lr?Route=%3Csip:b%3E>\r\n"));
        assert_eq!(stripped, Ok(vec!["<sip:a.example;lr>".to_owned()]));
    }

    #[test]
    fn promise_34_no_path_leads_to_a_forbidden_address() {
        let of = |host: &str, source: &str| {
            let more = format!("Supported: path\r\nPath: <sip:{host};lr>\r\n");
            path(&through(&more), &from(source)).map_or_else(|it| it.status, |_| 200)
        };
        for host in [
            "127.0.0.1:22",
            "169.254.169.254",
            "0.0.0.0",
            "[::1]:6379",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "224.0.0.1",
            "198.51.100.7;maddr=127.0.0.1",
        ] {
            assert_eq!(of(host, "192.0.2.9:5060"), 403, "{host}");
        }
        assert_eq!(of("10.0.0.7", "192.0.2.9:5060"), 200, "networks of a company are for it to use");
        // Who is on this machine itself may say so.
        assert_eq!(of("127.0.0.1:5080", "127.0.0.1:5080"), 200);
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
