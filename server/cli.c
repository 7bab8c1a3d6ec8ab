/* server/cli.c - see cli.h. */
#include "server/cli.h"

#include "engine/base/file.h"
#include "engine/base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void cli_opt(struct cli_opts *o, struct opt row)
{
    o->opt[o->table.n++] = row;
}

void cli_opts_init(struct cli_opts *o, struct cli *c, const char *usage, const char *about)
{
    *o = (struct cli_opts){ .table = { .usage = usage, .about = about } };
    o->table.opt = o->opt;
    cli_opt(o,
            (struct opt){ "json", 0, OPT_FLAG, &c->json, .help = "one JSON document on stdout" });
    cli_opt(o, (struct opt){ "quiet", 'q', OPT_FLAG, &c->quiet, .help = "no progress, no notes" });
    cli_opt(o,
            (struct opt){ "verbose", 'v', OPT_FLAG, &c->verbose, .help = "more notes on stderr" });
    cli_opt(o, (struct opt){ "threads", 't', OPT_COUNT, &c->threads, 1, 256, "N",
                             "compute threads (default: all cores)" });
    cli_opt(o, (struct opt){ "help", 'h', OPT_FLAG, &c->help, .help = "this text" });
}

void cli_model_opts(struct cli_opts *o, struct cli_model *m, bool serving)
{
    cli_opt(o, (struct opt){ "model", 'm', OPT_STR, &m->model, 0, 0, "MODEL",
                             "GGUF file or Hugging Face folder" });
    cli_opt(o, (struct opt){ "ram", 0, OPT_SIZE, &m->ram, 1, 0, "SIZE",
                             "memory cap, e.g. 4GiB (default: what the machine allows)" });
    cli_opt(o, (struct opt){ "ctx", 'c', OPT_COUNT, &m->ctx, 1, 1 << 24, "N",
                             "positions per sequence (default: the model's, at most 4096)" });
    cli_opt(o, (struct opt){ "flash", 0, OPT_STR, &m->flash, 0, 0, "MODE",
                             "auto, off (all in RAM), dense (stream layers), sparse" });
    cli_opt(o, (struct opt){ "source", 0, OPT_STR, &m->source, 0, 0, "KIND",
                             "how weights are read: auto, uring, pread, buffered, mmap (for "
                             "comparison: slow, fills the page cache)" });
    cli_opt(o, (struct opt){ "cpu", 0, OPT_STR, &m->cpu, 0, 0, "LEVEL",
                             "force instruction set down: ref, avx2, avx512" });
    cli_opt(o, (struct opt){ "kv", 0, OPT_STR, &m->kv, 0, 0, "TYPE",
                             "cached keys and values: f16, f32, auto (default: f32 for F32 "
                             "attention weights, else f16)" });
    cli_opt(o, (struct opt){ "cache-policy", 0, OPT_STR, &m->cache, 0, 0, "NAME",
                             "which neurons of a packed model stay: adaptive (default), lfu, "
                             "lru, window, static" });
    cli_opt(o, (struct opt){ "no-overlap", 0, OPT_FLAG, &m->no_overlap, 0, 0, NULL,
                             "packed models: read what a layer misses, then compute (for "
                             "comparison)" });
    cli_opt(o, (struct opt){ "mask-sigma", 0, OPT_REAL, &m->mask_sigma, 0, 100, "X",
                             "margin of a 4-bit sketch in standard deviations (default 3)" });
    cli_opt(o, (struct opt){ "keep", 0, OPT_REAL, &m->keep, 0.001, 1, "SHARE",
                             "neurons that a token may use, of a file packed with --mask resident; "
                             "not exact (default 1: all)" });
    m->mask_check = CLI_MASK_CHECK_AUTO;
    cli_opt(o, (struct opt){ "mask-check", 0, OPT_COUNT, &m->mask_check, 0, 1 << 24, "N",
                             "packed models: look at one token in N for what the mask misses, 0: "
                             "none (default 64, none where the mask is exact)" });
    cli_opt(o, (struct opt){ "activation", 0, OPT_STR, &m->activation, 0, 0, "NAME",
                             "override: silu, gelu, relu, drelu, fatrelu:T, relu2" });
    cli_opt(o, (struct opt){ "data", 0, OPT_STR, &m->data_dir, 0, 0, "DIR",
                             "data directory (default: ~/.local/share/strobe)" });
    cli_opt(o, (struct opt){ "span", 0, OPT_COUNT, &m->span, 1, 65536, "N",
                             "prompt tokens that share one reading of streamed weights (default "
                             "2048, where memory allows); no more than --batch: off" });
    if (!serving)
        return;
    cli_opt(o, (struct opt){ "slots", 0, OPT_COUNT, &m->slots, 1, ENGINE_SLOTS_MAX, "N",
                             "sequences that decode together (default 4)" });
    cli_opt(o, (struct opt){ "batch", 0, OPT_COUNT, &m->batch, 1, 65536, "N",
                             "prompt tokens per pass (default 512)" });
    cli_opt(o, (struct opt){ "queue", 0, OPT_COUNT, &m->queue, 1, 65536, "N",
                             "waiting requests before 429 (default 64)" });
}

