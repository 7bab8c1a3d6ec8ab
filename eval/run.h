/* eval/run.h - the shapes of an evaluation: a run is data sets x model x decoding x prompt, fixed
 * when it is made; its samples are what the model answered. Types only; run_store.h keeps them.
 *
 * The manifest is a JSON object, "format": "strobe-run/1":
 *   datasets   [{name, hash, items, variant, level, instances, seed...}]     items_hash  SHA-256
 *   model      {backend: "engine"|"endpoint", name, hash|url, api, ...}
 *   prompt     {name, hash, shots, shots_available, why, preamble...}
 *   decoding   {temperature, max_tokens, seed, stop: [...]}
 *   extraction {profile}                       the profile that "correct" of a report means
 *   primary    what was declared before the run (contrast, margin), or null
 * The run's identity is the SHA-256 of the manifest without "name", "datasets" and "items_hash":
 * a run may be extended by items, never continued with another model, prompt or decoding. */
#ifndef STROBE_EVAL_RUN_H
#define STROBE_EVAL_RUN_H

#include "eval/extract.h"

#include <stdbool.h>
#include <stdint.h>

enum { RUN_ID_MAX = 24, RUN_HASH_MAX = 65 };

/*   ready --runner--> running --all samples done or failed--> done --extend--> ready
 *     ^                 |  +--> paused (asked for, budget, outage, runner gone) --resume--> ready
 *     +-----------------+--------> cancelled --resume--> ready                                 */
enum run_state { RUN_READY, RUN_RUNNING, RUN_PAUSED, RUN_CANCELLED, RUN_DONE, RUN_STATES };
const char *run_state_name(enum run_state s); /* "ready", "running"... */

struct run_counts {
    int64_t total, pending, leased, done, failed;
    int64_t correct;                    /* of done, by the run's profile */
    int64_t truncated, empty, unparsed; /* of done: finish "length"; no text; no number found */
    int64_t attempts;
    int64_t prompt_tokens, cached_tokens, completion_tokens; /* cached: of prompt_tokens */
};

/* Texts are owned by the row: run_row_clear(). */
struct run_row {
    int64_t seq; /* order of creation */
    char id[RUN_ID_MAX];
    char identity[RUN_HASH_MAX];
    enum run_state state;
    int64_t created, finished; /* Unix seconds; 0: not yet */
    char *name;                /* for people; never NULL */
    char *note;                /* why it is paused...; never NULL */
    char *manifest;            /* JSON */
    char *limits;              /* JSON: budgets, endpoint and files to resume with; no keys */
    char *learned;             /* JSON: what the endpoint did not accept; "{}" */
    struct run_counts counts;
};
void run_row_clear(struct run_row *r);

enum sample_state { SAMPLE_PENDING, SAMPLE_LEASED, SAMPLE_DONE, SAMPLE_FAILED, SAMPLE_STATES };
const char *sample_state_name(enum sample_state s);

/* What the model did wrong, or right. Decided when scored, by the run's profile. */
enum sample_class {
    CLASS_NONE, /* not answered yet */
    CLASS_CORRECT,
    CLASS_UNPARSED,  /* no number found */
    CLASS_EMPTY,     /* no text at all */
    CLASS_TRUNCATED, /* wrong or not found, and cut by the token limit */
    CLASS_REFUSAL,
    CLASS_TRAP,       /* the answer that the distractor leads to */
    CLASS_STEP,       /* equals an intermediate result of the solution */
    CLASS_SIGN,       /* sign, percent or unit (times 100, 60, 1000...) confusion */
    CLASS_ARITHMETIC, /* a step "a op b = c" in the response is false */
    CLASS_OTHER,
    CLASS_FAILED, /* the item has no answer: errors only */
    SAMPLE_CLASSES
};
const char *sample_class_name(enum sample_class c); /* "correct", "trap"... */

/* One question of a run and its answer. Texts are borrowed from whoever hands the row out. */
struct run_sample {
    int64_t ord; /* order of work: unique in the run, from 0 */
    /* the item */
    struct str key; /* unique in the run: "TEMPLATE/VARIANT/LEVEL/INSTANCE" (+ "/rN") */
    struct str tmpl, variant;
    int64_t level, instance, repeat;
    bool original;   /* the template's original question */
    struct str hash; /* SHA-256 of the item */
    struct str question;
    int64_t gold_num, gold_den;
    struct str gold_text;
    struct str info; /* JSON object: {traps: ["a/b"...], steps: [...], numbers: [...], words,
                        vars: {...}, spans: [...], clause_status, solution...}; "{}" */
    /* the answer */
    enum sample_state state;
    int64_t n_attempt;
    struct str response, reasoning; /* "" until done */
    struct str finish;              /* "stop", "length", "content_filter"..., "" */
    struct str error;               /* failed: of the last attempt */
    int64_t prompt_tokens, cached_tokens, completion_tokens, latency_us;
    /* its score, by the newest extractor version that scored it; version 0: none */
    int64_t version;
    enum sample_class klass;
    int64_t trap; /* index into info.traps that was hit, -1: none */
    struct extract_hit hit[EXTRACT_PROFILES];
    bool correct[EXTRACT_PROFILES];
};

/* One request that was made. Append-only. Texts as above. */
enum attempt_outcome {
    ATTEMPT_OK,
    ATTEMPT_RETRY,   /* failed, will be asked again */
    ATTEMPT_FAIL,    /* failed, the item is given up */
    ATTEMPT_ADAPTED, /* refused for a parameter that is left out from now on */
    ATTEMPT_OUTAGE,  /* the endpoint was not there: does not count against the item */
    ATTEMPT_OUTCOMES
};
const char *attempt_outcome_name(enum attempt_outcome o);

struct run_attempt {
    int64_t ord, n; /* n: from 1, given by the store */
    enum attempt_outcome outcome;
    int64_t at_ms, latency_us; /* Unix milliseconds */
    int64_t status;            /* HTTP; 0: none */
    struct str request_hash;   /* SHA-256 of the request's body */
    struct str error, body;    /* body: what came back, cut to RUN_BODY_MAX bytes */
};
enum { RUN_BODY_MAX = 64 << 10, RUN_RESPONSE_MAX = 1 << 20 };

#endif
