#!/usr/bin/env python3
"""The event files of `moba plot --tensorboard`, read by TensorBoard itself, beside the same run's CSV.

    tensorboard_test.py PROGRAM     exit status 77 (SKIPPED) if tensorboard is not installed
"""
import csv
import os
import subprocess
import sys
import tempfile

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as e:
    print(f"SKIPPED: {e}")
    sys.exit(77)

program = os.path.abspath(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    train = "--task needle --seq-len 64 --batch-size 2 --steps 12 --eval-every 5 --eval-samples 4 --hidden-size 32"
    subprocess.run([program, "train", *train.split(), "--out", "run"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([program, "plot", "run", "--csv", "run.csv", "--tensorboard", "events"], check=True)
    events = EventAccumulator("events/run")
    events.Reload()
    with open("run.csv") as f:
        rows = list(csv.DictReader(f))

names = {"loss/training": "loss", "accuracy/training": "accuracy", "step/learning_rate": "lr",
         "step/gradient_norm": "grad_norm", "step/tokens_per_second": "tokens_per_s",
         "step/sequence_length": "seq_len", "loss/validation": "val_loss", "accuracy/validation": "val_accuracy"}
assert sorted(events.Tags()["scalars"]) == sorted(names), events.Tags()["scalars"]
count = 0
for tag, column in names.items():
    wanted = [(int(r["step"]), float(r[column])) for r in rows if r[column]]
    read = [(s.step, s.value) for s in events.Scalars(tag)]
    assert [s for s, _ in read] == [s for s, _ in wanted], (tag, read, wanted)
    for (step, value), (_, right) in zip(read, wanted):
        assert abs(value - right) <= 1e-6 * abs(right), (tag, step, value, right)
        count += 1
assert count == 12 * 6 + 3 * 2, count
print(f"TensorBoard reads {count} values as they are in the CSV file")
