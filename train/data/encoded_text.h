/* Text that a tokenizer must cut into tokens first: it is encoded once, into a folder of .bin files.

   Documents   a plain file is one document, whatever its name; each line of a .jsonl or .ndjson file is one,
               an object with its text under "text"
   Tokens      end token, begin tokens, document, end token, ..., end token, as data/prepare_text.py writes
               them. Names of special tokens in a text are text
   Folder      PARENT/tokens-HASH: the ids, tokens.json, tokenizer.json. The hash is that of texts and
               tokenizer, so a second run finds it. It is complete, or absent
   Memory      one file at a time. data/prepare_text.py --tokenizer encodes larger ones
   Errors      throws Error with the file and, in a .jsonl file, the line */
#pragma once
#include <string>
#include <vector>

namespace moba {

/* The token files to read for these files: themselves if they are .bin files or texts of bytes; else those
   in PARENT/tokens-HASH. tokenizer: a path as class Tokenizer takes it; "" or "bytes" for bytes. Says on standard
   output what was encoded. */
std::vector<std::string> token_files(const std::vector<std::string>& paths, const std::string& tokenizer,
                                     const std::string& parent);

/* Whether token_files() would write a folder, or look for one. */
bool must_be_encoded(const std::vector<std::string>& paths, const std::string& tokenizer);

}  // namespace moba
