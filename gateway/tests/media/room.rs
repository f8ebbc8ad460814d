//! Rooms: one tone for each party, and a spectrum of what each hears.

use std::time::Duration;

use crosspoint_codecs::format::{AudioFormat, Codec};
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_gateway::media::port::StreamId;
use crosspoint_gateway::media::{BusConfig, BusId, EngineError, Route};

use crate::far::{Scene, assert_continuous, format};
use crate::listen;

const SECOND: Duration = Duration::from_secs(1);
pub const BUS: BusId = BusId(7);
pub const ALL: BusConfig =
    BusConfig { talkers: usize::MAX, members: 128, limit: true, agc: false, comfort: false };

/// A room of these, each with a tone of its own.
pub fn room(config: &BusConfig, parties: &[(AudioFormat, f64, f64)]) -> Scene {
    let mut scene = Scene::new();
    scene.handle.add_bus(BUS, config).unwrap();
    for (format, hertz, peak) in parties {
        let place = scene.join(format.clone(), *hertz);
        scene.far[place].peak = *peak;
        enter(&scene, place);
        // The lane takes only so many commands at once.
        scene.run(Duration::from_millis(20));
    }
    scene
}

fn enter(scene: &Scene, place: usize) {
    let id = scene.far[place].id;
    scene.handle.join(BUS, id, Gain::ONE).unwrap();
    scene.handle.route(id, Route::Mix { bus: BUS }).unwrap();
}

/// Level of each of `tones` in what a party heard, dB.
fn spectrum(scene: &Scene, place: usize, tones: &[f64]) -> Vec<f64> {
    let far = &scene.far[place];
    tones.iter().map(|hertz| listen::tone(&far.heard, far.rate(), *hertz).0).collect()
}

#[test]
fn everybody_hears_all_others_and_not_himself() {
    let codecs = [Codec::Pcmu, Codec::G722, Codec::Pcma, Codec::Opus];
    // 25 Hz apart would be enough for a window of a second; all within the band of a telephone.
    let tones: Vec<f64> = (0..50).map(|n| 300.0 + 57.0 * f64::from(n)).collect();
    let parties: Vec<_> =
        tones.iter().enumerate().map(|(n, hertz)| (format(codecs[n % 4], 20), *hertz, 600.0)).collect();
    let mut scene = room(&ALL, &parties);
    scene.run(3 * SECOND);
    scene.forget();
    scene.run(4 * SECOND);
    for place in 0..tones.len() {
        let levels = spectrum(&scene, place, &tones);
        let own = levels[place];
        let mut others: Vec<f64> = levels;
        others.remove(place);
        let least = others.iter().copied().fold(f64::INFINITY, f64::min);
        let codec = scene.far[place].format.codec;
        // 600 of 32767 is -34.7 dB. What is left at the own frequency is the codecs' noise.
        assert!(least > -40.0, "party {place} ({codec}) hears somebody at {least:.1} dB");
        assert!(own < least - 10.0, "party {place} ({codec}) hears itself at {own:.1} of {least:.1} dB");
        assert_continuous(&scene.far[place].packets);
    }
    let stats = scene.handle.bus_stats(BUS).unwrap();
    assert_eq!((stats.talkers, stats.listeners, stats.encoders), (50, 50, 50), "all talk, so none share");
}

#[test]
fn exactly_the_three_loudest_are_heard() {
    let tones: Vec<f64> = (0..8).map(|n| 400.0 + 300.0 * f64::from(n)).collect();
    // 6 dB apart, the loudest somewhere in the middle.
    let peaks = [100.0, 800.0, 6_400.0, 200.0, 3_200.0, 50.0, 1_600.0, 400.0];
    let parties: Vec<_> =
        tones.iter().zip(peaks).map(|(hertz, peak)| (format(Codec::G722, 20), *hertz, peak)).collect();
    let mut scene = room(&BusConfig { talkers: 3, ..ALL }, &parties);
    scene.run(3 * SECOND);
    scene.forget();
    scene.run(2 * SECOND);
    for place in 0..tones.len() {
        let levels = spectrum(&scene, place, &tones);
        let loud: Vec<usize> = (0..tones.len()).filter(|at| levels[*at] > -40.0).collect();
        let expected: Vec<usize> = [2, 4, 6].into_iter().filter(|at| *at != place).collect();
        assert_eq!(loud, expected, "heard by {place}: {levels:.0?}");
    }
    let stats = scene.handle.bus_stats(BUS).unwrap();
    assert_eq!((stats.talkers, stats.listeners), (3, 8));
    assert_eq!(stats.encoders, 3 + 1, "one for each who talks, one for all others");
}

