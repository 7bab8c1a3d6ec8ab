/* recsys/service_parts.h - what service.c, work.c and models.c share. Nobody else includes it. */
#ifndef STROBE_RECSYS_SERVICE_PARTS_H
#define STROBE_RECSYS_SERVICE_PARTS_H

#include "engine/base/queue.h"
#include "recsys/archive.h"
#include "recsys/recsys.h"
#include "recsys/wal.h"

enum { KEYS_MAX = 500000, DIRTY_MAX = 1 << 16, MODELS_MAX = 1000 };

/* What a request with a key was answered. */
struct key_answer {
    uint64_t hash;
    struct served_result res;
    size_t n_reject;
};
struct key_half {
    struct ids ids;
    struct key_answer *answer;
    uint32_t cap;
};

struct pending;

struct model_entry {
    char id[RECSYS_ID_MAX];
    int64_t created; /* Unix seconds */
    uint64_t bytes;
};

struct recsys {
    char *dir;
    struct served *live;
    struct queue *in, *work, *keep;
    pthread_t writer, worker, keeper;
    bool writing, working, keeping, no_fold;
    int64_t (*now_ms)(void);
    atomic_bool ending;
    atomic_ullong waiting, folds, queries;

    /* The writer's. */
    struct wal *wal;
    struct key_half keys[2]; /* newer, older */
    struct pending *pending;

    /* The keeper's; before the threads start, the opening's. */
    struct archive *archive; /* NULL: away */
    struct archive_opts archive_opts;
    char *store_url, *events_dir;
    uint64_t forgotten; /* bytes of log that were cut off; under the lock */

    pthread_mutex_t lock;   /* guards what follows */
    struct wal_pos log_end; /* what has taken effect */
    struct store_figures store;
    uint64_t backlog_seen; /* bytes of the log when store.backlog was counted */
    struct wal_figures log;
    struct model_entry *model;
    uint32_t n_model, cap_model;
    char active[RECSYS_ID_MAX]; /* "" none */
    char fault[ERR_MSG_MAX];
    uint32_t *dirty; /* users to fold in */
    uint32_t n_dirty;
    bool all_dirty; /* a new model: look at all users */
};

void publish_log_stats(struct recsys *r);

/* ---- work.c ---- */
void *work_main(void *arg);
void work_dirty(void *ctx, uint32_t user); /* writer */

/* ---- keeper.c ---- */
/* What the store has, into memory, when it can be reached or has to be: as wal_opts.begin. */
enum status keeper_load(void *ctx, uint32_t first, struct wal_pos *from, struct err *err);
void *keeper_main(void *arg);
enum status keep_key(struct recsys *r, const char *key, uint64_t hash,
                     const struct served_result *res, size_t n_reject, struct err *err);

/* ---- models.c ---- */
/* Ids of all models, newest first; NULL: no memory. free() it. */
struct model_entry *models_copy(struct recsys *r, uint32_t *n, char active[RECSYS_ID_MAX]);
json_t *models_notes(struct recsys *r, const struct model_entry *e);
/* What is in the folder; the active one goes into use. Before the threads start. */
enum status models_load(struct recsys *r, struct err *err);
void models_clear(struct recsys *r);
/* Writer. ST_NOTFOUND; the old one stays in use when it fails. */
enum status model_activate(struct recsys *r, const char *id, struct err *err);

#endif
