//! Arbitrary bytes, and arbitrary histories: nothing panics, nothing is told twice, nothing is left.

use std::collections::BTreeMap;
use std::time::Duration;

use crosspoint_proto::sip::{CallId, Command, Event, Invite, Load, RequestId};
use crosspoint_proto::{ConnId, Input};
use proptest::prelude::*;

use crate::solo::{Ask, Out, Solo, far};
use crate::world::{invite, over, sdp};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_bytes_are_survived_and_get_one_answer_at_most(
        data in proptest::collection::vec(any::<u8>(), 0..2000),
        cut in 1_usize..50,
    ) {
        let mut solo = Solo::new();
        prop_assert!(solo.hear(&data).len() <= 1);
        solo.accept(2, far());
        for piece in data.chunks(cut) {
            solo.stream(2, piece);
        }
        solo.wait(Duration::from_secs(20));
        prop_assert_eq!(solo.rest(), Load::default());
    }

    #[test]
    fn a_message_with_a_few_wrong_bytes_is_survived(
        which in 0_usize..5,
        wrong in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let methods = ["INVITE", "REGISTER", "OPTIONS", "BYE", "CANCEL"];
        let ask = Ask { method: methods[which], ..Ask::invite() };
        let mut data = ask.with("Require: x\r\nRecord-Route: <sip:a;lr>\r\nSupported: y\r\n").text().into_bytes();
        for (at, byte) in wrong {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.truncate(cut.index(data.len()) + data.len() / 2);
        let mut solo = Solo::new();
        let sent = solo.hear(&data);
        prop_assert!(sent.len() <= 1);
        prop_assert!(sent.iter().all(|o| o.text.len() <= 3 * data.len() && o.to.is_some_and(|to| to.ip() == far().ip())));
    }
}

/// One step of a history.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: u8,
    a: u8,
    b: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_u8..10, any::<u8>(), any::<u8>()).prop_map(|(kind, a, b)| Step { kind, a, b });
    proptest::collection::vec(step, 1..80)
}

#[derive(Default)]
struct History {
    calls: Vec<CallId>,
    requests: Vec<RequestId>,
    ended: BTreeMap<CallId, u32>,
    next: u64,
}

impl History {
    fn call(&self, n: u8) -> CallId {
        let n = usize::from(n).checked_rem(self.calls.len()).unwrap_or(0);
        self.calls.get(n).copied().unwrap_or(CallId(77))
    }

    fn read(&mut self, solo: &mut Solo) {
        for event in solo.events.drain(..) {
            let call = match event {
                Event::Incoming(incoming) => {
                    self.calls.push(incoming.call);
                    incoming.call
                }
                Event::Request { request, .. } => {
                    self.requests.push(request);
                    continue;
                }
                Event::Ended { call, .. } => {
                    *self.ended.entry(call).or_default() += 1;
                    assert_eq!(self.ended[&call], 1, "{call} ended twice");
                    continue;
                }
                Event::Ringing { call, .. }
                | Event::Progress { call, .. }
                | Event::Answered { call, .. }
                | Event::Acked { call, .. }
                | Event::Reinvite { call, .. }
                | Event::ReinviteCancelled { call }
                | Event::ReinviteAnswered { call, .. }
                | Event::ReinviteRefused { call, .. }
                | Event::Refreshed { call, .. }
                | Event::Info { call, .. }
                | Event::InfoAnswered { call, .. } => call,
                _ => continue,
            };
            assert!(!self.ended.contains_key(&call), "{call} told something after its end");
        }
    }

