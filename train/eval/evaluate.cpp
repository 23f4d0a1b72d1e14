#include "moba/core/clock.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/progress.h"
#include "train/core/terminal.h"
#include "train/display/numbers.h"
#include "train/eval/evaluate_impl.h"
#include "train/options/options.h"
#include "train/run/launch.h"
#include <algorithm>
#include <tuple>
#include <unistd.h>

namespace moba {

using nlohmann::json;

void show_progress(const std::string& text) {
    if (is_terminal(STDERR_FILENO)) { std::fprintf(stderr, "\r\033[K%s", text.c_str()); }
}

std::string sparsity_note(const Config& config, int T) {
    if (!config.has(AttentionKind::moba)) { return ""; }
    if (config.is_full_at(T)) {
        return "; at this length MoBA is full attention, because top-k * block-size >= T";
    }
    return "; moba layers leave out " + percent(config.sparsity({AttentionKind::moba}, T)) +
           " of the causal pairs";
}

std::vector<int> lengths_of(const EvalOptions& o, const ModelFolder& folder) {
    std::vector<int> lengths = o.seq_len;
    if (lengths.empty()) { lengths.push_back(folder.trained_length); }
    std::sort(lengths.begin(), lengths.end());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    return lengths;
}

json head_of_result(const EvalOptions& o, const Config& config) {
    return {{"model", o.model},
            {"precision", o.precision},
            {"layers", layer_names(config)},
            {"block_size", config.block_size},
            {"top_k", config.top_k},
            {"gate", gate_name(config.gate)},
            {"shared_gate", config.shared_gate},
            {"num_blocks", config.num_block_sizes},
            {"lengths", json::array()}};
}

// The model, with the changes that the options ask for, and whether it is evaluated on a text.
static std::pair<ModelFolder, bool> open_evaluated(const EvalOptions& o, bool several) {
    ModelFolder folder = open_model(o.model);
    swap_attention(folder.config, o.attention, o.block_size, o.top_k);
    rescale(folder.config, o.rope_scaling);
    const bool text = !o.data.empty() || (o.task.empty() && folder.task.empty() && !folder.data.empty());
    if (text && !o.task.empty()) {
        throw Error("--task and --data cannot be used together: name only one of them");
    }
    if (text && o.router) {
        throw Error("--router needs a task: in a text it is not known which token holds an answer");
    }
    if (several && o.router) { throw Error("--router: only for one process, not under mpirun or srun"); }
    if (text) {
        refuse_given(o.given, {"pairs", "pair-every", "depths", "samples", "seed"},
                     "is for tasks: a text is scored whole, or in as many places as --windows says");
    } else {
        refuse_given(o.given, {"windows", "repeats"}, "is for texts: a task has --samples");
    }
    if (!text && folder.task.empty() && o.task.empty()) {
        throw Error(folder.path + ": does not say what the model was trained on: name --task or --data");
    }
    return {folder, text};
}

int run_eval(Comm& comm, const EvalOptions& o) {
    comm.set_timeout(o.timeout);
    ModelFolder folder;
    bool text = false;
    together(comm, [&] {
        std::tie(folder, text) = open_evaluated(o, comm.size() > 1);
        if (comm.rank() == 0) { check_writable(o.json); }
    });
    check_same_values(comm, {{"the model", folder.config_json}});
    const double begin = now_ms();
    const json result = with_precision(o.precision, [&](auto e) {
        using E = decltype(e);
        return text ? eval_text<E>(comm, o, folder, folder.config, true)
                    : eval_task<E>(comm, o, folder, folder.config);
    });
    std::printf("evaluation took %s\n", readable_seconds((now_ms() - begin) / 1000).c_str());
    together(comm, [&] {
        if (!o.json.empty() && comm.rank() == 0) { write_file(o.json, result.dump(2) + "\n"); }
    });
    return 0;
}

}  // namespace moba
