//! What must hold for every estimate, whatever the model and the settings.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::vram::{
    CacheType, Estimate, Extras, Header, Metadata, Offload, Runtime, Settings, Shape, ShapeError,
    Subject, Tensor, TensorType, Value, estimate, estimate_with,
};

/// A header with these figures under its architecture and a table of tensors.
fn header(
    architecture: &str,
    figures: &[(&str, Value)],
    tensors: &[(&str, u32, &[u64])],
) -> Header {
    let mut metadata = BTreeMap::from([(
        "general.architecture".to_owned(),
        Value::Text(architecture.to_owned()),
    )]);
    for (key, value) in figures {
        metadata.insert(format!("{architecture}.{key}"), value.clone());
    }
    let tensors = tensors
        .iter()
        .map(|&(name, kind, dims)| Tensor {
            name: name.to_owned(),
            kind: TensorType(kind),
            dims: dims.to_vec(),
        })
        .collect();
    Header {
        metadata: Metadata(metadata),
        tensors,
        ..Header::default()
    }
}

/// A llama of these sizes, F16 and tied.
fn llama(layers: u64, width: u64, kv_heads: u64, experts: u64) -> Header {
    let mut figures = vec![
        ("block_count", Value::Unsigned(layers)),
        ("embedding_length", Value::Unsigned(width)),
        ("context_length", Value::Unsigned(131_072)),
        ("vocab_size", Value::Unsigned(32_000)),
        ("attention.head_count", Value::Unsigned(32)),
        ("attention.head_count_kv", Value::Unsigned(kv_heads)),
        ("attention.key_length", Value::Unsigned(128)),
        ("attention.value_length", Value::Unsigned(128)),
    ];
    let mut named: Vec<(String, Vec<u64>)> =
        vec![("token_embd.weight".to_owned(), vec![width, 32_000])];
    for layer in 0..layers {
        let mut add =
            |name: &str, dims: &[u64]| named.push((format!("blk.{layer}.{name}"), dims.to_vec()));
        add("attn_norm.weight", &[width]);
        add("attn_q.weight", &[width, 4096]);
        add("attn_k.weight", &[width, kv_heads * 128]);
        add("attn_v.weight", &[width, kv_heads * 128]);
        add("attn_output.weight", &[4096, width]);
        add("ffn_norm.weight", &[width]);
        if experts == 0 {
            for name in ["ffn_gate.weight", "ffn_up.weight"] {
                add(name, &[width, width * 3]);
            }
            add("ffn_down.weight", &[width * 3, width]);
        } else {
            add("ffn_gate_inp.weight", &[width, experts]);
            for name in ["ffn_gate_exps.weight", "ffn_up_exps.weight"] {
                add(name, &[width, 768, experts]);
            }
            add("ffn_down_exps.weight", &[768, width, experts]);
        }
    }
    if experts > 0 {
        figures.push(("expert_count", Value::Unsigned(experts)));
        figures.push(("expert_used_count", Value::Unsigned(2)));
    }
    let tensors: Vec<(&str, u32, &[u64])> = named
        .iter()
        .map(|(name, dims)| (name.as_str(), 1, dims.as_slice()))
        .collect();
    header("llama", &figures, &tensors)
}

fn shape(header: &Header) -> Shape {
    Shape::of(header).expect("a shape")
}

fn subject(header: &Header) -> Subject {
    Subject::Shaped(Box::new(shape(header)))
}

fn total(estimate: &Estimate) -> u64 {
    estimate
        .devices
        .iter()
        .map(crate::vram::Parts::total_bytes)
        .sum()
}

fn weights(estimate: &Estimate) -> u64 {
    estimate.host.weights_bytes
        + estimate
            .devices
            .iter()
            .map(|parts| parts.weights_bytes)
            .sum::<u64>()
}

