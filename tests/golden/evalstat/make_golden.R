# Oracle of eval/stat: R's own routines, and definitions spelled out where R has none.
# Usage: Rscript make_golden.R OUT.txt      (R >= 4.2; lines "glmm_*" only where lme4 is installed)
# Each line: a name and numbers with 17 digits. Inputs come from a small congruential generator, so
# that the file does not depend on R's own random numbers.
args <- commandArgs(trailingOnly = TRUE)
con <- file(args[1], "w")
put <- function(name, v) cat(name, sprintf("%.17g", as.numeric(v)), "\n", file = con)

state <- 12345
u <- function(n) vapply(seq_len(n), function(i) { state <<- (state * 16807) %% 2147483647; state / 2147483647 }, 0)

# ---- distributions ----
z <- c(-8, -3.2, -1, -0.1, 0, 0.3, 1.96, 5, 9)
put("norm_x", z); put("norm_cdf", pnorm(z)); put("norm_two", 2 * pnorm(-abs(z)))
q <- c(1e-12, 1e-4, 0.025, 0.3, 0.5, 0.8, 0.975, 1 - 1e-9)
put("quant_p", q); put("norm_quant", qnorm(q))
for (df in c(1, 4, 49, 99, 1000)) {
  put(paste0("t_cdf_", df), pt(c(-5, -1.3, 0, 0.7, 2, 12), df))
  put(paste0("t_quant_", df), qt(c(0.001, 0.025, 0.4, 0.9, 0.975, 0.9999), df))
  put(paste0("chi2_", df), pchisq(c(0.01, 0.5, 1, 4, 30, 60, 120), df, lower.tail = FALSE))
}
put("beta_inc", c(pbeta(0.2, 0.5, 3), pbeta(0.7, 12, 4.5), pbeta(0.999, 50, 0.5), pbeta(1e-6, 2, 2)))
put("binom_two", c(binom.test(3, 20, 0.3)$p.value, binom.test(9, 10, 0.5)$p.value, binom.test(0, 7, 0.5)$p.value))
put("mcnemar", c(binom.test(4, 17, 0.5)$p.value, binom.test(12, 24, 0.5)$p.value))
put("fisher", c(fisher.test(matrix(c(95, 5, 4100, 900), 2))$p.value, fisher.test(matrix(c(3, 7, 9, 1), 2))$p.value))

# ---- a table of 100 templates and 1 + 50 answers; a second model; three levels ----
T <- 100; m <- 50
ability <- 1.6 + 2.2 * qnorm(u(T))
p <- plogis(ability)
orig <- as.integer(u(T) < plogis(ability + 0.6))
a <- matrix(as.integer(u(T * m) < rep(p, each = m)), T, m, byrow = TRUE)
b <- matrix(as.integer(u(T * m) < rep(plogis(ability - 0.35), each = m)), T, m, byrow = TRUE)
put("orig", orig)
put("a", as.vector(t(a)))
put("b", as.vector(t(b)))
A <- colMeans(a)
put("sets", c(mean(A), sd(A), min(A), max(A), quantile(A, c(.05, .25, .5, .75, .95))))
O <- mean(orig)
eq <- abs(A - O) < 1e-9
put("rank", c((1 + sum(A > O | eq)) / (m + 1), (0.5 + sum(A > O & !eq) + 0.5 * sum(eq)) / (m + 1), (O - mean(A)) / (sd(A) * sqrt(1 + 1 / m))))
pt_ <- rowMeans(a)
w <- mean(m / (m - 1) * pt_ * (1 - pt_)); bb <- var(pt_) - w / m
chi <- sum((A - mean(pt_))^2) / (w / T); up <- pchisq(chi, m - 1, lower.tail = FALSE)
put("decompose", c(mean(pt_), var(pt_), w, bb, bb / (bb + w), sqrt(w / T), chi, m - 1, 2 * min(up, 1 - up)))
# One-way analysis of variance says the same about w and b.
fit <- anova(lm(x ~ g, data.frame(x = as.vector(t(a)), g = factor(rep(1:T, each = m)))))
put("anova_w_b", c(fit$`Mean Sq`[2], (fit$`Mean Sq`[1] - fit$`Mean Sq`[2]) / m))
put("fixed", c(mean(pt_) - qnorm(.975) * sqrt(w / (T * m)), mean(pt_) + qnorm(.975) * sqrt(w / (T * m)), sqrt(w / (T * m))))
tt <- t.test(pt_)
put("random", c(tt$conf.int, sd(pt_) / sqrt(T)))
put("wilson", c(prop.test(81, 263, correct = FALSE)$conf.int, prop.test(4, 5, correct = FALSE, conf.level = .9)$conf.int))
put("extreme", c(binom.test(0, 50, alternative = "less")$conf.int[2], binom.test(100, 100, alternative = "greater")$conf.int[1]))
# Percentiles of many resamples: an independent look at the bootstrap, up to Monte Carlo error.
set.seed(1)
boot <- replicate(20000, mean(sample(pt_, T, TRUE)))
put("boot_percentile", quantile(boot, c(.025, .975)))

