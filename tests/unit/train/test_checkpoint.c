/* tests/unit/train/test_checkpoint.c - a state is kept whole or not at all, and nothing that is not
 * whole, or of another network, is loaded. write(2), fsync(2) and rename(2) of the project are
 * wrapped to fail. */
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "engine/train/checkpoint.h"
#include "engine/train/manifest.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a disk that fails ---- */

static int64_t room = INT64_MAX; /* bytes until the disk is full */
static int fsyncs_left = -1;     /* until one fails; -1: none does */
static int tell = -1;            /* a byte goes there after each; -1: nowhere */

ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __real_fsync(int fd);
int __wrap_fsync(int fd);

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    if (room < (int64_t)n) {
        if (room <= 0) {
            errno = ENOSPC;
            return -1;
        }
        n = (size_t)room; /* a full disk takes what still fits */
    }
    room -= (int64_t)n;
    return __real_write(fd, p, n);
}

int __wrap_fsync(int fd)
{
    if (fsyncs_left == 0) {
        errno = EIO;
        return -1;
    }
    fsyncs_left -= fsyncs_left > 0;
    int r = __real_fsync(fd);
    if (tell >= 0 && __real_write(tell, "", 1) != 1)
        _exit(2);
    return r;
}

/* ---- states ---- */

static char run[FILE_PATH_MAX];

static void make_run(void)
{
    cr_assert(tmp_make(run));
}

static void remove_run(void)
{
    room = INT64_MAX;
    fsyncs_left = -1;
    tmp_remove(run);
}

TestSuite(checkpoint, .init = make_run, .fini = remove_run);

static struct net_shape shape(void)
{
    return (struct net_shape){ .n_vocab = 19,
                               .n_ctx = 8,
                               .n_layer = 2,
                               .d_model = 8,
                               .n_head = 2,
                               .n_kv_head = 1,
                               .d_head = 4,
                               .d_ff = 12,
                               .gated = true,
                               .tied = true,
                               .norm_eps = 1e-5,
                               .rope_theta = 10000 };
}

struct state {
    struct checkpoint c;
    struct checkpoint_arrays a;
    uint64_t n;
};

/* Numbers that belong to this step and no other. */
static struct state make_state(uint64_t step)
{
    struct net_shape s = shape();
    struct state st = { .n = net_n_param(&s) };
    st.c = (struct checkpoint){ .shape = s,
                                .step = step,
                                .seq = step * 8,
                                .tokens = step * 64,
                                .seed = 3,
                                .data = 0x123456789abcdef0,
                                .seconds = 0.1 * (double)step,
                                .dollars = 0.001,
                                .val_loss = (double)NAN,
                                .best_loss = 2.5,
                                .best_step = 1,
                                .tokenizer = { 7, 255 } };
    real **p[] = { &st.a.param, &st.a.m, &st.a.v };
    for (int k = 0; k < 3; k++) {
        *p[k] = calloc(st.n, sizeof **p[k]);
        for (uint64_t i = 0; i < st.n; i++)
            (*p[k])[i] = (real)(step * 1000 + i + (uint64_t)k) / 7;
    }
    return st;
}

static void drop_state(struct state *s)
{
    free(s->a.param);
    free(s->a.m);
    free(s->a.v);
}

static void save(uint64_t step, bool best, uint64_t keep_every)
{
    struct err err = ERR_INIT;
    struct state s = make_state(step);
    cr_assert_eq(checkpoint_save(run, &s.c, &s.a, best, keep_every, &err), ST_OK, "%s", err.msg);
    drop_state(&s);
}

static const char *in_run(const char *name)
{
    return tmp_path(run, name);
}

