/* The passes of a training step, recorded once and replayed where the next batch has the same shape: one launch in place of
   hundreds. On the CPU, and where it is turned off, every operation is launched as ever. The bits are the same.

   Use      Recording<E> passes(model, true);  each micro-batch: model.set_batch(...); passes.run();
   Order    A batch of a shape that the one before had too is recorded: its kernels have been loaded by then. */
#pragma once
#include "moba/model.h"

template <class E>
class Recording {
  public:
    Recording(Model<E>& model, bool allowed);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    void run();                                  // forward(true), loss(true), backward()
    bool replayed() const { return replayed_; }  // the last run()

  private:
    void launch();
    void release();

    Model<E>& model_;
    const GraphOps* graphs_;  // nullptr: never
    CUgraphExec_st* graph_ = nullptr;
    std::vector<int> recorded_shape_, last_shape_;
    bool replayed_ = false;
};
