//! Names and headers of split models: whole, incomplete, mixed up.

use super::super::TensorType;
use super::super::header::{Metadata, Tensor, Value};
use super::*;

fn shard(number: u64, count: u64, tensors: u64, names: &[&str]) -> Header {
    let mut metadata = Metadata::default();
    let mut told = |key: &str, value| metadata.0.insert(key.to_owned(), value);
    told("split.no", Value::Unsigned(number));
    told("split.count", Value::Unsigned(count));
    // llama.cpp writes this one as a signed number.
    told(
        "split.tensors.count",
        Value::Signed(i64::try_from(tensors).expect("few")),
    );
    if number == 0 {
        told("general.architecture", Value::Text("llama".to_owned()));
    }
    Header {
        version: 3,
        metadata,
        tensors: names.iter().map(|name| tensor(name)).collect(),
        shards: 1,
        ..Header::default()
    }
}

fn tensor(name: &str) -> Tensor {
    Tensor {
        name: name.to_owned(),
        kind: TensorType::F32,
        dims: vec![4],
    }
}

fn three() -> Vec<Header> {
    vec![
        shard(0, 3, 4, &[]),
        shard(1, 3, 4, &["a", "b"]),
        shard(2, 3, 4, &["c", "d"]),
    ]
}

#[test]
fn the_names_of_all_shards_follow_from_one() {
    let name = "/models/big.Q4-00002-of-00003.gguf";
    let shard = ShardName::parse(name).expect("a shard");
    assert_eq!((shard.number, shard.count), (2, 3));
    assert_eq!(shard.first(), "/models/big.Q4-00001-of-00003.gguf");
    assert_eq!(
        shard.all().collect::<Vec<_>>(),
        [
            "/models/big.Q4-00001-of-00003.gguf",
            name,
            "/models/big.Q4-00003-of-00003.gguf"
        ]
    );
}

#[test]
fn other_names_are_not_those_of_shards() {
    for name in [
        "model.gguf",
        "model-00001-of-00002.bin",
        "model-1-of-2.gguf",
        "model-000001-of-000002.gguf",
        "model-00003-of-00002.gguf",
        "model-00000-of-00002.gguf",
        "model-00001-of-00000.gguf",
        "model-00001-of-99999.gguf",
        "model-+0001-of-00002.gguf",
        "model-00001-of-0000é.gguf",
        "-of-.gguf",
        "",
    ] {
        assert_eq!(ShardName::parse(name), None, "{name}");
    }
}

#[test]
fn shards_in_any_order_make_one_model() {
    let mut shards = three();
    shards.reverse();
    let model = merge(shards).expect("a model");
    let names: Vec<&str> = model.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(model.architecture(), Some("llama"));
    assert_eq!(model.shards, 3);
}

#[test]
fn a_model_in_one_file_is_left_as_it_is() {
    let model = Header {
        tensors: vec![tensor("a")],
        shards: 1,
        ..Header::default()
    };
    assert_eq!(merge(vec![model.clone()]), Ok(model));
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Vec<Header>), expected: ShardError) {
    let mut shards = three();
    change(&mut shards);
    assert_eq!(merge(shards), Err(expected));
}

#[test]
fn what_is_missing_or_foreign_is_named_by_its_number() {
    let foreign = |number, sign| ShardError::Foreign { number, sign };
    refused(Vec::clear, ShardError::None);
    for (index, number) in (0..3).zip(1..) {
        let missing = ShardError::Missing { number, count: 3 };
        refused(|shards| drop(shards.remove(index)), missing);
    }
    refused(
        |shards| shards[2] = shards[1].clone(),
        ShardError::Twice { number: 2 },
    );
    refused(
        |shards| shards[1] = shard(1, 4, 4, &["a", "b"]),
        foreign(2, Foreign::Count),
    );
    refused(
        |shards| shards[2] = shard(2, 3, 5, &["c", "d"]),
        foreign(3, Foreign::Tensors),
    );
    refused(
        |shards| shards[2] = shard(2, 3, 4, &["c", "a"]),
        foreign(3, Foreign::Tensor),
    );
    refused(
        |shards| shards[2] = shard(2, 3, 4, &["c"]),
        ShardError::Tensors { told: 4, found: 3 },
    );
    refused(
        |shards| shards[1].big_endian = true,
        foreign(2, Foreign::ByteOrder),
    );
    refused(
        |shards| {
            let other = Value::Text("qwen2".to_owned());
            let metadata = &mut shards[1].metadata.0;
            metadata.insert("general.architecture".to_owned(), other);
        },
        foreign(2, Foreign::Architecture),
    );
    refused(
        |shards| shards[1] = Header::default(),
        ShardError::NotSplit { index: 1 },
    );
    refused(
        |shards| shards.push(shard(3, 3, 4, &[])),
        foreign(4, Foreign::Count),
    );
}

#[test]
fn errors_count_as_the_names_of_the_files_do() {
    let missing = ShardError::Missing {
        number: 2,
        count: 3,
    };
    assert!(missing.to_string().starts_with("file 2 of 3 "));
}
