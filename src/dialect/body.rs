//! Bodies as they come over the wire: content encodings, and forms.

use std::borrow::Cow;
use std::io::{self, Read};
use std::ops::Range;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use memchr::memmem;
use ruzstd::decoding::StreamingDecoder;

use super::{ApiError, ErrorKind};

/// Most bytes of a body, encoded and decoded; the configuration's `max_body` default.
pub const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Largest window that a zstd frame may ask for. 8 MiB is what every decoder must support (RFC 8878, 3.1.1.1.2); the window is memory
/// taken before the first byte is out.
const ZSTD_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Most parts of a form that are looked at, and most bytes of a part's head and of a model's name.
const FORM_PARTS: usize = 64;
const PART_HEAD_BYTES: usize = 4096;
const MODEL_NAME_BYTES: usize = 1024;

/// Decodes a request's body by its `Content-Encoding` (`zstd`, `gzip`, `deflate`; Codex sends the first). Borrowed when it is not
/// encoded.
///
/// Errors: 415 for an encoding that is none of these, 413 when more than `cap` bytes come out, 400 when it is damaged.
pub fn decode_content<'a>(
    encoding: Option<&str>,
    body: &'a [u8],
    cap: usize,
) -> Result<Cow<'a, [u8]>, ApiError> {
    match encoding.unwrap_or_default().trim() {
        "" => Ok(Cow::Borrowed(body)),
        encoding if encoding.eq_ignore_ascii_case("identity") => Ok(Cow::Borrowed(body)),
        encoding => decode(encoding, body, cap),
    }
}

/// Apart, because the decoders take more than 50 KB of stack, which every connection that passes here would keep.
#[inline(never)]
fn decode<'a>(encoding: &str, body: &'a [u8], cap: usize) -> Result<Cow<'a, [u8]>, ApiError> {
    let encoding = encoding.to_ascii_lowercase();
    let decoded = match encoding.as_str() {
        "gzip" | "x-gzip" => read_capped(MultiGzDecoder::new(body), cap),
        // By the standard `deflate` is zlib's form; some clients send the bare one. A zlib head is a multiple of 31.
        "deflate" => match body {
            [first, second, ..] if u16::from_be_bytes([*first, *second]) % 31 == 0 => {
                read_capped(ZlibDecoder::new(body), cap)
            }
            _ => read_capped(DeflateDecoder::new(body), cap),
        },
        "zstd" => StreamingDecoder::new_with_max_window_size(body, ZSTD_WINDOW_BYTES)
            .map_err(io::Error::other)
            .and_then(|decoder| read_capped(decoder, cap)),
        _ => {
            return Err(ApiError::new(
                ErrorKind::UnsupportedMedia,
                format!("content encoding '{encoding}' is not supported (zstd, gzip, deflate are)"),
            ));
        }
    };
    match decoded {
        Ok(Some(decoded)) => Ok(Cow::Owned(decoded)),
        Ok(None) => Err(ApiError::new(
            ErrorKind::TooLarge,
            format!("the decoded body is larger than {cap} bytes"),
        )),
        Err(error) => Err(ApiError::invalid(format!(
            "the body is not valid {encoding}: {error}"
        ))),
    }
}

/// All that comes out, or `None` when it is more than `cap` bytes.
fn read_capped(decoder: impl Read, cap: usize) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    decoder
        .take((cap as u64).saturating_add(1))
        .read_to_end(&mut body)?;
    Ok((body.len() <= cap).then_some(body))
}

