use super::*;

const RULES: &str = r#"
    [sip]
    domains = ["example.com"]
    [[rules]]
    name = "off"
    priority = 1
    enable = false
    match = '.*'
    only_if_registered = false
    [[rules]]
    name = "reception"
    priority = 5
    match = '0'
    replace = "alice"
    only_if_registered = false
    [[rules]]
    name = "partner"
    priority = 10
    match = '[^@]+@partner\.example'
    only_if_registered = false
    [[rules]]
    name = "boss"
    priority = 20
    match = '\+1(\d+)'
    replace = "001${1}"
    from = "alice"
    proxy = { host = "trunk.example.net:5061", transport = "tls" }
    [[rules]]
    name = "host"
    priority = 30
    match = '[^@]+@192\.0\.2\.[0-9]+'
    only_if_registered = false
    [[rules]]
    name = "nowhere"
    priority = 40
    match = '\*99'
    only_if_registered = false
"#;

fn alias(text: &str) -> Alias {
    Alias::parse(text, &Domains::default()).unwrap()
}

fn directory() -> Fixed {
    let devices = HashMap::from([
        (alias("alice"), Presence::Registered),
        (alias("bob"), Presence::Registered),
        (alias("carol"), Presence::Away),
        (alias("hall"), Presence::Registered),
    ]);
    let service = |alias_, name: &str| (alias(alias_), name.to_owned());
    let services = HashMap::from([
        service("meet.alice", "Alice's room"),
        // A device of the configuration file has it as well: the service counts.
        service("hall", "Hall"),
    ]);
    Fixed { devices, services, down: Vec::new() }
}

fn decide(config: &str, called: &str, caller: &str, device: Option<&str>) -> Decision {
    let routing = Routing::new(&Config::from_toml(config, "x.toml").unwrap());
    let device = device.map(alias);
    let request = Request {
        called,
        caller,
        device: device.as_ref(),
        trunk: None,
        protocol: Protocol::Sip,
        conference: false,
    };
    routing.route(&request, &directory())
}

fn outcome(called: &str, device: Option<&str>) -> Result<Target, Refused> {
    decide(RULES, called, device.unwrap_or("sip:stranger@elsewhere.org"), device).outcome
}

fn uri(called: &str, device: Option<&str>) -> String {
    match outcome(called, device) {
        Ok(Target::External { uri, .. }) => uri,
        other => panic!("{called}: {other:?}"),
    }
}

#[test]
fn s85_devices_are_found_by_every_spelling() {
    for called in
        ["alice", "sip:Alice@example.com", "sips:alice@EXAMPLE.COM:5061;transport=tls", "alice@192.0.2.1"]
    {
        assert_eq!(outcome(called, None), Ok(Target::Device(alias("alice"))), "{called}");
    }
    assert_eq!(outcome("alice@other.org", None), Err(Refused::Denied), "another Alice");
}

#[test]
fn unknown_away_and_external_differ() {
    for (called, refused, reason) in [
        ("nobody", Refused::NotFound, Reason::NotFound),
        ("1001", Refused::NotFound, Reason::NotFound),
        ("carol", Refused::NotRegistered, Reason::Unavailable),
        ("+4930123456", Refused::Denied, Reason::Forbidden),
        ("004930123456", Refused::Denied, Reason::Forbidden),
        ("someone@elsewhere.org", Refused::Denied, Reason::Forbidden),
        ("sip:a%00b@example.com", Refused::NotAnAlias(AliasError::Unprintable), Reason::NotFound),
    ] {
        assert_eq!(outcome(called, Some("bob")), Err(refused), "{called}");
        assert_eq!(refused.reason(), reason);
    }
}

#[test]
fn rules_go_by_priority_and_only_for_whom_they_are() {
    assert_eq!(uri("joe@partner.example", None), "sip:joe@partner.example");
    assert_eq!(uri("sip:+15551234@example.com", Some("alice")), "sip:0015551234@trunk.example.net:5061");
    // The same number from somebody else, and from somebody who has not proved who he is.
    assert_eq!(outcome("+15551234", Some("bob")), Err(Refused::Denied));
    assert_eq!(decide(RULES, "+15551234", "alice", None).outcome, Err(Refused::Unauthenticated));
    assert_eq!(outcome("+15551234", None), Err(Refused::Denied), "the rule is for alice, not for strangers");
    // A device that is not registered is none.
    let carol = decide(&RULES.replace("from = \"alice\"", ""), "+15551234", "carol", Some("carol"));
    assert_eq!(carol.outcome, Err(Refused::Denied), "{carol:?}");
}