/// Shares, layers on GPUs and layers whose experts stay in RAM.
fn offload() -> impl Strategy<Value = Offload> {
    (
        prop::collection::vec(0.1..10.0_f64, 1..6),
        prop::option::of(0_u32..20),
        0_u32..12,
    )
        .prop_map(|(split, gpu_layers, cpu_experts)| Offload {
            split,
            gpu_layers,
            cpu_experts,
        })
}

proptest! {
    #[test]
    fn more_context_slots_or_tokens_never_take_less(
        layers in 1_u64..12, kv_heads in 1_u64..16, experts in prop::sample::select(vec![0_u64, 8]),
        ctx in 1_u64..60_000, more in 0_u64..60_000, slots in 1_u32..6, ubatch in 1_u64..1500, flash: bool, unified: bool,
    ) {
        let subject = subject(&llama(layers, 2048, kv_heads, experts));
        let Subject::Shaped(shape) = &subject else { unreachable!() };
        let settings = Settings {
            ctx, parallel: slots, ubatch, flash_attention: flash, unified_kv: unified, ..Settings::defaults(Runtime::LlamaServer, shape)
        };
        let size = |settings: Settings| {
            let estimate = estimate(&subject, &settings, &Offload::single());
            (estimate.devices[0].kv_bytes, estimate.devices[0].total_bytes())
        };
        let base = size(settings);
        let longer = size(Settings { ctx: ctx + more, ..settings });
        prop_assert!(longer.0 >= base.0 && longer.1 >= base.1, "{longer:?} {base:?}");
        let wider = size(Settings { ubatch: ubatch + more.min(500), ..settings });
        prop_assert!(wider.1 >= base.1, "{wider:?} {base:?}");
        // Sequences with a cache each share the context; each share is rounded up.
        let shared = size(Settings { parallel: slots + 1, unified_kv: true, ..settings });
        let alone = size(Settings { unified_kv: true, ..settings });
        prop_assert!(shared.0 >= alone.0, "{:?} {:?}", shared, alone);
    }

    #[test]
    fn nothing_is_lost_between_devices(
        layers in 1_u64..12, experts in prop::sample::select(vec![0_u64, 8]), offload in offload(), op_offload: bool,
    ) {
        let header = llama(layers, 1024, 4, experts);
        let subject = subject(&header);
        let Subject::Shaped(shape) = &subject else { unreachable!() };
        let settings = Settings { op_offload, ..Settings::defaults(Runtime::LlamaServer, shape) };
        let estimate = estimate(&subject, &settings, &offload);
        let on_gpu = offload.gpu_layers.is_none_or(|layers| layers > 0);
        let copy = if on_gpu { shape.tied_bytes } else { 0 };
        prop_assert_eq!(weights(&estimate), header.tensor_bytes().expect("known types") + copy);
        let held: u32 = estimate.devices.iter().map(|parts| parts.layers).sum::<u32>() + estimate.host.layers;
        prop_assert_eq!(held, subject.gpu_layers());
        let single = crate::vram::estimate(&subject, &settings, &Offload::single());
        let kv: u64 = estimate.devices.iter().map(|parts| parts.kv_bytes).sum::<u64>() + estimate.host.kv_bytes;
        prop_assert_eq!(kv, single.devices[0].kv_bytes);
    }

    #[test]
    fn a_hostile_header_is_refused_or_saturates(
        figures in prop::collection::vec((key(), value()), 0..24),
        architecture in prop::sample::select(vec!["llama", "gemma3", "gemma3n", "deepseek2", "mamba", "qwen35", "rwkv7", "lfm2", "bert", "nope"]),
        layers in 0_u64..8, width in prop_oneof![1_u64..9000, Just(u64::MAX)],
        tensors in prop::collection::vec((tensor_name(), prop_oneof![20 => 0_u32..2, 1 => 0_u32..45], prop::collection::vec(dimension(), 0..5)), 0..24),
        ctx: u64, parallel: u32, ubatch: u64, flash: bool, offload in offload(),
    ) {
        // Later figures replace these, so that most headers get beyond the first checks and some do not.
        let sane = [("block_count", Value::Unsigned(layers)), ("embedding_length", Value::Unsigned(width))];
        let figures: Vec<(&str, Value)> = sane.into_iter().chain(figures.iter().map(|(key, value)| (*key, value.clone()))).collect();
        let tensors: Vec<(&str, u32, &[u64])> = tensors.iter().map(|(name, kind, dims)| (name.as_str(), *kind, dims.as_slice())).collect();
        let header = header(architecture, &figures, &tensors);
        if let Ok(shape) = Shape::of(&header) {
            for runtime in [Runtime::LlamaServer, Runtime::Vllm] {
                let settings = Settings {
                    ctx, parallel, ubatch, flash_attention: flash, cache_k: CacheType::Q8_0, ..Settings::defaults(runtime, &shape)
                };
                let extras = Extras { projector: Some(&header), draft: Some(&shape) };
                let subject = Subject::Shaped(Box::new(shape.clone()));
                let _ = estimate_with(&subject, &settings, &offload, extras);
            }
        }
    }
}

