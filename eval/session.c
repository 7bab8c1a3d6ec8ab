/* eval/session.c - see session.h. */
#include "eval/session.h"

#include "engine/base/hash.h"
#include "engine/engine.h"
#include "eval/item_json.h"
#include "eval/steady.h"

#include <stdlib.h>

enum { ITEMS_A_TIME = 100 };

struct session {
    const struct session_in *in;
    struct session_out *out;
    struct eval_settings set;
    struct prompt *prompt;
    struct ask_opts ask;
    const char *why_shots;
    char why[120];
    json_t *manifest;
    char identity[RUN_HASH_MAX];
    struct run_row row;
    struct backend *backend;
};

/* ---- questions ---- */

static uint64_t n_items(const struct session *s)
{
    uint64_t n = s->in->set ? set_size(s->in->set) : 0;
    return s->set.max_items && (uint64_t)s->set.max_items < n ? (uint64_t)s->set.max_items : n;
}

/* The item as a row; texts are borrowed from the item and the buffers. */
static enum status to_row(const struct item *it, struct buf *key, struct buf *info,
                          struct run_sample *ret, struct err *err)
{
    json_t *doc = item_json(it);
    buf_reset(key);
    buf_reset(info);
    buf_printf(key, "%s/%s/%d/%u", it->template_id, variant_name(it->variant), it->level, it->set);
    if (!doc)
        return err_set(err, ST_NOMEM, "an item");
    /* What has a column of its own is left out. */
    static const char *const columns[] = { "template", "variant", "level",     "set", "original",
                                           "question", "gold",    "gold_text", "hash" };
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        json_object_del(doc, columns[i]);
    json_write(doc, info, err);
    json_free(doc);
    *ret = (struct run_sample){ .key = buf_view(key),
                                .tmpl = str_c(it->template_id),
                                .variant = str_c(variant_name(it->variant)),
                                .level = it->level,
                                .instance = it->set,
                                .original = it->original,
                                .hash = str_c(it->hash),
                                .question = str_c(it->question),
                                .gold_num = it->gold.n,
                                .gold_den = it->gold.d,
                                .gold_text = str_c(it->gold_text),
                                .info = buf_view(info) };
    if (key->failed || info->failed)
        err_set(err, ST_NOMEM, "an item");
    return err->code;
}

struct page {
    struct item item[ITEMS_A_TIME];
    struct buf key[ITEMS_A_TIME], info[ITEMS_A_TIME];
    size_t n_key[ITEMS_A_TIME]; /* without the number of the repeat */
    struct run_sample row[ITEMS_A_TIME];
};

/* The page again as the questions' `repeat`-th answers. */
static enum status add_repeat(struct session *s, struct page *p, uint64_t n, int64_t repeat,
                              struct err *err)
{
    int64_t added;
    for (size_t k = 0; k < n; k++) {
        p->key[k].n = p->n_key[k];
        if (repeat)
            buf_printf(&p->key[k], "#%lld", (long long)repeat);
        p->row[k].key = buf_view(&p->key[k]);
        p->row[k].repeat = repeat;
        if (buf_ok(&p->key[k], "an item", err) != ST_OK)
            return err->code;
    }
    return run_store_add(s->in->store, s->row.id, p->row, n, &added, err);
}

static enum status add_page(struct session *s, struct page *p, uint64_t from, uint64_t n,
                            struct err *err)
{
    size_t k = 0;
    for (; k < n && err->code == ST_OK; k++) {
        p->item[k] = (struct item){ 0 };
        if (set_item(s->in->set, from + k, &p->item[k], err) == ST_OK)
            to_row(&p->item[k], &p->key[k], &p->info[k], &p->row[k], err);
        p->n_key[k] = p->key[k].n;
    }
    for (int64_t r = 0; r < s->set.repeats && err->code == ST_OK; r++)
        add_repeat(s, p, n, r, err);
    while (k > 0)
        item_clear(&p->item[--k]);
    return err->code;
}

