//! The GGUF reader: a header from any `Read`, in one pass and little memory.
//!
//! Nothing is read beyond what the next value needs, token lists are passed over without being kept, and every length is bounded before
//! anything is allocated for it: memory grows with the bytes that really came, never with what they claim.

use std::collections::HashSet;
use std::collections::btree_map::Entry;
use std::io::Read;

use super::TensorType;
use super::gguf_error::{Fault, GgufError, Limited, Lookalike};
use super::header::{Header, MAX_NUMBERS, Metadata, Tensor, Value};
use super::input::Input;

/// Longest text that is kept; a longer one (a chat template at most) keeps its length.
const MAX_TEXT: u64 = 65_535;

/// Where tensor data begins is a multiple of this unless `general.alignment` tells another.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Fewest bytes of a metadata entry: key length, an empty key, type, a value of one byte.
const LEAST_ENTRY: u64 = 8 + 4 + 1;

/// Fewest bytes of a tensor: name length, an empty name, dimensions, type, offset.
const LEAST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// Reads a header of GGUF version 2 or 3, little or big endian.
///
/// Only as much is asked of `reader` as the header takes, apart from what one `read` gives in addition: a reader that fetches in pieces is
/// asked for the next piece only when the header goes on. One that has no more may end early: [`GgufError::Truncated`] tells how much is
/// needed at least to try again.
pub fn read(reader: &mut impl Read) -> Result<Header, GgufError> {
    let mut input = Input::new(reader);
    let (version, big_endian) = preamble(&mut input)?;
    let tensors = input.count(Limited::Tensors)?;
    let entries = input.count(Limited::Entries)?;
    input.expect(entries * LEAST_ENTRY + tensors * LEAST_TENSOR)?;

    let mut metadata = Metadata::default();
    for _ in 0..entries {
        entry(&mut input, &mut metadata)?;
    }
    let alignment = alignment(&metadata, input.at())?;
    let tensors = table(&mut input, tensors)?;
    Ok(Header {
        version,
        big_endian,
        metadata,
        tensors,
        data_offset: input.at().next_multiple_of(alignment),
        shards: 1,
    })
}

/// The magic number, the version and, from the version, the byte order.
fn preamble<R: Read>(input: &mut Input<'_, R>) -> Result<(u32, bool), GgufError> {
    const LONGEST_MARK: usize = 64;
    let start = input.peek(LONGEST_MARK)?;
    let known = start.len().min(4);
    if start[..known] != b"GGUF"[..known] {
        return Err(GgufError::NotGguf(Lookalike::of(start)));
    }
    // Magic, version, and two counts of 64 bits.
    input.expect(4 + 4 + 8 + 8)?;
    let _magic: [u8; 4] = input.bytes()?;
    let version: [u8; 4] = input.bytes()?;
    let little = u32::from_le_bytes(version);
    // A version is a small number: in the wrong byte order its low half is empty.
    let big_endian = little != 0 && little.trailing_zeros() >= 16;
    let version = if big_endian {
        u32::from_be_bytes(version)
    } else {
        little
    };
    if !matches!(version, 2 | 3) {
        return Err(GgufError::Unsupported { version });
    }
    input.set_big_endian(big_endian);
    Ok((version, big_endian))
}

fn entry<R: Read>(input: &mut Input<'_, R>, metadata: &mut Metadata) -> Result<(), GgufError> {
    let offset = input.at();
    let key = name(input, Limited::Key)?;
    let kind = Kind::read(input)?;
    let value = value(input, kind)?;
    match metadata.0.entry(key) {
        Entry::Vacant(free) => {
            free.insert(value);
            Ok(())
        }
        Entry::Occupied(taken) => Err(GgufError::Invalid {
            offset,
            fault: Fault::DuplicateKey(taken.key().clone()),
        }),
    }
}

/// A key or the name of a tensor.
fn name<R: Read>(input: &mut Input<'_, R>, what: Limited) -> Result<String, GgufError> {
    let offset = input.at();
    let length = input.count(what)?;
    let bytes = input.take(length)?.to_vec();
    String::from_utf8(bytes).map_err(|_| GgufError::Invalid {
        offset,
        fault: Fault::NotUtf8,
    })
}

/// The type of a metadata value.
#[derive(Debug, Clone, Copy)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn read<R: Read>(input: &mut Input<'_, R>) -> Result<Self, GgufError> {
        let offset = input.at();
        let number = input.u32()?;
        Ok(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => {
                return Err(GgufError::Invalid {
                    offset,
                    fault: Fault::ValueType(number),
                });
            }
        })
    }

    /// Fewest bytes of a value: its size, or for text and arrays that of an empty one.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Text => 8,
            Self::Array => 12,
        }
    }
}

