//! A header as a node tells it: the verbose reply of Ollama's `/api/show`, with no file at hand.

use std::fmt;

use serde_json::Value as Json;

use super::TensorType;
use super::gguf_error::Limited;
use super::header::{Header, MAX_NUMBERS, Metadata, Tensor, Value};

/// Why a reply cannot be used as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShowError {
    /// `model_info` is not an object.
    NoMetadata,
    /// `tensors` is neither absent nor a list, or has too many entries.
    NoTensors,
    /// A tensor without a name, type or usable shape.
    Tensor {
        /// Which, from 0.
        index: usize,
    },
}

impl fmt::Display for ShowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMetadata => f.write_str("the reply of /api/show has no `model_info`"),
            Self::NoTensors => {
                f.write_str("`tensors` in the reply of /api/show is not a list of tensors")
            }
            Self::Tensor { index } => write!(
                f,
                "`tensors[{index}]` in the reply of /api/show has no usable name, type and shape"
            ),
        }
    }
}

impl std::error::Error for ShowError {}

impl Header {
    /// The header in a reply of `/api/show`: its `model_info` and its `tensors` (null without `"verbose": true`, or from an older Ollama: then
    /// there is no tensor table). Shapes are in ggml's order there too. A type whose name is not ggml's becomes [`TensorType::UNKNOWN`].
    pub fn from_show(model_info: &Json, tensors: &Json) -> Result<Self, ShowError> {
        let info = model_info.as_object().ok_or(ShowError::NoMetadata)?;
        let metadata = (info.iter())
            .filter_map(|(key, json)| Some((key.clone(), value(json)?)))
            .collect();
        let listed = match tensors {
            Json::Null => &[][..],
            Json::Array(listed) => listed.as_slice(),
            _ => return Err(ShowError::NoTensors),
        };
        if listed.len() as u64 > Limited::Tensors.limit() {
            return Err(ShowError::NoTensors);
        }
        let tensors = (listed.iter().enumerate())
            .map(|(index, json)| tensor(json).ok_or(ShowError::Tensor { index }))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            metadata: Metadata(metadata),
            tensors,
            shards: 1,
            ..Self::default()
        })
    }
}

/// A metadata value; nothing for null (a list that was left out) and for objects, which GGUF does not have.
fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Null | Json::Object(_) => None,
        Json::Bool(truth) => Some(Value::Bool(*truth)),
        Json::Number(number) => (number.as_u64().map(Value::Unsigned))
            .or_else(|| number.as_i64().map(Value::Signed))
            .or_else(|| number.as_f64().map(Value::Float)),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Array(elements) => {
            let length = elements.len() as u64;
            let numbers: Option<Vec<f64>> = (length <= MAX_NUMBERS)
                .then(|| elements.iter().map(element).collect())
                .flatten();
            Some(numbers.map_or(Value::Length(length), Value::Numbers))
        }
    }
}

fn element(json: &Json) -> Option<f64> {
    match json {
        Json::Bool(truth) => Some(f64::from(u8::from(*truth))),
        _ => json.as_f64(),
    }
}

fn tensor(json: &Json) -> Option<Tensor> {
    let name = json.get("name")?.as_str()?;
    let kind = json.get("type")?.as_str()?;
    let shape = json.get("shape")?.as_array()?;
    if shape.is_empty() || shape.len() as u64 > Limited::Dimensions.limit() {
        return None;
    }
    let tensor = Tensor {
        name: name.to_owned(),
        kind: TensorType::from_name(kind).unwrap_or(TensorType::UNKNOWN),
        dims: shape.iter().map(Json::as_u64).collect::<Option<_>>()?,
    };
    let sized = tensor.kind.block().is_none() || tensor.bytes().is_some();
    (sized && tensor.elements().is_some()).then_some(tensor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::vram::FileType;
    use crate::vram::Quantization;

    /// What a real Ollama 0.32.15 answered.
    const VERBOSE: &str = include_str!("../../tests/data/wire/ollama-0.32.15-cpu/show_verbose.txt");

    fn reply() -> Json {
        let start = VERBOSE.find("{\"modelfile\"").expect("a reply");
        let mut documents = serde_json::Deserializer::from_str(&VERBOSE[start..]).into_iter();
        documents.next().expect("a document").expect("valid JSON")
    }

    #[test]
    fn a_real_verbose_reply_is_a_header() {
        let reply = reply();
        let header = Header::from_show(&reply["model_info"], &reply["tensors"]).expect("a header");
        assert_eq!(header.architecture(), Some("llama"));
        assert_eq!(header.arch_unsigned("block_count"), Some(4));
        assert_eq!(header.layer_unsigned("attention.head_count_kv", 3), Some(2));
        assert_eq!(header.arch_float("rope.freq_base"), Some(10_000.0));
        assert_eq!(header.tokens(), Some(669));
        assert_eq!(header.vocab_size(), Some(669));
        assert_eq!(header.quantization(), Some(Quantization::Told(FileType(1))));
        assert_eq!(
            header.parameters(),
            header.unsigned("general.parameter_count"),
            "Ollama counts the same"
        );
        let embedding = header.tensor("token_embd.weight").expect("an embedding");
        assert_eq!(embedding.dims, [128, 669]);
        assert_eq!(embedding.bytes(), Some(128 * 669 * 2));
        assert!(header.tensor_bytes().is_ok());
    }

    #[test]
    fn a_reply_that_is_not_verbose_has_no_tensors() {
        let info = json!({"general.architecture": "llama", "general.parameter_count": 7, "tokenizer.ggml.tokens": null});
        let header = Header::from_show(&info, &Json::Null).expect("a header");
        assert_eq!(header.parameters(), Some(7));
        assert_eq!(header.tokens(), None);
    }

    #[test]
    fn layer_arrays_are_kept_as_numbers() {
        let info = json!({"general.architecture": "a", "a.kv": [0, 8], "a.swa": [true, false], "a.names": ["x"], "a.long": vec![1; 1025]});
        let header = Header::from_show(&info, &Json::Null).expect("a header");
        assert_eq!(header.layer_unsigned("kv", 1), Some(8));
        assert_eq!(header.layer_bool("swa", 1), Some(false));
        assert_eq!(header.arch_get("names"), Some(&Value::Length(1)));
        assert_eq!(header.arch_get("long"), Some(&Value::Length(1025)));
    }

    #[test]
    fn what_is_not_a_reply_is_told() {
        let none = Header::from_show(&json!([]), &Json::Null);
        assert_eq!(none, Err(ShowError::NoMetadata));
        let list = Header::from_show(&json!({}), &json!({}));
        assert_eq!(list, Err(ShowError::NoTensors));
        for bad in [
            json!({}),
            json!({"name": "a", "type": "F32"}),
            json!({"name": "a", "type": "F32", "shape": []}),
            json!({"name": "a", "type": "F32", "shape": [1, 1, 1, 1, 1]}),
            json!({"name": "a", "type": "F32", "shape": [-1]}),
            json!({"name": "a", "type": "Q4_K", "shape": [100]}),
            json!({"name": "a", "type": "NEW", "shape": [u64::MAX, 2]}),
        ] {
            let header = Header::from_show(&json!({}), &json!([bad]));
            assert_eq!(header, Err(ShowError::Tensor { index: 0 }), "{bad}");
        }
        let new = json!([{"name": "a", "type": "NEW", "shape": [5]}]);
        let header = Header::from_show(&json!({}), &new).expect("a header");
        assert_eq!(header.tensors[0].kind, TensorType::UNKNOWN);
    }
}
