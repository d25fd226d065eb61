// SPDX-License-Identifier: Apache-2.0
// ynlgen [--cpp DIR] [--outer NAMESPACE] [--prefix PREFIX] [--markdown FILE] NS[:BASE]=SPEC...
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "ynlgen/emit.h"
#include "ynlgen/spec.h"

namespace {

using handshake::ErrorKind;
using handshake::Result;
namespace ynlgen = handshake::ynlgen;

constexpr std::string_view kUsage =
    "usage: ynlgen [options] NAMESPACE[:BASE]=SPEC.yaml...\n"
    "Generates code and documentation from netlink specs, all in one run. A spec with a BASE\n"
    "extends the attribute sets and operations of the spec given under that namespace.\n"
    "  --cpp DIR        write DIR/PREFIX/{numbers.h,messages.h,messages.cpp}\n"
    "  --outer NAME     namespace around the specs' own (default handshake::protocol)\n"
    "  --prefix PREFIX  directory of the headers in #include (default protocol)\n"
    "  --markdown FILE  write the documentation tables\n";

struct Arguments {
  std::string cpp_directory;
  std::string markdown;
  ynlgen::CppOptions cpp;
  std::vector<std::string> specs;
};

Result<Arguments> parse_arguments(const std::vector<std::string>& words) {
  Arguments result;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string* value = words[i] == "--cpp"        ? &result.cpp_directory
                         : words[i] == "--outer"    ? &result.cpp.outer_namespace
                         : words[i] == "--prefix"   ? &result.cpp.include_prefix
                         : words[i] == "--markdown" ? &result.markdown
                                                    : nullptr;
    if (value != nullptr) {
      if (++i == words.size()) {
        return handshake::fail(ErrorKind::kInvalidArgument, words[i - 1] + ": needs a value");
      }
      *value = words[i];
    } else if (words[i].starts_with('-')) {
      return handshake::fail(ErrorKind::kInvalidArgument, words[i] + ": no such option");
    } else {
      result.specs.push_back(words[i]);
    }
  }
  if (result.specs.empty()) {
    return handshake::fail(ErrorKind::kInvalidArgument, "no spec given");
  }
  return result;
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return handshake::fail_errno(fmt::format("open {}", path));
  if (!std::filesystem::is_regular_file(path)) {
    return handshake::fail(ErrorKind::kInvalidArgument, path + ": not a regular file");
  }
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return handshake::fail_errno(fmt::format("read {}", path));
  return text;
}

Result<void> write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return handshake::fail_errno(fmt::format("write {}", path.string()));
  return {};
}

/// "worker:kernel=spec/worker.yaml"
Result<ynlgen::Input> load(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string::npos) {
    return handshake::fail(ErrorKind::kInvalidArgument, argument + ": expected NAMESPACE=SPEC");
  }
  const std::string name = argument.substr(0, equals);
  const std::string path = argument.substr(equals + 1);
  const std::size_t colon = name.find(':');
  const Result<std::string> text = read_file(path);
  if (!text) return tl::unexpected<handshake::Error>(text.error());
  Result<ynlgen::Spec> spec = ynlgen::load_spec(*text, path);
  if (!spec) return tl::unexpected<handshake::Error>(spec.error());
  ynlgen::Input input;
  input.cpp_namespace = name.substr(0, colon);
  if (colon != std::string::npos) input.base = name.substr(colon + 1);
  input.spec = std::move(*spec);
  return input;
}

Result<void> run(const Arguments& arguments) {
  std::vector<ynlgen::Input> inputs;
  for (const std::string& argument : arguments.specs) {
    Result<ynlgen::Input> input = load(argument);
    if (!input) return tl::unexpected<handshake::Error>(input.error());
    inputs.push_back(std::move(*input));
  }
  const Result<ynlgen::Model> model = ynlgen::assemble(std::move(inputs));
  if (!model) return tl::unexpected<handshake::Error>(model.error());
  if (!arguments.cpp_directory.empty()) {
    const auto directory =
        std::filesystem::path(arguments.cpp_directory) / arguments.cpp.include_prefix;
    std::error_code ignored;   // writing into it reports the failure with its name
    std::filesystem::create_directories(directory, ignored);
    const ynlgen::CppFiles files = ynlgen::emit_cpp(*model, arguments.cpp);
    for (const auto& [name, text] : {std::pair("numbers.h", &files.numbers_h),
                                     std::pair("messages.h", &files.messages_h),
                                     std::pair("messages.cpp", &files.messages_cpp)}) {
      if (Result<void> ok = write_file(directory / name, *text); !ok) return ok;
    }
  }
  if (!arguments.markdown.empty()) {
    return write_file(arguments.markdown, ynlgen::emit_markdown(*model));
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const Result<Arguments> arguments = parse_arguments(words);
  if (!arguments) {
    fmt::print(stderr, "ynlgen: {}\n{}", arguments.error().detail, kUsage);
    return 2;
  }
  if (const Result<void> ok = run(*arguments); !ok) {
    fmt::print(stderr, "{}\n", ok.error().detail);
    return 1;
  }
  return 0;
}
