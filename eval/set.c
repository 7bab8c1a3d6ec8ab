/* eval/set.c - see set.h. Families are templates that share an id: the levels of the public format
 * come from three files. A member is a family in a part: one plan each. */
#include "eval/set.h"

#include "engine/base/hash.h"
#include "eval/library.h"
#include "eval/series.h"

struct family {
    const char *id;
    const struct template *level[TPL_LEVELS];
    const char *source;
    struct space *space[TPL_LEVELS];
    const char **tag;
    uint32_t levels;
};

struct part {
    struct set_part pub;
    struct series **plan; /* [per_set], NULL: frozen */
    const struct lib_data *data;
    char name[80]; /* frozen: what its templates are called */
};

struct set {
    struct pools *pools;
    struct library lib;
    struct family *family;
    size_t n_family;
    struct part part[SET_VARIANTS_MAX * 2];
    size_t n_part;
    uint64_t size;
    char hash[65];
    char **note;
    size_t n_note;
};

static enum status say(struct set *s, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum status say(struct set *s, struct err *err, const char *fmt, ...)
{
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    char **more = realloc(s->note, (s->n_note + 1) * sizeof *more);
    if (more)
        s->note = more;
    char *text = buf_take(&b);
    if (!more || !text) {
        free(text);
        return err_set(err, ST_NOMEM, "a suite");
    }
    s->note[s->n_note++] = text;
    return ST_OK;
}

/* ---- templates ---- */

static bool chosen(const struct set_opts *o, const char *id)
{
    bool yes = o->n_only == 0;
    for (size_t i = 0; i < o->n_only && !yes; i++)
        yes = strcmp(o->only[i], id) == 0;
    return yes;
}

static struct family *family_of(struct set *s, const char *id)
{
    for (size_t i = 0; i < s->n_family; i++)
        if (s->family[i].id && strcmp(s->family[i].id, id) == 0)
            return &s->family[i];
    struct family *f = &s->family[s->n_family++];
    *f = (struct family){ .id = id };
    return f;
}

static enum status join(struct set *s, const struct lib_entry *e, struct err *err)
{
    struct family *f = family_of(s, e->name);
    for (int l = LEVEL_MIN; l <= LEVEL_MAX; l++) {
        if (!template_level(e->t, l)->present)
            continue;
        if (f->level[l - LEVEL_MIN])
            return err_set(err, ST_FORMAT, "two templates are called '%s' (%s and %s)", e->name,
                           f->source, e->source);
        f->level[l - LEVEL_MIN] = e->t;
        f->levels |= LEVEL_BIT(l);
    }
    f->source = e->source;
    if (!f->tag && e->t->n_tag) {
        f->tag = calloc(e->t->n_tag, sizeof *f->tag);
        if (!f->tag)
            return err_set(err, ST_NOMEM, "a suite");
        for (uint32_t i = 0; i < e->t->n_tag; i++)
            f->tag[i] = e->t->tag[i].p;
    }
    return ST_OK;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct family *)a)->id, ((const struct family *)b)->id);
}

