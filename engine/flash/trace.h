/* engine/flash/trace.h - what streaming did, pass by pass and layer by layer: running totals of
 * every layer (always on), and full records of the requests that ask for a trace, in a ring of the
 * latest TRACE_KEPT. Memory is made at creation; what does not fit a trace is counted as dropped.
 *
 * One thread records (the engine's): a pass is begun, the traces that take part join, layers report
 * their points, reads come whenever they are seen complete, the pass ends. Only then does it become
 * visible. Other functions are for any thread; the lock is held for copies only. */
#ifndef STROBE_FLASH_TRACE_H
#define STROBE_FLASH_TRACE_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace; /* opaque */

enum {
    TRACE_KEPT = 4,
    TRACE_PASSES = 1024, /* of one trace; TRACE_LAYERS: of all its passes together */
    TRACE_LAYERS = 4096,
    TRACE_READS = 8192,
    TRACE_PASS_READS = 512, /* the first of each pass: a prompt alone may need thousands */
    TRACE_ID_MAX = 40,
    TRACE_LATENCIES = 24 /* bucket i: reads of 2^i to 2^(i+1) us; the first and last are open */
};

/* Counters since opening, as they stand at a point in time. */
struct trace_mark {
    uint64_t bytes, reads, wait_ns, mask_ns;
    uint64_t needed, missed, active; /* neurons; 0 where weights are not packed */
};

/* One layer of one pass, nanoseconds. The four phases add up to the layer's time. Bytes and reads
 * are those that arrived meanwhile: a stream reads ahead, also for the layers behind this one. */
struct trace_layer {
    uint64_t start_ns, ffn_start_ns;         /* ffn: of the first chunk of tokens */
    uint64_t attention_ns, mask_ns, wait_ns; /* wait: for the disk, in either half of the layer */
    uint64_t compute_ns;                     /* feed-forward */
    uint64_t bytes;
    uint32_t reads, needed, missed, active;
};

struct trace_pass {
    uint64_t start_ns, end_ns;
    uint32_t batch_tok;                      /* tokens of all requests in the pass */
    uint32_t own_tok;                        /* of those, the traced request's */
    uint32_t emitted;                        /* tokens that it got out of the pass */
    bool prompt;                             /* its tokens were of the prompt */
    uint32_t layer0, n_layer, read0, n_read; /* its records, in order; record i is layer i */
};

struct trace_read {
    uint64_t submit_ns, done_ns; /* done: when the engine saw it complete */
    uint32_t bytes, file;
    uint64_t offset; /* in the file: tells what it was for */
};

/* Since creation. */
struct trace_total {
    uint64_t attention_ns, mask_ns, wait_ns, compute_ns;
    uint64_t bytes, reads, needed, missed, active;
    uint32_t cached; /* neurons in memory after the last pass */
};

size_t trace_bytes(uint32_t n_layer);
enum status trace_create(uint32_t n_layer, struct trace **ret, struct err *err);
void trace_free(struct trace *t); /* NULL is fine */

/* ---- the recording thread ---- */
void trace_pass_begin(struct trace *t, uint64_t now_ns);
/* A request of that trace has n_tok tokens in the pass. 0 and handles that left the ring are
 * ignored. */
void trace_join(struct trace *t, uint64_t handle, uint32_t n_tok, bool prompt);
/* Layer `layer` begins, comes to its feed-forward part, begins again (with the next tokens of a
 * pass that takes them chunk by chunk through the layer) as often as need be, ends with `cached`
 * neurons in memory. A layer that does not end is not recorded. */
void trace_layer_begin(struct trace *t, uint64_t now_ns, const struct trace_mark *m);
void trace_layer_ffn(struct trace *t, uint64_t now_ns, const struct trace_mark *m);
void trace_layer_again(struct trace *t, uint64_t now_ns, const struct trace_mark *m);
void trace_layer_end(struct trace *t, uint32_t layer, uint64_t now_ns, const struct trace_mark *m,
                     uint32_t cached);
void trace_add_read(struct trace *t, const struct trace_read *r);
void trace_pass_end(struct trace *t, uint64_t now_ns, uint32_t batch_tok);
void trace_emitted(struct trace *t, uint64_t handle); /* a token, of the pass that ended last */

/* ---- any thread ---- */
/* Takes the ring's oldest place. The handle is never 0. */
uint64_t trace_open(struct trace *t, const char *id);
/* No pass will come any more. */
void trace_close(struct trace *t, uint64_t handle);

struct trace_copy {
    char id[TRACE_ID_MAX];
    bool complete;     /* trace_close() was called */
    uint64_t start_ns; /* of the first pass */
    uint32_t n_pass, n_layer, n_read;
    uint32_t lost_pass, lost_layer, lost_read; /* dropped for want of room */
    struct trace_pass pass[TRACE_PASSES];
    struct trace_layer layer[TRACE_LAYERS];
    struct trace_read read[TRACE_READS];
};
/* free() it. Errors: ST_NOTFOUND (never asked for, or no longer among the latest), ST_NOMEM. */
enum status trace_find(struct trace *t, const char *id, struct trace_copy **ret, struct err *err);
/* Ids of the ring, newest first, NUL-ended; returns how many. */
size_t trace_list(struct trace *t, char id[TRACE_KEPT][TRACE_ID_MAX]);
/* total: [n_layer]; latency: [TRACE_LATENCIES]; either may be NULL. Returns passes so far. */
uint64_t trace_totals(struct trace *t, struct trace_total *total, uint64_t *latency);
uint32_t trace_n_layer(const struct trace *t);

#endif
