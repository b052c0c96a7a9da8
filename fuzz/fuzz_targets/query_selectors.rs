#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::store::fuzz_query_selectors(data));
