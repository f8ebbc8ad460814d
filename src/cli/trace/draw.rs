//! Draws a trace: two lanes, that of the caller and that of those who are called, with the gateway
//! between them.

use std::fmt::Write as _;

use crosspoint_gateway::ladder::printable;
use serde_json::Value;

/// Columns of the time, to its space.
const TIME: usize = 11;

/// What an arrow has around its text: two dashes and a space on each side, and its head.
const SHAFT: usize = 7;

/// The trace as text whose lines are not longer than `width`.
pub(super) fn ladder(trace: &Value, width: usize) -> String {
    let lane = (width - TIME - 3) / 2;
    let mut drawing = Drawing { out: String::new(), width, lane };
    drawing.title(trace);
    let legs: Vec<&Value> = trace["legs"].as_array().into_iter().flatten().collect();
    let caller = legs.iter().find(|leg| leg["origin"] == "incoming").map(|leg| &leg["leg"]);
    let called = legs.iter().filter(|leg| leg["origin"] != "incoming").count();
    let mut peers: Vec<(&Value, String)> = Vec::new();
    for step in trace["steps"].as_array().into_iter().flatten() {
        let left = caller.is_some_and(|leg| *leg == step["leg"]);
        let name = match &step["leg"] {
            Value::Null => String::new(),
            _ if left => "caller: ".into(),
            leg if called > 1 => format!("called, leg {leg}: "),
            _ => "called: ".into(),
        };
        match step["kind"].as_str() {
            Some("message") => {
                let peer = format!("{} by {}", text(&step["peer"]), text(&step["transport"]));
                if peers.iter().rev().find(|(leg, _)| *leg == &step["leg"]).is_none_or(|it| it.1 != peer) {
                    drawing.note(step, &format!("{name}with {peer}"));
                    peers.push((&step["leg"], peer));
                }
                drawing.arrow(step, left, if called > 1 && !left { &step["leg"] } else { &Value::Null });
            }
            Some("more") => drawing.note(step, &format!("{name}{} more steps are left out", step["count"])),
            _ => drawing.note(step, &format!("{name}{}", text(&step["text"]))),
        }
    }
    for leg in &legs {
        drawing.streams(leg);
    }
    if let Some(more) = trace["more_legs"].as_u64().filter(|more| *more > 0) {
        let _ = writeln!(drawing.out, "{more} more legs were not traced");
    }
    drawing.out
}

struct Drawing {
    out: String,
    width: usize,
    lane: usize,
}

impl Drawing {
    fn title(&mut self, trace: &Value) {
        let (caller, called) = (text(&trace["caller"]), text(&trace["called"]));
        let end = match (trace["reason"].as_str(), trace["talk_seconds"].as_f64()) {
            (Some(reason), Some(seconds)) => {
                let (reason, side) = (printable(reason), text(&trace["side"]));
                format!("over: {reason} ({side}), {seconds:.1} s of talk")
            }
            _ => "goes on".into(),
        };
        let first = format!("call {}  {caller} -> {called}  {}  {end}", trace["call"], text(&trace["began"]));
        for line in wrapped(&first, self.width) {
            let _ = writeln!(self.out, "{line}");
        }
        let answered = trace["answered_by"].as_str().map_or(called, |it| printable(it).into());
        let lane = self.lane;
        let (left, right) = (cut(&caller, lane - 6), cut(&answered, lane - 6));
        // The gateway's name stands around its line.
        let (before, after) = (lane - 4, lane - 5);
        let _ = writeln!(
            self.out,
            "{:>9}  {left:<before$}crosspoint{right:>after$}",
            "ms",
            before = before,
            after = after
        );
    }

