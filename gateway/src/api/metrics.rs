//! Metrics in the form that Prometheus reads. Labels are words of ours only: no alias, no address,
//! no call number ever becomes one.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Source;
use crate::alarms::Alarm;
use crate::cause::{Cause, Side};
use crate::status::{Lane, Status};

/// What is counted where it happens. Clones count into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Calls that are over, by cause.
    calls: Family<Ended, Counter>,
    /// REGISTERs answered, by what became of them.
    registers: Family<Word, Counter>,
    /// Calls that found no way, by why.
    unrouted: Family<Word, Counter>,
    /// From INVITE to answer.
    setup_seconds: Histogram,
    /// From answer to end.
    talk_seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    reason: &'static str,
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Word {
    result: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            registers: Family::default(),
            unrouted: Family::default(),
            setup_seconds: Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
            talk_seconds: Histogram::new([1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0]),
        }
    }
}

impl Metrics {
    /// A call is over.
    pub fn call_ended(&self, cause: Cause, talk: Option<std::time::Duration>) {
        let side = match cause.side {
            Side::Local => "local",
            Side::Remote => "remote",
            Side::Peer => "peer",
        };
        self.calls.get_or_create(&Ended { reason: cause.reason.word(), side }).inc();
        if let Some(talk) = talk {
            self.talk_seconds.observe(talk.as_secs_f64());
        }
    }

    /// A call was answered so long after it came in.
    pub fn call_answered(&self, after: std::time::Duration) {
        self.setup_seconds.observe(after.as_secs_f64());
    }

    /// A REGISTER was answered: "accepted", "challenged", "refused" or another word of ours.
    pub fn register(&self, result: &'static str) {
        self.registers.get_or_create(&Word { result }).inc();
    }

    /// A call found no way: a word of ours.
    pub fn unrouted(&self, result: &'static str) {
        self.unrouted.get_or_create(&Word { result }).inc();
    }

    /// All of them, and what `source` shows at each scrape.
    pub(super) fn registry(&self, source: Arc<dyn Source>) -> Registry {
        let mut registry = Registry::with_prefix("crosspoint");
        registry.register("calls", "Calls that are over", self.calls.clone());
        registry.register("registers", "REGISTER requests answered", self.registers.clone());
        registry.register("unrouted_calls", "Calls that found no way", self.unrouted.clone());
        let seconds = Unit::Seconds;
        registry.register_with_unit(
            "call_setup",
            "Time from call to answer",
            seconds.clone(),
            self.setup_seconds.clone(),
        );
        registry.register_with_unit(
            "call_talk",
            "Time from answer to end",
            seconds,
            self.talk_seconds.clone(),
        );
        registry.register_collector(Box::new(Now(source)));
        registry
    }
}

/// What the status shows at the moment of the scrape, in sums.
struct Now(Arc<dyn Source>);

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status();
        let (mut ringing, mut answered) = (0_u64, 0);
        for call in &status.calls {
            *if call.state == "answered" { &mut answered } else { &mut ringing } += 1;
        }
        let contacts = status.registrations.iter().map(|it| it.contacts.len()).sum();
        let out = &mut encoder;
        labelled(out, "calls_active", "Calls now", "state", &[("ringing", ringing), ("answered", answered)])?;
        labelled(out, "streams_active", "Streams now, by what feeds them", "route", &routes(&status))?;
        gauge(out, "devices", "Devices that may register", count(status.devices))?;
        gauge(out, "registered_devices", "Devices that are registered", count(status.registrations.len()))?;
        gauge(out, "registered_contacts", "Contacts of registered devices", count(contacts))?;
        gauge(out, "media_ports_used", "Media ports in use", count(status.media_ports.used))?;
        gauge(out, "media_ports", "Media ports there are", count(status.media_ports.total))?;
        gauge(out, "uptime_seconds", "Seconds since the start", status.uptime_seconds)?;
        let stands = |alarm: Alarm| u64::from(status.alarms.iter().any(|it| it == alarm.word()));
        let alarms = Alarm::ALL.map(|alarm| (alarm.word(), stands(alarm)));
        labelled(out, "alarm", "1 for what is wrong with the gateway", "alarm", &alarms)?;
        lanes(out, &status)?;
        signalling(out, &status)
    }
}

