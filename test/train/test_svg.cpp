/* Charts and the page around them: positions of what is drawn, worked out by hand. */
#include "test/support/page_check.h"
#include "train/display/numbers.h"
#include "train/display/page.h"
#include "train/display/svg.h"

namespace moba {

namespace {

Chart two_points(double y1, double y2) {
    Chart c{"title", {"x"}, {"y"}, {}, {}, {}};
    c.series = {{"name", {{0, y1}, {10, y2}}}};
    return c;
}

TEST(Numbers, Readable) {
    EXPECT_EQ(percent(0.99849), "99.8%");
    EXPECT_EQ(percent(NAN), "-");
    EXPECT_EQ(readable_number(0), "0");
    EXPECT_EQ(readable_number(1314), "1314");
    EXPECT_EQ(readable_number(100672), "101K");
    EXPECT_EQ(readable_number(9e6), "9M");
    EXPECT_EQ(readable_number(3.14e12), "3.14T");
    EXPECT_EQ(readable_number(999999), "1M");
    EXPECT_EQ(readable_number(2e19), "2e+19");
    EXPECT_EQ(readable_number(0.01234), "0.0123");
    EXPECT_EQ(readable_number(-25000), "-25K");
    EXPECT_EQ(readable_number(INFINITY), "inf");
    EXPECT_EQ(readable_length(768), "768");
    EXPECT_EQ(readable_length(1024), "1K");
    EXPECT_EQ(readable_length(1500), "1500");
    EXPECT_EQ(readable_length(131072), "128K");
}

TEST(Page, TextIsEscaped) {
    EXPECT_EQ(html_escape("<a href=\"x\">&'\x01"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;?");
    EXPECT_EQ(html_escape("Größe\n"), "Größe\n");
}

TEST(Page, WholeWithItsScript) {
    const std::string page = html_page("<T>", "<p>body</p>", "if (1 < 2) { }");
    EXPECT_EQ(page_fault(page), "");
    EXPECT_TRUE(has(page, "<title>&lt;T&gt;</title>"));
    EXPECT_TRUE(has(page, "<script>\nif (1 < 2) { }\n</script>"));
    EXPECT_TRUE(has(page, "prefers-color-scheme:dark"));
    EXPECT_FALSE(has(html_page("T", ""), "<script"));
    EXPECT_EQ(html_section("title", ""), "");
    EXPECT_EQ(html_cards({"", ""}), "");
    EXPECT_EQ(page_fault(html_table({{"a", "b"}, {{"row", "1"}, {"row", "2"}}})), "");
}

// page_fault() must find faults.
TEST(Page, FaultsAreFound) {
    for (const char* bad : {"<p>", "</p>", "<p><b></p></b>", "<p title=\"x>", "<p <b>", "1 > 0",
                            "<p title=\"http://x\"></p>"}) {
        EXPECT_NE(page_fault(bad), "") << bad;
    }
}

// The plot reaches from 48 to 350 horizontally and from 200 up to 26. The axis ends are given, so no margin
// is added: the corners and the middle.
TEST(Svg, LinearAxes) {
    Chart c = two_points(1, 3);
    c.x.low = 0, c.x.high = 10, c.y.low = 1, c.y.high = 3;
    const std::string svg = draw_chart(c);
    EXPECT_TRUE(has(svg, "d=\"M48 200L350 26\"")) << svg;
    EXPECT_EQ(page_fault(svg), "");
    c.series[0].points = {{5, 2}, {20, 9}};  // outside the axis: drawn at its end
    EXPECT_TRUE(has(draw_chart(c), "d=\"M199 113L350 26\""));
}

TEST(Svg, LogAxes) {
    Chart c = two_points(0, 0);
    c.x.scale = Scale::log2, c.y.scale = Scale::log10;
    c.x.low = 256, c.x.high = 4096, c.y.low = 1, c.y.high = 10000;
    // the last two values have no logarithm and are not drawn
    c.series[0].points = {{256, 1}, {1024, 100}, {4096, 10000}, {-1, 10}, {512, 0}};
    const std::string svg = draw_chart(c);
    EXPECT_TRUE(has(svg, "d=\"M48 200L199 113L350 26\"")) << svg;
    for (const char* label :
         {">256<", ">512<", ">1K<", ">2K<", ">4K<", ">1<", ">10<", ">100<", ">1000<", ">10K<"}) {
        EXPECT_TRUE(has(svg, label)) << label;
    }
    c.y.low = 1, c.y.high = 60;
    const std::string narrow = draw_chart(c);
    for (const char* label : {">2<", ">5<", ">20<", ">50<"}) { EXPECT_TRUE(has(narrow, label)) << label; }
}

TEST(Svg, RoundTicks) {
    Chart c = two_points(0, 1);
    c.x.low = 0, c.x.high = 9e6, c.y.low = 0, c.y.high = 1, c.y.percent = true;
    const std::string svg = draw_chart(c);
    for (const char* label : {">0<", ">2M<", ">4M<", ">6M<", ">8M<", ">0%<", ">20%<", ">100%<"}) {
        EXPECT_TRUE(has(svg, label)) << label;
    }
    c.y.low = 1.505, c.y.high = 1.525, c.y.percent = false;
    for (const char* label : {">1.505<", ">1.510<", ">1.525<"}) {
        EXPECT_TRUE(has(draw_chart(c), label)) << label;
    }
    c.y.low = -0.2, c.y.high = 0.2;
    EXPECT_TRUE(has(draw_chart(c), ">-0.1<"));
    EXPECT_FALSE(has(draw_chart(c), ">-0.0<"));
}

TEST(Svg, MissingValuesAreNotDrawn) {
    Chart c = two_points(1, 2);
    c.series[0].points = {{0, 1}, {5, NAN}, {10, 1}, {11, 2}};
    EXPECT_EQ(count(draw_chart(c), "L"), 1);  // the line breaks at the NaN: M, then M and L
    EXPECT_EQ(count(draw_chart(c), "class=\"marker\""), 3 + 1);  // one more in the legend
    for (std::vector<Series> series : {std::vector<Series>{},
                                       {{"nan", {{1, NAN}, {NAN, 1}}}},
                                       {{"none", {}}},
                                       {{"inf", {{1, INFINITY}}}}}) {
        for (Scale scale : {Scale::linear, Scale::log2, Scale::log10}) {
            Chart empty{"empty", {"x", scale}, {"y", scale}, series, {}, {}};
            EXPECT_TRUE(has(draw_chart(empty), "nothing measured"));
            EXPECT_FALSE(has(draw_chart(empty), "nan\"")) << "a coordinate";
            EXPECT_EQ(page_fault(draw_chart(empty)), "");
        }
    }
    c.series = {{"one", {{256, 0.5}}}};  // a single point gets an axis around it
    EXPECT_FALSE(has(draw_chart(c), "nothing measured"));
    EXPECT_FALSE(has(draw_chart(c), "inf"));
}

// Six shapes, then the same six hollow: twelve series that differ without colours.
TEST(Svg, MarkersTellTwelveSeriesApart) {
    std::vector<std::string> seen;
    for (int style = 0; style < 12; style++) {
        Chart c = two_points(1, 2);
        c.series[0].style = style, c.series[0].joined = false;
        const std::string svg = draw_chart(c),
                          drawn = svg.substr(svg.find("<g class=") + strlen("<g class=\"s0\""));
        EXPECT_TRUE(has(svg, "<g class=\"s" + std::to_string(style % 6) + "\""));
        const std::string marks = drawn.substr(0, drawn.find("</g>"));
        EXPECT_EQ(count(marks, "class=\"marker\""), style < 6 ? 2 : 0);
        EXPECT_EQ(count(marks, "class=\"marker hollow\""), style < 6 ? 0 : 2);
        for (const std::string& other : seen) { EXPECT_NE(marks, other) << style; }
        seen.push_back(marks);
    }
}

TEST(Svg, BandsMarksAndDiagonal) {
    Chart c = two_points(0.5, 0.5);
    c.x.low = c.y.low = 0, c.x.high = 10, c.y.high = 1;
    c.series[0].points = {{0, 0.5, 0, 1}, {10, 0.5, 0.5, 1}, {10, 0.5}};
    c.x_marks = {{5, "here"}, {50, "beyond"}};
    c.y_marks = {{0.5, "chance"}};
    c.diagonal = true;
    const std::string svg = draw_chart(c);
    EXPECT_TRUE(has(svg, "<path class=\"band\" d=\"M48 26L350 26L350 113L48 200Z\"/>")) << svg;
    EXPECT_TRUE(has(svg, ">here<"));
    EXPECT_TRUE(has(svg, ">chance<"));
    // the diagonal y = x from 0 to 1, on an x axis up to 10: 48 + 302 / 10
    EXPECT_TRUE(has(svg, "x1=\"48\" y1=\"200\" x2=\"78.2\" y2=\"26\"")) << svg;
    c.x_marks = {};
    c.x.low = 0;
    EXPECT_FALSE(has(draw_chart(c), ">here<"));
}

TEST(Svg, TooltipsAndNames) {
    Chart c = two_points(0.25, 0.5);
    c.y.percent = true;
    c.series[0].name = "<script>alert(1)</script>";
    c.series[0].points[1].note = "a \"note\"";
    c.title = c.x.label = c.y.label = "<script>";
    c.x_marks = {{5, "<script>"}};
    const std::string svg = draw_chart(c);
    EXPECT_TRUE(has(svg, "<title>&lt;script&gt;alert(1)&lt;/script&gt;: 0, 25.0%</title>")) << svg;
    EXPECT_TRUE(has(svg, "<title>a &quot;note&quot;</title>"));
    EXPECT_FALSE(has(svg, "<script"));
    EXPECT_EQ(page_fault(svg), "");
    c.series[0].faint = true;
    EXPECT_FALSE(has(draw_chart(c), "marker"));
}

// A chart file contains what the page would otherwise provide: title, legend, colours, a namespace.
TEST(Svg, FileThatStandsAlone) {
    Chart c = two_points(1, 3);
    c.title = "<title>";
    c.series.push_back({"", {{0, 1}, {10, 2}}, 1, true});  // without a name it is not in the legend
    c.series.push_back({std::string(50, 'w'), {{0, 2}}, 2});
    c.series.push_back({std::string(50, 'v'), {{0, 2}}, 3});
    std::string svg = draw_chart_file(c);
    const std::string space = "<svg xmlns=\"http://www.w3.org/2000/svg\"";
    ASSERT_EQ(svg.find(space), 0u);
    svg.erase(5, space.size() - 5);
    EXPECT_EQ(page_fault(svg), "");
    EXPECT_TRUE(has(svg, ">&lt;title&gt;</text>"));
    EXPECT_EQ(count(svg, "transform=\"translate(8 "), 3) << "three names, each too long to share a line";
    EXPECT_TRUE(has(svg, "viewBox=\"0 0 360 321\""));  // 22 + 240 + 8, and three rows of 17
    EXPECT_TRUE(has(svg, "class=\"s2\""));
    EXPECT_TRUE(has(svg, ".s0{color:#0072b2}") && has(svg, ".paper{fill:#f6f8fa}")) << "light";
    const std::string dark = svg.substr(svg.find("prefers-color-scheme:dark"));
    EXPECT_TRUE(has(dark, ".s0{color:#56b4e9}") && has(dark, ".paper{fill:#1a2027}"));
    EXPECT_FALSE(has(svg, "var(")) << "only browsers support it";
    EXPECT_TRUE(has(svg, draw_chart(c).substr(draw_chart(c).find("<line"), 500))) << "the same plot";
    c.series.resize(1);
    c.series.push_back({"two", {{0, 1}}});
    EXPECT_EQ(count(draw_chart_file(c), "transform=\"translate(8 "), 1) << "two names in a row";
}

TEST(Svg, HeatMap) {
    HeatMap m{"depth", {"256", "512"}, {"0%", "100%"}, {{0, 1}, {0.5, NAN}}};
    const std::string svg = draw_heat_map("<t>", m);
    EXPECT_EQ(page_fault(svg), "");
    EXPECT_EQ(count(svg, "<rect"), 3);
    EXPECT_TRUE(has(svg, "<g class=\"h0\"><title>0%, 256: 0.0%</title>"));
    EXPECT_TRUE(has(svg, "<g class=\"h15\"><title>0%, 512: 100.0%</title>"));
    EXPECT_TRUE(has(svg, "<g class=\"h8\"><title>100%, 256: 50.0%</title>"));
    EXPECT_TRUE(has(svg, ">50.0</text>"));
    EXPECT_EQ(draw_heat_map("t", {"depth", {}, {}, {}}), "");
    for (int c = 0; c < 40; c++) {
        m.columns.push_back("c"), m.share[0].push_back(1), m.share[1].push_back(1);
    }
    EXPECT_FALSE(has(draw_heat_map("t", m), ">50.0</text>"));  // the cells are too narrow
}

// Only 0 has level 0. Neighbouring cells of one level are one stroke; moves are relative to the end of the
// last stroke of the level.
TEST(Svg, DenseMap) {
    DenseMap m{"map", 2, 4, {0, 0, 1, NAN, 0.001f, 0, 0, 1}, 1, "query", "block"};
    const std::string svg = draw_dense_map(m);
    EXPECT_TRUE(has(svg, "class=\"h0\" transform=\"translate(0 .5)\" d=\"M0 0m0 0h2m-1 1h2\"")) << svg;
    EXPECT_TRUE(has(svg, "class=\"h15\" transform=\"translate(0 .5)\" d=\"M0 0m2 0h1m0 1h1\"")) << svg;
    EXPECT_TRUE(has(svg, "class=\"h1\" transform=\"translate(0 .5)\" d=\"M0 0m0 1h1\"")) << svg;
    EXPECT_EQ(count(svg, "<path"), 3);
    EXPECT_EQ(page_fault(svg), "");
    m.high = 2;  // 1 is half of the maximum
    EXPECT_TRUE(has(draw_dense_map(m), "class=\"h8\""));
    m.row_unit = 100, m.id = "map0";
    EXPECT_TRUE(has(draw_dense_map(m), ">200<"));
    EXPECT_TRUE(has(draw_dense_map(m), "<svg id=\"map0\""));
    DenseMap large{"large", 512, 128, std::vector<float>(512 * 128), 1, "q", "k"};
    for (size_t i = 0; i < large.value.size(); i++) {
        large.value[i] = (float)(i * 2654435761u % 1000) / 1000;
    }
    // every cell has another level than the next
    EXPECT_LT(draw_dense_map(large).size(), 700000u);
    EXPECT_EQ(draw_dense_map({"none", 0, 0, {}, 1, "", ""}), "");
}

}  // namespace

}  // namespace moba