static enum status load(struct set *s, const struct set_opts *o, struct err *err)
{
    if (pools_open(o->pools, &s->pools, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < o->n_path; i++)
        if (library_add(&s->lib, o->path[i], s->pools, o->max_items, err) != ST_OK)
            return err->code;
    if (o->text.n && library_add_text(&s->lib, o->text, "text", 0, s->pools, err) != ST_OK)
        return err->code;
    if (o->n_path == 0 && !o->text.n && library_add_builtin(&s->lib, s->pools, err) != ST_OK)
        return err->code;
    s->family = calloc(s->lib.n + 1, sizeof *s->family);
    if (!s->family)
        return err_set(err, ST_NOMEM, "a suite");
    for (size_t i = 0; i < s->lib.n; i++) {
        const struct lib_entry *e = &s->lib.entry[i];
        if (!chosen(o, e->name))
            continue;
        if (!e->t)
            return err_set(err, e->why.code, "%s: template '%s': %s", e->source, e->name,
                           e->why.msg);
        if (join(s, e, err) != ST_OK)
            return err->code;
    }
    for (size_t i = 0; i < o->n_only; i++) {
        bool found = false;
        for (size_t k = 0; k < s->n_family; k++)
            found |= s->family[k].id && strcmp(s->family[k].id, o->only[i]) == 0;
        if (!found)
            return err_set(err, ST_ARG, "there is no template '%s'", o->only[i]);
    }
    qsort(s->family, s->n_family, sizeof *s->family, by_id);
    return ST_OK;
}

/* ---- parts ---- */

static bool needs_numbers(enum variant v)
{
    return v == VARIANT_NUMBERS || v == VARIANT_BOTH || v == VARIANT_NOOP ||
           v == VARIANT_NOOP_CONTROL;
}

static enum status space_of(struct family *f, int level, const struct set_opts *o, struct err *err)
{
    struct space_opts so = { .matched = o->matched, .budget = o->budget };
    struct space **at = &f->space[level - LEVEL_MIN];
    if (*at)
        return ST_OK;
    if (space_open(f->level[level - LEVEL_MIN], level, &so, at, err) != ST_OK)
        return err_ctx(err, "template '%s' level %d", f->id, level);
    return ST_OK;
}

static enum status add_member(struct set *s, struct part *p, struct family *f,
                              const struct set_opts *o, struct err *err)
{
    int level = p->pub.what.level;
    const struct template *t = f->level[level - LEVEL_MIN];
    struct series_opts po = { .id = f->id,
                              .level = level,
                              .variant = p->pub.what.variant,
                              .seed = o->seed,
                              .pools_hash = pools_hash(s->pools),
                              .count = p->pub.n_set,
                              .any_audit = o->any_audit };
    if (needs_numbers(po.variant)) {
        if (space_of(f, level, o, err) != ST_OK)
            return err->code;
        po.space = f->space[level - LEVEL_MIN];
    }
    if (series_make(t, &po, &p->plan[p->pub.per_set], err) != ST_OK)
        return err_ctx(err, "template '%s'", f->id);
    uint32_t fresh = series_n_fresh(p->plan[p->pub.per_set++]);
    if (needs_numbers(po.variant) && fresh < po.count)
        say(s, err, "%s, %s, level %d: %u different assignments of numbers for %u sets", f->id,
            variant_name(po.variant), level, fresh, po.count);
    if (po.space && space_how(po.space) == SPACE_PART)
        say(s, err, "%s, level %d: too many combinations to search all; its draws are not uniform",
            f->id, level);
    if (po.space && o->matched && space_relaxed(po.space))
        say(s, err, "%s, level %d: not every number can keep the digits of its original", f->id,
            level);
    return err->code;
}

static bool has_levels(const struct family *f, const struct set_opts *o)
{
    bool all = true;
    for (size_t i = 0; i < o->n_variant && o->common_levels; i++)
        all &= (f->levels & LEVEL_BIT(o->variant[i].level)) != 0;
    return all;
}

static enum status add_part(struct set *s, struct set_variant what, const struct set_opts *o,
                            struct err *err)
{
    struct part *p = &s->part[s->n_part];
    uint32_t left_out = 0, count = o->count ? o->count : 50;
    const char *why = NULL, *reason = NULL;
    *p = (struct part){ .pub = { .what = what,
                                 .first = s->size,
                                 .n_set = what.variant == VARIANT_ORIGINAL ? 1 : count } };
    p->plan = calloc(s->n_family + 1, sizeof(struct series *));
    if (!p->plan)
        return err_set(err, ST_NOMEM, "a suite");
    s->n_part++;
    for (size_t i = 0; i < s->n_family; i++) {
        struct family *f = &s->family[i];
        const struct template *t = f->level[what.level - LEVEL_MIN];
        why = NULL;
        bool ok = t && has_levels(f, o) &&
                  series_possible(t, what.level, what.variant, o->any_audit, &why);
        if (!ok && why == series_no_memory)
            return err_set(err, ST_NOMEM, "a suite");
        if (ok && add_member(s, p, f, o, err) != ST_OK)
            return err->code;
        left_out += !ok;
        if (!ok)
            reason = !t ? "it has no such level" : why ? why : "it lacks another level asked for";
    }
    if (p->pub.per_set == 0)
        return err_set(err, ST_ARG, "no template has variant %s at level %d (%s)",
                       variant_name(what.variant), what.level, reason ? reason : "there is none");
    if (left_out)
        say(s, err, "%s, level %d: %u of %zu templates are left out (the last one: %s)",
            variant_name(what.variant), what.level, left_out, s->n_family, reason);
    s->size += (uint64_t)p->pub.n_set * p->pub.per_set;
    return err->code;
}

static enum status add_data(struct set *s, const struct lib_data *d, struct err *err)
{
    struct part *p = &s->part[s->n_part];
    const char *slash = strrchr(d->source, '/');
    int64_t last = 0;
    if (s->n_part == SET_VARIANTS_MAX * 2)
        return err_set(err, ST_RANGE, "too many files of rows");
    for (uint32_t i = 0; i < d->rows.n; i++)
        last = d->rows.row[i].instance > last ? d->rows.row[i].instance : last;
    *p = (struct part){ .pub = { .what = { VARIANT_FROZEN, 0 }, .first = s->size }, .data = d };
    p->pub.n_set = d->rows.generated ? (uint32_t)last + 1 : 1;
    p->pub.per_set = (d->rows.n + p->pub.n_set - 1) / p->pub.n_set;
    snprintf(p->name, sizeof p->name, "%.60s", slash ? slash + 1 : d->source);
    s->n_part++;
    s->size += d->rows.n;
    return ST_OK;
}

/* ---- identity ---- */

static void add_number(struct sha256 *h, const char *name, uint64_t v)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%s %llu\n", name, (unsigned long long)v);
    sha256_add(h, text, (size_t)n);
}