static enum status add_items(struct session *s, struct err *err)
{
    struct page *p = calloc(1, sizeof *p);
    uint64_t n = n_items(s);
    if (!p)
        return err_set(err, ST_NOMEM, "items");
    for (uint64_t i = 0; i < n && err->code == ST_OK; i += ITEMS_A_TIME)
        add_page(s, p, i, n - i < ITEMS_A_TIME ? n - i : ITEMS_A_TIME, err);
    for (size_t k = 0; k < ITEMS_A_TIME; k++) {
        buf_clear(&p->key[k]);
        buf_clear(&p->info[k]);
    }
    free(p);
    return err->code;
}

static enum status longest(const struct session *s, struct buf *ret, struct err *err)
{
    for (uint64_t i = 0; i < n_items(s) && err->code == ST_OK; i++) {
        struct item it;
        if (set_item(s->in->set, i, &it, err) != ST_OK)
            break;
        if (strlen(it.question) > ret->n) {
            buf_reset(ret);
            buf_z(ret, it.question);
        }
        item_clear(&it);
    }
    return err->code == ST_OK ? buf_ok(ret, "questions", err) : err->code;
}

/* ---- the manifest ---- */

static bool wants_chat(const struct session *s)
{
    const char *api = s->set.api ? s->set.api : "auto";
    if (strcmp(api, "auto") != 0)
        return strcmp(api, "chat") == 0;
    return !s->in->engine || engine_info(s->in->engine)->has_chat_template;
}

static enum status fit(struct session *s, struct err *err)
{
    struct buf question = BUF_INIT;
    uint32_t shots = s->ask.n_shot, answer = s->ask.max_tokens;
    if (longest(s, &question, err) == ST_OK &&
        backend_engine_fit(s->in->engine, &s->ask, buf_view(&question), &shots, &answer, err) ==
            ST_OK) {
        if (shots < s->ask.n_shot && s->set.shots >= 0)
            err_set(err, ST_ARG, "%u worked examples do not fit into the model's context, %u do",
                    s->ask.n_shot, shots);
        else if (shots < s->ask.n_shot)
            snprintf(s->why, sizeof s->why,
                     "%u of %u worked examples: more do not fit into the model's context", shots,
                     s->ask.n_shot);
        s->ask.n_shot = shots;
        s->ask.max_tokens = answer;
    }
    buf_clear(&question);
    return err->code;
}

/* How it is asked: of the settings, and of what fits. Of a run without a set: of its manifest. */
static enum status choose_ask(struct session *s, const json_t *old, struct err *err)
{
    uint32_t have = prompt_shots(s->prompt);
    s->ask = (struct ask_opts){ .prompt = s->prompt,
                                .n_shot = s->set.shots >= 0 && (uint32_t)s->set.shots < have
                                              ? (uint32_t)s->set.shots
                                              : have,
                                .chat = wants_chat(s),
                                .max_tokens = (uint32_t)s->set.max_tokens,
                                .temperature = s->set.temperature,
                                .seed = (uint64_t)s->set.sample_seed };
    if (s->set.shots > (int64_t)have)
        return err_set(err, ST_ARG, "the prompt '%.60s' has %u worked examples",
                       prompt_name(s->prompt), have);
    s->why[0] = '\0';
    if (s->in->set)
        return s->in->engine ? fit(s, err) : ST_OK;
    const json_t *p = json_object_get(old, "prompt"), *d = json_object_get(old, "decoding");
    if (s->set.shots < 0)
        s->ask.n_shot = (uint32_t)json_integer_value(json_object_get(p, "shots"));
    s->ask.max_tokens = (uint32_t)json_integer_value(json_object_get(d, "max_tokens"));
    const char *why = json_string_value(json_object_get(p, "why"));
    snprintf(s->why, sizeof s->why, "%s", why ? why : "");
    return ST_OK;
}

