/* engine/flash/predictor_fit.h - trains one layer's predictor (predictor.h) on samples, chooses its
 * threshold and measures it (flash.md 1.3, the paper's classifier). A step's loss over a batch:
 *
 *   L = sum over tokens and neurons of  -(w y log p + (1 - y) log (1 - p)),
 *   p = 1 / (1 + exp(-(B (A x) + c))),  w = idle pairs / firing pairs of all samples
 *
 * so that the few pairs that fire weigh as much as the many that do not. AdamW, the step size
 * falling to zero. The result depends on samples and seed, not on threads. */
#ifndef STROBE_FLASH_PREDICTOR_FIT_H
#define STROBE_FLASH_PREDICTOR_FIT_H

#include "engine/base/pool.h"
#include "engine/flash/predictor.h"
#include "engine/flash/predictor_samples.h"
#include "engine/kernel/dispatch.h"

struct fit_opts {
    const struct kernels *k;
    struct pool *pool;
    uint32_t n_embd, n_ff, rank, epochs;
    uint64_t seed;
    enum dtype type;         /* of A and B in the result, see predictor_type() */
    double recall;           /* 0..1: of the neurons that fire, on the calibration samples */
    size_t n[SAMPLES_PARTS]; /* tokens of each part, at least one to train on */
    void (*tick)(void *ctx); /* after each step; NULL: nobody listens */
    void *ctx;
};

/* On the test samples. NAN: no neuron fired. */
struct fit_report {
    double active;                      /* share of neurons that fire, per token */
    double recall;                      /* of these, found */
    double precision;                   /* of the neurons let pass, those that fire */
    double over_load;                   /* neurons let pass for one that fires */
    double missed_mass;                 /* |h| of the neurons missed, of all */
    double pairs, fired, found, passed; /* of token and neuron */
    double mass, lost;                  /* |h| of all that fired, and of those missed */
};

/* Steps that predictor_fit() takes, and the memory beside the samples with so many threads. */
size_t fit_steps(const struct fit_opts *o);
size_t fit_bytes(const struct fit_opts *o, unsigned n_thread);
/* ret: filled; its owner frees a, b and bias also on failure. Errors: as predictor_judge(). */
enum status predictor_fit(const struct fit_opts *o, const struct samples_layer *s,
                          struct predictor_layer *ret, struct fit_report *report, struct err *err);

#endif
