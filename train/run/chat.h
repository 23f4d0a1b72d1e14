/* The prompt of a chat: how instruction models were shown who says what.

   Kinds     chatml (<|im_start|>user ...), llama2 ([INST] ... [/INST]), llama3 (<|start_header_id|>user ...).
             The template of a model folder is a program in Jinja; which kind it is shows by its marks. A
             system message that it gives where none is given is found in it, too
   Text      names of special tokens in the text of a prompt become these tokens
   Error     throws Error for a template of another kind */
#pragma once
#include <string>
#include <vector>

namespace moba {

std::vector<std::string> chat_kinds();
/* The kind of a template; "" for another one. */
std::string chat_kind(const std::string& chat_template);

/* name: a kind, or "" for that of the template, which is the model's. where: the model, for messages. */
class Chat {
  public:
    Chat(const std::string& name, const std::string& chat_template, const std::string& where);
    /* What the model reads when the user says `message`; system: "" = the template's own, if any. */
    std::string prompt(const std::string& system, const std::string& message) const;
    /* The name of the token that ends an answer. */
    std::string end() const;

  private:
    std::string kind_, template_;
};

}  // namespace moba
