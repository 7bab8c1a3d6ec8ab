/* server/main.c - the strobe program: finds the verb, runs it, prints one error line, picks the
 * exit code. Exit codes: 0 ok, 1 failed, 2 usage, 3 unusable input file, 4 does not fit the budget.
 */
#include "engine/base/nearest.h"
#include "server/cli.h"
#include "server/process.h"

#include <signal.h>
#include <unistd.h>

struct verb {
    const char *name;
    enum status (*run)(struct cli *c, struct err *err);
    const char *about; /* NULL: for programs, not shown */
};

static const struct verb verbs[] = {
    { "serve", cli_serve, "HTTP server with an OpenAI-compatible API and a dashboard" },
    { "generate", cli_generate, "continue a text" },
    { "tokenize", cli_tokenize, "text to token ids" },
    { "detokenize", cli_detokenize, "token ids to text" },
    { "inspect", cli_inspect, "what a model file holds" },
    { "estimate", cli_estimate, "what would fit into a memory budget, and how fast" },
    { "calibrate", cli_calibrate, "measure the disk" },
    { "pack", cli_pack, "re-lay a ReLU model for flash" },
    { "predictor", cli_predictor, "train the low-rank mask of a ReLU model" },
    { "bench", cli_bench, "prefill and decode rates" },
    { "perplexity", cli_perplexity, "score a text" },
    { "train", cli_train, "train a small model from text" },
    { "relufy", cli_relufy, "make a trained model sparse: swap its activation, train on" },
    { "vocab", cli_vocab, "learn a vocabulary from text" },
    { "duo", cli_duo, "Duo models: train, router, oracle, trace, figures, report" },
    { "duo-trace", cli_duo_job, NULL },
    { "corpus", cli_corpus, "make training text and problems; examine a model on them" },
    { "eval", cli_eval, "symbolic questions: does a model reason, or recall?" },
    { "recsys", cli_recsys, "what users want now, and when they come back" },
};

static int usage(FILE *out, int code)
{
    fprintf(out, "usage: strobe VERB [options]     strobe VERB --help\n\nverbs:\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (verbs[i].about)
            fprintf(out, "  %-12s %s\n", verbs[i].name, verbs[i].about);
    fprintf(out, "\nglobal options: --json, -q, -v, --threads N, --help, --version\n"
                 "exit codes: 0 ok, 1 failed, 2 usage, 3 unusable input file, 4 does not fit\n");
    return code;
}

static int exit_code(enum status st)
{
    switch (st) {
    case ST_OK:
        return 0;
    case ST_ARG:
    case ST_RANGE:
        return 2;
    case ST_FORMAT:
    case ST_UNSUPPORTED:
    case ST_NOTFOUND:
        return 3;
    case ST_BUDGET:
        return 4;
    default:
        return 1;
    }
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static int no_verb(const char *name)
{
    struct nearest near = NEAREST_INIT(str_c(name));
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (verbs[i].about)
            nearest_offer(&near, verbs[i].name);
    const char *meant = nearest_word(&near);
    fprintf(stderr, "strobe: there is no verb '%s'%s%s%s (strobe --help lists them)\n", name,
            meant ? "; did you mean '" : "", meant ? meant : "", meant ? "'?" : "");
    return 2;
}

bool cli_has_verb(const char *name)
{
    return find_verb(name) != NULL;
}

/* Global options may stand before the verb: index of the verb, or argc. */
static int verb_index(int argc, char **argv)
{
    int i = 1;
    while (i < argc && argv[i][0] == '-') {
        bool takes_value = strcmp(argv[i], "--threads") == 0 || strcmp(argv[i], "-t") == 0;
        i += takes_value ? 2 : 1;
    }
    return i < argc ? i : argc;
}

static int run_verb(const struct verb *v, int argc, char **argv, int at)
{
    /* Words before the verb join those after it. */
    char **words = calloc((size_t)argc + 1, sizeof *words);
    struct err err = ERR_INIT;
    if (!words)
        return 1;
    struct cli c = { .argv = words };
    for (int i = 1; i < argc; i++)
        if (i != at)
            words[c.argc++] = argv[i];
    v->run(&c, &err);
    if (err.code != ST_OK) {
        cli_progress_end(&c);
        fprintf(stderr, "strobe %s: %s\n", v->name, err.msg);
    }
    if (fflush(stdout) != 0 && err.code == ST_OK) {
        fprintf(stderr, "strobe %s: cannot write the output\n", v->name);
        err.code = ST_IO;
    }
    free(words);
    return exit_code(err.code);
}

/* What stands for a verb and prints: nothing printed is a failure there too. */
static int printed(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    fprintf(stderr, "strobe: cannot write the output\n");
    return 1;
}

int main(int argc, char **argv)
{
    process_bind();           /* a job's process goes with its server */
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error, not a death */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow */
    int at = verb_index(argc, argv);
    for (int i = 1; i < at; i++) {
        if (strcmp(argv[i], "--version") == 0) {
            printf("strobe %s\n", STROBE_VERSION);
            return printed(0);
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return printed(usage(stdout, 0));
    }
    if (at == argc)
        return usage(stderr, 2);
    const struct verb *v = find_verb(argv[at]);
    if (!v)
        return no_verb(argv[at]);
    return run_verb(v, argc, argv, at);
}
