//! The same with others who do a part of the work: it sounds the same, and who takes long keeps
//! nobody waiting.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crosspoint_codecs::codec::{
    AudioDecoder, AudioEncoder, CodecError, Decoded, VideoDecoder, VideoEncoder, VideoEncoding,
};
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, PacketizationMode, VideoFormat};
use crosspoint_codecs::frame::Pool;
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::{ClockFn, Codecs, Crew, Engine, EngineConfig, Route, Timeline};
use crosspoint_gateway::net::clock::Clock;

use crate::far::{Far, Scene, format};
use crate::picture::h264;
use crate::room::{ALL, BUS};

fn crew(cores: usize) -> Crew {
    let clock = Clock::start();
    let clock: ClockFn = Arc::new(move || clock.now());
    Crew::start(cores, &clock).unwrap()
}

/// All that a room of twelve sends, some of whom talk.
fn packets(mut scene: Scene) -> Vec<Vec<(u64, Vec<u8>)>> {
    scene.handle.add_bus(BUS, &ALL).unwrap();
    let codecs = [Codec::Opus, Codec::G722, Codec::Opus, Codec::Pcmu];
    for place in 0..12 {
        let place = scene.join(format(codecs[place % 4], 20), 400.0 + 100.0 * place as f64);
        scene.far[place].peak = if place % 3 == 2 { 0.0 } else { 2_000.0 };
        let id = scene.far[place].id;
        scene.handle.join(BUS, id, Gain::ONE).unwrap();
        scene.handle.route(id, Route::Mix { bus: BUS }).unwrap();
        scene.run(Duration::from_millis(100));
    }
    for change in 0..10 {
        scene.run(Duration::from_millis(300));
        let place = change * 5 % 12;
        scene.far[place].peak = 2_000.0 - scene.far[place].peak;
    }
    let of = |far: &Far| far.packets.iter().map(|(at, frame)| (*at, frame.data.to_vec())).collect();
    scene.far.iter().map(of).collect()
}

#[test]
fn a_room_sounds_the_same_whoever_does_the_work() {
    let alone = packets(Scene::new());
    let crew = crew(3);
    let codecs = Arc::new(Registry::built_in());
    let helped = packets(Scene::of(Engine::with_crew(&EngineConfig::default(), codecs, &crew)));
    assert!(alone.iter().all(|packets| packets.len() > 150));
    assert!(alone == helped, "some packet differs");
}

/// A decoder that stands still while the gate is shut: the first one that is made.
struct Stubborn {
    registry: Registry,
    gate: Arc<Gate>,
    first: Mutex<bool>,
}

#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn shut(&self, shut: bool) {
        *self.0.lock().unwrap() = shut;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |shut| *shut).unwrap());
    }
}

struct Gated(Box<dyn VideoDecoder>, Arc<Gate>);

impl VideoDecoder for Gated {
    fn decode(&mut self, unit: &[u8]) -> Result<Decoded, CodecError> {
        self.1.pass();
        self.0.decode(unit)
    }
}

impl Codecs for Stubborn {
    fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        self.registry.audio_decoder(format)
    }
    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        self.registry.audio_encoder(format)
    }
    fn video_decoder(&self, format: &VideoFormat, pool: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        let decoder = self.registry.video_decoder(format, pool)?;
        if std::mem::replace(&mut *self.first.lock().unwrap(), false) {
            return Ok(Box::new(Gated(decoder, self.gate.clone())));
        }
        Ok(decoder)
    }
    fn video_encoder(
        &self,
        format: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError> {
        self.registry.video_encoder(format, encoding)
    }
}

#[test]
fn a_picture_that_takes_long_keeps_nobody_waiting() {
    let gate = Arc::new(Gate::default());
    let codecs = Stubborn { registry: Registry::built_in(), gate: gate.clone(), first: Mutex::new(true) };
    let crew = crew(2);
    let mut scene = Scene::of(Engine::with_crew(&EngineConfig::default(), Arc::new(codecs), &crew));
    let wants = || h264(31, PacketizationMode::NonInterleaved);
    // The slow one, another one, and who sees them.
    let cameras: Vec<_> = (0..4).map(|_| scene.look((320, 192), 30, wants(), &Timeline::new())).collect();
    let ids: Vec<_> = scene.cameras.iter().map(|camera| camera.id).collect();
    for (sink, source) in [(2, 0), (3, 1)] {
        scene.cameras[cameras[sink]].covered = true;
        scene.handle.route(ids[sink], Route::Transcode { source: ids[source] }).unwrap();
    }
    let second = Duration::from_secs(1);
    scene.run(second);
    let seen = |scene: &mut Scene| {
        let seen = [2, 3].map(|sink| scene.cameras[cameras[sink]].seen.len());
        scene.cameras.iter_mut().for_each(crate::picture::Camera::forget);
        seen
    };
    let both = seen(&mut scene);
    assert!(both.iter().all(|pictures| *pictures > 20), "{both:?}");

    gate.shut(true);
    scene.run(Duration::from_millis(100));
    let overdue = scene.handle.worker_stats().video.overdue;
    seen(&mut scene);
    scene.run(second);
    let [slow, other] = seen(&mut scene);
    assert_eq!(slow, 0, "nothing comes out of one that stands still");
    assert!(other > 20, "{other} pictures of the other one");
    // The one that is away is not waited for again and again.
    assert!(overdue >= 1, "it was overdue once");
    let now = scene.handle.worker_stats().video.overdue;
    // On a machine that is full the others may be late as well.
    println!("overdue {overdue}, a second later {now}");

    // Commands find a source whose decoder is away: it goes, and comes back with another one.
    scene
        .handle
        .set_source_format(ids[0], &MediaFormat::Video(h264(40, PacketizationMode::NonInterleaved)))
        .unwrap();
    scene.run(2 * second);
    let [renewed, _] = seen(&mut scene);
    assert!(renewed > 20, "{renewed} pictures with the new decoder, while the old one stands still");
    gate.shut(false);
    scene.run(second);
    let both = seen(&mut scene);
    assert!(both.iter().all(|pictures| *pictures > 20), "{both:?}");
}
