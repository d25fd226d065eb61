// SPDX-License-Identifier: Apache-2.0
#include "policy/yaml.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "base/log.h"

namespace handshake::policy {
namespace {

/// Ends the parsing of a file from inside an event; never leaves this file.
struct Refusal {
  YamlPlace place;
  std::string reason;
};

YamlPlace place_of(const YAML::Mark& mark) noexcept {
  return {mark.line < 0 ? 1U : static_cast<std::size_t>(mark.line) + 1,
          mark.column < 0 ? 1U : static_cast<std::size_t>(mark.column) + 1};
}

/// Builds trees from yaml-cpp's events rather than from its nodes, which accept duplicate keys and
/// share what aliases name.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& file, YamlBudget& budget, std::vector<Problem>& problems)
      : file_(file), budget_(budget), problems_(problems) {}

  [[nodiscard]] std::vector<YamlNode> take() { return std::move(documents_); }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override { anchors_.clear(); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node;
    node.place = place_of(mark);
    finish(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw Refusal{place_of(mark), "the alias stands inside what it names"};
    }
    charge(found->second, place_of(mark));
    if (frames_.size() + depth(found->second) > kMaxYamlDepth) refuse_depth(place_of(mark));
    finish(found->second, 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_tag(mark, tag);
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.place = place_of(mark);
    node.scalar = value;
    charge(node, node.place);
    finish(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    check_tag(mark, tag);
    open(mark, YamlNode::Kind::kSequence, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    check_tag(mark, tag);
    open(mark, YamlNode::Kind::kMap, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  /// A collection that is being read.
  struct Frame {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    std::set<std::string, std::less<>> seen;  // keys of a map
    bool awaits_value = false;                // a key has been read
    bool drops_value = false;                 // that key cannot be kept
  };

  /// yaml-cpp gives "?" to what has no tag and "!" to a quoted scalar; the core schema's tags are
  /// what a value is anyway.
  static void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!" || tag.starts_with("tag:yaml.org,2002:")) return;
    throw Refusal{place_of(mark), fmt::format("the tag {} means nothing here", tag)};
  }

  [[noreturn]] static void refuse_depth(YamlPlace place) {
    throw Refusal{place, fmt::format("nested more than {} deep", kMaxYamlDepth)};
  }
  /// Collections inside one another, `node` itself among them; at most kMaxYamlDepth.
  static std::size_t depth(const YamlNode& node) noexcept {
    if (node.kind != YamlNode::Kind::kSequence && node.kind != YamlNode::Kind::kMap) return 0;
    std::size_t below = 0;
    for (const YamlNode& item : node.items) below = std::max(below, depth(item));
    return below + 1;
  }
  static std::size_t cost(const YamlNode& node) {
    std::size_t bytes = sizeof(YamlNode) + node.scalar.size();
    for (const YamlNode::Key& key : node.keys) bytes += sizeof(YamlNode::Key) + key.name.size();
    for (const YamlNode& item : node.items) bytes += cost(item);
    return bytes;
  }
  void charge(const YamlNode& node, YamlPlace place) {
    const std::size_t bytes = cost(node);
    if (bytes > budget_.left) throw Refusal{place, "more than a policy may contain"};
    budget_.left -= bytes;
  }

  void open(const YAML::Mark& mark, YamlNode::Kind kind, YAML::anchor_t anchor) {
    if (frames_.size() >= kMaxYamlDepth) refuse_depth(place_of(mark));
    Frame frame;
    frame.node.kind = kind;
    frame.node.place = place_of(mark);
    frame.anchor = anchor;
    charge(frame.node, frame.node.place);
    frames_.push_back(std::move(frame));
  }
  void close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    finish(std::move(frame.node), frame.anchor);
  }
  void finish(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) {
      charge(node, node.place);
      anchors_.insert_or_assign(anchor, node);
    }
    if (frames_.empty()) {
      documents_.push_back(std::move(node));
      return;
    }
    Frame& frame = frames_.back();
    if (frame.node.kind == YamlNode::Kind::kMap && !frame.awaits_value) {
      take_key(frame, node);
      return;
    }
    if (!frame.drops_value) frame.node.items.push_back(std::move(node));
    frame.awaits_value = frame.drops_value = false;
  }
  void take_key(Frame& frame, YamlNode& node) {
    frame.awaits_value = true;
    if (node.kind != YamlNode::Kind::kScalar) {
      frame.drops_value = true;
      problem(node.place, "", "this key is not a word");
    } else if (!frame.seen.insert(node.scalar).second) {
      frame.drops_value = true;
      problem(node.place, node.scalar, "the key stands twice");
    } else {
      frame.node.keys.push_back({std::move(node.scalar), node.place});
    }
  }
  void problem(YamlPlace place, std::string key, std::string reason) {
    if (problems_.size() >= kMaxProblems) throw Refusal{place, "more problems follow"};
    problems_.push_back(
        Problem{file_, place.line, place.column, std::move(key), std::move(reason)});
  }

  const std::string& file_;
  YamlBudget& budget_;
  std::vector<Problem>& problems_;
  std::vector<Frame> frames_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  std::vector<YamlNode> documents_;
};

/// The first byte that is not part of well-formed UTF-8, or a NUL; nothing when all is well.
std::optional<YamlPlace> first_bad_byte(std::string_view text) noexcept {
  YamlPlace place;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_sequence(text, i);
    if (length == 0 || text[i] == '\0') return place;
    if (text[i] == '\n') {
      ++place.line;
      place.column = 1;
    } else {
      place.column += length;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const noexcept {
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == key; });
  return found == keys.end() ? nullptr : &items[static_cast<std::size_t>(found - keys.begin())];
}

std::vector<YamlNode> parse_yaml(const std::string& file, std::string_view text, YamlBudget& budget,
                                 std::vector<Problem>& problems) {
  const auto problem = [&](YamlPlace place, std::string reason) {
    problems.push_back(Problem{file, place.line, place.column, "", std::move(reason)});
  };
  if (text.size() > kMaxYamlBytes) {
    problems.push_back(Problem{file, 0, 0, "", fmt::format("longer than {} bytes", kMaxYamlBytes)});
    return {};
  }
  if (const auto bad = first_bad_byte(text)) {
    problem(*bad, "neither a NUL byte nor anything else that is not UTF-8 may stand in this file");
    return {};
  }
  std::istringstream stream{std::string(text)};
  TreeBuilder builder(file, budget, problems);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refusal& refusal) {
    problem(refusal.place, refusal.reason);
  } catch (const YAML::Exception& exception) {
    problem(place_of(exception.mark), fmt::format("not valid YAML: {}", exception.msg));
  }
  return builder.take();
}

}  // namespace handshake::policy
