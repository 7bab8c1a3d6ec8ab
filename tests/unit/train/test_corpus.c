/* tests/unit/train/test_corpus.c - items as such: the same for everybody, well-formed in both
 * forms. */
#include "engine/base/hash.h"
#include "engine/base/json.h"
#include "engine/base/utf8.h"
#include "engine/model/chat.h"
#include "tests/unit/train/items.h"

#include <criterion/criterion.h>

/* What the generator makes is pinned: a model's scores are comparable only on the same items. If a
 * table was changed on purpose, put the new sum here and say in the commit that items changed. */
static void expect_sum(enum corpus_split split, enum corpus_kind kind, const char *want)
{
    struct corpus_opts o = item_opts(split, 1);
    struct corpus_item it = { 0 };
    struct sha256 s;
    char hex[65];
    sha256_init(&s);
    for (uint64_t i = 0; i < 1000; i++) {
        item_make(&o, kind, i, &it);
        sha256_add(&s, it.document.p, it.document.n);
    }
    sha256_hex(&s, hex);
    hex[16] = '\0';
    cr_expect_str_eq(hex, want, "%s %s: sum %s, not %s", corpus_split_name(split),
                     corpus_kind_name(kind), hex, want);
    corpus_item_clear(&it);
}

Test(corpus, the_first_thousand_items_are_what_they_were)
{
    expect_sum(CORPUS_TRAIN, CORPUS_PROBLEM, "ea33fa79ed8a80ef");
    expect_sum(CORPUS_TEST, CORPUS_PROBLEM, "2fc9cff91cb8bec8");
    expect_sum(CORPUS_NUMBERS, CORPUS_PROBLEM, "8356d9f0c1c891b5");
    expect_sum(CORPUS_CLAUSES, CORPUS_PROBLEM, "6ddcf913e78d9d2e");
    expect_sum(CORPUS_DISTRACTORS, CORPUS_PROBLEM, "cfee5f85420f7693");
    expect_sum(CORPUS_TEMPLATES, CORPUS_PROBLEM, "0cef98bf1e3b0b85");
    expect_sum(CORPUS_TRAIN, CORPUS_STORY, "9f0b9872a05b7a94");
    expect_sum(CORPUS_TEST, CORPUS_STORY, "2b49bc2dfdc58a4d");
    expect_sum(CORPUS_TRAIN, CORPUS_DRILL, "b877d95810de8e2a");
    expect_sum(CORPUS_TRAIN, CORPUS_TALK, "c7321e81bcab8af0");
}

/* The item depends on its number, not on what was made before it with the same memory. */
Test(corpus, an_item_is_the_same_in_any_order)
{
    struct corpus_opts o = item_opts(CORPUS_TRAIN, 7);
    struct corpus_item a = { 0 }, b = { 0 };
    for (int k = 0; k < CORPUS_KINDS; k++)
        for (uint64_t i = 0; i < 50; i++) {
            uint64_t at = (i * 37 + 11) % 50;
            item_make(&o, (enum corpus_kind)k, at, &a);
            item_make(&o, (enum corpus_kind)((k + i) % CORPUS_KINDS), i, &b);
            item_make(&o, (enum corpus_kind)k, at, &b);
            cr_assert_str_eq(item_text(&a.document), item_text(&b.document));
            cr_assert_str_eq(a.id, b.id);
            cr_assert_eq(a.gold, b.gold);
            cr_assert_eq(a.n_number, b.n_number);
            cr_assert_eq(a.in_answer.n, b.in_answer.n);
        }
    corpus_item_clear(&a);
    corpus_item_clear(&b);
}

Test(corpus, another_seed_gives_other_items)
{
    struct corpus_opts o = item_opts(CORPUS_TRAIN, 1), p = item_opts(CORPUS_TRAIN, 2);
    struct corpus_item a = { 0 }, b = { 0 };
    int same = 0;
    for (uint64_t i = 0; i < 200; i++) {
        item_make(&o, CORPUS_PROBLEM, i, &a);
        item_make(&p, CORPUS_PROBLEM, i, &b);
        same += str_eq(buf_view(&a.document), buf_view(&b.document));
    }
    cr_expect_eq(same, 0, "%d of 200", same);
    corpus_item_clear(&a);
    corpus_item_clear(&b);
}