void cli_draft_opts(struct cli_opts *o, struct cli_model *m)
{
    cli_opt(o, (struct opt){ "draft-model", 0, OPT_STR, &m->draft_model, 0, 0, "FILE",
                             "second, small model with the same vocabulary that guesses tokens; "
                             "they are verified, the output is the same" });
    cli_opt(o, (struct opt){ "draft-self", 0, OPT_FLAG, &m->draft_self,
                             .help = "packed models: guess with the neurons that are in memory; "
                                     "the output is the same" });
}

void cli_reuse_opt(struct cli_opts *o, struct cli_model *m)
{
    cli_opt(o, (struct opt){ "reuse", 0, OPT_COUNT, &m->reuse, 0, 1 << 20, "N",
                             "packed models: after a pass that reads neurons, N passes of one "
                             "token do with those in memory; not exact (default 0)" });
}

void cli_put_reuse(json_t *doc, const struct engine_info *in, const struct engine_stats *st)
{
    double mass = engine_mass_dropped(st);
    if (!doc || !in->reuse)
        return;
    json_object_set_new(doc, "reuse", json_integer(in->reuse));
    json_object_set_new(doc, "reuse_passes", json_integer((json_int_t)st->reuse_passes));
    json_object_set_new(doc, "neurons_dropped", json_integer((json_int_t)st->neurons_dropped));
    json_object_set_new(doc, "activation_mass_dropped",
                        mass == mass ? json_real(mass) : json_null());
}

enum status cli_parse(struct cli_opts *o, struct cli *c, const char **rest, size_t rest_max,
                      size_t *n_rest, bool *done, struct err *err)
{
    size_t n;
    *done = false;
    if (opt_parse(&o->table, c->argc, c->argv, rest, rest_max, n_rest ? n_rest : &n, err) != ST_OK)
        return c->help ? (err_clear(err), opt_help(&o->table, stdout), *done = true, ST_OK)
                       : err->code;
    if (c->help) {
        opt_help(&o->table, stdout);
        *done = true;
    }
    return ST_OK;
}

/* Index of word in the NULL-ended list; -1: not there. */
static int word_index(const char *word, const char *const *list)
{
    for (int i = 0; list[i]; i++)
        if (strcmp(word, list[i]) == 0)
            return i;
    return -1;
}

static enum status pick_words(const struct cli_model *m, struct engine_opts *r, struct err *err)
{
    static const char *const flash[] = { "auto", "off", "dense", "sparse", NULL };
    static const char *const source[] = { "auto", "uring", "pread", "buffered", "mmap", NULL };
    static const char *const cpu[] = { "ref", "avx2", "avx512", NULL };
    static const char *const kv[] = { "auto", "f16", "f32", NULL };
    static const char *const cache[] = { "adaptive", "lfu", "lru", "window", "static", NULL };
    int p = m->cache ? word_index(m->cache, cache) : 0;
    int f = m->flash ? word_index(m->flash, flash) : 0;
    int s = m->source ? word_index(m->source, source) : 0;
    int l = m->cpu ? word_index(m->cpu, cpu) : -1;
    int k = m->kv ? word_index(m->kv, kv) : 0;
    if (f < 0)
        return err_set(err, ST_ARG, "--flash: '%s' is not auto, off, dense or sparse", m->flash);
    if (s < 0)
        return err_set(err, ST_ARG, "--source: '%s' is not auto, uring, pread, buffered or mmap",
                       m->source);
    if (m->cpu && l < 0)
        return err_set(err, ST_ARG, "--cpu: '%s' is not ref, avx2 or avx512", m->cpu);
    if (k < 0)
        return err_set(err, ST_ARG, "--kv: '%s' is not f16, f32 or auto", m->kv);
    if (p < 0)
        return err_set(err, ST_ARG,
                       "--cache-policy: '%s' is not adaptive, lfu, lru, window or static",
                       m->cache);
    r->cache = (enum engine_cache)p;
    r->kv = (enum engine_kv)k;
    r->flash = (enum engine_flash)f;
    r->source = (enum engine_source)s;
    r->cpu_level = l;
    return ST_OK;
}

