//! Redirections of calls with legs of cardboard, in paused time. The directory is one that lets Alice
//! call "+49..." and whoever is at "partner.example", the latter for good, and the conference "meet".

use std::collections::HashMap;
use std::sync::Mutex;

use crosspoint_codecs::format::Direction;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::alias::Alias;
use crate::conference::cardboard::{Far, leg, offer, streams};
use crate::conference::exchange::tests::{Parts, exchange};
use crate::conference::{Directory, Resolving};
use crate::leg::{Protocol, Referral, Venue};

/// Who was called, in order, and their far ends.
#[derive(Default)]
struct World {
    called: Mutex<Vec<String>>,
    fars: Mutex<HashMap<String, Far>>,
}

impl Directory for World {
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a> {
        let asks = party.address.as_str();
        assert!(
            asks == "alice" || asks == "sip:bob@partner.example",
            "each place is asked about as the same caller: {asks}"
        );
        let called = Alias::with_host(&party.called).unwrap();
        let enter = |service: Service| {
            let enter = Resolution::Enter { service: Arc::new(service), why: String::new() };
            Box::pin(std::future::ready(enter))
        };
        let (rule, uri, follow) = match called.as_str() {
            "meet@gateway.example" => return enter(Service::new("Meet", Alias::from_canonical("meet"))),
            "nobody@gateway.example" => return enter(Service::decoy(Alias::from_canonical("nobody"))),
            number if number.starts_with("+49") => ("carrier", "sip:+49@carrier.example".to_owned(), true),
            here if here.ends_with("@partner.example") => ("partner", format!("sip:{here}"), false),
            here if here.ends_with("@mobile.example") => ("mobile", format!("sip:{here}"), true),
            _ => {
                let refuse = Resolution::Refuse { reason: Reason::Forbidden, why: String::new() };
                return Box::pin(std::future::ready(refuse));
            }
        };
        let target = Address::at(uri);
        let dial =
            Resolution::Dial { targets: vec![target], rule: Some(rule.into()), follow, why: String::new() };
        Box::pin(std::future::ready(dial))
    }

    fn dial_out<'a>(&'a self, _: &'a str, _: &'a str) -> Resolving<'a> {
        unreachable!("no conference calls")
    }
}

impl Protocol for World {
    fn schemes(&self) -> &'static [&'static str] {
        &["sip", "sips"]
    }

    fn dial(&self, to: &Address, from: &Caller, _: Capabilities, _: Option<usize>) -> Result<Leg, Cause> {
        assert_eq!((from.address.as_str(), &from.venue), ("alice", &None::<Venue>));
        let mut called = self.called.lock().unwrap();
        let (mut leg, far) = leg(called.len() as u64 + 10);
        leg.party.address = to.uri.clone();
        called.push(to.uri.clone());
        self.fars.lock().unwrap().insert(to.uri.clone(), far);
        Ok(leg)
    }
}

impl World {
    fn far(&self, uri: &str) -> Far {
        let mut fars = self.fars.lock().unwrap();
        let there: Vec<_> = fars.keys().cloned().collect();
        fars.remove(uri).unwrap_or_else(|| panic!("{uri} was not called: {there:?}"))
    }

    fn called(&self) -> Vec<String> {
        self.called.lock().unwrap().clone()
    }

    async fn moves(&self, uri: &str, places: &[&str]) {
        self.ends_with(uri, places, Cause::remote(Reason::Unavailable)).await;
    }

