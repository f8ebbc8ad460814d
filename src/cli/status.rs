//! `crosspoint status`: asks the running gateway and shows the answer as a table.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use crosspoint_gateway::api::Health;
use crosspoint_gateway::records::clean;
use crosspoint_gateway::status::{LegStatus, Status, StreamStatus, TrunkStatus};

use super::ask::{address, fetch, nobody};
use super::{Failure, Setting, print};

/// What to show.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The document itself, as JSON.
    #[arg(long)]
    json: bool,
    /// Only whether it can serve; exit code 1 when it cannot, for health checks.
    #[arg(long, conflicts_with = "json")]
    health: bool,
    /// Where the gateway's management listener is, if not where the configuration has it.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<SocketAddr>,
}

impl Show {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        let address = address(setting, self.address)?;
        let nobody = |error: String| nobody(address, &error);
        let stranger = |error: serde_json::Error| {
            Failure::Told(format!("what answers at http://{address} is no gateway: {error}"))
        };
        if self.health {
            let (_, body) = fetch(address, "GET", "/healthz", "", "").map_err(nobody)?;
            let health: Health = serde_json::from_str(&body).map_err(stranger)?;
            return match health.problems.as_slice() {
                [] => print("healthy\n"),
                problems => Err(Failure::Told(format!("not healthy: {}", problems.join("; ")))),
            };
        }
        let (line, body) = fetch(address, "GET", "/status", "", "").map_err(nobody)?;
        if line.split(' ').nth(1) != Some("200") {
            return Err(nobody(format!("it says {}", clean(&line))));
        }
        if self.json {
            return print(&format!("{body}\n"));
        }
        let status: Status = serde_json::from_str(&body).map_err(stranger)?;
        print(&table(&status))
    }
}

fn table(status: &Status) -> String {
    let mut out = String::new();
    let up = clock(status.uptime_seconds);
    let _ = writeln!(out, "Crosspoint {}, up {up}, data in {}", status.version, status.data);
    let listening: Vec<_> =
        status.listening.iter().map(|it| format!("{} {}:{}", it.service, it.transport, it.address)).collect();
    let _ = writeln!(out, "listens   {}", listening.join(", "));
    let _ = writeln!(out, "kernels   {}", status.instructions);
    for (index, worker) in status.engine.iter().enumerate() {
        for (name, lane) in [("audio", &worker.audio), ("video", &worker.video)] {
            let _ = writeln!(
                out,
                "engine    worker {index} {name}: {} streams, {} encoders, load {} %{}, tick late p99 {:.2} ms, max {:.2} ms, {} left out",
                lane.members,
                lane.encoders,
                lane.load / 10,
                if lane.lowered > 0 { " (pictures are made smaller)" } else { "" },
                millis(lane.late_p99_us),
                millis(lane.late_max_us),
                lane.jumped,
            );
        }
    }
    let _ =
        writeln!(out, "media     {} of {} ports in use", status.media_ports.used, status.media_ports.total);
    let _ = writeln!(out, "devices   {}, registered {}", status.devices, status.registrations.len());
    for registration in &status.registrations {
        for contact in &registration.contacts {
            let _ = writeln!(
                out,
                "  {:16} {}  [{}]  {} s left  {}",
                clean(&registration.alias),
                if contact.protocol == "api" { "by HTTPS".into() } else { clean(&contact.uri) },
                if contact.flow.is_empty() { "connection closed" } else { &contact.flow },
                contact.expires_seconds,
                clean(&contact.user_agent),
            );
        }
    }
    if !status.trunks.is_empty() {
        let up = status.trunks.iter().filter(|trunk| trunk.state == "up").count();
        let _ = writeln!(out, "trunks    {}, up {up}", status.trunks.len());
    }
    for trunk in &status.trunks {
        show_trunk(&mut out, trunk);
    }
    if !status.bans.is_empty() {
        let _ = writeln!(out, "banned    {}", status.bans.len());
    }
    for ban in &status.bans {
        let (source, left) = (clean(&ban.source), ban.seconds);
        let _ = writeln!(out, "  {source}  {left} s left; crosspoint unban {source} lifts it");
    }
    let _ = writeln!(out, "rooms     {}", status.conferences.len());
    for room in &status.conferences {
        let waiting = if room.waiting > 0 { format!(", {} wait", room.waiting) } else { String::new() };
        let locked = if room.locked { ", locked" } else { "" };
        let _ = writeln!(out, "  {}  {} in{waiting}{locked}", clean(&room.name), room.participants);
    }
    let _ = writeln!(out, "calls     {}", status.calls.len());
    for call in &status.calls {
        let _ = writeln!(out, "  call {}  {}  {}", call.call, call.state, clock(call.seconds));
        for leg in &call.legs {
            show_leg(&mut out, leg);
        }
    }
    out
}

