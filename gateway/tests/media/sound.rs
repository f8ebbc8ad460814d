//! Sound through the engine.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crosspoint_codecs::audio::opus;
use crosspoint_codecs::format::{Codec, MediaFormat};
use crosspoint_gateway::media::{EngineError, Playback, Route};

use crate::far::{Scene, assert_continuous, format};
use crate::listen;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_pair_of_codecs_and_packet_times_carries_the_tone() {
    let pairs = [
        (format(Codec::Opus, 20), format(Codec::Pcmu, 20)),
        (format(Codec::G722, 20), format(Codec::Opus, 20)),
        (format(Codec::Pcmu, 30), format(Codec::Opus, 20)),
        (format(Codec::Pcma, 10), format(Codec::G722, 40)),
        (format(Codec::Opus, 60), format(Codec::Pcma, 60)),
        (format(Codec::Pcmu, 20), format(Codec::Pcma, 20)),
        (format(Codec::Opus, 20), format(Codec::Opus, 30)),
    ];
    for (one, other) in pairs {
        let name = format!("{:?}/{:?} and {:?}/{:?}", one.codec, one.ptime, other.codec, other.ptime);
        let mut scene = Scene::new();
        let (a, b) = (scene.join(one, 440.0), scene.join(other, 1_000.0));
        let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
        scene.handle.route(from_a, Route::Transcode { source: from_b }).unwrap();
        scene.handle.route(from_b, Route::Transcode { source: from_a }).unwrap();
        scene.run(4 * SECOND);
        scene.forget();
        scene.run(6 * SECOND);
        for (far, hertz) in [(&scene.far[a], 1_000.0), (&scene.far[b], 440.0)] {
            let (rate, codec) = (far.rate(), far.format.codec);
            let found = listen::frequency(&far.heard, rate, hertz);
            assert!((found / hertz - 1.0).abs() < 0.001, "{name}: {found} for {hertz}");
            let snr = listen::worst_snr(&far.heard, rate, found);
            assert!(snr > 28.0, "{name}: {snr:.1} dB at the {codec} end");
            assert_eq!(listen::silent_windows(&far.heard, rate), 0, "{name}");
            assert_continuous(&far.packets);
            let heard = far.heard.len() as f64 / f64::from(rate);
            assert!((heard - 6.0).abs() < 0.07, "{name}: {heard} s at the {codec} end");
            let ptime = match (codec, far.format.ptime.as_millis()) {
                (Codec::Opus, 30) => 20,
                (_, ms) => ms,
            };
            assert!(far.packets.iter().all(|(_, frame)| frame.duration.as_millis() == ptime), "{name}");
            let stats = scene.handle.stats(far.id);
            let source = stats.source.unwrap();
            assert_eq!((source.late, source.concealed, source.errors), (0, Duration::ZERO, 0), "{name}");
            assert!(source.playout_delay < Duration::from_millis(40), "{name}: {source:?}");
            let sink = stats.sink.unwrap();
            assert_eq!((sink.overflow, sink.errors), (0, 0), "{name}");
        }
    }
}

/// Band and mode of an Opus packet are the five bits at its front (RFC 6716 section 3.1, table 2): as
/// SILK in three bands, hybrid in two, CELT in four.
fn band(packet: &[u8]) -> &'static str {
    match packet[0] >> 3 {
        0..=3 | 16..=19 => "narrow",
        4..=7 => "medium",
        8..=11 | 20..=23 => "wide",
        12..=13 | 24..=27 => "super-wide",
        _ => "full",
    }
}

#[test]
fn what_has_a_narrow_band_is_encoded_as_that_from_its_first_packet_on() {
    let sources = [(Codec::Pcmu, "narrow"), (Codec::G722, "wide"), (Codec::Opus, "full")];
    let mut scene = Scene::new();
    let sink = scene.join(format(Codec::Opus, 20), 440.0);
    for (codec, wanted) in sources {
        let source = scene.join(format(codec, 20), 700.0);
        let route = Route::Transcode { source: scene.far[source].id };
        scene.handle.route(scene.far[sink].id, route).unwrap();
        // The sound before it has faded out, and the encoder looks 6.5 ms ahead.
        scene.run(Duration::from_millis(100));
        scene.forget();
        scene.run(SECOND);
        let packets = &scene.far[sink].packets;
        assert!(packets.len() > 45);
        let others = packets.iter().filter(|(_, frame)| band(&frame.data) != wanted).count();
        assert_eq!(others, 0, "of a source of {codec}");
    }
}

