//! `crosspoint capture`: signalling and media of a live call into a file that Wireshark reads.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use crosspoint_gateway::pcapng::first_block;
use serde_json::json;

use super::ask::{Management, escaped};
use super::{Failure, Setting, print};

/// Read at a time.
const PIECE: usize = 64 << 10;

/// What to capture, and for how long.
#[derive(Debug, Args)]
pub(super) struct Capture {
    /// The call's number, as status shows it.
    call: String,
    /// Where it goes; what is there is replaced.
    #[arg(long, short, value_name = "FILE.pcapng")]
    out: PathBuf,
    /// How long at most. Without it: until the call is over, or an hour.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// The largest file, in octets. Without it: 1 GiB.
    #[arg(long, value_name = "OCTETS", value_parser = clap::value_parser!(u64).range(1_000_000..))]
    size: Option<u64>,
    /// Leave the keys of SDES in the signalling, so that media can be decrypted.
    #[arg(long)]
    keys: bool,
}

impl Capture {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        let mut asked = json!({ "keys": self.keys });
        if let Some(seconds) = self.seconds {
            asked["seconds"] = seconds.into();
        }
        if let Some(size) = self.size {
            asked["octets"] = size.into();
        }
        let path = format!("/calls/{}/capture", escaped(&self.call));
        let (mut body, first) = Management::of(setting)?.open("POST", &path, &asked)?;
        // Who may listen to a call is whoever can read this.
        let opened = File::options().create(true).truncate(true).write(true).mode(0o600).open(&self.out);
        let mut file = opened.map_err(|error| cannot_write(&self.out, &error))?;
        if self.keys {
            eprintln!(
                "{} will have the keys of the call's media: keep it as you keep a password",
                self.out.display()
            );
        }
        let mut copied = Copied { waiting: first, ..Copied::default() };
        let mut piece = vec![0; PIECE];
        loop {
            copied.blocks(&mut file).map_err(|fault| fault.told(&self.out))?;
            let read = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Told(format!("the gateway says no more: {error}"))),
            };
            copied.waiting.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
        match copied.totals {
            Some((_, dropped)) => {
                let left_out = if dropped > 0 { format!(", {dropped} left out") } else { String::new() };
                print(&format!("{}: {} packets{left_out}\n", self.out.display(), copied.packets))
            }
            None => Err(Failure::Told(format!(
                "the gateway was cut off; {} has the {} packets until then",
                self.out.display(),
                copied.packets
            ))),
        }
    }
}

/// What has gone into the file: whole blocks alone, so that it can be read whenever this ends.
#[derive(Default)]
struct Copied {
    waiting: Vec<u8>,
    packets: u64,
    totals: Option<(u64, u64)>,
}

enum Fault {
    Stranger,
    Disk(io::Error),
}

impl Fault {
    fn told(self, out: &Path) -> Failure {
        match self {
            Self::Stranger => Failure::Told("what answers is no gateway, or one of another version".into()),
            Self::Disk(error) => cannot_write(out, &error),
        }
    }
}

impl Copied {
    fn blocks(&mut self, file: &mut impl io::Write) -> Result<(), Fault> {
        let mut whole = 0;
        while let Some(block) =
            first_block(self.waiting.get(whole..).unwrap_or_default()).map_err(|_| Fault::Stranger)?
        {
            whole += block.octets.len();
            self.packets += u64::from(block.is_packet);
            self.totals = block.totals.or(self.totals);
        }
        file.write_all(self.waiting.get(..whole).unwrap_or_default()).map_err(Fault::Disk)?;
        self.waiting.drain(..whole);
        Ok(())
    }
}

fn cannot_write(out: &Path, error: &io::Error) -> Failure {
    Failure::Told(format!("cannot write {}: {error}; name another file with --out", out.display()))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crosspoint_gateway::pcapng;

    use super::*;

    #[test]
    fn only_whole_blocks_reach_the_file() {
        let mut sent = Vec::new();
        pcapng::head(&mut sent, "x", "y");
        let here = "127.0.0.1:1".parse().unwrap();
        (0..3).for_each(|_| pcapng::datagram(&mut sent, SystemTime::UNIX_EPOCH, here, here, b"abc", ""));
        pcapng::end(&mut sent, SystemTime::UNIX_EPOCH, 5, 2, "z");
        let (mut copied, mut file) = (Copied::default(), Vec::new());
        for octet in &sent {
            copied.waiting.push(*octet);
            assert!(copied.blocks(&mut file).is_ok());
        }
        assert_eq!((file, copied.packets, copied.totals), (sent, 3, Some((5, 2))));
        copied.waiting = b"HTTP/1.1 200 OK\r\n".to_vec();
        assert!(matches!(copied.blocks(&mut Vec::new()), Err(Fault::Stranger)));
    }
}
