// SPDX-License-Identifier: Apache-2.0
#include "policy/rule_reader.h"

#include <charconv>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/log.h"

namespace handshake::policy {
namespace {

constexpr std::string_view kPorts = "a local port or a range like 8000-8100";
constexpr std::string_view kClasses = "a handler class such as tlshd";

std::optional<std::uint16_t> port_of(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

std::optional<PortRange> ports_of(std::string_view text) noexcept {
  const auto dash = text.find('-');
  const auto first = port_of(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : port_of(text.substr(dash + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  return PortRange{*first, *last};
}

class RuleReader {
 public:
  RuleReader(Reading& reading, const TagIds& tags) noexcept : reading_(reading), tags_(tags) {}

  Rule run(const Spot& spot, const YamlNode& node) {
    reading_.for_each_key(spot, node,
                          {"name", "role", "port", "address", "class", "require-any", "require-all",
                           "require-none", "verdict", "dry-run"},
                          [this](const Spot& here, const std::string& key, const YamlNode& value) {
                            take(here, key, value);
                          });
    if (requires_tags_ == allows_.has_value()) {
      reading_.report(
          spot,
          "expected either what it requires (require-any, require-all, require-none) or a "
          "verdict (allow, deny)");
    }
    rule_.says = !allows_   ? Rule::Says::kRequire
                 : *allows_ ? Rule::Says::kAllow
                            : Rule::Says::kDeny;
    return std::move(rule_);
  }

 private:
  void take(const Spot& spot, const std::string& key, const YamlNode& value) {
    if (key == "role") return take_role(spot, value);
    if (key == "port") return take_ports(spot, value);
    if (key == "address") return take_addresses(spot, value);
    if (key == "class") return take_classes(spot, value);
    if (key == "require-any") return take_tags(spot, value, rule_.any);
    if (key == "require-all") return take_tags(spot, value, rule_.all);
    if (key == "require-none") return take_tags(spot, value, rule_.none);
    if (key == "verdict") allows_ = reading_.allow_or_deny(spot, value);
    if (key == "dry-run") rule_.dry_run = reading_.boolean(spot, value);
  }

  void take_role(const Spot& spot, const YamlNode& value) {
    if (value.kind == YamlNode::Kind::kScalar && value.scalar == "client") {
      rule_.role = Role::kClient;
    } else if (value.kind == YamlNode::Kind::kScalar && value.scalar == "server") {
      rule_.role = Role::kServer;
    } else {
      reading_.report(spot.at(value.place), "expected client or server: our side of the session");
    }
  }

  void take_ports(const Spot& spot, const YamlNode& value) {
    for (const YamlNode* word : reading_.words(spot, value, kPorts)) {
      if (const auto range = ports_of(word->scalar)) {
        rule_.ports.push_back(*range);
      } else {
        reading_.report(spot.at(word->place),
                        fmt::format("{}, expected {}", log_field("port", word->scalar), kPorts));
      }
    }
  }

  void take_addresses(const Spot& spot, const YamlNode& value) {
    for (const YamlNode* word : reading_.words(spot, value, "a local address or network")) {
      std::string problem;
      if (const auto network = Network::parse(word->scalar, problem)) {
        rule_.addresses.push_back(*network);
      } else {
        reading_.report(spot.at(word->place), std::move(problem));
      }
    }
  }

  void take_classes(const Spot& spot, const YamlNode& value) {
    for (const YamlNode* word : reading_.words(spot, value, kClasses)) {
      if (word->scalar.empty())
        reading_.report(spot.at(word->place), fmt::format("expected {}", kClasses));
      rule_.classes.push_back(word->scalar);
    }
  }

  void take_tags(const Spot& spot, const YamlNode& value, std::vector<TagId>& into) {
    requires_tags_ = true;
    for (const YamlNode* word : reading_.words(spot, value, "a tag")) {
      if (const auto found = tags_.find(word->scalar); found != tags_.end()) {
        into.push_back(found->second);
      } else {
        reading_.report(spot.at(word->place),
                        fmt::format("there is no tag \"{}\"", printable(word->scalar)));
      }
    }
  }

  Reading& reading_;
  const TagIds& tags_;
  Rule rule_;
  bool requires_tags_ = false;
  std::optional<bool> allows_;
};

}  // namespace

Rule read_rule(Reading& reading, const Spot& spot, const YamlNode& node, const TagIds& tags) {
  return RuleReader(reading, tags).run(spot, node);
}

}  // namespace handshake::policy
