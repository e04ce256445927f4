#include "backend/cuda/lt.h"

#include "base/macro.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* The library of the headers' major version: its structs are passed by address. */
static const char library_name[] = "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR);

/* A toolkit that the linker's cache does not know, as NVIDIA's own installer leaves it. */
static const char toolkit_library[] =
        PREHEAT_CUDA_ROOT "/lib64/libcublasLt.so." TEXT(CUBLAS_VER_MAJOR);

/* One shape met before. Descriptors belong to the plan. */
typedef struct Plan {
    int64_t m, n, k, y_stride, x_stride;
    int out, epilogue;
    bool usable;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algo;
} Plan;

/* A daemon meets some thirty shapes a request size; the oldest plan makes room for a new one. */
enum { N_PLANS = 256 };

struct Lt {
    int device;
    pthread_t thread;
    bool joined;
    pthread_mutex_t lock; /* guards go */
    pthread_cond_t changed;
    enum { GO_WAIT, GO_ON, GO_HOME } go; /* whether there is a context */
    void *library; /* these are the thread's until it is joined; NULL handle: unusable */
    cublasLtHandle_t handle;
    __typeof__(cublasLtCreate) *create;
    __typeof__(cublasLtDestroy) *destroy;
    __typeof__(cublasLtMatmulDescCreate) *product_new;
    __typeof__(cublasLtMatmulDescDestroy) *product_free;
    __typeof__(cublasLtMatmulDescSetAttribute) *product_set;
    __typeof__(cublasLtMatrixLayoutCreate) *layout_new;
    __typeof__(cublasLtMatrixLayoutDestroy) *layout_free;
    __typeof__(cublasLtMatmulPreferenceCreate) *preference_new;
    __typeof__(cublasLtMatmulPreferenceDestroy) *preference_free;
    __typeof__(cublasLtMatmulPreferenceSetAttribute) *preference_set;
    __typeof__(cublasLtMatmulAlgoGetHeuristic) *heuristic;
    __typeof__(cublasLtMatmul) *matmul;
    Plan plan[N_PLANS];
    size_t n_plans, oldest;
};

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
        {"cublasLtCreate", offsetof(Lt, create)},
        {"cublasLtDestroy", offsetof(Lt, destroy)},
        {"cublasLtMatmulDescCreate", offsetof(Lt, product_new)},
        {"cublasLtMatmulDescDestroy", offsetof(Lt, product_free)},
        {"cublasLtMatmulDescSetAttribute", offsetof(Lt, product_set)},
        {"cublasLtMatrixLayoutCreate", offsetof(Lt, layout_new)},
        {"cublasLtMatrixLayoutDestroy", offsetof(Lt, layout_free)},
        {"cublasLtMatmulPreferenceCreate", offsetof(Lt, preference_new)},
        {"cublasLtMatmulPreferenceDestroy", offsetof(Lt, preference_free)},
        {"cublasLtMatmulPreferenceSetAttribute", offsetof(Lt, preference_set)},
        {"cublasLtMatmulAlgoGetHeuristic", offsetof(Lt, heuristic)},
        {"cublasLtMatmul", offsetof(Lt, matmul)},
};

static void plan_done(const Lt *lt, Plan *p) {
    if (p->product)
        (void)lt->product_free(p->product);
    if (p->w)
        (void)lt->layout_free(p->w);
    if (p->x)
        (void)lt->layout_free(p->x);
    if (p->y)
        (void)lt->layout_free(p->y);
    *p = (Plan){0};
}

static bool plan_choose(const Lt *lt, Plan *p) {
    cublasLtMatmulPreference_t preference;
    if (lt->preference_new(&preference) != CUBLAS_STATUS_SUCCESS)
        return false;
    uint64_t workspace = LT_WORKSPACE_BYTES;
    /* In place means additions by atomics, in any order. */
    uint32_t reductions =
            CUBLASLT_REDUCTION_SCHEME_MASK & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_INPLACE;
    bool ok = lt->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                      sizeof(workspace)) == CUBLAS_STATUS_SUCCESS &&
              lt->preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                      &reductions, sizeof(reductions)) == CUBLAS_STATUS_SUCCESS;
    cublasLtMatmulHeuristicResult_t result;
    int n = 0;
    ok = ok &&
         lt->heuristic(lt->handle, p->product, p->w, p->x, p->y, p->y, preference, 1, &result,
                 &n) == CUBLAS_STATUS_SUCCESS &&
         n == 1 && result.state == CUBLAS_STATUS_SUCCESS;
    if (ok)
        p->algo = result.algo;
    (void)lt->preference_free(preference);
    return ok;
}

