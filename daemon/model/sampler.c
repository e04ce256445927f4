#include "model/sampler.h"

#include "base/cleanup.h"
#include "base/macro.h"

#include <errno.h>
#include <math.h>

enum { HISTORY = 3 };

struct Sampler {
    SamplerOptions options;
    double *timestep;   /* [n_steps] */
    double *sigma;      /* [n_steps + 1], each exactly an f32 */
    int64_t next;       /* the step that must come next */
    View data[HISTORY]; /* UniPC: prediction of the clean latents at step i, in slot i % HISTORY */
    View corrected;     /* UniPC: the corrected x of the step before */
};

static double shifted(double shift, double b) {
    return shift * b / (1 + (shift - 1) * b);
}

/* UniPC: timesteps are cut to integers, from the noise level before it is rounded. */
static void fill_unipc(Sampler *p) {
    int64_t n = p->options.n_steps;
    double n_train = (double)p->options.n_train, top = 1 - 1 / n_train;
    for (int64_t i = 0; i < n; i++) {
        double b = p->options.grid == SIGMAS_OFFICIAL
                           ? (double)(float)top * (1 - (double)i / (double)n)
                           : 1 - top * (double)i / (double)n;
        double sigma = shifted(p->options.shift, b);
        if (p->options.grid == SIGMAS_DIFFUSERS && i == 0 && fabs(sigma - 1) < 1e-6)
            sigma -= 1e-6; /* the reference keeps away from a logarithm of 0 */
        p->timestep[i] = trunc(n_train * sigma);
        p->sigma[i] = (double)(float)sigma;
    }
}

/* Euler: the class shifts its training levels when it is made, takes the ends of those for the
 * grid, and shifts again. Timesteps are f32 numbers, not integers. */
static void fill_euler(Sampler *p) {
    int64_t n = p->options.n_steps;
    double n_train = (double)p->options.n_train;
    double low = shifted(p->options.shift, 1 / n_train);
    for (int64_t i = 0; i < n; i++) {
        double b = n > 1 ? 1 + (low - 1) * (double)i / (double)(n - 1) : 1;
        p->sigma[i] = (double)(float)shifted(p->options.shift, b);
        p->timestep[i] = (double)(float)(p->sigma[i] * n_train);
    }
}

DEFINE_CLEANUP(Sampler, sampler_free)

int sampler_new(const SamplerOptions *options, Sampler **ret, Err *err) {
    if (options->n_steps < 1 || options->n_steps > SAMPLER_MAX_STEPS)
        return err_set(err, -EINVAL, "%jd steps, wanted are 1 to %d", (intmax_t)options->n_steps,
                SAMPLER_MAX_STEPS);
    if (!(options->shift >= 0.01 && options->shift <= 100))
        return err_set(err, -EINVAL, "a flow shift of %g, wanted is 0.01 to 100", options->shift);
    assert(options->n_train > 1);
    _cleanup_(sampler_freep) Sampler *p = calloc(1, sizeof(*p));
    size_t n = (size_t)options->n_steps;
    if (!p || !(p->timestep = calloc(n, sizeof(*p->timestep))) ||
            !(p->sigma = calloc(n + 1, sizeof(*p->sigma))))
        return err_set(err, -ENOMEM, "no memory for a sampler of %zu steps", n);
    p->options = *options;
    if (options->kind == SAMPLER_EULER && options->grid == SIGMAS_DIFFUSERS)
        fill_euler(p);
    else
        fill_unipc(p);
    *ret = TAKE_PTR(p);
    return 0;
}

Sampler *sampler_free(Sampler *p) {
    if (!p)
        return NULL;
    free(p->timestep);
    free(p->sigma);
    free(p);
    return NULL;
}

double sampler_timestep(const Sampler *p, int64_t i) {
    assert(i >= 0 && i < p->options.n_steps);
    return p->timestep[i];
}

