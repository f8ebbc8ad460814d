//! Who is in a conference goes on at another telephone of his own (INVITE with Replaces, RFC 3891). Alice's and
//! Carol's are in "meet".

use super::*;

/// Alice's other telephone.
const NEW: u64 = 50;

/// The conference, which hosts enter with 2468 and guests with "#".
fn with_guests() -> Service {
    let mut service = limited(9);
    service.door = Door::new(Some(Pin::parse("2468").unwrap()), None, true).unwrap();
    service
}

impl Scene {
    /// Alice is a guest, Carol the host.
    async fn of_host_and_guest() -> Self {
        let scene = Self::of(with_guests(), Some("alice")).await;
        scene.alice.tells(LegEvent::Dtmf('#')).await;
        for key in "2468#".chars() {
            scene.carol.tells(LegEvent::Dtmf(key)).await;
        }
        assert_eq!(scene.present().await, [(ALICE, Role::Guest), (CAROL, Role::Host)]);
        scene
    }

    /// A telephone of `device` calls for the place of the leg `old`.
    async fn calls_for(&self, device: Option<&str>, old: u64) -> Far {
        let (mut leg, far) = leg(NEW);
        leg.party.address = device.unwrap_or("somebody").into();
        leg.party.device = device.map(str::to_owned);
        leg.party.called = "meet".into();
        far.tells(LegEvent::Offered(Some(offer()))).await;
        self.exchange.replace(leg, LegId(old), Some("sip:boss@example.com".to_owned()));
        settle().await;
        far
    }

    /// Alice's other telephone does, and is being answered.
    async fn alice_goes_on(&self) -> Far {
        // Who is in is known by then.
        self.present().await;
        let mut new = self.calls_for(Some("alice"), ALICE).await;
        let LegCommand::Answer(wanted) = new.told().await else { panic!("not answered") };
        assert_eq!((wanted.media.len(), wanted.media[0].direction), (2, Direction::SendRecv));
        new
    }

    /// That call is refused, and nobody learns of it.
    async fn is_refused(&mut self, device: Option<&str>, old: u64, reason: Reason) {
        let before = self.present().await;
        let mut new = self.calls_for(device, old).await;
        assert_eq!(new.told_to_hang_up().await, Cause::local(reason), "{device:?} for {old}");
        new.ends(Cause::local(reason)).await;
        assert_eq!(self.present().await, before);
        assert!(is_left_alone(&mut self.alice) && is_left_alone(&mut self.carol));
    }
}

/// Our answer has arrived.
async fn answered(new: &Far) {
    new.tells(LegEvent::Answered(streams(NEW, Direction::SendRecv).0)).await;
    settle().await;
}

fn is_left_alone(far: &mut Far) -> bool {
    far.commands.try_recv().is_err()
}

#[tokio::test(start_paused = true)]
async fn who_is_in_goes_on_at_another_telephone_of_his_as_what_he_was() {
    let mut scene = Scene::of_host_and_guest().await;
    scene.act(Deed::Mute(PartyId(ALICE), true)).await;
    let mut new = scene.alice_goes_on().await;
    assert_eq!(
        scene.present().await,
        [(ALICE, Role::Guest), (CAROL, Role::Host)],
        "until the new one stands"
    );
    assert!(is_left_alone(&mut scene.alice));
    answered(&new).await;
    assert_eq!(scene.alice.told_to_hang_up().await, Cause::local(Reason::Hangup));
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (NEW, Role::Guest)], "past the door");
    let view = scene.exchange.rooms().view("Meet").unwrap();
    let party = view.parties.iter().find(|it| it.id == PartyId(NEW)).unwrap().party.unwrap();
    assert!(party.muted.by_host, "another telephone is no voice");
    scene.alice.ends(Cause::local(Reason::Hangup)).await;
    let record = scene.record().await;
    let told = &record.transfers[0];
    assert_eq!((told.by.as_str(), told.to.as_str(), told.outcome.as_str()), ("alice", "alice", "answered"));
    assert_eq!(told.referred_by.as_deref(), Some("sip:boss@example.com"));
    assert!(is_left_alone(&mut scene.carol) && is_left_alone(&mut new));
    let call = scene.exchange.calls().last().unwrap().call;
    let trace = scene.exchange.traces().find(&call.to_string()).unwrap();
    assert_eq!(trace.legs.iter().map(|it| it.leg).collect::<Vec<_>>(), [LegId(NEW)]);
    new.ends(Cause::remote(Reason::Hangup)).await;
    let record = scene.record().await;
    assert_eq!((record.caller.as_str(), record.called.as_str()), ("alice", "meet"));
    assert_eq!((record.answered_by.as_deref(), record.legs.len()), (Some("Meet"), 1));
    assert!(record.authenticated && record.transfers.is_empty());
    assert_eq!(scene.present().await, [(CAROL, Role::Host)], "the conference goes on");
}

