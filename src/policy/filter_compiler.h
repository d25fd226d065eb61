// SPDX-License-Identifier: Apache-2.0
// For policy/*.cpp only.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/definitions.h"
#include "policy/reading.h"

namespace handshake::policy {

/// Turns the filters of all files into Definitions::filters, names and fields. They may refer to
/// each other in any order, but not in circles.
class FilterCompiler {
 public:
  FilterCompiler(Reading& reading, Definitions& made) noexcept : reading_(reading), made_(made) {}

  /// Makes the name known; reports a second definition. The node outlives this object.
  void define(const Spot& spot, const std::string& name, const YamlNode& node);
  /// After the last define().
  void compile_all();

  /// An entry of a tag's list: "name", "not name" or a filter in place. Nothing, and reported, when
  /// it does not work.
  [[nodiscard]] std::optional<TagEntry> tag_entry(const Spot& spot, const YamlNode& node);

 private:
  struct Compiled {
    FilterId id = 0;
    std::size_t depth = 1;  ///< filters inside one another, itself among them
    std::string text;
  };
  struct Named {
    enum class State : std::uint8_t { kNew, kUnderWay, kDone, kBroken };
    Spot spot;
    const YamlNode* node = nullptr;
    State state = State::kNew;
    Compiled compiled;
  };

  void resolve(const std::string& name, Named& named, std::size_t nesting);
  [[nodiscard]] std::optional<Compiled> by_name(const Spot& spot, const std::string& name,
                                                std::size_t nesting);
  [[nodiscard]] std::optional<Compiled> entry(const Spot& spot, const YamlNode& node,
                                              std::size_t nesting);
  [[nodiscard]] std::optional<Compiled> filter(const Spot& spot, const YamlNode& node,
                                               std::size_t nesting);
  [[nodiscard]] std::optional<Compiled> combination(const Spot& spot, const YamlNode& node,
                                                    std::string_view key, std::size_t nesting);
  [[nodiscard]] std::optional<Compiled> typed(const Spot& spot, const YamlNode& node,
                                              const YamlNode& type);
  [[nodiscard]] std::optional<Compiled> too_deep(const Spot& spot);
  [[nodiscard]] FilterId intern(const std::string& identity, Filter filter);
  [[nodiscard]] FieldId field(const Field& wanted);

  Reading& reading_;
  Definitions& made_;
  Places places_;
  std::vector<std::string> order_;
  std::map<std::string, Named, std::less<>> named_;
  std::map<std::pair<Field::Kind, std::string>, FieldId> fields_;
  std::map<std::string, FilterId, std::less<>> identities_;
};

}  // namespace handshake::policy