    fn step(&mut self, solo: &mut Solo, Step { kind, a, b }: Step) {
        let ours: Vec<Out> =
            solo.sent.iter().filter(|o| !o.start().starts_with("SIP/2.0")).cloned().collect();
        let answers: Vec<Out> = solo.sent.iter().filter(|o| o.status() > 100).cloned().collect();
        let pick = |list: &[Out]| list.iter().rev().nth(usize::from(a) % 6).cloned();
        match kind {
            0 => {
                let body = if b % 3 == 0 { String::new() } else { "v=0\r\n".into() };
                let ask = Ask {
                    call_id: format!("c{}", a % 4),
                    cseq: u32::from(b % 5),
                    branch: format!("z9hG4bK{}", b % 7),
                    body,
                    ..Ask::invite()
                };
                solo.hear(ask.text());
            }
            1 | 2 => {
                let Some(answer) = pick(&answers) else { return };
                let methods = [
                    "ACK", "BYE", "INVITE", "CANCEL", "INFO", "OPTIONS", "ACK", "UPDATE", "PRACK", "REGISTER",
                ];
                let method = methods[usize::from(b) % methods.len()];
                let number: u32 = answer.header("CSeq").unwrap().split(' ').next().unwrap().parse().unwrap();
                let cseq =
                    if matches!(method, "ACK" | "CANCEL") { number } else { number + u32::from(b / 16) };
                let old = answer.header("Via").unwrap().rsplit("branch=").next().unwrap();
                let old = old.split(';').next().unwrap();
                let same = matches!(method, "CANCEL") || method == "ACK" && answer.status() >= 300;
                let ask = Ask {
                    call_id: answer.header("Call-ID").unwrap().into(),
                    from: answer.header("From").unwrap().into(),
                    branch: if same { old.to_owned() } else { format!("z9hG4bKi{method}{cseq}") },
                    body: if method == "INVITE" && b % 2 == 0 { "v=0\r\n".into() } else { String::new() },
                    ..Ask { method, ..Ask::invite() }.within(method, &answer, cseq)
                };
                solo.hear(ask.text());
            }
            3 | 4 => {
                let Some(request) = pick(&ours) else { return };
                let statuses = [
                    "100 Trying",
                    "180 Ringing",
                    "183 Progress",
                    "200 OK",
                    "200 OK",
                    "302 Moved",
                    "401 Who",
                    "408 Late",
                    "481 Gone",
                    "486 Busy",
                    "487 Ended",
                    "491 Glare",
                    "503 Full",
                ];
                let status = statuses[usize::from(b) % statuses.len()];
                let tag = ["a", "b", ""][usize::from(b / 64) % 3];
                let body = if b % 2 == 0 { "v=0\r\n" } else { "" };
                let contact = "Contact: <sip:bob@192.0.2.2>\r\n";
                solo.hear(request.response(status, tag, contact, body));
            }
            5 => {
                self.next += 1;
                let call = CallId(self.next);
                let transport = if b % 4 == 0 {
                    crosspoint_proto::Transport::Tcp
                } else {
                    crosspoint_proto::Transport::Udp
                };
                let body = (b % 3 != 0).then(|| sdp("offer"));
                let new = Invite { body, destination: over(transport, 1), ..invite(call.0) };
                self.calls.push(call);
                solo.tell(Command::Invite(Box::new(new)));
            }
            6 | 7 => {
                let (call, body) = (self.call(a), sdp("body"));
                let phrase = String::new();
                let command = match b % 12 {
                    0 => Command::Ring { call },
                    1 => Command::Progress { call, body },
                    2 | 3 => Command::Answer { call, body },
                    4 => Command::Reject { call, status: 486, phrase, reason: None, headers: vec![] },
                    5 => Command::Ack { call, body },
                    6 => Command::Hangup { call, reason: None },
                    7 => Command::Reinvite { call, body: Some(body) },
                    8 => Command::Reinvite { call, body: None },
                    9 => Command::AnswerReinvite { call, body },
                    10 => Command::RefuseReinvite { call, status: 488 },
                    _ => Command::Info { call, body },
                };
                solo.tell(command);
            }
            8 => {
                solo.wait(Duration::from_millis(u64::from(b) * u64::from(b)));
            }
            _ => {
                let opened = solo.connects.iter().rev().nth(usize::from(a) % 3).copied();
                let Some((conn, peer)) = opened else { return };
                let local = crate::world::address(0);
                let transport = crosspoint_proto::Transport::Tcp;
                match b % 3 {
                    0 => solo.input(Input::Connected { conn, local, peer, transport }),
                    1 => solo.input(Input::Closed { conn }),
                    _ => match pick(&ours) {
                        Some(request) => solo.stream(conn.0, request.response("200 OK", "a", "", "v=0\r\n")),
                        None => Vec::new(),
                    },
                };
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn any_history_ends_with_nothing_left(steps in steps()) {
        let mut solo = Solo::new();
        let mut history = History::default();
        for step in steps {
            history.step(&mut solo, step);
            history.read(&mut solo);
        }
        for call in history.calls.clone() {
            solo.tell(Command::Hangup { call, reason: None });
        }
        history.read(&mut solo);
        for n in 0..100 {
            solo.input(Input::Closed { conn: ConnId(2 * n + 1) });
        }
        solo.wait(Duration::from_secs(120));
        let load = solo.rest();
        history.read(&mut solo);
        prop_assert_eq!(load, Load::default());
        for call in &history.calls {
            prop_assert_eq!(history.ended.get(call), Some(&1), "{} has no end", call);
        }
    }
}
