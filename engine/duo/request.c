/* engine/duo/request.c - see request.h. */
#include "engine/duo/request.h"

#include "engine/base/file.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

enum { TOKENS_DEFAULT = 2048, SEQUENCE_DEFAULT = 256 };

void duo_request_clear(struct duo_request *r)
{
    free(r->model);
    free(r->text);
    free(r->file);
    free(r->pattern);
    *r = (struct duo_request){ .model = NULL };
}

struct reading {
    const json_t *o;
    struct duo_request *r;
    char *param;
    struct err *err;
};

static enum status refuse(struct reading *g, const char *key)
{
    if (g->err->code == ST_FORMAT)
        g->err->code = ST_ARG; /* of a file it would be the format */
    if (g->err->code != ST_OK && !g->param[0])
        snprintf(g->param, DUO_PARAM_MAX, "%s", key);
    return g->err->code;
}

static bool text_of(struct reading *g, const char *key, char **to)
{
    struct str s = { NULL, 0 };
    if (json_get_str(g->o, key, false, &s, g->err) == ST_OK && s.p) {
        free(*to);
        *to = str_dup(s);
        if (!*to)
            err_set(g->err, ST_NOMEM, "%s", key);
    }
    return refuse(g, key) == ST_OK;
}

static bool whole(struct reading *g, const char *key, int64_t min, int64_t max, int64_t *to)
{
    json_get_i64(g->o, key, false, min, max, to, g->err);
    return refuse(g, key) == ST_OK;
}

static bool only_known(struct reading *g)
{
    static const char *const keys[] = {
        "model",     "text",     "prompt",   "file",    "symbolic", "mode",
        "search",    "choices",  "budget",   "budgets", "random",   "width",
        "controls",  "tokens",   "sequence", "placebo", "nml",      "placebo_sigma",
        "committed", "searches", "seed",     "threads", "pattern",
    };
    const char *key = NULL;
    if (json_only_keys(g->o, keys, sizeof keys / sizeof keys[0], &key, g->err) == ST_OK)
        return true;
    snprintf(g->param, DUO_PARAM_MAX, "%.60s", key);
    return false;
}

/* A share of big layers, or a list of them: the searches look at all budgets anyway. */
static bool budgets(struct reading *g, double *first)
{
    const json_t *one = json_object_get(g->o, "budget"), *all = json_object_get(g->o, "budgets");
    size_t n = json_is_array(all) ? json_array_size(all) : all ? 1 : 0;
    if (all && !json_is_null(all) && (!json_is_array(all) || n == 0 || n > 64))
        err_set(g->err, ST_ARG, "'budgets' must be a list of 1 to 64 shares");
    for (size_t i = 0; i <= n && g->err->code == ST_OK; i++) {
        const json_t *v = i < n ? json_array_get(all, i) : one;
        if (!v || json_is_null(v))
            continue;
        if (!json_is_number(v))
            err_set(g->err, ST_ARG, "a budget is a number, 0 to 1");
        else if (!(json_number_value(v) >= 0 && json_number_value(v) <= 1))
            err_set(g->err, ST_RANGE, "budget: %g is outside 0..1, the share of big layers",
                    json_number_value(v));
        else
            *first = json_number_value(v);
    }
    return refuse(g, n ? "budgets" : "budget") == ST_OK;
}

static bool names_controls(struct reading *g)
{
    static const char *const names[] = { "nml",         "mixture",   "placebo", "subsample",
                                         "granularity", "committed", NULL };
    const json_t *a = json_object_get(g->o, "controls"), *v;
    size_t i;
    if (a && !json_is_null(a) && !json_is_array(a))
        err_set(g->err, ST_ARG, "'controls' must be a list of names");
    json_array_foreach((json_t *)(uintptr_t)a, i, v)
    {
        int k = 0;
        while (names[k] && (!json_is_string(v) || strcmp(names[k], json_string_value(v)) != 0))
            k++;
        if (!names[k])
            err_set(g->err, ST_ARG,
                    "controls: number %zu is none of nml, mixture, placebo, "
                    "subsample, granularity, committed (all are always computed)",
                    i);
    }
    return refuse(g, "controls") == ST_OK;
}

enum { ROUTER_ROUTES = 12 }; /* tried beside a router that is asked alone */