static json_t *model_doc(const struct session *s)
{
    if (!s->in->engine)
        return json_pack("{s:s, s:s, s:s, s:s}", "backend", "endpoint", "name", s->set.model, "url",
                         s->set.endpoint, "api", s->ask.chat ? "chat" : "completions");
    const struct engine_info *in = engine_info(s->in->engine);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s}", "backend", "engine", "name",
                     in->model_id, "hash", in->hash, "quant", in->quant, "kv", in->kv_type, "exact",
                     (int)in->exact, "api", s->ask.chat ? "chat" : "completions");
}

static json_t *prompt_doc(const struct session *s)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:s}", "name", prompt_name(s->prompt), "hash",
                     prompt_hash(s->prompt), "shots", (json_int_t)s->ask.n_shot, "shots_available",
                     (json_int_t)prompt_shots(s->prompt), "why", s->why);
}

static json_t *decoding_doc(const struct session *s)
{
    const char *const *stop;
    size_t n = s->ask.chat ? 0 : prompt_stops(s->prompt, &stop);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_text(str_c(stop[i])));
    json_t *doc =
        json_pack("{s:f, s:I, s:I, s:o}", "temperature", s->ask.temperature, "max_tokens",
                  (json_int_t)s->ask.max_tokens, "seed", (json_int_t)s->ask.seed, "stop", list);
    if (doc && s->set.repeats > 1)
        json_object_set_new(doc, "repeats", json_integer(s->set.repeats));
    if (doc && s->set.extra)
        json_object_set_new(doc, "extra", json_deep_copy(s->set.extra));
    return doc;
}

static json_t *datasets_doc(const struct session *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < set_n_part(s->in->set); i++) {
        struct set_part p = set_part(s->in->set, i);
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:I, s:I}", "variant",
                                        variant_name(p.what.variant), "level", p.what.level, "sets",
                                        (json_int_t)p.n_set, "per_set", (json_int_t)p.per_set));
    }
    return list;
}

static void hash_doc(struct sha256 *h, const json_t *doc, struct err *err)
{
    struct buf text = BUF_INIT;
    if (json_write(doc, &text, err) == ST_OK)
        sha256_add(h, text.p, text.n);
    buf_clear(&text);
}

/* Model, prompt, decoding and the suite: the same again is the same run. */
static enum status make_manifest(struct session *s, struct err *err)
{
    static const char *const parts[] = { "model", "prompt", "decoding", "suite" };
    struct sha256 h;
    json_t *primary = s->set.primary ? json_deep_copy(s->set.primary) : json_null();
    s->manifest = json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s}, s:o}", "format", "strobe-run/1",
                            "strobe", STROBE_VERSION, "model", model_doc(s), "prompt",
                            prompt_doc(s), "decoding", decoding_doc(s), "extraction", "profile",
                            extract_profile_name(s->set.of_profile), "primary", primary);
    if (!s->manifest)
        return err_set(err, ST_NOMEM, "manifest");
    if (s->in->set) {
        json_object_set_new(s->manifest, "datasets", datasets_doc(s));
        json_object_set_new(
            s->manifest, "suite",
            json_pack("{s:s, s:I}", "hash", set_hash(s->in->set), "items", (json_int_t)n_items(s)));
    }
    sha256_init(&h);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && err->code == ST_OK; i++)
        if (json_object_get(s->manifest, parts[i]))
            hash_doc(&h, json_object_get(s->manifest, parts[i]), err);
    sha256_hex(&h, s->identity);
    return err->code;
}

/* ---- is it the same experiment? ---- */

static void put_value(struct buf *out, const json_t *v)
{
    struct err ignored = ERR_INIT;
    if (!v)
        buf_z(out, "nothing");
    else if (json_is_real(v))
        buf_printf(out, "%.12g", json_real_value(v));
    else
        json_write(v, out, &ignored);
}

