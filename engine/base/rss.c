/* engine/base/rss.c - see rss.h. */
#include "engine/base/rss.h"

#include "engine/base/buf.h"
#include "engine/base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Value of "KEY:   123 kB" in bytes; 0: absent. */
static uint64_t field(struct str text, struct str key)
{
    size_t at = str_find(text, key, 0);
    if (at == SIZE_MAX)
        return 0;
    at += key.n;
    while (at < text.n && (text.p[at] == ' ' || text.p[at] == '\t'))
        at++;
    uint64_t kib = 0;
    for (; at < text.n && text.p[at] >= '0' && text.p[at] <= '9' && kib < UINT64_C(1) << 50; at++)
        kib = kib * 10 + (uint64_t)(text.p[at] - '0');
    return kib * 1024;
}

struct rss rss_now(void)
{
    struct rss r = { 0 };
    char text[4096]; /* the file has about 1.5 KiB */
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return r;
    ssize_t n;
    do
        n = read(fd, text, sizeof text);
    while (n < 0 && errno == EINTR);
    close(fd);
    if (n <= 0)
        return r;
    struct str s = { text, (size_t)n };
    uint64_t other = field(s, STR("RssFile:")) + field(s, STR("RssShmem:"));
    uint64_t peak = field(s, STR("VmHWM:"));
    r.anon = field(s, STR("RssAnon:"));
    r.anon_peak = peak > other ? peak - other : 0;
    if (r.anon_peak < r.anon)
        r.anon_peak = r.anon;
    return r;
}

void rss_reset_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = write(fd, "5", 1); /* proc(5): resets VmHWM alone */
    (void)n;
    close(fd);
}
