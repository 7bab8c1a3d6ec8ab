/* tests/fuzz/fuzz_expr.c - any bytes as an expression over three variables. What parses evaluates
 * or fails with a reason; a number that comes out is reduced. The first byte picks the scope. */
#include "eval/expr.h"
#include "eval/steps.h"
#include "eval/words.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int32_t find(void *ctx, struct str name)
{
    (void)ctx;
    return name.n == 1 && name.p[0] >= 'a' && name.p[0] <= 'c' ? name.p[0] - 'a' : -1;
}

static void lenient(void *ctx, const char *what)
{
    (void)ctx;
    assert(what[0]);
}

static int64_t gcd(int64_t a, int64_t b)
{
    return b ? gcd(b, a % b) : a < 0 ? -a : a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct value vars[] = {
        { .kind = VALUE_NUM, .r = { 7, 1 }, .f = 7 },
        { .kind = VALUE_NUM,
          .type = NUM_FRACTION,
          .r = { 1, 3 },
          .f = 1.0 / 3,
          .s = { "third", 5 } },
        { .kind = VALUE_STR, .s = { "week", 4 }, .r = { 0, 1 } },
    };
    if (n == 0)
        return 0;
    struct str text = { (const char *)data + 1, n - 1 };
    struct mem mem = { .cap = 8 << 20 };
    struct err err = ERR_INIT;
    struct expr_scope scope = { .var = find, .lenient = data[0] & 1 ? lenient : NULL };
    struct expr_run run = { .var = vars, .n_var = 3, .mem = &mem };
    const struct node *node;
    struct value v;
    if (expr_parse(text, &scope, &mem, &node, &err) == ST_OK) {
        if (expr_eval(node, &run, &v)) {
            struct buf out = BUF_INIT;
            assert(v.r.d > 0 && gcd(v.r.n, v.r.d) == 1);
            value_print(&v, VALUE_PUBLIC, &out);
            buf_clear(&out);
        } else {
            assert(run.why && run.at);
        }
    } else {
        assert(err.msg[0]);
    }
    mem_clear(&mem);
    struct rational r;
    if (words_parse(text, &r))
        assert(r.d > 0);
    struct step_check s;
    for (size_t at = 0; steps_next(text, &at, &s);)
        assert(s.begin < s.end && s.end <= text.n);
    return 0;
}
