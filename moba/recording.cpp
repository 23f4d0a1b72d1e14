#include "moba/recording.h"

template <class E>
Recording<E>::Recording(Model<E>& model, bool allowed)
    : model_(model), graphs_(allowed ? find_memory(model.ctx().device)->graphs : nullptr) {}

template <class E>
Recording<E>::~Recording() {
    release();
}

template <class E>
void Recording<E>::release() {
    if (graph_) { graphs_->release(graph_); }
    graph_ = nullptr;
}

template <class E>
void Recording<E>::launch() {
    model_.forward(true);
    model_.loss(true);
    model_.backward();
}

template <class E>
void Recording<E>::run() {
    replayed_ = false;
    if (!graphs_) {
        launch();
        return;
    }
    std::vector<int> shape = model_.batch_shape();
    if (graph_ && shape == recorded_shape_) {
        replayed_ = true;
    } else if (shape == last_shape_) {
        release();
        graphs_->begin(model_.ctx());
        launch();
        graph_ = graphs_->end(model_.ctx());
        recorded_shape_ = shape;
        replayed_ = true;
    }
    last_shape_ = std::move(shape);
    if (replayed_) {
        graphs_->replay(model_.ctx(), graph_);
    } else {
        launch();
    }
}

template class Recording<double>;
template class Recording<float>;
template class Recording<bf16>;
