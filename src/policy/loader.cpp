// SPDX-License-Identifier: Apache-2.0
//
// Policy::load(): YAML trees become Definitions, or problems.

#include <algorithm>
#include <map>
#include <tuple>

#include <fmt/format.h>

#include "policy/filter_compiler.h"
#include "policy/policy.h"
#include "policy/reading.h"
#include "policy/rule_reader.h"
#include "policy/yaml.h"

namespace handshake::policy {
namespace {

using Kind = YamlNode::Kind;

class Loader {
 public:
  Policy::Loaded run(std::span<const PolicyText> texts) {
    YamlBudget budget;
    std::vector<std::vector<YamlNode>> files;
    for (const PolicyText& text : texts) {
      files.push_back(parse_yaml(text.path, text.content, budget, reading_.problems()));
    }
    // All names first: order does not matter in these files, nor which file something stands in.
    for (std::size_t i = 0; i < texts.size(); ++i) {
      for (const YamlNode& document : files[i])
        survey(Spot{&texts[i].path, document.place, ""}, document);
    }
    filters_.compile_all();
    for (const Source& source : tags_) compile_tag(source);
    for (const Source& source : rules_) {
      made_.rules.push_back(read_rule(reading_, source.spot, *source.node, tag_ids_));
      made_.rules.back().name = source.name;
    }
    return finish(texts);
  }

 private:
  struct Source {
    Spot spot;
    const YamlNode* node = nullptr;
    std::string name;
  };

  Policy::Loaded finish(std::span<const PolicyText> texts) {
    Policy::Loaded loaded;
    loaded.problems = std::move(reading_.problems());
    std::map<std::string_view, std::size_t> order;
    for (std::size_t i = 0; i < texts.size(); ++i) order.emplace(texts[i].path, i);
    std::stable_sort(loaded.problems.begin(), loaded.problems.end(),
                     [&](const Problem& a, const Problem& b) {
                       return std::tuple(order[a.file], a.line, a.column) <
                              std::tuple(order[b.file], b.line, b.column);
                     });
    // The YAML parser reports without counting, and nobody hears of what is beyond kMaxProblems.
    const bool fatal = reading_.fatal_problems() > 0 ||
                       std::any_of(loaded.problems.begin(), loaded.problems.end(),
                                   [](const Problem& problem) { return problem.fatal; });
    if (!fatal) loaded.policy = std::make_shared<const Policy>(std::move(made_));
    return loaded;
  }

  void survey(const Spot& spot, const YamlNode& document) {
    if (document.kind == Kind::kNull) return;
    if (!reading_.expect(spot, document, Kind::kMap,
                         "a map with filters, tags, rules, default or dry-run"))
      return;
    reading_.for_each_key(spot, document, {"filters", "tags", "rules", "default", "dry-run"},
                          [this](const Spot& here, const std::string& key, const YamlNode& value) {
                            take(here, key, value);
                          });
  }

  void take(const Spot& spot, const std::string& key, const YamlNode& value) {
    if (key == "default") return take_default(spot, value);
    if (key == "dry-run") {
      made_.dry_run = reading_.boolean(spot, value) || made_.dry_run;
      return;
    }
    if (value.kind == Kind::kNull) return;
    if (key == "rules") return survey_rules(spot, value);
    if (!reading_.expect(spot, value, Kind::kMap, "a map from names to definitions")) return;
    for (std::size_t i = 0; i < value.keys.size(); ++i) {
      const std::string& name = value.keys[i].name;
      const Spot here = spot.below(name, value.keys[i].place);
      if (key == "filters") {
        filters_.define(here, name, value.items[i]);
      } else if (reading_.claim(here, name, tag_places_)) {
        tags_.push_back(Source{here, &value.items[i], name});
      }
    }
  }

  void survey_rules(const Spot& spot, const YamlNode& list) {
    if (!reading_.expect(spot, list, Kind::kSequence, "a list of rules")) return;
    for (const YamlNode& rule : list.items) {
      if (!reading_.expect(spot, rule, Kind::kMap,
                           "a rule: a map with a name, conditions and what it requires")) {
        continue;
      }
      const YamlNode* name = rule.find("name");
      if (name == nullptr || name->kind != Kind::kScalar) {
        reading_.report(spot.at(rule.place), "expected the rule to have a name");
        continue;
      }
      const Spot here = spot.below(name->scalar, rule.place);
      if (reading_.check_name(here, name->scalar) &&
          reading_.claim(here, name->scalar, rule_places_)) {
        rules_.push_back(Source{here, &rule, name->scalar});
      }
    }
  }

  void take_default(const Spot& spot, const YamlNode& value) {
    const bool allows = reading_.allow_or_deny(spot, value);
    if (reading_.claim(spot, "default", default_place_)) made_.default_allows = allows;
  }

  void compile_tag(const Source& source) {
    Tag tag;
    tag.name = source.name;
    tag_ids_.emplace(tag.name, static_cast<TagId>(made_.tags.size()));
    if (tag.name.empty() || tag.name.size() > kMaxTagBytes || has_control_character(tag.name)) {
      reading_.report(
          source.spot,
          fmt::format("expected a tag of 1 to {} bytes without control characters", kMaxTagBytes));
    }
    if (reading_.expect(source.spot, *source.node, Kind::kMap,
                        "a list of filters: filter: [...]")) {
      read_entries(source, tag);
    }
    made_.tags.push_back(std::move(tag));
  }

  void read_entries(const Source& source, Tag& tag) {
    bool listed = false;
    reading_.for_each_key(source.spot, *source.node, {"filter"},
                          [&](const Spot& here, const std::string&, const YamlNode& list) {
                            listed = true;
                            if (list.kind != Kind::kSequence || list.items.empty()) {
                              return reading_.report(here.at(list.place),
                                                     "expected a list of filters");
                            }
                            for (const YamlNode& item : list.items) {
                              auto entry = filters_.tag_entry(here, item);
                              if (entry) tag.entries.push_back(std::move(*entry));
                            }
                          });
    if (!listed) reading_.report(source.spot, "expected a list of filters: filter: [...]");
  }

  Reading reading_;
  Definitions made_;
  FilterCompiler filters_{reading_, made_};
  std::vector<Source> tags_;
  std::vector<Source> rules_;
  Places tag_places_;
  Places rule_places_;
  Places default_place_;
  TagIds tag_ids_;
};

}  // namespace

Policy::Loaded Policy::load(std::span<const PolicyText> texts) { return Loader().run(texts); }

}  // namespace handshake::policy
