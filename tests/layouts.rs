//! What conferences look like: every layout with few and many parties is composed at 1280x720 and
//! held against a picture of half that size under `fixtures/layouts`.
//!
//! A change that is meant is blessed with `make bless` (or `CROSSPOINT_BLESS=1 cargo test --workspace
//! --test layouts`) and looked at before it is committed. What a failing test composed lies under
//! `target/layouts`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "colours and small pictures")]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crosspoint_codecs::compose::{Composer, Feed, Scene as Picture};
use crosspoint_codecs::draw::Rgb;
use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;
use crosspoint_gateway::conference::layout::{Canvas, Layout};
use crosspoint_gateway::conference::scene::{Look, Party, Slate, Slides, scene, scene_with_slides};

/// Mean difference of a channel that another rounding may make, 0 to 255.
const MEAN: f64 = 0.4;
/// A pixel that differs by more in a channel looks different,
const SEEN: u8 = 24;
/// and so many of them may: one in a thousand.
const SHARE: f64 = 0.001;
/// Parties of the pictures.
const PARTIES: [usize; 5] = [1, 2, 5, 8, 22];

const NAMES: [&str; 22] = [
    "Ada Lovelace",
    "Анна Ковальчук",
    "محمد بن موسى الخوارزمي",
    "李小龙",
    "Zoë Nguyễn Thị Hương",
    "Bartholomew Featherstonehaugh-Cholmondeley the Elder of Lower Slaughter",
    "Tom 🚀 (Berlin)",
    "+49 30 901820",
    "Björn Þórsson",
    "김철수",
    "Ελένη Παπαδοπούλου",
    "Conference room 4.12",
    "Işıl Çağlar",
    "Михаил",
    "田中太郎",
    "Łucja Wójcik",
    "سارة",
    "Jo",
    "Chloé Dubois",
    "Наталія Шевченко",
    "O'Neill, Siobhán",
    "reception@example.com",
];
/// 16:9, 4:3, 9:16; `None`: no camera.
const SIZES: [Option<(usize, usize)>; 7] =
    [Some((1280, 720)), Some((640, 480)), None, Some((640, 360)), Some((360, 640)), Some((1280, 720)), None];

#[test]
fn every_layout_looks_as_it_did() {
    let canvas = Canvas::new(1280, 720).unwrap();
    let mut text = typesetter();
    let mut files = HashMap::new();
    let mut goldens = Goldens::open();
    for layout in Layout::ALL {
        for count in PARTIES {
            let parties: Vec<Party> = (0..count).map(party).collect();
            let sources: Vec<_> = parties.iter().map(|it| it.source.map(|(_, size)| size)).collect();
            let banner = (count == 8).then(|| "This call is recorded for training".to_owned());
            // Layouts of one family look alike while few parties are there: they share a file.
            let tiles = layout.tiles(canvas, &sources);
            let name = format!("{}-{count}", layout.word().replace(':', "+"));
            let name = files.entry(format!("{tiles:?}{banner:?}")).or_insert(name).clone();
            let look = Look { banner, ..Look::default() };
            goldens.hold(&name, &composed(layout, canvas, &parties, &look, &mut text));
        }
    }
    goldens.close();
}

#[test]
fn slates_and_other_shapes_look_as_they_did() {
    let mut text = typesetter();
    let mut goldens = Goldens::open();
    let canvas = Canvas::new(1280, 720).unwrap();
    goldens.hold("slate-host", &Slate::WaitingForHost.picture(&mut text, canvas).unwrap());
    goldens.hold("slate-connecting", &Slate::Connecting.picture(&mut text, canvas).unwrap());
    goldens.hold("slate-alone", &composed(Layout::Nine, canvas, &[], &Look::default(), &mut text));
    let parties: Vec<Party> = (0..8).map(party).collect();
    for (width, height) in [(640, 480), (352, 288), (720, 1280)] {
        let canvas = Canvas::new(width, height).unwrap();
        let picture = composed(Layout::OneAndSeven, canvas, &parties, &Look::default(), &mut text);
        goldens.hold(&format!("shape-{width}x{height}"), &picture);
    }
    goldens.close();
}

