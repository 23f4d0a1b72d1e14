/* A command as one of several ranks (mpirun, srun), or alone. */
#pragma once
#include "moba/core/comm.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

/* Calls f, and returns what it returns. Only rank 0 prints. An error of one rank ends all of them; it is
   printed with the rank's name. */
int as_rank(const std::function<int(Comm&)>& f);
/* For commands that one process does: throws Error where several were started. */
void refuse_ranks(const std::string& command);

/* f() on every rank. If it throws an Error on one of them, all throw, as Comm::agree() does. f makes no calls
   of Comm. */
void together(Comm&, const std::function<void()>& f);

/* Throws on all ranks where a value differs from that of rank 0: "--lr is 0.1, on rank 0 0.2". Adds the commit
   of this program to the values. */
void check_same_values(Comm&, nlohmann::json values);
/* The values of options, by their names with "--". */
nlohmann::json options_of(const nlohmann::json& values);

}  // namespace moba
