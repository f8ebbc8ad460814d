//! The map of who may know whom, held against the code: from what cargo says of the crates, and
//! from a scan of their sources. Tests within the sources are left out: they may do more.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Crates of the workspace and the others of it that each may use.
const MAP: &[(&str, &[&str])] = &[
    ("crosspoint", &["crosspoint-gateway", "crosspoint-proto", "crosspoint-codecs"]),
    ("crosspoint-gateway", &["crosspoint-proto", "crosspoint-codecs"]),
    ("crosspoint-proto", &["crosspoint-codecs"]),
    ("crosspoint-codecs", &[]),
];

/// What a crate without sockets, threads, clock and randomness of its own cannot depend on.
const WORLD: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "rustix",
    "libc",
    "getrandom",
    "rand",
    "quinn-udp",
    "async-std",
    "hickory-resolver",
];

/// What such a crate cannot say either.
const ASKS_THE_WORLD: &[&str] = &[
    "tokio::",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::ToSocketAddrs",
    "std::thread",
    "std::fs",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    "getrandom",
    "thread_rng",
    "OsRng",
    "SysRng",
    "rand::rng",
];

struct Rule {
    /// What it is about, for the failure.
    says: &'static str,
    /// Files that it holds for: paths from the root that begin so.
    within: &'static [&'static str],
    /// Except these.
    except: &'static [&'static str],
    /// What none of them may contain, outside comments and strings.
    never: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        says: "proto has no sockets, threads, clock or randomness of its own",
        within: &["gateway/proto/src/"],
        except: &[],
        never: ASKS_THE_WORLD,
    },
    Rule {
        says: "codecs have no sockets, threads or clock of their own",
        within: &["codecs/src/"],
        except: &[],
        never: ASKS_THE_WORLD,
    },
    Rule {
        says: "codecs know nothing of RTP, SDP, legs and conferences",
        within: &["codecs/src/"],
        except: &[],
        never: &["crosspoint_proto", "crosspoint_gateway", "rtp_rs", "rtcp_types", "sdp_types", "rsip"],
    },
    Rule {
        says: "media never knows a protocol",
        within: &["gateway/src/media/"],
        except: &[],
        never: &[
            "crosspoint_proto",
            "crate::leg",
            "crate::conference",
            "crate::registrar",
            "crate::routing",
            "crate::admission",
            "crate::net",
        ],
    },
    Rule {
        says: "nobody imports the API",
        within: &["gateway/src/"],
        except: &["gateway/src/api/", "gateway/src/lib.rs"],
        never: &["crate::api", "super::api"],
    },
    Rule {
        says: "legs, sockets, registrar and routing do not know the conference",
        within: &["gateway/src/leg/", "gateway/src/net/", "gateway/src/registrar/", "gateway/src/routing/"],
        except: &[],
        never: &["crate::conference", "crate::api", "crate::admission"],
    },
    Rule {
        says: "plan, policy, layout, order and floor are pure",
        within: &[
            "gateway/src/conference/plan",
            "gateway/src/conference/policy",
            "gateway/src/conference/layout",
            "gateway/src/conference/order",
            "gateway/src/conference/floor",
        ],
        except: &[],
        never: &[
            "tokio",
            "async ",
            ".await",
            "Instant::now",
            "SystemTime::now",
            "std::net::UdpSocket",
            "Mutex",
        ],
    },
    Rule {
        says: "routing and the bindings' rules are pure",
        within: &["gateway/src/routing/", "gateway/src/registrar/bindings.rs", "gateway/src/alias.rs"],
        except: &[],
        never: &["tokio", "async ", ".await", "Instant::now", "SystemTime::now", "std::fs", "rusqlite"],
    },
    Rule {
        says: "the guard's rules are pure",
        within: &["gateway/src/guard/"],
        except: &["gateway/src/guard/gate.rs", "gateway/src/guard/porter.rs", "gateway/src/guard/store.rs"],
        never: &["tokio", "async ", ".await", "Instant::now", "SystemTime::now", "rusqlite", "Mutex"],
    },
    Rule {
        says: "only main reads arguments and environment, ends the process or handles signals",
        within: &["codecs/src/", "gateway/proto/src/", "gateway/src/", "src/"],
        except: &["src/main.rs", "src/cli/"],
        never: &["std::env::", "env::var", "env::args", "process::exit", "tokio::signal", "clap"],
    },
    Rule {
        says: "even the commands read arguments through main",
        within: &["src/cli/"],
        except: &[],
        never: &["std::env::", "env::var", "env::args", "process::exit"],
    },
    Rule {
        says: "no global state: the host of several gateways has its own provider, logger and panic hook",
        within: &["codecs/src/", "gateway/proto/src/", "gateway/src/", "src/gateway"],
        except: &[],
        never: &["install_default", "set_global_default", "set_hook", "try_init()", "static mut"],
    },
];

