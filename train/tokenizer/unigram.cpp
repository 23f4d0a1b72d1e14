#include "train/core/utf8.h"
#include "train/tokenizer/fields.h"
#include "train/tokenizer/word_model.h"
#include <algorithm>

namespace moba {

using nlohmann::json;

namespace {

/* All pieces as a tree of bytes: the pieces that begin at a place of a text are found in one walk. */
class PieceTree {
  public:
    void put(const std::string& piece, int id) {
        int node = 0;
        for (const char c : piece) {
            const auto [it, is_new] = children_.try_emplace(key(node, c), (int)ids_.size());
            if (is_new) { ids_.push_back(-1); }
            node = it->second;
        }
        ids_[node] = id;
    }
    // Calls found(length, id) for each piece that is a beginning of the text, the shortest first.
    template <class Found>
    void walk(std::string_view text, Found found) const {
        int node = 0;
        for (size_t i = 0; i < text.size(); i++) {
            const auto it = children_.find(key(node, text[i]));
            if (it == children_.end()) { return; }
            node = it->second;
            if (ids_[node] >= 0) { found(i + 1, ids_[node]); }
        }
    }

  private:
    static uint64_t key(int node, char c) { return (uint64_t)node << 8 | (unsigned char)c; }
    std::unordered_map<uint64_t, int> children_;
    std::vector<int> ids_{-1};
};

class Unigram : public WordModel {
  public:
    explicit Unigram(const Fields& f) : where_(f.where()), byte_fallback_(f.flag("byte_fallback", false)) {
        double lowest = 0;
        for (const json& entry : f.list("vocab")) {
            if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
                f.fail("an entry of 'vocab' is not a piece and its score");
            }
            const int id = (int)scores_.size();
            const std::string piece = entry[0].get<std::string>();
            scores_.push_back(entry[1].get<double>());
            ids_[piece] = id;
            if (!piece.empty()) { tree_.put(piece, id); }
            lowest = scores_.size() == 1 ? scores_[0] : std::min(lowest, scores_.back());
        }
        unknown_score_ = lowest - 10;
        if (!f.has("unk_id")) { return; }
        if (!f.at("unk_id").is_number_unsigned() || f.at("unk_id").get<size_t>() >= scores_.size()) {
            f.fail("'unk_id' is not the number of a piece");
        }
        unknown_ = f.at("unk_id").get<int>();
    }

    void encode(std::string_view word, std::vector<int>& ids) override {
        best_.assign(word.size() + 1, {});
        best_[0].reached = true;
        for (size_t at = 0; at < word.size();) {
            const size_t n = std::min(character_bytes(word[at]), word.size() - at);
            const double here = best_[at].score;
            bool single = false;
            tree_.walk(word.substr(at), [&](size_t length, int id) {
                improve(at, length, here + scores_[id], id);
                single |= length == n;
            });
            if (!single) { improve(at, n, here + unknown_score_, unknown_); }
            at += n;
        }
        // from the end; neighbouring unknown characters are one
        parts_.clear();
        for (size_t end = word.size(); end > 0;) {
            const Best& b = best_[end];
            const bool joins = b.id == unknown_ && !parts_.empty() && parts_.back().id == unknown_;
            if (joins) {
                parts_.back().begin = b.begin;
            } else {
                parts_.push_back({b.id, b.begin, end});
            }
            end = b.begin;
        }
        for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
            if (part->id != unknown_) {
                ids.push_back(part->id);
                continue;
            }
            const std::string_view text = word.substr(part->begin, part->end - part->begin);
            const auto known = ids_.find(text);  // neighbours together may be the name of a piece
            if (known != ids_.end()) {
                ids.push_back(known->second);
            } else if (!byte_fallback_ || !append_byte_fallback(ids_, text, ids)) {
                if (unknown_ < 0) {
                    throw Error(where_ + ": a character has no token, and there is none for unknown ones");
                }
                ids.push_back(unknown_);
            }
        }
    }

  private:
    struct Best {  // the best way to a place: its last piece
        double score = 0;
        size_t begin = 0;
        int id = -1;
        bool reached = false;
    };
    struct Part {
        int id;
        size_t begin, end;
    };
    void improve(size_t at, size_t length, double score, int id) {
        Best& b = best_[at + length];
        if (!b.reached || score > b.score) { b = {score, at, id, true}; }
    }

    PieceIds ids_;
    std::vector<double> scores_;
    PieceTree tree_;
    std::string where_;
    bool byte_fallback_;
    int unknown_ = -1;
    double unknown_score_;
    // of the word at hand
    std::vector<Best> best_;
    std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<WordModel> make_unigram(const json& j, const std::string& where) {
    return std::make_unique<Unigram>(Fields(j, where));
}

}  // namespace moba
