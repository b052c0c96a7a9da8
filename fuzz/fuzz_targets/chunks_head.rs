#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::restore::fuzz_chunks_head(data));
