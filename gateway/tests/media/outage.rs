//! A road that loses eight in a row, then everything for three seconds: what a call has afterwards, and
//! how soon (promise 11).

use std::sync::LazyLock;
use std::time::Duration;

use crosspoint_codecs::format::{Codec, PacketizationMode};
use crosspoint_gateway::media::Route;
use crosspoint_proto::netem::{Conditions, Link};

use crate::far::{START, Scene, format};
use crate::listen;
use crate::picture::h264;

const SECOND: Duration = Duration::from_secs(1);

/// Pictures a second.
const RATE: u64 = 30;
/// When bursts begin, when nothing comes any more, and when all is well again: seconds of the call.
const BURSTS: u64 = 8;
const OUTAGE: u64 = 14;
const END: u64 = OUTAGE + 3;

/// What Gilbert's model loses of what is sent in turn: a tenth, eight in a row.
static LOST: LazyLock<Vec<bool>> = LazyLock::new(|| {
    let mut link = Link::new(11, Conditions { loss: 0.1, burst: 8.0, ..Conditions::PERFECT });
    (0..1_000u64)
        .map(|number| {
            link.send(crosspoint_proto::Instant::from_millis(number), number);
            link.receive(crosspoint_proto::Instant::FAR).is_none()
        })
        .collect()
});

fn loses(number: u64, a_second: u64) -> bool {
    match number / a_second {
        BURSTS..OUTAGE => LOST[number as usize % LOST.len()],
        OUTAGE..END => true,
        _ => false,
    }
}

#[test]
fn promise_11_sound_and_pictures_are_back_at_once_in_step_and_as_soon_as_before() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        let mut scene = Scene::new();
        let (a, b) = (scene.join(format(codec, 20), 440.0), scene.join(format(Codec::Pcmu, 20), 300.0));
        let wants = h264(31, PacketizationMode::NonInterleaved);
        let (ta, tb) = (scene.far[a].timeline.clone(), scene.far[b].timeline.clone());
        let (va, vb) =
            (scene.look((320, 180), RATE, wants.clone(), &ta), scene.look((320, 180), RATE, wants, &tb));
        scene.far[a].jitter_up_to = 20_000_000;
        (scene.far[a].lose, scene.cameras[va].lose) = (|n| loses(n, 50), |n| loses(n, RATE));
        scene.cameras[vb].covered = true;
        scene.handle.route(scene.far[b].id, Route::Transcode { source: scene.far[a].id }).unwrap();
        scene.handle.route(scene.cameras[vb].id, Route::Transcode { source: scene.cameras[va].id }).unwrap();
        let source = |scene: &Scene| scene.handle.stats(scene.far[a].id).source.unwrap();
        let skew = |scene: &Scene| scene.handle.stats(scene.cameras[va].id).source.unwrap().skew;

        scene.run(Duration::from_secs(BURSTS));
        let base = source(&scene).playout_delay;
        scene.run(Duration::from_secs(END - BURSTS));
        let (asked, ends) = (scene.cameras[va].asked, scene.now);
        scene.forget();
        scene.run(SECOND);
        assert!(source(&scene).concealed > 3 * SECOND, "{codec}: nothing was lost");

        let back = |at: Option<u64>| Duration::from_nanos(at.expect("it never comes back") - ends);
        let packets = scene.far[b].packets.iter().zip(scene.far[b].heard.chunks_exact(160));
        let loud = packets.filter(|(_, heard)| listen::level(heard) > -25.0).map(|((at, _), _)| *at);
        let sound = back(loud.take(1).next());
        assert!(sound <= Duration::from_millis(200), "{codec}: sound after {sound:?}");
        let pictures = back(scene.cameras[vb].units.first().map(|(at, _)| *at));
        assert!(pictures <= SECOND, "{codec}: pictures after {pictures:?}");
        // From now on all that is sent is seen.
        scene.forget();
        for _ in 0..9 {
            assert!(skew(&scene).abs() <= 80_000_000, "{codec}: {} ns apart", skew(&scene));
            scene.run(SECOND);
        }
        let seen = scene.cameras[vb].units.len() as u64;
        assert!(seen >= 9 * RATE - 2, "{codec}: {seen} pictures");
        let after = source(&scene).playout_delay;
        assert!(after <= base + Duration::from_millis(6), "{codec}: {base:?}, then {after:?}");
        let wishes = scene.cameras[va].asked - asked;
        assert!(wishes <= 2, "{wishes} wishes");
        println!("{codec}: sound after {sound:?}, pictures after {pictures:?}, {base:?} then {after:?}");
        assert!(scene.now - START == 27_000_000_000);
    }
}
