/* server/api_evals_templates.c - the template workbench: built-in templates to start from, and the
 * authoring gate and samples of a text that is not kept anywhere. */
#include "engine/base/clock.h"
#include "eval/check.h"
#include "eval/item_json.h"
#include "eval/set.h"
#include "server/eval_reader.h"

#include <stdlib.h>

enum {
    TEXT_BYTES_MAX = 256 << 10,
    SAMPLES_MAX = 50,
    SAMPLES_DEFAULT = 10,
    TEMPLATES_MAX = 20,
    CHECK_ANSWERS = 500,
    CHECK_TEXTS = 50,
    PATIENCE_MS = 3000 /* no template is begun after that: others wait for this thread's answers */
};
/* Of all searches for numbers of a request: two seconds; the hardest public template takes a third.
 */
static const uint64_t steps_max = 250000000;

struct bench {
    uint64_t start_ns;
    char id[CALL_ARG_MAX];
    struct set_variant what;
    int64_t samples, seed;
    uint64_t budget; /* steps that are left */
    size_t n;
    char text[]; /* JSON of one template or a list */
};

static void answer(struct eval_task *t, json_t *doc, struct err *err)
{
    struct buf b = BUF_INIT;
    if (err->code == ST_OK && !doc)
        err_set(err, ST_NOMEM, "templates");
    if (err->code == ST_OK)
        json_write(doc, &b, err);
    json_free(doc);
    if (err->code == ST_OK) {
        later_reply(&t->later, 200, NULL, &b);
        return;
    }
    buf_clear(&b);
    eval_task_fail(t, err, NULL);
}

/* ---- built-in ones ---- */

static json_t *about(const struct lib_entry *e)
{
    json_t *tags = json_array(), *levels = json_array();
    for (uint32_t i = 0; i < e->t->n_tag; i++)
        json_array_append_new(tags, json_text(e->t->tag[i]));
    for (int l = LEVEL_MIN; l <= LEVEL_MAX; l++)
        if (template_level(e->t, l)->present)
            json_array_append_new(levels, json_integer(l));
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:b}", "id", e->name, "title",
                     json_text(e->t->title), "unit", json_text(e->t->unit), "tags", tags, "levels",
                     levels, "source", e->source, "distractors", e->t->n_noop > 0);
}

static void run_list(struct eval_task *t, struct run_store *store)
{
    struct err err = ERR_INIT;
    struct pools *pools = NULL;
    struct library l = { 0 };
    json_t *list = json_array();
    (void)store;
    if (pools_open(NULL, &pools, &err) == ST_OK && library_add_builtin(&l, pools, &err) == ST_OK)
        for (size_t i = 0; i < l.n; i++)
            if (l.entry[i].t)
                json_array_append_new(list, about(&l.entry[i]));
    library_clear(&l);
    pools_free(pools);
    answer(t, json_pack("{s:s, s:o, s:b}", "object", "list", "data", list, "has_more", 0), &err);
}

void api_eval_templates(struct call *c)
{
    eval_ask(c, run_list, NULL, false);
}

static json_t *named(json_t *list, const char *id)
{
    json_t *v;
    size_t i;
    json_array_foreach(list, i, v)
    {
        const char *name = json_string_value(json_object_get(v, "id"));
        if (name && strcmp(name, id) == 0)
            return json_incref(v);
    }
    return NULL;
}

static void run_one(struct eval_task *t, struct run_store *store)
{
    struct bench *b = t->arg;
    struct err err = ERR_INIT;
    json_t *found = NULL;
    (void)store;
    for (const struct builtin_file *f = builtin_files; f->name && !found && !err.code; f++) {
        json_t *list = NULL;
        if (json_parse((struct str){ f->text, f->n }, f->name, &list, &err) == ST_OK)
            found = named(list, b->id);
        json_free(list);
    }
    if (err.code == ST_OK && !found)
        err_set(&err, ST_NOTFOUND, "there is no built-in template '%s'", b->id);
    answer(t, found ? json_pack("{s:s, s:o}", "id", b->id, "template", found) : NULL, &err);
}

void api_eval_template(struct call *c)
{
    struct bench *b = calloc(1, sizeof *b);
    if (!b) {
        reply_error(c, 500, "internal", NULL, "out of memory");
        return;
    }
    snprintf(b->id, sizeof b->id, "%s", c->arg);
    eval_ask(c, run_one, b, false);
}

/* ---- a text ---- */

static enum status in_time(const struct bench *b, struct err *err)
{
    if (clock_ms_since(b->start_ns) < PATIENCE_MS && b->budget > 0)
        return ST_OK;
    return err_set(err, ST_RANGE,
                   "the conditions take longer than %d s to satisfy: narrow the ranges, or use "
                   "`strobe eval check`, which waits",
                   PATIENCE_MS / 1000);
}