#[test]
fn the_engine_adds_little_delay() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(format(Codec::Opus, 20), 440.0), scene.join(format(Codec::Pcmu, 20), 800.0));
    let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
    scene.handle.route(from_b, Route::Transcode { source: from_a }).unwrap();
    scene.far[a].peak = 0.0;
    scene.run(10 * SECOND);
    scene.forget();
    let begins = scene.now;
    scene.far[a].peak = 10_000.0;
    scene.run(SECOND);
    // The first packet with the tone was complete 20 ms after it began, and took 5 to 9 ms.
    let loud = |samples: &[i16]| listen::level(samples) > -30.0;
    let first = scene.far[b].heard.chunks_exact(160).position(loud).unwrap();
    let (sent, _) = scene.far[b].packets[first];
    let added = Duration::from_nanos(sent - begins) - Duration::from_millis(25);
    assert!(added <= Duration::from_millis(50), "{added:?}");
}

#[test]
fn routes_change_without_a_click_and_on_one_clock() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(format(Codec::Pcmu, 20), 440.0), scene.join(format(Codec::Pcma, 20), 300.0));
    let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
    scene.run(SECOND);
    assert!(scene.far[a].packets.is_empty(), "nothing is sent before there is a route");
    let routes = [
        Route::Play(Playback::Tone { hertz: 700 }),
        Route::Transcode { source: from_b },
        Route::Play(Playback::Silence),
        Route::Transcode { source: from_b },
        Route::Play(Playback::Ringback),
        Route::Transcode { source: from_b },
    ];
    for route in routes {
        scene.handle.route(from_a, route).unwrap();
        scene.run(SECOND / 2);
    }
    let far = &scene.far[a];
    assert_continuous(&far.packets);
    // A tone of 700 Hz at this level steps by 4500, and no faster sound is in there.
    assert!(listen::steepest(&far.heard) < 5_300, "a click of {}", listen::steepest(&far.heard));
    let second = far.heard.len() / 6;
    for (place, hertz) in [(0, 700.0), (1, 300.0), (3, 300.0), (4, 425.0), (5, 300.0)] {
        let part = &far.heard[place * second + 800..(place + 1) * second - 800];
        let (signal, rest) = listen::tone(part, 8_000, hertz);
        assert!(signal - rest > 25.0, "{hertz} Hz in part {place}: {signal:.1} over {rest:.1} dB");
    }
    let silent = &far.heard[2 * second + 800..3 * second - 800];
    assert!(silent.iter().all(|s| s.unsigned_abs() < 10));
    // A source that goes fades out, and one of the same number fades in.
    scene.forget();
    scene.handle.remove(from_b).unwrap();
    scene.run(SECOND / 2);
    let far = &scene.far[a];
    assert_continuous(&far.packets);
    assert!(listen::steepest(&far.heard) < 2_800, "a click of {}", listen::steepest(&far.heard));
    assert!(far.heard[1_600..].iter().all(|s| s.unsigned_abs() < 10));
    // Silence ends the packets.
    scene.handle.route(from_a, Route::Silence).unwrap();
    scene.run(SECOND);
    scene.forget();
    scene.run(SECOND);
    assert!(scene.far[a].packets.is_empty());
}

