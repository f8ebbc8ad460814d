//! What a REGISTER does to the bindings of one alias (RFC 3261 section 10.3, steps 6 to 8). Pure:
//! the bindings that stand and the request go in, the new ones or a refusal come out.

use std::time::Duration;

use crosspoint_proto::Instant;
use crosspoint_proto::sip::{Flow, NameAddr, SipUri, Uri};

use crate::alias::Alias;

/// Contacts that one alias may have: a person's devices, and what they left behind when they
/// crashed. All of them ring.
pub const CONTACTS: usize = 10;

/// The preference of a contact that names none (RFC 3261 section 10.2.1.2), in thousandths.
pub const DEFAULT_Q: u16 = 1000;

/// Where a device can be reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The contact as the device wrote it.
    pub uri: Uri,
    /// Of the REGISTER that made or refreshed it.
    pub call_id: String,
    /// Its CSeq.
    pub cseq: u32,
    /// When it ends, on the gateway's clock.
    pub expires: Instant,
    /// Preference in thousandths; higher is better.
    pub q: u16,
    /// `+sip.instance` (RFC 5626), with its brackets.
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626).
    pub reg_id: Option<u32>,
    /// The way that the REGISTER came. `None` once that connection is closed.
    pub flow: Option<Flow>,
    /// Whether the device is behind a NAT: its own view of its address is not ours.
    pub translated: bool,
    /// Proxies by which it is reached, nearest first (Path, RFC 3327 section 5.3); loose routers.
    pub path: Vec<NameAddr>,
    /// User-Agent, for status; may be empty.
    pub user_agent: String,
}

impl Binding {
    /// What is left of it.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.expires.saturating_since(now)
    }

    /// Whether it is one of the flows of a device (RFC 5626 section 6).
    pub const fn is_flow(&self) -> bool {
        self.instance.is_some() && self.reg_id.is_some()
    }

    /// Whether a contact means this binding: an equal URI, but of flows the same of the same device, whatever
    /// their addresses (RFC 5626 section 6). A phone that got a new address replaces its old one, and one that
    /// calls itself the same on two flows has both.
    fn is(&self, contact: &Contact) -> bool {
        if self.is_flow() && contact.instance.is_some() && contact.reg_id.is_some() {
            return self.instance == contact.instance && self.reg_id == contact.reg_id;
        }
        self.uri.matches(&contact.uri)
    }

    /// Whether nobody can be reached by it any more: its connection is closed, and the device has said that it
    /// is there by that one alone (RFC 5626 section 7), or nobody can connect to it (RFC 7118 section 5).
    pub fn is_lost(&self) -> bool {
        let alone = self.is_flow() || self.uri.as_sip().is_some_and(is_of_a_page);
        self.flow.is_none() && self.path.is_empty() && alone
    }
}

/// Where to ring, a list for each device: of several flows of one it rings by one at a time (RFC 5626 section
/// 7), first by the best whose connection stands.
pub fn one_flow_each(bindings: Vec<Binding>) -> Vec<Vec<Binding>> {
    let mut devices: Vec<Vec<Binding>> = Vec::with_capacity(bindings.len());
    for binding in bindings {
        let same = |it: &&mut Vec<Binding>| {
            it.first().is_some_and(|it| it.is_flow() && binding.is_flow() && it.instance == binding.instance)
        };
        match devices.iter_mut().find(same) {
            Some(flows) => flows.push(binding),
            None => devices.push(vec![binding]),
        }
    }
    devices.iter_mut().for_each(|flows| flows.sort_by_key(|flow| flow.flow.is_none()));
    devices
}

/// One contact of a REGISTER.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    /// Where the device wants to be reached.
    pub uri: Uri,
    /// Its `expires` parameter, in seconds.
    pub expires: Option<u32>,
    /// Its `q` parameter, in thousandths.
    pub q: Option<u16>,
    /// `+sip.instance`.
    pub instance: Option<String>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
}

/// The Contact headers of a REGISTER.
#[derive(Clone, Debug, PartialEq)]
pub enum Contacts {
    /// `*`: take all bindings away.
    All,
    /// These, in order; none asks for what stands.
    List(Vec<Contact>),
}

