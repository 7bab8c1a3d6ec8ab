/* tests/unit/flash/packed.h - tiny ReLU models, packed and run, for tests of pack and sparse. */
#ifndef STROBE_TESTS_UNIT_FLASH_PACKED_H
#define STROBE_TESTS_UNIT_FLASH_PACKED_H

#include "engine/flash/neuron_trace.h"
#include "engine/flash/pack.h"
#include "engine/flash/weights.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

enum { PACKED_TOKENS = 40 };

struct packed_run {
    const char *path;
    enum flash_mode mode;
    uint32_t slots; /* per layer; FLASH_OFF: all */
    unsigned n_thread;
    enum source_kind source;
    enum cache_policy policy;
    bool no_overlap;
    float mask_sigma;           /* of sketch4; 0: MASK_SIGMA */
    double keep;                /* 0: all */
    uint32_t mask_check;        /* 0: masks are not looked at */
    bool alone;                 /* each token is a pass of its own */
    uint32_t chunk;             /* not 0: all tokens are one span, in chunks of so many */
    const char *neuron_trace;   /* NULL: none; file of the neuron trace */
    struct weights_stats stats; /* out */
};

/* A ReLU model of the architecture under dir ("dir/NAME.gguf"), and its packed form beside it. */
void packed_plain(const char *dir, const char *arch, const char *act, enum dtype type,
                  char path[256]);
/* One row of a test's table. */
struct packed_case {
    const char *arch, *act;
    enum dtype type;
    enum pack_mask mask;
    bool norm_relu;
};
/* That model as NAME-ROW.gguf in packed_dir(). */
void packed_of_case(const struct packed_case *c, const char *name, size_t row, char path[256]);
/* A model of the test's own as dir/NAME.gguf. */
void packed_save(const char *dir, const char *name, const struct tiny_model *t, char path[256]);
void packed_pack(const char *from, enum pack_mask mask, char path[256]);
/* The model of packed_plain(); change what the test is about. */
struct tiny_model packed_tiny(const char *arch, const char *act, enum dtype type);
/* Writes a predictor of the model in `from`, made of t, that is its first matrix itself (A: one): a
 * neuron is let pass that comes closer than `margin` to firing; below zero, some that fire are
 * not. */
void packed_predictor(const char *from, const struct tiny_model *t, float margin, char path[256]);
/* Packs it with such a predictor. */
void packed_lowrank(const char *from, const struct tiny_model *t, float margin, char path[256]);
/* With options of the test's own; o->out is where. */
enum status packed_pack_opts(const char *from, const struct pack_opts *o, struct pack_report *rep,
                             struct err *err);
/* A model that is open and ready to run passes of up to PACKED_TOKENS. */
struct packed_live {
    struct pool *pool;
    struct model *m;
    struct plan plan;
    struct weights *w;
    struct rig rig;
    struct neuron_trace_writer *trace; /* NULL: none */
};
void packed_open(const struct packed_run *r, struct packed_live *l);
void packed_close(struct packed_live *l);
/* Logits [PACKED_TOKENS, n_vocab] of a fixed prompt in uneven passes; free(). */
float *packed_logits(struct packed_run *r, size_t *n);
/* The neuron trace of such a run of a packed file on one thread, all else as in packed_logits(). */
void packed_trace(const char *packed, uint32_t slots, const char *trace);
/* Bit for bit; `what` says which run it is. */
void packed_same(const float *got, const float *want, size_t n, const char *what);
/* A file's bytes; packed_drop() them. */
struct str packed_bytes(const char *path);
void packed_drop(struct str s);
const char *packed_dir(void); /* made once, below the temporary folder */

#endif
