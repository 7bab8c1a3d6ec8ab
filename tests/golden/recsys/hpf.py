#!/usr/bin/env python3
"""Hierarchical Poisson factorisation by the book, in doubles: what tests/unit/recsys compares with.

The update of hpfrec (Gopalan, Hofman, Blei 2015), written anew and in its order: attributions; theta
rates from the old means of beta and the old xi; both shapes; means of theta; beta rates from the new
means of theta; means of beta; xi; eta. Slow on purpose: attributions are stored, psi is called where
the formula has it. Usage: hpf.py > hpf.txt
"""
import math
import random

U, P, K, NNZ, A, A2, B2 = 40, 25, 5, 240, 0.3, 0.3, 1.0
random.seed(20261126)


def psi(x):
    r = 0.0
    while x < 20:
        r -= 1 / x
        x += 1
    y = 1 / (x * x)
    return r + math.log(x) - 0.5 / x - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))


pairs = {}
while len(pairs) < NNZ:
    pairs[(int(U * random.random() ** 1.5), int(P * random.random() ** 1.5))] = 1 + int(random.expovariate(0.7))
pairs = sorted((u, p, y) for (u, p), y in pairs.items())


def start(n):
    return [[A2 + 0.01 * random.random() for _ in range(K)] for _ in range(n)]


theta_rate, beta_rate, theta_shape, beta_shape = start(U), start(P), start(U), start(P)
k_shape, t_shape = A2 + K * A, A2 + K * A
k_rate, t_rate = [B2] * U, [B2] * P
out = [f'{U} {P} {K} {len(pairs)}']
out += [f'{u} {p} {y}' for u, p, y in pairs]


def dump(table):
    for row in table:
        out.append(' '.join(repr(v) for v in row))


for t in (theta_shape, theta_rate, beta_shape, beta_rate):
    dump(t)
theta = [[s / r for s, r in zip(a, b)] for a, b in zip(theta_shape, theta_rate)]
beta = [[s / r for s, r in zip(a, b)] for a, b in zip(beta_shape, beta_rate)]
for it in range(1, 21):
    phi = []
    for u, p, y in pairs:
        w = [math.exp(psi(theta_shape[u][k]) - math.log(theta_rate[u][k]) + psi(beta_shape[p][k]) - math.log(beta_rate[p][k]))
             for k in range(K)]
        z = sum(w)
        phi.append([y * v / z for v in w])
    for u in range(U):
        for k in range(K):
            theta_rate[u][k] = k_shape / k_rate[u] + sum(beta[p][k] for p in range(P))
    theta_shape = [[A] * K for _ in range(U)]
    beta_shape = [[A] * K for _ in range(P)]
    for (u, p, y), f in zip(pairs, phi):
        for k in range(K):
            theta_shape[u][k] += f[k]
            beta_shape[p][k] += f[k]
    theta = [[s / r for s, r in zip(a, b)] for a, b in zip(theta_shape, theta_rate)]
    for p in range(P):
        for k in range(K):
            beta_rate[p][k] = t_shape / t_rate[p] + sum(theta[u][k] for u in range(U))
    beta = [[s / r for s, r in zip(a, b)] for a, b in zip(beta_shape, beta_rate)]
    k_rate = [A2 / B2 + sum(row) for row in theta]
    t_rate = [A2 / B2 + sum(row) for row in beta]
    if it in (1, 20):
        dump(theta)
        dump(beta)
print('\n'.join(out))
