/* A heat map of shares, rows by columns, as text for a terminal. */
#pragma once
#include <string>
#include <vector>

namespace moba {

struct HeatMap {
    std::string corner;  // what rows and columns mean: "depth \ T"
    std::vector<std::string> columns = {}, rows = {};
    std::vector<std::vector<double>> share = {};  // [row][column], 0 to 1; NaN = not measured
};

/* One line with the names of the columns, then one line for each row, all equally wide. With `colour`, the
   background of each percentage goes from red (0) to green (1). */
std::vector<std::string> heat_map_lines(const HeatMap&, bool colour);
int heat_map_width(const HeatMap&);  // visible characters of a line, without the codes of colours

/* Prints the lines, in colour where stdout has colours. */
void print_heat_map(const HeatMap&);

/* A heat map on a terminal that is drawn again as it fills. Elsewhere it draws nothing. */
class LiveHeatMap {
  public:
    void show(const HeatMap&);
    void clear();

  private:
    int lines_ = 0;  // on the terminal
};

}  // namespace moba