    fn arrow(&mut self, step: &Value, left: bool, leg: &Value) {
        let line = text(&step["text"]);
        let mut said = if leg.is_null() { line.clone() } else { format!("leg {leg}: {line}") };
        // A response says what it answers.
        if line.starts_with(|sign: char| sign.is_ascii_digit()) {
            let method = text(&step["sequence"]);
            let _ = write!(said, " ({})", method.split(' ').next_back().unwrap_or_default());
        }
        if step["describes"] == true {
            said.push_str(" [sdp]");
        }
        let lane = self.lane;
        let lines = wrapped(&said, lane - SHAFT);
        for (number, line) in lines.iter().enumerate() {
            let last = number + 1 == lines.len();
            let ms = if number == 0 { time(step) } else { String::new() };
            let to_the_right = (step["sent"] == true) != left;
            let drawn = match (last, to_the_right) {
                (false, _) => format!("   {line:<rest$}", rest = lane - 3),
                (true, true) => {
                    let dashes = lane - 5 - line.chars().count();
                    format!("-- {line} {}>", "-".repeat(dashes))
                }
                (true, false) => {
                    let dashes = lane - 5 - line.chars().count();
                    format!("<- {line} {}", "-".repeat(dashes + 1))
                }
            };
            let empty = " ".repeat(lane);
            let (one, two) = if left { (&drawn, &empty) } else { (&empty, &drawn) };
            let _ = writeln!(self.out, "{ms:>9}  |{one}|{two}|");
        }
    }

    fn note(&mut self, step: &Value, said: &str) {
        for (number, line) in wrapped(said, self.width - TIME - 4).iter().enumerate() {
            let (ms, dot) = if number == 0 { (time(step), "*") } else { (String::new(), " ") };
            let _ = writeln!(self.out, "{ms:>9}  | {dot} {line}");
        }
    }

    fn streams(&mut self, leg: &Value) {
        let who = if leg["origin"] == "incoming" { "caller" } else { "called" };
        for stream in leg["streams"].as_array().into_iter().flatten() {
            let number = |name: &str| stream[name].as_u64().unwrap_or_default();
            let (received, lost) = (number("packets_received"), number("packets_lost"));
            let routes: Vec<String> = stream["routes"].as_array().into_iter().flatten().map(text).collect();
            let said = format!(
                "{who} {}, leg {}, {}: in {}, out {} ({}), {}; received {received}, lost {lost} ({:.1} %), jitter {:.1} ms, sent {}",
                text(&leg["address"]),
                leg["leg"],
                text(&stream["role"]),
                text(&stream["receive"]),
                text(&stream["send"]),
                if routes.is_empty() { "nothing".into() } else { routes.join(", ") },
                if stream["encrypted"] == true { "SRTP" } else { "RTP" },
                percent(lost, received + lost),
                stream["jitter_ms"].as_f64().unwrap_or_default(),
                number("packets_sent"),
            );
            for (number, line) in wrapped(&said, self.width - 2).iter().enumerate() {
                let _ = writeln!(self.out, "{}{line}", if number == 0 { "" } else { "  " });
            }
        }
    }
}

/// Text of the gateway, which has it of peers, once more as nothing but text.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or("-")).into()
}

fn time(step: &Value) -> String {
    format!("{:.1}", step["ms"].as_f64().unwrap_or_default())
}

#[allow(clippy::cast_precision_loss, reason = "a share in percent needs no more than 52 bits")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 3).chain("...".chars()).collect()
}

