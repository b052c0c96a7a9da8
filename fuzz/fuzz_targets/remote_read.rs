#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::wire::fuzz_read::fuzz_remote_read(data));
