/* tests/unit/train/f64_grad.c - the double build's answer for test_net_float.c: loss and gradient
 * of the rig's network with the options of argv, as raw doubles on standard output. f64_grad NORM
 * POS ACT GATED BIAS TIED DOCS SEED */
#include "tests/unit/train/rig.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    long v[8] = { 0 };
    struct net_shape s = rig_shape();
    struct net_rig r;
    for (int i = 1; i < argc && i <= 8; i++)
        v[i - 1] = strtol(argv[i], NULL, 10);
    s.norm = (enum net_norm)v[0];
    s.pos = (enum net_pos)v[1];
    s.act = (enum net_act)v[2];
    s.gated = v[3];
    s.bias = v[4];
    s.tied = v[5];
    struct net_opts o = rig_opts(&s);
    rig_open(&r, &o, (uint64_t)v[7], v[6]);
    double loss = rig_grad(&r);
    fwrite(&loss, sizeof loss, 1, stdout);
    fwrite(net_grads(r.n), sizeof(real), r.n_param, stdout);
    rig_close(&r);
    return fflush(stdout) != 0;
}
