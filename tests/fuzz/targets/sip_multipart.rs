#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| crosspoint_fuzz::run("sip_multipart", data));