/* `name` holds the whole state of `step`. */
static void expect_state(const char *name, uint64_t step)
{
    struct err err = ERR_INIT;
    struct state want = make_state(step), got = make_state(0);
    struct checkpoint c;
    struct net_shape s = shape();
    cr_assert_eq(checkpoint_load(in_run(name), &s, &c, &got.a, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(c.step, step, "%s: step %lu, not %lu", name, c.step, step);
    cr_expect_eq(c.seq, want.c.seq);
    cr_expect_eq(c.tokens, want.c.tokens);
    cr_expect_eq(c.seed, 3);
    cr_expect_eq(c.data, want.c.data);
    cr_expect_eq(c.seconds, want.c.seconds);
    cr_expect_eq(c.best_loss, 2.5);
    cr_expect(isnan(c.val_loss));
    cr_expect_eq(memcmp(c.tokenizer, want.c.tokenizer, 32), 0);
    cr_expect_eq(memcmp(got.a.param, want.a.param, want.n * sizeof(real)), 0);
    cr_expect_eq(memcmp(got.a.m, want.a.m, want.n * sizeof(real)), 0);
    cr_expect_eq(memcmp(got.a.v, want.a.v, want.n * sizeof(real)), 0);
    drop_state(&want);
    drop_state(&got);
}

static bool there(const char *name)
{
    return access(in_run(name), F_OK) == 0;
}

Test(checkpoint, what_is_saved_is_loaded_to_the_bit)
{
    save(1, true, 0);
    expect_state("checkpoints/last", 1);
    expect_state("checkpoints/best", 1);
    save(2, false, 0);
    expect_state("checkpoints/last", 2);
    expect_state("checkpoints/best", 1);
    cr_expect(there("checkpoints/step-0000000001"), "best points there");
    save(3, true, 0);
    expect_state("checkpoints/best", 3);
    cr_expect(!there("checkpoints/step-0000000001"), "nothing points there any more");
    cr_expect(!there("checkpoints/step-0000000002"));
}

Test(checkpoint, steps_that_are_to_be_kept_stay)
{
    for (uint64_t step = 1; step <= 7; step++)
        save(step, false, 3);
    cr_expect(there("checkpoints/step-0000000003") && there("checkpoints/step-0000000006"));
    cr_expect(!there("checkpoints/step-0000000005"));
    expect_state("checkpoints/step-0000000003", 3);
    expect_state("checkpoints/last", 7);
}

Test(checkpoint, parameters_alone_can_be_loaded)
{
    struct err err = ERR_INIT;
    struct state got = make_state(0), want = make_state(4);
    struct checkpoint c;
    struct net_shape s = shape();
    save(4, false, 0);
    cr_assert_eq(truncate(in_run("checkpoints/last/m.bin"), 5), 0); /* nobody looks */
    struct checkpoint_arrays a = { .param = got.a.param };
    cr_assert_eq(checkpoint_load(in_run("checkpoints/last"), &s, &c, &a, &err), ST_OK, "%s",
                 err.msg);
    cr_expect_eq(memcmp(got.a.param, want.a.param, want.n * sizeof(real)), 0);
    drop_state(&got);
    drop_state(&want);
}

/* ---- disks that fail ---- */

static enum status try_save(uint64_t step, struct err *err)
{
    struct state s = make_state(step);
    enum status st = checkpoint_save(run, &s.c, &s.a, true, 0, err);
    drop_state(&s);
    return st;
}

/* Every amount of room, in strides that hit all files. */
Test(checkpoint, a_full_disk_leaves_the_old_state_and_says_so)
{
    save(1, true, 0);
    struct state s = make_state(2);
    int64_t all = 3 * (int64_t)(s.n * sizeof(real)) + 6000, failed = 0;
    drop_state(&s);
    for (int64_t bytes = 0; bytes < all; bytes += 97) {
        struct err err = ERR_INIT;
        room = bytes;
        enum status st = try_save(2, &err);
        room = INT64_MAX;
        if (st == ST_OK)
            break;
        failed++;
        cr_assert_eq(st, ST_IO, "%s", err.msg);
        cr_assert_eq(err.os, ENOSPC);
        cr_assert_not_null(strstr(err.msg, "checkpoint of step 2"), "%s", err.msg);
        cr_assert_not_null(strstr(err.msg, "No space left"), "%s", err.msg);
        cr_assert(!there("checkpoints/.tmp-step-0000000002"), "the room is given back");
        expect_state("checkpoints/last", 1);
        expect_state("checkpoints/best", 1);
    }
    cr_expect_gt(failed, 100);
    expect_state("checkpoints/last", 2);
}

enum { SYNCS = 8 }; /* of a save that is the best as well */

Test(checkpoint, a_disk_that_cannot_sync_leaves_the_old_state)
{
    save(1, true, 0);
    int n;
    for (n = 0; n < 20; n++) {
        struct err err = ERR_INIT;
        fsyncs_left = n;
        enum status st = try_save(2 + (uint64_t)n, &err);
        fsyncs_left = -1;
        if (st == ST_OK)
            break;
        cr_assert_eq(st, ST_IO, "%s", err.msg);
        /* The name may have moved when only its durability failed; what it names is whole. */
        struct checkpoint c;
        cr_assert_eq(checkpoint_peek(in_run("checkpoints/last"), &c, (err_clear(&err), &err)),
                     ST_OK, "%s", err.msg);
        expect_state("checkpoints/last", c.step);
        uint64_t last = c.step;
        cr_assert_eq(checkpoint_peek(in_run("checkpoints/best"), &c, &err), ST_OK, "%s", err.msg);
        cr_expect_geq(c.step, last, "each is the best so far, and the last one knows that");
        expect_state("checkpoints/best", c.step);
    }
    cr_expect_eq(n, SYNCS, "four files, the state's folder, its name, two links: %d", n);
}

/* ---- crashes ---- */

/* A child saves state after state until it is killed, soon after so many flushes: what a save takes
 * is the disk's affair, how often it flushes is not. */
static void kill_a_writer(uint64_t n_sync, uint64_t first)
{
    int told[2], status;
    char byte;
    cr_assert_eq(pipe(told), 0);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct err err = ERR_INIT;
        tell = told[1];
        for (uint64_t step = first;; step++) {
            struct state s = make_state(step);
            if (checkpoint_save(run, &s.c, &s.a, step % 3 == 0, 0, &err) != ST_OK)
                _exit(1);
            drop_state(&s);
        }
    }
    close(told[1]);
    while (n_sync && read(told[0], &byte, 1) == 1)
        n_sync--;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(told[0]);
    cr_assert(WIFSIGNALED(status), "the writer failed by itself");
}

Test(checkpoint, a_kill_at_any_moment_leaves_a_whole_last_state, .timeout = 600)
{
    struct err err = ERR_INIT;
    struct checkpoint c = { 0 };
    uint64_t moved = 0;
    struct rng r = { 5 };
    save(1, true, 0);
    save(2, true, 0);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t was = c.step;
        kill_a_writer(rng_below(&r, 3 * SYNCS), c.step + 1);
        cr_assert_eq(checkpoint_peek(in_run("checkpoints/last"), &c, &err), ST_OK, "%s", err.msg);
        cr_assert_geq(c.step, was, "a state was lost");
        expect_state("checkpoints/last", c.step);
        moved += c.step > was;
        cr_assert_eq(checkpoint_sweep(run, 0, &err), ST_OK, "%s", err.msg);
        expect_state("checkpoints/last", c.step);
    }
    cr_expect_gt(moved, 5, "the children wrote something: %lu of 60", moved);
}

