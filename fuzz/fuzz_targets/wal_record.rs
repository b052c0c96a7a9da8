#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perennial::tsdb::wal::fuzz_wal_record(data));
