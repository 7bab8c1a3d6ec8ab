/* recsys/models.c - the folder of snapshots and which of them is in use. */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "recsys/service_parts.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

static bool id_ok(const char *id)
{
    size_t n = strlen(id);
    return n > 0 && n < RECSYS_ID_MAX &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == n;
}

static enum status path_of(const struct recsys *r, const char *id, const char *end,
                           char out[FILE_PATH_MAX], struct err *err)
{
    if (!id_ok(id))
        return err_set(err, ST_NOTFOUND, "there is no model '%.60s'", id);
    return file_path(out, err, "%s/models/%s%s", r->dir, id, end);
}

/* Under the lock, or before there are threads. */
static struct model_entry *find(struct recsys *r, const char *id)
{
    for (uint32_t i = 0; i < r->n_model; i++)
        if (strcmp(r->model[i].id, id) == 0)
            return &r->model[i];
    return NULL;
}

static enum status add_entry(struct recsys *r, const char *id, const struct stat *st,
                             struct err *err)
{
    if (r->n_model == r->cap_model) {
        uint32_t cap = r->cap_model ? r->cap_model * 2 : 16;
        struct model_entry *m = realloc(r->model, cap * sizeof *m);
        if (!m)
            return err_set(err, ST_NOMEM, "models");
        r->model = m;
        r->cap_model = cap;
    }
    struct model_entry *m = &r->model[r->n_model++];
    *m = (struct model_entry){ .created = st->st_mtime, .bytes = (uint64_t)st->st_size };
    snprintf(m->id, sizeof m->id, "%s", id);
    return ST_OK;
}

static int newest_first(const void *a, const void *b)
{
    const struct model_entry *x = a, *y = b;
    if (x->created != y->created)
        return x->created > y->created ? -1 : 1;
    return strcmp(y->id, x->id);
}

static enum status scan(struct recsys *r, const char *dir, struct err *err)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    if (!d)
        return err_sys(err, 2, "opendir");
    while (err->code == ST_OK && r->n_model < MODELS_MAX && (e = readdir(d))) {
        struct str name = str_c(e->d_name);
        char id[RECSYS_ID_MAX], path[FILE_PATH_MAX];
        struct stat st;
        if (!str_ends(name, STR(".rpf")) || name.n - 4 >= sizeof id)
            continue;
        snprintf(id, sizeof id, "%.*s", (int)(name.n - 4), name.p);
        if (id_ok(id) && file_path(path, err, "%s/%s", dir, e->d_name) == ST_OK &&
            stat(path, &st) == 0 && S_ISREG(st.st_mode))
            add_entry(r, id, &st, err);
    }
    closedir(d);
    if (r->n_model)
        qsort(r->model, r->n_model, sizeof *r->model, newest_first);
    return err->code;
}

static void set_fault(struct recsys *r, const char *text)
{
    pthread_mutex_lock(&r->lock);
    snprintf(r->fault, sizeof r->fault, "%s", text);
    pthread_mutex_unlock(&r->lock);
}

/* Loads and publishes. */
static enum status use(struct recsys *r, const char *id, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct rmodel *m = NULL;
    struct gen *g = NULL;
    if (path_of(r, id, ".rpf", path, err) != ST_OK || rmodel_load(path, &m, err) != ST_OK ||
        gen_create(r->live, m, id, &g, err) != ST_OK)
        return err->code;
    gen_publish(r->live, g);
    pthread_mutex_lock(&r->lock);
    snprintf(r->active, sizeof r->active, "%s", id);
    r->fault[0] = '\0';
    r->all_dirty = true;
    pthread_mutex_unlock(&r->lock);
    return ST_OK;
}

enum status model_activate(struct recsys *r, const char *id, struct err *err)
{
    char path[FILE_PATH_MAX];
    pthread_mutex_lock(&r->lock);
    bool known = find(r, id) != NULL;
    pthread_mutex_unlock(&r->lock);
    if (!known)
        return err_set(err, ST_NOTFOUND, "there is no model '%.60s'", id);
    if (use(r, id, err) != ST_OK)
        return err->code;
    if (file_path(path, err, "%s/active", r->dir) == ST_OK)
        file_replace(path, str_c(id), err);
    return err->code;
}

