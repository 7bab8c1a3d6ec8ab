/* tests/fault/test_read.c - the Nth read fails, ends early, comes short or is interrupted: of a
 * container's header and the files beside it, of the weights while they load, and of the weights
 * that stream while a request runs. Reads of io_uring are changed where their outcome comes in;
 * the others are pread's and fread's. */
#include "engine/engine.h"
#include "engine/flash/pack.h"
#include "engine/io/internal.h"
#include "engine/model/model.h"
#include "engine/model/tokenizer.h"
#include "tests/fault/ask.h"
#include "tests/fault/nth.h"
#include "tests/fault/place.h"
#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- io_uring, and copies out of a mapping ---- */

bool __real_source_advance(const struct source *s, struct source_req *req, long n);
bool __wrap_source_advance(const struct source *s, struct source_req *req, long n);
bool __wrap_source_advance(const struct source *s, struct source_req *req, long n)
{
    long page = (long)s->align, got = n;
    bool kernel_reads = strncmp(source_name(s), "io_uring", 8) == 0;
    if (!kernel_reads && strcmp(source_name(s), "mmap") != 0) /* pread's reads failed below */
        return __real_source_advance(s, req, n);
    if (fault_due(FAULT_READ))
        n = -EIO;
    if (fault_due(FAULT_INTR))
        n = -EINTR;
    if (fault_due(FAULT_END))
        n = 0;
    if (fault_due(FAULT_SHORT) && n >= 2 * page)
        n = n / 2 / page * page;
    for (long i = n < 0 ? 0 : n; i < got; i++) /* the kernel did read it */
        ((unsigned char *)req->dst)[req->got + (size_t)i] = 0xa5;
    return __real_source_advance(s, req, n);
}

struct io_uring;
int __real_io_uring_submit(struct io_uring *ring) __attribute__((weak));
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
    return fault_due(FAULT_SUBMIT) ? -EAGAIN : __real_io_uring_submit(ring);
}

int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned n) __attribute__((weak));
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
    return fault_due(FAULT_SUBMIT) ? -EINTR : __real_io_uring_submit_and_wait(ring, n);
}

/* ---- what may happen ---- */

static const struct what {
    enum fault fault;
    const char *name;
    enum status st; /* ST_OK: it must not be seen */
    const char *says;
} whats[] = {
    { FAULT_READ, "fails", ST_IO, "Input/output error" },
    { FAULT_END, "meets the end", ST_FORMAT, "truncated" },
    { FAULT_SHORT, "comes short", ST_OK, NULL },
    { FAULT_INTR, "is interrupted", ST_OK, NULL },
    { FAULT_SUBMIT, "is not taken", ST_OK, NULL },
};
enum { N_WHAT = sizeof whats / sizeof whats[0] };

static struct place at;
static const struct what *now; /* of the running test */
static const char *names;      /* the path that its errors must name */

static void setup(void)
{
    place_make(&at);
}

static void teardown(void)
{
    place_clear(&at);
}

TestSuite(read, .init = setup, .fini = teardown, .timeout = 600);

static void expect_cause(const struct err *err)
{
    cr_expect_eq(err->code, now->st, "%s: %s", now->name, err->msg);
    cr_expect(strstr(err->msg, names), "'%s' does not name %s", err->msg, names);
    cr_expect(!now->says || strstr(err->msg, now->says), "'%s' does not say %s", err->msg,
              now->says);
}

static void fail_reads(struct nth_op *op, const struct what *w)
{
    enum status ok[] = { w->st, ST_OK };
    now = w;
    nth_fail(op, w->fault, ok);
}

/* ---- headers and the files beside them ---- */

static enum status open_model(void *ctx, void **ret, struct err *err)
{
    struct model *m;
    if (model_open(ctx, NULL, &m, err) == ST_OK)
        *ret = m;
    else
        expect_cause(err);
    return err->code;
}

static void print_model(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_z(out, model_hash(made));
}

static void drop_model(void *made)
{
    model_close(made);
}

