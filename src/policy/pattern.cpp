// SPDX-License-Identifier: Apache-2.0
#include "policy/pattern.h"

#include <cstring>

#include "base/log.h"

namespace handshake::policy {
namespace {

/// Bytes that one '?' stands for at `at`.
std::size_t character(std::string_view text, std::size_t at) noexcept {
  const std::size_t length = utf8_sequence(text, at);
  return length == 0 ? 1 : length;
}

/// memmem() is linear whatever the two look like; std::string_view::find() is not.
std::size_t find(std::string_view text, std::string_view piece, std::size_t from) noexcept {
  const void* found = ::memmem(text.data() + from, text.size() - from, piece.data(), piece.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

}  // namespace

void Trigrams::add(std::string_view text) noexcept {
  std::uint32_t last_three = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    last_three = (last_three << 8 | static_cast<unsigned char>(text[i])) & 0xFFFFFFU;
    if (i < 2) continue;
    const std::uint32_t hash = (last_three * 0x9E3779B1U) >> 25U;  // seven bits
    bits_[hash >> 6U] |= std::uint64_t{1} << (hash & 63U);
  }
}

Pattern Pattern::exact(std::string value) {
  Pattern made;
  made.kind_ = Kind::kExact;
  made.shortest_ = value.size();
  made.pieces_.push_back(std::move(value));
  return made;
}

Pattern Pattern::wildcard(std::string_view pattern) {
  if (pattern.find_first_of("*?") == std::string_view::npos) return exact(std::string(pattern));
  Pattern made;
  std::string_view literal;
  for (std::string_view rest = pattern;;) {
    const std::size_t end = rest.find_first_of("*?");
    literal = rest.substr(0, end);
    made.trigrams_.add(literal);
    made.shortest_ += literal.size();
    if (end == std::string_view::npos) break;
    if (rest[end] == '?') ++made.shortest_;
    rest.remove_prefix(end + 1);
  }
  if (pattern.find('?') != std::string_view::npos) {
    made.kind_ = Kind::kStepwise;
    made.pieces_.emplace_back(pattern);
    return made;
  }
  made.kind_ = Kind::kPieces;
  for (std::string_view rest = pattern;;) {
    const std::size_t star = rest.find('*');
    const bool anchored = made.pieces_.empty() || star == std::string_view::npos;
    if (anchored || star > 0) made.pieces_.emplace_back(rest.substr(0, star));
    if (star == std::string_view::npos) break;
    rest.remove_prefix(star + 1);
  }
  return made;
}

bool Pattern::matches(const Text& text, WorkBudget& budget) const noexcept {
  const std::string_view bytes = text.bytes();
  if (!budget.spend(1) || bytes.size() < shortest_) return false;
  switch (kind_) {
    case Kind::kExact:
      return bytes.size() == shortest_ && budget.spend(bytes.size()) && bytes == pieces_.front();
    case Kind::kPieces:
      return text.trigrams().contains(trigrams_) && budget.spend(bytes.size()) &&
             pieces_match(bytes);
    case Kind::kStepwise:
      // Each '*' may be tried at every byte, each time comparing up to the next one.
      return text.trigrams().contains(trigrams_) &&
             budget.spend(bytes.size() * (pieces_.front().size() + 1)) &&
             step(pieces_.front(), bytes);
  }
  return false;
}

/// Taking the earliest place for each piece leaves the most for those that follow.
bool Pattern::pieces_match(std::string_view text) const noexcept {
  const std::string_view first = pieces_.front();
  const std::string_view last = pieces_.back();
  if (!text.starts_with(first) || !text.ends_with(last)) return false;
  const std::string_view middle =
      text.substr(first.size(), text.size() - first.size() - last.size());
  std::size_t at = 0;
  for (std::size_t i = 1; i + 1 < pieces_.size(); ++i) {
    at = find(middle, pieces_[i], at);
    if (at == std::string_view::npos) return false;
    at += pieces_[i].size();
  }
  return true;
}

/// On a mismatch only the last '*' is widened: an earlier one could not help.
bool Pattern::step(std::string_view pattern, std::string_view text) noexcept {
  std::size_t at = 0;
  std::size_t star = std::string_view::npos;  // behind the last '*' of the pattern
  std::size_t retry = 0;                      // where that '*' ends in the text
  std::size_t p = 0;
  while (at < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      retry = at;
    } else if (p < pattern.size() && pattern[p] == '?') {
      ++p;
      at += character(text, at);
    } else if (p < pattern.size() && pattern[p] == text[at]) {
      ++p;
      ++at;
    } else if (star != std::string_view::npos) {
      p = star;
      at = retry += character(text, retry);
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace handshake::policy
