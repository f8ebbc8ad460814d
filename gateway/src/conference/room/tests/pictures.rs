//! Pictures are drawn beside the room: it goes on meanwhile.

use crosspoint_codecs::compose::Scene as Drawing;

use super::*;
use crate::conference::room::sight::{Sight, plain};

/// Tells what it is asked to draw, and draws it when it may.
struct Slow {
    asked: mpsc::UnboundedSender<Sight>,
    may: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Artist for Slow {
    fn draw(&self, sight: &Sight) -> Drawing {
        // Both fail when the test is over.
        let _ = self.asked.send(sight.clone());
        let _ = self.may.lock().unwrap().recv();
        plain()
    }
}

fn slow() -> (Arc<Slow>, mpsc::UnboundedReceiver<Sight>, std::sync::mpsc::Sender<()>) {
    let ((asked, drawn), (go, may)) = (mpsc::unbounded_channel(), std::sync::mpsc::channel());
    (Arc::new(Slow { asked, may: may.into() }), drawn, go)
}

fn banner(sight: &Sight) -> Option<&str> {
    match sight {
        Sight::Picture(it) => it.look.banner.as_deref(),
        Sight::Slate(_) => panic!("a slate: {sight:?}"),
    }
}

impl Scene {
    fn show_banner(&self, text: &str) {
        let look = Command::Look { hosts: None, guests: None, names: None, banner: Some(text.to_owned()) };
        assert!(self.rooms.tell(&self.service.name, look));
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_answers_while_a_picture_is_drawn_and_draws_the_newest_alone_after_it() {
    let (artist, mut asked, go) = slow();
    let scene = scene(None, None).drawn_by(artist);
    let (leg, mut far) = leg(1);
    let _over = scene.rooms.enter(&scene.service, leg, None, watch::channel(CallView::default()).0);
    assert!(matches!(far.told().await, LegCommand::Answer(_)));
    let mut both = streams(10, Direction::SendRecv).0;
    both.push(camera(11));
    far.tells(LegEvent::Answered(both)).await;
    assert_eq!(banner(&asked.recv().await.unwrap()), None);
    // It is not done yet; time does not pass by itself while it is under way.
    for text in ["one", "two", "three", "four"] {
        scene.show_banner(text);
        let (reply, told) = oneshot::channel();
        let locked = Command::Act { actor: Actor::Admin, deed: Deed::Lock(true), reply };
        assert!(scene.rooms.tell(&scene.service.name, locked));
        assert_eq!(told.await.unwrap(), Ok(()));
        assert_eq!(scene.view().banner.as_deref(), Some(text));
        tokio::time::advance(LOOK_EVERY).await;
        // It looks before the picture is done.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    assert!(asked.try_recv().is_err(), "one at a time");
    go.send(()).unwrap();
    assert_eq!(banner(&asked.recv().await.unwrap()), Some("four"));
    go.send(()).unwrap();
    settle().await;
    assert!(asked.try_recv().is_err(), "nothing was queued");
    // Nor is it drawn again while it is seen.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(asked.try_recv().is_err());
}
