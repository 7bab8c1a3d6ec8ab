/* tests/bench/recsys/bench_model.h - a random model with sparse factors and popular items, and
 * events by the same popularity: what the serving benchmarks ask of. Ends the program when it
 * fails. */
#ifndef STROBE_TESTS_BENCH_RECSYS_BENCH_MODEL_H
#define STROBE_TESTS_BENCH_RECSYS_BENCH_MODEL_H

#include "engine/base/rng.h"
#include "recsys/recsys.h"

struct bench_setting {
    uint64_t items, users, k, events, queries, batch;
};

double bench_power(struct rng *r, double top, double shape); /* top * uniform^shape */
struct rmodel *bench_model(const struct bench_setting *s);   /* rmodel_free() it */
/* A TSV body of n events that begin at Unix second t. */
void bench_batch(struct buf *b, struct rng *r, const struct bench_setting *s, uint64_t n, double t);

#endif
