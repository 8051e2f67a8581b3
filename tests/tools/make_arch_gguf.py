#!/usr/bin/env python3
"""make_arch_gguf.py DIR [ARCH ...] - model files of many architectures, without data.

Writes DIR/ARCH.gguf for every architecture below: metadata and tensor table as
llama.cpp demands them, F16 matrices and F32 vectors of made-up shapes, and a
hole instead of the weights, so that llama-fit-params and a no-allocation load
accept them.  With --header-only the hole is left out (a few KB each).

The same arguments always give the same bytes.  Python 3.8+, nothing else.
"""
import os
import struct
import sys

U32, F32, BOOL, STR, ARR = 4, 6, 7, 8, 9
D, L, H, K, HD, FF, V = 2048, 8, 16, 4, 128, 6144, 32000


class Model:
    def __init__(self, arch, **over):
        self.arch, self.kv, self.tensors = arch, [], []
        self.c = dict(d=D, layers=L, heads=H, kv=K, hd=HD, ff=FF, vocab=V)
        self.c.update(over)
        c = self.c
        self.text("general.architecture", arch)
        self.text("tokenizer.ggml.model", "no_vocab")
        self.num("vocab_size", c["vocab"])
        self.num("context_length", 32768)
        self.num("embedding_length", c["d"])
        self.num("block_count", c["layers"])
        self.num("feed_forward_length", c["ff"])
        self.num("attention.head_count", c["heads"])
        self.num("attention.head_count_kv", c["kv"])
        if c["hd"]:
            self.num("attention.key_length", c["hd"])
            self.num("attention.value_length", c["hd"])
            self.num("rope.dimension_count", c.get("rot", c["hd"]))
        self.real("attention.layer_norm_rms_epsilon", 1e-6)
        self.real("attention.layer_norm_epsilon", 1e-6)
        self.real("rope.freq_base", 10000.0)

    def text(self, key, value):
        self.kv.append((key, STR, value))

    def num(self, key, value):
        if isinstance(value, list):
            self.kv.append((self.arch + "." + key, ARR, (U32, value)))
        else:
            self.kv.append((self.arch + "." + key, U32, value))

    def real(self, key, value):
        self.kv.append((self.arch + "." + key, F32, value))

    def flag(self, key, value):
        if isinstance(value, list):
            self.kv.append((self.arch + "." + key, ARR, (BOOL, value)))
        else:
            self.kv.append((self.arch + "." + key, BOOL, value))

    def t(self, name, *dims, kind=None):
        if kind is None:
            kind = 1 if len(dims) > 1 and name.endswith("weight") and "norm" not in name and "conv1d" not in name else 0
        self.tensors.append((name, dims, kind))

    def ends(self, tied=False, norm_bias=False, out_bias=False, norm="output_norm"):
        c = self.c
        self.t("token_embd.weight", c["d"], c["vocab"])
        self.t(norm + ".weight", c["d"])
        if norm_bias:
            self.t(norm + ".bias", c["d"])
        if not tied:
            self.t("output.weight", c["d"], c["vocab"])
        if out_bias:
            self.t("output.bias", c["vocab"])
        return self

    def norm(self, i, name, bias=False, width=None):
        self.t("blk.%d.%s.weight" % (i, name), width or self.c["d"])
        if bias:
            self.t("blk.%d.%s.bias" % (i, name), width or self.c["d"])

    def attn(self, i, fused=False, bias=False, out_bias=False, qk=None, gated=False, heads=None, kv=None):
        c = self.c
        hd = c["hd"] or c["d"] // c["heads"]
        q, k = (heads or c["heads"]) * hd, (kv or c["kv"]) * hd
        p = "blk.%d." % i
        if fused:
            self.t(p + "attn_qkv.weight", c["d"], q + 2 * k)
            if bias:
                self.t(p + "attn_qkv.bias", q + 2 * k)
        else:
            self.t(p + "attn_q.weight", c["d"], q * (2 if gated else 1))
            self.t(p + "attn_k.weight", c["d"], k)
            self.t(p + "attn_v.weight", c["d"], k)
            if bias:
                for n, w in (("q", q), ("k", k), ("v", k)):
                    self.t(p + "attn_%s.bias" % n, w)
        self.t(p + "attn_output.weight", q, c["d"])
        if out_bias:
            self.t(p + "attn_output.bias", c["d"])
        if qk == "head":
            self.t(p + "attn_q_norm.weight", hd)
            self.t(p + "attn_k_norm.weight", hd)
        elif qk == "all":
            self.t(p + "attn_q_norm.weight", q)
            self.t(p + "attn_k_norm.weight", k)

    def ffn(self, i, gate=True, fused=False, bias=False, ff=None):
        c, p = self.c, "blk.%d." % i
        ff = ff or c["ff"]
        if gate:
            self.t(p + "ffn_gate.weight", c["d"], ff)
        self.t(p + "ffn_up.weight", c["d"], ff * (2 if fused else 1))
        self.t(p + "ffn_down.weight", ff, c["d"])
        if bias:
            self.t(p + "ffn_up.bias", ff)
            self.t(p + "ffn_down.bias", c["d"])

    def moe(self, i, n, ff, shared=0, probs=False, shared_gate=False, gate=True):
        c, p = self.c, "blk.%d." % i
        self.t(p + "ffn_gate_inp.weight", c["d"], n, kind=0)
        if probs:
            self.t(p + "exp_probs_b.bias", n)
        if gate:
            self.t(p + "ffn_gate_exps.weight", c["d"], ff, n)
        self.t(p + "ffn_down_exps.weight", ff, c["d"], n)
        self.t(p + "ffn_up_exps.weight", c["d"], ff, n)
        if shared:
            if shared_gate:
                self.t(p + "ffn_gate_inp_shexp.weight", c["d"])
            if gate:
                self.t(p + "ffn_gate_shexp.weight", c["d"], shared)
            self.t(p + "ffn_down_shexp.weight", shared, c["d"])
            self.t(p + "ffn_up_shexp.weight", c["d"], shared)

    def mamba2(self, i, inner, state, heads, groups, conv):
        c, p = self.c, "blk.%d." % i
        channels = inner + 2 * groups * state
        self.t(p + "ssm_in.weight", c["d"], inner + channels + heads)
        self.t(p + "ssm_conv1d.weight", conv, channels)
        self.t(p + "ssm_conv1d.bias", channels)
        self.t(p + "ssm_dt.bias", heads)
        self.t(p + "ssm_a", 1, heads)
        self.t(p + "ssm_d", 1, heads)
        self.t(p + "ssm_norm.weight", inner // groups, groups)
        self.t(p + "ssm_out.weight", inner, c["d"])

    def ssm(self, inner, state, rank, groups=0, conv=4):
        self.num("ssm.conv_kernel", conv)
        self.num("ssm.inner_size", inner)
        self.num("ssm.state_size", state)
        self.num("ssm.time_step_rank", rank)
        if groups:
            self.num("ssm.group_count", groups)

    def write(self, path, header_only):
        out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.kv)))

        def text(s):
            b = s.encode()
            return struct.pack("<Q", len(b)) + b
        pack = {U32: "<I", F32: "<f", BOOL: "<?"}
        for key, kind, value in self.kv:
            out += text(key) + struct.pack("<I", kind)
            if kind == STR:
                out += text(value)
            elif kind == ARR:
                out += struct.pack("<IQ", value[0], len(value[1]))
                for v in value[1]:
                    out += struct.pack(pack[value[0]], v)
            else:
                out += struct.pack(pack[kind], value)
        offset = 0
        for name, dims, kind in self.tensors:
            out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", x) for x in dims)
            out += struct.pack("<IQ", kind, offset)
            n = 4 if kind == 0 else 2
            for x in dims:
                n *= x
            offset += (n + 31) // 32 * 32
        out += b"\0" * (-len(out) % 32)
        with open(path, "wb") as f:
            f.write(out)
            if not header_only:
                f.truncate(len(out) + offset)


