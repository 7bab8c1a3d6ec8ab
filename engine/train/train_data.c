/* engine/train/train_data.c - see train_data.h.
 *
 *   RUN/data/train/train-00000.tok ...  RUN/data/held_out/...  RUN/data/vocab.gguf
 *   RUN/data/prepared.json              all of them are whole
 */
#include "engine/train/train_data.h"

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/train/bpe.h"
#include "engine/train/textset.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <unistd.h>

enum { SPECIALS_MAX = 64 };

/* ---- text into shards ---- */

struct vocab {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    unsigned char digest[32];
};

static enum status vocab_open(const char *path, struct vocab *v, struct err *err)
{
    if (gguf_open(path, &v->gguf, err) != ST_OK)
        return err->code;
    if (tokenizer_from_gguf(v->gguf, NULL, &v->tokenizer, err) != ST_OK)
        return err_ctx(err, "'%s'", path);
    tokenizer_digest(v->tokenizer, v->digest);
    return ST_OK;
}

static void vocab_close(struct vocab *v)
{
    tokenizer_free(v->tokenizer);
    gguf_close(v->gguf);
}

static bool from_text(const struct train_config *c)
{
    return textset_is_text(c->data) || (c->held_out[0] && textset_is_text(c->held_out));
}

/* The vocabulary's file: given, or learned into the run's folder. */
static enum status vocab_path(const struct train_data_opts *o, char out[FILE_PATH_MAX],
                              struct err *err)
{
    if (o->config->n_vocab)
        return file_path(out, err, "%s/data/vocab.gguf", o->dir);
    if (o->config->tokenizer[0])
        return file_path(out, err, "%s", o->config->tokenizer);
    out[0] = '\0';
    return ST_OK;
}

static enum status make_set(const struct train_data_opts *o, const char *text, const char *name,
                            const struct vocab *v, struct err *err)
{
    char dir[FILE_PATH_MAX];
    if (!text[0] || !textset_is_text(text))
        return ST_OK;
    if (file_path(dir, err, "%s/data/%s", o->dir, name) != ST_OK ||
        file_remove_tree(dir, err) != ST_OK || file_make_dirs(dir, 0755, err) != ST_OK)
        return err->code;
    return textset_make(&(struct textset_opts){ .text = text,
                                                .dir = dir,
                                                .name = name,
                                                .tokenizer = v->tokenizer,
                                                .digest = v->digest,
                                                .progress = o->progress,
                                                .ctx = o->ctx },
                        err);
}

/* ---- learning a vocabulary ---- */

static const char usual_special[] = "<|endoftext|>";

/* The words between commas. Returns how many, at most `max`. */
static uint32_t split_words(const char *list, struct str *out, uint32_t max)
{
    uint32_t n = 0;
    for (const char *at = list; *at && n < max; n++) {
        const char *comma = strchrnul(at, ',');
        out[n] = str_trim((struct str){ at, (size_t)(comma - at) });
        at = *comma ? comma + 1 : comma;
    }
    return n;
}

struct learner {
    const struct train_data_opts *o;
    struct bpe *bpe;
};

static enum status learn_piece(void *ctx, const struct textset_piece *p, uint64_t done,
                               uint64_t total, struct err *err)
{
    struct learner *l = ctx;
    if (l->o->progress && !l->o->progress(l->o->ctx, done, total))
        return err_set(err, ST_CANCELLED, "stopped while learning the vocabulary");
    return bpe_add_text(l->bpe, p->prompt, err) == ST_OK ? bpe_add_text(l->bpe, p->text, err)
                                                         : err->code;
}

static enum status learn_vocab(const struct train_data_opts *o, const char *path, struct err *err)
{
    const struct train_config *c = o->config;
    struct str special[SPECIALS_MAX];
    struct bpe_opts bo = { .n_vocab = c->n_vocab,
                           .special = special,
                           .n_special = split_words(c->special[0] ? c->special : usual_special,
                                                    special, SPECIALS_MAX),
                           .bos = UINT32_MAX,
                           .eos = 0,
                           .pad = UINT32_MAX };
    struct learner l = { .o = o };
    if (bo.n_special == 0)
        return err_set(err, ST_ARG, "special: no token in '%.60s'", c->special);
    if (bpe_create(&bo, &l.bpe, err) == ST_OK &&
        textset_each(c->data, special[0], learn_piece, &l, err) == ST_OK &&
        bpe_learn(l.bpe, err) == ST_OK)
        bpe_save(l.bpe, path, err);
    bpe_free(l.bpe);
    return err->code;
}

static enum status make_all(const struct train_data_opts *o, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct vocab v = { 0 };
    const struct train_config *c = o->config;
    if (!c->tokenizer[0] && !c->n_vocab)
        return err_set(err, ST_ARG, "'%s' is text: give tokenizer (a GGUF file) or n_vocab",
                       textset_is_text(c->data) ? c->data : c->held_out);
    if (vocab_path(o, path, err) != ST_OK || (c->n_vocab && learn_vocab(o, path, err) != ST_OK))
        return err->code;
    if (vocab_open(path, &v, err) == ST_OK && make_set(o, c->data, "train", &v, err) == ST_OK)
        make_set(o, c->held_out, "held_out", &v, err);
    vocab_close(&v);
    return err->code;
}

