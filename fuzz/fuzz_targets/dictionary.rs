#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::block::fuzz_dictionary(data));
