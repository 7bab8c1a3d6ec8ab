/* server/job_kinds.c - see job_kinds.h. */
#include "server/job_kinds.h"

#include "engine/engine.h"
#include "server/eval_job.h"
#include "server/recsys_jobs.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const train_paths[] = { "data", "held_out", "tokenizer", "init", NULL };
static const char *const relufy_paths[] = { "from", "data", "held_out", "tokenizer", "init", NULL };
static const char *const align_paths[] = { "data",      "held_out", "tokenizer",    "init",
                                           "base",      "pairs",    "prompts",      "policy",
                                           "reference", "reward",   "reward_model", NULL };
static const char *const duo_paths[] = { "model", "file", NULL };
static const char *const soup_paths[] = { "base", "ingredients", NULL };

const struct job_kind *job_kinds(size_t *n)
{
    static const struct job_kind kinds[] = {
        { .name = "pretrain", .verb = "train", .paths = train_paths, .check = engine_train_check },
        { .name = "relufy", .verb = "relufy", .paths = relufy_paths, .check = engine_relufy_check },
        { .name = "duo-trace", .verb = "duo-trace", .paths = duo_paths, .check = engine_duo_check },
        { .name = "sft", .verb = "sft", .paths = align_paths },
        { .name = "reward", .verb = "reward", .paths = align_paths },
        { .name = "ppo", .verb = "ppo", .paths = align_paths },
        { .name = "soup", .verb = "soup", .paths = soup_paths },
        { .name = "eval", .check = eval_job_check, .run = eval_job_run },
        { .name = "recsys-fit",
          .no_files = true,
          .check = recsys_fit_check,
          .run = recsys_fit_run },
        { .name = "recsys-demo",
          .no_files = true,
          .check = recsys_fit_check,
          .run = recsys_demo_run },
    };
    *n = sizeof kinds / sizeof kinds[0];
    return kinds;
}

/* ---- settings ---- */

struct look {
    const struct job_kind *kind;
    const char *dir; /* without symbolic links */
    bool anywhere;
    const char *key; /* the setting in view */
    struct err *err;
};

/* Dashes in a name count as underscores, as on the command line. */
static bool same_name(const char *name, const char *key)
{
    size_t i = 0;
    while (name[i] && name[i] == (key[i] == '-' ? '_' : key[i]))
        i++;
    return name[i] == '\0' && key[i] == '\0';
}

static bool is_path(const struct job_kind *k, const char *key)
{
    for (size_t i = 0; k->paths && k->paths[i]; i++)
        if (same_name(k->paths[i], key))
            return true;
    return false;
}

/* path is dir or lies in it; both without symbolic links. */
static bool lies_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* A name that nobody can use to ask what exists elsewhere. */
static bool is_plain(const char *text)
{
    return text[0] != '/' && strstr(text, "..") == NULL;
}

static json_t *resolve(const struct look *l, const char *text)
{
    struct buf full = BUF_INIT;
    json_t *v = NULL;
    buf_printf(&full, text[0] == '/' ? "%s" : "%s/%s", text[0] == '/' ? text : l->dir, text);
    char path[PATH_MAX];
    const char *real = full.failed ? NULL : realpath(full.p, path);
    if (real && (l->anywhere || lies_in(real, l->dir)))
        v = json_text(str_c(real));
    else if (full.failed)
        err_set(l->err, ST_NOMEM, "settings");
    else if (!real && (l->anywhere || is_plain(text)))
        err_set(l->err, ST_ARG, "'%s': there is no file '%.100s'%s", l->key, text,
                l->anywhere ? "" : " in the data directory");
    else
        err_set(l->err, ST_ARG,
                "'%s' must name something in the data directory (serve --allow-paths lifts this)",
                l->key);
    if (!v) /* where nothing was said yet */
        err_set(l->err, ST_NOMEM, "settings");
    buf_clear(&full);
    return v;
}

static json_t *text_value(const struct look *l, const json_t *v)
{
    const char *text = json_string_value(v);
    if (strlen(text) != json_string_length(v)) {
        err_set(l->err, ST_ARG, "'%s' holds a NUL character", l->key);
        return NULL;
    }
    if (is_path(l->kind, l->key) && text[0])
        return resolve(l, text);
    if (strchr(text, '/') && !l->anywhere && !l->kind->no_files) {
        err_set(l->err, ST_ARG, "'%s' may not hold a path", l->key);
        return NULL;
    }
    return json_deep_copy(v);
}

static json_t *list_value(const struct look *l, const json_t *list)
{
    json_t *out = json_array(), *v;
    size_t i;
    json_array_foreach(list, i, v)
    {
        json_t *item = json_is_string(v) ? text_value(l, v) : NULL;
        if (!json_is_string(v) && !json_is_number(v) && !json_is_boolean(v))
            err_set(l->err, ST_ARG, "'%s' must be a list of plain values", l->key);
        else if (!json_is_string(v))
            item = json_deep_copy(v);
        if (!item || json_array_append_new(out, item) != 0) {
            json_free(out);
            return NULL;
        }
    }
    return out;
}

static json_t *any_value(const struct look *l, const json_t *v)
{
    if (json_is_string(v))
        return text_value(l, v);
    if (json_is_array(v))
        return list_value(l, v);
    if (json_is_object(v) && !l->kind->no_files) { /* else its own check looks at it */
        err_set(l->err, ST_ARG, "'%s' must be a plain value or a list of them", l->key);
        return NULL;
    }
    return json_deep_copy(v);
}

/* What the server decides, not the client. */
static bool is_reserved(const char *key)
{
    static const char *const names[] = { "out", "resume", "config", "json" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return false;
}

static enum status resolve_all(struct look *l, const json_t *params, json_t *out)
{
    json_t *v, *obj = (json_t *)(uintptr_t)params; /* jansson's iterators take no const */
    json_object_foreach(obj, l->key, v)
    {
        if (is_reserved(l->key))
            return err_set(l->err, ST_ARG, "'%s' is the server's to set", l->key);
        json_t *item = any_value(l, v);
        if (!item || json_object_set_new(out, l->key, item) != 0)
            return err_set(l->err, ST_NOMEM, "settings");
    }
    l->key = "";
    return ST_OK;
}

enum status job_config(const struct job_kind *k, const json_t *params, const char *dir,
                       bool anywhere, json_t **ret, char param[JOB_PARAM_MAX], struct err *err)
{
    char path[PATH_MAX];
    const char *real = realpath(dir, path);
    json_t *out = json_object();
    struct look l = { .kind = k, .dir = real, .anywhere = anywhere, .key = "", .err = err };
    param[0] = '\0';
    if (!real || !out)
        err_set(err, real ? ST_NOMEM : ST_IO, "the data directory cannot be found");
    else if (resolve_all(&l, params, out) == ST_OK && k->check)
        k->check(out, param, err);
    if (err->code != ST_OK && !param[0] && err->code != ST_NOMEM)
        snprintf(param, JOB_PARAM_MAX, "%s", l.key);
    if (err->code == ST_OK)
        *ret = out;
    else
        json_free(out);
    return err->code;
}
