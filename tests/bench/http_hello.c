/* tests/bench/http_hello.c - the bare library: a libmicrohttpd epoll server that answers everything
 * with one static body. What http.sh compares our server with. */
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>

static struct MHD_Response *hello;

static enum MHD_Result answer(void *ctx, struct MHD_Connection *conn, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *n_data, void **slot)
{
    (void)ctx, (void)url, (void)method, (void)version, (void)data;
    *n_data = 0;
    if (!*slot) {
        *slot = hello; /* headers seen: answer at the next call, which keeps the connection alive */
        return MHD_YES;
    }
    *slot = NULL;
    return MHD_queue_response(conn, MHD_HTTP_OK, hello);
}

int main(void)
{
    static const char body[] = "{\"status\":\"ok\"}";
    sigset_t set;
    int sig;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    hello = MHD_create_response_from_buffer(sizeof body - 1, (void *)(unsigned long)body,
                                            MHD_RESPMEM_PERSISTENT);
    if (!hello || MHD_add_response_header(hello, "Content-Type", "application/json") != MHD_YES)
        return 1;
    struct MHD_Daemon *d =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, NULL,
                         MHD_OPTION_CONNECTION_LIMIT, 4096u, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!info)
        return 1;
    printf("listening on http://127.0.0.1:%u\n", info->port);
    fflush(stdout);
    sigwait(&set, &sig);
    MHD_stop_daemon(d);
    MHD_destroy_response(hello);
    return 0;
}