#[test]
fn a_codec_change_in_the_call_goes_on_with_the_stamps() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(format(Codec::Pcmu, 20), 440.0), scene.join(format(Codec::Pcma, 20), 300.0));
    let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
    scene.handle.route(from_a, Route::Transcode { source: from_b }).unwrap();
    scene.run(2 * SECOND);
    let before = scene.far[a].packets.last().unwrap().1.clone();
    scene.handle.set_sink_format(from_a, &MediaFormat::Audio(format(Codec::Pcma, 30))).unwrap();
    let video = crosspoint_codecs::format::VideoFormat {
        codec: Codec::H264,
        profile: crosspoint_codecs::format::H264Profile::ConstrainedBaseline,
        level: 31,
        mode: crosspoint_codecs::format::PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    };
    let refused = scene.handle.set_sink_format(from_a, &MediaFormat::Video(video));
    assert!(matches!(refused, Err(EngineError::Codec(_) | EngineError::Sort(_))));
    scene.forget();
    scene.run(2 * SECOND);
    let first = &scene.far[a].packets[0].1;
    assert_eq!(first.duration, Duration::from_millis(30));
    let step = first.media_time.nanos_since(before.media_time);
    assert!((20_000_000..=40_000_000).contains(&step), "{step}");
    assert_continuous(&scene.far[a].packets);
}

#[test]
fn reported_loss_brings_error_correction_and_its_end_takes_it_away() {
    let mut scene = Scene::new();
    let mut opus_format = format(Codec::Opus, 20);
    opus_format.fec = true;
    let (a, b) = (scene.join(opus_format, 440.0), scene.join(format(Codec::Pcma, 20), 300.0));
    let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
    scene.handle.route(from_a, Route::Transcode { source: from_b }).unwrap();
    scene.far[b].voice = true;
    let copies = |scene: &mut Scene| {
        scene.run(3 * SECOND);
        scene.forget();
        scene.run(2 * SECOND);
        let packets = &scene.far[a].packets;
        packets.iter().filter(|(_, frame)| opus::carries_fec(&frame.data)).count() * 100 / packets.len()
    };
    assert_eq!(copies(&mut scene), 0);
    scene.far[a].rings.wishes.report_loss(20);
    let lossy = copies(&mut scene);
    // libopus adds copies where it hears a voice.
    assert!(lossy > 15, "{lossy} %");
    scene.far[a].rings.wishes.report_loss(1);
    assert!(copies(&mut scene) > 5, "one percent is no reason to stop");
    scene.far[a].rings.wishes.report_loss(0);
    assert_eq!(copies(&mut scene), 0);
}

#[test]
fn the_receivers_bitrate_is_kept() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(format(Codec::Opus, 20), 440.0), scene.join(format(Codec::Pcma, 20), 300.0));
    let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
    scene.handle.route(from_a, Route::Transcode { source: from_b }).unwrap();
    scene.far[a].rings.wishes.limit_bitrate(10_000);
    scene.run(3 * SECOND);
    scene.forget();
    scene.run(5 * SECOND);
    let bits = scene.far[a].packets.iter().map(|(_, frame)| frame.data.len() * 8).sum::<usize>() / 5;
    assert!(bits < 12_500, "{bits} bit/s");
    let stats = scene.handle.stats(from_a).sink.unwrap();
    assert_eq!(stats.target_bitrate, 10_000);
    assert!(stats.bitrate.abs_diff(bits as u32) < 2_000, "{stats:?}");
}

#[test]
fn lost_opus_packets_come_back_and_lost_pcm_is_hidden() {
    let mut scene = Scene::new();
    let mut lossy = format(Codec::Opus, 20);
    lossy.fec = true;
    let (a, b) = (scene.join(lossy, 440.0), scene.join(format(Codec::Pcmu, 20), 300.0));
    let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
    scene.handle.route(from_a, Route::Transcode { source: from_b }).unwrap();
    scene.handle.route(from_b, Route::Transcode { source: from_a }).unwrap();
    scene.far[a].lose = |n| n % 20 == 7;
    scene.far[b].lose = |n| n % 20 == 7;
    scene.run(10 * SECOND);
    let (opus, pcm) =
        (scene.handle.stats(from_a).source.unwrap(), scene.handle.stats(from_b).source.unwrap());
    // The far end's encoder knows of no loss here and adds no copies: those that it does not
    // find are hidden as well, and both count what they hid.
    assert!(opus.recovered + opus.concealed.as_millis() as u64 / 20 >= 20, "{opus:?}");
    assert!((400..=600).contains(&pcm.concealed.as_millis()), "{pcm:?}");
    assert_eq!((opus.late, pcm.late), (0, 0));
    for far in [&scene.far[a], &scene.far[b]] {
        let body = &far.heard[far.heard.len() / 2..];
        assert_eq!(listen::silent_windows(body, far.rate()), 0);
    }
}

