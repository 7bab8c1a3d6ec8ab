/* eval/render.c - from values to text: morphology, capital letters at the start of sentences,
 * single spaces, and where each substitution stands. */
#include "eval/series.h"
#include "eval/words.h"

static void put_char(struct rendered *r, char c)
{
    if (c == ' ' && (r->text.n == 0 || r->text.p[r->text.n - 1] == ' '))
        return;
    buf_char(&r->text, c);
}

static void put_text(struct rendered *r, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        put_char(r, s.p[i]);
}

static bool sentence_start(const struct rendered *r)
{
    size_t i = r->text.n;
    while (i > 0 && (r->text.p[i - 1] == ' ' || r->text.p[i - 1] == '\n'))
        i--;
    if (i == 0)
        return true;
    return i < r->text.n && strchr(".?!", r->text.p[i - 1]) != NULL;
}

static void capital(struct buf *b, size_t at)
{
    if (at < b->n && b->p[at] >= 'a' && b->p[at] <= 'z')
        b->p[at] = (char)(b->p[at] - 32);
}

static bool add_span(struct rendered *r, const struct tvar *v, const struct value *val,
                     size_t begin)
{
    if (r->n_span == r->cap_span) {
        uint32_t cap = r->cap_span ? 2 * r->cap_span : 16;
        struct item_span *more = realloc(r->span, cap * sizeof *more);
        if (!more)
            return false;
        r->span = more;
        r->cap_span = cap;
    }
    struct item_span s = { .name = str_dup(v->name),
                           .kind = v->kind,
                           .has_number = val->kind == VALUE_NUM,
                           .number = { 0, 1 },
                           .begin = (uint32_t)begin,
                           .end = (uint32_t)r->text.n };
    if (s.has_number)
        s.number = val->r;
    if (!s.name)
        return false;
    r->span[r->n_span++] = s;
    return true;
}

static const char *pronoun(enum filter f, char gender)
{
    static const char *const table[3][3] = { { "he", "him", "his" },
                                             { "she", "her", "her" },
                                             { "they", "them", "their" } };
    int who = gender == 'm' ? 0 : gender == 'f' ? 1 : 2;
    return table[who][f == FILTER_HE ? 0 : f == FILTER_HIM ? 1 : 2];
}

static void money(struct rational r, struct buf *out)
{
    struct rational cents;
    if (r.d == 1 || !rat_mul(r, rat_int(100), &cents) || cents.d != 1)
        rat_print(r, out);
    else
        buf_printf(out, "%s%lld.%02lld", cents.n < 0 ? "-" : "",
                   (long long)((cents.n < 0 ? -cents.n : cents.n) / 100),
                   (long long)((cents.n < 0 ? -cents.n : cents.n) % 100));
}

/* What the variable's value looks like behind the filter. */
static void filtered(const struct template *t, const struct piece *p, const struct draw *d,
                     struct buf *out)
{
    const struct value *v = &d->val[p->var];
    const struct word *w = d->word[p->var];
    enum value_print how = t->public_format || v->s.n ? VALUE_WORDS : VALUE_CLEAN;
    switch (p->filter) {
    case FILTER_PLURAL:
        if (w && w->plural.n)
            buf_str(out, w->plural);
        else
            word_plural(v->s, out);
        return;
    case FILTER_A:
        buf_z(out, word_an(v->s) ? "an " : "a ");
        break;
    case FILTER_HE:
    case FILTER_HIM:
    case FILTER_HIS:
        buf_z(out, pronoun(p->filter, w ? w->gender : 0));
        return;
    case FILTER_MONEY:
        money(v->r, out);
        return;
    case FILTER_WORDS:
        if (v->r.d == 1)
            words_number(v->r.n, '-', out);
        else if (!words_fraction(v->r, out))
            rat_print(v->r, out);
        return;
    default:
        break;
    }
    if (p->filter == FILTER_DIGITS)
        rat_print(v->r, out);
    else
        value_print(v, how, out);
}

static void variable(const struct template *t, const struct piece *p, const struct draw *d,
                     struct rendered *r)
{
    struct buf b = BUF_INIT;
    bool start = sentence_start(r);
    filtered(t, p, d, &b);
    if (start || p->cap)
        capital(&b, 0);
    size_t begin = r->text.n;
    put_text(r, buf_view(&b));
    r->failed |= b.failed;
    buf_clear(&b);
    bool pronoun_only =
        p->filter == FILTER_HE || p->filter == FILTER_HIM || p->filter == FILTER_HIS;
    if (!pronoun_only && r->text.n > begin && !add_span(r, &t->var[p->var], &d->val[p->var], begin))
        r->failed = true;
}