Test(checkpoint, what_a_crash_left_is_swept_away)
{
    struct err err = ERR_INIT;
    save(5, true, 0);
    cr_assert_eq(file_make_dirs(in_run("checkpoints/.tmp-step-0000000006/x"), 0755, &err), ST_OK);
    cr_assert_eq(file_make_dirs(in_run("checkpoints/step-0000000004"), 0755, &err), ST_OK);
    cr_assert_eq(symlink("step-0000000004", in_run("checkpoints/.tmp-last")), 0);
    cr_assert_eq(checkpoint_sweep(run, 0, &err), ST_OK, "%s", err.msg);
    cr_expect(!there("checkpoints/.tmp-step-0000000006"));
    cr_expect(!there("checkpoints/step-0000000004"));
    cr_expect(!there("checkpoints/.tmp-last"));
    expect_state("checkpoints/last", 5);
    cr_expect_eq(checkpoint_sweep("/no/such/run", 0, &err), ST_OK, "nothing to do");
}

/* ---- states that are not whole ---- */

static enum status try_load(const struct net_shape *s, struct err *err)
{
    struct state got = make_state(0);
    struct checkpoint c = { .step = 77 };
    enum status st = checkpoint_load(in_run("checkpoints/last"), s, &c, &got.a, err);
    if (st != ST_OK)
        cr_expect_eq(c.step, 77, "the result was written");
    drop_state(&got);
    return st;
}