/* What the gate says of each template in the text; unreadable ones say why. */
static json_t *checked(struct bench *b, struct err *err)
{
    struct pools *pools = NULL;
    struct library l = { 0 };
    struct check_opts o = { .n_answer = CHECK_ANSWERS,
                            .n_text = CHECK_TEXTS,
                            .budget = &b->budget };
    json_t *list = json_array();
    if (pools_open(NULL, &pools, err) == ST_OK)
        library_add_text(&l, (struct str){ b->text, b->n }, "text", 0, pools, err);
    if (err->code == ST_OK && l.n > TEMPLATES_MAX)
        err_set(err, ST_RANGE, "text: at most %d templates at a time", TEMPLATES_MAX);
    for (size_t i = 0; i < l.n && err->code == ST_OK; i++) {
        struct check_result r = { 0 };
        if (in_time(b, err) != ST_OK)
            break;
        if (l.entry[i].t && check_template(l.entry[i].t, pools, &o, &r, err) != ST_OK)
            break;
        json_t *v = check_json(&l.entry[i], &r);
        json_array_append_new(list, v);
    }
    library_clear(&l);
    pools_free(pools);
    return list;
}

/* Instances of what was asked for; why there are none goes to *why. */
static json_t *sampled(struct bench *b, struct err *why)
{
    struct set_opts o = { .text = { b->text, b->n },
                          .variant = &b->what,
                          .n_variant = 1,
                          .count = (uint32_t)b->samples,
                          .seed = (uint64_t)b->seed,
                          .any_audit = true,
                          .budget = &b->budget };
    struct set *s = NULL;
    json_t *list = json_array();
    if (b->samples && in_time(b, why) == ST_OK && set_open(&o, &s, why) == ST_OK)
        for (uint64_t i = 0; i < set_size(s) && i < (uint64_t)b->samples; i++) {
            struct item it;
            if (set_item(s, i, &it, why) != ST_OK)
                break;
            json_array_append_new(list, item_json(&it));
            item_clear(&it);
        }
    set_free(s);
    return list;
}

static void run_check(struct eval_task *t, struct run_store *store)
{
    struct bench *b = t->arg;
    struct err err = ERR_INIT, why = ERR_INIT;
    (void)store;
    b->start_ns = clock_ns();
    b->budget = steps_max;
    json_t *templates = checked(b, &err);
    json_t *samples = err.code == ST_OK ? sampled(b, &why) : json_array();
    json_t *reason = why.code == ST_OK ? json_null() : json_text(str_c(why.msg));
    /* A text that is no JSON is a finding, not a failed request. */
    if (err.code == ST_FORMAT) {
        json_array_append_new(templates,
                              json_pack("{s:s, s:s, s:s, s:{}, s:[{s:s, s:s, s:o}]}", "id", "",
                                        "source", "text", "status", "error", "levels",
                                        "diagnostics", "level", "error", "code", "unreadable",
                                        "message", json_text(str_c(err.msg))));
        err_clear(&err);
    }
    answer(t,
           json_pack("{s:o, s:o, s:o}", "templates", templates, "samples", samples, "sample_error",
                     reason),
           &err);
}

/* The text as it was typed, or the object. */
static enum status take_text(const json_t *doc, struct buf *out, struct err *err)
{
    const json_t *text = json_object_get(doc, "text"), *object = json_object_get(doc, "template");
    if (json_is_string(text))
        buf_put(out, json_string_value(text), json_string_length(text));
    else if (json_is_object(object) || json_is_array(object))
        json_write(object, out, err);
    else
        return err_set(err, ST_ARG, "'text' (a string) or 'template' (an object) is missing");
    if (err->code == ST_OK && out->n > TEXT_BYTES_MAX)
        err_set(err, ST_ARG, "a text has at most %d bytes", TEXT_BYTES_MAX);
    return err->code ? err->code : buf_ok(out, "template", err);
}

static enum status take_options(const json_t *doc, struct bench *b, const char **param,
                                struct err *err)
{
    struct str variant = STR("both");
    int64_t level = 0;
    b->samples = SAMPLES_DEFAULT;
    *param = "samples";
    json_get_i64(doc, *param, false, 0, SAMPLES_MAX, &b->samples, err);
    if (err->code == ST_OK)
        json_get_i64(doc, *param = "seed", false, 0, INT64_MAX, &b->seed, err);
    if (err->code == ST_OK)
        json_get_i64(doc, *param = "level", false, LEVEL_MIN, LEVEL_MAX, &level, err);
    if (err->code == ST_OK)
        json_get_str(doc, *param = "variant", false, &variant, err);
    if (err->code == ST_OK &&
        (!variant_find(variant, &b->what.variant) || b->what.variant == VARIANT_FROZEN))
        err_set(err, ST_ARG, "there is no variant '%.*s'", (int)(variant.n < 40 ? variant.n : 40),
                variant.p);
    b->what.level = (int)level;
    return err->code;
}

void api_eval_check(struct call *c)
{
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT;
    const char *param = "text";
    json_t *doc = call_json(c);
    if (!doc)
        return;
    struct bench *b = NULL;
    if (take_text(doc, &text, &err) == ST_OK && !(b = calloc(1, sizeof *b + text.n + 1)))
        err_set(&err, ST_NOMEM, "template");
    if (b && take_options(doc, b, &param, &err) == ST_OK) {
        if (text.n)
            memcpy(b->text, text.p, text.n);
        b->n = text.n;
        eval_ask(c, run_check, b, false);
    } else {
        err.code = err.code == ST_FORMAT ? ST_ARG : err.code;
        reply_err(c, &err, param);
        free(b);
    }
    buf_clear(&text);
    json_free(doc);
}