#[test]
fn slides_are_the_largest_and_whole() {
    let mut text = typesetter();
    let mut goldens = Goldens::open();
    let canvas = Canvas::new(1280, 720).unwrap();
    for (count, size) in [(1, (1920, 1080)), (2, (1024, 768)), (8, (1280, 720))] {
        let parties: Vec<Party> = (0..count).map(party).collect();
        let banner = (count == 8).then(|| "This call is recorded for training".to_owned());
        let look = Look { banner, ..Look::default() };
        let slides = Slides::Live { source: count, size };
        let still = Slides::Still(source(30, size));
        let [live, still] = [slides, still].map(|slides| {
            scene_with_slides(Layout::FiveAndSeven, canvas, slides, &parties, &look, &mut text)
        });
        let mut pictures = pictures(&parties);
        pictures.push(Some(source(30, size)));
        let seen = drawn(canvas, live, &pictures);
        goldens.hold(&format!("slides-{count}"), &seen);
        assert!(drawn(canvas, still, &pictures) == seen, "a still looks as a stream of it does");
    }
    goldens.close();
}

#[test]
fn a_party_whose_pictures_stay_away_looks_like_one_without_a_camera() {
    let canvas = Canvas::new(1280, 720).unwrap();
    let mut text = typesetter();
    let parties: Vec<Party> = (0..5).map(party).collect();
    let voices: Vec<Party> = parties.iter().map(|it| Party { source: None, ..it.clone() }).collect();
    let mut drawn = |parties: &[Party], feeds: &[Feed<'_>]| {
        let scene = scene(Layout::OneAndSeven, canvas, parties, &Look::default(), &mut text);
        let pool = Pool::new(2, VideoFrame::bytes(canvas.width(), canvas.height()));
        Composer::new(scene).unwrap().compose(feeds, &pool).unwrap()
    };
    let avatars = drawn(&voices, &[]);
    assert!(drawn(&parties, &[]) == avatars, "no picture came yet");
    let stalled = [Feed { stalled: true, ..Feed::default() }; 5];
    assert!(drawn(&parties, &stalled) == avatars, "they came and stay away");
}

#[test]
fn the_comparison_sees_a_name_that_is_missing_and_forgives_rounding() {
    let canvas = Canvas::new(1280, 720).unwrap();
    let parties: Vec<Party> = (0..5).map(party).collect();
    let mut text = typesetter();
    let mut drawn = |names| {
        let look = Look { names, ..Look::default() };
        Image::of(&composed(Layout::OneAndSeven, canvas, &parties, &look, &mut text))
    };
    let (with, without) = (drawn(true), drawn(false));
    assert!(with.difference(&without).is_some());
    let mut rounded = Image { pixels: with.pixels.clone(), ..with };
    rounded.pixels.iter_mut().step_by(3).for_each(|it| *it = it.saturating_add(1));
    assert_eq!(with.difference(&rounded), None);
}

fn typesetter() -> Typesetter {
    let mut text = Typesetter::new();
    text.add_font(fs::read(root().join("fixtures/fonts/NotoSansCJK-few.otf")).unwrap()).unwrap();
    text
}

fn party(number: usize) -> Party {
    let source = SIZES[number % SIZES.len()].map(|size| (number, size));
    let alias = format!("party-{number}");
    Party { name: NAMES[number].to_owned(), alias, source, speaks: number == 0 }
}

fn composed(
    layout: Layout,
    canvas: Canvas,
    parties: &[Party],
    look: &Look,
    text: &mut Typesetter,
) -> VideoFrame {
    drawn(canvas, scene(layout, canvas, parties, look, text), &pictures(parties))
}

/// What their sources give, by number.
fn pictures(parties: &[Party]) -> Vec<Option<VideoFrame>> {
    parties.iter().enumerate().map(|(n, it)| it.source.map(|(_, size)| source(n, size))).collect()
}

fn drawn(canvas: Canvas, scene: Picture, pictures: &[Option<VideoFrame>]) -> VideoFrame {
    let feeds: Vec<_> =
        pictures.iter().map(|it| Feed { picture: it.as_ref(), fresh: true, stalled: false }).collect();
    let mut composer = Composer::new(scene).unwrap();
    let pool = Pool::new(2, VideoFrame::bytes(canvas.width(), canvas.height()));
    let picture = composer.compose(&feeds, &pool).unwrap();
    assert_eq!(composer.unfit(), 0);
    picture
}

