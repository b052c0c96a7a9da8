#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::wire::fuzz::fuzz_snappy_stream(data));
