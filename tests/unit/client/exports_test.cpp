// SPDX-License-Identifier: Apache-2.0
// The shared library shows the functions that handshake.h declares, all of them and nothing else.
#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

namespace {

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string text;
  std::array<char, 4096> chunk{};
  std::size_t count = 0;
  while ((count = std::fread(chunk.data(), 1, chunk.size(), pipe.get())) > 0) {
    text.append(chunk.data(), count);
  }
  return text;
}

std::string content_of(const std::string& path) {
  std::ifstream file(HS_SOURCE_DIR + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::set<std::string> declared_functions() {
  const std::string header = content_of("/include/handshake/handshake.h");
  const std::regex declaration(R"(HS_API\s[^;(]*?\b(hs_\w+)\s*\()");
  std::set<std::string> names;
  for (auto match = std::sregex_iterator(header.begin(), header.end(), declaration);
       match != std::sregex_iterator(); ++match) {
    names.insert((*match)[1]);
  }
  return names;
}

TEST(Exports, AreTheFunctionsThatTheHeaderDeclares) {
  std::istringstream symbols(output_of("nm -D --defined-only " HS_CLIENT_LIBRARY));
  std::set<std::string> exported;
  std::string address;
  std::string type;
  std::string name;
  while (symbols >> address >> type >> name) {
    if (type == "A") continue;  // the version itself
    EXPECT_EQ(type, "T") << name;
    const std::size_t version = name.find('@');
    ASSERT_NE(version, std::string::npos) << name << " has no version";
    EXPECT_EQ(name.substr(version), "@@HANDSHAKE_0");
    exported.insert(name.substr(0, version));
  }
  EXPECT_GT(exported.size(), 30U);
  EXPECT_EQ(exported, declared_functions());
}

TEST(Exports, TheLibraryNeedsNoTlsLibrary) {
  const std::string needed = output_of("readelf -d " HS_CLIENT_LIBRARY);
  EXPECT_NE(needed.find("libhandshake.so.0"), std::string::npos);
  for (const char* library : {"libssl", "libcrypto", "gnutls", "yaml", "keyutils"}) {
    EXPECT_EQ(needed.find(library), std::string::npos) << library;
  }
}

// docs/consumer-guide.md shows nothing that does not run.
TEST(ConsumerGuide, ShowsWhatIsInTheExamples) {
  const std::string guide = content_of("/docs/consumer-guide.md");
  const std::string examples =
      content_of("/examples/connect.c") + content_of("/examples/echo.cpp");
  int blocks = 0;
  const std::regex block(R"(```(c|cpp)\n([^`]*)```)");
  for (auto match = std::sregex_iterator(guide.begin(), guide.end(), block);
       match != std::sregex_iterator(); ++match, ++blocks) {
    EXPECT_NE(examples.find((*match)[2].str()), std::string::npos) << (*match)[2];
  }
  EXPECT_EQ(blocks, 3);
}

}  // namespace