static void flip(const char *name, size_t at)
{
    size_t n;
    char *p = tmp_read(in_run(name), &n);
    cr_assert(p && at < n);
    p[at] ^= 0x10;
    cr_assert(tmp_write(in_run(name), p, n));
    free(p);
}

Test(checkpoint, a_damaged_tensor_is_named)
{
    struct net_shape s = shape();
    struct net_tensor *t = calloc(net_n_tensor(&s), sizeof *t);
    net_tensors(&s, t);
    const char *const file[] = { "params.bin", "m.bin", "v.bin" };
    for (uint32_t i = 0; i < net_n_tensor(&s); i++) {
        struct err err = ERR_INIT;
        char name[64];
        snprintf(name, sizeof name, "checkpoints/last/%s", file[i % 3]);
        size_t last = (size_t)(t[i].at + (uint64_t)t[i].rows * t[i].cols) * sizeof(real) - 1;
        save(10 + i, false, 0);
        flip(name, last);
        cr_expect_eq(try_load(&s, &err), ST_FORMAT);
        cr_expect_not_null(strstr(err.msg, t[i].name), "%s: %s", t[i].name, err.msg);
        cr_expect_not_null(strstr(err.msg, file[i % 3]), "%s", err.msg);
    }
    free(t);
}

Test(checkpoint, any_damaged_byte_of_the_manifest_is_noticed)
{
    struct net_shape s = shape();
    save(1, false, 0);
    size_t n;
    char *p = tmp_read(in_run("checkpoints/last/manifest.json"), &n);
    cr_assert_not_null(p);
    for (size_t i = 0; i < n; i++) {
        struct err err = ERR_INIT;
        p[i] ^= 0x01;
        cr_assert(tmp_write(in_run("checkpoints/last/manifest.json"), p, n));
        cr_assert_neq(try_load(&s, &err), ST_OK, "byte %zu", i);
        p[i] ^= 0x01;
    }
    for (size_t cut = 0; cut < n; cut += cut + 20 < n ? 13 : 1) {
        struct err err = ERR_INIT;
        cr_assert(tmp_write(in_run("checkpoints/last/manifest.json"), p, cut));
        cr_assert_eq(try_load(&s, &err), ST_FORMAT, "cut at %zu: %s", cut, err.msg);
    }
    free(p);
}

Test(checkpoint, files_of_another_size_or_none_are_refused)
{
    struct net_shape s = shape();
    struct err err = ERR_INIT;
    size_t n;
    save(1, false, 0);
    char *p = tmp_read(in_run("checkpoints/last/v.bin"), &n);
    for (int d = -1; d <= 1; d += 2) {
        char *q = calloc(n + 1, 1);
        memcpy(q, p, n);
        cr_assert(tmp_write(in_run("checkpoints/last/v.bin"), q, n + (size_t)d));
        cr_expect_eq(try_load(&s, &err), ST_FORMAT, "%s", err.msg);
        cr_expect_not_null(strstr(err.msg, "v.bin"), "%s", err.msg);
        err_clear(&err);
        free(q);
    }
    free(p);
    unlink(in_run("checkpoints/last/v.bin"));
    cr_expect_eq(try_load(&s, &err), ST_NOTFOUND);
    err_clear(&err);
    struct checkpoint c;
    cr_expect_eq(checkpoint_peek(in_run("none"), &c, &err), ST_NOTFOUND);
}

