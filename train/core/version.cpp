#include "train/core/version.h"

namespace moba {

#ifndef MOBA_COMMIT
#define MOBA_COMMIT "unknown"
#define MOBA_VERSION "unknown"
#endif

const char* program_version() { return MOBA_VERSION; }
const char* program_commit() { return MOBA_COMMIT; }

}  // namespace moba
