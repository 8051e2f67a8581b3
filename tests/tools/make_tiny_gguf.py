#!/usr/bin/env python3
"""Write a small GGUF v3 model with made-up weights: llama architecture, f16, byte-level BPE.

Tests may not download a model. Ollama and llama-server load this one (1.9 MB) and answer from it in word salad, so
every byte on the wire is the real server's. The same arguments give the same bytes. `--pooling mean` makes it an
embedding model. Python 3.8 or newer, nothing else.

With random weights every token is about equally likely. So that answers stay text and end: tokens that are no
printable ASCII get a zero output row, single letters half a row, and the end-of-text token three.
"""

import argparse
import array
import random
import re
import struct

LAYERS, DIM, HEADS, KV_HEADS, CONTEXT, MERGES = 4, 128, 4, 2, 8192, 600
HEAD_DIM, FF = DIM // HEADS, 3 * DIM
EOS_GAIN = 3.0
POOLING = ("none", "mean", "cls", "last")

ALIGNMENT = 32
GGML_F32, GGML_F16 = 0, 1
U32, I32, F32, BOOL, STR, ARR = 4, 5, 6, 7, 8, 9
SCALAR = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}
NORMAL, CONTROL = 1, 3

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# What the tokenizer learns from.
TEXT = """
The server receives a request, reads the prompt and decides which model should answer it. A short
question goes to the small model, because the small model is quick and the answer is simple. A long
document goes to the large model, or it is first split into parts, each part is summarised, and the
summaries are joined before the final answer is written. When the memory of one device is not enough,
the router looks for another device, and when there is none it waits or it uses the processor. Every
token that is generated is sent to the client at once, so that the person who asked can begin to read
while the rest of the text is still being made. Please explain the difference between a thread and a
process. What is the capital of France? Write a function that sorts a list of numbers and returns the
second largest value. Compare these two designs, give the advantages and the disadvantages of each one,
and recommend one of them for a team of five people. The quick brown fox jumps over the lazy dog, and
the dog does not mind. In the year 2024 there were 366 days, 12 months and 53 weeks, more or less.
Hello world! How are you today? I am fine, thank you. This is a test of the system. Yes, no, maybe.
"""


def learn_merges(words):
    """Plain BPE training over {tuple of symbols: count}."""
    merges = []
    while len(merges) < MERGES:
        pairs = {}
        for word, count in words.items():
            for a, b in zip(word, word[1:]):
                pairs[a, b] = pairs.get((a, b), 0) + count
        if not pairs:
            break
        a, b = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((a, b))
        joined = {}
        for word, count in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i : i + 2] == (a, b):
                    out.append(a + b)
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            joined[tuple(out)] = joined.get(tuple(out), 0) + count
        words = joined
    return merges


def byte_alphabet():
    """GPT-2's printable stand-in for each of the 256 bytes."""
    keep = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(b if b in keep else next(spare)) for b in range(256)]


def tokenizer():
    """(tokens, kinds, merges); the last three tokens are <|endoftext|>, <|im_start|>, <|im_end|>."""
    alphabet = byte_alphabet()
    words = {}
    for word in re.findall(r" ?[A-Za-z]+| ?[0-9]+|[^\sA-Za-z0-9]+", " ".join(TEXT.split())):
        symbols = tuple(alphabet[b] for b in word.encode())
        words[symbols] = words.get(symbols, 0) + 1
    merges = learn_merges(words)
    tokens = list(alphabet)
    tokens += [a + b for a, b in merges if a + b not in alphabet]
    tokens = list(dict.fromkeys(tokens))
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    kinds = [NORMAL] * len(tokens) + [CONTROL] * len(special)
    return tokens + special, kinds, [a + " " + b for a, b in merges]


def tensors(vocabulary):
    """[(name, dimensions with the fastest first)]; one dimension: a norm, in f32."""
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    out = [("token_embd.weight", (DIM, vocabulary))]
    for i in range(LAYERS):
        out += [
            (f"blk.{i}.attn_norm.weight", (DIM,)),
            (f"blk.{i}.attn_q.weight", (DIM, q)),
            (f"blk.{i}.attn_k.weight", (DIM, kv)),
            (f"blk.{i}.attn_v.weight", (DIM, kv)),
            (f"blk.{i}.attn_output.weight", (q, DIM)),
            (f"blk.{i}.ffn_norm.weight", (DIM,)),
            (f"blk.{i}.ffn_gate.weight", (DIM, FF)),
            (f"blk.{i}.ffn_down.weight", (FF, DIM)),
            (f"blk.{i}.ffn_up.weight", (DIM, FF)),
        ]
    return out + [("output_norm.weight", (DIM,)), ("output.weight", (DIM, vocabulary))]


