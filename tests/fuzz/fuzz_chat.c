/* tests/fuzz/fuzz_chat.c - any text as a chat template: what compiles is rendered over one fixed
 * conversation. Bounded by the interpreter itself, so that a slow input is a finding. */
#include "engine/model/chat.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static json_t *conversation(void)
{
    return json_pack("{s:[{s:s,s:s},{s:s,s:s},{s:s,s:n,s:[{s:s,s:{s:s,s:{s:i,s:f}}}]}],"
                     "s:b,s:s,s:s,s:[{s:s,s:{s:s,s:{s:s,s:{}}}}]}",
                     "messages", "role", "system", "content", "be \"nice\"", "role", "user",
                     "content", "h\xC3\xA9llo ", "role", "assistant", "content", "tool_calls", "id",
                     "abcdefghi", "function", "name", "f", "arguments", "a", 1, "b", 0.5,
                     "add_generation_prompt", 1, "bos_token", "<s>", "eos_token", "</s>", "tools",
                     "type", "function", "function", "name", "f", "parameters", "type", "object",
                     "properties");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static json_t *vars;
    struct err err = ERR_INIT;
    struct chat_template *t = NULL;
    struct buf out = BUF_INIT;
    if (!vars)
        vars = conversation();
    assert(vars);
    if (chat_compile((struct str){ (const char *)data, n }, &t, &err) == ST_OK)
        chat_render(t, vars, &out, &err);
    assert((err.code == ST_OK || err.msg[0]) && out.n <= CHAT_OUTPUT_MAX);
    buf_clear(&out);
    chat_free(t);
    return 0;
}
