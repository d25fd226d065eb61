# SPDX-License-Identifier: Apache-2.0
hs_test(policy_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/policy/pattern_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/policy/parts_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/policy/filters_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/policy/loader_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/policy/rules_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/policy/explain_test.cpp
  LIBS hs_policy)
target_include_directories(policy_test PRIVATE ${CMAKE_SOURCE_DIR}/tests)

hs_test(config_tags_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/config_tags_test.cpp
  LIBS hs_config hs_policy)

hs_test(policy_documentation_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/policy/documentation_test.cpp
  LIBS hs_tls hs_policy)
target_include_directories(policy_documentation_test PRIVATE ${CMAKE_SOURCE_DIR}/tests)

hs_test(tags_explain_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/tags_explain_test.cpp ${CMAKE_SOURCE_DIR}/src/cli/tags.cpp
          ${CMAKE_SOURCE_DIR}/src/cli/json.cpp
  LIBS hs_config hs_policy hs_tls)
target_include_directories(tags_explain_test PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_BINARY_DIR}/rooms/cli)
