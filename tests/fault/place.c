/* tests/fault/place.c - see place.h. */
#include "tests/fault/place.h"

#include "tests/support/data.h"
#include "tests/support/gguf_write.h"
#include "tests/support/st_write.h"
#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void save(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert(file_save(path, str_c(text)), "%s", path);
}

static void shard(const char *dir, const char *name, const char *tensor)
{
    char path[256];
    struct st_writer w;
    uint64_t shape[] = { 2, 3 };
    static const float zero[6];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    sw_init(&w);
    sw_tensor(&w, tensor, "F32", 2, shape, zero, sizeof zero);
    cr_assert(sw_save(&w, path));
    sw_clear(&w);
}

void place_make(struct place *p)
{
    *p = (struct place){ .dir = "/tmp/strobe-fault-XXXXXX" };
    cr_assert(mkdtemp(p->dir));
    snprintf(p->gguf, sizeof p->gguf, "%s/llama.gguf", p->dir);
    snprintf(p->gguf_bpe, sizeof p->gguf_bpe, "%s/qwen2.gguf", p->dir);
    snprintf(p->folder, sizeof p->folder, "%s/folder", p->dir);
    snprintf(p->gpt2, sizeof p->gpt2, "%s/gpt2", p->dir);
    snprintf(p->shards, sizeof p->shards, "%s/shards", p->dir);
    struct tiny_model t = tiny_model_default("llama");
    t.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
                      "{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}{{ mood }}";
    cr_assert(tiny_model_gguf(&t, p->gguf));
    t = tiny_model_default("qwen2");
    cr_assert(tiny_model_gguf(&t, p->gguf_bpe));
    cr_assert(mkdir(p->folder, 0755) == 0 && mkdir(p->shards, 0755) == 0 &&
              mkdir(p->gpt2, 0755) == 0);
    cr_assert(tiny_model_folder(&t, p->folder));
    t = tiny_model_default("gpt2");
    cr_assert(tiny_model_folder(&t, p->gpt2));
    save(p->folder, "generation_config.json", "{\"eos_token_id\":[256,100,101]}");
    save(p->folder, "chat_template.jinja", "{{ messages[0].content }}");
    shard(p->shards, "a.safetensors", "x");
    shard(p->shards, "b.safetensors", "y");
    save(p->shards, "model.safetensors.index.json",
         "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    if (!data_path("models/stories260K/stories260K.gguf", p->stories)) {
        data_skip("a model", "models/stories260K/stories260K.gguf");
        p->stories[0] = '\0';
    }
}

static void remove_in(const char *dir)
{
    char path[512];
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (unlink(path) != 0)
            remove_in(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

void place_clear(struct place *p)
{
    remove_in(p->dir);
}
