/* engine/engine.h - the facade: what server/, eval/ and the command line may include.
 *
 * An engine owns one model, its plan, weights, slots and one scheduler thread. Requests enter
 * through a bounded queue; events leave through a callback on the engine thread (never blocking,
 * never calling back into the engine except engine_cancel()). Functions are safe from any thread
 * unless noted. */
#ifndef STROBE_ENGINE_H
#define STROBE_ENGINE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/json.h"
#include "engine/infer/gen.h"

#include <stdbool.h>
#include <stdint.h>

struct engine; /* opaque */

enum engine_flash { ENGINE_FLASH_AUTO, ENGINE_FLASH_OFF, ENGINE_FLASH_DENSE, ENGINE_FLASH_SPARSE };
enum engine_source {
    ENGINE_SOURCE_AUTO,
    ENGINE_SOURCE_URING,
    ENGINE_SOURCE_PREAD,
    ENGINE_SOURCE_BUFFERED,
    ENGINE_SOURCE_MMAP
};
/* Element type of cached keys and values. AUTO: f32 when every attention weight is F32, else f16.
 * It depends on the model alone: a type that followed the memory cap would change the tokens. */
enum engine_kv { ENGINE_KV_AUTO, ENGINE_KV_F16, ENGINE_KV_F32 };

/* Which cached neurons of a packed model give way to others (flash/cache.h). */
enum engine_cache {
    ENGINE_CACHE_ADAPTIVE,
    ENGINE_CACHE_LFU,
    ENGINE_CACHE_LRU,
    ENGINE_CACHE_WINDOW,
    ENGINE_CACHE_STATIC
};

enum { ENGINE_MASK_CHECK_OFF = UINT32_MAX >> 1 };

struct engine_opts {
    const char *model;  /* path of a GGUF file or Hugging Face folder */
    uint64_t ram_bytes; /* 0: 7/8 of what the machine or container has */
    uint32_t n_thread;  /* 0: all online cores */
    /* Where these three are 0 and the defaults do not fit into ram_bytes, or take more than an
     * eighth of it while weights are streamed, smaller ones are taken (batch 128, then 2 slots or
     * 1, and to fit at all a context down to 512): engine_info() says which. */
    uint32_t n_slot;    /* sequences that decode together; 0: 4 */
    uint32_t n_ctx;     /* positions per slot; 0: the model's, at most 4096 */
    uint32_t n_batch;   /* prefill tokens per pass; 0: 512 */
    uint32_t n_span;    /* prompt tokens that share one pass over streamed weights, in chunks of
                           n_batch; 0: up to 2048; n_batch or less: chunks alone */
    uint32_t queue_max; /* waiting requests; 0: 64 */
    enum engine_flash flash;
    enum engine_source source;
    enum engine_kv kv;
    enum engine_cache cache;
    double keep;       /* share of neurons that a token may use, not exact; 0 or 1: all */
    bool no_overlap;   /* read what a layer misses, then compute: for comparison */
    double mask_sigma; /* of a 4-bit sketch, standard deviations (flash/mask.h); 0: 3 */
    /* Packed models: of how many tokens one is used to see what the mask misses (flash/shadow.h);
     * 0: 64, and none where the mask is exact. */
    uint32_t mask_check;
    /* A second model that guesses tokens, in memory whole, in the same budget; NULL: none. Its
     * vocabulary is the model's. Nor does draft_self change what comes out: packed models guess
     * with the neurons that are in memory. Not both, and neither with reuse. */
    const char *draft_model;
    bool draft_self;
    /* Packed models, not exact: after a pass that read neurons, so many passes of one token per
     * sequence read none and leave out those that are not in memory; 0: none. */
    uint32_t reuse;
    int cpu_level;            /* -1: best; else enum cpu_level */
    const char *activation;   /* override, see model.h */
    const char *cache_dir;    /* calibration cache; NULL: none */
    const char *neuron_trace; /* packed models: file that records which neurons each pass needs
                                 (flash/neuron_trace.h); NULL: none. A pass whose record cannot be
                                 written fails. */
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *progress_ctx;
};

/* Loads and starts. Errors: as model_open, ST_BUDGET (names the least that works), ST_NOMEM. */
enum status engine_open(const struct engine_opts *opts, struct engine **ret, struct err *err);
/* Writes the rest of the neuron trace; call it when engine_idle(). Errors: ST_IO. */
enum status engine_neuron_trace_flush(struct engine *e, struct err *err);
/* Finishes or cancels everything, joins, frees. */
void engine_close(struct engine *e);
/* Fills *ret as a JSON document with the plan ("resident_bytes", "streamed_bytes", "kv_bytes",
 * "scratch_bytes", "total_bytes", "least_bytes", "fits", "tokens_per_second", "limit", "mode"...)
 * without loading weights. */
