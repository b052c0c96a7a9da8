#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::archive::fuzz_digest(data));
