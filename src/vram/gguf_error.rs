//! Why bytes are not a GGUF header that can be used.

use std::{fmt, io};

/// Why a header could not be read.
#[derive(Debug)]
pub enum GgufError {
    /// Another kind of file.
    NotGguf(Lookalike),
    /// GGUF of a version that cannot be read.
    Unsupported {
        /// The version it names.
        version: u32,
    },
    /// The input ended inside of the header: with more of the same file it can be read.
    Truncated {
        /// Bytes that were there.
        at: u64,
        /// Bytes from the start of the file without which no further attempt can succeed (the header may be longer still).
        need: u64,
    },
    /// Bytes that no GGUF writer makes.
    Invalid {
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        fault: Fault,
    },
    /// A count beyond what any model has; the file is damaged or hostile.
    TooLarge {
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// What is counted.
        what: Limited,
        /// How many of it there are.
        found: u64,
    },
    /// The input failed.
    Io(io::Error),
}

/// What a file that is not GGUF looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookalike {
    /// A zip archive; `PyTorch` writes its checkpoints as such.
    Zip,
    /// A safetensors file.
    Safetensors,
    /// A Python pickle (an old `PyTorch` checkpoint).
    Pickle,
    /// A web page: what a server answers instead of the file.
    Html,
    /// JSON: a server's error, or a configuration.
    Json,
    /// A Git LFS pointer in place of the file.
    LfsPointer,
    /// A model format of llama.cpp from before GGUF.
    OldGgml,
    /// Nothing but zeros: a download that has not got this far.
    Zeros,
    /// Nothing known.
    Unknown,
}

/// What is wrong with bytes that call themselves GGUF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A metadata value of a type that GGUF does not have.
    ValueType(u32),
    /// A key or tensor name that is not UTF-8.
    NotUtf8,
    /// A key that was there before.
    DuplicateKey(String),
    /// A tensor that was there before.
    DuplicateTensor(String),
    /// `general.alignment` is not a power of two in 32 bits.
    Alignment,
    /// A tensor whose rows are not a whole number of its type's blocks, or whose size is beyond 64 bits.
    Shape(String),
}

/// What has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Bytes of the header as a whole.
    Header,
    /// Metadata entries.
    Entries,
    /// Bytes of a metadata key.
    Key,
    /// Arrays within arrays.
    Nesting,
    /// Tensors.
    Tensors,
    /// Bytes of a tensor's name.
    Name,
    /// Dimensions of a tensor.
    Dimensions,
}

impl Limited {
    /// The most that is read.
    pub const fn limit(self) -> u64 {
        match self {
            // The largest vocabularies known (262,144 tokens with their scores, types and merges) take 16 MB.
            Self::Header => 64 << 20,
            Self::Entries | Self::Tensors => 65_536,
            Self::Key => 65_535,
            Self::Nesting | Self::Dimensions => 4,
            // ggml keeps 63; a build can be told otherwise.
            Self::Name => 1023,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Header => "bytes of header",
            Self::Entries => "metadata entries",
            Self::Key => "bytes of a metadata key",
            Self::Nesting => "arrays within arrays",
            Self::Tensors => "tensors",
            Self::Name => "bytes of a tensor's name",
            Self::Dimensions => "dimensions of a tensor",
        }
    }
}

impl Lookalike {
    /// What the first bytes of a file say of it; [`Unknown`](Self::Unknown) for fewer than it takes.
    pub fn of(start: &[u8]) -> Self {
        let text = start.trim_ascii_start();
        let begins = |with: &str| {
            let head = text.get(..with.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(with.as_bytes()))
        };
        let old: [&[u8; 4]; 4] = [b"lmgg", b"fmgg", b"tjgg", b"algg"];
        if start.len() >= 4 && start.iter().all(|&byte| byte == 0) {
            Self::Zeros
        } else if start.starts_with(b"PK\x03\x04") {
            Self::Zip
        } else if start.get(8) == Some(&b'{') && start.get(5..8) == Some(&[0, 0, 0]) {
            // An eight-byte length, little endian and far below 2^40, then the JSON of that length.
            Self::Safetensors
        } else if matches!(start, [0x80, 2..=5, ..]) {
            Self::Pickle
        } else if begins("<!doctype") || begins("<html") || begins("<?xml") {
            Self::Html
        } else if begins("version https://git-lfs") {
            Self::LfsPointer
        } else if old.iter().any(|magic| start.starts_with(*magic)) {
            Self::OldGgml
        } else if begins("{") || begins("[") {
            Self::Json
        } else {
            Self::Unknown
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Zip => {
                "it looks like a zip archive (a PyTorch checkpoint?); convert it to GGUF first"
            }
            Self::Safetensors => "it looks like a safetensors file; convert it to GGUF first",
            Self::Pickle => "it looks like a PyTorch checkpoint; convert it to GGUF first",
            Self::Html => {
                "it looks like a web page; the server answered with one in place of the file"
            }
            Self::Json => {
                "it looks like JSON; the server answered with a message in place of the file"
            }
            Self::LfsPointer => {
                "it looks like a Git LFS pointer; fetch the file itself with `git lfs pull`"
            }
            Self::OldGgml => {
                "it looks like a ggml file from before GGUF; current runtimes do not load it"
            }
            Self::Zeros => {
                "it begins with nothing but zeros; the download has probably not finished"
            }
            Self::Unknown => "it does not begin with `GGUF`",
        }
    }
}

impl fmt::Display for GgufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGguf(kind) => write!(f, "not a GGUF file: {}", kind.told()),
            Self::Unsupported { version: 1 } => write!(
                f,
                "GGUF version 1 (August 2023) is not supported, nor do current runtimes load it; convert the model again"
            ),
            Self::Unsupported { version } => write!(
                f,
                "GGUF version {version} is not supported, only 2 and 3 are; a newer gpurouter may read it"
            ),
            Self::Truncated { at, need } => write!(
                f,
                "the file ends at byte {at} inside of its header, which takes at least {need}; is the download complete?"
            ),
            Self::Invalid { offset, fault } => {
                write!(f, "damaged GGUF header at byte {offset}: {fault}")
            }
            Self::TooLarge {
                offset,
                what,
                found,
            } => write!(
                f,
                "damaged GGUF header at byte {offset}: {found} {}, more than the {} that are read",
                what.noun(),
                what.limit()
            ),
            Self::Io(error) => write!(f, "reading the GGUF header failed: {error}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueType(number) => write!(f, "there is no value type {number}"),
            Self::NotUtf8 => f.write_str("a name that is not UTF-8"),
            Self::DuplicateKey(key) => write!(f, "the key `{}` twice", Short(key)),
            Self::DuplicateTensor(name) => {
                write!(f, "the tensor `{}` twice", Short(name))
            }
            Self::Alignment => f.write_str("`general.alignment` is not a power of two"),
            Self::Shape(name) => write!(
                f,
                "the dimensions of the tensor `{}` do not go with its type",
                Short(name)
            ),
        }
    }
}

/// A name out of a damaged file: no control characters, and not the whole of a long one.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        let mut rest = self.0.chars();
        for character in rest.by_ref().take(MOST) {
            character.escape_debug().fmt(f)?;
        }
        if rest.next().is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

impl std::error::Error for GgufError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}
