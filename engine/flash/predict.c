/* engine/flash/predict.c - see predict.h. Seconds of one pass:
 *
 *   dense    T = max(streamed / BW_seq, (all weights + streamed) / memory rate): what is streamed
 *            crosses the memory's bus twice, into it from the disk and out of it to be multiplied.
 *            (2.2 GB model at half its memory, reads of 5.3 GB/s beside memory of 10 GB/s:
 *            measured 2.7 tokens/s; counted once it would be 4.5.)
 *   sparse   T = N a + B / BW + N c + (weights used + B) / memory rate, N reads of B bytes, of the
 *            neurons that are needed and not cached; neighbours within the gap are one read. c is
 *            the engine thread's time to submit and reap one. The parts add up: that thread
 *            computes, too. (tests/bench/flash/p8_sweep.sh, 2.2 GB model at 50, 60 and 80 %:
 * measured 4, 16 and 1 % faster.)
 *
 * Which neurons a token needs is not known before it runs. Assumed is what is published of ReLU
 * models: unequal rates, with z_i normal and neuron i needed by a share Phi(-z_i) of the tokens,
 * and a deviation that puts 80 % of the activity into a third of the neurons (flash.md 3.2,
 * PowerInfer: 26 to 43 % per layer). A cache holds about the most frequent ones. */
#include "engine/flash/predict.h"

#include <math.h>
#include <stdio.h>

enum { QUANTILES = 128 };
#define ACTIVE_SHARE 0.1  /* of an unmeasured model's neurons, per token */
#define OVERLOAD     1.45 /* neurons that a sketch lets pass for an active one, measured */
#define SPREAD       0.8  /* deviation of z */
#define READ_CPU_S   6e-6 /* c, measured with io_uring on a 3 GHz core */

/* The neurons of a layer that are needed and not cached, as a share of all. */
static double miss_share(double needed, double cached)
{
    double z[QUANTILES], mean = 0, sum = 0;
    /* Centre of z by bisection on the mean rate. */
    double lo = -8, hi = 8;
    for (int round = 0; round < 40; round++) {
        double centre = (lo + hi) / 2;
        mean = 0;
        for (int i = 0; i < QUANTILES; i++) { /* the normal's quantiles by its logistic likeness */
            double u = (i + 0.5) / QUANTILES;
            z[i] = centre + SPREAD * log(u / (1 - u)) / 1.702;
            mean += 0.5 * erfc(z[i] / sqrt(2)) / QUANTILES;
        }
        *(mean > needed ? &lo : &hi) = centre;
    }
    for (int i = 0; i < QUANTILES; i++) { /* ascending z: the most frequent first */
        double past = (i + 1.0 - cached * QUANTILES);
        double part = past < 0 ? 0 : past > 1 ? 1 : past;
        sum += part * 0.5 * erfc(z[i] / sqrt(2)) / QUANTILES;
    }
    return sum;
}

/* Neurons that the mask lets pass for one that fires. */
static double over_load(const struct bundle *b)
{
    if (b->mask == BUNDLE_LOWRANK && b->over_load > 0)
        return b->over_load * ACTIVE_SHARE < 1 ? b->over_load : 1 / ACTIVE_SHARE;
    return bundle_has_first(b) ? OVERLOAD : 1;
}

struct times {
    double disk, memory, pass;
};

static struct times sparse_times(const struct model *m, const struct plan_in *in,
                                 const struct plan *p)
{
    const struct bundle *b = model_bundle(m);
    double all = in->keep > 0 ? in->keep : 1, n = (double)b->n_neuron;
    double fire = hparams_exact_zeros(model_hparams(m)) ? ACTIVE_SHARE : 1;
    double needed = (fire < all ? fire : all) * over_load(b);
    double miss = miss_share(needed, (double)p->slots_per_layer / n);
    uint64_t gap = p->gap_bytes / b->stride; /* bundles */
    double over = 0, near = 1;
    for (uint64_t k = 1; k <= gap; k++) {
        near *= 1 - miss;
        over += (double)k * miss * near;
    }
    double reads = miss * pow(1 - miss, (double)gap + 1);
    double bytes = miss * (1 + over) * b->stride;
    double least = bytes / (double)p->read_bytes; /* reads are no longer than that */
    reads = reads > least ? reads : least;
    struct times t = {
        .disk = b->n_layer * n * (reads * in->disk.read_s + bytes / in->disk.bytes_per_s),
        .memory = ((double)p->resident_bytes + b->n_layer * n * (needed * b->stride + bytes)) /
                  in->disk.mem_bytes_per_s
    };
    t.pass = t.disk + t.memory + b->n_layer * n * reads * READ_CPU_S;
    return t;
}

static struct times dense_times(const struct plan_in *in, const struct plan *p)
{
    const struct disk_model *d = &in->disk;
    double bytes = (double)p->streamed_bytes;
    double one_by_one = bytes / (double)p->piece_bytes * d->read_s + bytes / d->bytes_per_s;
    double in_order = bytes / d->seq_bytes_per_s;
    struct times t = {
        .disk = in_order < one_by_one ? in_order : one_by_one, /* what the disk does better */
        .memory = ((double)(p->resident_bytes + p->cache_bytes) + 2 * bytes) / d->mem_bytes_per_s
    };
    t.pass = t.disk > t.memory ? t.disk : t.memory;
    return t;
}

enum flash_mode predict_mode(const struct model *m, const struct plan_in *in, const struct plan *p)
{
    return dense_times(in, p).pass < sparse_times(m, in, p).pass ? FLASH_DENSE : FLASH_SPARSE;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the sentence goes into p */
static void explain(const struct model *m, const struct plan_in *in, struct plan *p)
{
    if (p->mode == FLASH_OFF) {
        snprintf(p->why, sizeof p->why, "everything fits into memory");
    } else if (!model_bundle(m)) {
        snprintf(p->why, sizeof p->why,
                 "the model does not fit: what is left over is read for each pass, about %.0f ms",
                 1e3 * dense_times(in, p).pass);
    } else {
        snprintf(p->why, sizeof p->why,
                 "%s: a token takes about %.0f ms neuron by neuron, %.0f ms with whole layers",
                 p->mode == FLASH_SPARSE ? "sparse" : "dense", 1e3 * sparse_times(m, in, p).pass,
                 1e3 * dense_times(in, p).pass);
    }
}

void predict(const struct model *m, const struct plan_in *in, struct plan *p)
{
    bool sparse = p->mode == FLASH_SPARSE;
    struct times t = sparse ? sparse_times(m, in, p) : dense_times(in, p);
    p->limit = t.disk <= t.memory ? "memory bandwidth" : sparse ? "disk reads" : "disk bandwidth";
    p->tokens_per_s = t.pass > 0 ? 1 / t.pass : 0;
    explain(m, in, p);
}
