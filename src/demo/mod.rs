//! The demo: a gateway on loopback, two phones with different codecs, three calls, and a table of
//! what was measured in them.
//!
//! ```text
//! alice --Opus, H.264--> gateway --PCMU, H.264--> bob      transcoded sound, relayed pictures
//! alice ---PCMA--------> gateway ------PCMA-----> bob      relayed sound, against no gateway
//! alice --H.264 3.0----> gateway ---H.264 1.3---> bob      pictures scaled down, in single NAL units
//! ```
//!
//! The phones are the gateway's own parts used as a client, in the same process and on the same
//! clock: so the time between a flash and a beep, and that between sending and arriving, are real.

#![allow(clippy::cast_possible_truncation, reason = "measures count samples and pictures of our own clips")]

mod calls;
mod measure;
mod phone;
mod program;
mod report;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crosspoint_codecs::codec::CodecError;
use crosspoint_gateway::config::{ConfigError, Listen};
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver::BindError;
use crosspoint_gateway::net::media::MediaStartError;
use crosspoint_proto::Transport;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use self::calls::Stage;
use self::phone::{Home, Phone};
pub use self::report::{Report, Row};
use crate::proof::WavError;
use crate::{Config, Gateway, StartError};

/// The media ports of the demo's gateway.
const PORTS: &str = "20000-20999";

/// Why the demo could not be played to its end. A proof that fails is no error but a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The gateway did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its configuration is not taken.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A phone could not listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A phone's media could not start.
    #[error(transparent)]
    Media(#[from] MediaStartError),
    /// A codec failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A recording could not be read or written.
    #[error(transparent)]
    Wav(#[from] WavError),
    /// A file or folder could not be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A call did not come about.
    #[error("{0}")]
    Call(String),
}

/// Plays the demo on the current tokio runtime and writes what was heard and seen to `out`, which
/// is made when it is not there. `tell` is told what is going on, a line at a time. On a `shared`
/// machine figures of real time are shown, and judged ten times more mildly.
pub async fn run(out: &Path, shared: bool, tell: &mut (dyn FnMut(&str) + Send)) -> Result<Report, DemoError> {
    fs::create_dir_all(out)?;
    let data = Folder::below(out)?;
    let passwords = [secret()?, secret()?];
    let gateway = Gateway::start(configuration(&data.0, &passwords)?).await?;
    tell("the gateway listens on loopback");
    let played = play(&gateway, &passwords, out, shared, tell).await;
    gateway.stop().await;
    played
}

async fn play(
    gateway: &Gateway,
    [alice_password, bob_password]: &[String; 2],
    out: &Path,
    shared: bool,
    tell: &mut (dyn FnMut(&str) + Send),
) -> Result<Report, DemoError> {
    let clock = Clock::start();
    let (mut alice, mut bob) = (Phone::start("alice", clock)?, Phone::start("bob", clock)?);
    let home = |transport, password: &String| -> Result<Home, DemoError> {
        let found = gateway.listening().iter().find(|it| it.transport == transport);
        let Listen { address, .. } =
            *found.ok_or_else(|| DemoError::Call("the gateway does not listen".to_owned()))?;
        let realm = gateway.config().sip.realm.clone();
        Ok(Home { transport, address, realm, password: password.clone() })
    };
    let alice_home = home(Transport::Udp, alice_password)?;
    alice.register(&alice_home).await?;
    bob.register(&home(Transport::Tcp, bob_password)?).await?;
    tell("alice (UDP) and bob (TCP) are registered, proved by digest");
    let mut stage = Stage::new(gateway, clock, out, alice, bob, alice_home);
    if shared {
        stage.share();
    }
    let played = stage.play(tell).await;
    stage.stop().await;
    played
}

fn configuration(data: &Path, passwords: &[String; 2]) -> Result<Config, DemoError> {
    let mut text = format!(
        "[sip]\nlisten = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]\n\
         [media]\naddress = \"127.0.0.1\"\nports = \"{PORTS}\"\n[http]\nlisten = []\n[web]\nlisten = []\n"
    );
    for (name, password) in ["alice", "bob"].iter().zip(passwords) {
        text.push_str(&format!(
            "[[devices]]\nalias = \"{name}\"\nusername = \"{name}\"\npassword = \"{password}\"\n"
        ));
    }
    let mut config = Config::from_toml(&text, "the demo's configuration")?;
    config.data = Some(data.to_owned());
    Ok(config)
}

/// A new folder for the gateway's data, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn below(out: &Path) -> Result<Self, DemoError> {
        let path = out.join(format!("gateway-{}", secret()?));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it any more, and what is left names itself.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn secret() -> Result<String, DemoError> {
    let mut bytes = [0; 12];
    fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random() -> Result<ChaCha12Rng, DemoError> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(ChaCha12Rng::from_seed(seed))
}

fn fill(bytes: &mut [u8]) -> Result<(), DemoError> {
    getrandom::fill(bytes).map_err(|error| StartError::Randomness(error.to_string()).into())
}
