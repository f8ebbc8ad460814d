//! Prints medians and ratios of our kernels and of C libraries that do the same work, measured in
//! turns within one run. Arguments choose what is run: mix, audio, pixels, xstack, srtp; none means
//! all.
#![allow(clippy::cast_precision_loss, reason = "counts and nanoseconds of benches")]

mod audio;
mod mix;
mod pixels;
mod race;
mod srtp;
mod xstack;

/// Its name on the command line, and what it runs.
const FAMILIES: [(&str, fn()); 5] = [
    ("mix", mix::run),
    ("audio", audio::run),
    ("pixels", pixels::run),
    ("xstack", xstack::run),
    ("srtp", srtp::run),
];

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, run) in FAMILIES {
        if chosen.is_empty() || chosen.iter().any(|word| word == name) {
            run();
        }
    }
}
