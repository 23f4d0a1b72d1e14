/* The resources of a multiprocessor that each kernel uses: prints one line for each kernel that ptxas
   reported, with the occupancy of its largest launch.

     resources LAUNCHES PTXAS   LAUNCHES: lines "shared-bytes threads name"; PTXAS: the messages of ptxas,
                                with demangled names

   Runs on the host and uses no GPU. test/kernels/resources.sh makes its inputs. */
#include <algorithm>
#include <cstdio>
#include <cuda_occupancy.h>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <tuple>

struct Launch {
    size_t shared_bytes = 0;
    int threads = 0;
    bool operator<(const Launch& o) const {
        return std::tie(shared_bytes, threads) < std::tie(o.shared_bytes, o.threads);
    }
};
struct Kernel {
    std::string name, arch;
    int registers, barriers;
    size_t static_bytes;
    bool operator<(const Kernel& o) const { return std::tie(name, arch) < std::tie(o.name, o.arch); }
};

// Limits from the CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
static cudaOccDeviceProp properties(const std::string& arch) {
    cudaOccDeviceProp p;
    p.computeMajor = arch[3] - '0', p.computeMinor = 0;
    p.maxThreadsPerBlock = 1024, p.maxThreadsPerMultiprocessor = 2048;
    p.regsPerBlock = p.regsPerMultiprocessor = 65536;
    p.warpSize = 32;
    p.sharedMemPerBlock = 48 << 10;
    p.sharedMemPerMultiprocessor = (arch == "sm_80" ? 164 : 228) << 10;
    p.sharedMemPerBlockOptin = p.sharedMemPerMultiprocessor - 1024;
    p.reservedSharedMemPerBlock = 1024;
    p.numSms = arch == "sm_80" ? 108 : 132;
    return p;
}

// In percent of the threads of a multiprocessor; 0 if the block does not fit.
static int occupancy(const Kernel& k, const Launch& l) {
    const cudaOccDeviceProp p = properties(k.arch);
    cudaOccFuncAttributes f;
    f.maxThreadsPerBlock = p.maxThreadsPerBlock;
    f.numRegs = k.registers;
    f.sharedSizeBytes = k.static_bytes;
    f.partitionedGCConfig = PARTITIONED_GC_OFF;
    f.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    f.maxDynamicSharedSizeBytes = l.shared_bytes;
    f.numBlockBarriers = k.barriers;
    const cudaOccDeviceState state;
    cudaOccResult r;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &f, &state, l.threads, l.shared_bytes) !=
        CUDA_OCC_SUCCESS) {
        return 0;
    }
    return 100 * r.activeBlocksPerMultiprocessor * l.threads / p.maxThreadsPerMultiprocessor;
}

// The number before `unit` in "Used 32 registers, used 1 barriers, 1024 bytes smem"; 0 if there is none.
static size_t number_before(const std::string& line, const std::string& unit) {
    const size_t end = line.find(" " + unit);
    if (end == std::string::npos) { return 0; }
    return std::stoul(line.substr(line.rfind(' ', end - 1) + 1));
}

static std::set<Kernel> read_ptxas(const char* path) {
    std::set<Kernel> kernels;
    std::ifstream in(path);
    std::string line, name, arch;
    while (std::getline(in, line)) {
        if (line.find("Compiling entry function") != std::string::npos) {
            const size_t a = line.find('\''), b = line.find('\'', a + 1), c = line.find('\'', b + 1);
            name = line.substr(a + 1, b - a - 1);
            arch = line.substr(c + 1, line.find('\'', c + 1) - c - 1);
        } else if (line.find(": Used ") != std::string::npos && (arch == "sm_80" || arch == "sm_90a")) {
            kernels.insert({name, arch, (int)number_before(line, "registers"),
                            (int)number_before(line, "barriers"), number_before(line, "bytes smem")});
        }
    }
    return kernels;
}

int main(int argc, char** argv) {
    if (argc != 3) { return 2; }
    // a static kernel may have been compiled and launched in several files
    std::map<std::string, Launch> launches;
    std::ifstream in(argv[1]);
    std::string name;
    for (Launch l; in >> l.shared_bytes >> l.threads && std::getline(in >> std::ws, name);) {
        launches[name] = std::max(launches[name], l);
    }
    const std::set<Kernel> kernels = read_ptxas(argv[2]);
    if (launches.empty() || kernels.empty()) {
        std::cerr << "resources: " << launches.size() << " launches, " << kernels.size() << " kernels\n";
        return 1;
    }
    for (const Kernel& k : kernels) {
        const auto l = launches.find(k.name);
        std::printf("%-6s %9d %7zu ", k.arch.c_str(), k.registers, k.static_bytes);
        if (l == launches.end()) {
            std::printf("%8s %8s %6s", "-", "-", "-");
        } else {
            std::printf("%8zu %8d %5d%%", l->second.shared_bytes, l->second.threads, occupancy(k, l->second));
        }
        std::printf("  %s\n", k.name.c_str());
    }
}