/* A snapshot that cannot be used leaves the recommender without a model, and says so: events are
 * taken all the same, and another model can be chosen. */
enum status models_load(struct recsys *r, struct err *err)
{
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX], id[RECSYS_ID_MAX];
    struct buf text = BUF_INIT;
    struct err bad = ERR_INIT;
    if (file_path(dir, err, "%s/models", r->dir) != ST_OK ||
        file_make_dirs(dir, 0700, err) != ST_OK || scan(r, dir, err) != ST_OK ||
        file_path(path, err, "%s/active", r->dir) != ST_OK)
        return err->code;
    if (file_is_regular(path) && file_slurp(path, RECSYS_ID_MAX, &text, &bad) == ST_OK) {
        snprintf(id, sizeof id, "%.*s", (int)(text.n < sizeof id ? text.n : 0), text.p);
        use(r, id, &bad);
    }
    buf_clear(&text);
    if (bad.code != ST_OK)
        set_fault(r, bad.msg);
    return ST_OK;
}

void models_clear(struct recsys *r)
{
    free(r->model);
}

/* ---- saving ---- */

static void make_id(struct recsys *r, const struct rmodel *m, char id[RECSYS_ID_MAX])
{
    struct tm tm;
    time_t now = (time_t)clock_unix_s();
    gmtime_r(&now, &tm);
    char day[32];
    strftime(day, sizeof day, "%Y%m%d-%H%M%S", &tm);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(id, RECSYS_ID_MAX, "%s-%s%s%u", rmodel_variant(m->terms), day, i ? "-" : "", i);
        if (!i)
            id[strlen(id) - 1] = '\0';
        if (!find(r, id))
            return;
    }
}

static void put_number(json_t *o, const char *key, double v)
{
    json_object_set_new(o, key, json_real(v));
}

/* What the snapshot says of itself goes before what its fit told. */
static json_t *describe(const struct rmodel *m, const char *id, const json_t *notes)
{
    json_t *o = json_object(), *scales = json_array();
    json_object_set_new(o, "id", json_string(id));
    json_object_set_new(o, "variant", json_string(rmodel_variant(m->terms)));
    json_object_set_new(o, "created", json_integer(clock_unix_s()));
    json_object_set_new(o, "k", json_integer(m->k));
    json_object_set_new(o, "users", json_integer(m->n_user));
    json_object_set_new(o, "items", json_integer(m->n_item));
    json_object_set_new(o, "events", json_integer((json_int_t)m->n_event));
    json_object_set_new(o, "edges", json_integer((json_int_t)m->n_edge));
    put_number(o, "start", m->start_s);
    put_number(o, "end", m->end_s);
    for (uint32_t i = 0; i < m->n_scale; i++)
        json_array_append_new(scales, json_real(m->unit_s / m->scale[i].w));
    json_object_set_new(o, "scales_s", scales);
    if (notes)
        json_object_update_missing(o, (json_t *)(uintptr_t)notes);
    return o;
}

enum status recsys_save(struct recsys *r, const struct rmodel *m, json_t *notes,
                        char id[RECSYS_ID_MAX], struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    struct stat st;
    pthread_mutex_lock(&r->lock);
    make_id(r, m, id);
    bool full = r->n_model >= MODELS_MAX;
    pthread_mutex_unlock(&r->lock);
    if (full)
        return err_set(err, ST_FULL, "there are %d models: remove some from '%s/models'",
                       MODELS_MAX, r->dir);
    json_t *doc = describe(m, id, notes);
    if (json_write(doc, &text, err) == ST_OK && path_of(r, id, ".json", path, err) == ST_OK &&
        file_replace(path, buf_view(&text), err) == ST_OK &&
        path_of(r, id, ".rpf", path, err) == ST_OK && rmodel_save(m, path, err) == ST_OK) {
        if (stat(path, &st) != 0) {
            err_sys(err, 2, "stat");
        } else {
            pthread_mutex_lock(&r->lock);
            if (add_entry(r, id, &st, err) == ST_OK)
                qsort(r->model, r->n_model, sizeof *r->model, newest_first);
            pthread_mutex_unlock(&r->lock);
        }
    }
    json_free(doc);
    buf_clear(&text);
    return err->code;
}

