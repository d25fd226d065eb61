# SPDX-License-Identifier: Apache-2.0
# Everything the project builds on; `tools/install-dependencies` installs the same list.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(fmt REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(GTest REQUIRED)
pkg_check_modules(MNL REQUIRED IMPORTED_TARGET libmnl)
pkg_check_modules(KEYUTILS REQUIRED IMPORTED_TARGET libkeyutils)

# Debian's libexpected-dev ships the header alone.
find_path(TL_EXPECTED_INCLUDE tl/expected.hpp REQUIRED)
add_library(tl_expected INTERFACE)
target_include_directories(tl_expected SYSTEM INTERFACE ${TL_EXPECTED_INCLUDE})
add_library(tl::expected ALIAS tl_expected)

find_path(CLI11_INCLUDE CLI/CLI.hpp REQUIRED)
add_library(cli11 INTERFACE)
target_include_directories(cli11 SYSTEM INTERFACE ${CLI11_INCLUDE})
