/* server/cli_eval_sample.c - `strobe eval sample` and `strobe eval export`: instances to look at
 * and to keep. */
#include "engine/base/file.h"
#include "eval/item_json.h"
#include "server/cli_eval.h"

#include <errno.h>
#include <unistd.h>

static const char *const bold = "\033[1m", *const plain = "\033[0m";

/* Substitutions stand out on a terminal. */
static void print_question(const struct item *it, bool color)
{
    uint32_t at = 0, n = (uint32_t)strlen(it->question);
    for (uint32_t i = 0; i < it->n_span && color; i++) {
        const struct item_span *s = &it->span[i];
        if (s->begin < at)
            continue;
        printf("%.*s%s%.*s%s", (int)(s->begin - at), it->question + at, bold,
               (int)(s->end - s->begin), it->question + s->begin, plain);
        at = s->end;
    }
    printf("%.*s\n", (int)(n - at), it->question + at);
}

static void print_item(const struct item *it, bool color)
{
    printf("%s  %s@%d  set %u%s\n", it->template_id, variant_name(it->variant), it->level, it->set,
           it->repeated ? "  (numbers repeat)" : "");
    print_question(it, color);
    if (it->solution[0])
        printf("  %s\n", it->solution);
    printf("  #### %s", it->gold_text);
    for (uint32_t i = 0; i < it->n_trap; i++) {
        struct buf b = BUF_INIT;
        rat_print(it->trap[i].value, &b);
        printf("   trap %s = %s", it->trap[i].why, b.p ? b.p : "?");
        buf_clear(&b);
    }
    printf("\n\n");
}

static enum status print_all(struct cli *c, const struct set *s, uint64_t max, struct err *err)
{
    json_t *list = c->json ? json_array() : NULL;
    for (uint64_t i = 0; i < set_size(s) && i < max && err->code == ST_OK; i++) {
        struct item it;
        if (set_item(s, i, &it, err) != ST_OK)
            break;
        if (c->json && json_array_append_new(list, item_json(&it)) != 0)
            err_set(err, ST_NOMEM, "items");
        else if (!c->json)
            print_item(&it, isatty(STDOUT_FILENO));
        item_clear(&it);
    }
    json_t *notes = c->json ? json_array() : NULL;
    for (size_t i = 0; i < set_n_note(s); i++) {
        if (c->json)
            json_array_append_new(notes, json_text(str_c(set_note(s, i))));
        else if (!c->quiet)
            fprintf(stderr, "note: %s\n", set_note(s, i));
    }
    if (!c->json || err->code != ST_OK) {
        json_free(list);
        json_free(notes);
        return err->code;
    }
    return cli_print_json(json_pack("{s:s, s:I, s:o, s:o}", "suite", set_hash(s), "size",
                                    (json_int_t)set_size(s), "items", list, "notes", notes),
                          err);
}