static void identify(struct set *s, const struct set_opts *o)
{
    struct sha256 h;
    sha256_init(&h);
    add_number(&h, "suite", 1);
    add_number(&h, "seed", o->seed);
    add_number(&h, "matched", o->matched);
    sha256_add(&h, pools_hash(s->pools), 64);
    for (size_t i = 0; i < s->n_part; i++) {
        const struct part *p = &s->part[i];
        add_number(&h, variant_name(p->pub.what.variant), (uint64_t)(p->pub.what.level + 8));
        add_number(&h, "sets", p->pub.n_set);
        if (p->data)
            sha256_add(&h, p->data->rows.hash, 64);
    }
    for (size_t i = 0; i < s->n_family; i++) {
        sha256_add(&h, s->family[i].id, strlen(s->family[i].id));
        for (int l = 0; l < TPL_LEVELS; l++)
            if (s->family[i].level[l])
                sha256_add(&h, s->family[i].level[l]->hash, 64);
    }
    sha256_hex(&h, s->hash);
}

static enum status fill(struct set *s, const struct set_opts *o, struct err *err)
{
    static const struct set_variant usual[] = { { VARIANT_ORIGINAL, 0 }, { VARIANT_BOTH, 0 } };
    size_t n = o->n_variant ? o->n_variant : 2;
    const struct set_variant *v = o->n_variant ? o->variant : usual;
    if (n > SET_VARIANTS_MAX || o->count > SET_COUNT_MAX || s->n_family > SET_TEMPLATES_MAX)
        return err_set(err, ST_RANGE, "at most %d variants, %d sets and %d templates",
                       SET_VARIANTS_MAX, SET_COUNT_MAX, SET_TEMPLATES_MAX);
    for (size_t i = 0; i < n && s->n_family; i++) {
        if (v[i].level < LEVEL_MIN || v[i].level > LEVEL_MAX)
            return err_set(err, ST_ARG, "levels are %d to %d", LEVEL_MIN, LEVEL_MAX);
        if (v[i].variant != VARIANT_FROZEN && add_part(s, v[i], o, err) != ST_OK)
            return err->code;
    }
    for (size_t i = 0; i < s->lib.n_data; i++)
        if (add_data(s, &s->lib.data[i], err) != ST_OK)
            return err->code;
    identify(s, o);
    return ST_OK;
}