/// The words are ours: they come from the plan.
fn routes(status: &Status) -> Vec<(&'static str, u64)> {
    let streams = status.calls.iter().flat_map(|call| &call.legs).flat_map(|leg| &leg.streams);
    let mut counts = [("relay", 0), ("relay-units", 0), ("transcode", 0), ("play", 0), ("silence", 0)];
    for stream in streams {
        if let Some((_, count)) = counts.iter_mut().find(|(word, _)| *word == stream.route) {
            *count += 1;
        }
    }
    counts.to_vec()
}

fn lanes(out: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let all = |figure: fn(&Lane) -> u64| -> Vec<(&'static str, u64)> {
        let worst = |lane: fn(&crate::status::Worker) -> &Lane| {
            status.engine.iter().map(|worker| figure(lane(worker))).max().unwrap_or_default()
        };
        vec![("audio", worst(|worker| &worker.audio)), ("video", worst(|worker| &worker.video))]
    };
    let sum = |lane: fn(&crate::status::Worker) -> &Lane| -> u64 {
        status.engine.iter().map(|worker| lane(worker).encoders).sum()
    };
    let encoders = [("audio", sum(|worker| &worker.audio)), ("video", sum(|worker| &worker.video))];
    labelled(
        out,
        "encoders",
        "Encoders that work now, each for all who are sent the same",
        "lane",
        &encoders,
    )?;
    let load = "How full the fullest worker is, in thousandths: from 900 on no new calls are taken";
    labelled(out, "load_permille", load, "lane", &all(|lane| lane.load.into()))?;
    let lowered = "By how many sizes pictures are made smaller because there is too much to do";
    labelled(out, "pictures_lowered", lowered, "lane", &all(|lane| lane.lowered))?;
    let overdue = "Pictures of the worst worker that took longer than their step, which did not wait";
    labelled(out, "pictures_overdue", overdue, "lane", &all(|lane| lane.overdue))?;
    let late = "Lateness of the worst worker's tick, 99 of 100, in microseconds";
    labelled(out, "tick_late_p99_us", late, "lane", &all(|lane| lane.late_p99_us))?;
    labelled(
        out,
        "tick_late_max_us",
        "The latest tick ever, in microseconds",
        "lane",
        &all(|it| it.late_max_us),
    )?;
    labelled(
        out,
        "tick_busy_max_us",
        "The longest step ever, in microseconds",
        "lane",
        &all(|it| it.busy_max_us),
    )?;
    labelled(out, "ticks_jumped", "Ticks left out by the worst worker", "lane", &all(|lane| lane.jumped))
}

fn signalling(out: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    for its in &status.signalling {
        for (name, help, value) in [
            ("connections_refused", "Connections refused by a limit", its.connections_refused),
            ("connects_failed", "Connections that could not be opened", its.connects_failed),
            ("handshakes_failed", "TLS handshakes that failed", its.handshakes_failed),
            ("accept_errors", "Times that the system could accept no connection", its.accept_errors),
            ("write_overflows", "Connections closed because their peer did not read", its.write_overflows),
            ("datagrams_received", "Datagrams received", its.datagrams_received),
            ("datagrams_sent", "Datagrams sent", its.datagrams_sent),
            ("datagrams_dropped", "Datagrams that could not be sent", its.datagrams_dropped),
            ("event_stalls", "Times that the network had to wait for us", its.event_stalls),
        ] {
            let name = format!("{}_{name}", its.protocol);
            let metric = out.encode_descriptor(&name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        gauge(out, &format!("{}_connections", its.protocol), "Connections that stand", its.connections)?;
    }
    Ok(())
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(signed(value)).encode(metric)
}

fn labelled(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[(&'static str, u64)],
) -> fmt::Result {
    let mut metric: MetricEncoder<'_> = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (word, value) in values {
        ConstGauge::new(signed(*value)).encode(metric.encode_family(&[(label, *word)])?)?;
    }
    Ok(())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

const fn count(value: usize) -> u64 {
    value as u64
}