fn show_trunk(out: &mut String, trunk: &TrunkStatus) {
    let registration = match (trunk.registration.as_str(), trunk.status, trunk.expires_seconds) {
        ("registered", _, Some(left)) => format!("  registered, {left} s left"),
        ("failed", Some(status), _) => format!("  not registered: {status}"),
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "  {:16} {} {} at {}  {}{registration}",
        clean(&trunk.name),
        trunk.transport,
        clean(&trunk.host),
        trunk.address.as_deref().unwrap_or("-"),
        trunk.state,
    );
}

fn show_leg(out: &mut String, leg: &LegStatus) {
    let name = if leg.name.is_empty() { String::new() } else { format!(" \"{}\"", clean(&leg.name)) };
    let proved = match &leg.trunk {
        Some(trunk) => format!(", trunk {}", clean(trunk)),
        None if leg.device.is_some() => ", authenticated".into(),
        None => String::new(),
    };
    let _ = writeln!(
        out,
        "    {} {}{name}  {} {} {}{proved}, called {}",
        if leg.origin == "incoming" { "from" } else { "to  " },
        clean(&leg.address),
        leg.protocol,
        leg.transport,
        leg.signalling.as_deref().unwrap_or("-"),
        clean(&leg.called),
    );
    for stream in &leg.streams {
        show_stream(out, stream);
    }
}

fn show_stream(out: &mut String, stream: &StreamStatus) {
    let secure = if stream.encrypted { "SRTP" } else { "RTP" };
    let _ = writeln!(
        out,
        "      {:7} {} in {}, out {}  {secure} {}  {}: {}",
        stream.role,
        stream.direction,
        stream.receive,
        stream.send,
        stream.remote.as_deref().unwrap_or("-"),
        stream.route,
        clean(&stream.why),
    );
    let trip = stream.round_trip_ms.map(|it| format!(", round trip {it:.0} ms")).unwrap_or_default();
    let _ = writeln!(
        out,
        "              in {} kbit/s, loss {:.1} % ({} of {}), jitter {:.1} ms; out {} kbit/s, loss {:.1} %{trip}",
        stream.bitrate_received / 1000,
        stream.loss_percent,
        stream.packets_lost,
        stream.packets_lost + stream.packets_received,
        stream.jitter_ms,
        stream.bitrate_sent / 1000,
        stream.remote_loss_percent,
    );
}

fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a tick are far below 2^52")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use crosspoint_gateway::status::{CallStatus, ConferenceStatus, Listener};

    use super::*;

    #[test]
    fn a_call_is_shown_with_codecs_routes_and_their_reason() {
        let stream = StreamStatus {
            role: "audio".into(),
            direction: "sendrecv".into(),
            receive: "opus".into(),
            send: "opus".into(),
            route: "transcode".into(),
            why: "bob takes PCMU only".into(),
            packets_received: 99,
            packets_lost: 1,
            loss_percent: 1.0,
            jitter_ms: 2.25,
            bitrate_received: 32_000,
            ..StreamStatus::default()
        };
        let leg = LegStatus {
            address: "alice\u{1b}[2J".into(),
            origin: "incoming".into(),
            streams: vec![stream],
            ..LegStatus::default()
        };
        let call = CallStatus { call: 7, state: "answered".into(), seconds: 3671, legs: vec![leg] };
        let listener =
            Listener { service: "sip".into(), transport: "udp".into(), address: "0.0.0.0:5060".into() };
        let room =
            ConferenceStatus { name: "Alice's room".into(), locked: true, participants: 3, waiting: 1 };
        let status = Status {
            calls: vec![call],
            listening: vec![listener],
            conferences: vec![room],
            ..Status::default()
        };
        let shown = table(&status);
        for expected in [
            "listens   sip udp:0.0.0.0:5060",
            "call 7  answered  1:01:11",
            "  Alice's room  3 in, 1 wait, locked",
            "in opus, out opus",
            "transcode: bob takes PCMU only",
            "in 32 kbit/s, loss 1.0 % (1 of 100), jitter 2.2 ms",
        ] {
            assert!(shown.contains(expected), "{expected} is not in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "a peer's name must not drive the terminal");
    }
}
