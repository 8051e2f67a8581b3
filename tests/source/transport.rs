//! How remote files are read: pieces, redirects, tokens, proxies, and servers that do not keep to the rules.

use std::time::{Duration, Instant};

use gpurouter::source::{Finder, Limits, Proxies};
use gpurouter::vram::Basis;

use super::common::gguf::{Gguf, file_size, parsed, published};
use super::common::registry::{Fault, Registry};
use super::common::{RefusedPort, Scratch};
use super::{LIMITS, failed, finder, found, places};

const MIB: u64 = 1 << 20;

/// A header of about 12 MiB: three pieces.
fn wide() -> Vec<u8> {
    let header = Gguf::new("llama").vocabulary(260_000);
    let bytes = header.tensor("token_embd.weight", 260_000, 32).bytes();
    assert!(
        (8 * MIB..16 * MIB).contains(&(bytes.len() as u64)),
        "{}",
        bytes.len()
    );
    bytes
}

#[test]
fn an_address_with_ranges_is_read_in_growing_pieces() {
    let registry = Registry::start();
    let header = wide();
    let size = file_size(&header);
    assert!(size > 16 * MIB);
    registry.file("/d/wide-Q8_0.gguf", header.clone(), size);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let address = format!("{url}/d/wide-Q8_0.gguf?signature=secret");
    let wide = found(&address, &finder(&places, "http://unused.invalid"));
    assert_eq!(wide.header, Some(parsed(&header)));
    assert_eq!((wide.basis, wide.size_bytes), (Basis::Header, Some(size)));
    assert_eq!(wide.name, "wide-Q8_0.gguf");
    assert!(!wide.source.contains("secret"), "{}", wide.source);
    assert_eq!(
        registry.ranges("/d/wide-Q8_0.gguf"),
        [
            (0, 4 * MIB - 1),
            (4 * MIB, 8 * MIB - 1),
            (8 * MIB, 16 * MIB - 1)
        ]
    );

    // Kept by address and ETag: one more look at the head, and no byte of the rest.
    found(&address, &finder(&places, "http://unused.invalid"));
    assert_eq!(registry.ranges("/d/wide-Q8_0.gguf").len(), 4);
    registry.file("/d/wide-Q8_0.gguf", published("llama-3.2-1b.f16"), 3 << 30);
    let changed = found(&address, &finder(&places, "http://unused.invalid"));
    assert_eq!(changed.header, Some(parsed(&published("llama-3.2-1b.f16"))));
}

#[test]
fn a_server_without_ranges_is_read_as_far_as_needed() {
    let registry = Registry::start();
    let header = wide();
    let size = 200 * MIB;
    registry.file("/m.gguf", header.clone(), size);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    for (fault, told) in [(Fault::NoRange, Some(size)), (Fault::NoLength, None)] {
        registry.fault("/m.gguf", fault);
        let mut places = places.clone();
        places.cache = None;
        let wide = found(&format!("{url}/m.gguf"), &finder(&places, &url));
        assert_eq!(wide.header, Some(parsed(&header)));
        assert_eq!(wide.size_bytes, told);
    }
    assert_eq!(registry.counts()["/m.gguf"], 2, "one request each");
}

#[test]
fn a_connection_that_is_cut_goes_on_behind_the_last_byte() {
    let registry = Registry::start();
    let header = wide();
    registry.file("/m.gguf", header.clone(), file_size(&header));
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    registry.fault("/m.gguf", Fault::CutOnce(MIB));
    let wide = found(&format!("{url}/m.gguf"), &finder(&places, &url));
    assert_eq!(wide.header, Some(parsed(&header)));
    let ranges = registry.ranges("/m.gguf");
    assert_eq!(ranges[..2], [(0, 4 * MIB - 1), (MIB, 4 * MIB - 1)]);
    assert_eq!(ranges[2].0, 4 * MIB);
}

#[test]
fn pieces_shorter_than_asked_for_are_put_together() {
    let registry = Registry::start();
    let header = Gguf::new("llama")
        .vocabulary(30_000)
        .tensor("a", 32, 32)
        .bytes();
    registry.file("/m.gguf", header.clone(), 100 * MIB);
    registry.fault("/m.gguf", Fault::Short(300_000));
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let model = found(&format!("{url}/m.gguf"), &finder(&places, &url));
    assert_eq!(model.header, Some(parsed(&header)));
    let ranges = registry.ranges("/m.gguf");
    assert!(
        ranges.len() > 2
            && ranges
                .windows(2)
                .all(|pair| pair[0].0 + 300_000 == pair[1].0),
        "{ranges:?}"
    );
}