static void take_mode(struct reading *g, struct str mode)
{
    struct duo_measure *m = &g->r->measure;
    if (str_is(mode, "all"))
        return;
    if (str_is(mode, "oracle")) {
        m->no_router = true;
        return;
    }
    m->search.kind = DUO_RANDOM;
    g->r->needs_router = str_is(mode, "router");
    if (g->r->needs_router && !json_object_get(g->o, "random"))
        m->search.n_random = ROUTER_ROUTES;
    if (str_is(mode, "fixed") && g->r->pattern)
        m->search.kind = DUO_GIVEN;
    if (!g->r->needs_router && !str_is(mode, "random") && !str_is(mode, "fixed"))
        err_set(g->err, ST_ARG, "mode: '%.*s' is none of all, oracle, router, random, fixed",
                (int)(mode.n < 40 ? mode.n : 40), mode.p);
}

/* mode and search: which routes are tried. */
static bool routes(struct reading *g, double budget)
{
    struct duo_search *s = &g->r->measure.search;
    struct str mode = STR("all"), search = { NULL, 0 };
    if (!text_of(g, "pattern", &g->r->pattern))
        return false;
    if (json_get_str(g->o, "mode", false, &mode, g->err) == ST_OK)
        take_mode(g, mode);
    if (refuse(g, "mode") != ST_OK)
        return false;
    if (json_get_str(g->o, "search", false, &search, g->err) == ST_OK && search.p &&
        !duo_search_find(search, &s->kind))
        err_set(g->err, ST_ARG,
                "search: '%.*s' is none of exhaustive, naive, restricted, random, beam, fixed",
                (int)(search.n < 40 ? search.n : 40), search.p);
    if (g->err->code == ST_OK && s->kind == DUO_RESTRICTED && isnan(budget))
        err_set(g->err, ST_ARG, "search: restricted needs a budget");
    g->r->budget = budget;
    if (refuse(g, "search") != ST_OK)
        return false;
    if (g->r->pattern && s->kind != DUO_GIVEN)
        err_set(g->err, ST_ARG, "pattern: only mode fixed, or search fixed, has one");
    else if (!g->r->pattern && s->kind == DUO_GIVEN)
        err_set(g->err, ST_ARG, "pattern: search fixed needs one, a letter a layer");
    return refuse(g, "pattern") == ST_OK;
}

static bool numbers(struct reading *g)
{
    struct duo_measure *m = &g->r->measure;
    int64_t choices = 2, random = 100, width = 32, tokens = 0, sequence = 0, threads = 0;
    int64_t placebo = m->placebo, committed = (int64_t)m->committed, seed = 1;
    bool nml = true;
    if (!whole(g, "choices", 2, 3, &choices) || !whole(g, "random", 1, 100000, &random) ||
        !whole(g, "width", 1, 4096, &width) ||
        !whole(g, "tokens", 1, DUO_TRACE_TOKENS_MAX, &tokens) ||
        !whole(g, "sequence", 2, 1 << 20, &sequence) || !whole(g, "placebo", 0, 1024, &placebo) ||
        !whole(g, "committed", 0, DUO_TRACE_TOKENS_MAX, &committed) ||
        !whole(g, "seed", 0, INT64_C(9007199254740992), &seed) ||
        !whole(g, "threads", 0, 256, &threads))
        return false;
    json_get_f64(g->o, "placebo_sigma", false, 0, 10, &m->placebo_sigma, g->err);
    if (refuse(g, "placebo_sigma") == ST_OK)
        json_get_bool(g->o, "searches", false, &m->heuristics, g->err);
    if (refuse(g, "searches") == ST_OK)
        json_get_bool(g->o, "nml", false, &nml, g->err);
    m->search.n_choice = (uint32_t)choices;
    m->search.n_random = (uint32_t)random;
    m->search.width = (uint32_t)width;
    m->placebo = (uint32_t)placebo;
    m->committed = (size_t)committed;
    m->seed = (uint64_t)seed;
    m->no_nml = !nml;
    g->r->tokens = (size_t)tokens;
    g->r->sequence = (size_t)sequence;
    g->r->threads = (uint32_t)threads;
    return refuse(g, "nml") == ST_OK;
}

static bool words(struct reading *g)
{
    if (!text_of(g, "model", &g->r->model) || !text_of(g, "text", &g->r->text) ||
        !text_of(g, "prompt", &g->r->text) || !text_of(g, "file", &g->r->file))
        return false;
    json_get_bool(g->o, "symbolic", false, &g->r->symbolic, g->err);
    int given = (g->r->text != NULL) + (g->r->file != NULL) + g->r->symbolic;
    if (g->err->code == ST_OK && given != 1)
        err_set(g->err, ST_ARG,
                given ? "give one of text, file and symbolic, not several"
                      : "no text: give text, file or symbolic");
    return refuse(g, given || g->err->code == ST_FORMAT ? "symbolic" : "text") == ST_OK;
}

