// SPDX-License-Identifier: Apache-2.0
//
// Where a policy's files come from, and that the settings carry them to the workers.

#include "config/tags.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/load.h"
#include "config/sealed.h"

namespace handshake::config {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFilters = "filters: {f: {type: version, pattern: 3}}\n";
constexpr std::string_view kTags = "tags: {t: {filter: [f]}}\n";

class ConfigTags : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "config_tags_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string write(const std::string& name, std::string_view content) {
    const fs::path path = directory_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << content;
    return path.string();
  }
  Loaded load_config(std::string_view content) { return load(write("config", content)); }

  fs::path directory_;
};

std::string texts(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) text += problem.text() + "\n";
  return text;
}

TEST_F(ConfigTags, StandInTagsDBesideTheConfiguration) {
  write("tags.d/20-tags.yml", kTags);
  write("tags.d/10-filters.yaml", kFilters);
  write("tags.d/notes.txt", "not: [yaml");
  write("tags.d/old.yaml.orig", "not: [yaml");
  const Loaded loaded = load_config("");
  ASSERT_TRUE(loaded.settings) << texts(loaded.problems);
  ASSERT_EQ(loaded.settings->tags.size(), 2U);
  EXPECT_EQ(loaded.settings->tags[0].path, directory_ / "tags.d/10-filters.yaml");
  EXPECT_EQ(loaded.settings->tags[1].path, directory_ / "tags.d/20-tags.yml");
  EXPECT_TRUE(load_policy(loaded.settings->tags).policy->has_tags());
}

TEST_F(ConfigTags, AreWhereTheConfigurationSays) {
  write("tags.d/ignored.yaml", "not: [yaml");
  write("mine/filters.yaml", kFilters);
  const std::string single = write("tags.yaml", kTags);
  const Loaded loaded = load_config("[service]\ntags = mine\ntags = " + single + "\n");
  ASSERT_TRUE(loaded.settings) << texts(loaded.problems);
  EXPECT_EQ(loaded.settings->tags.size(), 2U);
}

TEST_F(ConfigTags, MayBeAbsentUnlessTheConfigurationNamesThem) {
  EXPECT_TRUE(load_config("").settings);
  const Loaded loaded = load_config("[service]\ntags = nowhere\n");
  EXPECT_EQ(loaded.settings, nullptr);
  EXPECT_NE(texts(loaded.problems).find("nowhere: No such file or directory"), std::string::npos)
      << texts(loaded.problems);
}

TEST_F(ConfigTags, OfWhichOneIsWrongMakeNoSettings) {
  write("tags.d/a.yaml", kFilters);
  write("tags.d/b.yaml", "tags: {t: {filter: [nosuch]}}\n");
  fs::create_directories(directory_ / "tags.d/c.yaml");
  const Loaded loaded = load_config("[nosuch]\n");
  EXPECT_EQ(loaded.settings, nullptr);
  const std::string tags = (directory_ / "tags.d").string();
  const std::string text = texts(loaded.problems);
  EXPECT_NE(text.find("config:1:1: [nosuch]: unknown section"), std::string::npos) << text;
  EXPECT_NE(text.find(tags + "/b.yaml:1:21: tags.t.filter: there is no filter \"nosuch\""),
            std::string::npos)
      << text;
  EXPECT_NE(text.find(tags + "/c.yaml is not a regular file"), std::string::npos) << text;
}

TEST_F(ConfigTags, ReachTheWorkersInSealedMemory) {
  write("tags.d/a.yaml", kFilters);
  write("tags.d/b.yaml", kTags);
  const Loaded loaded = load_config("");
  ASSERT_TRUE(loaded.settings);
  const auto sealed = seal(*loaded.settings);
  ASSERT_TRUE(sealed);
  const auto unsealed = unseal(sealed->get());
  ASSERT_TRUE(unsealed);
  ASSERT_EQ((*unsealed)->tags.size(), 2U);
  EXPECT_EQ((*unsealed)->tags[1].content, kTags);
}

}  // namespace
}  // namespace handshake::config