/// A REGISTER whose sender has proved to be the device.
#[derive(Clone, Debug)]
pub struct Register {
    /// The address of record.
    pub alias: Alias,
    /// What to do.
    pub contacts: Contacts,
    /// Expires header, in seconds.
    pub expires: Option<u32>,
    /// Call-ID.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// The way that it came.
    pub flow: Option<Flow>,
    /// Whether its sender is behind a NAT.
    pub translated: bool,
    /// Proxies that want to be on the way back.
    pub path: Vec<NameAddr>,
    /// User-Agent; may be empty.
    pub user_agent: String,
}

/// Bounds of an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Shorter is refused.
    pub least: Duration,
    /// For who names none.
    pub default: Duration,
    /// Longer is shortened.
    pub most: Duration,
}

/// Why a REGISTER changes nothing. Either all of it takes effect or none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No device has that alias: 404.
    #[error("no device has this alias")]
    UnknownAlias,
    /// An expiry below the minimum: 423 with Min-Expires.
    #[error("the expiry is shorter than {} s", least.as_secs())]
    TooBrief {
        /// For Min-Expires.
        least: Duration,
    },
    /// `*` beside other contacts, or without Expires 0: 400.
    #[error("a contact of * must stand alone and with Expires: 0")]
    BadWildcard,
    /// An older request than one that took effect, or the same one again: 500 (section 10.3,
    /// step 7).
    #[error("the request is out of order")]
    OutOfOrder,
    /// More than [`CONTACTS`]: 403.
    #[error("an alias has at most {CONTACTS} contacts")]
    TooManyContacts,
    /// The limit of all registrations is reached, or too many wait: 503.
    #[error("too many registrations")]
    Full,
    /// It could not be stored: 500. Nothing is acknowledged that a restart would forget.
    #[error("the registration could not be stored")]
    Storage,
}

/// What became of one contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It was, and stays.
    Refreshed,
    /// It is gone.
    Removed,
}

/// The bindings after a request, best first, and what changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// All that stand.
    pub bindings: Vec<Binding>,
    /// Contact and change, in the order of the request.
    pub changes: Vec<(Uri, Change)>,
}

/// Applies a REGISTER to the bindings that stand.
pub fn apply(
    current: &[Binding],
    request: &Register,
    expiry: Expiry,
    now: Instant,
) -> Result<Applied, Refusal> {
    let stands = |it: &&Binding| it.expires > now && !it.is_lost();
    let mut bindings: Vec<Binding> = current.iter().filter(stands).cloned().collect();
    let mut changes = Vec::new();
    match &request.contacts {
        Contacts::All => {
            if request.expires != Some(0) {
                return Err(Refusal::BadWildcard);
            }
            for binding in &bindings {
                in_order(binding, request)?;
                changes.push((binding.uri.clone(), Change::Removed));
            }
            bindings.clear();
        }
        Contacts::List(contacts) => {
            // Order counts against what stood before: of two equal contacts in one request the
            // later one wins.
            for contact in contacts {
                for binding in current.iter().filter(stands).filter(|it| it.is(contact)) {
                    in_order(binding, request)?;
                }
            }
            for contact in contacts {
                let change = one(&mut bindings, contact, request, expiry, now)?;
                changes.extend(change.map(|change| (contact.uri.clone(), change)));
            }
        }
    }
    if bindings.len() > CONTACTS {
        return Err(Refusal::TooManyContacts);
    }
    // Best first; among equals the one that was heard of last, which is the likeliest to be there.
    bindings.sort_by(|a, b| b.q.cmp(&a.q).then(b.expires.cmp(&a.expires)));
    Ok(Applied { bindings, changes })
}

/// Whether it is where only a connection leads that a page has opened.
fn is_of_a_page(uri: &SipUri) -> bool {
    uri.transport().is_some_and(|it| it.eq_ignore_ascii_case("ws") || it.eq_ignore_ascii_case("wss"))
}

fn one(
    bindings: &mut Vec<Binding>,
    contact: &Contact,
    request: &Register,
    expiry: Expiry,
    now: Instant,
) -> Result<Option<Change>, Refusal> {
    let asked = contact.expires.or(request.expires);
    let lasts = asked.map_or(expiry.default, |seconds| Duration::from_secs(seconds.into()));
    if !lasts.is_zero() && lasts < expiry.least {
        return Err(Refusal::TooBrief { least: expiry.least });
    }
    let before = bindings.len();
    bindings.retain(|it| !it.is(contact));
    let existed = bindings.len() < before;
    if lasts.is_zero() {
        return Ok(existed.then_some(Change::Removed));
    }
    bindings.push(Binding {
        uri: contact.uri.clone(),
        call_id: request.call_id.clone(),
        cseq: request.cseq,
        expires: now + lasts.min(expiry.most),
        q: contact.q.unwrap_or(DEFAULT_Q),
        instance: contact.instance.clone(),
        reg_id: contact.reg_id,
        flow: request.flow,
        translated: request.translated,
        path: request.path.clone(),
        user_agent: request.user_agent.clone(),
    });
    Ok(Some(if existed { Change::Refreshed } else { Change::Added }))
}