Test(checkpoint, a_state_of_another_network_is_refused_by_field)
{
    static const char *const name[] = { "n_vocab", "d_ff", "n_layer", "act", "tied", "rope_theta" };
    save(1, false, 0);
    for (unsigned i = 0; i < 6; i++) {
        struct err err = ERR_INIT;
        struct net_shape s = shape();
        s.n_vocab += i == 0;
        s.d_ff += i == 1;
        s.n_layer += i == 2;
        s.act = i == 3 ? NET_RELU : s.act;
        s.tied = i != 4;
        s.rope_theta += i == 5;
        cr_expect_eq(try_load(&s, &err), ST_ARG);
        cr_expect_not_null(strstr(err.msg, name[i]), "%s: %s", name[i], err.msg);
    }
}

/* Replaces the first `from` of the manifest and makes its checksum right again. */
static void edit_manifest(const char *from, const char *to)
{
    size_t n;
    struct buf out = BUF_INIT, text = BUF_INIT;
    char *p = tmp_read(in_run("checkpoints/last/manifest.json"), &n);
    size_t at = str_find((struct str){ p, n }, str_c(from), 0);
    cr_assert_neq(at, SIZE_MAX, "%s", from);
    buf_put(&out, p, at);
    buf_z(&out, to);
    buf_put(&out, p + at + strlen(from), n - at - strlen(from));
    size_t end = str_find(buf_view(&out), STR(",\"sum\":"), 0);
    cr_assert_neq(end, SIZE_MAX);
    buf_put(&text, out.p, end);
    buf_printf(&text, ",\"sum\":\"%016lx\"}\n", hash_chain(0, out.p, end));
    cr_assert(tmp_write(in_run("checkpoints/last/manifest.json"), text.p, text.n));
    buf_clear(&out);
    buf_clear(&text);
    free(p);
}

Test(checkpoint, a_manifest_that_cannot_be_is_refused_whatever_its_checksum)
{
    static const struct {
        const char *from, *to;
        enum status st;
        const char *part;
    } cases[] = {
        { "\"format\":1", "\"format\":2", ST_UNSUPPORTED, "format 2" },
        { "\"type\":\"f32\"", "\"type\":\"f64\"", ST_UNSUPPORTED, "f32" },
        { "\"step\":1", "\"step\":-1", ST_RANGE, "step" },
        { "\"step\":1,", "", ST_FORMAT, "step" },
        { "\"seconds\":0.10000000000000001", "\"seconds\":\"x\"", ST_FORMAT, "seconds" },
        { "\"name\":\"token_embd.weight\"", "\"name\":\"other\"", ST_FORMAT, "token_embd" },
        { "\"rows\":19", "\"rows\":18", ST_FORMAT, "token_embd" },
        { "\"rows\":19", "\"rows\":1e99", ST_FORMAT, "rows" },
        { "\"n_head\":2", "\"n_head\":0", ST_RANGE, "n_head" },
        { "\"n_vocab\":19", "\"n_vocab\":4294967295", ST_RANGE, "" },
        { "\"tensors\":[", "\"tensors\":[{},", ST_FORMAT, "name" },
        { "\"tokenizer\":\"07ff", "\"tokenizer\":\"0", ST_FORMAT, "tokenizer" },
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        struct net_shape s = shape();
        save(1, false, 0);
        edit_manifest(cases[i].from, cases[i].to);
        cr_expect_eq(try_load(&s, &err), cases[i].st, "%s: %s", cases[i].to, err.msg);
        cr_expect_not_null(strstr(err.msg, cases[i].part), "%s: %s", cases[i].to, err.msg);
        cr_assert_eq(file_remove_tree(in_run("checkpoints"), (err_clear(&err), &err)), ST_OK);
    }
}

Test(checkpoint, a_tensor_that_is_missing_from_the_list_is_noticed)
{
    struct err err = ERR_INIT;
    struct net_shape s = shape();
    save(1, false, 0);
    size_t n;
    char *p = tmp_read(in_run("checkpoints/last/manifest.json"), &n);
    char *last = strstr(p, "{\"name\":\"output_norm.weight\"");
    cr_assert_not_null(last);
    char entry[300];
    snprintf(entry, sizeof entry, ",%.*s", (int)(strchr(last, '}') - last + 1), last);
    free(p);
    edit_manifest(entry, "");
    cr_expect_eq(try_load(&s, &err), ST_FORMAT);
    cr_expect_not_null(strstr(err.msg, "tensors"), "%s", err.msg);
}
