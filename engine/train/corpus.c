/* engine/train/corpus.c - see corpus.h: items of any kind, the mix of kinds, the forms they are
 * written in. */
#include "engine/train/corpus.h"

#include "engine/base/json.h"
#include "engine/train/corpus_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

static const char *const split_names[CORPUS_SPLITS] = {
    "train", "test", "numbers", "clauses", "distractors", "templates",
};

const char *corpus_split_name(enum corpus_split s)
{
    return split_names[s];
}

bool corpus_split_find(struct str name, enum corpus_split *ret)
{
    for (int s = 0; s < CORPUS_SPLITS; s++)
        if (str_is(name, split_names[s])) {
            *ret = (enum corpus_split)s;
            return true;
        }
    return false;
}

const char *corpus_kind_name(enum corpus_kind k)
{
    static const char *const names[CORPUS_KINDS] = { "problem", "story", "drill", "talk" };
    return names[k];
}

const char *corpus_class_name(enum corpus_class c)
{
    static const char *const names[CORPUS_CLASSES] = { "glue",   "name", "object", "given",
                                                       "result", "copy", "fact" };
    return names[c];
}

void corpus_item_clear(struct corpus_item *it)
{
    buf_clear(&it->question);
    buf_clear(&it->answer);
    buf_clear(&it->document);
    *it = (struct corpus_item){ 0 };
}

void corpus_stream(const struct corpus_opts *o, enum corpus_kind kind, uint64_t i, uint32_t part,
                   struct rng *ret)
{
    /* Twins: see corpus.h on distractors. */
    uint64_t split = o->split == CORPUS_DISTRACTORS ? CORPUS_TEST : o->split;
    ret->state = rng_at(rng_at(o->seed, split << 16 | (uint64_t)kind << 8 | part), i);
}

void corpus_turn(struct buf *out, const char *role_token, const struct buf *text)
{
    if (out->n) /* the line feed that every turn but the last ends with */
        buf_char(out, '\n');
    buf_z(out, role_token);
    buf_char(out, '\n');
    buf_str(out, buf_view(text));
    buf_z(out, CORPUS_TURN_END);
    out->failed |= text->failed; /* its buffer may be used again before anybody looks */
}

static void item_begin(const struct corpus_opts *o, enum corpus_kind kind, uint64_t i,
                       struct corpus_item *it)
{
    buf_reset(&it->question);
    buf_reset(&it->answer);
    buf_reset(&it->document);
    it->in_question.n = it->in_answer.n = 0;
    it->kind = kind;
    it->split = o->split;
    it->index = i;
    it->family = NULL;
    it->steps = it->n_number = 0;
    it->gold = 0;
    char steps[32] = "";
    if (kind == CORPUS_PROBLEM &&
        (o->steps_min || o->steps_max)) /* other items under each number */
        snprintf(steps, sizeof steps, ".%" PRIu32 "-%" PRIu32, o->steps_min, o->steps_max);
    const char *name = kind == CORPUS_PROBLEM ? "" : corpus_kind_name(kind);
    snprintf(it->id, sizeof it->id, "%s%s%s%s-%" PRIu64 "-%" PRIu64, name, name[0] ? "-" : "",
             split_names[o->split], steps, o->seed, i);
}

static enum status item_end(struct corpus_item *it, struct err *err)
{
    buf_z(&it->document, CORPUS_DOC_END);
    if (buf_ok(&it->question, "corpus item", err) == ST_OK &&
        buf_ok(&it->answer, "corpus item", err) == ST_OK)
        buf_ok(&it->document, "corpus item", err);
    return err->code;
}

enum status corpus_make(const struct corpus_opts *o, enum corpus_kind kind, uint64_t i,
                        struct corpus_item *it, struct err *err)
{
    static enum status (*const make[CORPUS_KINDS])(
        const struct corpus_opts *, uint64_t, struct corpus_item *,
        struct err *) = { corpus_problem, corpus_story, corpus_drill, corpus_talk };
    bool train = o->split == CORPUS_TRAIN;
    if ((kind == CORPUS_STORY && !train && o->split != CORPUS_TEST) ||
        ((kind == CORPUS_DRILL || kind == CORPUS_TALK) && !train))
        return err_set(err, ST_ARG, "the split '%s' has no items of the kind '%s'",
                       corpus_split_name(o->split), corpus_kind_name(kind));
    item_begin(o, kind, i, it);
    if (make[kind](o, i, it, err) != ST_OK)
        return err->code;
    return item_end(it, err);
}

uint64_t corpus_mix_total(const struct corpus_mix *m)
{
    uint64_t sum = 0;
    for (int k = 0; k < CORPUS_KINDS; k++)
        sum += m->n[k];
    return sum;
}

/* The first `at` of `total` places hold floor(at * n / total) of the n items of a kind, the places
 * that are left are dealt among the other kinds in the same way. */
static uint64_t dealt(uint64_t at, uint64_t n, uint64_t total)
{
    return (uint64_t)((unsigned __int128)at * n / total);
}

enum corpus_kind corpus_mix_at(const struct corpus_mix *m, uint64_t at, uint64_t *index)
{
    uint64_t total = corpus_mix_total(m);
    assert(at < total);
    for (int k = 0; k < CORPUS_KINDS - 1; k++) {
        uint64_t before = dealt(at, m->n[k], total);
        if (dealt(at + 1, m->n[k], total) > before) {
            *index = before;
            return (enum corpus_kind)k;
        }
        at -= before;
        total -= m->n[k];
    }
    *index = at;
    return CORPUS_KINDS - 1;
}

static void write_spans(const char *key, const struct corpus_spans *s, struct buf *out)
{
    buf_printf(out, "\"%s\":[", key);
    for (size_t i = 0; i < s->n; i++)
        buf_printf(out, "%s[%u,%u,\"%s\"]", i ? "," : "", s->at[i].from, s->at[i].to,
                   corpus_class_name(s->at[i].class));
    buf_char(out, ']');
}

static void write_scored(const struct corpus_item *it, bool classes, struct buf *out)
{
    buf_printf(out, ",\"steps\":%u,\"question\":", it->steps);
    json_quote(out, buf_view(&it->question));
    buf_z(out, ",\"answer\":");
    json_quote(out, buf_view(&it->answer));
    buf_printf(out, ",\"gold\":%" PRId64 ",\"numbers\":[", it->gold);
    for (uint32_t i = 0; i < it->n_number; i++)
        buf_printf(out, "%s%" PRId64, i ? "," : "", it->number[i]);
    buf_char(out, ']');
    if (!classes)
        return;
    buf_z(out, ",\"classes\":{");
    write_spans("question", &it->in_question, out);
    buf_char(out, ',');
    write_spans("answer", &it->in_answer, out);
    buf_char(out, '}');
}

void corpus_write_json(const struct corpus_item *it, bool classes, struct buf *out)
{
    buf_printf(out, "{\"id\":\"%s\",\"kind\":\"%s\",\"family\":\"%s\",\"split\":\"%s\"", it->id,
               corpus_kind_name(it->kind), it->family, corpus_split_name(it->split));
    if (it->steps) {
        write_scored(it, classes, out);
    } else {
        buf_z(out, ",\"text\":");
        json_quote(out, buf_view(&it->document));
    }
    buf_z(out, "}\n");
}
