/* server/auth.c - see auth.h. */
#include "server/auth.h"

#include "engine/base/file.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <strings.h>

enum { KEYS_MAX = 4096, KEY_MAX = 512, FILE_MAX = 4 << 20 };

static enum status add_key(struct auth *a, const char *path, struct str line, struct err *err)
{
    struct str s = str_trim(line);
    if (s.n && memchr(s.p, '\0', s.n)) /* UTF-16 text would give keys of one letter */
        return err_set(err, ST_FORMAT, "key file '%s' holds a NUL byte: it must be plain text",
                       path);
    if (s.n == 0 || s.p[0] == '#')
        return ST_OK;
    assert(a->key);
    if (a->n == KEYS_MAX || s.n >= KEY_MAX)
        return err_set(err, ST_RANGE, "key file '%s': too many or too long keys", path);
    a->key[a->n] = str_dup(s);
    if (!a->key[a->n])
        return err_set(err, ST_NOMEM, "API keys");
    a->n++;
    return ST_OK;
}

enum status auth_load(struct auth *a, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    if (file_slurp(path, FILE_MAX, &text, err) != ST_OK) {
        buf_clear(&text);
        return err_ctx(err, "key file");
    }
    a->key = calloc(KEYS_MAX, sizeof *a->key);
    if (!a->key)
        err_set(err, ST_NOMEM, "API keys");
    for (size_t at = 0; at < text.n && err->code == ST_OK;) {
        const char *line = text.p + at, *end = memchr(line, '\n', text.n - at);
        size_t n = end ? (size_t)(end - line) : text.n - at;
        add_key(a, path, (struct str){ line, n }, err);
        at += n + 1;
    }
    buf_clear(&text);
    if (err->code == ST_OK && a->n == 0)
        err_set(err, ST_ARG, "key file '%s' holds no key", path);
    return err->code;
}

void auth_clear(struct auth *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->key[i]);
    free(a->key);
    *a = (struct auth){ 0 };
}

/* Every byte of the longer one is looked at. */
static bool same(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b), n = na > nb ? na : nb;
    unsigned char diff = na != nb;
    for (size_t i = 0; i < n; i++)
        diff |= (unsigned char)((i < na ? a[i] : 0) ^ (i < nb ? b[i] : 0));
    return diff == 0;
}

bool auth_allows(const struct auth *a, const char *header)
{
    if (a->n == 0)
        return true;
    if (!header || strncasecmp(header, "Bearer ", 7) != 0)
        return false;
    bool hit = false;
    for (size_t i = 0; i < a->n; i++)
        hit |= same(a->key[i], header + 7);
    return hit;
}

bool auth_is_loopback(const char *address)
{
    struct in_addr v4;
    /* Parsed, not compared by its start: 127.0.0.1.evil.example is a name. */
    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(address, "::1") == 0 || strcasecmp(address, "localhost") == 0;
}

bool auth_host_ok(const struct auth *a, const char *host)
{
    char name[256];
    if (!a->loopback || a->n > 0 || !host)
        return true;
    if (host[0] == '[')
        return strncmp(host, "[::1]", 5) == 0 && (host[5] == '\0' || host[5] == ':');
    size_t n = strcspn(host, ":");
    if (n >= sizeof name)
        return false;
    memcpy(name, host, n);
    name[n] = '\0';
    return auth_is_loopback(name);
}

bool auth_origin_plausible(const char *origin)
{
    if (strcmp(origin, "*") == 0)
        return true;
    const char *host = strstr(origin, "://");
    for (const char *p = origin; *p; p++)
        if (*p <= ' ' || *p >= 127)
            return false;
    return host && host > origin && host[3] && !strpbrk(host + 3, "/?#@,*\"\\");
}

bool auth_origin_ok(const struct auth *a, const char *origin, const char *host, const char *cors)
{
    if (a->n > 0 || !origin)
        return true;
    if (cors && (strcmp(cors, "*") == 0 || strcmp(cors, origin) == 0))
        return true;
    const char *name = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : NULL;
    return name && host && strcasecmp(name, host) == 0;
}
