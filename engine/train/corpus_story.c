/* engine/train/corpus_story.c - one small story: opening, the lines of a schema, an ending. Three
 * in four are documents of their own, every fourth is the answer to a request. The hash of its text
 * decides whether a story belongs to train or to test. */
#include "engine/train/corpus_story.h"

#include "engine/base/hash.h"

static const char *const requests[] = {
    "Tell me a [story|short story|little story].", "Can you tell me a story?",
    "Please tell me a story about {an beast}.",    "Tell me a story about %.",
    "Tell me a short story about %, please.",      "Do you know a story about %?",
    "Write a [story|short story] about %.",
};
enum { REQUESTS = sizeof requests / sizeof requests[0], REQUEST_BEAST = 2 };

static const char *pick(struct rng *r, const char *const *list)
{
    uint64_t n = 0;
    while (list[n])
        n++;
    return list[rng_below(r, n)];
}

static void cast_fill(struct rng *r, const struct corpus_schema *s, struct corpus_cast *c)
{
    uint32_t obj = s->obj ? s->obj : OB_TOY;
    corpus_names(r, true, c->name);
    corpus_words(r, c->word);
    c->noun[NOUN_O] = corpus_noun(r, obj, NULL);
    c->noun[NOUN_BEAST] = corpus_noun(r, OB_BEAST, NULL);
    c->noun[NOUN_BEAST2] = corpus_noun(r, OB_BEAST, c->noun[NOUN_BEAST]);
}

static void put_line(const struct corpus_pen *p, const char *line)
{
    corpus_pen_put(p, " ", p->out->n ? 1 : 0, CORPUS_GLUE);
    corpus_pen(p, line);
}

static void put_ending(const struct corpus_pen *p, uint8_t ends)
{
    static const char *const *const lists[] = { story_happy, story_friend, story_proud,
                                                story_night };
    uint64_t at;
    do {
        at = rng_below(p->rng, 4);
    } while (!(ends >> at & 1));
    put_line(p, pick(p->rng, lists[at]));
}

static void put_story(const struct corpus_pen *p, const struct corpus_schema *s, bool beast)
{
    put_line(p, pick(p->rng, beast ? story_beast : story_child));
    for (int i = 0; i < LINES_MAX && s->line[i]; i++) {
        bool may_skip = s->line[i][0] == '?';
        if (may_skip && rng_below(p->rng, 2) == 0)
            continue;
        put_line(p, s->line[i] + may_skip);
    }
    if (rng_below(p->rng, 4))
        put_ending(p, s->end);
}

/* "%" stands for the schema's topic. */
static void put_request(const struct corpus_pen *p, const struct corpus_schema *s, bool beast)
{
    uint64_t at;
    do {
        at = rng_below(p->rng, REQUESTS);
    } while (at == REQUEST_BEAST && !beast);
    struct str form = str_c(requests[at]);
    size_t hole = str_find(form, STR("%"), 0);
    if (hole == SIZE_MAX) {
        corpus_pen(p, requests[at]);
        return;
    }
    struct str before = { form.p, hole }, after = { form.p + hole + 1, form.n - hole - 1 };
    corpus_pen_part(p, before);
    corpus_pen(p, s->topic);
    corpus_pen_part(p, after);
}

enum status corpus_story(const struct corpus_opts *o, uint64_t i, struct corpus_item *it,
                         struct err *err)
{
    const struct corpus_schema *s;
    uint32_t n = corpus_schemas(&s);
    struct corpus_cast cast = { 0 };
    struct rng r;
    struct corpus_pen story = { &it->answer, &it->in_answer, &r, &cast, NULL };
    struct corpus_pen request = { &it->question, &it->in_question, &r, &cast, NULL };
    (void)err;
    corpus_stream(o, CORPUS_STORY, i, 0, &r);
    s += rng_below(&r, n);
    bool beast = s->who == WHO_BEAST || (s->who != WHO_CHILD && rng_below(&r, 2));
    bool asked = rng_below(&r, 4) == 0;
    do {
        buf_reset(&it->answer);
        it->in_answer.n = 0;
        cast_fill(&r, s, &cast);
        put_story(&story, s, beast);
    } while (!it->answer.failed &&
             corpus_hash_held(hash_bytes(it->answer.p, it->answer.n)) != (o->split == CORPUS_TEST));
    it->family = s->name;
    if (asked) {
        put_request(&request, s, beast);
        corpus_turn(&it->document, CORPUS_USER, &it->question);
        corpus_turn(&it->document, CORPUS_ASSISTANT, &it->answer);
    } else {
        buf_str(&it->document, buf_view(&it->answer));
        it->document.failed |= it->answer.failed;
        buf_reset(&it->answer);
        it->in_answer.n = 0;
    }
    return ST_OK;
}

uint32_t corpus_n_schema(void)
{
    const struct corpus_schema *s;
    return corpus_schemas(&s);
}
