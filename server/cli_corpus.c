/* server/cli_corpus.c - `strobe corpus`: writes the text that the bundled model is trained on, or
 * the problems it is examined on; `strobe corpus eval` (cli_corpus_eval.c) examines a model. */
#include "server/cli_corpus.h"

#include "engine/base/num.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ITEMS_MAX = 1 << 30, BLOCK = 1 << 18 };

static void declare(struct cli_opts *o, struct cli *c, struct cli_corpus *g)
{
    static const struct {
        const char *name, *help;
    } kind[CORPUS_KINDS] = {
        { "problems", "word problems (default 10000)" },
        { "stories", "small stories (default: train one for five problems, else none)" },
        { "drills", "plain arithmetic (default: train one for eight problems, else none)" },
        { "talk", "small talk (default: train one for forty problems, else none)" },
    };
    cli_opts_init(
        o, c,
        "strobe corpus -o DIR [options]\n"
        "       strobe corpus eval -m MODEL [options]",
        "Writes DIR/SPLIT.txt: word problems, stories, drills and talk that the bundled "
        "model is trained on, made from tables and a seed. eval asks a model problems and "
        "counts right answers.");
    cli_opt(o, (struct opt){ "output", 'o', OPT_STR, &g->out, 0, 0, "PATH",
                             "folder to write to; eval: file for the model's answers" });
    cli_opt(o, (struct opt){ "seed", 's', OPT_COUNT, &g->seed, 0, 9007199254740992.0, "S",
                             "same seed, same text (default 1; splits stay apart for any seeds)" });
    cli_opt(o, (struct opt){ "split", 0, OPT_STR, &g->splits, 0, 0, "NAME",
                             "train (default), test, numbers, clauses, distractors, templates; "
                             "eval: some with commas, or all (default: all but train)" });
    cli_opt(o, (struct opt){ "steps", 0, OPT_STR, &g->steps, 0, 0, "A[-B]",
                             "problems with so many steps only (default: all that a split has)" });
    for (int k = 0; k < CORPUS_KINDS; k++)
        cli_opt(o, (struct opt){ kind[k].name, 0, OPT_COUNT, &g->n[k], 0, ITEMS_MAX, "N",
                                 kind[k].help });
    cli_opt(o, (struct opt){ "format", 0, OPT_STR, &g->format, 0, 0, "FORM",
                             "text (documents, each ends with <|endoftext|> and a line feed; "
                             "default) or jsonl" });
    cli_opt(o, (struct opt){ "classes", 0, OPT_FLAG, &g->classes,
                             .help = "jsonl: byte ranges of names, objects, numbers, results" });
    cli_opt(o, (struct opt){ "n", 'n', OPT_COUNT, &g->n_eval, 1, ITEMS_MAX, "N",
                             "eval: problems of each split (default 200)" });
    cli_opt(o, (struct opt){ "max-tokens", 0, OPT_COUNT, &g->max_tokens, 1, 4096, "N",
                             "eval: longest answer (default 192)" });
    cli_model_opts(o, &g->model, true);
}

static enum status parse_steps(struct cli_corpus *g, struct err *err)
{
    uint64_t least, most;
    if (!g->steps)
        return ST_OK;
    struct str all = str_c(g->steps);
    size_t dash = str_find(all, STR("-"), 0);
    struct str a = { all.p, dash == SIZE_MAX ? all.n : dash };
    struct str b = dash == SIZE_MAX ? a : (struct str){ all.p + dash + 1, all.n - dash - 1 };
    if (num_u64(a, "--steps", 1, CORPUS_STEPS_MAX, &least, err) != ST_OK ||
        num_u64(b, "--steps", least, CORPUS_STEPS_MAX, &most, err) != ST_OK)
        return err->code;
    g->steps_min = (uint32_t)least;
    g->steps_max = (uint32_t)most;
    return ST_OK;
}

static struct corpus_mix mix_of(const struct cli_corpus *g, enum corpus_split split)
{
    static const uint64_t one_for[CORPUS_KINDS] = { 1, 5, 8, 40 };
    struct corpus_mix m;
    for (int k = 0; k < CORPUS_KINDS; k++) {
        uint64_t problems = k ? m.n[CORPUS_PROBLEM] : 10000;
        bool has = split == CORPUS_TRAIN || k == CORPUS_PROBLEM;
        m.n[k] = g->n[k] != CORPUS_DEFAULT ? g->n[k] : has ? problems / one_for[k] : 0;
    }
    return m;
}

static enum status flush(FILE *f, struct buf *b, uint64_t *bytes, struct err *err)
{
    if (fwrite(buf_view(b).p, 1, b->n, f) != b->n)
        return err_sys(err, errno, "write");
    *bytes += b->n;
    buf_reset(b);
    return ST_OK;
}