enum status duo_request_parse(const json_t *o, struct duo_request *ret, char param[DUO_PARAM_MAX],
                              struct err *err)
{
    struct duo_request r = { .model = NULL };
    struct reading g = { o, &r, param, err };
    double budget = (double)NAN;
    param[0] = '\0';
    duo_measure_init(&r.measure);
    if (json_is_object(o) && only_known(&g) && words(&g) && numbers(&g) && budgets(&g, &budget) &&
        names_controls(&g))
        routes(&g, budget);
    else if (err->code == ST_OK)
        err_set(err, ST_ARG, "settings must be a JSON object");
    if (err->code == ST_OK)
        *ret = r;
    else
        duo_request_clear(&r);
    return err->code;
}

double duo_request_flops(const struct duo_request *r, const struct duo_model *m, size_t n_tok)
{
    struct duo_header h = { .n_layer = 0 };
    duo_model_header(m, &h);
    double layers = duo_measure_cost(m, n_tok, &r->measure);
    double head = layers / 2 * h.flops_head; /* about one leaf for two evaluations */
    return layers * (h.flops_attn / 2 + (h.flops_big + h.flops_small) / 2) + head;
}

static enum status open_text(const struct duo_request *r, const struct duo_model *m,
                             struct duo_text *t, struct err *err)
{
    struct buf file = BUF_INIT;
    size_t cols = r->sequence ? r->sequence : SEQUENCE_DEFAULT;
    size_t most = r->tokens ? r->tokens : r->text ? strlen(r->text) + 1 : TOKENS_DEFAULT;
    if (r->sequence > m->shape.n_ctx)
        return err_set(err, ST_RANGE, "sequence: %zu tokens, the model's context is %u",
                       r->sequence, m->shape.n_ctx);
    cols = cols < m->shape.n_ctx ? cols : m->shape.n_ctx;
    if (r->text && !r->sequence)
        cols = m->shape.n_ctx < most ? m->shape.n_ctx : most < 2 ? 2 : most;
    if (r->text && strlen(r->text) > DUO_TEXT_BYTES_MAX)
        return err_set(err, ST_RANGE, "text: more than %d bytes", DUO_TEXT_BYTES_MAX);
    most = most < DUO_TRACE_TOKENS_MAX ? most : DUO_TRACE_TOKENS_MAX;
    if (duo_text_init(t, m, cols, most, err) != ST_OK)
        return err->code;
    if (r->symbolic)
        duo_text_symbolic(t, m, r->measure.seed, 0, err);
    else if (r->text)
        duo_text_plain(t, m, str_c(r->text), !r->sequence && !r->tokens, err);
    else if (file_slurp(r->file, DUO_TEXT_BYTES_MAX, &file, err) == ST_OK)
        duo_text_plain(t, m, buf_view(&file), false, err);
    const char *slash = r->file ? strrchr(r->file, '/') : NULL;
    snprintf(t->name, sizeof t->name, "%s",
             r->symbolic ? "strobe corpus, test split"
             : r->file   ? slash ? slash + 1 : r->file
                         : "text");
    buf_clear(&file);
    return err->code;
}

enum status duo_request_open(const struct duo_request *r, struct duo_model *m, struct duo_text *t,
                             struct err *err)
{
    if (!r->model)
        return err_set(err, ST_ARG, "no model");
    uint64_t route;
    if (duo_model_open(r->model, m, err) != ST_OK)
        return err->code;
    if (r->needs_router && !m->has_router)
        return err_set(err, ST_UNSUPPORTED,
                       "mode: this Duo model has no router: strobe duo router trains one");
    if (r->pattern && duo_pattern_parse(str_c(r->pattern), m->shape.n_layer, &route, err) != ST_OK)
        return err->code;
    if (open_text(r, m, t, err) == ST_OK)
        duo_search_check(&r->measure.search, m->shape.n_layer, t->n_tok, err);
    return err->code;
}

enum status duo_request_run(const struct duo_request *r, const struct duo_watch *w,
                            struct duo_trace **ret, struct err *err)
{
    struct duo_model m = { .params = NULL };
    struct duo_text t = { .token = NULL };
    struct pool *pool = NULL;
    struct duo_measure o = r->measure;
    if (w)
        o.watch = *w;
    if (duo_request_open(r, &m, &t, err) == ST_OK &&
        pool_create(r->threads ? r->threads : pool_cores(), &pool, err) == ST_OK) {
        if (!isnan(r->budget))
            o.search.budget = (uint32_t)(r->budget * m.shape.n_layer + 0.5);
        if (r->pattern)
            duo_pattern_parse(str_c(r->pattern), m.shape.n_layer, &o.search.given, err);
        duo_measure_run(&m, &t, &o, pool, ret, err);
    }
    pool_free(pool);
    duo_text_clear(&t);
    duo_model_close(&m);
    return err->code;
}
