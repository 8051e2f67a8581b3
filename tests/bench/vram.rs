//! `cargo bench --bench vram`: what reading a header takes, and what follows from it.
//!
//! Every row is a closure with a name and a budget; a table of medians is the result, reported and never a gate. Files come from the page
//! cache: they were written or read just before.
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

mod placement;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gpurouter::vram::{Header, read};

/// A thing that is measured.
struct Row {
    name: &'static str,
    /// What it should stay below.
    budget: Duration,
    run: Box<dyn FnMut()>,
}

impl Row {
    /// The result of `run` is kept from being optimised away.
    fn new<T>(name: &'static str, budget: Duration, mut run: impl FnMut() -> T + 'static) -> Self {
        Self {
            name,
            budget,
            run: Box::new(move || drop(black_box(run()))),
        }
    }
}

fn rows(vocabulary: PathBuf) -> Vec<Row> {
    let deepseek = data("oracle_headers/deepseek-v3.1.header.gguf");
    let llama = data("headers/llama-3.1-8b.q4_k_m.header.gguf");
    vec![
        Row::new("header, 150,000 tokens and merges", ms(100), move || {
            header(&vocabulary)
        }),
        Row::new("header, 1,028 tensors (DeepSeek V3.1)", ms(10), move || {
            header(&deepseek)
        }),
        Row::new("header, 292 tensors (Llama 3.1 8B)", ms(10), move || {
            header(&llama)
        }),
    ]
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn main() -> io::Result<()> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vocabulary-150k.gguf");
    write_vocabulary(&path, 150_000)?;
    println!(
        "A header of {} bytes and smaller ones.\n",
        fs::metadata(&path)?.len()
    );
    println!("| what | median | fastest | slowest | budget |");
    println!("|---|---:|---:|---:|---:|");
    for mut row in rows(path.clone()).into_iter().chain(placement::rows()) {
        let times = measure(&mut row.run);
        println!(
            "| {} | {:.1?} | {:.1?} | {:.1?} | {:?} |",
            row.name,
            times[times.len() / 2],
            times[0],
            times[times.len() - 1],
            row.budget
        );
    }
    fs::remove_file(path)
}

/// Sorted times of about a second of runs, after one to warm up.
fn measure(run: &mut dyn FnMut()) -> Vec<Duration> {
    const LONGEST: Duration = Duration::from_secs(1);
    const MOST: usize = 10_000;
    run();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || (begin.elapsed() < LONGEST && times.len() < MOST) {
        let start = Instant::now();
        run();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times
}

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/vram")
        .join(path)
}

#[expect(
    clippy::expect_used,
    reason = "a benchmark without its file has nothing to say"
)]
fn header(path: &Path) -> Header {
    let mut file = File::open(path).expect("the file is there");
    read(&mut file).expect("a header")
}

/// A header as large models have them: tokens, scores, types, merges.
fn write_vocabulary(path: &Path, tokens: u32) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"GGUF")?;
    file.write_all(&3_u32.to_le_bytes())?;
    file.write_all(&0_u64.to_le_bytes())?;
    file.write_all(&5_u64.to_le_bytes())?;
    key(&mut file, "general.architecture", 8)?;
    text(&mut file, "llama")?;
    array(&mut file, "tokenizer.ggml.tokens", 8, tokens.into())?;
    for number in 0..tokens {
        // 3 to 10 bytes, as words of a vocabulary have.
        text(&mut file, &"Ġstanding5"[..3 + (number % 9) as usize])?;
    }
    for (name, kind) in [
        ("tokenizer.ggml.scores", 6),
        ("tokenizer.ggml.token_type", 5),
    ] {
        array(&mut file, name, kind, tokens.into())?;
        for number in 0..tokens {
            file.write_all(&number.to_le_bytes())?;
        }
    }
    array(&mut file, "tokenizer.ggml.merges", 8, tokens.into())?;
    for number in 0..tokens {
        text(&mut file, &"Ġst anding"[..4 + (number % 8) as usize])?;
    }
    file.flush()
}

fn text(file: &mut impl Write, text: &str) -> io::Result<()> {
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(text.as_bytes())
}

fn key(file: &mut impl Write, name: &str, kind: u32) -> io::Result<()> {
    text(file, name)?;
    file.write_all(&kind.to_le_bytes())
}

fn array(file: &mut impl Write, name: &str, kind: u32, length: u64) -> io::Result<()> {
    key(file, name, 9)?;
    file.write_all(&kind.to_le_bytes())?;
    file.write_all(&length.to_le_bytes())
}
