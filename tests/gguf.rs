//! The GGUF reader against files: headers of published shapes, and files that the official Python `gguf` package wrote.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use gpurouter::vram::{Header, read};

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/vram")
        .join(folder)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(data(folder))
        .expect("a folder of headers")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "gguf")
        })
        .collect();
    paths.sort();
    paths
}

fn header(path: &Path) -> Header {
    let mut file = File::open(path).expect("a header");
    read(&mut file).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn headers_of_all_published_shapes_are_read() {
    let paths = [files("headers"), files("oracle_headers")].concat();
    assert_eq!(paths.len(), 24 + 19);
    for path in paths {
        let header = header(&path);
        let name = path.display();
        let length = fs::metadata(&path).expect("a size").len();
        assert_eq!(
            header.data_offset, length,
            "{name}: the header and its padding are the whole file"
        );
        assert!(header.architecture().is_some(), "{name}");
        assert!(header.arch_unsigned("block_count").is_some(), "{name}");
        assert!(header.vocab_size().is_some(), "{name}");
        assert!(header.tensor_bytes().is_ok(), "{name}");
        assert!(header.quantization().is_some(), "{name}");
    }
}
