#include "train/core/utf8.h"
#include "train/tokenizer/fields.h"
#include "train/tokenizer/word_model.h"
#include <algorithm>
#include <queue>

namespace moba {

using nlohmann::json;

namespace {

/* What two tokens become, and how early: a hash table with open addressing, because it is asked for every
   pair of neighbours. */
class Merges {
  public:
    struct Merge {
        uint64_t pair = none;
        int rank = 0, id = 0;
    };
    explicit Merges(size_t count) {
        size_t slots = 16;
        while (slots < 2 * count) { slots *= 2; }
        slots_.resize(slots);
    }
    void put(int left, int right, int rank, int id) {
        slots_[place(key(left, right))] = {key(left, right), rank, id};  // the last one of equal pairs
    }
    const Merge* find(int left, int right) const {
        const Merge& slot = slots_[place(key(left, right))];
        return slot.pair == none ? nullptr : &slot;
    }

  private:
    static constexpr uint64_t none = ~0ull;
    static uint64_t key(int left, int right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }
    size_t place(uint64_t pair) const {
        size_t at = (pair * 0x9E3779B97F4A7C15ull >> 20) & (slots_.size() - 1);
        while (slots_[at].pair != pair && slots_[at].pair != none) { at = (at + 1) & (slots_.size() - 1); }
        return at;
    }
    std::vector<Merge> slots_;
};

struct Symbol {
    int id, previous, next;
    bool gone;
};

struct Candidate {
    int rank, place, id;
    // the earliest merge first, of equal ones the leftmost
    bool operator<(const Candidate& b) const { return rank != b.rank ? rank > b.rank : place > b.place; }
};

class Bpe : public WordModel {
  public:
    explicit Bpe(const Fields& f)
        : prefix_(f.text("continuing_subword_prefix", "")), suffix_(f.text("end_of_word_suffix", "")),
          byte_fallback_(f.flag("byte_fallback", false)), fuse_unknown_(f.flag("fuse_unk", false)),
          whole_words_(f.flag("ignore_merges", false)), merges_(f.list("merges").size()) {
        if (f.has("dropout") && f.at("dropout") != 0) { f.fail("dropout is not supported"); }
        if (!f.at("vocab").is_object()) { f.fail("'vocab' is not an object"); }
        for (const auto& [piece, id] : f.at("vocab").items()) { ids_[piece] = id.get<int>(); }
        if (f.has("unk_token")) { unknown_ = id_of(f.text("unk_token"), f); }
        int rank = 0;
        for (const json& merge : f.list("merges")) { add_merge(merge, rank++, f); }
    }

    void encode(std::string_view word, std::vector<int>& ids) override {
        constexpr size_t longest_kept = 64, most_kept = 1 << 20;
        if (word.size() > longest_kept) { return encode_anew(word, ids); }
        const auto known = cache_.find(word);
        if (known != cache_.end()) {
            ids.insert(ids.end(), known->second.begin(), known->second.end());
            return;
        }
        const size_t before = ids.size();
        encode_anew(word, ids);
        if (cache_.size() == most_kept) { cache_.clear(); }
        cache_.emplace(word, std::vector<int>(ids.begin() + (long)before, ids.end()));
    }

  private:
    int id_of(const std::string& piece, const Fields& f) const {
        const auto it = ids_.find(piece);
        if (it == ids_.end()) { f.fail("'" + piece.substr(0, 40) + "' is not in its vocabulary"); }
        return it->second;
    }

    // "a b", or ["a", "b"]
    void add_merge(const json& merge, int rank, const Fields& f) {
        std::string left, right;
        if (merge.is_string()) {
            const std::string text = merge.get<std::string>();
            const size_t blank = text.find(' ');
            if (blank == text.npos || text.find(' ', blank + 1) != text.npos) {
                f.fail("merge " + std::to_string(rank) + " is not two tokens with a blank between them");
            }
            left = text.substr(0, blank), right = text.substr(blank + 1);
        } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
        } else {
            f.fail("merge " + std::to_string(rank) + " is not a pair of tokens");
        }
        const std::string rest = right.substr(std::min(prefix_.size(), right.size()));
        merges_.put(id_of(left, f), id_of(right, f), rank, id_of(left + rest, f));
    }

