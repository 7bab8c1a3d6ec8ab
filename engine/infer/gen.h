/* engine/infer/gen.h - the vocabulary of generation, shared by the facade (engine.h includes it)
 * and the scheduler: what a request may ask, what it gets back, and the figures. Types only, no
 * state.
 */
#ifndef STROBE_INFER_GEN_H
#define STROBE_INFER_GEN_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/infer/route.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where guessed tokens come from: what stood in the text before; a second, small model; the model
 * itself with only those neurons that are in memory. */
enum draft_source { DRAFT_LOOKUP, DRAFT_MODEL, DRAFT_SELF, DRAFT_SOURCES };
enum { GEN_DRAFT_AUTO = 1000 };
enum { GEN_STOPS_MAX = 16, GEN_LOGPROBS_MAX = 20, GEN_BIAS_MAX = 1024, GEN_STOP_BYTES_MAX = 1024 };

struct gen_bias {
    int32_t token;
    float bias;
};

struct gen_params {
    uint32_t max_tokens;  /* 0: score the prompt only; UINT32_MAX: until the context is full */
    float temperature;    /* 0: greedy */
    uint32_t top_k;       /* 0: off */
    float top_p;          /* 1: off */
    float min_p;          /* 0: off */
    float repeat_penalty; /* 1: off; over the last repeat_last_n tokens */
    uint32_t repeat_last_n;
    float presence_penalty, frequency_penalty; /* OpenAI's; 0: off */
    uint64_t seed;                             /* same seed, same request: same tokens */
    int32_t logprobs;     /* -1: none; else this many alternatives per token, 0..20 */
    bool prompt_logprobs; /* echo scoring: log-probabilities of prompt tokens 1.. too */
    bool ignore_eos;
    uint32_t draft_max;    /* tokens guessed ahead per pass and verified, the output is the same;
                              GEN_DRAFT_AUTO: where weights are streamed, and where the engine has a
                              draft model or drafts from resident neurons. 0: none */
    bool cache_prompt;     /* reuse a matching prefix (default true) */
    struct duo_policy duo; /* Duo models (engine_duo_policy()); all zero: all big */
    uint64_t trace;        /* of engine_trace_open(): record what its passes cost; 0: no */
    const char *stop[GEN_STOPS_MAX]; /* borrowed during engine_submit() only */
    size_t n_stop;
    const struct gen_bias *bias; /* borrowed during engine_submit() only */
    size_t n_bias;
};
void gen_params_init(struct gen_params *p); /* the defaults: temperature 0.8, top_k 40, top_p 0.95,
                                               min_p 0.05, max_tokens 256 */

enum gen_kind { GEN_STARTED, GEN_PROMPT, GEN_TOKEN, GEN_DONE };
enum gen_finish { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_ERROR };

struct gen_logprob {
    int32_t token;
    float logprob;
};

struct gen_event {
    enum gen_kind kind;
    /* GEN_PROMPT (prompt_logprobs only): one event per prompt token; GEN_TOKEN: one per generated
     * token. `text` may be empty while bytes are held back (incomplete UTF-8, possible stop
     * string); the texts of all GEN_TOKEN events and of GEN_DONE joined are the continuation. */
    int32_t token;
    struct str text; /* valid UTF-8, borrowed for the call */
    /* Of the model's distribution before temperature and filters; NaN: the first prompt token, and
     * generated tokens when no logprobs were asked for. */
    float logprob;
    const struct gen_logprob *top;
    size_t n_top;
    /* GEN_DONE */
    enum gen_finish finish;
    const char *stop_text; /* the stop string that ended it, NULL: end token or other */
    const struct err *err; /* FINISH_ERROR */
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
    double queue_ms, prefill_ms, decode_ms;
    struct duo_tally duo; /* of all its passes; zero with all big */
};

/* Runs on the engine thread; must not block. The last event of a request is GEN_DONE, exactly once.
 */
typedef void gen_event_fn(void *ctx, const struct gen_event *ev);

/* Bounds of what came from outside: temperature 0..100, top_p and min_p 0..1, repeat_penalty
 * 0.01..100, presence and frequency -100..100, n_stop, n_bias, logprobs; tokens of the bias below
 * n_vocab; stop strings 1..GEN_STOP_BYTES_MAX bytes of valid UTF-8. ST_ARG names what is wrong. */
enum status gen_params_check(const struct gen_params *p, uint32_t n_vocab, struct err *err);
const char *gen_finish_name(enum gen_finish f); /* "stop", "length", "cancelled", "error" */

/* ---- figures ---- */
enum { ENGINE_SLOTS_MAX = 256, ENGINE_LATENCIES = 24 };
struct slot_info {
    bool busy;
    uint64_t request;
    uint32_t n_prompt, n_done, n_generated; /* n_done: prompt tokens processed */
    uint32_t n_cached_tokens;               /* tokens whose KV the slot holds */
};
/* What was seen of the mask of a packed model (flash/shadow.h). NAN: nothing. */
struct mask_stats {
    uint64_t checked; /* tokens looked at, each once per layer */
    uint64_t sampled; /* pairs of a token and a neuron that were drawn */
    double recall, recall_low, recall_high, over_load;
    double missed_mass, missed_mass_low, missed_mass_high;
    uint64_t needed, active; /* always counted where the mask decides: let pass, and fired */
    uint64_t check_ns;
};
struct engine_stats {
    uint64_t requests, cancelled, errors, rejected;
    uint64_t prompt_tokens, prompt_tokens_cached, generated_tokens;
    uint64_t prefill_ns, decode_ns; /* passes with at least one prompt token; all others */
    uint64_t passes;
    uint64_t drafted, draft_accepted; /* tokens guessed ahead, and of those the right ones */
    uint64_t drafted_by[DRAFT_SOURCES], accepted_by[DRAFT_SOURCES]; /* the same by source */
    uint64_t draft_ns, draft_passes; /* time and passes of making guesses; not among the above */
    uint32_t queued, active;
    uint64_t ram_peak; /* anonymous RSS high-water mark of the process, bytes */
    uint64_t bytes_read, reads, stall_ns;
    uint64_t bytes_wanted; /* of those read: without gaps and rounding */
    /* Of all layers and passes: attention, waiting for the disk in it left out; feed-forward
     * layers, masks and waiting left out. */
    uint64_t attention_ns, compute_ns;
    /* Reads from flash by how long they took until the engine saw them: bucket i holds those of 2^i
     * to 2^(i+1) us; the first holds shorter ones too, the last longer ones. */
    uint64_t read_latency[ENGINE_LATENCIES];
    /* Packed models, since opening, over all layers and passes: neurons that the mask let pass, of
     * those not in memory, and of those with an activation that is not zero; the time of masks and
     * of feed-forward layers as a whole, waiting included; of the cache's bookkeeping (what is in
     * memory, what comes, what goes), and of copies into its slots. */
    uint64_t neurons_needed, neurons_missed, neurons_active, mask_ns, ffn_ns, book_ns, copy_ns;
    uint64_t neurons_guessed, guessed_right; /* read before attention; of them needed */
    struct mask_stats mask;
    /* Passes that read no neurons (engine_opts.reuse); of what their masks let pass, what was left
     * out because it was not in memory; the activations' sizes left out and in all, where the mask
     * knows them (mass 0: it does not). */
    uint64_t reuse_passes, neurons_dropped;
    double mass_dropped, mass;
    uint32_t n_slot;
    struct slot_info slot[ENGINE_SLOTS_MAX];
};

#endif
