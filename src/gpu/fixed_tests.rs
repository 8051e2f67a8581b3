//! What a fixed inventory may say, and how it is refused.

use super::*;
use serde_json::json;

fn refusal(document: &Value) -> String {
    let error = inventory(document, "gpus.json").unwrap_err();
    match error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message,
    }
}

#[test]
fn sizes_are_gpus_in_their_order() {
    let fixed = Fixed::new("24GiB, 8GiB,1.5gib,1000MB").unwrap();
    let totals: Vec<_> = fixed.gpus().iter().map(|gpu| gpu.total_bytes).collect();
    assert_eq!(
        totals,
        [
            Some(24 << 30),
            Some(8 << 30),
            Some(3 << 29),
            Some(1_000_000_000)
        ]
    );
    assert_eq!(fixed.gpus()[1].index, 1);
    assert_eq!(
        (fixed.gpus()[0].used_bytes, fixed.gpus()[0].free_bytes),
        (None, None)
    );
    assert_eq!(fixed.read().unwrap(), fixed.gpus());
}

#[test]
fn a_size_without_its_unit_is_not_taken_for_a_file() {
    for text in ["24", "24GiB,8", "24GiB,", "8Gb8"] {
        let error = Fixed::new(text).unwrap_err();
        assert!(error.message.contains("is no size"), "{error}");
        assert!(error.hint.unwrap().contains("24GiB,8GiB"));
    }
    assert!(
        Fixed::new("0GiB")
            .unwrap_err()
            .message
            .contains("cannot have 0 bytes")
    );
    let missing = Fixed::new("no-such-file.json").unwrap_err();
    assert!(
        missing.message.contains("cannot read `no-such-file.json`"),
        "{missing}"
    );
}

#[test]
fn only_the_total_is_required_and_null_is_unknown() {
    let gpus = inventory(
        &json!([{"total_bytes": 25_769_803_776_u64}, {"total_bytes": "8GiB", "used_bytes": null, "name": "RTX 4060"}]),
        "x",
    )
    .unwrap();
    assert_eq!(
        (gpus[0].name.as_str(), gpus[0].vendor),
        ("GPU 0", Vendor::Other)
    );
    assert_eq!(
        (gpus[1].total_bytes, gpus[1].used_bytes),
        (Some(8 << 30), None)
    );
    assert_eq!(gpus[1].vendor, Vendor::Nvidia);
    assert_eq!(gpus[1].power_w, None);
}

#[test]
fn a_whole_gpu_is_read() {
    let gpus = inventory(
        &json!([{"name": "NVIDIA GeForce RTX 4080", "uuid": "GPU-1", "total_bytes": 1000, "used_bytes": 100, "utilization": 15.2, "temperature_c": 42, "power_w": 85.5, "compute_capability": "8.9", "state": "lost"}]),
        "x",
    )
    .unwrap();
    let gpu = &gpus[0];
    assert_eq!(gpu.free_bytes, Some(900));
    assert_eq!((gpu.utilization, gpu.temperature_c), (Some(15), Some(42)));
    assert_eq!(
        (gpu.power_w, gpu.compute_capability),
        (Some(85.5), Some((8, 9)))
    );
    assert_eq!((gpu.state, gpu.cause.is_some()), (GpuState::Lost, true));
}

#[test]
fn what_cannot_be_is_refused_with_the_name_of_the_field() {
    let total = |field: &str, value: Value| {
        let mut gpu = json!({"total_bytes": 1000});
        gpu[field] = value;
        refusal(&json!([{"total_bytes": 1}, gpu]))
    };
    for (field, value, words) in [
        ("total_bytes", json!(-1), "is negative"),
        ("total_bytes", json!(0), "more than 0"),
        ("total_bytes", json!(1.5), "whole number"),
        ("total_bytes", json!(null), "needs it"),
        (
            "used_bytes",
            json!(1001),
            "more than the `total_bytes` 1000",
        ),
        (
            "free_bytes",
            json!(1001),
            "more than the `total_bytes` 1000",
        ),
        ("used_bytes", json!(-5), "is negative"),
        ("utilization", json!(101), "101 is more than 100"),
        ("utilization", json!("high"), "is a number"),
        ("temperature_c", json!(-1), "is negative"),
        ("power_w", json!(-0.5), "is negative"),
        ("compute_capability", json!("89"), "written like \"8.9\""),
        ("compute_capability", json!(8.9), "is a text"),
        ("state", json!("broken"), "`ok`, `lost` or `error`"),
        ("name", json!(""), "is a text"),
        ("used_byte", json!(1), "did you mean `used_bytes`?"),
        ("total", json!(1), "did you mean `total_bytes`?"),
        ("colour", json!("red"), "no such field"),
    ] {
        let told = total(field, value);
        assert!(
            told.starts_with(&format!("gpus.json: GPU 1: `{field}`: ")) && told.contains(words),
            "{told}"
        );
    }
}

#[test]
fn an_inventory_is_a_list_of_different_gpus() {
    assert!(refusal(&json!([])).contains("empty"));
    assert!(refusal(&json!({"total_bytes": 1})).contains("is a list"));
    assert!(refusal(&json!([1])).contains("GPU 0 is no object"));
    let twice = json!([{"total_bytes": 1, "uuid": "GPU-a"}, {"total_bytes": 1, "uuid": "GPU-a"}]);
    assert!(refusal(&twice).contains("GPU 1: `uuid`: another GPU has the same"));
    let many: Vec<Value> = (0..257).map(|_| json!({"total_bytes": 1})).collect();
    assert!(refusal(&json!(many)).contains("more than 256"));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,40}") {
        drop(Fixed::new(&text));
        let _ = size(&text);
    }

    #[test]
    fn no_document_panics(total in proptest::num::i64::ANY, used in proptest::num::f64::ANY, utilization in proptest::num::f64::ANY) {
        let document = json!([{"total_bytes": total, "used_bytes": used, "utilization": utilization}]);
        if let Ok(gpus) = inventory(&document, "x") {
            let gpu = &gpus[0];
            proptest::prop_assert!(gpu.used_bytes <= gpu.total_bytes);
            proptest::prop_assert!(gpu.utilization.is_none_or(|percent| percent <= 100));
        }
    }
}
