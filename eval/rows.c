/* eval/rows.c - see rows.h. */
#include "eval/rows.h"

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/base/json.h"
#include "eval/words.h"

static bool gold_of(struct str answer, struct rational *ret)
{
    size_t at = SIZE_MAX, next = 0;
    while ((next = str_find(answer, STR("####"), next)) != SIZE_MAX)
        at = next++;
    return at != SIZE_MAX && words_parse((struct str){ answer.p + at + 4, answer.n - at - 4 }, ret);
}

static bool copy(struct rows *r, struct str *s)
{
    if (s->p)
        *s = mem_str(&r->mem, *s);
    return s->p != NULL;
}

static enum status read_row(struct rows *r, const json_t *doc, struct row *row, struct err *err)
{
    row->original_question = row->original_answer = STR("");
    if (json_get_str(doc, "question", true, &row->question, err) != ST_OK ||
        json_get_str(doc, "answer", true, &row->answer, err) != ST_OK ||
        json_get_i64(doc, "id", false, 0, ROWS_MAX, &row->id, err) != ST_OK ||
        json_get_i64(doc, "instance", false, 0, ROWS_MAX, &row->instance, err) != ST_OK ||
        json_get_str(doc, "original_question", false, &row->original_question, err) != ST_OK ||
        json_get_str(doc, "original_answer", false, &row->original_answer, err) != ST_OK)
        return err->code;
    if (!gold_of(row->answer, &row->gold))
        return err_set(err, ST_FORMAT, "'answer' must end in '#### NUMBER'");
    if (!copy(r, &row->question) || !copy(r, &row->answer) || !copy(r, &row->original_question) ||
        !copy(r, &row->original_answer))
        return err_set(err, ST_NOMEM, "a row");
    return ST_OK;
}

static enum status add_row(struct rows *r, struct str line, struct err *err)
{
    json_t *doc;
    if (line.n > ROWS_LINE_MAX)
        return err_set(err, ST_FORMAT, "a line of %zu bytes, at most %d are allowed", line.n,
                       ROWS_LINE_MAX);
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? 2 * r->cap : 256;
        struct row *more = realloc(r->row, cap * sizeof *more);
        if (!more)
            return err_set(err, ST_NOMEM, "rows");
        r->row = more;
        r->cap = cap;
    }
    struct row row = { .id = r->n, .gold = { 0, 1 } };
    if (json_parse(line, "row", &doc, err) != ST_OK)
        return err->code;
    if (!json_is_object(doc))
        err_set(err, ST_FORMAT, "a row is a JSON object");
    else if (read_row(r, doc, &row, err) == ST_OK) {
        r->generated |= json_object_get(doc, "instance") != NULL;
        r->row[r->n++] = row;
    }
    json_free(doc);
    return err->code;
}

enum status rows_parse(struct str text, const char *what, uint32_t max, struct rows *ret,
                       struct err *err)
{
    struct rows r = { .mem = { .cap = (size_t)1 << 30 } };
    struct sha256 h;
    size_t at = 0, line = 0;
    while (at < text.n && err->code == ST_OK && (max == 0 || r.n < max)) {
        const char *end = memchr(text.p + at, '\n', text.n - at);
        size_t n = end ? (size_t)(end - text.p) - at : text.n - at;
        struct str s = str_trim((struct str){ text.p + at, n });
        at += n + 1;
        line++;
        if (s.n && r.n == ROWS_MAX)
            err_set(err, ST_RANGE, "more than %d rows", ROWS_MAX);
        else if (s.n)
            add_row(&r, s, err);
    }
    if (err->code == ST_OK && r.n == 0)
        err_set(err, ST_FORMAT, "no rows");
    if (err->code != ST_OK) {
        rows_clear(&r);
        return err_ctx(err, "%s line %zu", what, line);
    }
    sha256_init(&h);
    sha256_add(&h, text.p, text.n);
    sha256_hex(&h, r.hash);
    *ret = r;
    return ST_OK;
}

enum status rows_read(const char *path, uint32_t max, struct rows *ret, struct err *err)
{
    struct buf text = BUF_INIT;
    if (file_slurp(path, ROWS_FILE_MAX, &text, err) == ST_OK)
        rows_parse(buf_view(&text), path, max, ret, err);
    buf_clear(&text);
    return err->code;
}

void rows_clear(struct rows *r)
{
    mem_clear(&r->mem);
    free(r->row);
    *r = (struct rows){ 0 };
}

enum status row_item(const struct row *r, const char *id, struct item *ret, struct err *err)
{
    struct item it = { .variant = VARIANT_FROZEN, .set = (uint32_t)r->instance, .gold = r->gold };
    struct buf gold = BUF_INIT;
    struct sha256 h;
    size_t mark = r->answer.n;
    for (size_t at = 0; (at = str_find(r->answer, STR("####"), at)) != SIZE_MAX; at++)
        mark = at;
    rat_print(r->gold, &gold);
    it.template_id = str_dup(str_c(id));
    it.question = str_dup(r->question);
    it.gold_text = buf_take(&gold);
    it.solution = str_dup(str_trim((struct str){ r->answer.p, mark }));
    it.unit = str_dup(STR(""));
    it.clause = str_dup(STR(""));
    if (!it.template_id || !it.question || !it.gold_text || !it.solution || !it.unit ||
        !it.clause) {
        item_clear(&it);
        return err_set(err, ST_NOMEM, "an item");
    }
    sha256_init(&h);
    sha256_add(&h, "frozen\n", 7);
    sha256_add(&h, id, strlen(id));
    sha256_add(&h, it.question, strlen(it.question));
    sha256_add(&h, it.gold_text, strlen(it.gold_text));
    char where[24];
    snprintf(where, sizeof where, " %u", it.set);
    sha256_add(&h, where, strlen(where));
    sha256_hex(&h, it.hash);
    *ret = it;
    return ST_OK;
}
