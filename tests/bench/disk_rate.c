/* tests/bench/disk_rate.c - the device's own sequential rate: reads a file front to back through
 * the engine's source (io_uring, O_DIRECT, huge-page buffers), with nothing else to do. disk_rate
 * FILE [PIECE_BYTES [DEPTH [SECONDS]]] Prints one JSON line. The comparison for
 * tests/bench/stream.sh. */
#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "engine/io/source.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 64, PIECE_MAX = 16 << 20, ALIGN = 4096 };

struct scan {
    struct source *src;
    struct source_req req[DEPTH_MAX];
    uint64_t file_bytes, at, bytes;
    size_t piece;
};

static void submit(struct scan *s, struct source_req *r)
{
    if (s->at + s->piece > s->file_bytes)
        s->at = 0;
    *r = (struct source_req){ .offset = s->at, .len = s->piece, .need = s->piece, .dst = r->dst };
    s->at += s->piece;
    source_submit(s->src, &r, 1);
}

static enum status scan(struct scan *s, uint64_t depth, double seconds, struct err *err)
{
    uint64_t start = clock_ns();
    for (uint64_t i = 0; i < depth; i++)
        submit(s, &s->req[i]);
    while (source_in_flight(s->src)) {
        struct source_req *done[DEPTH_MAX];
        size_t n = source_wait(s->src, done, DEPTH_MAX, 1);
        for (size_t i = 0; i < n; i++) {
            if (done[i]->err.code != ST_OK)
                *err = done[i]->err;
            s->bytes += done[i]->got;
            if (err->code == ST_OK && clock_ms_since(start) < seconds * 1e3)
                submit(s, done[i]);
        }
    }
    double took = clock_ms_since(start) / 1e3;
    printf("{\"engine\":\"disk\",\"source\":\"%s\",\"piece_bytes\":%zu,\"depth\":%llu,"
           "\"seconds\":%.2f,\"bytes_per_second\":%.0f}\n",
           source_name(s->src), s->piece, (unsigned long long)depth, took, (double)s->bytes / took);
    return err->code;
}

static enum status run(const char *path, uint64_t piece, uint64_t depth, double seconds,
                       struct err *err)
{
    struct scan s = { .piece = (size_t)piece / ALIGN * ALIGN };
    struct arena mem = { 0 };
    struct stat st;
    if (stat(path, &st) != 0 || (uint64_t)st.st_size < piece)
        return err_set(err, ST_ARG, "'%s': no file of at least %llu bytes", path,
                       (unsigned long long)piece);
    s.file_bytes = (uint64_t)st.st_size;
    struct source_opts so = { .depth = (uint32_t)depth };
    if (arena_init(&mem, s.piece * depth, "buffers", err) == ST_OK &&
        source_open(&path, 1, so, &s.src, err) == ST_OK) {
        for (uint64_t i = 0; i < depth; i++)
            s.req[i].dst = arena_alloc(&mem, s.piece, ALIGN);
        arena_touch(&mem);
        scan(&s, depth, seconds, err);
    }
    source_close(s.src);
    arena_clear(&mem);
    return err->code;
}

static enum status number(const char *text, const char *what, uint64_t min, uint64_t max,
                          uint64_t *ret, struct err *err)
{
    return text ? num_u64((struct str){ text, strlen(text) }, what, min, max, ret, err) : ST_OK;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    uint64_t piece = 2 << 20, depth = 16, seconds = 3;
    if (argc < 2 || argc > 5) {
        fprintf(stderr, "usage: disk_rate FILE [PIECE_BYTES [DEPTH [SECONDS]]]\n");
        return 2;
    }
    if (number(argc > 2 ? argv[2] : NULL, "PIECE_BYTES", ALIGN, PIECE_MAX, &piece, &err) != ST_OK ||
        number(argc > 3 ? argv[3] : NULL, "DEPTH", 1, DEPTH_MAX, &depth, &err) != ST_OK ||
        number(argc > 4 ? argv[4] : NULL, "SECONDS", 1, 600, &seconds, &err) != ST_OK ||
        run(argv[1], piece, depth, (double)seconds, &err) != ST_OK) {
        fprintf(stderr, "disk_rate: %s\n", err.msg);
        return 1;
    }
    return 0;
}