def dense(arch, qk=None, bias=False, tied=False, post=False, pre=True, window=None, parallel=False, **over):
    m = Model(arch, **over)
    if window:
        m.num("attention.sliding_window", window)
    if arch in ("cohere2", "command-r", "granite"):
        m.real("logit_scale", 1.0)
    m.ends(tied)
    for i in range(m.c["layers"]):
        if pre:
            m.norm(i, "attn_norm")
        m.attn(i, qk=qk, bias=bias)
        if post:
            m.norm(i, "post_attention_norm")
        if pre and not parallel:
            m.norm(i, "ffn_norm")
        m.ffn(i)
        if post:
            m.norm(i, "post_ffw_norm")
    return m


def expert(m, n, used, ff, **keys):
    m.num("expert_count", n)
    m.num("expert_used_count", used)
    m.num("expert_feed_forward_length", ff)
    for key, value in keys.items():
        m.num(key, value)
    return m


def phi3():
    m = Model("phi3").ends()
    for i in range(L):
        m.norm(i, "attn_norm")
        m.attn(i, fused=True)
        m.norm(i, "ffn_norm")
        m.ffn(i, gate=False, fused=True)
    return m


def phi2():
    m = Model("phi2", kv=H).ends(norm_bias=True, out_bias=True)
    for i in range(L):
        m.norm(i, "attn_norm", True)
        m.attn(i, fused=True, bias=True, out_bias=True)
        m.ffn(i, gate=False, bias=True)
    return m


