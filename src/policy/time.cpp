// SPDX-License-Identifier: Apache-2.0
#include "policy/time.h"

#include <fmt/format.h>

namespace handshake::policy {
namespace {

namespace chr = std::chrono;

/// Reads from the front of a text; the first thing that does not fit ends all reading.
class Cursor {
 public:
  explicit Cursor(std::string_view text) noexcept : rest_(text) {}

  [[nodiscard]] bool failed() const noexcept { return failed_; }
  [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }

  void skip_blanks() noexcept {
    while (rest_.starts_with(' ')) rest_.remove_prefix(1);
  }
  bool take(std::string_view word) noexcept {
    if (failed_ || !rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  void expect(char c) noexcept {
    if (!take({&c, 1})) failed_ = true;
  }
  /// One to `digits` digits.
  int number(std::size_t digits) noexcept {
    int value = 0;
    std::size_t read = 0;
    while (read < digits && read < rest_.size() && rest_[read] >= '0' && rest_[read] <= '9') {
      value = value * 10 + (rest_[read] - '0');
      ++read;
    }
    if (read == 0) failed_ = true;
    rest_.remove_prefix(read);
    return value;
  }

 private:
  std::string_view rest_;
  bool failed_ = false;
};

}  // namespace

std::optional<chr::sys_seconds> parse_time(std::string_view text) noexcept {
  Cursor cursor(text);
  cursor.skip_blanks();
  const int year = cursor.number(4);
  cursor.expect('-');
  const auto month = static_cast<unsigned>(cursor.number(2));
  cursor.expect('-');
  const auto day = static_cast<unsigned>(cursor.number(2));
  const chr::year_month_day date{chr::year{year}, chr::month{month}, chr::day{day}};
  if (cursor.failed() || !date.ok()) return std::nullopt;
  chr::sys_seconds time = chr::sys_days{date};

  if (!cursor.take("T")) cursor.skip_blanks();
  if (cursor.at_end()) return time;
  const int hour = cursor.number(2);
  cursor.expect(':');
  const int minute = cursor.number(2);
  cursor.expect(':');
  const int second = cursor.number(2);
  if (cursor.failed() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  time += chr::hours{hour} + chr::minutes{minute} + chr::seconds{second};

  cursor.skip_blanks();
  const bool ahead = cursor.take("+");
  if (ahead || cursor.take("-")) {
    const int hours = cursor.number(2);
    cursor.take(":");
    const int minutes = cursor.number(2);
    if (cursor.failed() || hours > 23 || minutes > 59) return std::nullopt;
    const chr::seconds offset = chr::hours{hours} + chr::minutes{minutes};
    time -= ahead ? offset : -offset;
  } else if (!cursor.take("Z") && !cursor.take("UTC")) {
    cursor.take("GMT");
  }
  cursor.skip_blanks();
  if (cursor.failed() || !cursor.at_end()) return std::nullopt;
  return time;
}

std::string time_text(chr::sys_seconds time) {
  const auto day = chr::floor<chr::days>(time);
  const chr::year_month_day date{day};
  const chr::hh_mm_ss clock{time - day};
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

}  // namespace handshake::policy
