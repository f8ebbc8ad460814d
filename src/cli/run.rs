//! `crosspoint run`: starts a gateway, says what listens where, and waits for a signal. Signals are
//! handled here and nowhere in the library.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use crosspoint::Gateway;
use crosspoint_gateway::api::admin::PREFIX;
use crosspoint_gateway::registrar::Store;
use crosspoint_gateway::rules;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::host::Host;
use super::logging::Levels;
use super::{Failure, Setting, logging, print};

/// What work that nobody waits for may still take at the exit.
const LEFTOVERS: Duration = Duration::from_millis(100);

/// How to run.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// What to log instead of the configured level: debug, or info,crosspoint_gateway::net=trace.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl Run {
    pub(super) fn execute(self, setting: Setting, notify: Option<OsString>) -> Result<ExitCode, Failure> {
        let levels = logging::start(&setting.config.log, self.log.as_deref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let code = runtime.block_on(serve(setting, levels, notify));
        // A disk that hangs must not hold the exit up.
        runtime.shutdown_timeout(LEFTOVERS);
        code
    }
}

async fn serve(setting: Setting, levels: Levels, notify: Option<OsString>) -> Result<ExitCode, Failure> {
    // Before the start: a signal that comes while it starts must not be lost.
    let (signals, hangup) = (Signals::new()?, signal(SignalKind::hangup())?);
    let gateway = Gateway::start(setting.config.clone()).await?;
    print(&summary(&setting, &gateway))?;
    Ok(Host::new(setting, levels, gateway, signals, hangup)?.run(notify.as_deref()).await)
}

/// The signals that end a command.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// One screen: what listens where, and what to do next.
fn summary(setting: &Setting, gateway: &Gateway) -> String {
    let (config, status) = (&setting.config, gateway.status());
    let of = |service: &str| -> Vec<String> {
        let its = status.listening.iter().filter(|it| it.service == service);
        its.map(|it| format!("{}:{}", it.transport, it.address)).collect()
    };
    let mut out = format!("Crosspoint {}\n", status.version);
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "  {name:14} {text}");
    };
    line("configuration", &setting.origin());
    line("data", &setting.data.display().to_string());
    line("SIP", &of("sip").join("  "));
    match config.sip.public_address {
        Some(address) => line("reached at", &address.to_string()),
        None => line("reached at", "the address that leads to each peer (sip.public_address)"),
    }
    match &config.sip.certificate {
        Some(path) => line("certificate", &path.display().to_string()),
        None => line("certificate", "self-signed, in the data folder (sip.certificate)"),
    }
    line(
        "media",
        &format!(
            "udp {} ports {}, encryption {}",
            config.media.address, config.media.ports, config.media.encryption
        ),
    );
    let capped = if config.media.instructions.is_some() { "" } else { ", the best here" };
    line("kernels", &format!("{}{capped} (media.instructions)", status.instructions));
    match of("web").as_slice() {
        [] => line("clients", "off (web.listen)"),
        listening => {
            let https = listening.iter().map(|it| match it.split_once(':') {
                Some(("tls", address)) => format!("https://{address}"),
                _ => format!("{it} for a proxy"),
            });
            let own = if config.sip.certificate.is_none() {
                ", self-signed: clients must be told to trust it"
            } else {
                ""
            };
            let off = if config.web.infinity_clients { "" } else { ", disabled (web.infinity_clients)" };
            line("clients", &format!("{}{own}{off}", https.collect::<Vec<_>>().join("  ")));
        }
    }
    match of("http").as_slice() {
        [] => line("management", "off"),
        listening => {
            let urls: Vec<_> = listening.iter().map(|it| it.replacen("tcp:", "http://", 1)).collect();
            line("management", &format!("{}  /status /metrics /healthz {PREFIX}", urls.join("  ")));
        }
    }
    if let Some(token) = gateway.first_token() {
        line("token", &format!("{}  shown once; more with crosspoint token new", token.expose()));
    }
    line("devices", &format!("{}, registered {}", status.devices, status.registrations.len()));
    // The gateway has just read them; what cannot be read it has told.
    let store = Store::open_existing(&setting.data).ok().flatten();
    let stored = store.and_then(|store| rules::all(&store).ok()).unwrap_or_default();
    let rules = config.rules.iter().chain(&stored).filter(|rule| rule.enable).count();
    let leaving = if rules == 0 { "none: no call leaves the gateway".into() } else { rules.to_string() };
    line("rules", &leaving);
    if !config.trunks.is_empty() {
        let named: Vec<_> = config.trunks.iter().map(|trunk| trunk.name.as_str()).collect();
        line("trunks", &format!("{}; whether they are up: crosspoint status", named.join("  ")));
    }
    if status.devices == 0 {
        out.push_str("Add a device with: crosspoint device add NAME\n");
    }
    out
}