#[test]
fn crates_depend_on_each_other_as_the_map_has_it() {
    let packages = packages();
    for (name, allowed) in MAP {
        let package = packages.iter().find(|it| it.name.as_str() == *name).unwrap();
        let ours: BTreeSet<&str> =
            normal(package).filter(|it| MAP.iter().any(|(name, _)| name == it)).collect();
        for dependency in ours {
            assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
    assert_eq!(packages.len(), MAP.len(), "a crate without a place on the map");
}

#[test]
fn machines_and_codecs_have_no_road_to_the_world() {
    for package in packages() {
        if ["crosspoint-proto", "crosspoint-codecs"].contains(&package.name.as_str()) {
            for dependency in normal(&package) {
                assert!(!WORLD.contains(&dependency), "{} must not depend on {dependency}", package.name);
            }
        }
    }
}

#[test]
fn sources_say_nothing_that_the_map_forbids() {
    let sources = sources();
    let mut faults = Vec::new();
    for rule in RULES {
        let files: Vec<_> = sources.iter().filter(|(path, _)| rule.holds_for(path)).collect();
        // Policy and floor come later; everything else is there.
        assert!(!files.is_empty(), "no file for: {}", rule.says);
        for (path, text) in files {
            for (line, code) in code_lines(text) {
                for never in rule.never.iter().filter(|never| says(&code, never)) {
                    faults.push(format!("{path}:{line}: {never}: {}", rule.says));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Files of the SIP machine that follow no RFC, and why.
const WITHOUT_RFC: &[(&str, &str)] = &[("schedule.rs", "deadlines by key: it does not know what falls due")];

/// A file of the SIP machine is never as long as this.
const SIP_FILE: usize = 800;

#[test]
fn every_file_of_the_sip_machine_is_short_and_names_the_rules_that_it_follows() {
    let mut without: BTreeSet<&str> = WITHOUT_RFC.iter().map(|(file, _)| *file).collect();
    for (path, text) in sources() {
        let Some(file) = path.strip_prefix("gateway/proto/src/sip/") else { continue };
        assert!(text.lines().count() < SIP_FILE, "{path} is too long: split it");
        match (names_a_section(&text), without.remove(file)) {
            (true, true) => panic!("{path} names a section, and is said to need none"),
            (false, false) => panic!("{path} says nowhere which section of which RFC it follows"),
            _ => {}
        }
    }
    assert!(without.is_empty(), "no such files: {without:?}");
}

/// Whether a comment says "RFC 3261 section 8.2", on one line or on two.
fn names_a_section(text: &str) -> bool {
    let comments = text.lines().filter_map(|line| line.trim().split_once("//"));
    let words: Vec<&str> = comments.flat_map(|(_, text)| text.split_whitespace()).collect();
    let number = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
    let is = |four: &[&str]| {
        four[0].ends_with("RFC") && number(four[1]) && four[2].starts_with("section") && number(four[3])
    };
    // What marks a line as documentation is no word of it.
    let words: Vec<&str> = words.into_iter().filter(|word| !["/", "!"].contains(word)).collect();
    words.windows(4).any(is)
}

#[test]
fn a_section_is_seen_in_comments_only() {
    assert!(names_a_section("//! Dialogs (RFC 3261 section 12): what.\n"));
    assert!(names_a_section("    /// goes there (RFC 3261\n    /// sections 8.1 and 9).\n"));
    for text in ["//! SIP (RFC 3261).", "// section 8 of it", "let x = \"RFC 3261 section 12\";"] {
        assert!(!names_a_section(text), "{text}");
    }
}

#[test]
fn a_leg_never_knows_another_kind_of_leg() {
    let root = root().join("gateway/src/leg");
    let mut kinds: Vec<String> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|kind| kind != "mod")
        .collect();
    kinds.sort();
    kinds.dedup();
    assert!(kinds.contains(&"sip".to_owned()), "{kinds:?}");
    for (path, text) in sources() {
        let Some(rest) = path.strip_prefix("gateway/src/leg/") else { continue };
        let own = rest.split(['/', '.']).next().unwrap();
        for other in kinds.iter().filter(|kind| *kind != own && own != "mod") {
            for (line, code) in code_lines(&text) {
                let road =
                    says(&code, &format!("leg::{other}")) || code.contains(&format!("super::{other}::"));
                assert!(!road, "{path}:{line}: leg {own} must not know leg {other}");
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_where_promised() {
    for file in ["src/main.rs", "src/lib.rs", "gateway/src/lib.rs"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file} must forbid unsafe code");
    }
    let proto = fs::read_to_string(root().join("gateway/proto/Cargo.toml")).unwrap();
    for promise in [
        "unsafe_code = \"forbid\"",
        "unwrap_used = \"deny\"",
        "expect_used = \"deny\"",
        "panic = \"deny\"",
        "indexing_slicing = \"deny\"",
        "arithmetic_side_effects = \"deny\"",
        "cast_possible_truncation = \"deny\"",
    ] {
        assert!(proto.contains(promise), "gateway/proto/Cargo.toml must say {promise}");
    }
    let codecs = fs::read_to_string(root().join("codecs/src/lib.rs")).unwrap();
    assert!(codecs.contains("#![deny(unsafe_code)]"));
    for (path, text) in sources() {
        if path.starts_with("codecs/") && text.contains("allow(unsafe_code") {
            let explained =
                text.lines().any(|line| line.contains("allow(unsafe_code") && line.contains("reason"));
            assert!(explained, "{path} allows unsafe code without a reason");
        }
    }
}

/// Promise 19: caps times sizes, and their sum, in the documentation; caps as the code has them.
#[test]
fn promise_19_all_caps_together_are_what_the_table_says() {
    let text = fs::read_to_string(root().join("gateway/docs/limits.md")).unwrap();
    let table = text.split("## All caps at once").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| What"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let (last, caps) = rows.split_last().unwrap();
    let mut sum = 0;
    for row in caps {
        let number = |column: usize| row[column].parse::<u64>().unwrap();
        assert_eq!(number(3), (number(1) * number(2) + (1 << 19)) >> 20, "{row:?}");
        sum += number(3);
    }
    assert_eq!(last[3], sum.to_string(), "the sum");
    let limits = crosspoint_gateway::config::Limits::default();
    for (what, cap) in [
        ("`limits.calls`", 2 * limits.calls),
        ("`limits.transactions` of peers", limits.transactions),
        ("`limits.transactions` of ours", limits.transactions),
        ("`limits.connections`", limits.connections),
        ("`limits.registrations`", limits.registrations),
        ("`limits.web_connections`", limits.web_connections),
    ] {
        let row =
            caps.iter().find(|row| row[0].starts_with(what)).unwrap_or_else(|| panic!("no row of {what}"));
        assert_eq!(row[1], cap.to_string(), "{what}");
    }
}

#[test]
fn every_program_of_tests_is_in_a_stage() {
    // Those of other names are in the stage of unit tests by themselves.
    let slow =
        |name: &str| name == "demo" || ["interop_", "system_", "gate_"].iter().any(|it| name.starts_with(it));
    let stages = fs::read_to_string(root().join("tests/stages")).unwrap();
    let words: Vec<&str> = stages.split_whitespace().collect();
    for folder in ["tests", "gateway/tests"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let is_program = path.extension().is_some_and(|it| it == "rs");
            assert!(
                !is_program || !slow(name) || words.contains(&name),
                "{name} is in no stage of tests/stages"
            );
        }
    }
}

#[test]
fn the_scan_sees_code_and_nothing_else() {
    let text = "//! tokio::spawn\nuse tokio::net; // std::env::var\nlet x = \"std::env::var\"; /* clap */\n\
                fn f() { my_tokio::x(); }\n#[cfg(test)]\nmod tests {\n    use std::env::args;\n}\n";
    let found: Vec<_> = code_lines(text)
        .into_iter()
        .flat_map(|(line, code)| {
            ["tokio", "std::env", "clap"]
                .into_iter()
                .filter(move |never| says(&code, never))
                .map(move |it| (line, it))
        })
        .collect();
    assert_eq!(found, [(2, "tokio")]);
    let declared = "#[cfg(test)]\npub(super) mod tests;\n#[cfg(test)]\nmod table;\nuse tokio::net;\n";
    assert_eq!(test_files("src/a/mod.rs", declared), ["src/a/tests", "src/a/table"]);
    assert!(code_lines(declared).iter().any(|(line, code)| *line == 5 && says(code, "tokio")));
}

impl Rule {
    fn holds_for(&self, path: &str) -> bool {
        let starts = |list: &[&str]| list.iter().any(|it| path.starts_with(it));
        starts(self.within) && !starts(self.except)
    }
}

/// Whether `code` has `word`, not as the end of a longer name.
fn says(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code.get(..at).unwrap().ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

/// Lines with their numbers, without comments, strings, and the tests at the end.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut test_next = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        // One that is in a file of its own may stand anywhere.
        if test_next && line.starts_with("mod ") && line.ends_with('{') {
            break;
        }
        test_next = line == "#[cfg(test)]";
        if line.starts_with("//") {
            continue;
        }
        lines.push((index + 1, without_strings(line)));
    }
    lines
}

fn without_strings(line: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', _) if quoted => {
                chars.next();
            }
            ('"', _) => quoted = !quoted,
            _ if quoted => {}
            ('/', Some('/')) => break,
            ('/', Some('*')) => {
                while let Some(c) = chars.next() {
                    if c == '*' && chars.peek() == Some(&'/') {
                        break;
                    }
                }
            }
            _ => out.push(c),
        }
    }
    out
}

/// Every source of the four crates but for tests in files of their own, with its path.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["src", "codecs/src", "gateway/proto/src", "gateway/src"] {
        walk(&root().join(folder), &mut files);
    }
    let mut sources: Vec<(String, String)> = files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), text)
        })
        .collect();
    // A file whose whole content is declared as a test where it is included.
    let tests: BTreeSet<String> = sources.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    sources.retain(|(path, _)| !tests.iter().any(|test| path.starts_with(test.as_str())));
    assert!(sources.len() > 50, "the scan found {} files only", sources.len());
    sources
}

/// Paths, without extension, of modules that are declared under `#[cfg(test)]`.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let path = Path::new(path);
    let stem = path.file_stem().unwrap().to_string_lossy();
    let folder = path.parent().unwrap();
    let folder = if ["mod", "lib", "main"].contains(&stem.as_ref()) {
        folder.to_path_buf()
    } else {
        folder.join(&*stem)
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].starts_with("#[cfg(") && pair[0].contains("test"))
        .filter_map(|pair| {
            let (seen_by, name) = pair[1].split_once("mod ")?;
            (seen_by.is_empty() || seen_by.starts_with("pub")).then(|| name.strip_suffix(';'))?
        })
        .map(|name| folder.join(name).to_string_lossy().into_owned())
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .unwrap();
    metadata.workspace_packages().into_iter().cloned().collect()
}

fn normal(package: &Package) -> impl Iterator<Item = &str> {
    let its = package.dependencies.iter().filter(|it| it.kind == DependencyKind::Normal);
    its.map(|it| it.name.as_str())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
