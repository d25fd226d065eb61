// SPDX-License-Identifier: Apache-2.0
#include "ynlgen/yaml_tree.h"

#include <sstream>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

namespace handshake::ynlgen {
namespace {

/// Leaves yaml-cpp's parser from inside an event; never leaves this file.
struct Refusal {
  ErrorKind kind;
  int line;
  std::string what;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  [[nodiscard]] YamlNode take() { return std::move(root_); }
  [[nodiscard]] bool has_document() const noexcept { return documents_ > 0; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "a second document");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    no_anchor(mark, anchor);
    add(mark, YamlNode{});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    refuse(mark, "aliases (*name)");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    no_anchor(mark, anchor);
    // yaml-cpp gives "?" to a plain scalar and "!" to a quoted one.
    if (!tag.empty() && tag != "?" && tag != "!") refuse(mark, "tags (!name)");
    YamlNode node;
    node.scalar = value;
    node.quoted = tag == "!";
    add(mark, std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    no_anchor(mark, anchor);
    open(mark, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    no_anchor(mark, anchor);
    open(mark, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  /// A collection that is being read; `key` waits for its value.
  struct Open {
    YamlNode node;
    YamlNode key;
    bool has_key = false;
  };

  [[noreturn]] static void refuse(const YAML::Mark& mark, std::string_view what) {
    throw Refusal{ErrorKind::kNotSupported, mark.line + 1, fmt::format("{}: not supported", what)};
  }
  static void no_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) refuse(mark, "anchors (&name)");
  }

  void open(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (stack_.size() >= kMaxYamlDepth) {
      throw Refusal{ErrorKind::kInvalidArgument, mark.line + 1,
                    fmt::format("nested more than {} deep", kMaxYamlDepth)};
    }
    Open open;
    open.node.kind = kind;
    open.node.line = mark.line + 1;
    stack_.push_back(std::move(open));
  }
  void close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    place(std::move(node));
  }
  void add(const YAML::Mark& mark, YamlNode node) {
    node.line = mark.line + 1;
    place(std::move(node));
  }
  void place(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == YamlNode::Kind::kSequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      take_key(parent, std::move(node));
    } else {
      parent.node.members.emplace_back(std::move(parent.key), std::move(node));
      parent.has_key = false;
    }
  }
  static void take_key(Open& parent, YamlNode key) {
    if (key.kind != YamlNode::Kind::kScalar) {
      throw Refusal{ErrorKind::kInvalidArgument, key.line, "a key that is not a word"};
    }
    if (parent.node.find(key.scalar) != nullptr) {
      throw Refusal{ErrorKind::kInvalidArgument, key.line,
                    fmt::format("{}: key given twice", key.scalar)};
    }
    parent.key = std::move(key);
    parent.has_key = true;
  }

  YamlNode root_;
  std::vector<Open> stack_;
  int documents_ = 0;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const noexcept {
  for (const auto& [name, value] : members) {
    if (name.scalar == key) return &value;
  }
  return nullptr;
}

Result<YamlNode> parse_yaml(std::string_view text, const std::string& file) {
  if (text.size() > kMaxSpecBytes) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}:1: longer than {} bytes", file, kMaxSpecBytes));
  }
  std::istringstream stream{std::string(text)};
  TreeBuilder builder;
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refusal& refusal) {
    return fail(refusal.kind, fmt::format("{}:{}: {}", file, refusal.line, refusal.what));
  } catch (const YAML::Exception& exception) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}:{}: {}", file, exception.mark.line + 1, exception.msg));
  }
  if (!builder.has_document()) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{}:1: empty", file));
  }
  return builder.take();
}

}  // namespace handshake::ynlgen
