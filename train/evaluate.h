/* Evaluation. Tasks: how often every answer token is right, by length and depth. Text: loss. Both: loss by position. */
#pragma once
#include "train/options.h"

/* Wilson's score interval for `right` of `n`, 95%. */
struct Interval {
    double low, high;
};
Interval wilson(long right, long n);

int run_eval(const EvalOptions&);