static enum status load_tokenizer(void *ctx, void **ret, struct err *err)
{
    struct tokenizer *t;
    if (tokenizer_from_dir(ctx, &t, err) == ST_OK)
        *ret = t;
    else
        expect_cause(err);
    return err->code;
}

static void print_tokenizer(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%u %d", tokenizer_n_vocab(made), tokenizer_is_eog(made, 100));
    buf_str(out, tokenizer_chat_template(made, NULL));
}

static void drop_tokenizer(void *made)
{
    tokenizer_free(made);
}

Test(read, a_header_that_cannot_be_read_is_an_error_that_names_the_file)
{
    char *path[] = { at.gguf, at.folder, at.stories };
    for (size_t i = 0; i < 3 && path[i][0]; i++) {
        struct nth_op op = { .name = "model_open",
                             .ctx = path[i],
                             .run = open_model,
                             .print = print_model,
                             .drop = drop_model };
        names = path[i];
        for (size_t k = 0; k < N_WHAT && whats[k].fault != FAULT_SUBMIT; k++)
            fail_reads(&op, &whats[k]);
    }
}

Test(read, a_tokenizer_file_that_cannot_be_read_is_an_error_that_names_it)
{
    names = at.folder;
    fail_reads(&(struct nth_op){ .name = "tokenizer_from_dir",
                                 .ctx = at.folder,
                                 .run = load_tokenizer,
                                 .print = print_tokenizer,
                                 .drop = drop_tokenizer },
               &whats[0]);
}

/* ---- loading ---- */

static enum status open_engine(void *ctx, void **ret, struct err *err)
{
    struct engine *e;
    if (engine_open(ctx, &e, err) == ST_OK)
        *ret = e;
    else
        expect_cause(err);
    return err->code;
}

static void print_engine(void *ctx, void *made, struct buf *out)
{
    struct answer a;
    (void)ctx;
    cr_expect_eq(ask(made, 2, &a), ST_OK, "%s", a.err.msg);
    answer_print(&a, out);
}

static void drop_engine(void *made)
{
    engine_close(made);
}

static struct engine_opts small(const char *path, enum engine_source source)
{
    return (struct engine_opts){ .model = path,
                                 .ram_bytes = (uint64_t)1 << 30,
                                 .n_thread = 2,
                                 .n_slot = 1,
                                 .n_ctx = 32,
                                 .n_batch = 8,
                                 .queue_max = 4,
                                 .source = source,
                                 .cpu_level = -1 };
}

/* False, and said: this machine has no such source. */
static bool have(const char *path, enum engine_source source)
{
    struct engine_opts o = small(path, source);
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    if (engine_open(&o, &e, &err) == ST_OK)
        engine_close(e);
    else
        fprintf(stderr, "SKIPPED: reads of source %d: %s\n", (int)source, err.msg);
    return err.code == ST_OK;
}

static void fail_loading(const char *path, enum engine_source source)
{
    if (!path[0] || !have(path, source))
        return;
    struct engine_opts o = small(path, source);
    struct nth_op op = { .name = "engine_open",
                         .ctx = &o,
                         .run = open_engine,
                         .print = print_engine,
                         .drop = drop_engine,
                         .threads = true };
    names = path;
    for (size_t k = 0; k < N_WHAT; k++)
        if (whats[k].fault != FAULT_SUBMIT || source == ENGINE_SOURCE_URING)
            fail_reads(&op, &whats[k]);
}

Test(read, weights_that_cannot_be_read_through_io_uring_are_not_served)
{
    fail_loading(at.gguf, ENGINE_SOURCE_URING);
}

Test(read, weights_that_cannot_be_read_through_pread_are_not_served)
{
    fail_loading(at.gguf, ENGINE_SOURCE_PREAD);
}

Test(read, weights_that_cannot_be_read_through_the_page_cache_are_not_served)
{
    fail_loading(at.gguf, ENGINE_SOURCE_BUFFERED);
}

Test(read, weights_that_cannot_be_read_through_a_mapping_are_not_served)
{
    fail_loading(at.gguf, ENGINE_SOURCE_MMAP);
}

