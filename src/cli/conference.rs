//! `crosspoint conference`: what is written down is changed in the store directly, beside a gateway that
//! runs; what goes on is changed by asking that gateway.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use crosspoint_gateway::alias::Alias;
use crosspoint_gateway::conference::dialling::NobodyToDial;
use crosspoint_gateway::conference::layout::Layout;
use crosspoint_gateway::conference::policy::Door;
use crosspoint_gateway::conference::service::{Kind, Service};
use crosspoint_gateway::registrar::Store;
use crosspoint_gateway::services::{self, ServiceError};

use super::{Failure, Setting, print};

mod live;
mod pins;

use pins::Pins;

/// What to do with the conferences.
#[derive(Debug, Subcommand)]
pub(super) enum Conference {
    /// Add a room, an auditorium or a test call. One without a host PIN is open to everybody.
    Add {
        /// What people see it called.
        name: String,
        #[command(flatten)]
        fields: Box<Fields>,
    },
    /// List the conferences, their aliases and PINs (as dots).
    List,
    /// Show every field of one; PINs as dots.
    Show {
        /// Its name.
        name: String,
    },
    /// Change fields of one; those that are not named stay.
    Set {
        /// Its name.
        name: String,
        /// Its new name.
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        #[command(flatten)]
        fields: Box<Fields>,
    },
    /// Lock the one in progress: newcomers wait.
    Lock {
        /// Its name.
        name: String,
    },
    /// Unlock it: those who wait come in.
    Unlock {
        /// Its name.
        name: String,
    },
    /// List who is there.
    Participants {
        /// Its name.
        name: String,
    },
    /// Let one in who waits.
    Admit {
        /// Its name.
        name: String,
        /// Who, as `participants` shows.
        uuid: String,
    },
    /// Send everybody away, or one.
    Disconnect {
        /// Its name.
        name: String,
        /// Who, as `participants` shows. Without it: everybody.
        uuid: Option<String>,
    },
    /// Call somebody into it; it begins if nobody is there.
    Dial {
        /// Its name.
        name: String,
        /// Whom: a device, or where a rule with --conferences lets it go.
        destination: String,
        /// What he comes as: host or guest.
        #[arg(long)]
        role: Option<String>,
        /// sip, or as the rule has it.
        #[arg(long)]
        protocol: Option<String>,
        /// Keys that are sent once he has answered; each comma waits 2 s.
        #[arg(long)]
        keys: Option<String>,
    },
    /// Send one to another conference; his call goes on.
    Transfer {
        /// The name of where he is.
        name: String,
        /// Who, as `participants` shows.
        uuid: String,
        /// The name of where he goes.
        to: String,
        /// What he comes as: host or guest. Without it: a host where there is no PIN, else a guest.
        #[arg(long)]
        role: Option<String>,
    },
    /// Write to everybody who is there.
    Message {
        /// Its name.
        name: String,
        /// What.
        text: String,
    },
    /// Remove one. Its aliases are free; a conference that goes on is not ended.
    Remove {
        /// Its name.
        name: String,
    },
}

/// The fields of a conference. A pair of flags is there so that `set` can go both ways.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// What reaches it: meet.alice, 500, room@example.com. Give it once for each; `set` replaces all.
    #[arg(long = "alias", value_name = "ALIAS")]
    aliases: Vec<String>,
    /// room, auditorium or test-call.
    #[arg(long)]
    kind: Option<Kind>,
    #[command(flatten)]
    pins: Pins,
    /// With a host PIN alone, guests come in without one.
    #[arg(long, conflicts_with = "no_guests")]
    guests: bool,
    /// Nobody comes in without a PIN.
    #[arg(long)]
    no_guests: bool,
    /// How hosts, and everybody in a room, are laid out: 1:7, 4:0, ac.
    #[arg(long)]
    layout: Option<Layout>,
    /// How guests of an auditorium see the hosts.
    #[arg(long, value_name = "LAYOUT")]
    guest_layout: Option<Layout>,
    /// How many are mixed at a time: a number, or all.
    #[arg(long, value_name = "N|all")]
    talkers: Option<String>,
    /// Participants at most, those who wait among them.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How long somebody waits at most for a host or to be let in.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// How long guests go on after the last host has left.
    #[arg(long, value_name = "SECONDS")]
    guests_alone: Option<u64>,
    /// How long the last one stays; 0: as long as he likes.
    #[arg(long, value_name = "SECONDS")]
    last_one: Option<u64>,
    /// An invited host comes into a locked conference without a host PIN at once.
    #[arg(long, conflicts_with = "no_invited_hosts_pass")]
    invited_hosts_pass: bool,
    /// He waits like everybody.
    #[arg(long)]
    no_invited_hosts_pass: bool,
    /// People may write to each other.
    #[arg(long, conflicts_with = "no_chat")]
    chat: bool,
    /// They may not.
    #[arg(long)]
    no_chat: bool,
    /// Guests may show slides.
    #[arg(long, conflicts_with = "no_guests_present")]
    guests_present: bool,
    /// They may not.
    #[arg(long)]
    no_guests_present: bool,
    /// Whom the conference calls when it begins: the destination, then any of role=guest, protocol=sip,
    /// keys=,,1234# (each comma waits 2 s) and keeps=always, in-company or never. Give it once for each;
    /// `set` replaces all, "none" takes them away.
    #[arg(long = "dial", value_name = "DESTINATION ...")]
    dials: Vec<String>,
    /// Names are shown in the picture.
    #[arg(long, conflicts_with = "no_names")]
    names: bool,
    /// They are not.
    #[arg(long)]
    no_names: bool,
}

