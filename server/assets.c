/* server/assets.c - serves the embedded files by exact name. */
#include "server/assets.h"

#include "server/http.h"

const struct asset *asset_find(const char *path)
{
    for (size_t i = 0; i < asset_count; i++)
        if (strcmp(asset_table[i].path, path) == 0)
            return &asset_table[i];
    return NULL;
}

void api_asset(struct call *c)
{
    const struct asset *a = asset_find(c->arg[0] ? c->arg : "index.html");
    if (!a || strcmp(a->path, "openapi.json") == 0) {
        reply_error(c, 404, "route_not_found", NULL, "there is no route %.200s", c->path);
        return;
    }
    const char *have = call_header(c, "If-None-Match"), *accept = call_header(c, "Accept-Encoding");
    bool gz = a->gz && accept && strstr(accept, "gzip");
    /* Bundles carry a hash in their names; the page itself must be asked about each time. */
    c->reply.cache =
        strncmp(a->path, "app-", 4) == 0 ? "public, max-age=31536000, immutable" : "no-cache";
    c->reply.etag = a->etag;
    c->reply.content_type = a->type;
    if (have && strcmp(have, a->etag) == 0) {
        c->reply.status = 304;
        return;
    }
    c->reply.status = 200;
    c->reply.encoding = gz ? "gzip" : NULL;
    c->reply.borrowed = gz ? (struct str){ (const char *)a->gz, a->n_gz }
                           : (struct str){ (const char *)a->data, a->n };
}
