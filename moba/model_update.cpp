/* The optimizer's step of a model, and its weights one by one: both know which weights this rank owns. */
#include "moba/model.h"
#include <algorithm>

namespace moba {

template <class E>
void Model<E>::set_optimizer(const OptimizerSettings& o) {
    optimizer_ = o;
    host_ranges_.clear();
    bucket_ranges_ = {0};
    for (const Bucket& b : buckets_) {
        const size_t begin = b.begin + rank_ * b.slice, end = begin + b.slice;
        for (const ParamInfo& p : params_) {
            const size_t from = std::max(p.begin, begin), to = std::min(p.begin + p.count, end);
            if (from >= to) { continue; }
            host_ranges_.push_back({from - begin, to - from, p.embedding ? (float)o.embedding_lr_factor : 1.f,
                                    p.decay ? (float)o.weight_decay : 0.f});
        }
        bucket_ranges_.push_back((int)host_ranges_.size());
    }
    device_->to_device(ctx_, ranges_, host_ranges_.data(), host_ranges_.size() * sizeof(ParamRange));
}

template <class E>
void Model<E>::zero_gradients() {
    device_->zero(ctx_, g_, param_elements_ * sizeof(A));
    device_->zero(ctx_, sums_, 2 * sizeof(double));
}

template <class E>
void Model<E>::add_ranks(int bucket) {
    if (ranks_ == 1) { return; }
    const Bucket& b = buckets_[bucket];
    comm_->start_reduce_scatter(ctx_, g_ + b.begin, received_, b.slice);
}

template <class E>
void Model<E>::skip_last_passes() {
    for (int b = (int)buckets_.size() - 1; b >= 0; b--) { add_ranks(b); }  // in the order of backward()
}

template <class E>
void Model<E>::update(const StepState& step) {
    device_->to_device(ctx_, step_, &step, sizeof step);
    update();
}

template <class E>
void Model<E>::update() {
    comm_->finish(ctx_);
    double* sums = square_sums_ + rank_ * bucket_sums_;
    for (const Bucket& b : buckets_) {
        op_->square_sums(ctx_, sums, g_ + b.begin + rank_ * b.slice, b.slice);
        sums += square_sums_count(b.slice);
    }
    comm_->start_all_gather(ctx_, square_sums_, bucket_sums_ * sizeof(double));
    comm_->finish(ctx_);
    op_->grad_norm(ctx_, norm_, square_sums_, ranks_ * bucket_sums_);
    for (size_t i = 0; i < buckets_.size(); i++) {
        const Bucket& b = buckets_[i];
        const size_t begin = b.begin + rank_ * b.slice;
        const int first = bucket_ranges_[i], count = bucket_ranges_[i + 1] - first;
        if (count > 0) {  // else the rank owns only a gap
            op_->adamw(ctx_, w_compute_ ? w_ + b.owned : w_ + begin,
                       w_compute_ ? w_compute_ + begin : nullptr, m_ + b.owned, v_ + b.owned, g_ + begin,
                       norm_, ranges_ + first, count, step_,
                       {b.slice, optimizer_.beta1, optimizer_.beta2, optimizer_.eps, optimizer_.clip});
        }
        E* weights = w_compute_ ? w_compute_ : (E*)w_;
        comm_->start_all_gather(ctx_, weights + b.begin, b.slice * sizeof(E));
    }
    comm_->finish(ctx_);
}

template <class E>
double Model<E>::gradient_norm() {
    return step_result().norm;
}

template <class E>
typename Model<E>::StepResult Model<E>::step_result() {
    double there[3];
    device_->to_host(ctx_, there, sums_, sizeof there);
    A norm;
    std::memcpy(&norm, there + 2, sizeof norm);
    return {there[0], there[1], (double)norm};
}

/* What a rank owns of a parameter, which lies in one bucket: `count` elements from `begin` of the layout on,
   which are from `owned` on among all that the rank owns. */
template <class E>
typename Model<E>::Piece Model<E>::piece(int rank, const ParamInfo& p) const {
    for (const Bucket& b : buckets_) {
        const size_t begin = b.begin + rank * b.slice;
        const size_t from = std::max(p.begin, begin), to = std::min(p.begin + p.count, begin + b.slice);
        if (from < to) { return {from, b.owned + from - begin, to - from}; }
    }
    return {p.begin, 0, 0};
}

template <class E>
void Model<E>::read_param(Kind kind, const ParamInfo& p, std::vector<A>& out) const {
    A* const base[] = {w_, g_, m_, v_};
    out.resize(p.count);
    if (ranks_ == 1 || (kind == Kind::weight && !w_compute_)) {
        device_->to_host(ctx_, out.data(), base[(int)kind] + p.begin, p.count * sizeof(A));
        return;
    }
    const Piece mine = piece(rank_, p);
    const A* from = base[(int)kind] + (kind == Kind::gradient ? mine.begin : mine.owned);
    device_->to_host(ctx_, out.data() + (mine.begin - p.begin), from, mine.count * sizeof(A));
    std::vector<Transport::Bytes> parts;
    for (int r = 0; r < ranks_; r++) {
        const Piece of = piece(r, p);
        parts.push_back({out.data() + (of.begin - p.begin), of.count * sizeof(A)});
    }
    comm_->all_gather(parts);
}

template <class E>
void Model<E>::write_param(Kind kind, const ParamInfo& p, const std::vector<A>& in) {
    REQUIRE(in.size() == p.count, "%zu values for %s", in.size(), p.name.c_str());
    A* const base[] = {w_, g_, m_, v_};
    if (kind == Kind::gradient || (kind == Kind::weight && !w_compute_)) {
        device_->to_device(ctx_, base[(int)kind] + p.begin, in.data(), p.count * sizeof(A));
        return;
    }
    const Piece mine = piece(rank_, p);
    device_->to_device(ctx_, base[(int)kind] + mine.owned, in.data() + (mine.begin - p.begin),
                       mine.count * sizeof(A));
    if (kind == Kind::weight) {
        const std::vector<E> rounded(in.begin(), in.end());
        device_->to_device(ctx_, w_compute_ + p.begin, rounded.data(), rounded.size() * sizeof(E));
    }
}

template class Model<double>;
template class Model<float>;
template class Model<bf16>;

}  // namespace moba
