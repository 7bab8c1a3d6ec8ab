/* engine/train/corpus.h - the text that strobe's small bundled model learns from and is examined
 * on: word problems with worked answers, arithmetic drills, small stories and a little talk. All of
 * it comes from our own tables (corpus_family.c, corpus_tail.c, corpus_schema.c, corpus_talk.c).
 *
 * Counter-based: item i of a kind depends on (seed, split, kind, i) alone, so any range can be made
 * by anybody, in any order, and a corpus has no length. Pure: no state, no files, any thread.
 *
 * What is kept out of `train`, exactly. A problem's key is its family and the numbers of its
 * question in their order; the names, objects and wordings do not count.
 *   test         the trained families, steps and number range; the key falls into the held-out
 *                eighth of all keys (a fixed hash, the same for every seed). `train` takes keys of
 *                the other seven eighths only. No question text and no number tuple of a family is
 *                in both.
 *   clauses      trained families with one step more than they have in train; held-out keys.
 *   distractors  item i is item i of `test` with one more sentence, which has a number and does not
 *                matter. No such sentence is in train.
 *   templates    families that are never in train (corpus_family_held()).
 *   numbers      trained families, but every equation leaves the trained range (below). Families of
 *                ages are left out: nobody is 214 years old.
 * Equations of all splits but `numbers` stay in the trained range: a + b <= 100; a - b >= 1 with
 * a <= 100; factors, divisors and quotients 2..12. In `numbers` a sum or a minuend is 101..999, or
 * one of two factors (of divisor and quotient) is 13..19 and the other 2..19.
 * Stories: the eighth of all texts with the held-out hash is `test`, the rest `train`. Drills and
 * talk exist in `train` only. Drills cover the whole tables and are not held out: what `test`
 * asks about 7 x 8 is whether the model finds out that 7 x 8 is wanted. */
#ifndef STROBE_TRAIN_CORPUS_H
#define STROBE_TRAIN_CORPUS_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Special tokens. A chat turn is "<|user|>\n" text "<|end|>\n", likewise for the assistant; a
 * document ends with <|endoftext|>, before which the last line feed is left out; nothing comes
 * before the first turn. The line feeds cost three tokens a document: with them the form is the one
 * that llama.cpp's C interface, which knows templates by sight and runs no Jinja, takes it for. */
#define CORPUS_USER      "<|user|>"
#define CORPUS_ASSISTANT "<|assistant|>"
#define CORPUS_TURN_END  "<|end|>"
#define CORPUS_DOC_END   "<|endoftext|>"

/* Jinja. Other roles than user and assistant are left out: the model has seen none. */
#define CORPUS_CHAT_TEMPLATE                                                                       \
    "{% for message in messages %}"                                                                \
    "{% if message['role'] == 'user' or message['role'] == 'assistant' %}"                         \
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"                   \
    "{% endif %}"                                                                                  \
    "{% endfor %}"                                                                                 \
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"

enum corpus_split {
    CORPUS_TRAIN,
    CORPUS_TEST,
    CORPUS_NUMBERS,
    CORPUS_CLAUSES,
    CORPUS_DISTRACTORS,
    CORPUS_TEMPLATES,
    CORPUS_SPLITS
};
const char *corpus_split_name(enum corpus_split s);
/* false: no split has this name; *ret is then unchanged. */
bool corpus_split_find(struct str name, enum corpus_split *ret);

enum corpus_kind { CORPUS_PROBLEM, CORPUS_STORY, CORPUS_DRILL, CORPUS_TALK, CORPUS_KINDS };
const char *corpus_kind_name(enum corpus_kind k);

/* What a run of bytes of a question or answer is. Spans cover the text without gaps. */
enum corpus_class {
    CORPUS_GLUE,
    CORPUS_NAME,
    CORPUS_OBJECT, /* what is counted: apples, boxes, children, euros */
    CORPUS_GIVEN,  /* a number where the question first says it: cannot be foreseen */
    CORPUS_RESULT, /* the number after "=": has to be computed */
    CORPUS_COPY,   /* a number of the answer that stands further up */
    CORPUS_FACT,   /* a number of the answer that one has to know: 7 days, 12 to the dozen */
    CORPUS_CLASSES
};
const char *corpus_class_name(enum corpus_class c);

