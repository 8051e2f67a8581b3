//! Headers built byte by byte: versions, byte orders, limits, damage, and inputs that end or fail.

use std::io::{self, ErrorKind};

use proptest::prelude::*;

use super::*;

/// Writes GGUF as its specification says.
struct Writer {
    bytes: Vec<u8>,
    big: bool,
}

impl Writer {
    fn new(version: u32, big: bool, tensors: u64, entries: u64) -> Self {
        let mut writer = Self {
            bytes: b"GGUF".to_vec(),
            big,
        };
        writer.u32(version).u64(tensors).u64(entries);
        writer
    }

    fn ordered(&mut self, little: &[u8]) -> &mut Self {
        if self.big {
            self.bytes.extend(little.iter().rev());
        } else {
            self.bytes.extend(little);
        }
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.ordered(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.ordered(&value.to_le_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64);
        self.bytes.extend(text.as_bytes());
        self
    }

    /// A key and the number of its value's type.
    fn key(&mut self, key: &str, kind: u32) -> &mut Self {
        self.text(key).u32(kind)
    }

    fn array(&mut self, kind: u32, length: u64) -> &mut Self {
        self.u32(kind).u64(length)
    }

    fn tensor(&mut self, name: &str, dims: &[u64], kind: u32) -> &mut Self {
        self.text(name).u32(u32::try_from(dims.len()).expect("few"));
        for &dim in dims {
            self.u64(dim);
        }
        self.u32(kind).u64(0)
    }
}

fn parsed(bytes: &[u8]) -> Result<Header, GgufError> {
    read(&mut &bytes[..])
}

/// A header with every kind of value.
fn sample(version: u32, big: bool) -> Vec<u8> {
    let mut writer = Writer::new(version, big, 2, 17);
    writer
        .key("general.architecture", 8)
        .text("llama")
        .key("u8", 0)
        .ordered(&[200])
        .key("i8", 1)
        .ordered(&[0x9c])
        .key("u16", 2)
        .ordered(&60_000_u16.to_le_bytes())
        .key("i16", 3)
        .ordered(&(-30_000_i16).to_le_bytes())
        .key("u32", 4)
        .u32(4_000_000_000)
        .key("i32", 5)
        .ordered(&(-2_000_000_000_i32).to_le_bytes())
        .key("f32", 6)
        .ordered(&0.25_f32.to_le_bytes())
        .key("bool", 7)
        .ordered(&[1])
        .key("u64", 10)
        .u64(u64::MAX)
        .key("i64", 11)
        .ordered(&i64::MIN.to_le_bytes())
        .key("f64", 12)
        .ordered(&1e-300_f64.to_le_bytes());
    writer
        .key("tokens", 9)
        .array(8, 3)
        .text("a")
        .text("")
        .text("ccc");
    writer.key("layers", 9).array(4, 3).u32(8).u32(0).u32(8);
    writer.key("swa", 9).array(7, 2).ordered(&[1]).ordered(&[0]);
    writer.key("long", 9).array(4, MAX_NUMBERS + 1);
    for number in 0..=1024 {
        writer.u32(number);
    }
    writer
        .key("nested", 9)
        .array(9, 2)
        .array(0, 1)
        .ordered(&[7]);
    writer.array(8, 1).text("deep");
    writer
        .tensor("a.weight", &[256, 2], 12)
        .tensor("b", &[], 99);
    writer.bytes
}

#[test]
fn both_versions_and_byte_orders_say_the_same() {
    let expected = parsed(&sample(3, false)).expect("a header");
    for (version, big) in [(2, false), (3, false), (2, true), (3, true)] {
        let bytes = sample(version, big);
        let header = parsed(&bytes).unwrap_or_else(|error| panic!("{version} {big}: {error}"));
        assert_eq!((header.version, header.big_endian), (version, big));
        assert_eq!(header.metadata, expected.metadata);
        assert_eq!(header.tensors, expected.tensors);
        assert_eq!(
            header.data_offset,
            (bytes.len() as u64).next_multiple_of(DEFAULT_ALIGNMENT)
        );
    }
}

#[test]
fn every_value_is_kept_as_it_is() {
    let header = parsed(&sample(3, false)).expect("a header");
    let value = |key: &str| header.get(key).expect(key).clone();
    assert_eq!(header.architecture(), Some("llama"));
    assert_eq!(value("u8"), Value::Unsigned(200));
    assert_eq!(value("i8"), Value::Signed(-100));
    assert_eq!(value("u16"), Value::Unsigned(60_000));
    assert_eq!(value("i16"), Value::Signed(-30_000));
    assert_eq!(value("u32"), Value::Unsigned(4_000_000_000));
    assert_eq!(value("i32"), Value::Signed(-2_000_000_000));
    assert_eq!(value("f32"), Value::Float(0.25));
    assert_eq!(value("bool"), Value::Bool(true));
    assert_eq!(value("u64"), Value::Unsigned(u64::MAX));
    assert_eq!(value("i64"), Value::Signed(i64::MIN));
    assert_eq!(value("f64"), Value::Float(1e-300));
    assert_eq!(value("tokens"), Value::Length(3));
    assert_eq!(value("layers"), Value::Numbers(vec![8.0, 0.0, 8.0]));
    assert_eq!(value("swa"), Value::Numbers(vec![1.0, 0.0]));
    assert_eq!(value("long"), Value::Length(MAX_NUMBERS + 1));
    assert_eq!(value("nested"), Value::Length(2));
    assert_eq!(header.tensors[0].bytes(), Some(288));
    assert_eq!(header.tensors[1].dims, [1], "no dimensions: one number");
    assert_eq!(header.tensors[1].kind, TensorType(99));
    assert_eq!(header.shards, 1);
}

#[test]
fn a_header_cut_anywhere_says_how_much_is_needed() {
    let whole = sample(3, false);
    for length in 0..whole.len() {
        match parsed(&whole[..length]) {
            Err(GgufError::Truncated { at, need }) => {
                assert_eq!(at, length as u64);
                assert!(need > at, "{need} at {at}");
                assert!(need <= whole.len() as u64, "{need} at {at}");
            }
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

#[test]
fn a_token_list_is_asked_for_as_a_whole() {
    let mut writer = Writer::new(3, false, 0, 1);
    writer.key("tokens", 9).array(8, 100_000).text("a");
    let error = parsed(&writer.bytes).expect_err("the list is not there");
    let GgufError::Truncated { at, need } = error else {
        panic!("{error}")
    };
    assert!(need >= at - 9 + 8 * 100_000, "{need}");
}

/// Gives a few bytes at a time, and remembers how many.
struct Piecemeal<'a> {
    bytes: &'a [u8],
    piece: usize,
    given: usize,
}

impl Read for Piecemeal<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.given..];
        let count = rest.len().min(buffer.len()).min(self.piece);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

#[test]
fn nothing_is_fetched_beyond_the_piece_in_which_the_header_ends() {
    let header = sample(3, false);
    let mut file = header.clone();
    file.resize(header.len() + 200_000, 0xAA);
    for piece in [1, 7, 64, 1000, 70_000] {
        let mut input = Piecemeal {
            bytes: &file,
            piece,
            given: 0,
        };
        let read = read(&mut input).expect("a header");
        assert_eq!(read, parsed(&header).expect("a header"), "{piece}");
        assert!(input.given >= header.len());
        // A piece is asked for only when a byte of it is needed; the buffer cuts large pieces.
        let most = header.len().next_multiple_of(piece.min(64 << 10));
        assert!(
            input.given <= most,
            "{} with pieces of {piece}",
            input.given
        );
    }
}

/// Interrupts every read once, and fails for good after some bytes.
struct Flaky<'a> {
    bytes: &'a [u8],
    interrupt: bool,
    fails: bool,
}

impl Read for Flaky<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupt = !self.interrupt;
        if self.interrupt {
            return Err(ErrorKind::Interrupted.into());
        }
        match self.bytes.split_first() {
            Some((&first, rest)) => {
                buffer[0] = first;
                self.bytes = rest;
                Ok(1)
            }
            None if self.fails => Err(ErrorKind::ConnectionReset.into()),
            None => Ok(0),
        }
    }
}

