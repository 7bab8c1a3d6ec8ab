/* server/cli_recsys_eval.c - `strobe recsys evaluate` and `return-time`. */
#include "server/cli_recsys.h"

enum status cli_recsys_evaluate(struct cli *c, struct err *err)
{
    (void)c;
    return err_set(err, ST_UNSUPPORTED, "not built yet");
}

enum status cli_recsys_return_time(struct cli *c, struct err *err)
{
    (void)c;
    return err_set(err, ST_UNSUPPORTED, "not built yet");
}
