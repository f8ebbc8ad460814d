//! SIP legs between a machine and a conference of cardboard, with real media ports, in paused time.

use std::io;
use std::net::Ipv4Addr;

use crosspoint_codecs::format::{AudioFormat, Codec, Direction, MediaCapability, MediaFormat, MediaKind};
use crosspoint_proto::sdp::Sdp;
use crosspoint_proto::sip::{Body, By, Ending, How};
use rand_core::SeedableRng;

use super::hop::Lookup;
use super::locate::{Naptr, Srv};
use super::*;
use crate::config::{HostPort, Listen, Proxy};
use crate::leg::LegCommand;
use crate::net::clock::Clock;
use crate::net::media::MediaConfig;

mod ladder;
mod path;
mod replaces;
mod trunks;

const LO: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A network in which one name is known, and one name server never answers.
struct Book;

const KNOWN: &str = "proxy.example";
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SILENT: &str = "silent.example";
/// It leads where no name of a peer may lead.
const HIDDEN: &str = "hidden.example";
/// Two servers, by SRV.
const PAIR: &str = "pair.example";

impl Network for Book {
    fn naptr(&self, _: &str) -> Lookup<Naptr> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn srv(&self, name: &str) -> Lookup<Srv> {
        let known = format!("_sip._udp.{PAIR}") == name;
        let record = |priority, port| Srv { priority, weight: 0, port, target: KNOWN.to_owned() };
        let found = if known { vec![record(1, 5_060), record(2, 5_070)] } else { Vec::new() };
        Box::pin(std::future::ready(Ok(found)))
    }

    fn addresses(&self, name: &str) -> Lookup<IpAddr> {
        match name {
            KNOWN => Box::pin(std::future::ready(Ok(vec![PROXY]))),
            HIDDEN => {
                Box::pin(std::future::ready(Ok(vec![LO, IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254))])))
            }
            SILENT => Box::pin(std::future::pending()),
            _ => Box::pin(std::future::ready(Ok(Vec::new()))),
        }
    }

    fn local_address_towards(&self, peer: IpAddr) -> io::Result<IpAddr> {
        Ok(match peer {
            PROXY => OURS,
            IpAddr::V4(_) => LO,
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        })
    }
}

struct Rig {
    legs: SipLegs,
    machine: mpsc::Receiver<Command>,
}

/// A leg, and the call that it is for the machine.
struct Dialled {
    leg: Leg,
    call: CallId,
}

impl Rig {
    fn new(bind: IpAddr) -> Self {
        Self::with(bind, Trunks::default())
    }

    fn with(bind: IpAddr, trunks: Trunks) -> Self {
        Self::encrypting(bind, trunks, EncryptionPolicy::None)
    }

    fn encrypting(bind: IpAddr, trunks: Trunks, encryption: EncryptionPolicy) -> Self {
        let (commands, machine) = mpsc::channel(64);
        let media = MediaConfig { threads: 1, ports: 20_000..=29_999 };
        let net = Arc::new(MediaNet::start(&media, Clock::start()).unwrap());
        let config = SipLegConfig {
            bind,
            advertised: None,
            encryption,
            insecure_keys: true,
            allow: Vec::new(),
            listening: [
                (Transport::Udp, "127.0.0.1:5060"),
                (Transport::Udp, "[::1]:5060"),
                (Transport::Tcp, "127.0.0.1:5060"),
            ]
            .map(|(transport, address)| Listen { transport, address: address.parse().unwrap() })
            .to_vec(),
            own: Vec::new(),
            latching: false,
            media_timeout: None,
            codecs: HashMap::new(),
            domain: (!bind.is_unspecified()).then(|| Host::from(LO)),
            trunks,
        };
        let rng = ChaCha12Rng::seed_from_u64(1);
        Self { legs: SipLegs::on(Arc::new(Book), commands, net, config, rng, Arc::default()), machine }
    }

    fn call(&self, uri: &str, proxy: Option<&str>) -> Leg {
        let proxy = proxy.map(|host| Proxy {
            host: HostPort { host: host.to_owned(), port: None },
            transport: Transport::Udp,
            credentials: None,
        });
        let to = Address { proxy, ..Address::at(uri) };
        let from = Caller { address: "alice".to_owned(), name: String::new(), hops: 70, venue: None };
        self.legs.dial(&to, &from, sound(Direction::SendRecv), None).unwrap()
    }

