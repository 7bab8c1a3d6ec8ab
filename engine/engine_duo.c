/* engine/engine_duo.c - Duo traces for those who see the facade only. */
#include "engine/duo/figures.h"
#include "engine/duo/request.h"
#include "engine/engine.h"

enum status engine_duo_check(const json_t *config, char param[ENGINE_PARAM_MAX], struct err *err)
{
    struct duo_request r = { .model = NULL };
    _Static_assert((int)DUO_PARAM_MAX == (int)ENGINE_PARAM_MAX, "one size for names");
    duo_request_parse(config, &r, param, err);
    duo_request_clear(&r);
    return err->code;
}

enum status engine_duo_cost(const json_t *config, double *flops, struct err *err)
{
    struct duo_request r = { .model = NULL };
    struct duo_model m = { .params = NULL };
    struct duo_text t = { .token = NULL };
    char param[DUO_PARAM_MAX];
    if (duo_request_parse(config, &r, param, err) == ST_OK &&
        duo_request_open(&r, &m, &t, err) == ST_OK)
        *flops = duo_request_flops(&r, &m, t.n_tok);
    duo_text_clear(&t);
    duo_model_close(&m);
    duo_request_clear(&r);
    return err->code;
}

enum status engine_duo_trace(const json_t *config, const char *path,
                             bool (*go_on)(void *ctx, const char *what, uint64_t done,
                                           uint64_t total),
                             void *ctx, struct err *err)
{
    struct duo_request r = { .model = NULL };
    struct duo_trace *t = NULL;
    const struct duo_watch w = { go_on, ctx };
    char param[DUO_PARAM_MAX];
    if (duo_request_parse(config, &r, param, err) == ST_OK &&
        duo_request_run(&r, &w, &t, err) == ST_OK)
        duo_trace_save(t, path, err);
    duo_trace_free(t);
    duo_request_clear(&r);
    return err->code;
}

enum status engine_duo_figure(const char *path, struct str figure, int budget, int sequence,
                              json_t **ret, struct err *err)
{
    struct duo_trace *t = NULL;
    enum duo_figure f = DUO_F_CURVE;
    if (duo_figure_find(figure, &f, err) == ST_OK && duo_trace_load(path, &t, err) == ST_OK) {
        struct duo_figure_opts o = duo_figure_defaults(t);
        o.budget = budget >= 0 ? (uint32_t)budget : o.budget;
        o.sequence = sequence >= 0 ? (uint32_t)sequence : o.sequence;
        duo_figure_make(t, f, &o, ret, err);
    }
    duo_trace_free(t);
    return err->code;
}

static enum status add(const struct duo_trace *t, enum duo_figure f, const char *key, json_t *doc,
                       struct err *err)
{
    json_t *v = NULL;
    struct duo_figure_opts o = duo_figure_defaults(t);
    if (duo_figure_make(t, f, &o, &v, err) != ST_OK)
        return err->code;
    if (f == DUO_F_CURVE) { /* its curves stand in the document itself */
        json_t *curves = json_incref(json_object_get(v, key));
        json_free(v);
        v = curves;
    }
    return json_object_set_new(doc, key, v) == 0 ? ST_OK : err_set(err, ST_NOMEM, "%s", key);
}

enum status engine_duo_document(const char *path, bool tokens, json_t **ret, struct err *err)
{
    struct duo_trace *t = NULL;
    if (duo_trace_load(path, &t, err) != ST_OK)
        return err->code;
    json_t *doc = duo_header_json(t);
    if (!doc)
        err_set(err, ST_NOMEM, "document of a trace");
    else if (add(t, DUO_F_CURVE, "curves", doc, err) == ST_OK && tokens)
        add(t, DUO_F_TOKENS, "first_sequence", doc, err);
    duo_trace_free(t);
    if (err->code == ST_OK)
        *ret = doc;
    else
        json_free(doc);
    return err->code;
}
