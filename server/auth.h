/* server/auth.h - API keys and the Host check. Immutable after loading. */
#ifndef STROBE_SERVER_AUTH_H
#define STROBE_SERVER_AUTH_H

#include "engine/base/buf.h"

struct auth {
    char **key;
    size_t n;
    bool loopback; /* bound to loopback: only loopback names are believed in Host */
};

/* One key per line; blank lines and lines starting with # are skipped. Errors: ST_ARG (no key
 * inside), ST_FORMAT (no plain text), ST_RANGE (longer than 4 MiB, too
 * many or too long keys), ST_NOTFOUND, ST_IO, ST_NOMEM. */
enum status auth_load(struct auth *a, const char *path, struct err *err);
void auth_clear(struct auth *a);
/* header: the Authorization value or NULL. Time does not depend on where keys differ. */
bool auth_allows(const struct auth *a, const char *header);
/* Host header against DNS rebinding; NULL (HTTP/1.0) is fine. */
bool auth_host_ok(const struct auth *a, const char *host);
/* Origin of a browser's page: our own pages (their origin is the Host) and the configured one. Only
 * asked for without keys, as no foreign page knows a key. NULL origin (no browser) is fine. */
bool auth_origin_ok(const struct auth *a, const char *origin, const char *host, const char *cors);
/* Could a browser send this Origin: "*", or scheme://host[:port] and nothing behind it? */
bool auth_origin_plausible(const char *origin);
bool auth_is_loopback(const char *address);

#endif