# ---- original against generated ----
s <- orig + rowSums(a); qs <- s / (m + 1)
# By the discrete Fourier transform of the characteristic function: not by convolution.
k <- 0:T; om <- 2 * pi / (T + 1)
phi <- vapply(k, function(l) prod(1 - qs + qs * exp(1i * om * l)), 0i)
pmf <- pmax(0, Re(fft(phi)) / (T + 1))
obs <- sum(orig); at <- pmf[obs + 1]
two <- sum(pmf[pmf <= at * (1 + 1e-9)]); same <- sum(pmf[abs(pmf - at) <= at * 1e-9])
put("exact", c(obs, sum(qs), sqrt(sum(qs * (1 - qs))), two, two - same / 2, sum(pmf[(obs:T) + 1]), sum(pmf[(0:obs) + 1])))
tab <- array(0, c(2, 2, T))
for (t in 1:T) tab[, , t] <- c(orig[t], sum(a[t, ]), 1 - orig[t], m - sum(a[t, ]))
mh <- mantelhaen.test(tab, correct = FALSE)
put("mh", c(mh$estimate, mh$conf.int, log(mh$conf.int[2] / mh$estimate) / qnorm(.975)))

# ---- paired ----
d <- pt_ - rowMeans(b)
t2 <- t.test(d)
put("paired", c(mean(d), sd(d), sd(d) / sqrt(T), t2$conf.int, t2$statistic, t2$p.value))
r10 <- round(d, 10)
w2 <- suppressWarnings(wilcox.test(r10, exact = FALSE, correct = TRUE))
put("wilcoxon", c(w2$statistic, w2$p.value))
d15 <- c(1.83, .5, -.27, 1.01, -.62, 2.2, .93, -.11, .74, 1.32, -1.57, .38, 2.9, -.05, .66)
put("small", d15)
w3 <- wilcox.test(d15, exact = TRUE)
put("wilcoxon_exact", c(w3$statistic, w3$p.value))
flips <- as.matrix(expand.grid(rep(list(c(-1, 1)), 15)))
put("flip_exact", mean(abs(flips %*% d15) >= abs(sum(d15)) - 1e-9))
delta <- 0.06
lo <- t.test(d, mu = -delta, alternative = "greater"); hi <- t.test(d, mu = delta, alternative = "less")
put("tost", c(max(lo$p.value, hi$p.value), t.test(d, conf.level = .9)$conf.int))

# ---- levels ----
lev <- c(-1, 0, 1, 2)
acc <- sapply(lev, function(l) rowMeans(matrix(u(T * 10) < rep(plogis(ability - 0.4 * l), each = 10), T, 10, byrow = TRUE)))
put("levels", as.vector(t(acc)))
sl <- apply(acc, 1, function(y) coef(lm(y ~ lev))[2])
t4 <- t.test(sl)
put("trend", c(mean(sl), sd(sl) / sqrt(T), t4$statistic, t4$p.value, t4$conf.int))

# ---- many tests ----
ps <- c(.01, .04, .03, .005, .2, .8, .0001, .049, .03)
put("ps", ps); put("holm", p.adjust(ps, "holm")); put("bh", p.adjust(ps, "BH"))
x <- round(u(60) * 40); y <- round(u(90) * 60)
ks <- suppressWarnings(ks.test(x, y, exact = FALSE))
put("ks_x", x); put("ks_y", y); put("ks", c(ks$statistic, ks$p.value, median(y) / median(x)))

