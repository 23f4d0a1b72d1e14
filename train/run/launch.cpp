#include "train/run/launch.h"
#include "moba/core/mpi.h"
#include "moba/core/parallel.h"
#include "moba/op_table.h"
#include "train/core/file.h"
#include "train/core/version.h"
#include <CLI/Error.hpp>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace moba {

using nlohmann::json;

namespace {

// From now on what this process prints is lost; errors are not.
void silence_output() {
    std::fflush(stdout);
    const int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere >= 0) {
        dup2(nowhere, STDOUT_FILENO);
        close(nowhere);
    }
}

/* The ranks of one machine share its processors, unless OMP_NUM_THREADS says otherwise. Results do not depend
   on the number of threads. */
void share_processors(const Comm& comm) {
#ifdef _OPENMP
    if (std::getenv("OMP_NUM_THREADS")) { return; }
    const int machine = (int)sysconf(_SC_NPROCESSORS_ONLN), share = std::max(1, machine / comm.local_size());
    omp_set_num_threads(std::min(share, omp_get_num_procs()));  // mpirun may have bound it to fewer
#else
    (void)comm;
#endif
}

std::string error_text(const std::exception& e) {
    return dynamic_cast<const std::bad_alloc*>(&e) ? "out of memory" : one_line(e.what());
}

}  // namespace

int as_rank(const std::function<int(Comm&)>& f) {
    if (!started_as_rank()) {
        Comm alone;
        return f(alone);
    }
    setenv("TERM", "dumb", 1);  // mpirun's terminals are no terminals: what is printed may go into a file
    Comm comm(open_mpi);
    if (comm.rank() > 0) { silence_output(); }
    share_processors(comm);
    choose_gpu(comm.local_rank());
    try {
        return f(comm);
    } catch (const OtherRank&) {
        return 1;
    } catch (const AgreedError& e) {  // printed before Comm ends: then mpirun may end this process
        std::fprintf(stderr, "moba: %s\n", one_line(e.what()).c_str());
        return 1;
    } catch (const CLI::Success&) {  // --help, on all ranks
        throw;
    } catch (const std::exception& e) {
        // If all ranks have the same error, rank 0 prints it, and its end is the end of the others.
        if (comm.rank() > 0) { sleep(2); }
        std::fprintf(stderr, "moba: %s: %s\n", comm.name(comm.rank()).c_str(), error_text(e).c_str());
    }
    comm.abort(1);
}

void refuse_ranks(const std::string& command) {
    need(!started_as_rank(), command + ": this command runs as one process, not under mpirun or srun");
}

void together(Comm& comm, const std::function<void()>& f) {
    if (comm.size() == 1) { return f(); }
    std::string problem;
    try {
        f();
    } catch (const CLI::ParseError& e) {
        if (e.get_exit_code() == 0) { throw; }  // --help
        problem = std::string(e.what()) + " (see --help)";
    } catch (const std::exception& e) { problem = error_text(e); }
    comm.agree(problem);
}

json options_of(const json& values) {
    json options = json::object();
    for (const auto& [name, value] : values.items()) { options["--" + name] = value; }
    return options;
}

static std::string value_text(const json& values, const std::string& name) {
    return values.contains(name) ? values[name].dump() : "not set";
}

void check_same_values(Comm& comm, json values) {
    if (comm.size() == 1) { return; }
    values["the program's commit"] = program_commit();
    const json first = json::parse(comm.all_gather(values.dump())[0]);
    std::string different;
    json all = first;
    all.update(values);
    for (const auto& [name, value] : all.items()) {
        const std::string mine = value_text(values, name), other = value_text(first, name);
        if (mine != other && different.empty()) { different = name + " is " + mine + ", on rank 0 " + other; }
    }
    comm.agree(different);
}

}  // namespace moba
