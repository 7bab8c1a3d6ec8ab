/* tests/fuzz/fuzz_extract.c - any bytes as a model's answer: every profile's hit lies inside of it,
 * texts are valid UTF-8, values are reduced, and steps are counted inside of it too. */
#include "engine/base/utf8.h"
#include "eval/score.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = { (const char *)data, n };
    struct run_sample s = { .gold_num = 42,
                            .gold_den = 1,
                            .gold_text = STR("42"),
                            .response = text,
                            .finish = STR("stop"),
                            .info = STR(
                                "{\"traps\":[{\"value\":\"7\"}],\"solution\":\"6 * 7 = 42\"}") };
    struct err err = ERR_INIT;
    struct step_check check;
    if (score_sample(&s, EXTRACT_FLEXIBLE, &err) != ST_OK)
        return 0;
    for (int p = 0; p < EXTRACT_PROFILES; p++) {
        const struct extract_hit *h = &s.hit[p];
        assert(h->begin <= h->end && h->end <= n);
        assert(h->rule != RULE_NONE || (h->begin == 0 && h->end == 0 && !s.correct[p]));
        assert(utf8_valid(str_c(h->text)));
        assert(!h->is_number || h->den > 0);
    }
    score_steps(text, &check);
    assert(check.n_false <= check.n && check.begin <= check.end && check.end <= n);
    return 0;
}
