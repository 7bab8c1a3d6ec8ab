/* server/cli_duo_texts.c - the texts of `strobe duo report`: symbolic (ours) and natural (the
 * user's files), cut into what networks learn from, what is held out and what routers learn from,
 * each with its vocabulary; and the tokens that figures are measured on. */
#include "engine/train/bpe.h"
#include "engine/train/corpus.h"
#include "server/cli_duo_parts.h"

#include <stdio.h>

enum {
    PROBLEM_TOKENS = 72,  /* less than a problem has, and its share of drills and talk */
    ROUTER_BYTES = 200000 /* of natural text for routers to learn from */
};

const char *report_text_name(int text)
{
    return text ? "natural" : "symbolic";
}

/* ---- to learn from ---- */

/* Lines of {"text"} or {"question","answer"}; the last eighth is held out. */
static enum status from_jsonl(const char *path, struct str rest, struct buf *train,
                              struct buf *held, struct err *err)
{
    const char *cut = rest.p + (rest.n - rest.n / 8);
    while (rest.n && err->code == ST_OK) {
        size_t end = str_find(rest, STR("\n"), 0);
        struct str line = { rest.p, end == SIZE_MAX ? rest.n : end };
        struct str parts[3] = { { NULL, 0 } };
        json_t *o = NULL;
        struct buf *to = line.p < cut ? train : held;
        if (str_trim(line).n && json_parse(line, path, &o, err) == ST_OK) {
            json_get_str(o, "text", false, &parts[0], err);
            json_get_str(o, "question", false, &parts[1], err);
            json_get_str(o, "answer", false, &parts[2], err);
            for (int i = 0; i < 3; i++)
                if (parts[i].p) {
                    buf_str(to, parts[i]);
                    buf_char(to, '\n');
                }
            buf_z(to, CORPUS_DOC_END "\n");
        }
        json_free(o);
        rest.p += end == SIZE_MAX ? rest.n : end + 1;
        rest.n -= end == SIZE_MAX ? rest.n : end + 1;
    }
    return err->code;
}

/* Carriage returns of other systems' line ends go. */
static size_t without_cr(char *p, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] != '\r')
            p[out++] = p[i];
    return out;
}

/* Plain text is one document, cut at an empty line where there is one. */
static void from_text(struct buf *file, struct buf *train, struct buf *held)
{
    struct str all = { file->p, without_cr(file->p, file->n) };
    size_t cut = str_find(all, STR("\n\n"), all.n - all.n / 8);
    cut = cut == SIZE_MAX ? all.n - all.n / 8 : cut;
    while (cut < all.n && ((unsigned char)all.p[cut] & 0xC0) == 0x80)
        cut++;
    buf_str(train, (struct str){ all.p, cut });
    buf_z(train, "\n" CORPUS_DOC_END "\n");
    buf_str(held, (struct str){ all.p + cut, all.n - cut });
    buf_z(held, "\n" CORPUS_DOC_END "\n");
}

enum { SOURCES = 16, PIECE = 480 };
struct sources {
    struct buf train[SOURCES], held[SOURCES];
    size_t n;
};

/* The files of --natural, with commas between. */
static enum status read_natural(const struct report *r, struct sources *s, struct err *err)
{
    struct str rest = str_c(r->natural);
    while (rest.n && err->code == ST_OK) {
        char path[FILE_PATH_MAX];
        struct buf all = BUF_INIT;
        size_t end = str_find(rest, STR(","), 0), n = end == SIZE_MAX ? rest.n : end;
        if (s->n == SOURCES)
            return err_set(err, ST_RANGE, "--natural: more than %d files", SOURCES);
        if (file_path(path, err, "%.*s", (int)n, rest.p) == ST_OK &&
            file_slurp(path, TEXT_MAX, &all, err) == ST_OK) {
            struct buf *train = &s->train[s->n], *held = &s->held[s->n];
            if (str_ends(str_c(path), STR(".jsonl")))
                from_jsonl(path, buf_view(&all), train, held, err);
            else
                from_text(&all, train, held);
            s->n++;
        }
        buf_clear(&all);
        rest.p += n < rest.n ? n + 1 : n;
        rest.n -= n < rest.n ? n + 1 : n;
    }
    return err->code;
}

/* Pieces of all sources by turns, so that a short stretch has something of each. */
static void by_turns(const struct buf *from, size_t n, size_t most, struct buf *to)
{
    bool more = true;
    for (size_t at = 0; more && to->n < most; at += PIECE) {
        more = false;
        for (size_t i = 0; i < n; i++) {
            struct str all = buf_view(&from[i]);
            size_t a = str_find(all, STR("\n"), at), b = str_find(all, STR("\n"), at + PIECE);
            if (a == SIZE_MAX || b == SIZE_MAX || b <= a)
                continue;
            buf_str(to, (struct str){ all.p + a + 1, b - a });
            more = true;
        }
    }
}

