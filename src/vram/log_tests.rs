//! Buffer lines of real logs, of other builds and wrappers, and text that is none.

use proptest::prelude::*;

use super::BufferKind::{Compute, Kv, Lora, Model, Output, Projector, State};
use super::*;

// Shortened logs of a real llama-server (b11669), the GPU being Mesa's software Vulkan.
const PARTIAL: &str = include_str!("../../tests/data/vram/logs/gemma3-partial-vulkan.log");
const TWO_GPUS: &str = include_str!("../../tests/data/vram/logs/llama-two-gpus-vulkan.log");
const DRAFT: &str = include_str!("../../tests/data/vram/logs/llama-draft-vulkan.log");
const RECURRENT: &str = include_str!("../../tests/data/vram/logs/lfm2-cpu.log");
const FIT_PRINT: &str = include_str!("../../tests/data/vram/logs/gemma3-fit-print.txt");

/// Hundredths of a MiB in bytes.
fn mib(hundredths: u64) -> u64 {
    (hundredths * (1 << 20) + 50) / 100
}

fn only(log: &str) -> Load {
    let mut loads = read_log(log);
    assert_eq!(loads.len(), 1, "the dry run is left out");
    loads.remove(0)
}

#[test]
fn layers_on_both_sides_and_both_caches_of_sliding_windows_are_told() {
    let load = only(PARTIAL);
    assert_eq!(load.gpus(), ["Vulkan0"]);
    let gpu = Some("Vulkan0");
    assert_eq!(load.bytes(Model, gpu), mib(93));
    assert_eq!(load.bytes(Kv, gpu), mib(27) + mib(10));
    assert_eq!(load.bytes(Kv, None), mib(40));
    assert_eq!(load.bytes(Compute, gpu), mib(526));
    assert_eq!(load.bytes(Compute, None), mib(378));
    assert_eq!(load.bytes(Output, None), mib(1));
    assert_eq!(
        load.settings,
        LoggedSettings {
            ctx: Some(2048),
            parallel: Some(4),
            batch: Some(2048),
            ubatch: Some(512),
            outputs: Some(4),
            unified_kv: Some(true),
            flash_attention: Some(true),
            cache_k: TensorType::from_name("Q8_0"),
            cache_v: TensorType::from_name("Q8_0"),
            gpu_layers: Some(3),
            layers: Some(7),
        }
    );
}

#[test]
fn every_gpu_has_its_own_buffers() {
    let load = only(TWO_GPUS);
    assert_eq!(load.gpus(), ["Vulkan0", "Vulkan1"]);
    assert_eq!(load.bytes(Model, Some("Vulkan0")), mib(113));
    assert_eq!(load.bytes(Model, Some("Vulkan1")), mib(54));
    assert_eq!(load.bytes(Kv, Some("Vulkan1")), mib(50));
    // The dry run says 10.79 for this one.
    assert_eq!(load.bytes(Compute, Some("Vulkan1")), mib(979));
    assert_eq!(load.settings.flash_attention, Some(true));
    assert_eq!(load.settings.cache_k, Some(TensorType::F16));
}

#[test]
fn a_draft_model_is_a_load_of_its_own() {
    let loads = read_log(DRAFT);
    assert_eq!(loads.len(), 2);
    for load in loads {
        assert_eq!(load.bytes(Model, Some("Vulkan0")), mib(167));
        assert_eq!(load.bytes(Kv, Some("Vulkan0")), mib(200));
        assert_eq!(load.settings.layers, Some(5));
    }
}

#[test]
fn recurrent_state_and_repacked_weights_are_told() {
    let load = only(RECURRENT);
    assert_eq!(load.gpus(), [""; 0]);
    assert_eq!(load.bytes(State, None), mib(62));
    assert_eq!(load.bytes(Kv, None), mib(4800));
    let repacked = |buffer: &&Buffer| buffer.device == "CPU_REPACK";
    let repacked = load
        .buffers
        .iter()
        .find(repacked)
        .expect("repacked weights");
    assert_eq!(repacked.bytes, mib(55_575));
    let mapped = load.bytes(Model, None) - repacked.bytes;
    assert!((mib(10_500)..mib(10_700)).contains(&mapped), "{mapped}");
}

#[test]
fn fit_print_is_in_whole_mebibytes() {
    let load = read_fit_print(FIT_PRINT).expect("three devices");
    assert_eq!(load.gpus(), ["Vulkan0", "Vulkan1"]);
    assert_eq!(load.bytes(Compute, Some("Vulkan0")), 5 << 20);
    assert_eq!(load.bytes(Model, None), 1 << 20);
    assert_eq!(load.bytes(Compute, None), 3 << 20);
    assert_eq!(
        read_fit_print("-c 2048 -ngl -1\nHost 1 2\nHost a b c\n"),
        None
    );
}

#[track_caller]
fn check(line: &str, expected: Option<(&str, BufferKind, u64)>) {
    let found = buffer(line);
    let found = found.as_ref().map(|b| (b.device.as_str(), b.kind, b.bytes));
    assert_eq!(found, expected, "{line}");
}

