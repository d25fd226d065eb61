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
    plain(mark, "", anchor);
    add(mark, YamlNode{});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    refuse(mark, "aliases (*name)");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    plain(mark, tag, anchor);
    YamlNode node;
    node.scalar = value;
    node.quoted = tag == "!";
    add(mark, std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    plain(mark, tag, anchor);
    open(mark, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    plain(mark, tag, anchor);
    open(mark, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  [[noreturn]] static void refuse(const YAML::Mark& mark, std::string_view what) {
    throw Refusal{ErrorKind::kNotSupported, mark.line + 1, fmt::format("{}: not supported", what)};
  }
  static void plain(const YAML::Mark& mark, std::string_view tag, YAML::anchor_t anchor) {
    if (anchor != 0) refuse(mark, "anchors (&name)");
    // yaml-cpp gives "?" to what has no tag, and "!" to a quoted scalar.
    if (!tag.empty() && tag != "?" && tag != "!") refuse(mark, "tags (!name)");
  }

  void open(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (stack_.size() >= kMaxYamlDepth) {
      throw Refusal{ErrorKind::kInvalidArgument, mark.line + 1,
                    fmt::format("nested more than {} deep", kMaxYamlDepth)};
    }
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    stack_.push_back(std::move(node));
  }
  void close() {
    YamlNode node = std::move(stack_.back());
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
    YamlNode& parent = stack_.back();
    const bool is_key = parent.kind == YamlNode::Kind::kMap &&
                        parent.keys.size() == parent.items.size();
    if (parent.items.size() >= kMaxYamlItems) {
      throw Refusal{ErrorKind::kInvalidArgument, node.line,
                    fmt::format("more than {} items in one list or map", kMaxYamlItems)};
    }
    if (is_key) {
      take_key(parent, std::move(node));
    } else {
      parent.items.push_back(std::move(node));
    }
  }
  static void take_key(YamlNode& parent, YamlNode key) {
    if (key.kind != YamlNode::Kind::kScalar) {
      throw Refusal{ErrorKind::kInvalidArgument, key.line, "a key that is not a word"};
    }
    if (parent.find(key.scalar) != nullptr) {
      throw Refusal{ErrorKind::kInvalidArgument, key.line,
                    fmt::format("{}: key given twice", key.scalar)};
    }
    parent.keys.push_back(std::move(key));
  }

  YamlNode root_;
  std::vector<YamlNode> stack_;   // the collections that are being read
  int documents_ = 0;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const noexcept {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].scalar == key) return &items[i];
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
