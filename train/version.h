/* Which program this is: "0.1.0" and the commit it was built from. */
#pragma once

const char* program_version();
const char* program_commit();
