#!/usr/bin/env python3
"""write_gguf.py DIR - small GGUF files by the official writer, for tests/gguf.rs.

Needs the `gguf` package of llama.cpp (made with 0.19: pip install gguf). Writes into DIR

  little.gguf                    version 3, little endian: every value type, 15 tensor types
  big.gguf                       the same metadata, big endian
  split-0000N-of-00003.gguf      a model in three files
  split.gguf                     the same model in one file

The same package always gives the same bytes.
"""

import pathlib
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFEndian, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.constants import GGML_QUANT_SIZES

ROWS = 3
# A row of one block of 256 elements, or of several smaller ones.
ROW = 256
QUANTISED = (
    Type.Q4_0, Type.Q5_1, Type.Q8_0, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K,
    Type.IQ2_XXS, Type.IQ4_XS, Type.TQ1_0, Type.MXFP4, Type.NVFP4,
)


def metadata(writer):
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_block_count(3)
    writer.add_context_length(4096)
    writer.add_head_count([8, 8, 4])
    writer.add_head_count_kv([2, 0, 2])
    writer.add_rope_freq_base(10000.0)
    writer.add_sliding_window_pattern([True, False, True])
    writer.add_token_list(["<s>", "</s>", "a", "b", "\u00e9"])
    writer.add_token_scores([0.0, -1.0, -2.5, 3.0, 4.0])
    writer.add_token_merges(["a b", "b a"])
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_uint32("test.u32", 4000000000)
    writer.add_int32("test.i32", -2000000000)
    writer.add_float32("test.f32", 0.25)
    writer.add_bool("test.yes", True)
    writer.add_bool("test.no", False)
    writer.add_string("test.text", "gr\u00fc\u00df")
    writer.add_uint64("test.u64", 2**63 + 1)
    writer.add_int64("test.i64", -(2**62))
    writer.add_float64("test.f64", 1e-300)
    writer.add_array("test.empty", [])
    writer.add_array("test.long", list(range(2000)))
    writer.add_array("test.longest_kept", list(range(1024)))
    writer.add_key_value("test.bytes", [1, 2, 255], GGUFValueType.ARRAY, GGUFValueType.UINT8)


def values(count, dtype):
    return (np.arange(count) % 7).astype(dtype)


def plain_tensors(writer):
    writer.add_tensor("token_embd.weight", values(8 * 5, np.float32).reshape(5, 8))
    writer.add_tensor("blk.0.four", values(2 * 3 * 4 * 5, np.float16).reshape(2, 3, 4, 5))
    # 3 elements: not a multiple of the alignment.
    writer.add_tensor("blk.0.small", values(3, np.float32))


def quantised_tensors(writer):
    for kind in QUANTISED:
        block, size = GGML_QUANT_SIZES[kind]
        data = values(ROWS * ROW // block * size, np.uint8).reshape(ROWS, -1)
        writer.add_tensor(f"quantised.{kind.name.lower()}", data, raw_dtype=kind)


def write(path, endian, quantised):
    writer = GGUFWriter(path, "llama", endianess=endian)
    metadata(writer)
    plain_tensors(writer)
    if quantised:
        quantised_tensors(writer)
    finish(writer)


def split(path, per_file):
    writer = GGUFWriter(path, "llama", split_max_tensors=per_file)
    writer.add_block_count(2)
    writer.add_token_list(["a", "b"])
    for number in range(5):
        writer.add_tensor(f"blk.{number}.weight", values(32, np.float32).reshape(2, 16))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "little.gguf", GGUFEndian.LITTLE, quantised=True)
    # The package refuses to swap the bytes of quantised tensors.
    write(folder / "big.gguf", GGUFEndian.BIG, quantised=False)
    split(folder / "split.gguf", 0)
    split(folder / "split.gguf", 2)


if __name__ == "__main__":
    main()