enum status cli_engine_opts(struct cli *c, const struct cli_model *m, struct engine_opts *ret,
                            struct err *err)
{
    if (!m->model)
        return err_set(err, ST_ARG, "no model: give -m FILE.gguf or -m FOLDER");
    struct engine_opts r = {
        .model = m->model,
        .ram_bytes = m->ram,
        .n_thread = (uint32_t)c->threads,
        .n_slot = (uint32_t)m->slots,
        .n_ctx = (uint32_t)m->ctx,
        .n_batch = (uint32_t)m->batch,
        .n_span = (uint32_t)m->span,
        .queue_max = (uint32_t)m->queue,
        .activation = m->activation,
        .no_overlap = m->no_overlap,
        .mask_sigma = m->mask_sigma,
        .keep = m->keep,
        .mask_check = m->mask_check == CLI_MASK_CHECK_AUTO ? 0
                      : m->mask_check                      ? (uint32_t)m->mask_check
                                                           : ENGINE_MASK_CHECK_OFF,
        .draft_model = m->draft_model,
        .draft_self = m->draft_self,
        .reuse = (uint32_t)m->reuse,
        .progress = cli_progress,
        .progress_ctx = c,
    };
    if (pick_words(m, &r, err) != ST_OK)
        return err->code;
    *ret = r;
    return ST_OK;
}

enum status cli_output(const char *path, struct err *err)
{
    char target[FILE_PATH_MAX];
    if (file_target(path, target, err) != ST_OK)
        return err->code;
    char *slash = strrchr(target, '/');
    if (slash)
        slash[slash == target] = '\0';
    if (access(slash ? target : ".", W_OK | X_OK) == 0)
        return ST_OK;
    err_sys(err, errno, "its folder");
    return err_ctx(err, "'%s'", path);
}

static enum status make_dirs(char *path, struct err *err)
{
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char keep = *p;
        *p = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            err_sys(err, errno, "mkdir");
            return err_ctx(err, "data directory '%s'", path);
        }
        *p = keep;
        if (!keep)
            return ST_OK;
    }
}

enum status cli_data_dir(const char *given, char *out, struct err *err)
{
    const char *home = getenv("HOME"), *xdg = getenv("XDG_DATA_HOME"), *env = getenv("STROBE_DATA");
    int n;
    if (given || (env && *env))
        n = snprintf(out, 4096, "%s", given ? given : env);
    else if (xdg && *xdg)
        n = snprintf(out, 4096, "%s/strobe", xdg);
    else
        n = snprintf(out, 4096, "%s/.local/share/strobe", home && *home ? home : "/tmp");
    if (n <= 0 || n >= 4096)
        return err_set(err, ST_ARG, "data directory: empty or too long a path");
    return make_dirs(out, err);
}

enum status cli_read_all(const char *path, size_t max, struct buf *out, struct err *err)
{
    bool in = strcmp(path, "-") == 0;
    int fd = in ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_input(err, errno, "open");
        return err_ctx(err, "'%s'", path);
    }
    file_slurp_fd(fd, path, max, out, err);
    if (!in)
        close(fd);
    return err->code;
}

enum status cli_print_json(json_t *doc, struct err *err)
{
    struct buf b = BUF_INIT;
    if (!doc || json_object_set_new(doc, "strobe", json_string(STROBE_VERSION)) != 0)
        err_set(err, ST_NOMEM, "JSON output");
    else if (json_write(doc, &b, err) == ST_OK)
        printf("%s\n", b.p);
    buf_clear(&b);
    json_free(doc);
    return err->code;
}

void cli_progress(void *cli, const char *what, uint64_t done, uint64_t total)
{
    const struct cli *c = cli;
    char a[32], b[32];
    if (c->quiet || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%s %s / %s", what, num_size_text(done, a), num_size_text(total, b));
}

void cli_progress_end(const struct cli *c)
{
    if (!c->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}