/// Keys that decide sizes.
fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "block_count",
        "embedding_length",
        "context_length",
        "vocab_size",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.key_length_mla",
        "attention.value_length_mla",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "attention.shared_kv_layers",
        "expert_count",
        "expert_used_count",
        "nextn_predict_layers",
        "full_attention_interval",
        "ssm.inner_size",
        "ssm.state_size",
        "ssm.conv_kernel",
        "ssm.group_count",
        "ssm.time_step_rank",
        "wkv.head_size",
        "token_shift_count",
        "shortconv.l_cache",
        "kda.head_dim",
        "rope.dimension_count",
        "embedding_length_per_layer_input",
    ])
}

fn dimension() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..600,
        Just(4096),
        Just(u64::MAX),
        Just(1 << 40),
        any::<u64>()
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        dimension().prop_map(Value::Unsigned),
        any::<i64>().prop_map(Value::Signed),
        any::<f64>().prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
        prop::collection::vec(prop_oneof![any::<f64>(), 0.0..64.0_f64], 0..8)
            .prop_map(Value::Numbers),
        any::<u64>().prop_map(Value::Length),
    ]
}

fn tensor_name() -> impl Strategy<Value = String> {
    let rest = prop::sample::select(vec![
        "attn_q.weight",
        "attn_k.weight",
        "attn_qkv.weight",
        "ffn_up.weight",
        "ffn_down.weight",
        "ffn_gate_exps.weight",
        "ffn_down_exps.weight",
        "ffn_down_shexp.weight",
        "time_mix_lerp_fused.weight",
        "laurel_l.weight",
    ]);
    prop_oneof![
        (any::<u8>(), rest).prop_map(|(layer, rest)| format!("blk.{layer}.{rest}")),
        prop::sample::select(vec![
            "token_embd.weight",
            "output.weight",
            "altup_proj.weight",
            "v.patch.weight"
        ])
        .prop_map(str::to_owned),
    ]
}

#[test]
fn a_quantised_cache_is_as_much_smaller_as_its_blocks() {
    let subject = subject(&llama(8, 2048, 8, 0));
    let Subject::Shaped(shape) = &subject else {
        unreachable!()
    };
    let settings = Settings::defaults(Runtime::LlamaServer, shape);
    let kv = |kind: CacheType| {
        let settings = Settings {
            cache_k: kind,
            cache_v: kind,
            ..settings
        };
        estimate(&subject, &settings, &Offload::single()).devices[0].kv_bytes
    };
    assert_eq!(kv(CacheType::F16), 8 * 8192 * 8 * 128 * 2 * 2);
    assert_eq!(kv(CacheType::Q8_0) * 64, kv(CacheType::F16) * 34);
    assert_eq!(kv(CacheType::Q4_0) * 64, kv(CacheType::F16) * 18);
}