#[test]
fn a_rule_for_registered_devices_asks_strangers_to_authenticate() {
    let open = RULES.replace("from = \"alice\"", "");
    assert_eq!(decide(&open, "+15551234", "x@elsewhere.org", None).outcome, Err(Refused::Unauthenticated));
}

#[test]
fn a_rule_can_lead_to_a_device() {
    assert_eq!(outcome("0", None), Ok(Target::Device(alias("alice"))));
    let away = decide(&RULES.replace("\"alice\"\n    only", "\"carol\"\n    only"), "0", "x@y.org", None);
    assert_eq!(away.outcome, Err(Refused::NotRegistered), "{away:?}");
}

#[test]
fn a_rule_can_match_the_host_too() {
    for called in ["sip:joe@192.0.2.77", "joe@192.0.2.77", "sip:Joe:secret@192.0.2.77;user=phone?Subject=x"] {
        assert_eq!(uri(called, None), "sip:joe@192.0.2.77");
    }
    // Without domains of our own every domain counts as ours, and can still be matched.
    let open = RULES.replace("domains = [\"example.com\"]", "");
    let decision = decide(&open, "joe@partner.example", "x@y.org", None);
    assert!(
        matches!(decision.outcome, Ok(Target::External { ref uri, .. }) if uri == "sip:joe@partner.example")
    );
    assert_eq!(
        decide(&open, "alice@partner.example", "x@y.org", None).outcome,
        Ok(Target::Device(alias("alice")))
    );
    assert_eq!(outcome("sip:joe@198.51.100.1", None), Err(Refused::NotFound));
}

#[test]
fn the_port_and_the_transport_that_were_named_are_called() {
    for called in ["sip:Joe@192.0.2.77:5070;transport=tcp", "sip:joe@PARTNER.example:5070;transport=tcp"] {
        let expected = called.to_lowercase();
        assert_eq!(uri(called, None), expected);
    }
    assert_eq!(uri("joe@partner.example:5070", None), "sip:joe@partner.example:5070");
    // Those of the rule count where it names the host, and those of the caller nowhere else.
    let rule = RULES.replace("replace = \"alice\"", "replace = 'sip:desk@desk.example:5080'");
    for called in ["0", "sip:0@example.com:5070;transport=tcp"] {
        let decision = decide(&rule, called, "x@y.org", None);
        let Ok(Target::External { uri, .. }) = &decision.outcome else { panic!("{decision:?}") };
        assert_eq!(uri, "sip:desk@desk.example:5080");
    }
    let number = uri("sip:+15551234@example.com:7777;transport=udp", Some("alice"));
    assert_eq!(number, "sip:0015551234@trunk.example.net:5061");
}