static void compare(const char *part, const json_t *was, const json_t *now, struct buf *diff)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)now, key, v)
    {
        const json_t *old = json_object_get(was, key);
        if (strcmp(key, "why") == 0 || (old && json_equal(old, v)))
            continue;
        buf_printf(diff, "%s.%s: ", part, key);
        put_value(diff, old);
        buf_z(diff, " -> ");
        put_value(diff, v);
        buf_char(diff, '\n');
    }
}

/* ST_ARG where it is not, with the first difference in the message and all in out->diff. */
static enum status same_experiment(struct session *s, const json_t *old, struct err *err)
{
    static const char *const parts[] = { "model", "prompt", "decoding" };
    struct buf *diff = &s->out->diff;
    for (size_t i = 0; i < 3; i++)
        compare(parts[i], json_object_get(old, parts[i]), json_object_get(s->manifest, parts[i]),
                diff);
    if (diff->n == 0)
        return ST_OK;
    return err_set(err, ST_ARG,
                   "run %s was made with another model, prompt or decoding and is not mixed: %.*s "
                   "(a new run: --again)",
                   s->row.id, (int)strcspn(diff->p, "\n"), diff->p);
}

/* ---- finding and making the run ---- */

static enum status write_text(const json_t *doc, char **ret, struct err *err)
{
    struct buf b = BUF_INIT;
    json_write(doc, &b, err);
    *ret = buf_take(&b);
    return *ret ? err->code : err_set(err, ST_NOMEM, "run");
}

static enum status make_run(struct session *s, struct err *err)
{
    struct run_row *r = &s->row;
    char name[80];
    *r = (struct run_row){ 0 };
    snprintf(r->id, sizeof r->id, "%s", s->in->id ? s->in->id : "");
    snprintf(r->identity, sizeof r->identity, "%s", s->identity);
    snprintf(name, sizeof name, "%.79s",
             s->set.name ? s->set.name
                         : json_string_value(
                               json_object_get(json_object_get(s->manifest, "model"), "name")));
    r->name = str_dup(str_c(name));
    r->note = str_dup(STR(""));
    r->learned = str_dup(STR("{}"));
    if (!r->name || !r->note || !r->learned)
        return err_set(err, ST_NOMEM, "run");
    if (write_text(s->manifest, &r->manifest, err) == ST_OK &&
        write_text(s->in->doc, &r->limits, err) == ST_OK)
        run_store_create(s->in->store, r, err);
    s->out->made = err->code == ST_OK;
    return err->code;
}

/* The run that was named. */
static enum status named_run(struct session *s, struct err *err)
{
    json_t *old = NULL;
    char *text = NULL;
    if (json_parse(str_c(s->row.manifest), "manifest", &old, err) == ST_OK &&
        choose_ask(s, old, err) == ST_OK && make_manifest(s, err) == ST_OK &&
        same_experiment(s, old, err) == ST_OK && s->in->set) {
        /* Extended: it tells what it has now. */
        json_object_set(old, "datasets", json_object_get(s->manifest, "datasets"));
        json_object_set(old, "suite", json_object_get(s->manifest, "suite"));
        if (write_text(old, &text, err) == ST_OK)
            run_store_update(s->in->store, s->row.id, text, NULL, NULL, err);
    }
    free(text);
    json_free(old);
    return err->code;
}

static enum status find_or_make(struct session *s, struct err *err)
{
    struct err none = ERR_INIT;
    if (s->in->run) {
        if (run_store_get(s->in->store, s->in->run, &s->row, err) != ST_OK)
            return err->code;
        return named_run(s, err);
    }
    if (!s->in->set)
        return err_set(err, ST_ARG, "which run? give its id");
    if (choose_ask(s, NULL, err) != ST_OK || make_manifest(s, err) != ST_OK)
        return err->code;
    if (!s->in->fresh && run_store_find(s->in->store, s->identity, &s->row, &none) == ST_OK)
        return ST_OK;
    if (none.code != ST_OK && none.code != ST_NOTFOUND)
        return err_set(err, none.code, "%s", none.msg);
    return make_run(s, err);
}

