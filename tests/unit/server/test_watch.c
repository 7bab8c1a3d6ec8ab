#include "server/watch.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS = 256, PATIENCE_MS = 120000 };

static int ticks;
static void on_tick(void *ctx)
{
    uint64_t one = 1;
    (void)ctx;
    cr_assert_eq(write(ticks, &one, sizeof one), (ssize_t)sizeof one);
}

static void wait_for_tick(void)
{
    uint64_t n;
    cr_assert_eq(read(ticks, &n, sizeof n), (ssize_t)sizeof n);
}

/* Both ends of a connection over TCP: what shutting wakes differs between kinds of sockets. */
static void connect_pair(int *server, int *client)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;
    int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(bind(door, (struct sockaddr *)&at, n) == 0 && listen(door, 1) == 0);
    cr_assert_eq(getsockname(door, (struct sockaddr *)&at, &n), 0);
    cr_assert_eq(connect(*client, (struct sockaddr *)&at, n), 0);
    *server = accept(door, NULL, NULL);
    cr_assert(*server >= 0);
    close(door);
}

/* The library reads once per event, and after fewer bytes than it has room for it waits for the
 * next event: an end that was there already needs one. */
Test(watch, a_reader_that_comes_late_to_a_half_closed_connection_is_woken_after_its_read)
{
    struct watch *w;
    struct err err = ERR_INIT;
    atomic_ullong n_left = 0;
    int server, client, own = epoll_create1(EPOLL_CLOEXEC);
    char byte[2];
    ticks = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    cr_assert_eq(watch_create(FDS, on_tick, NULL, &n_left, &w, &err), ST_OK, "%s", err.msg);
    connect_pair(&server, &client);
    struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };
    cr_assert_eq(epoll_ctl(own, EPOLL_CTL_ADD, server, &ev), 0);
    watch_open(w, server);
    cr_assert_eq(send(client, "x", 1, MSG_NOSIGNAL), 1);
    cr_assert_eq(shutdown(client, SHUT_WR), 0);
    for (int i = 0; i < 3; i++) /* the watcher has seen the end and shut the socket */
        wait_for_tick();
    cr_assert_eq(epoll_wait(own, &ev, 1, PATIENCE_MS), 1);
    cr_assert_eq(recv(server, byte, sizeof byte, 0), 1);
    cr_assert_eq(epoll_wait(own, &ev, 1, PATIENCE_MS), 1, "nothing tells of the end");
    cr_expect_eq(recv(server, byte, sizeof byte, 0), 0);
    watch_close(w, server);
    close(server);
    close(client);
    close(own);
    watch_free(w);
    close(ticks);
    cr_expect_eq(atomic_load(&n_left), 0, "it had no stream");
}