    /// A call to a phone on this machine, as far as the INVITE.
    async fn dialled(&mut self) -> Dialled {
        let leg = self.call("sip:bob@127.0.0.1:5070", None);
        let Command::Invite(invite) = self.asked().await else { panic!("no INVITE") };
        Dialled { leg, call: invite.call }
    }

    /// The same, answered.
    async fn answered(&mut self) -> Dialled {
        let mut dialled = self.dialled().await;
        self.legs.deliver(Event::Answered { call: dialled.call, body: Some(description("")), fork: 0 });
        assert!(matches!(dialled.told().await, LegEvent::Answered(_)));
        dialled
    }

    async fn asked(&mut self) -> Command {
        tokio::time::timeout(Duration::from_secs(5), self.machine.recv()).await.expect("a command").unwrap()
    }

    /// The far end takes everything as it is offered.
    async fn hold(&mut self, dialled: &mut Dialled) {
        let call = dialled.call;
        self.legs.deliver(Event::Reinvite { call, body: Some(description("a=sendonly\r\n")) });
        let LegEvent::Reoffered { offer: Some(offer) } = dialled.told().await else { panic!("no offer") };
        assert_eq!(offer.media[0].direction, Direction::SendOnly);
        dialled.does(LegCommand::AcceptReoffer(sound(Direction::RecvOnly))).await;
        let Command::AnswerReinvite { body, .. } = self.asked().await else { panic!("not answered") };
        assert!(String::from_utf8_lossy(&body.data).contains("a=recvonly"));
        let LegEvent::Changed(streams) = dialled.told().await else { panic!("nothing changed") };
        assert_eq!(streams[0].agreed.direction, Direction::RecvOnly);
    }
}

impl Dialled {
    async fn told(&mut self) -> LegEvent {
        tokio::time::timeout(Duration::from_secs(5), self.leg.events.recv()).await.expect("an event").unwrap()
    }

    async fn does(&self, command: LegCommand) {
        self.leg.commands.send(command).await.unwrap();
    }

    fn quiet(&mut self) -> bool {
        self.leg.events.try_recv().is_err()
    }
}

fn sound(direction: Direction) -> Capabilities {
    let formats = vec![MediaFormat::Audio(AudioFormat::new(Codec::Pcmu))];
    let line = MediaCapability { role: MediaKind::Audio, direction, formats };
    Capabilities { media: vec![line], max_bitrate: None }
}

/// What a phone on this machine says of itself, in an offer or an answer.
fn description(more: &str) -> Body {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio 5900 RTP/AVP 0\r\n{more}"
    );
    Body::sdp(text.into_bytes())
}

/// Lets every task do what it can without the clock.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_reinvite_that_crosses_ours_is_told_to_come_again() {
    let mut rig = Rig::new(LO);
    let mut bob = rig.answered().await;
    bob.does(LegCommand::Reoffer(sound(Direction::SendOnly))).await;
    assert!(matches!(rig.asked().await, Command::Reinvite { .. }));
    rig.legs.deliver(Event::Reinvite { call: bob.call, body: Some(description("")) });
    let Command::RefuseReinvite { status, .. } = rig.asked().await else { panic!("not refused") };
    assert_eq!(status, 491, "both wait and try again (RFC 3261 section 14.2)");
    // Ours goes on, and theirs may come again.
    rig.legs.deliver(Event::ReinviteAnswered { call: bob.call, body: Some(description("a=recvonly\r\n")) });
    assert!(matches!(bob.told().await, LegEvent::Changed(_)));
    rig.hold(&mut bob).await;
}

