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

static const char *const homes[] = { "duo", "runs" };
enum { AT_ONCE, OF_JOBS };

/* Letters, digits and dashes: no way out of the folder. */
static bool plain_id(const char *id)
{
    size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && n < 64 && id[n] == '\0';
}

static enum status find(const char *data_dir, const char *id, char path[FILE_PATH_MAX], int *home,
                        struct err *err)
{
    for (int i = 0; plain_id(id) && i < 2; i++) {
        if (file_path(path, err, "%s/%s/%s/trace.bin", data_dir, homes[i], id) != ST_OK)
            return err->code;
        *home = i;
        if (file_is_regular(path))
            return ST_OK;
    }
    return err_set(err, ST_NOTFOUND, "there is no trace '%.60s'", id);
}

enum status duo_store_find(const char *data_dir, const char *id, char path[FILE_PATH_MAX],
                           struct err *err)
{
    int home = AT_ONCE;
    return find(data_dir, id, path, &home, err);
}

static enum status remove_at(const char *data_dir, const char *id, struct err *err)
{
    char dir[FILE_PATH_MAX];
    if (file_path(dir, err, "%s/%s/%s", data_dir, homes[AT_ONCE], id) == ST_OK)
        file_remove_tree(dir, err);
    return err->code;
}

enum status duo_store_remove(const char *data_dir, const char *id, struct err *err)
{
    char path[FILE_PATH_MAX];
    int home = AT_ONCE;
    if (find(data_dir, id, path, &home, err) != ST_OK)
        return err->code;
    if (home == AT_ONCE)
        return remove_at(data_dir, id, err);
    if (unlink(path) != 0) /* the job's folder is the job's */
        return err_sys(err, errno, "trace");
    return ST_OK;
}

static int newest(const void *a, const void *b)
{
    const struct duo_stored *x = a, *y = b;
    if (x->created_ns != y->created_ns)
        return x->created_ns > y->created_ns ? -1 : 1;
    return strcmp(x->id, y->id);
}

static size_t collect(const char *data_dir, int home, struct duo_stored *to, size_t n)
{
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    struct err ignore = ERR_INIT;
    struct stat st;
    if (file_path(dir, &ignore, "%s/%s", data_dir, homes[home]) != ST_OK)
        return n;
    DIR *d = opendir(dir);
    for (struct dirent *i; d && n < DUO_STORE_MAX + 1 && (i = readdir(d));) {
        if (!plain_id(i->d_name) ||
            file_path(path, &ignore, "%s/%s/trace.bin", dir, i->d_name) != ST_OK ||
            stat(path, &st) != 0)
            continue;
        to[n] = (struct duo_stored){ .created_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 +
                                                   st.st_mtim.tv_nsec,
                                     .bytes = (uint64_t)st.st_size,
                                     .job = home == OF_JOBS };
        snprintf(to[n++].id, sizeof to->id, "%.63s", i->d_name);
    }
    if (d)
        closedir(d);
    return n;
}

enum status duo_store_list(const char *data_dir, struct duo_stored **ret, size_t *n,
                           struct err *err)
{
    struct duo_stored *all = calloc(DUO_STORE_MAX + 1, sizeof *all);
    if (!all)
        return err_set(err, ST_NOMEM, "list of traces");
    *n = 0;
    for (int home = 0; home < 2; home++)
        *n = collect(data_dir, home, all, *n);
    qsort(all, *n, sizeof *all, newest);
    *ret = all;
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

void duo_store_trim(const char *data_dir, uint64_t most, uint64_t bytes)
{
    struct duo_stored *all = calloc(DUO_STORE_MAX + 1, sizeof *all);
    uint64_t sum = 0;
    size_t n = all ? collect(data_dir, AT_ONCE, all, 0) : 0;
    if (n)
        qsort(all, n, sizeof *all, newest);
    for (size_t i = 0; i < n; i++) {
        struct err ignore = ERR_INIT;
        sum += all[i].bytes;
        if (i > 0 && (i >= most || sum > bytes))
            remove_at(data_dir, all[i].id, &ignore);
    }
    free(all);
}
