#include "train/run/chat.h"
#include "moba/core/base.h"
#include <algorithm>

namespace moba {

std::vector<std::string> chat_kinds() { return {"chatml", "llama2", "llama3"}; }

static bool holds(const std::string& text, const char* part) { return text.find(part) != text.npos; }

std::string chat_kind(const std::string& text) {
    if (holds(text, "<|im_start|>") && holds(text, "<|im_end|>")) { return "chatml"; }
    if (holds(text, "<|start_header_id|>") && holds(text, "<|eot_id|>")) { return "llama3"; }
    if (holds(text, "[INST]") && holds(text, "<<SYS>>")) { return "llama2"; }
    return "";
}

Chat::Chat(const std::string& name, const std::string& chat_template, const std::string& where)
    : kind_(name.empty() ? chat_kind(chat_template) : name), template_(chat_template) {
    if (!kind_.empty()) { return; }
    throw Error(where +
                (chat_template.empty() ? ": has no chat template, so it may be no instruction model"
                                       : ": its chat template is of a kind that is not supported") +
                "; --chat-template names one: chatml, llama2 or llama3");
}

std::string Chat::end() const {
    return kind_ == "chatml" ? "<|im_end|>" : kind_ == "llama3" ? "<|eot_id|>" : "</s>";
}

// The system message that a ChatML template has as plain text; "" if there is none.
static std::string own_system_message(const std::string& chat_template) {
    const std::string head = "<|im_start|>system", tail = "<|im_end|>";
    constexpr size_t most = 4096;
    if (chat_template.find(tail) == chat_template.npos) { return ""; }
    for (size_t at = 0; (at = chat_template.find(head, at)) != chat_template.npos; at += head.size()) {
        const size_t begin = at + head.size();
        const std::string text =
            chat_template.substr(begin, std::min(chat_template.find(tail, begin) - begin, most));
        for (const char* line_end : {"\n", "\\n"}) {
            const bool plain = text.find_first_of("'\"{}+") == text.npos;
            if (plain && text.starts_with(line_end)) { return text.substr(std::string(line_end).size()); }
        }
    }
    return "";
}

// As Jinja's filter trim
static std::string trimmed(const std::string& text) {
    const char* blanks = " \t\r\n\v\f";
    const size_t begin = text.find_first_not_of(blanks);
    return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::string Chat::prompt(const std::string& system, const std::string& message) const {
    if (kind_ == "chatml") {
        const std::string first = system.empty() ? own_system_message(template_) : system;
        const auto turn = [](const std::string& who, const std::string& text) {
            return "<|im_start|>" + who + "\n" + text + "<|im_end|>\n";
        };
        return (first.empty() ? "" : turn("system", first)) + turn("user", message) +
               "<|im_start|>assistant\n";
    }
    if (kind_ == "llama3") {
        const auto turn = [](const std::string& who, const std::string& text) {
            return "<|start_header_id|>" + who + "<|end_header_id|>\n\n" + text + "<|eot_id|>";
        };
        // Llama 3.1 tells the date; where nobody gives one, its template has this one
        const std::string dates = holds(template_, "Cutting Knowledge Date")
                                      ? "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
                                      : "";
        const std::string first = dates + trimmed(system);
        return "<|begin_of_text|>" + (first.empty() ? "" : turn("system", first)) +
               turn("user", trimmed(message)) + "<|start_header_id|>assistant<|end_header_id|>\n\n";
    }
    const std::string first = system.empty() ? "" : "<<SYS>>\n" + system + "\n<</SYS>>\n\n";
    return "<s>[INST] " + trimmed(first + message) + " [/INST]";
}

}  // namespace moba
