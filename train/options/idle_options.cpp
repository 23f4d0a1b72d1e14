// Options that would do nothing are refused: whoever gives one expects something of it.
#include "train/options/options.h"

namespace moba {

static bool has(const std::vector<std::string>& given, const std::string& name) {
    return std::find(given.begin(), given.end(), name) != given.end();
}

void refuse_given(const std::vector<std::string>& given, const std::vector<const char*>& names,
                  const std::string& reason) {
    for (const char* name : names) {
        if (has(given, name)) { throw Error(std::string("--") + name + " " + reason); }
    }
}

// The attention's settings are no such options: a model with full attention stores them, too.
std::vector<IdleOption> idle_options(const TrainOptions& o) {
    std::vector<IdleOption> out;
    const auto add = [&](bool idle, const char* name, const std::string& reason) {
        if (idle && o.has(name)) { out.push_back({name, reason}); }
    };
    const bool text = !o.data.empty();
    const TaskSettings& t = o.task;
    for (const auto& [name, n] : {std::pair{"pairs", t.pairs},
                                  {"pair-every", t.pair_every},
                                  {"questions", t.questions},
                                  {"key-tokens", t.key_tokens},
                                  {"value-tokens", t.value_tokens},
                                  {"needles", t.needles},
                                  {"synonyms", t.synonyms},
                                  {"spread", t.spread},
                                  {"hops", t.hops},
                                  {"num-keys", t.num_keys},
                                  {"num-values", t.num_values},
                                  {"num-noise", t.num_noise}}) {
        add(text && n != 0, name, "is a setting of tasks: it cannot be used with --data");
    }
    add(!text, "val-share", "needs --data");
    add(!text, "tokenizer", "needs --data");
    add(text && !o.val_data.empty(), "val-share",
        "cannot be used with --val-data, which is all that validates");
    add(o.epochs > 0, "steps", "cannot be used with --epochs");
    add(o.model.attention == "full" && o.model.full_layers > 0, "full-layers",
        "is only for --attention moba");
    add(o.model.attention == "full" && o.model.layers.empty() && o.full_every > 0 && o.switch_to.empty(),
        "full-every", "is only for moba layers");
    const ModelOptions& m = o.model;
    const bool grouped = m.num_kv_heads && m.num_kv_heads < m.config.num_heads;
    add(m.config.shared_gate && o.init_from.empty() && !grouped, "shared-gate",
        "needs --num-kv-heads below --num-heads: query heads that share keys choose together");
    add(m.config.shared_gate && !has_scores(parse_gate(m.gate)), "shared-gate",
        "does nothing with --gate " + m.gate + ", which chooses the same blocks for all heads");
    add(o.curriculum.empty() && o.stage_accuracy > 0, "stage-accuracy", "needs --curriculum");
    add(o.lr_schedule != "wsd" && o.lr.decay_steps > 0, "lr-decay-steps", "is only for --lr-schedule wsd");
    add(o.lr_schedule == "constant", "min-lr-ratio", "is only for --lr-schedule wsd and cosine");
    return out;
}

void refuse_idle_options(const TrainOptions& o) {
    for (const IdleOption& i : idle_options(o)) { throw Error("--" + i.name + " " + i.reason); }
}

}  // namespace moba
