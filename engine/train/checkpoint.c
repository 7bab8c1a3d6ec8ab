/* engine/train/checkpoint.c - see checkpoint.h.
 *
 *   write .tmp-step-N --fsync--> rename to step-N --> (best) --> last.tmp renamed to last --> sweep
 *
 * A crash before the second arrow leaves a .tmp folder, before the third a state that nothing
 * points at; checkpoint_sweep() removes both. `best` first: behind a crash between the two the step
 * is computed again, while a `last` that knows of a better loss than `best` has would stay so. */
#include "engine/train/checkpoint.h"

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/train/manifest.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANIFEST_MAX = 64 << 20, NAME_BYTES = 32 };

static const char *const array_file[MANIFEST_ARRAYS] = { "params.bin", "m.bin", "v.bin" };

static real *array_of(const struct checkpoint_arrays *a, int which)
{
    return which == 0 ? a->param : which == 1 ? a->m : a->v;
}

static enum status fail(int os, const char *call, const char *path, struct err *err)
{
    err_sys(err, os, call);
    return err_ctx(err, "'%s'", path);
}

/* The tensors of a shape; *n of them. free() it. NULL: no memory. */
static struct net_tensor *tensors_of(const struct net_shape *s, uint32_t *n)
{
    *n = net_n_tensor(s);
    struct net_tensor *t = calloc(*n, sizeof *t);
    if (t)
        net_tensors(s, t);
    return t;
}

static size_t tensor_bytes(const struct net_tensor *t)
{
    return (size_t)t->rows * t->cols * sizeof(real);
}

/* ---- writing ---- */

static enum status close_durably(int fd, const char *path, struct err *err)
{
    if (err->code == ST_OK && fsync(fd) != 0)
        fail(errno, "fsync", path, err);
    if (close(fd) != 0)
        fail(errno, "close", path, err);
    return err->code;
}

static int create_file(const char *path, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        fail(errno, "open", path, err);
    return fd;
}

/* One array; its tensors' checksums go to sum[0], sum[MANIFEST_ARRAYS]... */
static enum status write_array(const char *path, const struct net_tensor *t, uint32_t n,
                               const real *p, uint64_t *sum, struct err *err)
{
    int fd = create_file(path, err);
    if (fd < 0)
        return err->code;
    for (uint32_t i = 0; i < n; i++) {
        size_t bytes = tensor_bytes(&t[i]);
        sum[(size_t)i * MANIFEST_ARRAYS] = hash_chain(0, p + t[i].at, bytes);
        if (file_write(fd, p + t[i].at, bytes, path, err) != ST_OK)
            break;
    }
    return close_durably(fd, path, err);
}

static enum status write_manifest(const char *dir, const struct checkpoint *c,
                                  const struct net_tensor *t, uint32_t n, const uint64_t *sum,
                                  struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    int fd = -1;
    if (manifest_print(c, t, n, sum, &text, err) == ST_OK &&
        file_path(path, err, "%s/manifest.json", dir) == ST_OK &&
        (fd = create_file(path, err)) >= 0) {
        file_write(fd, text.p, text.n, path, err);
        close_durably(fd, path, err);
    }
    buf_clear(&text);
    return err->code;
}

/* The whole state into a folder that does not exist yet. */
static enum status write_state(const char *dir, const struct checkpoint *c,
                               const struct checkpoint_arrays *a, struct err *err)
{
    uint32_t n;
    struct net_tensor *t = tensors_of(&c->shape, &n);
    uint64_t *sum = calloc((size_t)n * MANIFEST_ARRAYS, sizeof *sum);
    char path[FILE_PATH_MAX];
    if (!t || !sum)
        err_set(err, ST_NOMEM, "checkpoint");
    else if (mkdir(dir, 0755) != 0)
        fail(errno, "mkdir", dir, err);
    for (int i = 0; err->code == ST_OK && i < MANIFEST_ARRAYS; i++)
        if (file_path(path, err, "%s/%s", dir, array_file[i]) == ST_OK)
            write_array(path, t, n, array_of(a, i), sum + i, err);
    if (err->code == ST_OK && write_manifest(dir, c, t, n, sum, err) == ST_OK)
        file_sync_dir(dir, err);
    free(t);
    free(sum);
    return err->code;
}

