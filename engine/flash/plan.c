/* engine/flash/plan.c - see plan.h. Memory terms, all anonymous:
 *   resident   packed bytes of pinned matrices (rows padded to 16), f32 bytes of every vector
 *   ring       n_ring slots, each the largest layer's streamed bytes
 *   staging    read buffers (weights_staging_bytes)
 *   kv, scratch, tokenizer: as given
 *   overhead   what the process has before any of this (measured: 3-5 MiB with its libraries),
 * thread stacks, allocator and page tables: 12 MiB + 1/256 of the rest */
#include "engine/flash/plan.h"

#include "engine/base/num.h"
#include "engine/flash/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RING_SLOTS = 3, ARENA_ROUND = 2 << 20 };
#define OVERHEAD_BASE ((uint64_t)12 << 20)

uint64_t plan_tensor_bytes(const struct tensor *t)
{
    if (t->role >= TR_MATRICES)
        return num_align((size_t)t->n_row * t->n_col * sizeof(float), 64);
    return num_align(matrix_bytes(t->type, t->n_row, t->n_col), 64);
}

/* Tensors that streaming never touches: globals, vectors, and those whose file layout needs the
 * whole tensor at hand. */
static bool always_pinned(const struct tensor *t)
{
    return t->layer == UINT32_MAX || t->role >= TR_MATRICES || t->fix != FIX_NONE;
}

static void staging(const struct model *m, struct plan *p)
{
    uint64_t panel = 0, whole = 0;
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        uint64_t one = t->role < TR_MATRICES ? dtype_row_bytes(t->type, t->n_col) * PANEL_ROWS : 0;
        panel = one > panel ? one : panel;
        /* Reordered tensors pass through two temporary copies while they load. */
        if (t->fix == FIX_TRANSPOSE || t->fix == FIX_QKV_GROUPS)
            whole = 2 * t->bytes > whole ? 2 * t->bytes : whole;
        if (t->role >= TR_MATRICES)
            panel = t->bytes > panel ? t->bytes : panel;
    }
    p->piece_bytes = panel > PIECE_BYTES ? panel : PIECE_BYTES;
    p->staging_bytes = STAGES * (p->piece_bytes + 2 * STAGE_ALIGN) + whole;
}

struct layer_sum {
    uint64_t streamed; /* packed bytes not pinned */
};

/* Largest layer's streamed bytes; *total gets the sum. */
static uint64_t streamed_bytes(const struct model *m, const uint8_t *pinned, struct layer_sum *sum,
                               uint64_t *total)
{
    uint32_t n_layer = model_hparams(m)->n_layer;
    uint64_t most = 0;
    memset(sum, 0, n_layer * sizeof *sum);
    *total = 0;
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        if (pinned[i])
            continue;
        sum[t->layer].streamed += plan_tensor_bytes(t);
        *total += plan_tensor_bytes(t);
    }
    for (uint32_t l = 0; l < n_layer; l++)
        most = sum[l].streamed > most ? sum[l].streamed : most;
    return most;
}

static uint64_t total_of(struct plan *p)
{
    uint64_t parts = p->resident_bytes + p->ring_bytes + p->staging_bytes + p->kv_bytes +
                     p->scratch_bytes + p->tokenizer_bytes;
    p->overhead_bytes = OVERHEAD_BASE + parts / 256 + 4 * (uint64_t)ARENA_ROUND;
    return parts + p->overhead_bytes;
}

/* Attention before FFN, small before large: 0 first. */
static int pin_order(enum tensor_role r)
{
    static const uint8_t order[TR_MATRICES] = {
        [TR_K] = 0,   [TR_V] = 1,    [TR_Q] = 2,  [TR_O] = 3,
        [TR_QKV] = 4, [TR_GATE] = 5, [TR_UP] = 6, [TR_DOWN] = 7
    };
    return order[r];
}