fn value<R: Read>(input: &mut Input<'_, R>, kind: Kind) -> Result<Value, GgufError> {
    Ok(match kind {
        Kind::U8 => Value::Unsigned(input.bytes::<1>()?[0].into()),
        Kind::I8 => Value::Signed(i8::from_ne_bytes(input.bytes()?).into()),
        Kind::U16 => Value::Unsigned(u16::from_le_bytes(input.ordered()?).into()),
        Kind::I16 => Value::Signed(i16::from_le_bytes(input.ordered()?).into()),
        Kind::U32 => Value::Unsigned(input.u32()?.into()),
        Kind::I32 => Value::Signed(i32::from_le_bytes(input.ordered()?).into()),
        Kind::F32 => Value::Float(f32::from_le_bytes(input.ordered()?).into()),
        Kind::Bool => Value::Bool(input.bytes::<1>()?[0] != 0),
        Kind::Text => text(input)?,
        Kind::Array => array(input)?,
        Kind::U64 => Value::Unsigned(input.u64()?),
        Kind::I64 => Value::Signed(i64::from_le_bytes(input.ordered()?)),
        Kind::F64 => Value::Float(f64::from_le_bytes(input.ordered()?)),
    })
}

fn text<R: Read>(input: &mut Input<'_, R>) -> Result<Value, GgufError> {
    let length = input.u64()?;
    if length > MAX_TEXT {
        input.skip(length)?;
        return Ok(Value::Length(length));
    }
    let bytes = input.take(length)?;
    Ok(Value::Text(String::from_utf8_lossy(bytes).into_owned()))
}

fn array<R: Read>(input: &mut Input<'_, R>) -> Result<Value, GgufError> {
    let kind = Kind::read(input)?;
    let length = input.u64()?;
    if matches!(kind, Kind::Text | Kind::Array) || length > MAX_NUMBERS {
        skip_elements(input, kind, length, 1)?;
        return Ok(Value::Length(length));
    }
    let mut numbers = Vec::new();
    for _ in 0..length {
        let element = value(input, kind)?;
        // Every kind that is left is a number or a truth value.
        numbers.extend(element.at_layer(0));
    }
    Ok(Value::Numbers(numbers))
}

/// Passes over the elements of an array that is `depth` arrays deep.
fn skip_elements<R: Read>(
    input: &mut Input<'_, R>,
    kind: Kind,
    length: u64,
    depth: u64,
) -> Result<(), GgufError> {
    let least = length.saturating_mul(kind.least_bytes());
    match kind {
        Kind::Text => {
            input.expect(least)?;
            for _ in 0..length {
                let bytes = input.u64()?;
                input.skip(bytes)?;
            }
            Ok(())
        }
        Kind::Array => {
            if depth >= Limited::Nesting.limit() {
                return Err(GgufError::TooLarge {
                    offset: input.at(),
                    what: Limited::Nesting,
                    found: depth.saturating_add(1),
                });
            }
            input.expect(least)?;
            for _ in 0..length {
                let inner = Kind::read(input)?;
                let length = input.u64()?;
                skip_elements(input, inner, length, depth.saturating_add(1))?;
            }
            Ok(())
        }
        _ => input.skip(least),
    }
}

fn alignment(metadata: &Metadata, offset: u64) -> Result<u64, GgufError> {
    let Some(value) = metadata.0.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    value
        .as_unsigned()
        .filter(|alignment| alignment.is_power_of_two() && u32::try_from(*alignment).is_ok())
        .ok_or(GgufError::Invalid {
            offset,
            fault: Fault::Alignment,
        })
}

fn table<R: Read>(input: &mut Input<'_, R>, count: u64) -> Result<Vec<Tensor>, GgufError> {
    let mut tensors = Vec::new();
    let mut sum = 0_u64;
    for _ in 0..count {
        let offset = input.at();
        let tensor = tensor(input)?;
        let size = match tensor.kind.block() {
            Some(_) => tensor.bytes(),
            None => tensor.elements().map(|_| 0),
        };
        let Some(next) = size.and_then(|bytes| sum.checked_add(bytes)) else {
            return Err(GgufError::Invalid {
                offset,
                fault: Fault::Shape(tensor.name),
            });
        };
        sum = next;
        tensors.push(tensor);
    }
    let mut seen = HashSet::new();
    match tensors
        .iter()
        .find(|tensor| !seen.insert(tensor.name.as_str()))
    {
        None => Ok(tensors),
        Some(twice) => Err(GgufError::Invalid {
            offset: input.at(),
            fault: Fault::DuplicateTensor(twice.name.clone()),
        }),
    }
}

fn tensor<R: Read>(input: &mut Input<'_, R>) -> Result<Tensor, GgufError> {
    let name = name(input, Limited::Name)?;
    let offset = input.at();
    let dimensions = input.u32()?;
    if u64::from(dimensions) > Limited::Dimensions.limit() {
        return Err(GgufError::TooLarge {
            offset,
            what: Limited::Dimensions,
            found: dimensions.into(),
        });
    }
    let mut dims = Vec::new();
    for _ in 0..dimensions {
        dims.push(input.u64()?);
    }
    if dims.is_empty() {
        // ggml's own reading of a tensor without dimensions: a single number.
        dims.push(1);
    }
    let kind = TensorType::from_id(input.u32()?);
    let _offset = input.u64()?;
    Ok(Tensor { name, kind, dims })
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
