/* engine/train/corpus_internal.h - what the files of the corpus generator share: the tables' row
 * types, the cast of a text, and the pen that turns a table's markup into text with spans.
 *
 * Markup. [x|y] is one of x, y (no nesting). {...} is a slot:
 *   P Q R T            names; he him his He His: pronouns of P; he2 him2 his2 He2 His2: of Q
 *   a b c d n p        the number given; {a o}: with its noun, "5 apples"; the words between stand
 *                      as they are, "5 more apples"
 *   =                  the equation of this step; nouns as above
 *   o u j m k w x y    the noun's plural; o1...: its singular. o, u things; j what holds things; m
 *                      money; k length of a way; w people; x, y what is bought one at a time
 *   in place color color2 day day2 kid kid2 beast beast2: words of the cast
 *   an SLOT, An SLOT   a or an, and the slot
 * A noun that is no slot is written out: {a day}, irregular plurals {a child/children}. */
#ifndef STROBE_TRAIN_CORPUS_INTERNAL_H
#define STROBE_TRAIN_CORPUS_INTERNAL_H

#include "engine/base/rng.h"
#include "engine/train/corpus.h"

/* ---- words (corpus_words.c) ---- */
struct corpus_noun {
    const char *one, *many;
    uint32_t tag; /* OB_* bits */
};

enum {
    OB_FRUIT = 1,
    OB_BAKED = 2,
    OB_FOOD = 4, /* all that one eats, fruit and baked things included */
    OB_TOY = 8,
    OB_SMALL = 16, /* collected, fits into a bag by the dozen */
    OB_DESK = 32,
    OB_READ = 64,
    OB_PLANT = 128,
    OB_WEAR = 256,
    OB_GOODS = 512,  /* of the house */
    OB_FIELD = 1024, /* animals of the field */
    OB_POND = 2048,  /* animals that swim or fly */
    OB_WHO = 4096,   /* people */
    OB_HOLDER = 8192,
    OB_MONEY = 1 << 14,
    OB_WAY = 1 << 15,
    OB_SEAT = 1 << 16,
    OB_BUY = 1 << 17,   /* one of it is a purchase of its own */
    OB_BEAST = 1 << 18, /* a story's animal */
    OB_HOLD = OB_FOOD | OB_TOY | OB_SMALL | OB_DESK | OB_READ | OB_PLANT | OB_WEAR | OB_GOODS
};

/* One noun with any of the tags that is not `other` (NULL: any). The table has two for every use.
 */
const struct corpus_noun *corpus_noun(struct rng *r, uint32_t tags,
                                      const struct corpus_noun *other);

struct corpus_name {
    const char *text;
    bool she;
};
enum { NAMES_MAX = 4 };
/* Fills name[0..NAMES_MAX), all different. apart: all others are of the gender that the first is
 * not, so that "he" and "she" can only mean the first. */
void corpus_names(struct rng *r, bool apart, struct corpus_name *name);

enum corpus_word {
    WORD_IN, /* "in the park": where people gather */
    WORD_PLACE,
    WORD_COLOR,
    WORD_COLOR2,
    WORD_DAY,
    WORD_DAY2, /* the day after */
    WORDS
};
void corpus_words(struct rng *r, const char *word[WORDS]);

/* ---- the cast and the pen (corpus_pen.c) ---- */
enum { GIVEN_MAX = 6, GIVEN_N = 4, GIVEN_P = 5 }; /* a b c d, n, p */

struct corpus_step {
    int64_t left, right, result;
    char op; /* + - x / */
    bool left_fact, right_fact;
};

enum corpus_noun_slot {
    NOUN_O,
    NOUN_U,
    NOUN_J,
    NOUN_M,
    NOUN_K,
    NOUN_W,
    NOUN_X,
    NOUN_Y,
    NOUN_BEAST,
    NOUN_BEAST2,
    NOUNS
};
struct corpus_cast {
    struct corpus_name name[NAMES_MAX];
    const struct corpus_noun *noun[NOUNS];
    const char *word[WORDS];
    int64_t given[GIVEN_MAX];
    const struct corpus_step *step; /* of {=} */
};

struct corpus_pen {
    struct buf *out;
    struct corpus_spans *spans; /* NULL: none wanted */
    struct rng *rng;            /* chooses among [x|y] */
    const struct corpus_cast *cast;
    struct corpus_item *item; /* numbers of the question go here; NULL: not a question */
};
/* Appends the text. Malformed markup is our bug: asserted. */
void corpus_pen(const struct corpus_pen *p, const char *markup);
void corpus_pen_part(const struct corpus_pen *p, struct str markup);
/* Appends plain bytes of one class. */
void corpus_pen_put(const struct corpus_pen *p, const char *text, size_t n, enum corpus_class c);

