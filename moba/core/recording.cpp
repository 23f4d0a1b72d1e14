#include "moba/core/recording.h"
#include <utility>

namespace moba {

Recording::Recording(const GraphOps* graphs) : graphs_(graphs) {}

Recording::Recording(Recording&& other) noexcept
    : graphs_(other.graphs_), graph_(std::exchange(other.graph_, nullptr)),
      recorded_shape_(std::move(other.recorded_shape_)), last_shape_(std::move(other.last_shape_)) {}

Recording& Recording::operator=(Recording&& other) noexcept {
    std::swap(graphs_, other.graphs_);
    std::swap(graph_, other.graph_);
    std::swap(recorded_shape_, other.recorded_shape_);
    std::swap(last_shape_, other.last_shape_);
    return *this;
}

Recording::~Recording() { release(); }

void Recording::release() {
    if (graph_) { graphs_->release(graph_); }
    graph_ = nullptr;
}

void Recording::run(const Ctx& ctx, std::vector<int> shape, const std::function<void()>& launch) {
    replayed_ = false;
    if (!graphs_ || ctx.profile) {
        launch();
        return;
    }
    if (graph_ && shape == recorded_shape_) {
        replayed_ = true;
    } else if (shape == last_shape_) {
        release();
        graphs_->begin(ctx);
        launch();
        graph_ = graphs_->end(ctx);
        recorded_shape_ = shape;
        replayed_ = true;
    }
    last_shape_ = std::move(shape);
    if (replayed_) {
        graphs_->replay(ctx, graph_);
    } else {
        launch();
    }
}

}  // namespace moba
