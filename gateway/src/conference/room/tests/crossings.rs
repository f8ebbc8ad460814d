//! What crosses on its way: answers and hang-ups, people who are sent away and who are sent elsewhere.

use super::*;

#[tokio::test(start_paused = true)]
async fn s73_who_answers_as_the_conference_ends_does_not_begin_the_next_one() {
    let scene = scene(None, None);
    let (begun, mut conferences) = mpsc::channel(8);
    scene.rooms.tell_of_begun(begun);
    let host = scene.join("Alice", Role::Host).await;
    assert!(conferences.try_recv().is_ok());
    let (leg3, mut far) = leg(3);
    scene.invite_who(leg3, Invited { keeps: Keeps::Always, ..invited(Role::Host) }).await.unwrap();
    scene.act(Actor::Party(host.id), Deed::End).await.unwrap();
    // He has picked up before he hears of that.
    far.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    settle().await;
    assert!(conferences.try_recv().is_err(), "nobody is called again");
    assert_eq!(scene.places(), (vec![], vec![]));
    let cause = far.told_to_hang_up().await;
    assert_eq!(cause.reason, Reason::Cancelled);
    far.ends(cause).await;
    tokio::time::sleep(LINGER).await;
    settle().await;
    assert!(scene.rooms.views().is_empty(), "{:?}", scene.rooms);
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_while_he_is_handed_over_turns_up_nowhere() {
    let scene = scene(None, None);
    let hall = Arc::new(Service::new("Hall", Alias::parse("hall", &Domains::default()).unwrap()));
    let _host = scene.join("Alice", Role::Host).await;
    let mut caller = scene.call(1).await;
    let id = PartyId(1);
    // Both are there before the room looks.
    let (reply, goes) = oneshot::channel();
    let to = hall.clone();
    let hand_over = Command::HandOver { actor: Actor::Admin, id, to, role: Role::Host, reply };
    assert!(scene.rooms.tell(&scene.service.name, hand_over));
    let (reply, away) = oneshot::channel();
    let away_with_him = Command::Act { actor: Actor::Admin, deed: Deed::Remove(id), reply };
    assert!(scene.rooms.tell(&scene.service.name, away_with_him));
    assert_eq!((goes.await.unwrap(), away.await.unwrap()), (Ok(()), Ok(())));
    let cause = caller.far.told_to_hang_up().await;
    assert_eq!(cause.reason, Reason::Hangup);
    assert!(scene.rooms.views().iter().all(|(name, _)| name != "Hall"), "{:?}", scene.rooms);
    // And his end is told here.
    caller.far.ends(cause).await;
    assert_eq!(caller.over.await.unwrap().cause, cause);
    settle().await;
    assert_eq!(scene.view().parties.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_of_what_is_new_and_of_nothing_else() {
    let scene = scene(None, None);
    let host = scene.join("Alice", Role::Host).await;
    let mut callers = Vec::new();
    for number in 1..=3 {
        let (leg, mut far) = leg(number);
        let (view, views) = watch::channel(CallView::default());
        let over = scene.rooms.enter(&scene.service, leg, None, view);
        assert!(matches!(far.told().await, LegCommand::Answer(_)));
        let mut both = streams(10 * number, Direction::SendRecv).0;
        both.push(camera(10 * number + 1));
        far.tells(LegEvent::Answered(both)).await;
        callers.push(Caller { far, over, view: views });
    }
    // The welcome is over.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let news = async |seconds| {
        let (mut room, mut call) = (host.view.clone(), callers[0].view.clone());
        room.mark_unchanged();
        call.mark_unchanged();
        let (mut of_room, mut of_call) = (0, 0);
        let end = tokio::time::sleep(Duration::from_secs(seconds));
        tokio::pin!(end);
        loop {
            tokio::select! {
                changed = room.changed() => of_room += changed.map(|()| 1).unwrap(),
                changed = call.changed() => of_call += changed.map(|()| 1).unwrap(),
                () = &mut end => return (of_room, of_call),
            }
        }
    };
    assert_eq!(news(60).await, (0, 0), "people look at each other and nobody speaks");
    let mute = scene.act(Actor::Party(host.id), Deed::Mute(PartyId(1), true));
    let (told, done) = tokio::join!(news(60), mute);
    done.unwrap();
    assert_eq!(told, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_ours_ends_the_conference_and_the_next_caller_is_in_another() {
    let scene = scene(None, None);
    let mut caller = scene.call(1).await;
    assert_eq!(scene.places().0, [1]);
    assert!(scene.rooms.tell(&scene.service.name, Command::Fail));
    settle().await;
    assert!(scene.rooms.views().is_empty(), "{:?}", scene.rooms);
    // His leg is told by nobody any more.
    assert!(caller.over.await.is_err());
    while caller.far.commands.recv().await.is_some() {}
    let _next = scene.call(2).await;
    assert_eq!(scene.places().0, [2]);
}