Test(corpus, kinds_that_a_split_does_not_have_are_refused)
{
    struct corpus_item it = { 0 };
    for (int s = 0; s < CORPUS_SPLITS; s++)
        for (int k = 0; k < CORPUS_KINDS; k++) {
            struct corpus_opts o = item_opts((enum corpus_split)s, 1);
            struct err err = ERR_INIT;
            bool has =
                k == CORPUS_PROBLEM || s == CORPUS_TRAIN || (k == CORPUS_STORY && s == CORPUS_TEST);
            cr_expect_eq(corpus_make(&o, (enum corpus_kind)k, 0, &it, &err), has ? ST_OK : ST_ARG,
                         "%d %d", s, k);
        }
    struct corpus_opts o = { 1, CORPUS_CLAUSES, 1, 1 };
    struct err err = ERR_INIT;
    cr_expect_eq(corpus_make(&o, CORPUS_PROBLEM, 0, &it, &err), ST_ARG);
    cr_expect(strstr(err.msg, "clauses"), "%s", err.msg);
    corpus_item_clear(&it);
}

Test(corpus, splits_have_names)
{
    for (int s = 0; s < CORPUS_SPLITS; s++) {
        enum corpus_split found = CORPUS_SPLITS;
        cr_expect(corpus_split_find(str_c(corpus_split_name((enum corpus_split)s)), &found));
        cr_expect_eq((int)found, s);
    }
    enum corpus_split none = CORPUS_TEST;
    cr_expect_not(corpus_split_find(STR("tests"), &none));
    cr_expect_eq(none, CORPUS_TEST);
}

/* Every index of every kind exactly once, in order, and no kind is bunched at one end. */
Test(corpus, a_mix_deals_every_item_once)
{
    struct corpus_mix m = { { 1000, 200, 33, 7 } };
    uint64_t next[CORPUS_KINDS] = { 0 }, i, total = corpus_mix_total(&m);
    cr_assert_eq(total, 1240);
    for (uint64_t at = 0; at < total; at++) {
        enum corpus_kind k = corpus_mix_at(&m, at, &i);
        cr_assert_eq(i, next[k], "place %d", (int)at);
        next[k]++;
        double share = (double)m.n[k] / (double)total;
        double off = (double)next[k] - share * (double)(at + 1);
        /* A kind is dealt among the places that the kinds before it leave: one of rounding each. */
        cr_assert(off < 4 && off > -4, "kind %d at %d: %g off", (int)k, (int)at, off);
    }
    for (int k = 0; k < CORPUS_KINDS; k++)
        cr_expect_eq(next[k], m.n[k]);
    struct corpus_mix one = { { 0, 0, 0, 3 } };
    cr_expect_eq(corpus_mix_at(&one, 2, &i), CORPUS_TALK);
    cr_expect_eq(i, 2);
}

static void expect_cover(const struct corpus_spans *s, struct str text, const char *id)
{
    uint32_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        cr_assert_eq(s->at[i].from, at, "%s: a gap at %u", id, at);
        cr_assert_gt(s->at[i].to, at, "%s: an empty span", id);
        cr_assert(i == 0 || s->at[i].class != s->at[i - 1].class, "%s: split span", id);
        at = s->at[i].to;
        cr_assert(at >= text.n || ((unsigned char)text.p[at] & 0xC0) != 0x80,
                  "%s: byte %u is inside a character", id, at);
    }
    cr_assert_eq(at, text.n, "%s", id);
}

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

static void expect_classes(const struct corpus_spans *s, struct str text, bool answer,
                           const char *id)
{
    for (size_t i = 0; i < s->n; i++) {
        struct str part = { text.p + s->at[i].from, s->at[i].to - s->at[i].from };
        enum corpus_class c = s->at[i].class;
        bool number = c >= CORPUS_GIVEN;
        cr_assert_eq(number, all_digits(part), "%s: '%.*s' is %s", id, (int)part.n, part.p,
                     corpus_class_name(c));
        cr_assert_neq(c, answer ? CORPUS_GIVEN : CORPUS_RESULT, "%s", id);
        bool computed = answer && part.p >= text.p + 2 && part.p[-2] == '=';
        cr_assert_eq(c == CORPUS_RESULT, computed, "%s: '%.*s'", id, (int)part.n, part.p);
    }
}

Test(corpus, spans_cover_the_text_and_every_digit_has_a_class)
{
    struct corpus_item it = { 0 };
    size_t accents = 0;
    for (int s = 0; s < CORPUS_SPLITS; s++)
        for (uint64_t i = 0; i < 3000; i++) {
            struct corpus_opts o = item_opts((enum corpus_split)s, 5);
            item_make(&o, CORPUS_PROBLEM, i, &it);
            accents += it.answer.n && strchr(item_text(&it.answer), '\xC3') != NULL;
            expect_cover(&it.in_question, buf_view(&it.question), it.id);
            expect_cover(&it.in_answer, buf_view(&it.answer), it.id);
            expect_classes(&it.in_question, buf_view(&it.question), false, it.id);
            expect_classes(&it.in_answer, buf_view(&it.answer), true, it.id);
        }
    cr_expect_gt(accents, 0, "names with two-byte letters are among the samples");
    corpus_item_clear(&it);
}