void render_pieces(const struct template *t, const struct pieces *p, int level,
                   const struct draw *d, struct rendered *out)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const struct piece *x = &p->piece[i];
        if (!(x->levels & LEVEL_BIT(level)))
            continue;
        if (x->var >= 0)
            variable(t, x, d, out);
        else
            put_text(out, x->text);
    }
    while (out->text.n &&
           (out->text.p[out->text.n - 1] == ' ' || out->text.p[out->text.n - 1] == '\n'))
        out->text.p[--out->text.n] = '\0';
    out->failed |= out->text.failed;
}

void rendered_clear(struct rendered *r)
{
    for (uint32_t i = 0; i < r->n_span; i++)
        free(r->span[i].name);
    free(r->span);
    buf_clear(&r->text);
    *r = (struct rendered){ 0 };
}

/* Where the last sentence begins. */
static size_t last_sentence(struct str s)
{
    for (size_t i = s.n; i > 2; i--)
        if ((s.p[i - 2] == ' ' || s.p[i - 2] == '\n') && strchr(".?!", s.p[i - 3]))
            return i - 1;
    return 0;
}

/* clause goes into text at `at`, with a blank behind it; its spans move in among the others. */
static bool insert(struct rendered *text, struct rendered *clause, size_t at)
{
    struct buf b = BUF_INIT;
    buf_put(&b, text->text.p, at);
    buf_str(&b, buf_view(&clause->text));
    buf_char(&b, ' ');
    buf_put(&b, text->text.p + at, text->text.n - at);
    uint32_t n = text->n_span + clause->n_span, first = 0;
    struct item_span *all = n ? calloc(n, sizeof *all) : NULL;
    if (b.failed || (n && !all)) {
        buf_clear(&b);
        free(all);
        return false;
    }
    while (first < text->n_span && text->span[first].begin < at)
        first++;
    uint32_t shift = (uint32_t)clause->text.n + 1;
    for (uint32_t i = 0; i < n; i++) {
        bool inside = i >= first && i < first + clause->n_span;
        all[i] = inside ? clause->span[i - first] : text->span[i < first ? i : i - clause->n_span];
        uint32_t by = inside ? (uint32_t)at : i < first ? 0 : shift;
        all[i].begin += by;
        all[i].end += by;
    }
    buf_clear(&text->text);
    free(text->span);
    free(clause->span);
    clause->span = NULL;
    clause->n_span = 0;
    text->text = b;
    text->span = all;
    text->n_span = text->cap_span = n;
    return true;
}

enum status render_question(const struct template *t, int level, const struct draw *d,
                            const struct noop *noop, bool control, struct rendered *out,
                            struct err *err)
{
    render_pieces(t, &t->question, level, d, out);
    if (noop && !out->failed) {
        struct rendered clause = { 0 };
        render_pieces(t, control ? &noop->control : &noop->clause, level, d, &clause);
        out->failed |= clause.failed || !insert(out, &clause, last_sentence(buf_view(&out->text)));
        rendered_clear(&clause);
    }
    return out->failed ? err_set(err, ST_NOMEM, "a question") : ST_OK;
}

enum status render_solution(const struct template *t, int level, const struct draw *d,
                            struct buf *out, struct err *err)
{
    struct mem mem = { .cap = 1 << 20 };
    struct rendered r = { 0 };
    enum value_print how = t->public_format ? VALUE_PUBLIC : VALUE_CLEAN;
    for (uint32_t i = 0; i < t->solution.n && err->code == ST_OK; i++) {
        const struct piece *x = &t->solution.piece[i];
        struct expr_run run = { .var = d->val, .n_var = t->n_var, .mem = &mem };
        struct value v;
        if (!(x->levels & LEVEL_BIT(level)))
            continue;
        if (x->var >= 0) {
            variable(t, x, d, &r);
        } else if (x->expr && expr_value(x->expr, &run, &v, err) == ST_OK) {
            struct buf b = BUF_INIT;
            value_print(&v, how, &b);
            put_text(&r, buf_view(&b));
            r.failed |= b.failed;
            buf_clear(&b);
        } else if (!x->expr) {
            put_text(&r, x->text);
        }
    }
    while (r.text.n && strchr(" \n", r.text.p[r.text.n - 1]))
        r.text.p[--r.text.n] = '\0';
    if (err->code == ST_OK) {
        buf_str(out, buf_view(&r.text));
        if (r.failed || r.text.failed || out->failed)
            err_set(err, ST_NOMEM, "a solution");
    } else {
        err_ctx(err, "solution");
    }
    rendered_clear(&r);
    mem_clear(&mem);
    return err->code;
}
