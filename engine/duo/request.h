/* engine/duo/request.h - what a trace is asked for, from JSON: the command line, jobs and the HTTP
 * API all come through here, so the same words are refused everywhere with the same message. */
#ifndef STROBE_DUO_REQUEST_H
#define STROBE_DUO_REQUEST_H

#include "engine/duo/measure.h"

enum { DUO_TEXT_BYTES_MAX = 16 << 20, DUO_PARAM_MAX = 64 };

struct duo_request {
    char *model, *text, *file; /* owned; text or file, or symbolic */
    char *pattern;             /* owned; of DUO_GIVEN, a letter a layer */
    bool symbolic;
    bool needs_router; /* mode router */
    size_t tokens;     /* at most; 0: all of the text, 2048 of a file or of problems */
    size_t sequence;   /* tokens of a sequence; 0: up to 256, at most the context */
    struct duo_measure measure;
    double budget; /* share; NaN: none given */
    uint32_t threads;
};
void duo_request_clear(struct duo_request *r);
/* Members: model; text (or prompt), file, symbolic; mode, search, pattern, choices, budget (share
 * 0..1, also budgets), random, width, controls, tokens, sequence, placebo, placebo_sigma,
 * committed, searches, nml, seed, threads. Errors: ST_ARG, ST_RANGE; param takes the member's name.
 * Modes: all (every policy and control), oracle (the router is not asked), router (must be there;
 * few random routes beside it), random (as many as `random` says), fixed (the route `pattern`;
 * without one the best of random ones). `search` says otherwise which routes are tried. */
enum status duo_request_parse(const json_t *o, struct duo_request *ret, char param[DUO_PARAM_MAX],
                              struct err *err);
/* FLOPs it will take, about, when the model has this shape and the text so many tokens. */
double duo_request_flops(const struct duo_request *r, const struct duo_model *m, size_t n_tok);
/* The model opened, the text cut. Clear both, also after an error. */
enum status duo_request_open(const struct duo_request *r, struct duo_model *m, struct duo_text *t,
                             struct err *err);
/* All of it. *ret: free with duo_trace_free(). */
enum status duo_request_run(const struct duo_request *r, const struct duo_watch *w,
                            struct duo_trace **ret, struct err *err);

#endif
