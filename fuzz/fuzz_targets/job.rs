#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::jobs::fuzz_job(data));
