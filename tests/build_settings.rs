//! How OpenH264 was built. Its build script says nothing when `nasm` is missing (three times
//! slower), and by itself builds without AVX2, with asserts that end the process on input that it
//! did not expect, and with a stack check in every function. The remedy is `.cargo/config.toml`,
//! which `cargo install` and builds of others do not read; so what was linked is looked at.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::time::Duration;

use crosspoint_codecs::codec::{Decoded, VideoEncoding};
use crosspoint_codecs::format::{Codec, H264Profile, PacketizationMode, VideoFormat};
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::registry::Registry;

/// Assembly that every x86-64 machine runs.
const SSE2: [&str; 3] = ["WelsSampleSad16x16_sse2", "McHorVer22Width8HorFirst_sse2", "WelsIDctT4Rec_sse2"];
/// Assembly that is there only with `HAVE_AVX2`.
const AVX2: [&str; 3] = ["WelsSampleSatd16x16_avx2", "WelsDctFourT4_avx2", "WelsQuant4x4_avx2"];
/// What an assert of the library leaves behind: the path of its source. In parts, since whole it
/// would stand in this very program.
const ASSERT: [&str; 6] = ["upstream", "codec", "encoder", "core", "src", "ref_list_mgr_svc.cpp"];
/// Where the library's own functions are.
const NAMESPACES: [&str; 2] = ["N7WelsEnc", "N7WelsDec"];

const REMEDY: &str = "install nasm, and build in this folder (or with the [env] of .cargo/config.toml); \
                      then `cargo clean -p openh264-sys2` and build again";

#[test]
fn the_assembly_is_linked() {
    let program = Program::own();
    for name in SSE2 {
        assert!(program.has(name), "OpenH264 was built without assembly ({name} is missing): {REMEDY}");
    }
    for name in AVX2 {
        assert!(program.has(name), "OpenH264 was built without AVX2 ({name} is missing): {REMEDY}");
    }
}

#[test]
fn no_assert_can_end_the_process() {
    let program = Program::own();
    let assert = ASSERT.join("/").into_bytes();
    let found = program.bytes.windows(assert.len()).any(|window| window == assert);
    assert!(!found, "OpenH264 was built with live asserts: {REMEDY}");
}

/// `mov reg, fs:0x28` loads the guard: 64 48 8b xx 25 28 00 00 00, or with `sub`/`xor` 2b/33.
#[test]
fn functions_have_no_stack_guard() {
    let program = Program::own();
    let (mut functions, mut guarded) = (0, 0);
    for symbol in &program.symbols {
        if !NAMESPACES.iter().any(|namespace| symbol.name.contains(namespace)) {
            continue;
        }
        let Some(code) = program.code(symbol) else { continue };
        functions += 1;
        guarded += usize::from(code.windows(9).any(|bytes| {
            bytes[..2] == [0x64, 0x48]
                && matches!(bytes[2], 0x8b | 0x2b | 0x33)
                && bytes[4..] == [0x25, 0x28, 0, 0, 0]
        }));
    }
    assert!(functions > 300, "only {functions} functions of OpenH264 found");
    assert_eq!(guarded, 0, "of {functions} functions of OpenH264 so many check their stack: {REMEDY}");
}

/// The library is in this program only if something uses it: one picture there and back.
#[test]
fn a_picture_goes_through_what_was_linked() {
    let registry = Registry::built_in();
    assert!(registry.supports(Codec::H264), "built without H.264");
    let encoding = VideoEncoding {
        bitrate: 500_000,
        frame_rate: 30.0,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        max_nal: None,
        sharp: false,
    };
    let format = VideoFormat {
        codec: Codec::H264,
        profile: encoding.profile,
        level: encoding.level,
        mode: PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    };
    let pool = Pool::new(2, VideoFrame::bytes(64, 64));
    let frame = VideoFrame::new(&pool, 64, 64, |planes| {
        planes.y.fill(200);
        planes.u.fill(128);
        planes.v.fill(128);
    })
    .expect("a free picture");
    let mut out = vec![0; 1 << 16];
    let mut encoder = registry.video_encoder(&format, encoding).expect("an encoder");
    let encoded = encoder.encode(&frame, Duration::ZERO, &mut out).expect("an access unit");
    let mut decoder = registry.video_decoder(&format, pool).expect("a decoder");
    let Ok(Decoded::Picture { frame, .. }) = decoder.decode(&out[..encoded.len]) else {
        panic!("no picture came back");
    };
    assert!(frame.y().iter().all(|y| y.abs_diff(200) < 4));
}

/// This test's own executable, a 64 bit ELF file.
struct Program {
    bytes: Vec<u8>,
    symbols: Vec<Symbol>,
    sections: Vec<Section>,
}

struct Symbol {
    name: String,
    address: u64,
    size: usize,
}

#[derive(Clone, Copy)]
struct Section {
    kind: u32,
    address: u64,
    offset: usize,
    size: usize,
    link: usize,
}

/// `SHT_SYMTAB`.
const SYMBOL_TABLE: u32 = 2;
/// Bytes of one entry of it: name u32, info u8, other u8, section u16, value u64, size u64.
const SYMBOL: usize = 24;

impl Program {
    fn own() -> Self {
        let path = std::env::current_exe().expect("the path of this test");
        let bytes = std::fs::read(path).expect("this test's executable");
        assert_eq!(bytes[..5], *b"\x7fELF\x02", "not a 64 bit ELF file");
        let (table, size, count) = (long(&bytes, 0x28), short(&bytes, 0x3a), short(&bytes, 0x3c));
        let sections: Vec<Section> = (0..count)
            .map(|n| {
                let at = table + n * size;
                Section {
                    kind: word(&bytes, at + 4),
                    address: u64::try_from(long(&bytes, at + 0x10)).expect("an address"),
                    offset: long(&bytes, at + 0x18),
                    size: long(&bytes, at + 0x20),
                    link: usize::try_from(word(&bytes, at + 0x28)).expect("an index"),
                }
            })
            .collect();
        let symbols = sections.iter().find(|section| section.kind == SYMBOL_TABLE);
        let symbols = symbols.expect("the executable is stripped: nothing can be said of its build");
        let names = sections[symbols.link];
        let names = &bytes[names.offset..names.offset + names.size];
        let symbols = bytes[symbols.offset..symbols.offset + symbols.size]
            .chunks_exact(SYMBOL)
            .map(|entry| {
                let start = usize::try_from(word(entry, 0)).expect("an offset");
                let name = names[start..].split(|byte| *byte == 0).next().unwrap_or(&[]);
                Symbol {
                    name: String::from_utf8_lossy(name).into_owned(),
                    address: u64::try_from(long(entry, 8)).expect("an address"),
                    size: long(entry, 16),
                }
            })
            .collect();
        Self { bytes, symbols, sections }
    }

    fn has(&self, name: &str) -> bool {
        self.symbols.iter().any(|symbol| symbol.name == name)
    }

    /// The bytes of a function.
    fn code(&self, symbol: &Symbol) -> Option<&[u8]> {
        let section = self.sections.iter().find(|section| {
            section.address != 0
                && symbol.address >= section.address
                && symbol.address - section.address < u64::try_from(section.size).unwrap_or(0)
        })?;
        let offset = section.offset + usize::try_from(symbol.address - section.address).ok()?;
        self.bytes.get(offset..offset + symbol.size).filter(|code| !code.is_empty())
    }
}

fn short(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"))).expect("64 bits")
}
