/* tests/support/fake_train.c - stands in for `strobe train` where a test needs to say what happens:
 * same arguments, same files, no learning. Usage: fake_train VERB --config FILE --out DIR
 * [--resume DIR], other words are ignored. The file that the setting "data" names says what to do:
 *
 *   step_ms=N  checkpoint=N (steps)  crash_at=N (a signal at that step, every time it comes there)
 *   crash_once=N (only when not resumed)  crash_every=N (steps)  exit_at=N exit_code=C
 *   stubborn (SIGTERM is ignored)  noise=N (bytes on standard error)  hang_at=N
 *   torn (a crash leaves half a line)  hold_at=N (until the file says go, or SIGTERM)
 *   hold_end (who is told to end waits until the file says go) */
#include "engine/base/json.h"
#include "server/process.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct script {
    const char *path;
    long step_ms, checkpoint, crash_at, crash_once, crash_every, exit_at, exit_code, noise, hang_at,
        hold_at;
    bool stubborn, torn, hold_end;
};

static volatile sig_atomic_t asked;

static void on_term(int sig)
{
    asked = sig;
}

static void read_text(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "re");
    char part[4096];
    size_t n;
    while (f && (n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(out, part, n);
    if (f)
        fclose(f);
}

static long word(const char *text, const char *name, long absent)
{
    char key[40];
    snprintf(key, sizeof key, "%s=", name);
    const char *at = strstr(text, key);
    return at ? strtol(at + strlen(key), NULL, 10) : absent;
}

static struct script read_script(const char *path)
{
    struct buf b = BUF_INIT;
    read_text(path, &b);
    const char *t = buf_view(&b).p;
    struct script s = { .path = path,
                        .step_ms = word(t, "step_ms", 5),
                        .checkpoint = word(t, "checkpoint", 10),
                        .crash_at = word(t, "crash_at", 0),
                        .crash_once = word(t, "crash_once", 0),
                        .crash_every = word(t, "crash_every", 0),
                        .exit_at = word(t, "exit_at", 0),
                        .exit_code = word(t, "exit_code", 1),
                        .noise = word(t, "noise", 0),
                        .hang_at = word(t, "hang_at", 0),
                        .hold_at = word(t, "hold_at", 0),
                        .hold_end = strstr(t, "hold_end") != NULL,
                        .stubborn = strstr(t, "stubborn") != NULL,
                        .torn = strstr(t, "torn") != NULL };
    buf_clear(&b);
    return s;
}

static void rest(long ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    while (nanosleep(&t, &t) != 0 && errno == EINTR && !asked)
        ;
}

/* The test says so when it has seen what it came for. */
static bool may_go(const struct script *s)
{
    struct buf b = BUF_INIT;
    read_text(s->path, &b);
    bool go = strstr(buf_view(&b).p, "go") != NULL;
    buf_clear(&b);
    return go;
}

static void save(const char *dir, long step)
{
    char a[4200], b[4200], text[40];
    snprintf(a, sizeof a, "%s/checkpoints", dir);
    mkdir(a, 0700);
    snprintf(a, sizeof a, "%s/checkpoints/last", dir);
    mkdir(a, 0700);
    snprintf(a, sizeof a, "%s/checkpoints/last/step.part", dir);
    snprintf(b, sizeof b, "%s/checkpoints/last/step", dir);
    int fd = open(a, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int n = snprintf(text, sizeof text, "%ld", step);
    if (fd < 0 || write(fd, text, (size_t)n) != n || close(fd) != 0 || rename(a, b) != 0)
        exit(1);
}

static long load(const char *dir)
{
    char path[4200];
    struct buf b = BUF_INIT;
    snprintf(path, sizeof path, "%s/checkpoints/last/step", dir);
    read_text(path, &b);
    long step = strtol(buf_view(&b).p, NULL, 10);
    buf_clear(&b);
    return step;
}

static void put_line(FILE *f, long step, bool half)
{
    double at = (double)step, loss = 1.4 + 3.1 * exp(-at / 60) + 0.05 * sin(at * 1.7);
    struct buf b = BUF_INIT;
    buf_printf(&b, "{\"step\":%ld,\"tokens\":%ld,\"loss\":%.4f", step, step * 2048, loss);
    if (step % 10 == 0)
        buf_printf(&b, ",\"val_loss\":%.4f,\"bits_per_byte\":%.4f", loss + 0.08, loss / 2.8);
    buf_printf(&b,
               ",\"lr\":%.6f,\"grad_norm\":%.3f,\"tok_s\":%.0f,\"seconds\":%.2f,"
               "\"dollars\":%.6f,\"rss\":%ld}\n",
               0.001 * (1 - at / 1000), 0.6 + 0.2 * sin(at), 9000 + 400 * sin(at / 7), at * 0.25,
               at * 0.25 * 0.1 / 3600, 200000000L);
    fwrite(b.p, 1, half ? b.n / 2 : b.n, f);
    fflush(f);
    buf_clear(&b);
}

static void crash(FILE *f, const struct script *s, long step)
{
    if (s->torn)
        put_line(f, step, true);
    raise(SIGKILL);
}

static int run(const struct script *s, const char *dir, long steps, long from)
{
    char path[4200];
    long step = from;
    snprintf(path, sizeof path, "%s/run.json", dir);
    FILE *f = fopen(path, "we");
    if (f)
        fclose(f);
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    f = fopen(path, "ae");
    if (!f)
        return 1;
    for (long n = 0; n < s->noise; n += 64)
        fprintf(stderr, "%063ld\n", n);
    while (step < steps && !asked) {
        rest(s->step_ms);
        step++;
        if (step == s->exit_at) {
            fprintf(stderr,
                    "strobe train: step %ld: the loss is no number; '%s/checkpoints/last' is from "
                    "before it\n",
                    step, dir);
            return (int)s->exit_code;
        }
        if (step == s->crash_at || (step == s->crash_once && from == 0))
            crash(f, s, step);
        if (s->crash_every && step == from + s->crash_every + 1)
            crash(f, s, step);
        while (step == s->hang_at)
            pause();
        while (step == s->hold_at && !asked && !may_go(s))
            rest(5);
        put_line(f, step, false);
        if (step % s->checkpoint == 0)
            save(dir, step);
    }
    while (s->hold_end && asked && !may_go(s))
        poll(NULL, 0, 5);
    save(dir, step);
    fclose(f);
    if (step < steps) {
        fprintf(stderr, "strobe train: stopped at step %ld\n", step);
        return 1;
    }
    printf("{\"strobe\":\"test\",\"run\":\"%s\",\"steps\":%ld,\"tokens\":%ld,\"loss\":1.5,"
           "\"model\":\"%s/model.gguf\"}\n",
           dir, step, step * 2048, dir);
    return 0;
}

int main(int argc, char **argv)
{
    const char *config = NULL, *out = NULL, *resume = NULL;
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    json_t *doc;
    int64_t steps = 100;
    struct str data = STR("");
    process_bind();
    for (int i = 1; i + 1 < argc; i++) {
        config = strcmp(argv[i], "--config") == 0 ? argv[i + 1] : config;
        out = strcmp(argv[i], "--out") == 0 ? argv[i + 1] : out;
        resume = strcmp(argv[i], "--resume") == 0 ? argv[i + 1] : resume;
    }
    if (!config || !(out || resume))
        return 2;
    read_text(config, &text);
    if (json_parse(buf_view(&text), config, &doc, &err) != ST_OK ||
        json_get_str(doc, "data", true, &data, &err) != ST_OK ||
        json_get_i64(doc, "steps", false, 0, 1000000, &steps, &err) != ST_OK) {
        fprintf(stderr, "strobe train: %s\n", err.msg);
        return 2;
    }
    struct script s = read_script(data.p);
    signal(SIGTERM, s.stubborn ? SIG_IGN : on_term);
    int code = run(&s, resume ? resume : out, (long)steps, resume ? load(resume) : 0);
    json_free(doc);
    buf_clear(&text);
    return code;
}