enum { CORPUS_SPANS_MAX = 192, CORPUS_NUMBERS_MAX = 16, CORPUS_STEPS_MAX = 6 };

struct corpus_span {
    uint32_t from, to; /* bytes, half open */
    enum corpus_class class;
};

struct corpus_spans {
    struct corpus_span at[CORPUS_SPANS_MAX];
    size_t n;
};

struct corpus_opts {
    uint64_t seed;
    enum corpus_split split;
    uint32_t steps_min, steps_max; /* of problems; 0: all that the split has */
};

/* An item. Zero it before its first use; memory is used again from item to item. */
struct corpus_item {
    enum corpus_kind kind;
    enum corpus_split split;
    uint64_t index;
    char id[96];        /* "test-7-12": split, seed, index; "test.1-2-7-12" where steps were chosen;
                           other kinds with the kind in front */
    const char *family; /* of a problem or drill, schema of a story, subject of a talk; static */
    uint32_t steps;     /* equations of the answer; 0: not a problem or drill */
    struct buf question, answer; /* of the last exchange; a story outside a chat: both empty */
    struct corpus_spans in_question, in_answer;
    int64_t gold; /* steps > 0 */
    int64_t number[CORPUS_NUMBERS_MAX];
    uint32_t n_number;   /* numbers of the question in their order */
    struct buf document; /* the whole text with its special tokens */
};
void corpus_item_clear(struct corpus_item *it);

/* Errors: ST_ARG (no family of the split has so many steps; drills and talk outside train; stories
 * outside train and test), ST_NOMEM. */
enum status corpus_make(const struct corpus_opts *o, enum corpus_kind kind, uint64_t i,
                        struct corpus_item *it, struct err *err);

/* A corpus as one list of documents: so many of each kind, evenly mixed. */
struct corpus_mix {
    uint64_t n[CORPUS_KINDS];
};
uint64_t corpus_mix_total(const struct corpus_mix *m);
/* Document number `at` of the mix: its kind, and its index within the kind. at < total. */
enum corpus_kind corpus_mix_at(const struct corpus_mix *m, uint64_t at, uint64_t *index);

/* One line of JSON: id, kind, family, split, steps, question, answer, gold, numbers, and with
 * `classes` the spans as {"question":[[from,to,"name"],...],"answer":[...]}. Stories and talk: id,
 * kind, family, split, text. Ends with a line feed. */
void corpus_write_json(const struct corpus_item *it, bool classes, struct buf *out);

/* ---- families ---- */
uint32_t corpus_n_family(void);
const char *corpus_family_name(uint32_t i);
bool corpus_family_held(uint32_t i);        /* never in train */
uint32_t corpus_family_least(uint32_t i);   /* steps of its shortest problem */
uint32_t corpus_family_most(uint32_t i);    /* of its longest one in train (or templates) */
bool corpus_family_has_numbers(uint32_t i); /* takes part in `numbers` */
bool corpus_key_held(const char *family, const int64_t *number, uint32_t n_number);
uint32_t corpus_n_schema(void); /* of stories */

/* ---- scoring ---- */
/* The number behind the last "####". false: there is none. Commas between digits are skipped. */
bool corpus_gold(struct str response, int64_t *ret);
/* Reads every "a op b = c" of an answer (op: + - x /). true: there are n of them, all hold, and the
 * last c is gold, which also stands behind "####". */
bool corpus_check(struct str answer, uint32_t n, int64_t gold);
/* Wilson's score interval for k of n, 95 % (Wilson 1927). n 0: 0..1. */
void corpus_wilson(uint64_t k, uint64_t n, double *low, double *high);

#endif
