// A model folder: config.json, and the memory plan of the model that it describes.
#include "moba/model.h"
#include "test/fuzz/fuzz.h"
#include "train/files/checkpoint.h"
#include "train/tasks/task.h"

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz_file("config.json", data, size);
    return refuses_or_reads([] {
        const ModelFolder folder = open_model(fuzz_folder());
        const Model<float> model(folder.config,
                                 {.max_tokens = 64, .max_seqs = 2, .max_position = 64, .training = true});
        if (folder.task.is_null()) { return; }
        const auto task = make_task(task_from_json(folder.task, ""), "");
        const int T = folder.config.max_position_embeddings;
        if (T < 1 << 12 && T >= task->shortest_test() && T <= task->longest() &&
            task->vocab_size() < 1 << 12) {
            Rng rng(1, Purpose::synthetic, 0);
            Sample sample;
            task->draw_test(rng, T, 0.5, sample);
        }
    });
}
