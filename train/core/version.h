/* The version of this program, such as "0.1.0", and the commit it was built from. */
#pragma once

namespace moba {

const char* program_version();
const char* program_commit();

}  // namespace moba
