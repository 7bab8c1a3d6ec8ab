#!/usr/bin/env python3
"""The trainer's answers according to PyTorch, in double precision.

    make.py DIR            writes DIR/NAME.oracle for every case
    make.py --check DIR    computes all of them again and compares with what DIR holds

Needs torch (Debian: python3-torch) and numpy; --check without torch says SKIPPED, exit code 77.
tests/unit/train/test_torch.c reads the files and says what has to agree.

A file: one line of text, "strobe-oracle 1 KEY=VALUE ...", then little-endian doubles:
    logits [rows cols n_vocab] of batch 0, mean loss, gradients [n_param] of it,
    loss before each of ten AdamW steps, then parameters, first and second moments [n_param] each.
Parameters in the order of engine/train/net.h. They, tokens, targets, weights and documents are
drawn from a counter (engine/base/rng.h, rng_at()) with few enough bits to be exact in float, so
that files hold answers only. The decoder here is written with torch's own functions and autograd,
without a look at the C code.
"""
import sys

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as e:
    print("SKIPPED: PyTorch oracle: %s" % e)
    sys.exit(77)

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
MASK = (1 << 64) - 1
STEPS = 10

BASE = dict(n_vocab=11, n_ctx=9, n_layer=2, d_model=8, n_head=4, n_kv_head=2, d_head=4, d_ff=12,
            norm=0, pos=0, act=0, gated=1, up_relu=0, norm_relu=0, tied=1, bias=0, docs=0,
            rows=2, cols=7, shift=0.0, norm_eps=1e-5, theta=10000.0,
            lr=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1, seed=1)
SILU, GELU, RELU, RELU2, FATRELU = range(5)
# A wide eps keeps ten steps smooth enough for a bound on the float build: see the test.
SMOOTH = dict(eps=1e-2, lr=1e-4)
CASES = {
    "llama": dict(),
    "llama_smooth": dict(SMOOTH),
    "mha_untied_bias": dict(n_kv_head=4, tied=0, bias=1, docs=1),
    "mqa_docs": dict(n_kv_head=1, docs=1, act=GELU, n_layer=1, theta=500.0),
    "gpt2": dict(norm=1, pos=1, act=GELU, gated=0, bias=1, n_kv_head=4),
    "gpt2_smooth": dict(SMOOTH, norm=1, pos=1, act=GELU, gated=0, bias=1, n_kv_head=4, docs=1),
    "opt_relu": dict(norm=1, pos=1, act=RELU, gated=0, bias=1, n_kv_head=4, tied=0),
    "squared_relu": dict(act=RELU2, gated=0, n_layer=3),
    "shifted_relu": dict(act=RELU, gated=0, shift=0.125, norm_eps=1e-6),
    "fat_relu": dict(act=FATRELU, shift=0.0625, docs=1),
    "drelu_stage2": dict(act=RELU, up_relu=1, norm_relu=1, bias=1, norm=1),
    "layer_norm_rope": dict(norm=1, act=GELU, gated=1, tied=0, bias=1, decay=0.0),
}


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def rng_at(key, n):
    return mix(mix((key + 0x9E3779B97F4A7C15) & MASK) ^
               ((n * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) & MASK))


def sixteen(key, n):
    """Uniform in [-1, 1), a multiple of 2^-15."""
    return (rng_at(key, n) >> 48) * 2.0**-15 - 1


