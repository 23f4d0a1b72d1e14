/* Numbers in text are decimal, whatever zeros stand in front. */
#include "moba/core/decimal.h"
#include "test/support/check.h"
#include <climits>

namespace moba {

namespace {

TEST(Decimal, WholeNumbers) {
    for (const auto& [text, value] :
         std::initializer_list<std::pair<const char*, int>>{{"0", 0},
                                                            {"010", 10},
                                                            {"0000000000000012", 12},
                                                            {"+5", 5},
                                                            {"-08", -8},
                                                            {"1e3", 1000},
                                                            {"128.0", 128},
                                                            {"2147483647", INT_MAX},
                                                            {"-2147483648", INT_MIN}}) {
        EXPECT_EQ(parse_whole<int>(text), value) << text;
    }
    for (const char* text :
         {"",      "+",     "-",  "+-5",        "++5",         "0x10", "0b1",
          "1_000", "1,000", " 5", "5 ",         "1.5",         "1e-1", "five",
          "inf",   "nan",   "1e", "2147483648", "-2147483649", "1e10", "99999999999999999999"}) {
        EXPECT_FALSE(parse_whole<int>(text)) << text;
    }
    EXPECT_EQ(parse_whole<uint64_t>("18446744073709551615"), UINT64_MAX);
    for (const char* text : {"18446744073709551616", "-1", "1e19", "9007199254740993.0"}) {
        EXPECT_FALSE(parse_whole<uint64_t>(text)) << text << " would be replaced by another number";
    }
}

TEST(Decimal, RealNumbers) {
    EXPECT_EQ(parse_decimal("00.50"), 0.5);
    EXPECT_EQ(parse_decimal("+1e-3"), 0.001);
    EXPECT_EQ(parse_decimal("-2"), -2.0);
    for (const char* text : {"", "0x1p3", "inf", "nan", "1e999", " 1", "1 ", "1,5", "1f", "--1", "+-1"}) {
        EXPECT_FALSE(parse_decimal(text)) << text;
    }
}

}  // namespace

}  // namespace moba
