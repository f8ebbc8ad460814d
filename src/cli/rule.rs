//! `crosspoint rule`: works on the store directly, beside a gateway that runs.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use crosspoint_gateway::config::Rule as Entry;
use crosspoint_gateway::registrar::Store;
use crosspoint_gateway::rules;
use serde_json::{Map, Value, json};

use super::device::asked;
use super::{Failure, Setting, print};

/// What to do with the routing rules.
#[derive(Debug, Subcommand)]
pub(super) enum Rule {
    /// Add a rule that lets calls out, beside those of the configuration file. It counts for new calls
    /// within a second.
    Add {
        /// What it is called.
        name: String,
        #[command(flatten)]
        fields: Box<Fields>,
    },
    /// List the rules by priority, those of the configuration file as well.
    List,
    /// Remove a rule. Calls that it has let out go on.
    Remove {
        /// Its name.
        name: String,
    },
}

/// The fields of a rule; they are those of `[[rules]]`.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// 1 to 200, none twice: the lowest that matches decides.
    #[arg(long, value_name = "N")]
    priority: u8,
    /// A regular expression that must match the whole alias.
    #[arg(long = "match", value_name = "EXPRESSION")]
    pattern: String,
    /// What is called instead, with $1 for groups.
    #[arg(long, value_name = "TEXT")]
    replace: Option<String>,
    /// What the calling alias must match.
    #[arg(long, value_name = "EXPRESSION")]
    from: Option<String>,
    /// A protocol that calls may come by. Give it once for each; without it: all.
    #[arg(long = "incoming", value_name = "PROTOCOL")]
    incoming: Vec<String>,
    /// Also for callers who are no registered devices: this may cost money.
    #[arg(long)]
    anybody: bool,
    /// Also for calls that conferences make.
    #[arg(long)]
    conferences: bool,
    /// Calls that are sent elsewhere (3xx) go there, if the rules let the same caller call that too.
    #[arg(long)]
    follow_redirects: bool,
    /// The trunk that it goes to, of those in the configuration file.
    #[arg(long, value_name = "NAME", conflicts_with = "proxy")]
    trunk: Option<String>,
    /// For calls that come from that trunk, not for those of devices.
    #[arg(long, value_name = "NAME", conflicts_with = "anybody")]
    from_trunk: Option<String>,
    /// Where it goes, instead of to the host in the alias: proxy.example.com:5061.
    #[arg(long, value_name = "HOST")]
    proxy: Option<String>,
    /// How the proxy is reached.
    #[arg(long, value_name = "udp|tcp|tls", requires = "proxy")]
    transport: Option<String>,
    /// What we authenticate as at the proxy; the password is asked for, or a line of standard input.
    #[arg(long, value_name = "NAME", requires = "realm")]
    username: Option<String>,
    /// The realm that its challenge must name.
    #[arg(long, value_name = "REALM", requires_all = ["username", "proxy"])]
    realm: Option<String>,
    /// It is not looked at yet.
    #[arg(long)]
    disabled: bool,
}

impl Rule {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        match self {
            Self::Add { name, fields } => {
                let rule = rules::read(&fields.document(&name)?)?;
                rules::add(&Store::open(&setting.data)?, &setting.config, &rule, SystemTime::now())?;
                print(&format!("added rule \"{name}\" to {}\n", setting.data.display()))
            }
            Self::List => list(setting),
            Self::Remove { name } => remove(setting, &name),
        }
    }
}

impl Fields {
    fn document(&self, name: &str) -> Result<Map<String, Value>, Failure> {
        let mut document = Map::new();
        let mut put = |field: &str, value: Value| drop(document.insert(field.to_owned(), value));
        put("name", name.into());
        put("priority", self.priority.into());
        put("match", self.pattern.as_str().into());
        put("enable", (!self.disabled).into());
        put("only_if_registered", (!self.anybody && self.from_trunk.is_none()).into());
        put("callers", json!(self.from_trunk.as_ref().map(|name| format!("trunk {name}"))));
        put("trunk", json!(self.trunk));
        put("conferences", self.conferences.into());
        put("follow_redirects", self.follow_redirects.into());
        put("replace", json!(self.replace));
        put("from", json!(self.from));
        if !self.incoming.is_empty() {
            put("incoming", json!(self.incoming));
        }
        if let Some(host) = &self.proxy {
            let mut proxy = json!({ "host": host, "transport": self.transport });
            if let (Some(realm), Some(username)) = (&self.realm, &self.username) {
                let password = asked("password")?;
                proxy["credentials"] = json!({ "realm": realm, "username": username, "password": password });
            }
            put("proxy", proxy);
        }
        Ok(document)
    }
}

fn list(setting: &Setting) -> Result<ExitCode, Failure> {
    let file = &setting.config.rules;
    let stored = match Store::open_existing(&setting.data)? {
        Some(store) => rules::all(&store)?,
        None => Vec::new(),
    };
    let mut all: Vec<(&Entry, &str)> = file.iter().map(|it| (it, "configuration file")).collect();
    all.extend(stored.iter().map(|it| (it, "added")));
    all.sort_by_key(|(rule, _)| rule.priority);
    if all.is_empty() {
        return print("no rules: no call leaves the gateway; add one with: crosspoint rule add NAME\n");
    }
    let width = all.iter().map(|(rule, _)| rule.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (rule, origin) in all {
        let to = match (&rule.trunk, &rule.proxy) {
            (Some(trunk), _) => format!(" by trunk {trunk}"),
            (None, Some(proxy)) => format!(" by {}", proxy.host),
            (None, None) => String::new(),
        };
        let who = match &rule.callers {
            Some(callers) => callers.to_string(),
            None if rule.only_if_registered => "registered devices".into(),
            None => "anybody".into(),
        };
        let off = if rule.enable { "" } else { ", disabled" };
        let (name, priority, pattern) = (&rule.name, rule.priority, &rule.pattern);
        let _ = writeln!(text, "{priority:3}  {name:width$}  {pattern}{to}  ({who}, {origin}{off})");
    }
    print(&text)
}

fn remove(setting: &Setting, name: &str) -> Result<ExitCode, Failure> {
    if setting.config.rules.iter().any(|rule| rule.name == name) {
        let told = format!("\"{name}\" is a rule of the configuration file: remove it there");
        return Err(Failure::Told(told));
    }
    let removed = match Store::open_existing(&setting.data)? {
        Some(store) => rules::remove(&store, name)?,
        None => false,
    };
    if removed {
        return print(&format!("removed rule \"{name}\" from {}\n", setting.data.display()));
    }
    Err(Failure::Told(format!("there is no rule \"{name}\": see crosspoint rule list")))
}
