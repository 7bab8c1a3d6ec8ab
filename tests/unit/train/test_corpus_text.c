/* tests/unit/train/test_corpus_text.c - the text reads right: spacing, case, articles, numbers of
 * nouns, a small vocabulary, short documents; and tables and stories are whole. */
#include "engine/base/hash.h"
#include "tests/unit/train/items.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdlib.h>

/* Calls check on the texts of n items of each kind that the split has. */
static void each_item(enum corpus_split split, uint64_t n,
                      void (*check)(const struct corpus_item *))
{
    struct corpus_opts o = item_opts(split, 21);
    struct corpus_item it = { 0 };
    for (int k = 0; k < CORPUS_KINDS; k++)
        for (uint64_t i = 0; i < n; i++) {
            if (k != CORPUS_PROBLEM && split != CORPUS_TRAIN &&
                !(k == CORPUS_STORY && split == CORPUS_TEST))
                continue;
            item_make(&o, (enum corpus_kind)k, i, &it);
            check(&it);
        }
    corpus_item_clear(&it);
}

static void every_split(uint64_t n, void (*check)(const struct corpus_item *))
{
    for (int s = 0; s < CORPUS_SPLITS; s++)
        each_item((enum corpus_split)s, n, check);
}

static void expect_spacing(const struct corpus_item *it)
{
    static const char *const never[] = { "  ", " .", " ,", " !", "..", ",,",   ".,",  " \n", "\n ",
                                         "{",  "}",  "[",  "]",  "\t", "\"\"", "s's", "\n\n" };
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        cr_assert_not(strstr(it->document.p, never[i]), "%s: '%s' in: %s", it->id, never[i],
                      it->document.p);
    for (const char *p = it->document.p; (p = strchr(p, '|')); p++) /* only in special tokens */
        cr_assert(p[-1] == '<' || p[1] == '>', "%s", it->document.p);
    for (const char *p = it->document.p; (p = strstr(p, " ?")); p++) /* "3 + 4 = ?" */
        cr_assert(it->kind == CORPUS_DRILL && p[-1] == '=', "%s", it->document.p);
    cr_assert(str_ends(buf_view(&it->document), STR(CORPUS_DOC_END)));
    cr_assert_null(strstr(it->document.p + 1, CORPUS_DOC_END CORPUS_DOC_END));
}

Test(corpus_text, no_blank_or_mark_stands_where_it_should_not)
{
    every_split(8000, expect_spacing);
}

static bool begins_sentence(char c)
{
    return isupper((unsigned char)c) || isdigit((unsigned char)c) || c == '"' || c == '#' ||
           c == '<' || (unsigned char)c > 127;
}

static void expect_case(const struct corpus_item *it)
{
    const char *t = it->document.p;
    cr_assert(begins_sentence(t[0]), "%s", t);
    for (size_t i = 1; t[i]; i++) {
        bool ended = t[i] == ' ' && strchr(".?!", t[i - 1]);
        bool quoted = i > 1 && t[i] == ' ' && t[i - 1] == '"' && strchr(".?!", t[i - 2]);
        if (quoted) /* "May I sit here?" asked Mia. */
            cr_assert(islower((unsigned char)t[i + 1]) || begins_sentence(t[i + 1]), "%s", t);
        else if (ended || t[i - 1] == '\n')
            cr_assert(begins_sentence(t[i] == ' ' ? t[i + 1] : t[i]), "%s: at %zu: %s", it->id, i,
                      t);
        if (isupper((unsigned char)t[i])) /* no capital inside a word */
            cr_assert(!isalpha((unsigned char)t[i - 1]), "%s", t);
    }
}

Test(corpus_text, sentences_begin_with_a_capital_letter_or_a_digit)
{
    every_split(8000, expect_case);
}

static void expect_question_mark(const struct corpus_item *it)
{
    size_t n = 0;
    if (it->kind != CORPUS_PROBLEM)
        return;
    for (const char *p = it->question.p; (p = strchr(p, '?')); p++)
        n++;
    cr_assert(n == 1 && str_ends(buf_view(&it->question), STR("?")), "%s", it->question.p);
    cr_assert_null(strchr(it->answer.p, '?'));
}