/// RFC 3261 section 26.2.2: outside by SIPS means TLS all the way.
#[test]
fn promise_33_who_calls_by_sips_is_not_connected_by_sip() {
    assert_eq!(uri("sips:joe@partner.example", None), "sips:joe@partner.example");
    assert_eq!(uri("sips:joe@192.0.2.77:5071", None), "sips:joe@192.0.2.77:5071");
    let by = |proxy: &str| {
        let rule = format!(r"match = '[^@]+@partner\.example'{proxy}");
        RULES.replacen(r"match = '[^@]+@partner\.example'", &rule, 1)
    };
    let hop = |transport: &str| {
        by(&format!("\n    proxy = {{ host = \"192.0.2.9\", transport = \"{transport}\" }}"))
    };
    for (config, called, expected) in [
        (hop("udp"), "sips:joe@partner.example", Err(Refused::Downgrade)),
        (hop("tcp"), "sips:joe@partner.example", Err(Refused::Downgrade)),
        (hop("tls"), "sips:joe@partner.example", Ok("sips:joe@partner.example")),
        (hop("udp"), "sip:joe@partner.example", Ok("sip:joe@partner.example")),
        // What the rule makes of it is no way around.
        (
            by("\n    replace = 'sip:desk@desk.example'"),
            "sips:joe@partner.example",
            Ok("sips:desk@desk.example"),
        ),
    ] {
        let outcome = decide(&config, called, "x@y.org", None).outcome;
        let uri = outcome.as_ref().map(|target| match target {
            Target::External { uri, .. } => uri.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(uri.map_err(|refused| *refused), expected, "{called}");
    }
    assert_eq!(Refused::Downgrade.reason(), Reason::NotAcceptable, "488");
    // A rule after it may lead there by TLS.
    let second = format!(
        "{}\n[[rules]]\nname = \"secure\"\npriority = 50\nmatch = '.*@partner\\.example'\n\
         only_if_registered = false\n",
        hop("udp")
    );
    let outcome = decide(&second, "sips:joe@partner.example", "x@y.org", None).outcome;
    assert!(matches!(outcome, Ok(Target::External { ref rule, .. }) if rule == "secure"), "{outcome:?}");
    // A number of our own domain goes as the rule for it says.
    assert_eq!(uri("sips:+15551234@example.com", Some("alice")), "sip:0015551234@trunk.example.net:5061");
}

#[test]
fn a_rule_without_a_host_leads_nowhere_and_says_so() {
    let decision = decide(RULES, "*99", "x@y.org", None);
    assert_eq!(decision.outcome, Err(Refused::NoDestination));
    assert!(decision.why.last().unwrap().contains("add a proxy"), "{decision:?}");
}

#[test]
fn rules_are_for_the_protocols_that_they_name() {
    let config = RULES.replace("name = \"partner\"", "name = \"partner\"\n    incoming = [\"h323\"]");
    assert_eq!(decide(&config, "joe@partner.example", "x@y.org", None).outcome, Err(Refused::Denied));
}

#[test]
fn nobody_calls_in_the_name_of_a_device_without_proof() {
    for caller in ["alice", "sip:ALICE@example.com", "\"Alice\"@example.com"] {
        let outcome = decide(RULES, "bob", caller, None).outcome;
        if caller.contains('"') {
            assert_eq!(outcome, Ok(Target::Device(alias("bob"))), "quotes make another alias");
        } else {
            assert_eq!(outcome, Err(Refused::Unauthenticated), "{caller}");
        }
    }
    assert_eq!(decide(RULES, "bob", "alice", Some("alice")).outcome, Ok(Target::Device(alias("bob"))));
    // An Alice of another domain is a stranger like any other.
    assert_eq!(decide(RULES, "bob", "alice@other.org", None).outcome, Ok(Target::Device(alias("bob"))));
}

#[test]
fn strangers_can_be_refused_altogether() {
    let config = "[sip]\nstrangers = \"refused\"";
    // Whoever is called: the answer must not tell who is here.
    for called in ["alice", "carol", "nobody", "+15551234", "x@elsewhere.org", "sip:a%00b@example.com"] {
        for caller in ["x@y.org", "bob", "nobody"] {
            let outcome = decide(config, called, caller, None).outcome;
            assert_eq!(outcome, Err(Refused::Unauthenticated), "{caller} calls {called}");
        }
    }
    let open = format!("{RULES}\n").replace("[sip]", "[sip]\nstrangers = \"refused\"");
    assert_eq!(
        decide(&open, "joe@partner.example", "x@y.org", None).outcome,
        Err(Refused::Unauthenticated),
        "a rule for everybody is for everybody who authenticates"
    );
    assert_eq!(decide(config, "alice", "bob", Some("bob")).outcome, Ok(Target::Device(alias("alice"))));
}

#[test]
fn toll_fraud_strings_find_no_way_out() {
    // No rule is for numbers that a stranger or another device may use.
    for called in [
        "+15551234",
        "0015551234",
        "tel:+1-555-1234",
        "sip:+15551234;phone-context=x@example.com",
        "sip:%2B15551234@example.com",
        "sip:+15551234@example.com;user=phone",
        "sip:+15551234@evil.example",
        "+15551234@partner.example.evil.org",
        "sip:x@partner.example@evil.org",
        "sips:+15551234%40partner.example@evil.org",
        "\u{ff0b}15551234",
    ] {
        for device in [None, Some("bob")] {
            let outcome = outcome(called, device);
            assert!(outcome.is_err(), "{called} {device:?}: {outcome:?}");
        }
    }
}

#[test]
fn the_reasons_tell_the_whole_story() {
    let decision = decide(RULES, "sip:+15551234@example.com", "alice", Some("alice"));
    let expected = [
        "called is +15551234",
        "the caller authenticated as device alice",
        "no device has the alias +15551234",
        "rule 1 \"off\" does not apply: it is disabled",
        "rule 5 \"reception\" does not apply: +15551234 does not match 0",
        r#"rule 10 "partner" does not apply: +15551234 does not match [^@]+@partner\.example"#,
        "rule 20 \"boss\" matches +15551234",
        "it makes 0015551234 of it",
        "it goes to sip:0015551234@trunk.example.net:5061 by the proxy trunk.example.net:5061",
    ];
    assert_eq!(decision.why, expected);
}

fn entered(called: &str, name: &str) -> Result<Target, Refused> {
    Ok(Target::Service { alias: alias(called), name: name.into() })
}

#[test]
fn s1_s55_s85_services_are_found_before_devices_by_every_spelling() {
    for called in [
        "meet.alice",
        "Meet.Alice@example.com",
        "sip:meet%2Ealice@EXAMPLE.COM:5061;transport=tls",
        "pexip:meet.alice@192.0.2.1",
    ] {
        assert_eq!(outcome(called, None), entered("meet.alice", "Alice's room"), "{called}");
    }
    assert_eq!(outcome("meet.alice@other.org", None), Err(Refused::Denied), "another's room");
    assert_eq!(outcome("hall", Some("alice")), entered("hall", "Hall"));
    let decision = decide(RULES, "hall", "alice", Some("alice"));
    assert_eq!(decision.why.last().unwrap(), "the conference \"Hall\" has the alias hall");
    // A rule may lead there as well.
    let config = "[[rules]]\nname = \"hall\"\npriority = 1\nmatch = '0'\nreplace = \"hall\"\nonly_if_registered = false\n";
    assert_eq!(decide(config, "0", "x@y.org", None).outcome, entered("hall", "Hall"));
}

#[test]
fn who_may_not_call_learns_of_no_service() {
    let refused = |called| decide("[sip]\nstrangers = \"refused\"\n", called, "x@y.org", None);
    let nobody = refused("nobody");
    assert_eq!(nobody.outcome, Err(Refused::Unauthenticated));
    for called in ["meet.alice", "hall", "bob"] {
        assert_eq!(refused(called), nobody, "{called}");
    }
    // Who says that he is a device proves it, whatever he calls.
    assert_eq!(decide(RULES, "meet.alice", "alice", None).outcome, Err(Refused::Unauthenticated));
}

#[test]
fn conferences_call_devices_and_out_by_rules_that_are_there_for_them() {
    let rules = RULES.replace(
        "match = '[^@]+@partner\\.example'",
        "match = '[^@]+@partner\\.example'\n    from = 'board.*'\n    conferences = true",
    );
    let config = rules.replace("domains =", "strangers = \"refused\"\n    domains =");
    let routing = Routing::new(&Config::from_toml(&config, "x.toml").unwrap());
    let decide = |called: &str, caller: &str| {
        let request =
            Request { called, caller, device: None, trunk: None, protocol: Protocol::Sip, conference: true };
        routing.route(&request, &directory())
    };
    assert_eq!(decide("bob", "meet.alice").outcome, Ok(Target::Device(alias("bob"))));
    assert!(matches!(decide("joe@partner.example", "board").outcome, Ok(Target::External { .. })));
    assert_eq!(decide("joe@partner.example", "meet.alice").outcome, Err(Refused::Denied));
    let other = decide("joe@192.0.2.7", "board");
    assert_eq!(other.outcome, Err(Refused::NotFound), "a rule for callers is none for conferences");
    assert!(other.why.iter().any(|it| it.contains("conferences = true makes it so")), "{:?}", other.why);
}

const TRUNKS: &str = r#"
    [sip]
    strangers = "refused"
    [[trunks]]
    name = "carrier"
    host = "sip.carrier.example:5061"
    transport = "tls"
    registration = { user = "4930", domain = "carrier.example" }
    [[trunks]]
    name = "spare"
    host = "192.0.2.40:5070"
    [[rules]]
    name = "world"
    priority = 10
    match = '\+\d+'
    trunk = "carrier"
    [[rules]]
    name = "world by another"
    priority = 20
    match = '\+\d+'
    trunk = "spare"
    [[rules]]
    name = "through"
    priority = 30
    match = '77\d'
    callers = "trunk carrier"
    trunk = "spare"
"#;

/// A device of ours, or a trunk, calls what is called while some trunks are down.
fn by_trunks(called: &str, device: Option<&str>, trunk: Option<&str>, down: &[&str]) -> Decision {
    let routing = Routing::new(&Config::from_toml(TRUNKS, "test").unwrap());
    let device = device.map(alias);
    let caller = if device.is_some() { "alice" } else { "sip:4940@elsewhere.example" };
    let request = Request {
        called,
        caller,
        device: device.as_ref(),
        trunk,
        protocol: Protocol::Sip,
        conference: false,
    };
    let down = down.iter().map(|it| (*it).to_owned()).collect();
    routing.route(&request, &Fixed { down, ..directory() })
}

#[test]
fn a_rule_s_calls_go_to_its_trunk_and_to_the_next_rule_s_when_that_is_down() {
    let to = |down: &[&str]| match by_trunks("+4940123", Some("alice"), None, down).outcome {
        Ok(Target::External { rule, uri, trunk, .. }) => Ok((rule, uri, trunk.unwrap())),
        Ok(other) => panic!("{other:?}"),
        Err(refused) => Err(refused),
    };
    let gone = |rule: &str, uri: &str, trunk: &str| Ok((rule.into(), uri.into(), trunk.into()));
    // At the domain that we are registered at, whatever its host is called.
    assert_eq!(to(&[]), gone("world", "sip:+4940123@carrier.example", "carrier"));
    assert_eq!(to(&["spare"]), gone("world", "sip:+4940123@carrier.example", "carrier"));
    assert_eq!(to(&["carrier"]), gone("world by another", "sip:+4940123@192.0.2.40:5070", "spare"));
    assert_eq!(to(&["carrier", "spare"]), Err(Refused::TrunkDown));
    assert_eq!(Refused::TrunkDown.reason(), Reason::Unreachable);
    let why = by_trunks("+4940123", Some("alice"), None, &["carrier"]).why.join("\n");
    assert!(why.contains("trunk \"carrier\" does not answer"), "{why}");
}

#[test]
fn calls_from_a_trunk_are_no_strangers_and_leave_by_rules_that_name_it_alone() {
    let from = |called: &str, trunk: Option<&str>| by_trunks(called, None, trunk, &[]).outcome;
    assert_eq!(from("bob", Some("carrier")), Ok(Target::Device(alias("bob"))));
    assert_eq!(from("bob", None), Err(Refused::Unauthenticated), "strangers are refused here");
    // Never out again by a rule that is for devices, nor asked to prove what it is not.
    assert_eq!(from("+4940123", Some("carrier")), Err(Refused::Denied));
    assert!(matches!(from("770", Some("carrier")), Ok(Target::External { rule, .. }) if rule == "through"));
    assert_eq!(from("770", Some("spare")), Err(Refused::NotFound), "the rule is for another trunk");
    assert_eq!(by_trunks("770", Some("alice"), None, &[]).outcome, Err(Refused::NotFound));
    // Nobody calls in a device's name.
    let routing = Routing::new(&Config::from_toml(TRUNKS, "test").unwrap());
    let request = Request {
        called: "bob",
        caller: "alice",
        device: None,
        trunk: Some("carrier"),
        protocol: Protocol::Sip,
        conference: false,
    };
    assert_eq!(routing.route(&request, &directory()).outcome, Err(Refused::Unauthenticated));
}

#[test]
fn a_stored_rule_whose_trunk_is_gone_says_so() {
    let routing = Routing::new(&Config::default());
    let text = "[[rules]]\nname = \"r\"\npriority = 1\nmatch = '\\d+'\ntrunk = \"gone\"";
    routing.set_stored(Config::from_piece(text, "rule").unwrap().rules);
    let alice = alias("alice");
    let request = Request {
        called: "123",
        caller: "alice",
        device: Some(&alice),
        trunk: None,
        protocol: Protocol::Sip,
        conference: false,
    };
    let decision = routing.route(&request, &directory());
    assert_eq!(decision.outcome, Err(Refused::NoDestination));
    assert!(decision.why.join("\n").contains("there is no trunk \"gone\""), "{:?}", decision.why);
}
