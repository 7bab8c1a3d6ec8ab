/* engine/io/pread.c - reads by a few threads with pread: where io_uring is refused, and, without
 * O_DIRECT, for file systems that lack it and for comparison. The same threads also copy out of
 * mapped files (map.h), for comparison only. */
#include "engine/base/queue.h"
#include "engine/io/internal.h"
#include "engine/io/map.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { READERS_MAX = 16 };

struct preader {
    struct source src;
    struct queue *todo, *ready; /* each holds `depth` requests: pushes cannot fail */
    pthread_t thread[READERS_MAX];
    uint32_t n_thread;
    struct file_map *map; /* one per file; NULL: pread */
};

static long read_some(const struct preader *p, const struct source_req *req)
{
    uint64_t at = req->offset + req->got;
    size_t left = req->len - req->got;
    char *dst = (char *)req->dst + req->got;
    if (p->map)
        return map_copy(&p->map[req->file], p->src.fd[req->file], at, dst, left);
    ssize_t n = pread(p->src.fd[req->file], dst, left, (off_t)at);
    return n < 0 ? -errno : n;
}

static void *reader_main(void *arg)
{
    struct preader *p = arg;
    struct source_req *req;
    while ((req = queue_pop(p->todo, -1)) != NULL) {
        long n;
        do {
            n = read_some(p, req);
        } while (!source_advance(&p->src, req, n));
        queue_try_push(p->ready, req);
    }
    return NULL;
}

static size_t preader_submit(struct source *s, struct source_req *const *reqs, size_t n)
{
    struct preader *p = (struct preader *)s;
    for (size_t i = 0; i < n; i++)
        queue_try_push(p->todo, reqs[i]);
    return n;
}

static size_t preader_wait(struct source *s, struct source_req **done, size_t max, size_t min)
{
    struct preader *p = (struct preader *)s;
    size_t n = 0;
    while (n < max) {
        void *req = n < min ? queue_pop(p->ready, -1) : queue_try_pop(p->ready);
        if (!req)
            break;
        done[n++] = req;
    }
    return n;
}

static void preader_close(struct source *s)
{
    struct preader *p = (struct preader *)s;
    if (p->todo)
        queue_close(p->todo);
    for (uint32_t i = 0; i < p->n_thread; i++)
        pthread_join(p->thread[i], NULL);
    queue_free(p->todo);
    queue_free(p->ready);
    for (uint32_t i = 0; p->map && i < p->src.n_file; i++)
        map_close(&p->map[i]);
    free(p->map);
}

static const struct source_ops direct_ops = {
    .name = "pread+direct",
    .submit = preader_submit,
    .wait = preader_wait,
    .close = preader_close,
};
static const struct source_ops buffered_ops = {
    .name = "buffered",
    .submit = preader_submit,
    .wait = preader_wait,
    .close = preader_close,
};
static const struct source_ops mmap_ops = {
    .name = "mmap",
    .submit = preader_submit,
    .wait = preader_wait,
    .close = preader_close,
};

static enum status map_files(struct preader *p, struct err *err)
{
    p->map = calloc(p->src.n_file, sizeof *p->map);
    if (!p->map)
        return err_set(err, ST_NOMEM, "maps of %u files", p->src.n_file);
    for (uint32_t i = 0; i < p->src.n_file; i++)
        if (map_open(p->src.fd[i], &p->map[i], err) != ST_OK)
            return err_ctx(err, "'%s'", p->src.path[i]);
    return ST_OK;
}

static enum status start(struct preader *p, struct err *err)
{
    uint32_t want = p->src.depth < READERS_MAX ? p->src.depth : READERS_MAX;
    if (p->src.ops != &direct_ops && want > 4)
        want = 4; /* the page cache serialises; more threads only cost CPU */
    if (queue_create(p->src.depth, &p->todo, err) != ST_OK ||
        queue_create(p->src.depth, &p->ready, err) != ST_OK)
        return err->code;
    int e = 0;
    sigset_t all, old; /* signals are for whoever runs the process */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (p->n_thread < want && e == 0) {
        e = pthread_create(&p->thread[p->n_thread], NULL, reader_main, p);
        if (e == 0)
            p->n_thread++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    /* Few threads read slower, none is a failure. */
    return p->n_thread ? ST_OK : err_sys(err, e, "pthread_create");
}

enum status source_pread_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                              enum source_kind kind, struct source **ret, struct err *err)
{
    bool direct = kind == SOURCE_PREAD, mapped = kind == SOURCE_MMAP;
    struct preader *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "reader");
    p->src.ops = direct ? &direct_ops : mapped ? &mmap_ops : &buffered_ops;
    p->src.depth = depth;
    if (source_open_files(&p->src, paths, n_file, direct, err) == ST_OK &&
        (!mapped || map_files(p, err) == ST_OK) && start(p, err) == ST_OK) {
        *ret = &p->src;
        return ST_OK;
    }
    preader_close(&p->src);
    source_close_files(&p->src);
    free(p);
    return err->code;
}