enum status set_open(const struct set_opts *o, struct set **ret, struct err *err)
{
    struct set *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "a suite");
    if (load(s, o, err) != ST_OK || fill(s, o, err) != ST_OK) {
        set_free(s);
        return err->code;
    }
    *ret = s;
    return ST_OK;
}

void set_free(struct set *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_part; i++) {
        for (uint32_t k = 0; s->part[i].plan && k < s->part[i].pub.per_set; k++)
            series_free(s->part[i].plan[k]);
        free(s->part[i].plan);
    }
    for (size_t i = 0; i < s->n_family; i++) {
        for (int l = 0; l < TPL_LEVELS; l++)
            space_free(s->family[i].space[l]);
        free(s->family[i].tag);
    }
    for (size_t i = 0; i < s->n_note; i++)
        free(s->note[i]);
    free(s->note);
    free(s->family);
    library_clear(&s->lib);
    pools_free(s->pools);
    free(s);
}

/* ---- reading ---- */

uint64_t set_size(const struct set *s)
{
    return s->size;
}

static const struct part *part_of(const struct set *s, uint64_t i)
{
    const struct part *p = s->part;
    for (size_t k = 1; k < s->n_part; k++)
        if (s->part[k].pub.first <= i)
            p = &s->part[k];
    return p;
}

enum status set_item(const struct set *s, uint64_t i, struct item *ret, struct err *err)
{
    if (i >= s->size)
        return err_set(err, ST_RANGE, "item %llu of %llu", (unsigned long long)i,
                       (unsigned long long)s->size);
    const struct part *p = part_of(s, i);
    uint64_t at = i - p->pub.first;
    if (!p->data)
        return series_item(p->plan[at % p->pub.per_set], (uint32_t)(at / p->pub.per_set), ret, err);
    char id[128];
    const struct row *r = &p->data->rows.row[at];
    snprintf(id, sizeof id, "%s-%04lld", p->name, (long long)r->id);
    return row_item(r, id, ret, err);
}

uint64_t set_find(const struct set *s, const char *hash)
{
    for (uint64_t i = 0; i < s->size; i++) {
        struct item it;
        struct err err = ERR_INIT;
        if (set_item(s, i, &it, &err) != ST_OK)
            continue;
        bool same = strcmp(it.hash, hash) == 0;
        item_clear(&it);
        if (same)
            return i;
    }
    return UINT64_MAX;
}

size_t set_n_template(const struct set *s)
{
    return s->n_family;
}

struct set_template set_template(const struct set *s, size_t i)
{
    const struct family *f = &s->family[i];
    const struct template *t = NULL;
    for (int l = TPL_LEVELS - 1; l >= 0; l--)
        t = f->level[l] && (!t || l >= -LEVEL_MIN) ? f->level[l] : t;
    return (struct set_template){ .id = f->id,
                                  .title = t->title.p,
                                  .unit = t->unit.p,
                                  .source = f->source,
                                  .hash = t->hash,
                                  .tag = f->tag,
                                  .n_tag = f->tag ? t->n_tag : 0,
                                  .levels = f->levels };
}

size_t set_n_part(const struct set *s)
{
    return s->n_part;
}

struct set_part set_part(const struct set *s, size_t i)
{
    return s->part[i].pub;
}

const char *set_hash(const struct set *s)
{
    return s->hash;
}

size_t set_n_note(const struct set *s)
{
    return s->n_note;
}

const char *set_note(const struct set *s, size_t i)
{
    return s->note[i];
}
