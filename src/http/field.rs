//! Writing of header fields and numbers, shared by both directions.

use memchr::memchr3;

/// Whether `name` belongs to one connection and must not travel on (RFC 9110 §7.6.1), or frames the message, which each hop does itself.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Appends `name: value` and a line end. A name that is not a token is left out, and a line break inside the value becomes a space: a value
/// taken from elsewhere must never start a field of its own.
pub(crate) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if name.is_empty() || !name.bytes().all(is_token) {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let from = out.len();
    out.extend_from_slice(value);
    if memchr3(b'\r', b'\n', 0, value).is_some() {
        for byte in out.iter_mut().skip(from) {
            if matches!(byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn is_token(byte: u8) -> bool {
    const OTHERS: &[u8] = b"!#$%&'*+-.^_`|~";
    // A table, because every byte of every field's name is looked at.
    static TOKEN: [bool; 256] = {
        let mut token = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            token[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < OTHERS.len() {
            token[OTHERS[at] as usize] = true;
            at += 1;
        }
        token
    };
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

pub(crate) fn push_decimal(out: &mut Vec<u8>, value: u64) {
    push_digits(out, value, 10);
}

pub(crate) fn push_hex(out: &mut Vec<u8>, value: u64) {
    push_digits(out, value, 16);
}

fn push_digits(out: &mut Vec<u8>, mut value: u64, base: u64) {
    let from = out.len();
    loop {
        let digit = u8::try_from(value % base).unwrap_or(0);
        out.push(if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        });
        value /= base;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(from..) {
        digits.reverse();
    }
}

/// The reason phrase of a status (RFC 9110 §15 and common extensions); clients ignore it, people reading a trace do not.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        529 => "Overloaded",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_start_a_field_of_its_own() {
        let mut out = Vec::new();
        push_field(&mut out, "X-A", b"one\r\nX-B: two");
        push_field(&mut out, "X C", b"three");
        push_field(&mut out, "X-D", "Café".as_bytes());
        assert_eq!(out, "X-A: one  X-B: two\r\nX-D: Café\r\n".as_bytes());
    }

    #[test]
    fn numbers_are_written_in_both_bases() {
        let mut out = Vec::new();
        push_decimal(&mut out, 0);
        push_decimal(&mut out, u64::MAX);
        push_hex(&mut out, 0xdead);
        assert_eq!(out, b"018446744073709551615dead");
    }
}
