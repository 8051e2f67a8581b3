//! GGUF headers for tests: published shapes from `tests/data/vram/headers`, and made-up ones of any vocabulary.

use std::path::Path;

use gpurouter::vram::{self, Header};
use serde_json::{Value, json};

/// The bytes of the header of a published shape (`llama-3.1-8b.q4_k_m`).
pub fn published(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/vram/headers")
        .join(format!("{name}.header.gguf"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a header says, read as a whole.
pub fn parsed(bytes: &[u8]) -> Header {
    vram::read(&mut &bytes[..]).expect("a header")
}

/// Bytes of the whole file that a header is of.
pub fn file_size(bytes: &[u8]) -> u64 {
    let header = parsed(bytes);
    header.data_offset + header.tensor_bytes().expect("known types")
}

/// What an Ollama answers to a verbose `/api/show` of a model with that header.
pub fn shown(header: &Header) -> Value {
    let told = |value: &vram::Value| match value {
        vram::Value::Unsigned(number) => json!(number),
        vram::Value::Signed(number) => json!(number),
        vram::Value::Float(number) => json!(number),
        vram::Value::Bool(on) => json!(on),
        vram::Value::Text(text) => json!(text),
        vram::Value::Numbers(numbers) => json!(numbers),
        vram::Value::Length(length) => json!(vec![""; usize::try_from(*length).expect("few")]),
    };
    let info: serde_json::Map<String, Value> = (header.metadata.0.iter())
        .map(|(key, value)| (key.clone(), told(value)))
        .collect();
    let tensor = |tensor: &vram::Tensor| {
        let kind = tensor.kind.name().expect("a known type");
        json!({"name": tensor.name, "type": kind, "shape": tensor.dims})
    };
    let tensors: Vec<Value> = header.tensors.iter().map(tensor).collect();
    json!({"model_info": info, "tensors": tensors, "details": {"quantization_level": "Q4_K_M"},
           "capabilities": ["completion"]})
}

/// Writes headers that no published model has.
#[derive(Default)]
pub struct Gguf {
    entries: Vec<u8>,
    count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    offset: u64,
}

impl Gguf {
    /// A header with an architecture and nothing else.
    pub fn new(architecture: &str) -> Self {
        Self::default().text("general.architecture", architecture)
    }

    /// The part of a split model without metadata of its own.
    pub fn part(number: u16, count: u16, tensors: u64) -> Self {
        Self::default().split(number, count, tensors)
    }

    /// Says which part of a split model it is.
    pub fn split(self, number: u16, count: u16, tensors: u64) -> Self {
        self.entry("split.no", 2, &number.to_le_bytes())
            .entry("split.count", 2, &count.to_le_bytes())
            .entry(
                "split.tensors.count",
                5,
                &i32::try_from(tensors).expect("few").to_le_bytes(),
            )
    }

    /// A text.
    pub fn text(self, key: &str, text: &str) -> Self {
        let mut value = Vec::new();
        string(&mut value, text);
        self.entry(key, 8, &value)
    }

    /// A whole number.
    pub fn number(self, key: &str, number: u32) -> Self {
        self.entry(key, 4, &number.to_le_bytes())
    }

    /// A vocabulary as Llama's is stored: texts, their types, and as many merges.
    pub fn vocabulary(self, tokens: u64) -> Self {
        let list = |text: &dyn Fn(u64) -> String| {
            let mut value = 8_u32.to_le_bytes().to_vec();
            value.extend(tokens.to_le_bytes());
            for token in 0..tokens {
                string(&mut value, &text(token));
            }
            value
        };
        let mut types = 5_u32.to_le_bytes().to_vec();
        types.extend(tokens.to_le_bytes());
        types.extend((0..tokens).flat_map(|_| 1_i32.to_le_bytes()));
        let texts = list(&|token| format!("token{token}"));
        let merges = list(&|token| format!("tok en{token}"));
        self.entry("tokenizer.ggml.tokens", 9, &texts)
            .entry("tokenizer.ggml.token_type", 9, &types)
            .entry("tokenizer.ggml.merges", 9, &merges)
    }

    /// A matrix of half-precision numbers.
    pub fn tensor(mut self, name: &str, rows: u64, columns: u64) -> Self {
        string(&mut self.tensors, name);
        self.tensors.extend(2_u32.to_le_bytes());
        self.tensors.extend(columns.to_le_bytes());
        self.tensors.extend(rows.to_le_bytes());
        self.tensors.extend(1_u32.to_le_bytes());
        self.tensors.extend(self.offset.to_le_bytes());
        self.offset += (rows * columns * 2).next_multiple_of(32);
        self.tensor_count += 1;
        self
    }

    /// The bytes, padded as the data behind them needs it.
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.entries);
        bytes.extend(self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        string(&mut self.entries, key);
        self.entries.extend(kind.to_le_bytes());
        self.entries.extend(value);
        self.count += 1;
        self
    }
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