#[test]
fn cuda_copies_one_layer_of_a_quantised_cache() {
    let subject = subject(&llama(8, 2048, 8, 0));
    let Subject::Shaped(shape) = &subject else {
        unreachable!()
    };
    let settings = Settings {
        ctx: 131_072,
        cache_k: CacheType::Q8_0,
        cache_v: CacheType::Q8_0,
        ..Settings::defaults(Runtime::LlamaServer, shape)
    };
    let compute = |scratch: bool| {
        let settings = Settings {
            cuda_kv_scratch: scratch,
            ..settings
        };
        estimate(&subject, &settings, &Offload::single()).devices[0].compute_bytes
    };
    let copy = 131_072 * 2 * 8 * 128 * 2;
    let more = compute(true) - compute(false);
    // It lies where the feed-forward's tensors are later.
    assert!(
        more <= copy && more > copy - 64 * 1024 * 1024,
        "{more} of {copy}"
    );
}

#[test]
fn experts_in_ram_leave_the_gpu() {
    let subject = subject(&llama(8, 2048, 8, 8));
    assert_eq!(subject.expert_layers(), 8);
    let Subject::Shaped(shape) = &subject else {
        unreachable!()
    };
    let settings = Settings::defaults(Runtime::LlamaServer, shape);
    let with = |cpu_experts: u32| {
        estimate(
            &subject,
            &settings,
            &Offload {
                cpu_experts,
                ..Offload::single()
            },
        )
    };
    let (none, half, all) = (with(0), with(4), with(100));
    let experts: u64 = shape.layers.iter().map(|layer| layer.expert_bytes).sum();
    assert_eq!(
        none.devices[0].weights_bytes - all.devices[0].weights_bytes,
        experts
    );
    assert_eq!(
        none.devices[0].weights_bytes - half.devices[0].weights_bytes,
        experts / 2
    );
    assert_eq!(all.devices[0].kv_bytes, none.devices[0].kv_bytes);
    assert!(shape.active_parameters < shape.parameters);
}

#[test]
fn a_size_alone_is_all_weights() {
    let subject = Subject::Sized { bytes: 1000 };
    let shape = shape(&llama(1, 1024, 4, 0));
    let settings = Settings::defaults(Runtime::Ollama, &shape);
    let offload = Offload {
        split: vec![3.0, 1.0],
        ..Offload::single()
    };
    let estimate = estimate(&subject, &settings, &offload);
    assert_eq!(
        estimate
            .devices
            .iter()
            .map(|parts| parts.weights_bytes)
            .collect::<Vec<_>>(),
        [750, 250]
    );
    assert_eq!(estimate.warnings.len(), 1);
    let host = crate::vram::estimate(&subject, &settings, &Offload::cpu());
    assert_eq!((host.host.weights_bytes, host.devices.len()), (1000, 0));
    assert_eq!(
        (
            subject.gpu_layers(),
            subject.expert_layers(),
            subject.max_context()
        ),
        (1, 0, None)
    );
}

#[test]
fn an_unknown_architecture_is_told() {
    let mut header = llama(2, 1024, 4, 0);
    for (key, value) in header.metadata.0.clone() {
        header
            .metadata
            .0
            .insert(key.replace("llama.", "nobodys."), value);
    }
    header.metadata.0.insert(
        "general.architecture".to_owned(),
        Value::Text("nobodys".to_owned()),
    );
    let shape = shape(&header);
    let settings = Settings::defaults(Runtime::LlamaServer, &shape);
    let estimate = estimate(
        &Subject::Shaped(Box::new(shape)),
        &settings,
        &Offload::single(),
    );
    assert!(
        estimate.warnings[0].contains("`nobodys` is not known here"),
        "{:?}",
        estimate.warnings
    );
    assert!(estimate.devices[0].kv_bytes > 0);
}

