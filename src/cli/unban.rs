//! `crosspoint unban`: lifts a ban of the gateway that runs.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;

use super::ask::{Management, escaped};
use super::{Failure, Setting, print};

/// Which.
#[derive(Debug, Args)]
pub(super) struct Unban {
    /// The source's address, as crosspoint status shows it; of IPv6 any in its /64.
    address: IpAddr,
}

impl Unban {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        let address = self.address;
        let path = format!("/status/bans/{}", escaped(&address.to_string()));
        let answer = Management::of(setting)?.ask("DELETE", &path, None)?;
        if answer["lifted"] == true {
            return print(&format!("{address} is read again\n"));
        }
        Err(Failure::Told(format!("{address} is not banned: see crosspoint status")))
    }
}
