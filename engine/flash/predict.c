/* engine/flash/predict.c - see predict.h. Seconds of one pass:
 *
 *   dense    T = max(streamed / BW_seq, (all weights + streamed) / memory rate): what is streamed
 *            crosses the memory's bus twice, into it from the disk and out of it to be multiplied.
 *            (2.2 GB model at half its memory, reads of 5.3 GB/s beside memory of 10 GB/s:
 *            measured 2.7 tokens/s; counted once it would be 4.5.)
 *   sparse   T = max(T_disk, T_compute) + (1 - HIDDEN) min(T_disk, T_compute) + T_dep
 *            T_disk = N a + B / BW for N reads of B bytes, of the neurons that are needed and not
 *            cached; neighbours within the gap are one read.
 *            T_compute = (weights used + mask once more + B) / memory rate + N c / cores: the mask
 *            is asked for the truth, and again for guesses (where the cache is large these do not
 *            pay and are left out, guess.h), and c is the processor time that queueing and reaping
 *            a read takes on the I/O thread.
 *            T_dep = LAST latencies a layer: its last reads, which nothing else fills.
 *            HIDDEN and LAST were fitted to a 2.2 GB model at 40 to 80 % of its size on a virtual
 *            disk (tests/bench/flash/p8_sweep.sh: up to 23 % slower).
 *            In memory nothing is guessed: the mask is asked once.
 *
 * Which neurons a token needs is not known before it runs. A file that was packed with a recorded
 * run's rates says how often they fire; of others what is published of ReLU models is assumed:
 * unequal rates, with z_i normal and neuron i needed by a share Phi(-z_i) of the tokens, and a
 * deviation that puts 80 % of the activity into a third of the neurons (flash.md 3.2, PowerInfer:
 * 26 to 43 % per layer). A cache holds about the most frequent ones. */
#include "engine/flash/predict.h"

#include <math.h>
#include <stdio.h>

enum { QUANTILES = BUNDLE_RATES };
#define ACTIVE_SHARE 0.1  /* of an unmeasured model's neurons, per token */
#define OVERLOAD     1.45 /* neurons that a sketch lets pass for an active one, measured */
#define SPREAD       0.8  /* deviation of z */
#define READ_CPU_S   4e-6 /* c, measured with io_uring on a 3 GHz core */
#define HIDDEN       0.7  /* of the shorter of the two */
#define LAST         3.0

/* Shares of the tokens that fire neurons, the most frequent part of these first; mean: of all. */
static void assumed_rates(double mean, double rate[QUANTILES])
{
    double sum = 0, lo = -8, hi = 8; /* the centre of z by bisection */
    for (int round = 0; round < 40; round++) {
        double centre = (lo + hi) / 2;
        sum = 0;
        for (int i = 0; i < QUANTILES; i++) { /* the normal's quantiles by its logistic likeness */
            double u = (i + 0.5) / QUANTILES;
            rate[i] = 0.5 * erfc((centre + SPREAD * log(u / (1 - u)) / 1.702) / sqrt(2));
            sum += rate[i] / QUANTILES;
        }
        *(sum > mean ? &lo : &hi) = centre;
    }
}

/* As published; or as recorded with the file. */
static void firing(const struct model *m, double rate[QUANTILES])
{
    const struct bundle *b = model_bundle(m);
    if (!hparams_exact_zeros(model_hparams(m)))
        for (int i = 0; i < QUANTILES; i++)
            rate[i] = 1;
    else if (b->rated)
        for (int i = 0; i < QUANTILES; i++)
            rate[i] = (double)b->rate[i];
    else
        assumed_rates(ACTIVE_SHARE, rate);
}

/* Shares of a layer's neurons: needed, and of these not cached, when each fires `rate` of the
 * tokens, the mask lets `over` times as many pass, and no more than `keep` of all. */
struct need {
    double all, missed;
};

static struct need need_of(const double rate[QUANTILES], double over, double keep, double cached)
{
    struct need n = { 0 };
    for (int i = 0; i < QUANTILES; i++)
        n.all += (rate[i] * over < 1 ? rate[i] * over : 1) / QUANTILES;
    double less = n.all > keep ? keep / n.all : 1;
    for (int i = 0; i < QUANTILES; i++) {
        double past = i + 1.0 - cached * QUANTILES;
        double part = past < 0 ? 0 : past > 1 ? 1 : past;
        n.missed += part * less * (rate[i] * over < 1 ? rate[i] * over : 1) / QUANTILES;
    }
    n.all *= less;
    return n;
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
    double rate[QUANTILES], n = (double)b->n_layer * b->n_neuron;
    firing(m, rate);
    struct need need = need_of(rate, over_load(b), in->keep > 0 ? in->keep : 1,
                               (double)p->slots_per_layer / b->n_neuron);
    double miss = need.missed;
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
    double moved = (double)p->resident_bytes + n * (need.all * b->stride + bytes);
    moved += p->mode == FLASH_OFF ? 0 : (double)p->mask_bytes;
    struct times t = { .disk = n * (reads * in->disk.read_s + bytes / in->disk.bytes_per_s),
                       .memory = moved / in->disk.mem_bytes_per_s };
    t.memory += n * reads * READ_CPU_S / (in->n_thread ? in->n_thread : 1);
    double longer = t.disk > t.memory ? t.disk : t.memory;
    t.pass = longer + (1 - HIDDEN) * (t.disk + t.memory - longer);
    t.pass += need.missed > 0 ? b->n_layer * LAST * in->disk.latency_s : 0;
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
    bool sparse = p->mode == FLASH_SPARSE || (p->mode == FLASH_OFF && model_bundle(m));
    struct times t = sparse ? sparse_times(m, in, p) : dense_times(in, p);
    p->limit = t.disk <= t.memory ? "memory bandwidth" : sparse ? "disk reads" : "disk bandwidth";
    p->tokens_per_s = t.pass > 0 ? 1 / t.pass : 0;
    explain(m, in, p);
}