#[test]
fn lines_of_other_builds_and_wrappers_are_understood() {
    let old = "llm_load_tensors:      CUDA0 buffer size =  3577.56 MiB";
    check(old, Some(("CUDA0", Model, mib(357_756))));
    let journal = "Nov 25 10:00:00 box ollama[7]: llama_kv_cache_unified:      ROCm0 KV buffer size =   512.00 MiB";
    check(journal, Some(("ROCm0", Kv, 512 << 20)));
    let docker =
        r#"{"log":"load_tensors: MTL0_Mapped model buffer size = 10.50 MiB\n","stream":"stderr"}"#;
    check(docker, Some(("MTL0_Mapped", Model, mib(1050))));
    let bare = "CUDA_Host  output buffer size =     1.96 MiB";
    check(bare, Some(("CUDA_Host", Output, mib(196))));
    let image = "alloc_compute_meta:      CUDA0 compute buffer size =   164.84 MiB";
    check(image, Some(("CUDA0", Projector, mib(16_484))));
    let image = "0.00.1 I reserve_compute_meta:    Vulkan0 compute buffer size =   164.84 MiB";
    check(image, Some(("Vulkan0", Projector, mib(16_484))));
    let adapter = "llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =    12.00 MiB";
    check(adapter, Some(("CUDA0", Lora, 12 << 20)));
    let compressed = "llama_kv_cache:      CUDA0 DSV4 shift state buffer size =     2.50 MiB";
    check(compressed, Some(("CUDA0", State, mib(250))));
    let remote = "load_tensors: RPC0[127.0.0.1:50052] model buffer size =   571.00 MiB";
    check(remote, Some(("RPC0[127.0.0.1:50052]", Model, 571 << 20)));
}

#[test]
fn lines_that_are_no_allocations_are_not_taken_for_them() {
    for line in [
        "~llama_context:      CUDA0 compute buffer size is   5.2637 MiB, matches expectation of   5.2637 MiB",
        "x: CUDA0 compute buffer size = 5.26 KiB",
        "x: CUDA0 compute buffer size = -5.26 MiB",
        "x: CUDA0 compute buffer size = 1e9 MiB",
        "x: CUDA0 compute buffer size = 99999999999999999 MiB",
        "x: CUDA0 scratch buffer size = 5.26 MiB",
        "entries count exceeds buffer size",
        "x: buffer size = 5.26 MiB",
    ] {
        check(line, None);
    }
}

#[test]
fn a_graph_that_is_laid_out_again_counts_once_and_a_second_context_adds() {
    let log = "load_tensors: CUDA0 model buffer size = 10.00 MiB\n\
        llama_kv_cache: CUDA0 KV buffer size = 1.00 MiB\n\
        sched_reserve: CUDA0 compute buffer size = 4.00 MiB\n\
        sched_reserve: CUDA_Host compute buffer size = 2.00 MiB\n\
        sched_reserve: CUDA0 compute buffer size = 5.00 MiB\n\
        sched_reserve: CUDA_Host compute buffer size = 3.00 MiB\n\
        llama_kv_cache: CUDA0 KV buffer size = 1.00 MiB\n\
        sched_reserve: CUDA0 compute buffer size = 6.00 MiB\n";
    let load = only(log);
    assert_eq!(load.bytes(Compute, Some("CUDA0")), 11 << 20);
    assert_eq!(load.bytes(Compute, None), 3 << 20);
    assert_eq!(load.bytes(Kv, Some("CUDA0")), 2 << 20);
}

#[test]
fn every_load_of_a_server_is_told() {
    let one =
        "load_tensors: CUDA0 model buffer size = 10.00 MiB\nx: CUDA0 KV buffer size = 1.00 MiB\n";
    assert_eq!(read_log(&one.repeat(3)).len(), 3);
    assert_eq!(read_log(""), []);
}

#[test]
fn memory_on_a_gpu_is_told_from_memory_of_the_host() {
    let gpu = |device: &str| {
        let buffer = Buffer {
            device: device.to_owned(),
            kind: Model,
            bytes: 0,
        };
        buffer.gpu().map(str::to_owned)
    };
    for host in [
        "CPU",
        "CPU_Mapped",
        "CPU_REPACK",
        "CUDA_Host",
        "Vulkan_Host",
        "Host",
    ] {
        assert_eq!(gpu(host), None, "{host}");
    }
    assert_eq!(gpu("CUDA0").as_deref(), Some("CUDA0"));
    assert_eq!(gpu("CUDA1_Split").as_deref(), Some("CUDA1"));
    assert_eq!(gpu("MTL0_Mapped").as_deref(), Some("MTL0"));
    let remote = "RPC0[my_box:50052]";
    assert_eq!(gpu(remote).as_deref(), Some(remote));
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(lines in proptest::collection::vec(
        r"[a-z_:]{0,12} ?(CUDA0|CPU|)? ?(model|KV|RS|x)? buffer size ?=? ?[0-9]{0,22}\.?[0-9]{0,9} ?(MiB)?|.{0,60}", 0..20)) {
        let log = lines.join("\n");
        let _ = read_log(&log);
        let _ = read_fit_print(&log);
    }

    #[test]
    fn sizes_are_read_to_the_byte(hundredths in 0_u64..100_000_000) {
        let line = format!("x: CUDA0 KV buffer size = {}.{:02} MiB", hundredths / 100, hundredths % 100);
        prop_assert_eq!(buffer(&line).map(|buffer| buffer.bytes), Some(mib(hundredths)));
    }
}
