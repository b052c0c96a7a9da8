#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::tsdb::block::fuzz_index(data));
