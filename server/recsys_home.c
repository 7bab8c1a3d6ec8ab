/* server/recsys_home.c - see recsys_home.h.
 *
 *   create --open--> open
 *     |\--damaged--> shut, for good
 *      \--away--> thread: wait, open ----> open
 *                    ^-----away----'\--damaged--> shut
 */
#include "server/recsys_home.h"

#include "engine/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { AGAIN_MS = 1000, AGAIN_MAX_MS = 30000 };

struct recsys_home {
    char dir[4096];
    struct recsys_opts o;
    uint32_t again_ms;
    _Atomic(struct recsys *) open;
    pthread_t thread;
    bool threaded;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ends;  /* CLOCK_MONOTONIC */
    bool ending, trying;
    char fault[ERR_MSG_MAX];
};

static bool may_pass(enum status st)
{
    return st != ST_FORMAT && st != ST_UNSUPPORTED && st != ST_RANGE;
}

/* true: worth another attempt. */
static bool attempt(struct recsys_home *h)
{
    struct err err = ERR_INIT;
    struct recsys *r = NULL;
    if (h->dir[0])
        recsys_open(&h->o, &r, &err);
    else
        err_set(&err, ST_RANGE, "the name of the data directory is too long");
    if (err.code == ST_OK) { /* who has just seen that it was not open still finds why */
        atomic_store(&h->open, r);
        return false;
    }
    pthread_mutex_lock(&h->lock);
    bool news = strcmp(h->fault, err.msg) != 0;
    snprintf(h->fault, sizeof h->fault, "%s", err.msg);
    h->trying = may_pass(err.code);
    pthread_mutex_unlock(&h->lock);
    if (news)
        log_line(LOG_ERROR, "recsys", NULL,
                 may_pass(err.code) ? "no recommender yet" : "no recommender", "why=\"%s\"",
                 err.msg);
    return may_pass(err.code);
}

/* true: the server ends. */
static bool wait_ms(struct recsys_home *h, uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&h->lock);
    while (!h->ending && pthread_cond_timedwait(&h->ends, &h->lock, &until) != ETIMEDOUT)
        ;
    bool ending = h->ending;
    pthread_mutex_unlock(&h->lock);
    return ending;
}

static void *try_again(void *arg)
{
    struct recsys_home *h = arg;
    pthread_setname_np(pthread_self(), "recsys-open");
    for (uint32_t ms = h->again_ms; !wait_ms(h, ms);) {
        if (!attempt(h)) {
            if (recsys_home_get(h))
                log_line(LOG_INFO, "recsys", NULL, "the recommender is open", "now=1");
            break;
        }
        ms = ms * 2 < AGAIN_MAX_MS ? ms * 2 : AGAIN_MAX_MS;
    }
    return NULL;
}

enum status recsys_home_create(const struct recsys_home_opts *o, struct recsys_home **ret,
                               struct err *err)
{
    struct recsys_home *h = calloc(1, sizeof *h);
    pthread_condattr_t attr;
    if (!h)
        return err_set(err, ST_NOMEM, "recommender");
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->ends, &attr);
    pthread_condattr_destroy(&attr);
    if (snprintf(h->dir, sizeof h->dir, "%s/recsys", o->data_dir) >= (int)sizeof h->dir)
        h->dir[0] = '\0';
    h->o =
        (struct recsys_opts){ .dir = h->dir, .store = o->store, .segment_bytes = o->segment_bytes };
    h->again_ms = o->again_ms ? o->again_ms : AGAIN_MS;
    if (attempt(h)) {
        int e = pthread_create(&h->thread, NULL, try_again, h);
        if (e) {
            recsys_home_free(h);
            return err_sys(err, e, "pthread_create");
        }
        h->threaded = true;
    }
    *ret = h;
    return ST_OK;
}

void recsys_home_free(struct recsys_home *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->ending = true;
    pthread_cond_signal(&h->ends);
    pthread_mutex_unlock(&h->lock);
    if (h->threaded)
        pthread_join(h->thread, NULL);
    recsys_close(atomic_load(&h->open));
    pthread_cond_destroy(&h->ends);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

struct recsys *recsys_home_get(struct recsys_home *h)
{
    return h ? atomic_load(&h->open) : NULL;
}

bool recsys_home_fault(struct recsys_home *h, char out[ERR_MSG_MAX])
{
    bool trying = false;
    out[0] = '\0';
    if (!h)
        return false;
    pthread_mutex_lock(&h->lock);
    snprintf(out, ERR_MSG_MAX, "%s", h->fault);
    trying = h->trying;
    pthread_mutex_unlock(&h->lock);
    return trying;
}
