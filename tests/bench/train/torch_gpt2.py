#!/usr/bin/env python3
"""Training steps of speed.sh's GPT-2 shape in PyTorch on the CPU: torch_gpt2.py STEPS [bf16].

One warm-up step, then STEPS; prints "TOKENS_PER_SECOND PEAK_BYTES": the median step, and the
process's largest resident memory. Threads come from OMP_NUM_THREADS and OPENBLAS_NUM_THREADS.
What a user would write: modules, autograd, AdamW; bf16 is autocast.
"""
import resource
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

D, LAYERS, HEADS, CTX, BATCH, VOCAB = 384, 6, 6, 256, 8, 4096


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.register_buffer("hidden", torch.ones(CTX, CTX, dtype=torch.bool).triu(1))

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        score = (q @ k.transpose(-1, -2)) * (D // HEADS) ** -0.5
        p = score.masked_fill(self.hidden[:t, :t], float("-inf")).softmax(-1)
        x = x + self.out((p @ v).transpose(1, 2).reshape(b, t, D))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Embedding(VOCAB, D), nn.Embedding(CTX, D)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(D)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, token):
        x = self.token(token) + self.place.weight[: token.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.token.weight.t()


def main():
    steps, bf16 = int(sys.argv[1]), "bf16" in sys.argv
    torch.manual_seed(1)
    model, times = Model(), []
    opt = torch.optim.AdamW(model.parameters(), 1e-4)
    for step in range(steps + 1):
        token = torch.randint(0, VOCAB, (BATCH, CTX))
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(token)
        loss = F.cross_entropy(logits.float().view(-1, VOCAB), token.roll(-1, 1).view(-1))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        if step:
            times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("%.1f %d" % (BATCH * CTX / statistics.median(times), peak))


main()