def metadata(tokens, kinds, merges, pooling, context):
    """[(key, type, value)]"""
    kv = [
        ("general.architecture", STR, "llama"),
        ("general.type", STR, "model"),
        ("general.name", STR, f"tiny-llama-{LAYERS}x{DIM}"),
        ("general.file_type", U32, 1),
        ("general.quantization_version", U32, 2),
        ("llama.vocab_size", U32, len(tokens)),
        ("llama.context_length", U32, context),
        ("llama.embedding_length", U32, DIM),
        ("llama.block_count", U32, LAYERS),
        ("llama.feed_forward_length", U32, FF),
        ("llama.attention.head_count", U32, HEADS),
        ("llama.attention.head_count_kv", U32, KV_HEADS),
        ("llama.attention.key_length", U32, HEAD_DIM),
        ("llama.attention.value_length", U32, HEAD_DIM),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-6),
        ("llama.rope.freq_base", F32, 10000.0),
    ]
    if pooling:
        kv.append(("llama.pooling_type", U32, POOLING.index(pooling)))
    return kv + [
        ("llama.rope.dimension_count", U32, HEAD_DIM),
        ("tokenizer.ggml.model", STR, "gpt2"),
        ("tokenizer.ggml.pre", STR, "llama-bpe"),
        ("tokenizer.ggml.tokens", (ARR, STR), tokens),
        ("tokenizer.ggml.token_type", (ARR, I32), kinds),
        ("tokenizer.ggml.merges", (ARR, STR), merges),
        ("tokenizer.ggml.bos_token_id", U32, len(tokens) - 3),
        ("tokenizer.ggml.eos_token_id", U32, len(tokens) - 1),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.ggml.add_space_prefix", BOOL, False),
        ("tokenizer.chat_template", STR, TEMPLATE),
    ]


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, content):
    if isinstance(kind, tuple):
        return struct.pack("<IQ", kind[1], len(content)) + b"".join(value(kind[1], item) for item in content)
    return string(content) if kind == STR else struct.pack(SCALAR[kind], content)


def padded(raw):
    return raw + bytes(-len(raw) % ALIGNMENT)


def output_gains(tokens, kinds):
    """{token: factor of its output row}, for the rows that are not left alone."""
    code = {stand_in: b for b, stand_in in enumerate(byte_alphabet())}
    gains = {}
    for i, (text, kind) in enumerate(zip(tokens, kinds)):
        if kind == CONTROL:
            gains[i] = 0.0
        elif len(text) == 1:
            gains[i] = 0.5 if 32 <= code[text] < 127 else 0.0
    gains[len(tokens) - 1] = EOS_GAIN
    return gains


class Weights:
    """Random f16 values, drawn from a pool so that it is quick."""

    def __init__(self):
        self.rng = random.Random(1)
        self.pools = {}

    def matrix(self, width, rows):
        # A row's length is about 1, so that activations keep their size from layer to layer.
        sigma = width**-0.5
        if sigma not in self.pools:
            self.pools[sigma] = [struct.pack("<e", self.rng.gauss(0.0, sigma)) for _ in range(4096)]
        return bytearray(b"".join(self.rng.choices(self.pools[sigma], k=width * rows)))


def data(table, gains):
    weights = Weights()
    for name, dims in table:
        if len(dims) == 1:
            yield array.array("f", [1.0] * dims[0]).tobytes()
            continue
        raw = weights.matrix(*dims)
        if name == "output.weight":
            row = f"<{dims[0]}e"
            for token, gain in gains.items():
                at = token * struct.calcsize(row)
                struct.pack_into(row, raw, at, *(v * gain for v in struct.unpack_from(row, raw, at)))
        yield raw


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="file to write")
    parser.add_argument("--pooling", choices=POOLING[1:], help="make an embedding model")
    parser.add_argument("--ctx", type=int, default=CONTEXT, help=f"trained context length (default {CONTEXT})")
    args = parser.parse_args()

    tokens, kinds, merges = tokenizer()
    table = tensors(len(tokens))
    pieces = [padded(bytes(raw)) for raw in data(table, output_gains(tokens, kinds))]
    kv = metadata(tokens, kinds, merges, args.pooling, args.ctx)
    header = [b"GGUF", struct.pack("<IQQ", 3, len(table), len(kv))]
    for key, kind, content in kv:
        header.append(string(key) + struct.pack("<I", kind[0] if isinstance(kind, tuple) else kind))
        header.append(value(kind, content))
    offset = 0
    for (name, dims), piece in zip(table, pieces):
        header.append(string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        header.append(struct.pack("<IQ", GGML_F32 if len(dims) == 1 else GGML_F16, offset))
        offset += len(piece)
    with open(args.output, "wb") as file:
        file.write(padded(b"".join(header)))
        file.writelines(pieces)


if __name__ == "__main__":
    main()