#[tokio::test(start_paused = true)]
async fn p42_nobody_else_takes_a_place_in_a_conference_and_only_who_is_in_has_one() {
    let mut scene = Scene::new().await;
    for (device, old) in
        [(Some("mallory"), ALICE), (None, ALICE), (Some("alice"), CAROL), (Some("alice"), 77)]
    {
        scene.is_refused(device, old, Reason::Rejected).await;
    }
    // Who waits has none, and who is sent away has none any more.
    scene.act(Deed::Lock(true)).await;
    let mut late = calls(&scene.exchange, 3, Some("dora"), "meet").await;
    late.told().await;
    late.tells(LegEvent::Answered(streams(40, Direction::SendRecv).0)).await;
    scene.is_refused(Some("dora"), 3, Reason::Forbidden).await;
    let removed = Scene::new().await;
    removed.present().await;
    removed.act(Deed::Remove(PartyId(ALICE))).await;
    let mut new = removed.calls_for(Some("alice"), ALICE).await;
    assert_eq!(new.told_to_hang_up().await, Cause::local(Reason::Rejected));
    // Nor has a stranger's leg one, whatever he says.
    let mut stranger = Scene::of(limited(9), None).await;
    stranger.is_refused(None, ALICE, Reason::Rejected).await;
    // Nor has who stands at the door.
    let mut closed = Scene::of(closed(), Some("alice")).await;
    closed.is_refused(Some("alice"), ALICE, Reason::Forbidden).await;
    // Nor has who hears himself alone: nobody there would miss him.
    let mut echo = limited(9);
    echo.kind = Kind::TestCall;
    Scene::of(echo, Some("alice")).await.is_refused(Some("alice"), ALICE, Reason::Forbidden).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_shuts_nobody_out_who_is_in_and_neither_do_a_full_room_or_a_host_who_is_away() {
    for service in [limited(2), with_guests()] {
        let with_host = service.door.tells_hosts();
        let mut scene = match with_host {
            true => Scene::of_host_and_guest().await,
            false => Scene::of(service, Some("alice")).await,
        };
        let role = if with_host { Role::Guest } else { Role::Host };
        scene.act(Deed::Lock(true)).await;
        if with_host {
            scene.carol.ends(Cause::remote(Reason::Hangup)).await;
        }
        let new = scene.alice_goes_on().await;
        answered(&new).await;
        scene.alice.told_to_hang_up().await;
        assert!(scene.present().await.contains(&(NEW, role)), "{with_host}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_takes_a_place() {
    let mut scene = Scene::new().await;
    let new = scene.alice_goes_on().await;
    let mut another = scene.calls_for(Some("alice"), ALICE).await;
    assert_eq!(another.told_to_hang_up().await, Cause::local(Reason::Congestion));
    scene.alice.tells(refer("sip:bob@gateway.example")).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Refused(Reason::Congestion));
    drop(new);
    let mut scene = Scene::new().await;
    scene.present().await;
    let _bob = scene.sends_on_to("bob").await;
    scene.is_refused(Some("alice"), ALICE, Reason::Congestion).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_telephone_that_comes_to_nothing_changes_nothing() {
    let mut scene = Scene::of_host_and_guest().await;
    let new = scene.alice_goes_on().await;
    new.ends(Cause::local(Reason::NotAcceptable)).await;
    assert_eq!(scene.present().await, [(ALICE, Role::Guest), (CAROL, Role::Host)]);
    assert!(is_left_alone(&mut scene.alice) && is_left_alone(&mut scene.carol));
    let record = scene.record().await;
    assert_eq!((record.caller.as_str(), record.reason.as_str()), ("alice", "not-acceptable"));
    assert_eq!(record.answered_by, None);
    // The next one comes in.
    let new = scene.alice_goes_on().await;
    answered(&new).await;
    scene.alice.told_to_hang_up().await;
    scene.alice.ends(Cause::local(Reason::Hangup)).await;
    let outcomes: Vec<_> = scene.record().await.transfers.into_iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, ["not-acceptable", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn a_telephone_that_hangs_up_meanwhile_leaves_its_place_to_the_new_one() {
    let mut scene = Scene::of_host_and_guest().await;
    scene.act(Deed::Lock(true)).await;
    scene.act(Deed::Mute(PartyId(ALICE), true)).await;
    let new = scene.alice_goes_on().await;
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(scene.record().await.transfers[0].outcome, "called", "as much as was known by then");
    answered(&new).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (NEW, Role::Guest)]);
    let view = scene.exchange.rooms().view("Meet").unwrap();
    let party = view.parties.iter().find(|it| it.id == PartyId(NEW)).unwrap().party.unwrap();
    assert!(party.muted.by_host, "hanging up first makes nobody heard");
}

#[tokio::test(start_paused = true)]
async fn who_answered_at_one_of_several_telephones_goes_on_at_another() {
    let mut scene = Scene::new().await;
    let (mut bob, _) = scene.sends_on_to("bob").await;
    bob.tells(LegEvent::AnswersAs(LegId(77))).await;
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (30, Role::Host)]);
    // His telephone names the dialog of the one that answered.
    let mut new = scene.calls_for(Some("bob"), 77).await;
    assert!(matches!(new.told().await, LegCommand::Answer(_)));
    answered(&new).await;
    assert_eq!(bob.told_to_hang_up().await, Cause::local(Reason::Hangup));
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (NEW, Role::Host)]);
}