def tensors(c):
    """(name, shape, decays) in the order of the flat array."""
    d, f, dh = c["d_model"], c["d_ff"], c["d_head"]
    q, kv = c["n_head"] * dh, c["n_kv_head"] * dh
    out = [("token_embd.weight", (c["n_vocab"], d), False)]
    if c["pos"] == 1:
        out.append(("position_embd.weight", (c["n_ctx"], d), False))
    for l in range(c["n_layer"]):
        def add(name, shape):
            out.append(("blk.%d.%s" % (l, name), shape, len(shape) == 2))
        add("attn_norm.weight", (d,))
        if c["norm"] == 1:
            add("attn_norm.bias", (d,))
        for n, w in (("q", q), ("k", kv), ("v", kv)):
            add("attn_%s.weight" % n, (w, d))
        if c["bias"]:
            for n, w in (("q", q), ("k", kv), ("v", kv)):
                add("attn_%s.bias" % n, (w,))
        add("attn_output.weight", (d, q))
        if c["bias"]:
            add("attn_output.bias", (d,))
        add("ffn_norm.weight", (d,))
        if c["norm"] == 1:
            add("ffn_norm.bias", (d,))
        if c["gated"]:
            add("ffn_gate.weight", (f, d))
        add("ffn_up.weight", (f, d))
        if c["bias"]:
            if c["gated"]:
                add("ffn_gate.bias", (f,))
            add("ffn_up.bias", (f,))
        add("ffn_down.weight", (d, f))
        if c["bias"]:
            add("ffn_down.bias", (d,))
    out.append(("output_norm.weight", (d,), False))
    if c["norm"] == 1:
        out.append(("output_norm.bias", (d,), False))
    if not c["tied"]:
        out.append(("output.weight", (c["n_vocab"], d), True))
    return out


def draw_params(c):
    p, at = {}, 0
    for name, shape, _ in tensors(c):
        n = int(np.prod(shape))
        size = 0.75 if "embd" in name else 0.5 if len(shape) == 2 else 0.25
        mean = 1.0 if name.endswith("norm.weight") else 0.0
        v = [mean + size * sixteen(c["seed"], at + i) for i in range(n)]
        p[name] = torch.tensor(v).reshape(shape).requires_grad_()
        at += n
    return p


def draw_batch(c, step):
    n, v, key = c["rows"] * c["cols"], c["n_vocab"], c["seed"] + 1000 * (step + 1)
    token = [rng_at(key, i) % v for i in range(n)]
    target = [-1 if i % 5 == 3 else rng_at(key, n + i) % v for i in range(n)]
    weight = [0.0 if i % 7 == 5 else 1.25 + 0.5 * sixteen(key, 2 * n + i) for i in range(n)]
    doc = [0] * n
    for i in range(n):
        if i % c["cols"]:
            doc[i] = doc[i - 1] + (1 if c["docs"] and rng_at(key, 3 * n + i) % 3 == 0 else 0)
    shape = (c["rows"], c["cols"])
    return tuple(torch.tensor(x).reshape(shape) for x in (token, target, weight, doc))


def norm(c, p, name, x):
    if c["norm"] == 1:
        return F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], c["norm_eps"])
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + c["norm_eps"]) * p[name + ".weight"]


def linear(p, name, x):
    return F.linear(x, p[name + ".weight"], p.get(name + ".bias"))


def places(doc):
    """Position of each token in its document."""
    first = (doc.unsqueeze(-1) == doc.unsqueeze(-2)).to(torch.int64).argmax(-1)
    return torch.arange(doc.shape[-1]).expand_as(doc) - first


def turn(c, x, place):
    """Rotary embedding as complex numbers: neighbours are real and imaginary part."""
    freq = c["theta"] ** (-torch.arange(0, c["d_head"], 2, dtype=torch.float64) / c["d_head"])
    angle = place.to(torch.float64).unsqueeze(-1) * freq
    turn_by = torch.polar(torch.ones_like(angle), angle).unsqueeze(2)
    z = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(z * turn_by).flatten(-2)


def attention(c, p, l, x, doc):
    b, t, dh = x.shape[0], x.shape[1], c["d_head"]
    name = "blk.%d.attn_" % l
    q, k, v = (linear(p, name + n, x).reshape(b, t, -1, dh) for n in "qkv")
    if c["pos"] == 0:
        q, k = turn(c, q, places(doc)), turn(c, k, places(doc))
    group = c["n_head"] // c["n_kv_head"]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    q, k, v = (a.transpose(1, 2) for a in (q, k, v))
    seen = torch.tril(torch.ones(t, t, dtype=torch.bool)) & (
        doc.unsqueeze(-1) == doc.unsqueeze(-2))
    score = (q @ k.transpose(-1, -2) / dh**0.5).masked_fill(~seen.unsqueeze(1), float("-inf"))
    out = torch.softmax(score, -1) @ v
    return linear(p, name + "output", out.transpose(1, 2).reshape(b, t, -1))


