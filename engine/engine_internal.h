/* engine/engine_internal.h - struct engine, for the facade's files: engine.c (life, requests),
 * engine_text.c (tokens and templates), engine_report.c (estimate, inspect). */
#ifndef STROBE_ENGINE_INTERNAL_H
#define STROBE_ENGINE_INTERNAL_H

#include "engine/base/pool.h"
#include "engine/engine_setup.h"
#include "engine/flash/neuron_trace.h"
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
    struct scheduler *sched;
    char *model_id, *path;
    struct engine_info info;
};

/* "dense" or "off". */
const char *engine_flash_name(const struct plan *p);
/* "f16" or "f32". */
const char *engine_kv_name(enum dtype t);
/* The id in /v1/models: the folder's name, or the file's without ".gguf". free() it; NULL: memory.
 */
char *engine_model_id(const struct model *m, const char *path);

#endif