static enum status natural_text(const struct report *r, struct buf out[3], struct err *err)
{
    struct sources s = { .n = 0 };
    if (read_natural(r, &s, err) == ST_OK) {
        for (size_t i = 0; i < s.n; i++)
            buf_str(&out[0], buf_view(&s.train[i]));
        by_turns(s.held, s.n, SIZE_MAX, &out[1]);
        by_turns(s.train, s.n, ROUTER_BYTES, &out[2]);
    }
    for (size_t i = 0; i < s.n; i++) {
        buf_clear(&s.train[i]);
        buf_clear(&s.held[i]);
    }
    return err->code;
}

/* Problems, drills and talk as the bundled model has them, enough not to repeat. */
static enum status symbolic_text(const struct report *r, struct buf *out, struct err *err)
{
    const struct corpus_opts o = { .seed = 1, .split = CORPUS_TRAIN };
    uint64_t n = (r->steps * STEP_TOKENS / PROBLEM_TOKENS / 1000 + 1) * 1000, at = 0, i;
    const struct corpus_mix m = { { n, 0, n / 8, n / 40 } };
    struct corpus_item it = { .steps = 0 };
    for (; at < corpus_mix_total(&m) && err->code == ST_OK; at++) {
        enum corpus_kind kind = corpus_mix_at(&m, at, &i);
        if (corpus_make(&o, kind, i, &it, err) == ST_OK) {
            buf_str(out, buf_view(&it.document));
            buf_char(out, '\n');
        }
    }
    corpus_item_clear(&it);
    return err->code;
}

static enum status learn_vocab(const struct report *r, const char *path, struct str text,
                               struct err *err)
{
    static const struct str special[] = { STR(CORPUS_DOC_END), STR(CORPUS_USER),
                                          STR(CORPUS_ASSISTANT), STR(CORPUS_TURN_END) };
    struct bpe_opts o = { .n_vocab = (uint32_t)r->vocab,
                          .special = special,
                          .n_special = 4,
                          .bos = UINT32_MAX,
                          .eos = 0,
                          .pad = UINT32_MAX };
    struct bpe *b = NULL;
    if (bpe_create(&o, &b, err) == ST_OK && bpe_add_text(b, text, err) == ST_OK &&
        bpe_learn(b, err) == ST_OK)
        bpe_save(b, path, err);
    bpe_free(b);
    return err->code;
}

enum status report_text_make(struct report *r, int text, struct err *err)
{
    struct place *p = &r->at[text];
    struct buf out[3] = { BUF_INIT, BUF_INIT, BUF_INIT };
    if (file_path(p->dir, err, "%s/%s", r->out, report_text_name(text)) != ST_OK ||
        file_make_dirs(p->dir, 0755, err) != ST_OK ||
        file_path(p->train, err, "%s/train.txt", p->dir) != ST_OK ||
        file_path(p->held, err, "%s/held.txt", p->dir) != ST_OK ||
        file_path(p->route, err, "%s/route.txt", p->dir) != ST_OK ||
        file_path(p->vocab, err, "%s/vocab.gguf", p->dir) != ST_OK)
        return err->code;
    if (file_is_regular(p->vocab) && (text == 0 || file_is_regular(p->route)))
        return ST_OK;
    if (text == 0)
        symbolic_text(r, &out[0], err);
    else
        natural_text(r, out, err);
    const char *to[3] = { p->train, p->held, p->route };
    for (int i = 0; i < (text ? 3 : 1) && err->code == ST_OK; i++)
        if (buf_ok(&out[i], "text", err) == ST_OK)
            file_replace(to[i], buf_view(&out[i]), err);
    if (err->code == ST_OK && !file_is_regular(p->vocab))
        learn_vocab(r, p->vocab, buf_view(&out[0]), err);
    for (int i = 0; i < 3; i++)
        buf_clear(&out[i]);
    return err->code;
}

/* ---- to measure on ---- */

enum status report_text_open(const struct report *r, const struct duo_model *m, int text,
                             enum part part, size_t tokens, struct duo_text *t, struct err *err)
{
    static const uint64_t first[] = { [TRACED] = 0, [ROUTED] = 100000, [CALIBRATED] = 900000 };
    struct buf file = BUF_INIT;
    if (duo_text_init(t, m, CTX, tokens, err) != ST_OK)
        return err->code;
    snprintf(t->name, sizeof t->name, "%s", report_text_name(text));
    if (text == 0)
        return duo_text_symbolic(t, m, 1, first[part], err);
    const char *path = part == ROUTED ? r->at[text].route : r->at[text].held;
    if (file_slurp(path, TEXT_MAX, &file, err) == ST_OK) {
        struct str all = buf_view(&file); /* traces begin at the start, calibration in the middle */
        size_t cut = part == CALIBRATED ? str_find(all, STR("\n"), all.n / 2) : 0;
        cut = cut == SIZE_MAX ? 0 : cut;
        duo_text_plain(t, m, (struct str){ all.p + cut, all.n - cut }, false, err);
    }
    buf_clear(&file);
    return err->code;
}
