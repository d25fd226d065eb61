// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace handshake::policy {

/// How much comparing one evaluation may still do, in bytes looked at. A certificate with ten
/// thousand names against a policy with thousands of patterns must cost a bounded time.
class WorkBudget {
 public:
  explicit WorkBudget(std::uint64_t bytes) noexcept : left_(bytes) {}

  /// False: used up, for good.
  [[nodiscard]] bool spend(std::uint64_t bytes) noexcept {
    if (bytes > left_) {
      left_ = 0;
      exhausted_ = true;
      return false;
    }
    left_ -= bytes;
    return true;
  }
  [[nodiscard]] bool exhausted() const noexcept { return exhausted_; }

 private:
  std::uint64_t left_;
  bool exhausted_ = false;
};

/// Which three-byte sequences occur in a text, hashed into 128 bits. A pattern whose sequences are
/// not all there cannot match: most comparisons end here, after two instructions.
class Trigrams {
 public:
  void add(std::string_view text) noexcept;
  [[nodiscard]] bool contains(const Trigrams& other) const noexcept {
    return (other.bits_[0] & ~bits_[0]) == 0 && (other.bits_[1] & ~bits_[1]) == 0;
  }

 private:
  std::array<std::uint64_t, 2> bits_{};
};

/// A value that patterns are compared with. Any bytes, NUL among them.
class Text {
 public:
  explicit Text(std::string bytes) : bytes_(std::move(bytes)) { trigrams_.add(bytes_); }

  [[nodiscard]] std::string_view bytes() const noexcept { return bytes_; }
  [[nodiscard]] const Trigrams& trigrams() const noexcept { return trigrams_; }

 private:
  std::string bytes_;
  Trigrams trigrams_;
};

/// What a text must look like, compiled once: one exact value, or a pattern in which '*' stands for
/// any bytes (none, too) and '?' for one character of UTF-8 (or one byte that belongs to none).
/// There is no way to escape the two; who needs them as themselves compares exactly.
class Pattern {
 public:
  [[nodiscard]] static Pattern exact(std::string value);
  [[nodiscard]] static Pattern wildcard(std::string_view pattern);

  /// The whole of `text`, byte by byte. False when the budget ends.
  [[nodiscard]] bool matches(const Text& text, WorkBudget& budget) const noexcept;

 private:
  enum class Kind : std::uint8_t {
    kExact,   ///< pieces_ is the value
    kPieces,  ///< literals with '*' between them: the first and the last are anchored, may be empty
    kStepwise,  ///< has a '?': pieces_ is the pattern itself
  };

  [[nodiscard]] bool pieces_match(std::string_view text) const noexcept;
  [[nodiscard]] static bool step(std::string_view pattern, std::string_view text) noexcept;

  Kind kind_ = Kind::kExact;
  std::vector<std::string> pieces_;
  std::size_t shortest_ = 0;  ///< no text with fewer bytes matches
  Trigrams trigrams_;
};

}  // namespace handshake::policy
