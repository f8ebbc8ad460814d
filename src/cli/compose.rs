//! `crosspoint compose`: the picture of a conference from files. The same layouts, drawings and
//! composer as in a call, so that a layout can be looked at without one.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use crosspoint::offline::Part;
use crosspoint_codecs::compose::{Composer, Feed};
use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_gateway::conference::fonts;
use crosspoint_gateway::conference::layout::{Canvas, Layout};
use crosspoint_gateway::conference::scene::{Look, Party, scene};

use super::Failure;
use y4m::{Rate, Reader, Writer, Y4mError};

mod y4m;

/// How long the last picture of a file that has ended stays before an avatar takes its place: about
/// as long as one believes that a picture merely hangs.
const LINGER_SECONDS: u64 = 2;

/// Pictures between two lines of progress.
const PROGRESS: u64 = 100;

/// What to compose.
#[derive(Debug, Args)]
pub(super) struct Compose {
    /// The parties' pictures: uncompressed 4:2:0 video, as "ffmpeg -i x -pix_fmt yuv420p x.y4m" makes
    /// it. Each is called as its file is.
    #[arg(value_name = "FILE.y4m")]
    inputs: Vec<PathBuf>,
    /// 1:0, 1:7, 1:21, 1:33, 2:21, 5:7, 4:0, 9:0, 16:0, 25:0 or ac.
    #[arg(long, value_name = "LAYOUT", default_value_t = Layout::default())]
    layout: Layout,
    /// Size of the composed picture.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1280x720", value_parser = size)]
    size: Canvas,
    /// Where the composed pictures go. The file appears when it is whole.
    #[arg(long, short, value_name = "FILE.y4m")]
    output: PathBuf,
    /// Folder with fonts for what the built-in ones lack.
    #[arg(long, value_name = "FOLDER")]
    fonts: Option<PathBuf>,
}

impl Compose {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        if self.inputs.is_empty() {
            return Err(Failure::Arguments("nothing to compose: name at least one .y4m file".into()));
        }
        let seen = self.inputs.len().min(self.layout.capacity());
        let (inputs, unseen) = self.inputs.split_at(seen);
        if !unseen.is_empty() {
            let all = self.inputs.len();
            eprintln!("layout {} shows {seen} of the {all} files; the rest is not read", self.layout);
        }
        let mut sources = Vec::new();
        for path in inputs {
            sources.push(Source::open(path)?);
        }
        let rate = sources.iter().map(|it| it.reader.rate()).max().unwrap_or(Rate::DEFAULT);
        let written = self.write(&mut sources, rate)?;
        eprintln!("{}: {written} pictures, {}", self.output.display(), seconds(written, rate));
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, sources: &mut [Source], rate: Rate) -> Result<u64, Failure> {
        let (part, file) = begin(&self.output)?;
        let (width, height) = (self.size.width(), self.size.height());
        let fault = |error: io::Error| cannot_write(&self.output, &error);
        let mut writer = Writer::new(BufWriter::new(file), width, height, rate).map_err(fault)?;
        let pool = Pool::on_huge_pages(3, VideoFrame::bytes(width, height));
        let mut text = fonts::typesetter(self.fonts.as_deref());
        let mut composer = self.plan(sources, &mut text)?;
        let mut written = 0;
        let terminal = io::stderr().is_terminal();
        loop {
            let (mut goes_on, mut changed) = (false, false);
            for source in &mut *sources {
                goes_on |= source.advance(written, rate)?;
                changed |= source.gave_way(written, rate);
            }
            if !goes_on {
                break;
            }
            if changed {
                composer = self.plan(sources, &mut text)?;
            }
            let feeds: Vec<_> = sources.iter().map(Source::feed).collect();
            let Some(picture) = composer.compose(&feeds, &pool) else {
                return Err(Failure::Told("there is no memory for another picture".into()));
            };
            writer.write(&picture).map_err(fault)?;
            written += 1;
            if terminal && written % PROGRESS == 0 {
                eprint!("\rcomposed {written} pictures, {}", seconds(written, rate));
            }
        }
        if terminal {
            eprint!("\r");
        }
        if written == 0 {
            return Err(Failure::Told("there is no picture in any of the files".into()));
        }
        writer.finish().map_err(fault)?;
        part.keep().map_err(fault)?;
        Ok(written)
    }

    fn plan(&self, sources: &[Source], text: &mut Typesetter) -> Result<Composer, Failure> {
        let parties: Vec<Party> = sources.iter().enumerate().map(|(n, it)| it.party(n)).collect();
        let scene = scene(self.layout, self.size, &parties, &Look::default(), text);
        Composer::new(scene).map_err(|error| Failure::Told(error.to_string()))
    }
}