/* ---- problems (corpus_family.c, corpus_tail.c: tables) ---- */
enum corpus_domain {
    DOM_END, /* nothing can follow */
    DOM_HAVE,
    DOM_OTHER, /* Q has them */
    DOM_JOINT,
    DOM_DIFF,
    DOM_EACH_BOX,
    DOM_EACH_FRIEND,
    DOM_BAGS,
    DOM_COLOR,
    DOM_MONEY,
    DOM_COST,
    DOM_PRICE,
    DOM_PAY,
    DOM_NEED_MONEY,
    DOM_PLACE,
    DOM_HERD,
    DOM_STOCK,
    DOM_GARDEN,
    DOM_GROUPS,
    DOM_TEAM,
    DOM_NEEDED,
    DOM_PAGES,
    DOM_PAGES_LEFT,
    DOM_WAY,
    DOM_WAY_LEFT,
    DOM_TIME,
    DOM_DAYS,
    DOM_AGE,
    DOM_AGE_OTHER,
    DOM_AGE_LATER,
    DOM_LENGTH,
    DOM_MONTHS,
    DOM_EGGS,
    DOM_HEIGHT,
    DOM_WATER,
    DOM_HEAT,
    DOM_FLOOR,
    DOM_PIECES,
    DOM_HOURS,
    DOM_SCORE,
    DOMAINS
};

/* "a+b": operands a b c d n p: numbers given (p: a percentage); R, S: the results one and two steps
 * back; k: 100 / p; digits: a fact. Operators + - * /. `say` is the sentence of the answer. */
struct corpus_eq {
    const char *eq, *say;
};

/* FAM_SMALL: not in `numbers`. FAM_FREE: names of any gender, so neither core nor tails of such a
 * family may say "he" or "she". */
enum { FAM_HELD = 1, FAM_SMALL = 2, FAM_FREE = 4 };

enum { CORE_STEPS_MAX = 3, TEXTS_MAX = 6, ASKS_MAX = 4 };
struct corpus_family {
    const char *name;
    const char *text[TEXTS_MAX]; /* the situation; NULL-ended unless full */
    const char *ask[ASKS_MAX];   /* the question when nothing follows */
    struct corpus_eq step[CORE_STEPS_MAX];
    uint32_t obj;             /* tags of o and u */
    uint8_t domain;           /* of the result */
    uint8_t most;             /* steps in train */
    uint8_t flag;             /* FAM_* */
    uint8_t from[2], upto[2]; /* least and largest a, b in the trained range, 0: the range's */
};
uint32_t corpus_families(const struct corpus_family **ret);

/* One more step: a clause of the question, an equation with the number n. */
struct corpus_tail {
    uint8_t domain, next;
    struct corpus_eq step;
    const char *text[3];
    const char *ask[2];
    uint32_t obj; /* 0: any */
};
uint32_t corpus_tails(const struct corpus_tail **ret);

struct corpus_noise {
    const char *text;
    uint8_t not_from, not_to; /* domains of families whose question it would make ambiguous */
    bool of_these;            /* speaks of some of the problem's own things */
};
uint32_t corpus_noises(const struct corpus_noise **ret);

/* ---- numbers (corpus_numbers.c) ---- */
enum corpus_range { RANGE_TRAIN, RANGE_OUT };
bool corpus_in_range(enum corpus_range g, char op, int64_t left, int64_t right);
/* Draws what of left and right is not known (0), so that the equation is in range. false: not this
 * time. */
bool corpus_draw(struct rng *r, enum corpus_range g, char op, int64_t *left, int64_t *right);
int64_t corpus_compute(char op, int64_t left, int64_t right);

/* ---- the other kinds ---- */
/* *ret is the item's random stream: the same for everybody. part: a stream of its own. */
void corpus_stream(const struct corpus_opts *o, enum corpus_kind kind, uint64_t i, uint32_t part,
                   struct rng *ret);
bool corpus_hash_held(uint64_t hash);
enum status corpus_problem(const struct corpus_opts *o, uint64_t i, struct corpus_item *it,
                           struct err *err);
enum status corpus_story(const struct corpus_opts *o, uint64_t i, struct corpus_item *it,
                         struct err *err);
enum status corpus_drill(const struct corpus_opts *o, uint64_t i, struct corpus_item *it,
                         struct err *err);
enum status corpus_talk(const struct corpus_opts *o, uint64_t i, struct corpus_item *it,
                        struct err *err);
/* Appends a chat turn. */
void corpus_turn(struct buf *out, const char *role_token, const struct buf *text);

#endif
