//! The commands. Each takes its arguments and gives an exit code; none reads the environment.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use crosspoint_gateway::alias::{Alias, AliasError};
use crosspoint_gateway::config::{Config, ConfigError, DATA_FOLDER, SERVICE_DATA_FOLDER};
use crosspoint_gateway::ladder::drives;
use crosspoint_gateway::registrar::StoreError;
use crosspoint_gateway::rules::RuleError;
use crosspoint_gateway::services::ServiceError;
use crosspoint_gateway::settings::SettingsError;
use crosspoint_gateway::tokens::TokenError;

mod ask;
mod bench;
mod capture;
mod compose;
mod conference;
mod demo;
mod device;
mod explain;
mod host;
mod logging;
mod mix;
mod notify;
mod reload;
mod rule;
mod run;
mod settings;
mod status;
mod stop;
mod token;
mod trace;
mod unban;

pub(crate) use notify::SOCKET as NOTIFY_SOCKET;

/// Read without `--config`, the first that exists.
const CONFIG_FILES: [&str; 2] = ["crosspoint.toml", "/etc/crosspoint/crosspoint.toml"];

/// A SIP gateway and media engine.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Configuration file. Without it: ./crosspoint.toml, else /etc/crosspoint/crosspoint.toml,
    /// else the defaults.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Data folder. Without it: that of the configuration, else /var/lib/crosspoint if it is
    /// there, else ./crosspoint-data.
    #[arg(long, global = true, value_name = "FOLDER")]
    data: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or Ctrl-C.
    Run(run::Run),
    /// End the running gateway: no more calls are taken, those that stand go on for a while.
    Stop(stop::Stop),
    /// Have the running gateway read its configuration again. Calls go on; a file with a fault changes
    /// nothing.
    Reload,
    /// What the running gateway logs, until its next start.
    Log(reload::Log),
    /// Check the configuration and print the one in effect, secrets hidden.
    CheckConfig,
    /// The devices that may register.
    #[command(subcommand)]
    Device(device::Device),
    /// The meeting rooms, auditoriums and test calls that people call.
    #[command(subcommand)]
    Conference(conference::Conference),
    /// Where calls may leave.
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Settings of the whole gateway, over those of the configuration file.
    #[command(subcommand)]
    Settings(settings::Settings),
    /// Who may use the management API.
    #[command(subcommand)]
    Token(token::Token),
    /// What the running gateway is doing: registrations, calls, routes and their reasons, loss.
    Status(status::Show),
    /// Read a source of SIP again that was banned because it went on although it was refused.
    Unban(unban::Unban),
    /// Where a call would go, and why. Exit code 1 when it would be refused.
    Explain(explain::Explain),
    /// What happened on the legs of a call, live or over: messages, decisions, media.
    Trace(trace::Trace),
    /// Write signalling and media of a live call as pcapng, for Wireshark.
    Capture(capture::Capture),
    /// Compose the picture of a conference from files.
    Compose(compose::Compose),
    /// Mix WAV files as a conference mixes its parties.
    Mix(mix::Mix),
    /// Measure what this machine carries.
    Bench(bench::Bench),
    /// Prove it on this machine: two phones call each other through a gateway on loopback. Exit code
    /// 1 when a proof fails.
    Demo(demo::Demo),
}

/// Why a command failed, as one sentence with its remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot read {path}: {error}; check the path given with --config", path = path.display())]
    ConfigFile { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Rule(#[from] RuleError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("\"{text}\" is no alias: {error}")]
    Alias { text: String, error: AliasError },
    #[error("{0}")]
    Arguments(String),
    #[error("{0}")]
    Told(String),
    #[error(transparent)]
    Start(#[from] crosspoint::StartError),
    #[error(transparent)]
    Demo(#[from] crosspoint::demo::DemoError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failure {
    /// 2 for what the caller can mend in his arguments or configuration, else 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::ConfigFile { .. } | Self::Alias { .. } | Self::Arguments(_) => {
                ExitCode::from(2)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// Executes one command. `notify`: where a service manager wants to be told how it goes.
pub(crate) fn execute(arguments: Arguments, notify: Option<OsString>) -> Result<ExitCode, Failure> {
    // The demo has a configuration and a data folder of its own; others need none.
    match arguments.command {
        Command::Bench(bench) => return bench.execute(),
        Command::Compose(compose) => return compose.execute(),
        Command::Demo(demo) => return demo.execute(),
        Command::Mix(mix) => return mix.execute(),
        _ => {}
    }
    let setting = Setting::read(arguments.config, arguments.data)?;
    match arguments.command {
        Command::Run(run) => run.execute(setting, notify),
        Command::Stop(stop) => stop.execute(&setting),
        Command::Reload => reload::execute(&setting),
        Command::Log(log) => log.execute(&setting),
        Command::CheckConfig => {
            let mut text = format!("# {}\n", setting.origin());
            text.push_str(&setting.config.to_toml());
            print(&text)
        }
        Command::Device(device) => device.execute(&setting),
        Command::Conference(conference) => conference.execute(&setting),
        Command::Rule(rule) => rule.execute(&setting),
        Command::Settings(settings) => settings.execute(&setting),
        Command::Token(token) => token.execute(&setting),
        Command::Status(show) => show.execute(&setting),
        Command::Unban(unban) => unban.execute(&setting),
        Command::Explain(explain) => explain.execute(&setting),
        Command::Trace(trace) => trace.execute(&setting),
        Command::Capture(capture) => capture.execute(&setting),
        Command::Bench(bench) => bench.execute(),
        Command::Demo(demo) => demo.execute(),
        Command::Compose(compose) => compose.execute(),
        Command::Mix(mix) => mix.execute(),
    }
}

/// The configuration in effect and where it came from.
struct Setting {
    config: Config,
    /// `None`: there is no file.
    file: Option<PathBuf>,
    data: PathBuf,
    /// What the command line says of both, to read them again.
    asked: (Option<PathBuf>, Option<PathBuf>),
}

impl Setting {
    fn read(file: Option<PathBuf>, data: Option<PathBuf>) -> Result<Self, Failure> {
        let asked = (file.clone(), data.clone());
        let file = file.or_else(|| CONFIG_FILES.iter().map(PathBuf::from).find(|path| path.exists()));
        let mut config = match &file {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::ConfigFile { path: path.clone(), error })?;
                Config::from_toml(&text, &path.display().to_string())?
            }
        };
        let data = data.or_else(|| config.data.clone()).unwrap_or_else(|| {
            let service = Path::new(SERVICE_DATA_FOLDER);
            if service.is_dir() { service.into() } else { DATA_FOLDER.into() }
        });
        config.data = Some(data.clone());
        Ok(Self { config, file, data, asked })
    }

    fn origin(&self) -> String {
        match &self.file {
            Some(path) => path.display().to_string(),
            None => format!("defaults (there is no {})", CONFIG_FILES.join(" and no ")),
        }
    }

    fn alias(&self, text: &str) -> Result<Alias, Failure> {
        let ours = crosspoint_gateway::alias::Domains::new(self.config.sip.domains.iter().cloned());
        Alias::parse(text, &ours).map_err(|error| Failure::Alias { text: text.into(), error })
    }
}

/// Prints to standard output; a reader who has seen enough (`| head`) is no failure. What could drive a
/// terminal is spelled out, whoever has sent it, in a way that JSON reads as it was.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut shown = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '\n' | '\t' => shown.push(sign),
            sign if drives(sign) => shown.push_str(&format!("\\u{:04x}", u32::from(sign))),
            sign => shown.push(sign),
        }
    }
    let mut out = io::stdout().lock();
    match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