enum status cli_eval_sample(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct cli_suite suite = { 0 };
    struct set_opts so;
    struct set *s = NULL;
    const char *rest[EVAL_PATHS_MAX];
    size_t n_rest;
    uint64_t max = 0;
    bool done;
    cli_opts_init(&o, c, "strobe eval sample [PATH|@IMPORT]... [options]",
                  "Shows instances of templates (without a path: the built-in ones).");
    cli_suite_opts(&o, &suite);
    cli_opt(&o, (struct opt){ "max", 0, OPT_COUNT, &max, 1, 10000000, "N",
                              "at most so many items (default: 20, with --json all)" });
    if (cli_parse(&o, c, rest, EVAL_PATHS_MAX, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    if (cli_suite_fill(&suite, rest, n_rest, &so, err) == ST_OK && set_open(&so, &s, err) == ST_OK)
        print_all(c, s, max ? max : c->json ? UINT64_MAX : 20, err);
    set_free(s);
    cli_suite_clear(&suite);
    return err->code;
}

/* ---- export ---- */

/* The shape of the public generated files, with ours beside it. */
static json_t *row_of(const struct item *it, uint64_t index)
{
    struct buf answer = BUF_INIT;
    buf_printf(&answer, "%s%s#### %s", it->solution, it->solution[0] ? "\n" : "", it->gold_text);
    json_t *v = item_json(it);
    if (v) {
        json_object_set_new(v, "id", json_integer((json_int_t)index));
        json_object_set_new(v, "instance", json_integer((json_int_t)it->set));
        json_object_set_new(v, "answer", json_text(buf_view(&answer)));
    }
    buf_clear(&answer);
    return v;
}

static enum status export_items(struct cli *c, const struct set *s, FILE *out, struct err *err)
{
    struct buf line = BUF_INIT;
    for (uint64_t i = 0; i < set_size(s) && err->code == ST_OK; i++) {
        struct item it;
        if (set_item(s, i, &it, err) != ST_OK)
            break;
        json_t *v = row_of(&it, i);
        buf_reset(&line);
        if (!v || json_write(v, &line, err) != ST_OK)
            err_set(err, ST_NOMEM, "items");
        else if (fprintf(out, "%s\n", line.p) < 0)
            err_sys(err, errno, "write");
        json_free(v);
        item_clear(&it);
        if (i % 1000 == 0)
            cli_progress(c, "writing", i, set_size(s));
    }
    cli_progress_end(c);
    buf_clear(&line);
    return err->code;
}

static enum status export_templates(struct cli *c, const char *dir, struct err *err)
{
    int n = 0;
    if (file_make_dirs(dir, 0777, err) != ST_OK)
        return err->code;
    for (const struct builtin_file *f = builtin_files; f->name; f++, n++) {
        char path[FILE_PATH_MAX];
        if (file_path(path, err, "%s/%s", dir, f->name) != ST_OK ||
            file_replace(path, (struct str){ f->text, f->n }, err) != ST_OK)
            return err->code;
    }
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:i}", "folder", dir, "files", n), err);
    printf("%s: %d files of templates\n", dir, n);
    return ST_OK;
}

static enum status export_to(struct cli *c, const struct set *s, const char *path, struct err *err)
{
    bool std = !path || strcmp(path, "-") == 0;
    FILE *out = std ? stdout : fopen(path, "wb");
    if (!out)
        return err_sys(err, errno, path);
    export_items(c, s, out, err);
    if (!std && fclose(out) != 0)
        err_sys(err, errno, path);
    if (std || err->code != ST_OK)
        return err->code;
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:s, s:I}", "file", path, "suite", set_hash(s),
                                        "items", (json_int_t)set_size(s)),
                              err);
    printf("%s: %llu items, suite %.16s\n", path, (unsigned long long)set_size(s), set_hash(s));
    return ST_OK;
}

enum status cli_eval_export(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct cli_suite suite = { 0 };
    struct set_opts so;
    struct set *s = NULL;
    const char *rest[EVAL_PATHS_MAX], *out = NULL, *templates = NULL;
    size_t n_rest;
    bool done;
    cli_opts_init(&o, c,
                  "strobe eval export [PATH|@IMPORT]... [-o FILE.jsonl] [options]\n"
                  "       strobe eval export --templates DIR",
                  "Writes instances as JSON Lines, one item a line, or the built-in templates to "
                  "read and change.");
    cli_suite_opts(&o, &suite);
    cli_opt(&o, (struct opt){ "output", 'o', OPT_STR, &out, 0, 0, "FILE",
                              "file (default: standard output)" });
    cli_opt(&o, (struct opt){ "templates", 0, OPT_STR, &templates, 0, 0, "DIR",
                              "write the built-in template files here" });
    if (cli_parse(&o, c, rest, EVAL_PATHS_MAX, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    if (templates)
        return export_templates(c, templates, err);
    if (cli_suite_fill(&suite, rest, n_rest, &so, err) == ST_OK && set_open(&so, &s, err) == ST_OK)
        export_to(c, s, out, err);
    set_free(s);
    cli_suite_clear(&suite);
    return err->code;
}
