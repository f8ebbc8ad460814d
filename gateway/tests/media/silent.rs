//! Members of a room who are silent, and what they cost.

use std::time::Duration;

use crosspoint_codecs::format::{AudioFormat, Codec};
use crosspoint_gateway::media::BusConfig;

use crate::far::{Scene, assert_continuous, format};
use crate::listen;
use crate::room::{ALL, BUS, room};

const SECOND: Duration = Duration::from_secs(1);

/// Frames that were decoded and that were skipped of all members, ever.
fn decoded(scene: &Scene) -> (u64, u64) {
    let figures = scene.far.iter().map(|far| scene.handle.stats(far.id).source.unwrap());
    figures.fold((0, 0), |sum, source| (sum.0 + source.decoded, sum.1 + source.skipped))
}

/// The same of the next second.
fn in_a_second(scene: &mut Scene) -> (u64, u64) {
    let before = decoded(scene);
    scene.run(SECOND);
    let after = decoded(scene);
    (after.0 - before.0, after.1 - before.1)
}

fn with_levels(config: &BusConfig, parties: &[(AudioFormat, f64, f64)]) -> Scene {
    let mut scene = room(config, parties);
    scene.far.iter_mut().for_each(|far| far.levels = true);
    scene
}

#[test]
fn of_a_hundred_only_those_who_talk_are_decoded() {
    let tone = |n: usize| 300.0 + 33.0 * n as f64;
    let parties: Vec<_> =
        (0..100).map(|n| (format(Codec::Opus, 20), tone(n), if n < 3 { 2_000.0 } else { 0.0 })).collect();
    let mut scene = with_levels(&ALL, &parties);
    scene.run(2 * SECOND);
    assert_eq!(in_a_second(&mut scene), (3 * 50, 97 * 50));
    assert_eq!(scene.handle.bus_stats(BUS).unwrap().talkers, 3);
    scene.far.iter_mut().for_each(|far| far.peak = 300.0);
    scene.run(SECOND / 2);
    scene.forget();
    assert_eq!(in_a_second(&mut scene), (100 * 50, 0));
    for place in [0, 50, 99] {
        let far = &scene.far[place];
        // 300 of 32 767 is -40.8 dB. A few of them stand for all.
        let tones = (0..100).step_by(11).filter(|n| *n != place);
        let missed: Vec<usize> =
            tones.filter(|n| listen::tone(&far.heard, far.rate(), tone(*n)).0 < -52.0).collect();
        assert!(missed.is_empty(), "{place} does not hear {missed:?}");
        assert_continuous(&far.packets);
    }
}

#[test]
fn the_loudest_few_alone_are_decoded() {
    let peaks = [800.0, 6_400.0, 3_200.0, 100.0, 1_600.0];
    let parties = peaks.map(|peak| (format(Codec::Opus, 20), 300.0 + peak / 10.0, peak));
    let mut scene = with_levels(&BusConfig { talkers: 2, ..ALL }, &parties);
    scene.run(2 * SECOND);
    assert_eq!(in_a_second(&mut scene), (2 * 50, 3 * 50));
    // One of the others becomes the loudest.
    scene.far[3].peak = 20_000.0;
    scene.run(SECOND);
    scene.forget();
    assert_eq!(in_a_second(&mut scene), (2 * 50, 3 * 50));
    let far = &scene.far[0];
    let levels = [1, 2, 3].map(|n| listen::tone(&far.heard, far.rate(), scene.far[n].hertz).0);
    assert!(levels[0] > -18.0 && levels[1] < -40.0 && levels[2] > -8.0, "{levels:.1?}");
}

#[test]
fn legs_that_tell_no_level_are_decoded_always() {
    let parties = [0; 4].map(|_| (format(Codec::Opus, 20), 440.0, 0.0));
    let mut scene = room(&ALL, &parties);
    scene.far[3].levels = true;
    scene.run(2 * SECOND);
    assert_eq!(in_a_second(&mut scene), (3 * 50, 50));
    // And one that is alone with another is, whatever it tells.
    let (one, other) = (scene.far[3].id, scene.far[0].id);
    let route = crosspoint_gateway::media::Route::Transcode { source: one };
    scene.handle.route(other, route).unwrap();
    scene.run(SECOND);
    assert_eq!(in_a_second(&mut scene), (4 * 50, 0));
}

/// What a listener heard of somebody who beeps for 100 ms in each second, by seconds.
fn beeps(codec: Codec, levels: bool) -> (Scene, Vec<Vec<i16>>) {
    let parties = [(format(codec, 20), 1_000.0, 8_000.0), (format(Codec::G722, 20), 500.0, 0.0)];
    let mut scene = room(&ALL, &parties);
    scene.far[0].beeps = true;
    scene.far.iter_mut().for_each(|far| far.levels = levels);
    scene.run(3 * SECOND);
    scene.forget();
    scene.run(4 * SECOND);
    let heard = scene.far[1].heard.chunks(16_000).map(<[i16]>::to_vec).collect();
    (scene, heard)
}