static enum status write_items(struct cli *c, const struct cli_corpus *g,
                               const struct corpus_opts *o, const struct corpus_mix *m, FILE *f,
                               uint64_t *bytes, struct err *err)
{
    struct corpus_item it = { 0 };
    struct buf b = BUF_INIT;
    uint64_t total = corpus_mix_total(m), i;
    bool json = g->format && strcmp(g->format, "jsonl") == 0;
    for (uint64_t at = 0; at < total && err->code == ST_OK; at++) {
        enum corpus_kind kind = corpus_mix_at(m, at, &i);
        if (corpus_make(o, kind, i, &it, err) != ST_OK)
            break;
        if (json) {
            corpus_write_json(&it, g->classes, &b);
        } else {
            buf_str(&b, buf_view(&it.document));
            buf_char(&b, '\n');
        }
        if (buf_ok(&b, "corpus", err) == ST_OK && (b.n >= BLOCK || at + 1 == total) &&
            flush(f, &b, bytes, err) == ST_OK)
            cli_progress(c, "written", *bytes, *bytes);
    }
    cli_progress_end(c);
    corpus_item_clear(&it);
    buf_clear(&b);
    return err->code;
}

static enum status report(struct cli *c, const char *path, const struct corpus_mix *m,
                          uint64_t bytes, struct err *err)
{
    char size[32];
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "file", path,
                                        "documents", (json_int_t)corpus_mix_total(m), "problems",
                                        (json_int_t)m->n[CORPUS_PROBLEM], "stories",
                                        (json_int_t)m->n[CORPUS_STORY], "drills",
                                        (json_int_t)m->n[CORPUS_DRILL], "talk",
                                        (json_int_t)m->n[CORPUS_TALK], "bytes", (json_int_t)bytes),
                              err);
    printf("%s: %" PRIu64 " documents, %s\n", path, corpus_mix_total(m),
           num_size_text(bytes, size));
    return ST_OK;
}

/* Writes path.tmp, then renames: a file that is there is whole. */
static enum status write_file(struct cli *c, const struct cli_corpus *g,
                              const struct corpus_opts *o, const char *path, struct err *err)
{
    char temp[4200];
    struct corpus_mix m = mix_of(g, o->split);
    uint64_t bytes = 0;
    snprintf(temp, sizeof temp, "%s.tmp", path);
    FILE *f = fopen(temp, "wb");
    if (!f) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", temp);
    }
    write_items(c, g, o, &m, f, &bytes, err);
    if (fclose(f) != 0)
        err_sys(err, errno, "close");
    if (err->code == ST_OK && rename(temp, path) != 0)
        err_sys(err, errno, "rename");
    if (err->code != ST_OK) {
        unlink(temp);
        return err_ctx(err, "'%s'", path);
    }
    return report(c, path, &m, bytes, err);
}

static enum status generate(struct cli *c, const struct cli_corpus *g, struct err *err)
{
    struct corpus_opts o = { g->seed, CORPUS_TRAIN, g->steps_min, g->steps_max };
    char path[4096];
    if (!g->out)
        return err_set(err, ST_ARG, "corpus needs -o DIR");
    if (g->splits && !corpus_split_find(str_c(g->splits), &o.split))
        return err_set(err, ST_ARG, "--split: there is no '%s'", g->splits);
    if (g->format && strcmp(g->format, "text") != 0 && strcmp(g->format, "jsonl") != 0)
        return err_set(err, ST_ARG, "--format: '%s' is not text or jsonl", g->format);
    bool json = g->format && strcmp(g->format, "jsonl") == 0;
    int n = snprintf(path, sizeof path, "%s/%s.%s", g->out, corpus_split_name(o.split),
                     json ? "jsonl" : "txt");
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(err, ST_ARG, "-o: the path is too long");
    if (mkdir(g->out, 0777) != 0 && errno != EEXIST) {
        err_sys(err, errno, "mkdir");
        return err_ctx(err, "'%s'", g->out);
    }
    return write_file(c, g, &o, path, err);
}

enum status cli_corpus(struct cli *c, struct err *err)
{
    struct cli_corpus g = { .seed = 1, .n_eval = 200, .max_tokens = 192 };
    struct cli_opts o;
    const char *word[2];
    size_t n;
    bool done;
    for (int k = 0; k < CORPUS_KINDS; k++)
        g.n[k] = CORPUS_DEFAULT;
    declare(&o, c, &g);
    if (cli_parse(&o, c, word, 2, &n, &done, err) != ST_OK || done || parse_steps(&g, err) != ST_OK)
        return err->code;
    if (n == 0)
        return generate(c, &g, err);
    if (n == 1 && strcmp(word[0], "eval") == 0)
        return cli_corpus_eval(c, &g, err);
    if (n == 2 && strcmp(word[0], "score") == 0)
        return cli_corpus_score(c, word[1], err);
    return err_set(err, ST_ARG, "corpus %s: it is 'corpus eval' or 'corpus score FILE'", word[0]);
}
