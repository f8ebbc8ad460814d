//! Commands that work on files: `crosspoint compose`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Luma of the pictures that these tests make.
const BRIGHT: u8 = 180;
const DARK: u8 = 70;

/// A folder of one test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("crosspoint-offline-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of `count` pictures in one shade.
    fn film(&self, name: &str, (width, height): (usize, usize), rate: &str, count: usize, luma: u8) {
        let mut bytes = format!("YUV4MPEG2 W{width} H{height} F{rate} Ip C420jpeg\n").into_bytes();
        for _ in 0..count {
            bytes.extend(b"FRAME\n");
            bytes.extend(vec![luma; width * height]);
            bytes.extend(vec![128; 2 * (width.div_ceil(2) * height.div_ceil(2))]);
        }
        fs::write(self.path(name), bytes).unwrap();
    }

    fn compose(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crosspoint"));
        command.current_dir(&self.0).arg("compose").args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The pictures that a command which succeeds makes of the files.
    fn composed(&self, arguments: &[&str]) -> Film {
        let output = self.compose(&[arguments, &["-o", "out.y4m"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Film::read(&self.path("out.y4m"))
    }

    /// The one sentence that a command which fails says.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.compose(&[arguments, &["-o", "out.y4m"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.trim_end().lines().count(), 1, "{told}");
        told
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Film {
    head: String,
    width: usize,
    pictures: Vec<Vec<u8>>,
}

impl Film {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let end = bytes.iter().position(|it| *it == b'\n').unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let side = |letter: char| -> usize {
            head.split(' ').find_map(|word| word.strip_prefix(letter)).unwrap().parse().unwrap()
        };
        let (width, height) = (side('W'), side('H'));
        let frame = b"FRAME\n".len() + width * height * 3 / 2;
        let pictures = bytes[end + 1..].chunks(frame);
        let pictures = pictures.map(|it| {
            assert!(it.starts_with(b"FRAME\n") && it.len() == frame);
            it[6..].to_vec()
        });
        let pictures = pictures.collect();
        Self { width, pictures, head }
    }

    fn luma(&self, picture: usize, x: usize, y: usize) -> u8 {
        self.pictures[picture][y * self.width + x]
    }
}

#[test]
fn files_of_different_sizes_and_rates_become_one() {
    let place = Place::new("sizes");
    place.film("Ada_Lovelace.y4m", (640, 360), "25:1", 10, BRIGHT);
    place.film("Bo.y4m", (321, 241), "50:1", 20, DARK);
    let film = place.composed(&["--layout", "4:0", "--size", "640x360", "Ada_Lovelace.y4m", "Bo.y4m"]);
    assert_eq!(film.head, "YUV4MPEG2 W640 H360 F50:1 Ip A1:1 C420jpeg");
    assert_eq!(film.pictures.len(), 20);
    for picture in [0, 19] {
        assert_eq!((film.luma(picture, 160, 160), film.luma(picture, 480, 160)), (BRIGHT, DARK));
        assert!(film.luma(picture, 320, 20) < 40, "canvas above");
        let name = (100..270).flat_map(|y| (0..320).map(move |x| (x, y)));
        let white = name.filter(|(x, y)| film.luma(picture, *x, *y) > 220).count();
        assert!(white > 20, "a name in white: {white}");
    }
    assert_eq!(place.files(), ["Ada_Lovelace.y4m", "Bo.y4m", "out.y4m"]);
}

#[test]
fn a_file_that_ends_leaves_its_last_picture_and_then_an_avatar() {
    let place = Place::new("ends");
    place.film("long.y4m", (64, 36), "5:1", 20, BRIGHT);
    place.film("short.y4m", (64, 36), "5:1", 2, BRIGHT);
    place.film("empty.y4m", (64, 36), "5:1", 0, BRIGHT);
    let film = place.composed(&["--layout=4:0", "--size=640x360", "long.y4m", "short.y4m", "empty.y4m"]);
    assert_eq!(film.pictures.len(), 20);
    // Beside the disc of an avatar is ground.
    let shown: Vec<bool> = (0..20).map(|picture| film.luma(picture, 360, 90) == BRIGHT).collect();
    assert_eq!(shown.iter().filter(|it| **it).count(), 2 + 10, "{shown:?}");
    assert!(shown[..12].iter().all(|it| *it), "{shown:?}");
    assert!((0..20).all(|picture| film.luma(picture, 60 + 160, 270) < 60), "never a picture of the third");
}

#[test]
fn what_cannot_be_composed_is_said_in_one_sentence_and_leaves_nothing() {
    let place = Place::new("faults");
    place.film("good.y4m", (64, 36), "25:1", 3, BRIGHT);
    place.film("none.y4m", (64, 36), "25:1", 0, BRIGHT);
    fs::write(place.path("text.y4m"), "hello\n").unwrap();
    fs::write(place.path("deep.y4m"), "YUV4MPEG2 W64 H36 C420p10\n").unwrap();
    let cut = fs::read(place.path("good.y4m")).unwrap();
    fs::write(place.path("cut.y4m"), &cut[..cut.len() - 100]).unwrap();
    fs::write(place.path("lost.y4m"), [&cut[..], b"FRAM\n"].concat()).unwrap();
    fs::write(place.path("out.y4m"), "what was there").unwrap();
    let before = place.files();
    for (arguments, code, said) in [
        (&[] as &[&str], 2, "nothing to compose: name at least one .y4m file"),
        (&["missing.y4m"], 1, "cannot compose missing.y4m: No such file"),
        (&["text.y4m"], 1, "cannot compose text.y4m: it is no YUV4MPEG2 file; make one with \"ffmpeg"),
        (&["good.y4m", "deep.y4m"], 1, "deep.y4m: it is YUV4MPEG2, but it is not 8-bit 4:2:0"),
        (&["good.y4m", "cut.y4m"], 1, "cannot compose cut.y4m: it ends within picture 3"),
        (&["lost.y4m"], 1, "picture 4 does not begin where it should"),
        (&["none.y4m"], 1, "there is no picture in any of the files"),
    ] {
        let told = place.fails(arguments, code);
        assert!(told.starts_with("crosspoint: ") && told.contains(said), "{told}");
        assert_eq!(place.files(), before);
    }
    assert_eq!(fs::read(place.path("out.y4m")).unwrap(), b"what was there");
    for (arguments, said) in [
        (["good.y4m", "--layout=1:9"], "\"1:9\" is no layout; the layouts are 1:7"),
        (["good.y4m", "--size=641x360"], "641x360 cannot be composed: both sides must be even"),
        (["good.y4m", "--size=big"], "a size is written as 1280x720"),
    ] {
        let output = place.compose(&[&arguments[..], &["-o", "new.y4m"]].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(said), "{told}");
    }
    let folder = place.compose(&["good.y4m", "-o", "."]);
    assert_eq!(folder.status.code(), Some(2), "{folder:?}");
    let nowhere = place.compose(&["good.y4m", "-o", "no/such/folder.y4m"]);
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("cannot write no/such/folder.y4m"));
    assert_eq!(place.files(), before);
}

#[test]
fn more_files_than_a_layout_shows_are_left_out_and_that_is_said() {
    let place = Place::new("many");
    place.film("a.y4m", (64, 36), "25:1", 2, BRIGHT);
    let output = place.compose(&["--layout", "1:0", "a.y4m", "not-even-there.y4m", "-o", "out.y4m"]);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("layout 1:0 shows 1 of the 2 files"), "{told}");
    assert!(told.contains("out.y4m: 2 pictures, 0.0 s"), "{told}");
}