impl Conference {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        match self {
            Self::Add { name, fields } => add(setting, name, &fields),
            Self::List => list(setting),
            Self::Show { name } => print(&described(&existing(setting, &name)?.1)),
            Self::Set { name, rename, fields } => set(setting, &name, rename, &fields),
            Self::Lock { name } => live::command(setting, &name, "lock", None),
            Self::Unlock { name } => live::command(setting, &name, "unlock", None),
            Self::Participants { name } => live::participants(setting, &name),
            Self::Admit { name, uuid } => live::to_one(setting, &name, &uuid, "admit", None),
            Self::Disconnect { name, uuid: None } => live::command(setting, &name, "disconnect", None),
            Self::Disconnect { name, uuid: Some(uuid) } => {
                live::to_one(setting, &name, &uuid, "disconnect", None)
            }
            Self::Transfer { name, uuid, to, role } => {
                let mut body = serde_json::json!({ "conference": to });
                if let Some(role) = role {
                    body["role"] = role.into();
                }
                live::to_one(setting, &name, &uuid, "transfer", Some(&body))
            }
            Self::Dial { name, destination, role, protocol, keys } => {
                let mut body = serde_json::json!({ "destination": destination });
                for (field, value) in [("role", role), ("protocol", protocol), ("keys", keys)] {
                    if let Some(value) = value {
                        body[field] = value.into();
                    }
                }
                live::command(setting, &name, "dial", Some(&body))
            }
            Self::Message { name, text } => {
                let body = serde_json::json!({ "text": text });
                live::command(setting, &name, "message", Some(&body))
            }
            Self::Remove { name } => remove(setting, &name),
        }
    }
}

fn add(setting: &Setting, name: String, fields: &Fields) -> Result<ExitCode, Failure> {
    let Some(first) = fields.aliases.first() else { return Err(ServiceError::NoAlias.into()) };
    let mut service = Service::new(name, setting.alias(first)?);
    fields.apply(setting, &mut service)?;
    services::add(&Store::open(&setting.data)?, &service, SystemTime::now())?;
    let (name, data, hint) = (&service.name, setting.data.display(), pins::hint(&service.door));
    let made = fields.pins.made(&service.door);
    print(&format!("added {} \"{name}\" to {data}\n{made}{hint}", service.kind))
}

fn set(setting: &Setting, name: &str, rename: Option<String>, fields: &Fields) -> Result<ExitCode, Failure> {
    let (store, before) = existing(setting, name)?;
    let mut service = before.clone();
    service.name = rename.unwrap_or(service.name);
    fields.apply(setting, &mut service)?;
    services::replace(&store, &before, &service)?;
    let same = service.door.shortest() == before.door.shortest();
    let hint = if same { String::new() } else { pins::hint(&service.door) };
    let made = fields.pins.made(&service.door);
    print(&format!("changed \"{name}\" in {}\n{made}{hint}", setting.data.display()))
}

fn remove(setting: &Setting, name: &str) -> Result<ExitCode, Failure> {
    let (store, _) = existing(setting, name)?;
    services::remove(&store, name)?;
    print(&format!("removed \"{name}\" from {}\n", setting.data.display()))
}

