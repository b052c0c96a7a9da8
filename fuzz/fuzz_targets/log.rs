#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::log::fuzz_log(data));
