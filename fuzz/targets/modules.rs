#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sloth_tests::fuzz::modules::run(bytes);
});