fn list(setting: &Setting) -> Result<ExitCode, Failure> {
    let all = match Store::open_existing(&setting.data)? {
        Some(store) => services::all(&store)?,
        None => Vec::new(),
    };
    if all.is_empty() {
        return print("no conferences; add one with: crosspoint conference add NAME --alias ALIAS\n");
    }
    let width = all.iter().map(|it| it.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for service in &all {
        let (name, kind, aliases) = (&service.name, service.kind.word(), aliases(service));
        let _ = writeln!(text, "{name:width$}  {kind:10}  {}  {aliases}", pins::dots(&service.door));
    }
    print(&text)
}

fn existing(setting: &Setting, name: &str) -> Result<(Store, Service), Failure> {
    let unknown = || ServiceError::Unknown(name.to_owned());
    let store = Store::open_existing(&setting.data)?.ok_or_else(unknown)?;
    let service = services::find(&store, name)?.ok_or_else(unknown)?;
    Ok((store, service))
}

fn described(service: &Service) -> String {
    let (rules, seconds) = (&service.rules, |time: Duration| format!("{} s", time.as_secs()));
    let word = |yes| String::from(if yes { "yes" } else { "no" });
    let lines = [
        ("name", service.name.clone()),
        ("kind", service.kind.to_string()),
        ("aliases", aliases(service)),
        ("pins", pins::dots(&service.door).into()),
        ("guests without a PIN", word(service.door.guests())),
        ("layout", service.layout.to_string()),
        ("guest layout", service.guest_layout.to_string()),
        ("talkers", service.talkers.map_or_else(|| "all".into(), |count| count.to_string())),
        ("limit", rules.parties.to_string()),
        ("wait", seconds(rules.wait)),
        ("guests alone", seconds(rules.guests_alone)),
        ("last one", seconds(rules.last_one)),
        ("invited hosts pass", word(rules.invited_hosts_pass)),
        ("chat", word(service.chat)),
        ("guests present", word(service.guests_present)),
        ("names", word(service.names)),
    ];
    let dials = service.dials.iter().map(|dial| ("calls", dial.to_string()));
    lines.into_iter().chain(dials).map(|(field, value)| format!("{field:20}  {value}\n")).collect()
}

fn aliases(service: &Service) -> String {
    service.aliases.iter().map(Alias::as_str).collect::<Vec<_>>().join(", ")
}

impl Fields {
    fn apply(&self, setting: &Setting, service: &mut Service) -> Result<(), Failure> {
        if !self.aliases.is_empty() {
            service.aliases =
                self.aliases.iter().map(|text| setting.alias(text)).collect::<Result<_, _>>()?;
        }
        let configured = |alias: &&Alias| setting.config.devices.iter().any(|it| it.alias == **alias);
        if let Some(alias) = service.aliases.iter().find(configured) {
            let by = format!("the device {alias} of the configuration file");
            return Err(ServiceError::AliasTaken { alias: alias.clone(), by }.into());
        }
        service.kind = self.kind.unwrap_or(service.kind);
        let (host, guest) = self.pins.after(&service.door)?;
        let guests = either(self.guests, self.no_guests, service.door.guests());
        service.door = Door::new(host, guest, guests)
            .map_err(|error| Failure::Arguments(format!("guest-pin: {error}")))?;
        service.layout = self.layout.unwrap_or(service.layout);
        service.guest_layout = self.guest_layout.unwrap_or(service.guest_layout);
        service.chat = either(self.chat, self.no_chat, service.chat);
        service.guests_present = either(self.guests_present, self.no_guests_present, service.guests_present);
        match self.dials.as_slice() {
            [] => {}
            [none] if none == "none" => service.dials.clear(),
            dials => {
                let wrong = |error: NobodyToDial| Failure::Arguments(format!("dial: {error}"));
                service.dials = dials.iter().map(|it| it.parse().map_err(wrong)).collect::<Result<_, _>>()?;
            }
        }
        service.names = either(self.names, self.no_names, service.names);
        match self.talkers.as_deref() {
            None => {}
            Some("all") => service.talkers = None,
            Some(count) => {
                let wrong = |_| Failure::Arguments("talkers: a number, or all".into());
                service.talkers = Some(count.parse().map_err(wrong)?);
            }
        }
        let rules = &mut service.rules;
        rules.tells_hosts = service.door.tells_hosts();
        rules.parties = self.limit.unwrap_or(rules.parties);
        rules.invited_hosts_pass =
            either(self.invited_hosts_pass, self.no_invited_hosts_pass, rules.invited_hosts_pass);
        rules.wait = self.wait.map_or(rules.wait, Duration::from_secs);
        rules.guests_alone = self.guests_alone.map_or(rules.guests_alone, Duration::from_secs);
        rules.last_one = self.last_one.map_or(rules.last_one, Duration::from_secs);
        Ok(())
    }
}

const fn either(yes: bool, no: bool, before: bool) -> bool {
    yes || before && !no
}
