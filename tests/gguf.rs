//! The GGUF reader against files: headers of published shapes, files that the official Python `gguf` package wrote
//! (`tests/tools/write_gguf.py`), and damaged copies of both.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::size_of;
use std::path::{Path, PathBuf};

use gpurouter::vram::{
    GgufError, Header, Limited, ShardName, Tensor, TensorType, Value, merge, read,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// What the reader may hold beside the header that it returns: its buffer.
const BUFFER: u64 = 64 << 10;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/vram")
        .join(path)
}

fn header(path: &str) -> Header {
    let mut file = File::open(data(path)).expect(path);
    read(&mut file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn length(path: &str) -> u64 {
    fs::metadata(data(path)).expect(path).len()
}

/// The rows of `sums.csv`: header, then file bytes, tensor bytes, parameters and loaded bytes where told.
fn sums() -> Vec<(String, [Option<u64>; 4])> {
    let text = fs::read_to_string(data("sums.csv")).expect("the sums");
    let row = |line: &str| {
        let mut cells = line.split(',');
        let path = cells.next().expect("a path").to_owned();
        let mut number = || cells.next().expect("a cell").parse().ok();
        (path, [number(), number(), number(), number()])
    };
    text.lines().skip(2).map(row).collect()
}

#[test]
fn headers_of_all_published_shapes_are_read_to_the_byte() {
    let rows = sums();
    assert_eq!(rows.len(), 24 + 19);
    for (path, [file_bytes, tensor_bytes, parameters, loaded]) in rows {
        let header = header(&path);
        assert_eq!(
            header.data_offset,
            length(&path),
            "{path}: the header is the whole file"
        );
        assert!(header.arch_unsigned("block_count").is_some(), "{path}");
        assert!(header.quantization().is_some(), "{path}");
        let sum = header.tensor_bytes().expect("known types");
        let embedding = header.tensor("token_embd.weight").expect("an embedding");
        assert_eq!(
            header.vocab_size(),
            embedding.dims.get(1).copied(),
            "{path}"
        );
        if let Some(expected) = loaded {
            let tied = header.tensor("output.weight").is_none();
            let copy = if tied { embedding.bytes() } else { Some(0) };
            assert_eq!(sum + copy.expect("a known type"), expected, "{path}");
        } else {
            assert_eq!(Some(sum), tensor_bytes, "{path}");
            assert_eq!(header.parameters(), parameters, "{path}");
            let file = file_bytes.expect("a size");
            assert_eq!(header.data_offset + sum, file, "{path}");
            assert_eq!(header.tensor_bytes_of_file(file), sum, "{path}");
        }
    }
}

/// Bytes that the tensors take in a file: each is padded to the alignment.
fn stored(tensors: &[Tensor]) -> u64 {
    (tensors.iter())
        .map(|tensor| tensor.bytes().expect("a known type").next_multiple_of(32))
        .sum()
}

#[test]
fn files_of_the_official_writer_add_up_exactly() {
    for path in [
        "written/little.gguf",
        "written/big.gguf",
        "written/split.gguf",
        "written/split-00001-of-00003.gguf",
        "written/split-00002-of-00003.gguf",
        "written/split-00003-of-00003.gguf",
    ] {
        let header = header(path);
        assert_eq!(
            header.data_offset + stored(&header.tensors),
            length(path),
            "{path}"
        );
        assert_eq!(header.version, 3, "{path}");
    }
    let kinds = |path| {
        let mut kinds: Vec<TensorType> = header(path).tensors.iter().map(|t| t.kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds.len()
    };
    assert_eq!(kinds("written/little.gguf"), 15);
}

#[test]
fn values_of_the_official_writer_are_read_in_both_byte_orders() {
    for (path, big_endian) in [("written/little.gguf", false), ("written/big.gguf", true)] {
        let header = header(path);
        assert_eq!(header.big_endian, big_endian);
        let expected = [
            ("general.architecture", Value::Text("llama".to_owned())),
            ("general.file_type", Value::Unsigned(15)),
            ("llama.rope.freq_base", Value::Float(10_000.0)),
            (
                "llama.attention.head_count",
                Value::Numbers(vec![8.0, 8.0, 4.0]),
            ),
            (
                "llama.attention.sliding_window_pattern",
                Value::Numbers(vec![1.0, 0.0, 1.0]),
            ),
            ("tokenizer.ggml.tokens", Value::Length(5)),
            (
                "tokenizer.ggml.scores",
                Value::Numbers(vec![0.0, -1.0, -2.5, 3.0, 4.0]),
            ),
            ("test.u8", Value::Unsigned(200)),
            ("test.i8", Value::Signed(-100)),
            ("test.u16", Value::Unsigned(60_000)),
            ("test.i16", Value::Signed(-30_000)),
            ("test.u32", Value::Unsigned(4_000_000_000)),
            ("test.i32", Value::Signed(-2_000_000_000)),
            ("test.f32", Value::Float(0.25)),
            ("test.yes", Value::Bool(true)),
            ("test.no", Value::Bool(false)),
            ("test.text", Value::Text("grüß".to_owned())),
            ("test.u64", Value::Unsigned((1 << 63) + 1)),
            ("test.i64", Value::Signed(-(1 << 62))),
            ("test.f64", Value::Float(1e-300)),
            ("test.long", Value::Length(2000)),
            (
                "test.longest_kept",
                Value::Numbers((0..1024).map(f64::from).collect()),
            ),
            ("test.bytes", Value::Numbers(vec![1.0, 2.0, 255.0])),
        ];
        for (key, value) in expected {
            assert_eq!(header.get(key), Some(&value), "{path}: {key}");
        }
        let kv = |layer| header.layer_unsigned("attention.head_count_kv", layer);
        assert_eq!(
            [kv(0), kv(1), kv(2), kv(3)],
            [Some(2), Some(0), Some(2), None]
        );
        let four = header.tensor("blk.0.four").expect("a tensor");
        assert_eq!(
            (four.kind, four.dims.as_slice()),
            (TensorType::F16, &[5, 4, 3, 2][..])
        );
    }
}

#[test]
fn a_split_model_is_the_same_as_the_whole_one() {
    let name = ShardName::parse("written/split-00002-of-00003.gguf").expect("a shard");
    let shards: Vec<Header> = name.all().map(|path| header(&path)).collect();
    let whole = header("written/split.gguf");
    let merged = merge(shards.clone()).expect("a whole model");
    assert_eq!(merged.tensors, whole.tensors);
    assert_eq!(merged.parameters(), whole.parameters());
    assert_eq!(merged.architecture(), whole.architecture());
    assert_eq!((merged.shards, whole.shards), (3, 1));
    let error = merge(shards[..2].to_vec()).expect_err("one is missing");
    assert!(error.to_string().starts_with("file 3 of 3 "), "{error}");
}

#[test]
fn every_truncation_of_real_headers_is_told_with_what_is_needed() {
    for path in [
        "written/little.gguf",
        "oracle_headers/lfm2-1.2b.header.gguf",
    ] {
        let bytes = fs::read(data(path)).expect(path);
        // The last bytes before the data are padding, which is not read.
        let needed = (0..bytes.len())
            .take_while(|&end| match read(&mut &bytes[..end]) {
                Err(GgufError::Truncated { at, need }) => {
                    assert_eq!(at, end as u64, "{path}");
                    assert!(
                        need > at && need <= bytes.len() as u64,
                        "{path}: {need} at {at}"
                    );
                    true
                }
                Ok(_) => false,
                Err(error) => panic!("{path} at {end}: {error}"),
            })
            .count() as u64;
        let offset = header(path).data_offset;
        assert!(
            (offset - 32..=offset).contains(&needed),
            "{path}: {needed} of {offset}"
        );
    }
}

/// Counts what is read of it.
struct Counted<'a> {
    bytes: &'a [u8],
    read: u64,
}

impl<'a> Counted<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, read: 0 }
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

/// An endless file: the same bytes again and again.
struct Endless {
    pattern: Vec<u8>,
    at: usize,
    read: u64,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in buffer.iter_mut() {
            *byte = self.pattern[self.at % self.pattern.len()];
            self.at += 1;
        }
        self.read += buffer.len() as u64;
        Ok(buffer.len())
    }
}

#[test]
fn an_endless_header_is_given_up_at_the_limit() {
    // One entry: an array of texts that never ends, each eight bytes of length and three of text.
    let mut start = b"GGUF".to_vec();
    start.extend(3_u32.to_le_bytes());
    start.extend(0_u64.to_le_bytes());
    start.extend(1_u64.to_le_bytes());
    start.extend(1_u64.to_le_bytes());
    start.extend(b"a");
    start.extend(9_u32.to_le_bytes());
    start.extend(8_u32.to_le_bytes());
    start.extend((8_u64 << 20).to_le_bytes());
    let mut text = 3_u64.to_le_bytes().to_vec();
    text.extend(b"abc");
    let mut endless = Endless {
        pattern: text,
        at: 0,
        read: 0,
    };
    let error = read(&mut io::Cursor::new(start).chain(&mut endless)).expect_err("too long");
    assert!(
        matches!(
            error,
            GgufError::TooLarge {
                what: Limited::Header,
                ..
            }
        ),
        "{error}"
    );
    assert!(endless.read <= Limited::Header.limit() + BUFFER);
}

/// Bytes that a header holds, at least: what its collections have room for.
fn footprint(header: &Header) -> u64 {
    let entries = header.metadata.0.iter().map(|(key, value)| {
        let held = match value {
            Value::Text(text) => text.capacity(),
            Value::Numbers(numbers) => numbers.capacity() * size_of::<f64>(),
            _ => 0,
        };
        // A node of a B-tree may be half empty.
        2 * (size_of::<String>() + size_of::<Value>()) + key.capacity() + held
    });
    let tensors = header
        .tensors
        .iter()
        .map(|tensor| tensor.name.capacity() + tensor.dims.capacity() * size_of::<u64>());
    let table = header.tensors.capacity() * size_of::<Tensor>();
    (entries.sum::<usize>() + tensors.sum::<usize>() + table) as u64
}

/// Reads it, and holds the result against what came in.
fn check_proportion(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut input = Counted::new(bytes);
    if let Ok(header) = read(&mut input) {
        let most = 24 * input.read + 1024;
        prop_assert!(
            footprint(&header) <= most,
            "{} of {}",
            footprint(&header),
            input.read
        );
        // Nothing that follows from it panics either.
        let _ = (
            header.vocab_size(),
            header.parameters(),
            header.tensor_bytes(),
        );
        let _ = (
            header.quantization(),
            header.split(),
            header.layer_unsigned("block_count", 0),
        );
        let _ = merge(vec![header]);
    }
    Ok(())
}

/// A real header, the same one for the same number.
fn real(index: Index) -> Vec<u8> {
    let mut paths: Vec<String> = sums().into_iter().map(|(path, _)| path).collect();
    paths.extend(["written/little.gguf", "written/big.gguf"].map(str::to_owned));
    fs::read(data(&paths[index.index(paths.len())])).expect("a header")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_real_headers_are_read_in_proportion(
        which: Index,
        changes in proptest::collection::vec((any::<Index>(), any::<u8>(), 0_u8..3), 1..8),
        end in prop::option::weighted(0.3, any::<Index>()),
    ) {
        let mut bytes = real(which);
        for (at, value, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes.insert(at, value),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        check_proportion(&bytes)?;
    }

    #[test]
    fn truncated_real_headers_ask_for_more_of_the_same(which: Index, end: Index) {
        let bytes = real(which);
        let end = end.index(bytes.len());
        match read(&mut &bytes[..end]) {
            Err(GgufError::Truncated { at, need }) => {
                prop_assert_eq!(at, end as u64);
                prop_assert!(need > at && need <= bytes.len() as u64);
            }
            // Only data or padding was cut.
            Ok(header) => prop_assert!(header.data_offset <= end as u64 + 31),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn small_counts_that_claim_much_are_read_in_proportion(
        head in proptest::collection::vec(0_u8..12, 12..200), fill: u8, big: bool,
    ) {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(if big { 3_u32.to_be_bytes() } else { 3_u32.to_le_bytes() });
        bytes.extend(head);
        bytes.resize(4096, fill % 3);
        check_proportion(&bytes)?;
    }
}

#[test]
fn the_reader_leaves_the_rest_of_the_file_alone() {
    let mut file = File::open(data("written/little.gguf")).expect("a file");
    read(&mut file).expect("a header");
    let at = file.stream_position().expect("a position");
    assert!(at <= BUFFER);
    file.seek(SeekFrom::Start(0)).expect("a seek");
    assert!(read(&mut file.take(100)).is_err());
}
