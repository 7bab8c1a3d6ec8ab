/* engine/flash/pack.h - re-lays a ReLU model once for neuron-level streaming: the feed-forward
 * weights of each neuron side by side (model/bundle.h), everything else as it was. Streams: memory
 * is one layer's down matrix and, where neurons get another order, 64 MiB for each other matrix of
 * a bundle. Another order is the same function with its own rounding: the sum over neurons is taken
 * in the file's order, whatever the budget, threads or cache. Writes OUT.partial and renames it
 * when it is whole; an interrupted run goes on where it stopped. Reads the model, never writes to
 * it. */
#ifndef STROBE_FLASH_PACK_H
#define STROBE_FLASH_PACK_H

#include "engine/base/err.h"
#include "engine/flash/place.h"
#include "engine/model/model.h"

#include <stdbool.h>
#include <stdint.h>

enum pack_mask {
    PACK_MASK_AUTO,     /* sketch for plain types without a gate, else resident */
    PACK_MASK_RESIDENT, /* the first matrix stays outside the bundles */
    PACK_MASK_SKETCH,   /* an 8-bit copy with certified bounds stands for it */
    PACK_MASK_SKETCH4,  /* a 4-bit copy: half the memory, a statistical margin (flash/mask.h) */
    PACK_MASK_LOWRANK   /* a trained predictor (flash/predictor.h) */
};

struct pack_opts {
    const char *out;
    enum pack_mask mask;
    const char *predictor; /* PACK_MASK_LOWRANK: the file of a predictor of this model */
    int type;              /* enum dtype for all matrices; -1: as they are */
    uint32_t align;        /* of bundles, a power of two; 0: what direct reads of OUT's disk want */
    const char *rates;     /* neuron trace (neuron_trace.h) of this model: firing rates go into the
                              file, and fill the cache at start; NULL: none */
    enum place_kind place; /* order of the neurons; any but PLACE_NONE needs rates */
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total); /* may be NULL */
    void *ctx;
};

struct pack_report {
    uint64_t bytes, resumed_bytes;
    uint64_t mask_bytes; /* of sketches or predictors: memory that is there for the mask alone */
    uint32_t stride, n_bundle, align;
    const char *mask; /* bundle_mask_name() */
    bool rates;
    const char *place; /* place_name() */
};

/* Errors: ST_UNSUPPORTED (no exact zeros: not a ReLU model; a folder; packed already; types), ST_IO
 * (also: the disk is full), ST_NOMEM, ST_ARG (also: another model's predictor or trace, place
 * without rates), those of predictor_read() and place_find(). */
enum status pack_run(const struct model *m, const struct pack_opts *opts, struct pack_report *ret,
                     struct err *err);

#endif
