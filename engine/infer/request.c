/* engine/infer/request.c - see request.h. */
#include "engine/infer/request.h"

#include "engine/base/clock.h"

#include <stdlib.h>
#include <string.h>

enum status request_create(const int32_t *prompt, uint32_t n_prompt, const struct gen_params *p,
                           struct request **ret, struct err *err)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "request");
    r->p = *p;
    r->n_prompt = n_prompt;
    r->submit_ns = clock_ns();
    atomic_init(&r->cancel, false);
    r->prompt = malloc(n_prompt * sizeof *prompt);
    r->bias = malloc((p->n_bias + 1) * sizeof *p->bias);
    if (!r->prompt || !r->bias) {
        err_set(err, ST_NOMEM, "request of %u tokens", n_prompt);
        goto fail;
    }
    memcpy(r->prompt, prompt, n_prompt * sizeof *prompt);
    if (p->n_bias)
        memcpy(r->bias, p->bias, p->n_bias * sizeof *p->bias);
    r->p.bias = r->bias;
    if (stream_text_init(&r->text, p->stop, p->n_stop, err) != ST_OK)
        goto fail;
    if (p->prompt_logprobs && stream_text_init(&r->echo, NULL, 0, err) != ST_OK)
        goto fail;
    *ret = r;
    return ST_OK;
fail:
    request_free(r);
    return err->code;
}

void request_free(struct request *r)
{
    if (!r)
        return;
    free(r->prompt);
    free(r->bias);
    stream_text_clear(&r->text);
    stream_text_clear(&r->echo);
    free(r);
}
