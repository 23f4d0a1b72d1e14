/* Linear with cuBLASLt (version 4), which training uses: fp32 without TF32, bf16 with sums in fp32. Not
   compiled for the simulator.

   The library is not linked but loaded at the first product: it has 540 MB, and without it a machine that has
   only the driver can still run the program. If the library is missing, or the program was built without its
   header, linear uses version 3.

   cuBLASLt is column-major, so a row-major (m, n) matrix is an (n, m) matrix for it, and C = A B becomes C' =
   B' A'. The algorithm for a shape is chosen once and cached, so the same shape gives the same bits. Split
   sums may only go through the workspace, never in place. */
#ifndef SIMT_CPU
#include "moba/ops/linear.cuh"
#include <dlfcn.h>
#include <map>
#include <memory>
#include <tuple>
#include <type_traits>
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

namespace moba {

#if __has_include(<cublasLt.h>)

// The functions of the library that are used, without the prefix cublasLt.
// clang-format off
#define EACH_FUNCTION(_)             \
    _(Create)                        \
    _(GetStatusString)               \
    _(MatrixLayoutCreate)            \
    _(MatrixLayoutDestroy)           \
    _(MatmulDescCreate)              \
    _(MatmulDescSetAttribute)        \
    _(MatmulDescDestroy)             \
    _(MatmulPreferenceCreate)        \
    _(MatmulPreferenceSetAttribute)  \
    _(MatmulPreferenceDestroy)       \
    _(MatmulAlgoGetHeuristic)        \
    _(Matmul)
// clang-format on

namespace {

struct Library {
    std::string problem;  // why the library cannot be used; empty if it can
#define POINTER(name) decltype(&cublasLt##name) name = nullptr;
    EACH_FUNCTION(POINTER)
#undef POINTER

    Library() {
        const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
        void* file = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!file) {
            problem = dlerror();
            // The path where it was at build time.
            file = dlopen(MOBA_CUBLASLT, RTLD_NOW | RTLD_LOCAL);
        }
        if (!file) { return; }
        problem.clear();
#define FIND(name)                                                                                           \
    this->name = (decltype(this->name))dlsym(file, "cublasLt" #name);                                        \
    if (!this->name) { problem = "it has no cublasLt" #name; }
        EACH_FUNCTION(FIND)
#undef FIND
    }
};

}  // namespace

static const Library& library() {
    static const Library l;
    return l;
}

static std::string cublaslt_problem() { return library().problem; }

static void check(cublasStatus_t s, const char* call, int line) {
    if (s == CUBLAS_STATUS_SUCCESS) { return; }
    std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, line, call, library().GetStatusString(s));
    std::exit(1);
}
// LT(Matmul(...)) calls cublasLtMatmul(...) and checks its result.
#define LT(call) check(library().call, "cublasLt" #call, __LINE__)

template <class E>
constexpr cudaDataType_t data_type = std::is_same_v<E, float> ? CUDA_R_32F : CUDA_R_16BF;

static cublasLtHandle_t handle() {
    static const cublasLtHandle_t h = [] {
        cublasLtHandle_t made;
        LT(Create(&made));
        return made;
    }();
    return h;
}

// The alignment of an address in bytes, at most 16.
static uint32_t alignment(const void* p) {
    const uintptr_t low = (uintptr_t)p & -(uintptr_t)p;
    return low == 0 || low > 16 ? 16 : (uint32_t)low;
}

namespace {

struct Layout {
    cublasLtMatrixLayout_t it;
    Layout(cudaDataType_t type, uint64_t rows, uint64_t columns) {
        LT(MatrixLayoutCreate(&it, type, rows, columns, (int64_t)rows));
    }
    ~Layout() { library().MatrixLayoutDestroy(it); }
};

// A product with its chosen algorithm: C (m, n) = op(A) op(B), all column-major.
struct Plan {
    cublasLtMatmulDesc_t product;
    Layout a, b, c;
    cublasLtMatmulAlgo_t algorithm;