#[test]
fn what_is_no_model_is_refused() {
    assert_eq!(
        Shape::of(&Header::default()),
        Err(ShapeError::NoArchitecture)
    );
    assert_eq!(
        Shape::of(&header("clip", &[], &[])),
        Err(ShapeError::NotAModel("clip".to_owned()))
    );
    assert_eq!(
        Shape::of(&header("llama", &[], &[])),
        Err(ShapeError::NoTensors)
    );
    let strange = header("llama", &[], &[("token_embd.weight", 99, &[1, 1])]);
    assert!(matches!(Shape::of(&strange), Err(ShapeError::Types(_))));
    let keyless = header("llama", &[], &[("token_embd.weight", 1, &[1, 1])]);
    assert_eq!(
        Shape::of(&keyless),
        Err(ShapeError::Key("llama.block_count".to_owned()))
    );
}

#[test]
fn defaults_follow_the_runtime() {
    let shape = shape(&llama(1, 1024, 4, 0));
    let server = Settings::defaults(Runtime::LlamaServer, &shape);
    assert_eq!(
        (
            server.ctx,
            server.parallel,
            server.unified_kv,
            server.batch,
            server.ubatch
        ),
        (8192, 4, true, 2048, 512)
    );
    let ollama = Settings::defaults(Runtime::Ollama, &shape);
    assert_eq!(
        (
            ollama.ctx,
            ollama.parallel,
            ollama.unified_kv,
            ollama.batch,
            ollama.batch_logits
        ),
        (4096, 1, false, 512, false)
    );
    assert!(Settings::defaults(Runtime::LlamaCli, &shape).batch_logits);
}

#[test]
fn vllm_keeps_every_layer_and_copies_nothing() {
    let header = llama(4, 1024, 4, 0);
    let subject = subject(&header);
    let Subject::Shaped(shape) = &subject else {
        unreachable!()
    };
    let settings = Settings::defaults(Runtime::Vllm, shape);
    let estimate = estimate(&subject, &settings, &Offload::single());
    assert_eq!(
        estimate.devices[0].weights_bytes,
        header.tensor_bytes().expect("known types")
    );
    assert_eq!(estimate.devices[0].kv_bytes, 4 * 8192 * 4 * 128 * 2 * 2);
    assert!(estimate.warnings[0].contains("gpu_memory_utilization"));
}

#[test]
fn a_draft_and_a_projector_come_on_top() {
    let subject = subject(&llama(8, 2048, 8, 0));
    let small = shape(&llama(2, 1024, 4, 0));
    let Subject::Shaped(shape) = &subject else {
        unreachable!()
    };
    let settings = Settings::defaults(Runtime::LlamaServer, shape);
    let mut projector = header(
        "clip",
        &[],
        &[("v.patch_embd.weight", 1, &[14, 14, 3, 1024])],
    );
    for (key, value) in [
        ("embedding_length", 1024),
        ("feed_forward_length", 4096),
        ("image_size", 336),
        ("patch_size", 14),
        ("attention.head_count", 16),
    ] {
        projector
            .metadata
            .0
            .insert(format!("clip.vision.{key}"), Value::Unsigned(value));
    }
    let extras = Extras {
        projector: Some(&projector),
        draft: Some(&small),
    };
    let alone = estimate(&subject, &settings, &Offload::single());
    let both = estimate_with(&subject, &settings, &Offload::single(), extras);
    let draft = estimate(
        &Subject::Shaped(Box::new(small)),
        &settings,
        &Offload::single(),
    );
    assert_eq!(both.devices[0].draft_bytes, draft.devices[0].total_bytes());
    assert!(both.devices[0].projector_bytes > 14 * 14 * 3 * 1024 * 2);
    assert_eq!(
        total(&both),
        total(&alone) + both.devices[0].draft_bytes + both.devices[0].projector_bytes
    );
}