Test(corpus_text, a_problem_ends_with_its_only_question_mark)
{
    every_split(8000, expect_question_mark);
}

static void expect_article(const struct corpus_item *it)
{
    const char *t = it->document.p;
    for (const char *p = t; *p; p++) {
        bool start = p == t || !isalpha((unsigned char)p[-1]);
        if (!start || (*p != 'a' && *p != 'A') || (p[1] != ' ' && !(p[1] == 'n' && p[2] == ' ')))
            continue;
        bool an = p[1] == 'n';
        char next = p[an ? 3 : 2];
        bool vowel = strchr("aeiou", next) || strncmp(p + 3, "hour", 4) == 0;
        cr_assert_eq(an, vowel, "%s: ...%.20s: %s", it->id, p, t);
    }
}

Test(corpus_text, a_and_an_go_with_the_next_word)
{
    every_split(8000, expect_article);
}

/* A digit string followed by a word: 1 takes the singular, all else the plural. */
static bool is_plural(struct str w)
{
    static const char *const odd[] = { "children", "geese", "mice", "feet", "sheep" };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        if (str_is(w, odd[i]))
            return true;
    return w.n > 1 && w.p[w.n - 1] == 's' && w.p[w.n - 2] != 's';
}

static struct str word_at(const char *p)
{
    size_t n = 0;
    while (isalpha((unsigned char)p[n]))
        n++;
    return (struct str){ p, n };
}

static void expect_counted(const struct corpus_item *it)
{
    const struct corpus_spans *s = &it->in_answer;
    if (it->kind != CORPUS_PROBLEM)
        return;
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].class != CORPUS_RESULT)
            continue;
        const char *p = it->answer.p + s->at[i].to;
        bool one = s->at[i].to - s->at[i].from == 1 && p[-1] == '1';
        if (*p == ' ')
            p++;
        if (strncmp(p, "more ", 5) == 0)
            p += 5;
        struct str w = word_at(p);
        if (w.n == 0) /* "floor 3 + 4 = 7." */
            continue;
        cr_assert(one ? !is_plural(w) || str_is(w, "sheep") : is_plural(w), "%s: '%.*s': %s",
                  it->id, (int)w.n, w.p, it->answer.p);
    }
}

Test(corpus_text, one_takes_the_singular_and_others_the_plural)
{
    every_split(20000, expect_counted);
}

/* ---- pronouns: "he" and "she" only mean the first person named in a problem ---- */
static void expect_pronoun(const struct corpus_item *it)
{
    static const char *const male[] = { " he ", " He ", " him ", " his ", " His " };
    static const char *const female[] = { " she ", " She ", " her ", " Her " };
    bool he = false, she = false;
    if (it->kind != CORPUS_PROBLEM)
        return;
    for (size_t i = 0; i < sizeof male / sizeof male[0]; i++)
        he |= strstr(it->question.p, male[i]) || strstr(it->answer.p, male[i]);
    for (size_t i = 0; i < sizeof female / sizeof female[0]; i++)
        she |= strstr(it->question.p, female[i]) || strstr(it->answer.p, female[i]);
    cr_assert_not(he && she, "%s: %s", it->id, it->question.p);
}

Test(corpus_text, a_problem_never_says_both_he_and_she)
{
    every_split(8000, expect_pronoun);
}

/* ---- the vocabulary ---- */
static struct keys vocabulary;
static const char *unknown_in;

static void learn_word(void *ctx, struct str w)
{
    (void)ctx;
    keys_add(&vocabulary, hash_bytes(w.p, w.n));
}

static void learn_words(const struct corpus_item *it)
{
    words_each(buf_view(&it->document), learn_word, NULL);
    if (vocabulary.n > 200000)
        keys_sort(&vocabulary);
}

static void expect_known(void *ctx, struct str w)
{
    (void)ctx;
    cr_expect(keys_have(&vocabulary, hash_bytes(w.p, w.n)), "'%.*s' of '%s' is not in train",
              (int)w.n, w.p, unknown_in);
}

