/* Where a training run is: everything that its next step depends on, apart from weights and moments.
   state.json of a checkpoint holds it. */
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>

namespace moba {

struct RunState {
    int step = 0;                                       // optimizer steps done
    uint64_t samples = 0;                               // training samples drawn
    uint64_t tokens = 0;                                // tokens trained on
    int stage = 0;                                      // of the curriculum
    int stage_steps = 0;                                // steps done in this stage
    double accuracy = 0;                                // running mean within this stage
    nlohmann::json options = nlohmann::json::object();  // every option of the run, by name
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RunState, step, samples, tokens, stage, stage_steps, accuracy, options)

}  // namespace moba
