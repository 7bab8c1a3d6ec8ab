/* recsys/zone.h - time zones by name, from the system's zone database: TZif files (RFC 8536,
 * versions 1 to 4) with the rule in their footer for times behind the last change. Read here and
 * not by the C library, whose zone belongs to the whole process: a server's threads each have
 * their own. Files with leap seconds ("right/...") are refused. Immutable once open: any thread. */
#ifndef STROBE_RECSYS_ZONE_H
#define STROBE_RECSYS_ZONE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdint.h>

struct zone; /* opaque */

enum { ZONE_FILE_MAX = 256 << 10 };

/* A file's bytes. Errors: ST_FORMAT, ST_UNSUPPORTED (leap seconds), ST_NOMEM. */
enum status zone_parse(struct str bytes, struct zone **ret, struct err *err);
/* "Europe/Berlin". Errors: ST_ARG (no such name, or one that leads elsewhere), ST_NOTFOUND (there
 * is no zone database: names the package), and zone_parse()'s. */
enum status zone_open(const char *name, struct zone **ret, struct err *err);
/* Seconds that local time is ahead of UTC at Unix second t; any t. */
int32_t zone_offset(const struct zone *z, int64_t t);
void zone_free(struct zone *z); /* NULL is fine */

#endif