    async fn ends_with(&self, uri: &str, places: &[&str], cause: Cause) {
        let far = self.far(uri);
        if !places.is_empty() {
            far.tells(LegEvent::Elsewhere(places.iter().map(|&it| it.to_owned()).collect())).await;
        }
        far.ends(cause).await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

const FIRST: &str = "sip:+49@carrier.example";

struct Scene {
    world: Arc<World>,
    alice: Far,
    recorded: UnboundedReceiver<(CallRecord, Cause)>,
    _parts: (Exchange, crate::media::Engine),
}

/// Alice calls a number of the carrier's.
async fn scene() -> Scene {
    let world = Arc::new(World::default());
    let Parts { exchange, recorded, _engine, .. } = exchange(world.clone(), world.clone(), 10);
    let (mut caller, alice) = leg(1);
    caller.party.address = "alice".into();
    caller.party.called = "+4930".into();
    exchange.accept(caller);
    alice.tells(LegEvent::Offered(Some(offer()))).await;
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    Scene { world, alice, recorded, _parts: (exchange, _engine) }
}

#[tokio::test(start_paused = true)]
async fn a_redirection_goes_on_as_the_same_call_and_the_record_says_where() {
    let mut scene = scene().await;
    let world = scene.world.clone();
    let first = world.fars.lock().unwrap().get(FIRST).unwrap().events.clone();
    first.send(LegEvent::Ringing).await.unwrap();
    assert!(matches!(scene.alice.told().await, LegCommand::Ring));
    // RFC 3261 section 8.1.3.4: by q, one after the other, where one fails the next.
    world.moves(FIRST, &["sip:bob@mobile.example:5070;transport=tcp", "sip:bob@partner.example"]).await;
    let mobile = "sip:bob@mobile.example:5070;transport=tcp";
    assert_eq!(world.called(), [FIRST, mobile], "the port that was named, where the rule goes to that host");
    world.ends_with(mobile, &[], Cause::remote(Reason::Busy)).await;
    let partner = world.far("sip:bob@partner.example");
    partner.tells(LegEvent::Ringing).await;
    partner.tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    assert!(matches!(scene.alice.told().await, LegCommand::Answer(_)), "it rings once");
    let call = scene._parts.0.calls().pop().unwrap();
    assert_eq!(call.view.legs[1].party.address, "sip:bob@partner.example");
    // From now on it is like any other leg.
    scene.alice.tells(LegEvent::Dtmf('7')).await;
    let mut partner = partner;
    assert!(matches!(partner.told().await, LegCommand::SendDtmf('7')));
    partner.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(scene.alice.told_to_hang_up().await.reason, Reason::Hangup);
    scene.alice.ends(Cause::local(Reason::Hangup)).await;
    let (record, _) = scene.recorded.recv().await.unwrap();
    let trail: Vec<_> = record
        .redirections
        .iter()
        .map(|it| (it.to.as_str(), it.rule.as_deref().unwrap_or_default(), it.outcome.as_str()))
        .collect();
    let there = "sip:bob@partner.example";
    assert_eq!(trail, [(mobile, "mobile", "called"), (there, "partner", "called")]);
    assert_eq!((record.rule.as_deref(), record.answered_by.as_deref()), (Some("carrier"), Some(there)));
}

/// What each place comes to; the call ends with the reason that says most.
#[tokio::test(start_paused = true)]
async fn p42_the_called_side_leads_nowhere_that_the_caller_could_not_call() {
    let no_rule = "the rules do not let the caller call it";
    let again = "it was called before";
    let down = "it would lead from sips to sip";
    for (places, outcome) in [
        ("sip:+1900@premium.example", no_rule),
        ("sip:premium@192.0.2.66;transport=tcp", no_rule),
        ("tel:+1900", no_rule),
        ("sip:bob@premium.example?Route=%3Csip:partner.example%3E", no_rule),
        ("sip:nobody@gateway.example", no_rule),
        ("sip:+4931@carrier.example", again),
        ("sip:+4930@carrier.example;user=phone", again),
        // The carrier's proxy would be called by SIP.
        ("sips:+4999@other.example", down),
        ("https://premium.example", "no place that can be called"),
        ("", "no place that can be called"),
    ] {
        let mut scene = scene().await;
        scene.world.moves(FIRST, &[places]).await;
        assert_eq!(scene.world.called(), [FIRST], "{places}");
        assert_eq!(scene.alice.told_to_hang_up().await.reason, Reason::Unavailable, "{places}");
        scene.alice.ends(Cause::local(Reason::Unavailable)).await;
        let (record, _) = scene.recorded.recv().await.unwrap();
        let told: Vec<_> = record.redirections.iter().map(|it| it.outcome.as_str()).collect();
        assert_eq!((told, record.answered_by), (vec![outcome], None), "{places}");
    }
}

#[tokio::test(start_paused = true)]
async fn sips_leads_to_sips_alone_and_a_rule_that_says_nothing_follows_nothing() {
    let mut scene = scene().await;
    let world = scene.world.clone();
    world.moves(FIRST, &["sips:bob@mobile.example"]).await;
    world.moves("sips:bob@mobile.example", &["sip:eve@mobile.example", "sips:bob@partner.example"]).await;
    assert_eq!(world.called(), [FIRST, "sips:bob@mobile.example", "sips:bob@partner.example"]);
    world.moves("sips:bob@partner.example", &["sips:eve@mobile.example"]).await;
    assert_eq!(world.called().len(), 3, "the rule that led to the partner follows nothing");
    assert_eq!(scene.alice.told_to_hang_up().await.reason, Reason::Unavailable);
    scene.alice.ends(Cause::local(Reason::Unavailable)).await;
    let (record, _) = scene.recorded.recv().await.unwrap();
    let told: Vec<_> = record.redirections.iter().map(|it| it.outcome.as_str()).collect();
    let stops = "the rule that let the call go there follows no redirections";
    assert_eq!(told, ["called", "it would lead from sips to sip", "called", stops]);
}

#[tokio::test(start_paused = true)]
async fn circles_and_long_lists_come_to_an_end() {
    let mut ring = scene().await;
    for step in 0..REDIRECTIONS + 1 {
        let from = match step {
            0 => FIRST.to_owned(),
            _ => format!("sip:bob{step}@mobile.example"),
        };
        let to = format!("sip:bob{}@mobile.example", step + 1);
        let back: &[&str] = if step == 2 { &[FIRST, &to] } else { &[&to] };
        ring.world.moves(&from, back).await;
    }
    assert_eq!(ring.alice.told_to_hang_up().await.reason, Reason::Unavailable);
    assert_eq!(ring.world.called().len(), 1 + REDIRECTIONS, "{:?}", ring.world.called());

    let mut long = scene().await;
    let places: Vec<_> = (0..100).map(|n| format!("sip:bob{n}@mobile.example")).collect();
    long.world.moves(FIRST, &places.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for place in &places[..PLACES] {
        long.world.ends_with(place, &[], Cause::remote(Reason::Busy)).await;
    }
    assert_eq!(long.world.called().len(), 1 + PLACES);
    assert_eq!(long.alice.told_to_hang_up().await.reason, Reason::Busy, "what says most");
    long.alice.ends(Cause::local(Reason::Busy)).await;
    let (record, _) = long.recorded.recv().await.unwrap();
    assert_eq!(record.redirections[0].outcome, "too many places were named");
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_called_when_the_caller_gave_up_or_the_called_party_declined() {
    let gone = scene().await;
    gone.alice.ends(Cause::remote(Reason::Cancelled)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    gone.world.moves(FIRST, &["sip:bob@mobile.example"]).await;
    assert_eq!(gone.world.called(), [FIRST]);

    let mut declined = scene().await;
    declined.world.moves(FIRST, &["sip:bob@mobile.example", "sip:eve@mobile.example"]).await;
    declined.world.ends_with("sip:bob@mobile.example", &[], Cause::remote(Reason::Rejected)).await;
    assert_eq!(declined.world.called().len(), 2, "RFC 3261 section 21.6");
    assert_eq!(declined.alice.told_to_hang_up().await.reason, Reason::Rejected);
}

#[tokio::test(start_paused = true)]
async fn a_redirection_to_a_conference_brings_the_caller_there() {
    let mut scene = scene().await;
    let world = scene.world.clone();
    let first = world.fars.lock().unwrap().get(FIRST).unwrap().events.clone();
    first.send(LegEvent::Ringing).await.unwrap();
    assert!(matches!(scene.alice.told().await, LegCommand::Ring));
    world.moves(FIRST, &["sip:meet@gateway.example", "sip:bob@mobile.example"]).await;
    // As if she had called it: at its door, with all that there is.
    let LegCommand::Answer(ours) = scene.alice.told().await else { panic!("no answer") };
    assert_eq!(ours.media.len(), 2);
    scene.alice.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    let exchange = &scene._parts.0;
    let parties = exchange.rooms().view("Meet").unwrap().parties;
    assert_eq!(parties.iter().map(|it| (it.id.0, it.party.is_some())).collect::<Vec<_>>(), [(1, true)]);
    assert_eq!(exchange.calls().len(), 1, "the same call");
    assert_eq!(world.called(), [FIRST], "nobody else is called");
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    let (record, _) = scene.recorded.recv().await.unwrap();
    let trail: Vec<_> = record.redirections.iter().map(|it| (it.to.as_str(), it.outcome.as_str())).collect();
    assert_eq!(trail, [("sip:meet@gateway.example", "called")]);
    assert_eq!((record.call, record.answered_by.as_deref()), (1, Some("Meet")));
    assert!(record.answered.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_as_the_conference_is_named_is_not_in_it() {
    let scene = scene().await;
    scene.alice.ends(Cause::remote(Reason::Cancelled)).await;
    scene.world.moves(FIRST, &["sip:meet@gateway.example"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    assert!(scene._parts.0.rooms().views().is_empty());
    assert!(scene._parts.0.calls().is_empty());
}

/// Alice talks to whoever is at the partner's, who sends her on to a number that leads to the conference.
#[tokio::test(start_paused = true)]
async fn a_transfer_whose_target_leads_to_a_conference_brings_the_other_party_there() {
    let mut scene = scene().await;
    let world = scene.world.clone();
    world.moves(FIRST, &["sip:bob@partner.example"]).await;
    let mut bob = world.far("sip:bob@partner.example");
    bob.tells(LegEvent::Redirected(Box::new(proven()))).await;
    bob.tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    assert!(matches!(scene.alice.told().await, LegCommand::Answer(_)));
    scene.alice.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let to = "sip:+4999@carrier.example".to_owned();
    bob.tells(LegEvent::Referred { to, instead_of: None, referred_by: None }).await;
    assert!(matches!(bob.told().await, LegCommand::Referral(Referral::Accepted)));
    world.moves(FIRST, &["sip:meet@gateway.example"]).await;
    assert!(matches!(bob.told().await, LegCommand::Referral(Referral::Answered)));
    assert_eq!(bob.told_to_hang_up().await, Cause::local(Reason::Hangup));
    assert!(matches!(scene.alice.told().await, LegCommand::Reoffer(_)));
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    let parties = scene._parts.0.rooms().view("Meet").unwrap().parties;
    assert_eq!(parties.iter().map(|it| it.id.0).collect::<Vec<_>>(), [1]);
}

/// The same while something is being settled with Alice, which does not come to an end; Bob is gone.
#[tokio::test(start_paused = true)]
async fn who_is_kept_for_a_conference_that_she_cannot_get_to_is_not_left_alone() {
    let mut scene = scene().await;
    let world = scene.world.clone();
    world.moves(FIRST, &["sip:bob@partner.example"]).await;
    let mut bob = world.far("sip:bob@partner.example");
    bob.tells(LegEvent::Redirected(Box::new(proven()))).await;
    bob.tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    assert!(matches!(scene.alice.told().await, LegCommand::Answer(_)));
    scene.alice.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let to = "sip:+4999@carrier.example".to_owned();
    bob.tells(LegEvent::Referred { to, instead_of: None, referred_by: None }).await;
    assert!(matches!(bob.told().await, LegCommand::Referral(Referral::Accepted)));
    scene.alice.tells(LegEvent::Reoffered { offer: Some(offer()) }).await;
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    bob.ends(Cause::remote(Reason::Hangup)).await;
    world.moves(FIRST, &["sip:meet@gateway.example"]).await;
    assert!(matches!(scene.alice.told().await, LegCommand::AcceptReoffer(_)));
    // Her telephone says nothing of it any more.
    let told = scene.alice.told_to_hang_up_within(std::time::Duration::from_secs(11)).await;
    assert_eq!(told, Cause::local(Reason::Unavailable));
}

/// Bob, as one who has proven who he is.
fn proven() -> Party {
    let (leg, _) = leg(0);
    Party {
        address: "sip:bob@partner.example".into(),
        device: Some("sip:bob@partner.example".into()),
        ..leg.party
    }
}
