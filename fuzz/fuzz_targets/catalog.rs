#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::catalog::fuzz_catalog(data));
