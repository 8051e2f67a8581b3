//! The recorded exchanges of `tests/data/wire`, read for tests.

/// The body of the first answer in a recorded exchange, chunked framing removed.
pub(crate) fn body_of(exchange: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/wire/{exchange}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let response = text.split("<<< RESPONSE").nth(1).unwrap();
    let (head, rest) = response.split_once("\n\\r\\n\n").unwrap();
    let rest = rest.split("\n>>> REQUEST").next().unwrap();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        return unchunked(rest);
    }
    let length = head
        .lines()
        .find_map(|line| {
            let line = line.to_ascii_lowercase();
            line.strip_prefix("content-length: ")
                .map(|value| value.trim_end_matches("\\r\\n").parse::<usize>().unwrap())
        })
        .unwrap();
    rest.as_bytes()[..length.min(rest.len())].to_vec()
}

fn unchunked(text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut rest = text;
    loop {
        let (size, after) = rest
            .trim_start_matches(['\r', '\n'])
            .split_once('\n')
            .unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&after.as_bytes()[..size]);
        rest = &after[size..];
    }
}