#[test]
fn who_was_skipped_is_heard_from_the_first_sound() {
    for codec in [Codec::Opus, Codec::G722, Codec::Pcmu] {
        let (always, plain) = beeps(codec, false);
        let (skipping, told) = beeps(codec, true);
        assert_eq!(decoded(&always).1, 0);
        assert!(decoded(&skipping).1 > 100, "{codec}: {:?}", decoded(&skipping));
        for (plain, told) in plain.iter().zip(&told) {
            let onset =
                |heard: &[i16]| heard.iter().position(|sample| sample.unsigned_abs() > 1_000).unwrap();
            let (one, other) = (onset(plain), onset(told));
            assert!(one.abs_diff(other) <= 320, "{codec}: begins at {one}, when skipped at {other}");
            // The whole is as loud. In the first 20 ms it fades in, unless the frame was there in
            // time for that to be over.
            for (length, less, more) in [(320, -3.0, 4.0), (1_600, -1.0, 1.0)] {
                let level = |heard: &[i16], at: usize| listen::level(&heard[at..at + length]);
                let gained = level(told, other) - level(plain, one);
                assert!((less..more).contains(&gained), "{codec}: {gained:.1} dB in {length} samples");
            }
            // Its decoder knows what it has to know.
            let (signal, rest) = listen::tone(&told[other + 400..other + 1_440], 16_000, 1_000.0);
            assert!(signal - rest > 15.0, "{codec}: {signal:.1} over {rest:.1} dB");
        }
    }
}

#[test]
fn one_who_sends_nothing_costs_nothing_and_comes_back() {
    let parties = [(format(Codec::Opus, 20), 440.0, 8_000.0), (format(Codec::G722, 20), 500.0, 0.0)];
    let mut scene = room(&ALL, &parties);
    // Sends 1 s, is silent for 3 s.
    scene.far[0].lose = |number| number % 200 >= 50;
    scene.run(5 * SECOND);
    scene.forget();
    scene.run(4 * SECOND);
    let (far, source) = (&scene.far[1], scene.handle.stats(scene.far[0].id).source.unwrap());
    assert_eq!(source.skipped, 0);
    let loud = far.heard.chunks(160).filter(|window| listen::level(window) > -20.0).count();
    assert!((98..=125).contains(&loud), "{loud} windows of 10 ms of a second of sound");
    assert_continuous(&far.packets);
}

#[test]
fn who_vanishes_in_the_middle_of_a_word_gives_his_place_back() {
    let parties = [(format(Codec::Opus, 20), 440.0, 8_000.0), (format(Codec::G722, 20), 500.0, 0.0)];
    let mut scene = with_levels(&ALL, &parties);
    scene.run(SECOND);
    assert_eq!(scene.handle.bus_stats(BUS).unwrap().talkers, 1);
    scene.far[0].lose = |_| true;
    // Concealment fades for a second at most, then the place is kept for half of one.
    scene.run(2 * SECOND);
    for _ in 0..100 {
        scene.run(Duration::from_millis(20));
        assert_eq!(scene.handle.bus_stats(BUS).unwrap().talkers, 0);
    }
}

#[test]
fn the_mix_is_the_same_whether_levels_are_told() {
    let heard = |levels: bool| {
        let parties: Vec<_> = (0..8)
            .map(|n| {
                (format(Codec::Pcmu, 20), 300.0 + 130.0 * f64::from(n), if n < 2 { 8_000.0 } else { 0.0 })
            })
            .collect();
        let mut scene = room(&ALL, &parties);
        scene.far.iter_mut().for_each(|far| far.levels = levels);
        scene.run(3 * SECOND);
        scene.forget();
        scene.run(2 * SECOND);
        let skipped = decoded(&scene).1;
        (scene.far.iter().map(|far| far.heard.clone()).collect::<Vec<_>>(), skipped)
    };
    let ((plain, all), (told, few)) = (heard(false), heard(true));
    assert!(all == 0 && few > 6 * 4 * 50, "{all} and {few} frames were skipped");
    for (n, (plain, told)) in plain.iter().zip(&told).enumerate() {
        assert!(plain.len() > 15_000, "{n}: {} samples", plain.len());
        assert!(plain == told, "{n} hears something else");
    }
}

/// One says that he is silent while he talks, one that he is as loud as can be while he is silent.
#[test]
fn who_lies_about_his_level_is_silent_or_decoded_and_nobody_else_is_touched() {
    let parties = [8_000.0, 8_000.0, 0.0, 0.0]
        .iter()
        .zip([440.0, 700.0, 900.0, 1_100.0])
        .map(|(peak, hertz)| (format(Codec::G722, 20), hertz, *peak))
        .collect::<Vec<_>>();
    let mut scene = with_levels(&BusConfig { talkers: 1, ..ALL }, &parties);
    (scene.far[1].claims, scene.far[2].claims) = (Some(127), Some(0));
    scene.run(2 * SECOND);
    scene.forget();
    // Who talks and says so, and who only says so, for he is not believed any more.
    assert_eq!(in_a_second(&mut scene), (2 * 50, 2 * 50));
    assert_eq!(scene.handle.bus_stats(BUS).unwrap().talkers, 1);
    let far = &scene.far[3];
    let [honest, hushed] = [440.0, 700.0].map(|hertz| listen::tone(&far.heard, far.rate(), hertz).0);
    assert!(honest > -18.0 && hushed < -60.0, "{honest:.1} and {hushed:.1} dB");
    let quietest = far.heard.chunks_exact(320).map(listen::level).fold(f64::INFINITY, f64::min);
    assert!(quietest > -20.0, "who talks is heard without a gap: {quietest:.1} dB in 20 ms");
    assert_continuous(&far.packets);
}