#[test]
fn what_is_the_same_is_encoded_once() {
    let silent = |codec, ptime| (format(codec, ptime), 500.0, 0.0);
    let mut parties = vec![(format(Codec::Opus, 20), 700.0, 8_000.0)];
    parties.extend((0..20).map(|_| silent(Codec::Opus, 20)));
    parties.extend((0..10).map(|_| silent(Codec::Pcmu, 20)));
    parties.extend((0..5).map(|_| silent(Codec::Pcmu, 30)));
    let mut scene = room(&ALL, &parties);
    scene.run(2 * SECOND);
    let stats = scene.handle.bus_stats(BUS).unwrap();
    assert_eq!((stats.talkers, stats.listeners, stats.encoders), (1, 36, 4), "three forms, one who talks");
    let encoders = |scene: &Scene| scene.handle.worker_stats().audio.encoders;
    assert_eq!(encoders(&scene), 4);
    scene.forget();
    scene.run(2 * SECOND);
    for far in &scene.far[1..] {
        assert!(listen::worst_snr(&far.heard, far.rate(), 700.0) > 25.0, "{}", far.format.codec);
        assert_continuous(&far.packets);
    }
    // Two packets of the same form are the same bytes.
    let of = |place: usize| scene.far[place].packets.iter().map(|(_, it)| &it.data).collect::<Vec<_>>();
    assert_eq!(of(1), of(2));
    // A road with loss gets the form with forward error correction, and shares that.
    let fec = AudioFormat { fec: true, ..format(Codec::Opus, 20) };
    for _ in 0..4 {
        let place = scene.join(fec.clone(), 500.0);
        scene.far[place].peak = 0.0;
        enter(&scene, place);
    }
    let lossy = scene.far.len() - 2;
    scene.far[lossy..].iter().for_each(|far| far.rings.wishes.report_loss(8));
    scene.run(SECOND);
    assert_eq!(scene.handle.bus_stats(BUS).unwrap().encoders, 5);
    // One who takes very little has an encoder of his own, and costs the others nothing.
    scene.far[5].rings.wishes.limit_bitrate(12_000);
    scene.run(SECOND);
    assert_eq!(scene.handle.bus_stats(BUS).unwrap().encoders, 6);
    // Forms go with the last who takes them.
    for far in &scene.far[31..36] {
        scene.handle.remove(far.id).unwrap();
    }
    scene.run(SECOND);
    assert_eq!(scene.handle.bus_stats(BUS).unwrap().encoders, 5);
    // Those of calls beside the room count for the lane alone; whoever is silent has none.
    let talker = scene.far[0].id;
    for (far, route) in
        scene.far[1..4].iter().zip([Route::Transcode { source: talker }, Route::Silence, Route::Silence])
    {
        scene.handle.route(far.id, route).unwrap();
    }
    scene.run(SECOND);
    assert_eq!((scene.handle.bus_stats(BUS).unwrap().encoders, encoders(&scene)), (5, 5 + 1));
}

#[test]
fn who_begins_to_talk_hears_no_gap() {
    let opus = [10, 20, 40, 60].map(|ptime| (Codec::Opus, ptime));
    for (codec, ptime) in [(Codec::G722, 20), (Codec::Pcmu, 30), (Codec::Pcma, 10)].into_iter().chain(opus) {
        let one = (format(Codec::Opus, 20), 440.0, 8_000.0);
        let mut scene = room(&ALL, &[one, (format(codec, ptime), 1_500.0, 8_000.0)]);
        scene.far[1].beeps = true;
        scene.run(2 * SECOND);
        scene.forget();
        scene.run(8 * SECOND);
        let far = &scene.far[1];
        assert_continuous(&far.packets);
        let (rate, name) = (far.rate(), format!("{codec}/{ptime}"));
        assert_eq!(listen::silent_windows(&far.heard, rate), 0, "{name}");
        // A tone of 440 Hz at this level steps by so much at most; a click would by more.
        let step = 8_000.0 * std::f64::consts::TAU * 440.0 / f64::from(rate);
        let steepest = f64::from(listen::steepest(&far.heard)) / step;
        let windows = far.heard.chunks_exact(rate as usize / 20);
        let worst = windows
            .map(|window| listen::tone(window, rate, 440.0))
            .map(|(signal, rest)| signal - rest)
            .fold(f64::INFINITY, f64::min);
        // Opus keeps its past to itself: an encoder that has heard the same 40 ms is almost the other.
        let (most, least) = match (codec, ptime) {
            (Codec::Opus, ..=20) => (1.2, 20.0),
            (Codec::Opus, _) => (1.6, 8.0),
            _ => (1.1, 30.0),
        };
        assert!(steepest < most, "{name}: a click, {steepest:.2} times as steep as the tone");
        assert!(worst > least, "{name}: {worst:.1} dB in the worst 50 ms");
        let own = listen::tone(&far.heard, rate, 1_500.0).0;
        assert!(own < -55.0, "{name}: hears itself at {own:.1} dB");
        let encoders = scene.handle.bus_stats(BUS).unwrap().encoders;
        assert!((1..=3).contains(&encoders), "{name}: {encoders}");
    }
}