/* ---- telling ---- */

/* The notes of a model; without any, what the folder tells. */
json_t *models_notes(struct recsys *r, const struct model_entry *e)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    if (path_of(r, e->id, ".json", path, &err) != ST_OK ||
        file_slurp(path, RECSYS_NOTES_MAX, &text, &err) != ST_OK ||
        json_parse(buf_view(&text), path, &doc, &err) != ST_OK || !json_is_object(doc)) {
        json_free(doc);
        doc = json_object();
        json_object_set_new(doc, "created", json_integer(e->created));
    }
    json_object_set_new(doc, "id", json_string(e->id));
    json_object_set_new(doc, "bytes", json_integer((json_int_t)e->bytes));
    buf_clear(&text);
    return doc;
}

/* A copy of the list, so that files are read without the lock. */
struct model_entry *models_copy(struct recsys *r, uint32_t *n, char active[RECSYS_ID_MAX])
{
    pthread_mutex_lock(&r->lock);
    struct model_entry *list = malloc((r->n_model + 1) * sizeof *list);
    *n = list ? r->n_model : 0;
    if (list && *n)
        memcpy(list, r->model, *n * sizeof *list);
    snprintf(active, RECSYS_ID_MAX, "%s", r->active);
    pthread_mutex_unlock(&r->lock);
    return list;
}

/* Where the page begins. */
static enum status page_start(const struct model_entry *list, uint32_t n, const char *after,
                              uint32_t *ret, struct err *err)
{
    for (uint32_t i = 0; after && i < n; i++)
        if (strcmp(list[i].id, after) == 0) {
            *ret = i + 1;
            return ST_OK;
        }
    *ret = 0;
    return after ? err_set(err, ST_NOTFOUND, "there is no model '%.60s'", after) : ST_OK;
}

static json_t *tell_entry(struct recsys *r, const struct model_entry *e, const char *active)
{
    json_t *m = models_notes(r, e);
    json_object_del(m, "trace"); /* long: told with the model alone */
    json_object_set_new(m, "active", json_boolean(strcmp(e->id, active) == 0));
    return m;
}

enum status recsys_models(struct recsys *r, const struct recsys_page *page, struct buf *out,
                          struct err *err)
{
    uint32_t n, from;
    char active[RECSYS_ID_MAX];
    struct model_entry *list = models_copy(r, &n, active);
    if (page_start(list, n, page->after, &from, err) != ST_OK) {
        free(list);
        return err->code;
    }
    uint32_t to = n - from < page->limit ? n : from + page->limit;
    json_t *o = json_object(), *data = json_array();
    for (uint32_t i = from; list && i < to; i++)
        json_array_append_new(data, tell_entry(r, &list[i], active));
    json_object_set_new(o, "data", data);
    json_object_set_new(o, "active", active[0] ? json_string(active) : json_null());
    json_object_set_new(o, "has_more", json_boolean(to < n));
    json_write(o, out, err);
    json_free(o);
    free(list);
    return err->code;
}

enum status recsys_model(struct recsys *r, const char *id, struct buf *out, struct err *err)
{
    struct model_entry e;
    pthread_mutex_lock(&r->lock);
    const struct model_entry *m = find(r, id);
    if (m)
        e = *m;
    bool active = m && strcmp(r->active, id) == 0;
    pthread_mutex_unlock(&r->lock);
    if (!m)
        return err_set(err, ST_NOTFOUND, "there is no model '%.60s'", id);
    json_t *doc = models_notes(r, &e);
    json_object_set_new(doc, "active", json_boolean(active));
    json_write(doc, out, err);
    json_free(doc);
    return err->code;
}
