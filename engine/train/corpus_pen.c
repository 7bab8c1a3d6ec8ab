/* engine/train/corpus_pen.c - the pen: markup (corpus_internal.h) becomes text, with a span for
 * every run of bytes of one class. The tables are ours, so malformed markup is asserted, not
 * reported. */
#include "engine/train/corpus_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

void corpus_pen_put(const struct corpus_pen *p, const char *text, size_t n, enum corpus_class c)
{
    struct corpus_spans *s = p->spans;
    uint32_t from = (uint32_t)p->out->n;
    buf_put(p->out, text, n);
    if (!s || n == 0 || p->out->failed)
        return;
    if (s->n && s->at[s->n - 1].class == c) {
        s->at[s->n - 1].to = (uint32_t)p->out->n;
        return;
    }
    assert(s->n < CORPUS_SPANS_MAX);
    s->at[s->n++] = (struct corpus_span){ from, (uint32_t)p->out->n, c };
}

static void put_z(const struct corpus_pen *p, const char *z, enum corpus_class c)
{
    corpus_pen_put(p, z, strlen(z), c);
}

static void put_number(const struct corpus_pen *p, int64_t v, enum corpus_class c)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, v);
    corpus_pen_put(p, text, (size_t)n, c);
}

/* What a slot that is one word stands for. */
struct slot_text {
    const char *text; /* NULL: not such a slot */
    enum corpus_class class;
};

static struct slot_text pronoun(struct str w, bool she, bool second)
{
    static const char *const forms[][3] = {
        { "he", "he", "she" },    { "He", "He", "She" },    { "him", "him", "her" },
        { "his", "his", "her" },  { "His", "His", "Her" },  { "kid", "boy", "girl" },
        { "he2", "he", "she" },   { "He2", "He", "She" },   { "him2", "him", "her" },
        { "his2", "his", "her" }, { "His2", "His", "Her" }, { "kid2", "boy", "girl" },
    };
    size_t half = sizeof forms / sizeof forms[0] / 2;
    for (size_t i = second ? half : 0; i < (second ? 2 * half : half); i++)
        if (str_is(w, forms[i][0]))
            return (struct slot_text){ forms[i][she ? 2 : 1], CORPUS_GLUE };
    return (struct slot_text){ NULL, CORPUS_GLUE };
}

static const struct corpus_noun *noun_of(const struct corpus_cast *c, char letter)
{
    static const char letters[] = "oujmkwxy";
    const char *at = letter ? strchr(letters, letter) : NULL;
    return at ? c->noun[at - letters] : NULL;
}

static struct slot_text beast(const struct corpus_cast *c, struct str w)
{
    enum corpus_noun_slot slot = str_ends(w, STR("2")) ? NOUN_BEAST2 : NOUN_BEAST;
    if (!str_is(w, "beast") && !str_is(w, "beast2"))
        return (struct slot_text){ NULL, CORPUS_GLUE };
    return (struct slot_text){ c->noun[slot]->one, CORPUS_OBJECT };
}

static struct slot_text noun_slot(const struct corpus_cast *c, struct str w)
{
    const struct corpus_noun *noun =
        w.n == 1 || (w.n == 2 && w.p[1] == '1') ? noun_of(c, w.p[0]) : NULL;
    if (!noun)
        return beast(c, w);
    return (struct slot_text){ w.n == 2 ? noun->one : noun->many, CORPUS_OBJECT };
}

static struct slot_text cast_word(const struct corpus_cast *c, struct str w)
{
    static const char *const names[WORDS] = { "in", "place", "color", "color2", "day", "day2" };
    for (int i = 0; i < WORDS; i++)
        if (str_is(w, names[i]))
            return (struct slot_text){ c->word[i], CORPUS_GLUE };
    return (struct slot_text){ NULL, CORPUS_GLUE };
}

static struct slot_text slot_text(const struct corpus_cast *c, struct str w)
{
    static const char people[] = "PQRT";
    const char *who = w.n == 1 ? strchr(people, w.p[0]) : NULL;
    if (who)
        return (struct slot_text){ c->name[who - people].text, CORPUS_NAME };
    struct slot_text t = pronoun(w, c->name[0].she, false);
    if (!t.text)
        t = pronoun(w, c->name[1].she, true);
    if (!t.text)
        t = noun_slot(c, w);
    return t.text ? t : cast_word(c, w);
}

/* ---- numbers and equations ---- */
static int given_index(struct str w)
{
    static const char letters[] = "abcdnp";
    const char *at = w.n == 1 ? strchr(letters, w.p[0]) : NULL;
    return at ? (int)(at - letters) : -1;
}

static void put_given(const struct corpus_pen *p, int64_t v)
{
    assert(v >= 2);
    put_number(p, v, p->item ? CORPUS_GIVEN : CORPUS_COPY);
    if (p->item) {
        assert(p->item->n_number < CORPUS_NUMBERS_MAX);
        p->item->number[p->item->n_number++] = v;
    }
}

