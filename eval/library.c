/* eval/library.c - see library.h. */
#include "eval/library.h"

#include "engine/base/file.h"
#include "engine/base/json.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOLDER_DEPTH = 6, FOLDER_FILES_MAX = 20000, ENTRIES_MAX = 20000 };

struct adding {
    struct library *l;
    const struct pools *pools;
    uint32_t max_rows;
    struct err *err;
};

static struct lib_entry *new_entry(struct library *l, const char *source, struct err *err)
{
    if (l->n == ENTRIES_MAX) {
        err_set(err, ST_RANGE, "more than %d templates", ENTRIES_MAX);
        return NULL;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct lib_entry *more = realloc(l->entry, cap * sizeof *more);
        if (!more) {
            err_set(err, ST_NOMEM, "templates");
            return NULL;
        }
        l->entry = more;
        l->cap = cap;
    }
    struct lib_entry *e = &l->entry[l->n];
    *e = (struct lib_entry){ .source = str_dup(str_c(source)) };
    if (!e->source) {
        err_set(err, ST_NOMEM, "templates");
        return NULL;
    }
    l->n++;
    return e;
}

/* What to call a template that cannot be read: its id where it has one. */
static char *name_of(const json_t *v, const char *source)
{
    const char *id = json_string_value(json_object_get(v, "id")), *slash = strrchr(source, '/');
    return str_dup(str_c(id ? id : slash ? slash + 1 : source));
}

static enum status add_one(struct adding *a, const json_t *v, const char *source, int level)
{
    struct lib_entry *e = new_entry(a->l, source, a->err);
    struct err why = ERR_INIT;
    if (!e)
        return a->err->code;
    if (json_object_get(v, "question_annotated"))
        template_public(v, a->pools, level, &e->t, &why);
    else
        template_native(v, a->pools, &e->t, &why);
    e->why = why;
    if (why.code == ST_NOMEM)
        return err_set(a->err, ST_NOMEM, "%s: %s", source, why.msg);
    e->name = e->t ? str_dup(e->t->id) : name_of(v, source);
    return e->name ? ST_OK : err_set(a->err, ST_NOMEM, "templates");
}

static enum status add_text(struct adding *a, struct str text, const char *source, int level)
{
    json_t *doc = NULL;
    struct err why = ERR_INIT;
    if (json_parse_unique(text, source, &doc, &why) != ST_OK) {
        struct lib_entry *e = why.code == ST_NOMEM ? NULL : new_entry(a->l, source, a->err);
        if (!e)
            return err_set(a->err, ST_NOMEM, "%s", source);
        e->why = why;
        e->name = name_of(NULL, source);
        return e->name ? ST_OK : err_set(a->err, ST_NOMEM, "templates");
    }
    if (!json_is_array(doc))
        add_one(a, doc, source, level);
    for (size_t i = 0; i < json_array_size(doc) && a->err->code == ST_OK; i++)
        add_one(a, json_array_get(doc, i), source, level);
    json_free(doc);
    return a->err->code;
}

/* The set of a public file: the name of its folder. */
static int level_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash && slash - path >= 2) {
        if (memcmp(slash - 2, "p1", 2) == 0)
            return 1;
        if (memcmp(slash - 2, "p2", 2) == 0)
            return 2;
    }
    return 0;
}

