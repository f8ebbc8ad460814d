//! What is recorded of calls: how they went, and when.

use std::time::{Duration, Instant, SystemTime};

use crosspoint_codecs::format::MediaKind;
use tokio::sync::{oneshot, watch};

use crate::cause::{Cause, Reason};
use crate::conference::call::{CallView, LegView, Outcome};
use crate::events::What;
use crate::leg::LegId;
use crate::records::{CallRecord, LegRecord, StreamRecord};
use crate::status::rfc3339;

/// When a call was answered, by both clocks.
pub(super) type Answered = Option<(Instant, SystemTime)>;

/// Waits for the end of a call, and looks when it is answered, which is `told`.
pub(super) async fn to_its_end<T>(
    over: impl Future<Output = T>,
    mut answers: watch::Receiver<CallView>,
    told: impl FnOnce(SystemTime),
) -> (T, Answered) {
    let moment = async {
        // A call that ends without an answer is told of by its end.
        let answered = answers.wait_for(|view| view.answered).await.is_ok();
        let at = (Instant::now(), SystemTime::now());
        if answered {
            told(at.1);
        }
        at
    };
    tokio::pin!(over, moment);
    let mut answered = None;
    loop {
        tokio::select! {
            biased;
            at = &mut moment, if answered.is_none() => answered = Some(at),
            outcome = &mut over => return (outcome, answered),
        }
    }
}

/// Waits for the end of a call that a conference has; what is recorded of it. Its `answered_by` is who
/// answers, if somebody does.
pub(super) async fn attend(
    over: oneshot::Receiver<Outcome>,
    answers: watch::Receiver<CallView>,
    record: CallRecord,
    start: Instant,
    told: impl FnOnce(SystemTime),
) -> (CallRecord, Cause, Duration) {
    match to_its_end(over, answers, told).await {
        (Ok(outcome), answered) => recorded(record, &outcome, answered, start),
        (Err(_), _) => ended(record, Cause::local(Reason::Congestion), start.elapsed()),
    }
}

/// What is recorded of a call that is over.
pub(super) fn recorded(
    mut record: CallRecord,
    outcome: &Outcome,
    answered: Answered,
    start: Instant,
) -> (CallRecord, Cause, Duration) {
    let mut rang = start.elapsed();
    match answered.filter(|_| outcome.answered_by.is_some()) {
        Some((at, wall)) => {
            record.answered = Some(rfc3339(wall));
            record.talk_seconds = at.elapsed().as_secs_f64();
            rang = at - start;
        }
        None => record.answered_by = None,
    }
    record.transfers.clone_from(&outcome.transfers);
    record.legs = outcome.legs.iter().map(|leg| leg_record(leg, &outcome.routes)).collect();
    ended(record, outcome.cause, rang)
}

/// What is recorded of a call that ended for that reason, after it rang for so long.
pub(super) fn ended(mut record: CallRecord, cause: Cause, rang: Duration) -> (CallRecord, Cause, Duration) {
    record.ended = rfc3339(SystemTime::now());
    record.reason = cause.reason.word().to_owned();
    record.side = cause.side.word().to_owned();
    (record, cause, rang)
}

/// What is recorded of a leg, with the routes that it had.
pub(super) fn leg_record(leg: &LegView, routes: &[(LegId, MediaKind, &'static str)]) -> LegRecord {
    let streams = leg.streams.iter().map(|view| {
        let (agreed, stats) = (&view.stream.agreed, view.stream.port.stats());
        let fed = routes.iter().filter(|(id, role, _)| *id == leg.id && *role == agreed.role);
        StreamRecord {
            role: agreed.role.to_string(),
            receive: agreed.receive.codec().to_string(),
            send: agreed.send.codec().to_string(),
            routes: fed.map(|(_, _, word)| (*word).to_owned()).collect(),
            encrypted: stats.encrypted,
            packets_received: stats.packets_received,
            packets_lost: stats.packets_lost,
            packets_sent: stats.packets_sent,
            jitter_ms: stats.jitter.as_secs_f64() * 1000.0,
        }
    });
    LegRecord {
        leg: leg.id.0,
        protocol: leg.party.protocol.to_owned(),
        transport: leg.party.transport.to_owned(),
        address: leg.party.address.clone(),
        signalling: leg.party.signalling.map(|it| it.to_string()).unwrap_or_default(),
        trunk: leg.party.trunk.clone(),
        streams: streams.collect(),
    }
}

/// What is told of a call that is over.
pub(super) fn call_ended(record: &CallRecord) -> What {
    What::CallEnded {
        call: record.call,
        caller: record.caller.clone(),
        called: record.called.clone(),
        reason: record.reason.clone(),
        side: record.side.clone(),
        talk_seconds: record.talk_seconds,
    }
}