def starcoder2():
    m = Model("starcoder2").ends(norm_bias=True)
    for i in range(L):
        m.norm(i, "attn_norm", True)
        m.attn(i, bias=True, out_bias=True)
        m.norm(i, "ffn_norm", True)
        m.ffn(i, gate=False, bias=True)
    return m


def stablelm():
    m = Model("stablelm").ends(norm_bias=True)
    m.flag("use_parallel_residual", False)
    for i in range(L):
        m.norm(i, "attn_norm", True)
        m.attn(i)
        m.norm(i, "ffn_norm", True)
        m.ffn(i)
    return m


def falcon():
    m = Model("falcon", kv=1).ends(norm_bias=True)
    for i in range(L):
        m.norm(i, "attn_norm", True)
        m.attn(i, fused=True)
        m.ffn(i, gate=False)
    return m


def qwen2moe():
    m = expert(Model("qwen2moe").ends(), 32, 4, 1408, expert_shared_feed_forward_length=5632)
    for i in range(L):
        m.norm(i, "attn_norm")
        m.attn(i, bias=True)
        m.norm(i, "ffn_norm")
        m.moe(i, 32, 1408, shared=5632, shared_gate=True)
    return m


def mixtral():
    m = Model("llama", ff=7168).ends()
    m.num("expert_count", 8)
    m.num("expert_used_count", 2)
    for i in range(L):
        m.norm(i, "attn_norm")
        m.attn(i)
        m.norm(i, "ffn_norm")
        m.moe(i, 8, 7168)
    return m


def glm4():
    m = Model("glm4").ends()
    for i in range(L):
        m.norm(i, "attn_norm")
        m.attn(i, bias=True)
        m.norm(i, "post_attention_norm")
        m.norm(i, "ffn_norm")
        m.ffn(i, gate=False, fused=True)
        m.norm(i, "post_ffw_norm")
    return m


def glm4moe():
    m = expert(Model("glm4moe", layers=L + 1).ends(), 32, 4, 1408, expert_shared_count=1, leading_dense_block_count=1,
               nextn_predict_layers=1, expert_gating_func=2)
    for i in range(L + 1):
        m.norm(i, "attn_norm")
        m.attn(i, bias=True)
        m.norm(i, "post_attention_norm")
        if i == 0:
            m.ffn(i)
        else:
            m.moe(i, 32, 1408, shared=1408, probs=True)
    p = "blk.%d.nextn." % L
    m.t(p + "eh_proj.weight", 2 * D, D)
    for n in ("enorm", "hnorm", "shared_head_norm"):
        m.t(p + n + ".weight", D)
    return m


def granitehybrid():
    kv = [K if i % 4 == 3 else 0 for i in range(L)]
    m = Model("granitehybrid", kv=kv)
    m.ssm(4096, 128, 64, 1)
    m.real("attention.scale", 0.1)
    m.ends(True)
    for i in range(L):
        m.norm(i, "attn_norm")
        if kv[i]:
            m.attn(i, kv=kv[i])
        else:
            m.mamba2(i, 4096, 128, 64, 1, 4)
        m.norm(i, "ffn_norm")
        m.ffn(i)
    return m