static void put_equation(const struct corpus_pen *p, const struct corpus_step *s)
{
    char op[4] = { ' ', s->op, ' ', '\0' };
    put_number(p, s->left, s->left_fact ? CORPUS_FACT : CORPUS_COPY);
    put_z(p, op, CORPUS_GLUE);
    put_number(p, s->right, s->right_fact ? CORPUS_FACT : CORPUS_COPY);
    put_z(p, " = ", CORPUS_GLUE);
    put_number(p, s->result, CORPUS_RESULT);
}

/* The noun behind the number v: a slot's letter, or a word "day" or "foot/feet". */
static void put_counted(const struct corpus_pen *p, struct str w, int64_t v)
{
    const struct corpus_noun *noun = w.n == 1 ? noun_of(p->cast, w.p[0]) : NULL;
    size_t slash = str_find(w, STR("/"), 0);
    if (noun) {
        put_z(p, v == 1 ? noun->one : noun->many, CORPUS_OBJECT);
    } else if (slash != SIZE_MAX) {
        size_t from = v == 1 ? 0 : slash + 1;
        corpus_pen_put(p, w.p + from, v == 1 ? slash : w.n - from, CORPUS_GLUE);
    } else {
        corpus_pen_put(p, w.p, w.n, CORPUS_GLUE);
        corpus_pen_put(p, "s", v == 1 ? 0 : 1, CORPUS_GLUE);
    }
}

/* ---- slots ---- */
static struct str next_word(struct str *rest)
{
    size_t n = 0;
    while (n < rest->n && rest->p[n] != ' ')
        n++;
    struct str w = { rest->p, n };
    size_t skip = n < rest->n ? n + 1 : n;
    rest->p += skip;
    rest->n -= skip;
    return w;
}

/* The words behind a number: all but the last stand as they are. */
static void put_rest(const struct corpus_pen *p, struct str rest, int64_t v)
{
    while (rest.n) {
        struct str w = next_word(&rest);
        corpus_pen_put(p, " ", 1, CORPUS_GLUE);
        if (rest.n)
            corpus_pen_put(p, w.p, w.n, CORPUS_GLUE);
        else
            put_counted(p, w, v);
    }
}

static void put_article(const struct corpus_pen *p, bool capital, struct str word)
{
    struct slot_text t = slot_text(p->cast, word);
    assert(t.text);
    bool vowel = strchr("aeiou", t.text[0]) != NULL;
    put_z(p, capital ? "A" : "a", CORPUS_GLUE);
    put_z(p, vowel ? "n " : " ", CORPUS_GLUE);
    put_z(p, t.text, t.class);
}

static void put_slot(const struct corpus_pen *p, struct str slot)
{
    struct str rest = slot, w = next_word(&rest);
    int given = given_index(w);
    if (given >= 0) {
        put_given(p, p->cast->given[given]);
        put_rest(p, rest, p->cast->given[given]);
    } else if (str_is(w, "=")) {
        assert(p->cast->step);
        put_equation(p, p->cast->step);
        put_rest(p, rest, p->cast->step->result);
    } else if (str_is(w, "an") || str_is(w, "An")) {
        put_article(p, w.p[0] == 'A', rest);
    } else {
        struct slot_text t = slot_text(p->cast, w);
        assert(t.text && rest.n == 0);
        put_z(p, t.text, t.class);
    }
}

static void write_run(const struct corpus_pen *p, struct str text);

static void put_choice(const struct corpus_pen *p, struct str inside)
{
    uint32_t n = 1;
    for (size_t i = 0; i < inside.n; i++)
        n += inside.p[i] == '|';
    uint64_t pick = rng_below(p->rng, n);
    size_t from = 0;
    for (; pick; pick--)
        from = str_find(inside, STR("|"), from) + 1;
    size_t to = str_find(inside, STR("|"), from);
    write_run(p, (struct str){ inside.p + from, (to == SIZE_MAX ? inside.n : to) - from });
}

static void write_run(const struct corpus_pen *p, struct str text)
{
    size_t at = 0;
    while (at < text.n) {
        char open = text.p[at];
        if (open == '[' || open == '{') {
            size_t end = str_find(text, open == '[' ? STR("]") : STR("}"), at);
            assert(end != SIZE_MAX);
            struct str inside = { text.p + at + 1, end - at - 1 };
            if (open == '[')
                put_choice(p, inside);
            else
                put_slot(p, inside);
            at = end + 1;
            continue;
        }
        size_t run = 0;
        while (at + run < text.n && text.p[at + run] != '[' && text.p[at + run] != '{')
            run++;
        corpus_pen_put(p, text.p + at, run, CORPUS_GLUE);
        at += run;
    }
}

void corpus_pen_part(const struct corpus_pen *p, struct str markup)
{
    write_run(p, markup);
}

void corpus_pen(const struct corpus_pen *p, const char *markup)
{
    write_run(p, str_c(markup));
}
