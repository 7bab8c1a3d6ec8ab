/* engine/train/shape_json.c - see shape_json.h. */
#include "engine/train/shape_json.h"

#include <float.h>
#include <stddef.h>

enum kind { COUNT, REAL, SWITCH, CHOICE };

struct field {
    const char *name;
    enum kind kind;
    size_t at;
    const char *const *words; /* CHOICE: NULL-ended, in the enum's order */
    bool later;               /* files from before it was there lack it: zero */
};

static const char *const norm_words[] = { "rms", "layer", NULL };
static const char *const pos_words[] = { "rope", "learned", NULL };
static const char *const act_words[] = { "silu", "gelu", "relu", "relu2", "fatrelu", NULL };

#define F(kind, name)                                                                              \
    {                                                                                              \
#name, kind, offsetof(struct net_shape, name), NULL, false                                 \
    }
#define W(name, words)                                                                             \
    {                                                                                              \
#name, CHOICE, offsetof(struct net_shape, name), words, false                              \
    }
#define L(kind, name)                                                                              \
    {                                                                                              \
#name, kind, offsetof(struct net_shape, name), NULL, true                                  \
    }
static const struct field fields[] = {
    F(COUNT, n_vocab),     F(COUNT, n_ctx),      F(COUNT, n_layer),   F(COUNT, d_model),
    F(COUNT, n_head),      F(COUNT, n_kv_head),  F(COUNT, d_head),    F(COUNT, d_ff),
    W(norm, norm_words),   W(pos, pos_words),    W(act, act_words),   F(SWITCH, gated),
    F(SWITCH, up_relu),    F(SWITCH, norm_relu), F(SWITCH, tied),     F(SWITCH, bias),
    F(REAL, act_shift),    F(REAL, norm_eps),    F(REAL, rope_theta), L(COUNT, d_small),
    L(SWITCH, skip_layer),
};
#undef F
#undef L
#undef W
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

/* Enums are read and written as what the compiler made of them. */
static uint32_t choice(const struct net_shape *s, const struct field *f)
{
    if (f->at == offsetof(struct net_shape, norm))
        return (uint32_t)s->norm;
    if (f->at == offsetof(struct net_shape, pos))
        return (uint32_t)s->pos;
    return (uint32_t)s->act;
}

static void choose(struct net_shape *s, const struct field *f, uint32_t v)
{
    if (f->at == offsetof(struct net_shape, norm))
        s->norm = (enum net_norm)v;
    else if (f->at == offsetof(struct net_shape, pos))
        s->pos = (enum net_pos)v;
    else
        s->act = (enum net_act)v;
}

static json_t *dump_field(const struct net_shape *s, const struct field *f)
{
    const char *p = (const char *)s + f->at;
    switch (f->kind) {
    case COUNT:
        return json_integer(*(const uint32_t *)p);
    case REAL:
        return json_real(*(const double *)p);
    case SWITCH:
        return json_boolean(*(const bool *)p);
    case CHOICE:
        break;
    }
    return json_string(f->words[choice(s, f)]);
}

json_t *shape_dump(const struct net_shape *s)
{
    json_t *obj = json_object();
    for (int i = 0; obj && i < N_FIELDS; i++)
        if (json_object_set_new(obj, fields[i].name, dump_field(s, &fields[i])) != 0) {
            json_free(obj);
            return NULL;
        }
    return obj;
}

static enum status parse_choice(const json_t *obj, const struct field *f, struct net_shape *s,
                                struct err *err)
{
    struct str word;
    if (json_get_str(obj, f->name, true, &word, err) != ST_OK)
        return err->code;
    for (uint32_t i = 0; f->words[i]; i++)
        if (str_is(word, f->words[i])) {
            choose(s, f, i);
            return ST_OK;
        }
    return err_set(err, ST_FORMAT, "'%s' is '%.*s'", f->name, (int)(word.n < 40 ? word.n : 40),
                   word.p);
}

static enum status parse_field(const json_t *obj, const struct field *f, struct net_shape *s,
                               struct err *err)
{
    char *p = (char *)s + f->at;
    int64_t n = 0;
    if (f->later && !json_object_get(obj, f->name))
        return ST_OK;
    switch (f->kind) {
    case COUNT:
        if (json_get_i64(obj, f->name, true, 0, UINT32_MAX, &n, err) == ST_OK)
            *(uint32_t *)p = (uint32_t)n;
        return err->code;
    case REAL:
        return json_get_f64(obj, f->name, true, -DBL_MAX, DBL_MAX, (double *)p, err);
    case SWITCH:
        if (!json_is_boolean(json_object_get(obj, f->name)))
            return err_set(err, ST_FORMAT, "'%s' must be true or false", f->name);
        return json_get_bool(obj, f->name, true, (bool *)p, err);
    case CHOICE:
        break;
    }
    return parse_choice(obj, f, s, err);
}

enum status shape_parse(const json_t *obj, struct net_shape *ret, struct err *err)
{
    struct net_shape s = { 0 };
    if (!json_is_object(obj))
        return err_set(err, ST_FORMAT, "'shape' must be an object");
    for (int i = 0; i < N_FIELDS; i++)
        if (parse_field(obj, &fields[i], &s, err) != ST_OK)
            return err_ctx(err, "shape");
    *ret = s;
    return ST_OK;
}

static void field_text(const struct net_shape *s, const struct field *f, char out[40])
{
    const char *p = (const char *)s + f->at;
    if (f->kind == COUNT)
        snprintf(out, 40, "%u", *(const uint32_t *)p);
    else if (f->kind == REAL)
        snprintf(out, 40, "%.17g", *(const double *)p);
    else if (f->kind == SWITCH)
        snprintf(out, 40, "%s", *(const bool *)p ? "true" : "false");
    else
        snprintf(out, 40, "%s", f->words[choice(s, f)]);
}

enum status shape_same(const struct net_shape *there, const struct net_shape *here, struct err *err)
{
    for (int i = 0; i < N_FIELDS; i++) {
        char a[40], b[40];
        field_text(there, &fields[i], a);
        field_text(here, &fields[i], b);
        if (strcmp(a, b) != 0)
            return err_set(err, ST_ARG, "%s is %s there and %s here", fields[i].name, a, b);
    }
    return ST_OK;
}
