/* Ranks as processes, started by mpirun or srun. MPI moves the bytes; this is the only file that calls it. */
#pragma once
#include "moba/core/comm.h"

namespace moba {

/* Whether mpirun or srun started this process as one of several. Throws Error if so and this program has no
   MPI: each of the processes would train by itself. */
bool started_as_rank();
std::unique_ptr<Transport> open_mpi();

}  // namespace moba
