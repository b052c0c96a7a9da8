#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::log::object::fuzz_log_object(data));