#[test]
fn a_room_takes_the_rate_of_its_best_member_without_a_click() {
    let mut scene =
        room(&ALL, &[(format(Codec::Pcmu, 20), 440.0, 8_000.0), (format(Codec::Pcma, 20), 300.0, 0.0)]);
    scene.run(2 * SECOND);
    scene.forget();
    let third = scene.join(format(Codec::Opus, 20), 2_000.0);
    scene.far[third].peak = 0.0;
    enter(&scene, third);
    scene.run(2 * SECOND);
    let id = scene.far[third].id;
    scene.handle.remove(id).unwrap();
    scene.run(2 * SECOND);
    let far = &scene.far[1];
    assert_continuous(&far.packets);
    // The tone itself steps by 2765 a sample at 8 kHz.
    let steepest = listen::steepest(&far.heard);
    assert!(steepest < 3_000, "a click of {steepest}");
    let (signal, rest) = listen::tone(&scene.far[third].heard[48_000..], 48_000, 440.0);
    assert!(signal - rest > 25.0, "the newcomer hears {signal:.1} over {rest:.1} dB");
    let silent = listen::silent_windows(&far.heard, 8_000);
    assert!(silent <= 8, "two changes of the rate cost a fade each: {silent} windows of 10 ms");
}

#[test]
fn joins_leaves_and_mutes_fade() {
    let parties = [(format(Codec::Pcmu, 20), 440.0, 8_000.0), (format(Codec::Pcma, 20), 300.0, 0.0)];
    let mut scene = room(&ALL, &parties);
    let talker = scene.far[0].id;
    scene.run(SECOND);
    scene.forget();
    for gain in [Gain::ZERO, Gain::ONE, Gain::of(0.25), Gain::ZERO] {
        scene.handle.set_gain(BUS, talker, gain).unwrap();
        scene.run(SECOND);
    }
    scene.handle.leave(BUS, talker).unwrap();
    scene.run(SECOND);
    scene.handle.join(BUS, talker, Gain::ONE).unwrap();
    scene.run(SECOND);
    scene.handle.remove(talker).unwrap();
    scene.run(SECOND);
    let far = &scene.far[1];
    assert_continuous(&far.packets);
    let steepest = listen::steepest(&far.heard);
    assert!(steepest < 3_000, "a click of {steepest}");
    let level = |second: usize| listen::level(&far.heard[second * 8_000 + 2_000..(second + 1) * 8_000]);
    let levels: Vec<f64> = (0..7).map(level).collect();
    for (at, wanted) in [(1, -12.2), (2, -24.2), (5, -12.2)] {
        assert!((levels[at] - wanted).abs() < 0.7, "{levels:.1?}");
    }
    for at in [0, 3, 4, 6] {
        assert!(levels[at] < -65.0, "{levels:.1?}");
    }
}

#[test]
fn a_room_that_is_not_there_is_refused_and_one_that_goes_is_silent() {
    let mut scene =
        room(&ALL, &[(format(Codec::Pcmu, 20), 440.0, 8_000.0), (format(Codec::Pcmu, 20), 300.0, 0.0)]);
    let (one, other) = (scene.far[0].id, scene.far[1].id);
    let nowhere = BusId(99);
    assert!(matches!(scene.handle.join(nowhere, one, Gain::ONE), Err(EngineError::UnknownBus(_))));
    assert!(matches!(scene.handle.leave(nowhere, one), Err(EngineError::UnknownBus(_))));
    assert!(matches!(scene.handle.set_gain(BUS, StreamId(99), Gain::ZERO), Err(EngineError::Unknown(_))));
    assert!(matches!(scene.handle.join(BUS, StreamId(99), Gain::ONE), Err(EngineError::Unknown(_))));
    let route = Route::Mix { bus: nowhere };
    assert!(matches!(scene.handle.route(other, route), Err(EngineError::UnknownBus(_))));
    scene.run(SECOND);
    scene.handle.remove_bus(BUS).unwrap();
    scene.forget();
    scene.run(SECOND);
    assert!(scene.far[1].heard[800..].iter().all(|sample| sample.unsigned_abs() < 10));
    assert_continuous(&scene.far[1].packets);
}