enum status engine_estimate(const struct engine_opts *opts, json_t **ret, struct err *err);
/* The `inspect` document, without loading weights. */
enum status engine_inspect(const struct engine_opts *opts, json_t **ret, struct err *err);
/* Reads the whole file and compares it with the checksums that `strobe pack` wrote into it:
 * ST_FORMAT naming the tensor that differs, ST_UNSUPPORTED for a file without any. Bounded memory;
 * *bytes and *n_tensor: what was compared, the header counted as one. */
enum status engine_verify(const struct engine_opts *opts, uint64_t *bytes, uint64_t *n_tensor,
                          struct err *err);

struct engine_info {
    const char *model_id; /* file stem or folder name: the id in /v1/models */
    const char *path, *arch, *quant, *hash;
    const char *cache_dir; /* engine_opts'; NULL: none */
    uint64_t n_param, model_bytes, ram_budget;
    uint64_t resident_bytes, streamed_bytes; /* resident: with the slots of a neuron cache */
    uint32_t n_ctx, n_ctx_train, n_vocab, n_layer, n_embd, n_slot, n_thread, queue_max;
    const char *flash_mode; /* "off", "dense", "sparse" */
    const char *source;     /* "io_uring+direct"... or "ram" */
    const char *cpu_level;
    const char *flash_why;           /* why this mode: one sentence */
    const char *mask, *cache;        /* of a packed model: "sketch", "lfu"...; "" otherwise */
    bool exact;                      /* no neuron is left out by guess */
    bool mask_exact;                 /* the mask lets every neuron pass that fires */
    uint32_t mask_check;             /* of how many tokens one is looked at; 0: none */
    uint64_t mask_bytes;             /* of resident_bytes, for the mask alone */
    const char *draft_model;         /* its id; "self": resident neurons guess; "": neither */
    const char *draft_path;          /* NULL: no draft model */
    uint64_t draft_bytes;            /* memory of the draft model */
    uint32_t reuse;                  /* engine_opts' */
    const char *kv_type;             /* "f16", "f32" */
    bool has_chat_template;          /* false: the documented fallback is used */
    const char *chat_template_error; /* "" or why the model's own template is unusable */
    const char *tokenizer_warning;   /* "" or text */
    int32_t bos, eos;                /* -1: none */
    bool duo, duo_router;            /* a Duo model; and it has a router */
    uint32_t n_ff_small;
    double load_ms;
    int64_t created; /* Unix seconds: file time */
};
const struct engine_info *engine_info(const struct engine *e);

/* ---- the predictor of a low-rank mask (flash/predictor.h) ---- */
struct engine_predictor_opts {
    const char *out;          /* the file to write; samples lie beside it meanwhile */
    struct str text;          /* what the model reads */
    uint64_t n_tok;           /* tokens of it, spread over all; 0: 16384 */
    uint32_t rank, late_rank; /* late: of the last eighth of the layers; 0: the paper's shape */
    uint32_t epochs;          /* 0: 4 */
    double recall;            /* that the thresholds are set for; 0: 0.99 */
    uint64_t seed;
    int type; /* enum dtype of the factors, plain or Q8_0; -1: Q8_0 */
};
/* Runs the model over the text, trains a classifier per layer and writes the file for `strobe pack
 * --mask lowrank`. *ret: what each layer finds and misses on text it was not trained on. opts as
 * for engine_open(); the model is one that could be packed and is not. Errors: those of
 * engine_open(), ST_ARG (the text is too short), ST_UNSUPPORTED (no ReLU, packed already), ST_IO,
 * ST_NOMEM. */
enum status engine_predictor(const struct engine_opts *opts, const struct engine_predictor_opts *p,
                             json_t **ret, struct err *err);

/* ---- text ---- */
struct token_list {
    int32_t *id;
    size_t n;
};
void token_list_clear(struct token_list *t);
enum status engine_tokenize(const struct engine *e, struct str text, bool add_bos,
                            bool parse_special, struct token_list *ret, struct err *err);
/* Control tokens have no text. Errors: ST_ARG (an id out of range). */
enum status engine_detokenize(const struct engine *e, const int32_t *id, size_t n, struct buf *out,
                              struct err *err);
/* Bytes of one token as they stand in running text (may be part of a character); a control token
 * gives its name, which running text never shows. */
void engine_piece(const struct engine *e, int32_t id, struct buf *out);
/* messages, tools, ...: the body of a chat request or of /apply-template. ST_ARG carries the
 * template's own message. */
enum status engine_apply_template(const struct engine *e, const json_t *request, struct buf *out,
                                  struct err *err);

/* ---- generation: gen_params, gen_event and their kinds are in infer/gen.h ---- */
/* Copies what it needs. prompt: ids incl. BOS, 1..n_ctx. *id > 0 names the request for cancel.
 * Errors: ST_ARG (empty prompt, id out of range, prompt longer than the context: both numbers
 * named), ST_BUSY (queue full), ST_CLOSED, ST_NOMEM. After an error no event comes. */