double sampler_sigma(const Sampler *p, int64_t i) {
    assert(i >= 0 && i <= p->options.n_steps);
    return p->sigma[i];
}

void sampler_begin(Sampler *p, Stream *s, View x) {
    p->next = 0;
    if (p->options.kind != SAMPLER_UNIPC)
        return;
    for (int i = 0; i < HISTORY; i++)
        p->data[i] = stream_temp_of(s, DTYPE_F32, x.rank, x.dim);
    p->corrected = stream_temp_of(s, DTYPE_F32, x.rank, x.dim);
}

static View data_at(const Sampler *p, int64_t i) {
    return p->data[i % HISTORY];
}

/* Half the logarithm of the signal-to-noise ratio at step i; infinite at the end. */
static double lambda(const Sampler *p, int64_t i) {
    return log(1 - p->sigma[i]) - log(p->sigma[i]);
}

/* Order of the step from i to i + 1: one behind the ends, two between. */
static int64_t order(const Sampler *p, int64_t i) {
    int64_t rest = MIN((int64_t)2, p->options.n_steps - i);
    return MIN(rest, i + 1);
}

/* y = the sample at step i again, now that the data prediction there is known:
 * (1 - k) X + k m1 + k (rho1 (m2 - m1) / r + rho2 (m0 - m1)), m0 of step i, m1 and m2 before. */
static void correct(const Sampler *p, Stream *s, int64_t i) {
    double k = 1 - p->sigma[i] / p->sigma[i - 1], old = 0, new = 0.5;
    if (order(p, i - 1) == 2) {
        double h = lambda(p, i) - lambda(p, i - 1), phi = expm1(-h);
        double r = (lambda(p, i - 2) - lambda(p, i - 1)) / h;
        double g1 = phi / -h - 1, g2 = g1 / -h - 0.5;
        double b1 = g1 / phi, b2 = 2 * g2 / phi;
        double rho1 = (b1 - b2) / (1 - r);
        old = rho1 / r;
        new = b1 - rho1;
    }
    const View in[] = {p->corrected, data_at(p, i - 1), data_at(p, i),
            old != 0 ? data_at(p, i - 2) : p->corrected};
    const float a[] = {
            (float)(1 - k), (float)(k * (1 - old - new)), (float)(k * new), (float)(k * old)};
    op_lincomb(s, p->corrected, old != 0 ? 4 : 3, in, a);
}

/* x = the sample at step i + 1: (1 - k) X + k m0 + k / 2 (m1 - m0) / r. At the last step k is 1 and
 * the sample is the data prediction itself. */
static void predict(const Sampler *p, Stream *s, int64_t i, View x) {
    double k = 1 - p->sigma[i + 1] / p->sigma[i], old = 0;
    if (order(p, i) == 2) {
        double h = lambda(p, i + 1) - lambda(p, i);
        old = 0.5 * h / (lambda(p, i - 1) - lambda(p, i));
    }
    const View in[] = {p->corrected, data_at(p, i), data_at(p, i + HISTORY - 1)};
    const float a[] = {(float)(1 - k), (float)(k * (1 - old)), (float)(k * old)};
    op_lincomb(s, x, old != 0 ? 3 : 2, in, a);
}

static void step_unipc(const Sampler *p, Stream *s, int64_t i, View x, View v) {
    op_lincomb(s, data_at(p, i), 2, (const View[]){x, v}, (const float[]){1, (float)-p->sigma[i]});
    if (i == 0)
        op_copy(s, p->corrected, x);
    else
        correct(p, s, i);
    predict(p, s, i, x);
}

void sampler_step(Sampler *p, Stream *s, int64_t i, View x, View v) {
    assert(i == p->next && i < p->options.n_steps);
    p->next = i + 1;
    if (p->options.kind == SAMPLER_UNIPC)
        step_unipc(p, s, i, x, v);
    else
        op_lincomb(s, x, 2, (const View[]){x, v},
                (const float[]){1, (float)(p->sigma[i + 1] - p->sigma[i])});
}
