/* tests/fault/test_alloc_train.c - settings, shards, checkpoints and whole training runs when
 * memory is out. fsync(2) is left out: the disk is not what is tested here. */
#include "engine/train/checkpoint.h"
#include "engine/train/data.h"
#include "engine/train/run_dir.h"
#include "engine/train/textset.h"
#include "engine/train/trainer.h"
#include "tests/fault/nth.h"
#include "tests/support/tmp.h"
#include "tests/unit/train/shards.h"
#include "tests/unit/train/vocab.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}

static char dir[FILE_PATH_MAX];

static void set_up(void)
{
    cr_assert(tmp_make(dir));
}

static void tear_down(void)
{
    tmp_remove(dir);
}

TestSuite(alloc_train, .init = set_up, .fini = tear_down, .timeout = 600);

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_z(out, made);
}

static void remove_quietly(const char *path)
{
    fault_pause();
    tmp_remove(path);
    fault_resume();
}

/* ---- settings ---- */

static enum status read_config(void *ctx, void **ret, struct err *err)
{
    struct train_config c = { 0 };
    struct buf b = BUF_INIT;
    json_t *doc = NULL;
    if (train_config_init(&c, err) == ST_OK && train_config_file(&c, ctx, err) == ST_OK &&
        train_config_set(&c, STR("tokenizer"), STR("t"), err) == ST_OK) {
        doc = train_config_dump(&c, false);
        if (!doc)
            err_set(err, ST_NOMEM, "dump");
        else if (json_write(doc, &b, err) == ST_OK && buf_ok(&b, "text", err) == ST_OK)
            *ret = buf_take(&b);
    }
    json_free(doc);
    buf_clear(&b);
    train_config_clear(&c);
    return err->code;
}

Test(alloc_train, settings_without_memory_are_not_read)
{
    const char text[] = "{\"data\":\"a\",\"steps\":3,\"act\":\"relu\"}";
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s", tmp_path(dir, "c.json"));
    cr_assert(tmp_write(path, text, sizeof text - 1));
    nth_alloc(&(struct nth_op){ .name = "train_config",
                                .ctx = path,
                                .run = read_config,
                                .print = print_text,
                                .drop = free });
}

/* ---- shards ---- */

static enum status write_shard(void *ctx, void **ret, struct err *err)
{
    const int32_t t[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    struct shard_writer *w = NULL;
    struct data *d = NULL;
    if (shard_create(ctx, 11, true, NULL, &w, err) != ST_OK)
        return err->code;
    for (int i = 0; i < 40; i++)
        if (shard_add(w, t, NULL, 9, 9, err) != ST_OK) {
            shard_abandon(w);
            return err->code;
        }
    if (shard_finish(&w, err) == ST_OK && data_open(ctx, true, &d, err) == ST_OK)
        *ret = d;
    return err->code;
}

static void print_data(void *ctx, void *made, struct buf *out)
{
    struct data_info in = data_info(made);
    (void)ctx;
    buf_printf(out, "%lu %lu", in.n_token, in.n_doc);
}

static void drop_data(void *made)
{
    data_close(made);
}

Test(alloc_train, a_shard_without_memory_is_neither_written_nor_opened)
{
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s", tmp_path(dir, "a.tok"));
    nth_alloc(&(struct nth_op){
        .name = "shard", .ctx = path, .run = write_shard, .print = print_data, .drop = drop_data });
}

static enum status open_folder(void *ctx, void **ret, struct err *err)
{
    struct data *d;
    if (data_open(ctx, false, &d, err) == ST_OK)
        *ret = d;
    return err->code;
}

Test(alloc_train, a_folder_of_shards_without_memory_is_not_opened)
{
    const uint32_t len[] = { 5 };
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "s-0000%d.tok", i);
        shards_write(tmp_path(dir, name), 11, false, len, 1, 0);
    }
    nth_alloc(&(struct nth_op){ .name = "data_open",
                                .ctx = dir,
                                .run = open_folder,
                                .print = print_data,
                                .drop = drop_data });
}

static struct vocab_open vocab;

static enum status tokenize(void *ctx, void **ret, struct err *err)
{
    struct data *d = NULL;
    struct textset_opts o = {
        .text = ctx, .dir = dir, .name = "t", .tokenizer = vocab.t, .digest = vocab.digest
    };
    if (textset_make(&o, err) == ST_OK &&
        data_open(tmp_path(dir, "t-00000.tok"), true, &d, err) == ST_OK)
        *ret = d;
    return err->code;
}

Test(alloc_train, text_without_memory_becomes_no_shards)
{
    static const char text[] = "{\"text\":\"one\"}\n{\"prompt\":\"a\",\"response\":\"b\"}\n";
    char path[FILE_PATH_MAX];
    vocab_write(tmp_path(dir, "v"), false);
    vocab_load(tmp_path(dir, "v"), &vocab);
    snprintf(path, sizeof path, "%s", tmp_path(dir, "a.jsonl"));
    cr_assert(tmp_write(path, text, sizeof text - 1));
    nth_alloc(&(struct nth_op){ .name = "textset_make",
                                .ctx = path,
                                .run = tokenize,
                                .print = print_data,
                                .drop = drop_data });
    vocab_drop(&vocab);
}

