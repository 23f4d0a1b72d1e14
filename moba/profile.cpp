#include "moba/profile.h"
#include "moba/core/clock.h"

namespace moba {

#define NAME(name, ...) #name,
static const char* const names[] = {EACH_OP(NAME)};
#undef NAME
const char* op_name(Op op) { return names[(int)op]; }

template <class E, auto row, Op op, class... P>
static void watched(const Ctx& ctx, P... p) {
    const auto call = find_ops<E>(ctx.device)->*row;
    const DeviceOps* device = find_device(ctx.device);
    device->range_begin(op_name(op));
    if (ctx.profile) {
        device->synchronize(ctx);
        const double begin = now_ms();
        call(ctx, p...);
        device->synchronize(ctx);
        Profile::Row& r = ctx.profile->rows[(int)op];
        r.ms += now_ms() - begin;
        r.calls++;
    } else {
        call(ctx, p...);
    }
    device->range_end();
}

#define ROW(name, ...) .name = watched<E, &Ops<E>::name, Op::name>,
template <class E>
static const Ops<E> watched_ops = {EACH_OP(ROW)};
#undef ROW

template <class E>
const Ops<E>* find_profiled_ops(Device device, const Profile* profile) {
    const Ops<E>* plain = find_ops<E>(device);
    return plain && (profile || device == Device::gpu) ? &watched_ops<E> : plain;
}

INSTANTIATE_AND_DOUBLE(find_profiled_ops)

}  // namespace moba
