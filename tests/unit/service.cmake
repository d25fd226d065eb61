# SPDX-License-Identifier: Apache-2.0
hs_test(service_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/completion_gate_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/outcome_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/reaper_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/service_parts_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/socket_facts_test.cpp
  LIBS hs_service)