#[test]
fn servers_that_break_the_rules_are_told_apart() {
    let registry = Registry::start();
    let header = wide();
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);
    registry.file("/m.gguf", header.clone(), file_size(&header));
    registry.file("/empty.gguf", Vec::new(), 0);
    registry.file("/short.gguf", header[..5_000_000].to_vec(), 0);
    registry.file("/page.gguf", b"<!DOCTYPE html><html>".to_vec(), 0);
    for (path, fault, text) in [
        ("/m.gguf", Some(Fault::Status(404, "")), "not found (404)"),
        (
            "/m.gguf",
            Some(Fault::Status(401, "")),
            "access denied (401)",
        ),
        (
            "/m.gguf",
            Some(Fault::Status(206, "")),
            "asked for the bytes from 0",
        ),
        (
            "/m.gguf",
            Some(Fault::Range("bytes 1-9/99")),
            "asked for the bytes from 0",
        ),
        ("/m.gguf", Some(Fault::Cut(MIB)), "cut at byte 3145728 of"),
        (
            "/m.gguf",
            Some(Fault::Redirect("/m.gguf".to_owned())),
            "more than 5 redirects",
        ),
        (
            "/m.gguf",
            Some(Fault::Redirect(String::new())),
            "more than 5 redirects",
        ),
        (
            "/m.gguf",
            Some(Fault::Redirect("file:///etc/passwd".to_owned())),
            "not followed",
        ),
        ("/empty.gguf", None, "the file is empty"),
        ("/short.gguf", None, "is the download complete"),
        ("/page.gguf", None, "web page"),
    ] {
        registry.heal();
        if let Some(fault) = fault {
            registry.fault(path, fault);
        }
        let (error, hint) = failed(&format!("{url}{path}"), &finder);
        assert!(error.contains(text), "{path}: {error}");
        assert!(error.contains(&url) && !hint.is_empty(), "{error}");
    }
    let refused = RefusedPort::new();
    let (error, hint) = failed(&format!("{}/m.gguf", refused.url()), &finder);
    assert!(
        error.contains("could not connect") && hint.contains("network"),
        "{error}"
    );
}

#[test]
fn silence_and_dripping_end_in_time() {
    let registry = Registry::start();
    let header = wide();
    registry.file("/m.gguf", header.clone(), file_size(&header));
    registry.fault("/m.gguf", Fault::Stall(100_000));
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let started = Instant::now();
    let (error, _) = failed(&format!("{url}/m.gguf"), &finder(&places, &url));
    assert!(error.contains("no byte within 0.7 s"), "{error}");
    assert!(started.elapsed() >= LIMITS.idle);

    // Each piece comes in time, the whole does not.
    registry.fault("/m.gguf", Fault::Short(1000));
    let limits = Limits {
        total: Duration::from_millis(300),
        ..LIMITS
    };
    let finder = Finder {
        limits,
        ..finder(&places, &url)
    };
    let (error, _) = failed(&format!("{url}/m.gguf"), &finder);
    assert!(error.contains("not complete within 0.3 s"), "{error}");
}

#[test]
fn the_shards_of_an_address_are_one_model() {
    let registry = Registry::start();
    let first = Gguf::new("llama")
        .split(0, 2, 2)
        .tensor("a", 32, 32)
        .bytes();
    let second = Gguf::part(1, 2, 2).tensor("b", 64, 32).bytes();
    registry.file("/m-00001-of-00002.gguf", first.clone(), 10_000);
    registry.file("/m-00002-of-00002.gguf", second, 20_000);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let model = found(
        &format!("{url}/m-00002-of-00002.gguf"),
        &finder(&places, &url),
    );
    let header = model.header.expect("a header");
    assert_eq!((header.tensors.len(), header.shards), (2, 2));
    assert_eq!(model.size_bytes, Some(30_000));
    assert_eq!(
        registry.ranges("/m-00002-of-00002.gguf"),
        [(0, 256 * 1024 - 1)]
    );
}

#[test]
fn the_outside_world_is_reached_through_the_proxy_and_this_machine_is_not() {
    let proxy = Registry::start();
    proxy.file("/m.gguf", published("llama-3.2-1b.f16"), 3 << 30);
    let (scratch, url) = (Scratch::new(), proxy.url());
    let mut places = places(&scratch);
    places.proxies = Proxies {
        http: Some(url.clone()),
        ..Proxies::default()
    };
    // A proxy is asked for the whole address, which the registry does not know; that it was asked is the point.
    let (error, _) = failed("http://models.invalid/m.gguf", &finder(&places, &url));
    assert!(error.contains("404"), "{error}");
    assert_eq!(proxy.asked()[0].target, "http://models.invalid/m.gguf");
    found(&format!("{url}/m.gguf"), &finder(&places, &url));
    assert_eq!(proxy.asked()[1].target, "/m.gguf");
    places.proxies.none = Some("models.invalid".to_owned());
    let (error, _) = failed("http://models.invalid/m.gguf", &finder(&places, &url));
    assert!(error.contains("could not connect"), "{error}");
}
