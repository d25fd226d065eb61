// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "ynlgen/spec.h"

namespace handshake::ynlgen {

/// What is wrong with a spec, in the order found; one line each. Reading goes on after a problem,
/// so that one run shows them all.
class Problems {
 public:
  void add(const Source& source, std::string_view name, std::string_view what) {
    report(ErrorKind::kInvalidArgument, source, name, what);
  }
  void unsupported(const Source& source, std::string_view name, std::string_view what) {
    report(ErrorKind::kNotSupported, source, name, fmt::format("{}: not supported", what));
  }
  [[nodiscard]] bool any() const noexcept { return count_ > 0; }
  /// kNotSupported if the first problem is of that kind, otherwise kInvalidArgument.
  [[nodiscard]] Error error() const { return Error{kind_, text_}; }

 private:
  static constexpr std::size_t kMaxReported = 20;

  void report(ErrorKind kind, const Source& source, std::string_view name, std::string_view what) {
    if (count_ == 0) kind_ = kind;
    if (count_++ >= kMaxReported) return;
    if (!text_.empty()) text_ += '\n';
    text_ += fmt::format("{}:{}: {}: {}", source.file, source.line, name, what);
  }

  ErrorKind kind_ = ErrorKind::kInvalidArgument;
  std::size_t count_ = 0;
  std::string text_;
};

}  // namespace handshake::ynlgen