def nemotron_h():
    sort = [("m", "f", "m", "a", "f", "m", "a", "f")[i % 8] for i in range(L)]
    m = Model("nemotron_h", kv=[K if s == "a" else 0 for s in sort], ff=[FF if s == "f" else 0 for s in sort])
    m.ssm(4096, 128, 64, 8)
    m.ends()
    for i, s in enumerate(sort):
        m.norm(i, "attn_norm")
        if s == "a":
            m.attn(i, kv=K)
        elif s == "f":
            m.ffn(i, gate=False, ff=FF)
        else:
            m.mamba2(i, 4096, 128, 64, 8, 4)
    return m


def mamba2():
    m = Model("mamba2", heads=0, kv=0, hd=0, ff=0)
    m.ssm(4096, 128, 64, 1)
    m.ends(True)
    for i in range(L):
        m.norm(i, "attn_norm")
        m.mamba2(i, 4096, 128, 64, 1, 4)
    return m


def jamba():
    kv = [K if i % 4 == 3 else 0 for i in range(L)]
    m = expert(Model("jamba", kv=kv), 8, 2, FF)
    m.ssm(4096, 16, 128)
    m.ends(True)
    for i in range(L):
        p = "blk.%d." % i
        m.norm(i, "attn_norm")
        if kv[i]:
            m.attn(i, kv=kv[i])
        else:
            m.t(p + "ssm_in.weight", D, 8192)
            m.t(p + "ssm_conv1d.weight", 4, 4096)
            m.t(p + "ssm_conv1d.bias", 4096)
            m.t(p + "ssm_x.weight", 4096, 128 + 32)
            m.t(p + "ssm_dt_norm.weight", 128)
            m.t(p + "ssm_dt.weight", 128, 4096)
            m.t(p + "ssm_dt.bias", 4096)
            m.t(p + "ssm_b_norm.weight", 16)
            m.t(p + "ssm_c_norm.weight", 16)
            m.t(p + "ssm_a", 16, 4096)
            m.t(p + "ssm_d", 4096)
            m.t(p + "ssm_out.weight", 4096, D)
        m.norm(i, "ffn_norm")
        if i % 2:
            m.moe(i, 8, FF)
        else:
            m.ffn(i)
    return m