#[tokio::test(start_paused = true)]
async fn who_answered_so_and_was_taken_in_from_another_call_goes_on_too() {
    let scene = Scene::new().await;
    let (mut own, mut bob) = second(&scene).await;
    bob.tells(LegEvent::AnswersAs(LegId(77))).await;
    settle().await;
    own.tells(join(ALICE)).await;
    assert_eq!(told_of(&mut own).await, Referral::Accepted);
    assert_eq!(told_of(&mut own).await, Referral::Answered);
    assert!(matches!(bob.told().await, LegCommand::Reoffer(_)));
    assert_eq!(scene.present().await.len(), 2);
    let mut new = scene.calls_for(Some("bob"), 77).await;
    assert!(matches!(new.told().await, LegCommand::Answer(_)));
    answered(&new).await;
    assert_eq!(bob.told_to_hang_up().await, Cause::local(Reason::Hangup));
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (NEW, Role::Host)]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_given_to_somebody_else_meanwhile_is_his() {
    let mut scene = Scene::new().await;
    let (mut own, bob) = second(&scene).await;
    bob.tells(LegEvent::Changed(held(120))).await;
    settle().await;
    let mut new = scene.alice_goes_on().await;
    // She gives it to Bob, as she asks in her call to him.
    own.tells(join(ALICE)).await;
    assert_eq!(told_of(&mut own).await, Referral::Accepted);
    settle().await;
    assert_eq!(new.told_to_hang_up().await, Cause::local(Reason::Cancelled));
    new.ends(Cause::local(Reason::Cancelled)).await;
    let present = scene.present().await;
    assert!(present.len() == 2 && present.iter().all(|(id, _)| ![ALICE, NEW].contains(id)), "{present:?}");
    scene.alice.ends(Cause::local(Reason::Hangup)).await;
    // That of the new one comes first.
    assert_eq!(scene.record().await.reason, "cancelled");
    let outcomes: Vec<_> = scene.record().await.transfers.into_iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, ["cancelled", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn p40_where_the_conference_is_over_with_him_the_door_is_as_for_anybody() {
    let scene = Scene::of_host_and_guest().await;
    scene.carol.ends(Cause::remote(Reason::Hangup)).await;
    let new = scene.alice_goes_on().await;
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    answered(&new).await;
    assert_eq!(scene.present().await, []);
    let view = scene.exchange.rooms().view("Meet").unwrap();
    assert_eq!(view.parties.iter().map(|it| (it.id.0, it.at)).collect::<Vec<_>>(), [(NEW, At::Door)]);
}

#[tokio::test(start_paused = true)]
async fn p40_who_is_sent_away_meanwhile_is_so_at_every_telephone() {
    for deed in [Deed::Remove(PartyId(ALICE)), Deed::End] {
        let scene = Scene::new().await;
        let mut new = scene.alice_goes_on().await;
        scene.act(deed).await;
        assert_eq!(new.told_to_hang_up().await, Cause::local(Reason::Cancelled), "{deed:?}");
        answered(&new).await;
        assert!(scene.present().await.iter().all(|(id, _)| *id == CAROL), "though its answer crossed that");
    }
}

#[tokio::test(start_paused = true)]
async fn whom_a_host_sends_to_another_conference_meanwhile_goes_there_at_the_telephone_that_he_has() {
    let mut scene = Scene::new().await;
    let mut new = scene.alice_goes_on().await;
    let to = Arc::new(Service::new("Other", Alias::from_canonical("other")));
    let (reply, told) = oneshot::channel();
    let (actor, id, role) = (Actor::Admin, PartyId(ALICE), Role::Host);
    assert!(scene.exchange.rooms().tell("Meet", Command::HandOver { actor, id, to, role, reply }));
    told.await.unwrap().unwrap();
    assert_eq!(new.told_to_hang_up().await, Cause::local(Reason::Cancelled));
    answered(&new).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host)]);
    assert!(is_left_alone(&mut scene.alice), "she is told nothing");
}
