//! Another configuration for a gateway that runs: what can change under calls changes, the rest waits for
//! the next start and is named.

use std::collections::{BTreeMap, BTreeSet};

use crosspoint_gateway::alias::Alias;
use crosspoint_gateway::config::{CodecChoice, Config};
use crosspoint_gateway::net::tls::TlsError;
use crosspoint_gateway::orders::Reloaded;
use crosspoint_gateway::settings::Settings;
use serde_json::Value;

use super::{Gateway, call_rules};

/// What changes at once. Whatever is not named here is a matter of the next start.
const LIVE: [&str; 11] = [
    "drain",
    "sip.ring_timeout",
    "sip.ringback",
    "sip.strangers",
    "web.infinity_clients",
    "web.disabled_text",
    "web.maintenance",
    "conference.hide_unknown_aliases",
    "limits.calls",
    "devices",
    "rules",
];

/// What there are several of.
const LISTS: [&str; 3] = ["devices", "rules", "trunks"];

impl Gateway {
    /// Takes of `config` what can change under calls, and says what that was and what it leaves for the
    /// next start. The certificate's files are read again; where they do not fit together nothing at all
    /// changes. `log` is its owner's matter, and named as changed.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, TlsError> {
        let view = &self.view;
        let renewed = view.certificates.reload()?;
        let before = view.config.load();
        let mut told = compare(&before, &config, view.most_calls);
        let now = taken(&before, &config);
        view.routing.set_config(&now);
        view.exchange.set_rules(call_rules(&now), now.limits.calls.min(view.most_calls));
        self.management.settings.set_file(Settings::from(&now));
        if now.devices != before.devices {
            view.registrar.set_devices(now.devices.clone()).await;
        }
        view.config.store(now);
        if renewed {
            told.changed.push("certificate".into());
        }
        Ok(told)
    }
}

/// `before` with what of `config` changes at once.
fn taken(before: &Config, config: &Config) -> Config {
    let mut now = before.clone();
    now.drain = config.drain;
    now.sip.ring_timeout = config.sip.ring_timeout;
    now.sip.ringback = config.sip.ringback;
    now.sip.strangers = config.sip.strangers;
    now.web.infinity_clients = config.web.infinity_clients;
    now.web.disabled_text.clone_from(&config.web.disabled_text);
    now.web.maintenance = config.web.maintenance;
    now.conference.hide_unknown_aliases = config.conference.hide_unknown_aliases;
    now.limits.calls = config.limits.calls;
    now.log.level = config.log.level;
    now.devices.clone_from(&config.devices);
    now.rules.clone_from(&config.rules);
    now
}

/// Which fields differ, by when they count.
fn compare(before: &Config, config: &Config, most_calls: usize) -> Reloaded {
    let (one, other) = (fields(before), fields(config));
    let names: BTreeSet<&String> = one.iter().chain(&other).map(|(name, _)| name).collect();
    let value = |of: &[(String, Value)], name: &str| of.iter().find(|it| it.0 == name).map(|it| it.1.clone());
    let mut told = Reloaded::default();
    for name in names {
        // Passwords are the same asterisks everywhere: what has some is compared as it is.
        let differs = match name.as_str() {
            "devices" => before.devices != config.devices,
            "rules" => before.rules != config.rules,
            "trunks" => before.trunks != config.trunks,
            "events.webhook" => before.events.webhook != config.events.webhook,
            name => value(&one, name) != value(&other, name),
        };
        if !differs {
            continue;
        }
        let live = LIVE.contains(&name.as_str()) || name == "log.level";
        let list = if live { &mut told.changed } else { &mut told.restart };
        list.push(name.clone());
    }
    if config.limits.calls > most_calls {
        told.restart.push(format!("limits.calls above {most_calls}"));
    }
    // Legs have been told of them at the start.
    if codecs(before) != codecs(config) {
        told.restart.push("devices.codecs".into());
    }
    told
}

/// Of the devices that may not speak everything.
fn codecs(config: &Config) -> BTreeMap<&Alias, &[CodecChoice]> {
    let some = config.devices.iter().filter(|it| !it.codecs.is_empty());
    some.map(|it| (&it.alias, it.codecs.as_slice())).collect()
}