static void expect_words_known(const struct corpus_item *it)
{
    unknown_in = it->id;
    words_each(buf_view(&it->document), expect_known, NULL);
}

/* Upper and lower case count as two words, as they do to a tokenizer. And what the other splits
 * examine is never a word that the model has not seen. */
Test(corpus_text, the_vocabulary_is_small_and_train_has_all_of_it)
{
    each_item(CORPUS_TRAIN, 30000, learn_words);
    keys_sort(&vocabulary);
    cr_expect_leq(vocabulary.n, 1500, "%zu different words", vocabulary.n);
    cr_expect_geq(vocabulary.n, 900, "%zu different words", vocabulary.n);
    for (int s = CORPUS_TEST; s < CORPUS_SPLITS; s++)
        each_item((enum corpus_split)s, 5000, expect_words_known);
    keys_clear(&vocabulary);
}

/* Tokens at least: a word with the blank before it, a digit, a blank before a digit, a mark, a
 * special token are one each. A vocabulary of 1,024 pieces learned from this text needs a tenth
 * more. */
static size_t count_tokens(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; n++) {
        if (s.p[i] == '<') {
            i = str_find(s, STR(">"), i) + 1;
            continue;
        }
        i += s.p[i] == ' ' && i + 1 < s.n && !isdigit((unsigned char)s.p[i + 1]);
        size_t from = i;
        while (i < s.n && (isalpha((unsigned char)s.p[i]) || (unsigned char)s.p[i] > 127))
            i++;
        i += i == from;
    }
    return n;
}

static size_t n_tokens, n_documents, most_tokens;

static void add_tokens(const struct corpus_item *it)
{
    size_t n = count_tokens(buf_view(&it->document));
    if (it->kind != CORPUS_PROBLEM)
        return;
    n_tokens += n;
    n_documents++;
    most_tokens = n > most_tokens ? n : most_tokens;
}

Test(corpus_text, a_problem_has_less_than_eighty_tokens_on_average)
{
    cr_assert_eq(count_tokens(STR("<|user|>\nMia has 12 - 5 = 7 figs.<|end|>")), 16);
    each_item(CORPUS_TRAIN, 20000, add_tokens);
    double mean = (double)n_tokens / (double)n_documents;
    cr_expect(mean < 80, "%g tokens; 90 with a vocabulary of 1,024", mean);
    cr_expect_lt(most_tokens, 200, "%zu", most_tokens);
}

/* ---- stories, drills, talk ---- */
static size_t n_sentences(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!strchr(".?!", s.p[i]))
            continue;
        size_t next = i + 1 + (i + 1 < s.n && s.p[i + 1] == '"');
        bool last = next >= s.n || s.p[next] == '<';
        /* '"...?" asked Mia.' is one sentence. */
        n += last || (s.p[next] == ' ' && !islower((unsigned char)s.p[next + 1]) &&
                      !(next == i + 2 && s.p[i] == '?'));
    }
    return n;
}

Test(corpus_text, a_story_has_three_to_eight_sentences)
{
    struct corpus_opts o = item_opts(CORPUS_TRAIN, 22);
    struct corpus_item it = { 0 };
    uint32_t asked = 0;
    struct keys schemas = { 0 };
    for (uint64_t i = 0; i < 20000; i++) {
        item_make(&o, CORPUS_STORY, i, &it);
        struct str text = buf_view(it.answer.n ? &it.answer : &it.document);
        size_t n = n_sentences(text);
        cr_assert(n >= 3 && n <= 8, "%zu: %s", n, text.p);
        asked += it.answer.n != 0;
        keys_add(&schemas, hash_bytes(it.family, strlen(it.family)));
    }
    keys_sort(&schemas);
    cr_expect_geq(corpus_n_schema(), 30);
    cr_expect_eq(schemas.n, corpus_n_schema(), "%zu of %u schemas came", schemas.n,
                 corpus_n_schema());
    /* A quarter; 500 are eight standard deviations. */
    cr_expect(asked > 4500 && asked < 5500, "%u of 20000 stories were asked for", asked);
    keys_clear(&schemas);
    corpus_item_clear(&it);
}

