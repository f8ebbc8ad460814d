//! Seeds of the fuzz targets, and inputs that once broke something, as plain tests.

// The library of the fuzz crate, which is a workspace of its own.
#[path = "fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod targets;

use std::path::{Path, PathBuf};

/// The files of a folder in order; none when there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// A panic is shown under the name of its file.
fn replay(target: &str, files: &[PathBuf]) {
    for file in files {
        println!("{target}: {}", file.display());
        targets::run(target, &std::fs::read(file).expect("a readable file"));
    }
}

#[test]
fn what_once_broke_a_target_does_not_again() {
    for (target, _) in targets::TARGETS {
        replay(target, &files(&fuzz().join("regressions").join(target)));
    }
    let names: Vec<_> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    for folder in files(&fuzz().join("regressions")) {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with('.') || names.contains(&name.as_str()), "no target {name}");
    }
}

#[test]
fn every_target_has_seeds_and_takes_them() {
    let torture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/torture");
    for (target, _) in targets::TARGETS {
        let mut seeds = files(&fuzz().join("seeds").join(target));
        if ["sip_message", "sip_stream"].contains(target) {
            seeds.extend(files(&torture.join("rfc4475")));
            seeds.extend(files(&torture.join("rfc5118")));
        }
        assert!(!seeds.is_empty(), "{target} has no seeds");
        replay(target, &seeds);
    }
}

#[test]
fn every_target_is_built() {
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    for (target, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in Cargo.toml");
        assert!(fuzz().join(format!("targets/{target}.rs")).exists(), "{target} has no file");
    }
    assert_eq!(manifest.matches("{ name = \"").count(), targets::TARGETS.len());
}