# ---- conditional logistic regression: all choices, enumerated ----
G <- 30; n <- 7
g <- rep(1:G, each = n)
X <- cbind(rep(c(1, rep(0, n - 1)), G), round(2 * u(G * n), 3))
yy <- as.integer(u(G * n) < plogis(rep(2 * qnorm(u(G)), each = n) + 0.7 * X[, 1] - 0.8 * X[, 2]))
negll <- function(be, X, cols) {
  tot <- 0
  for (i in 1:G) {
    e <- as.vector(X[g == i, cols, drop = FALSE] %*% be); s <- sum(yy[g == i])
    if (s > 0 && s < n) tot <- tot + sum(e[yy[g == i] == 1]) - log(sum(apply(combn(n, s), 2, function(c) exp(sum(e[c])))))
  }
  -tot
}
newton <- function(f, be) {
  for (it in 1:30) {
    k <- length(be); h <- 1e-4; gr <- numeric(k); H <- matrix(0, k, k); E <- diag(k) * h
    c5 <- function(fun, e) (8 * (fun(e) - fun(-e)) - (fun(2 * e) - fun(-2 * e))) / 12
    grad <- function(b) vapply(1:k, function(i) c5(function(e) f(b + e), E[, i]) / h, 0)
    gr <- grad(be)
    for (i in 1:k) H[, i] <- c5(function(e) grad(be + 100 * e), E[, i]) / (100 * h)
    step <- solve(H, gr); be <- be - step
    if (max(abs(step)) < 1e-11) break
  }
  list(b = be, H = H)
}
put("clogit_y", yy); put("clogit_x", as.vector(t(X)))
cf <- newton(function(be) negll(be, X, 1:2), c(0, 0))
c0 <- newton(function(be) negll(be, X, 2), 0)
lrt <- 2 * (negll(c0$b, X, 2) - negll(cf$b, X, 1:2))
put("clogit_beta", cf$b); put("clogit_se", sqrt(diag(solve(cf$H)))); put("clogit_lrt", c(lrt, pchisq(lrt, 1, lower.tail = FALSE), -negll(cf$b, X, 1:2)))

# ---- mixed model ----
# Each template's likelihood by adaptive integration, at lme4's optimum.
K <- cbind(orig, rowSums(a)); N <- cbind(rep(1, T), rep(m, T))
marg <- function(b0, b1, sg) {
  tot <- 0
  for (t in 1:T) {
    f <- function(v) vapply(v, function(v1) {
      e <- c(b0 + b1, b0) + sg * v1
      exp(sum(K[t, ] * e - N[t, ] * log1p(exp(e))) - v1^2 / 2 + off) / sqrt(2 * pi) }, 0)
    ph <- (sum(K[t, ]) + .5) / (sum(N[t, ]) + 1); v0 <- (qlogis(ph) - b0) / sg
    off <- -(sum(K[t, ] * (c(b0 + b1, b0) + sg * v0) - N[t, ] * log1p(exp(c(b0 + b1, b0) + sg * v0))) - v0^2 / 2)
    val <- integrate(f, v0 - 6, v0 + 6, rel.tol = 1e-11, subdivisions = 400)$value
    tot <- tot + log(val) - off
  }
  tot
}
if (requireNamespace("lme4", quietly = TRUE)) {
  dat <- data.frame(k = c(t(K)), n = c(t(N)), x = rep(c(1, 0), T), g = factor(rep(1:T, each = 2)))
  ctl <- lme4::glmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9, maxfun = 1e5))
  f1 <- lme4::glmer(cbind(k, n - k) ~ x + (1 | g), dat, binomial, nAGQ = 25, control = ctl)
  f0 <- lme4::glmer(cbind(k, n - k) ~ 1 + (1 | g), dat, binomial, nAGQ = 25, control = ctl)
  # With nAGQ > 1 lme4's logLik lacks a constant; differences are what counts.
  l <- 2 * as.numeric(logLik(f1) - logLik(f0))
  put("glmm_beta", lme4::fixef(f1)); put("glmm_se", sqrt(diag(as.matrix(vcov(f1))))); put("glmm_sigma", sqrt(unlist(lme4::VarCorr(f1)))); put("glmm_lrt", c(l, pchisq(l, 1, lower.tail = FALSE)))
  put("glmm_marginal", marg(lme4::fixef(f1)[1], lme4::fixef(f1)[2], sqrt(unlist(lme4::VarCorr(f1)))))
}
close(con)
