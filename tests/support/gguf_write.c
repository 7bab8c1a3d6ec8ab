/* tests/support/gguf_write.c - see gguf_write.h. */
#include "tests/support/gguf_write.h"

#include <stdio.h>

bool file_save(const char *path, struct str bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return false;
    bool ok = fwrite(bytes.p, 1, bytes.n, f) == bytes.n;
    return fclose(f) == 0 && ok;
}

bool gw_save(const struct gguf_writer *w, const char *path)
{
    struct buf out = BUF_INIT;
    gw_bytes(w, &out);
    bool ok = !out.failed && file_save(path, buf_view(&out));
    buf_clear(&out);
    return ok;
}