Test(corpus_text, no_story_of_test_is_in_train)
{
    struct keys text[2] = { { 0 } };
    struct corpus_item it = { 0 };
    for (int s = 0; s < 2; s++) {
        struct corpus_opts o = item_opts((enum corpus_split)s, 23);
        for (uint64_t i = 0; i < 30000; i++) {
            item_make(&o, CORPUS_STORY, i, &it);
            const struct buf *b = it.answer.n ? &it.answer : &it.document;
            struct str story = buf_view(b);
            if (b == &it.document)
                story.n -= strlen(CORPUS_DOC_END);
            keys_add(&text[s], hash_bytes(story.p, story.n));
        }
        keys_sort(&text[s]);
    }
    cr_expect_gt(text[0].n, 20000, "%zu different stories", text[0].n);
    cr_expect_eq(keys_common(&text[0], &text[1]), 0);
    keys_clear(&text[0]);
    keys_clear(&text[1]);
    corpus_item_clear(&it);
}

/* Every product and quotient of the tables, every sum up to 100 and every difference. */
Test(corpus_text, drills_cover_the_whole_tables)
{
    enum { FOR_TABLES = 726, FOR_SUMS = 28518 };
    struct corpus_opts o = item_opts(CORPUS_TRAIN, 24);
    struct corpus_item it = { 0 };
    static bool times[13][13], divide[145][13], plus[100][100], minus[101][101];
    uint32_t n[4] = { 0 };
    for (uint64_t i = 0; i < FOR_SUMS; i++) {
        item_make(&o, CORPUS_DRILL, i, &it);
        int64_t a = it.number[0], b = it.number[1];
        if (it.n_number != 2)
            continue;
        if (strcmp(it.family, "times") == 0 && i < FOR_TABLES)
            times[a][b] = true;
        if (strcmp(it.family, "divide") == 0 && i < FOR_TABLES)
            divide[a][b] = true;
        if (strcmp(it.family, "plus") == 0)
            plus[a][b] = true;
        if (strcmp(it.family, "minus") == 0)
            minus[a][b] = true;
    }
    for (int64_t a = 2; a <= 98; a++)
        for (int64_t b = 2; b <= 98; b++) {
            n[0] += a <= 12 && b <= 12 && times[a][b];
            n[1] += a <= 12 && b <= 12 && divide[a * b][b];
            n[2] += a + b <= 100 && plus[a][b];
            n[3] += a + b <= 100 && minus[a + b][b];
        }
    cr_expect_eq(n[0], 121, "%u products", n[0]);
    cr_expect_eq(n[1], 121, "%u quotients", n[1]);
    cr_expect_eq(n[2], 4753, "%u sums", n[2]);
    cr_expect_eq(n[3], 4753, "%u differences", n[3]);
    corpus_item_clear(&it);
}

static void expect_drill(const struct corpus_item *it)
{
    if (it->kind == CORPUS_DRILL)
        cr_assert(corpus_check(buf_view(&it->answer), it->steps, it->gold), "%s", it->answer.p);
}

Test(corpus_text, every_drill_is_right)
{
    each_item(CORPUS_TRAIN, 20000, expect_drill);
}

/* Turns alternate, a user begins, the assistant ends. */
static void expect_turns(const struct corpus_item *it)
{
    const char *p = it->document.p;
    if (it->kind != CORPUS_TALK)
        return;
    for (;;) {
        cr_assert_eq(strncmp(p, CORPUS_USER "\n", 9), 0, "%s", it->document.p);
        p = strstr(p, CORPUS_TURN_END "\n" CORPUS_ASSISTANT "\n");
        cr_assert(p, "%s", it->document.p);
        p = strstr(p + 1, CORPUS_TURN_END);
        cr_assert(p);
        p = strstr(p + strlen(CORPUS_TURN_END), CORPUS_TURN_END) ? strstr(p, CORPUS_USER) : NULL;
        if (!p)
            break;
    }
}

Test(corpus_text, talk_is_made_of_whole_turns)
{
    each_item(CORPUS_TRAIN, 5000, expect_turns);
}