static void expect_line(const char *line, const struct corpus_item *it)
{
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    struct str text;
    int64_t v;
    cr_assert_eq(json_parse_unique(str_c(line), "line", &doc, &err), ST_OK, "%s: %s", err.msg,
                 line);
    cr_assert_eq(json_get_str(doc, "id", true, &text, &err), ST_OK, "%s", err.msg);
    cr_assert(str_is(text, it->id));
    cr_assert_eq(json_get_str(doc, "family", true, &text, &err), ST_OK);
    cr_assert(str_is(text, it->family));
    if (it->steps) {
        cr_assert_eq(json_get_str(doc, "question", true, &text, &err), ST_OK);
        cr_assert(str_eq(text, buf_view(&it->question)));
        cr_assert_eq(json_get_i64(doc, "gold", true, INT64_MIN, INT64_MAX, &v, &err), ST_OK);
        cr_assert_eq(v, it->gold);
        cr_assert_eq(json_array_size(json_object_get(doc, "numbers")), it->n_number);
        cr_assert_eq(json_array_size(json_object_get(json_object_get(doc, "classes"), "answer")),
                     it->in_answer.n);
    } else {
        cr_assert_eq(json_get_str(doc, "text", true, &text, &err), ST_OK);
        cr_assert(str_eq(text, buf_view(&it->document)));
    }
    json_free(doc);
}

Test(corpus, a_line_of_json_holds_the_item)
{
    struct corpus_opts o = item_opts(CORPUS_TRAIN, 3);
    struct corpus_item it = { 0 };
    struct buf line = BUF_INIT;
    for (int k = 0; k < CORPUS_KINDS; k++)
        for (uint64_t i = 0; i < 200; i++) {
            item_make(&o, (enum corpus_kind)k, i, &it);
            buf_reset(&line);
            corpus_write_json(&it, true, &line);
            cr_assert_eq(line.p[line.n - 1], '\n');
            cr_assert(utf8_valid(buf_view(&line)));
            expect_line(line.p, &it);
        }
    buf_clear(&line);
    corpus_item_clear(&it);
}

/* The shipped template makes of the messages what the document begins with: else the model would be
 * asked in another form than it was taught. */
Test(corpus, the_chat_template_makes_the_documents_form)
{
    struct corpus_opts o = item_opts(CORPUS_TRAIN, 4);
    struct corpus_item it = { 0 };
    struct chat_template *t = NULL;
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT;
    cr_assert_eq(chat_compile(STR(CORPUS_CHAT_TEMPLATE), &t, &err), ST_OK, "%s", err.msg);
    for (uint64_t i = 0; i < 20; i++) {
        item_make(&o, CORPUS_PROBLEM, i, &it);
        json_t *vars = json_pack("{s:[{s:s, s:s}, {s:s, s:o}], s:b}", "messages", "role", "system",
                                 "content", "left out", "role", "user", "content",
                                 json_text(buf_view(&it.question)), "add_generation_prompt", 1);
        buf_reset(&text);
        cr_assert_eq(chat_render(t, vars, &text, &err), ST_OK, "%s", err.msg);
        json_free(vars);
        cr_assert(str_starts(buf_view(&it.document), buf_view(&text)), "'%s'\n'%s'", text.p,
                  it.document.p);
        buf_str(&text, buf_view(&it.answer));
        buf_z(&text, CORPUS_TURN_END CORPUS_DOC_END);
        cr_assert_str_eq(text.p, it.document.p);
    }
    /* Two exchanges, as in the documents of talk. */
    json_t *vars = json_pack("{s:[{s:s,s:s},{s:s,s:s},{s:s,s:s}], s:b}", "messages", "role", "user",
                             "content", "A", "role", "assistant", "content", "B", "role", "user",
                             "content", "C", "add_generation_prompt", 1);
    buf_reset(&text);
    cr_assert_eq(chat_render(t, vars, &text, &err), ST_OK, "%s", err.msg);
    json_free(vars);
    cr_expect_str_eq(text.p, "<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n<|user|>\nC<|end|>\n"
                             "<|assistant|>\n");
    chat_free(t);
    buf_clear(&text);
    corpus_item_clear(&it);
}
