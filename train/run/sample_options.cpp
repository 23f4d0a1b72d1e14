#include "train/run/sample_options.h"
#include "train/options/option_builder.h"
#include "train/run/chat.h"

namespace moba {

void add_sample_options(CLI::App& app, SampleOptions& o) {
    start_options(app);
    add_model_path(app, o.model);
    add_prompt_options(app, o.prompt, "a new document, or a test of the task, drawn by --seed.");
    auto* chat =
        add_flag(app, "--chat", o.chat,
                 "The prompt is a message to an instruction model: it is put into the template that the "
                 "model was trained with, and only the answer is printed.");
    add(app, "--system", o.system, "TEXT", "System message of a chat. Empty: that of the template, if any.")
        ->needs(chat);
    add(app, "--chat-template", o.chat_template, "KIND",
        "Template of a chat: chatml, llama2 or llama3. Empty: the model's own.")
        ->check(one_of(chat_kinds()))
        ->needs(chat);
    add(app, "--max-new-tokens", o.max_new_tokens, "TOKENS",
        "Most tokens to generate. 0: as many as the task's answer has; in a chat 256, else 32.")
        ->check(whole(0, most_tokens));
    add(app, "--temperature", o.temperature, "T",
        "Temperature of the sampling. 0: greedy, always the most likely token.")
        ->check(between(0.0, 1000.0));
    add(app, "--sample-top-k", o.sample_top_k, "TOKENS", "Sample among the k most likely tokens. 0: all.")
        ->check(whole(0, most_tokens));
    add(app, "--sample-top-p", o.top_p, "SHARE",
        "Sample among the most likely tokens that together have this probability. 1: all.")
        ->check(between(0.0, 1.0));
    add(app, "--repetition-penalty", o.repetition_penalty, "FACTOR",
        "Penalty on the logits of tokens that have occurred. 1: none.")
        ->check(between(0.01, 100.0));
    add(app, "--seed", o.seed, "NUMBER", "Random seed of the sampling.");
    add_attention_swap(app, o.attention, o.block_size, o.top_k);
    add_rope_scaling(app, o.rope_scaling);
    app.get_option("--top-k")->description(
        "Blocks per query K for --attention moba, not tokens to sample from: that is --sample-top-k. 0: the "
        "model's own.");
    auto* decode =
        add(app, "--decode-attention", o.decode_attention, "KIND",
            "moba or full: attention of generated tokens; the prompt is processed as --attention says. "
            "Empty: the same as the prompt.")
            ->check(one_of({"moba", "full"}));
    add_flag(app, "--no-cache", o.no_cache,
             "Compute the whole context again for every token: the same tokens, much slower. Not with "
             "--decode-attention.")
        ->excludes(decode);
    add_flag(app, "--whole-prompt", o.whole_prompt,
             "Print all of the prompt: every token of a test that was drawn, also its noise, and texts of "
             "more than "
             "4 KB, of which only the end is printed otherwise.");
    add(app, "--logits", o.logits, "FILE",
        "Write the logits of the prompt, (tokens, vocabulary), to this safetensors file.");
    add_device(app, o.device, o.precision);
}

}  // namespace moba
