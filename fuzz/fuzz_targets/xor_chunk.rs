#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::tsdb::fuzz_xor_chunk(data));
