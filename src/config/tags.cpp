// SPDX-License-Identifier: Apache-2.0
#include "config/tags.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "config/file.h"

namespace handshake::config {
namespace {

namespace fs = std::filesystem;

bool is_policy_name(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".yaml" || extension == ".yml";
}

}  // namespace

std::vector<FileContent> read_tags(const std::string& path, std::vector<Problem>& problems) {
  std::vector<std::string> paths;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    fs::directory_iterator entry(path, error);
    for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
      if (is_policy_name(entry->path())) paths.push_back(entry->path().string());
    }
    if (error) problems.push_back(Problem{path, 0, 0, "", "cannot be read: " + error.message()});
    std::sort(paths.begin(), paths.end());
  } else {
    paths.push_back(path);
  }
  std::vector<FileContent> files;
  for (const std::string& each : paths) {
    if (auto content = read_file(each)) {
      files.push_back(FileContent{each, std::move(*content)});
    } else {
      problems.push_back(Problem{each, 0, 0, "", content.error().detail});
    }
  }
  return files;
}

std::vector<FileContent> read_tags_of(const IniFile& configuration,
                                      std::vector<Problem>& problems) {
  const fs::path directory = fs::path(configuration.path).parent_path();
  std::vector<std::string> paths;
  for (const IniSection& section : configuration.sections) {
    if (section.name != "service") continue;
    for (const IniEntry& entry : section.entries) {
      if (entry.key == "tags") paths.push_back((directory / entry.value).string());
    }
  }
  if (paths.empty()) {
    const bool old_place = configuration.path == "/etc/tlshd.conf";
    const fs::path path = directory / (old_place ? "tlshd/tags.d" : "tags.d");
    std::error_code error;
    if (fs::exists(path, error)) paths.push_back(path.string());
  }
  std::vector<FileContent> files;
  for (const std::string& path : paths) {
    for (FileContent& file : read_tags(path, problems)) files.push_back(std::move(file));
  }
  return files;
}

policy::Policy::Loaded load_policy(const std::vector<FileContent>& files) {
  std::vector<policy::PolicyText> texts;
  for (const FileContent& file : files) texts.push_back({file.path, file.content});
  return policy::Policy::load(texts);
}

}  // namespace handshake::config
