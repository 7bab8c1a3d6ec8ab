/* server/cli_corpus_score.c - `strobe corpus score`, and the tallies that `eval` fills too: right
 * answers by split, number of steps and family, with Wilson's intervals. */
#include "server/cli_corpus.h"

#include <inttypes.h>

enum { FILE_MAX = 1 << 30 };

enum status tallies_init(struct tallies *t, struct err *err)
{
    *t = (struct tallies){ 0 };
    t->family = calloc((size_t)CORPUS_SPLITS * corpus_n_family(), sizeof *t->family);
    return t->family ? ST_OK : err_set(err, ST_NOMEM, "tallies");
}

void tallies_clear(struct tallies *t)
{
    free(t->family);
    *t = (struct tallies){ 0 };
}

static void count(struct tally *t, bool said, bool right)
{
    t->n++;
    t->silent += !said;
    t->right += right;
}

bool tallies_add(struct tallies *t, enum corpus_split split, struct str family, uint32_t steps,
                 int64_t gold, struct str response, int64_t *number)
{
    bool said = corpus_gold(response, number), right = said && *number == gold;
    count(&t->steps[split][0], said, right);
    if (steps)
        count(&t->steps[split][steps], said, right);
    for (uint32_t f = 0; f < corpus_n_family(); f++)
        if (str_is(family, corpus_family_name(f)))
            count(&t->family[split * corpus_n_family() + f], said, right);
    return said;
}

/* ---- the result ---- */
static json_t *tally_json(const struct tally *t)
{
    double low, high;
    corpus_wilson(t->right, t->n, &low, &high);
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "n", (json_int_t)t->n, "correct",
                     (json_int_t)t->right, "no_answer", (json_int_t)t->silent, "accuracy",
                     t->n ? (double)t->right / (double)t->n : 0, "low", low, "high", high);
}

/* Appends t with one more member; nothing where t is empty. Takes value. */
static void add_tally(json_t *list, const struct tally *t, const char *key, json_t *value)
{
    json_t *row = t->n ? tally_json(t) : NULL;
    if (!row) {
        json_free(value);
        return;
    }
    json_object_set_new(row, key, value);
    json_array_append_new(list, row);
}

static json_t *split_json(const struct tallies *t, int split)
{
    json_t *row = tally_json(&t->steps[split][0]), *steps = json_array(), *families = json_array();
    for (uint32_t s = 1; s <= CORPUS_STEPS_MAX; s++)
        add_tally(steps, &t->steps[split][s], "steps", json_integer(s));
    for (uint32_t f = 0; f < corpus_n_family(); f++)
        add_tally(families, &t->family[(uint32_t)split * corpus_n_family() + f], "family",
                  json_string(corpus_family_name(f)));
    json_object_set_new(row, "split", json_string(corpus_split_name((enum corpus_split)split)));
    json_object_set_new(row, "steps", steps);
    json_object_set_new(row, "families", families);
    return row;
}

json_t *tallies_json(const struct tallies *t)
{
    json_t *splits = json_array();
    for (int s = 0; s < CORPUS_SPLITS; s++)
        if (t->steps[s][0].n)
            json_array_append_new(splits, split_json(t, s));
    return splits;
}

static void print_row(const char *split, const char *steps, const struct tally *t)
{
    double low, high;
    if (t->n == 0)
        return;
    corpus_wilson(t->right, t->n, &low, &high);
    printf("%-12s %5s %6" PRIu64 " %7" PRIu64 " %9" PRIu64 "   %5.1f %%   %5.1f to %5.1f\n", split,
           steps, t->n, t->right, t->silent, 1e2 * (double)t->right / (double)t->n, 1e2 * low,
           1e2 * high);
}

void tallies_head(void)
{
    printf("split        steps      n   right no answer  accuracy   95 %% interval\n");
}

void tallies_print(const struct tallies *t, enum corpus_split split)
{
    const char *name = corpus_split_name(split);
    char text[8];
    for (uint32_t s = 1; s <= CORPUS_STEPS_MAX; s++) {
        snprintf(text, sizeof text, "%u", s);
        print_row(name, text, &t->steps[split][s]);
    }
    print_row(name, "all", &t->steps[split][0]);
    fflush(stdout);
}

/* ---- score ---- */
static enum status score_line(struct tallies *t, struct str line, struct err *err)
{
    json_t *doc = NULL;
    struct str name, family = STR(""), response;
    enum corpus_split split;
    int64_t gold, number, steps = 0;
    if (json_parse(line, "answer", &doc, err) != ST_OK)
        return err->code;
    if (json_get_str(doc, "split", true, &name, err) == ST_OK &&
        json_get_str(doc, "family", false, &family, err) == ST_OK &&
        json_get_str(doc, "response", true, &response, err) == ST_OK &&
        json_get_i64(doc, "steps", false, 0, CORPUS_STEPS_MAX, &steps, err) == ST_OK &&
        json_get_i64(doc, "gold", true, INT64_MIN, INT64_MAX, &gold, err) == ST_OK) {
        if (corpus_split_find(name, &split))
            tallies_add(t, split, family, (uint32_t)steps, gold, response, &number);
        else
            err_set(err, ST_FORMAT, "there is no split '%.*s'", (int)name.n, name.p);
    }
    json_free(doc);
    return err->code;
}

static enum status score_lines(struct tallies *t, struct str text, struct err *err)
{
    for (size_t from = 0, n = 1; from < text.n; n++) {
        size_t end = str_find(text, STR("\n"), from);
        struct str line = { text.p + from, (end == SIZE_MAX ? text.n : end) - from };
        if (str_trim(line).n && score_line(t, line, err) != ST_OK)
            return err_ctx(err, "line %zu", n);
        from += line.n + 1;
    }
    return ST_OK;
}

enum status cli_corpus_score(struct cli *c, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    struct tallies t = { 0 };
    if (cli_read_all(path, FILE_MAX, &text, err) != ST_OK || tallies_init(&t, err) != ST_OK)
        goto out;
    if (score_lines(&t, buf_view(&text), err) != ST_OK) {
        err_ctx(err, "'%s'", path);
        goto out;
    }
    if (c->json) {
        cli_print_json(json_pack("{s:o}", "splits", tallies_json(&t)), err);
        goto out;
    }
    tallies_head();
    for (int s = 0; s < CORPUS_SPLITS; s++)
        tallies_print(&t, (enum corpus_split)s);
out:
    tallies_clear(&t);
    buf_clear(&text);
    return err->code;
}