/// "section.field" and its value.
fn fields(config: &Config) -> Vec<(String, Value)> {
    let Ok(Value::Object(document)) = serde_json::to_value(config) else { return Vec::new() };
    let mut fields: Vec<(String, Value)> = Vec::new();
    // Absent where they are empty.
    fields.extend(LISTS.map(|name| (name.to_owned(), Value::Null)));
    for (section, value) in document {
        match value {
            Value::Object(members) => {
                fields.extend(members.into_iter().map(|(name, value)| (format!("{section}.{name}"), value)));
            }
            _ if LISTS.contains(&section.as_str()) => {}
            value => fields.push((section, value)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml(text, "x.toml").unwrap()
    }

    fn told(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
        let told = compare(&config(before), &config(after), 1000);
        (told.changed, told.restart)
    }

    fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
        names.map(str::to_owned).to_vec()
    }

    #[test]
    fn promise_22_each_field_is_named_where_it_belongs() {
        assert_eq!(told("", ""), (vec![], vec![]));
        let after = "drain = \"1m\"\n[sip]\nring_timeout = \"20s\"\nrealm = \"other\"\n[media]\nports = \"20000-20099\"\n\
                     [log]\nlevel = \"debug\"\nformat = \"json\"\n[limits]\ncalls = 2000\n";
        let (changed, restart) = told("", after);
        assert_eq!(changed, names(["drain", "limits.calls", "log.level", "sip.ring_timeout"]));
        assert_eq!(restart, names(["log.format", "media.ports", "sip.realm", "limits.calls above 1000"]));
    }

    #[test]
    fn promise_22_another_password_is_a_change_and_a_codec_waits() {
        let device = |password: &str, more: &str| {
            format!("[[devices]]\nalias = \"a\"\npassword = \"{password}\"\n{more}")
        };
        assert_eq!(told(&device("one", ""), &device("two", "")), (names(["devices"]), vec![]));
        let (changed, restart) = told(&device("one", ""), &device("one", "codecs = [\"pcma\"]\n"));
        assert_eq!((changed, restart), (names(["devices"]), names(["devices.codecs"])));
    }

    #[test]
    fn promise_22_another_secret_of_a_trunk_or_webhook_waits_and_is_named() {
        let trunk = |password: &str| {
            format!(
                "[[trunks]]\nname = \"t\"\nhost = \"192.0.2.1\"\n\
                 credentials = {{ realm = \"r\", username = \"u\", password = \"{password}\" }}\n"
            )
        };
        assert_eq!(told(&trunk("one"), &trunk("two")), (vec![], names(["trunks"])));
        assert_eq!(told(&trunk("one"), &trunk("one")), (vec![], vec![]));
        assert_eq!(told("", &trunk("one")), (vec![], names(["trunks"])));
        let hook = |path: &str| format!("[events]\nwebhook = \"https://example.com/{path}\"\n");
        assert_eq!(told(&hook("one"), &hook("two")), (vec![], names(["events.webhook"])));
    }

    #[test]
    fn promise_22_what_is_taken_is_what_is_named_as_changed() {
        let before = config("");
        let after = config(
            "drain = \"1m\"\n[sip]\nring_timeout = \"20s\"\nringback = \"phone\"\nstrangers = \"refused\"\nrealm = \"other\"\n\
             [web]\ninfinity_clients = false\ndisabled_text = \"x\"\nmaintenance = true\ndirectory = true\n\
             [conference]\nhide_unknown_aliases = true\n[limits]\ncalls = 5\n[log]\nlevel = \"debug\"\n\
             [[devices]]\nalias = \"a\"\npassword = \"p\"\n[[rules]]\nname = \"r\"\npriority = 1\nmatch = \"a\"\n",
        );
        let now = taken(&before, &after);
        let seen = compare(&before, &now, 1000);
        assert_eq!(seen, Reloaded { restart: vec![], ..compare(&before, &after, 1000) });
        assert_eq!(seen.changed.len(), LIVE.len() + 1);
        assert_eq!(compare(&now, &after, 1000).restart, names(["sip.realm", "web.directory"]));
    }
}
