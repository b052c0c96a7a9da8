#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::envelope::fuzz_envelope(data));
