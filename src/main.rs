//! The command line: arguments, logging, signals and exit codes. Everything else is the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

mod cli;

fn main() -> ExitCode {
    match cli::execute(cli::Arguments::parse(), std::env::var_os(cli::NOTIFY_SOCKET)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("crosspoint: {failure}");
            failure.exit_code()
        }
    }
}
