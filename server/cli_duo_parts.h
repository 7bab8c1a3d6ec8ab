/* server/cli_duo_parts.h - what cli_duo_report.c and cli_duo_texts.c share. Nobody else includes
 * it.
 */
#ifndef STROBE_SERVER_CLI_DUO_PARTS_H
#define STROBE_SERVER_CLI_DUO_PARTS_H

#include "engine/base/file.h"
#include "engine/duo/source.h"
#include "server/cli_duo_findings.h"
#include "server/cli_train.h"

enum { TEXT_MAX = 64 << 20, CTX = 128, BATCH = 16, STEP_TOKENS = CTX * BATCH };

struct report {
    struct cli *c;
    const char *out, *natural, *gemm;
    uint64_t seeds, steps, tokens, layers, width, vocab, router_steps;
    struct place {
        char dir[FILE_PATH_MAX], train[FILE_PATH_MAX], held[FILE_PATH_MAX], route[FILE_PATH_MAX],
            vocab[FILE_PATH_MAX];
    } at[TEXTS];
    struct pool *pool;
    struct findings f;
};

/* ---- cli_duo_texts.c; text: 0 symbolic, 1 natural ---- */

const char *report_text_name(int text);
/* Fills r->at[text] and makes its files and vocabulary where they are not there yet. */
enum status report_text_make(struct report *r, int text, struct err *err);

enum part { TRACED, ROUTED, CALIBRATED };
/* Tokens that no network learned from, of a part that no other part has. Clear *t. */
enum status report_text_open(const struct report *r, const struct duo_model *m, int text,
                             enum part part, size_t tokens, struct duo_text *t, struct err *err);

#endif
