#include "train/run/tokens.h"
#include "moba/core/clock.h"
#include "train/core/file.h"
#include "train/core/utf8.h"
#include "train/display/numbers.h"
#include "train/options/option_builder.h"
#include "train/run/prompt.h"

namespace moba {

void add_tokens_options(CLI::App& app, TokensOptions& o) {
    start_options(app);
    add(app, "--tokenizer", o.tokenizer, "DIR",
        "A model folder, a tokenizer.json, a .gguf file, or the word bytes.")
        ->required();
    add_prompt_options(app, o.prompt, "an error.");
    add_flag(
        app, "--special-tokens", o.special_tokens,
        "Names of special tokens in the text become these tokens. Without it they are text like any other.");
    add(app, "--save-tokenizer", o.save_tokenizer, "FILE",
        "Write the tokenizer as a tokenizer.json, also that of a .gguf file. Then no text is needed.");
    add_flag(app, "--pieces", o.pieces,
             "Print the text of each token beside its id, one token on each line.");
}

int run_tokens(const TokensOptions& o) {
    const Tokenizer tokenizer(o.tokenizer);
    const PromptSource prompt = read_prompt(o.prompt);
    std::vector<int> ids = prompt.ids;
    if (!o.save_tokenizer.empty()) {
        if (tokenizer.is_bytes()) { throw Error("--save-tokenizer: bytes have no tokenizer.json"); }
        write_file(o.save_tokenizer, tokenizer_json(o.tokenizer));
        if (ids.empty() && prompt.text.empty()) { return 0; }
    }
    for (int id : ids) {
        if (id < 0 || id >= tokenizer.vocab_size()) {
            throw Error("token id " + std::to_string(id) + ": must be between 0 and " +
                        std::to_string(tokenizer.vocab_size() - 1));
        }
    }
    if (ids.empty()) {
        if (prompt.text.empty()) { throw Error("there is no text: use --prompt or --prompt-file"); }
        tokenizer.encode("a");  // the tables are made at the first use; they are not timed
        const double begin = now_ms();
        ids = tokenizer.encode(prompt.text, o.special_tokens ? SpecialNames::tokens : SpecialNames::text);
        const double ms = now_ms() - begin;
        std::fprintf(stderr, "%zu bytes are %zu tokens; encoded in %.3f s, %.1f MB/s\n", prompt.text.size(),
                     ids.size(), ms / 1000, (double)prompt.text.size() / ms / 1000);
        if (const size_t invalid = tokenizer.is_bytes() ? 0 : count_invalid_utf8(prompt.text)) {
            std::fprintf(stderr, "U+FFFD stands for %zu places that are not UTF-8\n", invalid);
        }
    }
    if (o.pieces) {
        for (int id : ids) {
            const std::string text = tokenizer.text(id);
            std::printf("%d\t%s\n", id, visible_text(text.empty() ? tokenizer.name(id) : text).c_str());
        }
    } else if (prompt.ids.empty()) {
        for (size_t i = 0; i < ids.size(); i++) { std::printf("%s%d", i ? "," : "", ids[i]); }
        std::printf("\n");
    } else {
        TextStream stream(tokenizer);
        for (int id : ids) {
            const std::string text = stream.add(id);
            std::fwrite(text.data(), 1, text.size(), stdout);  // it may hold bytes of 0
        }
        std::printf("\n");
    }
    return 0;
}

}  // namespace moba
