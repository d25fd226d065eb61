# SPDX-License-Identifier: Apache-2.0
hs_test(daemon_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/daemon_test.cpp ${CMAKE_CURRENT_LIST_DIR}/json_test.cpp
          ${CMAKE_SOURCE_DIR}/src/cli/json.cpp
  LIBS hs_daemon hs_test_pki)
target_include_directories(daemon_test PRIVATE ${CMAKE_BINARY_DIR}/rooms/cli)