/* In the library's column-major words: y^T [n, m] = w [k, n]^T x^T [k, m]. */
static bool plan_make(const Lt *lt, Plan *p) {
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = (cublasLtEpilogue_t)p->epilogue;
    cudaDataType_t out = p->out == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
    if (lt->product_new(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS)
        return false;
    bool ok = lt->product_set(p->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                      sizeof(transposed)) == CUBLAS_STATUS_SUCCESS &&
              lt->product_set(p->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                      sizeof(epilogue)) == CUBLAS_STATUS_SUCCESS;
    if (ok && epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_GELU)
        ok = lt->product_set(p->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof(out)) ==
             CUBLAS_STATUS_SUCCESS;
    uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, k = (uint64_t)p->k;
    return ok && lt->layout_new(&p->w, CUDA_R_16BF, k, n, p->k) == CUBLAS_STATUS_SUCCESS &&
           lt->layout_new(&p->x, CUDA_R_16BF, k, m, p->x_stride) == CUBLAS_STATUS_SUCCESS &&
           lt->layout_new(&p->y, out, n, m, p->y_stride) == CUBLAS_STATUS_SUCCESS &&
           plan_choose(lt, p);
}

static int epilogue_of(const LtProduct *p) {
    if (p->gelu)
        return p->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static Plan *plan_of(Lt *lt, const LtProduct *want) {
    int epilogue = epilogue_of(want);
    for (size_t i = 0; i < lt->n_plans; i++) {
        Plan *p = &lt->plan[i];
        if (p->m == want->m && p->n == want->n && p->k == want->k &&
                p->y_stride == want->y_stride && p->x_stride == want->x_stride &&
                p->out == (int)want->out && p->epilogue == epilogue)
            return p;
    }
    Plan *p = &lt->plan[lt->n_plans < N_PLANS ? lt->n_plans++ : lt->oldest++ % N_PLANS];
    plan_done(lt, p);
    *p = (Plan){.m = want->m,
            .n = want->n,
            .k = want->k,
            .y_stride = want->y_stride,
            .x_stride = want->x_stride,
            .out = (int)want->out,
            .epilogue = epilogue};
    p->usable = plan_make(lt, p);
    return p;
}

static bool await_context(Lt *lt) {
    (void)pthread_mutex_lock(&lt->lock);
    while (lt->go == GO_WAIT)
        (void)pthread_cond_wait(&lt->changed, &lt->lock);
    bool on = lt->go == GO_ON;
    (void)pthread_mutex_unlock(&lt->lock);
    return on;
}

/* Everything slow: the file, the handle, and the tables that the first search builds. */
static void *start(void *context) {
    Lt *lt = context;
    lt->library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (!lt->library)
        lt->library = dlopen(toolkit_library, RTLD_NOW | RTLD_LOCAL);
    if (!lt->library)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        void *f = dlsym(lt->library, functions[i].name);
        if (!f)
            return NULL;
        memcpy((char *)lt + functions[i].offset, &f, sizeof(f));
    }
    if (!await_context(lt) || cudaSetDevice(lt->device) != cudaSuccess ||
            lt->create(&lt->handle) != CUBLAS_STATUS_SUCCESS) {
        lt->handle = NULL;
        return NULL;
    }
    Plan first = {.m = 512,
            .n = 4096,
            .k = 4096,
            .y_stride = 4096,
            .x_stride = 4096,
            .out = DTYPE_BF16,
            .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    (void)plan_make(lt, &first); /* for its side effect on the library */
    plan_done(lt, &first);
    return NULL;
}

Lt *lt_start(int device) {
    Lt *lt = calloc(1, sizeof(*lt));
    if (!lt)
        return NULL;
    lt->device = device;
    (void)pthread_mutex_init(&lt->lock, NULL);
    (void)pthread_cond_init(&lt->changed, NULL);
    if (pthread_create(&lt->thread, NULL, start, lt) != 0) {
        lt->joined = true;
        return lt_free(lt);
    }
    return lt;
}

static void tell(Lt *lt, int go) {
    (void)pthread_mutex_lock(&lt->lock);
    if (lt->go == GO_WAIT)
        lt->go = go;
    (void)pthread_cond_broadcast(&lt->changed);
    (void)pthread_mutex_unlock(&lt->lock);
}

void lt_go_on(Lt *lt) {
    if (lt)
        tell(lt, GO_ON);
}

static void join(Lt *lt) {
    if (!lt->joined)
        (void)pthread_join(lt->thread, NULL);
    lt->joined = true;
}

Lt *lt_free(Lt *lt) {
    if (!lt)
        return NULL;
    tell(lt, GO_HOME);
    join(lt);
    for (size_t i = 0; i < lt->n_plans; i++)
        plan_done(lt, &lt->plan[i]);
    if (lt->handle)
        (void)lt->destroy(lt->handle);
    if (lt->library)
        (void)dlclose(lt->library);
    (void)pthread_cond_destroy(&lt->changed);
    (void)pthread_mutex_destroy(&lt->lock);
    free(lt);
    return NULL;
}

static bool is_aligned(const LtProduct *p) {
    uintptr_t all = (uintptr_t)p->y | (uintptr_t)p->x | (uintptr_t)p->w | (uintptr_t)p->bias;
    return (all & 15) == 0 && p->k % 8 == 0 && p->n % 8 == 0 && p->x_stride % 8 == 0 &&
           p->y_stride % 8 == 0;
}

int lt_product(Lt *lt, cudaStream_t s, const LtProduct *p, void *workspace) {
    join(lt);
    if (!lt->handle || !is_aligned(p))
        return -ENOTSUP;
    Plan *plan = plan_of(lt, p);
    if (!plan->usable)
        return -ENOTSUP;
    if (p->bias && lt->product_set(plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
                           sizeof(p->bias)) != CUBLAS_STATUS_SUCCESS)
        return -ENOTSUP;
    const float one = 1, zero = 0;
    cublasStatus_t e = lt->matmul(lt->handle, plan->product, &one, p->w, plan->w, p->x, plan->x,
            &zero, p->y, plan->y, p->y, plan->y, &plan->algo, workspace, LT_WORKSPACE_BYTES, s);
    return e == CUBLAS_STATUS_SUCCESS ? 0 : -EIO;
}