def activation(c, x):
    s = c["shift"]
    if c["act"] == SILU:
        return F.silu(x)
    if c["act"] == GELU:
        return F.gelu(x, approximate="tanh")
    if c["act"] == RELU:
        return F.relu(x - s)
    if c["act"] == RELU2:
        return F.relu(x - s).square()
    return F.threshold(x, s, 0.0)


def ffn(c, p, l, x):
    name = "blk.%d.ffn_" % l
    up = linear(p, name + "up", x)
    if not c["gated"]:
        return linear(p, name + "down", activation(c, up))
    if c["up_relu"]:
        up = F.relu(up)
    return linear(p, name + "down", activation(c, linear(p, name + "gate", x)) * up)


def forward(c, p, token, doc):
    x = F.embedding(token, p["token_embd.weight"])
    if c["pos"] == 1:
        x = x + F.embedding(places(doc), p["position_embd.weight"])
    after = F.relu if c["norm_relu"] else (lambda y: y)
    for l in range(c["n_layer"]):
        x = x + attention(c, p, l, after(norm(c, p, "blk.%d.attn_norm" % l, x)), doc)
        x = x + ffn(c, p, l, after(norm(c, p, "blk.%d.ffn_norm" % l, x)))
    return F.linear(norm(c, p, "output_norm", x), p["token_embd.weight" if c["tied"] else
                                                    "output.weight"])


def mean_loss(c, logits, target, weight):
    each = F.cross_entropy(logits.reshape(-1, c["n_vocab"]), target.reshape(-1), reduction="none",
                           ignore_index=-1)
    w = weight.reshape(-1) * (target.reshape(-1) >= 0)
    return (each * w).sum() / w.sum()


def flat(list_of):
    return [x.detach().clone().reshape(-1) for x in list_of]


def answers(c):
    p = draw_params(c)
    names = [t[0] for t in tensors(c)]
    groups = [dict(params=[p[n] for n, _, d in tensors(c) if d == want],
                   weight_decay=c["decay"] if want else 0.0) for want in (True, False)]
    opt = torch.optim.AdamW(groups, lr=c["lr"], betas=(c["beta1"], c["beta2"]), eps=c["eps"])
    out, losses = [], []
    for step in range(STEPS):
        token, target, weight, doc = draw_batch(c, step)
        opt.zero_grad()
        logits = forward(c, p, token, doc)
        loss = mean_loss(c, logits, target, weight)
        loss.backward()
        if step == 0:
            out += flat([logits, loss]) + flat(p[n].grad for n in names)
        losses += flat([loss])
        for g in opt.param_groups:
            g["lr"] = c["lr"] * (step + 1)
        opt.step()
    out += losses + flat(p[n] for n in names)
    for moment in ("exp_avg", "exp_avg_sq"):
        out += flat(opt.state[p[n]][moment] for n in names)
    return torch.cat(out).numpy().astype("<f8")


def header(c):
    return ("strobe-oracle 1 " + " ".join("%s=%r" % (k, c[k]) for k in BASE) + "\n").encode()


def cases():
    for i, (name, change) in enumerate(CASES.items()):
        c = dict(BASE, seed=100 + i)
        c.update(change)
        yield name, c


def check(path, head, got):
    with open(path, "rb") as f:
        if f.readline() != head:
            return "%s: another shape" % path
        want = np.frombuffer(f.read(), "<f8")
    if want.size != got.size:
        return "%s: %d numbers, not %d" % (path, want.size, got.size)
    # Other versions add in other orders: a few hundred roundings, carried through ten steps.
    off = np.max(np.abs(got - want) / np.maximum(1.0, np.abs(want)))
    return None if off <= 1e-10 else "%s: off by %g" % (path, off)


def main():
    args = sys.argv[1:]
    checking = args[:1] == ["--check"]
    if len(args) != 1 + checking:
        sys.exit(__doc__)
    bad = 0
    for name, c in cases():
        path, got = "%s/%s.oracle" % (args[-1], name), answers(c)
        if checking:
            say = check(path, header(c), got)
            bad += say is not None
            print(say or "ok %s" % path)
        else:
            with open(path, "wb") as f:
                f.write(header(c) + got.tobytes())
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