/// One file and how far it was read.
struct Source {
    path: PathBuf,
    reader: Reader,
    /// Pictures read, and the last of them.
    read: u64,
    picture: Option<VideoFrame>,
    fresh: bool,
    /// The picture of the result at which the file had ended.
    ended: Option<u64>,
    /// Its last picture stood long enough.
    gone: bool,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        let reader = Reader::open(path).map_err(|error| unreadable(path, &error))?;
        let path = path.to_owned();
        Ok(Self { path, reader, read: 0, picture: None, fresh: false, ended: None, gone: false })
    }

    /// Reads on to what is to be seen in picture `number` of the result. `false`: the file has ended.
    fn advance(&mut self, number: u64, rate: Rate) -> Result<bool, Failure> {
        self.fresh = false;
        let due = self.reader.rate().picture_at(number, rate);
        while self.ended.is_none() && self.read <= due {
            match self.reader.next().map_err(|error| unreadable(&self.path, &error))? {
                Some(picture) => {
                    self.picture = Some(picture);
                    self.fresh = true;
                    self.read += 1;
                }
                None => self.ended = Some(number),
            }
        }
        Ok(self.ended.is_none())
    }

    /// Its last picture has stood long enough: from now on an avatar is seen. Says so once.
    fn gave_way(&mut self, number: u64, rate: Rate) -> bool {
        let due = self.ended.is_some_and(|ended| number - ended >= rate.pictures_in(LINGER_SECONDS));
        let gives_way = due && !self.gone;
        self.gone |= due;
        gives_way
    }

    fn party(&self, number: usize) -> Party {
        let name = self.path.file_stem().unwrap_or_default().to_string_lossy().replace('_', " ");
        let shown = self.ended.is_none() || (!self.gone && self.read > 0);
        let source = shown.then(|| (number, self.reader.size()));
        Party { name, alias: format!("Party {}", number + 1), source, speaks: false }
    }

    fn feed(&self) -> Feed<'_> {
        Feed { picture: self.picture.as_ref(), fresh: self.fresh, stalled: false }
    }
}

/// The result in the making.
fn begin(output: &Path) -> Result<(Part, File), Failure> {
    if output.file_name().is_none() || output.is_dir() {
        let why = format!("{} is a folder; name a file with -o", output.display());
        return Err(Failure::Arguments(why));
    }
    Part::create(output).map_err(|error| cannot_write(output, &error))
}

fn unreadable(path: &Path, error: &Y4mError) -> Failure {
    Failure::Told(format!("cannot compose {}: {error}", path.display()))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Told(format!("cannot write {}: {error}", path.display()))
}

/// The duration of so many pictures, for a person.
fn seconds(pictures: u64, rate: Rate) -> String {
    let tenths = rate.tenths(pictures);
    format!("{}.{} s", tenths / 10, tenths % 10)
}

fn size(text: &str) -> Result<Canvas, String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let (width, height) = sides.ok_or_else(|| "a size is written as 1280x720".to_owned())?;
    Canvas::new(width, height).map_err(|error| error.to_string())
}