    Plan(bool at, bool bt, int m, int n, int k, cudaDataType_t in, cudaDataType_t out, uint32_t align_a,
         uint32_t align_b, uint32_t align_c, size_t workspace_bytes)
        : a(in, at ? k : m, at ? m : k), b(in, bt ? n : k, bt ? k : n), c(out, m, n) {
        LT(MatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        const cublasOperation_t op_a = at ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = bt ? CUBLAS_OP_T : CUBLAS_OP_N;
        LT(MatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a));
        LT(MatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b));
        cublasLtMatmulPreference_t wish;
        LT(MatmulPreferenceCreate(&wish));
        const uint32_t sums = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
            LT(MatmulPreferenceSetAttribute(wish, what, &value, sizeof value));
        };
        set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
        set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, sums);
        set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align_a);
        set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align_b);
        set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align_c);
        set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align_c);
        cublasLtMatmulHeuristicResult_t found;
        int count = 0;
        LT(MatmulAlgoGetHeuristic(handle(), product, a.it, b.it, c.it, c.it, wish, 1, &found, &count));
        library().MatmulPreferenceDestroy(wish);
        REQUIRE(count == 1, "no cuBLASLt algorithm for %d x %d x %d", m, n, k);
        algorithm = found.algo;
    }
    ~Plan() { library().MatmulDescDestroy(product); }
    Plan(const Plan&) = delete;
};

}  // namespace

template <class E, class Out>
void product_cublaslt(const Ctx& ctx, const Product<E, Out>& p) {
    // C' (N, M) = B' (N, K) A' (K, M): B is transposed if neighbours in k are adjacent in memory, A if
    // neighbours in m are.
    const bool bt = p.bk == 1 && p.bn != 1, at = p.am == 1 && p.ak != 1;
    // Not the whole workspace: its size depends on other operations, which must not change the algorithm.
    const size_t workspace_bytes = std::min(ctx.workspace_bytes, linear_workspace_bytes_gpu<E>({}));
    const std::tuple key{bt,
                         at,
                         p.N,
                         p.M,
                         p.K,
                         data_type<E>,
                         data_type<Out>,
                         alignment(p.b),
                         alignment(p.a),
                         alignment(p.c),
                         workspace_bytes};
    static std::map<std::remove_const_t<decltype(key)>, std::unique_ptr<Plan>> plans;
    std::unique_ptr<Plan>& plan = plans[key];
    if (!plan) {
        plan = std::make_unique<Plan>(bt, at, p.N, p.M, p.K, data_type<E>, data_type<Out>, alignment(p.b),
                                      alignment(p.a), alignment(p.c), workspace_bytes);
    }
    const float one = 1, beta = p.add ? 1 : 0;
    LT(Matmul(handle(), plan->product, &one, p.b, plan->a.it, p.a, plan->b.it, &beta, p.c, plan->c.it, p.c,
              plan->c.it, &plan->algorithm, ctx.workspace, workspace_bytes, ctx.stream));
}

#else
static std::string cublaslt_problem() { return "this program was built without its header"; }
template <class E, class Out>
void product_cublaslt(const Ctx&, const Product<E, Out>&) {
    REQUIRE(false, "%s", cublaslt_problem().c_str());
}
#endif

int best_linear_version() {
    static const int version = [] {
        const std::string problem = cublaslt_problem();
        if (problem.empty()) { return 4; }
        std::fprintf(stderr, "linear: kernel version 3, which is slower, without cuBLASLt: %s\n",
                     problem.c_str());
        return 3;
    }();
    return version;
}

INSTANTIATE_ONE(product_cublaslt, float, float)
INSTANTIATE_ONE(product_cublaslt, bf16, bf16)
INSTANTIATE_ONE(product_cublaslt, bf16, float)

}  // namespace moba
#endif