#[test]
fn each_thread_is_woken_once_a_tick_and_only_when_there_is_something() {
    let mut scene = Scene::new();
    let far: Vec<usize> = (0..6).map(|n| scene.join(format(Codec::Pcmu, 20), 300.0 + f64::from(n))).collect();
    scene.run(SECOND);
    assert_eq!(scene.bell.rung.load(Ordering::Relaxed), 0);
    for pair in far.chunks(2) {
        let (one, other) = (scene.far[pair[0]].id, scene.far[pair[1]].id);
        scene.handle.route(one, Route::Transcode { source: other }).unwrap();
        scene.handle.route(other, Route::Transcode { source: one }).unwrap();
    }
    scene.run(SECOND);
    assert_eq!(scene.bell.rung.load(Ordering::Relaxed), 50);
}

#[test]
fn a_leg_that_sends_rubbish_spoils_nobody_elses_sound() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(format(Codec::Opus, 20), 440.0), scene.join(format(Codec::Pcmu, 20), 800.0));
    let (c, d) = (scene.join(format(Codec::Opus, 20), 500.0), scene.join(format(Codec::G722, 20), 600.0));
    scene.far[c].garbled = true;
    scene.far[c].jitter_up_to = 300_000_000;
    for (one, other) in [(a, b), (c, d)] {
        let (one, other) = (scene.far[one].id, scene.far[other].id);
        scene.handle.route(one, Route::Transcode { source: other }).unwrap();
        scene.handle.route(other, Route::Transcode { source: one }).unwrap();
    }
    scene.run(4 * SECOND);
    scene.forget();
    scene.run(4 * SECOND);
    for (place, hertz) in [(a, 800.0), (b, 440.0), (c, 600.0)] {
        let far = &scene.far[place];
        let snr = listen::worst_snr(&far.heard, far.rate(), hertz);
        assert!(snr > 28.0, "{snr:.1} dB at {}", far.format.codec);
        assert_continuous(&far.packets);
    }
    assert_continuous(&scene.far[d].packets);
}

#[test]
fn streams_that_are_engaged_anew_are_heard_on() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(format(Codec::Pcmu, 20), 440.0), scene.join(format(Codec::Opus, 20), 800.0));
    let (from_a, from_b) = (scene.far[a].id, scene.far[b].id);
    // A route may name a source before it is there, or after it went.
    scene.handle.remove(from_a).unwrap();
    scene.handle.route(from_b, Route::Transcode { source: from_a }).unwrap();
    scene.run(SECOND);
    assert!(scene.far[b].heard.iter().all(|s| s.unsigned_abs() < 50));
    scene.engage(a, format(Codec::G722, 20));
    scene.run(2 * SECOND);
    scene.forget();
    scene.run(2 * SECOND);
    let snr = listen::worst_snr(&scene.far[b].heard, 48_000, 440.0);
    assert!(snr > 25.0, "{snr:.1} dB from the source that came");
    // A sink that is engaged anew keeps its route, and its stamps are on the same clock.
    let before = scene.far[b].packets.last().unwrap().1.clone();
    scene.engage(b, format(Codec::Pcma, 20));
    scene.run(2 * SECOND);
    scene.forget();
    scene.run(2 * SECOND);
    let snr = listen::worst_snr(&scene.far[b].heard, 8_000, 440.0);
    assert!(snr > 25.0, "{snr:.1} dB at the sink that came");
    let first = &scene.far[b].packets[0].1;
    assert_eq!(first.media_time.nanos_since(before.media_time), 2_020_000_000);
}
