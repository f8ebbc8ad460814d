//! A look at the messages of calls as they come and go, for ladders and captures.
//!
//! What belongs to which call is found by Call-ID and, where a call of ours has come back to us, by
//! our tag, as dialogs are (RFC 3261 section 12). Nothing here changes what the machine does, and without [`super::Config::tap`] there is no
//! tap at all.

use std::collections::HashMap;

use bytes::Bytes;

use super::event::{Event, Sighted};
use super::stack::Stack;
use super::{CallId, Flow, Message, Method, Name};
use crate::Instant;

/// The calls whose messages are told.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// By Call-ID. One entry for each call that is there, so no more than those.
    calls: HashMap<String, Vec<Tapped>>,
    /// An INVITE that may begin a call, while it is looked at.
    first: Option<(Flow, Bytes)>,
    /// Calls that are forgotten once what they wanted sent is sent.
    gone: Vec<(String, CallId)>,
}

#[derive(Debug)]
struct Tapped {
    call: CallId,
    tag: String,
}

impl Tap {
    fn find(&self, call_id: &str, tag: impl FnOnce() -> Option<String>) -> Option<CallId> {
        match self.calls.get(call_id)?.as_slice() {
            [only] => Some(only.call),
            several => {
                let tag = tag();
                let ours = |it: &&Tapped| tag.as_deref().is_some_and(|tag| tag == it.tag);
                // What has no tag of ours yet is answered, or asked, by who came in last.
                several.iter().find(ours).or_else(|| several.last().filter(|_| tag.is_none()))
            }
            .map(|it| it.call),
        }
    }

    /// The call of a message that has come.
    fn received(&self, message: &Message) -> Option<CallId> {
        self.find(message.headers().call_id()?, || our_tag(message, false))
    }

    /// The call of octets that go out, which are as we print them.
    fn sent(&self, data: &Bytes) -> Option<CallId> {
        self.find(call_id(data)?, || our_tag(&Message::parse(data).ok()?, true))
    }
}

impl Stack {
    /// A call begins: its messages are told from now on.
    pub(super) fn watch(&mut self, call: CallId, (call_id, tag): (String, String)) {
        if let Some(tap) = &mut self.tap {
            tap.calls.entry(call_id).or_default().push(Tapped { call, tag });
        }
    }

    /// It is over. What it wanted sent last is still told.
    pub(super) fn unwatch(&mut self, call: CallId, call_id: String) {
        if let Some(tap) = &mut self.tap {
            tap.gone.push((call_id, call));
        }
    }

    /// Everything is sent.
    pub(super) fn let_go(&mut self) {
        let Some(tap) = &mut self.tap else { return };
        while let Some((call_id, call)) = tap.gone.pop() {
            if let Some(calls) = tap.calls.get_mut(&call_id) {
                calls.retain(|it| it.call != call);
                if calls.is_empty() {
                    tap.calls.remove(&call_id);
                }
            }
            self.out.push_back(crate::Output::Event(Event::Released { call }));
        }
    }

    /// A message has come. `octets`: as it stood in a datagram; without them it is printed.
    pub(super) fn heard(&mut self, now: Instant, flow: Flow, message: &Message, octets: Option<&[u8]>) {
        let Some(tap) = &mut self.tap else { return };
        let begins = matches!(message, Message::Request(it) if it.method == Method::Invite
            && it.headers.tag_in_to().is_none());
        let call = tap.received(message);
        if call.is_none() && !begins {
            return;
        }
        let data = octets.map_or_else(|| message.to_bytes(), Bytes::copy_from_slice);
        match call {
            _ if begins => tap.first = Some((flow, data)),
            Some(call) => self.sighted(Sighted { call, at: now, flow, sent: false, data }),
            None => {}
        }
    }

    /// The INVITE that was just heard began `call`; `None`: it is one that was there already.
    pub(super) fn heard_first(&mut self, now: Instant, call: Option<CallId>) {
        let Some(tap) = &mut self.tap else { return };
        let Some((flow, data)) = tap.first.take() else { return };
        let again = || tap.received(&Message::parse(&data).ok()?);
        if let Some(call) = call.or_else(again) {
            self.sighted(Sighted { call, at: now, flow, sent: false, data });
        }
    }

    /// A message goes out.
    pub(super) fn said(&mut self, now: Instant, flow: Flow, data: Bytes) {
        if let Some(call) = self.tap.as_ref().and_then(|tap| tap.sent(&data)) {
            self.sighted(Sighted { call, at: now, flow, sent: true, data });
        }
    }

    fn sighted(&mut self, sighted: Sighted) {
        self.event(Event::Sighted(Box::new(sighted)));
    }
}

/// Our tag is in From of requests that we send and in To of those that we get (RFC 3261 section 12.2.1.1);
/// responses mirror them (section 8.2.6.2).
fn our_tag(message: &Message, sent: bool) -> Option<String> {
    let request = matches!(message, Message::Request(_));
    let headers = message.headers();
    let ours = if request == sent { headers.tag_in_from() } else { headers.tag_in_to() };
    ours.map(str::to_owned)
}

/// The Call-ID of a message that we have printed.
fn call_id(data: &[u8]) -> Option<&str> {
    let head = data.split(|octet| *octet == b'\n').take_while(|line| line.len() > 1);
    let name = Name::CallId;
    let mut values = head.filter_map(|line| {
        let value = line.strip_prefix(name.as_str().as_bytes())?.strip_prefix(b":")?;
        std::str::from_utf8(value).ok().map(str::trim)
    });
    values.next()
}
