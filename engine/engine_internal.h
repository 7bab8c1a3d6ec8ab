/* engine/engine_internal.h - struct engine, for the facade's files: engine.c (life, requests),
 * engine_text.c (tokens and templates), engine_report.c (estimate, inspect), engine_trace.c
 * (traces), engine_draft.c (who guesses tokens). */
#ifndef STROBE_ENGINE_INTERNAL_H
#define STROBE_ENGINE_INTERNAL_H

#include "engine/base/pool.h"
#include "engine/engine_setup.h"
#include "engine/flash/neuron_trace.h"
#include "engine/flash/trace.h"
#include "engine/flash/weights.h"
#include "engine/infer/forward.h"
#include "engine/infer/scheduler.h"

struct engine {
    struct engine_setup setup;
    struct pool *pool;
    struct neuron_trace_writer *neuron_trace; /* NULL: none */
    struct weights *weights;
    struct kv *kv;
    struct forward *forward;
    struct drafter *drafter; /* NULL: only the text itself is asked */
    struct scheduler *sched;
    struct trace *trace;
    char *model_id, *path, *cache_dir; /* cache_dir: may be NULL */
    struct engine_info info;
};

/* engine.c: opens pool, weights, cache and forward pass of a setup whose plan fits. engine_close()
 * also after a failure. */
enum status engine_load(struct engine *e, const struct engine_opts *o, struct err *err);
/* engine_trace.c: hooks the recorder into the layers and the reads. Before the scheduler starts. */
enum status engine_trace_start(struct engine *e, struct err *err);
/* Adds what the recorder counts. */
void engine_trace_stats(const struct engine *e, struct engine_stats *ret);
/* "dense" or "off". */
const char *engine_flash_name(const struct plan *p);
/* "f16" or "f32". */
const char *engine_kv_name(enum dtype t);
/* The id in /v1/models: the folder's name, or the file's without ".gguf". free() it; NULL: memory.
 */
char *engine_model_id(const struct model *m, const char *path);

#endif
