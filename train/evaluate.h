/* Evaluation: how often every answer token is right, by length and depth, and the loss by position. */
#pragma once
#include "train/options.h"

/* Wilson's score interval for `right` of `n`, 95%. */
struct Interval {
    double low, high;
};
Interval wilson(int right, int n);

int run_eval(const EvalOptions&);