/* Some tensors of gpt2 are read whole and transposed: another loop. */
Test(read, tensors_that_are_reordered_and_cannot_be_read_are_not_served)
{
    fail_loading(at.gpt2, ENGINE_SOURCE_AUTO);
}

/* ---- streaming ---- */

enum { N_ASKED = 2 };

static struct engine *open_streaming(const char *path, enum engine_source source,
                                     enum engine_flash flash)
{
    struct engine_opts o = small(path, source);
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    o.ram_bytes = 1;
    o.flash = flash;
    o.n_batch = flash == ENGINE_FLASH_SPARSE ? 24 : o.n_batch; /* beyond what a mask is asked for */
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    o.ram_bytes = (uint64_t)json_integer_value(json_object_get(doc, "least_bytes"));
    json_free(doc);
    cr_assert_eq(engine_open(&o, &e, &err), ST_OK, "%s", err.msg);
    cr_assert_gt(engine_info(e)->streamed_bytes, 0u);
    return e;
}

static void expect_tokens(const struct answer *a, const struct answer *want, uint64_t n)
{
    struct buf x = BUF_INIT, y = BUF_INIT;
    answer_print(a, &x);
    answer_print(want, &y);
    cr_expect(str_eq(buf_view(&x), buf_view(&y)), "read %lu %s: '%s' instead of '%s'", n, now->name,
              x.p, y.p);
    buf_clear(&x);
    buf_clear(&y);
}

/* One request; 1 when it ended in the error that is due, 0 when it gave the right tokens. */
static unsigned errs(struct engine *e, const struct answer *want, uint64_t n)
{
    struct answer a;
    if (ask(e, N_ASKED, &a) == ST_OK) {
        expect_tokens(&a, want, n);
        return 0;
    }
    cr_expect_eq(a.finish, FINISH_ERROR);
    expect_cause(&a.err);
    return 1;
}

/* Reads run ahead of the request that uses them, so the fault may be the next request's, and what
 * was read by a wrong guess is nobody's. Then the engine is as good as before. */
static void fail_streaming(struct engine *e, const struct what *w, bool guesses)
{
    struct answer want, a;
    uint64_t n_hit = 0, n_err = 0, n_tried = 0, step = nth_gate() ? 5 : 1;
    now = w;
    cr_assert_eq(ask(e, N_ASKED, &want), ST_OK, "%s", want.err.msg);
    fault_arm(w->fault, UINT64_MAX, false);
    cr_assert_eq(ask(e, N_ASKED, &a), ST_OK, "%s", a.err.msg);
    uint64_t calls = fault_disarm();
    /* A helper thread submits what has gathered: how many calls that takes is chance. */
    bool gathers = guesses && w->fault == FAULT_SUBMIT;
    cr_assert_gt(calls, gathers ? 3u : 20u, "%s: too few reads", w->name);
    for (uint64_t n = 1; n <= calls; n += step, n_tried++) {
        fault_arm(w->fault, n, false);
        unsigned seen = errs(e, &want, n);
        fault_disarm();
        bool hit = fault_hits() > 0;
        seen += errs(e, &want, n);
        bool due = hit && w->st != ST_OK;
        cr_expect(seen == due || (guesses && due && seen == 0), "read %lu %s: seen by %u requests",
                  n, w->name, seen);
        cr_assert_eq(ask(e, N_ASKED, &a), ST_OK, "after read %lu %s: %s", n, w->name, a.err.msg);
        expect_tokens(&a, &want, n);
        n_hit += hit;
        n_err += seen;
    }
    /* How far the ring is read ahead when a request begins and when it ends is chance: one made 39
     * calls where another made 99. */
    cr_expect_geq(n_hit, gathers ? 1 : n_tried / 4);
    fprintf(stderr, "fault: streaming, %s: %lu of %lu calls (%lu tried): %s, %lu requests failed\n",
            engine_info(e)->source, n_hit, calls, n_tried, w->name, n_err);
}

