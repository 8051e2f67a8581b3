//! Arbitrary bytes against the GGUF reader: no panic, no overflow, and memory in proportion to what was read.
//!
//! From the root of the repository, with the committed headers as a start (cargo-fuzz needs no nightly this way):
//!
//! ```console
//! $ mkdir -p tests/fuzz/corpus/gguf
//! $ RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz gguf tests/fuzz/corpus/gguf tests/data/vram/headers \
//!       tests/data/vram/oracle_headers tests/data/vram/written -- -max_len=20000 -malloc_limit_mb=4 -max_total_time=180
//! ```
//!
//! No single allocation can reach 4 MiB for 20 kB of input unless a length in it was believed.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    unfulfilled_lint_expectations,
    reason = "only the reader is used of the room"
)]

#[path = "../../src/vram/mod.rs"]
mod vram;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    match vram::read(&mut rest) {
        Ok(header) => {
            let _ = (
                header.vocab_size(),
                header.parameters(),
                header.tensor_bytes(),
            );
            let _ = (
                header.quantization(),
                header.layer_unsigned("block_count", 0),
            );
            assert!(header.tensors.len() <= bytes.len() / 24);
            assert!(header.metadata.0.len() <= bytes.len() / 13);
            let _ = vram::merge(vec![header]);
        }
        Err(vram::GgufError::Truncated { at, need }) => {
            assert_eq!(at, bytes.len() as u64);
            assert!(need > at);
        }
        Err(error) => assert!(error.to_string().len() < 500),
    }
    let _ = vram::read_log(&String::from_utf8_lossy(bytes));
});