static enum status add_file(struct adding *a, const char *path)
{
    struct buf text = BUF_INIT;
    if (str_ends(str_c(path), STR(".jsonl"))) {
        struct lib_data *more = realloc(a->l->data, (a->l->n_data + 1) * sizeof *more);
        if (!more)
            return err_set(a->err, ST_NOMEM, "imported rows");
        a->l->data = more;
        struct lib_data d = { .source = str_dup(str_c(path)) };
        if (!d.source)
            return err_set(a->err, ST_NOMEM, "imported rows");
        if (rows_read(path, a->max_rows, &d.rows, a->err) != ST_OK) {
            free(d.source);
            return a->err->code;
        }
        a->l->data[a->l->n_data++] = d;
        return ST_OK;
    }
    if (file_slurp(path, TPL_FILE_MAX, &text, a->err) == ST_OK)
        add_text(a, buf_view(&text), path, level_of(path));
    buf_clear(&text);
    return a->err->code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool wanted(const char *name)
{
    return name[0] != '.' && (str_ends(str_c(name), STR(".json")) ||
                              str_ends(str_c(name), STR(".jsonl")) || !strchr(name, '.'));
}

/* Names of a folder, sorted. */
static char **names_in(const char *path, size_t *n, struct err *err)
{
    char **list = calloc(FOLDER_FILES_MAX, sizeof *list);
    DIR *dir = list ? opendir(path) : NULL;
    *n = 0;
    if (!list)
        err_set(err, ST_NOMEM, "folder '%s'", path);
    else if (!dir)
        err_sys(err, errno, "opendir");
    for (struct dirent *e; dir && err->code == ST_OK && (e = readdir(dir));) {
        if (!wanted(e->d_name))
            continue;
        if (*n == FOLDER_FILES_MAX)
            err_set(err, ST_RANGE, "more than %d files", FOLDER_FILES_MAX);
        else if (!(list[(*n)++] = str_dup(str_c(e->d_name))))
            err_set(err, ST_NOMEM, "folder '%s'", path), (*n)--;
    }
    if (dir)
        closedir(dir);
    if (list && *n)
        qsort(list, *n, sizeof *list, by_name);
    return list;
}

static enum status add_path(struct adding *a, const char *path, int depth);

static enum status add_folder(struct adding *a, const char *path, int depth)
{
    size_t n;
    char **list = names_in(path, &n, a->err);
    for (size_t i = 0; i < n && a->err->code == ST_OK; i++) {
        char child[FILE_PATH_MAX];
        if (file_path(child, a->err, "%s/%s", path, list[i]) == ST_OK &&
            (file_is_dir(child) || strchr(list[i], '.')))
            add_path(a, child, depth + 1);
    }
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return a->err->code;
}

static enum status add_path(struct adding *a, const char *path, int depth)
{
    if (!file_is_dir(path))
        return add_file(a, path);
    return depth >= FOLDER_DEPTH ? ST_OK : add_folder(a, path, depth);
}

enum status library_add(struct library *l, const char *path, const struct pools *pools,
                        uint32_t max_rows, struct err *err)
{
    struct adding a = { l, pools, max_rows, err };
    size_t before = l->n + l->n_data;
    if (!file_is_dir(path) && !file_is_regular(path))
        return err_set(err, ST_NOTFOUND, "'%s': %s", path,
                       access(path, F_OK) == 0 ? "neither a file nor a folder"
                                               : "no such file or folder");
    if (add_path(&a, path, 0) == ST_OK && l->n + l->n_data == before)
        err_set(err, ST_NOTFOUND, "'%s': no templates (.json) and no rows (.jsonl) in it", path);
    return err->code;
}

enum status library_add_text(struct library *l, struct str text, const char *source, int level,
                             const struct pools *pools, struct err *err)
{
    struct adding a = { l, pools, 0, err };
    return add_text(&a, text, source, level);
}

enum status library_add_builtin(struct library *l, const struct pools *pools, struct err *err)
{
    for (const struct builtin_file *f = builtin_files; f->name && err->code == ST_OK; f++)
        library_add_text(l, (struct str){ f->text, f->n }, "built-in", 0, pools, err);
    return err->code;
}

void library_clear(struct library *l)
{
    for (size_t i = 0; i < l->n; i++) {
        template_free(l->entry[i].t);
        free(l->entry[i].source);
        free(l->entry[i].name);
    }
    for (size_t i = 0; i < l->n_data; i++) {
        rows_clear(&l->data[i].rows);
        free(l->data[i].source);
    }
    free(l->entry);
    free(l->data);
    *l = (struct library){ 0 };
}