static enum status no_text(const char *path, struct err *err)
{
    if (access(path, F_OK) == 0)
        return err_set(err, ST_ARG,
                       "n_vocab: '%s' is no text to learn a vocabulary from: a file named .txt or "
                       ".jsonl",
                       path);
    err_input(err, errno, "data");
    return err_ctx(err, "'%s'", path);
}

enum status train_data_make(const struct train_data_opts *o, struct err *err)
{
    char mark[FILE_PATH_MAX], dir[FILE_PATH_MAX];
    if (o->config->n_vocab && !textset_is_text(o->config->data))
        return no_text(o->config->data, err);
    if (!from_text(o->config))
        return ST_OK;
    if (file_path(dir, err, "%s/data", o->dir) != ST_OK ||
        file_path(mark, err, "%s/prepared.json", dir) != ST_OK)
        return err->code;
    if (file_is_regular(mark))
        return ST_OK;
    if (file_make_dirs(dir, 0755, err) != ST_OK || make_all(o, err) != ST_OK)
        return err->code;
    return file_replace(mark, STR("{\"format\":1}\n"), err);
}

/* ---- opening ---- */

static enum status open_set(const struct train_data_opts *o, const char *path, const char *name,
                            struct train_set *s, struct err *err)
{
    char dir[FILE_PATH_MAX];
    if (textset_is_text(path)) {
        if (file_path(dir, err, "%s/data/%s", o->dir, name) != ST_OK)
            return err->code;
        path = dir;
    }
    if (data_open(path, true, &s->data, err) != ST_OK)
        return err->code;
    s->owned = true;
    s->n = data_n_seq(s->data, o->config->ctx);
    return ST_OK;
}

static bool known(const unsigned char digest[32])
{
    for (int i = 0; i < 32; i++)
        if (digest[i])
            return true;
    return false;
}

static enum status same_vocab(const struct data_info *a, const char *a_name, uint32_t n_vocab,
                              const unsigned char digest[32], const char *b_name, struct err *err)
{
    if (a->n_vocab != n_vocab)
        return err_set(err, ST_ARG, "'%s' has a vocabulary of %u, '%s' one of %u", a_name,
                       a->n_vocab, b_name, n_vocab);
    if (known(a->digest) && known(digest) && memcmp(a->digest, digest, 32) != 0)
        return err_set(err, ST_ARG, "'%s' was made with another tokenizer than '%s'", a_name,
                       b_name);
    return ST_OK;
}

/* A tokenizer that is given must be the one that made the shards. */
static enum status check_vocab(const struct train_config *c, struct train_data *d, struct err *err)
{
    struct vocab v = { 0 };
    if (d->vocab[0] && vocab_open(d->vocab, &v, err) == ST_OK)
        same_vocab(&d->info, c->data, tokenizer_n_vocab(v.tokenizer), v.digest, d->vocab, err);
    vocab_close(&v);
    return err->code;
}

/* The end of the training set, when nothing else is there to be measured on. */
static void split(const struct train_config *c, struct train_data *d)
{
    uint64_t n = (uint64_t)ceil((double)d->train.n * c->held_out_fraction);
    if (n == 0 || n >= d->train.n)
        return;
    d->train.n -= n;
    d->held = (struct train_set){ .data = d->train.data, .from = d->train.n, .n = n };
}

static enum status open_held(const struct train_data_opts *o, struct train_data *d, struct err *err)
{
    const struct train_config *c = o->config;
    if (!c->held_out[0]) {
        split(c, d);
        return ST_OK;
    }
    if (open_set(o, c->held_out, "held_out", &d->held, err) != ST_OK)
        return err->code;
    struct data_info in = data_info(d->held.data);
    if (d->held.n == 0)
        return err_set(err, ST_ARG, "'%s' has %" PRIu64 " tokens, fewer than one sequence of %u",
                       c->held_out, in.n_token, c->ctx + 1);
    return same_vocab(&d->info, c->data, in.n_vocab, in.digest, c->held_out, err);
}

static enum status check_amount(const struct train_config *c, const struct train_data *d,
                                struct err *err)
{
    uint64_t need = (uint64_t)c->batch * c->accumulate;
    if (d->train.n >= need)
        return ST_OK;
    return err_set(err, ST_ARG,
                   "'%s' has %" PRIu64 " tokens: %" PRIu64
                   " training sequences of %u, fewer than one step takes (batch %u x accumulate "
                   "%u); give more text or lower batch or ctx",
                   c->data, d->info.n_token, d->train.n, c->ctx, c->batch, c->accumulate);
}

enum status train_data_open(const struct train_data_opts *o, struct train_data *ret,
                            struct err *err)
{
    struct train_data d = { 0 };
    if (vocab_path(o, d.vocab, err) == ST_OK &&
        open_set(o, o->config->data, "train", &d.train, err) == ST_OK) {
        d.info = data_info(d.train.data);
        if (check_vocab(o->config, &d, err) == ST_OK && open_held(o, &d, err) == ST_OK &&
            check_amount(o->config, &d, err) == ST_OK) {
            *ret = d;
            return ST_OK;
        }
    }
    train_data_close(&d);
    return err->code;
}

void train_data_close(struct train_data *d)
{
    if (d->held.owned)
        data_close(d->held.data);
    if (d->train.owned)
        data_close(d->train.data);
    *d = (struct train_data){ 0 };
}

uint64_t train_data_identity(const struct train_data *d)
{
    const uint64_t v[] = { d->info.sum, d->info.n_token, d->train.from, d->train.n };
    return hash_chain(0, v, sizeof v);
}