#[test]
fn who_speaks_for_long_leads_and_everybody_shows_what_he_does() {
    let silent = (format(Codec::Pcmu, 20), 500.0, 0.0);
    let mut scene = room(&ALL, &[silent.clone(), silent.clone(), silent]);
    let ids: Vec<StreamId> = scene.far.iter().map(|far| far.id).collect();
    let leads = |scene: &Scene| scene.handle.bus_stats(BUS).unwrap().dominant;
    scene.run(SECOND);
    assert_eq!(leads(&scene), None);
    scene.far[1].voice = true;
    scene.run(2 * SECOND);
    assert_eq!(leads(&scene), Some(ids[1]));
    // A cough of 100 ms in each second is nothing.
    (scene.far[1].voice, scene.far[1].peak) = (false, 0.0);
    (scene.far[2].peak, scene.far[2].beeps) = (20_000.0, true);
    scene.run(3 * SECOND);
    assert_eq!(leads(&scene), Some(ids[1]));
    let activity = scene.handle.bus_activity(BUS);
    assert_eq!(activity.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    let [never, before, now] = [0, 1, 2].map(|place| activity[place].1);
    assert_eq!((never.talking, never.level, never.last_sound), (false, 127, None));
    assert!(!before.talking && before.last_sound.is_some_and(|ago| ago > 2 * SECOND), "{before:?}");
    assert!(now.last_sound.is_some_and(|ago| ago < SECOND), "{now:?}");
    scene.far[2].beeps = false;
    scene.run(SECOND + SECOND / 2);
    assert_eq!(leads(&scene), Some(ids[2]));
    let now = scene.handle.bus_activity(BUS)[2].1;
    // 20 000 of 32 767 is -4.3 dB of a square wave, -7.3 for a sine.
    assert_eq!((now.talking, now.last_sound), (true, Some(Duration::ZERO)));
    assert!((6..=9).contains(&now.level), "{now:?}");
    scene.handle.remove(ids[2]).unwrap();
    scene.run(SECOND);
    assert_eq!(leads(&scene), None);
    assert_eq!(scene.handle.bus_activity(BUS).len(), 2);
    assert!(scene.handle.bus_activity(BusId(99)).is_empty());
}

#[test]
fn soft_and_loud_ones_are_brought_to_the_same_level_while_they_talk() {
    let config = BusConfig { agc: true, ..ALL };
    let tones = [400.0, 700.0, 1_000.0];
    let parties = [400.0, 700.0, 1_000.0, 500.0].map(|hertz| (format(Codec::G722, 20), hertz, 0.0));
    let mut scene = room(&config, &parties);
    scene.run(SECOND);
    // Sines of -34, -23 and -17 dBov.
    for (far, peak) in scene.far.iter_mut().zip([924.0, 3_280.0, 6_545.0]) {
        far.peak = peak;
    }
    scene.run(5 * SECOND);
    scene.forget();
    scene.run(SECOND);
    for level in spectrum(&scene, 3, &tones) {
        // dB of a full-scale sine, which is -3 dBov.
        assert!((level + 23.0).abs() < 1.5, "{level:.1} dB");
    }
    // Who leaves and comes again begins at his own level.
    let soft = scene.far[0].id;
    scene.handle.leave(BUS, soft).unwrap();
    scene.run(SECOND);
    scene.handle.join(BUS, soft, Gain::ONE).unwrap();
    scene.run(Duration::from_millis(200));
    scene.forget();
    scene.run(Duration::from_millis(100));
    let level = spectrum(&scene, 3, &tones[..1])[0];
    assert!((level + 31.0).abs() < 1.5, "{level:.1} dB");
    let far = &scene.far[3];
    assert_continuous(&far.packets);
}

#[test]
fn a_room_in_which_nobody_talks_does_not_sound_dead() {
    let parties = [(format(Codec::G722, 20), 440.0, 0.0), (format(Codec::Opus, 20), 300.0, 0.0)];
    let mut scene = room(&BusConfig { comfort: true, ..ALL }, &parties);
    // The second listener has an encoder of his own: what is for one has it as what is for all.
    scene.far[1].rings.wishes.limit_bitrate(20_000);
    scene.run(2 * SECOND);
    scene.forget();
    scene.run(SECOND);
    for far in &scene.far {
        // dB of a full-scale sine, which is -3 dBov; codecs round as they like down there.
        let level = listen::level(&far.heard);
        assert!((-71.0..=-63.0).contains(&level), "{}: {level:.1} dB", far.format.codec);
    }
    // Not beside a voice.
    scene.far[0].peak = 8_000.0;
    scene.run(SECOND);
    scene.forget();
    scene.run(SECOND);
    let heard = &scene.far[0].heard;
    assert!(listen::level(heard) < -80.0, "{:.1} dB", listen::level(heard));
    scene.far[0].peak = 0.0;
    scene.run(2 * SECOND);
    scene.forget();
    scene.run(SECOND);
    assert!(listen::level(&scene.far[0].heard) > -72.0);
    assert!(scene.far.iter().all(|far| listen::steepest(&far.heard) < 100));
}