/* ---- checkpoints ---- */

static const struct net_shape shape = { .n_vocab = 19,
                                        .n_ctx = 8,
                                        .n_layer = 1,
                                        .d_model = 8,
                                        .n_head = 2,
                                        .n_kv_head = 1,
                                        .d_head = 4,
                                        .d_ff = 12,
                                        .tied = true,
                                        .norm_eps = 1e-5,
                                        .rope_theta = 10000 };
static real numbers[3][2000];

static enum status save(void *ctx, void **ret, struct err *err)
{
    struct checkpoint c = { .shape = shape, .step = 5, .seconds = 1 };
    struct checkpoint_arrays a = { numbers[0], numbers[1], numbers[2] };
    remove_quietly(ctx);
    if (checkpoint_save(ctx, &c, &a, true, 0, err) == ST_OK)
        *ret = ctx;
    return err->code;
}

static enum status load(void *ctx, void **ret, struct err *err)
{
    static struct checkpoint c;
    struct checkpoint_arrays a = { numbers[0], numbers[1], numbers[2] };
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/checkpoints/last", (char *)ctx);
    if (checkpoint_load(path, &shape, &c, &a, err) == ST_OK)
        *ret = &c;
    return err->code;
}

static void print_saved(void *ctx, void *made, struct buf *out)
{
    struct err err = ERR_INIT;
    void *c = NULL;
    (void)made;
    if (load(ctx, &c, &err) == ST_OK)
        buf_printf(out, "step %lu", ((struct checkpoint *)c)->step);
}

Test(alloc_train, a_checkpoint_without_memory_is_neither_saved_nor_loaded)
{
    char path[FILE_PATH_MAX];
    cr_assert_lt(net_n_param(&shape), 2000);
    snprintf(path, sizeof path, "%s", tmp_path(dir, "run"));
    nth_alloc(&(struct nth_op){
        .name = "checkpoint_save", .ctx = path, .run = save, .print = print_saved });
    nth_alloc(&(struct nth_op){
        .name = "checkpoint_load", .ctx = path, .run = load, .print = print_saved });
}

/* ---- the log ---- */

static enum status append(void *ctx, void **ret, struct err *err)
{
    struct run_dir *r = NULL;
    static struct run_tail tail;
    if (run_dir_open(ctx, &r, err) == ST_OK && run_dir_log_open(r, &tail, err) == ST_OK &&
        run_dir_log(r, json_pack("{s:i, s:f, s:f}", "step", 1, "seconds", 1.0, "dollars", 0.0),
                    err) == ST_OK)
        *ret = &tail;
    run_dir_close(r);
    return err->code;
}

static void print_step(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "step %lu", ((struct run_tail *)made)->step);
}

Test(alloc_train, a_log_without_memory_loses_no_line)
{
    char path[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    void *first = NULL;
    snprintf(path, sizeof path, "%s", tmp_path(dir, "run"));
    cr_assert_eq(append(path, &first, &err), ST_OK); /* from now on the tail is step 1 */
    nth_alloc(
        &(struct nth_op){ .name = "run_dir_log", .ctx = path, .run = append, .print = print_step });
}

/* ---- a whole run ---- */

static enum status train(void *ctx, void **ret, struct err *err)
{
    static struct train_result r;
    char run[FILE_PATH_MAX];
    snprintf(run, sizeof run, "%s", tmp_path(dir, "run"));
    remove_quietly(run);
    struct train_opts o = { .config = ctx, .dir = run };
    if (train_run(&o, &r, err) == ST_OK)
        *ret = &r;
    return err->code;
}

static void print_result(void *ctx, void *made, struct buf *out)
{
    const struct train_result *r = made;
    (void)ctx;
    buf_printf(out, "%lu %.17g %.17g", r->step, r->loss, r->val_loss);
}

Test(alloc_train, a_run_without_memory_ends_with_an_error_at_any_point)
{
    struct err err = ERR_INIT;
    struct train_config c;
    shards_text(tmp_path(dir, "a.tok"), 23, 20, 30, 1);
    cr_assert_eq(train_config_init(&c, &err), ST_OK);
    cr_assert_eq(train_config_set(&c, STR("data"), str_c(tmp_path(dir, "a.tok")), &err), ST_OK);
    c.n_layer = 1;
    c.d_model = 8;
    c.n_head = 2;
    c.ctx = 8;
    c.batch = 2;
    c.steps = 2;
    c.threads = 1;
    void *first = NULL;
    cr_assert_eq(train(&c, &first, &err), ST_OK, "%s", err.msg); /* libraries have what they keep */
    /* Times in its files have more digits or fewer, so the last of its 600 calls come and go: only
     * the first are counted, of the others some. */
    nth_alloc(&(struct nth_op){
        .name = "train_run", .ctx = &c, .run = train, .print = print_result, .all = 60 });
    train_config_clear(&c);
}
