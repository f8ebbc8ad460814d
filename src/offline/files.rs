//! WAV files in, WAV files out.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosspoint_codecs::codec::CodecError;
use crosspoint_codecs::kernels::resample::RATES;

use super::mix::{Measure, Mix, Settings, Sound};
use super::part::Part;
use super::wav::{WavReader, WavShape, WavWriter};

/// What to mix and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mixing {
    /// At least two; one of them may be named twice.
    pub inputs: Vec<PathBuf>,
    /// The mix of all. With [`Settings::minus_one`], what has everybody but the nth input lies
    /// beside it: `name-n.wav` for `name.wav`.
    pub output: PathBuf,
    /// How.
    pub settings: Settings,
}

/// Why nothing was mixed. No file is written then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MixError {
    /// No input.
    #[error("nothing to mix: name two WAV files or more")]
    NoInput,
    /// One input.
    #[error("{} alone makes no mix: name two WAV files or more", .0.display())]
    OneInput(PathBuf),
    /// An input would be lost.
    #[error("{} is one of the inputs: name another file with -o", .0.display())]
    Overwrites(PathBuf),
    /// The output has no name of a file.
    #[error("{} is a folder: name a file with -o", .0.display())]
    Folder(PathBuf),
    /// The rate asked for.
    #[error("a mix of {0} Hz is not made: there are {rates} Hz", rates = rates())]
    Rate(u32),
    /// No such file, or no right to read it.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// The input.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Not RIFF at all.
    #[error("{path} is not a WAV file; taken is {taken}; {remedy}", path = .0.display(), taken = taken(), remedy = remedy(.0))]
    NoWav(PathBuf),
    /// A WAV file of another sort.
    #[error("{path} is {shape}; taken is {taken}; {remedy}", path = path.display(), taken = taken(), remedy = remedy(path))]
    Shape {
        /// The input.
        path: PathBuf,
        /// What it is.
        shape: WavShape,
    },
    /// No such folder, no right to write there, no room.
    #[error("cannot write {path}: {error}", path = path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// More inputs than a sum of 32 bits holds.
    #[error(transparent)]
    Kernel(#[from] CodecError),
    /// The caller said so.
    #[error("interrupted; nothing was written")]
    Stopped,
}

impl MixError {
    /// Whether other arguments would do, and not another state of the world.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoInput | Self::OneInput(_) | Self::Overwrites(_) | Self::Folder(_) | Self::Rate(_)
        )
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Samples a second of all outputs.
    pub rate: u32,
    /// How long all outputs are.
    pub length: Duration,
    /// The inputs, with what each is and how long.
    pub inputs: Vec<(PathBuf, WavShape, Duration)>,
    /// Everybody; then everybody but each input.
    pub outputs: Vec<Output>,
}

/// One file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where.
    pub path: PathBuf,
    /// What was in it before it was limited or cut.
    pub measure: Measure,
}

/// Mixes. `progress` hears now and then how far it is, and says whether to go on.
pub fn mix_files(mixing: &Mixing, progress: &mut dyn FnMut(Duration) -> bool) -> Result<Report, MixError> {
    let Mixing { inputs, output, settings } = mixing;
    match inputs.as_slice() {
        [] => return Err(MixError::NoInput),
        [one] => return Err(MixError::OneInput(one.clone())),
        _ => {}
    }
    if let Some(rate) = settings.rate.filter(|rate| !RATES.contains(rate)) {
        return Err(MixError::Rate(rate));
    }
    if output.file_name().is_none() || output.is_dir() {
        return Err(MixError::Folder(output.clone()));
    }
    let sounds = inputs.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let shapes: Vec<WavShape> = sounds.iter().map(WavReader::shape).collect();
    let mut mix = Mix::new(sounds, settings)?;
    let places: Vec<PathBuf> = (0..mix.outputs()).map(|number| place(output, number)).collect();
    if let Some(lost) = places.iter().find(|place| inputs.iter().any(|input| same(input, place))) {
        return Err(MixError::Overwrites(lost.clone()));
    }
    let mut files =
        places.into_iter().map(|it| Out::create(it, mix.rate())).collect::<Result<Vec<_>, _>>()?;
    while mix
        .step()
        .map_err(|failed| MixError::Read { path: inputs[failed.input].clone(), error: failed.error })?
    {
        for (number, file) in files.iter_mut().enumerate() {
            file.write(mix.block(number))?;
        }
        if !progress(mix.position()) {
            return Err(MixError::Stopped);
        }
    }
    // What can fail for want of room fails before the first file takes its place.
    let files = files.into_iter().map(Out::finish).collect::<Result<Vec<_>, _>>()?;
    let mut outputs = Vec::new();
    for (number, (path, part)) in files.into_iter().enumerate() {
        part.keep().map_err(|error| MixError::Write { path: path.clone(), error })?;
        outputs.push(Output { path, measure: mix.measure(number) });
    }
    let lengths = (0..inputs.len()).map(|input| mix.length(input));
    let inputs = inputs.iter().cloned().zip(shapes).zip(lengths);
    Ok(Report {
        rate: mix.rate(),
        length: mix.position(),
        inputs: inputs.map(|((path, shape), length)| (path, shape, length)).collect(),
        outputs,
    })
}

impl Sound for WavReader<BufReader<File>> {
    fn rate(&self) -> u32 {
        self.shape().rate
    }

    fn read(&mut self, samples: &mut [i16]) -> io::Result<usize> {
        Self::read(self, samples)
    }
}

fn open(path: &Path) -> Result<WavReader<BufReader<File>>, MixError> {
    let reader = File::open(path)
        .and_then(|file| WavReader::new(BufReader::new(file)))
        .map_err(|error| MixError::Read { path: path.to_owned(), error })?;
    let reader = reader.ok_or_else(|| MixError::NoWav(path.to_owned()))?;
    let shape = reader.shape();
    if !shape.is_read() || !RATES.contains(&shape.rate) {
        return Err(MixError::Shape { path: path.to_owned(), shape });
    }
    Ok(reader)
}

/// An output in the making.
struct Out {
    place: PathBuf,
    part: Part,
    writer: WavWriter<BufWriter<File>>,
}

impl Out {
    fn create(place: PathBuf, rate: u32) -> Result<Self, MixError> {
        let made = Part::create(&place)
            .and_then(|(part, file)| Ok((part, WavWriter::new(BufWriter::new(file), rate)?)));
        match made {
            Ok((part, writer)) => Ok(Self { place, part, writer }),
            Err(error) => Err(MixError::Write { path: place, error }),
        }
    }

    fn write(&mut self, samples: &[i16]) -> Result<(), MixError> {
        self.writer.write(samples).map_err(|error| MixError::Write { path: self.place.clone(), error })
    }

    fn finish(self) -> Result<(PathBuf, Part), MixError> {
        match self.writer.finish() {
            Ok(_) => Ok((self.place, self.part)),
            Err(error) => Err(MixError::Write { path: self.place, error }),
        }
    }
}

/// `out.wav`, `out-1.wav`, `out-2.wav`, ...
fn place(output: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return output.to_owned();
    }
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    output.with_file_name(name)
}

/// One file by two names. A pipe is never in the way.
fn same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn rates() -> String {
    let [others @ .., last] = RATES.map(|rate| rate.to_string());
    format!("{} and {last}", others.join(", "))
}

fn taken() -> String {
    format!("16-bit PCM, mono or stereo, at {} Hz", rates())
}

fn remedy(path: &Path) -> String {
    format!("convert it with: ffmpeg -i {path:?} -c:a pcm_s16le -ac 1 -ar 48000 converted.wav")
}