static uint64_t try_total(const struct model *m, struct plan *p, struct layer_sum *sum)
{
    /* The caller frees both. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    uint64_t slot = streamed_bytes(m, p->pinned, sum, &p->streamed_bytes);
    p->n_ring = p->streamed_bytes ? RING_SLOTS : 0;
    p->ring_bytes = slot * p->n_ring;
    return total_of(p);
}

/* Pins matrices while they fit: role by role over all layers, so that what is streamed stays the
 * same for every layer as far as possible and no layer waits longer than another. */
static void pin_more(const struct model *m, struct plan *p, struct layer_sum *sum)
{
    uint32_t n = model_n_tensor(m);
    for (int rank = 0; rank < 8; rank++)
        for (uint32_t i = 0; i < n; i++) {
            const struct tensor *t = model_tensor(m, i);
            if (p->pinned[i] || pin_order(t->role) != rank)
                continue;
            p->pinned[i] = 1;
            p->resident_bytes += plan_tensor_bytes(t);
            if (try_total(m, p, sum) > p->ram_bytes) {
                p->pinned[i] = 0;
                p->resident_bytes -= plan_tensor_bytes(t);
            }
        }
}

static void predict(const struct plan_in *in, struct plan *p)
{
    double mem = in->mem_bytes_per_s > 0 ? in->mem_bytes_per_s : 20e9;
    double t_mem = (double)(p->resident_bytes + p->streamed_bytes) / mem;
    double reads = (double)p->streamed_bytes / (double)p->piece_bytes;
    double t_disk = (double)p->streamed_bytes / in->disk.seq_bytes_per_s;
    double t_random = reads * in->disk.read_s + (double)p->streamed_bytes / in->disk.bytes_per_s;
    t_disk = t_disk > t_random ? t_random : t_disk; /* whichever the disk does better */
    double t = t_disk > t_mem ? t_disk : t_mem;
    p->limit = t_disk > t_mem ? "disk bandwidth" : "memory bandwidth";
    p->tokens_per_s = t > 0 ? 1 / t : 0;
}

static void pin_all(const struct model *m, struct plan *p, bool everything)
{
    p->resident_bytes = 0;
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        p->pinned[i] = everything || always_pinned(t);
        if (p->pinned[i])
            p->resident_bytes += plan_tensor_bytes(t);
    }
}

static enum status decide(const struct model *m, const struct plan_in *in, struct plan *p,
                          struct layer_sum *sum)
{
    bool dense = in->mode == FLASH_DENSE;
    pin_all(m, p, true);
    uint64_t all = try_total(m, p, sum);
    p->ram_bytes = in->ram_bytes ? in->ram_bytes : all;
    p->mode = FLASH_OFF;
    p->total_bytes = p->least_bytes = all;
    p->fits = all <= p->ram_bytes;
    if (in->mode == FLASH_OFF || (p->fits && !dense))
        return ST_OK;
    pin_all(m, p, false);
    uint64_t least = try_total(m, p, sum);
    if (least >= all) /* a tiny model: the ring would be larger than what it saves */
        return (void)pin_all(m, p, true), (void)try_total(m, p, sum), ST_OK;
    p->least_bytes = least;
    p->mode = FLASH_DENSE;
    p->fits = least <= p->ram_bytes;
    if (p->fits && in->ram_bytes && in->ram_bytes < all)
        pin_more(m, p, sum);
    p->total_bytes = try_total(m, p, sum);
    return ST_OK;
}

enum status plan_make(const struct model *m, const struct plan_in *in, struct plan *ret,
                      struct err *err)
{
    struct plan p = { .kv_bytes = in->kv_bytes,
                      .scratch_bytes = in->scratch_bytes,
                      .tokenizer_bytes = in->tokenizer_bytes };
    if (in->mode == FLASH_SPARSE)
        return err_set(err, ST_UNSUPPORTED,
                       "sparse (neuron-level) streaming is not available yet: use --flash dense");
    p.pinned = calloc(model_n_tensor(m), 1);
    struct layer_sum *sum = calloc((size_t)model_hparams(m)->n_layer + 1, sizeof *sum);
    if (!p.pinned || !sum) {
        free(p.pinned);
        free(sum);
        return err_set(err, ST_NOMEM, "plan");
    }
    staging(m, &p);
    decide(m, in, &p, sum);
    predict(in, &p);
    free(sum);
    *ret = p;
    return ST_OK;
}

enum status plan_check(const struct plan *p, struct err *err)
{
    char have[32], need[32];
    if (p->fits)
        return ST_OK;
    return err_set(err, ST_BUDGET, "does not fit into %s: the least that works is %s (--ram %llu)",
                   num_size_text(p->ram_bytes, have), num_size_text(p->least_bytes, need),
                   (unsigned long long)p->least_bytes);
}

void plan_clear(struct plan *p)
{
    free(p->pinned);
    *p = (struct plan){ 0 };
}

static bool read_limit(const char *path, uint64_t *limit)
{
    char text[64] = "";
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    struct err err = ERR_INIT;
    uint64_t v;
    if (num_u64(str_trim((struct str){ text, n }), path, 0, UINT64_MAX, &v, &err) != ST_OK)
        return false; /* "max" */
    if (v < *limit)
        *limit = v;
    return true;
}

/* The process's own cgroup when it is mounted, and the root's (what a container sees as its own).
 */
uint64_t plan_memory_limit(void)
{
    uint64_t limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char line[1024], path[1200];
    read_limit("/sys/fs/cgroup/memory.max", &limit);
    read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes", &limit);
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *group = strrchr(line, ':');
        if (!group || strcmp(group + 1, "/") == 0)
            continue;
        bool v1 = strstr(line, ":memory:") != NULL;
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s%s/%s", v1 ? "memory" : "", group + 1,
                 v1 ? "memory.limit_in_bytes" : "memory.max");
        if (v1 || strncmp(line, "0::", 3) == 0)
            read_limit(path, &limit);
    }
    if (f)
        fclose(f);
    return limit;
}
