/* server/cli_eval_check.c - `strobe eval check` and `strobe eval import`. */
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "eval/check.h"
#include "eval/recover.h"
#include "server/cli_eval.h"

#include <errno.h>

struct checking {
    struct cli *c;
    struct pools *pools;
    struct library lib;
    struct check_opts o;
    struct check_result *res;
    size_t n_error, n_warning;
};

static enum status load(struct checking *k, const struct set_opts *so, struct err *err)
{
    if (pools_open(so->pools, &k->pools, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < so->n_path; i++)
        if (library_add(&k->lib, so->path[i], k->pools, so->max_items, err) != ST_OK)
            return err->code;
    if (so->n_path == 0)
        library_add_builtin(&k->lib, k->pools, err);
    k->res = calloc(k->lib.n + 1, sizeof *k->res);
    return k->res || err->code ? err->code : err_set(err, ST_NOMEM, "checking");
}

static enum status examine(struct checking *k, struct err *err)
{
    if (check_library(&k->lib, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < k->lib.n; i++) {
        struct lib_entry *e = &k->lib.entry[i];
        cli_progress(k->c, "checking", i, k->lib.n);
        if (e->t && check_template(e->t, k->pools, &k->o, &k->res[i], err) != ST_OK)
            break;
        k->n_error += strcmp(check_status(e), "error") == 0;
        k->n_warning += strcmp(check_status(e), "warning") == 0;
    }
    cli_progress_end(k->c);
    return err->code;
}

static void print_entry(const struct lib_entry *e, bool notes)
{
    static const char *const names[] = { "note", "warning", "error" };
    if (!e->t) {
        printf("%s (%s): error: unreadable: %s\n", e->name, e->source, e->why.msg);
        return;
    }
    for (const struct diag *d = e->t->diag; d; d = d->next)
        if (d->level != DIAG_NOTE || notes)
            printf("%s (%s): %s: %s: %.*s\n", e->name, e->source, names[d->level], d->code,
                   (int)d->text.n, d->text.p);
}

static json_t *report(const struct checking *k)
{
    json_t *list = json_array();
    for (size_t i = 0; i < k->lib.n; i++)
        json_array_append_new(list, check_json(&k->lib.entry[i], &k->res[i]));
    return json_pack("{s:o, s:I, s:I, s:I}", "templates", list, "ok",
                     (json_int_t)(k->lib.n - k->n_error - k->n_warning), "warnings",
                     (json_int_t)k->n_warning, "errors", (json_int_t)k->n_error);
}

static enum status show(struct checking *k, struct err *err)
{
    if (k->c->json && cli_print_json(report(k), err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < k->lib.n && !k->c->json; i++)
        print_entry(&k->lib.entry[i], k->c->verbose);
    if (!k->c->json)
        printf("%zu templates: %zu ok, %zu with warnings, %zu with errors\n", k->lib.n,
               k->lib.n - k->n_error - k->n_warning, k->n_warning, k->n_error);
    return k->n_error
               ? err_set(err, ST_FORMAT, "%zu of %zu templates have errors", k->n_error, k->lib.n)
               : ST_OK;
}

static void clear(struct checking *k)
{
    free(k->res);
    library_clear(&k->lib);
    pools_free(k->pools);
}

enum status cli_eval_check(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct checking k = { .c = c };
    struct cli_suite suite = { 0 };
    struct set_opts so;
    const char *rest[EVAL_PATHS_MAX];
    size_t n_rest;
    uint64_t answers = 0, texts = 0;
    bool done;
    cli_opts_init(&o, c, "strobe eval check [PATH|@IMPORT]... [options]",
                  "The authoring gate: examines templates (without a path: the built-in ones) and "
                  "says what is wrong or doubtful. Exit code 3 when one has errors.");
    cli_opt(&o, (struct opt){ "answers", 0, OPT_COUNT, &answers, 1, 1 << 20, "N",
                              "assignments whose answers are looked at (default 2000)" });
    cli_opt(&o, (struct opt){ "texts", 0, OPT_COUNT, &texts, 1, 10000, "N",
                              "instances that are rendered (default 100)" });
    cli_opt(&o, (struct opt){ "count", 0, OPT_FLAG, &k.o.count,
                              .help = "count the valid assignments of every template" });
    cli_opt(&o, (struct opt){ "pools", 0, OPT_STR, &suite.pools, 0, 0, "FILE",
                              "JSON file of word lists that replace ours" });
    cli_opt(&o, (struct opt){ "data", 0, OPT_STR, &suite.data_dir, 0, 0, "DIR",
                              "data directory (default: ~/.local/share/strobe)" });
    if (cli_parse(&o, c, rest, EVAL_PATHS_MAX, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    k.o.n_answer = (uint32_t)answers;
    k.o.n_text = (uint32_t)texts;
    if (cli_suite_fill(&suite, rest, n_rest, &so, err) == ST_OK && load(&k, &so, err) == ST_OK &&
        examine(&k, err) == ST_OK)
        show(&k, err);
    clear(&k);
    cli_suite_clear(&suite);
    return err->code;
}

/* ---- import ---- */

struct importing {
    struct checking k;
    const char *name, *source;
    bool skip_broken;
    char dir[FILE_PATH_MAX];
    json_t *data;     /* what was found of each file of rows */
    json_t *left_out; /* files that were not taken in */
};

/* Rows of the public generator are matched with the templates of their set, which re-derives every
 * gold. */
static enum status match_rows(struct importing *m, struct err *err)
{
    for (size_t i = 0; i < m->k.lib.n_data; i++) {
        const struct lib_data *d = &m->k.lib.data[i];
        struct recover_stats st = { 0 };
        json_t *bad = json_array();
        if (d->rows.generated &&
            recover_rows(&m->k.lib, &d->rows, recover_level(d->source), &st, bad, err) != ST_OK) {
            json_free(bad);
            return err->code;
        }
        json_array_append_new(
            m->data, json_pack("{s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:o}", "file", d->source,
                               "rows", (json_int_t)d->rows.n, "generated", (int)d->rows.generated,
                               "with_template", (json_int_t)st.n_template, "recovered",
                               (json_int_t)st.n_recovered, "gold_equal", (json_int_t)st.n_gold,
                               "bodies_equal", (json_int_t)st.n_body, "mismatches", bad));
    }
    return ST_OK;
}

/* The files go in unmodified, under their own paths below the import. */
static enum status copy_file(const struct importing *m, const char *path, struct err *err)
{
    char to[FILE_PATH_MAX], dir[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    size_t n = strlen(m->source);
    const char *below = strncmp(path, m->source, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
    const char *slash = strrchr(path, '/');
    below = below ? below : slash ? slash + 1 : path;
    if (file_path(to, err, "%s/%s", m->dir, below) == ST_OK &&
        file_path(dir, err, "%s", to) == ST_OK) {
        *strrchr(dir, '/') = '\0';
        if (file_make_dirs(dir, 0777, err) == ST_OK &&
            file_slurp(path, ROWS_FILE_MAX, &text, err) == ST_OK)
            file_replace(to, buf_view(&text), err);
    }
    buf_clear(&text);
    return err->code;
}

/* A file's templates stand one behind another: behind the last. *broken: one of them has errors. */
static size_t file_end(const struct library *l, size_t i, bool *broken)
{
    const char *source = l->entry[i].source;
    *broken = false;
    for (; i < l->n && strcmp(l->entry[i].source, source) == 0; i++)
        *broken |= strcmp(check_status(&l->entry[i]), "error") == 0;
    return i;
}

/* All or nothing: one broken template makes every verb refuse the whole import. */
static enum status copy_all(const struct importing *m, struct err *err)
{
    const struct library *l = &m->k.lib;
    bool broken;
    for (size_t i = 0, next; i < l->n; i = next) {
        next = file_end(l, i, &broken);
        if (broken)
            json_array_append_new(m->left_out, json_text(str_c(l->entry[i].source)));
    }
    if (m->k.n_error && !m->skip_broken)
        return ST_OK;
    for (size_t i = 0, next; i < l->n && err->code == ST_OK; i = next) {
        next = file_end(l, i, &broken);
        if (!broken)
            copy_file(m, l->entry[i].source, err);
    }
    for (size_t i = 0; i < l->n_data && err->code == ST_OK; i++)
        copy_file(m, l->data[i].source, err);
    return err->code;
}

/* In files that were taken in. */
static size_t good_templates(const struct importing *m)
{
    const struct library *l = &m->k.lib;
    size_t n = 0;
    for (size_t i = 0, next; i < l->n; i = next) {
        bool broken;
        next = file_end(l, i, &broken);
        n += broken ? 0 : next - i;
    }
    return n;
}

static bool taken_in(const struct importing *m)
{
    const struct checking *k = &m->k;
    return !k->n_error || (m->skip_broken && (good_templates(m) || k->lib.n_data));
}

/* Exit code 3 when nothing was taken in. */
static enum status verdict(const struct importing *m, struct err *err)
{
    const struct checking *k = &m->k;
    if (taken_in(m))
        return ST_OK;
    if (m->skip_broken)
        return err_set(err, ST_FORMAT, "no file is without errors: nothing was taken in");
    return err_set(err, ST_FORMAT,
                   "%zu of %zu templates have errors: nothing was taken in; mend them, or take in "
                   "the other files with --skip-broken",
                   k->n_error, k->lib.n);
}

static enum status tell_json(const struct importing *m, struct err *err)
{
    json_t *doc = report(&m->k);
    json_object_set_new(doc, "name", json_text(str_c(m->name)));
    json_object_set_new(doc, "folder", json_text(str_c(m->dir)));
    json_object_set_new(doc, "imported", json_boolean(taken_in(m)));
    json_object_set(doc, "left_out", m->left_out);
    json_object_set(doc, "data", m->data);
    return cli_print_json(doc, err) == ST_OK ? verdict(m, err) : err->code;
}

static enum status tell(const struct importing *m, struct err *err)
{
    for (size_t i = 0; i < m->k.lib.n; i++)
        print_entry(&m->k.lib.entry[i], m->k.c->verbose);
    size_t i;
    json_t *v;
    json_array_foreach(m->data, i, v)
        printf("%s: %lld rows, %lld with their template, %lld recovered, %lld golds equal, %zu to "
               "look at\n",
               json_string_value(json_object_get(v, "file")),
               (long long)json_integer_value(json_object_get(v, "rows")),
               (long long)json_integer_value(json_object_get(v, "with_template")),
               (long long)json_integer_value(json_object_get(v, "recovered")),
               (long long)json_integer_value(json_object_get(v, "gold_equal")),
               json_array_size(json_object_get(v, "mismatches")));
    if (verdict(m, err) != ST_OK)
        return err->code;
    printf("%zu templates (%zu with warnings) and %zu files of rows are now @%s\n",
           good_templates(m), m->k.n_warning, m->k.lib.n_data, m->name);
    json_array_foreach(m->left_out, i, v) printf("left out: %s\n", json_string_value(v));
    return ST_OK;
}

static enum status take_in(struct importing *m, const struct set_opts *so, const char *data_dir,
                           struct err *err)
{
    char data[FILE_PATH_MAX];
    if (cli_data_dir(data_dir, data, err) != ST_OK ||
        file_path(m->dir, err, "%s/evals/imports/%s", data, m->name) != ST_OK)
        return err->code;
    m->data = json_array();
    m->left_out = json_array();
    m->k.o = (struct check_opts){ .n_answer = 500, .n_text = 50 };
    if (load(&m->k, so, err) != ST_OK || examine(&m->k, err) != ST_OK ||
        match_rows(m, err) != ST_OK || copy_all(m, err) != ST_OK)
        return err->code;
    return m->k.c->json ? tell_json(m, err) : tell(m, err);
}

static bool good_name(const char *name)
{
    size_t n = strlen(name);
    bool ok = n > 0 && n <= 60 && name[0] != '.';
    for (size_t i = 0; i < n && ok; i++)
        ok = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
             (name[i] >= '0' && name[i] <= '9') || strchr("-_.", name[i]);
    return ok;
}

enum status cli_eval_import(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct importing m = { .k = { .c = c }, .name = NULL };
    struct cli_suite suite = { 0 };
    struct set_opts so;
    const char *rest[1];
    size_t n_rest;
    bool done;
    cli_opts_init(&o, c, "strobe eval import PATH --name NAME [options]",
                  "Takes in a folder of public templates, generated rows (.jsonl) or GSM8K rows, "
                  "unchanged, after examining them; later verbs then take @NAME. Generated rows "
                  "beside their templates are matched and every gold is worked out again. Exit "
                  "code 3 and nothing taken in when a template has errors.");
    cli_opt(&o, (struct opt){ "skip-broken", 0, OPT_FLAG, &m.skip_broken,
                              .help = "leave out files in which a template has errors" });
    cli_opt(&o, (struct opt){ "name", 0, OPT_STR, &m.name, 0, 0, "NAME",
                              "what to call it: letters, digits, - _ ." });
    cli_opt(&o, (struct opt){ "pools", 0, OPT_STR, &suite.pools, 0, 0, "FILE",
                              "JSON file of word lists that replace ours" });
    cli_opt(&o, (struct opt){ "data", 0, OPT_STR, &suite.data_dir, 0, 0, "DIR",
                              "data directory (default: ~/.local/share/strobe)" });
    if (cli_parse(&o, c, rest, 1, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    if (n_rest != 1 || !m.name || !good_name(m.name))
        return err_set(err, ST_ARG, "eval import needs one PATH and --name NAME");
    m.source = rest[0];
    if (cli_suite_fill(&suite, rest, n_rest, &so, err) == ST_OK)
        take_in(&m, &so, suite.data_dir, err);
    json_free(m.data);
    json_free(m.left_out);
    clear(&m.k);
    cli_suite_clear(&suite);
    return err->code;
}
