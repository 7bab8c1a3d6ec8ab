/* engine/train/run_dir.h - the folder of a training run and its log of figures:
 *
 *   run.json        settings, versions, data, planned memory: written once, atomically
 *   metrics.jsonl   one line per logged step, appended
 *   checkpoints/    see checkpoint.h
 *   data/           shards made from text, vocab.gguf a vocabulary learned for it
 *   model.gguf      the trained model
 *   lock            held (flock) while a process trains here
 *
 * Owner: one thread. */
#ifndef STROBE_TRAIN_RUN_DIR_H
#define STROBE_TRAIN_RUN_DIR_H

#include "engine/base/err.h"
#include "engine/base/json.h"

#include <stdbool.h>
#include <stdint.h>

struct run_dir; /* opaque */

/* Creates the folder where needed and takes the lock, which ends with the process. Errors: ST_BUSY
 * (another process trains there), ST_IO, ST_RANGE, ST_NOMEM. */
enum status run_dir_open(const char *path, struct run_dir **ret, struct err *err);
void run_dir_close(struct run_dir *r); /* NULL is fine */
const char *run_dir_path(const struct run_dir *r);

bool run_dir_has(const struct run_dir *r, const char *name);
/* Takes doc (NULL: ST_NOMEM). */
enum status run_dir_put_json(const struct run_dir *r, const char *name, json_t *doc,
                             struct err *err);
enum status run_dir_get_json(const struct run_dir *r, const char *name, json_t **ret,
                             struct err *err);

/* What metrics.jsonl ends with; zeros: it is empty. */
struct run_tail {
    uint64_t step;
    double seconds, dollars;
};
/* Opens metrics.jsonl for appending. What a crash left behind the last whole line is cut off. */
enum status run_dir_log_open(struct run_dir *r, struct run_tail *ret, struct err *err);
/* One line, in one write. Takes doc (NULL: ST_NOMEM). After a failure the file ends with its last
 * whole line. */
enum status run_dir_log(struct run_dir *r, json_t *doc, struct err *err);
enum status run_dir_log_sync(struct run_dir *r, struct err *err);

#endif
