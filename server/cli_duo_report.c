#include "server/cli_duo.h"
enum status cli_duo_report(struct cli *c, struct err *err)
{
    (void)c;
    return err_set(err, ST_UNSUPPORTED, "not yet");
}
