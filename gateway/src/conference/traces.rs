//! What is known of calls for who looks for a fault: their legs' ladders and their records, those of
//! calls that are live and of the last that are over.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::ladder::Ladder;
use crate::leg::{Leg, LegId, Origin, Party};
use crate::records::CallRecord;

/// Calls that are over and still known. Overflow: the oldest is forgotten.
pub const KEPT: usize = 1_000;

/// Octets that they have together, whatever their number. Overflow: the oldest are forgotten.
pub const OCTETS: usize = 16 << 20;

/// Legs of one call that are known: a hunt rings some phones, not a hundred. Overflow: the others are
/// counted.
pub const LEGS: usize = 16;

/// One call.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its number, as in status and records.
    pub call: u64,
    /// When it began.
    pub began: SystemTime,
    /// The same on the clock of the ladders.
    pub zero: Instant,
    /// Who called.
    pub caller: Party,
    /// What was decided for the call as a whole.
    pub own: Ladder,
    /// Its legs, as they came.
    pub legs: Vec<TracedLeg>,
    /// Legs beyond [`LEGS`].
    pub more_legs: u64,
    /// What was recorded, once it is over.
    pub record: Option<CallRecord>,
}

/// A leg of it.
#[derive(Clone, Debug)]
pub struct TracedLeg {
    /// Its number.
    pub leg: LegId,
    /// Who it was, when it began.
    pub party: Party,
    /// What happened on it.
    pub ladder: Ladder,
}

/// Why no call was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTrace {
    /// There is none.
    Unknown,
    /// Several numbers begin so.
    Several,
}

/// The calls of one gateway. Clones share them.
#[derive(Clone, Default)]
pub struct Traces(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// As many as there are calls.
    live: BTreeMap<u64, Trace>,
    over: VecDeque<(Trace, usize)>,
    octets: usize,
}

impl Traces {
    /// A call has begun.
    pub(super) fn begin(&self, call: u64, began: SystemTime, caller: &Party) {
        let trace = Trace {
            call,
            began,
            zero: Instant::now(),
            caller: caller.clone(),
            own: Ladder::default(),
            legs: Vec::new(),
            more_legs: 0,
            record: None,
        };
        self.known().live.insert(call, trace);
    }

    /// A leg belongs to it.
    pub(super) fn join(&self, call: u64, leg: &Leg) {
        let mut known = self.known();
        let Some(trace) = known.live.get_mut(&call) else { return };
        if trace.legs.len() == LEGS {
            trace.more_legs += 1;
            return;
        }
        // The caller's first message is where its time begins.
        let first = leg.ladder.steps().first().map(|step| step.at);
        if leg.party.origin == Origin::Incoming {
            trace.zero = first.map_or(trace.zero, |at| at.min(trace.zero));
        }
        trace.legs.push(TracedLeg { leg: leg.id, party: leg.party.clone(), ladder: leg.ladder.clone() });
    }

    /// Something was decided.
    pub(super) fn note(&self, call: u64, text: &str) {
        let own = self.known().live.get(&call).map(|trace| trace.own.clone());
        if let Some(own) = own {
            own.note(Instant::now(), text);
        }
    }

    /// It is over.
    pub(super) fn end(&self, record: &CallRecord) {
        let mut known = self.known();
        let Some(mut trace) = known.live.remove(&record.call) else { return };
        trace.record = Some(record.clone());
        let ladders: usize = trace.legs.iter().map(|leg| leg.ladder.octets()).sum();
        let octets = size_of::<Trace>() + ladders + trace.own.octets();
        known.octets += octets;
        known.over.push_back((trace, octets));
        while known.over.len() > KEPT || known.octets > OCTETS {
            let Some((_, octets)) = known.over.pop_front() else { break };
            known.octets -= octets;
        }
    }

    /// The call of that number, or the one whose number alone begins so.
    pub fn find(&self, number: &str) -> Result<Trace, NoTrace> {
        let known = self.known();
        let all = || known.live.values().chain(known.over.iter().map(|(trace, _)| trace));
        if let Some(exact) = all().find(|trace| trace.call.to_string() == number) {
            return Ok(exact.clone());
        }
        let digits = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
        let mut fitting = all().filter(|trace| digits && trace.call.to_string().starts_with(number));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(NoTrace::Several),
            (None, _) => Err(NoTrace::Unknown),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        let (live, over) = (known.live.len(), known.over.len());
        f.debug_struct("Traces").field("live", &live).field("over", &over).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conference::cardboard;

    fn ended(call: u64) -> CallRecord {
        CallRecord { call, ..CallRecord::default() }
    }

    fn call(traces: &Traces, number: u64, words: usize) {
        let (leg, _far) = cardboard::leg(number);
        traces.begin(number, SystemTime::UNIX_EPOCH, &leg.party);
        traces.join(number, &leg);
        (0..words).for_each(|_| leg.ladder.note(Instant::now(), &"x".repeat(200)));
        traces.end(&ended(number));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_calls_are_forgotten_by_number_and_by_memory() {
        let traces = Traces::default();
        let more = KEPT as u64 + 5;
        (1..=more).for_each(|number| call(&traces, number, 1));
        assert_eq!(traces.find("5").unwrap_err(), NoTrace::Several, "50 is there and 5 is not");
        assert_eq!(traces.find("6").unwrap().call, 6);
        (1..=1_000).for_each(|number| call(&traces, 10_000 + number, 128));
        let known = traces.known();
        assert!(known.octets <= OCTETS && known.over.len() > 300, "{} of {}", known.octets, known.over.len());
        assert_eq!(known.over.back().unwrap().0.call, 11_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_found_by_its_number_or_what_only_it_begins_with() {
        let traces = Traces::default();
        [7, 71, 130].into_iter().for_each(|number| call(&traces, number, 1));
        assert_eq!(traces.find("7").unwrap().call, 7, "the number itself comes first");
        assert_eq!(traces.find("13").unwrap().call, 130);
        for unknown in ["", "2", "7x", "1300", "-7"] {
            assert_eq!(traces.find(unknown).unwrap_err(), NoTrace::Unknown, "{unknown}");
        }
        let (leg, _far) = cardboard::leg(9);
        traces.begin(9, SystemTime::UNIX_EPOCH, &leg.party);
        (0..LEGS + 2).for_each(|_| traces.join(9, &leg));
        let live = traces.find("9").unwrap();
        assert_eq!((live.legs.len(), live.more_legs, live.record), (LEGS, 2, None));
    }
}
