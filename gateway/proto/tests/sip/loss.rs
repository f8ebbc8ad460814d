//! A fifth of all signalling is lost (reliability promise 12).

use std::collections::BTreeMap;
use std::time::Duration;

use crosspoint_proto::Instant;
use crosspoint_proto::netem::Conditions;
use crosspoint_proto::sip::{By, CallId, Command, Event, How, Invite};

use crate::world::{ALICE, BOB, World, invite, sdp, text};

const CALLS: u64 = 200;

/// What one side was told of a call.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    came: u32,
    answered: u32,
    acked: u32,
    reinvited: u32,
    ended: Vec<(By, How)>,
}

fn offer(n: u64) -> Invite {
    Invite { body: Some(sdp(&n.to_string())), ..invite(n) }
}

/// The owners of both sides.
#[derive(Default)]
struct Owners {
    alice: BTreeMap<CallId, Story>,
    bob: BTreeMap<CallId, Story>,
    /// Bob's calls by alice's numbers, which travel in the offers.
    numbers: BTreeMap<CallId, u64>,
    /// Who hangs up when: after the last timer of all that came before.
    plans: Vec<(Instant, usize, CallId)>,
}

#[test]
fn two_hundred_calls_complete_and_leave_nothing() {
    for seed in 1..=8 {
        let road = Conditions { jitter: Duration::from_millis(40), ..Conditions::lossy(0.2) };
        let mut world = World::new(seed, road);
        let mut owners = Owners::default();
        for n in 1..=CALLS {
            world.tell(ALICE, Command::Invite(Box::new(offer(n))));
            for _ in 0..10 {
                world.run(Duration::from_millis(10));
                owners.react(&mut world);
            }
        }
        for _ in 0..4_000 {
            world.run(Duration::from_millis(50));
            owners.react(&mut world);
        }
        world.settle();
        let Owners { alice, bob, .. } = owners;
        assert_eq!((alice.len(), bob.len()), (CALLS as usize, CALLS as usize), "no call came twice");
        for (call, story) in &alice {
            assert_eq!((story.answered, story.reinvited), (1, 1), "{call}: {story:?}");
            let by = if call.0 % 2 == 1 { By::Us } else { By::Peer };
            assert_eq!(story.ended, [(by, How::Hangup)], "{call}: {story:?}");
        }
        for (call, story) in &bob {
            assert_eq!(story.came, 1, "{call}: {story:?}");
            assert!(story.acked > 0, "{call}: {story:?}");
            assert_eq!(story.ended.len(), 1, "{call}: {story:?}");
        }
        let repeated = world.count(ALICE, "INVITE") - 2 * CALLS as usize;
        assert!(repeated > 50, "the road was too good: {repeated}");
    }
}

impl Owners {
    /// Bob rings and answers; alice offers anew when answered; odd calls are hung up by alice, even
    /// ones by bob.
    fn react(&mut self, world: &mut World) {
        while let Some(event) = world.net.event(BOB) {
            match event {
                Event::Incoming(incoming) => {
                    let (call, body) = (incoming.call, incoming.body.unwrap());
                    self.bob.entry(call).or_default().came += 1;
                    self.numbers.insert(call, text(&body).parse().unwrap());
                    world.tell(BOB, Command::Ring { call });
                    world.tell(BOB, Command::Answer { call, body });
                }
                Event::Acked { call, .. } => {
                    let story = self.bob.entry(call).or_default();
                    story.acked += 1;
                    if story.acked == 1 && self.numbers[&call].is_multiple_of(2) {
                        self.plan(world, BOB, call);
                    }
                }
                Event::Reinvite { call, .. } => {
                    world.tell(BOB, Command::AnswerReinvite { call, body: sdp("held") });
                }
                Event::Ended { call, ending } => {
                    self.bob.entry(call).or_default().ended.push((ending.by, ending.how));
                }
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = world.net.event(ALICE) {
            match event {
                Event::Ringing { .. } => {}
                Event::Answered { call, body, .. } => {
                    assert_eq!(text(&body.unwrap()), call.0.to_string(), "answers go to their calls");
                    self.alice.entry(call).or_default().answered += 1;
                    world.tell(ALICE, Command::Reinvite { call, body: Some(sdp("hold")) });
                }
                Event::ReinviteAnswered { call, .. } => {
                    self.alice.entry(call).or_default().reinvited += 1;
                    if call.0 % 2 == 1 {
                        self.plan(world, ALICE, call);
                    }
                }
                Event::Ended { call, ending } => {
                    self.alice.entry(call).or_default().ended.push((ending.by, ending.how));
                }
                other => panic!("{other:?}"),
            }
        }
        let now = world.net.now().mono;
        for (_, who, call) in self.plans.extract_if(.., |(at, ..)| *at <= now) {
            world.tell(who, Command::Hangup { call, reason: None });
        }
    }

    fn plan(&mut self, world: &World, who: usize, call: CallId) {
        self.plans.push((world.net.now().mono + Duration::from_secs(40), who, call));
    }
}