/// Step 7: the same Call-ID needs a higher CSeq; another Call-ID is another life of the device.
fn in_order(binding: &Binding, request: &Register) -> Result<(), Refusal> {
    if binding.call_id == request.call_id && request.cseq <= binding.cseq {
        return Err(Refusal::OutOfOrder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alias::Domains;

    const EXPIRY: Expiry = Expiry {
        least: Duration::from_secs(60),
        default: Duration::from_secs(3600),
        most: Duration::from_secs(7200),
    };
    const NOW: Instant = Instant::from_millis(1_000_000);

    fn contact(uri: &str) -> Contact {
        Contact { uri: Uri::parse(uri).unwrap(), expires: None, q: None, instance: None, reg_id: None }
    }

    fn request(call_id: &str, cseq: u32, contacts: Vec<Contact>) -> Register {
        Register {
            alias: Alias::parse("alice", &Domains::default()).unwrap(),
            contacts: Contacts::List(contacts),
            expires: None,
            call_id: call_id.into(),
            cseq,
            flow: None,
            translated: false,
            path: Vec::new(),
            user_agent: String::new(),
        }
    }

    fn after(current: &[Binding], request: &Register) -> Vec<Binding> {
        apply(current, request, EXPIRY, NOW).unwrap().bindings
    }

    fn uris(bindings: &[Binding]) -> Vec<String> {
        bindings.iter().map(|it| it.uri.to_string()).collect()
    }

    #[test]
    fn a_contact_is_added_refreshed_and_removed() {
        let added = apply(&[], &request("a", 1, vec![contact("sip:alice@192.0.2.1")]), EXPIRY, NOW).unwrap();
        assert_eq!(added.changes[0].1, Change::Added);
        assert_eq!(added.bindings[0].remaining(NOW), EXPIRY.default);
        let mut again = request("a", 2, vec![contact("sip:alice@192.0.2.1")]);
        again.expires = Some(600);
        let refreshed = apply(&added.bindings, &again, EXPIRY, NOW).unwrap();
        assert_eq!(refreshed.changes[0].1, Change::Refreshed);
        assert_eq!(refreshed.bindings[0].remaining(NOW), Duration::from_secs(600));
        let mut gone = request("a", 3, vec![contact("sip:alice@192.0.2.1")]);
        gone.expires = Some(0);
        let removed = apply(&refreshed.bindings, &gone, EXPIRY, NOW).unwrap();
        assert_eq!((removed.bindings.len(), removed.changes[0].1), (0, Change::Removed));
        // Nothing there: nothing happens, and nothing is told.
        assert_eq!(apply(&[], &gone, EXPIRY, NOW).unwrap(), Applied::default());
    }

    #[test]
    fn a_device_with_several_flows_rings_once() {
        let flow = |n: u8| -> Option<Flow> { format!("tcp 192.0.2.1:5060 192.0.2.9:50{n} {n}").parse().ok() };
        let path = |n: u8, device: Option<&str>, reg_id: Option<u32>, flow: Option<Flow>| {
            let uri = format!("sip:alice@192.0.2.9:50{n}");
            let contact = Contact { instance: device.map(str::to_owned), reg_id, ..contact(&uri) };
            let request = Register { flow, ..request(&uri, 1, vec![contact]) };
            after(&[], &request).remove(0)
        };
        let rings = |bindings: Vec<Binding>| {
            let devices = one_flow_each(bindings);
            devices.iter().map(|flows| uris(flows).join(", ")).collect::<Vec<_>>().join("; ")
        };
        let both = vec![path(11, Some("<a>"), Some(1), flow(11)), path(12, Some("<a>"), Some(2), flow(12))];
        assert_eq!(rings(both), "sip:alice@192.0.2.9:5011, sip:alice@192.0.2.9:5012", "RFC 5626 section 7");
        let lost = vec![path(11, Some("<a>"), Some(1), None), path(12, Some("<a>"), Some(2), flow(12))];
        assert_eq!(rings(lost), "sip:alice@192.0.2.9:5012, sip:alice@192.0.2.9:5011", "first who stands");
        // Two devices, and two phones that say nothing of flows, are no flows of one.
        let two = vec![path(11, Some("<a>"), Some(1), flow(11)), path(12, Some("<b>"), Some(1), flow(12))];
        assert_eq!(one_flow_each(two).len(), 2);
        let plain = vec![path(11, None, Some(1), flow(11)), path(12, None, Some(1), flow(12))];
        assert_eq!(one_flow_each(plain).len(), 2);
        let old = vec![path(11, Some("<a>"), None, flow(11)), path(12, Some("<a>"), None, flow(12))];
        assert_eq!(one_flow_each(old).len(), 2);
    }

    #[test]
    fn a_device_that_calls_itself_the_same_on_two_flows_has_both() {
        let by = |call_id: &str, cseq, reg_id: u32| {
            let flow = format!("tcp 192.0.2.1:5060 192.0.2.9:5011 {reg_id}").parse().ok();
            let (instance, reg_id) = (Some("<a>".into()), Some(reg_id));
            let contact = Contact { instance, reg_id, ..contact("sip:alice@192.0.2.9") };
            Register { flow, ..request(call_id, cseq, vec![contact]) }
        };
        let first = after(&[], &by("a", 1, 1));
        // The example of RFC 5626 section 9.2.
        let both = after(&first, &by("b", 1, 2));
        assert_eq!(both.len(), 2);
        assert_eq!(after(&both, &by("a", 2, 1)).len(), 2);
        // Who says nothing of flows any more means the address.
        let plain = after(&both, &request("c", 1, vec![contact("sip:alice@192.0.2.9")]));
        assert_eq!((plain.len(), plain[0].reg_id), (1, None));
    }

    #[test]
    fn a_flow_without_its_connection_is_none_and_takes_no_room() {
        let tcp: Option<Flow> = "tcp 192.0.2.1:5060 192.0.2.9:5011 2".parse().ok();
        let of = |uri: &str, reg_id: Option<u32>, path: &str, flow: Option<Flow>| {
            let contact = Contact { instance: Some("<a>".into()), reg_id, ..contact(uri) };
            let path = if path.is_empty() { Vec::new() } else { NameAddr::parse_list(path).unwrap() };
            let made = after(&[], &Register { flow: tcp, path, ..request("a", 1, vec![contact]) }).remove(0);
            Binding { flow, ..made }
        };
        let (phone, page) = ("sip:alice@192.0.2.9;transport=tcp", "sip:x@y.invalid;transport=ws");
        for (binding, lost) in [
            (of(phone, Some(1), "", tcp), false),
            (of(phone, Some(1), "", None), true),
            // Another connection can be made to it, and its proxies know others.
            (of(phone, None, "", None), false),
            (of(phone, Some(1), "<sip:edge.example;lr;ob>", None), false),
            (of(page, None, "", tcp), false),
            (of(page, None, "", None), true),
        ] {
            assert_eq!(binding.is_lost(), lost, "{binding:?}");
            let other = after(
                std::slice::from_ref(&binding),
                &request("b", 1, vec![contact("sip:alice@192.0.2.77")]),
            );
            assert_eq!(other.len(), if lost { 1 } else { 2 });
        }
        let pages: Vec<_> =
            (0..CONTACTS).map(|n| of(&format!("sip:{n}@y.invalid;transport=ws"), None, "", None)).collect();
        assert_eq!(after(&pages, &request("c", 1, vec![contact(page)])).len(), 1);
    }

    #[test]
    fn a_request_without_contacts_asks_for_what_stands() {
        let current = after(&[], &request("a", 1, vec![contact("sip:alice@192.0.2.1")]));
        assert_eq!(after(&current, &request("a", 1, vec![])), current);
    }

    #[test]
    fn contacts_of_a_request_have_their_own_expiry_and_are_sorted_by_preference() {
        let mut first = contact("sip:alice@192.0.2.1");
        (first.expires, first.q) = (Some(99_999), Some(300));
        let mut second = contact("sip:alice@192.0.2.2");
        second.expires = Some(120);
        let current = after(&[], &request("a", 1, vec![first, second]));
        assert_eq!(uris(&current), ["sip:alice@192.0.2.2", "sip:alice@192.0.2.1"]);
        assert_eq!(current[0].remaining(NOW), Duration::from_secs(120));
        assert_eq!(current[1].remaining(NOW), EXPIRY.most);
    }

    #[test]
    fn too_brief_is_refused_and_nothing_of_the_request_takes_effect() {
        let mut brief = contact("sip:alice@192.0.2.2");
        brief.expires = Some(59);
        let both = request("a", 1, vec![contact("sip:alice@192.0.2.1"), brief]);
        assert_eq!(apply(&[], &both, EXPIRY, NOW), Err(Refusal::TooBrief { least: EXPIRY.least }));
    }

    #[test]
    fn equal_contacts_are_one_as_rfc_3261_section_19_1_4_compares() {
        let current = after(&[], &request("a", 1, vec![contact("sip:alice@Example.com;Transport=TCP")]));
        let same = after(&current, &request("a", 2, vec![contact("sip:%61lice@example.com;transport=tcp")]));
        assert_eq!(uris(&same), ["sip:%61lice@example.com;transport=tcp"]);
        let other = after(&same, &request("a", 3, vec![contact("sip:alice@example.com:5070;transport=tcp")]));
        assert_eq!(other.len(), 2);
        let twice = vec![contact("sip:alice@192.0.2.1"), contact("sip:alice@192.0.2.1")];
        assert_eq!(after(&[], &request("a", 1, twice)).len(), 1);
    }

    #[test]
    fn requests_out_of_order_change_nothing() {
        let current = after(&[], &request("a", 5, vec![contact("sip:alice@192.0.2.1")]));
        for cseq in [4, 5] {
            let late = request("a", cseq, vec![contact("sip:alice@192.0.2.1")]);
            assert_eq!(apply(&current, &late, EXPIRY, NOW), Err(Refusal::OutOfOrder));
        }
        // After a restart the device has another Call-ID, and may count from one.
        after(&current, &request("b", 1, vec![contact("sip:alice@192.0.2.1")]));
        // Another contact of the same device is no matter of order.
        assert_eq!(after(&current, &request("a", 4, vec![contact("sip:alice@192.0.2.9")])).len(), 2);
    }

    #[test]
    fn a_star_takes_all_away_and_only_alone() {
        let contacts = vec![contact("sip:alice@192.0.2.1"), contact("sip:alice@192.0.2.2")];
        let current = after(&[], &request("a", 1, contacts));
        let mut star = request("a", 2, vec![]);
        star.contacts = Contacts::All;
        assert_eq!(apply(&current, &star, EXPIRY, NOW), Err(Refusal::BadWildcard));
        star.expires = Some(0);
        let all_gone = apply(&current, &star, EXPIRY, NOW).unwrap();
        assert_eq!((all_gone.bindings.len(), all_gone.changes.len()), (0, 2));
        star.cseq = 1;
        assert_eq!(apply(&current, &star, EXPIRY, NOW), Err(Refusal::OutOfOrder));
    }

    #[test]
    fn a_device_with_a_new_address_replaces_its_old_binding() {
        let mut old = contact("sip:alice@192.0.2.1");
        (old.instance, old.reg_id) = (Some("<urn:uuid:1>".into()), Some(1));
        let mut new = old.clone();
        new.uri = Uri::parse("sip:alice@192.0.2.99").unwrap();
        let current = after(&[], &request("a", 1, vec![old]));
        assert_eq!(uris(&after(&current, &request("b", 1, vec![new]))), ["sip:alice@192.0.2.99"]);
    }

    #[test]
    fn what_has_expired_neither_counts_nor_orders() {
        let current = after(&[], &request("a", 5, vec![contact("sip:alice@192.0.2.1")]));
        let later = NOW + EXPIRY.default;
        let late = request("a", 1, vec![contact("sip:alice@192.0.2.1")]);
        assert_eq!(apply(&current, &late, EXPIRY, later).unwrap().changes[0].1, Change::Added);
    }

    #[test]
    fn contacts_have_a_limit() {
        let many = |count| (0..count).map(|i| contact(&format!("sip:alice@192.0.2.{i}"))).collect();
        assert_eq!(after(&[], &request("a", 1, many(CONTACTS))).len(), CONTACTS);
        let refused = apply(&[], &request("a", 1, many(CONTACTS + 1)), EXPIRY, NOW);
        assert_eq!(refused, Err(Refusal::TooManyContacts));
    }
}