/// A colour of its own; two rings, round unless somebody distorts them; a line along the edge, gone
/// where the picture is cut.
fn source(number: usize, (width, height): (usize, usize)) -> VideoFrame {
    let hue = number as f32 * 0.618;
    let channel = |shift: f32| (((hue + shift) * std::f32::consts::TAU).sin() * 55.0 + 120.0) as u8;
    let base = Rgb(channel(0.0), channel(0.33), channel(0.67));
    let light = base.over(Rgb(255, 255, 255), 0.55);
    let least = width.min(height) as f32;
    let seen = |x: usize, y: usize| {
        let (dx, dy) = (x as f32 - width as f32 / 2.0, y as f32 - height as f32 / 2.0);
        let from_middle = dx.hypot(dy) / least;
        let edge = x.min(y).min(width - 1 - x).min(height - 1 - y) as f32 / least;
        let ring = (0.16..0.2).contains(&from_middle) || (0.34..0.37).contains(&from_middle);
        if ring || (0.02..0.035).contains(&edge) { light.yuv() } else { base.yuv() }
    };
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    VideoFrame::new(&pool, width, height, |planes| {
        planes.y.iter_mut().enumerate().for_each(|(n, it)| *it = seen(n % width, n / width).y);
        let half = width / 2;
        for n in 0..planes.u.len() {
            let colour = seen(n % half * 2, n / half * 2);
            (planes.u[n], planes.v[n]) = (colour.u, colour.v);
        }
    })
    .unwrap()
}

/// The folder of goldens while they are compared, or blessed.
struct Goldens {
    bless: bool,
    seen: BTreeSet<String>,
    faults: Vec<String>,
}

impl Goldens {
    fn open() -> Self {
        let bless = std::env::var_os("CROSSPOINT_BLESS").is_some();
        Self { bless, seen: BTreeSet::new(), faults: Vec::new() }
    }

    fn hold(&mut self, name: &str, picture: &VideoFrame) {
        let got = Image::of(picture);
        let golden = root().join(format!("fixtures/layouts/{name}.png"));
        if self.bless && self.seen.insert(name.to_owned()) {
            got.write(&golden);
        }
        let fault = match fs::File::open(&golden) {
            Err(_) => Some("there is none to compare with".to_owned()),
            Ok(file) => Image::read(file).difference(&got),
        };
        if let Some(fault) = fault {
            let found = root().join(format!("target/layouts/{name}.png"));
            fs::create_dir_all(found.parent().unwrap()).unwrap();
            got.write(&found);
            self.faults.push(format!("{name}: {fault}; see {}", found.display()));
        }
    }

    fn close(self) {
        assert!(self.faults.is_empty(), "\n{}\n`make bless` if it is meant", self.faults.join("\n"));
    }
}

/// Red, green and blue at half the size.
struct Image {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Image {
    fn of(picture: &VideoFrame) -> Self {
        let (width, height) = (picture.width() / 4 * 2, picture.height() / 4 * 2);
        let mut scaler = Scaler::new((picture.width(), picture.height()), (width, height)).unwrap();
        let pool = Pool::new(1, VideoFrame::bytes(width, height));
        let half = VideoFrame::new(&pool, width, height, |mut planes| {
            scaler.scale(picture, &mut planes, width, (0, 0)).unwrap();
        })
        .unwrap();
        let mut pixels = Vec::with_capacity(width * height * 3);
        for (n, luma) in half.y().iter().enumerate() {
            let at = n / width / 2 * (width / 2) + n % width / 2;
            let (y, u, v) =
                (f32::from(*luma) - 16.0, f32::from(half.u()[at]) - 128.0, f32::from(half.v()[at]) - 128.0);
            // ITU-R BT.601, limited range.
            let rgb = [1.164 * y + 1.596 * v, 1.164 * y - 0.392 * u - 0.813 * v, 1.164 * y + 2.017 * u];
            pixels.extend(rgb.map(|it| it.round().clamp(0.0, 255.0) as u8));
        }
        Self { width: width as u32, height: height as u32, pixels }
    }

    fn write(&self, path: &Path) {
        let file = BufWriter::new(fs::File::create(path).unwrap());
        let mut encoder = png::Encoder::new(file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::High);
        encoder.write_header().unwrap().write_image_data(&self.pixels).unwrap();
    }

    fn read(file: fs::File) -> Self {
        let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        Self { width: info.width, height: info.height, pixels }
    }

    /// What tells the two apart, if anything does.
    fn difference(&self, other: &Self) -> Option<String> {
        if (self.width, self.height) != (other.width, other.height) {
            return Some(format!("{}x{} became {}x{}", self.width, self.height, other.width, other.height));
        }
        let apart: Vec<u8> = self.pixels.iter().zip(&other.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
        let mean = apart.iter().map(|it| f64::from(*it)).sum::<f64>() / apart.len() as f64;
        let differ = apart.chunks(3).filter(|it| it.iter().any(|it| *it > SEEN)).count();
        let share = differ as f64 / (apart.len() / 3) as f64;
        (mean > MEAN || share > SHARE).then(|| {
            format!("mean difference {mean:.2}, {:.2} % of the pixels look different", share * 100.0)
        })
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
