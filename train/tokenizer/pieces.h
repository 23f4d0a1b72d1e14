/* Texts that are cut into pieces, piece after piece, without a list of them. */
#pragma once
#include <string_view>

namespace moba {

struct Piece {
    std::string_view text;
    bool first;  // it begins where the whole text begins
};

/* A function that takes pieces. Refers to a callable object, which must exist as long as it is called. */
class PieceSink {
  public:
    template <class F>
    PieceSink(const F& f)  // NOLINT: a lambda is given where a PieceSink is wanted
        : object_(&f), call_([](const void* object, Piece p) { (*static_cast<const F*>(object))(p); }) {}
    void operator()(Piece p) const { call_(object_, p); }

  private:
    const void* object_;
    void (*call_)(const void*, Piece);
};

}  // namespace moba