enum status engine_submit(struct engine *e, const int32_t *prompt, size_t n_prompt,
                          const struct gen_params *p, gen_event_fn *fn, void *ctx, uint64_t *id,
                          struct err *err);
/* How a request goes through a Duo model, for gen_params.duo. mode: "big", "small", "fixed"
 * (pattern, a letter a layer: b, s, k for skip) or "router" (budget 0..1; else NaN). Errors:
 * ST_UNSUPPORTED (no Duo model, no router), ST_ARG, ST_RANGE. */
enum status engine_duo_policy(const struct engine *e, const struct duo_words *w,
                              struct duo_policy *ret, struct err *err);
/* The request ends with FINISH_CANCELLED within a layer's time; unknown ids are ignored. Also
 * allowed inside a callback. */
void engine_cancel(struct engine *e, uint64_t id);
/* true: a submit now would not fail with ST_BUSY (a hint for admission before the body is read). */
bool engine_has_room(const struct engine *e);
/* No new requests; running ones go on. engine_idle() tells when none is left. */
void engine_drain(struct engine *e);
bool engine_idle(const struct engine *e);

/* ---- traces: where the time of a request's passes went ---- */
/* Opens one under a name of at most 39 bytes; of earlier ones the latest three stay. Give it to the
 * submits that belong to it (gen_params.trace), close it after their last event. */
uint64_t engine_trace_open(struct engine *e, const char *id);
/* Also allowed inside a callback. */
void engine_trace_close(struct engine *e, uint64_t trace);
/* Appends the trace as a JSON document, or in Chrome's trace-event format (also JSON), which
 * ui.perfetto.dev opens. Errors: ST_NOTFOUND, ST_NOMEM. */
enum status engine_trace_write(const struct engine *e, const char *id, bool perfetto,
                               struct buf *out, struct err *err);
/* Appends a JSON document: what each layer needed, read and took since the start. */
enum status engine_layers_write(const struct engine *e, struct buf *out, struct err *err);

/* ---- figures: struct engine_stats is in infer/gen.h ---- */
void engine_stats(const struct engine *e, struct engine_stats *ret);
/* Of the activations' sizes in passes that read nothing, the share that was left out; NaN: there
 * was no such pass, or the mask does not know. */
double engine_mass_dropped(const struct engine_stats *st);
/* Share of what was needed that memory answered, 0..1. Packed models count neurons; else streamed
 * bytes are read anew on every pass, resident ones never. */
double engine_hit_rate(const struct engine_info *in, const struct engine_stats *st);
/* What the mask of a packed model lets pass and misses: {kind, exact, bytes, check_every, checked,
 * sampled, recall, recall_low, recall_high, over_load, missed_mass, missed_mass_low,
 * missed_mass_high, check_ms}, null where nothing is known. Of an exact mask that was not looked at
 * the figures are what is proven. JSON null for other models, NULL: no memory. */
json_t *engine_mask_doc(const struct engine_info *in, const struct engine_stats *st);

/* ---- training (a process of its own: `strobe train`) ---- */

enum { ENGINE_PARAM_MAX = 64 };
/* Are these settings of a run, as `strobe train --config` takes them? Nothing is opened. param
 * takes the name of the one that is wrong, "" where none alone is. Errors: ST_ARG, ST_RANGE,
 * ST_NOMEM. */
enum status engine_train_check(const json_t *config, char param[ENGINE_PARAM_MAX], struct err *err);
/* The same for `strobe relufy --config`: also from, to and stage. The model that `from` names is
 * not opened, so that what depends on it (a gate for dReLU) shows when the run starts. */
enum status engine_relufy_check(const json_t *config, char param[ENGINE_PARAM_MAX],
                                struct err *err);

/* ---- Duo traces (engine/duo/request.h: the settings; trace.h: the file) ---- */
/* Looks at a trace's settings, without opening anything. As engine_train_check(). */
enum status engine_duo_check(const json_t *config, char param[ENGINE_PARAM_MAX], struct err *err);
/* About how many FLOPs the trace would take; opens the model and cuts the text. Errors: those of
 * the settings, ST_UNSUPPORTED (no Duo model), ST_RANGE (the text is longer than the context). */
enum status engine_duo_cost(const json_t *config, double *flops, struct err *err);
/* Makes it and writes PATH. go_on: told how much is done, false stops with ST_CANCELLED. */
enum status engine_duo_trace(const json_t *config, const char *path,
                             bool (*go_on)(void *ctx, const char *what, uint64_t done,
                                           uint64_t total),
                             void *ctx, struct err *err);
/* A trace's document: header, curves and, with `tokens`, its first sequence. */
enum status engine_duo_document(const char *path, bool tokens, json_t **ret, struct err *err);
/* A figure of a trace's file (engine/duo/figures.h); budget, sequence: -1 for the defaults. */
enum status engine_duo_figure(const char *path, struct str figure, int budget, int sequence,
                              json_t **ret, struct err *err);

#endif
