/* tests/bench/disk_rate.c - the device's own rate: reads a file front to back, or at random places,
 * through the engine's source (io_uring, O_DIRECT, huge-page buffers), with nothing else to do.
 *   disk_rate FILE [PIECE_BYTES [DEPTH [SECONDS [seq|random]]]]
 * Prints one JSON line. The comparison for stream.sh and the protocols in flash/. */
#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/io/source.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 128, PIECE_MAX = 16 << 20, ALIGN = 4096 };

struct scan {
    struct source *src;
    struct source_req req[DEPTH_MAX];
    uint64_t file_bytes, at, bytes, reads;
    size_t piece;
    bool random;
    struct rng rng;
};

static void submit(struct scan *s, struct source_req *r)
{
    if (s->random)
        s->at = rng_below(&s->rng, (s->file_bytes - s->piece) / ALIGN + 1) * ALIGN;
    else if (s->at + s->piece > s->file_bytes)
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
            s->reads++;
            if (err->code == ST_OK && clock_ms_since(start) < seconds * 1e3)
                submit(s, done[i]);
        }
    }
    double took = clock_ms_since(start) / 1e3;
    printf("{\"engine\":\"disk\",\"source\":\"%s\",\"order\":\"%s\",\"piece_bytes\":%zu,\"depth\":%"
           "llu,"
           "\"seconds\":%.3f,\"reads\":%llu,\"bytes_per_second\":%.0f}\n",
           source_name(s->src), s->random ? "random" : "seq", s->piece, (unsigned long long)depth,
           took, (unsigned long long)s->reads, (double)s->bytes / took);
    return err->code;
}

struct job {
    const char *path;
    uint64_t piece, depth, seconds;
    bool random;
};

static enum status run(const struct job *j, struct err *err)
{
    const char *path = j->path;
    uint64_t piece = j->piece, depth = j->depth;
    struct scan s = { .piece = (size_t)piece / ALIGN * ALIGN, .random = j->random, .rng = { 1 } };
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
        scan(&s, depth, (double)j->seconds, err);
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
    struct job j = { .piece = 2 << 20, .depth = 16, .seconds = 3 };
    if (argc < 2 || argc > 6) {
        fprintf(stderr, "usage: disk_rate FILE [PIECE_BYTES [DEPTH [SECONDS [seq|random]]]]\n");
        return 2;
    }
    j.path = argv[1];
    j.random = argc > 5 && strcmp(argv[5], "random") == 0;
    if (number(argc > 2 ? argv[2] : NULL, "PIECE_BYTES", ALIGN, PIECE_MAX, &j.piece, &err) ||
        number(argc > 3 ? argv[3] : NULL, "DEPTH", 1, DEPTH_MAX, &j.depth, &err) ||
        number(argc > 4 ? argv[4] : NULL, "SECONDS", 1, 600, &j.seconds, &err) || run(&j, &err)) {
        fprintf(stderr, "disk_rate: %s\n", err.msg);
        return 1;
    }
    return 0;
}
