/* server/cli_model.c - `strobe inspect`, `estimate` and `calibrate`: answers before anything is
 * loaded. */
#include "engine/base/num.h"
#include "engine/io/calibrate.h"
#include "server/cli.h"

/* Prints a document for people: one "key: value" line per member, nested objects indented. */
static void print_tree(const json_t *doc, int depth)
{
    const char *key;
    json_t *v;
    char size[32];
    json_object_foreach((json_t *)doc, key, v)
    {
        printf("%*s%s:", 2 * depth, "", key);
        size_t n = strlen(key);
        if (json_is_object(v)) {
            putchar('\n');
            print_tree(v, depth + 1);
            continue;
        }
        if (json_is_string(v))
            printf(" %s", json_string_value(v));
        else if (json_is_integer(v) && n > 6 && strcmp(key + n - 6, "_bytes") == 0)
            printf(" %s", num_size_text((uint64_t)json_integer_value(v), size));
        else if (json_is_integer(v))
            printf(" %lld", (long long)json_integer_value(v));
        else if (json_is_real(v))
            printf(" %.6g", json_real_value(v));
        else if (json_is_boolean(v))
            printf(" %s", json_is_true(v) ? "yes" : "no");
        else if (json_is_array(v))
            printf(" %zu entries", json_array_size(v));
        else
            printf(" -");
        putchar('\n');
    }
}

static enum status show(struct cli *c, json_t *doc, struct err *err)
{
    if (c->json)
        return cli_print_json(doc, err);
    print_tree(doc, 0);
    json_free(doc);
    return ST_OK;
}

static enum status verify(const struct cli *c, const struct engine_opts *eo, json_t **ret,
                          struct err *err)
{
    uint64_t bytes, n;
    enum status st = engine_verify(eo, &bytes, &n, err);
    cli_progress_end(c);
    if (st == ST_OK)
        *ret =
            json_pack("{s:I, s:I}", "tensors", (json_int_t)n, "checked_bytes", (json_int_t)bytes);
    return st;
}

enum status cli_inspect(struct cli *c, struct err *err)
{
    struct cli_model m = { 0 };
    struct cli_opts o;
    struct engine_opts eo;
    const char *rest[1];
    size_t n_rest;
    json_t *doc, *verified = NULL;
    bool done, check = false;
    cli_opts_init(&o, c, "strobe inspect -m MODEL [--verify]",
                  "Shows what a model file holds, without loading its weights.");
    cli_model_opts(&o, &m, false);
    cli_opt(&o, (struct opt){ "verify", 0, OPT_FLAG, &check,
                              .help = "packed models: read the whole file and compare it with its "
                                      "checksums (exit code 3: a tensor is damaged)" });
    if (cli_parse(&o, c, rest, 1, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    if (!m.model && n_rest)
        m.model = rest[0];
    if (cli_engine_opts(c, &m, &eo, err) != ST_OK ||
        (check && verify(c, &eo, &verified, err) != ST_OK) ||
        engine_inspect(&eo, &doc, err) != ST_OK) {
        json_free(verified);
        return err->code;
    }
    if (verified)
        json_object_set_new(doc, "verified", verified);
    return show(c, doc, err);
}

enum status cli_estimate(struct cli *c, struct err *err)
{
    struct cli_model m = { 0 };
    struct cli_opts o;
    struct engine_opts eo;
    json_t *doc;
    bool done;
    char data[4096];
    cli_opts_init(&o, c, "strobe estimate -m MODEL --ram SIZE [--ctx N] [--slots N]",
                  "Plans where each byte would live under SIZE, before anything is loaded. Exit "
                  "code 4: it does not fit.");
    cli_model_opts(&o, &m, true);
    cli_draft_opts(&o, &m);
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (cli_engine_opts(c, &m, &eo, err) != ST_OK || cli_data_dir(m.data_dir, data, err) != ST_OK)
        return err->code;
    eo.cache_dir = data;
    if (engine_estimate(&eo, &doc, err) != ST_OK)
        return err->code;
    bool fits = json_is_true(json_object_get(doc, "fits"));
    int64_t least = json_integer_value(json_object_get(doc, "least_bytes"));
    if (show(c, doc, err) != ST_OK || fits)
        return err->code;
    char need[32];
    return err_set(err, ST_BUDGET, "does not fit: the least that works is --ram %lld (%s)",
                   (long long)least, num_size_text((uint64_t)least, need));
}

static void calibrate_progress(void *ctx, const char *what, double share)
{
    cli_progress(ctx, what, (uint64_t)(share * 1000), 1000);
}

enum status cli_calibrate(struct cli *c, struct err *err)
{
    struct cli_opts o;
    const char *rest[1], *data_dir = NULL;
    char data[4096];
    size_t n_rest;
    bool done;
    double seconds = 10;
    struct disk_model d;
    cli_opts_init(&o, c, "strobe calibrate [PATH]",
                  "Measures the disk that holds PATH (a model file, or a folder that takes a "
                  "scratch file; default: the data directory) and keeps the result for estimates.");
    cli_opt(&o, (struct opt){ "data", 0, OPT_STR, &data_dir, 0, 0, "DIR", "data directory" });
    cli_opt(&o, (struct opt){ "seconds", 0, OPT_REAL, &seconds, 1, 600, "S",
                              "time to spend (default 10)" });
    if (cli_parse(&o, c, rest, 1, &n_rest, &done, err) != ST_OK || done ||
        cli_data_dir(data_dir, data, err) != ST_OK)
        return err->code;
    struct calibrate_opts co = { .path = n_rest ? rest[0] : data,
                                 .budget_s = seconds,
                                 .cache_dir = data,
                                 .progress = calibrate_progress,
                                 .ctx = c };
    if (calibrate_run(&co, &d, err) != ST_OK)
        return err->code;
    cli_progress_end(c);
    return show(c,
                json_pack("{s:s, s:f, s:f, s:f, s:f, s:i, s:f, s:f}", "path", co.path,
                          "seconds_per_read", d.read_s, "bytes_per_second", d.bytes_per_s,
                          "sequential_bytes_per_second", d.seq_bytes_per_s, "latency_seconds",
                          d.latency_s, "depth", (int)d.depth, "fit_error", d.fit_error,
                          "memory_bytes_per_second", d.mem_bytes_per_s),
                err);
}
