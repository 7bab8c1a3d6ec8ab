/* server/cli_duo.h - the words of `strobe duo`. */
#ifndef STROBE_SERVER_CLI_DUO_H
#define STROBE_SERVER_CLI_DUO_H

#include "engine/duo/request.h"
#include "server/cli.h"

enum status cli_duo_router(struct cli *c, struct err *err);
enum status cli_duo_report(struct cli *c, struct err *err);
/* For struct duo_watch: the progress line, and false once SIGINT or SIGTERM came. */
bool cli_duo_step(void *cli, const char *what, uint64_t done, uint64_t total);
void cli_duo_catch(void);

#endif
