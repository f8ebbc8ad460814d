//! `/calls/{call}/trace`: what happened on the legs of a call, step by step.

use axum::extract::State;
use serde_json::{Value, json};

use super::Admin;
use super::answer::Refused;
use super::body::{Asked, Named};
use crate::conference::LiveCall;
use crate::conference::traces::{NoTrace, Trace, TracedLeg};
use crate::ladder::{Step, What, printable};
use crate::leg::Origin;
use crate::records::{CallRecord, StreamRecord};
use crate::status::{LegStatus, StreamStatus, rfc3339};

pub(super) async fn show(
    State(admin): State<Admin>,
    Named(number): Named<String>,
    Asked(asked): Asked,
) -> Result<axum::Json<Value>, Refused> {
    asked.end()?;
    let exchange = &admin.0.parts.exchange;
    let trace = find(&admin, &number)?;
    let live = exchange.calls().into_iter().find(|it| it.call == trace.call);
    Ok(axum::Json(document(&trace, live.as_ref())))
}

/// The call that `number` names.
pub(super) fn find(admin: &Admin, number: &str) -> Result<Trace, Refused> {
    admin.0.parts.exchange.traces().find(number).map_err(|none| {
        let number = printable(&number.chars().take(20).collect::<String>());
        Refused::not_found(match none {
            NoTrace::Unknown => format!(
                "no call {number} is live or among the last that are over: see GET /status/calls and GET /history/calls"
            ),
            NoTrace::Several => {
                format!("several calls have a number that begins with {number}: write it whole")
            }
        })
    })
}

fn document(trace: &Trace, live: Option<&LiveCall>) -> Value {
    let record = trace.record.as_ref();
    let mut steps: Vec<(Option<u64>, Step)> =
        trace.own.steps().into_iter().map(|step| (None, step)).collect();
    for leg in &trace.legs {
        steps.extend(leg.ladder.steps().into_iter().map(|step| (Some(leg.leg.0), step)));
    }
    // Of one moment those of a leg stay in their order.
    steps.sort_by_key(|(_, step)| step.at);
    let steps: Vec<Value> = steps.iter().map(|(leg, step)| of_step(trace, *leg, step)).collect();
    let legs: Vec<Value> = trace.legs.iter().map(|leg| of_leg(leg, record, live)).collect();
    json!({
        "call": trace.call,
        "state": if record.is_some() { "over" } else { "live" },
        "began": rfc3339(trace.began),
        "caller": printable(&trace.caller.address),
        "called": printable(&trace.caller.called),
        "answered_by": record.and_then(|it| it.answered_by.as_deref()).map(printable),
        "reason": record.map(|it| it.reason.clone()),
        "side": record.map(|it| it.side.clone()),
        "talk_seconds": record.map(|it| it.talk_seconds),
        "legs": legs,
        "more_legs": trace.more_legs,
        "steps": steps,
    })
}

fn of_leg(leg: &TracedLeg, record: Option<&CallRecord>, live: Option<&LiveCall>) -> Value {
    let recorded = record.and_then(|it| it.legs.iter().find(|it| it.leg == leg.leg.0));
    let shown = live.and_then(|it| it.view.legs.iter().find(|it| it.id == leg.leg)).map(LegStatus::from);
    let streams = match (recorded, &shown) {
        (Some(recorded), _) => recorded.streams.clone(),
        (None, Some(shown)) => shown.streams.iter().map(so_far).collect(),
        (None, None) => Vec::new(),
    };
    json!({
        "leg": leg.leg.0,
        "origin": if leg.party.origin == Origin::Incoming { "incoming" } else { "outgoing" },
        "protocol": leg.party.protocol,
        "address": printable(leg.party.device.as_deref().unwrap_or(&leg.party.address)),
        "trunk": leg.party.trunk,
        "streams": streams,
    })
}

fn so_far(stream: &StreamStatus) -> StreamRecord {
    StreamRecord {
        role: stream.role.clone(),
        receive: stream.receive.clone(),
        send: stream.send.clone(),
        routes: vec![stream.route.clone()],
        encrypted: stream.encrypted,
        packets_received: stream.packets_received,
        packets_lost: stream.packets_lost,
        packets_sent: stream.packets_sent,
        jitter_ms: stream.jitter_ms,
    }
}

fn of_step(trace: &Trace, leg: Option<u64>, step: &Step) -> Value {
    let micros = step.at.saturating_duration_since(trace.zero).as_micros();
    let ms = f64::from(u32::try_from(micros / 100).unwrap_or(u32::MAX)) / 10.0;
    let mut shown = json!({ "ms": ms, "leg": leg });
    let more = match &step.what {
        What::Message(it) => json!({
            "kind": "message",
            "sent": it.sent,
            "transport": it.transport,
            "peer": it.peer.to_string(),
            "text": it.line,
            "sequence": it.sequence,
            "describes": it.describes,
        }),
        What::Streams(text) => json!({ "kind": "streams", "text": text }),
        What::Note(text) => json!({ "kind": "note", "text": text }),
        What::More(count) => json!({ "kind": "more", "count": count }),
    };
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}