    void encode_anew(std::string_view word, std::vector<int>& ids) {
        if (whole_words_) {
            const auto whole = ids_.find(word);
            if (whole != ids_.end()) {
                ids.push_back(whole->second);
                return;
            }
        }
        begin_with_characters(word);
        merge_all();
        for (const Symbol& s : symbols_) {
            if (!s.gone) { ids.push_back(s.id); }
        }
    }

    void begin_with_characters(std::string_view word) {
        start_.clear();
        bool unknown = false;  // one is pending
        const auto put_unknown = [&] {
            if (std::exchange(unknown, false)) { start_.push_back(unknown_); }
        };
        std::string decorated;
        for (size_t at = 0; at < word.size();) {
            const size_t n = std::min(character_bytes(word[at]), word.size() - at);
            std::string_view character = word.substr(at, n);
            const bool first = at == 0, last = at + n == word.size();
            if ((!first && !prefix_.empty()) || (last && !suffix_.empty())) {
                decorated = (first ? "" : prefix_) + std::string(character) + (last ? suffix_ : "");
                character = decorated;
            }
            at += n;
            const auto it = ids_.find(character);
            if (it != ids_.end()) {
                put_unknown();
                start_.push_back(it->second);
            } else if (byte_fallback_ && append_byte_fallback(ids_, character, start_)) {
                // as the library does it: an unknown character before these bytes comes after them
            } else if (unknown_ >= 0) {
                if (!fuse_unknown_) { put_unknown(); }
                unknown = true;
            }  // without a token for unknown characters they are left out
        }
        put_unknown();
        symbols_.clear();
        const int n = (int)start_.size();
        for (int i = 0; i < n; i++) { symbols_.push_back({start_[i], i - 1, i + 1 < n ? i + 1 : -1, false}); }
    }

    // A heap holds the possible merges. An entry whose symbols have changed since is recognised and dropped.
    void merge_all() {
        heap_.clear();
        for (int i = 0; i + 1 < (int)symbols_.size(); i++) { consider(i, i + 1); }
        std::make_heap(heap_.begin(), heap_.end());
        while (!heap_.empty()) {
            std::pop_heap(heap_.begin(), heap_.end());
            const Candidate top = heap_.back();
            heap_.pop_back();
            Symbol& left = symbols_[top.place];
            if (left.gone || left.next < 0) { continue; }
            Symbol& right = symbols_[left.next];
            const Merges::Merge* merge = merges_.find(left.id, right.id);
            if (!merge || merge->id != top.id) { continue; }
            left.id = top.id;
            right.gone = true;
            left.next = right.next;
            if (left.next >= 0) { symbols_[left.next].previous = top.place; }
            if (left.previous >= 0 && consider(left.previous, top.place)) {
                std::push_heap(heap_.begin(), heap_.end());
            }
            if (left.next >= 0 && consider(top.place, left.next)) {
                std::push_heap(heap_.begin(), heap_.end());
            }
        }
    }

    bool consider(int left, int right) {
        const Merges::Merge* merge = merges_.find(symbols_[left].id, symbols_[right].id);
        if (merge) { heap_.push_back({merge->rank, left, merge->id}); }
        return merge != nullptr;
    }

    PieceIds ids_;
    std::string prefix_, suffix_;
    bool byte_fallback_, fuse_unknown_, whole_words_;
    int unknown_ = -1;
    Merges merges_;
    std::unordered_map<std::string, std::vector<int>, TextHash, std::equal_to<>> cache_;  // words seen before
    // of the word at hand
    std::vector<int> start_;
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
};

}  // namespace

std::unique_ptr<WordModel> make_bpe(const json& j, const std::string& where) {
    return std::make_unique<Bpe>(Fields(j, where));
}

}  // namespace moba