/// The field `model` of a `multipart/form-data` body: its text and where it stands. `None` when there is no such field or the body is no
/// such form.
pub fn multipart_model<'a>(content_type: &str, body: &'a [u8]) -> Option<(&'a str, Range<usize>)> {
    let delimiter = format!("--{}", boundary_of(content_type)?);
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let mut part_starts = finder.find_iter(body).map(|at| at + delimiter.len());
    for start in part_starts.by_ref().take(FORM_PARTS) {
        let part = body.get(start..).unwrap_or_default();
        let window = part.get(..PART_HEAD_BYTES).unwrap_or(part);
        let Some(head_bytes) = memmem::find(window, b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(window.get(..head_bytes).unwrap_or_default());
        if !names_model(&head) {
            continue;
        }
        let value_start = start + head_bytes + 4;
        let value = body.get(value_start..).unwrap_or_default();
        let value = value
            .get(..MODEL_NAME_BYTES + delimiter.len())
            .unwrap_or(value);
        let end = memmem::find(value, format!("\r\n{delimiter}").as_bytes())?;
        let name = std::str::from_utf8(value.get(..end)?).ok()?;
        return (!name.is_empty()).then_some((name, value_start..value_start + end));
    }
    None
}

fn boundary_of(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';');
    let kind = parameters.next()?.trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        // RFC 2046 allows 70 characters.
        (name.trim().eq_ignore_ascii_case("boundary") && (1..=70).contains(&value.len()))
            .then_some(value)
    })
}

fn names_model(head: &str) -> bool {
    head.lines().any(|line| {
        let Some((name, value)) = line.split_once(':') else {
            return false;
        };
        name.trim().eq_ignore_ascii_case("content-disposition")
            && value
                .split(';')
                .any(|parameter| matches!(parameter.trim(), "name=\"model\"" | "name=model"))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = br#"{"model":"tiny","input":"hello hello hello hello"}"#;
    /// `printf TEXT | zstd -19`, made once with zstd 1.5.
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x04\x68\x45\x01\x00\x14\x02\x7b\x22\x6d\x6f\x64\x65\x6c\x22\x3a\x22\x74\x69\x6e\x79\x22\x2c\x22\x69\x6e\x70\x75\x74\x22\x3a\x22\x68\x65\x6c\x6c\x6f\x20\x22\x7d\x01\x00\x67\x2e\x4e\x36\x5a\xc4\xf7";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn decodes_every_encoding_that_clients_send() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
        bare.write_all(TEXT).unwrap();
        for (encoding, body) in [
            ("gzip", gzip(TEXT)),
            (" GZIP", gzip(TEXT)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", bare.finish().unwrap()),
            ("zstd", ZSTD.to_vec()),
        ] {
            let decoded = decode_content(Some(encoding), &body, 1000).unwrap();
            assert_eq!(decoded, TEXT, "{encoding}");
        }
        assert!(matches!(
            decode_content(None, TEXT, 10),
            Ok(Cow::Borrowed(_))
        ));
    }

    #[test]
    fn refuses_bombs_unknown_encodings_and_damage() {
        let bomb = gzip(&vec![b'a'; 1_000_000]);
        let status = |encoding, body: &[u8]| {
            decode_content(Some(encoding), body, 1000)
                .unwrap_err()
                .status
        };
        assert_eq!(status("gzip", &bomb), 413);
        assert_eq!(status("br", TEXT), 415);
        assert_eq!(status("gzip", TEXT), 400);
        assert_eq!(status("zstd", TEXT), 400);
        assert_eq!(status("gzip", &gzip(TEXT)[..20]), 400);
    }

    #[test]
    fn finds_the_model_among_the_parts_of_a_form() {
        let body = b"--xY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\x00\xff\r\n\r\nmodel\r\n--xY\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper:large\r\n--xY--\r\n";
        let (name, span) =
            multipart_model("multipart/form-data; charset=x; boundary=\"xY\"", body).unwrap();
        assert_eq!(name, "whisper:large");
        assert_eq!(&body[span], b"whisper:large");
        assert_eq!(multipart_model("multipart/form-data", body), None);
        assert_eq!(multipart_model("application/json; boundary=xY", body), None);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200), encoding in prop_oneof![Just("gzip"), Just("deflate"), Just("zstd")]) {
            let _ = decode_content(Some(encoding), &body, 1000);
            let _ = decode_content(Some(encoding), &[&[0x28, 0xb5, 0x2f, 0xfd], &body[..]].concat(), 1000);
        }

        #[test]
        fn any_form_is_read_without_a_panic(body in "(--b|\r\n|name=\"model\"|content-disposition:|;|x|é){0,30}") {
            let _ = multipart_model("multipart/form-data; boundary=b", body.as_bytes());
        }
    }
}
