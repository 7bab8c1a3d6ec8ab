/* tests/fuzz/fuzz_template.c - any bytes as a template file, native or public (the first byte says
 * which set), and as rows. What is read is checked and drawn from; every item has a question, a
 * reduced gold and spans inside its text. Large spaces are left out: they take their time by
 * design. */
#include "eval/check.h"
#include "eval/series.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct pools *pools;

static void look(const struct item *it)
{
    size_t n = strlen(it->question);
    assert(it->gold.d > 0 && it->gold_text[0]);
    for (uint32_t i = 0; i < it->n_span; i++)
        assert(it->span[i].begin < it->span[i].end && it->span[i].end <= n);
    for (uint32_t i = 0; i < it->n_trap; i++)
        assert(!rat_eq(it->trap[i].value, it->gold));
}

static bool small(const struct template *t)
{
    uint64_t product = 1;
    for (uint32_t i = 0; i < t->n_slot; i++)
        if (__builtin_mul_overflow(product, t->slot[i].size, &product) || product > 20000)
            return false;
    return true;
}

static void draw(struct template *t, int level, enum variant v, struct space *s)
{
    struct err err = ERR_INIT;
    struct series *p;
    struct series_opts o = {
        .level = level, .variant = v, .count = 3, .space = s, .any_audit = true
    };
    if (!series_possible(t, level, v, true, NULL) || series_make(t, &o, &p, &err) != ST_OK)
        return;
    for (uint32_t i = 0; i < 3; i++) {
        struct item it;
        struct err why = ERR_INIT;
        if (series_item(p, i, &it, &why) != ST_OK)
            continue;
        look(&it);
        item_clear(&it);
    }
    series_free(p);
}

static void use(struct template *t)
{
    struct err err = ERR_INIT;
    struct check_result r;
    struct check_opts o = { .n_answer = 20, .n_text = 5 };
    if (!small(t))
        return;
    check_template(t, pools, &o, &r, &err);
    for (int level = LEVEL_MIN; level <= LEVEL_MAX; level++) {
        struct space *s = NULL;
        struct space_opts so = { .matched = level & 1 };
        struct err why = ERR_INIT;
        if (!template_level(t, level)->present || space_open(t, level, &so, &s, &why) != ST_OK)
            continue;
        for (int v = 0; v < VARIANT_FROZEN; v++)
            draw(t, level, (enum variant)v, s);
        space_free(s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err err = ERR_INIT;
    struct library l = { 0 };
    struct rows rows;
    if (!pools && pools_open(NULL, &pools, &err) != ST_OK)
        return 0;
    if (n == 0 || n > 20000)
        return 0;
    struct str text = { (const char *)data + 1, n - 1 };
    if (library_add_text(&l, text, "fuzz", data[0] % 3, pools, &err) == ST_OK) {
        for (size_t i = 0; i < l.n; i++) {
            if (l.entry[i].t)
                use(l.entry[i].t);
            else
                assert(l.entry[i].why.msg[0]);
            json_free(check_json(&l.entry[i], NULL));
        }
    }
    library_clear(&l);
    struct err why = ERR_INIT;
    if (rows_parse(text, "fuzz", 0, &rows, &why) == ST_OK)
        rows_clear(&rows);
    return 0;
}
