//! `crosspoint explain`: the same decision as for a call, with its reasons. Reads the store beside a
//! gateway that may run, and writes nothing.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use crosspoint_gateway::alias::Alias;
use crosspoint_gateway::config::Protocol;
use crosspoint_gateway::registrar::Store;
use crosspoint_gateway::routing::{Directory as _, Fixed, Presence, Request, Routing, Target};
use crosspoint_gateway::{rules, services};

use super::{Failure, Setting, print};

/// A call to explain.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// What is called: alice, +4930123456, sip:bob@example.com.
    called: String,
    /// Who calls. A device is taken to have authenticated.
    #[arg(long, value_name = "ALIAS")]
    from: String,
    /// The caller has not authenticated, whoever he says he is.
    #[arg(long)]
    stranger: bool,
    /// The call comes from that trunk.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["stranger", "conference", "protocol"])]
    trunk: Option<String>,
    /// A conference calls, by the alias of --from.
    #[arg(long, conflicts_with_all = ["stranger", "protocol"])]
    conference: bool,
    /// What the call comes by.
    #[arg(long, value_enum, default_value_t = By::Sip)]
    protocol: By,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Sip,
    H323,
    Webrtc,
    Rtmp,
}

impl Explain {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        let directory = directory(setting)?;
        let routing = Routing::new(&setting.config);
        if let Some(store) = Store::open_existing(&setting.data)? {
            routing.set_stored(rules::all(&store)?);
        }
        let caller = Alias::parse(&self.from, routing.domains()).ok();
        if let Some(name) = self.trunk.as_ref().filter(|name| !trunks(setting).any(|it| it == *name)) {
            let told = format!("there is no trunk \"{name}\": add it under [[trunks]]");
            return Err(Failure::Told(told));
        }
        let may = !self.stranger && !self.conference && self.trunk.is_none();
        let device = caller.filter(|it| may && directory.device(it).is_some());
        let protocol = match self.protocol {
            By::Sip => Protocol::Sip,
            By::H323 => Protocol::H323,
            By::Webrtc => Protocol::Webrtc,
            By::Rtmp => Protocol::Rtmp,
        };
        let request = Request {
            called: &self.called,
            caller: &self.from,
            device: device.as_ref(),
            trunk: self.trunk.as_deref(),
            protocol,
            conference: self.conference,
        };
        let decision = routing.route(&request, &directory);
        let mut text = String::new();
        for step in &decision.why {
            let _ = writeln!(text, "  {step}");
        }
        let code = match &decision.outcome {
            Ok(Target::Service { name, .. }) => {
                let _ = writeln!(text, "the call enters the conference \"{name}\"");
                ExitCode::SUCCESS
            }
            Ok(Target::Device(alias)) => {
                let _ = writeln!(text, "the call rings device {alias}");
                ExitCode::SUCCESS
            }
            Ok(Target::External { rule, uri, trunk, proxy, .. }) => {
                let by = match (trunk, proxy) {
                    (Some(trunk), _) => format!(" by trunk \"{trunk}\""),
                    (None, Some(proxy)) => format!(" by {}", proxy.host),
                    (None, None) => String::new(),
                };
                let _ = writeln!(text, "the call goes out to {uri}{by}, allowed by rule \"{rule}\"");
                ExitCode::SUCCESS
            }
            Err(refused) => {
                let _ = writeln!(text, "the call is refused: {refused}");
                ExitCode::FAILURE
            }
        };
        print(&text).map(|_| code)
    }
}

fn trunks(setting: &Setting) -> impl Iterator<Item = &String> {
    setting.config.trunks.iter().map(|trunk| &trunk.name)
}

/// All services and devices as the gateway would see them now.
fn directory(setting: &Setting) -> Result<Fixed, Failure> {
    let mut directory = Fixed::default();
    let configured = setting.config.devices.iter().map(|entry| (entry.alias.clone(), Presence::Away));
    directory.devices.extend(configured);
    if let Some(store) = Store::open_existing(&setting.data)? {
        directory.devices.extend(store.devices()?.into_iter().map(|device| (device.alias, Presence::Away)));
        for (alias, _, left) in store.bindings(SystemTime::now())? {
            if let Some(presence) = directory.devices.get_mut(&alias)
                && !left.is_zero()
            {
                *presence = Presence::Registered;
            }
        }
        for service in services::all(&store)? {
            let named = service.aliases.into_iter().map(|alias| (alias, service.name.clone()));
            directory.services.extend(named);
        }
    }
    Ok(directory)
}