/* ---- answers that other runs have ---- */

enum { RUNS_A_TIME = 50 };

/* Was it asked the same way? How often it was asked does not matter: a repeat has its number. */
static bool asked_alike(const json_t *a, const json_t *b)
{
    static const char *const parts[] = { "model", "prompt", "decoding", "extraction" };
    bool same = true;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && same; i++) {
        json_t *x = json_deep_copy(json_object_get(a, parts[i])),
               *y = json_deep_copy(json_object_get(b, parts[i]));
        json_object_del(x, "repeats");
        json_object_del(y, "repeats");
        json_object_del(x, "why");
        json_object_del(y, "why");
        same = x && y && json_equal(x, y);
        json_free(x);
        json_free(y);
    }
    return same;
}

static enum status reuse_of(struct session *s, const struct run_row *other, json_t *told,
                            struct err *err)
{
    struct err ignored = ERR_INIT;
    json_t *theirs = NULL;
    int64_t n = 0;
    if (strcmp(other->id, s->row.id) != 0 &&
        json_parse(str_c(other->manifest), "manifest", &theirs, &ignored) == ST_OK &&
        asked_alike(s->manifest, theirs) &&
        run_store_reuse(s->in->store, s->row.id, other->id, &n, err) == ST_OK && n > 0)
        json_object_set_new(told, other->id, json_integer(n));
    json_free(theirs);
    return err->code;
}

/* Writes a member of the run's manifest that is not part of what it is. */
static enum status tell(struct session *s, const char *key, json_t *value, struct err *err)
{
    json_t *doc = NULL;
    char *text = NULL;
    if (json_parse(str_c(s->row.manifest), "manifest", &doc, err) == ST_OK &&
        json_object_set_new(doc, key, value) == 0 && write_text(doc, &text, err) == ST_OK &&
        run_store_update(s->in->store, s->row.id, text, NULL, NULL, err) == ST_OK) {
        free(s->row.manifest); /* the next one writes over this */
        s->row.manifest = text;
        text = NULL;
    }
    free(text);
    json_free(doc);
    return err->code;
}

/* The manifest tells from which runs how many came, those of earlier sessions included. */
static enum status tell_reused(struct session *s, const json_t *told, struct err *err)
{
    json_t *doc = NULL;
    if (json_object_size(told) == 0 ||
        json_parse(str_c(s->row.manifest), "manifest", &doc, err) != ST_OK)
        return err->code;
    json_t *all = json_deep_copy(json_object_get(doc, "reused"));
    all = all ? all : json_object();
    const char *run;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)told, run, v) json_object_set_new(
        all, run,
        json_integer(json_integer_value(v) + json_integer_value(json_object_get(all, run))));
    json_free(doc);
    return tell(s, "reused", all, err);
}

static enum status reuse_answers(struct session *s, struct err *err)
{
    char after[RUN_ID_MAX] = "";
    bool more = true;
    json_t *told = json_object();
    while (more && err->code == ST_OK) {
        struct run_list l = { 0 };
        if (run_store_list(s->in->store, after[0] ? after : NULL, RUNS_A_TIME, &l, err) != ST_OK)
            break;
        for (size_t i = 0; i < l.n && err->code == ST_OK; i++)
            reuse_of(s, &l.row[i], told, err);
        more = l.more && l.n > 0;
        if (l.n)
            snprintf(after, sizeof after, "%s", l.row[l.n - 1].id);
        run_list_clear(&l);
    }
    if (err->code == ST_OK)
        tell_reused(s, told, err);
    json_free(told);
    return err->code;
}

/* ---- working ---- */