/// In lines of at most `width` signs, broken at a space where there is one.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut signs = 0;
    for word in text.split_inclusive(' ') {
        if signs > 0 && signs + word.trim_end().chars().count() > width {
            lines.push(String::new());
            signs = 0;
        }
        for sign in word.chars() {
            if signs == width {
                if sign == ' ' {
                    continue;
                }
                lines.push(String::new());
                signs = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(sign);
            }
            signs += 1;
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(ms: f64, leg: u64, sent: bool, line: &str, describes: bool) -> Value {
        json!({
            "ms": ms, "leg": leg, "kind": "message", "sent": sent, "transport": "udp",
            "peer": format!("192.0.2.{leg}:5060"), "text": line, "sequence": "1 INVITE", "describes": describes,
        })
    }

    fn call() -> Value {
        json!({
            "call": 7, "state": "over", "began": "2026-01-02T03:04:05.678Z", "caller": "alice", "called": "bob",
            "answered_by": "bob", "reason": "hangup", "side": "remote", "talk_seconds": 12.34,
            "legs": [
                {"leg": 1, "origin": "incoming", "address": "alice", "streams": [{
                    "role": "audio", "receive": "opus", "send": "opus", "routes": ["relay"], "encrypted": false,
                    "packets_received": 597, "packets_lost": 3, "packets_sent": 600, "jitter_ms": 2.04,
                }]},
                {"leg": 2, "origin": "outgoing", "address": "bob", "streams": []},
            ],
            "more_legs": 0,
            "steps": [
                message(0.0, 1, false, "INVITE sip:bob@example.com", true),
                {"ms": 0.4, "leg": null, "kind": "note", "text": "routed: bob is a device that is registered"},
                message(1.2, 2, true, "INVITE sip:bob@192.0.2.2:5060;transport=udp;line=0123456789abcdef", true),
                message(20.0, 2, false, "180 Ringing", false),
                {"ms": 21.0, "leg": 2, "kind": "streams", "text": "agreed audio opus sendrecv, not encrypted"},
                message(1021.5, 1, true, "200 OK", true),
                {"ms": 1022.0, "leg": 1, "kind": "more", "count": 9},
            ],
        })
    }

    #[test]
    fn a_call_is_drawn_as_a_ladder() {
        let expected = "\
call 7  alice -> bob  2026-01-02T03:04:05.678Z  over: hangup (remote), 12.3 s of
talk
       ms  alice                        crosspoint                         bob
      0.0  | * caller: with 192.0.2.1:5060 by udp
      0.0  |   INVITE sip:bob@example.com    |                                 |
           |-- [sdp] ----------------------->|                                 |
      0.4  | * routed: bob is a device that is registered
      1.2  | * called: with 192.0.2.2:5060 by udp
      1.2  |                                 |   INVITE                        |
           |                                 |   sip:bob@192.0.2.2:5060;tra    |
           |                                 |   nsport=udp;line=0123456789    |
           |                                 |-- abcdef [sdp] ---------------->|
     20.0  |                                 |<- 180 Ringing (INVITE) ---------|
     21.0  | * called: agreed audio opus sendrecv, not encrypted
   1021.5  |<- 200 OK (INVITE) [sdp] --------|                                 |
   1022.0  | * caller: 9 more steps are left out
caller alice, leg 1, audio: in opus, out opus (relay), RTP; received 597, lost
  3 (0.5 %), jitter 2.0 ms, sent 600
";
        let drawn = ladder(&call(), 80);
        assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{drawn}");
        assert_eq!(drawn, expected);
    }

    #[test]
    fn threat_21_what_peers_say_draws_nothing_of_its_own() {
        let mut trace = call();
        let hostile = "Bob\u{1b}[2J\r\n      0.0  |<- 200 OK\u{202e}";
        trace["caller"] = hostile.into();
        trace["steps"][0]["text"] = hostile.into();
        trace["steps"][1]["text"] = hostile.into();
        trace["steps"][0]["peer"] = hostile.into();
        let clean = ladder(&call(), 100).lines().count();
        for width in [60, 80, 200] {
            let drawn = ladder(&trace, width);
            assert!(!drawn.contains(['\u{1b}', '\r', '\u{202e}']), "{drawn}");
            assert!(drawn.contains("Bob\\u{1b}[2J\\u{d}\\u{a}"), "{drawn}");
            assert!(drawn.lines().all(|line| line.chars().count() <= width), "{drawn}");
            assert!(drawn.lines().count() < clean + 20);
        }
    }
}