/* ---- names ---- */

static void state_name(uint64_t step, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "step-%010" PRIu64, step);
}

/* What `last` or `best` points at, "" when it does not exist. */
static void target_of(const char *dir, const char *link, char out[NAME_BYTES])
{
    char path[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    ssize_t n = -1;
    if (file_path(path, &err, "%s/%s", dir, link) == ST_OK)
        n = readlink(path, out, NAME_BYTES - 1);
    out[n > 0 ? n : 0] = '\0';
}

static enum status point(const char *dir, const char *link, const char *state, struct err *err)
{
    char tmp[FILE_PATH_MAX], path[FILE_PATH_MAX];
    if (file_path(tmp, err, "%s/.tmp-%s", dir, link) != ST_OK ||
        file_path(path, err, "%s/%s", dir, link) != ST_OK)
        return err->code;
    if (unlink(tmp) != 0 && errno != ENOENT)
        return fail(errno, "unlink", tmp, err);
    if (symlink(state, tmp) != 0)
        return fail(errno, "symlink", tmp, err);
    if (rename(tmp, path) != 0)
        return fail(errno, "rename", path, err);
    return file_sync_dir(dir, err);
}

static bool kept(const char *name, uint64_t keep_every)
{
    return keep_every && strtoull(name + strlen("step-"), NULL, 10) % keep_every == 0;
}

static enum status sweep_entry(const char *dir, const char *name, struct err *err)
{
    char path[FILE_PATH_MAX];
    if (file_path(path, err, "%s/%s", dir, name) == ST_OK)
        file_remove_tree(path, err);
    return err->code;
}

static enum status sweep(const char *dir, uint64_t keep_every, struct err *err)
{
    char last[NAME_BYTES], best[NAME_BYTES];
    target_of(dir, "last", last);
    target_of(dir, "best", best);
    DIR *d = opendir(dir);
    if (!d)
        return fail(errno, "opendir", dir, err);
    for (struct dirent *e; err->code == ST_OK && (e = readdir(d)) != NULL;) {
        bool state = strncmp(e->d_name, "step-", 5) == 0 && strcmp(e->d_name, last) != 0 &&
                     strcmp(e->d_name, best) != 0 && !kept(e->d_name, keep_every);
        if (state || strncmp(e->d_name, ".tmp-", 5) == 0)
            sweep_entry(dir, e->d_name, err);
    }
    closedir(d);
    return err->code;
}

enum status checkpoint_sweep(const char *run, uint64_t keep_every, struct err *err)
{
    char dir[FILE_PATH_MAX];
    if (file_path(dir, err, "%s/checkpoints", run) != ST_OK)
        return err->code;
    return file_is_dir(dir) ? sweep(dir, keep_every, err) : ST_OK;
}

/* Writes dir/name unless a link points there already: the state of a step is always the same. */
static enum status add_state(const char *dir, const char *name, const struct checkpoint *c,
                             const struct checkpoint_arrays *a, struct err *err)
{
    char tmp[FILE_PATH_MAX], path[FILE_PATH_MAX], last[NAME_BYTES], best[NAME_BYTES];
    target_of(dir, "last", last);
    target_of(dir, "best", best);
    if (strcmp(last, name) == 0 || strcmp(best, name) == 0)
        return ST_OK;
    if (file_path(tmp, err, "%s/.tmp-%s", dir, name) != ST_OK ||
        file_path(path, err, "%s/%s", dir, name) != ST_OK)
        return err->code;
    if (file_remove_tree(tmp, err) == ST_OK && write_state(tmp, c, a, err) == ST_OK &&
        file_remove_tree(path, err) == ST_OK) {
        if (rename(tmp, path) == 0)
            return file_sync_dir(dir, err);
        fail(errno, "rename", path, err);
    }
    struct err ignored = ERR_INIT; /* a full disk needs the room */
    file_remove_tree(tmp, &ignored);
    return err->code;
}

enum status checkpoint_save(const char *run, const struct checkpoint *c,
                            const struct checkpoint_arrays *a, bool best, uint64_t keep_every,
                            struct err *err)
{
    char dir[FILE_PATH_MAX], name[NAME_BYTES];
    state_name(c->step, name);
    if (file_path(dir, err, "%s/checkpoints", run) != ST_OK ||
        file_make_dirs(dir, 0755, err) != ST_OK || add_state(dir, name, c, a, err) != ST_OK ||
        (best && point(dir, "best", name, err) != ST_OK) ||
        point(dir, "last", name, err) != ST_OK || sweep(dir, keep_every, err) != ST_OK)
        return err_ctx(err, "checkpoint of step %" PRIu64, c->step);
    return ST_OK;
}

/* ---- reading ---- */

static enum status read_manifest(const char *dir, struct manifest *ret, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    if (file_path(path, err, "%s/manifest.json", dir) == ST_OK &&
        file_slurp(path, MANIFEST_MAX, &text, err) == ST_OK &&
        manifest_parse(buf_view(&text), ret, err) != ST_OK)
        err_ctx(err, "'%s'", path);
    buf_clear(&text);
    return err->code;
}

enum status checkpoint_peek(const char *dir, struct checkpoint *ret, struct err *err)
{
    struct manifest m = { 0 };
    if (read_manifest(dir, &m, err) == ST_OK)
        *ret = m.state;
    manifest_clear(&m);
    return err->code;
}

static enum status read_tensors(int fd, const char *path, const struct net_tensor *t, uint32_t n,
                                real *p, const uint64_t *sum, struct err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t bytes = tensor_bytes(&t[i]);
        if (file_read(fd, p + t[i].at, bytes, path, err) != ST_OK)
            return err_ctx(err, "tensor '%s'", t[i].name);
        if (hash_chain(0, p + t[i].at, bytes) != sum[(size_t)i * MANIFEST_ARRAYS])
            return err_set(err, ST_FORMAT, "'%s': tensor '%s' is damaged (checksum)", path,
                           t[i].name);
    }
    return ST_OK;
}