static void stream_file(const char *path, enum engine_source source, bool guesses)
{
    struct engine *e;
    if (!have(path, source))
        return;
    e = open_streaming(path, source, guesses ? ENGINE_FLASH_SPARSE : ENGINE_FLASH_AUTO);
    names = path;
    for (size_t k = 0; k < N_WHAT; k++)
        if (whats[k].fault != FAULT_SUBMIT || source == ENGINE_SOURCE_URING)
            fail_streaming(e, &whats[k], guesses);
    engine_close(e);
    cr_expect(!fault_leaks());
}

static void stream_from(enum engine_source source)
{
    stream_file(at.gguf, source, false);
}

Test(read, a_request_whose_weights_cannot_be_read_through_io_uring_ends_and_the_next_is_right)
{
    stream_from(ENGINE_SOURCE_URING);
}

Test(read, a_request_whose_weights_cannot_be_read_through_pread_ends_and_the_next_is_right)
{
    stream_from(ENGINE_SOURCE_PREAD);
}

Test(read, a_request_whose_weights_cannot_be_read_buffered_ends_and_the_next_is_right)
{
    stream_from(ENGINE_SOURCE_BUFFERED);
}

static void pack_relu(char packed[160])
{
    char relu[160];
    struct tiny_model t = tiny_model_default("llama");
    struct err err = ERR_INIT;
    struct model *m;
    struct pack_report rep;
    t.activation = "relu";
    t.n_ff = 1024;
    t.n_layer = 4;
    t.type = DT_F16;
    snprintf(relu, sizeof relu, "%s/relu.gguf", at.dir);
    snprintf(packed, 160, "%s/packed.gguf", at.dir);
    cr_assert(tiny_model_gguf(&t, relu));
    cr_assert_eq(model_open(relu, NULL, &m, &err), ST_OK, "%s", err.msg);
    struct pack_opts o = { .out = packed, .mask = PACK_MASK_SKETCH, .type = -1 };
    cr_assert_eq(pack_run(m, &o, &rep, &err), ST_OK, "%s", err.msg);
    model_close(m);
}

/* Neuron by neuron: reads of guesses, of misses, merged ones; no slots, so that all come again. */
Test(read, a_request_whose_neurons_cannot_be_read_ends_and_the_next_is_right)
{
    char packed[160];
    pack_relu(packed);
    stream_file(packed, ENGINE_SOURCE_URING, true);
    stream_file(packed, ENGINE_SOURCE_PREAD, true);
}

/* Neither by a pass of many tokens, which guesses nothing, nor by the next short one, whose layers
 * would find a guess of their own under way; whether one read failed or all from then on. */
Test(read, a_failed_guess_is_forgotten)
{
    enum { LONG = 20 };
    char packed[160];
    struct answer want[2], a;
    pack_relu(packed);
    if (!have(packed, ENGINE_SOURCE_PREAD))
        return;
    struct engine *e = open_streaming(packed, ENGINE_SOURCE_PREAD, ENGINE_FLASH_SPARSE);
    now = &whats[0];
    cr_assert_eq(ask(e, N_ASKED, &want[0]), ST_OK, "%s", want[0].err.msg);
    cr_assert_eq(ask_prompt(e, LONG, N_ASKED, &want[1]), ST_OK, "%s", want[1].err.msg);
    unsigned failed = 0;
    for (uint64_t n = 1; n <= 80; n++) {
        bool forever = n % 2, is_long = n % 4 < 2;
        fault_arm(FAULT_READ, n / 2 + 1, forever);
        failed += ask(e, N_ASKED, &a) != ST_OK;
        fault_disarm();
        cr_assert_eq(is_long ? ask_prompt(e, LONG, N_ASKED, &a) : ask(e, N_ASKED, &a), ST_OK,
                     "after read %lu: %s", n / 2 + 1, a.err.msg);
        expect_tokens(&a, &want[is_long], n);
    }
    cr_expect_gt(failed, 20u, "%u of 80 requests met the fault", failed);
    engine_close(e);
}

Test(read, a_request_whose_weights_cannot_be_read_through_a_mapping_ends_and_the_next_is_right)
{
    stream_from(ENGINE_SOURCE_MMAP);
}
