/* tests/unit/server/rig.c - see rig.h. */
#include "tests/unit/server/rig.h"

#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void server_rig_open(struct server_rig *r)
{
    char path[] = "/tmp/strobe-server-XXXXXX.gguf";
    struct err err = ERR_INIT;
    struct tiny_model t = tiny_model_default("llama");
    int fd = mkstemps(path, 5);
    *r = (struct server_rig){ 0 };
    cr_assert(fd >= 0 && tiny_model_gguf(&t, path));
    close(fd);
    struct engine_opts o = {
        .model = path, .n_thread = 1, .n_slot = RIG_SLOTS, .queue_max = RIG_QUEUE, .cpu_level = -1
    };
    cr_assert_eq(engine_open(&o, &r->server.engine, &err), ST_OK, "%s", err.msg);
    unlink(path);
    metrics_init(&r->metrics);
    r->server.metrics = &r->metrics;
    pthread_mutex_init(&r->server.list_lock, NULL);
}

void server_rig_close(struct server_rig *r)
{
    engine_close(r->server.engine);
    pthread_mutex_destroy(&r->server.list_lock);
    pthread_mutex_destroy(&r->metrics.lock);
}

struct call rig_call(struct server_rig *r, const char *body)
{
    return (struct call){ .srv = &r->server,
                          .method = METHOD_POST,
                          .path = "/",
                          .id = "req-0000000000000001",
                          .body = str_c(body) };
}

void rig_call_clear(struct call *c)
{
    if (c->stream) {
        if (c->stream->sse)
            server_forget(c->srv, c->stream);
        stream_abort(c->stream);
        stream_drop(c->stream);
    }
    buf_clear(&c->reply.body);
    c->stream = NULL;
}

bool rig_drain(struct call *c, struct buf *out)
{
    char part[512];
    uint64_t waited_ns;
    for (int idle = 0; idle < 90000;) {
        long n = stream_take(c->stream, part, sizeof part, &waited_ns);
        if (n > 0)
            buf_put(out, part, (size_t)n);
        else if (n < 0)
            return n == -1;
        else
            idle += poll(NULL, 0, 1) == 0;
    }
    cr_assert_fail("the stream did not end within 90 s");
    return false;
}

const char *rig_error(const struct call *c, const char *member)
{
    static char text[300];
    struct err err = ERR_INIT;
    json_t *doc;
    cr_assert_eq(json_parse(buf_view(&c->reply.body), "reply", &doc, &err), ST_OK, "%s", err.msg);
    const json_t *e = json_object_get(doc, "error");
    cr_assert(json_is_object(e) && json_object_size(e) == 4);
    const char *v = json_string_value(json_object_get(e, member));
    snprintf(text, sizeof text, "%s", v ? v : "");
    json_free(doc);
    return text;
}