static enum status read_array(const char *path, const struct net_tensor *t, uint32_t n, real *p,
                              const uint64_t *sum, struct err *err)
{
    const struct net_tensor *last = &t[n - 1];
    uint64_t want = last->at * sizeof(real) + tensor_bytes(last);
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(errno, "open", path, err);
    if (fstat(fd, &st) != 0)
        fail(errno, "stat", path, err);
    else if ((uint64_t)st.st_size != want)
        err_set(err, ST_FORMAT, "'%s' has %" PRIu64 " bytes, its shape needs %" PRIu64, path,
                (uint64_t)st.st_size, want);
    else
        read_tensors(fd, path, t, n, p, sum, err);
    close(fd);
    return err->code;
}

static enum status load_arrays(const char *dir, const struct manifest *m,
                               const struct checkpoint_arrays *a, struct err *err)
{
    uint32_t n;
    char path[FILE_PATH_MAX];
    struct net_tensor *t = tensors_of(&m->state.shape, &n);
    if (!t)
        return err_set(err, ST_NOMEM, "checkpoint '%s'", dir);
    assert(m->sum); /* whatever parses has one */
    if (manifest_matches(m, t, n, err) != ST_OK)
        err_ctx(err, "'%s/manifest.json'", dir);
    for (int i = 0; err->code == ST_OK && i < MANIFEST_ARRAYS; i++)
        if (array_of(a, i) && file_path(path, err, "%s/%s", dir, array_file[i]) == ST_OK)
            read_array(path, t, n, array_of(a, i), m->sum + i, err);
    free(t);
    return err->code;
}

enum status checkpoint_load(const char *dir, const struct net_shape *shape, struct checkpoint *ret,
                            const struct checkpoint_arrays *a, struct err *err)
{
    struct manifest m = { 0 };
    if (read_manifest(dir, &m, err) == ST_OK) {
        if (shape_same(&m.state.shape, shape, err) != ST_OK)
            err_ctx(err, "checkpoint '%s' is of another network", dir);
        else if (load_arrays(dir, &m, a, err) == ST_OK)
            *ret = m.state;
    }
    manifest_clear(&m);
    return err->code;
}
