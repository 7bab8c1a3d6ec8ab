/* eval/session.h - from settings to answers: makes or finds the run, checks that it is the same
 * experiment, opens the backend, works through it. What `strobe eval run` and the job of the server
 * share. See runner.h for the work itself. */
#ifndef STROBE_EVAL_SESSION_H
#define STROBE_EVAL_SESSION_H

#include "eval/runner.h"
#include "eval/set.h"

struct engine;

/* The settings of a run as JSON, the body of POST /api/evals/runs and what is stored with the run:
 *   name, variants ["both@1"...], count, seed, templates [ID...], max_items      which questions
 *   endpoint, model, api "chat"|"completions"|"auto", key_env                    who is asked
 *   prompt (file), shots, max_tokens, temperature, sample_seed, profile          how
 *   self_test: so many questions are asked at 1, 8 and 32 at a time first, see steady.h
 *   repeats: answers to each question, each with a seed of its own; reuse: take answers that other
 *   runs got to the same question by the same model, prompt and decoding
 *   extra {...}: members added to each request of an endpoint
 *   concurrency, rpm, tpm, attempts, max_requests, max_total_tokens, max_seconds, max_cost,
 *   price_in, price_out, connect_ms, first_byte_ms, total_ms                     within what
 *   primary {contrast, margin, ...}                                 what is claimed beforehand
 * All are optional. Strings are borrowed from doc. */
enum { SETTINGS_VARIANTS_MAX = SET_VARIANTS_MAX, SETTINGS_TEMPLATES_MAX = 256 };
struct eval_settings {
    const char *name, *endpoint, *model, *api, *key_env, *prompt, *profile;
    struct set_variant variant[SETTINGS_VARIANTS_MAX];
    size_t n_variant;
    const char *only[SETTINGS_TEMPLATES_MAX];
    size_t n_only;
    int64_t repeats, self_test;
    bool reuse;
    int64_t count, seed, max_items, shots, max_tokens, sample_seed; /* shots -1: as many as fit */
    double temperature;
    enum extract_profile of_profile;
    struct run_limits limits;
    struct pace_opts pace;
    int64_t attempts, connect_ms, first_byte_ms, total_ms, backoff_ms, outage_after, outage_ms,
        patience_ms;
    const json_t *primary, *extra;
};
enum { SETTINGS_PARAM_MAX = 64 };
/* param: the setting that is wrong, "" none. Unknown ones are errors. ST_ARG, ST_RANGE. */
enum status eval_settings_read(const json_t *doc, struct eval_settings *ret,
                               char param[SETTINGS_PARAM_MAX], struct err *err);

struct session_in {
    struct run_store *store;
    const json_t *doc;     /* settings */
    struct engine *engine; /* NULL: settings name an endpoint */
    const struct set *set; /* NULL: the run has its items */
    const char *run;       /* id or name to go on with; NULL: the newest of this identity, or new */
    bool fresh;            /* a new run, whatever exists */
    bool only_make;        /* make it (or extend it) and return: somebody else works on it */
    const char *id;        /* of a run that is made; NULL: chosen */
    atomic_int *stop;
    void (*progress)(void *ctx, const struct run_progress *p);
    void (*begun)(void *ctx, const struct run_row *row, bool made); /* before the first question */
    void *ctx;
};
struct session_out {
    char run[RUN_ID_MAX];
    bool made; /* it is new */
    enum run_ending ending;
    char note[ERR_MSG_MAX];
    struct run_progress last;
    struct buf diff; /* ST_ARG: what is different, a line each: "prompt.hash: a -> b" */
};
/* Errors: those of the parts; ST_ARG with out->diff filled: the run was made with another model,
 * prompt or decoding. *out is valid in any case: buf_clear(&out->diff). */
enum status session_run(const struct session_in *in, struct session_out *out, struct err *err);

#endif