#[tokio::test(start_paused = true)]
async fn an_offerless_reinvite_that_is_cancelled_leaves_the_negotiation_usable() {
    let mut rig = Rig::new(LO);
    let mut bob = rig.answered().await;
    let call = bob.call;
    // Before the conference has answered, whose answer comes too late.
    rig.legs.deliver(Event::Reinvite { call, body: None });
    assert!(matches!(bob.told().await, LegEvent::Reoffered { offer: None }));
    rig.legs.deliver(Event::ReinviteCancelled { call });
    assert!(matches!(bob.told().await, LegEvent::ReofferWithdrawn));
    bob.does(LegCommand::AcceptReoffer(sound(Direction::SendRecv))).await;
    let late = rig.asked().await;
    assert!(matches!(late, Command::RefuseReinvite { .. }), "an offer for nobody: {late:?}");
    rig.hold(&mut bob).await;
    // And when the two cross on their way to the machine.
    rig.legs.deliver(Event::Reinvite { call, body: None });
    assert!(matches!(bob.told().await, LegEvent::Reoffered { offer: None }));
    bob.does(LegCommand::AcceptReoffer(sound(Direction::SendRecv))).await;
    assert!(matches!(rig.asked().await, Command::AnswerReinvite { .. }));
    rig.legs.deliver(Event::ReinviteCancelled { call });
    assert!(matches!(bob.told().await, LegEvent::ReofferWithdrawn));
    rig.hold(&mut bob).await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_changes_nothing_is_nobodys_business_and_a_change_is_told() {
    let mut rig = Rig::new(LO);
    let mut bob = rig.answered().await;
    let call = bob.call;
    for _ in 0..3 {
        rig.legs.deliver(Event::Refreshed { call, body: description("") });
        settle().await;
        assert!(bob.quiet(), "RFC 4028 section 7.4: it is the same session");
    }
    // Nonsense leaves all as it was.
    rig.legs.deliver(Event::Refreshed { call, body: Body::sdp("v=0") });
    rig.legs.deliver(Event::Refreshed { call, body: description("a=recvonly\r\n") });
    let LegEvent::Changed(streams) = bob.told().await else { panic!("not told") };
    assert_eq!(streams[0].agreed.direction, Direction::SendOnly);
    // Beside an offer of ours it says nothing, and that one goes on.
    bob.does(LegCommand::Reoffer(sound(Direction::SendRecv))).await;
    assert!(matches!(rig.asked().await, Command::Reinvite { .. }));
    rig.legs.deliver(Event::Refreshed { call, body: description("a=recvonly\r\n") });
    rig.legs.deliver(Event::ReinviteAnswered { call, body: Some(description("")) });
    let LegEvent::Changed(streams) = bob.told().await else { panic!("not told") };
    assert_eq!(streams[0].agreed.direction, Direction::SendRecv);
    assert!(bob.quiet() && rig.machine.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_suite_that_comes_back_has_another_key() {
    let mut rig = Rig::encrypting(LO, Trunks::default(), EncryptionPolicy::BestEffort);
    let mut bob = rig.answered().await;
    let cm = "AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
    let gcm = "AEAD_AES_128_GCM inline:MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3Bxcg==";
    let mut keys = Vec::new();
    for suite in [Some(cm), Some(cm), Some(gcm), Some(cm), Some(cm), None, Some(cm)] {
        let crypto = suite.map(|suite| format!("a=crypto:1 {suite}\r\n"));
        let body = description(crypto.as_deref().unwrap_or_default());
        let text = String::from_utf8(body.data.to_vec()).unwrap();
        let text = if suite.is_some() { text.replace("RTP/AVP", "RTP/SAVP") } else { text };
        rig.legs.deliver(Event::Reinvite { call: bob.call, body: Some(Body::sdp(text.into_bytes())) });
        assert!(matches!(bob.told().await, LegEvent::Reoffered { offer: Some(_) }));
        bob.does(LegCommand::AcceptReoffer(sound(Direction::SendRecv))).await;
        let Command::AnswerReinvite { body, .. } = rig.asked().await else { panic!("not answered") };
        assert!(matches!(bob.told().await, LegEvent::Changed(_)));
        let answer = String::from_utf8_lossy(&body.data).into_owned();
        keys.push(answer.split_once("inline:").map(|(_, key)| key.lines().next().unwrap().to_owned()));
    }
    assert_eq!(keys[0], keys[1], "its numbers go on under the same key");
    assert_ne!(keys[3], keys[0], "they would begin anew under one that has seen them (RFC 3711 section 9.1)");
    assert_eq!(keys[4], keys[3]);
    assert!(keys[5].is_none() && keys[6].is_some());
    assert!(keys[6] != keys[4] && keys[6] != keys[0]);
}

#[tokio::test(start_paused = true)]
async fn a_bare_200_stands_with_the_early_answer() {
    let mut rig = Rig::new(LO);
    let mut bob = rig.dialled().await;
    let call = bob.call;
    rig.legs.deliver(Event::Progress { call, status: 183, body: description(""), fork: 0 });
    assert!(matches!(bob.told().await, LegEvent::Progress(_)));
    rig.legs.deliver(Event::Answered { call, body: None, fork: 0 });
    let LegEvent::Answered(streams) = bob.told().await else { panic!("the answer does not stand") };
    assert_eq!(streams[0].agreed.send.codec(), Codec::Pcmu);
    assert!(rig.machine.try_recv().is_err(), "nothing to hang up");
}

#[tokio::test(start_paused = true)]
async fn a_bare_200_without_an_early_answer_is_hung_up() {
    let mut rig = Rig::new(LO);
    let bob = rig.dialled().await;
    rig.legs.deliver(Event::Answered { call: bob.call, body: None, fork: 0 });
    assert!(matches!(rig.asked().await, Command::Hangup { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_configured_by_name_is_offered_the_address_that_it_can_reach() {
    let mut rig = Rig::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let _leg = rig.call("sip:+4930123456@carrier.example", Some(KNOWN));
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    let Destination::Address { address, .. } = invite.destination else { panic!("no address") };
    assert_eq!(address.ip(), PROXY);
    assert_eq!(invite.from.uri.to_string(), format!("sip:alice@{OURS}"), "promise 46");
    let offer = Sdp::parse(&invite.body.unwrap().data).unwrap();
    assert_eq!(offer.address_of(&offer.media[0]), Some(OURS));
    assert_eq!(offer.origin.address, OURS.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_does_not_wait_for_a_name() {
    let mut rig = Rig::new(LO);
    let mut leg = rig.call("sip:bob@silent.example", None);
    settle().await;
    let cancelled = Cause { side: crate::cause::Side::Peer, ..Cause::local(Reason::Cancelled) };
    leg.commands.send(LegCommand::Hangup(cancelled)).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(1), leg.events.recv()).await;
    let Ok(Some(LegEvent::Ended(cause))) = told else { panic!("it waits: {told:?}") };
    assert_eq!(cause, cancelled);
    // Nobody was called, and the next call goes on.
    assert!(rig.machine.try_recv().is_err());
    let _next = rig.dialled().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_address_is_unreachable() {
    let rig = Rig::new(LO);
    let mut leg = rig.call("sip:bob@nowhere.example", None);
    let told = tokio::time::timeout(Duration::from_secs(1), leg.events.recv()).await;
    let Ok(Some(LegEvent::Ended(cause))) = told else { panic!("no end: {told:?}") };
    assert_eq!(cause, Cause::local(Reason::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn a_leg_whose_conference_does_not_listen_is_hung_up_and_others_go_on() {
    let mut rig = Rig::new(LO);
    let mut bob = rig.answered().await;
    let dtmf = || Body { content_type: "application/dtmf".to_owned(), data: "5".into() };
    for _ in 0..EVENTS + INBOX + 8 {
        rig.legs.deliver(Event::Info { call: bob.call, body: dtmf() });
        settle().await;
    }
    // Another call does not notice.
    let mut carol = rig.answered().await;
    assert!(carol.quiet());
    // When it listens again: what was told, and the end, which the far end is told too.
    let mut last = bob.told().await;
    let mut keys = 0;
    while let LegEvent::Dtmf(_) = last {
        keys += 1;
        last = bob.told().await;
    }
    assert!(keys > EVENTS, "{keys}");
    let LegEvent::Ended(cause) = last else { panic!("{last:?}") };
    assert_eq!(cause, Cause::local(Reason::Congestion));
    let Command::Hangup { call, .. } = rig.asked().await else { panic!("the far end is not told") };
    assert_eq!(call, bob.call);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_leg_ends_as_cancelled_when_the_answer_crosses() {
    let mut rig = Rig::new(LO);
    let mut bob = rig.dialled().await;
    let cancelled = Cause::local(Reason::Cancelled);
    bob.does(LegCommand::Hangup(cancelled)).await;
    assert!(matches!(rig.asked().await, Command::Hangup { .. }));
    let ending = Ending {
        by: By::Us,
        how: How::Cancelled,
        status: None,
        phrase: String::new(),
        reason: None,
        contacts: Vec::new(),
    };
    rig.legs.deliver(Event::Answered { call: bob.call, body: Some(description("")), fork: 0 });
    rig.legs.deliver(Event::Ended { call: bob.call, ending: Box::new(ending) });
    let _answered = bob.told().await;
    let LegEvent::Ended(cause) = bob.told().await else { panic!("no end") };
    assert_eq!(cause, cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_one_server_cannot_take_goes_to_the_next_and_the_next_call_begins_there() {
    let mut rig = Rig::new(LO);
    let mut leg = rig.call("sip:bob@pair.example", None);
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    let port = |destination: &Destination| match destination {
        Destination::Address { address, .. } => address.port(),
        other => panic!("{other:?}"),
    };
    assert_eq!((port(&invite.destination), invite.elsewhere), (5_060, true));
    rig.legs.deliver(Event::Unreached { call: invite.call, how: How::Refused, pause: None });
    let Command::Elsewhere(next) = rig.asked().await else { panic!("it goes nowhere") };
    assert_eq!((next.call, port(&next.destination), next.elsewhere), (invite.call, 5_070, false));
    let offer = Sdp::parse(&next.body.unwrap().data).unwrap();
    assert_eq!(offer.media.len(), 1);
    // The answer of the second one is one to the offer that it had.
    let answer = String::from_utf8(description("").data.to_vec()).unwrap();
    let body = Some(Body::sdp(answer.replace("127.0.0.1", &PROXY.to_string()).into_bytes()));
    rig.legs.deliver(Event::Answered { call: invite.call, body, fork: 0 });
    let told = tokio::time::timeout(Duration::from_secs(5), leg.events.recv()).await.unwrap();
    assert!(matches!(told, Some(LegEvent::Answered(_))), "{told:?}");
    let _next = rig.call("sip:bob@pair.example", None);
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    assert_eq!(port(&invite.destination), 5_070, "what failed comes last for a while");
}

#[tokio::test(start_paused = true)]
async fn a_redirection_names_places_by_preference_and_a_proxy_is_none() {
    let contacts = "<sip:c@192.0.2.3>;q=0.1, <sip:a@192.0.2.1>, <sips:b@192.0.2.2>;q=0.5";
    for (status, places) in [
        (302, &["sip:a@192.0.2.1", "sips:b@192.0.2.2", "sip:c@192.0.2.3"][..]),
        (300, &["sip:a@192.0.2.1", "sips:b@192.0.2.2", "sip:c@192.0.2.3"]),
        (305, &[]),
        (380, &[]),
    ] {
        let mut rig = Rig::new(LO);
        let mut bob = rig.dialled().await;
        let contacts = contacts.split(", ").map(|it| NameAddr::parse(it).unwrap()).collect();
        let (by, how, status, phrase, reason) = (By::Peer, How::Refused, Some(status), String::new(), None);
        let ending = Box::new(Ending { by, how, status, phrase, reason, contacts });
        rig.legs.deliver(Event::Ended { call: bob.call, ending });
        if !places.is_empty() {
            let LegEvent::Elsewhere(told) = bob.told().await else { panic!("{status:?}: not told") };
            assert_eq!(told, places);
        }
        let LegEvent::Ended(cause) = bob.told().await else { panic!("{status:?}: not over") };
        assert_eq!(cause, Cause::remote(Reason::Unavailable));
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_between_two_servers_calls_nobody() {
    let mut rig = Rig::new(LO);
    let leg = rig.call("sip:bob@pair.example", None);
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    leg.commands.send(LegCommand::Hangup(Cause::local(Reason::Cancelled))).await.unwrap();
    assert!(matches!(rig.asked().await, Command::Hangup { .. }));
    rig.legs.deliver(Event::Unreached { call: invite.call, how: How::NoResponse, pause: None });
    settle().await;
    assert!(rig.machine.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_on_all_addresses_has_media_for_both_families() {
    for (bind, uri, own) in [
        ("0.0.0.0", "sip:bob@127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "sip:bob@[::1]", "::1"),
        ("::", "sip:bob@[::1]", "::1"),
        ("::", "sip:bob@127.0.0.1", "127.0.0.1"),
    ] {
        let mut rig = Rig::new(bind.parse().unwrap());
        let _leg = rig.call(uri, None);
        let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
        let offer = Sdp::parse(&invite.body.unwrap().data).unwrap();
        let own: IpAddr = own.parse().unwrap();
        assert_eq!(offer.address_of(&offer.media[0]), Some(own), "{bind} to {uri}");
        // The port is really there.
        let taken = std::net::UdpSocket::bind((own, offer.media[0].port));
        assert!(taken.is_err(), "{bind} to {uri}: nobody listens at {own}");
    }
}