static enum status open_backend(struct session *s, struct err *err)
{
    const struct eval_settings *t = &s->set;
    struct http_opts h = { .url = t->endpoint,
                           .model = t->model,
                           .key = t->key_env ? getenv(t->key_env) : NULL,
                           .learned = s->row.learned,
                           .extra = t->extra,
                           .connect_ms = (uint32_t)t->connect_ms,
                           .first_byte_ms = (uint32_t)t->first_byte_ms,
                           .total_ms = (uint32_t)t->total_ms };
    if (s->in->engine)
        return backend_engine_open(s->in->engine, &s->ask, &s->backend, err);
    if (t->key_env && (!h.key || !h.key[0]))
        return err_set(err, ST_ARG,
                       "the environment variable %.60s, which holds the key, is not set",
                       t->key_env);
    return backend_http_open(&h, &s->ask, &s->backend, err);
}

static enum status self_test(struct session *s, struct err *err)
{
    uint32_t n = 0, different = 0;
    if (steady_run(s->backend, s->in->store, s->row.id, (uint32_t)s->set.self_test, &n, &different,
                   err) == ST_OK &&
        n)
        tell(s, "self_test",
             json_pack("{s:I, s:I, s:[i, i, i]}", "questions", (json_int_t)n, "different",
                       (json_int_t)different, "in_flight", (int)steady_windows[0],
                       (int)steady_windows[1], (int)steady_windows[2]),
             err);
    return err->code;
}

static enum status work(struct session *s, struct err *err)
{
    const struct eval_settings *t = &s->set;
    struct runner_opts o = { .store = s->in->store,
                             .run = s->row.id,
                             .profile = t->of_profile,
                             .limits = t->limits,
                             .pace = t->pace,
                             .attempts = (uint32_t)t->attempts,
                             .outage_after = (uint32_t)t->outage_after,
                             .outage_ms = (uint32_t)t->outage_ms,
                             .backoff_ms = (uint32_t)t->backoff_ms,
                             .patience_ms = (uint32_t)t->patience_ms,
                             .where = s->in->engine ? "the engine" : t->endpoint,
                             .stop = s->in->stop,
                             .progress = s->in->progress,
                             .ctx = s->in->ctx };
    if (open_backend(s, err) != ST_OK)
        return err->code;
    o.backend = s->backend;
    if (s->set.self_test && self_test(s, err) != ST_OK)
        return err->code;
    return runner_run(&o, &s->out->ending, &s->out->last, s->out->note, err);
}

static enum status all(struct session *s, struct err *err)
{
    char param[SETTINGS_PARAM_MAX];
    if (eval_settings_read(s->in->doc, &s->set, param, err) != ST_OK)
        return err->code;
    if (!s->in->engine && !s->set.endpoint)
        return err_set(err, ST_ARG, "who is asked? give a model (-m) or an endpoint");
    if (prompt_open(s->set.prompt, &s->prompt, err) != ST_OK || find_or_make(s, err) != ST_OK)
        return err->code;
    snprintf(s->out->run, sizeof s->out->run, "%s", s->row.id);
    /* A run that was found by its identity has its items, unless it was killed while it got them.
     */
    bool has_all =
        !s->in->run && !s->out->made && s->row.counts.total == (int64_t)n_items(s) * s->set.repeats;
    if (s->in->set && !has_all && add_items(s, err) != ST_OK)
        return err_ctx(err, "run %s", s->row.id);
    if (s->set.reuse && reuse_answers(s, err) != ST_OK)
        return err_ctx(err, "run %s", s->row.id);
    if (s->in->begun)
        s->in->begun(s->in->ctx, &s->row, s->out->made);
    return s->in->only_make ? ST_OK : work(s, err);
}

enum status session_run(const struct session_in *in, struct session_out *out, struct err *err)
{
    struct session s = { .in = in, .out = out };
    *out = (struct session_out){ 0 };
    all(&s, err);
    backend_close(s.backend);
    prompt_free(s.prompt);
    json_free(s.manifest);
    run_row_clear(&s.row);
    return err->code;
}
