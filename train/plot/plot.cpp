#include "train/plot/plot.h"
#include "train/core/file.h"
#include "train/display/numbers.h"
#include "train/plot/event_file.h"
#include "train/plot/plot_page.h"
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

namespace moba {

namespace fs = std::filesystem;

namespace {

// "" for a value that is not a number
std::string cell(double x) { return std::isfinite(x) ? formatted("%.9g", x) : ""; }

// In quotes where a comma, a quote or the end of a line would be read as the end of the cell.
std::string cell(const std::string& text) {
    if (text.find_first_of(",\"\n\r") == std::string::npos) { return text; }
    std::string out = "\"";
    for (const char c : text) { out += c == '"' ? "\"\"" : std::string(1, c); }
    return out + "\"";
}

std::string csv(const std::vector<RunCurves>& runs) {
    std::string out =
        "run,step,seq_len,tokens,seconds,loss,accuracy,lr,grad_norm,tokens_per_s,val_loss,val_accuracy\n";
    for (const RunCurves& r : runs) {
        size_t v = 0;
        for (const StepLine& s : r.steps) {
            while (v < r.validations.size() && r.validations[v].step < s.step) { v++; }
            const bool validated = v < r.validations.size() && r.validations[v].step == s.step;
            out += cell(r.name) + "," + std::to_string(s.step) + "," + std::to_string(s.seq_len);
            for (const double x :
                 {s.tokens, s.seconds, s.loss, s.accuracy, s.lr, s.grad_norm, s.tokens_per_s,
                  validated ? r.validations[v].loss : NAN, validated ? r.validations[v].accuracy : NAN}) {
                out += "," + cell(x);
            }
            out += "\n";
        }
    }
    return out;
}

/* The log has no times of day. The last step is taken to have ended when the log was last written. */
double begin_of(const RunCurves& r) {
    const auto written = fs::last_write_time(fs::path(r.folder) / "log.jsonl");
    const auto since = std::chrono::file_clock::to_sys(written).time_since_epoch();
    return std::chrono::duration<double>(since).count() - r.steps.back().seconds;
}

// A file for each run, replaced as a whole, so that TensorBoard never shows a step twice.
void write_events(const std::string& folder, const RunCurves& r) {
    const fs::path dir = fs::path(folder) / r.name;
    fs::create_directories(dir);
    const fs::path path = dir / "events.out.tfevents.0000000000.moba", unfinished = path.string() + ".tmp";
    const double begin = begin_of(r);
    EventFile file(unfinished, begin);
    size_t v = 0;
    for (const StepLine& s : r.steps) {
        const double now = begin + s.seconds;
        file.scalar("loss/training", s.step, now, s.loss);
        file.scalar("accuracy/training", s.step, now, s.accuracy);
        file.scalar("step/learning_rate", s.step, now, s.lr);
        file.scalar("step/gradient_norm", s.step, now, s.grad_norm);
        file.scalar("step/tokens_per_second", s.step, now, s.tokens_per_s);
        file.scalar("step/sequence_length", s.step, now, s.seq_len);
        for (; v < r.validations.size() && r.validations[v].step <= s.step; v++) {
            file.scalar("loss/validation", r.validations[v].step, now, r.validations[v].loss);
            file.scalar("accuracy/validation", r.validations[v].step, now, r.validations[v].accuracy);
        }
    }
    file.finish();
    fs::rename(unfinished, path);
}

void write_all(const PlotOptions& o) {
    const std::vector<RunCurves> runs = read_runs(o.folders);
    replace_file(o.out, plot_page(runs, o.watch));
    if (!o.csv.empty()) { replace_file(o.csv, csv(runs)); }
    if (!o.tensorboard.empty()) {
        for (const RunCurves& r : runs) { write_events(o.tensorboard, r); }
    }
}

}  // namespace

int run_plot(const PlotOptions& o) {
    check_writable(o.out);
    check_writable(o.csv);
    write_all(o);
    std::printf("%s\n", o.out.c_str());
    if (!o.csv.empty()) { std::printf("%s\n", o.csv.c_str()); }
    if (!o.tensorboard.empty()) {
        std::printf("%s: tensorboard --logdir %s\n", o.tensorboard.c_str(), o.tensorboard.c_str());
    }
    std::fflush(stdout);
    while (o.watch) {
        std::this_thread::sleep_for(std::chrono::seconds(o.watch));
        write_all(o);
    }
    return 0;
}

}  // namespace moba