def rwkv6():
    m = Model("rwkv6", heads=0, kv=0, hd=0, ff=7168)
    m.num("wkv.head_size", 64)
    m.num("time_mix_extra_dim", 32)
    m.num("time_decay_extra_dim", 64)
    m.ends(norm_bias=True)
    m.t("token_embd_norm.weight", D)
    m.t("token_embd_norm.bias", D)
    for i in range(L):
        p = "blk.%d." % i
        m.norm(i, "attn_norm", True)
        m.norm(i, "attn_norm_2", True)
        m.t(p + "time_mix_w1.weight", D, 160)
        m.t(p + "time_mix_w2.weight", 32, D, 5)
        m.t(p + "time_mix_lerp_x.weight", D, 1, 1, kind=0)
        m.t(p + "time_mix_lerp_fused.weight", D, 1, 1, 5, kind=0)
        m.t(p + "time_mix_first.weight", 64, D // 64, kind=0)
        m.t(p + "time_mix_decay.weight", D)
        m.t(p + "time_mix_decay_w1.weight", D, 64)
        m.t(p + "time_mix_decay_w2.weight", 64, D)
        for n in ("key", "value", "receptance", "gate", "output"):
            m.t(p + "time_mix_%s.weight" % n, D, D)
        m.norm(i, "time_mix_ln", True)
        m.t(p + "channel_mix_lerp_k.weight", D, 1, 1, kind=0)
        m.t(p + "channel_mix_lerp_r.weight", D, 1, 1, kind=0)
        m.t(p + "channel_mix_key.weight", D, 7168)
        m.t(p + "channel_mix_value.weight", 7168, D)
        m.t(p + "channel_mix_receptance.weight", D, D)
    return m


def rwkv7():
    m = Model("rwkv7", heads=0, kv=0, hd=0, ff=8192)
    m.num("wkv.head_size", 64)
    for key, rank in (("decay", 96), ("iclr", 96), ("value_residual_mix", 64), ("gate", 256)):
        m.num("attention.%s_lora_rank" % key, rank)
    m.ends(norm_bias=True)
    m.t("token_embd_norm.weight", D)
    m.t("token_embd_norm.bias", D)
    for i in range(L):
        p = "blk.%d." % i
        m.norm(i, "attn_norm", True)
        m.norm(i, "attn_norm_2", True)
        for n, rank in (("w", 96), ("a", 96), ("v", 96 if i == 0 else 64)):
            m.t(p + "time_mix_%s0.weight" % n, D)
            m.t(p + "time_mix_%s1.weight" % n, D, rank)
            m.t(p + "time_mix_%s2.weight" % n, rank, D)
        m.t(p + "time_mix_g1.weight", D, 256)
        m.t(p + "time_mix_g2.weight", 256, D)
        m.t(p + "time_mix_lerp_fused.weight", D, 1, 1, 6, kind=0)
        for n in ("k_k", "k_a", "r_k"):
            m.t(p + "time_mix_%s.weight" % n, D)
        for n in ("key", "value", "receptance", "output"):
            m.t(p + "time_mix_%s.weight" % n, D, D)
        m.norm(i, "time_mix_ln", True)
        m.t(p + "channel_mix_lerp_k.weight", D, 1, 1, kind=0)
        m.t(p + "channel_mix_key.weight", D, 8192)
        m.t(p + "channel_mix_value.weight", 8192, D)
    return m


def delta(arch, experts=False):
    m = Model(arch, hd=256, heads=8, kv=2, rot=64)
    m.ssm(4096, 128, 32, 16)
    m.num("full_attention_interval", 4)
    if arch == "qwen35moe":
        m.num("rope.dimension_sections", [11, 11, 10, 0])
    if experts:
        expert(m, 64, 8, 512, expert_shared_feed_forward_length=512)
    m.ends()
    for i in range(L):
        p = "blk.%d." % i
        m.norm(i, "attn_norm")
        m.norm(i, "post_attention_norm")
        if i % 4 == 3:
            m.attn(i, qk="head", gated=True)
        else:
            m.t(p + "attn_qkv.weight", D, 4096 + 2 * 16 * 128)
            m.t(p + "attn_gate.weight", D, 4096)
            m.t(p + "ssm_conv1d.weight", 4, 4096 + 2 * 16 * 128)
            m.t(p + "ssm_dt.bias", 32)
            m.t(p + "ssm_a", 32)
            if arch == "qwen3next":
                m.t(p + "ssm_ba.weight", D, 64)
            else:
                m.t(p + "ssm_beta.weight", D, 32)
                m.t(p + "ssm_alpha.weight", D, 32)
            m.t(p + "ssm_norm.weight", 128)
            m.t(p + "ssm_out.weight", 4096, D)
        m.moe(i, 64, 512, shared=512, shared_gate=True)
    return m


def lfm2moe():
    kv = [K if i % 3 == 2 else 0 for i in range(L)]
    m = expert(Model("lfm2moe", kv=kv), 32, 4, 1792, leading_dense_block_count=2, expert_gating_func=2)
    m.num("shortconv.l_cache", 3)
    m.ends(True, norm="token_embd_norm")
    for i in range(L):
        p = "blk.%d." % i
        m.norm(i, "attn_norm")
        m.norm(i, "ffn_norm")
        if kv[i]:
            m.attn(i, qk="head", kv=kv[i])
        else:
            m.t(p + "shortconv.conv.weight", 3, D, kind=0)
            m.t(p + "shortconv.in_proj.weight", D, 3 * D)
            m.t(p + "shortconv.out_proj.weight", D, D)
        if i < 2:
            m.ffn(i)
        else:
            m.moe(i, 32, 1792, probs=True)
    return m


def llama4():
    m = expert(Model("llama4").ends(), 16, 1, 4096, interleave_moe_layer_step=2)
    for i in range(L):
        m.norm(i, "attn_norm")
        m.attn(i)
        m.norm(i, "ffn_norm")
        if i % 2:
            m.moe(i, 16, 4096, shared=4096)
        else:
            m.ffn(i)
    return m


def gemma4():
    swa = [i % 6 != 5 for i in range(12)]
    m = Model("gemma4", layers=12, hd=256, heads=8, kv=2)
    m.num("attention.sliding_window", 512)
    m.flag("attention.sliding_window_pattern", swa)
    m.num("attention.shared_kv_layers", 6)
    m.num("embedding_length_per_layer_input", 256)
    m.num("attention.key_length_swa", 256)
    m.num("attention.value_length_swa", 256)
    m.num("rope.dimension_count_swa", 256)
    m.ends(True)
    m.t("per_layer_token_embd.weight", 256 * 12, V)
    m.t("per_layer_model_proj.weight", D, 256 * 12)
    m.t("per_layer_proj_norm.weight", 256)
    m.t("rope_freqs.weight", 128)
    for i in range(12):
        p = "blk.%d." % i
        m.norm(i, "attn_norm")
        m.attn(i, qk="head")
        m.norm(i, "post_attention_norm")
        m.norm(i, "ffn_norm")
        m.ffn(i)
        m.norm(i, "post_ffw_norm")
        m.t(p + "inp_gate.weight", D, 256, kind=0)
        m.t(p + "proj.weight", 256, D, kind=0)
        m.norm(i, "post_norm")
    return m


def kimi_linear():
    kv = [1 if i % 4 == 3 else 0 for i in range(L)]
    m = expert(Model("kimi-linear", kv=kv, hd=0), 32, 4, 1024, expert_shared_count=1, leading_dense_block_count=1, expert_gating_func=2)
    for key, value in (("attention.key_length", 576), ("attention.value_length", 512), ("attention.key_length_mla", 192),
                       ("attention.value_length_mla", 128), ("attention.kv_lora_rank", 512), ("rope.dimension_count", 64),
                       ("ssm.conv_kernel", 4), ("kda.head_dim", 128)):
        m.num(key, value)
    m.ends()
    for i in range(L):
        p = "blk.%d." % i
        m.norm(i, "attn_norm")
        if kv[i]:
            m.t(p + "attn_q.weight", D, H * 192)
            m.t(p + "attn_kv_a_mqa.weight", D, 576)
            m.t(p + "attn_kv_a_norm.weight", 512)
            m.t(p + "attn_k_b.weight", 128, 512, H)
            m.t(p + "attn_v_b.weight", 512, 128, H)
            m.t(p + "attn_output.weight", H * 128, D)
        else:
            for n in "qkv":
                m.t(p + "ssm_conv1d_%s.weight" % n, 4, 1, H * 128)
                m.t(p + "attn_%s.weight" % n, D, H * 128)
            m.t(p + "ssm_f_a.weight", D, 128)
            m.t(p + "ssm_f_b.weight", 128, H * 128)
            m.t(p + "ssm_beta.weight", D, H)
            m.t(p + "ssm_a", 1, H)
            m.t(p + "ssm_dt.bias", H * 128)
            m.t(p + "ssm_g_a.weight", D, 128)
            m.t(p + "ssm_g_b.weight", 128, H * 128)
            m.t(p + "ssm_norm.weight", 128)
            m.t(p + "attn_output.weight", H * 128, D)
        m.norm(i, "ffn_norm")
        if i == 0:
            m.ffn(i)
        else:
            m.moe(i, 32, 1024, shared=1024, probs=True)
    return m


def bert(arch):
    m = Model(arch, d=768, heads=12, kv=12, hd=64, ff=3072, layers=12)
    m.flag("attention.causal", False)
    m.num("pooling_type", 1)
    if arch == "bert":
        m.num("context_length", 512)
        m.kv = [kv for n, kv in enumerate(m.kv) if kv[0] != "bert.context_length" or kv[2] == 512]
    m.kv.append(("tokenizer.ggml.token_type_count", U32, 2))
    m.t("token_embd.weight", 768, V)
    m.t("token_types.weight", 768, 2)
    if arch == "bert":
        m.t("position_embd.weight", 768, 512)
    m.t("token_embd_norm.weight", 768)
    m.t("token_embd_norm.bias", 768)
    for i in range(12):
        if arch == "bert":
            m.attn(i, bias=True, out_bias=True)
        else:
            m.attn(i, fused=True)
        m.norm(i, "attn_output_norm", True)
        m.ffn(i, gate=arch != "bert", bias=arch == "bert")
        m.norm(i, "layer_output_norm", True)
    return m


def modern_bert():
    m = Model("modern-bert", d=768, heads=12, kv=12, hd=64, ff=1152, layers=12)
    m.flag("attention.causal", False)
    m.num("attention.sliding_window", 128)
    m.num("pooling_type", 1)
    m.t("token_embd.weight", 768, V)
    m.t("token_embd_norm.weight", 768)
    m.t("output_norm.weight", 768)
    for i in range(12):
        if i:
            m.norm(i, "attn_norm")
        m.attn(i, fused=True)
        m.norm(i, "ffn_norm")
        m.ffn(i, gate=False, fused=True)
    return m


def gemma_embedding():
    m = Model("gemma-embedding", d=768, heads=3, kv=1, hd=256, ff=1152, layers=12)
    m.flag("attention.causal", False)
    m.num("attention.sliding_window", 512)
    m.num("pooling_type", 1)
    m.ends(True)
    for i in range(12):
        m.norm(i, "attn_norm")
        m.attn(i, qk="head")
        m.norm(i, "post_attention_norm")
        m.norm(i, "ffn_norm")
        m.ffn(i)
        m.norm(i, "post_ffw_norm")
    return m


ARCHS = {
    "llama": lambda: dense("llama"),
    "mixtral": mixtral,
    "qwen2": lambda: dense("qwen2", bias=True),
    "qwen3": lambda: dense("qwen3", qk="head"),
    "gemma": lambda: dense("gemma", tied=True, kv=16),
    "gemma2": lambda: dense("gemma2", tied=True, post=True, window=4096, hd=256, heads=8),
    "gemma3": lambda: dense("gemma3", tied=True, post=True, qk="head", window=1024, hd=256, heads=8, layers=12),
    "gemma4": gemma4,
    "phi2": phi2,
    "phi3": phi3,
    "starcoder2": starcoder2,
    "stablelm": stablelm,
    "falcon": falcon,
    "command-r": lambda: dense("command-r", tied=True, parallel=True),
    "cohere2": lambda: dense("cohere2", tied=True, parallel=True, window=4096),
    "olmo2": lambda: dense("olmo2", qk="all", post=True, pre=False),
    "olmo3": lambda: dense("olmo2", qk="all", post=True, pre=False, window=4096),
    "exaone": lambda: dense("exaone"),
    "exaone4": lambda: dense("exaone4", qk="head", post=True, pre=False, layers=64, tied=True),
    "granite": lambda: dense("granite"),
    "smollm3": lambda: dense("smollm3"),
    "internlm2": lambda: dense("internlm2"),
    "minicpm": lambda: dense("minicpm"),
    "qwen2moe": qwen2moe,
    "glm4": glm4,
    "glm4moe": glm4moe,
    "llama4": llama4,
    "granitehybrid": granitehybrid,
    "nemotron_h": nemotron_h,
    "mamba2": mamba2,
    "jamba": jamba,
    "rwkv6": rwkv6,
    "rwkv7": rwkv7,
    "qwen3next": lambda: delta("qwen3next", True),
    "qwen35moe": lambda: delta("qwen35moe", True),
    "lfm2moe": lfm2moe,
    "kimi-linear": kimi_linear,
    "bert": lambda: bert("bert"),
    "nomic-bert": lambda: bert("nomic-bert"),
    "modern-bert": modern_bert,
    "gemma-embedding": gemma_embedding,
}


def main():
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    if not args:
        sys.exit(__doc__)
    for name in args[1:] or ARCHS:
        ARCHS[name]().write(os.path.join(args[0], name + ".gguf"), "--header-only" in sys.argv)


if __name__ == "__main__":
    main()
