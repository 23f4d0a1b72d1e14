/* The prompts of chats: what the templates of three families of models make of a message; and refusals. */
#include "test/support/check.h"
#include "train/run/chat.h"

namespace moba {

namespace {

// of SmolLM2-135M-Instruct, and the shape of Qwen2.5's, whose line ends are written as \n
const char* smollm = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
                     "'<|im_start|>system\n"
                     "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% "
                     "endif %}{{'<|im_start|>' + "
                     "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if "
                     "add_generation_prompt %}"
                     "{{ '<|im_start|>assistant\n' }}{% endif %}";
const char* qwen =
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + "
    "'<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{%- endif %}";

TEST(Chat, ChatMl) {
    const Chat chat("", smollm, "m");
    EXPECT_EQ(
        chat.prompt("", "Hi"),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_EQ(
        chat.prompt("Be brief.", " Hi "),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n");
    EXPECT_EQ(chat.end(), "<|im_end|>");
    EXPECT_EQ(Chat("", qwen, "m").prompt("", "Hi"),
              "<|im_start|>system\nYou are "
              "Qwen.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_EQ(Chat("chatml", "", "m").prompt("", "Hi"),
              "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(Chat, Llama3) {
    const Chat chat("", "{{ '<|start_header_id|>' }} ... <|eot_id|>", "m");
    EXPECT_EQ(chat.prompt("", " Hi\n"),
              "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n");
    EXPECT_EQ(
        chat.prompt("S", "Hi"),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    EXPECT_EQ(chat.end(), "<|eot_id|>");
    const Chat dated("", "<|start_header_id|> <|eot_id|> Cutting Knowledge Date", "m");
    EXPECT_EQ(dated.prompt("S", "Hi").substr(0, 158),
              "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
              "December 2023\n"
              "Today Date: 26 Jul 2024\n\nS<|eot_id|><|start_header_id|>user");
}

TEST(Chat, Llama2) {
    const Chat chat("", "[INST] <<SYS>>", "m");
    EXPECT_EQ(chat.prompt("", " Hi "), "<s>[INST] Hi [/INST]");
    EXPECT_EQ(chat.prompt("S", "Hi"), "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nHi [/INST]");
    EXPECT_EQ(chat.end(), "</s>");
}

TEST(Chat, OthersAreRefused) {
    for (const auto& [text, says] :
         {std::pair{"", "m: has no chat template"},
          {"{{ '### Human: ' }}", "m: its chat template is of a kind that is not supported"}}) {
        try {
            Chat("", text, "m");
            ADD_FAILURE() << "accepted: " << text;
        } catch (const Error& e) {
            EXPECT_EQ(std::string(e.what()).rfind(says, 0), 0u) << e.what();
            EXPECT_NE(std::string(e.what()).find("--chat-template names one"), std::string::npos);
        }
    }
}

}  // namespace

}  // namespace moba
