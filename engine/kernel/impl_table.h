/* engine/kernel/impl_table.h - the last line of a level: its function table. */
#define KERNEL_TABLE(name, lv)                                                                     \
    const struct kernels name = { .level = (lv),                                                   \
                                  .block_panel = block_panel,                                      \
                                  .plain_panel = plain_panel,                                      \
                                  .quantise = quantise,                                            \
                                  .rmsnorm = rmsnorm,                                              \
                                  .layernorm = layernorm,                                          \
                                  .add = vadd,                                                     \
                                  .scale = vscale,                                                 \
                                  .mul = vmul,                                                     \
                                  .softcap = softcap,                                              \
                                  .act = vact,                                                     \
                                  .logsumexp = logsumexp,                                          \
                                  .argmax = argmax,                                                \
                                  .rope = rope,                                                    \
                                  .to_f16 = to_f16,                                                \
                                  .attend = attend }
