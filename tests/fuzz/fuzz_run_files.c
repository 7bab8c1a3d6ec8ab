/* tests/fuzz/fuzz_run_files.c - any bytes as the settings of a run and as the score of a sample. */
#include "eval/run_store_internal.h"
#include "eval/session.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = { (const char *)data, n };
    struct eval_settings s;
    struct run_sample sample = { 0 };
    char param[SETTINGS_PARAM_MAX];
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    if (json_parse(text, "settings", &doc, &err) == ST_OK &&
        eval_settings_read(doc, &s, param, &err) == ST_OK)
        assert(s.n_variant <= SETTINGS_VARIANTS_MAX && s.count >= 0 && s.max_tokens > 0);
    json_free(doc);
    score_read(text, &sample);
    for (int p = 0; p < EXTRACT_PROFILES; p++)
        assert((unsigned)sample.hit[p].rule < EXTRACT_RULES);
    return 0;
}
