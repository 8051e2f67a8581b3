//! Models in several files, `NAME-00001-of-0000N.gguf`: the names of all of them, and one header out of theirs.

use std::collections::HashSet;
use std::fmt;

use super::Header;

/// Most files of one model; the largest published ones have fewer than 200.
const MAX_SHARDS: u32 = 1024;

/// The name of one file of a split model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardName {
    /// What comes before the numbers, folders included.
    prefix: String,
    /// Which file, from 1.
    pub number: u32,
    /// How many there are.
    pub count: u32,
}

impl ShardName {
    /// The parts of a file's name or path; `None` when it is not that of a shard.
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let five = |digits: &str| {
            let plain = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        let shard = Self {
            prefix: prefix.to_owned(),
            number: five(number)?,
            count: five(count)?,
        };
        let sound = (1..=shard.count).contains(&shard.number) && shard.count <= MAX_SHARDS;
        sound.then_some(shard)
    }

    /// The names of all files of the model, in order, this one among them.
    pub fn all(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(|number| self.at(number))
    }

    /// The name of the first file, which has the metadata.
    pub fn first(&self) -> String {
        self.at(1)
    }

    fn at(&self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count)
    }
}

/// What a header says of being one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Which file, from 0 (`split.no`).
    pub number: u64,
    /// How many there are (`split.count`).
    pub count: u64,
    /// Tensors of all of them together (`split.tensors.count`), where told.
    pub tensors: Option<u64>,
}

impl Header {
    /// Its place in a split model; `None` for a model in one file.
    pub fn split(&self) -> Option<Split> {
        let count = self.unsigned("split.count").filter(|&count| count > 1)?;
        Some(Split {
            number: self.unsigned("split.no").unwrap_or_default(),
            count,
            tensors: self.unsigned("split.tensors.count"),
        })
    }
}

/// Why headers are not those of one whole model. Files are counted from 1, as in their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardError {
    /// No header at all.
    None,
    /// A header that does not say that it is one of several.
    NotSplit {
        /// Its position among those given, from 0.
        index: usize,
    },
    /// A file of the model is not among them.
    Missing {
        /// Which file, from 1.
        number: u64,
        /// Of how many.
        count: u64,
    },
    /// A file was given twice.
    Twice {
        /// Which file, from 1.
        number: u64,
    },
    /// A file of another model, or of another splitting of this one.
    Foreign {
        /// Which file, from 1.
        number: u64,
        /// What tells.
        sign: Foreign,
    },
    /// The files have other tensors, all together, than they say.
    Tensors {
        /// As many as there should be.
        told: u64,
        /// As many as there are.
        found: u64,
    },
}

/// What tells that a file belongs to another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It is one of another number of files.
    Count,
    /// It names another number of tensors.
    Tensors,
    /// It names another architecture.
    Architecture,
    /// It has a tensor that an earlier file has too.
    Tensor,
    /// Another byte order.
    ByteOrder,
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no file of the split model was given"),
            Self::NotSplit { index } => write!(
                f,
                "file {} is not part of a split model: its header has no `split.count`",
                index.saturating_add(1)
            ),
            Self::Missing { number, count } => write!(
                f,
                "file {number} of {count} of the split model is missing; put all of them in one folder"
            ),
            Self::Twice { number } => {
                write!(f, "file {number} of the split model is there twice")
            }
            Self::Foreign { number, sign } => write!(
                f,
                "file {number} belongs to another model or splitting: {}",
                match sign {
                    Foreign::Count => "it is one of another number of files",
                    Foreign::Tensors => "it names another number of tensors",
                    Foreign::Architecture => "it names another architecture",
                    Foreign::Tensor => "it has a tensor that another file has too",
                    Foreign::ByteOrder => "its byte order is another",
                }
            ),
            Self::Tensors { told, found } => write!(
                f,
                "the split model should have {told} tensors, its files have {found}; one of them belongs to another model"
            ),
        }
    }
}

impl std::error::Error for ShardError {}

/// One header out of those of all files of a model, in any order: the metadata of the first file, the tensors of all. A single header that
/// is not one of several is returned as it is.
pub fn merge(headers: Vec<Header>) -> Result<Header, ShardError> {
    if let [only] = headers.as_slice()
        && only.split().is_none()
    {
        return Ok(headers.into_iter().next().unwrap_or_default());
    }
    let mut placed = Vec::new();
    for (index, header) in headers.into_iter().enumerate() {
        let split = header.split().ok_or(ShardError::NotSplit { index })?;
        placed.push((split, header));
    }
    placed.sort_by_key(|(split, _)| split.number);
    let splits: Vec<Split> = placed.iter().map(|(split, _)| *split).collect();
    let whole = complete(&splits)?;

    let mut files = placed.into_iter().map(|(_, header)| header);
    let mut model = files.next().ok_or(ShardError::None)?;
    let mut held: HashSet<String> = model.tensors.iter().map(|t| t.name.clone()).collect();
    for (number, file) in (2..).zip(files) {
        let foreign = |sign| Err(ShardError::Foreign { number, sign });
        if file.big_endian != model.big_endian {
            return foreign(Foreign::ByteOrder);
        }
        if file.architecture().is_some() && file.architecture() != model.architecture() {
            return foreign(Foreign::Architecture);
        }
        if file.tensors.iter().any(|t| !held.insert(t.name.clone())) {
            return foreign(Foreign::Tensor);
        }
        model.tensors.extend(file.tensors);
        model.shards = model.shards.saturating_add(1);
    }
    let found = model.tensors.len() as u64;
    match whole.tensors {
        Some(told) if told != found => Err(ShardError::Tensors { told, found }),
        _ => Ok(model),
    }
}

/// What all files say of the whole, which must be the same, when every one of them is there once. They come sorted by number.
fn complete(splits: &[Split]) -> Result<Split, ShardError> {
    let whole = *splits.first().ok_or(ShardError::None)?;
    for (expected, split) in (0..).zip(splits) {
        let number = split.number.saturating_add(1);
        if split.count != whole.count {
            let sign = Foreign::Count;
            return Err(ShardError::Foreign { number, sign });
        }
        if split.tensors != whole.tensors {
            let sign = Foreign::Tensors;
            return Err(ShardError::Foreign { number, sign });
        }
        if split.number < expected {
            return Err(ShardError::Twice { number });
        }
        if split.number > expected {
            return Err(ShardError::Missing {
                number: expected + 1,
                count: whole.count,
            });
        }
    }
    let given = splits.len() as u64;
    if given < whole.count {
        return Err(ShardError::Missing {
            number: given.saturating_add(1),
            count: whole.count,
        });
    }
    if given > whole.count {
        let sign = Foreign::Count;
        let number = given;
        return Err(ShardError::Foreign { number, sign });
    }
    Ok(whole)
}

#[cfg(test)]
#[path = "shards_tests.rs"]
mod tests;