#[test]
fn an_interrupted_read_is_repeated_and_a_failure_is_told() {
    let bytes = sample(3, false);
    let flaky = |bytes, fails| Flaky {
        bytes,
        interrupt: false,
        fails,
    };
    assert!(read(&mut flaky(&bytes, false)).is_ok());
    let error = read(&mut flaky(&bytes[..100], true)).expect_err("a failure");
    assert!(
        matches!(&error, GgufError::Io(cause) if cause.kind() == ErrorKind::ConnectionReset),
        "{error}"
    );
}

#[test]
fn other_versions_are_named() {
    for version in [0, 1, 4, 0x0101_0101] {
        let error = parsed(&Writer::new(version, false, 0, 0).bytes).expect_err("unsupported");
        assert!(
            matches!(error, GgufError::Unsupported { version: named } if named == version),
            "{error}"
        );
    }
    let error = parsed(&Writer::new(1, false, 0, 0).bytes).expect_err("unsupported");
    assert!(error.to_string().contains("version 1 (August 2023)"));
}

#[test]
fn files_of_other_kinds_are_named() {
    use super::super::gguf_error::Lookalike as L;
    let samples: [(&[u8], L); 14] = [
        (b"PK\x03\x04\x00\x00\x08\x08", L::Zip),
        (
            b"\x40\x01\x00\x00\x00\x00\x00\x00{\"__metadata__\"",
            L::Safetensors,
        ),
        (b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9", L::Pickle),
        (b"\n<!DOCTYPE html><html>", L::Html),
        (b"<HTML><head>", L::Html),
        (b"{\"error\":\"not found\"}", L::Json),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:",
            L::LfsPointer,
        ),
        (b"tjgg\x03\x00\x00\x00", L::OldGgml),
        (b"lmgg\x03\x00\x00\x00", L::OldGgml),
        (&[0; 64], L::Zeros),
        (b"GGML\x03\x00\x00\x00", L::Unknown),
        (b"GGU", L::Unknown),
        (b"ab", L::Unknown),
        (b"\xff\xfe\xfd\xfc\xfb", L::Unknown),
    ];
    for (bytes, kind) in samples {
        match parsed(bytes) {
            Err(GgufError::NotGguf(found)) => assert_eq!(found, kind, "{bytes:?}"),
            Err(GgufError::Truncated { need: 24, .. }) if b"GGUF".starts_with(bytes) => {}
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
    let told = GgufError::NotGguf(L::LfsPointer).to_string();
    assert!(told.contains("git lfs pull"), "{told}");
}

#[track_caller]
fn too_large(bytes: &[u8], expected: Limited) {
    match parsed(bytes) {
        Err(GgufError::TooLarge { what, found, .. }) => {
            assert_eq!(what, expected);
            assert!(found > what.limit());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_beyond_any_model_are_refused_before_anything_is_read_for_them() {
    let entry = || Writer::new(3, false, 0, 1);
    let tensor = || Writer::new(3, false, 1, 0);
    too_large(&Writer::new(3, false, 65_537, 0).bytes, Limited::Tensors);
    too_large(&Writer::new(3, false, 0, u64::MAX).bytes, Limited::Entries);
    too_large(&entry().u64(65_536).bytes, Limited::Key);
    too_large(&entry().key("a", 8).u64(u64::MAX).bytes, Limited::Header);
    too_large(
        &entry().key("a", 9).array(8, 1 << 40).bytes,
        Limited::Header,
    );
    too_large(
        &entry().key("a", 9).array(12, u64::MAX).bytes,
        Limited::Header,
    );
    too_large(
        &entry().key("a", 9).array(9, u64::MAX).bytes,
        Limited::Header,
    );
    let nested = &mut entry();
    nested
        .key("a", 9)
        .array(9, 1)
        .array(9, 1)
        .array(9, 1)
        .array(9, 1);
    too_large(&nested.bytes, Limited::Nesting);
    too_large(&tensor().u64(1024).bytes, Limited::Name);
    too_large(&tensor().text("a").u32(5).bytes, Limited::Dimensions);
}

#[track_caller]
fn invalid(bytes: &[u8], expected: &Fault) {
    match parsed(bytes) {
        Err(GgufError::Invalid { fault, .. }) => assert_eq!(&fault, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_is_named() {
    let entries = |count| Writer::new(3, false, 0, count);
    let tensors = |count| Writer::new(3, false, count, 0);
    invalid(&entries(1).key("a", 13).bytes, &Fault::ValueType(13));
    invalid(&entries(1).key("a", 9).u32(77).bytes, &Fault::ValueType(77));
    let twice = &mut entries(2);
    twice.key("a", 4).u32(1).key("a", 4).u32(2);
    invalid(&twice.bytes, &Fault::DuplicateKey("a".to_owned()));
    let twice = &mut tensors(2);
    twice.tensor("t", &[1], 0).tensor("t", &[2], 0);
    invalid(&twice.bytes, &Fault::DuplicateTensor("t".to_owned()));
    let shape = || Fault::Shape("t".to_owned());
    for (dims, kind) in [
        (&[255, 2][..], 12),
        (&[1 << 40, 1 << 40], 0),
        (&[1 << 40, 1 << 40], 99),
        (&[u64::MAX], 0),
    ] {
        invalid(&tensors(1).tensor("t", dims, kind).bytes, &shape());
    }
    let much = &mut tensors(2);
    much.tensor("s", &[1 << 61], 0).tensor("t", &[1 << 61], 0);
    invalid(&much.bytes, &shape());
    let broken = &mut entries(1);
    broken.u64(2).bytes.extend([0xff, 0xfe]);
    broken.u32(4).u32(1);
    invalid(&broken.bytes, &Fault::NotUtf8);
}

#[test]
fn the_alignment_decides_where_the_data_begins() {
    let aligned = |kind, value: u32| {
        let mut writer = Writer::new(3, false, 0, 1);
        writer.key("general.alignment", kind).u32(value);
        parsed(&writer.bytes)
    };
    assert_eq!(aligned(4, 64).expect("a header").data_offset, 64);
    assert_eq!(aligned(4, 4096).expect("a header").data_offset, 4096);
    assert_eq!(aligned(4, 1).expect("a header").data_offset, 57);
    for (kind, value) in [(4, 0), (4, 48), (5, u32::MAX), (6, 32)] {
        let error = aligned(kind, value).expect_err("no alignment");
        assert!(
            matches!(
                error,
                GgufError::Invalid {
                    fault: Fault::Alignment,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn long_arrays_of_every_kind_are_passed_over_to_the_byte() {
    let sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
    for (kind, size) in (0..).zip(sizes).filter(|&(_, size)| size > 0) {
        let mut writer = Writer::new(3, false, 0, 2);
        writer.key("long", 9).array(kind, MAX_NUMBERS + 1);
        writer.bytes.extend(vec![0xAA; size * 1025]);
        writer.key("after", 4).u32(7);
        let header = parsed(&writer.bytes).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(header.get("long"), Some(&Value::Length(1025)), "{kind}");
        assert_eq!(header.unsigned("after"), Some(7), "{kind}");
    }
}

#[test]
fn a_long_text_keeps_its_length_and_a_broken_one_what_can_be_read() {
    let text = |bytes: &[u8]| {
        let mut writer = Writer::new(3, false, 0, 1);
        writer
            .key("a", 8)
            .u64(bytes.len() as u64)
            .bytes
            .extend(bytes);
        parsed(&writer.bytes).expect("a header").get("a").cloned()
    };
    let longest = "x".repeat(65_535);
    assert_eq!(text(longest.as_bytes()), Some(Value::Text(longest)));
    assert_eq!(text(&vec![b'x'; 65_536]), Some(Value::Length(65_536)));
    assert_eq!(text(b"a\xffb"), Some(Value::Text("a\u{fffd}b".to_owned())));
}

#[test]
fn names_out_of_damaged_files_are_told_in_short_and_without_control_characters() {
    let fault = Fault::DuplicateKey(format!("\u{1b}[31m{}", "x".repeat(1000)));
    let told = fault.to_string();
    assert!(!told.contains('\u{1b}'), "{told}");
    assert!(told.len() < 120, "{told}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parsed(&bytes);
        let _ = Lookalike::of(&bytes);
    }

    #[test]
    fn any_bytes_after_the_counts_are_read_without_a_panic(
        tensors in 0_u64..4, entries in 0_u64..4, big: bool,
        bytes in proptest::collection::vec(prop_oneof![3 => 0_u8..13, 1 => any::<u8>()], 0..400),
    ) {
        let mut writer = Writer::new(3, big, tensors, entries);
        writer.bytes.extend(bytes);
        let _ = parsed(&writer.bytes);
    }
}
