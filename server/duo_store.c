/* server/duo_store.c - see duo_store.h. */
#include "server/duo_store.h"

#include "engine/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const homes[DUO_HOMES] = { "duo", "runs" };

struct duo_limit duo_limit_of(enum duo_home home, struct duo_limit asked)
{
    static const struct duo_limit usual[DUO_HOMES] = { { 500, UINT64_C(1) << 30 },
                                                       { 200, UINT64_C(4) << 30 } };
    return (struct duo_limit){ asked.most ? asked.most : usual[home].most,
                               asked.bytes ? asked.bytes : usual[home].bytes };
}

/* Letters, digits and dashes: no way out of the folder. */
static bool plain_id(const char *id)
{
    size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && n < 64 && id[n] == '\0';
}

static enum status find(const char *data_dir, const char *id, char path[FILE_PATH_MAX],
                        enum duo_home *home, struct err *err)
{
    for (int i = 0; plain_id(id) && i < DUO_HOMES; i++) {
        if (file_path(path, err, "%s/%s/%s/trace.bin", data_dir, homes[i], id) != ST_OK)
            return err->code;
        *home = (enum duo_home)i;
        if (file_is_regular(path))
            return ST_OK;
    }
    return err_set(err, ST_NOTFOUND, "there is no trace '%.60s'", id);
}

enum status duo_store_find(const char *data_dir, const char *id, char path[FILE_PATH_MAX],
                           struct err *err)
{
    enum duo_home home = DUO_AT_ONCE;
    return find(data_dir, id, path, &home, err);
}

/* A job's folder is the job's: only the trace goes. */
static enum status remove_from(const char *data_dir, enum duo_home home, const char *id,
                               struct err *err)
{
    char path[FILE_PATH_MAX];
    bool job = home == DUO_OF_JOBS;
    if (file_path(path, err, "%s/%s/%s%s", data_dir, homes[home], id, job ? "/trace.bin" : "") !=
        ST_OK)
        return err->code;
    if (!job)
        return file_remove_tree(path, err);
    return unlink(path) == 0 ? ST_OK : err_sys(err, errno, "trace");
}

enum status duo_store_remove(const char *data_dir, const char *id, struct err *err)
{
    char path[FILE_PATH_MAX];
    enum duo_home home = DUO_AT_ONCE;
    if (find(data_dir, id, path, &home, err) == ST_OK)
        remove_from(data_dir, home, id, err);
    return err->code;
}

static int newest(const void *a, const void *b)
{
    const struct duo_stored *x = a, *y = b;
    if (x->created_ns != y->created_ns)
        return x->created_ns > y->created_ns ? -1 : 1;
    return strcmp(x->id, y->id);
}

struct found {
    struct duo_stored *at; /* owned */
    size_t n, cap;
};

static enum status add(struct found *f, const struct duo_stored *one, struct err *err)
{
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 64;
        struct duo_stored *more = realloc(f->at, cap * sizeof *more);
        if (!more)
            return err_set(err, ST_NOMEM, "list of traces");
        f->at = more;
        f->cap = cap;
    }
    f->at[f->n++] = *one;
    return ST_OK;
}

static enum status collect(const char *data_dir, enum duo_home home, struct found *f,
                           struct err *err)
{
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    struct err ignore = ERR_INIT;
    struct stat st;
    if (file_path(dir, &ignore, "%s/%s", data_dir, homes[home]) != ST_OK)
        return ST_OK;
    DIR *d = opendir(dir);
    for (struct dirent *i; d && err->code == ST_OK && (i = readdir(d));) {
        if (!plain_id(i->d_name) ||
            file_path(path, &ignore, "%s/%s/trace.bin", dir, i->d_name) != ST_OK ||
            stat(path, &st) != 0)
            continue;
        struct duo_stored one = { .created_ns =
                                      (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                                  .bytes = (uint64_t)st.st_size,
                                  .home = home };
        snprintf(one.id, sizeof one.id, "%.63s", i->d_name);
        add(f, &one, err);
    }
    if (d)
        closedir(d);
    return err->code;
}

enum status duo_store_list(const char *data_dir, struct duo_stored **ret, size_t *n,
                           struct err *err)
{
    struct found f = { NULL, 0, 0 };
    for (int home = 0; home < DUO_HOMES; home++)
        if (collect(data_dir, (enum duo_home)home, &f, err) != ST_OK) {
            free(f.at);
            return err->code;
        }
    if (f.n)
        qsort(f.at, f.n, sizeof *f.at, newest);
    *ret = f.at;
    *n = f.n;
    return ST_OK;
}

void duo_store_date(const char *path)
{
    struct timespec now[2];
    if (clock_gettime(CLOCK_REALTIME, &now[0]) != 0)
        return;
    now[1] = now[0];
    if (utimensat(AT_FDCWD, path, now, 0) != 0)
        log_line(LOG_DEBUG, "duo", NULL, "trace not dated", "errno=%d", errno);
}

void duo_store_trim(const char *data_dir, enum duo_home home, struct duo_limit limit)
{
    struct found f = { NULL, 0, 0 };
    struct err ignore = ERR_INIT;
    uint64_t sum = 0;
    collect(data_dir, home, &f, &ignore); /* without memory for all, of those there is some for */
    if (f.n)
        qsort(f.at, f.n, sizeof *f.at, newest);
    for (size_t i = 0; i < f.n; i++) {
        struct err one = ERR_INIT;
        sum += f.at[i].bytes;
        if (i > 0 && (i >= limit.most || sum > limit.bytes))
            remove_from(data_dir, home, f.at[i].id, &one);
    }
    free(f.at);
}
